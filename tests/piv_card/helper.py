"""The process that runs pcscd and holds the cards. Run by :mod:`piv_card.stack`, mostly in namespaces of its own.

Requests and answers are JSON lines on stdin and stdout, octets as hexadecimal digits; the end of stdin ends it all.
A process apart because the tests' own process may sit in the PKCS#11 module, with the interpreter's lock held, while
the card has to answer.

    python -m piv_card.helper DIRECTORY PORT
"""

from __future__ import annotations

import fcntl
import itertools
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from .applet import SLOTS, Applet, algorithm
from .readers import PATIENCE, SOCKET, Fault, PcscError, PcscView, Plug
from .tlv import tlv

START_SECONDS = 60

READERS = 2
"""Slots of one vpcd, as Debian builds it. pcscd shows each as a reader."""

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


class Helper:
    """pcscd, its readers, and the cards."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self._cards: dict[int, Applet] = {}
        self._numbers = itertools.count(1)
        self._plugs: list[Plug | None] = [None] * READERS
        self._places: dict[int, int] = {}
        """Where a card is, by its number."""
        self._parked: int | None = None
        """A reader with a card in it that nobody needs any more."""
        self.log = directory / "pcscd.log"
        config = directory / "reader.conf"
        config.write_text(
            f'FRIENDLYNAME "Test PCD"\nDEVICENAME /dev/null:{port:#x}\n'
            f"LIBPATH {directory / 'libifdvpcd.so'}\nCHANNELID {port:#x}\n"
        )
        # Nobody but pcscd keeps the socket: a client of a pcscd that died gets an error instead of waiting for ever.
        with self.log.open("wb") as log, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(directory / SOCKET))
            listener.listen(16)
            # pcscd takes a socket as systemd hands it over: descriptor 3, for the process that LISTEN_PID names.
            start = f'LISTEN_FDS=1 LISTEN_PID=$$ exec pcscd --foreground --config "$0" 3<&{listener.fileno()}'
            self._pcscd = subprocess.Popen(
                ["sh", "-c", start, str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(listener.fileno(),),
            )
        self._view, self._readers = self._wait_for_readers()

    def _wait_for_readers(self) -> tuple[PcscView, list[str]]:
        deadline = time.monotonic() + PATIENCE
        while True:
            if self._pcscd.poll() is not None:
                raise PcscError(f"pcscd ended with status {self._pcscd.returncode}: {self._said()}")
            try:
                view = PcscView()
                readers = view.readers()
            except PcscError as error:
                readers, why = [], str(error)
            else:
                why = f"it shows the readers {readers}"
            if len(readers) == READERS:
                return view, readers
            if time.monotonic() > deadline:
                self.close()
                raise PcscError(f"pcscd is not ready: {why}: {self._said()}")
            time.sleep(0.02)

    def _said(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def close(self) -> None:
        """Pull the cards and end pcscd."""
        for plug in self._plugs:
            if plug is not None:
                plug.pull()
        if self._pcscd.poll() is None:
            self._pcscd.terminate()
            try:
                self._pcscd.wait(5)
            except subprocess.TimeoutExpired:
                self._pcscd.kill()
                self._pcscd.wait()

    # Requests. Each is a method op_NAME; its answer is a JSON value.

    def op_new(self, pin: str, puk: str, serial: str, tries: int) -> int:
        number = next(self._numbers)
        self._cards[number] = Applet(pin.encode(), puk.encode(), bytes.fromhex(serial), tries, tries)
        return number

    def op_put_key(self, card: int, slot: int, pkcs8: str) -> None:
        key: Any = serialization.load_der_private_key(bytes.fromhex(pkcs8), None)
        algorithm(key)
        self._cards[card].keys[slot] = key

    def op_put_object(self, card: int, tag: int, value: str) -> None:
        self._cards[card].objects[tag] = bytes.fromhex(value)

    def op_put_certificate(self, card: int, slot: int, der: str) -> None:
        content = tlv(0x70, bytes.fromhex(der)) + tlv(0x71, b"\0") + tlv(0xFE, b"")
        self._cards[card].objects[SLOTS[slot]] = content

    def op_delete(self, card: int, slot: int) -> None:
        self._cards[card].keys.pop(slot, None)
        self._cards[card].objects.pop(SLOTS[slot], None)

    def op_set_tries(self, card: int, tries: int) -> None:
        self._cards[card].tries = tries

    def op_insert(self, card: int) -> str:
        """Put the card into the first free reader, return its name once pcscd sees it."""
        self._tidy()
        if card in self._places:
            raise PcscError("the card is in a reader already")
        parked, self._parked = self._parked, None
        if parked is not None:
            plug = self._plugs[parked]
            assert plug is not None
            plug.exchange(self._cards[card])
            self._places[card] = parked
            return self._readers[parked]
        place = next((place for place, plug in enumerate(self._plugs) if plug is None), None)
        if place is None:
            raise PcscError(f"all {READERS} readers have a card")
        self._view.wait(self._readers[place], present=False)
        self._plugs[place] = Plug(self._cards[card], self.port + place)
        self._places[card] = place
        self._view.wait(self._readers[place], present=True)
        return self._readers[place]

    def op_remove(self, card: int, wait: bool) -> None:
        """Pull the card; ``wait`` until pcscd knows."""
        place = self._places.pop(card, None)
        if place is None:
            raise PcscError("the card is in no reader")
        plug = self._plugs[place]
        assert plug is not None
        plug.pull()
        self._plugs[place] = None
        if wait:
            self._view.wait(self._readers[place], present=False)

    def op_forget(self, card: int, park: bool) -> None:
        """Destroy the card, wherever it is.

        :param park: leave it in its reader until another takes its place: pcscd takes up to 0.8 s to notice a
            removal and an insertion. Nobody may be connected to it any more.
        """
        self._tidy()
        if card in self._places:
            if park and self._parked is None:
                self._parked = self._places.pop(card)
            else:
                self.op_remove(card, wait=False)
        self._cards.pop(card, None)

    def op_empty(self) -> None:
        """Pull the card that was left behind; wait until pcscd sees no card in any reader that has none."""
        self._tidy()
        parked, self._parked = self._parked, None
        if parked is not None and (plug := self._plugs[parked]) is not None:
            plug.pull()
            self._plugs[parked] = None
        for reader, left in zip(self._readers, self._plugs, strict=True):
            if left is None:
                self._view.wait(reader, present=False)

    def op_fault(self, card: int, kind: str, ins: int, seconds: float, count: int) -> None:
        plug = self._plug(card)
        with plug.changed:
            plug.faults.append(Fault(kind, ins, seconds, count))

    def op_clear_faults(self, card: int) -> None:
        plug = self._plug(card)
        with plug.changed:
            plug.faults.clear()

    def op_wait_struck(self, card: int, count: int, seconds: float) -> bool:
        return self._plug(card).wait_struck(count, seconds)

    def op_state(self, card: int) -> dict[str, Any]:
        applet = self._cards[card]
        self._tidy()
        return {
            "tries": applet.tries,
            "verified": applet.verified,
            "inserted": card in self._places,
            "commands": applet.counts(),
        }

    def _plug(self, card: int) -> Plug:
        place = self._places.get(card)
        plug = None if place is None else self._plugs[place]
        if plug is None:
            raise PcscError("the card is in no reader")
        return plug

    def _tidy(self) -> None:
        """Note cards that pulled themselves."""
        for card, place in list(self._places.items()):
            plug = self._plugs[place]
            if plug is None or plug.pulled:
                self._plugs[place] = None
                del self._places[card]
        if self._parked is not None and (parked := self._plugs[self._parked]) is not None and parked.pulled:
            self._plugs[self._parked] = None
            self._parked = None


def _raise_loopback() -> None:
    """In a new network namespace the loopback device is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        if not flags & IFF_UP:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def main() -> None:
    """Serve requests until stdin ends."""
    answers = sys.stdout
    signal.alarm(START_SECONDS)  # nothing stays behind, should pcscd hang
    try:
        _raise_loopback()
        helper = Helper(Path(sys.argv[1]), int(sys.argv[2]))
    except (PcscError, OSError) as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        return
    signal.alarm(0)
    print(json.dumps({"result": None}), file=answers, flush=True)
    try:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                reply = {"result": getattr(helper, "op_" + request.pop("op"))(**request)}
            except Exception as error:
                reply = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(reply), file=answers, flush=True)
    finally:
        helper.close()


if __name__ == "__main__":
    main()
