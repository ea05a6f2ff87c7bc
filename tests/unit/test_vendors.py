"""The vendor table: what ships, an operator's corrections, hostile tables, and which profile is a module's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sealdrivers.contract import ModuleInfo
from sealdrivers.host.protocol import from_json, to_json
from sealdrivers.vendors import Sm2Input, Sm2Profile, VendorTableInvalid, vendor_table

PROJECT = Path(__file__).resolve().parents[2]
PROFILES = {profile.name: profile for profile in vendor_table().sm2}


def test_the_shipped_table_is_in_order() -> None:
    table = vendor_table()
    assert {"SoftHSM 2", "OpenSC"} <= {entry.name for entry in table.modules}
    assert {entry.driver for entry in table.modules} == {"pkcs11", "skf"}
    for kind in (table.modules, table.usb, table.sm2):
        assert all(entry.source for entry in kind)
        assert len({entry.name for entry in kind}) == len(kind)
    known = {entry.name for entry in table.modules}
    assert all(set(device.modules) <= known for device in table.usb)


def test_the_operators_file_is_a_valid_empty_table() -> None:
    assert vendor_table([PROJECT / "config" / "vendors.toml"]) == vendor_table()


# The numbers of drivers.md 4, once more and by hand: CKK, key pair generation, sign e.
NUMBERS = {
    "TASS": (0x80000004, 0x80008001, [0x80008000]),
    "Sansec": (0x80000004, 0x80008001, [0x80008104, 0x80008105]),
    "Thales Luna": (0x80000016, 0x80000B20, [0x80000B21]),
    "Koal": (0x80000004, 0x80008001, [0x80008104]),
    "IBM EP11": (0x80050002, 0x8005000A, [0x8005000B]),
    "Longmai mToken GM3000": (0x84000020, 0x83000000, [0x83000000]),
    "Weston-style card": (0x80000001, 0x80000003, [0x80000004]),
    "Cipher card of 2009": (0x80000004, 0x80008001, [0x80008000]),
    "MsSince MK-1": (0x00010001, 0x00010009, [0x00010002]),
    "xipki placeholders": (0xFFFFF001, 0xFFFFF001, [0xFFFFF002]),
}


def test_every_vendors_numbers_are_there() -> None:
    found = {
        profile.name: (
            profile.key_type,
            profile.key_pair_gen,
            [item.number for item in profile.sign if item.input is Sm2Input.E],
        )
        for profile in PROFILES.values()
    }
    assert found == NUMBERS


def test_mechanisms_have_names_for_reports() -> None:
    names = PROFILES["Sansec"].names
    assert names[0x80008104] == "SM2 over e"
    assert names[0x80008102] == "SM2 over Z||M"
    assert names[0x80008001] == "SM2 key pair"
    assert names[0x80009001] == "CKM_SM3"
    assert not any(name.startswith(("CKK", "CKA")) for profile in PROFILES.values() for name in profile.names.values())


def module(file: str = "libx.so", manufacturer: str = "", description: str = "", version: str = "1.0") -> ModuleInfo:
    return ModuleInfo(f"/usr/lib/{file}", "pkcs11", manufacturer, description, version)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (module("libTassPkcs11.so"), "TASS"),
        (module("upkcs11.dll"), "Sansec"),
        (module("libgm3000_pkcs11.so.1"), "Longmai mToken GM3000"),
        (module(manufacturer="SafeNet", description="Chrystoki"), "Thales Luna"),
        (module(manufacturer="SafeNet", description="other"), None),
        (module("libsofthsm2.so", "SoftHSM", "Implementation of PKCS11"), None),
    ],
)
def test_a_profile_is_chosen_by_all_its_conditions(given: ModuleInfo, name: str | None) -> None:
    assert [profile.name for profile in PROFILES.values() if profile.matches(given)] == ([name] if name else [])


@pytest.mark.parametrize(
    ("wanted", "version", "fits"),
    [
        ("", "9.9", True),
        ("1.2-1.4", "1.2", True),
        ("1.2-1.4", "1.4", True),
        ("1.2-1.4", "1.5", False),
        ("0.9-2.255", "1.0", True),
        ("1.2-1.4", "", False),
        ("1.2-1.4", "1.2.3", False),
    ],
)
def test_a_range_of_versions(wanted: str, version: str, fits: bool) -> None:
    profile = replace(PROFILES["TASS"], version=wanted)
    assert profile.matches(module("tass.so", version=version)) is fits


def test_a_profile_survives_the_way_to_the_worker() -> None:
    assert from_json(tuple[Sm2Profile, ...], to_json(vendor_table().sm2)) == vendor_table().sm2


def test_a_further_table_adds_and_replaces(tmp_path: Path) -> None:
    table = tmp_path / "vendors.toml"
    table.write_text(
        '[[module]]\nname = "OpenSC"\ndriver = "pkcs11"\nfiles = ["x"]\nsource = "test"\n'
        '[[usb]]\nname = "Key"\nvendor_id = 0x1234\nmiddleware = "theirs"\nsource = "test"\n'
        '[[sm2]]\nname = "Koal"\nfiles = ["libkoal*"]\nkey_type = 1\nsource = "test"\n'
    )
    found = vendor_table([table, tmp_path / "absent.toml"])
    assert [entry.files for entry in found.modules if entry.name == "OpenSC"] == [("x",)]
    (key,) = [device for device in found.usb if device.name == "Key"]
    assert (key.vendor_id, key.product_ids, key.modules, key.pcsc) == (0x1234, (), (), False)
    assert (key.middleware, key.middleware_zh) == ("theirs", "theirs")
    (koal,) = [profile for profile in found.sm2 if profile.name == "Koal"]
    assert (koal.key_type, koal.sign, koal.matches(module("libkoal.so"))) == (1, (), True)


MODULE = "[[module]]\nname = 'a'\ndriver = 'pkcs11'\nfiles = ['x']\nsource = 's'\n"
USB = "[[usb]]\nname = 'a'\nvendor_id = 1\nmiddleware = 'm'\nsource = 's'\n"
SM2 = "[[sm2]]\nname = 'a'\nsource = 's'\n"


@pytest.mark.parametrize(
    "text",
    [
        "x =",
        "further = 1",
        "module = 1",
        "module = [1]",
        "[[module]]\nname = 'a'",
        MODULE.replace("['x']", "'x'"),
        MODULE.replace("['x']", "[1]"),
        MODULE.replace("['x']", "[]"),
        MODULE.replace("'a'", "''"),
        MODULE.replace("'pkcs11'", "'csp'"),
        MODULE + "extra = 1",
        USB.replace("= 1", "= 0x10000"),
        USB.replace("= 1", "= -1"),
        USB.replace("= 1", "= true"),
        USB.replace("vendor_id = 1\n", ""),
        USB + "product_id = '1'",
        USB + "product_id = [0x10000]",
        USB + "pcsc = 1",
        USB + "middleware_zh = 1",
        SM2 + "key_type = 0x100000000",
        SM2 + "sign = 1",
        SM2 + "sign = [1]",
        SM2 + "sign = [{ mechanism = 1 }]",
        SM2 + "sign = [{ input = 'e' }]",
        SM2 + "sign = [{ mechanism = 1, input = 'm' }]",
        SM2 + "sign = [{ mechanism = 1, input = 'e', answer = 'ber' }]",
        SM2 + "sign = [{ mechanism = 1, input = 'e', further = 1 }]",
        SM2 + "coordinates = [1]",
        SM2 + "quirks = ['unheard-of']",
        SM2 + "other = { X = 'y' }",
        SM2 + "version = '1.0'",
        "#" * ((1 << 20) + 1),
        "x = " + "[" * 5000,
        "\udcff",
    ],
    ids=range(34),
)
def test_a_malformed_table_is_named(tmp_path: Path, text: str) -> None:
    table = tmp_path / "vendors.toml"
    table.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(VendorTableInvalid, match=r"vendors\.toml"):
        vendor_table([table])
