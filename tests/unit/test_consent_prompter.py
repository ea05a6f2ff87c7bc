"""PIN buffers, the new-PIN flow, choosing a prompter."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from sealagent.consent import choose
from sealagent.consent.choose import PrompterKind, choose_prompter
from sealagent.consent.pinentry import Pinentry, PinentrySettings, find_pinentry
from sealagent.consent.prompter import (
    Consent,
    ConsentRequest,
    NoPrompter,
    Occasion,
    PinRequest,
    ask_new_pin,
    report_rejected,
    wipe,
)
from sealagent.consent.source import FdPinSource, FilePinSource
from sealagent.consent.terminal import TerminalPrompter
from sealagent.errors import SealAgentError
from sealdrivers.contract import PinState

REQUEST = PinRequest("label", "0001", PinState(), "change_old", Occasion(None), previous_wrong=True)


class Scripted:
    """Answers in turn, and keeps what it gave out, to see whether it was wiped."""

    person = True

    def __init__(self, *answers: bytes | SealAgentError) -> None:
        self.answers = list(answers)
        self.given: list[bytearray] = []
        self.asked: list[PinRequest] = []

    async def ask_pin(self, request: PinRequest) -> bytearray:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, SealAgentError):
            raise answer
        self.given.append(bytearray(answer))
        return self.given[-1]

    async def confirm(self, request: ConsentRequest) -> Consent:
        raise AssertionError("nobody asks here")

    async def confirm_last_try(self, request: PinRequest) -> bool:
        raise AssertionError("nobody asks here")


def test_wipe_is_in_place() -> None:
    pin = bytearray(b"secret")
    view = memoryview(pin)
    wipe(pin)
    assert bytes(view) == bytes(6)


def test_new_pin_is_asked_twice() -> None:
    prompter = Scripted(b"12345678", b"12345678")
    assert asyncio.run(ask_new_pin(prompter, REQUEST)) == b"12345678"
    assert [asked.purpose for asked in prompter.asked] == ["change_new", "change_repeat"]
    assert not any(asked.previous_wrong for asked in prompter.asked)
    assert prompter.given[1] == bytes(8)


def test_a_new_pin_of_another_is_asked_for_as_such() -> None:
    prompter = Scripted(b"12345678", b"12345678")
    asyncio.run(ask_new_pin(prompter, replace(REQUEST, purpose="unblock_admin"), ("unblock_new", "unblock_repeat")))
    assert [asked.purpose for asked in prompter.asked] == ["unblock_new", "unblock_repeat"]


def test_where_nobody_is_asked_nobody_has_confirmed(tmp_path: Path) -> None:
    request = replace(REQUEST, pin=PinState(tries_left=1))
    assert asyncio.run(NoPrompter("name another").confirm_last_try(request)) is False
    assert asyncio.run(FilePinSource(tmp_path / "pin").confirm_last_try(request)) is False


@pytest.mark.parametrize("repeated", [b"12345679", b"1234567", SealAgentError("pin_cancelled", "no")])
def test_new_pin_that_is_not_confirmed_is_wiped(repeated: bytes | SealAgentError) -> None:
    prompter = Scripted(b"12345678", repeated)
    with pytest.raises(SealAgentError) as caught:
        asyncio.run(ask_new_pin(prompter, REQUEST))
    assert caught.value.code == ("pin_mismatch" if isinstance(repeated, bytes) else "pin_cancelled")
    assert not any(any(given) for given in prompter.given)
    assert "1234567" not in "".join(traceback.format_exception(caught.value))


def test_rejection_is_reported_to_those_who_remember(tmp_path: Path) -> None:
    report_rejected(Scripted(), REQUEST)  # an interactive prompter needs no telling
    file = tmp_path / "pin"
    file.touch(0o600)
    file.write_text("1234\n")
    source = FilePinSource(file)
    request = replace(REQUEST, purpose="unlock")
    asyncio.run(source.ask_pin(request))
    report_rejected(source, request)
    with pytest.raises(SealAgentError) as caught:
        asyncio.run(source.ask_pin(request))
    assert caught.value.code == "pin_source_refused"


def code_of(kind: PrompterKind, environ: Mapping[str, str], **more: object) -> str:
    with pytest.raises(SealAgentError) as caught:
        asyncio.run(choose_prompter(kind, environ, **more).ask_pin(REQUEST))  # type: ignore[arg-type]
    return caught.value.code


@pytest.fixture
def pinentries(tmp_path: Path) -> Path:
    for name in ("pinentry-qt", "pinentry-tty"):
        (tmp_path / name).touch(0o755)
    (tmp_path / "pinentry").touch(0o644)  # not executable: passed over
    return tmp_path


def test_programs_are_searched_in_order(pinentries: Path) -> None:
    path = str(pinentries)
    assert find_pinentry(["pinentry", "pinentry-gnome3", "pinentry-qt", "pinentry-tty"], path) == f"{path}/pinentry-qt"
    assert find_pinentry(["pinentry-tty", "pinentry-qt"], path) == f"{path}/pinentry-tty"
    assert find_pinentry([f"{path}/pinentry-tty"], "") == f"{path}/pinentry-tty"
    assert find_pinentry(["pinentry"], path) is None


def test_kinds(pinentries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = {"PATH": str(pinentries)}
    assert isinstance(choose_prompter("pinentry", path), Pinentry)
    assert isinstance(choose_prompter("terminal", {}), TerminalPrompter)
    assert isinstance(choose_prompter("file", {}, path=tmp_path / "pin"), FilePinSource)
    read, write = os.pipe()
    os.close(write)
    assert isinstance(choose_prompter("fd", {}, fd=read), FdPinSource)
    monkeypatch.setattr(choose, "terminal_usable", lambda: False)
    assert isinstance(choose_prompter("auto", {**path, "DISPLAY": ":1"}), Pinentry)
    assert isinstance(choose_prompter("auto", {**path, "WAYLAND_DISPLAY": "wayland-0"}), Pinentry)
    assert isinstance(choose_prompter("auto", {**path, "GPG_TTY": "/dev/pts/1"}), Pinentry)
    monkeypatch.setattr("sealagent.consent.pinentry._own_terminal", lambda: None)
    assert isinstance(choose_prompter("auto", path), NoPrompter)
    monkeypatch.setattr(choose, "find_dialog", lambda environ: None)
    assert isinstance(choose_prompter("auto", {"PATH": "/nowhere", "DISPLAY": ":1"}), NoPrompter)
    monkeypatch.setattr(choose, "terminal_usable", lambda: True)
    assert isinstance(choose_prompter("auto", path), TerminalPrompter)
    assert isinstance(choose_prompter("auto", {"PATH": "/nowhere"}), TerminalPrompter)


def test_every_dead_end_names_the_next_step() -> None:
    for kind in ("none", "pinentry", "file", "fd"):
        assert code_of(kind, {"PATH": "/nowhere"}) == "prompt_unavailable"
    with pytest.raises(SealAgentError, match="install a pinentry"):
        choose_prompter("pinentry", {"PATH": "/nowhere"})


def test_settings_from_the_environment() -> None:
    environ = {"GPG_TTY": "/dev/pts/7", "TERM": "xterm", "LANG": "zh_CN.UTF-8", "DISPLAY": ":3", "SECRET": "s3cret"}
    settings = PinentrySettings.from_environment("/usr/bin/pinentry", environ, 30)
    assert (settings.ttyname, settings.ttytype) == ("/dev/pts/7", "xterm")
    assert (settings.lc_ctype, settings.display, settings.timeout) == ("zh_CN.UTF-8", ":3", 30)
    assert "s3cret" not in repr(settings)
