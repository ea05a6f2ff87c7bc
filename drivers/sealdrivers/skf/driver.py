"""The SKF driver: :class:`sealdrivers.contract.Driver`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from sealdrivers.contract import ModuleInfo
from sealdrivers.errors import DriverError, ModuleNotLoadable, TokenRemoved
from sealdrivers.skf.device import PRESENT, Device
from sealdrivers.skf.library import Library
from sealdrivers.skf.names import text_of
from sealdrivers.skf.token import SkfToken
from sealdrivers.vendors import ModuleOptions

__all__ = ["SkfDriver", "open_driver"]

logger = logging.getLogger(__name__)


def open_driver(path: Path | str, options: ModuleOptions | None = None) -> SkfDriver:
    """Load an SKF library; there are no options for it.

    It stays loaded until the process ends. Whether the path may be loaded at all is for the caller to say.

    :raises ModuleNotLoadable: no file, no library, or no SKF library.
    """
    real = Path(path).resolve()
    if not real.is_file():
        raise ModuleNotLoadable(f"{real} is no file")
    return SkfDriver(real)


class SkfDriver:
    """One loaded library. Devices stay connected from the first listing that shows them until they are pulled."""

    def __init__(self, path: Path) -> None:
        self._library = Library(path)
        # An SKF library says nothing of itself; its devices do.
        self._info = ModuleInfo(path=str(path), driver="skf", description="SKF library (GM/T 0016)")
        self._devices: dict[bytes, Device] = {}
        self._tokens: dict[tuple[Device, bytes], SkfToken] = {}

    @property
    def info(self) -> ModuleInfo:
        return self._info

    def tokens(self) -> Sequence[SkfToken]:
        """Return the applications on the devices that are plugged in now, each once.

        :raises DriverError: there are devices, and none of them can be used; one that can hides the others' faults.
        """
        names = self._library.names("SKF_EnumDev", PRESENT)
        for name in self._devices.keys() - set(names):
            self._lose(name)
        found: dict[str, SkfToken] = {}
        serials: set[str] = set()
        faults = []
        for name in names:
            try:
                device = self._device(name)
                serial = device.serial or text_of(name)
                if serial in serials:  # one device under two names
                    continue
                listed = [self._token(device, application, serial) for application in device.application_names()]
            except TokenRemoved:
                self._lose(name)
            except DriverError as error:
                logger.warning("device %s: %s", text_of(name), error.message)
                faults.append(error)
            else:
                serials.add(serial)
                for token in listed:
                    found.setdefault(token.uri, token)
        for token in set(self._tokens.values()) - set(found.values()):
            token.drop()
        self._tokens = {(token.device, token.name): token for token in found.values()}
        if faults and not found:
            raise faults[0]
        return tuple(found.values())

    def close(self) -> None:
        """Log out, close everything. The library stays loaded; the process is expected to end."""
        for token in self._tokens.values():
            token.drop()
        self._tokens = {}
        for name in list(self._devices):
            self._lose(name)

    def _device(self, name: bytes) -> Device:
        """Return the connected device of a name; a new one where it was pulled and plugged in again."""
        device = self._devices.get(name)
        if device is not None:
            try:
                device.facts()
                return device
            except TokenRemoved:
                self._lose(name)
        device = self._devices[name] = Device(self._library, name)
        return device

    def _token(self, device: Device, application: bytes, serial: str) -> SkfToken:
        known = self._tokens.get((device, application))
        return known or SkfToken(device, application, self._info, serial)

    def _lose(self, name: bytes) -> None:
        device = self._devices.pop(name, None)
        if device is not None:
            for token in self._tokens.values():
                if token.device is device:
                    token.drop()
            device.close()
