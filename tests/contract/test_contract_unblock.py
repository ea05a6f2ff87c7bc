"""The contract of a driver: the administrator sets a new PIN of the user."""

from __future__ import annotations

import pytest
from contract_providers import DriverCase
from test_contract_pins import UNFIT_PINS

from sealdrivers.errors import (
    AdminPinIncorrect,
    AdminPinLocked,
    DriverError,
    PinIncorrect,
    PinRejected,
)


@pytest.fixture
def unblocking_case(driver_case: DriverCase) -> DriverCase | None:
    """A case whose token can unblock; of one that cannot, the refusal is checked here, and None returned."""
    if driver_case.provider.unblocks:
        return driver_case
    with pytest.raises(DriverError):
        driver_case.present().unblock_pin(driver_case.admin_pin(), bytearray(b"13572468"))
    driver_case.login()
    return None


@pytest.mark.parametrize("logged_in", [False, True])
@pytest.mark.parametrize("locked", [False, True])
def test_unblock(unblocking_case: DriverCase | None, locked: bool, logged_in: bool) -> None:
    if (case := unblocking_case) is None:
        return
    token = case.login() if logged_in else case.present()
    if locked:
        case.token.lock()
        assert token.info.pin.locked
    admin, new = case.admin_pin(), bytearray(b"13572468")
    token.unblock_pin(admin, new)
    assert not any(admin + new)
    assert not token.info.logged_in
    assert not token.info.pin.locked
    assert not token.info.pin.count_low
    with pytest.raises(PinIncorrect):
        token.login(case.pin())
    token.login(bytearray(b"13572468"))
    assert token.info.logged_in


def test_a_key_signs_after_unblocking(unblocking_case: DriverCase | None) -> None:
    if (case := unblocking_case) is None:
        return
    case.token.put_key(case.kind, b"\x01")
    token = case.login()
    case.only_key().sign(case.mechanism, bytes(case.mechanism.digest_length))
    token.unblock_pin(case.admin_pin(), bytearray(b"13572468"))
    with pytest.raises(DriverError):  # nobody is logged in any more, the administrator included
        case.only_key().sign(case.mechanism, bytes(case.mechanism.digest_length))
    token.login(bytearray(b"13572468"))
    case.only_key().sign(case.mechanism, bytes(case.mechanism.digest_length))


@pytest.mark.parametrize("logged_in", [False, True])
def test_wrong_administrators_pin(unblocking_case: DriverCase | None, logged_in: bool) -> None:
    if (case := unblocking_case) is None:
        return
    token = case.login() if logged_in else case.present()
    admin, new = bytearray(b"wrongadm"), bytearray(b"13572468")
    with pytest.raises(AdminPinIncorrect) as caught:
        token.unblock_pin(admin, new)
    assert not any(admin + new)
    error = caught.value
    assert "administrator" in error.message
    assert error.native_code
    assert error.count_low or error.tries_left is not None
    assert not error.locked
    again = DriverError.from_wire(error.to_wire())
    assert (type(again), again.facts()) == (AdminPinIncorrect, error.facts())
    assert not token.info.logged_in
    assert token.info.admin_pin.count_low
    assert not token.info.pin.count_low  # the user's counter is another
    case.login()


def test_locked_administrators_pin(unblocking_case: DriverCase | None) -> None:
    if (case := unblocking_case) is None:
        return
    case.token.lock(admin=True)
    token = case.present()
    assert token.info.admin_pin.locked
    before = case.token.counters()
    for admin in (case.admin_pin(), bytearray(b"wrongadm")):
        with pytest.raises(AdminPinLocked) as caught:
            token.unblock_pin(admin, bytearray(b"13572468"), confirmed_last_try=True)
        assert caught.value.locked
        assert not any(admin)
    assert case.token.counters() == before
    case.login()


@pytest.mark.parametrize("unfit", UNFIT_PINS.values(), ids=UNFIT_PINS)
def test_unfit_pins_spend_no_try(unblocking_case: DriverCase | None, unfit: bytes) -> None:
    if (case := unblocking_case) is None:
        return
    token = case.present()
    before = case.token.counters()
    for admin, new in ((bytearray(unfit), bytearray(b"13572468")), (case.admin_pin(), bytearray(unfit))):
        with pytest.raises(PinRejected):
            token.unblock_pin(admin, new)
        assert not any(admin + new)
    assert case.token.counters() == before
    case.login()


def test_a_new_pin_that_is_too_short(unblocking_case: DriverCase | None) -> None:
    if (case := unblocking_case) is None:
        return
    token = case.present()
    with pytest.raises(PinRejected):
        token.unblock_pin(case.admin_pin(), bytearray(b"1" * (case.provider.pin_lengths[0] - 1)))
    case.login()
