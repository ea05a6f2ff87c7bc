"""The contract of a driver: finding keys and signing. Signatures are checked by cryptography."""

from __future__ import annotations

import hashlib

import pytest
from contract_checks import SIGNATURES, digest_for, verify
from contract_providers import DriverCase
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import utils

from sealdrivers.contract import KeyType, Mechanism
from sealdrivers.errors import (
    DeviceFailure,
    KeyNotFound,
    LoginRequired,
    MechanismNotSupported,
    PinIncorrect,
    PinRejected,
    UriError,
)


@pytest.mark.parametrize(("kind", "mechanism"), SIGNATURES, ids=[f"{k.value}-{m.value}" for k, m in SIGNATURES])
def test_signature_verifies(driver_case: DriverCase, kind: KeyType, mechanism: Mechanism) -> None:
    if kind not in driver_case.provider.mechanisms:
        with pytest.raises(MechanismNotSupported):
            driver_case.login().generate_key(kind, "not of this device", b"\x01")
        return
    pair = driver_case.token.put_key(kind, b"\x01")
    driver_case.login()
    key = driver_case.only_key()
    digest = digest_for(mechanism)
    if mechanism not in driver_case.provider.mechanisms[kind]:
        with pytest.raises(MechanismNotSupported):
            key.sign(mechanism, digest)
        return
    signature = key.sign(mechanism, digest)
    verify(pair.spki, mechanism, signature, digest)
    with pytest.raises(InvalidSignature):
        verify(pair.spki, mechanism, signature, digest_for(mechanism, b"other"))


def test_signatures_of_two_numbers_are_minimal_der(driver_case: DriverCase) -> None:
    pair = driver_case.token.put_key(driver_case.kind, b"\x01")
    driver_case.login()
    key = driver_case.only_key()
    lengths = set()
    for number in range(300):  # r or s begins with a zero octet in every hundredth signature
        digest = hashlib.sha256(bytes([number % 256, number // 256])).digest()
        signature = key.sign(driver_case.mechanism, digest)
        verify(pair.spki, driver_case.mechanism, signature, digest)
        assert utils.encode_dss_signature(*utils.decode_dss_signature(signature)) == signature
        lengths.add(len(signature))
    assert len(lengths) > 1


@pytest.mark.parametrize("length", [0, 1, 31, 33, 48, 64, 5000])
def test_wrong_digest_length_is_refused_and_the_key_still_signs(driver_case: DriverCase, length: int) -> None:
    pair = driver_case.token.put_key(KeyType.RSA_2048, b"\x01")
    driver_case.login()
    key = driver_case.only_key()
    with pytest.raises(MechanismNotSupported):
        key.sign(Mechanism.RSA_PKCS1_SHA256, b"d" * length)
    digest = digest_for(Mechanism.RSA_PKCS1_SHA256)
    verify(pair.spki, Mechanism.RSA_PKCS1_SHA256, key.sign(Mechanism.RSA_PKCS1_SHA256, digest), digest)


@pytest.mark.parametrize("mechanism", [Mechanism.ECDSA_SHA256, Mechanism.SM2_SM3])
def test_mechanism_of_another_key_type_is_refused(driver_case: DriverCase, mechanism: Mechanism) -> None:
    driver_case.token.put_key(KeyType.RSA_2048, b"\x01")
    driver_case.login()
    with pytest.raises(MechanismNotSupported):
        driver_case.only_key().sign(mechanism, b"d" * 32)


def test_sm2_is_signed_over_e_or_refused_with_the_reason(driver_case: DriverCase) -> None:
    sm2 = driver_case.provider.signs_sm2
    if not driver_case.provider.writable:  # no such key can come onto the token
        with pytest.raises(MechanismNotSupported):
            driver_case.login().generate_key(KeyType.SM2, "sm2", b"\x01")
        return
    pair = driver_case.token.put_sm2_key(b"\x01")
    token = driver_case.login()
    key = driver_case.only_key()
    assert key.info.type is KeyType.SM2
    assert key.info.mechanisms == (Mechanism.SM2_SM3,)  # until a signature shows otherwise
    with pytest.raises(MechanismNotSupported):
        key.sign(Mechanism.ECDSA_SHA256, b"e" * 32)
    if sm2:
        digest = digest_for(Mechanism.SM2_SM3)
        verify(pair.spki, Mechanism.SM2_SM3, key.sign(Mechanism.SM2_SM3, digest), digest)
        assert driver_case.only_key().info.fault is None
        return
    for _ in range(2):  # once found out, nothing more is asked of the device
        with pytest.raises(MechanismNotSupported, match="ECDSA on the SM2 curve"):
            key.sign(Mechanism.SM2_SM3, b"e" * 32)
        (info,) = token.contents().keys
        assert info.mechanisms == ()
        assert "ECDSA on the SM2 curve" in (info.fault or "")


def test_signing_before_login(driver_case: DriverCase) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01")
    key = driver_case.only_key()
    digest = digest_for(driver_case.mechanism)
    with pytest.raises(LoginRequired):
        key.sign(driver_case.mechanism, digest)
    driver_case.login()
    key.sign(driver_case.mechanism, digest)


def test_signing_after_logout(driver_case: DriverCase) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01")
    token = driver_case.login()
    key = driver_case.only_key()
    digest = digest_for(driver_case.mechanism)
    key.sign(driver_case.mechanism, digest)
    token.logout()
    token.logout()
    assert not token.info.logged_in
    with pytest.raises(LoginRequired):
        key.sign(driver_case.mechanism, digest)


def test_key_that_was_deleted_meanwhile(driver_case: DriverCase) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01", "goes away")
    driver_case.login()
    key = driver_case.only_key()
    digest = digest_for(driver_case.mechanism)
    key.sign(driver_case.mechanism, digest)
    driver_case.token.delete("goes away")
    with pytest.raises(KeyNotFound if driver_case.provider.deletes_unnoticed else DeviceFailure):
        key.sign(driver_case.mechanism, digest)


def test_always_authenticating_key_needs_the_pin_each_time(driver_case: DriverCase) -> None:
    if not driver_case.provider.always_authenticates:
        driver_case.token.put_key(driver_case.kind, b"\x01")
        driver_case.login()
        assert not driver_case.only_key().info.always_authenticate
        return
    pair = driver_case.token.put_always_authenticating_key(b"\x01")
    token = driver_case.login()
    key = driver_case.only_key()
    assert key.info.always_authenticate
    digest = digest_for(driver_case.mechanism)
    with pytest.raises(LoginRequired):
        key.sign(driver_case.mechanism, digest)
    for _ in range(2):
        pin = driver_case.pin()
        verify(pair.spki, driver_case.mechanism, key.sign(driver_case.mechanism, digest, pin), digest)
        assert not any(pin)
    wrong = bytearray(b"wrongpin")
    with pytest.raises(PinIncorrect) as caught:
        key.sign(driver_case.mechanism, digest, wrong)
    assert caught.value.count_low is not None
    assert not any(wrong)
    assert token.info.logged_in is driver_case.provider.login_survives_wrong_pin
    with pytest.raises(PinRejected):
        key.sign(driver_case.mechanism, digest, bytearray())
    assert token.info.logged_in is driver_case.provider.login_survives_wrong_pin


def test_key_by_uri(driver_case: DriverCase) -> None:
    kinds = (driver_case.kind, driver_case.other_kind)
    for number, kind in enumerate(kinds):
        driver_case.token.put_key(kind, bytes([number]), f"key {number}")
    token = driver_case.present()
    for info in token.contents().keys:
        assert token.key(info.uri).info == info
    for number, kind in enumerate(kinds):
        for uri in driver_case.provider.key_uris(token.info.uri, bytes([number]), f"key {number}"):
            assert token.key(uri).info.type is kind


def test_key_that_no_uri_names(driver_case: DriverCase) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01")
    driver_case.token.put_key(driver_case.other_kind, b"\x02")
    token = driver_case.present()
    driver, name = token.info.driver, driver_case.provider.key_uris
    certificates = [f"{uri};type=cert" for uri in name(token.info.uri, b"\x01", "key")]
    for uri in (*name(token.info.uri, b"\x03", "none"), f"{driver}:serial=another", *certificates):
        with pytest.raises(KeyNotFound):
            token.key(uri)
    with pytest.raises(KeyNotFound, match="2 keys"):
        token.key(token.info.uri)
    for uri in ("", "https://example.invalid/", f"{driver}:serial=%0", f"{driver}:serial", "x" * 10_000):
        with pytest.raises(UriError):
            token.key(uri)


def test_keys_of_one_identifier_are_told_apart(driver_case: DriverCase) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01", "one")
    driver_case.token.put_key(KeyType.RSA_2048, b"\x01", "two")
    token = driver_case.present()
    before = {key.uri: key.type for key in token.contents().keys}
    driver_case.login()
    assert {key.uri: key.type for key in token.contents().keys} == before
    assert len(before) == 2
    for uri, kind in before.items():
        mechanism = driver_case.provider.mechanisms[kind][0]
        token.key(uri).sign(mechanism, digest_for(mechanism))
