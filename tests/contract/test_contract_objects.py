"""The contract of a driver: generating keys, storing certificates and data."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from contract_checks import EC, MIB, RSA, digest_for, verify
from contract_providers import DriverCase

from sealdrivers.contract import KeyType, Token
from sealdrivers.errors import (
    LoginRequired,
    MechanismNotSupported,
    NotSupported,
    ObjectExists,
    ObjectInvalid,
)


@pytest.mark.parametrize("kind", [*RSA, *EC, KeyType.SM2])
def test_generated_key_signs_and_stays_on_the_device(driver_case: DriverCase, kind: KeyType) -> None:
    token = driver_case.login()
    if kind not in driver_case.provider.mechanisms or not driver_case.provider.writable:
        with pytest.raises(MechanismNotSupported):
            token.generate_key(kind, "new key", b"\x21\x22")
        assert token.contents().keys == ()
        return
    info = token.generate_key(kind, "new key", b"\x21\x22")
    assert (info.type, info.label, info.object_id) == (kind, "new key", b"\x21\x22")
    assert info in token.contents().keys
    assert info.public_key is not None
    mechanism = driver_case.provider.mechanisms[kind][0]
    assert info.mechanisms[0] is mechanism
    digest = digest_for(mechanism)
    verify(info.public_key, mechanism, token.key(info.uri).sign(mechanism, digest), digest)
    assert driver_case.token.protection(b"\x21\x22") in (
        None,
        {"sensitive": True, "extractable": False, "sign": True, "decrypt": False, "unwrap": False, "derive": False},
    )


def test_writing_needs_a_login(driver_case: DriverCase) -> None:
    token = driver_case.present()
    before = token.contents()
    with pytest.raises(LoginRequired if driver_case.provider.writable else MechanismNotSupported):
        token.generate_key(driver_case.kind, "key", b"\x01")
    with pytest.raises(LoginRequired):
        token.import_certificate(driver_case.provider.pair().certificate(), "certificate", b"\x01")
    with pytest.raises(LoginRequired):
        token.import_data(b"a seal", "seal", "esl")
    assert (before.keys, before.certificates) == ((), ())
    assert driver_case.login().contents() == before


@pytest.mark.parametrize("taken_by", ["key", "certificate"])
def test_identifier_that_is_taken(driver_case: DriverCase, taken_by: str) -> None:
    if taken_by == "key":
        driver_case.token.put_key(KeyType.RSA_2048, b"\x01", public=False)
    else:
        driver_case.token.put_certificate(driver_case.provider.pair().certificate(), b"\x01")
    token = driver_case.login()
    before = token.contents()
    with pytest.raises(ObjectExists if driver_case.provider.writable else MechanismNotSupported):
        token.generate_key(driver_case.kind, "key", b"\x01")
    assert token.contents() == before


def test_key_type_that_is_not_generated(driver_case: DriverCase) -> None:
    token = driver_case.login()
    with pytest.raises(MechanismNotSupported):
        token.generate_key(KeyType.OTHER, "key", b"\x01")
    if not driver_case.provider.signs_sm2:
        with pytest.raises(MechanismNotSupported):
            token.generate_key(KeyType.SM2, "key", b"\x01")
    assert token.contents().keys == ()


@pytest.mark.parametrize(
    ("label", "object_id"),
    [("", b"\x01"), ("key", b""), ("x" * 256, b"\x01"), ("key", b"x" * 256), ("a\0b", b"\x01"), ("\ud800", b"\x01")],
    ids=["no label", "no identifier", "long label", "long identifier", "NUL", "surrogate"],
)
def test_unfit_names(driver_case: DriverCase, label: str, object_id: bytes) -> None:
    token = driver_case.login()
    with pytest.raises(ObjectInvalid):
        token.generate_key(driver_case.kind, label, object_id)
    with pytest.raises(ObjectInvalid):
        token.import_certificate(driver_case.provider.pair().certificate(), label, object_id)
    assert token.contents().keys == ()
    assert token.contents().certificates == ()


def test_import_certificate(driver_case: DriverCase) -> None:
    key = driver_case.token.put_key(driver_case.kind, b"\x01")
    der = key.certificate()
    many = driver_case.provider.many_certificates
    token = driver_case.login()
    if not driver_case.provider.writable:
        _imports_nothing(token, lambda: token.import_certificate(der, "certificate", b"\x01"))
        return
    info = token.import_certificate(der, "certificate", b"\x01")
    assert token.contents().certificates == (info,)
    assert (info.der, info.label, info.object_id) == (der, "certificate" if many else "key", b"\x01")
    assert token.import_certificate(der, "certificate", b"\x01") == info
    assert token.contents().certificates == (info,)
    renamed = token.import_certificate(der, "renamed", b"\x01")
    assert token.contents().certificates == (renamed,)
    renewed = token.import_certificate(key.certificate("renewed"), "renewed", b"\x01")
    assert renewed in token.contents().certificates
    assert len(token.contents().certificates) == (2 if many else 1)
    assert len(token.contents().keys) == 1


def _not_certificates(der: bytes) -> dict[str, bytes]:
    return {
        "nothing": b"",
        "random": os.urandom(700),
        "truncated": der[:-1],
        "with a tail": der + b"\0",
        "too large": der + b"\0" * 65536,
        "PEM": b"-----BEGIN CERTIFICATE-----\n",
        "indefinite length": b"\x30\x80" + der[4:] + b"\0\0",
        "absurd length": b"\x30\x84\xff\xff\xff\xff",
        "deeply nested": b"\x30\x80" * 3000,
        "another structure": b"\x30\x03\x02\x01\x01",
    }


@pytest.mark.parametrize("what", _not_certificates(b""))
def test_rubbish_is_not_imported_as_certificate(driver_case: DriverCase, what: str) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01")
    token = driver_case.login()
    before = token.contents()
    rubbish = _not_certificates(driver_case.provider.pair().certificate())[what]
    with pytest.raises(ObjectInvalid):
        token.import_certificate(rubbish, "rubbish", b"\x01")
    assert token.contents() == before


def test_certificate_of_another_key_is_not_imported(driver_case: DriverCase) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01")
    token = driver_case.login()
    before = token.contents()
    with pytest.raises(ObjectInvalid, match="another key"):
        token.import_certificate(driver_case.provider.pair(new=True).certificate(), "wrong", b"\x01")
    assert token.contents() == before


def test_import_data(driver_case: DriverCase) -> None:
    token = driver_case.login()
    if not driver_case.provider.writable:
        _imports_nothing(token, lambda: token.import_data(b"a seal", "印章", "esl"))
        return
    value = os.urandom(MIB)
    info = token.import_data(value, "印章", "esl")
    assert (info.value, info.label, info.application) == (value, "印章", driver_case.provider.data_owner("esl"))
    assert token.contents().data_objects == (info,)
    with pytest.raises(ObjectExists):
        token.import_data(b"other", "印章", "")
    token.logout()
    assert token.contents().data_objects == (info,)


@pytest.mark.parametrize("length", [0, MIB + 1])
def test_unfit_data_is_not_imported(driver_case: DriverCase, length: int) -> None:
    token = driver_case.login()
    before = token.contents()
    with pytest.raises(ObjectInvalid):
        token.import_data(b"x" * length, "seal", "esl")
    with pytest.raises(ObjectInvalid):
        token.import_data(b"x", "", "esl")
    with pytest.raises(ObjectInvalid):
        token.import_data(b"x", "seal", "x" * 256)
    assert token.contents() == before


def _imports_nothing(token: Token, write: Callable[[], object]) -> None:
    """Check that a token which nobody can write to says so, and neither changes nor logs out."""
    before = token.contents()
    with pytest.raises(NotSupported):
        write()
    assert token.contents() == before
    assert token.info.logged_in
