"""A connected device."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from sealdrivers.errors import DriverError, TokenRemoved
from sealdrivers.skf.errors import SAR
from sealdrivers.skf.library import Library
from sealdrivers.skf.records import DeviceFacts

__all__ = ["PRESENT", "Device", "removed"]

_HANDLE_GONE = SAR["SAR_INVALIDHANDLEERR"]
PRESENT = 1  # SKF_EnumDev: only what is plugged in now


class _Closable(Protocol):
    def close(self) -> None: ...


class Device:
    """A connected device. The connection ends for good when the device is pulled.

    :raises DriverError: it cannot be connected to.
    """

    def __init__(self, library: Library, name: bytes) -> None:
        self.library = library
        self.name = name
        self._handle: int | None = library.open("SKF_ConnectDev", name)
        self.applications = 0
        """How many applications were listed last."""
        self.opened: list[_Closable] = []
        """What is open on it, to be closed before it."""
        try:
            facts = library.device_facts(self._handle)
        except DriverError:
            self.close()
            raise
        self.serial = facts.serial
        self.max_buffer = facts.max_buffer

    @property
    def handle(self) -> int:
        """The device's handle. :raises TokenRemoved: the device is gone."""
        if self._handle is None:
            raise TokenRemoved("the token was removed")
        return self._handle

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return self._handle is not None

    def facts(self) -> DeviceFacts:
        """Read what the device says of itself now.

        :raises TokenRemoved: it is gone, or another is in its place; the connection is closed then.
        """
        try:
            facts = self.library.device_facts(self.handle)
        except TokenRemoved as error:
            self.close()
            raise removed(error) from error
        except DriverError as error:
            if error.native_code == _HANDLE_GONE or not self.listed():
                self.close()
                raise removed(error) from error
            raise
        if facts.serial != self.serial:
            self.close()
            raise removed(None)
        return facts

    def listed(self) -> bool:
        """Say whether the library lists the device as plugged in."""
        try:
            return self.name in self.library.names("SKF_EnumDev", PRESENT)
        except DriverError:
            return False

    def application_names(self) -> list[bytes]:
        """Return the names of the applications on the device."""
        names = list(dict.fromkeys(self.library.names("SKF_EnumApplication", self.handle)))
        self.applications = len(names)
        return names

    def close(self) -> None:
        """Close what is open and disconnect; what the library says to it does not matter any more."""
        for item in list(self.opened):
            item.close()
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(DriverError):
                self.library.call("SKF_DisConnectDev", handle)


def removed(error: DriverError | None) -> TokenRemoved:
    """Return the error for a device that was pulled, with the library's own value."""
    code, name = (error.native_code, error.native_name) if error else (None, None)
    return TokenRemoved("the token was removed", native_code=code, native_name=name)
