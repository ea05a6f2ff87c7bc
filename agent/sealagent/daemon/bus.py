"""A connection to a D-Bus message bus: calls, and signals that the bus itself vouches for.

The only module that knows jeepney, of which it uses the wire format and the handshake; reading is done here, because
nothing that any program on a bus sends may hold up the agent or fill its memory.

A broadcast signal arrives because a match rule let it through, and a rule that names a sender by its well-known name is
checked by the bus against the owner of that name (D-Bus Specification, "Match Rules"). A signal that is *addressed* to
us arrives from anybody, whatever the rules are, so none of those counts.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from jeepney import DBusAddress, HeaderFields, MatchRule, Message, MessageFlag, MessageType, new_method_call
from jeepney.auth import BEGIN, Authenticator
from jeepney.bus import get_connectable_addresses
from jeepney.low_level import Header, calc_msg_size

__all__ = ["Bus", "BusFault", "BusFlooded", "Signal"]

MAX_MESSAGE = 4096
"""Octets of the longest message that is looked into; those that are waited for have some 300."""

MAX_SKIPPED = 128 << 20
"""Octets of the longest message there can be (D-Bus Specification, "Message Format"); it is read past."""

READ_OCTETS = 8192
"""Octets that are taken at once; then others have their turn."""

MAX_PER_SECOND = 1000
"""Messages a second beyond which a bus is left alone: what is waited for comes a few times a day."""

MAX_OCTETS_PER_SECOND = 4 << 20
"""Likewise octets."""

CONNECT_SECONDS = 5.0
CALL_SECONDS = 5.0
"""Seconds an answer may take."""

MAX_DESCRIPTORS = 8
"""File descriptors that are taken with one reading; the kernel closes the others."""

HEADER_OCTETS = 16
"""Octets from which the length of a message can be told."""

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class BusFault(Exception):
    """The bus cannot be reached or followed, or did not do what it was asked; the text says why."""


class BusFlooded(BusFault):
    """So much came that what is waited for may have been missed."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A broadcast that was waited for."""

    path: str
    interface: str
    member: str
    body: tuple[Any, ...]


class Bus:
    """One connection.

    :param heard: called with each signal that :meth:`listen` asked for.
    :param descriptors: whether the bus may hand over file descriptors.
    """

    def __init__(self, sock: socket.socket, heard: Callable[[Signal], None], descriptors: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._heard = heard
        self._max_descriptors = MAX_DESCRIPTORS if descriptors else 0
        self._serials = count(1)
        self._sending = asyncio.Lock()
        self._pending: dict[int, tuple[str, asyncio.Future[tuple[Any, ...]]]] = {}
        """Calls without an answer yet, by serial number, with the signature that the answer must have."""
        self._listening: dict[tuple[str, str], str] = {}
        """Interfaces and members of signals, and their signature."""
        self._buffer = bytearray()
        self._skip = 0
        self._descriptors: list[int] = []
        self._second = (0, 0, 0)
        """The present second, and the messages and octets that came in it."""
        self._ended: asyncio.Future[BusFault] = self._loop.create_future()

    @classmethod
    async def connect(cls, address: str, heard: Callable[[Signal], None], *, descriptors: bool = False) -> Bus:
        """Connect to a bus and say hello.

        :param address: ``unix:path=…`` or ``unix:abstract=…``; further ones follow a semicolon, the first counts.
        :raises BusFault: there is none, or it does not let us in.
        """
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.sock_connect(sock, next(get_connectable_addresses(address)))
                handshake = Authenticator(enable_fds=descriptors)
                for line in handshake:
                    await loop.sock_sendall(sock, line)
                    answer = await loop.sock_recv(sock, 1024)
                    if not answer:
                        raise BusFault("it closed the connection")
                    handshake.feed(answer)
                await loop.sock_sendall(sock, BEGIN)
        except TimeoutError:
            sock.close()
            raise BusFault("it does not answer") from None
        except (OSError, ValueError, KeyError, RuntimeError) as error:  # those of jeepney are ValueErrors, mostly
            sock.close()
            why = error.strerror if isinstance(error, OSError) else None
            raise BusFault(why or f"{type(error).__name__}: {error}") from error
        except BaseException:
            sock.close()
            raise
        bus = cls(sock, heard, descriptors)
        loop.add_reader(sock, bus._readable)
        try:
            await bus.call(*_BUS, "Hello", reply="s")
        except BaseException:
            bus.close()
            raise
        return bus

    async def listen(self, sender: str, interface: str, member: str, signature: str) -> None:
        """Have a signal delivered.

        :param sender: the well-known name whose owner sends it. :param signature: of its body; others are ignored.
        :raises BusFault: the bus refuses it.
        """
        rule = MatchRule(type="signal", sender=sender, interface=interface, member=member)
        self._listening[interface, member] = signature
        await self.call(*_BUS, "AddMatch", "s", (rule.serialise(),))

    async def call(
        self,
        name: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: tuple[Any, ...] = (),
        *,
        reply: str = "",
    ) -> tuple[Any, ...]:
        """Call a method of whoever owns a name now; nothing is started for it.

        :param reply: signature that the answer must have. A descriptor in it is an ``int`` that the caller closes.
        :raises BusFault: an error was answered, or nothing in time, or something else.
        """
        message = new_method_call(DBusAddress(path, name, interface), member, signature or None, body)
        message.header.flags |= MessageFlag.no_auto_start
        serial = next(self._serials)
        future: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()
        if self._ended.done():
            raise self._ended.result()
        self._pending[serial] = reply, future
        answer: tuple[Any, ...] | None = None
        try:
            async with asyncio.timeout(CALL_SECONDS):
                async with self._sending:
                    await self._loop.sock_sendall(self._sock, message.serialise(serial))
                answer = await future
            return answer
        except TimeoutError:
            raise BusFault(f"{name} does not answer") from None
        except OSError as error:
            raise BusFault(error.strerror or str(error)) from error
        finally:
            del self._pending[serial]
            # Whoever waited may have left a moment before it came.
            left = answer is None and future.done() and not future.cancelled()
            if left and future.exception() is None and "h" in reply:
                for descriptor in future.result():
                    os.close(descriptor)

    async def ended(self) -> BusFault:
        """Return why it ended, when it has."""
        return await asyncio.shield(self._ended)

    def close(self) -> None:
        """Leave the bus."""
        self._end(BusFault("the connection was closed"))

    # Reading

    def _readable(self) -> None:
        try:
            octets = self._receive()
            if not octets:
                raise BusFault("it closed the connection")
            self._count(0, len(octets))
            self._take(octets)
        except (BlockingIOError, InterruptedError):
            return
        except BusFault as fault:
            self._end(fault)
        except Exception as error:  # whatever a malformed message may lead the library into
            self._end(BusFault(f"{type(error).__name__}: {error}"))
        finally:
            self._close_descriptors()

    def _receive(self) -> bytes:
        if not self._max_descriptors:
            return self._sock.recv(READ_OCTETS)
        octets, found, _, _ = socket.recv_fds(self._sock, READ_OCTETS, self._max_descriptors, socket.MSG_CMSG_CLOEXEC)
        self._descriptors += found
        return octets

    def _count(self, messages: int, octets: int) -> None:
        second, so_far, volume = self._second
        now = int(self._loop.time())
        if now != second:
            so_far = volume = 0
        self._second = now, so_far + messages, volume + octets
        if so_far + messages > MAX_PER_SECOND or volume + octets > MAX_OCTETS_PER_SECOND:
            raise BusFlooded("it is flooded with messages")

    def _take(self, octets: bytes) -> None:
        """Cut the stream into messages; those that are too long are read past."""
        if self._skip:
            past = min(self._skip, len(octets))
            self._skip -= past
            octets = octets[past:]
        self._buffer += octets
        while len(self._buffer) >= HEADER_OCTETS:
            size = calc_msg_size(bytes(self._buffer[:HEADER_OCTETS]))
            if size > MAX_SKIPPED:
                raise BusFault("it sends messages longer than there can be")
            if size > MAX_MESSAGE:
                self._count(1, 0)
                self._skip = max(0, size - len(self._buffer))
                del self._buffer[:size]
                continue
            if len(self._buffer) < size:
                break
            message = bytes(self._buffer[:size])
            del self._buffer[:size]
            self._count(1, 0)
            self._look_into(message)

    def _look_into(self, octets: bytes) -> None:
        header, _ = Header.from_buffer(octets)
        fields = header.fields
        signature = fields.get(HeaderFields.signature, "")
        if header.message_type is MessageType.signal:
            path, interface, member = (
                fields.get(name) for name in (HeaderFields.path, HeaderFields.interface, HeaderFields.member)
            )
            addressed = HeaderFields.destination in fields
            if not addressed and signature == self._listening.get((interface, member)):
                self._heard(Signal(path, interface, member, Message.from_buffer(octets).body))
            return
        expected, future = self._pending.get(fields.get(HeaderFields.reply_serial, 0), ("", None))
        if future is None or future.done():
            return
        if header.message_type is MessageType.error:
            future.set_exception(BusFault(str(fields.get(HeaderFields.error_name))[:200]))
        elif header.message_type is MessageType.method_return:
            if signature != expected:
                future.set_exception(BusFault("the answer has an unexpected form"))
                return
            body = Message.from_buffer(octets, self._descriptors).body
            taken = {item for item in body if isinstance(item, int) and "h" in expected}
            self._descriptors = [each for each in self._descriptors if each not in taken]
            future.set_result(body)

    def _close_descriptors(self) -> None:
        """Close what came with messages that nobody waited for."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def _end(self, fault: BusFault) -> None:
        if self._ended.done():
            return
        self._ended.set_result(fault)
        self._loop.remove_reader(self._sock)
        self._sock.close()
        self._buffer.clear()
        for _, future in self._pending.values():
            if not future.done():
                future.set_exception(fault)
