"""Replace single functions of a PKCS#11 library in this process: faults and answers that SoftHSM itself never gives.

``C_GetFunctionList`` hands every caller the same table, and SoftHSM's lies in writable memory; a binding that calls
through the table meets the replacement. Only for tests, only in one thread.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["change_attribute", "intercept", "native"]

_ULONG = ctypes.c_ulong
_PTR = ctypes.c_void_p

_FUNCTIONS: dict[str, tuple[int, tuple[type, ...]]] = {
    # name: (position in CK_FUNCTION_LIST, PKCS#11 2.40 clause 6; argument types)
    "C_Initialize": (0, (_PTR,)),
    "C_Finalize": (1, (_PTR,)),
    "C_GetInfo": (2, (_PTR,)),
    "C_GetSlotList": (4, (ctypes.c_ubyte, _PTR, _PTR)),
    "C_GetSlotInfo": (5, (_ULONG, _PTR)),
    "C_GetTokenInfo": (6, (_ULONG, _PTR)),
    "C_GetMechanismList": (7, (_ULONG, _PTR, _PTR)),
    "C_GetMechanismInfo": (8, (_ULONG, _ULONG, _PTR)),
    "C_InitPIN": (10, (_ULONG, _PTR, _ULONG)),
    "C_SetPIN": (11, (_ULONG, _PTR, _ULONG, _PTR, _ULONG)),
    "C_OpenSession": (12, (_ULONG, _ULONG, _PTR, _PTR, _PTR)),
    "C_CloseSession": (13, (_ULONG,)),
    "C_CloseAllSessions": (14, (_ULONG,)),
    "C_GetSessionInfo": (15, (_ULONG, _PTR)),
    "C_Login": (18, (_ULONG, _ULONG, _PTR, _ULONG)),
    "C_Logout": (19, (_ULONG,)),
    "C_CreateObject": (20, (_ULONG, _PTR, _ULONG, _PTR)),
    "C_DestroyObject": (22, (_ULONG, _ULONG)),
    "C_GetAttributeValue": (24, (_ULONG, _ULONG, _PTR, _ULONG)),
    "C_FindObjectsInit": (26, (_ULONG, _PTR, _ULONG)),
    "C_FindObjects": (27, (_ULONG, _PTR, _ULONG, _PTR)),
    "C_FindObjectsFinal": (28, (_ULONG,)),
    "C_SignInit": (42, (_ULONG, _PTR, _ULONG)),
    "C_Sign": (43, (_ULONG, _PTR, _ULONG, _PTR, _PTR)),
    "C_GenerateKeyPair": (59, (_ULONG, _PTR, _PTR, _ULONG, _PTR, _ULONG, _PTR, _PTR)),
    "C_WaitForSlotEvent": (67, (_ULONG, _PTR, _PTR)),
}


class _Attribute(ctypes.Structure):
    _fields_ = [("type", _ULONG), ("value", _PTR), ("length", _ULONG)]


def _slot(module: Path, name: str) -> tuple[_PTR, Callable[..., Any]]:
    library = ctypes.CDLL(str(module))
    table = ctypes.c_void_p()
    library.C_GetFunctionList(ctypes.byref(table))
    if table.value is None:
        raise OSError(f"{module} has no function list")
    position, arguments = _FUNCTIONS[name]
    pointer = ctypes.sizeof(ctypes.c_void_p)  # CK_VERSION is padded to one pointer in front of the functions
    return _PTR.from_address(table.value + pointer * (position + 1)), ctypes.CFUNCTYPE(_ULONG, *arguments)


def native(module: Path, name: str) -> Callable[..., int]:
    """Return one function of the library, to call beside the binding. The result is a CK_RV."""
    entry, prototype = _slot(module, name)
    assert entry.value is not None
    function: Callable[..., int] = prototype(entry.value)
    return function


@contextmanager
def intercept(module: Path, name: str, replacement: Callable[..., int] | int) -> Iterator[None]:
    """Replace one function of the library in this process while the block runs.

    :param replacement: a CK_RV to answer with; or a function that returns one, called with the original function and
        then the C arguments (pointers as integers, or None).
    """
    entry, prototype = _slot(module, name)
    original = native(module, name)
    before = entry.value
    if callable(replacement):
        callback = prototype(partial(replacement, original))
    else:
        callback = prototype(lambda *_arguments: replacement)
    entry.value = ctypes.cast(callback, ctypes.c_void_p).value
    try:
        yield
    finally:
        entry.value = before


def change_attribute(
    module: Path, attribute: int, value: bytes | None = None, *, length: int | None = None
) -> AbstractContextManager[None]:
    """Let C_GetAttributeValue give another value, of the same length as the true one, for one attribute of any object.

    :param length: claim this length instead.
    """

    def call(original: Callable[..., int], session: int, item: int, template: int, count: int) -> int:
        code = original(session, item, template, count)
        for index in range(count):
            entry = _Attribute.from_address(template + index * ctypes.sizeof(_Attribute))
            if entry.type == attribute:
                if length is not None:
                    entry.length = length
                elif value is not None and entry.value and entry.length == len(value):
                    ctypes.memmove(entry.value, value, len(value))
        return code

    return intercept(module, "C_GetAttributeValue", call)
