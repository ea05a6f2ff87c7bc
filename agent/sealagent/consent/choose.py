"""Choosing the prompter that the configuration names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from sealagent.consent.own import OwnDialog, find_dialog
from sealagent.consent.pinentry import PROGRAMS, Pinentry, PinentrySettings, find_pinentry
from sealagent.consent.prompter import DEFAULT_TIMEOUT, NoPrompter, Prompter
from sealagent.consent.source import FdPinSource, FilePinSource
from sealagent.consent.terminal import TerminalPrompter, terminal_usable
from sealagent.errors import SealAgentError

__all__ = ["PrompterKind", "choose_prompter"]

PrompterKind = Literal["auto", "pinentry", "terminal", "file", "fd", "none"]

_NO_PINENTRY = "install a pinentry (pinentry-gnome3, pinentry-qt, pinentry-curses), or name another prompter"
_TEXTUAL = ("pinentry-curses", "pinentry-tty")
"""Programs that need a terminal; one may stand behind the name ``pinentry``."""
_NO_TERMINAL = "set DISPLAY, WAYLAND_DISPLAY or GPG_TTY for the daemon, or run it in the foreground of a terminal"


def choose_prompter(
    kind: PrompterKind,
    environ: Mapping[str, str],
    *,
    programs: Sequence[str] = PROGRAMS,
    path: Path | None = None,
    fd: int | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> Prompter:
    """Return the prompter for a kind.

    ``auto`` takes pinentry where one is installed and has a display or terminal to show itself on, else our own dialog
    (:mod:`sealagent.dialog`) where there is a display and Python has Tk, else the daemon's own terminal, else nobody is
    asked and every request says what to do. ``pinentry`` takes our own dialog in the same
    way. It never takes the place of programs that the configuration names.

    :param programs: names or paths of pinentry programs, in the order they are tried.
    :param path: the file of kind ``file``. :param fd: the descriptor of kind ``fd``.
    :param timeout: seconds the user has for one PIN.
    :raises SealAgentError: ``prompt_unavailable`` with the next step; ``pin_source_refused``, ``prompt_timeout`` (fd).
    """
    if kind == "file" and path is not None:
        return FilePinSource(path)
    if kind == "fd" and fd is not None:
        return FdPinSource(fd)
    if kind in ("file", "fd"):
        raise SealAgentError(
            "prompt_unavailable", f"the prompter {kind} needs a {'path' if kind == 'file' else 'number'}"
        )
    if kind == "none":
        return NoPrompter("the configuration says to ask nobody; name another prompter there")
    program = find_pinentry(programs, environ.get("PATH")) if kind in ("auto", "pinentry") else None
    if kind in ("auto", "pinentry") and tuple(programs) == PROGRAMS and (own := find_dialog(environ)) is not None:
        terminal = program and PinentrySettings.from_environment(program, environ).ttyname
        if program is None or (_textual(program) and not terminal):
            program = own
    if kind == "pinentry" and program is None:
        raise SealAgentError("prompt_unavailable", f"no pinentry was found: {_NO_PINENTRY}")
    if program is not None:
        settings = PinentrySettings.from_environment(program, environ, timeout)
        if kind == "pinentry" or settings.display or environ.get("WAYLAND_DISPLAY") or settings.ttyname:
            return Pinentry(settings, (OwnDialog(),))
    if kind == "terminal" or terminal_usable():
        return TerminalPrompter(environ, timeout=timeout)
    return NoPrompter(_NO_TERMINAL if program else _NO_PINENTRY)


def _textual(program: str) -> bool:
    return Path(program).resolve().name in _TEXTUAL
