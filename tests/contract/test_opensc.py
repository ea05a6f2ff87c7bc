"""What OpenSC does in its own way, and how the PKCS#11 driver meets it: on PIV cards in a virtual reader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from contract_checks import digest_for, verify

from piv_card import GENERAL_AUTHENTICATE, VERIFY, PivCard, SmartCards, spki
from sealdrivers.contract import Key, Mechanism, Token
from sealdrivers.errors import DeviceFailure, LoginRequired, PinIncorrect, PinRejected, TokenRemoved
from sealdrivers.pkcs11.driver import Pkcs11Driver, open_driver

ECDSA = Mechanism.ECDSA_SHA256
DIGEST = digest_for(ECDSA)
AUTHENTICATION, SIGNATURE = b"\x01", b"\x02"
"""Identifiers of the keys in slots 9A and 9C."""


@dataclass
class Opened:
    """A card with keys in 9A and 9C, and the driver on OpenSC."""

    card: PivCard
    driver: Pkcs11Driver

    def token(self) -> Token:
        (token,) = self.driver.tokens()
        return token

    def pin(self) -> bytearray:
        return bytearray(self.card.pin.encode())

    def login(self) -> dict[bytes, Key]:
        """Log in and return the keys by identifier."""
        token = self.token()
        token.login(self.pin())
        return {info.object_id: token.key(info.uri) for info in token.contents().keys}


@pytest.fixture
def opened(smart_cards: SmartCards, piv_new_card: Callable[..., PivCard]) -> Iterator[Opened]:
    card = piv_new_card(insert=False)
    card.put_key(0x9A)
    card.put_key(0x9C)
    card.insert()
    driver = open_driver(smart_cards.module)
    yield Opened(card, driver)
    driver.close()


def test_key_that_always_authenticates_is_not_used_without_a_pin(opened: Opened) -> None:
    """OpenSC 0.23 would end the login of the whole token."""
    keys = opened.login()
    with pytest.raises(LoginRequired):
        keys[SIGNATURE].sign(ECDSA, DIGEST)
    assert opened.card.count(GENERAL_AUTHENTICATE) == 0
    assert opened.token().info.logged_in
    keys[AUTHENTICATION].sign(ECDSA, DIGEST)


def test_one_pin_for_one_signature(opened: Opened) -> None:
    keys = opened.login()
    before = opened.card.count(VERIFY)
    for _ in range(3):
        signature = keys[SIGNATURE].sign(ECDSA, DIGEST, opened.pin())
        verify(_spki(keys[SIGNATURE]), ECDSA, signature, DIGEST)
    assert opened.card.count(VERIFY) == before + 3


def test_wrong_pin_for_a_signature_ends_the_login_and_nothing_else(opened: Opened) -> None:
    """The card forgets the PIN it has seen, and OpenSC 0.23 then ends every session of the token.

    A session opened next may get the number of the one that died, so the dead one must not be closed again.
    """
    keys = opened.login()
    with pytest.raises(PinIncorrect):
        keys[SIGNATURE].sign(ECDSA, DIGEST, bytearray(b"000000"))
    for _ in range(3):
        assert not opened.token().info.logged_in
        with pytest.raises(LoginRequired):
            keys[AUTHENTICATION].sign(ECDSA, DIGEST)
    assert opened.card.tries == 2
    keys = opened.login()
    keys[SIGNATURE].sign(ECDSA, DIGEST, opened.pin())
    keys[AUTHENTICATION].sign(ECDSA, DIGEST)
    assert opened.card.tries == 3


def test_card_pulled_while_it_signs(opened: Opened) -> None:
    """Initialised with locks, OpenSC 0.23 waits for ever in the next call, until pcscd has noticed."""
    key = opened.login()[AUTHENTICATION]
    opened.card.drop()
    began = time.monotonic()
    with pytest.raises((TokenRemoved, DeviceFailure)):
        key.sign(ECDSA, DIGEST)
    with pytest.raises((TokenRemoved, DeviceFailure, LoginRequired)):
        key.sign(ECDSA, DIGEST)
    assert time.monotonic() - began < 20
    assert not opened.card.inserted
    opened.card.insert()
    verify(spki(opened.card.put_key()), ECDSA, opened.login()[AUTHENTICATION].sign(ECDSA, DIGEST), DIGEST)


def test_card_that_answers_late(opened: Opened) -> None:
    key = opened.login()[AUTHENTICATION]
    opened.card.delay(1.0)
    began = time.monotonic()
    verify(_spki(key), ECDSA, key.sign(ECDSA, DIGEST), DIGEST)
    assert time.monotonic() - began >= 1.0


def test_new_pin_with_letters_is_refused_as_a_pin(opened: Opened) -> None:
    """PIV's PINs are digits; OpenSC 0.23 answers CKR_DATA_INVALID."""
    token = opened.token()
    with pytest.raises(PinRejected) as caught:
        token.change_pin(opened.pin(), bytearray(b"letters"))
    assert caught.value.native_name == "CKR_DATA_INVALID"
    assert opened.card.tries == 3
    opened.login()


def test_another_card_in_the_same_reader_is_another_token(opened: Opened, piv_new_card: Callable[..., PivCard]) -> None:
    old = opened.login()[AUTHENTICATION]
    serial = opened.token().info.serial
    opened.card.remove()
    other = piv_new_card(insert=False)
    other.put_key(0x9A)
    other.insert()
    with pytest.raises(TokenRemoved):
        old.sign(ECDSA, DIGEST)
    assert opened.token().info.serial == other.serial != serial
    assert not opened.token().info.logged_in
    assert other.count(GENERAL_AUTHENTICATE) == other.count(VERIFY) == 0


def _spki(key: Key) -> bytes:
    assert key.info.public_key is not None
    return key.info.public_key
