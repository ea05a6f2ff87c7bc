"""The reader's side: cards that speak vpcd's protocol, and what pcscd says of its readers. TEST ONLY."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import threading
import time
from ctypes import byref, c_char_p, c_long, c_ubyte, c_ulong, c_void_p
from dataclasses import dataclass

from .applet import ATR, Applet

__all__ = ["PATIENCE", "SOCKET", "Fault", "PcscError", "PcscView", "Plug"]

OFF, ON, RESET, GET_ATR = 0, 1, 2, 4
"""Control codes of vpcd: bodies of one octet."""

SOCKET = "pcscd.comm"
"""Where in its directory pcscd listens."""

PATIENCE = 20.0
"""Seconds for pcscd to notice what happened; it looks every 0.4 s."""


@dataclass
class Fault:
    """What happens when a command with an INS comes in."""

    kind: str
    """``delay``, ``hang`` (until the card is pulled) or ``drop`` (the card is pulled with the command unanswered)."""
    ins: int
    seconds: float = 0.0
    count: int = 1
    """How many such commands it strikes."""


class Plug:
    """A card in a slot of the virtual reader: one connection to vpcd, served by one thread."""

    def __init__(self, applet: Applet, port: int) -> None:
        self.applet = applet
        self.faults: list[Fault] = []
        self.struck = 0
        """Faults that have happened."""
        self.changed = threading.Condition()
        self._pulled = threading.Event()
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def pull(self) -> None:
        """Take the card out, in the middle of a command if one is under way."""
        self._pulled.set()
        with contextlib.suppress(OSError):  # gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._thread:
            self._thread.join(PATIENCE)

    def exchange(self, applet: Applet) -> None:
        """Become another card without leaving the reader, while nobody uses this one."""
        with self.changed:
            self.applet = applet
            self.faults.clear()
            self.struck = 0

    @property
    def pulled(self) -> bool:
        return self._pulled.is_set()

    def wait_struck(self, count: int, seconds: float) -> bool:
        """Wait until so many faults have happened."""
        with self.changed:
            return self.changed.wait_for(lambda: self.struck >= count, seconds)

    def _serve(self) -> None:
        with self._socket:
            while (frame := self._frame()) is not None:
                answer = self._answer(frame)
                if answer is None or self._pulled.is_set():
                    continue
                try:
                    self._socket.sendall(len(answer).to_bytes(2, "big") + answer)
                except OSError:
                    break
        self._pulled.set()
        self.applet.reset()

    def _frame(self) -> bytes | None:
        """Read a frame: two octets of length, then at most 65535."""
        head = self._exactly(2)
        return None if head is None else self._exactly(int.from_bytes(head, "big"))

    def _exactly(self, count: int) -> bytes | None:
        octets = b""
        while len(octets) < count:
            try:
                # vpcd 3.3 sends length and body apart; without this the body waits 40 ms for our acknowledgement.
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                some = self._socket.recv(count - len(octets))
            except OSError:
                return None
            if not some:
                return None
            octets += some
        return octets

    def _answer(self, frame: bytes) -> bytes | None:
        if len(frame) == 1:
            if frame[0] in (OFF, ON, RESET):
                self.applet.reset()
            return ATR if frame[0] == GET_ATR else None
        if not frame:
            return None
        fault = self._strike(frame[1])
        if fault is not None:
            if fault.kind == "drop":
                self.pull()
                return None
            self._pulled.wait(fault.seconds if fault.kind == "delay" else None)
            if self._pulled.is_set():
                return None
        return self.applet.transmit(frame)

    def _strike(self, ins: int) -> Fault | None:
        with self.changed:
            for fault in self.faults:
                if fault.ins == ins and fault.count > 0:
                    fault.count -= 1
                    self.struck += 1
                    self.changed.notify_all()
                    return fault
        return None


class PcscError(Exception):
    """pcscd does not do what it should."""


class _ReaderState(ctypes.Structure):
    """SCARD_READERSTATE of pcsc-lite (naturally aligned on Linux)."""

    _fields_ = [
        ("reader", c_char_p),
        ("user_data", c_void_p),
        ("current", c_ulong),
        ("event", c_ulong),
        ("atr_length", c_ulong),
        ("atr", c_ubyte * 33),
    ]


_UNAWARE, _EMPTY, _PRESENT = 0x0, 0x10, 0x20
_TIMEOUT = 0x8010000A


class PcscView:
    """What a PC/SC client sees of the readers."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libpcsclite.so.1")
        for name, arguments in (
            ("SCardEstablishContext", (c_ulong, c_void_p, c_void_p, c_void_p)),
            ("SCardListReaders", (c_long, c_char_p, c_void_p, c_void_p)),
            ("SCardGetStatusChange", (c_long, c_ulong, c_void_p, c_ulong)),
        ):
            getattr(self._lib, name).argtypes = arguments
            getattr(self._lib, name).restype = c_ulong
        self._context = c_long()
        self._check("SCardEstablishContext", self._lib.SCardEstablishContext(2, None, None, byref(self._context)))

    @staticmethod
    def _check(doing: str, code: int) -> None:
        if code & 0xFFFFFFFF:
            raise PcscError(f"{doing} answers 0x{code & 0xFFFFFFFF:08X}")

    def readers(self) -> list[str]:
        """Return the readers' names."""
        buffer = ctypes.create_string_buffer(4096)
        length = c_ulong(len(buffer))
        code = self._lib.SCardListReaders(self._context, None, buffer, byref(length))
        if code & 0xFFFFFFFF == 0x8010002E:  # SCARD_E_NO_READERS_AVAILABLE
            return []
        self._check("SCardListReaders", code)
        return [name.decode() for name in buffer.raw[: length.value].split(b"\0") if name]

    def wait(self, reader: str, present: bool, seconds: float = PATIENCE) -> None:
        """Wait until pcscd says that a card is, or is not, in a reader. :raises PcscError: it does not in time."""
        deadline = time.monotonic() + seconds
        state = _ReaderState(reader=reader.encode(), current=_UNAWARE)
        wanted = _PRESENT if present else _EMPTY
        while True:
            left = deadline - time.monotonic()
            code = self._lib.SCardGetStatusChange(self._context, int(max(left, 0) * 1000), byref(state), 1)
            if code & 0xFFFFFFFF != _TIMEOUT:
                self._check("SCardGetStatusChange", code)
            if state.event & wanted:
                return
            if left <= 0:
                raise PcscError(
                    f"pcscd does not see within {seconds:g} s that {reader} {'has a' if present else 'lost its'} card"
                )
            state.current = state.event
