"""USB arrival and removal: which known keys are plugged in, and when to look again.

The list comes from libusb (pyusb), names and serials from sysfs where they can be read: no device is ever opened, since
a vendor's library may be talking to it. That something came or went comes from udev's netlink socket (pyudev); where
there is none, the caller looks from time to time. Nothing here fails for want of a part: it says what is missing.

USB numbers prove no identity. They say which middleware a key needs before any module can show its token.
"""

from __future__ import annotations

import ctypes.util
import errno
import functools
import logging
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealdrivers.vendors import UsbDevice, VendorTable

__all__ = ["UsbKey", "UsbList", "UsbMonitor", "UsbMonitorUnavailable", "list_keys"]

log = logging.getLogger(__name__)

SYSFS_DEVICES = Path("/sys/bus/usb/devices")
DEVICE_FILES = Path("/dev/bus/usb")
UDEV_CONTROL = Path("/run/udev/control")
"""Udev's own socket: it is there when udev runs."""

MAX_TEXT = 126
"""Characters of a string descriptor (USB 2.0, 9.6.7); a device that claims more is cut."""

MAX_DEVICES = 1024
"""Devices looked at in one list: eight full buses."""

MAX_EVENTS = 256
"""Events taken at once, so that a flood of them does not keep the caller's loop."""

_one_at_a_time = threading.Lock()
"""libusb contexts are made and ended under it."""

# The search for a library runs other programs; one that is missing is not searched for at each look.
_find_library = functools.cache(ctypes.util.find_library)


@dataclass(frozen=True, slots=True)
class UsbKey:
    """A known key that is plugged in."""

    entry: UsbDevice
    """What the vendor table says of it."""
    product_id: int
    port: str
    """Where it is plugged in, as sysfs names it (``1-1.4``: bus 1, port 1, port 4 of a hub)."""
    address: int
    """Its number on the bus, another one after each plug."""
    serial: str
    """iSerial; empty where the system does not show it."""
    product: str
    """iProduct; empty where the system does not show it."""
    accessible: bool | None
    """Whether this process may open the device file; None where there are no such files."""

    @property
    def vendor_id(self) -> int:
        return self.entry.vendor_id

    @property
    def numbers(self) -> str:
        """Vendor and product number as everybody writes them (``055c:e618``)."""
        return f"{self.vendor_id:04x}:{self.product_id:04x}"


@dataclass(frozen=True, slots=True)
class UsbList:
    """What one look showed."""

    keys: tuple[UsbKey, ...] = ()
    """The known keys, by port."""
    devices: frozenset[tuple[str, int]] = frozenset()
    """Port and address of every USB device, known or not."""
    fault: str | None = None
    """Why nothing could be listed."""
    complete: bool = True
    """False: the look failed, and what was there before may still be there."""


def list_keys(table: VendorTable) -> UsbList:
    """Return the known keys that are plugged in now. Takes milliseconds and raises nothing."""
    if sys.platform == "linux" and not SYSFS_DEVICES.is_dir():
        return UsbList(fault="this system shows no USB")
    try:
        with _one_at_a_time:
            found = _descriptors()
    except Exception as error:  # libusb and pyusb raise what they like; presence is a convenience
        return UsbList(fault=f"USB cannot be listed: {error}", complete=False)
    keys = []
    for device in found:
        entry = table.usb_device(device.vendor_id, device.product_id)
        if entry is not None:
            keys.append(
                UsbKey(
                    entry=entry,
                    product_id=device.product_id,
                    port=device.port,
                    address=device.address,
                    serial=_sysfs_text(device.port, "serial"),
                    product=_sysfs_text(device.port, "product"),
                    accessible=_accessible(device),
                )
            )
    keys.sort(key=lambda key: (key.port, key.address))
    return UsbList(tuple(keys), frozenset((device.port, device.address) for device in found))


@dataclass(frozen=True, slots=True)
class _Descriptor:
    vendor_id: int
    product_id: int
    bus: int
    address: int
    port: str


def _descriptors() -> list[_Descriptor]:
    """Return every USB device.

    A libusb context learns of changes from udev alone, in a thread of its own: where no udev runs, or before its thread
    has read the news, its list is old (libusb 1.0.26). So each list is made by a fresh context, which goes with it.
    """
    from usb.backend import libusb1

    if "PYUSB_DEBUG" not in os.environ:
        logging.getLogger("usb").setLevel(logging.CRITICAL)  # pyusb logs each failed look as an error; we say it once
    backend = libusb1.get_backend(_find_library)
    if backend is None:
        raise OSError("libusb is not installed, or finds no USB here (Debian, Ubuntu: apt install libusb-1.0-0)")
    libusb1._lib_object = None  # pyusb 1.3.1 keeps one context for ever; there is no public way to get another
    try:
        return _read_all(backend)
    finally:
        backend.finalize()  # after everything that came out of it has gone


def _read_all(backend: Any) -> list[_Descriptor]:
    found: list[_Descriptor] = []
    for device in backend.enumerate_devices():
        if len(found) == MAX_DEVICES:
            log.warning("more than %d USB devices; the rest is not looked at", MAX_DEVICES)
            break
        facts = backend.get_device_descriptor(device)
        ports = ".".join(str(number) for number in facts.port_numbers or ())
        found.append(
            _Descriptor(
                vendor_id=facts.idVendor,
                product_id=facts.idProduct,
                bus=facts.bus,
                address=facts.address,
                port=f"{facts.bus}-{ports}" if ports else f"usb{facts.bus}",
            )
        )
    return found


def _sysfs_text(port: str, name: str) -> str:
    """Return a string descriptor as the kernel read it when the device was plugged in; empty if there is none."""
    try:
        with (SYSFS_DEVICES / port / name).open("rb") as file:
            text = file.read(4 * MAX_TEXT).decode("utf-8", "replace")
    except OSError:
        return ""
    return "".join(letter for letter in text if letter.isprintable())[:MAX_TEXT].strip()


def _accessible(device: _Descriptor) -> bool | None:
    file = DEVICE_FILES / f"{device.bus:03}" / f"{device.address:03}"
    return os.access(file, os.R_OK | os.W_OK) if file.exists() else None


class UsbMonitorUnavailable(Exception):
    """Nothing here tells that a USB device came or went. Never leaves the daemon: it looks from time to time then."""


class UsbMonitor:
    """Tells when a USB device comes or goes, through a descriptor that can be waited for. No thread.

    Where udev runs, its own events are taken, which come when access rights are set; elsewhere those of the kernel.

    :raises UsbMonitorUnavailable: with the reason.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise UsbMonitorUnavailable("events of USB devices are taken from Linux only")
        try:
            import pyudev

            source = "udev" if UDEV_CONTROL.exists() else "kernel"
            self._monitor: Any = pyudev.Monitor.from_netlink(pyudev.Context(), source)
            self._monitor.filter_by("usb", "usb_device")
            self._monitor.start()
        except Exception as error:  # no libudev, no netlink in this sandbox, …
            raise UsbMonitorUnavailable(f"no events of USB devices: {error}") from error
        self.source = source

    def fileno(self) -> int:
        """Return the descriptor, readable when :meth:`drain` has something to say."""
        return int(self._monitor.fileno())

    def drain(self) -> bool:
        """Take what happened so far; say whether a device came or went.

        :raises UsbMonitorUnavailable: the monitor is of no use any more.
        """
        moved = False
        try:
            for _ in range(MAX_EVENTS):
                event = self._monitor.poll(timeout=0)
                if event is None:
                    break
                moved |= event.action in ("add", "remove")
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise UsbMonitorUnavailable(f"no events of USB devices any more: {error.strerror}") from error
            moved = True  # so much happened that some of it was lost
        return moved

    def close(self) -> None:
        """Close the socket."""
        self._monitor = None  # libudev closes it when the last reference goes
