"""An SKF library whose every call is announced and timed, and what the driver does not look at in its answers."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealdrivers.errors import DriverError
from sealdrivers.probe.section import Section
from sealdrivers.skf import abi
from sealdrivers.skf.application import Application
from sealdrivers.skf.device import PRESENT, Device
from sealdrivers.skf.errors import SAR_NAMES
from sealdrivers.skf.library import Library, Number

__all__ = ["Native", "Raw", "Token", "encoding", "value_name"]

ROOM = 64 << 10
"""Octets of the buffer for a list of names or a certificate."""

_SPARE = 4096
_FILL = 0xA5


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer as it was written."""

    code: int
    told: int
    """The length that was told."""
    written: int
    """Octets up to the last one that changed."""
    octets: bytes
    """As many as were told, or fit."""


@dataclass(frozen=True, slots=True)
class Token:
    """An application on a connected device; the numbers are how the report names them."""

    number: int
    device_number: int
    device: Device
    name: bytes


class Native(Library):
    """The library with every call announced.

    :raises ModuleNotLoadable: it cannot be loaded, or lacks what every SKF library has.
    """

    def __init__(self, section: Section) -> None:
        self.section = section
        section.call("dlopen", super().__init__, Path(section.request.path))

    def status(self, name: str, *arguments: Any, waits: bool = False) -> int:
        return self.section.call(name, super().status, name, *arguments, waits=waits)

    def raw(self, name: str, *arguments: Any, room: int = ROOM) -> Raw:
        """Call a function whose last parameters get an answer and its length, and see what it writes."""
        buffer = (ctypes.c_char * (room + _SPARE))()
        ctypes.memset(buffer, _FILL, room + _SPARE)
        length = Number(room)
        code = self.status(name, *arguments, buffer, length)
        octets = buffer.raw
        written = len(octets.rstrip(bytes([_FILL])))
        return Raw(code, length.value, written, octets[: min(length.value, room)])

    def size(self, name: str, *arguments: Any) -> int | None:
        """Return the size that is told without a buffer; None where the call fails."""
        length = Number(0)
        return length.value if self.status(name, *arguments, None, length) == abi.OK else None

    def look_at_list(self, name: str, *arguments: Any) -> None:
        """Report how a list of names is told and ends."""
        told, answer = self.size(name, *arguments), self.raw(name, *arguments)
        if answer.code != abi.OK or answer.told > ROOM:
            return  # the driver's own reading says more
        if told is None:
            self.section.finding("size_claim", name, "without a buffer it fails")
        elif told != answer.told:
            self.section.finding("size_claim", name, f"{told} octets told without a buffer, {answer.told} with one")
        names = answer.octets.rstrip(b"\0")
        ending = len(answer.octets) - len(names)
        if names and ending < 2:
            self.section.finding("skf_list_end", name, "one NUL" if ending else "no NUL")
        if not names and answer.told < 2:
            self.section.row("empty_lists", {"call": name, "octets": answer.told})

    def devices(self) -> Iterator[tuple[int, Device]]:
        """Connect to each device that is plugged in, and close it afterwards; faults are reported."""
        for number, name in enumerate(dict.fromkeys(self.names("SKF_EnumDev", PRESENT)), 1):
            device = None
            with self.section.attempt(f"device {number}"):
                device = Device(self, name)
            if device is None:
                continue
            self.section.serial(device.serial)
            try:
                yield number, device
            finally:
                device.close()

    def tokens(self) -> Iterator[Token]:
        """Return the applications of all devices, numbered from 1; a note where there is none."""
        count = 0
        for number, device in self.devices():
            names: list[bytes] = []
            with self.section.attempt("SKF_EnumApplication"):
                names = device.application_names()
            for name in names:
                count += 1
                yield Token(count, number, device, name)
        if not count:
            self.section.finding("no_token")

    @contextmanager
    def application(self, token: Token) -> Iterator[Application]:
        """Lend an open application. :raises DriverError: it cannot be opened."""
        application = Application(token.device, token.name)
        try:
            yield application
        finally:
            application.close()

    def container_names(self, application: Application) -> list[bytes]:
        """Return the containers; none where they cannot be listed, which is reported."""
        with self.section.attempt("SKF_EnumContainer"):
            return application.container_names()
        return []

    @contextmanager
    def container(self, application: Application, name: bytes) -> Iterator[int]:
        """Lend a container's handle. :raises DriverError: it cannot be opened."""
        handle = self.open("SKF_OpenContainer", application.handle, name)
        try:
            yield handle
        finally:
            with suppress(DriverError):
                self.call("SKF_CloseContainer", handle)


def encoding(octets: bytes) -> str:
    """Return how a name is encoded, as far as it can be told."""
    if octets.isascii():
        return "ASCII"
    try:
        octets.decode("utf-8")
        return "UTF-8"
    except UnicodeDecodeError:
        pass
    try:
        octets.decode("gb18030")
        return "GB18030"
    except UnicodeDecodeError:
        return "unknown"


def value_name(code: int) -> str:
    """Return the name of a SAR value, or its number."""
    return "SAR_OK" if code == abi.OK else SAR_NAMES.get(code, f"SAR 0x{code:08X}")
