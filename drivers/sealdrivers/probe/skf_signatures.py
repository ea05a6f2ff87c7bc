"""SKF: one login, then signatures with every key."""

from __future__ import annotations

import ctypes

from sealdrivers.contract import KeyType, Mechanism
from sealdrivers.errors import (
    DeviceFailure,
    DriverError,
    LoginRequired,
    PinIncorrect,
    PinLastTry,
    PinLocked,
    PinRejected,
)
from sealdrivers.pkcs11.publickeys import PublicKey
from sealdrivers.pkcs11.sm2 import Signed, classify, read_signature
from sealdrivers.probe.checking import FOUND, challenge, verifies
from sealdrivers.probe.section import Section
from sealdrivers.probe.skf_native import Native, value_name
from sealdrivers.probe.skf_objects import public_key_of
from sealdrivers.skf import abi, records
from sealdrivers.skf.application import Application
from sealdrivers.skf.library import Number, secret
from sealdrivers.skf.pins import check_pin, spend

__all__ = ["signatures"]

E_OCTETS = 32
FIELD = 64
OTHER_LENGTHS = (20, 31, 33, 64)
_RSA = (Mechanism.RSA_PKCS1_SHA256, Mechanism.RSA_PKCS1_SHA384, Mechanism.RSA_PKCS1_SHA512)


def signatures(section: Section) -> None:
    """Sign random values with every key of an application, and verify each signature."""
    native = Native(section)
    for token in native.tokens():
        if token.number == section.request.token and section.pin is not None:
            with section.attempt(f"application {token.number}"), native.application(token) as application:
                _application(section, native, application)
            return
    section.finding("no_token", "", "the one to sign on is gone")


def _application(section: Section, native: Native, application: Application) -> None:
    found: list[tuple[int, bytes, PublicKey]] = []
    for number, name in enumerate(native.container_names(application), 1):
        with section.attempt(f"container {number}", optional=True), native.container(application, name) as handle:
            _, key = public_key_of(native, handle)
            if key is not None:
                found.append((number, name, key))
    if not found:
        section.finding("no_key")
    for number, name, key in found:
        if section.step(f"key {number} before the login"):
            with native.container(application, name) as handle:
                _must_be_refused(section, native, handle, key, number, "signs_without_login")
    if not _log_in(section, native, application):
        return
    for number, name, key in found:
        with section.attempt(f"container {number}"), native.container(application, name) as handle:
            _key(section, native, handle, key, number)
    native.status("SKF_ClearSecureState", application.handle)
    for number, name, key in found:
        if section.step(f"key {number} after the logout"):
            with native.container(application, name) as handle:
                _must_be_refused(section, native, handle, key, number, "signs_after_logout")


def _log_in(section: Section, native: Native, application: Application) -> bool:
    """Offer the PIN once, unless only one try is left."""
    assert section.pin is not None
    pin = section.pin

    def call(left: Number) -> int:
        with secret(pin) as text:
            return native.status("SKF_VerifyPIN", application.handle, abi.USER, text, left)

    try:
        check_pin(pin)
        spend(native, application.handle, abi.USER, "SKF_VerifyPIN", call, confirmed_last_try=False)
    except PinLastTry:
        section.finding("pin_last_try", "SKF_GetPINInfo")
        return False
    except PinIncorrect as error:
        left = "" if error.tries_left is None else f"{error.tries_left} tries are left"
        section.finding("pin_incorrect", "SKF_VerifyPIN", left)
        return False
    except PinLocked:
        section.finding("pin_locked", "SKF_VerifyPIN")
        return False
    except PinRejected as error:
        section.finding("pin_rejected", "SKF_VerifyPIN", error.message)
        return False
    section.logged_in()
    return True


def _must_be_refused(section: Section, native: Native, handle: int, key: PublicKey, number: int, code: str) -> None:
    try:
        if key.type is KeyType.SM2:
            native.record("SKF_ECCSignData", handle, challenge(E_OCTETS), E_OCTETS, size=abi.ECC_SIGNATURE_BLOB)
        else:
            data = records.digest_info(_RSA[0], challenge(E_OCTETS))
            native.octets("SKF_RSASignData", handle, data, len(data), room=512, repeatable=False)
    except LoginRequired:
        section.row("without_login", {"key": number, "when": code, "answer": "SAR_USER_NOT_LOGGED_IN"})
    except DriverError as error:
        section.row("without_login", {"key": number, "when": code, "answer": error.native_name or error.code})
    else:
        section.finding(code, "SKF_ECCSignData", f"key {number}")


def _key(section: Section, native: Native, handle: int, key: PublicKey, number: int) -> None:
    named = {"key": number, "type": key.type.value}
    if not section.step(f"key {number}"):
        return
    if key.type is KeyType.SM2:
        works = _sign_sm2(section, native, handle, key, number)
        if section.step(f"key {number} with other lengths"):
            _other_lengths(section, native, handle)
    elif key.type is KeyType.RSA_2048 and native.offers("SKF_RSASignData"):
        works = all([_sign_rsa(section, native, handle, key, number, mechanism) for mechanism in _RSA])
    else:
        section.finding("key_not_supported", "SKF_ExportPublicKey", f"key {number}: {key.type.value}")
        works = False
    section.row("keys", {**named, "works": works})


def _sign_sm2(section: Section, native: Native, handle: int, key: PublicKey, number: int) -> bool:
    row = {"key": number, "mechanism": Mechanism.SM2_SM3.value}
    forms: set[str] = set()
    for _ in range(section.request.signatures):
        e = challenge(E_OCTETS)
        try:
            blob = native.record("SKF_ECCSignData", handle, e, len(e), size=abi.ECC_SIGNATURE_BLOB)
        except DriverError as error:
            code = "signature_refused" if error.native_code is not None else "signature_malformed"
            section.finding(code, "SKF_ECCSignData", f"key {number}: {error.message}")
            section.row("signatures", {**row, "result": error.native_name or error.code, "form": ""})
            return False
        form, found = _read(key, e, blob)
        forms.add(form)
        said = "unknown" if found is None else FOUND[found]
        if form != "right-aligned":
            section.finding("skf_not_right_aligned", "SKF_ECCSignData", f"key {number}: {form}, {said}")
        elif found is not Signed.E:
            section.finding("signature_wrong", "SKF_ECCSignData", f"key {number}: {said}")
        if form != "right-aligned" or found is not Signed.E:
            section.row("signatures", {**row, "result": said, "form": form})
            return False
    section.finding("signature_verified", "SKF_ECCSignData", Mechanism.SM2_SM3.value)
    section.row("signatures", {**row, "result": "verified", "form": "/".join(sorted(forms))})
    return True


def _read(key: PublicKey, e: bytes, blob: bytes) -> tuple[str, Signed | None]:
    """Return how r and s lie in an ECCSIGNATUREBLOB, and what they are a signature of."""
    fields = {
        "right-aligned": (blob[FIELD - E_OCTETS : FIELD], blob[2 * FIELD - E_OCTETS :]),
        "left-aligned": (blob[:E_OCTETS], blob[FIELD : FIELD + E_OCTETS]),
        "r || s at the start": (blob[:E_OCTETS], blob[E_OCTETS:FIELD]),
    }
    gaps = not any(blob[: FIELD - E_OCTETS]) and not any(blob[FIELD : 2 * FIELD - E_OCTETS])
    if blob[:1] == b"\x30":
        try:
            r, s, _ = read_signature(blob[: blob[1] + 2])
            return "DER at the start", classify(key.material, e, r, s)
        except DeviceFailure:
            pass
    for form, (r_octets, s_octets) in fields.items():
        if form == "right-aligned" and not gaps:
            continue
        found = classify(key.material, e, int.from_bytes(r_octets, "big"), int.from_bytes(s_octets, "big"))
        if found is not None or (form == "right-aligned" and gaps):
            return form, found
    return "fields with more than 32 octets", None


def _other_lengths(section: Section, native: Native, handle: int) -> None:
    taken = []
    for length in OTHER_LENGTHS:
        buffer = (ctypes.c_char * 1024)()
        code = native.status("SKF_ECCSignData", handle, challenge(length), length, buffer)
        section.row("input_lengths", {"octets": length, "answer": value_name(code)})
        if code == abi.OK:
            taken.append(str(length))
    if taken:
        section.finding("skf_e_length", "SKF_ECCSignData", f"{', '.join(taken)} octets are taken")


def _sign_rsa(section: Section, native: Native, handle: int, key: PublicKey, number: int, mechanism: Mechanism) -> bool:
    row = {"key": number, "mechanism": mechanism.value}
    lengths: set[int] = set()
    try:
        for _ in range(section.request.signatures):
            digest = challenge(mechanism.digest_length)
            data = records.digest_info(mechanism, digest)
            answer = native.octets("SKF_RSASignData", handle, data, len(data), room=512, repeatable=False)
            lengths.add(len(answer))
            if not verifies(key.spki, mechanism, digest, answer):
                section.finding("signature_wrong", "SKF_RSASignData", f"key {number}, {mechanism.value}")
                section.row("signatures", {**row, "result": "wrong", "form": ""})
                return False
        told = native.size("SKF_RSASignData", handle, data, len(data))
        if told not in lengths:
            section.finding("size_claim", "SKF_RSASignData", f"{told} octets told, {sorted(lengths)[0]} written")
    except DriverError as error:
        code = "signature_refused" if error.native_code is not None else "signature_malformed"
        section.finding(code, "SKF_RSASignData", f"key {number}, {mechanism.value}: {error.message}")
        section.row("signatures", {**row, "result": error.native_name or error.code, "form": ""})
        return False
    section.finding("signature_verified", "SKF_RSASignData", mechanism.value)
    section.row("signatures", {**row, "result": "verified", "form": f"{sorted(lengths)[0]} octets"})
    return True
