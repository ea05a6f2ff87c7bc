"""Message buses for tests: real dbus-daemons of their own, owners of names on them, and a bus that means harm."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jeepney import (
    DBusAddress,
    DBusNameFlags,
    HeaderFields,
    Message,
    MessageType,
    message_bus,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.io.blocking import open_dbus_connection

CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>{kind}</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="false"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/>
  </policy>
</busconfig>
"""


class PrivateBus:
    """A dbus-daemon that nobody else knows of."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.path = directory / f"{kind}-bus"
        self.address = f"unix:path={self.path}"
        self.kind = kind
        self._configuration = directory / f"{kind}.conf"
        self._configuration.write_text(CONFIGURATION.format(kind=kind, path=self.path))
        self._process: subprocess.Popen[bytes] | None = None
        self._owners: list[Owner] = []

    def start(self) -> None:
        """Start it, again after :meth:`stop`."""
        self.path.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            ["dbus-daemon", "--nofork", "--nopidfile", "--print-address", f"--config-file={self._configuration}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith(b"unix:")
        self._process.stdout.close()

    def stop(self) -> None:
        for owner in self._owners:
            owner.close()
        self._owners.clear()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def owner(self, *names: str) -> Owner:
        """Return a program on this bus that owns names."""
        self._owners.append(Owner(self.address, *names))
        return self._owners[-1]

    def send(self, path: str, member: str, *values: str, destination: str | None = None) -> None:
        """Send a signal with dbus-send, that is, from a program that owns no name."""
        to = [f"--dest={destination}"] if destination else []
        subprocess.run(
            ["dbus-send", f"--bus={self.address}", "--type=signal", *to, path, member, *values], check=True, timeout=10
        )

    def clients(self) -> list[str]:
        """Return the unique names of who is on it, but for the one who asks."""
        with open_dbus_connection(self.address) as connection:
            reply = connection.send_and_get_reply(message_bus.ListNames())
            return [name for name in reply.body[0] if name.startswith(":") and name != connection.unique_name]


class Owner:
    """A program that owns names, sends signals and answers calls."""

    def __init__(self, address: str, *names: str) -> None:
        self._connection = open_dbus_connection(address, enable_fds=True)
        self._sending = threading.Lock()
        self.calls: queue.Queue[tuple[str, tuple[Any, ...]]] = queue.Queue()
        self.answers: dict[str, tuple[str, Callable[[Message], tuple[Any, ...]]]] = {}
        """By method: signature of the answer, and what gives it."""
        for name in names:
            reply = self._connection.send_and_get_reply(message_bus.RequestName(name, DBusNameFlags.do_not_queue))
            assert reply.body == (1,), reply.body
        self._ended = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended:
            try:
                message = self._connection.receive(timeout=0.1)
            except TimeoutError:
                continue
            except (OSError, EOFError):
                return
            if message.header.message_type is not MessageType.method_call:
                continue
            member = message.header.fields[HeaderFields.member]
            self.calls.put((member, message.body))
            with self._sending, contextlib.suppress(OSError):
                if member in self.answers:
                    signature, answer = self.answers[member]
                    self._connection.send(new_method_return(message, signature, answer(message)))
                else:
                    self._connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownMethod"))

    def emit(self, path: str, interface: str, member: str, signature: str = "", *body: Any) -> None:
        """Broadcast a signal."""
        message = new_signal(DBusAddress(path, interface=interface), member, signature or None, body)
        with self._sending:
            self._connection.send(message)

    def close(self) -> None:
        self._ended = True
        self._thread.join()
        self._connection.close()


class HostileBus:
    """The other end of a bus's socket, which greets like one and then sends what it likes.

    :param pieces: what it sends, after the first answers; an ``int`` is a pause in milliseconds, and octets in a list
        come with a file descriptor for each time they are in it.
    """

    def __init__(
        self, path: Path, pieces: Callable[[], Iterator[bytes | int | list[bytes]]], *, polite: int = 99
    ) -> None:
        self.address = f"unix:path={path}"
        self.visits = 0
        self._pieces = pieces
        self._polite = polite
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._listening.settimeout(0.1)
        self._ended = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            try:
                peer, _ = self._listening.accept()
            except TimeoutError:
                continue
            self.visits += 1
            with peer, contextlib.suppress(OSError):
                peer.settimeout(0.2)
                self._greet(peer)
                for piece in self._pieces():
                    if self._ended:
                        return
                    if isinstance(piece, int):
                        self._closing.wait(piece / 1000)
                    elif isinstance(piece, list):
                        socket.send_fds(peer, piece[:1], [self._listening.fileno()] * len(piece))
                    else:
                        self._send(peer, piece)
                while not self._ended:
                    with contextlib.suppress(TimeoutError):
                        if not peer.recv(4096):
                            break

    def _send(self, peer: socket.socket, octets: bytes) -> None:
        view = memoryview(octets)
        while view and not self._ended:
            with contextlib.suppress(TimeoutError):
                view = view[peer.send(view) :]

    def _greet(self, peer: socket.socket) -> None:
        """Let the client in, and answer its first calls: hello, and a match rule each."""
        peer.recv(1024)
        peer.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
        serials, received = 0, b""
        while serials < self._polite:
            try:
                received += peer.recv(4096)
            except TimeoutError:
                return  # it waits for us
            if received.startswith(b"NEGOTIATE_UNIX_FD\r\n"):
                peer.sendall(b"AGREE_UNIX_FD\r\n")
                received = received.partition(b"\r\n")[2]
            received = received.removeprefix(b"BEGIN\r\n")
            while len(received) >= 16:
                fields = struct.unpack("<I", received[12:16])[0]
                size = 16 + fields + (-fields) % 8 + struct.unpack("<I", received[4:8])[0]
                if len(received) < size:
                    break
                call = Message.from_buffer(received[:size])
                received = received[size:]
                serials += 1
                hello = call.header.fields[HeaderFields.member] == "Hello"
                answer = new_method_return(call, "s" if hello else None, (":1.1",) if hello else ())
                answer.header.fields[HeaderFields.sender] = "org.freedesktop.DBus"
                peer.sendall(answer.serialise(serials))

    def close(self) -> None:
        self._ended = True
        self._closing.set()
        self._thread.join()
        self._listening.close()


def signal(interface: str, member: str, signature: str = "", *body: Any, path: str = "/") -> bytes:
    """Return a signal as a bus delivers it."""
    message = new_signal(DBusAddress(path, interface=interface), member, signature or None, body)
    message.header.fields[HeaderFields.sender] = ":1.7"
    return message.serialise(7)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
