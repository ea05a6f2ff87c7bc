"""PINs behind SKF: counters, lies about them, factory PINs, unblocking. Faults: tests/softgm/README.md."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from skf_parts import E, pin, sign

from sealdrivers.errors import (
    AdminPinIncorrect,
    AdminPinLocked,
    DeviceFailure,
    LoginRequired,
    NotSupported,
    PinIncorrect,
    PinLocked,
    PinRejected,
)
from sealdrivers.skf.driver import SkfDriver
from sealdrivers.skf.token import SkfToken
from softgm import SoftSkfToken


def test_counter_is_read_without_spending_a_try(token: SkfToken, device: SoftSkfToken) -> None:
    for left in (6, 5, 1, 0):
        device.set_tries_left(left)
        state = token.info.pin
        assert (state.tries_left, state.count_low, state.final_try, state.locked) == (
            left,
            left < 6,
            left == 1,
            left == 0,
        )
        assert device.tries_left() == left


def test_wrong_pins_down_to_the_lock(token: SkfToken, device: SoftSkfToken) -> None:
    for left in (5, 4, 3, 2, 1, 0):
        with pytest.raises(PinIncorrect) as caught:
            token.login(bytearray(b"wrong-pin"), confirmed_last_try=left == 0)
        error = caught.value
        assert (error.tries_left, error.final_try, error.locked) == (left, left == 1, left == 0)
    with pytest.raises(PinLocked) as locked:
        token.login(pin(device))
    assert (locked.value.tries_left, locked.value.locked) == (0, True)


@pytest.mark.parametrize("fault", [None, "wide_bool"])
@pytest.mark.parametrize("factory", [False, True])
def test_factory_pin_is_told(
    softskf_new_token: Callable[..., SoftSkfToken], driver: SkfDriver, factory: bool, fault: str | None
) -> None:
    device = softskf_new_token(factory_pin=factory)
    if fault:
        device.set_fault(fault, "SKF_GetPINInfo")
    (token,) = driver.tokens()
    assert token.info.pin.factory_pin is factory
    new = pin(device)
    token.change_pin(pin(device), new)
    assert not token.info.pin.factory_pin


@pytest.mark.parametrize("told", ["none", "4294967295", "77"])
def test_a_counter_that_lies_is_not_believed(token: SkfToken, device: SoftSkfToken, told: str) -> None:
    device.set_fault("retries", "SKF_VerifyPIN", told)
    with pytest.raises(PinIncorrect) as caught:
        token.login(bytearray(b"wrong-pin"))
    assert caught.value.tries_left == 5


@pytest.mark.parametrize("told", ["none", "4294967295"])
def test_a_library_without_a_counter(token: SkfToken, device: SoftSkfToken, told: str) -> None:
    device.set_fault("retries", "SKF_GetPINInfo", told)
    assert token.info.pin.tries_left is None
    device.set_fault("return", "SKF_GetPINInfo", "0x0A000003")
    assert token.info.pin.tries_left is None
    device.set_fault("retries", "SKF_VerifyPIN", told)
    with pytest.raises(PinIncorrect) as caught:
        token.login(bytearray(b"wrong-pin"))
    assert caught.value.tries_left is None
    token.login(pin(device))


@pytest.mark.parametrize("code", ["0x0A000001", "0x0A000026", "0x0A00002D"])
def test_a_spent_try_is_a_wrong_pin_whatever_the_value(token: SkfToken, device: SoftSkfToken, code: str) -> None:
    device.set_fault("return", "SKF_VerifyPIN", code, late=True)
    with pytest.raises(PinIncorrect) as caught:
        token.login(bytearray(b"wrong-pin"))
    assert (caught.value.tries_left, caught.value.native_code) == (5, int(code, 16))


def test_a_failed_login_leaves_nobody_logged_in(token: SkfToken, device: SoftSkfToken) -> None:
    device.set_fault("return", "SKF_VerifyPIN", "0x0A000001", late=True)
    with pytest.raises(DeviceFailure):
        token.login(pin(device))  # right, and the device is open now
    assert not token.info.logged_in
    device.clear_faults()
    assert device.tries_left() == 6
    application = token._application
    assert application is not None
    with pytest.raises(LoginRequired):
        application.sign(b"key", E, sm2=True)


def test_right_pin_that_the_device_refuses_is_tried_once(token: SkfToken, device: SoftSkfToken) -> None:
    device.set_fault("wrong_pin", "SKF_VerifyPIN")
    with pytest.raises(PinIncorrect):
        token.login(pin(device))
    assert device.tries_left() == 5


def test_pin_with_nul_spends_no_try(token: SkfToken, device: SoftSkfToken) -> None:
    for unfit in (pin(device) + b"\0", b"\0" + pin(device)):
        with pytest.raises(PinRejected):
            token.login(bytearray(unfit))
    assert device.tries_left() == 6


def test_unblock_pin(token: SkfToken, device: SoftSkfToken) -> None:
    device.lock()
    admin, new = bytearray(b"wrong-admin"), bytearray(b"fresh-pin")
    with pytest.raises(AdminPinIncorrect) as caught:
        token.unblock_pin(admin, new)
    assert caught.value.tries_left == 5
    assert not any(admin + new)
    assert (device.tries_left(), device.tries_left(admin=True)) == (0, 5)
    admin, new = bytearray(device.so_pin.encode()), bytearray(b"fresh-pin")
    token.unblock_pin(admin, new)
    assert not any(admin + new)
    assert not token.info.logged_in
    assert (token.info.pin.locked, token.info.pin.tries_left) == (False, 6)
    token.login(bytearray(b"fresh-pin"))
    assert sign(token)


def test_the_administrators_pin_is_guarded_down_to_its_lock(token: SkfToken, device: SoftSkfToken) -> None:
    for left in (5, 4, 3, 2, 1, 0):
        assert token.info.admin_pin.tries_left == left + 1
        with pytest.raises(AdminPinIncorrect) as caught:
            token.unblock_pin(bytearray(b"wrong-admin"), bytearray(b"fresh-pin"), confirmed_last_try=left == 0)
        assert (caught.value.tries_left, caught.value.final_try, caught.value.locked) == (left, left == 1, left == 0)
    with pytest.raises(AdminPinLocked) as locked:
        token.unblock_pin(bytearray(device.so_pin.encode()), bytearray(b"fresh-pin"))
    assert (locked.value.tries_left, locked.value.locked) == (0, True)
    assert (token.info.admin_pin.locked, token.info.pin.locked) == (True, False)
    token.login(pin(device))


def test_a_library_that_says_locked_only_when_asked(token: SkfToken, device: SoftSkfToken) -> None:
    device.set_fault("return", "SKF_GetPINInfo", "0x0A000003")
    device.set_fault("return", "SKF_UnblockPIN", "0x0A000025")
    device.set_fault("return", "SKF_VerifyPIN", "0x0A000025")
    with pytest.raises(AdminPinLocked, match="administrator"):
        token.unblock_pin(bytearray(device.so_pin.encode()), bytearray(b"fresh-pin"))
    with pytest.raises(PinLocked) as caught:
        token.login(pin(device))
    assert type(caught.value) is PinLocked


@pytest.mark.parametrize("how", ["absent", "0x0A000003"])
def test_a_library_that_does_not_unblock(
    token: SkfToken, device: SoftSkfToken, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "absent":
        monkeypatch.delitem(token._library._functions, "SKF_UnblockPIN")
    else:
        device.set_fault("return", "SKF_UnblockPIN", how)
    admin, new = bytearray(device.so_pin.encode()), bytearray(b"fresh-pin")
    with pytest.raises(NotSupported):
        token.unblock_pin(admin, new)
    assert not any(admin + new)
    assert device.tries_left(admin=True) == 6
    token.login(pin(device))


def test_login_that_the_device_forgets(unlocked: SkfToken, device: SoftSkfToken) -> None:
    device.set_fault("return", "SKF_ECCSignData", "0x0A00002D", times=1)
    with pytest.raises(LoginRequired):
        sign(unlocked)
    assert not unlocked.info.logged_in
    unlocked.login(pin(device))
    assert sign(unlocked)
