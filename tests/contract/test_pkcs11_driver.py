"""The PKCS#11 driver where the module misbehaves: answers SoftHSM never gives, put into its function table."""

from __future__ import annotations

import _ctypes
import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pkcs11 import Attribute

from sealdrivers.contract import Key, KeyType, Mechanism
from sealdrivers.errors import (
    AccessRefused,
    DeviceFailure,
    DriverError,
    LoginRequired,
    MechanismNotSupported,
    ModuleNotLoadable,
    NotSupported,
    PinIncorrect,
    PinLocked,
    PinRejected,
    TokenFull,
    TokenRemoved,
)
from sealdrivers.pkcs11 import abi, binding, objects
from sealdrivers.pkcs11.driver import Pkcs11Driver, open_driver
from sealdrivers.pkcs11.errors import CKR
from sealdrivers.pkcs11.token import Pkcs11Token
from softhsm2_fixtures import SoftHsm, SoftToken
from softhsm2_fixtures.faults import change_attribute, intercept, native

DIGEST = bytes(range(32))
Native = Callable[..., int]


@pytest.fixture
def token(softhsm_token: SoftToken) -> SoftToken:
    """A token with a P-256 key pair."""
    softhsm_token.add_key("ec-p256")
    return softhsm_token


@pytest.fixture
def driver(token: SoftToken) -> Iterator[Pkcs11Driver]:
    opened = open_driver(token.module)
    yield opened
    opened.close()


@pytest.fixture
def present(driver: Pkcs11Driver) -> Pkcs11Token:
    """The driver's view of the token."""
    (found,) = driver.tokens()
    return found


@pytest.fixture
def key(present: Pkcs11Token, token: SoftToken) -> Key:
    """The token's key, logged in, and used once."""
    present.login(pin_of(token))
    (info,) = present.contents().keys
    found = present.key(info.uri)
    found.sign(Mechanism.ECDSA_SHA256, DIGEST)
    return found


def pin_of(token: SoftToken) -> bytearray:
    return bytearray(token.user_pin.encode())


class Calls:
    """Counts the calls of functions of the module, and answers some of them."""

    def __init__(self, module: Path, stack: ExitStack) -> None:
        self._module = module
        self._stack = stack
        self.count: dict[str, int] = {}

    def watch(self, name: str, *answers: int) -> None:
        """Count a function; answer its first calls with these values, and let the module answer the others."""
        self.count[name] = 0

        def call(original: Native, *arguments: Any) -> int:
            self.count[name] += 1
            return answers[self.count[name] - 1] if self.count[name] <= len(answers) else original(*arguments)

        self._stack.enter_context(intercept(self._module, name, call))

    def replace(self, name: str, replacement: Native) -> None:
        self._stack.enter_context(intercept(self._module, name, replacement))


@pytest.fixture
def calls(token: SoftToken) -> Iterator[Calls]:
    with ExitStack() as stack:
        yield Calls(token.module, stack)


# PIN tries


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("PIN_INCORRECT", PinIncorrect),
        ("PIN_LOCKED", PinLocked),
        ("PIN_LEN_RANGE", PinRejected),
        ("PIN_EXPIRED", PinRejected),
        ("SESSION_HANDLE_INVALID", DeviceFailure),
        ("OPERATION_ACTIVE", DeviceFailure),
        ("DEVICE_ERROR", DeviceFailure),
        ("FUNCTION_CANCELED", AccessRefused),
        ("DEVICE_REMOVED", TokenRemoved),
    ],
)
def test_login_is_never_tried_twice(
    present: Pkcs11Token, token: SoftToken, calls: Calls, name: str, error: type[DriverError]
) -> None:
    calls.watch("C_Login", *[CKR[f"CKR_{name}"]] * 9)
    pin = pin_of(token)
    with pytest.raises(error) as caught:
        present.login(pin)
    assert calls.count["C_Login"] == 1
    assert (caught.value.native_code, caught.value.native_name) == (CKR[f"CKR_{name}"], f"CKR_{name}")
    assert not any(pin)


@pytest.mark.parametrize("pin", [b"", b"\xff\xfe\xfd\xfc", b"1" * 256, b"1"])
def test_unfit_pin_never_reaches_the_module(present: Pkcs11Token, token: SoftToken, calls: Calls, pin: bytes) -> None:
    for name in ("C_Login", "C_SetPIN"):
        calls.watch(name)
    with pytest.raises(PinRejected):
        present.login(bytearray(pin))
    for old, new in ((bytearray(pin), b"new-pin"), (pin_of(token), bytearray(pin))):
        with pytest.raises(PinRejected):
            present.change_pin(old, bytearray(new))
    assert calls.count == {"C_Login": 0, "C_SetPIN": 0}


def test_locked_pin_never_reaches_the_module(present: Pkcs11Token, token: SoftToken, calls: Calls) -> None:
    token.lock()
    for name in ("C_Login", "C_SetPIN"):
        calls.watch(name)
    with pytest.raises(PinLocked):
        present.login(pin_of(token))
    with pytest.raises(PinLocked):
        present.change_pin(pin_of(token), bytearray(b"new-pin"))
    assert calls.count == {"C_Login": 0, "C_SetPIN": 0}


@pytest.mark.parametrize(
    "flags",
    [
        {"count_low": True, "final_try": False, "locked": False},
        {"count_low": True, "final_try": True, "locked": False},
        {"count_low": True, "final_try": False, "locked": True},
    ],
)
def test_wrong_pin_carries_the_flags_of_the_moment_after(
    present: Pkcs11Token, token: SoftToken, calls: Calls, flags: dict[str, bool]
) -> None:
    def refuse(_original: Native, *_arguments: Any) -> int:
        token.set_pin_flags(**flags)
        return CKR["CKR_PIN_INCORRECT"]

    calls.replace("C_Login", refuse)
    with pytest.raises(PinIncorrect) as caught:
        present.login(pin_of(token))
    assert {name: getattr(caught.value, name) for name in flags} == flags
    pin = present.info.pin
    assert {name: getattr(pin, name) for name in flags} == flags


def test_pin_of_an_always_authenticating_key_is_never_tried_twice(
    present: Pkcs11Token, token: SoftToken, calls: Calls
) -> None:
    token.add_key("ec-p256", object_id=b"\x02", label="second", always_authenticate=True)
    present.login(pin_of(token))
    key = present.key("pkcs11:id=%02")
    calls.watch("C_Login", *[CKR["CKR_OPERATION_ACTIVE"]] * 9)
    with pytest.raises(DeviceFailure):
        key.sign(Mechanism.ECDSA_SHA256, DIGEST, pin_of(token))
    assert calls.count["C_Login"] == 1


# The PIN is entered on the device


def _with_flag(flag: int) -> Native:
    def call(original: Native, slot: int, info: int) -> int:
        code = original(slot, info)
        abi.CK_TOKEN_INFO.from_address(info).flags |= flag
        return code

    return call


def test_protected_authentication_path(present: Pkcs11Token, calls: Calls) -> None:
    pins: list[tuple[int | None, int]] = []

    def login(_original: Native, _session: int, _user: int, pin: int | None, length: int) -> int:
        pins.append((pin, length))
        return 0

    calls.replace("C_GetTokenInfo", _with_flag(abi.CKF_PROTECTED_AUTHENTICATION_PATH))
    calls.replace("C_Login", login)
    assert present.info.protected_authentication_path
    present.login(None)
    assert pins == [(None, 0)]


def test_always_authenticating_key_on_a_device_with_its_own_keypad(
    present: Pkcs11Token, token: SoftToken, calls: Calls
) -> None:
    token.add_key("ec-p256", object_id=b"\x02", label="second", always_authenticate=True)
    present.login(pin_of(token))
    key = present.key("pkcs11:id=%02")
    users: list[int] = []

    def login(original: Native, session: int, user: int, pin: int | None, length: int) -> int:
        users.append(user)
        assert (pin, length) == (None, 0)
        typed = token.user_pin.encode()
        return original(session, user, ctypes.cast(ctypes.c_char_p(typed), ctypes.c_void_p), len(typed))

    calls.replace("C_GetTokenInfo", _with_flag(abi.CKF_PROTECTED_AUTHENTICATION_PATH))
    calls.replace("C_Login", login)
    key.sign(Mechanism.ECDSA_SHA256, DIGEST)
    assert users == [abi.CKU_CONTEXT_SPECIFIC]


# Sessions and handles


@pytest.mark.parametrize("name", ["SESSION_HANDLE_INVALID", "KEY_HANDLE_INVALID", "OBJECT_HANDLE_INVALID"])
def test_dead_handle_is_looked_up_once_more(key: Key, calls: Calls, name: str) -> None:
    calls.watch("C_SignInit", CKR[f"CKR_{name}"])
    calls.watch("C_FindObjectsInit")
    key.sign(Mechanism.ECDSA_SHA256, DIGEST)
    key.sign(Mechanism.ECDSA_SHA256, DIGEST)
    assert calls.count == {"C_SignInit": 3, "C_FindObjectsInit": 1}


def test_session_that_died_unnoticed_is_opened_again(key: Key, present: Pkcs11Token, token: SoftToken) -> None:
    def kill() -> None:
        assert native(token.module, "C_CloseSession")(present.session().handle) == 0

    kill()
    assert not present.info.logged_in
    assert len(present.contents().keys) == 1
    kill()
    present.login(pin_of(token))
    key.sign(Mechanism.ECDSA_SHA256, DIGEST)
    kill()
    with pytest.raises(LoginRequired):
        key.sign(Mechanism.ECDSA_SHA256, DIGEST)


def test_handle_that_stays_dead_is_an_error(key: Key, calls: Calls) -> None:
    calls.watch("C_SignInit", *[CKR["CKR_KEY_HANDLE_INVALID"]] * 9)
    with pytest.raises(DeviceFailure) as caught:
        key.sign(Mechanism.ECDSA_SHA256, DIGEST)
    assert caught.value.native_name == "CKR_KEY_HANDLE_INVALID"
    assert calls.count["C_SignInit"] == 2


def test_nothing_is_looked_up_between_signatures(key: Key, calls: Calls) -> None:
    for name in ("C_OpenSession", "C_FindObjectsInit", "C_GetAttributeValue", "C_Login", "C_GetTokenInfo"):
        calls.watch(name)
    for _ in range(10):
        key.sign(Mechanism.ECDSA_SHA256, DIGEST)
    assert set(calls.count.values()) == {0}


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("DEVICE_ERROR", DeviceFailure),
        ("GENERAL_ERROR", DeviceFailure),
        ("DATA_LEN_RANGE", MechanismNotSupported),
        ("MECHANISM_INVALID", MechanismNotSupported),
        ("KEY_FUNCTION_NOT_PERMITTED", MechanismNotSupported),
        ("USER_NOT_LOGGED_IN", LoginRequired),
        ("FUNCTION_REJECTED", AccessRefused),
        ("FUNCTION_NOT_SUPPORTED", NotSupported),
        ("DEVICE_MEMORY", TokenFull),
        ("DEVICE_REMOVED", TokenRemoved),
        ("BUFFER_TOO_SMALL", DeviceFailure),
    ],
)
def test_failed_signature_is_named_and_leaves_the_token_usable(
    key: Key, present: Pkcs11Token, calls: Calls, name: str, error: type[DriverError]
) -> None:
    calls.watch("C_Sign", CKR[f"CKR_{name}"])
    with pytest.raises(error) as caught:
        key.sign(Mechanism.ECDSA_SHA256, DIGEST)
    assert caught.value.native_name == f"CKR_{name}"
    assert calls.count["C_Sign"] == 1
    assert present.info.logged_in
    key.sign(Mechanism.ECDSA_SHA256, DIGEST)


def test_vendor_error_keeps_its_number(key: Key, calls: Calls) -> None:
    calls.watch("C_Sign", 0x8000ABCD)
    with pytest.raises(DeviceFailure) as caught:
        key.sign(Mechanism.ECDSA_SHA256, DIGEST)
    assert (caught.value.native_code, caught.value.native_name) == (0x8000ABCD, "CKR_VENDOR_DEFINED")


def test_token_of_few_sessions_survives_a_failed_signature(
    key: Key, present: Pkcs11Token, token: SoftToken, calls: Calls
) -> None:
    calls.watch("C_Sign", CKR["CKR_DEVICE_ERROR"])
    calls.watch("C_OpenSession", CKR["CKR_SESSION_COUNT"])
    with pytest.raises(DeviceFailure) as caught:
        key.sign(Mechanism.ECDSA_SHA256, DIGEST)
    assert caught.value.native_name == "CKR_DEVICE_ERROR"
    assert not present.info.logged_in
    present.login(pin_of(token))
    key.sign(Mechanism.ECDSA_SHA256, DIGEST)


def test_sessions_do_not_pile_up(key: Key, present: Pkcs11Token, calls: Calls, token: SoftToken) -> None:
    calls.watch("C_OpenSession")
    calls.watch("C_CloseSession")
    calls.watch("C_Sign", *[CKR["CKR_DEVICE_ERROR"]] * 20)
    for _ in range(20):
        with pytest.raises(DeviceFailure):
            key.sign(Mechanism.ECDSA_SHA256, DIGEST)
    for _ in range(20):
        with pytest.raises(PinIncorrect):
            present.login(bytearray(b"wrong-pin"))
    present.login(pin_of(token))
    present.generate_key(KeyType.EC_P256, "key", b"\x02")
    assert calls.count["C_OpenSession"] == calls.count["C_CloseSession"]


# Signatures that cannot be


def _answering(octets: bytes, claimed: int | None = None) -> Native:
    def sign(_original: Native, _session: int, _data: int, _length: int, buffer: int, length: int) -> int:
        ctypes.memmove(buffer, octets, len(octets))
        ctypes.c_ulong.from_address(length).value = len(octets) if claimed is None else claimed
        return 0

    return sign


@pytest.mark.parametrize(
    "answer",
    [
        _answering(b""),
        _answering(b"\x01" * 63),
        _answering(b"\x01" * 65),
        _answering(b"\0" * 64),
        _answering(b"\0" * 32 + b"\x01" * 32),
        _answering(b"\x01" * 32 + b"\0" * 32),
        _answering(b"", claimed=64 << 20),
        _answering(b"", claimed=(1 << 64) - 1),
    ],
    ids=["nothing", "short", "long", "zeros", "r = 0", "s = 0", "larger than the buffer", "absurd"],
)
def test_answer_that_is_no_signature(key: Key, token: SoftToken, answer: Native) -> None:
    with intercept(token.module, "C_Sign", answer), pytest.raises(DeviceFailure):
        key.sign(Mechanism.ECDSA_SHA256, DIGEST)
    key.sign(Mechanism.ECDSA_SHA256, DIGEST)


# What the token offers and holds


def test_only_what_the_mechanism_list_allows_is_offered(present: Pkcs11Token, token: SoftToken, calls: Calls) -> None:
    token.add_key("rsa-2048", object_id=b"\x02")

    def restrict(original: Native, slot: int, mechanism: int, info: int) -> int:
        code = original(slot, mechanism, info)
        facts = (ctypes.c_ulong * 3).from_address(info)  # minimum, maximum, flags
        if mechanism == 0xD:  # CKM_RSA_PKCS_PSS does not sign
            facts[2] &= ~abi.CKF_SIGN
        if mechanism == 0x1041:  # CKM_ECDSA signs with larger keys only
            facts[0] = 384
        return code

    calls.replace("C_GetMechanismInfo", restrict)
    keys = {key.type: key.mechanisms for key in present.contents().keys}
    assert keys[KeyType.EC_P256] == ()
    assert keys[KeyType.RSA_2048] == (
        Mechanism.RSA_PKCS1_SHA256,
        Mechanism.RSA_PKCS1_SHA384,
        Mechanism.RSA_PKCS1_SHA512,
    )


def test_key_that_may_not_sign_offers_nothing(key: Key, present: Pkcs11Token, token: SoftToken) -> None:
    with change_attribute(token.module, Attribute.SIGN, b"\0"):
        (info,) = present.contents().keys
    assert info.mechanisms == ()


@pytest.mark.parametrize(("attribute", "value"), [(Attribute.EXTRACTABLE, b"\1"), (Attribute.SENSITIVE, b"\0")])
def test_generated_key_that_can_be_extracted_is_deleted(
    present: Pkcs11Token, token: SoftToken, attribute: Attribute, value: bytes
) -> None:
    present.login(pin_of(token))
    with (
        change_attribute(token.module, attribute, value),
        pytest.raises(DeviceFailure, match="extracted"),
    ):
        present.generate_key(KeyType.EC_P256, "key", b"\x02")
    assert {item["id"] for item in token.objects()} == {"01"}


def test_token_that_takes_attributes_one_by_one_only(present: Pkcs11Token, calls: Calls) -> None:
    def one_by_one(original: Native, session: int, item: int, template: int, count: int) -> int:
        return CKR["CKR_FUNCTION_FAILED"] if count > 1 else original(session, item, template, count)

    whole = present.contents()
    calls.replace("C_GetAttributeValue", one_by_one)
    assert present.contents() == whole


def test_number_of_objects_is_limited(present: Pkcs11Token, token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        token.add_data(b"x", label=f"data {number}")
    monkeypatch.setattr(binding, "MAX_OBJECTS", 2)
    with pytest.raises(DeviceFailure, match="more than 2 objects"):
        present.contents()
    monkeypatch.setattr(binding, "MAX_OBJECTS", 3)
    assert len(present.contents().data_objects) == 3


def test_octets_of_all_data_objects_are_limited(
    present: Pkcs11Token, token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        token.add_data(b"x" * 100, label=f"data {number}")
    monkeypatch.setattr(objects, "MAX_DATA_TOTAL", 250)
    assert len(present.contents().data_objects) == 2


def test_hundreds_of_objects(present: Pkcs11Token, token: SoftToken) -> None:
    for number in range(150):
        token.add_data(os.urandom(10), label=f"data {number}")
    assert {data.label for data in present.contents().data_objects} == {f"data {number}" for number in range(150)}


# Presence


def test_another_token_in_the_slot_is_not_taken_for_the_first(key: Key, present: Pkcs11Token, calls: Calls) -> None:
    def exchanged(original: Native, slot: int, info: int) -> int:
        code = original(slot, info)
        abi.CK_TOKEN_INFO.from_address(info).serialNumber[0] ^= 1
        return code

    calls.replace("C_GetTokenInfo", exchanged)
    with pytest.raises(TokenRemoved):
        _ = present.info
    with pytest.raises(TokenRemoved):
        present.contents()
    with pytest.raises(TokenRemoved):
        present.login(bytearray(b"some-pin"))


def test_softhsm_is_not_restarted_under_a_logged_in_user(
    key: Key, driver: Pkcs11Driver, present: Pkcs11Token, softhsm_new_token: Callable[..., SoftToken], calls: Calls
) -> None:
    calls.watch("C_Finalize")
    later = softhsm_new_token()
    assert driver.tokens() == (present,)
    assert calls.count["C_Finalize"] == 0
    key.sign(Mechanism.ECDSA_SHA256, DIGEST)
    present.logout()
    assert {token.info.label for token in driver.tokens()} == {present.info.label, later.label}
    assert calls.count["C_Finalize"] == 1
    driver.tokens()
    assert calls.count["C_Finalize"] == 1


def test_same_token_in_two_slots_is_listed_once(driver: Pkcs11Driver, token: SoftToken, calls: Calls) -> None:
    def twice(original: Native, present: int, slots: int | None, count: int) -> int:
        number = ctypes.c_ulong.from_address(count)
        code = original(present, slots, count)
        if code == 0 and slots is not None:
            array = (ctypes.c_ulong * (number.value + 1)).from_address(slots)
            array[number.value] = array[0]
        number.value += 1
        return code

    calls.replace("C_GetSlotList", twice)
    assert [found.info.serial for found in driver.tokens()] == [token.serial]


# Loading


def test_module_that_is_none(tmp_path: Path, softhsm: SoftHsm) -> None:
    text = tmp_path / "module.so"
    text.write_text("no library")
    cut = tmp_path / "cut.so"
    cut.write_bytes(softhsm.module.read_bytes()[:200])
    no_module = Path(_ctypes.__file__)  # a shared library without C_GetFunctionList
    for path in (tmp_path / "missing.so", tmp_path, text, cut, no_module):
        with pytest.raises(ModuleNotLoadable):
            open_driver(path)


def test_module_that_does_not_initialise(softhsm: SoftHsm) -> None:
    with (
        intercept(softhsm.module, "C_Initialize", CKR["CKR_GENERAL_ERROR"]),
        pytest.raises(ModuleNotLoadable) as caught,
    ):
        open_driver(softhsm.module)
    assert caught.value.native_code == CKR["CKR_GENERAL_ERROR"]
    open_driver(softhsm.module).close()
