"""``python -m sealagent.dialog``, ``sealagent-pinentry``: answer a client on standard input and output."""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import sys

from sealagent import __version__
from sealagent.dialog.pin import PinBuffer
from sealagent.dialog.prompt import Answer, Kind, Prompt
from sealagent.dialog.server import Server, lines_of
from sealagent.dialog.words import language

__all__ = ["main"]

_PR_SET_DUMPABLE = 4


def main(arguments: list[str] | None = None) -> int:
    """Answer until the client says ``BYE`` or ends."""
    parser = argparse.ArgumentParser(prog="sealagent-pinentry", description="Ask for a PIN or for consent (Assuan).")
    parser.add_argument("--display", help="X display to show the dialog on; default: DISPLAY")
    parser.add_argument("--version", action="version", version=f"sealagent-pinentry {__version__}")
    chosen = parser.parse_args(arguments)
    harden()
    program = _Program(chosen.display)
    try:
        Server(_write, program.show, version=__version__, display=program.use_display).serve(lines_of(0))
    except BrokenPipeError:
        return 1
    return 0


class _Program:
    """Where and in which language windows are shown."""

    def __init__(self, display: str | None) -> None:
        self._display = display

    def use_display(self, name: str) -> None:
        self._display = name or self._display

    def show(self, prompt: Prompt, kind: Kind, pin: PinBuffer) -> Answer:
        """Show one window. :raises OSError: there is no display, or no Tk."""
        try:
            from sealagent.dialog.window import Window
        except ImportError as error:
            raise OSError(f"this Python has no Tk: {error}") from error
        window = Window(prompt, kind, pin, language=language(os.environ), display=self._display, client=0)
        return window.run()


def harden() -> None:
    """Keep a PIN in memory out of core dumps and other processes' reach."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        if prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


def _write(octets: bytes | bytearray) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(1, view) :]
    view.release()


if __name__ == "__main__":
    sys.exit(main())
