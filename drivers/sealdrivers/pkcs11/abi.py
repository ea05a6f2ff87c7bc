"""The part of the PKCS#11 C interface that is called beside python-pkcs11, and by the probe: declarations only.

Names and layouts are those of PKCS#11 2.40 (OASIS, pkcs11t.h, pkcs11f.h). ``CK_ULONG`` is C ``unsigned long``; records
are naturally aligned, and packed to one octet on Windows (clause 2.1 of the base specification).
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_ubyte, c_ulong, c_void_p

__all__ = [
    "CKF_DONT_BLOCK",
    "CKF_LOGIN_REQUIRED",
    "CKF_OS_LOCKING_OK",
    "CKF_PROTECTED_AUTHENTICATION_PATH",
    "CKF_RW_SESSION",
    "CKF_SERIAL_SESSION",
    "CKF_SIGN",
    "CKF_SO_PIN_COUNT_LOW",
    "CKF_SO_PIN_FINAL_TRY",
    "CKF_SO_PIN_LOCKED",
    "CKF_TOKEN_INITIALIZED",
    "CKF_USER_PIN_COUNT_LOW",
    "CKF_USER_PIN_FINAL_TRY",
    "CKF_USER_PIN_INITIALIZED",
    "CKF_USER_PIN_LOCKED",
    "CKF_USER_PIN_TO_BE_CHANGED",
    "CKF_WRITE_PROTECTED",
    "CKU_CONTEXT_SPECIFIC",
    "CKU_SO",
    "CKU_USER",
    "CK_ATTRIBUTE",
    "CK_C_INITIALIZE_ARGS",
    "CK_FUNCTION_LIST",
    "CK_INFO",
    "CK_MECHANISM",
    "CK_MECHANISM_INFO",
    "CK_RSA_PKCS_PSS_PARAMS",
    "CK_SESSION_INFO",
    "CK_SLOT_INFO",
    "CK_TOKEN_INFO",
    "CK_UNAVAILABLE_INFORMATION",
    "USER_STATES",
]

CKF_OS_LOCKING_OK = 0x2

CKF_DONT_BLOCK = 0x1
"""Flag of C_WaitForSlotEvent: answer at once."""

CKF_RW_SESSION = 0x2
CKF_SERIAL_SESSION = 0x4
"""Flags of C_OpenSession."""

# CK_TOKEN_INFO.flags
CKF_WRITE_PROTECTED = 0x2
CKF_LOGIN_REQUIRED = 0x4
CKF_USER_PIN_INITIALIZED = 0x8
CKF_PROTECTED_AUTHENTICATION_PATH = 0x100
CKF_TOKEN_INITIALIZED = 0x400
CKF_USER_PIN_COUNT_LOW = 0x10000
CKF_USER_PIN_FINAL_TRY = 0x20000
CKF_USER_PIN_LOCKED = 0x40000
CKF_USER_PIN_TO_BE_CHANGED = 0x80000
CKF_SO_PIN_COUNT_LOW = 0x100000
CKF_SO_PIN_FINAL_TRY = 0x200000
CKF_SO_PIN_LOCKED = 0x400000

# CK_MECHANISM_INFO.flags
CKF_SIGN = 0x800

CKU_SO = 0
CKU_USER = 1
CKU_CONTEXT_SPECIFIC = 2

USER_STATES = frozenset((1, 3))
"""CKS_RO_USER_FUNCTIONS and CKS_RW_USER_FUNCTIONS: the user is logged in."""

CK_UNAVAILABLE_INFORMATION = c_ulong(-1).value


class _Record(ctypes.Structure):
    if sys.platform == "win32":
        _pack_ = 1


class CK_VERSION(_Record):
    _fields_ = [("major", c_ubyte), ("minor", c_ubyte)]


class CK_INFO(_Record):
    _fields_ = [
        ("cryptokiVersion", CK_VERSION),
        ("manufacturerID", c_ubyte * 32),
        ("flags", c_ulong),
        ("libraryDescription", c_ubyte * 32),
        ("libraryVersion", CK_VERSION),
    ]


class CK_SLOT_INFO(_Record):
    _fields_ = [
        ("slotDescription", c_ubyte * 64),
        ("manufacturerID", c_ubyte * 32),
        ("flags", c_ulong),
        ("hardwareVersion", CK_VERSION),
        ("firmwareVersion", CK_VERSION),
    ]


class CK_TOKEN_INFO(_Record):
    _fields_ = [
        ("label", c_ubyte * 32),
        ("manufacturerID", c_ubyte * 32),
        ("model", c_ubyte * 16),
        ("serialNumber", c_ubyte * 16),
        ("flags", c_ulong),
        ("ulMaxSessionCount", c_ulong),
        ("ulSessionCount", c_ulong),
        ("ulMaxRwSessionCount", c_ulong),
        ("ulRwSessionCount", c_ulong),
        ("ulMaxPinLen", c_ulong),
        ("ulMinPinLen", c_ulong),
        ("ulTotalPublicMemory", c_ulong),
        ("ulFreePublicMemory", c_ulong),
        ("ulTotalPrivateMemory", c_ulong),
        ("ulFreePrivateMemory", c_ulong),
        ("hardwareVersion", CK_VERSION),
        ("firmwareVersion", CK_VERSION),
        ("utcTime", c_ubyte * 16),
    ]


class CK_SESSION_INFO(_Record):
    _fields_ = [("slotID", c_ulong), ("state", c_ulong), ("flags", c_ulong), ("ulDeviceError", c_ulong)]


class CK_MECHANISM_INFO(_Record):
    _fields_ = [("ulMinKeySize", c_ulong), ("ulMaxKeySize", c_ulong), ("flags", c_ulong)]


class CK_MECHANISM(_Record):
    _fields_ = [("mechanism", c_ulong), ("pParameter", c_void_p), ("ulParameterLen", c_ulong)]


class CK_RSA_PKCS_PSS_PARAMS(_Record):
    _fields_ = [("hashAlg", c_ulong), ("mgf", c_ulong), ("sLen", c_ulong)]


class CK_ATTRIBUTE(_Record):
    _fields_ = [("type", c_ulong), ("pValue", c_void_p), ("ulValueLen", c_ulong)]


class CK_C_INITIALIZE_ARGS(_Record):
    _fields_ = [
        ("CreateMutex", c_void_p),
        ("DestroyMutex", c_void_p),
        ("LockMutex", c_void_p),
        ("UnlockMutex", c_void_p),
        ("flags", c_ulong),
        ("pReserved", c_void_p),
    ]


def _function(*arguments: type) -> type:
    return CFUNCTYPE(c_ulong, *arguments)


_CALLED: dict[int, tuple[str, type]] = {
    # position in the function list, name, prototype
    0: ("C_Initialize", _function(POINTER(CK_C_INITIALIZE_ARGS))),
    1: ("C_Finalize", _function(c_void_p)),
    2: ("C_GetInfo", _function(POINTER(CK_INFO))),
    4: ("C_GetSlotList", _function(c_ubyte, c_void_p, POINTER(c_ulong))),
    5: ("C_GetSlotInfo", _function(c_ulong, POINTER(CK_SLOT_INFO))),
    6: ("C_GetTokenInfo", _function(c_ulong, POINTER(CK_TOKEN_INFO))),
    7: ("C_GetMechanismList", _function(c_ulong, c_void_p, POINTER(c_ulong))),
    8: ("C_GetMechanismInfo", _function(c_ulong, c_ulong, POINTER(CK_MECHANISM_INFO))),
    10: ("C_InitPIN", _function(c_ulong, c_void_p, c_ulong)),
    11: ("C_SetPIN", _function(c_ulong, c_void_p, c_ulong, c_void_p, c_ulong)),
    12: ("C_OpenSession", _function(c_ulong, c_ulong, c_void_p, c_void_p, POINTER(c_ulong))),
    13: ("C_CloseSession", _function(c_ulong)),
    15: ("C_GetSessionInfo", _function(c_ulong, POINTER(CK_SESSION_INFO))),
    18: ("C_Login", _function(c_ulong, c_ulong, c_void_p, c_ulong)),
    19: ("C_Logout", _function(c_ulong)),
    22: ("C_DestroyObject", _function(c_ulong, c_ulong)),
    24: ("C_GetAttributeValue", _function(c_ulong, c_ulong, POINTER(CK_ATTRIBUTE), c_ulong)),
    26: ("C_FindObjectsInit", _function(c_ulong, POINTER(CK_ATTRIBUTE), c_ulong)),
    27: ("C_FindObjects", _function(c_ulong, c_void_p, c_ulong, POINTER(c_ulong))),
    28: ("C_FindObjectsFinal", _function(c_ulong)),
    42: ("C_SignInit", _function(c_ulong, POINTER(CK_MECHANISM), c_ulong)),
    43: ("C_Sign", _function(c_ulong, c_char_p, c_ulong, c_void_p, POINTER(c_ulong))),
    59: (
        "C_GenerateKeyPair",
        _function(
            *(c_ulong, POINTER(CK_MECHANISM), POINTER(CK_ATTRIBUTE), c_ulong, POINTER(CK_ATTRIBUTE), c_ulong),
            *(POINTER(c_ulong), POINTER(c_ulong)),
        ),
    ),
    67: ("C_WaitForSlotEvent", _function(c_ulong, POINTER(c_ulong), c_void_p)),
}

_FUNCTION_COUNT = 68
"""Functions in CK_FUNCTION_LIST of version 2."""


class CK_FUNCTION_LIST(_Record):
    _fields_ = [
        ("version", CK_VERSION),
        *(_CALLED.get(position, (f"function_{position}", c_void_p)) for position in range(_FUNCTION_COUNT)),
    ]
