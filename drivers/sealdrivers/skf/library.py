"""A loaded SKF library: its functions, and what has to be watched in their answers.

A library is not trusted to keep to the sizes it is given (:mod:`sealdrivers.buffers`): no answer at all, one longer
than the buffer, or one written beyond it are errors of the device.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sealdrivers.buffers import FILLS, Buffer
from sealdrivers.errors import DeviceFailure, ModuleNotLoadable, NotSupported
from sealdrivers.skf import abi
from sealdrivers.skf.errors import failure
from sealdrivers.skf.names import name_list
from sealdrivers.skf.records import DeviceFacts, device_facts

__all__ = ["Library", "Number", "secret"]

MAX_NAME_LIST: Final = 64 << 10
"""Octets of a list of names."""

_DEVINFO_ROOM: Final = 512
_FILLED_NUMBER: Final = 0xA5A5A5A5


class Number:
    """Room for a ULONG or BOOL; eight octets, of which the first four count whatever the library makes of the type."""

    def __init__(self, value: int = _FILLED_NUMBER) -> None:
        self._octets = ctypes.create_string_buffer(value.to_bytes(4, sys.byteorder), 16)
        self._as_parameter_ = ctypes.c_void_p(ctypes.addressof(self._octets))

    @property
    def value(self) -> int:
        return int.from_bytes(self._octets.raw[:4], sys.byteorder)

    @property
    def known(self) -> int | None:
        """The value, or None where nothing was written."""
        return None if self.value == _FILLED_NUMBER else self.value


@contextmanager
def secret(pin: bytearray) -> Iterator[ctypes.Array[ctypes.c_char]]:
    """Lend a PIN as a C string, which is wiped afterwards."""
    size = len(pin)
    buffer = (ctypes.c_char * (size + 1))()
    try:
        if size:
            ctypes.memmove(buffer, (ctypes.c_char * size).from_buffer(pin), size)
        yield buffer
    finally:
        ctypes.memset(buffer, 0, size + 1)


class Library:
    """A loaded library. It stays loaded until the process ends: some crash when they are unloaded (NETCA's NoUnload).

    :raises ModuleNotLoadable: it cannot be loaded, or lacks what every SKF library has.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if sys.platform == "win32":
                loaded: ctypes.CDLL = ctypes.WinDLL(str(path))
            else:
                loaded = ctypes.CDLL(str(path))
        except OSError as error:
            raise ModuleNotLoadable(f"{path} cannot be loaded: {error}") from None
        self._functions: dict[str, Callable[..., int]] = {}
        for name, parameters in abi.PROTOTYPES.items():
            function = _resolve(loaded, name)
            if function is not None:
                function.argtypes = parameters
                function.restype = ctypes.c_uint32
                self._functions[name] = function
        missing = [name for name in abi.REQUIRED if name not in self._functions]
        if missing:
            raise ModuleNotLoadable(f"{path} is no SKF library: it lacks {', '.join(missing)}")

    def offers(self, *names: str) -> bool:
        """Say whether the library has the functions."""
        return all(name in self._functions for name in names)

    def status(self, name: str, *arguments: Any) -> int:
        """Call a function and return its SAR value. :raises NotSupported: the library has none of this name."""
        function = self._functions.get(name)
        if function is None:
            raise NotSupported(f"the library has no {name}")
        return function(*arguments)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function. :raises DriverError: it did not succeed."""
        code = self.status(name, *arguments)
        if code != abi.OK:
            raise failure(code, name)

    def open(self, name: str, *arguments: Any) -> int:
        """Call a function whose last parameter gets a handle, and return it."""
        handle = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(handle))
        if not handle.value:
            raise DeviceFailure(f"{name}: success without a handle")
        return handle.value

    def record(self, name: str, *arguments: Any, size: int) -> bytes:
        """Call a function whose last parameter gets a record of known size."""
        buffer = Buffer(size, fill=0)
        self.call(name, *arguments, buffer.octets)
        answer = buffer.take(size, name)
        if not any(answer):
            raise DeviceFailure(f"{name}: success without output")
        return answer

    def octets(
        self, name: str, *arguments: Any, room: int, after: tuple[Any, ...] = (), repeatable: bool = True
    ) -> bytes:
        """Call a function whose parameters ``octets, length`` get an answer of at most ``room`` octets.

        The size is not asked for beforehand: what a library says without a buffer may differ from what it writes.

        :param after: parameters behind those two.
        :param repeatable: it may be called again, to tell an answer from what was in the buffer before.
        """
        for fill in FILLS if repeatable else FILLS[:1]:
            buffer, length = Buffer(room, fill), Number(room)
            self.call(name, *arguments, buffer.octets, length, *after)
            answer = buffer.take(length.value, name)
            if not buffer.looks_unwritten(answer):
                return answer
        raise DeviceFailure(f"{name}: success without output, or with less than the library says")

    def names(self, name: str, *arguments: Any) -> list[bytes]:
        """Call one of the functions that list names."""
        return name_list(self.octets(name, *arguments, room=MAX_NAME_LIST))

    def device_facts(self, device: int) -> DeviceFacts:
        """Return what a device says of itself.

        :raises DeviceFailure: the library's record is of a layout that is not known. How long it is shows by what was
            written; twice, should it end with octets that the buffer held before.
        """
        longest = b""
        for fill in FILLS:
            buffer = Buffer(_DEVINFO_ROOM, fill)
            self.call("SKF_GetDevInfo", device, buffer.octets)
            record = buffer.octets.raw[: buffer.written()]
            longest = max(longest, record, key=len)
            if len(longest) in (abi.PACKED_DEVINFO, abi.NATURAL_DEVINFO):
                break
        return device_facts(longest)


def _resolve(loaded: ctypes.CDLL, name: str) -> Any:
    for exported in abi.decorated_names(name):
        try:
            return loaded[exported]
        except AttributeError:
            continue
    return None
