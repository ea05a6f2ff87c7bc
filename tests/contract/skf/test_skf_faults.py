"""The SKF driver where the library lies or fails, and where the device is pulled. Faults: tests/softgm/README.md."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from skf_parts import SM2, E, pin, sign

import softgm
from sealdrivers.contract import KeyType
from sealdrivers.errors import (
    DeviceFailure,
    DriverError,
    KeyNotFound,
    TokenRemoved,
)
from sealdrivers.skf import abi
from sealdrivers.skf.driver import SkfDriver
from sealdrivers.skf.library import MAX_NAME_LIST
from sealdrivers.skf.token import SkfToken
from softgm import SoftSkf, SoftSkfToken

# Answers that make no sense

LYING = ("SKF_ExportPublicKey", "SKF_ExportCertificate", "SKF_EnumContainer", "SKF_EnumFiles", "SKF_ReadFile")


@pytest.mark.parametrize("function", [*LYING, "SKF_EnumApplication", "SKF_EnumDev"])
@pytest.mark.parametrize(
    ("fault", "argument"),
    [("oversize", 1), ("length", 0xFFFFFFFF), ("length", 0x80000000), ("overrun", 4000), ("no_output", None)],
)
def test_lengths_beyond_the_buffer_and_success_without_output(
    softskf: SoftSkf, driver: SkfDriver, device: SoftSkfToken, function: str, fault: str, argument: int | None
) -> None:
    device.add_file("seal", b"a seal")
    (token,) = driver.tokens()
    softskf.set_fault(fault, function, argument)
    with pytest.raises(DeviceFailure):
        _ = driver.tokens(), token.contents()
    softskf.clear_faults()
    (token,) = driver.tokens()
    assert len(token.contents().keys) == 1


@pytest.mark.parametrize("length", [20, MAX_NAME_LIST])
@pytest.mark.parametrize("function", ["SKF_EnumContainer", "SKF_EnumFiles"])
def test_a_length_that_covers_what_was_not_written(
    token: SkfToken, device: SoftSkfToken, function: str, length: int
) -> None:
    device.add_file("seal", b"a seal")
    device.set_fault("unterminated", function)
    device.set_fault("length", function, length)
    with pytest.raises(DeviceFailure, match="less than the library says"):
        token.contents()


@pytest.mark.parametrize("function", ["SKF_ConnectDev", "SKF_OpenApplication", "SKF_OpenContainer", "SKF_GetDevInfo"])
def test_success_without_a_handle_or_record(
    softskf: SoftSkf, driver: SkfDriver, device: SoftSkfToken, function: str
) -> None:
    softskf.set_fault("no_output", function)
    with pytest.raises(DeviceFailure, match="success without"):
        driver.tokens()[0].contents()


@pytest.mark.parametrize(
    "octets", [b"x", b"x" * 131, b"x" * 136, b"x" * 1000, bytes(132), b"\xff" * 132, b"\xff" * 268]
)
def test_octets_that_are_no_public_key(token: SkfToken, device: SoftSkfToken, octets: bytes) -> None:
    (device.directory / "blob").write_bytes(octets)
    device.set_fault("substitute", "SKF_ExportPublicKey", "blob")
    with pytest.raises(DeviceFailure):
        token.contents()


@pytest.mark.parametrize("octets", [b"x" * 300, b"x\0" * 1000])
def test_names_no_device_can_have(token: SkfToken, device: SoftSkfToken, octets: bytes) -> None:
    (device.directory / "names").write_bytes(octets)
    device.set_fault("substitute", "SKF_EnumContainer", "names")
    with pytest.raises(DeviceFailure):
        token.contents()


def test_errors_of_one_container_hide_no_other(token: SkfToken, device: SoftSkfToken) -> None:
    device.add_key("sm2", container="second")
    device.set_fault("return", "SKF_ExportPublicKey", "0x0A000001", times=1)
    device.set_fault("return", "SKF_ExportCertificate", "0x0A000002", times=1)
    first, second = token.contents().keys
    assert (first.type, first.mechanisms, first.public_key) == (KeyType.OTHER, (), None)
    assert (second.type, second.mechanisms) == (KeyType.SM2, (SM2,))
    device.set_fault("return", "SKF_ExportPublicKey", "0x0A000001", times=1)
    with pytest.raises(DeviceFailure):
        token.key(first.uri)


@pytest.mark.parametrize("code", [0x0A000001, 0x0A00001B, 0x0A000036, 0x0B000035])
def test_container_that_is_gone_whatever_the_value(token: SkfToken, device: SoftSkfToken, code: int) -> None:
    (info,) = token.contents().keys
    key = token.key(info.uri)
    token.login(pin(device))
    assert key.sign(SM2, E)
    folder = device.add_container("key")
    folder.rename(folder.with_name("renamed"))
    device.set_fault("return", "SKF_OpenContainer", hex(code))
    device.set_fault("return", "SKF_ECCSignData", hex(code))
    with pytest.raises(KeyNotFound):
        key.sign(SM2, E)


# Removal


@pytest.mark.parametrize("late", [False, True])
def test_device_pulled_in_the_middle_of_a_signature(
    unlocked: SkfToken, device: SoftSkfToken, driver: SkfDriver, late: bool
) -> None:
    (info,) = unlocked.contents().keys
    key = unlocked.key(info.uri)
    device.set_fault("unplug", "SKF_ECCSignData", times=1, late=late)
    with pytest.raises(TokenRemoved) as caught:
        key.sign(SM2, E)
    assert caught.value.native_name == "SAR_DEVICE_REMOVED"
    assert driver.tokens() == ()
    device.insert()
    (token,) = driver.tokens()
    assert token is not unlocked
    assert not token.info.logged_in
    token.login(pin(device))
    assert sign(token)


def test_device_pulled_and_plugged_in_between_two_calls(
    unlocked: SkfToken, device: SoftSkfToken, driver: SkfDriver
) -> None:
    (info,) = unlocked.contents().keys
    key = unlocked.key(info.uri)
    device.remove()
    device.insert()
    with pytest.raises(TokenRemoved):
        key.sign(SM2, E)
    assert not unlocked.logged_in
    (token,) = driver.tokens()
    token.login(pin(device))
    assert sign(token)


@pytest.mark.parametrize("function", sorted(abi.PROTOTYPES.keys() - {"SKF_EnumDev", "SKF_ConnectDev"}))
def test_device_pulled_at_any_call(device: SoftSkfToken, driver: SkfDriver, function: str) -> None:
    device.add_file("seal", b"a seal")
    device.add_key("rsa-2048", container="rsa")
    (token,) = driver.tokens()
    device.set_fault("unplug", function, times=1)
    steps: list[Callable[[], object]] = [
        lambda: token.info,
        token.contents,
        lambda: token.login(pin(device)),
        lambda: [token.key(info.uri).sign(info.mechanisms[0], E) for info in token.contents().keys],
        lambda: token.generate_key(KeyType.SM2, "new", b"\1"),
        lambda: token.generate_key(KeyType.RSA_2048, "new rsa", b"\2"),
        lambda: token.import_certificate(softgm.certificate(softgm.session_key("sm2")), "c", b"key"),
        lambda: token.import_data(b"x", "x", ""),
        lambda: token.change_pin(pin(device), pin(device)),
        lambda: token.unblock_pin(bytearray(device.so_pin.encode()), pin(device)),
        token.logout,
    ]
    pulled = False
    for step in steps:
        try:
            step()
        except TokenRemoved:
            pulled = True
            assert not token.logged_in
    assert pulled == (device.directory / "removed").exists()
    device.insert()
    driver.tokens()


def test_handle_that_dies_is_looked_up_once_more(unlocked: SkfToken, device: SoftSkfToken) -> None:
    (info,) = unlocked.contents().keys
    key = unlocked.key(info.uri)
    device.set_fault("return", "SKF_ECCSignData", "0x0A000005", times=1)
    assert key.sign(SM2, E)
    device.set_fault("return", "SKF_ECCSignData", "0x0A000001", times=1)
    with pytest.raises(DeviceFailure):
        key.sign(SM2, E)
    assert key.sign(SM2, E)


# Nothing is left open


def test_no_file_descriptor_is_left(device: SoftSkfToken, driver: SkfDriver) -> None:
    def cycle() -> None:
        (token,) = driver.tokens()
        token.login(pin(device))
        sign(token)
        device.remove()
        with pytest.raises(DriverError):
            sign(token)
        driver.tokens()
        device.insert()

    cycle()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        cycle()
    assert len(os.listdir("/proc/self/fd")) == before


def test_every_handle_is_closed(
    unlocked: SkfToken, device: SoftSkfToken, driver: SkfDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = driver._library
    opened: list[str] = []
    real_open, real_status = library.open, library.status

    def counting_open(name: str, *arguments: object) -> int:
        handle = real_open(name, *arguments)
        opened.append(name.removeprefix("SKF_Open").removeprefix("SKF_Create"))
        return handle

    def counting_status(name: str, *arguments: object) -> int:
        if name.startswith("SKF_Close"):
            opened.remove(name.removeprefix("SKF_Close"))
        return real_status(name, *arguments)

    monkeypatch.setattr(library, "open", counting_open)
    monkeypatch.setattr(library, "status", counting_status)
    sign(unlocked)
    unlocked.contents()
    unlocked.generate_key(KeyType.SM2, "new", b"\1")
    device.set_fault("return", "SKF_ExportPublicKey", "0x0A000001")
    unlocked.contents()
    device.set_fault("no_output", "SKF_ExportCertificate")
    with pytest.raises(DeviceFailure):
        unlocked.contents()
    unlocked.logout()
    assert opened == []
