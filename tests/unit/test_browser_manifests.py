"""The files that tell browsers of the host, and for whom the host believes it was started."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sealagent.browser.manifests import (
    BROWSERS,
    MAX_EXTENSIONS,
    MAX_MANIFEST,
    allowed_origin,
    host_program,
    inspect,
    install,
    remove,
)
from sealagent.errors import FormatError, SealAgentError

CHROMIUM, FIREFOX = BROWSERS["chromium"], BROWSERS["firefox"]
ONE, OTHER = "abcdefghijklmnop" * 2, "ponmlkjihgfedcba" * 2
ADDON = "seal@example.org"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "host"
    path.parent.mkdir(0o700)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_manifest_for_each_browser_where_it_looks_for_it(home: Path, program: Path) -> None:
    places = {
        "chromium": ".config/chromium/NativeMessagingHosts/sealagent.json",
        "chrome": ".config/google-chrome/NativeMessagingHosts/sealagent.json",
        "edge": ".config/microsoft-edge/NativeMessagingHosts/sealagent.json",
        "firefox": ".mozilla/native-messaging-hosts/sealagent.json",
    }
    assert set(places) == set(BROWSERS)
    for name, place in places.items():
        browser = BROWSERS[name]
        ident = ADDON if browser.firefox else ONE
        done = install(browser, [ident], program)
        assert (done.path, done.faults, done.extensions) == (home / place, (), (ident,))
        assert stat.S_IMODE(done.path.stat().st_mode) == 0o600
        written = json.loads(done.path.read_text())
        assert (written["name"], written["type"], written["path"]) == ("sealagent", "stdio", str(program))
        if browser.firefox:
            assert written["allowed_extensions"] == [ADDON]
            assert "allowed_origins" not in written
        else:
            assert written["allowed_origins"] == [f"chrome-extension://{ONE}/"]
            assert "allowed_extensions" not in written
        assert inspect(browser) == done


def test_chromium_follows_the_configuration_folder(
    tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    path = install(CHROMIUM, [ONE], program).path
    assert path.is_relative_to(tmp_path / "elsewhere" / "chromium")
    monkeypatch.setenv("XDG_CONFIG_HOME", "not/absolute")
    assert CHROMIUM.manifest().is_relative_to(tmp_path / ".config")


def test_extensions_come_and_go_one_by_one(program: Path) -> None:
    install(CHROMIUM, [ONE], program)
    assert install(CHROMIUM, [OTHER, ONE], program).extensions == (OTHER, ONE)
    assert not remove(CHROMIUM, ["c" * 32])
    assert remove(CHROMIUM, [OTHER])
    assert inspect(CHROMIUM).extensions == (ONE,)
    assert remove(CHROMIUM, [ONE])
    assert not inspect(CHROMIUM).there
    assert not remove(CHROMIUM)
    install(CHROMIUM, [ONE, OTHER], program)
    assert remove(CHROMIUM)
    assert not remove(CHROMIUM)


@pytest.mark.parametrize(
    ("browser", "ident"),
    [
        (CHROMIUM, ""),
        (CHROMIUM, ONE[:-1]),
        (CHROMIUM, ONE + "a"),
        (CHROMIUM, ONE[:-1] + "q"),
        (CHROMIUM, ONE.upper()),
        (CHROMIUM, "*"),
        (CHROMIUM, ONE + "\n"),
        (CHROMIUM, ADDON),
        (FIREFOX, ONE),
        (FIREFOX, "a b@c"),
        (FIREFOX, "{12345678-1234-1234-1234-123456789}"),
        (FIREFOX, "*@*"),
    ],
)
def test_what_is_no_id_is_not_installed(browser: Any, ident: str, program: Path) -> None:
    with pytest.raises(FormatError) as caught:
        install(browser, [ident], program)
    assert caught.value.code == "extension_id_invalid"
    assert not inspect(browser).there


def test_the_number_of_extensions_is_bounded(program: Path) -> None:
    letters = "abcdefghijklmnop"
    idents = [f"{letters[n % 16]}{letters[n // 16]}{ONE[2:]}" for n in range(MAX_EXTENSIONS + 1)]
    assert len(install(CHROMIUM, idents[1:], program).extensions) == MAX_EXTENSIONS
    with pytest.raises(FormatError) as caught:
        install(CHROMIUM, idents[:1], program)
    assert caught.value.code == "too_many_extensions"
    assert len(inspect(CHROMIUM).extensions) == MAX_EXTENSIONS


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 60_000,
        b'{"name": "other", "type": "stdio", "path": "/x", "allowed_origins": []}',
        b'{"name": "sealagent", "type": "tcp", "path": "/x", "allowed_origins": []}',
        b'{"name": "sealagent", "type": "stdio", "path": "x", "allowed_origins": []}',
        b'{"name": "sealagent", "type": "stdio", "path": "/x\\u0000", "allowed_origins": []}',
        b'{"name": "sealagent", "type": "stdio", "path": "/x", "allowed_origins": "all"}',
        b'{"name": "sealagent", "type": "stdio", "path": "/x", "allowed_origins": ["chrome-extension://*/"]}',
        b'{"name": "sealagent", "type": "stdio", "path": "/x", "allowed_origins": [7]}',
        b'{"name": "sealagent", "type": "stdio", "path": "/x", "allowed_extensions": ["a@b"]}',
    ],
    ids=range(13),
)
def test_a_malformed_manifest_is_said_to_be_one_and_mended_by_installing(octets: bytes, program: Path) -> None:
    path = CHROMIUM.manifest()
    path.parent.mkdir(0o700, parents=True)
    path.write_bytes(octets)
    assert inspect(CHROMIUM).faults == ("manifest_malformed",)
    assert install(CHROMIUM, [ONE], program).faults == ()


def test_what_else_is_wrong_is_said(program: Path) -> None:
    path = install(CHROMIUM, [ONE], program).path
    program.chmod(0o600)
    if os.access(program, os.X_OK):
        pytest.fail("a file that nobody may run counts as one that can be run")
    assert inspect(CHROMIUM).faults == ("program_not_executable",)
    program.chmod(0o777)
    assert inspect(CHROMIUM).faults == ("program_not_private",)
    program.unlink()
    assert inspect(CHROMIUM).faults == ("program_missing",)
    path.chmod(0o622)
    assert inspect(CHROMIUM).faults == ("manifest_not_private", "program_missing")
    path.write_bytes(b" " * (MAX_MANIFEST + 1))
    assert inspect(CHROMIUM).faults == ("manifest_unreadable",)
    path.unlink()
    os.mkfifo(path)
    assert inspect(CHROMIUM).faults == ("manifest_unreadable",)
    path.unlink()
    assert not inspect(CHROMIUM).there
    install(CHROMIUM, [ONE], program)
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "allowed_origins": []}))
    assert "no_extensions" in inspect(CHROMIUM).faults


def test_sandboxed_editions_are_noticed(home: Path, program: Path) -> None:
    assert not install(CHROMIUM, [ONE], program).sandboxed
    (home / "snap" / "chromium").mkdir(parents=True)
    assert inspect(CHROMIUM).sandboxed
    assert not inspect(FIREFOX).sandboxed
    assert inspect(CHROMIUM).as_json()["sandboxed"] is True


def test_the_host_serves_whom_a_manifest_lists(program: Path) -> None:
    install(CHROMIUM, [ONE], program)
    install(BROWSERS["edge"], [OTHER], program)
    path = install(FIREFOX, [ADDON], program).path
    assert allowed_origin([f"chrome-extension://{ONE}/"], str(program)) == f"chrome-extension://{ONE}"
    assert allowed_origin([f"chrome-extension://{OTHER}/", "more"], str(program)) == f"chrome-extension://{OTHER}"
    assert allowed_origin([str(path), ADDON], str(program)) == f"moz-extension://{ADDON}"
    link = program.with_name("link")
    link.symlink_to(program)
    assert allowed_origin([f"chrome-extension://{ONE}/"], str(link)) == f"chrome-extension://{ONE}"


def test_the_host_serves_nobody_else(program: Path) -> None:
    install(CHROMIUM, [ONE], program)
    path = install(FIREFOX, [ADDON], program).path
    for arguments in (
        [],
        ["--help"],
        [ONE],
        [f"chrome-extension://{OTHER}/"],
        [f"chrome-extension://{ONE}/x"],
        [f"https://{ONE}/"],
        [str(path)],
        [str(path), "other@example.org"],
        [str(path), ONE],
        [str(path.with_name("absent.json")), ADDON],
    ):
        with pytest.raises(SealAgentError) as caught:
            allowed_origin(arguments, str(program))
        assert caught.value.code == "extension_not_allowed", arguments
    with pytest.raises(SealAgentError):  # the manifest is another program's
        allowed_origin([f"chrome-extension://{ONE}/"], str(program.with_name("other")))
    remove(CHROMIUM)
    with pytest.raises(SealAgentError):
        allowed_origin([f"chrome-extension://{ONE}/"], str(program))


def test_manifests_in_other_profile_roots_are_remembered(tmp_path: Path, program: Path) -> None:
    root = tmp_path / "profiles" / "one"
    done = install(CHROMIUM, [ONE], program, root)
    assert done.path == root / "NativeMessagingHosts" / "sealagent.json"
    assert not inspect(CHROMIUM).there
    assert allowed_origin([f"chrome-extension://{ONE}/"], str(program)) == f"chrome-extension://{ONE}"
    remembered = tmp_path / ".config" / "sealagent" / "browser-manifests.json"
    assert stat.S_IMODE(remembered.stat().st_mode) == 0o600
    assert remove(CHROMIUM, root=root)
    with pytest.raises(SealAgentError):
        allowed_origin([f"chrome-extension://{ONE}/"], str(program))
    other = install(CHROMIUM, [OTHER], program, tmp_path / "profiles" / "two").path
    assert json.loads(remembered.read_text()) == [str(other)]
    remembered.write_text("nonsense")
    with pytest.raises(SealAgentError):
        allowed_origin([f"chrome-extension://{OTHER}/"], str(program))


def test_the_program_is_found_beside_the_interpreter_or_on_the_path(
    tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    with pytest.raises(SealAgentError) as caught:
        host_program()
    assert caught.value.code == "host_program_missing"
    named = program.rename(program.with_name("sealagent-browser-host"))
    assert host_program() == named
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(named.parent))
    assert host_program() == named
