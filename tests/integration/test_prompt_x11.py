"""Graphical prompts with somebody in front of them: real pinentry programs and our own dialog on an X screen."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prompt_parts import BATCH, PIN, PROGRAMS, TITLE, USE, asked, children, closed, keys, prompter, reads
from sealagent.consent.prompter import Consent
from x11_parts import Screen, other_window, waits

programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: Path(path).name)


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    with Screen(tmp_path_factory.mktemp("screen")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def nothing_left(screen: Screen) -> Iterator[None]:
    yield
    assert waits(lambda: not screen.windows(TITLE), 5.0), "a window was left"


@programs
def test_yes(screen: Screen, program: str) -> None:
    kept = lambda: screen.picture(f"use-{Path(program).name}")  # noqa: E731
    answer = asked(prompter(screen, program).confirm(USE), reads(screen), kept, keys(screen, "alt+a"))
    assert answer is Consent.ONCE


@programs
@pytest.mark.parametrize("how", ["alt+d", "Escape", "closed"])
def test_no(screen: Screen, program: str, how: str) -> None:
    leave = closed(screen) if how == "closed" else keys(screen, how)
    assert asked(prompter(screen, program).confirm(USE), reads(screen), leave) is Consent.NO


@programs
def test_time_runs_out(screen: Screen, program: str) -> None:
    assert asked(prompter(screen, program, 1.0).confirm(USE), reads(screen)) == "prompt_timeout"
    assert asked(prompter(screen, program, 1.0).ask_pin(PIN), reads(screen)) == "prompt_timeout"


@programs
def test_another_window_takes_the_keyboard(screen: Screen, program: str) -> None:
    """What is typed there agrees to nothing, and the question stays."""

    def look_elsewhere() -> None:
        with other_window(screen) as other:
            screen.focus(other)
            screen.press("alt+a", "Return", "space")
            time.sleep(0.5)
            window = screen.shown(TITLE)
        screen.focus(window)

    answer = asked(prompter(screen, program).confirm(USE), reads(screen), look_elsewhere, keys(screen, "Escape"))
    assert answer is Consent.NO


@programs
def test_a_pin(screen: Screen, program: str) -> None:
    def enter() -> None:
        screen.type("12x%3+Z")
        screen.press("BackSpace")
        screen.type("q")
        screen.picture(f"pin-{Path(program).name}")
        screen.press("Return")

    pin = asked(prompter(screen, program).ask_pin(PIN), reads(screen), enter)
    assert pin == bytearray(b"12x%3+q")


@programs
@pytest.mark.parametrize("how", ["Escape", "closed"])
def test_no_pin(screen: Screen, program: str, how: str) -> None:
    typed = lambda: screen.type("123456")  # noqa: E731
    leave = closed(screen) if how == "closed" else keys(screen, how)
    assert asked(prompter(screen, program).ask_pin(PIN), reads(screen), typed, leave) == "pin_cancelled"


@pytest.mark.parametrize("program", PROGRAMS[:2])
def test_a_list_page_by_page(screen: Screen, program: str) -> None:
    """Twenty items are three pages: each has a button that shows more, and one that approves all."""

    read, more = reads(screen), keys(screen, "alt+m")
    pages = [read, more, read, more, read]
    assert asked(prompter(screen, program).confirm(BATCH), *pages, keys(screen, "alt+a")) is Consent.ONCE
    assert asked(prompter(screen, program).confirm(BATCH), *pages[:3], keys(screen, "alt+d")) is Consent.NO


@programs
def test_a_program_that_dies_agrees_to_nothing(screen: Screen, program: str) -> None:
    def kill() -> None:
        (process,) = children()
        os.kill(process, signal.SIGKILL)

    assert asked(prompter(screen, program).confirm(USE), reads(screen), kill) == "prompt_failed"
    assert asked(prompter(screen, program).ask_pin(PIN), reads(screen), kill) == "prompt_failed"
