"""USB keys that are not there: umockdev shows emulated ones to programs which run under its preloaded library.

Everything above the kernel is real: libusb, libudev, udev's netlink messages, sysfs files. Nobody answers on the bus.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

__all__ = ["FakeKey", "UsbTestbed", "usb_testbed"]

CHILD = Path(__file__).with_name("usb_testbed_child.py")
PRELOAD = "libumockdev-preload.so.0"


@dataclass(frozen=True)
class FakeKey:
    """An emulated USB device on bus 1. Behind a hub, ``port`` names the hub first (``1-3/1-3.1``)."""

    vendor_id: int
    product_id: int
    serial: str | None = "SN0001"
    product: str = "Test key"
    port: str = "1-1"

    @property
    def path(self) -> str:
        return f"/devices/pci0000:00/0000:00:14.0/usb1/{self.port}"

    def description(self, address: int) -> str:
        """Return it in the form of umockdev-record. String descriptors are not served; sysfs has the texts."""
        numbers = self.vendor_id.to_bytes(2, "little") + self.product_id.to_bytes(2, "little")
        device = bytes((18, 1, 0, 2, 0, 0, 0, 64)) + numbers + bytes((0, 1, 1, 2, 3, 1))
        configuration = bytes((9, 2, 18, 0, 1, 1, 0, 0x80, 50)) + bytes((9, 4, 0, 0, 0, 0xFF, 0, 0, 0))
        environment = {
            "DEVNAME": f"/dev/bus/usb/001/{address:03}",
            "DEVTYPE": "usb_device",
            "SUBSYSTEM": "usb",
            "BUSNUM": "001",
            "DEVNUM": f"{address:03}",
            "MAJOR": 189,
            "MINOR": address - 1,
            "PRODUCT": f"{self.vendor_id:x}/{self.product_id:x}/100",
        }
        attributes = {
            "busnum": 1,
            "devnum": address,
            "idVendor": f"{self.vendor_id:04x}",
            "idProduct": f"{self.product_id:04x}",
            "speed": 480,
            "bConfigurationValue": 1,
            "product": self.product,
            **({} if self.serial is None else {"serial": self.serial}),
        }
        lines = [f"P: {self.path}", f"N: bus/usb/001/{address:03}"]
        lines += [f"E: {name}={value}" for name, value in environment.items()]
        lines += [f"A: {name}={value}\\n" for name, value in attributes.items()]
        lines.append(f"H: descriptors={(device + configuration).hex().upper()}")
        return "\n".join(lines) + "\n\n"


@dataclass
class UsbTestbed:
    """A USB bus for programs started with :attr:`environment`."""

    process: subprocess.Popen[str]
    root: str
    _addresses: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(2, 120)))

    @classmethod
    def start(cls) -> UsbTestbed:
        process = subprocess.Popen(
            ["umockdev-wrapper", sys.executable, str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        return cls(process, process.stdout.readline().strip())

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to see the bus."""
        return {"LD_PRELOAD": PRELOAD, "UMOCKDEV_DIR": self.root}

    def plug(self, *keys: FakeKey) -> None:
        """Plug keys in, each under a new address."""
        self._send(*(("add", key.description(next(self._addresses))) for key in keys))

    def pull(self, *keys: FakeKey) -> None:
        """Pull keys out."""
        self._send(*(("remove", "/sys" + key.path) for key in keys))

    def bounce(self, key: FakeKey, times: int) -> None:
        """Let a plugged-in key lose and find contact, as fast as it goes."""
        again = (("add", key.description(next(self._addresses))) for _ in range(times))
        self._send(*itertools.chain.from_iterable((("remove", "/sys" + key.path), add) for add in again))

    def _send(self, *commands: tuple[str, str]) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(commands) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer == "done\n", answer

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture
def usb_testbed() -> Iterator[UsbTestbed]:
    """An emulated USB bus without devices."""
    if shutil.which("umockdev-wrapper") is None:
        message = "umockdev is not installed (apt install umockdev)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    testbed = UsbTestbed.start()
    yield testbed
    testbed.close()
