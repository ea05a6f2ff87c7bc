"""pcscd with a virtual reader and scripted PIV cards in it, for tests."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from .applet import GENERAL_AUTHENTICATE
from .keys import KeyKind, PrivateKey, certificate, session_key
from .readers import SOCKET

__all__ = ["MODULE_VARIABLE", "SOCKET_VARIABLE", "PivCard", "SmartCardError", "SmartCards", "missing"]

MODULE_VARIABLE = "OPENSC_MODULE"
"""Environment variable that names OpenSC's PKCS#11 module and wins over every known place."""

SOCKET_VARIABLE = "PCSCLITE_CSOCK_NAME"
"""Tells the PC/SC library of a process where pcscd listens; read once, at the first call."""

MODULES = (
    "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so",  # Debian, Ubuntu
    "/usr/lib/aarch64-linux-gnu/opensc-pkcs11.so",
    "/usr/lib64/opensc-pkcs11.so",  # Fedora, openSUSE
    "/usr/lib64/pkcs11/opensc-pkcs11.so",
    "/usr/lib/opensc-pkcs11.so",  # Arch, Alpine
)
DRIVERS = ("/usr/lib/pcsc/drivers/serial/libifdvpcd.so", "/usr/lib64/pcsc/drivers/serial/libifdvpcd.so")
"""Where vpcd's reader driver is."""

RUN = Path("/run/pcscd")
"""Where pcscd leaves its number, whatever socket it is given."""

PORT = 0x8C7B
"""Of the first virtual reader, in a network namespace of its own."""

# A view of the machine in which /run is empty (no other pcscd, no udev, no D-Bus) and pcscd finds no driver but the
# one that is named: a real reader with a real key in it never takes part in a test. The namespace of processes ends
# with its first one, so nothing outlives a test run that is killed.
_NAMESPACES = ("--mount", "--net", "--pid", "--fork", "--kill-child=SIGKILL")
_MOUNT = 'mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs "$0" && exec "$@"'


class SmartCardError(Exception):
    """The smart-card stack or its helper process refused."""


def _first(places: Sequence[str]) -> Path | None:
    return next((Path(place) for place in places if Path(place).is_file()), None)


def find_module() -> Path | None:
    """Return the path of OpenSC's module, or None."""
    named = os.environ.get(MODULE_VARIABLE)
    return _first((named,) if named else MODULES)


def missing() -> str | None:
    """Say what the machine lacks for these fixtures; None: nothing."""
    lacking = [
        name
        for name, there in (
            ("pcscd", shutil.which("pcscd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")),
            ("vsmartcard-vpcd", _first(DRIVERS)),
            ("opensc-pkcs11", find_module()),
        )
        if not there
    ]
    if lacking:
        return f"the smart-card stack is incomplete; install {', '.join(lacking)}"
    return None


def _isolation(folder: str) -> list[str] | None:
    """Return the command that isolates what follows it; None: neither root's rights nor user namespaces are there."""
    for user in ((), ("--user", "--map-root-user")):
        command = ["unshare", *user, *_NAMESPACES, "--", "sh", "-c", _MOUNT, folder]
        done = subprocess.run([*command, "true"], capture_output=True, check=False, timeout=30)
        if done.returncode == 0:
            return command
    return None


def _free_ports() -> int:
    """Return a port that is free together with the one after it."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("", port + 1))
            except OSError:
                continue
            return port
    raise SmartCardError("no two free ports in a row were found")


class SmartCards:
    """A private pcscd with two readers. ``PCSCLITE_CSOCK_NAME`` is set for this process and its children.

    :param directory: an empty directory to work in.
    :raises SmartCardError: it cannot be started, and why.
    """

    def __init__(self, directory: Path) -> None:
        module, driver = find_module(), _first(DRIVERS)
        if (lack := missing()) or module is None or driver is None:
            raise SmartCardError(lack)
        self.module = module
        self.directory = directory
        self._numbers = itertools.count(1)
        shutil.copyfile(driver, directory / "libifdvpcd.so")
        isolated = _isolation(str(driver.parent.parent))
        if isolated is None and os.geteuid() != 0:
            raise SmartCardError(
                "pcscd needs root or user namespaces (unshare --user --mount --net --pid); this machine gives neither"
            )
        if isolated is None and (RUN / "pcscd.comm").exists():
            raise SmartCardError("another pcscd is running and cannot be kept apart: stop it, or allow unshare(2)")
        self._made_run = isolated is None and not RUN.exists()
        self._before = os.environ.get(SOCKET_VARIABLE)
        os.environ[SOCKET_VARIABLE] = str(directory / SOCKET)
        command = [sys.executable, "-m", f"{__package__}.helper", str(directory)]
        command.append(str(PORT if isolated else _free_ports()))
        self._helper = subprocess.Popen(
            [*(isolated or ()), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            cwd=Path(__file__).parent.parent,
        )
        try:
            self._answer()
        except SmartCardError:
            self.close()
            raise

    def new_card(self, *, pin: str = "123456", puk: str = "12345678", tries: int = 3, insert: bool = True) -> PivCard:
        """Make an empty card; its serial number is unique in the session."""
        serial = f"{next(self._numbers):032x}"
        number = self.ask("new", pin=pin, puk=puk, serial=serial, tries=tries)
        card = PivCard(number, serial[-16:], pin, puk, self)
        if insert:
            card.insert()
        return card

    def empty(self) -> None:
        """Clear the readers of what earlier tests left, and wait until pcscd has noticed."""
        self.ask("empty")

    def ask(self, op: str, **facts: Any) -> Any:
        """Let the helper process carry out one request. :raises SmartCardError: it refused."""
        assert self._helper.stdin is not None
        try:
            self._helper.stdin.write(json.dumps({"op": op, **facts}) + "\n")
            self._helper.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer()

    def _answer(self) -> Any:
        assert self._helper.stdout is not None
        line = self._helper.stdout.readline()
        reply = json.loads(line) if line else {"error": "the helper process of the smart cards ended"}
        if "error" in reply:
            raise SmartCardError(reply["error"])
        return reply["result"]

    def close(self) -> None:
        """End pcscd and everything with it, and restore the environment; the directory is left to pytest."""
        try:
            self._helper.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._helper.kill()
            self._helper.communicate()
        (self.directory / SOCKET).unlink(missing_ok=True)
        if self._made_run:
            shutil.rmtree(RUN, ignore_errors=True)
        if self._before is None:
            os.environ.pop(SOCKET_VARIABLE, None)
        else:
            os.environ[SOCKET_VARIABLE] = self._before


@dataclass(frozen=True)
class PivCard:
    """One scripted PIV card. Everything here happens on the card itself, beside the program under test."""

    number: int
    serial: str
    """As OpenSC shows it in CK_TOKEN_INFO."""
    pin: str = field(repr=False)
    puk: str = field(repr=False)
    cards: SmartCards = field(repr=False)

    def put_key(
        self, slot: int = 0x9A, kind: KeyKind = "ec-p256", *, key: PrivateKey | None = None, certified: bool = True
    ) -> PrivateKey:
        """Put a key into a slot (9A, 9C: PIN each time, 9D, 9E: no PIN); OpenSC shows it once it is certified.

        :param key: the pair; by default the session's key of ``kind``.
        :param certified: with a self-signed certificate.
        """
        pair = session_key(kind) if key is None else key
        pkcs8 = pair.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._ask("put_key", slot=slot, pkcs8=pkcs8.hex())
        if certified:
            self.put_certificate(certificate(pair, f"PIV card {self.number}"), slot)
        return pair

    def put_certificate(self, der: bytes, slot: int = 0x9A) -> None:
        """Put a certificate, or any octets in its place, into a slot."""
        self._ask("put_certificate", slot=slot, der=der.hex())

    def put_object(self, tag: int, value: bytes) -> None:
        """Put a data object; ``value`` is the content of the TLV 53."""
        self._ask("put_object", tag=tag, value=value.hex())

    def delete(self, slot: int) -> None:
        """Take key and certificate out of a slot."""
        self._ask("delete", slot=slot)

    def set_tries(self, tries: int) -> None:
        """Set the PIN tries that are left; 0 locks it."""
        self._ask("set_tries", tries=tries)

    def lock(self) -> None:
        """Lock the PIN."""
        self.set_tries(0)

    @property
    def tries(self) -> int:
        """PIN tries that are left."""
        left: int = self._state()["tries"]
        return left

    @property
    def inserted(self) -> bool:
        return bool(self._state()["inserted"])

    def count(self, ins: int) -> int:
        """Return how often a command came in; VERIFY without a PIN, which only asks, is not counted."""
        number: int = self._state()["commands"].get(f"{ins:02x}", 0)
        return number

    def insert(self) -> str:
        """Put the card into the first free reader; return the reader's name once pcscd sees the card."""
        reader: str = self._ask("insert")
        return reader

    def remove(self, *, wait: bool = True) -> None:
        """Pull the card, in the middle of a command if one is under way; ``wait`` until pcscd has noticed."""
        self._ask("remove", wait=wait)

    def delay(self, seconds: float, ins: int = GENERAL_AUTHENTICATE, *, count: int = 1) -> None:
        """Answer the next commands of an INS late."""
        self._ask("fault", kind="delay", ins=ins, seconds=seconds, count=count)

    def hang(self, ins: int = GENERAL_AUTHENTICATE) -> None:
        """Do not answer the next command of an INS until the card is pulled."""
        self._ask("fault", kind="hang", ins=ins, seconds=0, count=1)

    def drop(self, ins: int = GENERAL_AUTHENTICATE) -> None:
        """Leave the reader when the next command of an INS is under way."""
        self._ask("fault", kind="drop", ins=ins, seconds=0, count=1)

    def wait_struck(self, count: int = 1, seconds: float = 30.0) -> None:
        """Wait until so many commands met :meth:`delay`, :meth:`hang` or :meth:`drop`. :raises TimeoutError: none."""
        if not self._ask("wait_struck", count=count, seconds=seconds):
            raise TimeoutError(f"no such command reached the card within {seconds:g} s")

    def destroy(self, *, park: bool = False) -> None:
        """Pull the card, if it is plugged in, and forget it.

        :param park: leave it in the reader, where the next card that is inserted replaces it at once. For the
            end of a test whose program has closed the PKCS#11 module.
        """
        self._ask("forget", park=park)

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._ask("state")
        return state

    def _ask(self, op: str, **facts: Any) -> Any:
        return self.cards.ask(op, card=self.number, **facts)
