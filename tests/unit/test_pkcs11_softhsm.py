"""Where SoftHSM keeps its tokens, by its configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealdrivers.pkcs11.softhsm import token_files


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "tokens"
    found.mkdir()
    (tmp_path / "softhsm2.conf").write_text(
        f"# comment\nlog.level = ERROR\ndirectories.tokendir = {found} \nslots.removable = false\n"
    )
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    return found


def _token(directory: Path, name: str) -> Path:
    (directory / name).mkdir()
    (directory / name / "token.object").write_bytes(b"x")
    return directory / name


def test_tokens_that_come_and_go_are_noticed(directory: Path) -> None:
    seen = [token_files()]
    first = _token(directory, "one")
    seen.append(token_files())
    _token(directory, "two")
    seen.append(token_files())
    (first / "token.object").unlink()
    seen.append(token_files())
    assert [len(files) for files in seen if files is not None] == [0, 1, 2, 1]
    assert len(set(seen)) == 4


def test_directory_without_a_token_object_is_no_token(directory: Path) -> None:
    (directory / "half made").mkdir()
    assert token_files() == frozenset()


@pytest.mark.parametrize("text", ["", "log.level = ERROR\n", "directories.tokendir\n"])
def test_configuration_without_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "conf").write_text(text)
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "conf"))
    assert not token_files()


def test_configuration_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "missing"))
    assert token_files() is None
