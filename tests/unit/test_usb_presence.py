"""Known keys on USB: libusb, sysfs and udev for real, on umockdev's emulated bus; and what is said of a key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sealagent.devices import Device, DeviceState, describe
from sealdrivers import presence
from sealdrivers.presence import UsbKey, list_keys
from sealdrivers.vendors import UsbDevice, VendorTable, vendor_table
from udev_rules import TARGET, rules
from usb_parts import FakeKey, UsbTestbed, usb_testbed

__all__ = ["usb_testbed"]

TABLE = vendor_table()
LONGMAI = FakeKey(0x055C, 0xE618, serial="E1234567")

# What a program on the emulated bus sees; libusb and libudev meet the emulation only if preloaded.
LIST = """
import json, sys
from sealdrivers.presence import UsbMonitor, list_keys
from sealdrivers.vendors import vendor_table
table, monitor = vendor_table(), UsbMonitor()
for line in sys.stdin:
    found = list_keys(table)
    keys = [[key.entry.name, key.numbers, key.port, key.address, key.serial, key.product, key.accessible]
            for key in found.keys]
    print(json.dumps([keys, len(found.devices), found.fault, monitor.drain()]), flush=True)
"""


class Looker:
    """A program on the emulated bus that looks when asked."""

    def __init__(self, testbed: UsbTestbed) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LIST],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **testbed.environment},
        )
        self.look()

    def look(self) -> Any:
        """Return keys, number of devices, fault, and whether something came or went."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate(timeout=30)


@pytest.fixture
def looker(usb_testbed: UsbTestbed) -> Any:
    program = Looker(usb_testbed)
    yield program
    program.close()


def test_keys_that_come_and_go_are_listed_at_once(usb_testbed: UsbTestbed, looker: Looker) -> None:
    usb_testbed.plug(LONGMAI)
    keys, devices, fault, moved = looker.look()
    assert keys == [["Longmai mToken GM3000", "055c:e618", "1-1", keys[0][3], "E1234567", "Test key", True]]
    assert (devices, fault, moved) == (1, None, True)
    assert looker.look()[3] is False
    usb_testbed.pull(LONGMAI)
    keys_left, devices_left, _, moved = looker.look()
    assert (keys_left, devices_left, moved) == ([], 0, True)
    usb_testbed.plug(LONGMAI)
    ((*_, address, _serial, _product, _accessible),) = looker.look()[0]
    assert address != keys[0][3]


def test_unknown_devices_count_but_are_no_keys(usb_testbed: UsbTestbed, looker: Looker) -> None:
    mouse, hub = FakeKey(0x046D, 0xC077, port="1-2"), FakeKey(0x05E3, 0x0608, port="1-3")
    usb_testbed.plug(mouse, hub, FakeKey(0x5448, 0x0003, serial="A1", port="1-3/1-3.1"))
    keys, devices, _, moved = looker.look()
    assert [(key[0], key[2], key[4]) for key in keys] == [("HaiTai or NETCA", "1-3.1", "A1")]
    assert (devices, moved) == (3, True)


def test_texts_of_a_device_are_taken_with_care(usb_testbed: UsbTestbed, looker: Looker) -> None:
    usb_testbed.plug(FakeKey(0x055C, 0xE618, serial=None, product="\x1b[2J钥匙" + "x" * 1000))
    ((*_, serial, product, _accessible),) = looker.look()[0]
    assert serial == ""
    assert product.startswith("[2J钥匙")
    assert len(product) == presence.MAX_TEXT


def test_a_system_without_usb_or_libusb_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(presence, "SYSFS_DEVICES", tmp_path / "absent")
    assert list_keys(TABLE) == presence.UsbList(fault="this system shows no USB")
    monkeypatch.setattr(presence, "SYSFS_DEVICES", tmp_path)
    monkeypatch.setattr(presence, "_find_library", lambda name: None)
    monkeypatch.setattr("usb.backend.libusb1._lib", None)
    found = list_keys(TABLE)
    assert (found.keys, found.complete) == ((), False)
    assert "libusb-1.0-0" in (found.fault or "")


# The table


def test_the_most_exact_entry_counts_and_then_the_last() -> None:
    assert TABLE.usb_device(0x055C, 0xE618).name == "Longmai mToken GM3000"  # type: ignore[union-attr]
    assert "vendor number" in TABLE.usb_device(0x055C, 1).name  # type: ignore[union-attr]
    assert TABLE.usb_device(0x096E, 0x0807).name == "Feitian ePass2003"  # type: ignore[union-attr]
    assert TABLE.usb_device(0x1234, 1) is None
    own = UsbDevice("Own", 0x055C, (0xE618,), (), "theirs", "theirs", False, "test")
    assert VendorTable((), (*TABLE.usb, own), ()).usb_device(0x055C, 0xE618) is own


# The numbers of drivers.md 2.1 and 7, once more and by hand.
NUMBERS = """
096e:0309 096e:0312 096e:0319 055c:e618 055c:db08 5448:0003 163c:0401 163c:0407 163c:0415 163c:0417 163c:0418 163c:0423
163c:0a03 163c:0a12 6588:1514 22fb:1014 f02e:0101 4612:04b4 04b4:4612 1677:0103 096e:0807 096e:080a 096e:0503 096e:0608
096e:060d 1050:0111 1050:0112 1050:0115 1050:0116 1050:0404 1050:0405 1050:0406 1050:0407 20a0:4108 20a0:4109 20a0:4211
20a0:4230 20a0:42b2 0529:0600 0529:0602 0529:0620 08e6:34cc 08e6:34ce 08e6:34cf 08e6:34d2 08e6:3438 0a89:0025 0a89:0030
072f:90cc 072f:2200 072f:b000 072f:b100
"""


def test_every_known_number_is_in_the_table() -> None:
    exact = [f"{entry.vendor_id:04x}:{product:04x}" for entry in TABLE.usb for product in entry.product_ids]
    assert sorted(exact) == sorted(NUMBERS.split())
    assert {entry.vendor_id for entry in TABLE.usb if not entry.product_ids} == {0x055C, 0x04E6, 0x25DD, 0x096E}


def test_the_udev_rules_are_those_of_the_table() -> None:
    text = TARGET.read_text(encoding="utf-8")
    assert text == rules(TABLE), "run `make udev`"
    assert 'ATTR{idVendor}=="055c", ATTR{idProduct}=="e618", TAG+="uaccess"' in text
    assert "1050" not in text  # pcscd opens it
    assert int(TARGET.name.split("-")[0]) < 73


# What is said of a key


def key_of(name: str, *, accessible: bool | None = True) -> UsbKey:
    (entry,) = [entry for entry in TABLE.usb if entry.name == name]
    return UsbKey(entry, (*entry.product_ids, 0)[0], "1-1", 5, "SN", "Key", accessible)


def only(key: UsbKey, *loaded: dict[str, Any]) -> Device:
    (device,) = describe([key], TABLE, loaded)
    return device


def module(path: str, driver: str = "skf", state: str = "ready") -> dict[str, Any]:
    return {"path": path, "driver": driver, "state": state}


def test_a_key_without_middleware_says_what_to_install_in_both_languages() -> None:
    device = only(key_of("Feitian ePass3000GM"))
    assert device.state is DeviceState.MIDDLEWARE_MISSING
    english, chinese = device.message
    assert "this key needs" in english
    assert english.endswith("which is not installed")
    assert "libes_3000gm.so" in english
    assert "此钥匙需要" in chinese
    assert "尚未安装" in chinese
    assert device.as_json()["missing_middleware"] == device.key.entry.middleware
    assert [each["state"] for each in device.as_json()["modules"]] == ["not_installed"]


def test_a_key_without_any_known_library_says_so() -> None:
    device = only(key_of("WatchData"))
    assert device.state is DeviceState.MIDDLEWARE_MISSING
    assert "knows no library" in device.message[0]
    assert "尚不知" in device.message[1]


@pytest.mark.parametrize(
    ("loaded", "accessible", "state"),
    [
        (module("/elsewhere/libes_3000gm.so"), True, DeviceState.READY),
        (module("/elsewhere/libes_3000gm.so", state="idle"), None, DeviceState.READY),
        (module("/elsewhere/libes_3000gm.so"), False, DeviceState.NO_ACCESS),
        (module("/elsewhere/libes_3000gm.so", state="failed"), True, DeviceState.FAILED),
        (module("/elsewhere/libes_3000gm.so", driver="pkcs11"), True, DeviceState.MIDDLEWARE_MISSING),
        (module("/elsewhere/libother.so"), True, DeviceState.MIDDLEWARE_MISSING),
    ],
)
def test_a_library_counts_wherever_it_lies(loaded: dict[str, Any], accessible: bool | None, state: DeviceState) -> None:
    device = only(key_of("Feitian ePass3000GM", accessible=accessible), loaded)
    assert device.state is state
    assert all(device.message)
    assert all(device.next_step)


def test_a_library_that_is_installed_but_not_used_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "libes_3000gm.so").touch()
    monkeypatch.setattr("sealdrivers.discovery.LIBRARY_DIRECTORIES", (tmp_path,))
    device = only(key_of("Feitian ePass3000GM"))
    assert device.state is DeviceState.NOT_LOADED
    assert device.missing_middleware is None
    assert str(tmp_path) in device.message[0]


def test_a_key_that_pcscd_opens_needs_no_access_of_ours() -> None:
    device = only(
        key_of("Yubico YubiKey", accessible=False), module("/usr/lib/opensc-pkcs11.so", driver="pkcs11", state="idle")
    )
    assert device.state is DeviceState.READY
    assert "pcscd" in device.next_step[0]
