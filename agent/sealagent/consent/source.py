"""PINs from a file or a file descriptor, for tests and unattended servers.

The content is one line, the PIN of any token; or lines ``serial:PIN`` or ``label:PIN``, where a serial goes before a
label. A line with a colon is always of the second kind, so that the PIN of one token is never tried on another. The
ending of a line (LF or CR LF) is no part of the PIN.

A PIN the token called wrong is never offered to it again, until the content is another. The last try of a token is
never spent from here: a file cannot say that its owner wants that.
"""

from __future__ import annotations

import hmac
import os
import secrets
import select
import stat
import time
from pathlib import Path

from sealagent.consent.prompter import (
    SPENDING,
    Consent,
    ConsentRequest,
    PinRequest,
    length_fits,
    nobody_to_ask,
    pin_length_error,
    wipe,
)
from sealagent.errors import SealAgentError

__all__ = ["FdPinSource", "FilePinSource"]

MAX_CONTENT = 4096
"""Octets of a PIN file."""
READ_SECONDS = 10.0
"""Seconds the other end of a file descriptor has to send everything and close."""


class _PinSource:
    """What both sources share: finding the token's PIN in the content, and remembering what was refused."""

    person = False

    def __init__(self, name: str) -> None:
        self._name = name
        self._salt = secrets.token_bytes(32)
        self._offered: dict[tuple[str, str], bytes] = {}
        self._refused: set[bytes] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    async def confirm(self, request: ConsentRequest) -> Consent:
        """A stored PIN agrees to nothing, only rules do. :raises SealAgentError: ``consent_unavailable``."""
        raise nobody_to_ask("the PIN comes from a file; add a rule to policy.toml (`sealagent policy explain` helps)")

    async def confirm_last_try(self, request: PinRequest) -> bool:
        """A stored PIN is nobody's word: the answer is no."""
        return False

    def rejected(self, request: PinRequest) -> None:
        """Take note that the token refused the PIN it was offered last."""
        offered = self._offered.pop(_token(request), None)
        if offered is not None:
            self._refused.add(offered)

    def _offer(self, request: PinRequest, content: bytearray) -> bytearray:
        """Return the PIN for a token and wipe the content."""
        try:
            if request.purpose == "unblock_admin":
                raise self._refuse("it never answers for the administrator; ask with pinentry or on a terminal")
            if request.purpose not in SPENDING:
                raise self._refuse("a stored PIN cannot become a new one; ask with pinentry or on a terminal")
            if request.pin.last_try:
                raise self._refuse("only one try is left, which nobody but the holder may spend; enter the PIN by hand")
            pin = self._find(request, content)
        finally:
            wipe(content)
        mark = hmac.digest(self._salt + repr(_token(request)).encode(), pin, "sha256")
        if not length_fits(pin):
            wipe(pin)
            raise pin_length_error()
        if mark in self._refused:
            wipe(pin)
            raise self._refuse("the token refused its PIN; put the right one there")
        self._offered[_token(request)] = mark
        return pin

    def _find(self, request: PinRequest, content: bytearray) -> bytearray:
        spans = _lines(content)
        keyed = [span for span in spans if content.find(b":", *span) >= 0]
        if not keyed and len(spans) == 1:
            return _part(content, *spans[0])
        if len(keyed) != len(spans):
            raise self._refuse("it holds neither one PIN nor lines of serial:PIN or label:PIN")
        for name in (request.token_serial, request.token_label):
            prefix = name.encode(errors="replace") + b":"
            for start, end in keyed:
                if name and content.startswith(prefix, start, end):
                    return _part(content, start + len(prefix), end)
        raise self._refuse("it holds no PIN for this token")

    def _refuse(self, why: str) -> SealAgentError:
        return SealAgentError("pin_source_refused", f"the PIN source {self._name} is of no use: {why}")


class FilePinSource(_PinSource):
    """A :class:`~sealagent.consent.prompter.Prompter` that reads a file at each request and keeps nothing of it.

    The file is a regular one that belongs to the user of this process or to root, and nobody else may read or write it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    async def ask_pin(self, request: PinRequest) -> bytearray:
        """:raises SealAgentError: ``pin_source_refused``, ``pin_length``."""
        return self._offer(request, self._read())

    def _read(self) -> bytearray:
        content = bytearray(MAX_CONTENT + 1)
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                facts = os.fstat(fd)
                if not stat.S_ISREG(facts.st_mode):
                    raise self._refuse("it is no regular file")
                if facts.st_uid not in (os.getuid(), 0):
                    raise self._refuse("it belongs to another user")
                if stat.S_IMODE(facts.st_mode) & 0o077:
                    raise self._refuse("others may read or write it; chmod 600 it, and change the PIN")
                count = os.readv(fd, [content])
            finally:
                os.close(fd)
        except OSError as error:
            raise self._refuse(os.strerror(error.errno) if error.errno else "it cannot be read") from error
        if count > MAX_CONTENT:
            wipe(content)
            raise self._refuse(f"it is over {MAX_CONTENT} octets")
        return _taken(content, count)


class FdPinSource(_PinSource):
    """A :class:`~sealagent.consent.prompter.Prompter` over what an inherited file descriptor holds.

    The descriptor is read to its end and closed at once (blocking for :data:`READ_SECONDS` at most), so that no
    process started later inherits it; the content is kept until :meth:`close`.

    :raises SealAgentError: ``pin_source_refused``, ``prompt_timeout``.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(f"fd {fd}")
        try:
            self._content = self._read(fd)
        except OSError as error:
            raise self._refuse(os.strerror(error.errno) if error.errno else "it cannot be read") from error

    async def ask_pin(self, request: PinRequest) -> bytearray:
        """:raises SealAgentError: ``pin_source_refused``, ``pin_length``."""
        return self._offer(request, _taken(self._content, len(self._content), keep=True))

    def close(self) -> None:
        wipe(self._content)
        self._content = bytearray()

    def _read(self, fd: int) -> bytearray:
        content = bytearray(MAX_CONTENT + 1)
        filled = 0
        end = time.monotonic() + READ_SECONDS
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        try:
            while filled <= MAX_CONTENT:
                if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                    raise SealAgentError("prompt_timeout", f"the PIN source {self._name} was not closed in time")
                count = os.readv(fd, [memoryview(content)[filled:]])
                if count == 0:
                    return _taken(content, filled)
                filled += count
            raise self._refuse(f"it is over {MAX_CONTENT} octets")
        finally:
            wipe(content)
            os.close(fd)


def _token(request: PinRequest) -> tuple[str, str]:
    return request.token_serial, request.token_label


def _lines(content: bytearray) -> list[tuple[int, int]]:
    """Return where each line that is not empty starts and ends."""
    spans = []
    start = 0
    while start < len(content):
        found = content.find(b"\n", start)
        end = found if found >= 0 else len(content)
        stop = end - 1 if end > start and content[end - 1] == 0x0D else end
        if stop > start:
            spans.append((start, stop))
        start = end + 1
    return spans


def _part(content: bytearray, start: int, end: int) -> bytearray:
    part = bytearray(end - start)
    memoryview(part)[:] = memoryview(content)[start:end]
    return part


def _taken(content: bytearray, count: int, *, keep: bool = False) -> bytearray:
    """Return the first octets in a buffer of their own and wipe the one they came in."""
    part = _part(content, 0, count)
    if not keep:
        wipe(content)
    return part
