"""python-pkcs11, with its defects met. Nothing else in the project imports ``pkcs11`` (enumerations and errors aside).

The defects of python-pkcs11 0.10.1, each shown by a test in tests/contract/test_pkcs11_binding_defects.py:

1.  ``C_Initialize(NULL)`` promises one thread; two threads crash SoftHSM. → :class:`_Library` initialises with
    CKF_OS_LOCKING_OK.
2.  A vendor's mechanism number is refused, and
3.  each signature reads CKA_KEY_TYPE again and raises for a type the binding does not know, and
4.  each signature calls C_Sign twice (a device that acts on the first call asks for two touches), and
5.  the PIN must be ``str``, which cannot be wiped. → :meth:`Session.sign`, :meth:`Session.login` and
    :meth:`Session.set_pin` call the module's own functions, with plain numbers and the caller's buffer.
6.  Attributes outside its enumerations, or with an odd length, raise while objects are listed. → :class:`_RawMapper`.
7.  A failed signature can leave the session with an active operation. → the caller discards the session after every
    failure (:meth:`Session.close`).
8.  ``Session.close`` raises before C_CloseSession when C_Logout fails, and ``Token.open`` leaves the session open when
    the login fails. → sessions are opened without a PIN and closed without a logout.
9.  Use after ``unload`` is a segmentation fault. → a loaded library is kept for the life of the process.
10. ``wait_for_slot_event`` raises TypeError on each real event, which is lost. → not used; presence is polled.
11. An attribute is read whole, whatever its length. → :meth:`Object.value` asks for the length first.
12. CK_TOKEN_INFO's PIN lengths and the state of a session cannot be read. → :meth:`Slot.token`,
    :meth:`Session.state`.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
import sys
from collections.abc import Mapping
from ctypes import byref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import Attribute
from pkcs11._pkcs11 import lib as _StockLibrary
from pkcs11.attributes import AttributeMapper

from sealdrivers.errors import (
    AccessRefused,
    DeviceFailure,
    DriverError,
    ModuleNotLoadable,
    NotSupported,
    PinRejected,
)
from sealdrivers.pkcs11 import abi, opensc
from sealdrivers.pkcs11.errors import CKR, failure, translated

logger = logging.getLogger(__name__)

__all__ = [
    "MAX_OBJECTS",
    "MAX_SIGNATURE",
    "Attributes",
    "MechanismFacts",
    "Module",
    "Object",
    "Session",
    "Slot",
    "TokenFacts",
]

MAX_OBJECTS = 4096
"""Objects of one class on one token. Real tokens hold tens; a module that never stops finding must stop somewhere."""

MAX_SIGNATURE = 1024
"""Octets of a signature as the module returns it: RSA with 8192 bits."""

_BATCH = 64
"""Handles asked for at once while searching."""


class _Library(_StockLibrary):
    """The binding's library, initialised with locking (defect 1).

    ``initialized`` of the stock class stays False, so that class never finalises on its own.
    """

    functions: Any
    one_thread = False
    """Promise one thread after all: the worker has one."""

    def initialize(self) -> None:
        self.functions = _function_list(self.so)
        arguments = abi.CK_C_INITIALIZE_ARGS(flags=abi.CKF_OS_LOCKING_OK)
        code = self.functions.C_Initialize(None if self.one_thread else byref(arguments))
        if code == CKR["CKR_CANT_LOCK"]:
            code = self.functions.C_Initialize(None)
        if code not in (0, CKR["CKR_CRYPTOKI_ALREADY_INITIALIZED"]):  # the latter: opened twice in this process
            raise failure(code, "C_Initialize")

    def finalize(self) -> None:
        code = self.functions.C_Finalize(None)
        if code not in (0, CKR["CKR_CRYPTOKI_NOT_INITIALIZED"]):
            raise failure(code, "C_Finalize")


def _function_list(path: str) -> Any:
    """Return the module's CK_FUNCTION_LIST. :raises ModuleNotLoadable: the file is no PKCS#11 module."""
    try:
        library = ctypes.CDLL(path)  # never closed (defect 9)
        table = ctypes.POINTER(abi.CK_FUNCTION_LIST)()
        code = library.C_GetFunctionList(byref(table))
    except OSError as error:
        raise ModuleNotLoadable(f"{path} cannot be loaded: {error}") from error
    except AttributeError as error:
        raise ModuleNotLoadable(f"{path} is no PKCS#11 module: it has no C_GetFunctionList") from error
    if code != 0:
        raise ModuleNotLoadable(f"{path} gives no function list (CKR 0x{code:X})", native_code=code)
    return table.contents


class _RawMapper(AttributeMapper):
    """Gives every attribute as the octets the module returned (defect 6); packs as the stock mapper does.

    A class that is only octets also keeps the binding from making up a Python class for each object it finds.
    """

    def unpack_attributes(self, key: Attribute, value: bytes) -> bytes:
        return value


_MAPPER = _RawMapper()
_LIBRARIES: dict[str, _Library] = {}


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """CK_TOKEN_INFO, texts without their padding."""

    label: str
    manufacturer: str
    model: str
    serial: str
    flags: int
    max_pin: int
    """Octets; 0 where the token does not say."""
    min_pin: int

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What makes it this token and no other."""
        return (self.label, self.manufacturer, self.model, self.serial)


@dataclass(frozen=True, slots=True)
class MechanismFacts:
    """CK_MECHANISM_INFO."""

    flags: int
    min_bits: int
    max_bits: int


class Attributes:
    """Attributes of one object as octets, read tolerantly: what is missing or odd counts as not given."""

    def __init__(self, values: Mapping[int, bytes]) -> None:
        self._values = values

    def octets(self, attribute: Attribute) -> bytes:
        return self._values.get(attribute, b"")

    def text(self, attribute: Attribute) -> str:
        return self.octets(attribute).decode("utf-8", "replace").rstrip("\0")

    def number(self, attribute: Attribute) -> int | None:
        """Return a CK_ULONG, or None."""
        value = self.octets(attribute)
        return int.from_bytes(value, sys.byteorder) if len(value) == ctypes.sizeof(ctypes.c_ulong) else None

    def flag(self, attribute: Attribute, *, default: bool) -> bool:
        value = self.octets(attribute)
        return any(value) if value else default


class Object:
    """An object on a token, valid as long as the session it was found in."""

    def __init__(self, session: Session, native: Any) -> None:
        self._session = session
        self._native = native
        self.handle: int = native.handle

    def read(self, *attributes: Attribute) -> Attributes:
        """Read small attributes; those the token does not give are left out."""
        values: dict[int, bytes] = {}
        # All at once; one by one where the token answers a list of which it lacks some with an error.
        for some in [attributes, *((attribute,) for attribute in attributes)]:
            try:
                with translated("C_GetAttributeValue"):
                    values |= self._native.get_attributes(some)
            except (AccessRefused, NotSupported):
                continue
            except DeviceFailure as error:
                if error.native_code != CKR["CKR_FUNCTION_FAILED"]:
                    raise
                continue
            if len(some) > 1:
                break
        return Attributes(values)

    def value(self, limit: int) -> bytes | None:
        """Read CKA_VALUE. None where there is none to read or it is longer than ``limit`` octets (defect 11)."""
        attribute = abi.CK_ATTRIBUTE(type=int(Attribute.VALUE))
        get = self._session.functions.C_GetAttributeValue
        code = get(self._session.handle, self.handle, byref(attribute), 1)
        length = int(attribute.ulValueLen)
        if code != 0 or length == abi.CK_UNAVAILABLE_INFORMATION:
            return None
        if length > limit:
            logger.warning("left an object of %d octets unread; the limit is %d", length, limit)
            return None
        buffer = ctypes.create_string_buffer(max(length, 1))
        attribute.pValue = ctypes.cast(buffer, ctypes.c_void_p)
        code = get(self._session.handle, self.handle, byref(attribute), 1)
        if code != 0:
            raise failure(code, "C_GetAttributeValue")
        return buffer.raw[: min(length, int(attribute.ulValueLen))]

    def destroy(self) -> None:
        with translated("C_DestroyObject"):
            self._native.destroy()


class Session:
    """An open session without a login of its own: PKCS#11 logs an application in and out of a token, not a session."""

    def __init__(self, native: Any, functions: Any, epoch: int) -> None:
        self._native = native
        self.functions = functions
        self.handle: int = native.handle
        self.epoch = epoch
        """The module's life this session belongs to; see :attr:`Module.epoch`."""
        self._buffer = ctypes.create_string_buffer(MAX_SIGNATURE)
        self._length = ctypes.c_ulong()

    def close(self) -> None:
        """Close the session, whatever state it is in (defects 7, 8). Closing the last one logs the user out."""
        self.functions.C_CloseSession(self.handle)

    def state(self) -> int | None:
        """Return CK_SESSION_INFO.state (defect 12), or None where the session is not valid any more."""
        info = abi.CK_SESSION_INFO()
        return int(info.state) if self.functions.C_GetSessionInfo(self.handle, byref(info)) == 0 else None

    def user_logged_in(self) -> bool:
        """Say whether the user is logged in to the token."""
        return self.state() in abi.USER_STATES

    def login(self, pin: bytearray | None) -> None:
        """Log the user in (defect 5). None: the PIN is entered on the device."""
        self._check("C_Login", self.functions.C_Login(self.handle, abi.CKU_USER, *_buffer(pin)))

    def logout(self) -> None:
        self._check("C_Logout", self.functions.C_Logout(self.handle))

    def set_pin(self, old: bytearray | None, new: bytearray | None) -> None:
        """Change the PIN of the user (defect 5). None: both are entered on the device."""
        code = self.functions.C_SetPIN(self.handle, *_buffer(old), *_buffer(new))
        if code == CKR["CKR_DATA_INVALID"]:  # OpenSC 0.23 of a new PIN with letters, which PIV cards do not take
            name = "CKR_DATA_INVALID"
            raise PinRejected(
                f"C_SetPIN: the token does not take this PIN ({name})", native_code=code, native_name=name
            )
        self._check("C_SetPIN", code)

    def sign(
        self, mechanism: abi.CK_MECHANISM, key: int, data: bytes, login: bool = False, pin: bytearray | None = None
    ) -> bytes:
        """Sign with one C_SignInit and one C_Sign (defects 2 to 5).

        After any error the session may have an active operation: close it (defect 7).

        :param key: handle of the private key.
        :param login: the key always authenticates: one C_Login for this signature alone.
        :param pin: for that login. None: it is entered on the device.
        """
        functions = self.functions
        code = functions.C_SignInit(self.handle, mechanism, key)
        if code != 0:
            raise failure(code, "C_SignInit")
        if login:
            self._check("C_Login", functions.C_Login(self.handle, abi.CKU_CONTEXT_SPECIFIC, *_buffer(pin)))
        length = self._length
        length.value = MAX_SIGNATURE
        code = functions.C_Sign(self.handle, data, len(data), self._buffer, length)
        if code != 0:
            raise failure(code, "C_Sign")
        if length.value > MAX_SIGNATURE:
            raise DeviceFailure(f"C_Sign: the module claims a signature of {length.value} octets")
        return ctypes.string_at(self._buffer, length.value)

    def find(self, template: Mapping[Attribute, Any]) -> list[Object]:
        """Return the objects that match. :raises DeviceFailure: more than :data:`MAX_OBJECTS`."""
        with translated("C_FindObjects"):
            search = self._native.get_objects(template, batch_size=_BATCH)
            try:
                found = [Object(self, native) for native in itertools.islice(search, MAX_OBJECTS + 1)]
            finally:
                search.close()
        if len(found) > MAX_OBJECTS:
            raise DeviceFailure(f"the token holds more than {MAX_OBJECTS} objects of one kind")
        return found

    def create(self, template: Mapping[Attribute, Any]) -> Object:
        with translated("C_CreateObject"):
            return Object(self, self._native.create_object(template))

    def generate_rsa(
        self, bits: int, public: Mapping[Attribute, Any], private: Mapping[Attribute, Any]
    ) -> tuple[Object, Object]:
        """Generate an RSA key pair with the exponent 65537; return public and private key."""
        with translated("C_GenerateKeyPair"):
            pair = self._native.generate_keypair(
                pkcs11.KeyType.RSA, bits, store=True, public_template=public, private_template=private
            )
        return Object(self, pair[0]), Object(self, pair[1])

    def generate_ec(
        self, parameters: bytes, public: Mapping[Attribute, Any], private: Mapping[Attribute, Any]
    ) -> tuple[Object, Object]:
        """Generate a key pair on a curve; return public and private key.

        :param parameters: CKA_EC_PARAMS in DER.
        """
        with translated("C_GenerateKeyPair"):
            curve = self._native.create_domain_parameters(
                pkcs11.KeyType.EC, {Attribute.EC_PARAMS: parameters}, local=True
            )
            pair = curve.generate_keypair(store=True, public_template=public, private_template=private)
        return Object(self, pair[0]), Object(self, pair[1])

    @staticmethod
    def _check(doing: str, code: int) -> None:
        if code != 0:
            raise failure(code, doing)


class Slot:
    """A slot with a token in it. Its number stays in here."""

    def __init__(self, module: Module, native: Any) -> None:
        self._module = module
        self._native = native

    def token(self) -> TokenFacts:
        """Read CK_TOKEN_INFO anew (defect 12)."""
        info = abi.CK_TOKEN_INFO()
        code = self._module.functions.C_GetTokenInfo(self._native.slot_id, byref(info))
        if code != 0:
            raise failure(code, "C_GetTokenInfo")
        return TokenFacts(
            label=_text(info.label),
            manufacturer=_text(info.manufacturerID),
            model=_text(info.model),
            serial=_text(info.serialNumber),
            flags=info.flags,
            max_pin=0 if info.ulMaxPinLen == abi.CK_UNAVAILABLE_INFORMATION else info.ulMaxPinLen,
            min_pin=0 if info.ulMinPinLen == abi.CK_UNAVAILABLE_INFORMATION else info.ulMinPinLen,
        )

    def present(self) -> bool:
        """Look anew whether a token is in the slot.

        OpenSC 0.23 looks at its readers while slots are listed; all else of a card that was pulled it answers from
        memory.
        """
        return any(slot._native.slot_id == self._native.slot_id for slot in self._module.slots())

    def mechanisms(self) -> dict[int, MechanismFacts]:
        """Return what the token can do, vendors' numbers included."""
        found = {}
        with translated("C_GetMechanismList"):
            for mechanism in self._native.get_mechanisms():
                info = self._native.get_mechanism_info(mechanism)
                found[int(mechanism)] = MechanismFacts(int(info.flags), info.min_key_length, info.max_key_length)
        return found

    def open(self, *, rw: bool = False) -> Session:
        """Open a session."""
        with translated("C_OpenSession"):
            native = self._native.get_token().open(rw=rw, attribute_mapper=_MAPPER)
        return Session(native, self._module.functions, self._module.epoch)


class Module:
    """A loaded module. It stays loaded until the process ends (defect 9); :meth:`close` only finalises it."""

    def __init__(self, path: Path) -> None:
        """Load and initialise.

        :raises ModuleNotLoadable: no file, no library, no PKCS#11 module, or it refused to initialise.
        """
        name = str(path)
        try:
            if name in _LIBRARIES:
                _LIBRARIES[name].initialize()
            else:
                _function_list(name)  # tells apart why a file is no module; the stock class does not
                with translated("C_Initialize"):
                    _LIBRARIES[name] = _Library(name)
        except ModuleNotLoadable:
            raise
        except DriverError as error:
            raise ModuleNotLoadable(
                error.message, native_code=error.native_code, native_name=error.native_name
            ) from error
        self._library = _LIBRARIES[name]
        if self._library.manufacturer_id.startswith(opensc.MANUFACTURER) and not self._library.one_thread:
            self._library.one_thread = True
            self._library.finalize()
            self._library.initialize()
        self.functions = self._library.functions
        self.manufacturer: str = self._library.manufacturer_id
        self.description: str = self._library.library_description
        self.version: str = "{}.{}".format(*self._library.library_version)
        self.epoch = 0
        """Counts the lives of the module: :meth:`restart` ends every session of the life before."""

    def slots(self) -> list[Slot]:
        """Return the slots with a token in them."""
        with translated("C_GetSlotList"):
            return [Slot(self, native) for native in self._library.get_slots(token_present=True)]

    def restart(self) -> None:
        """Finalise and initialise again. Every session and login of the process is gone after it."""
        self._library.finalize()
        self.epoch += 1
        self._library.initialize()

    def close(self) -> None:
        """Finalise the module."""
        self._library.finalize()
        self.epoch += 1


def _text(field: Any) -> str:
    return bytes(field).rstrip(b" \0").decode("utf-8", "replace")


def _buffer(pin: bytearray | None) -> tuple[Any, int]:
    """Return pointer and length of a PIN without copying it."""
    return (None, 0) if pin is None else ((ctypes.c_char * len(pin)).from_buffer(pin), len(pin))
