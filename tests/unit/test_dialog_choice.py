"""When our own dialog is taken, and what it is told beyond a pinentry's commands."""

from __future__ import annotations

import ast
import base64
import importlib.util
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

import pytest

import sealagent.dialog
from sealagent.consent import choose, own
from sealagent.consent.assuan import MAX_COMMAND
from sealagent.consent.choose import choose_prompter
from sealagent.consent.own import OwnDialog, find_dialog
from sealagent.consent.pinentry import Pinentry
from sealagent.consent.prompter import Consent, ConsentRequest, NoPrompter, Occasion, PinRequest, SealPicture
from sealagent.consent.terminal import TerminalPrompter
from sealagent.dialog import server
from sealagent.uses import Operation
from sealdrivers.contract import PinState

NOTHING = Occasion(None)


def program_of(prompter: object) -> str:
    assert isinstance(prompter, Pinentry)
    return Path(prompter._settings.program).name


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A search path with our dialog and nothing else; no terminal."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr("sealagent.consent.pinentry._own_terminal", lambda: None)
    monkeypatch.setattr(choose, "terminal_usable", lambda: False)
    (tmp_path / own.PROGRAM).touch(0o755)
    return {"PATH": str(tmp_path), "DISPLAY": ":7"}


def add(installed: dict[str, str], name: str, target: str | None = None) -> None:
    program = Path(installed["PATH"], name)
    if target is None:
        program.touch(0o755)
    else:
        program.symlink_to(target)


def test_it_is_taken_where_there_is_no_pinentry(installed: dict[str, str]) -> None:
    for kind in ("auto", "pinentry"):
        assert program_of(choose_prompter(kind, installed)) == "sealagent-pinentry"  # type: ignore[arg-type]
    add(installed, "pinentry-qt")
    assert program_of(choose_prompter("auto", installed)) == "pinentry-qt"


def test_it_is_taken_where_there_is_only_a_pinentry_for_terminals(installed: dict[str, str]) -> None:
    add(installed, "pinentry-curses")
    add(installed, "pinentry", "pinentry-curses")
    assert program_of(choose_prompter("auto", installed)) == "sealagent-pinentry"
    assert program_of(choose_prompter("auto", {**installed, "GPG_TTY": "/dev/pts/1"})) == "pinentry"


def test_it_never_replaces_what_the_configuration_names(installed: dict[str, str]) -> None:
    add(installed, "pinentry-tty")
    assert program_of(choose_prompter("auto", installed, programs=["pinentry-tty"])) == "pinentry-tty"
    assert isinstance(choose_prompter("auto", installed, programs=["pinentry-qt"]), NoPrompter)
    assert program_of(choose_prompter("pinentry", installed, programs=[own.PROGRAM])) == own.PROGRAM


def test_not_without_a_display_tk_or_the_program(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_dialog(installed) is not None
    assert find_dialog({"PATH": installed["PATH"]}) is None
    with monkeypatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda name: None)
        assert find_dialog(installed) is None
        assert isinstance(choose_prompter("auto", installed), NoPrompter)
        patched.setattr(choose, "terminal_usable", lambda: True)
        assert isinstance(choose_prompter("auto", installed), TerminalPrompter)
    Path(installed["PATH"], own.PROGRAM).unlink()
    assert find_dialog(installed) is None


def test_it_is_installed_beside_the_interpreter() -> None:
    assert shutil.which(own.PROGRAM, path=str(Path(sys.executable).parent))


def test_the_same_flavor_and_limits_on_both_sides() -> None:
    assert OwnDialog.flavor == server.FLAVOR
    assert own.MAX_PICTURE == server.MAX_PICTURE
    assert MAX_COMMAND == server.MAX_LINE


def sent(request: PinRequest | ConsentRequest) -> list[tuple[str, str]]:
    lines = list(OwnDialog().commands(request, "en"))
    assert all(len(line.encode()) < MAX_COMMAND for line in lines)
    return [(line.partition(" ")[0], unquote(line.partition(" ")[2])) for line in lines]


def named(commands: Iterable[tuple[str, str]], name: str) -> list[str]:
    return [value for command, value in commands if command == name]


def test_a_list_is_sent_whole_and_numbered() -> None:
    items = tuple(f"100%-合同-{number}\n.ofd" for number in range(1, 10_001))
    commands = sent(ConsentRequest("batch", Occasion(None, items=items)))
    lines = "\n".join(named(commands, "ADDITEM")).split("\n")
    assert lines == [f"{number}. 100%-合同-{number} .ofd" for number in range(1, 10_001)]
    assert len(commands) < 1000
    (description,) = named(commands, "SETDESC")
    assert "10000" in description
    assert "合同" not in description
    (ok,) = named(commands, "SETOK")
    assert "10000" in ok


def test_an_item_of_any_length_fits() -> None:
    long = "长" * 5000
    commands = sent(ConsentRequest("batch", Occasion(None, items=(long, "%" * 5000, "z"))))
    lines = "\n".join(named(commands, "ADDITEM")).split("\n")
    assert [line[:3] for line in lines] == ["1. ", "2. ", "3. "]


def test_pictures_go_whole_or_not_at_all() -> None:
    octets = bytes(range(256)) * 9
    commands = sent(ConsentRequest("use", Occasion(None, picture=SealPicture("png", octets))))
    assert named(commands, "SETPICTURE") == [f"png {len(octets)}"]
    assert b"".join(base64.b64decode(part, validate=True) for part in named(commands, "PICTURE")) == octets
    for kind, octets in (("svg", b"<svg/>"), ("png", bytes(own.MAX_PICTURE + 1)), ("\x00\n", b"x")):
        commands = sent(ConsentRequest("use", Occasion(None, picture=SealPicture(kind, octets))))
        assert [value.split()[1] for value in named(commands, "SETPICTURE")] == ["0"]
        assert not named(commands, "PICTURE")


def test_what_is_shown_in_red() -> None:
    blind = sent(ConsentRequest("use", Occasion(None, operation=Operation.RAW)))
    assert "BLIND" in named(blind, "ADDWARNING")[0]
    assert not named(sent(ConsentRequest("use", Occasion(None, operation=Operation.DOCUMENT))), "ADDWARNING")
    for pin, words in ((PinState(final_try=True), "LAST TRY"), (PinState(locked=True), "locked")):
        (warning,) = named(sent(PinRequest("t", "1", pin, "unlock", NOTHING)), "ADDWARNING")
        assert words in warning
    assert not named(sent(PinRequest("t", "1", PinState(final_try=True), "change_new", NOTHING)), "ADDWARNING")


def test_a_code_is_shown_large() -> None:
    assert named(sent(ConsentRequest("pair", NOTHING, code="012345")), "SETLARGE") == ["012 345"]


def test_only_what_was_offered_can_be_agreed_to() -> None:
    offered, plain = ConsentRequest("use", NOTHING, offer_session=True), ConsentRequest("use", NOTHING)
    assert named(sent(offered), "SETSESSION")
    assert not named(sent(plain), "SETSESSION")
    answers = {
        data: (OwnDialog().consent(offered, bytearray(data)), OwnDialog().consent(plain, bytearray(data)))
        for data in (b"once", b"session", b"", b"SESSION", b"once ")
    }
    assert answers == {
        b"once": (Consent.ONCE, Consent.NO),
        b"session": (Consent.SESSION, Consent.NO),
        b"": (Consent.NO, Consent.ONCE),
        b"SESSION": (Consent.NO, Consent.NO),
        b"once ": (Consent.NO, Consent.NO),
    }
    batch = ConsentRequest("batch", NOTHING, offer_session=True)
    assert OwnDialog().consent(batch, bytearray(b"session")) is Consent.NO


def test_it_knows_nothing_of_the_agent() -> None:
    """It imports itself, the version and the standard library; Tk only where a window is made."""
    folder = Path(sealagent.dialog.__file__).parent
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            elif isinstance(node, ast.Import):
                modules = [name.name for name in node.names]
            else:
                continue
            for module in modules:
                top = module.partition(".")[0]
                assert module == "sealagent" or module.startswith("sealagent.dialog") or top in sys.stdlib_module_names
                assert top != "tkinter" or file.stem in ("window", "field", "drawing"), file.name
