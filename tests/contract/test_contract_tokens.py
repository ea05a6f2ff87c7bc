"""The contract of a driver: which tokens are there, what is on them, and what happens when one is pulled."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import pytest
from contract_checks import MIB, digest_for
from contract_providers import DriverCase

from sealdrivers.contract import KeyType, Mechanism, Token
from sealdrivers.errors import (
    DeviceFailure,
    DriverError,
    NotSupported,
    PinIncorrect,
    TokenNotFound,
    TokenRemoved,
)


def test_token_info(driver_case: DriverCase) -> None:
    info = driver_case.present().info
    assert info.label == driver_case.token.label
    assert info.serial
    assert info.uri.startswith(f"{info.driver}:")
    assert "slot" not in info.uri
    assert info.module == driver_case.driver.info.path
    assert info.software is driver_case.provider.software
    assert info.login_required
    assert not info.logged_in
    assert info.pin.initialized
    assert (info.pin.count_low, info.pin.final_try, info.pin.locked) == (False, False, False)


def test_each_token_once_and_named_apart(driver_case: DriverCase) -> None:
    other = driver_case.provider.new_token()
    other.put_key(driver_case.kind, b"\x01")
    labels = driver_case.labels()
    assert sorted(labels) == sorted({driver_case.token.label, other.label})
    assert len({token.info.uri for token in driver_case.driver.tokens()}) == 2


def test_token_object_stays_the_same_while_the_token_is_present(driver_case: DriverCase) -> None:
    assert driver_case.present() is driver_case.present()


def test_token_made_after_the_module_was_opened_is_seen(driver_case: DriverCase) -> None:
    assert driver_case.labels() == [driver_case.token.label]
    later = driver_case.provider.new_token()
    later.put_key(driver_case.kind, b"\x01")
    assert later.label in driver_case.labels()
    assert len(driver_case.present(later.label).contents().keys) == 1


def test_removed_token_is_not_listed_and_comes_back(driver_case: DriverCase) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01")
    uri = driver_case.present().info.uri
    driver_case.token.remove()
    assert driver_case.labels() == []
    driver_case.token.insert()
    token = driver_case.login()
    assert token.info.uri == uri
    key = driver_case.only_key()
    key.sign(driver_case.mechanism, digest_for(driver_case.mechanism))


def test_removal_of_one_token_leaves_another_logged_in(driver_case: DriverCase) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01")
    other = driver_case.provider.new_token()
    driver_case.login()
    key = driver_case.only_key()
    other.remove()
    assert driver_case.labels() == [driver_case.token.label]
    assert driver_case.present().info.logged_in
    key.sign(driver_case.mechanism, digest_for(driver_case.mechanism))


def test_everything_public_is_listed_before_login(driver_case: DriverCase) -> None:
    key = driver_case.token.put_key(KeyType.RSA_2048, b"\x01\xff", "seal key")
    der = key.certificate()
    driver_case.token.put_certificate(der, b"\x01\xff", "seal certificate")
    provider = driver_case.provider
    if provider.writable:
        driver_case.token.put_data(b"a seal", "seal", "esl")
        driver_case.token.put_data(b"a secret", "hidden", private=True)
    contents = driver_case.present().contents()
    (found,) = contents.keys
    key_label, certificate_label = provider.labels("seal key", "seal certificate")
    assert (found.object_id, found.label) == (provider.object_id(b"\x01\xff"), key_label)
    assert (found.type, found.bits) == (KeyType.RSA_2048, 2048)
    assert found.public_key == key.spki
    assert set(found.mechanisms) == set(driver_case.provider.mechanisms[KeyType.RSA_2048])
    assert found.mechanisms[0] is Mechanism.RSA_PKCS1_SHA256
    assert found.token_uri == driver_case.present().info.uri
    (shown,) = contents.certificates
    assert (shown.der, shown.object_id, shown.label) == (der, found.object_id, certificate_label)
    if not provider.writable:
        assert all(data.value and data.label for data in contents.data_objects)  # what the maker put there
        return
    (data,) = contents.data_objects
    assert (data.value, data.label, data.application) == (b"a seal", "seal", provider.data_owner("esl"))


@pytest.mark.parametrize("public", [True, False])
def test_key_has_one_name_before_and_after_login(driver_case: DriverCase, public: bool) -> None:
    key = driver_case.token.put_key(driver_case.kind, b"\x07", "private label", public=public)
    driver_case.token.put_certificate(key.certificate(), b"\x07", "another label")
    (before,) = driver_case.present().contents().keys
    (after,) = driver_case.login().contents().keys
    assert before.uri == after.uri
    assert before.id == after.id
    assert before.public_key == after.public_key == key.spki


def test_ca_certificate_is_no_key(driver_case: DriverCase) -> None:
    driver_case.token.put_certificate(driver_case.provider.pair().certificate(ca=True), b"\x09")
    contents = driver_case.present().contents()
    assert len(contents.certificates) == 1
    if driver_case.provider.keys_from_certificates:
        _cannot_sign(driver_case)
    else:
        assert contents.keys == ()


def test_renewed_certificate_is_no_second_key(driver_case: DriverCase) -> None:
    key = driver_case.token.put_key(driver_case.kind, b"\x01", public=False)
    for name in ("old", "renewed"):
        driver_case.token.put_certificate(key.certificate(name), b"\x01", name)
    (before,) = driver_case.present().contents().keys
    (after,) = driver_case.login().contents().keys
    assert before.uri == after.uri
    driver_case.only_key().sign(driver_case.mechanism, digest_for(driver_case.mechanism))


def test_public_key_belongs_to_the_private_key_of_its_kind(driver_case: DriverCase) -> None:
    pairs = {}
    for kind in driver_case.provider.mechanisms:
        pairs[kind] = driver_case.token.put_key(kind, b"\x01", f"label {kind.value}").spki
    assert {key.type: key.public_key for key in driver_case.login().contents().keys} == pairs


def test_certificate_without_private_key_is_no_key_after_login(driver_case: DriverCase) -> None:
    driver_case.token.put_certificate(driver_case.provider.pair().certificate(), b"\x09")
    if driver_case.provider.keys_from_certificates:
        _cannot_sign(driver_case)
    else:
        assert driver_case.login().contents().keys == ()


def _cannot_sign(case: DriverCase) -> None:
    """Check that the only key, which the module made up, answers with a named error and harms nothing."""
    token = case.login()
    (key,) = token.contents().keys
    for _ in range(2):
        with pytest.raises(DeviceFailure):
            token.key(key.uri).sign(case.mechanism, digest_for(case.mechanism))
    assert token.info.logged_in


def test_rubbish_on_the_token_does_not_hide_the_rest(driver_case: DriverCase) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01")
    for number, octets in enumerate((b"\x30\x80", os.urandom(500), b"\x30\x84\xff\xff\xff\xff", b"\0" * 70_000)):
        driver_case.token.put_rubbish_certificate(octets, bytes([number + 10]))
    contents = driver_case.present().contents()
    assert [key.object_id for key in contents.keys] == [b"\x01"]
    shown = 3 if driver_case.provider.shows_rubbish else 0  # the one that is longer than any certificate is left out
    assert len([c for c in contents.certificates if c.object_id != b"\x01"]) == shown


def test_data_objects_are_read_up_to_the_limit(driver_case: DriverCase) -> None:
    if not driver_case.provider.writable:
        before = driver_case.login().contents()
        with pytest.raises(NotSupported):
            driver_case.present().import_data(b"x", "fits", "")
        assert driver_case.present().contents() == before
        return
    value = os.urandom(MIB)
    driver_case.token.put_data(value, "fits")
    driver_case.token.put_data(b"x" * (MIB + 1), "too large")
    (data,) = driver_case.present().contents().data_objects
    assert (data.label, data.value) == ("fits", value)


def _pin() -> bytearray:
    return bytearray(b"some-pin")


OPERATIONS: dict[str, Callable[[DriverCase, Token], object]] = {
    "info": lambda case, token: token.info,
    "contents": lambda case, token: token.contents(),
    "key": lambda case, token: token.key(f"{case.driver.info.driver}:type=private"),
    "login": lambda case, token: token.login(_pin()),
    "change_pin": lambda case, token: token.change_pin(_pin(), _pin()),
    "unblock_pin": lambda case, token: token.unblock_pin(_pin(), _pin()),
    "generate_key": lambda case, token: token.generate_key(case.kind, "key", b"\x02"),
    "import_certificate": lambda case, token: token.import_certificate(case.provider.pair().certificate(), "c", b"\2"),
    "import_data": lambda case, token: token.import_data(b"x", "label", ""),
}


@pytest.mark.parametrize("logged_in", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_removed_token(
    driver_case: DriverCase, operation: Callable[[DriverCase, Token], object], logged_in: bool
) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01")
    token = driver_case.login() if logged_in else driver_case.present()
    token.contents()
    driver_case.token.remove()
    for _ in range(2):
        with pytest.raises((TokenRemoved, TokenNotFound)):
            operation(driver_case, token)
    assert driver_case.labels() == []


def test_logout_of_a_removed_token_leaves_nobody_logged_in(driver_case: DriverCase) -> None:
    token = driver_case.login()
    driver_case.token.remove()
    with contextlib.suppress(TokenRemoved):
        token.logout()
    assert driver_case.labels() == []
    driver_case.token.insert()
    assert not driver_case.present().info.logged_in


def test_token_removed_between_two_signatures(driver_case: DriverCase) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01")
    driver_case.login()
    key = driver_case.only_key()
    digest = digest_for(driver_case.mechanism)
    key.sign(driver_case.mechanism, digest)
    driver_case.token.remove()
    for _ in range(2):
        with pytest.raises(TokenRemoved):
            key.sign(driver_case.mechanism, digest)


def test_every_error_crosses_the_wire(driver_case: DriverCase) -> None:
    with pytest.raises(PinIncorrect) as caught:
        driver_case.present().login(_pin())
    again = DriverError.from_wire(caught.value.to_wire())
    assert type(again) is PinIncorrect
    assert again.facts() == caught.value.facts()


def test_module_can_be_opened_again_after_closing(driver_case: DriverCase) -> None:
    driver_case.token.put_key(driver_case.kind, b"\x01")
    driver_case.login()
    driver_case.driver.close()
    driver_case.driver = driver_case.provider.open()
    token = driver_case.present()
    assert not token.info.logged_in
    driver_case.login()
    driver_case.only_key().sign(driver_case.mechanism, digest_for(driver_case.mechanism))
