"""python-pkcs11, with its defects met. Nothing else in the project imports ``pkcs11`` (enumerations and errors aside).

The defects of python-pkcs11 0.10.1, each shown by a test in tests/contract/test_pkcs11_binding_defects.py:

1.  ``C_Initialize(NULL)`` promises one thread; two threads crash SoftHSM. → :class:`_Library` initialises with
    CKF_OS_LOCKING_OK.
2.  A vendor's mechanism number is refused, and
3.  each signature reads CKA_KEY_TYPE again and raises for a type the binding does not know, and
4.  each signature calls C_Sign twice (a device that acts on the first call asks for two touches), and
5.  the PIN must be ``str``, which cannot be wiped. → :meth:`Session.sign`, :meth:`Session.login`,
    :meth:`Session.set_pin` and :meth:`Session.init_pin` call the module's own functions, with plain numbers and the
    caller's buffer.
6.  Attributes outside its enumerations, or with an odd length, raise while objects are listed. → :class:`_RawMapper`.
7.  A failed signature can leave the session with an active operation. → the caller discards the session after every
    failure (:meth:`Session.close`).
8.  ``Session.close`` raises before C_CloseSession when C_Logout fails, and ``Token.open`` leaves the session open when
    the login fails. → sessions are opened without a PIN and closed without a logout.
9.  Use after ``unload`` is a segmentation fault. → a loaded library is kept for the life of the process.
10. ``wait_for_slot_event`` raises TypeError on each real event, which is lost. → :meth:`Module.slot_event`.
11. An attribute is read whole, whatever its length. → :meth:`Object.value` asks for the length first.
12. CK_TOKEN_INFO's PIN lengths and the state of a session cannot be read. → :meth:`Slot.token`,
    :meth:`Session.state`.
13. A search in a session that is not valid any more raises a second time, where nothing can catch it, and
14. the sizes that a module names are believed: an absurd one costs gigabytes and minutes, one beyond the buffer memory
    that is not ours. → :mod:`sealdrivers.pkcs11.calls` asks for attributes, objects, slots and mechanisms.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Mapping
from ctypes import byref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import Attribute, ObjectClass
from pkcs11._pkcs11 import lib as _StockLibrary
from pkcs11.attributes import AttributeMapper

from sealdrivers.errors import DeviceFailure, DriverError, ModuleNotLoadable, PinRejected
from sealdrivers.pkcs11 import abi, calls, opensc
from sealdrivers.pkcs11.errors import CKR, failure, translated

logger = logging.getLogger(__name__)

__all__ = [
    "MAX_OBJECTS",
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

    def __init__(self, session: Session, handle: int) -> None:
        self._session = session
        self.handle = handle

    def read(self, *attributes: Attribute) -> Attributes:
        """Read small attributes; those the token does not give are left out (defects 6, 14)."""
        return Attributes(calls.read(self._session.functions, self._session.handle, self.handle, attributes))

    def value(self, limit: int, attribute: int = Attribute.VALUE) -> bytes | None:
        """Read one attribute, by default CKA_VALUE, of any number (defects 6, 11).

        None where there is none to read or it is longer than ``limit`` octets.
        """
        return calls.read_long(self._session.functions, self._session.handle, self.handle, attribute, limit)

    def destroy(self) -> None:
        code = self._session.functions.C_DestroyObject(self._session.handle, self.handle)
        if code != 0:
            raise failure(code, "C_DestroyObject")


class Session:
    """An open session without a login of its own: PKCS#11 logs an application in and out of a token, not a session."""

    def __init__(self, native: Any, functions: Any, epoch: int) -> None:
        self._native = native
        self.functions = functions
        self.handle: int = native.handle
        self.epoch = epoch
        """The module's life this session belongs to; see :attr:`Module.epoch`."""
        self._signer = calls.Signer(functions)

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

    def login_admin(self, pin: bytearray) -> None:
        """Log the security officer in (defect 5), in a read/write session beside which no read-only one is open."""
        self._check("C_Login", self.functions.C_Login(self.handle, abi.CKU_SO, *_buffer(pin)))

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

    def init_pin(self, new: bytearray) -> None:
        """Set the PIN of the user, as the security officer (defect 5)."""
        self._check("C_InitPIN", self.functions.C_InitPIN(self.handle, *_buffer(new)))

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
        return self._signer.sign(self.handle, data)

    def find(self, template: Mapping[Attribute, Any]) -> list[Object]:
        """Return the objects that match. :raises DeviceFailure: more than :data:`MAX_OBJECTS`."""
        handles = calls.find(self.functions, self.handle, template, MAX_OBJECTS)
        return [Object(self, handle) for handle in handles]

    def create(self, template: Mapping[Attribute, Any]) -> Object:
        with translated("C_CreateObject"):
            return Object(self, self._native.create_object(template).handle)

    def generate_rsa(
        self, bits: int, public: Mapping[Attribute, Any], private: Mapping[Attribute, Any]
    ) -> tuple[Object, Object]:
        """Generate an RSA key pair with the exponent 65537; return public and private key."""
        with translated("C_GenerateKeyPair"):
            pair = self._native.generate_keypair(
                pkcs11.KeyType.RSA, bits, store=True, public_template=public, private_template=private
            )
        return Object(self, pair[0].handle), Object(self, pair[1].handle)

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
        return Object(self, pair[0].handle), Object(self, pair[1].handle)

    def generate_pair(
        self, mechanism: int, public: Mapping[Attribute, Any], private: Mapping[Attribute, Any]
    ) -> tuple[Object, Object]:
        """Generate a key pair with a vendor's mechanism (defect 2); return public and private key.

        :param public: and ``private``: templates with the same CKA_ID, which no other key has.
        """
        (first, kept_alive), (second, also_kept_alive) = calls.template(public), calls.template(private)
        handles = ctypes.c_ulong(), ctypes.c_ulong()
        self._check(
            "C_GenerateKeyPair",
            self.functions.C_GenerateKeyPair(
                *(self.handle, abi.CK_MECHANISM(mechanism), first, len(first), second, len(second)),
                *(byref(handles[0]), byref(handles[1])),
            ),
        )
        del kept_alive, also_kept_alive
        pair = []
        for kind in (ObjectClass.PUBLIC_KEY, ObjectClass.PRIVATE_KEY):
            found = self.find({Attribute.CLASS: kind, Attribute.ID: public[Attribute.ID]})
            if len(found) != 1:
                raise DeviceFailure("C_GenerateKeyPair: the token does not show the pair it has generated")
            pair.append(found[0])
        return pair[0], pair[1]

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
        return self._native.slot_id in calls.slots(self._module.functions)

    def mechanisms(self) -> dict[int, MechanismFacts]:
        """Return what the token can do, vendors' numbers included (defect 14)."""
        found = calls.mechanisms(self._module.functions, self._native.slot_id)
        return {
            number: MechanismFacts(int(info.flags), int(info.ulMinKeySize), int(info.ulMaxKeySize))
            for number, info in found.items()
        }

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
        self._natives: dict[int, Any] = {}
        """The binding's slots, by number."""
        self.epoch = 0
        """Counts the lives of the module: :meth:`restart` ends every session of the life before."""

    def slots(self) -> list[Slot]:
        """Return the slots with a token in them (defect 14)."""
        numbers = calls.slots(self.functions)
        if not self._natives.keys() >= set(numbers):
            with translated("C_GetSlotList"):
                self._natives = {native.slot_id: native for native in self._library.get_slots()}
        return [Slot(self, self._natives[number]) for number in numbers if number in self._natives]

    def slot_event(self) -> bool | None:
        """Say whether a token came or went since the last call, without waiting (defect 10).

        None: the module cannot tell (CKR_FUNCTION_NOT_SUPPORTED). Not all that answer "no" can: SoftHSM 2.6.1 always
        does.
        """
        slot = ctypes.c_ulong()
        code = self.functions.C_WaitForSlotEvent(abi.CKF_DONT_BLOCK, byref(slot), None)
        if code == CKR["CKR_FUNCTION_NOT_SUPPORTED"]:
            return None
        if code not in (0, CKR["CKR_NO_EVENT"]):
            raise failure(code, "C_WaitForSlotEvent")
        return bool(code == 0)

    def restart(self) -> None:
        """Finalise and initialise again. Every session and login of the process is gone after it."""
        self._library.finalize()
        self.epoch += 1
        self._natives.clear()
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
