"""A thin ctypes client of a PKCS#11 module, to look at its raw answers. No driver: it trusts what it gets."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_ulong, c_void_p
from pathlib import Path

from .sm2_token import SoftSm2Token

__all__ = [
    "CKA",
    "PRIVATE_KEY",
    "PUBLIC_KEY",
    "Attribute",
    "Cryptoki",
    "CryptokiError",
    "Mechanism",
    "Opened",
    "template",
]

_FUNCTIONS = [
    "Initialize",
    "Finalize",
    "GetInfo",
    "GetFunctionList",
    "GetSlotList",
    "GetSlotInfo",
    "GetTokenInfo",
    "GetMechanismList",
    "GetMechanismInfo",
    "InitToken",
    "InitPIN",
    "SetPIN",
    "OpenSession",
    "CloseSession",
    "CloseAllSessions",
    "GetSessionInfo",
    "GetOperationState",
    "SetOperationState",
    "Login",
    "Logout",
    "CreateObject",
    "CopyObject",
    "DestroyObject",
    "GetObjectSize",
    "GetAttributeValue",
    "SetAttributeValue",
    "FindObjectsInit",
    "FindObjects",
    "FindObjectsFinal",
    "EncryptInit",
    "Encrypt",
    "EncryptUpdate",
    "EncryptFinal",
    "DecryptInit",
    "Decrypt",
    "DecryptUpdate",
    "DecryptFinal",
    "DigestInit",
    "Digest",
    "DigestUpdate",
    "DigestKey",
    "DigestFinal",
    "SignInit",
    "Sign",
    "SignUpdate",
    "SignFinal",
    "SignRecoverInit",
    "SignRecover",
    "VerifyInit",
    "Verify",
    "VerifyUpdate",
    "VerifyFinal",
    "VerifyRecoverInit",
    "VerifyRecover",
    "DigestEncryptUpdate",
    "DecryptDigestUpdate",
    "SignEncryptUpdate",
    "DecryptVerifyUpdate",
    "GenerateKey",
    "GenerateKeyPair",
    "WrapKey",
    "UnwrapKey",
    "DeriveKey",
    "SeedRandom",
    "GenerateRandom",
    "GetFunctionStatus",
    "CancelFunction",
    "WaitForSlotEvent",
]  # the order of CK_FUNCTION_LIST, PKCS#11 2.40
OS_LOCKING_OK, RW_SERIAL = 2, 6
USER = 1
PUBLIC_KEY, PRIVATE_KEY = 2, 3
CKA = {
    "CLASS": 0x0,
    "TOKEN": 0x1,
    "PRIVATE": 0x2,
    "LABEL": 0x3,
    "VALUE": 0x11,
    "KEY_TYPE": 0x100,
    "ID": 0x102,
    "SENSITIVE": 0x103,
    "WRAP": 0x106,
    "EXTRACTABLE": 0x162,
    "NEVER_EXTRACTABLE": 0x164,
    "ALWAYS_SENSITIVE": 0x165,
    "KEY_GEN_MECHANISM": 0x166,
    "EC_PARAMS": 0x180,
    "EC_POINT": 0x181,
    "VENDOR_X": 0x80000002,
    "VENDOR_Y": 0x80000003,
}
"""Attributes by their name in the standard; the last two are those of one card header."""


class CryptokiError(Exception):
    """A call answered with a value other than CKR_OK."""

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function}: 0x{code:X}")
        self.code = code


class Attribute(ctypes.Structure):
    """CK_ATTRIBUTE."""

    _fields_ = (("type", c_ulong), ("value", c_void_p), ("length", c_ulong))


class Mechanism(ctypes.Structure):
    """CK_MECHANISM."""

    _fields_ = (("mechanism", c_ulong), ("parameter", c_void_p), ("length", c_ulong))


class _InitializeArgs(ctypes.Structure):
    _fields_ = (("mutexes", c_void_p * 4), ("flags", c_ulong), ("reserved", c_void_p))


class _List(ctypes.Structure):
    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", c_void_p * len(_FUNCTIONS)))


def template(values: dict[int, int | bytes | bool]) -> ctypes.Array[Attribute]:
    """Return an array of CK_ATTRIBUTE; int is CK_ULONG, bool CK_BBOOL."""
    made, kept = (Attribute * len(values))(), []
    for entry, (kind, value) in zip(made, values.items(), strict=True):
        if isinstance(value, bool):
            value = bytes([value])
        elif isinstance(value, int):
            value = bytes(c_ulong(value))
        buffer = ctypes.create_string_buffer(value, len(value))
        entry.type, entry.value, entry.length = kind, ctypes.cast(buffer, c_void_p), len(value)
        kept.append(buffer)
    made.kept = kept  # type: ignore[attr-defined]  # as long as the array lives
    return made


class Cryptoki:
    """A loaded and initialised module. Arguments are ctypes values, bytes, or int for CK_ULONG.

    :param flags: of C_Initialize; None: its argument is NULL.
    """

    def __init__(self, library: Path, flags: int | None = OS_LOCKING_OK) -> None:
        table = ctypes.POINTER(_List)()
        self.native = ctypes.CDLL(str(library))
        self.native.C_GetFunctionList(byref(table))
        self._functions = {
            f"C_{name}": ctypes.CFUNCTYPE(c_ulong)(table.contents.functions[i]) for i, name in enumerate(_FUNCTIONS)
        }
        self.call("C_Initialize", None if flags is None else byref(_InitializeArgs(flags=flags)))

    def code(self, function: str, *arguments: object) -> int:
        """Call a function and return its CK_RV."""
        given = (
            c_ulong(value) if type(value) is int else c_char_p(value) if isinstance(value, bytes) else value
            for value in arguments
        )
        return int(self._functions[function](*given))

    def call(self, function: str, *arguments: object) -> None:
        """Call a function. :raises CryptokiError: it did not succeed."""
        if code := self.code(function, *arguments):
            raise CryptokiError(function, code)

    def number(self, function: str, *arguments: object) -> int:
        """Call a function whose last argument receives a CK_ULONG."""
        out = c_ulong()
        self.call(function, *arguments, byref(out))
        return out.value

    def numbers(self, function: str, *arguments: object) -> list[int]:
        """Call a function that lists CK_ULONGs twice: for their count, then for them."""
        count = c_ulong()
        self.call(function, *arguments, None, byref(count))
        out = (c_ulong * max(count.value, 1))()
        self.call(function, *arguments, out, byref(count))
        return list(out[: count.value])

    def record(self, function: str, *arguments: object, size: int) -> bytes:
        """Call a function whose last argument receives a record."""
        buffer = ctypes.create_string_buffer(size)
        self.call(function, *arguments, buffer)
        return buffer.raw

    def slots(self) -> list[int]:
        """Return the slots with a token."""
        return self.numbers("C_GetSlotList", 1)

    def token_info(self, slot: int) -> bytes:
        """Return CK_TOKEN_INFO."""
        return self.record("C_GetTokenInfo", slot, size=208)

    def slot_of(self, token: SoftSm2Token) -> int:
        """Return the slot of a token, by its serial number."""
        (found,) = [slot for slot in self.slots() if self.token_info(slot)[80:96] == token.serial.encode().ljust(16)]
        return found

    def open(self, token: SoftSm2Token) -> Opened:
        """Open a session."""
        return Opened(self, token)

    def close(self) -> None:
        """Finalise the module, which ends everything."""
        self.call("C_Finalize", None)


class Opened:
    """A session."""

    def __init__(self, cryptoki: Cryptoki, token: SoftSm2Token) -> None:
        self.cryptoki = cryptoki
        self.token = token
        self.slot = cryptoki.slot_of(token)
        self.session = cryptoki.number("C_OpenSession", self.slot, RW_SERIAL, None, None)

    def code(self, function: str, *arguments: object) -> int:
        """Call a function of the session and return its CK_RV."""
        return self.cryptoki.code(function, self.session, *arguments)

    def call(self, function: str, *arguments: object) -> None:
        """Call a function of the session. :raises CryptokiError: it did not succeed."""
        self.cryptoki.call(function, self.session, *arguments)

    def login(self, pin: str | None = None, user: int = USER) -> None:
        """Log in, by default with the right user PIN."""
        octets = (self.token.user_pin if pin is None else pin).encode()
        self.call("C_Login", user, octets, len(octets))

    def login_code(self, pin: str | None = None, user: int = USER) -> int:
        """Log in and return the CK_RV."""
        octets = (self.token.user_pin if pin is None else pin).encode()
        return self.code("C_Login", user, octets, len(octets))

    def find(self, wanted: dict[int, int | bytes | bool], at_once: int = 10) -> list[int]:
        """Return the objects that a search finds."""
        asked, found = template(wanted), []
        self.call("C_FindObjectsInit", asked, len(wanted))
        out, count = (c_ulong * at_once)(), c_ulong(1)
        while count.value:
            self.call("C_FindObjects", out, at_once, byref(count))
            found += out[: count.value]
        self.call("C_FindObjectsFinal")
        return found

    def key(self, kind: int = PRIVATE_KEY) -> int:
        """Return the only key of a class."""
        (found,) = self.find({CKA["CLASS"]: kind})
        return found

    def attribute(self, item: int, kind: int, room: int = 4096) -> bytes:
        """Read an attribute. :raises CryptokiError: there is none."""
        buffer = ctypes.create_string_buffer(room)
        asked = Attribute(kind, ctypes.cast(buffer, c_void_p), room)
        self.call("C_GetAttributeValue", item, byref(asked), 1)
        return buffer.raw[: asked.length]

    def sign_init(self, mechanism: int, key: int | None = None) -> int:
        """Begin a signature and return the CK_RV."""
        return self.code("C_SignInit", byref(Mechanism(mechanism)), self.key() if key is None else key)

    def sign(self, mechanism: int, data: bytes, key: int | None = None, room: int = 512) -> bytes:
        """Sign with one call of C_Sign."""
        if code := self.sign_init(mechanism, key):
            raise CryptokiError("C_SignInit", code)
        buffer, size = ctypes.create_string_buffer(room), c_ulong(room)
        self.call("C_Sign", data, len(data), buffer, byref(size))
        return buffer.raw[: size.value]

    def close(self) -> None:
        """Close the session."""
        self.call("C_CloseSession")
