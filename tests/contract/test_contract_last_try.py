"""The contract of a driver: the last try of a PIN goes to the device only after the holder confirmed it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from contract_checks import digest_for, verify
from contract_providers import DriverCase

from sealdrivers.contract import Token
from sealdrivers.errors import AdminPinIncorrect, DriverError, PinIncorrect, PinLastTry, PinLocked

Spend = Callable[[Token, bytearray, bool], None]

USER: dict[str, Spend] = {
    "login": lambda token, pin, confirmed: token.login(pin, confirmed_last_try=confirmed),
    "change_pin": lambda token, pin, confirmed: token.change_pin(
        pin, bytearray(b"24681357"), confirmed_last_try=confirmed
    ),
}


def _unblock(token: Token, pin: bytearray, confirmed: bool) -> None:
    token.unblock_pin(pin, bytearray(b"24681357"), confirmed_last_try=confirmed)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("spend", USER.values(), ids=USER)
def test_the_last_try_is_not_sent_unless_confirmed(driver_case: DriverCase, spend: Spend, right: bool) -> None:
    token = driver_case.present()
    driver_case.token.leave_one_try()
    before = driver_case.token.counters()
    assert token.info.pin.last_try
    for _ in range(2):
        pin = driver_case.pin() if right else bytearray(b"wrongpin")
        with pytest.raises(PinLastTry) as caught:
            spend(token, pin, False)
        assert not any(pin)
        assert caught.value.final_try
        assert type(DriverError.from_wire(caught.value.to_wire())) is PinLastTry
    assert driver_case.token.counters() == before
    assert not token.info.logged_in


@pytest.mark.parametrize("spend", USER.values(), ids=USER)
def test_a_confirmed_last_try_is_sent(driver_case: DriverCase, spend: Spend) -> None:
    token = driver_case.present()
    driver_case.token.leave_one_try()
    spend(token, driver_case.pin(), True)
    driver_case.token.leave_one_try()
    before = driver_case.token.counters()
    with pytest.raises((PinIncorrect, PinLocked)):  # OpenSC 0.23 says at once that this locked it
        spend(token, bytearray(b"wrongpin"), True)
    assert driver_case.token.counters() != before


def test_tries_that_another_program_spends_after_the_look_count(driver_case: DriverCase) -> None:
    token = driver_case.present()
    assert not token.info.pin.last_try  # what the agent has seen
    driver_case.token.leave_one_try()
    with pytest.raises(PinLastTry):
        token.login(driver_case.pin())
    assert token.info.pin.last_try


def test_the_pin_of_one_signature_is_guarded_too(driver_case: DriverCase) -> None:
    if not driver_case.provider.always_authenticates:
        driver_case.token.put_key(driver_case.kind, b"\x01")
        driver_case.login()
        assert not driver_case.only_key().info.always_authenticate
        return
    pair = driver_case.token.put_always_authenticating_key(b"\x01")
    driver_case.login()
    key, digest = driver_case.only_key(), digest_for(driver_case.mechanism)
    driver_case.token.leave_one_try()
    before = driver_case.token.counters()
    if not driver_case.provider.counts_while_logged_in:  # then nobody can know, and the right PIN does its work
        assert not driver_case.present().info.pin.last_try
        verify(pair.spki, driver_case.mechanism, key.sign(driver_case.mechanism, digest, driver_case.pin()), digest)
        return
    for pin in (driver_case.pin(), bytearray(b"wrongpin")):
        with pytest.raises(PinLastTry):
            key.sign(driver_case.mechanism, digest, pin)
        assert not any(pin)
    assert driver_case.token.counters() == before
    signature = key.sign(driver_case.mechanism, digest, driver_case.pin(), confirmed_last_try=True)
    verify(pair.spki, driver_case.mechanism, signature, digest)


@pytest.mark.parametrize("right", [True, False])
def test_the_administrators_last_try_is_not_sent_unless_confirmed(driver_case: DriverCase, right: bool) -> None:
    if not driver_case.provider.unblocks:
        return _refuses_to_unblock(driver_case)
    token = driver_case.present()
    driver_case.token.leave_one_try(admin=True)
    before = driver_case.token.counters()
    assert token.info.admin_pin.last_try
    assert not token.info.pin.last_try
    pin = driver_case.admin_pin() if right else bytearray(b"wrongadm")
    with pytest.raises(PinLastTry, match="administrator"):
        _unblock(token, pin, False)
    assert not any(pin)
    assert driver_case.token.counters() == before
    driver_case.login()  # the PIN is the old one


def test_the_administrators_confirmed_last_try_is_sent(driver_case: DriverCase) -> None:
    if not driver_case.provider.unblocks:
        return _refuses_to_unblock(driver_case)
    token = driver_case.present()
    driver_case.token.leave_one_try(admin=True)
    _unblock(token, driver_case.admin_pin(), True)
    token.login(bytearray(b"24681357"))
    driver_case.token.leave_one_try(admin=True)
    before = driver_case.token.counters()
    with pytest.raises(AdminPinIncorrect):
        _unblock(token, bytearray(b"wrongadm"), True)
    assert driver_case.token.counters() != before


def _refuses_to_unblock(driver_case: DriverCase) -> None:
    with pytest.raises(DriverError):
        _unblock(driver_case.present(), driver_case.admin_pin(), False)
    driver_case.login()
