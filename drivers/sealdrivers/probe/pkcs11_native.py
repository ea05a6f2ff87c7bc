"""A PKCS#11 module called through its own function list, each call announced and timed.

python-pkcs11 is not used here: a report is about the module, and must name the native call that fails.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ctypes import byref, c_ulong
from dataclasses import dataclass
from typing import Any

from pkcs11 import Attribute, ObjectClass

from sealdrivers.contract import ModuleInfo
from sealdrivers.errors import DeviceFailure, NotSupported
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.errors import CKR, failure
from sealdrivers.probe.loading import loaded
from sealdrivers.probe.pkcs11_names import FUNCTIONS
from sealdrivers.probe.section import Section

__all__ = ["MAX_ATTRIBUTE", "Native", "Slot", "opened", "text_of"]

MAX_LIST = 4096
"""Entries of a list of slots or mechanisms."""

MAX_OBJECTS = 4096
"""Objects of one class on one token."""

MAX_ATTRIBUTE = 64 << 10
"""Octets of an attribute that is read."""

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot with a token in it."""

    number: int
    """Counted from 1 in the order they were listed; how the report names it."""
    slot_id: int
    token: abi.CK_TOKEN_INFO

    @property
    def flags(self) -> int:
        return int(self.token.flags)


def text_of(field: Any) -> str:
    """Return a padded text."""
    return bytes(field).rstrip(b" \0").decode("utf-8", "replace")


class Native:
    """The functions of a module.

    :param functions: its CK_FUNCTION_LIST.
    """

    def __init__(self, section: Section, functions: Any) -> None:
        self.section = section
        self.functions = functions
        self.keep = False
        """Do not finalise: a call that waits holds the module's lock."""

    @classmethod
    def load(cls, section: Section) -> Native | None:
        """Load the module, or say why it cannot be."""
        library = loaded(section)
        if library is None:
            return None
        table = ctypes.POINTER(abi.CK_FUNCTION_LIST)()
        code = section.call("C_GetFunctionList", library.C_GetFunctionList, byref(table))
        if code != 0 or not ctypes.cast(table, ctypes.c_void_p).value:
            where = "C_GetFunctionList"
            section.finding("load_failed", where, f"it gives no function list (CKR 0x{code:X})")
            return None
        return cls(section, table.contents)

    def null_entries(self) -> list[str]:
        """Return the names of the functions that the list has no address for."""
        fields = [name for name, *_ in self.functions._fields_[1:]]
        return [name for name, field in zip(FUNCTIONS, fields, strict=True) if self._is_null(field)]

    def _is_null(self, field: str) -> bool:
        return not ctypes.cast(getattr(self.functions, field), ctypes.c_void_p).value

    def status(self, name: str, *arguments: Any, waits: bool = False) -> int:
        """Call a function and return its CKR value. :raises NotSupported: the list has no address for it."""
        if self._is_null(name):
            raise NotSupported(f"the function list has no {name}")
        function: Callable[..., int] = getattr(self.functions, name)
        return self.section.call(name, function, *arguments, waits=waits)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function. :raises DriverError: it did not succeed."""
        code = self.status(name, *arguments)
        if code != 0:
            raise failure(code, name)

    def initialize(self) -> int:
        """Initialise with locking, else for one thread, and return the first answer."""
        arguments = abi.CK_C_INITIALIZE_ARGS(flags=abi.CKF_OS_LOCKING_OK)
        code = self.status("C_Initialize", byref(arguments))
        if code == CKR["CKR_CANT_LOCK"]:
            self.call("C_Initialize", None)
        elif code != 0:
            raise failure(code, "C_Initialize")
        return code

    def info(self) -> abi.CK_INFO:
        info = abi.CK_INFO()
        self.call("C_GetInfo", byref(info))
        return info

    def module_info(self) -> ModuleInfo:
        """Return what the module says of itself, to choose its profile by."""
        info = self.info()
        version = f"{info.libraryVersion.major}.{info.libraryVersion.minor}"
        path = self.section.request.path
        return ModuleInfo(path, "pkcs11", text_of(info.manufacturerID), text_of(info.libraryDescription), version)

    def numbers(self, name: str, *arguments: Any) -> list[int]:
        """Call one of the functions that list numbers, twice: for the size, and for the list."""
        count = c_ulong()
        self.call(name, *arguments, None, byref(count))
        told = count.value
        if told > MAX_LIST:
            raise DeviceFailure(f"{name}: the module says that the list has {told} entries")
        room = (c_ulong * (told + _BATCH))()
        count.value = told
        self.call(name, *arguments, room, byref(count))
        if count.value > told:
            raise DeviceFailure(f"{name}: the module lists {count.value} entries where {told} fit")
        if count.value < told:
            self.section.finding("size_claim", name, f"{told} entries were told, {count.value} written")
        return list(room[: count.value])

    def slots(self) -> list[Slot]:
        """Return the slots with a token that can be read, initialised or not."""
        found: list[Slot] = []
        for slot_id in self.numbers("C_GetSlotList", 1):
            info = abi.CK_TOKEN_INFO()
            with self.section.attempt("C_GetTokenInfo", optional=True):
                self.call("C_GetTokenInfo", slot_id, byref(info))
                found.append(Slot(len(found) + 1, slot_id, info))
                self.section.serial(text_of(info.serialNumber))
        return found

    def tokens(self) -> list[Slot]:
        """Return the slots with an initialised token; a note where there is none."""
        found = [slot for slot in self.slots() if slot.flags & abi.CKF_TOKEN_INITIALIZED]
        if not found:
            self.section.finding("no_token")
        return found

    def mechanism(self, slot: Slot, number: int) -> abi.CK_MECHANISM_INFO:
        info = abi.CK_MECHANISM_INFO()
        self.call("C_GetMechanismInfo", slot.slot_id, number, byref(info))
        return info

    # Sessions

    def open(self, slot: Slot) -> int:
        """Open a session for reading and return its handle."""
        handle = c_ulong()
        self.call("C_OpenSession", slot.slot_id, abi.CKF_SERIAL_SESSION, None, None, byref(handle))
        return handle.value

    @contextmanager
    def session(self, slot: Slot) -> Iterator[int]:
        """Lend a session."""
        handle = self.open(slot)
        try:
            yield handle
        finally:
            self.status("C_CloseSession", handle)

    def find_class(self, session: int, kind: ObjectClass) -> list[int]:
        """Return the handles of the objects of a class."""
        return self.find(session, {Attribute.CLASS: int(kind).to_bytes(ctypes.sizeof(c_ulong), sys.byteorder)})

    def find(self, session: int, template: Mapping[int, bytes]) -> list[int]:
        """Return the handles of the objects that match."""
        rows = (abi.CK_ATTRIBUTE * len(template))()
        kept = []
        for row, (attribute, value) in zip(rows, template.items(), strict=True):
            buffer = ctypes.create_string_buffer(value, max(len(value), 1))
            row.type, row.pValue, row.ulValueLen = attribute, ctypes.cast(buffer, ctypes.c_void_p), len(value)
            kept.append(buffer)
        self.call("C_FindObjectsInit", session, rows, len(rows))
        found: list[int] = []
        try:
            while True:
                batch, count = (c_ulong * _BATCH)(), c_ulong()
                self.call("C_FindObjects", session, batch, _BATCH, byref(count))
                if count.value > _BATCH:
                    raise DeviceFailure(f"C_FindObjects: {count.value} handles where {_BATCH} fit")
                found += batch[: count.value]
                if not count.value:
                    return found
                if len(found) > MAX_OBJECTS:
                    self.section.finding("p11_search_limit", "C_FindObjects", f"more than {MAX_OBJECTS} objects")
                    raise DeviceFailure("C_FindObjects: the search does not end")
        finally:
            self.status("C_FindObjectsFinal", session)

    def value(self, session: int, handle: int, attribute: int) -> bytes | None:
        """Read an attribute; None where the token does not give it."""
        row = abi.CK_ATTRIBUTE(type=attribute)
        code = self.status("C_GetAttributeValue", session, handle, byref(row), 1)
        length = int(row.ulValueLen)
        if code != 0 or length == abi.CK_UNAVAILABLE_INFORMATION:
            return None
        if length > MAX_ATTRIBUTE:
            raise DeviceFailure(f"C_GetAttributeValue: attribute 0x{attribute:X} is said to have {length} octets")
        buffer = ctypes.create_string_buffer(length + _BATCH)
        row.pValue = ctypes.cast(buffer, ctypes.c_void_p)
        self.call("C_GetAttributeValue", session, handle, byref(row), 1)
        written = int(row.ulValueLen)
        if written != length:
            self.section.finding(
                "size_claim", "C_GetAttributeValue", f"attribute 0x{attribute:X}: {length} octets told, {written} given"
            )
        return buffer.raw[: min(length, written)]


@contextmanager
def opened(section: Section) -> Iterator[Native | None]:
    """Lend the module, initialised; None where it cannot be, which is reported."""
    native = Native.load(section)
    if native is not None:
        try:
            native.initialize()
        except NotSupported as error:
            section.finding("p11_null_required", "C_Initialize", error.message)
            native = None
    yield native
    if native is not None and not native.keep:
        native.status("C_Finalize", None)
