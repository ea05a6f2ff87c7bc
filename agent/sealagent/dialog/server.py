"""The server side of Assuan, as a pinentry speaks it (libassuan manual, chapter "Server responses")."""

from __future__ import annotations

import base64
import binascii
import os
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

from sealagent.dialog.pictures import MAX_OCTETS as MAX_PICTURE
from sealagent.dialog.pictures import Picture
from sealagent.dialog.pin import PinBuffer, wipe
from sealagent.dialog.prompt import Answer, Kind, Prompt, Show

__all__ = ["FLAVOR", "Server", "lines_of"]

FLAVOR = "sealagent-tk"
"""What ``GETINFO flavor`` answers; a client that reads it may use the commands beyond those of a pinentry."""
MAX_LINE = 1000
"""Octets of one line, LF included."""
MAX_FACTS = 40
"""Rows; a prompt of the agent has about ten."""
MAX_WARNINGS = 10
MAX_ITEMS = 10_000
"""Items of a batch, as many as the agent takes."""
MAX_ITEM_OCTETS = 2 << 20
"""Octets of all items: 200 for each of the most."""
MAX_SECONDS = 86_400
"""Seconds of a time-out: a day."""

# Numbers of libgpg-error, with pinentry as their source.
_SOURCE = 5 << 24
CANCELLED = _SOURCE + 99
NOT_CONFIRMED = _SOURCE + 114
TIMEOUT = _SOURCE + 62
NO_DISPLAY = _SOURCE + 86
UNKNOWN_COMMAND = _SOURCE + 275
UNKNOWN_OPTION = _SOURCE + 174
BAD_PARAMETER = _SOURCE + 280
TOO_LARGE = _SOURCE + 67
LINE_TOO_LONG = _SOURCE + 263

_WORDS = {
    CANCELLED: "Operation cancelled",
    NOT_CONFIRMED: "Not confirmed",
    TIMEOUT: "Timeout",
    NO_DISPLAY: "No pinentry: there is no display",
    UNKNOWN_COMMAND: "Unknown IPC command",
    UNKNOWN_OPTION: "Unknown option",
    BAD_PARAMETER: "IPC parameter error",
    TOO_LARGE: "Too large",
    LINE_TOO_LONG: "Line too long",
}
_OPTIONS = frozenset({"ttyname", "ttytype", "lc-ctype", "lc-messages", "display", "grab", "no-grab", "owner"})
"""Options that a pinentry knows. Only the display means something to a dialog that is drawn by Tk."""


class _Refused(Exception):
    """A command is answered with ``ERR``."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Server:
    """One conversation with a client.

    :param write: writes all octets it is given to the client. :param show: shows a prompt and returns the answer.
    :param display: is called with the value of ``OPTION display``.
    """

    def __init__(
        self,
        write: Callable[[bytes | bytearray], None],
        show: Show,
        *,
        version: str,
        display: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._write = write
        self._show = show
        self._version = version
        self._display = display
        self._reset()

    def _reset(self) -> None:
        self._prompt = Prompt()
        self._item_octets = 0
        self._picture_type = ""
        self._picture_octets = 0
        self._picture = bytearray()

    def serve(self, lines: Iterator[bytes]) -> None:
        """Answer each line until ``BYE`` or their end."""
        self._write(b"OK Pleased to meet you\n")
        for line in lines:
            if not line.strip() or line.startswith(b"#"):
                continue
            name, _, argument = line.partition(b" ")
            command = name.decode("ascii", "replace").upper()
            if command == "BYE":
                self._write(b"OK closing connection\n")
                return
            try:
                if len(line) >= MAX_LINE:
                    raise _Refused(LINE_TOO_LONG)
                if not self._act(command, argument.strip()):
                    return
            except _Refused as refused:
                self._error(refused.code)

    def _act(self, command: str, argument: bytes) -> bool:
        """Carry out one command and answer it; False when the client is gone."""
        if command in _TEXTS:
            setattr(self._prompt, _TEXTS[command], _text(argument))
        elif command in ("GETPIN", "CONFIRM", "MESSAGE"):
            return self._ask(command, argument)
        elif command == "GETINFO":
            self._inform(argument)
        elif command in _ACTIONS:
            _ACTIONS[command](self, argument)
        elif command not in _IGNORED:
            raise _Refused(UNKNOWN_COMMAND)
        self._write(b"OK\n")
        return True

    def _option(self, argument: bytes) -> None:
        name, _, value = argument.decode(errors="replace").removeprefix("--").partition("=")
        if name.strip() not in _OPTIONS:
            raise _Refused(UNKNOWN_OPTION)
        if name.strip() == "display":
            self._display(value.strip())

    def _timeout(self, argument: bytes) -> None:
        self._prompt.seconds = _number(argument, MAX_SECONDS)

    def _fact(self, argument: bytes) -> None:
        if len(self._prompt.facts) >= MAX_FACTS:
            raise _Refused(TOO_LARGE)
        label, _, value = _text(argument).partition("\n")
        self._prompt.facts.append((label, value))

    def _warning(self, argument: bytes) -> None:
        if len(self._prompt.warnings) >= MAX_WARNINGS:
            raise _Refused(TOO_LARGE)
        self._prompt.warnings.append(_text(argument))

    def _item(self, argument: bytes) -> None:
        items = _text(argument).split("\n")
        self._item_octets += len(argument)
        if len(self._prompt.items) + len(items) > MAX_ITEMS or self._item_octets > MAX_ITEM_OCTETS:
            raise _Refused(TOO_LARGE)
        self._prompt.items.extend(items)

    def _new_picture(self, argument: bytes) -> None:
        kind, _, length = argument.partition(b" ")
        self._prompt.picture = None
        self._picture = bytearray()
        self._picture_octets = _number(length, MAX_PICTURE)
        self._picture_type = _text(kind).lower()
        if not self._picture_octets:
            self._prompt.picture = Picture(self._picture_type, b"")

    def _picture_part(self, argument: bytes) -> None:
        try:
            part = base64.b64decode(argument, validate=True)
        except binascii.Error:
            raise _Refused(BAD_PARAMETER) from None
        if not part or len(self._picture) + len(part) > self._picture_octets:
            raise _Refused(TOO_LARGE)
        self._picture += part
        if len(self._picture) == self._picture_octets:
            self._prompt.picture = Picture(self._picture_type, bytes(self._picture))

    def _inform(self, argument: bytes) -> None:
        what = argument.decode("ascii", "replace").strip()
        known = {"pid": str(os.getpid()), "version": self._version, "flavor": FLAVOR}
        if what not in known:
            raise _Refused(BAD_PARAMETER)
        self._write(f"D {known[what]}\n".encode())

    def _ask(self, command: str, argument: bytes) -> bool:
        kind = {"GETPIN": Kind.PIN, "CONFIRM": Kind.CONFIRM, "MESSAGE": Kind.MESSAGE}[command]
        if kind is Kind.CONFIRM and b"--one-button" in argument.split():
            kind = Kind.MESSAGE
        if self._picture_octets and self._prompt.picture is None:
            raise _Refused(BAD_PARAMETER)  # a part of the picture is missing: nobody sees what was to be shown
        pin = PinBuffer()
        try:
            answer = self._show(self._prompt, kind, pin)
            if answer is Answer.OK and kind is Kind.PIN:
                line = pin.data_line()
                try:
                    self._write(line)
                finally:
                    wipe(line)
        except OSError:
            raise _Refused(NO_DISPLAY) from None
        finally:
            pin.clear()
            self._prompt.error = ""
        return self._answered(answer, kind)

    def _answered(self, answer: Answer, kind: Kind) -> bool:
        if answer is Answer.GONE:
            return False
        if answer is Answer.CLOSED:
            self._write(b"S BUTTON_INFO close\n")
        yes = answer in (Answer.OK, Answer.SESSION)
        if kind is Kind.CONFIRM and yes and self._prompt.session:
            self._write(b"D session\n" if answer is Answer.SESSION else b"D once\n")
        if (kind is Kind.MESSAGE and answer is not Answer.TIMEOUT) or yes:
            self._write(b"OK\n")
        elif answer is Answer.TIMEOUT:
            self._error(TIMEOUT)
        else:
            self._error(NOT_CONFIRMED if answer is Answer.NOT_OK else CANCELLED)
        return True

    def _error(self, code: int) -> None:
        self._write(f"ERR {code} {_WORDS[code]} <Pinentry>\n".encode())


_TEXTS = {
    "SETTITLE": "title",
    "SETDESC": "description",
    "SETPROMPT": "prompt",
    "SETERROR": "error",
    "SETOK": "ok",
    "SETNOTOK": "notok",
    "SETCANCEL": "cancel",
    "SETSESSION": "session",
    "SETLARGE": "large",
}
_ACTIONS: dict[str, Callable[[Server, bytes], None]] = {
    "OPTION": Server._option,
    "SETTIMEOUT": Server._timeout,
    "ADDFACT": Server._fact,
    "ADDWARNING": Server._warning,
    "ADDITEM": Server._item,
    "SETPICTURE": Server._new_picture,
    "PICTURE": Server._picture_part,
    "RESET": lambda server, argument: server._reset(),
}
_IGNORED = frozenset({"NOP", "SETKEYINFO", "SETREPEAT", "SETREPEATERROR", "SETREPEATOK", "SETQUALITYBAR"})
"""Commands of a pinentry that mean nothing here: nothing is stored, nothing is judged."""


def _text(argument: bytes) -> str:
    """Return an argument as text that is safe to show: no control characters but the end of a line."""
    try:
        text = unquote_to_bytes(argument).decode()
    except UnicodeDecodeError:
        raise _Refused(BAD_PARAMETER) from None
    return "".join(c for c in text if c == "\n" or unicodedata.category(c)[0] != "C")


def _number(argument: bytes, most: int) -> int:
    if not argument.isdigit() or len(argument) > 9:
        raise _Refused(BAD_PARAMETER)
    number = int(argument)
    if number > most:
        raise _Refused(TOO_LARGE)
    return number


def lines_of(descriptor: int) -> Iterator[bytes]:
    """Read lines, without their end, from a file descriptor.

    Of a line that is too long the first :data:`MAX_LINE` octets are given, so that the server can say so once.
    """
    pending, skipping = bytearray(), False
    while part := os.read(descriptor, 4096):
        pending += part
        while (end := pending.find(b"\n")) >= 0:
            line = bytes(pending[: min(end, MAX_LINE)])
            del pending[: end + 1]
            if not skipping:
                yield line.rstrip(b"\r")
            skipping = False
        if len(pending) > MAX_LINE:
            if not skipping:
                yield bytes(pending[:MAX_LINE])
            skipping = True
            pending.clear()
