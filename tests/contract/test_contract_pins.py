"""The contract of a driver: PINs."""

from __future__ import annotations

import pytest
from contract_providers import DriverCase

from sealdrivers.errors import (
    PinIncorrect,
    PinLocked,
    PinRejected,
)


def test_login_and_logout(driver_case: DriverCase) -> None:
    pin = driver_case.pin()
    token = driver_case.present()
    token.login(pin)
    assert token.info.logged_in
    assert not any(pin)
    token.logout()
    assert not token.info.logged_in


def test_wrong_pin(driver_case: DriverCase) -> None:
    token = driver_case.present()
    pin = bytearray(b"wrongpin")
    with pytest.raises(PinIncorrect) as caught:
        token.login(pin)
    assert not any(pin)
    assert caught.value.native_code
    assert caught.value.native_name
    assert not driver_case.provider.counts_aloud or caught.value.count_low or caught.value.tries_left is not None
    assert not caught.value.locked
    assert "wrongpin" not in repr(caught.value.to_wire())
    assert not token.info.logged_in
    driver_case.login()
    assert token.info.logged_in
    assert not token.info.pin.count_low


def test_wrong_pin_while_logged_in_is_not_taken_for_right(driver_case: DriverCase) -> None:
    token = driver_case.login()
    with pytest.raises(PinIncorrect):
        token.login(bytearray(b"wrongpin"))
    assert not token.info.logged_in


def test_locked_pin(driver_case: DriverCase) -> None:
    driver_case.token.lock()
    token = driver_case.present()
    assert token.info.pin.locked
    pin = driver_case.pin()
    with pytest.raises(PinLocked) as caught:
        token.login(pin)
    assert caught.value.locked
    assert not any(pin)
    assert not token.info.logged_in
    with pytest.raises(PinLocked):
        token.change_pin(driver_case.pin(), bytearray(b"new-pin"))


UNFIT_PINS = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe\xfd\xfc\xfb\xfa",
    "cut UTF-8": "口令口令".encode()[:-1],
    "too long": b"1" * 256,
    "far too long": b"1" * 100_000,
}


@pytest.mark.parametrize("pin", UNFIT_PINS.values(), ids=UNFIT_PINS)
def test_unfit_pin_spends_no_try(driver_case: DriverCase, pin: bytes) -> None:
    token = driver_case.present()
    buffer = bytearray(pin)
    with pytest.raises(PinRejected):
        token.login(buffer)
    assert not any(buffer)
    new = bytearray(pin)
    with pytest.raises(PinRejected):
        token.change_pin(driver_case.pin(), new)
    assert not any(new)
    assert not token.info.pin.count_low
    driver_case.login()


def test_pin_outside_ascii(driver_case: DriverCase) -> None:
    if not driver_case.provider.any_pin:
        with pytest.raises(PinRejected):
            driver_case.present().login(bytearray("口令-1234".encode()))
        driver_case.login()
        return
    other = driver_case.provider.new_token(pin="口令-1234")
    driver_case.present(other.label).login(bytearray("口令-1234".encode()))
    assert driver_case.present(other.label).info.logged_in


def test_pin_on_the_device_where_there_is_no_such_thing(driver_case: DriverCase) -> None:
    token = driver_case.present()
    assert not token.info.protected_authentication_path
    with pytest.raises(PinRejected):
        token.login(None)


@pytest.mark.parametrize("logged_in", [False, True])
def test_change_pin(driver_case: DriverCase, logged_in: bool) -> None:
    token = driver_case.login() if logged_in else driver_case.present()
    old, new = driver_case.pin(), bytearray(b"24681357")
    token.change_pin(old, new)
    assert not any(old + new)
    assert token.info.logged_in is logged_in
    token.logout()
    with pytest.raises(PinIncorrect):
        token.login(driver_case.pin())
    token.login(bytearray(b"24681357"))


def test_change_pin_with_the_wrong_old_one_changes_nothing(driver_case: DriverCase) -> None:
    token = driver_case.present()
    old, new = bytearray(b"wrongpin"), bytearray(b"24681357")
    with pytest.raises(PinIncorrect):
        token.change_pin(old, new)
    assert not any(old + new)
    driver_case.login()


def test_change_to_a_pin_that_is_too_short(driver_case: DriverCase) -> None:
    shortest = driver_case.provider.pin_lengths[0]
    token = driver_case.present()
    with pytest.raises(PinRejected):
        token.change_pin(driver_case.pin(), bytearray(b"1" * (shortest - 1)))
    driver_case.login()
