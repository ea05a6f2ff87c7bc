"""A terminal with somebody in front of it: a tmux pane, which really draws what programs write."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

WAIT_SECONDS = 20.0
_numbers = itertools.count(1)


def required(program: str) -> str:
    """Return the path of a program; a missing one fails in CI and skips elsewhere."""
    found = shutil.which(program)
    if found is None:
        message = f"{program} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def until(true: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait until something is true. :param what: says what there is instead."""
    end = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


class Pane:
    """One pane of a tmux server of its own.

    :param folder: where its socket goes (a short path). :param command: what runs in it.
    :param size: columns and lines.
    """

    def __init__(
        self, folder: Path, command: list[str], environment: Mapping[str, str], size: tuple[int, int] = (150, 80)
    ) -> None:
        self._tmux = [required("tmux"), "-u", "-S", str(folder / f"tmux-{next(_numbers)}"), "-f", "/dev/null"]
        # The shell stays after the command, so that what it said at its end can be read.
        script = f"{shlex.join(command)}; exec sleep 1000"
        self._environment = {**environment, "SHELL": "/bin/sh"}
        self._run("new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), script)

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            [*self._tmux, *words], env=self._environment, capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout

    @property
    def tty(self) -> str:
        """Path of its terminal device."""
        return self._run("display-message", "-p", "#{pane_tty}").strip()

    @property
    def screen(self) -> str:
        """What it shows, and what has scrolled away."""
        return self._run("capture-pane", "-p", "-J", "-S", "-")

    @property
    def visible(self) -> str:
        """What it shows now."""
        return self._run("capture-pane", "-p", "-J")

    def shows(self, text: str, times: int = 1) -> None:
        """Wait until a text is on the screen."""
        until(lambda: self.screen.count(text) >= times, lambda: f"{text!r} is not shown: {self.screen}")

    def type(self, text: str) -> None:
        """Type a text and Enter."""
        time.sleep(0.2)  # the words are there a moment before echo is off and the program reads
        if text:
            self._run("send-keys", "-l", text)
        self._run("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names (``C-c``, ``Tab``)."""
        time.sleep(0.2)
        self._run("send-keys", *keys)

    def close(self) -> None:
        self._run("kill-server")
