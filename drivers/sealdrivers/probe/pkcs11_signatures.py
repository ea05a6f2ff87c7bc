"""PKCS#11: signatures with every mechanism that the driver would use, SM2 aside."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import byref, c_ulong
from dataclasses import dataclass

from pkcs11 import ObjectClass

from sealdrivers.contract import KeyType, Mechanism
from sealdrivers.errors import DeviceFailure, DriverError, PinIncorrect, PinLocked, PinRejected
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.binding import MechanismFacts, TokenFacts
from sealdrivers.pkcs11.checks import check_pin
from sealdrivers.pkcs11.errors import CKR, failure
from sealdrivers.pkcs11.mechanisms import Recipe, recipes
from sealdrivers.probe.checking import challenge, verifies
from sealdrivers.probe.pkcs11_names import value_name
from sealdrivers.probe.pkcs11_native import Native, Slot, opened
from sealdrivers.probe.pkcs11_objects import FoundKey, Reader, profiles_of
from sealdrivers.probe.section import Section
from sealdrivers.vendors import Sm2Profile

__all__ = ["Signer", "SigningToken", "signatures", "unlocked"]

ROOM = 1024
"""Octets of the buffer for a signature."""

_FILL = 0xA5


@dataclass(frozen=True, slots=True)
class SigningToken:
    """A token that is logged in to, and the keys on it that may sign."""

    native: Native
    slot: Slot
    keys: list[FoundKey]
    offered: dict[int, MechanismFacts]
    profiles: list[Sm2Profile]


@contextmanager
def unlocked(section: Section) -> Iterator[SigningToken | None]:
    """Log in once and lend the token. None where that is not possible, which is reported."""
    with opened(section) as native:
        if native is None:
            yield None
            return
        chosen = [slot for slot in native.tokens() if slot.number == section.request.token]
        if not chosen or section.pin is None:
            section.finding("no_token", "", "the one to sign on is gone")
            yield None
            return
        slot = chosen[0]
        profiles = profiles_of(section, native)
        with native.session(slot) as session:
            if not _log_in(section, native, slot, session):
                yield None
                return
            reader = Reader(native, slot, session, profiles)
            public, certificates = reader.keys(ObjectClass.PUBLIC_KEY), reader.certificates()
            found = [reader.with_public(key, public, certificates) for key in reader.keys(ObjectClass.PRIVATE_KEY)]
            keys = [key for key in found if key.signs]
            if not keys:
                section.finding("no_key")
            yield SigningToken(native, slot, keys, _offered(native, slot), profiles)
            native.status("C_Logout", session)


def _log_in(section: Section, native: Native, slot: Slot, session: int) -> bool:
    if slot.flags & abi.CKF_USER_PIN_LOCKED:
        section.finding("pin_locked")
        return False
    if slot.flags & abi.CKF_USER_PIN_FINAL_TRY:
        section.finding("pin_last_try")
        return False
    if not slot.flags & abi.CKF_LOGIN_REQUIRED:
        section.logged_in()
        return True
    assert section.pin is not None
    try:
        check_pin(section.pin, _facts(slot))
    except PinRejected as error:
        section.finding("pin_rejected", "C_Login", error.message)
        return False
    buffer = (ctypes.c_char * len(section.pin)).from_buffer(section.pin)
    try:
        native.call("C_Login", session, abi.CKU_USER, buffer, len(section.pin))
    except PinIncorrect:
        section.finding("pin_incorrect", "C_Login")
        return False
    except PinLocked:
        section.finding("pin_locked", "C_Login")
        return False
    except PinRejected as error:
        section.finding("pin_rejected", "C_Login", error.message)
        return False
    finally:
        del buffer
    section.logged_in()
    return True


def _facts(slot: Slot) -> TokenFacts:
    info = slot.token
    lengths = (int(info.ulMaxPinLen), int(info.ulMinPinLen))
    most, least = (0 if length == abi.CK_UNAVAILABLE_INFORMATION else length for length in lengths)
    return TokenFacts("", "", "", "", slot.flags, most, least)


def _offered(native: Native, slot: Slot) -> dict[int, MechanismFacts]:
    found = {}
    for number in native.numbers("C_GetMechanismList", slot.slot_id):
        try:
            info = native.mechanism(slot, number)
        except DriverError:
            continue
        found[number] = MechanismFacts(info.flags, info.ulMinKeySize, info.ulMaxKeySize)
    return found


class Signer:
    """Signs in a session of its own, which a failure costs."""

    def __init__(self, section: Section, native: Native, slot: Slot) -> None:
        self._section = section
        self._native = native
        self._slot = slot
        self._session: int | None = None

    def sign(self, mechanism: abi.CK_MECHANISM, key: FoundKey, data: bytes) -> bytes:
        """Sign with one C_SignInit and one C_Sign. :raises DriverError: it did not succeed."""
        session = self._begin(mechanism, key)
        try:
            return self._finish(session, data, ROOM)
        except DriverError:
            self.close()
            raise

    def ask_sizes(self, mechanism: abi.CK_MECHANISM, key: FoundKey, data: bytes) -> dict[str, object]:
        """Ask for the size first, then give too little room, then enough; return what came of it."""
        session, length = self._begin(mechanism, key), c_ulong()
        try:
            told = self._native.status("C_Sign", session, data, len(data), None, byref(length))
            if told != 0:
                return {"without_buffer": value_name(told)}
            size = length.value
            short = self._small(session, data)
            try:
                answer = self._finish(session, data, ROOM)
            except DriverError as error:
                if error.native_code == CKR["CKR_OPERATION_NOT_INITIALIZED"]:
                    self._section.finding("p11_size_call_ends", "C_Sign")
                return {"without_buffer": size, "small_buffer": short, "then": error.native_name or error.code}
            return {"without_buffer": size, "small_buffer": short, "then": len(answer)}
        finally:
            self.close()

    def after_failure(self, mechanism: abi.CK_MECHANISM, key: FoundKey) -> None:
        """Let C_Sign fail, with input that is longer than any key takes, and see whether the session goes on."""
        session, length = self._begin(mechanism, key), c_ulong(ROOM)
        too_long = bytes(ROOM)
        first = self._native.status(
            "C_Sign", session, too_long, len(too_long), ctypes.create_string_buffer(ROOM), byref(length)
        )
        if first != 0:
            second = self._native.status("C_SignInit", session, byref(mechanism), key.handle)
            code = "p11_session_clean" if second == 0 else "p11_session_poisoned"
            self._section.finding(code, "C_Sign", f"{value_name(first)}, then {value_name(second)}")
        self.close()

    def close(self) -> None:
        """Discard the session."""
        session, self._session = self._session, None
        if session is not None:
            self._native.status("C_CloseSession", session)

    def _begin(self, mechanism: abi.CK_MECHANISM, key: FoundKey) -> int:
        if self._session is None:
            self._session = self._native.open(self._slot)
        try:
            self._native.call("C_SignInit", self._session, byref(mechanism), key.handle)
            pin = self._section.pin
            if key.always_authenticate and pin is not None:
                buffer = (ctypes.c_char * len(pin)).from_buffer(pin)
                try:
                    self._native.call("C_Login", self._session, abi.CKU_CONTEXT_SPECIFIC, buffer, len(pin))
                finally:
                    del buffer
        except DriverError:
            self.close()
            raise
        assert self._session is not None
        return self._session

    def _finish(self, session: int, data: bytes, room: int) -> bytes:
        buffer, length = ctypes.create_string_buffer(2 * ROOM), c_ulong(room)
        code = self._native.status("C_Sign", session, data, len(data), buffer, byref(length))
        if code != 0:
            raise failure(code, "C_Sign")
        if length.value > room:
            raise DeviceFailure(f"C_Sign: the module claims a signature of {length.value} octets")
        return buffer.raw[: length.value]

    def _small(self, session: int, data: bytes) -> str:
        buffer, length = (ctypes.c_ubyte * ROOM)(*([_FILL] * ROOM)), c_ulong(1)
        code = self._native.status("C_Sign", session, data, len(data), buffer, byref(length))
        if any(octet != _FILL for octet in buffer[1:]):
            self._section.finding("buffer_overrun", "C_Sign", "in a buffer of one octet")
        if code != CKR["CKR_BUFFER_TOO_SMALL"]:
            self._section.finding("buffer_check_missing", "C_Sign", f"answers {value_name(code)}")
        return value_name(code)


def signatures(section: Section) -> None:
    """Sign random values with every key and mechanism that the driver would use, and verify each signature."""
    with unlocked(section) as token:
        if token is None:
            return
        signer = Signer(section, token.native, token.slot)
        for number, key in enumerate(token.keys, 1):
            if key.is_sm2:
                continue
            _sign_with(section, signer, token, number, key)
        signer.close()


def _sign_with(section: Section, signer: Signer, token: SigningToken, number: int, key: FoundKey) -> None:
    kind = key.public.type if key.public else KeyType.OTHER
    able = recipes(kind, key.public.bits, token.offered) if key.public else {}
    named = {"key": number, **section.named("label", key.label), "type": kind.value}
    if not able:
        if section.step(f"key {number}"):
            code = "key_not_supported" if key.public else "public_key_unreadable"
            section.finding(code, "CKA_KEY_TYPE" if key.public else "CKA_ID", f"key {number}: {kind.value}")
            section.row("keys", {**named, "works": False, "mechanisms": 0})
        return
    works = 0
    for mechanism, recipe in able.items():
        if section.step(f"key {number}, {mechanism.value}") and _try(section, signer, key, named, mechanism, recipe):
            section.remember(f"{mechanism.value} works with key {number}")
            works += 1
    works += sum(section.remembered(f"{mechanism.value} works with key {number}") for mechanism in able)
    if section.step(f"key {number} summed up"):
        section.row("keys", {**named, "works": works > 0, "mechanisms": works})


def _try(
    section: Section,
    signer: Signer,
    key: FoundKey,
    named: Mapping[str, object],
    mechanism: Mechanism,
    recipe: Recipe,
) -> bool:
    assert key.public is not None
    where = f"key {named['key']}, {mechanism.value}"
    lengths: set[int] = set()
    row = {**named, "mechanism": mechanism.value, "native": f"0x{recipe.native.mechanism:X}"}
    try:
        for _ in range(section.request.signatures):
            digest = challenge(mechanism.digest_length)
            answer = signer.sign(recipe.native, key, recipe.input(digest))
            lengths.add(len(answer))
            if not verifies(key.public.spki, mechanism, digest, recipe.result(answer)):
                section.finding("signature_wrong", "C_Sign", where)
                section.row("signatures", {**row, "result": "wrong", "octets": sorted(lengths)})
                return False
    except DriverError as error:
        code = "signature_refused" if error.native_code is not None else "signature_malformed"
        section.finding(code, "C_Sign", f"{where}: {error.message}")
        section.row("signatures", {**row, "result": error.native_name or error.code, "octets": sorted(lengths)})
        return False
    section.finding("signature_verified", "C_Sign", mechanism.value)
    sizes: dict[str, object] = {}
    with section.attempt("C_Sign", optional=True):
        sizes = signer.ask_sizes(recipe.native, key, recipe.input(challenge(mechanism.digest_length)))
        if isinstance(sizes["without_buffer"], int) and sizes["without_buffer"] < max(lengths):
            section.finding("size_claim", "C_Sign", f"{sizes['without_buffer']} told, {max(lengths)} written")
        signer.after_failure(recipe.native, key)
    section.row("signatures", {**row, "result": "verified", "octets": sorted(lengths), **sizes})
    return True
