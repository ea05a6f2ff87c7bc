"""The vendor table: which library belongs to which product, which USB devices need it, and the vendors' own numbers for
SM2 over PKCS#11.

``vendors.toml`` beside this module ships with the agent; an operator's tables of the same form correct and continue
it. PKCS#11 has no SM2 in any version, so each vendor chose numbers of its own, and they collide: 0x80000004 is a key
type in one product and a mechanism in another. A profile is therefore chosen by module, never by number.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path, PurePath
from typing import Any, TypeVar

from sealdrivers.contract import ModuleInfo
from sealdrivers.errors import DriverError

__all__ = [
    "ModuleOptions",
    "Sm2Input",
    "Sm2Mechanism",
    "Sm2Profile",
    "UsbDevice",
    "VendorModule",
    "VendorTable",
    "VendorTableInvalid",
    "vendor_table",
]

MAX_TABLE_BYTES = 1 << 20
"""A vendor table larger than this is refused unread."""

MAX_NUMBER = 0xFFFFFFFF
"""Largest number of a mechanism, key type or attribute: CK_ULONG has 32 bits on some systems."""


class VendorTableInvalid(DriverError):
    """A vendor table is no TOML, or has keys or values that do not belong."""

    code = "vendor_table_invalid"


@dataclass(frozen=True, slots=True)
class VendorModule:
    """An entry ``[[module]]``: a library and where it is usually installed."""

    name: str
    driver: str
    files: tuple[str, ...]
    """File names or absolute paths, with ``*`` and ``?``; the first hit counts."""
    source: str


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """An entry ``[[usb]]``: a key as USB shows it. VID and PID prove no identity; they say what may be plugged in."""

    name: str
    vendor_id: int
    product_ids: tuple[int, ...]
    """Empty: every product of the vendor that no other entry names."""
    modules: tuple[str, ...]
    """Names of ``[[module]]`` entries, any of which serves the key; empty where none is known for this system."""
    middleware: str
    """What to install, in words that go on after "this key needs", where no module is there."""
    middleware_zh: str
    """The same in Chinese, after "此钥匙需要"."""
    pcsc: bool
    """pcscd opens the key, as a CCID reader; the agent's user needs no access to the device file."""
    source: str


class Sm2Input(StrEnum):
    """What a signing mechanism takes (GM/T 0009: e = SM3(Z || M))."""

    E = "e"
    """The 32 octets of e, signed as they are."""
    MESSAGE = "M"
    """A message; the device signs SM3(M), without Z."""
    MESSAGE_WITH_Z = "Z||M"
    """A message; the device puts Z (default ID) in front of it."""
    UNKNOWN = "?"
    """A message; whether with Z is not known."""


@dataclass(frozen=True, slots=True)
class Sm2Mechanism:
    """One signing mechanism of a profile."""

    number: int
    input: Sm2Input
    answer: str
    """``raw`` (r || s, 64 octets), ``der``, or empty where it is not known. Both are accepted from every module."""


@dataclass(frozen=True, slots=True)
class Sm2Profile:
    """An entry ``[[sm2]]``: one vendor's numbers for SM2 over PKCS#11."""

    name: str
    files: tuple[str, ...]
    """Patterns of the library's file name. A profile without any condition is used only where it is named."""
    manufacturer: str
    """Pattern of CK_INFO.manufacturerID; empty: any."""
    description: str
    """Pattern of CK_INFO.libraryDescription; empty: any."""
    version: str
    """Range of CK_INFO.libraryVersion as ``FROM-TO``, both included (``1.0-2.255``); empty: any."""
    key_type: int | None
    """CKA_KEY_TYPE of SM2 keys; None where they are CKK_EC."""
    key_pair_gen: int | None
    """The mechanism that generates a pair."""
    sign: tuple[Sm2Mechanism, ...]
    """Best first."""
    coordinates: tuple[int, ...]
    """Attributes that hold X and Y of a public key, for products without CKA_EC_POINT."""
    quirks: tuple[str, ...]
    """What else is known; see :data:`QUIRKS`."""
    other_names: tuple[str, ...]
    other_numbers: tuple[int, ...]
    """Further numbers of the vendor, by their names: for reports, never used."""
    source: str

    def matches(self, module: ModuleInfo) -> bool:
        """Say whether the profile is the module's, by every condition that the entry states."""
        if not (self.files or self.manufacturer or self.description):
            return False
        file = PurePath(module.path).name.lower()
        return (
            (not self.files or any(fnmatchcase(file, pattern.lower()) for pattern in self.files))
            and _fits(self.manufacturer, module.manufacturer)
            and _fits(self.description, module.description)
            and _in_range(self.version, module.version)
        )

    @property
    def names(self) -> dict[int, str]:
        """Names of the mechanisms of the profile by their numbers, for reports."""
        others = zip(self.other_numbers, self.other_names, strict=True)
        known = {number: name for number, name in others if name.startswith("CKM_")}
        known |= {item.number: f"SM2 over {item.input.value}" for item in self.sign}
        return known | ({self.key_pair_gen: "SM2 key pair"} if self.key_pair_gen is not None else {})


QUIRKS = {
    "private-ec-point": "the private key has CKA_EC_POINT",
    "z-attribute": "an attribute of the vendor's supplies Z to the device",
    "mixed-interface": "the vendor's other interface shares the module's state",
}
"""Quirks that a profile may name, and what they mean."""


@dataclass(frozen=True, slots=True)
class ModuleOptions:
    """What a driver is told with the module's path."""

    sm2: tuple[Sm2Profile, ...] = ()
    """Profiles to choose from (PKCS#11)."""
    sm2_profile: str = ""
    """Name of the one to use whatever it matches; empty: the last that matches."""
    findings: str = ""
    """Folder where a driver keeps what it found out about libraries; empty: nowhere."""

    def profile_for(self, module: ModuleInfo) -> Sm2Profile | None:
        """Return the module's profile: the one that is named, else the last that matches (an operator's)."""
        if self.sm2_profile:
            return next((profile for profile in self.sm2 if profile.name == self.sm2_profile), None)
        return next((profile for profile in reversed(self.sm2) if profile.matches(module)), None)


@dataclass(frozen=True, slots=True)
class VendorTable:
    """All entries, an operator's corrections applied."""

    modules: tuple[VendorModule, ...]
    usb: tuple[UsbDevice, ...]
    sm2: tuple[Sm2Profile, ...]

    def usb_device(self, vendor_id: int, product_id: int) -> UsbDevice | None:
        """Return the entry for a device: the most exact one, and of equally exact ones the last (the operator's)."""
        found = [entry for entry in self.usb if entry.vendor_id == vendor_id]
        exact = [entry for entry in found if product_id in entry.product_ids]
        return next(reversed(exact or [entry for entry in found if not entry.product_ids]), None)


def vendor_table(files: Sequence[Path] = ()) -> VendorTable:
    """Return the table that ships in the package, corrected and continued by further tables, as far as they exist.

    A later entry replaces one of the same kind and name.

    :raises VendorTableInvalid: one of the tables is malformed.
    """
    modules: dict[str, VendorModule] = {}
    usb: dict[str, UsbDevice] = {}
    sm2: dict[str, Sm2Profile] = {}
    shipped = resources.files("sealdrivers").joinpath("vendors.toml").read_bytes()
    for name, data in [("vendors.toml", shipped), *_read(files)]:
        table = _parse(name, data)
        modules |= _entries(name, table, "module", _module)
        usb |= _entries(name, table, "usb", _usb)
        sm2 |= _entries(name, table, "sm2", _sm2)
        if table:
            raise VendorTableInvalid(f"{name}: a vendor table has [[module]], [[usb]] and [[sm2]] entries only")
    return VendorTable(tuple(modules.values()), tuple(usb.values()), tuple(sm2.values()))


def _read(files: Iterable[Path]) -> list[tuple[str, bytes]]:
    tables = []
    for file in files:
        try:
            with file.open("rb") as stream:
                tables.append((str(file), stream.read(MAX_TABLE_BYTES + 1)))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise VendorTableInvalid(f"{file}: {error.strerror}") from error
    return tables


def _parse(name: str, data: bytes) -> dict[str, Any]:
    if len(data) > MAX_TABLE_BYTES:
        raise VendorTableInvalid(f"{name} is larger than {MAX_TABLE_BYTES} octets")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise VendorTableInvalid(f"{name}: {error}") from None


_T = TypeVar("_T", VendorModule, UsbDevice, Sm2Profile)


def _entries(file: str, table: dict[str, Any], kind: str, build: Callable[[_Entry], _T]) -> dict[str, _T]:
    found = table.pop(kind, [])
    if not isinstance(found, list):
        raise VendorTableInvalid(f"{file}: {kind} is written as [[{kind}]] entries")
    built: dict[str, _T] = {}
    for number, values in enumerate(found, 1):
        entry = _Entry(f"{file}, [[{kind}]] {number}", values)
        item = build(entry)
        entry.end()
        built[item.name] = item
    return built


class _Entry:
    """One entry while it is read: each key is taken once, and none may be left."""

    def __init__(self, where: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise VendorTableInvalid(f"{where}: an entry has keys and values")
        self._where = where
        self._left: dict[str, Any] = dict(values)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._left.pop(key, default)
        if not isinstance(value, str) or (not value and default is None):
            raise self.wrong(key, "a text that is not empty" if default is None else "a text")
        return value

    def texts(self, key: str, *, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        value = self._left.pop(key, default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
            raise self.wrong(key, "a list of texts, none empty")
        if not value and default is None:
            raise self.wrong(key, "a list with at least one text")
        return tuple(value)

    def number(self, key: str, largest: int = MAX_NUMBER, *, required: bool = False) -> int | None:
        value = self._left.pop(key, None)
        if value is None and not required:
            return None
        if type(value) is not int or not 0 <= value <= largest:
            raise self.wrong(key, f"a number from 0 to 0x{largest:X}")
        return value

    def numbers(self, key: str, largest: int = MAX_NUMBER) -> tuple[int, ...]:
        value = self._left.pop(key, [])
        if not isinstance(value, list) or not all(type(item) is int and 0 <= item <= largest for item in value):
            raise self.wrong(key, f"a list of numbers from 0 to 0x{largest:X}")
        return tuple(value)

    def flag(self, key: str) -> bool:
        value = self._left.pop(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def has_list(self, key: str) -> bool:
        return isinstance(self._left.get(key), list)

    def tables(self, key: str) -> list[_Entry]:
        value = self._left.pop(key, [])
        if not isinstance(value, list):
            raise self.wrong(key, "a list of tables")
        return [_Entry(f"{self._where}, {key} {number}", item) for number, item in enumerate(value, 1)]

    def table(self, key: str) -> Mapping[str, Any]:
        value = self._left.pop(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "a table")
        return value

    def wrong(self, key: str, wanted: str) -> VendorTableInvalid:
        return VendorTableInvalid(f"{self._where}: {key} must be {wanted}")

    def end(self) -> None:
        if self._left:
            raise VendorTableInvalid(f"{self._where}: there is no such key: {', '.join(sorted(self._left))}")


def _module(entry: _Entry) -> VendorModule:
    driver = entry.text("driver")
    if driver not in ("pkcs11", "skf"):
        raise entry.wrong("driver", 'one of "pkcs11" and "skf"')
    return VendorModule(entry.text("name"), driver, entry.texts("files"), entry.text("source"))


def _usb(entry: _Entry) -> UsbDevice:
    vendor = entry.number("vendor_id", 0xFFFF, required=True)
    assert vendor is not None
    if entry.has_list("product_id"):
        products = entry.numbers("product_id", 0xFFFF)
    else:
        product = entry.number("product_id", 0xFFFF)
        products = () if product is None else (product,)
    middleware = entry.text("middleware")
    return UsbDevice(
        name=entry.text("name"),
        vendor_id=vendor,
        product_ids=products,
        modules=entry.texts("modules", default=()),
        middleware=middleware,
        middleware_zh=entry.text("middleware_zh", "") or middleware,
        pcsc=entry.flag("pcsc"),
        source=entry.text("source"),
    )


def _sm2(entry: _Entry) -> Sm2Profile:
    sign = []
    for item in entry.tables("sign"):
        number = item.number("mechanism", required=True)
        assert number is not None
        kind, answer = item.text("input"), item.text("answer", "")
        if kind not in Sm2Input.__members__.values():
            raise item.wrong("input", "one of " + ", ".join(f'"{known}"' for known in Sm2Input))
        if answer not in ("", "raw", "der"):
            raise item.wrong("answer", '"raw", "der" or empty')
        item.end()
        sign.append(Sm2Mechanism(number, Sm2Input(kind), answer))
    version, quirks = entry.text("version", ""), entry.texts("quirks", default=())
    if version and _RANGE.fullmatch(version) is None:
        raise entry.wrong("version", 'a range such as "1.0-2.255"')
    if unknown := [quirk for quirk in quirks if quirk not in QUIRKS]:
        raise entry.wrong("quirks", f"of {', '.join(QUIRKS)}, not {unknown[0]}")
    coordinates = entry.numbers("coordinates")
    if len(coordinates) not in (0, 2):
        raise entry.wrong("coordinates", "the attributes of X and Y")
    other = entry.table("other")
    if not all(type(number) is int and 0 <= number <= MAX_NUMBER for number in other.values()):
        raise entry.wrong("other", "a table of names and numbers")
    return Sm2Profile(
        name=entry.text("name"),
        files=entry.texts("files", default=()),
        manufacturer=entry.text("manufacturer", ""),
        description=entry.text("description", ""),
        version=version,
        key_type=entry.number("key_type"),
        key_pair_gen=entry.number("key_pair_gen"),
        sign=tuple(sign),
        coordinates=coordinates,
        quirks=quirks,
        other_names=tuple(other),
        other_numbers=tuple(other.values()),
        source=entry.text("source"),
    )


_RANGE = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})-([0-9]{1,3})\.([0-9]{1,3})")
_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})")


def _fits(pattern: str, text: str) -> bool:
    return not pattern or fnmatchcase(text.lower(), pattern.lower())


def _in_range(wanted: str, version: str) -> bool:
    if not wanted:
        return True
    limits, given = _RANGE.fullmatch(wanted), _VERSION.fullmatch(version)
    if limits is None or given is None:
        return False
    first, last = (int(limits[1]), int(limits[2])), (int(limits[3]), int(limits[4]))
    return first <= (int(given[1]), int(given[2])) <= last
