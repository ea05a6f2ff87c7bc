"""Asking on the terminal of a daemon that runs in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import termios
from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType

from sealagent.consent.lists import TERMINAL_PAGE, list_digest, page_from
from sealagent.consent.prompter import (
    DEFAULT_TIMEOUT,
    MAX_ATTEMPTS,
    MAX_PIN,
    Consent,
    ConsentRequest,
    PinRequest,
    length_fits,
    pin_length_error,
    wipe,
)
from sealagent.consent.texts import PromptText, confirm_text, consent_text, language, page_text, prompt_text
from sealagent.consent.turn import Turn
from sealagent.consent.words import SESSION, YES
from sealagent.errors import SealAgentError

__all__ = ["SavedTerminal", "TerminalPrompter", "terminal_usable"]

_ENTER = frozenset(b"\r\n")
_CANCEL = frozenset((0x03, 0x04, 0x1B))  # Ctrl-C, Ctrl-D, Escape (also the start of an arrow key: never part of a PIN)
_BACKSPACE = frozenset((0x08, 0x7F))
_CLEAR = 0x15  # Ctrl-U
_SPACE = " \t\r\n"
MAX_LINE = 4096
"""Octets of a line that a terminal lets the user edit (MAX_CANON and beyond)."""


class SavedTerminal:
    """The settings of a terminal, to be put back after a program that was killed. Does nothing without one."""

    def __init__(self, path: str | None) -> None:
        self._fd: int | None = None
        self._settings: list[object] | None = None
        with contextlib.suppress(OSError, termios.error):
            if path:
                self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._settings = termios.tcgetattr(self._fd)

    def restore(self) -> None:
        if self._fd is not None and self._settings is not None:
            _set(self._fd, self._settings)

    def forget_typed(self) -> None:
        """Throw away what was typed before a prompt is there: it was meant for something else."""
        if self._fd is not None:
            with _undisturbed(), contextlib.suppress(OSError, termios.error):
                termios.tcflush(self._fd, termios.TCIFLUSH)

    def __enter__(self) -> SavedTerminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)


class TerminalPrompter:
    """A :class:`~sealagent.consent.prompter.Prompter` on a terminal, without echo, one prompt at a time.

    :param path: the terminal; ``/dev/tty`` is the one the daemon was started from.
    """

    person = True

    def __init__(self, environ: Mapping[str, str], *, path: str = "/dev/tty", timeout: float = DEFAULT_TIMEOUT) -> None:
        self._language = language(environ)
        self._path = path
        self._timeout = timeout
        self._turn = Turn()

    async def ask_pin(self, request: PinRequest) -> bytearray:
        """Show the request and read one line. Cancelling the wait restores the terminal."""
        async with self._own_turn(), self._set_up(echo=False) as fd:
            for attempt in range(MAX_ATTEMPTS):
                await _write(fd, prompt_text(request, self._language, wrong_length=attempt > 0))
                pin = await _read_line(fd)
                if length_fits(pin):
                    return pin
                wipe(pin)
            raise pin_length_error()

    async def confirm(self, request: ConsentRequest) -> Consent:
        """Show the question, a list page by page, and read a line; only one of
        :data:`~sealagent.consent.words.YES` is yes, or of :data:`~sealagent.consent.words.SESSION` where offered.
        """
        async with self._own_turn() as limit, self._set_up(echo=True) as fd:
            if request.question == "batch" and request.occasion.items:
                return await self._list(fd, request, limit)
            await _write(fd, consent_text(request, self._language))
            typed = (await _read_words(fd)).strip(_SPACE)
            if request.question == "use" and request.offer_session and typed in SESSION:
                return Consent.SESSION
            return Consent.ONCE if typed in YES else Consent.NO

    async def _list(self, fd: int, request: ConsentRequest, limit: asyncio.Timeout) -> Consent:
        """Enter shows the next page while there is one; whoever turns pages has more time."""
        items = request.occasion.items
        page = page_from(items, 0, TERMINAL_PAGE, list_digest(items))
        text = consent_text(request, self._language, page=page)
        while True:
            await _write(fd, text)
            line = await _read_words(fd)
            if line.strip(_SPACE) in YES:
                return Consent.ONCE
            if page.final or line.strip(_SPACE) or not line.endswith("\n"):
                return Consent.NO
            page = page_from(items, page.last, TERMINAL_PAGE, page.digest)
            text = page_text(self._language, page)
            with _undisturbed():
                termios.tcflush(fd, termios.TCIFLUSH)  # a yes is typed after what it is said to was shown
            limit.reschedule(asyncio.get_running_loop().time() + self._timeout)

    async def confirm_last_try(self, request: PinRequest) -> bool:
        """Show the question and read one line; only one of :data:`~sealagent.consent.words.YES` is yes."""
        async with self._own_turn(), self._set_up(echo=True) as fd:
            await _write(fd, confirm_text(request, self._language))
            return (await _read_words(fd)).strip(_SPACE) in YES

    @contextlib.asynccontextmanager
    async def _own_turn(self) -> AsyncIterator[asyncio.Timeout]:
        async with self._turn:
            try:
                async with asyncio.timeout(self._timeout) as limit:
                    yield limit
            except TimeoutError:
                raise SealAgentError("prompt_timeout", "nobody answered the prompt in time") from None
            except (OSError, termios.error) as error:
                raise SealAgentError("prompt_failed", f"the terminal {self._path} failed: {error}") from error

    @contextlib.asynccontextmanager
    async def _set_up(self, *, echo: bool) -> AsyncIterator[int]:
        """Open the terminal without signals, and in the end put it back as it was.

        :param echo: what is typed is shown, and comes in whole lines, which the terminal itself lets the user edit.
        """
        fd = _open(self._path)
        try:
            settings = termios.tcgetattr(fd)
            hidden = termios.ISIG if echo else termios.ECHO | termios.ICANON | termios.ISIG
            changed = [*settings[:3], settings[3] & ~hidden, *settings[4:]]
            if echo:  # Ctrl-C ends the line, and is part of it: no answer that counts
                changed[6] = [*changed[6]]
                changed[6][termios.VEOL] = b"\x03"
            try:
                # TCSAFLUSH throws away what was typed before the prompt was there: it was meant for something else.
                termios.tcsetattr(fd, termios.TCSAFLUSH, changed)
                yield fd
            finally:
                _set(fd, settings, termios.TCSAFLUSH)
        finally:
            os.close(fd)


def terminal_usable(path: str = "/dev/tty") -> bool:
    """Say whether there is a terminal to ask on, with this process in its foreground."""
    try:
        os.close(_open(path))
    except SealAgentError:
        return False
    return True


def _open(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SealAgentError("prompt_unavailable", f"there is no terminal to ask on: {error}") from error
    try:
        foreground = os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not our controlling terminal: job control does not apply
        foreground = os.isatty(fd)
    if not foreground:
        os.close(fd)
        raise SealAgentError("prompt_unavailable", f"this process is not in the foreground of the terminal {path}")
    return fd


async def _write(fd: int, text: PromptText) -> None:
    """Write all of it, though a terminal takes no more at once than its buffer (or nothing, while it is stopped)."""
    lines = [text.title, *text.description, *([text.error] if text.error else []), text.prompt + " "]
    rest = ("\n" + "\n".join(lines)).encode()
    loop, writable = asyncio.get_running_loop(), asyncio.Event()
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            loop.add_writer(fd, writable.set)
            try:
                await writable.wait()
            finally:
                loop.remove_writer(fd)
            writable.clear()


async def _read_line(fd: int) -> bytearray:
    """Read up to Enter, with Backspace and Ctrl-U. More than fits makes the line one octet too long."""
    loop = asyncio.get_running_loop()
    line = _Line()
    octet = bytearray(1)
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()  # one octet a turn: a flood does not hold up the loop
            try:
                count = os.readv(fd, [octet])
            except BlockingIOError:
                continue
            if count == 0:
                raise SealAgentError("prompt_failed", "the terminal was closed")
            if octet[0] in _ENTER:
                os.write(fd, b"\n")
                return line.taken()
            if octet[0] in _CANCEL:
                raise SealAgentError("pin_cancelled", "the PIN entry was cancelled")
            line.feed(octet[0])
    finally:
        loop.remove_reader(fd)
        wipe(octet)
        line.wipe()


async def _read_words(fd: int) -> str:
    """Read one line that is no secret; what ends with no line feed ended otherwise (Ctrl-C, Ctrl-D)."""
    readable = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            try:
                return os.read(fd, MAX_LINE).decode(errors="replace")
            except BlockingIOError:
                continue
    finally:
        loop.remove_reader(fd)


class _Line:
    """The octets typed so far, in a buffer that never moves."""

    def __init__(self) -> None:
        self._octets = bytearray(MAX_PIN + 1)
        self._length = 0

    def feed(self, octet: int) -> None:
        if octet in _BACKSPACE:
            while self._length:
                self._length -= 1
                if self._octets[self._length] & 0xC0 != 0x80:  # the first octet of a UTF-8 character
                    break
        elif octet == _CLEAR:
            self._length = 0
        elif octet >= 0x20 and self._length < len(self._octets):
            self._octets[self._length] = octet
            self._length += 1

    def taken(self) -> bytearray:
        result = bytearray(self._length)
        memoryview(result)[:] = memoryview(self._octets)[: self._length]
        return result

    def wipe(self) -> None:
        wipe(self._octets)


def _set(fd: int, settings: list[object], when: int = termios.TCSADRAIN) -> None:
    with _undisturbed(), contextlib.suppress(OSError, termios.error):  # the terminal may be gone
        termios.tcsetattr(fd, when, settings)  # type: ignore[arg-type]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Change a terminal even from the background, where SIGTTOU would stop the daemon."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
