"""Tokens in the SDK: where they come from, where they are put, and that they go nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sealagent.client import Agent, AgentError, read_token_file, save_token
from sealagent.client.applications import TOKEN_FILE, authorization, reserve_token_file

TOKEN = "AbC-_" + "9" * 38


def refusal(action: object, *arguments: object) -> str:
    with pytest.raises(AgentError) as caught:
        action(*arguments)  # type: ignore[operator]
    assert TOKEN not in str(caught.value)
    return f"{caught.value.code}: {caught.value.detail}"


def test_a_saved_token_is_private_and_read_again(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = save_token(tmp_path / "keys" / "token", TOKEN)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_token_file(path) == TOKEN
    assert read_token_file(str(path)) == TOKEN


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("mine")
    assert refusal(save_token, path, TOKEN).startswith("token_file_refused")
    assert path.read_text() == "mine"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    assert refusal(reserve_token_file, link).startswith("token_file_refused")
    assert not (tmp_path / "elsewhere").exists()
    assert refusal(reserve_token_file, path / "below").startswith("token_file_refused")


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (TOKEN, 0o640, "others"),
        (TOKEN, 0o602, "others"),
        ("", 0o600, "no token"),
        (TOKEN[:-1], 0o600, "no token"),
        (TOKEN + "\nx", 0o600, "no token"),
        (TOKEN[:-1] + "é", 0o600, "no token"),
        ("A" * 10_000, 0o600, "no token"),
    ],
)
def test_which_files_are_of_no_use(tmp_path: Path, content: str, mode: int, why: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    said = refusal(read_token_file, path)
    assert said.startswith("token_file_refused")
    assert why in said


def test_what_is_no_file_of_ones_own_is_not_read(tmp_path: Path) -> None:
    assert "No such file" in refusal(read_token_file, tmp_path / "missing")
    assert "Is a directory" in refusal(read_token_file, tmp_path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "regular" in refusal(read_token_file, tmp_path / "fifo")
    real = save_token(tmp_path / "real", TOKEN)
    (tmp_path / "link").symlink_to(real)
    assert "symbolic" in refusal(read_token_file, tmp_path / "link")


def test_another_users_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_token(tmp_path / "token", TOKEN)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert "another user" in refusal(read_token_file, path)


def test_where_a_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "B" * 43
    named, environment = save_token(tmp_path / "a", TOKEN), save_token(tmp_path / "b", other)
    monkeypatch.delenv(TOKEN_FILE, raising=False)
    assert authorization(None, None) == {}
    monkeypatch.setenv(TOKEN_FILE, "")
    assert authorization(None, None) == {}
    monkeypatch.setenv(TOKEN_FILE, str(environment))
    assert authorization(None, None) == {"Authorization": f"Bearer {other}"}
    assert authorization(None, named) == {"Authorization": f"Bearer {TOKEN}"}
    assert authorization(TOKEN, None) == {"Authorization": f"Bearer {TOKEN}"}
    with pytest.raises(TypeError):
        authorization(TOKEN, named)


def test_a_token_in_the_place_of_its_files_name_is_not_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_FILE, TOKEN)
    assert refusal(authorization, None, None).startswith("token_file_refused")


@pytest.mark.parametrize("token", ["", "a\r\nX: y", "A" * 44, "é" * 43])
def test_what_is_no_token_goes_into_no_header(token: str) -> None:
    assert refusal(authorization, token, None).startswith("token_invalid")


def test_a_token_is_in_no_repr(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "none", token=TOKEN)
    assert TOKEN not in repr(agent) + repr(agent._transport)
