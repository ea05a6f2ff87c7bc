"""Devices of the soft SKF library as seen from outside: folders that are made, filled, locked and pulled.

Nothing here loads the library; a program under test sees a device that something else has written to.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from . import folders
from .keys import KeyKind, session_key

__all__ = ["ADMIN", "ANYONE", "FAULTS", "NEVER", "USER", "SoftSkfToken"]

NEVER, ADMIN, USER, ANYONE = 0, 1, 0x10, 0xFF
"""Rights of a file (GM/T 0016)."""

FAULTS = frozenset(
    (
        *("delay", "hang", "crash", "unplug", "return", "no_output"),
        *("length", "oversize", "overrun", "substitute"),
        *("empty", "single_nul", "unterminated", "layout"),
        *("wrong_pin", "retries", "wide_bool"),
        *("sm2_alg", "signature", "file_size", "holds_lock"),
    )
)
"""Names of faults; README.md says what each does."""


@dataclass(frozen=True)
class SoftSkfToken:
    """One device with one application; :meth:`add_application` makes more."""

    directory: Path
    """The device's own folder; its name is what SKF_EnumDev lists."""
    label: str | bytes
    serial: str
    application: str | bytes
    """Name of the application that the methods mean unless told otherwise."""
    user_pin: str = field(repr=False)
    so_pin: str = field(repr=False)
    library: Path | None = None
    """The library, where it was built already."""

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        label: str | bytes,
        serial: str,
        user_pin: str,
        so_pin: str,
        application: str | bytes = "SOFTSKF",
        name: str | bytes | None = None,
        tries: int = 6,
        factory_pin: bool = False,
        library: Path | None = None,
        **settings: str | bytes | int,
    ) -> SoftSkfToken:
        """Make a device below ``root``.

        :param name: its name in SKF_EnumDev, by default the serial.
        :param tries: wrong PINs until it is locked. :param factory_pin: the user PIN is shown as never changed.
        :param settings: further lines of ``device.conf``: manufacturer, issuer, space, max_buffer,
            insist_on_max_buffer, device_key, eps.
        :raises FileExistsError: there is such a device.
        """
        directory = root / os.fsdecode(folders.octets(serial if name is None else name))
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft.", dir=root))
        token = cls(draft, label, serial, application, user_pin, so_pin, library)
        token.add_application(application, tries=tries, factory_pin=factory_pin)
        token.configure(label=label, serial=serial, **settings)
        if directory.exists():
            shutil.rmtree(draft)
            raise FileExistsError(f"there is a device {directory}")
        draft.rename(directory)  # whole at once: a program that enumerates never sees half a device
        return cls(directory, label, serial, application, user_pin, so_pin, library)

    @property
    def name(self) -> str:
        """The device's name in SKF_EnumDev."""
        return self.directory.name

    def configure(self, **settings: str | bytes | int) -> None:
        """Set lines of ``device.conf``, see :meth:`create`."""
        folders.set_settings(self.directory / "device.conf", settings)

    def add_application(
        self,
        name: str | bytes,
        *,
        user_pin: str | None = None,
        so_pin: str | None = None,
        tries: int = 6,
        factory_pin: bool = False,
        create_files: int = USER,
    ) -> None:
        """Add an application, without the device authentication that SKF_CreateApplication asks for.

        :param create_files: who may create and delete files in it.
        """
        folder = self._application(name)
        for below in ("containers", "files"):
            (folder / below).mkdir(mode=0o700, parents=True)
        pins = {"pin-admin": (so_pin or self.so_pin, False), "pin-user": (user_pin or self.user_pin, factory_pin)}
        for file, (pin, factory) in pins.items():
            folders.set_settings(folder / file, {"pin": pin, "max": tries, "left": tries, "factory": int(factory)})
        folders.set_settings(folder / "application.conf", {"create_files": create_files})

    def add_container(self, name: str | bytes, *, application: str | bytes | None = None) -> Path:
        """Add an empty container, or find it. :return: its folder."""
        folder = self._application(application) / "containers" / os.fsdecode(folders.octets(name))
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def add_key(
        self,
        kind: KeyKind = "sm2",
        *,
        container: str | bytes = "key",
        pem: bytes | None = None,
        sign: bool = True,
        application: str | bytes | None = None,
    ) -> bytes:
        """Put a key pair into a container, which is made if it is not there.

        :param pem: the private key, PKCS#8; by default the process's key of ``kind``.
        :param sign: False for the encryption key.
        :return: the private key in PEM, to make certificates and to check signatures with.
        """
        key = session_key(kind) if pem is None else pem
        folders.write(self.add_container(container, application=application) / f"{_stem(sign)}.key", key)
        return key

    def add_certificate(
        self,
        der: bytes,
        *,
        container: str | bytes = "key",
        sign: bool = True,
        application: str | bytes | None = None,
    ) -> None:
        """Put a certificate (or any octets) into a container."""
        folders.write(self.add_container(container, application=application) / f"{_stem(sign)}.crt", der)

    def add_file(
        self,
        name: str | bytes,
        value: bytes,
        *,
        read: int = ANYONE,
        write: int = USER,
        application: str | bytes | None = None,
    ) -> None:
        """Put a file into the application. :param read: who may read it, see :data:`USER`."""
        folder, key = self._application(application), os.fsdecode(folders.octets(name))
        folders.write(folder / "files" / key, value)
        folders.set_settings(folder / "rights.conf", {f"read.{key}": hex(read), f"write.{key}": hex(write)})

    def add_seal(self, value: bytes, *, application: str | bytes | None = None) -> None:
        """Put in the seal that EPS_ReadESealData reads."""
        folders.write(self._application(application) / "seal", value)

    def set_fault(
        self, name: str, function: str, argument: object = None, *, times: int | None = None, late: bool = False
    ) -> None:
        """Add a fault to this device, see README.md."""
        folders.add_fault(self.directory, FAULTS, name, function, argument, times=times, late=late)

    def clear_faults(self) -> None:
        """Remove this device's faults."""
        folders.clear_faults(self.directory)

    def tries_left(self, *, admin: bool = False, application: str | bytes | None = None) -> int:
        """Return the tries left on a PIN, as the device has them now."""
        return int(folders.settings(self._pin(admin, application))[b"left"])

    def set_tries_left(self, left: int, *, admin: bool = False, application: str | bytes | None = None) -> None:
        """Set the tries left on a PIN; 0 locks it."""
        folders.set_settings(self._pin(admin, application), {"left": left})

    def lock(self) -> None:
        """Lock the user PIN."""
        self.set_tries_left(0)

    def remove(self) -> None:
        """Pull the device: calls with its handles end in SAR_DEVICE_REMOVED, and new lists leave it out."""
        (self.directory / "removed").touch()

    def insert(self) -> None:
        """Plug a pulled device in again: handles of before stay dead, and nobody is logged in."""
        path = self.directory / "insertions"
        folders.set_settings(path, {"count": int(folders.settings(path).get(b"count", b"0")) + 1})
        (self.directory / "removed").unlink(missing_ok=True)

    def destroy(self) -> None:
        """Delete the device."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _application(self, name: str | bytes | None) -> Path:
        return self.directory / "applications" / os.fsdecode(folders.octets(self.application if name is None else name))

    def _pin(self, admin: bool, application: str | bytes | None) -> Path:
        return self._application(application) / ("pin-admin" if admin else "pin-user")


def _stem(sign: bool) -> str:
    return "sign" if sign else "exchange"
