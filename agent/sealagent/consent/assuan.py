"""The client side of Assuan, as far as a pinentry speaks it (libassuan manual, chapter "Server responses").

Lines of at most 1,000 octets; ``OK``, ``ERR code text``, ``S status``, ``D data`` and ``# comment``. What the server
sends is read straight into one buffer that is wiped, and data lines are decoded from there into the caller's
``bytearray``: a PIN never becomes a ``bytes`` or ``str`` object. That is why the transport is a socket pair on the
child's standard input and output: :meth:`asyncio.loop.sock_recv_into` fills a buffer of ours, an asyncio pipe does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass

from sealagent.consent.prompter import wipe
from sealagent.errors import SealAgentError

__all__ = ["MAX_COMMAND", "AssuanClient", "AssuanError", "escape"]

MAX_COMMAND = 1000
"""Octets of one line, LF included."""
MAX_TRAFFIC = 64 * 1024
"""Octets a pinentry may send in its whole life, which is one question; a real one sends a few hundred."""
MAX_DATA = 512
"""Octets of decoded data that are kept; beyond them a PIN is too long anyway."""


_HEX = {ord(digit): int(digit, 16) for digit in "0123456789abcdefABCDEF"}


class AssuanError(Exception):
    """The server answered ``ERR``. Its text is not kept: it is the server's to choose."""

    def __init__(self, code: int) -> None:
        super().__init__(f"ERR {code}")
        self.code = code & 0xFFFF
        """Error code of libgpg-error, without the part that names its source."""


@dataclass(slots=True)
class _Data:
    octets: bytearray
    length: int = 0


class AssuanClient:
    """One conversation. :meth:`close` wipes what is left of it.

    Each method raises ``SealAgentError("prompt_failed")`` when the server ends, floods or talks nonsense, and
    :class:`AssuanError` for an ``ERR``.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = bytearray(MAX_COMMAND)
        self._filled = 0
        self._received = 0
        self.window_closed = False
        """Whether the last answer came because the window was closed (``S BUTTON_INFO close``)."""

    def __repr__(self) -> str:
        return "AssuanClient()"

    async def greeting(self) -> None:
        """Wait for the server's first ``OK``."""
        await self._answer(None)

    async def command(self, line: str) -> None:
        """Send a command (already escaped) and wait for its ``OK``; data is not expected."""
        await self._send(line)
        await self._answer(None)

    async def ask(self, line: str) -> bytearray:
        """Send a command and return its data, at most :data:`MAX_DATA` octets; the caller wipes it."""
        data = _Data(bytearray(MAX_DATA))
        try:
            await self._send(line)
            await self._answer(data)
            result = bytearray(data.length)
            memoryview(result)[:] = memoryview(data.octets)[: data.length]
            return result
        finally:
            wipe(data.octets)

    async def goodbye(self) -> None:
        """Say goodbye and wait for the end. Whatever comes but one answer to that was not asked for, and makes the
        answers before doubtful.
        """
        await self._send("BYE")
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)  # one that does not know BYE ends with its input
        answers = 0
        while (end := await self._line()) >= 0:
            answers += not self._buffer.startswith((b"S ", b"#"), 0, end)
            self._drop(end + 1)
            if answers > 1:
                raise _failed("it answered more than it was asked")

    def close(self) -> None:
        wipe(self._buffer)
        self._sock.close()

    async def _send(self, line: str) -> None:
        octets = line.encode() + b"\n"
        if len(octets) > MAX_COMMAND:
            raise ValueError(f"an Assuan line has at most {MAX_COMMAND} octets")
        if self._filled or self._readable():
            raise _failed("it spoke before it was asked")
        self.window_closed = False
        try:
            await asyncio.get_running_loop().sock_sendall(self._sock, octets)
        except OSError as error:
            raise _failed("it ended") from error

    def _readable(self) -> bool:
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:  # nothing is there (the socket does not block), or the sending tells
            return False

    async def _answer(self, data: _Data | None) -> None:
        while True:
            end = await self._line()
            if end < 0:
                raise _failed("it ended")
            done = self._handle(end, data)
            self._drop(end + 1)
            if done:
                return

    async def _line(self) -> int:
        """Return where the LF of the first line in the buffer is, after receiving it; -1 when no more comes."""
        loop = asyncio.get_running_loop()
        while (end := self._buffer.find(b"\n", 0, self._filled)) < 0:
            if self._filled == len(self._buffer):
                raise _failed("it sent a line that is too long")
            try:
                count = await loop.sock_recv_into(self._sock, memoryview(self._buffer)[self._filled :])
            except OSError:
                return -1
            if count == 0:
                return -1
            self._filled += count
            self._received += count
            if self._received > MAX_TRAFFIC:
                raise _failed("it sent too much")
        return end

    def _handle(self, end: int, data: _Data | None) -> bool:
        """Act on the line before ``end``; True when it ends the answer."""
        buffer = self._buffer
        if buffer.startswith(b"D ", 0, end):
            if data is None:
                raise _failed("it sent data that was not asked for")
            self._decode(2, end, data)
            return False
        if buffer.startswith(b"OK", 0, end) and (end == 2 or buffer[2] == 0x20):
            return True
        if buffer.startswith(b"ERR ", 0, end):
            code = self._number(4, end)
            self._drop(end + 1)
            raise AssuanError(code)
        if buffer.startswith(b"S PASSWORD_FROM_CACHE", 0, end):
            raise _failed("it offered a stored PIN, which nobody allowed")
        if buffer.startswith(b"S BUTTON_INFO close", 0, end):
            self.window_closed = True
            return False
        if buffer.startswith((b"S ", b"#"), 0, end):
            return False
        raise _failed("it does not speak the protocol")

    def _number(self, at: int, end: int) -> int:
        """Read the number of an error where it stands: whatever else is there may be a PIN, so nothing is copied."""
        number, start = 0, at
        while at < min(end, start + 10) and 0x30 <= self._buffer[at] <= 0x39:
            number = 10 * number + self._buffer[at] - 0x30
            at += 1
        if at == start or (at < end and self._buffer[at] != 0x20):
            raise _failed("it sent an error without a number")
        return number

    def _decode(self, at: int, end: int, data: _Data) -> None:
        buffer = self._buffer
        while at < end:
            octet = buffer[at]
            at += 1
            if octet == 0x25:
                high, low = (_HEX.get(buffer[at + i]) if at + i < end else None for i in (0, 1))
                if high is None or low is None:
                    raise _failed("it sent malformed data")
                octet = high << 4 | low
                at += 2
            if data.length == len(data.octets):
                return
            data.octets[data.length] = octet
            data.length += 1

    def _drop(self, count: int) -> None:
        """Move what follows the first ``count`` octets to the front and wipe what it leaves behind."""
        rest = self._filled - count
        view = memoryview(self._buffer)
        view[:rest] = view[count : self._filled]
        view[rest : self._filled] = bytes(count)
        self._filled = rest


def escape(text: str) -> str:
    """Escape an argument: percent, CR and LF."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _failed(what: str) -> SealAgentError:
    return SealAgentError("prompt_failed", f"the pinentry program failed: {what}")
