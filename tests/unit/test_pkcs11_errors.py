"""The one mapping of CKR values."""

from __future__ import annotations

import inspect

import pkcs11
import pytest

from sealdrivers.errors import DeviceFailure, DriverError, LoginRequired, PinIncorrect, PinLocked, TokenRemoved
from sealdrivers.pkcs11.errors import CKR, CKR_NAMES, failure, translated

# What the binding raises of itself, without a value of the module.
OF_THE_BINDING = {"PKCS11Error", "MultipleObjectsReturned", "MultipleTokensReturned", "NoSuchKey", "NoSuchToken"}
BINDING_ERRORS = [
    error
    for name, error in inspect.getmembers(pkcs11.exceptions, inspect.isclass)
    if issubclass(error, pkcs11.PKCS11Error) and name not in OF_THE_BINDING
]


def test_values_are_those_of_the_standard() -> None:
    assert CKR["CKR_PIN_INCORRECT"] == 0xA0
    assert CKR["CKR_PIN_LOCKED"] == 0xA4
    assert CKR["CKR_DEVICE_REMOVED"] == 0x32
    assert CKR["CKR_USER_NOT_LOGGED_IN"] == 0x101
    assert CKR["CKR_CRYPTOKI_NOT_INITIALIZED"] == 0x190
    assert CKR["CKR_FUNCTION_REJECTED"] == 0x200
    assert len(CKR) == len(CKR_NAMES)


@pytest.mark.parametrize("code", CKR_NAMES)
def test_every_value_has_an_error_that_crosses_the_wire(code: int) -> None:
    error = failure(code, "C_Something")
    assert type(error) is not DriverError
    assert (error.native_code, error.native_name) == (code, CKR_NAMES[code])
    assert "C_Something" in error.message
    again = DriverError.from_wire(error.to_wire())
    assert (type(again), again.facts()) == (type(error), error.facts())


@pytest.mark.parametrize(
    ("code", "name"), [(0x80000001, "CKR_VENDOR_DEFINED"), (0xFFFFFFFF, "CKR_VENDOR_DEFINED"), (0x7777, "CKR_0x7777")]
)
def test_unknown_value_keeps_its_number(code: int, name: str) -> None:
    error = failure(code, "C_Sign")
    assert type(error) is DeviceFailure
    assert (error.native_code, error.native_name) == (code, name)


@pytest.mark.parametrize("error", BINDING_ERRORS, ids=lambda error: error.__name__)
def test_every_error_of_the_binding_finds_its_number(error: type[Exception]) -> None:
    with pytest.raises(DriverError) as caught, translated("C_Something"):
        raise error
    assert caught.value.native_name in CKR
    assert caught.value.native_code == CKR[caught.value.native_name]
    assert isinstance(caught.value.__cause__, error)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (pkcs11.PinIncorrect(), PinIncorrect),
        (pkcs11.PinLocked(), PinLocked),
        (pkcs11.UserNotLoggedIn(), LoginRequired),
        (pkcs11.DeviceRemoved(), TokenRemoved),
        (pkcs11.TokenNotPresent(), TokenRemoved),
        (pkcs11.PKCS11Error("Unmapped error code 0x8000abcd"), DeviceFailure),
        (pkcs11.PKCS11Error("OS exception"), DeviceFailure),
        (pkcs11.ArgumentsBad("words"), DeviceFailure),
        (ValueError("no enumeration"), DeviceFailure),
        (MemoryError(), DeviceFailure),
    ],
)
def test_meaning(raised: Exception, expected: type[DriverError]) -> None:
    with pytest.raises(expected), translated("C_Something"):
        raise raised


def test_unmapped_number_is_read_from_the_text() -> None:
    with pytest.raises(DeviceFailure) as caught, translated("C_Something"):
        raise pkcs11.PKCS11Error("Unmapped error code 0x8000abcd")
    assert caught.value.native_code == 0x8000ABCD


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), translated("C_Something"):
        raise KeyError
