"""What SAR values mean to the agent, and how names are decorated."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sealdrivers import errors
from sealdrivers.errors import DeviceFailure, DriverError
from sealdrivers.skf import abi
from sealdrivers.skf.errors import SAR, SAR_NAMES, failure

MEANINGS = {
    # GM/T 0016-2012 annex A
    0x0A000003: ("SAR_NOTSUPPORTYETERR", errors.NotSupported),
    0x0A000005: ("SAR_INVALIDHANDLEERR", errors.DeviceFailure),
    0x0A000020: ("SAR_BUFFER_TOO_SMALL", errors.DeviceFailure),
    0x0A000023: ("SAR_DEVICE_REMOVED", errors.TokenRemoved),
    0x0A000024: ("SAR_PIN_INCORRECT", errors.PinIncorrect),
    0x0A000025: ("SAR_PIN_LOCKED", errors.PinLocked),
    0x0A000027: ("SAR_PIN_LEN_RANGE", errors.PinRejected),
    0x0A00002D: ("SAR_USER_NOT_LOGGED_IN", errors.LoginRequired),
    0x0A00002F: ("SAR_FILE_ALREADY_EXIST", errors.ObjectExists),
    0x0A000030: ("SAR_NO_ROOM", errors.TokenFull),
    0x0A000032: ("SAR_REACH_MAX_CONTAINER_COUNT", errors.TokenFull),
    # vendors
    0x0A000033: ("SAR_VENDOR_0A000033", errors.DeviceFailure),
    0x0A00003B: ("SAR_VENDOR_0A00003B", errors.DeviceFailure),
    0x0B000033: ("SAR_LONGMAI_SECURITY_STATE", errors.LoginRequired),
    0x0B000036: ("SAR_LONGMAI_CONTAINER_EXISTS", errors.ObjectExists),
}


@pytest.mark.parametrize("code", MEANINGS, ids=hex)
def test_meaning(code: int) -> None:
    name, kind = MEANINGS[code]
    error = failure(code, "SKF_ECCSignData")
    assert type(error) is kind
    assert (error.native_code, error.native_name) == (code, name)
    assert error.message.startswith("SKF_ECCSignData: ")


def test_the_standard_has_fifty_values_without_a_gap() -> None:
    assert sorted(SAR.values()) == [0x0A000000 + number for number in range(1, 0x33)]
    assert len(set(SAR_NAMES.values())) == len(SAR_NAMES)


@pytest.mark.parametrize("code", [1, 0x0A0000FF, 0x0B000001, 0xFFFFFFFF])
def test_unknown_values_are_device_failures_with_their_number(code: int) -> None:
    error = failure(code, "SKF_EnumDev")
    assert type(error) is DeviceFailure
    assert error.native_name == f"SAR_0x{code:08X}"


def test_no_value_passes_for_another_error_of_the_tree() -> None:
    for code in SAR_NAMES:
        assert type(DriverError.from_wire(failure(code, "x").to_wire())) is type(failure(code, "x"))


def test_a_worker_for_32_bit_libraries_needs_little_besides_python() -> None:
    heavy = "'pkcs11', 'cryptography', 'aiohttp', 'pydantic', 'lxml', 'sealagent'"
    program = f"import sealdrivers.skf.driver, sys; print([name for name in ({heavy}) if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_names_as_32_bit_windows_libraries_decorate_them() -> None:
    assert abi.decorated_names("SKF_EnumDev") == ("SKF_EnumDev", "_SKF_EnumDev", "SKF_EnumDev@12", "_SKF_EnumDev@12")
    assert abi.decorated_names("SKF_ReadFile")[2] == "SKF_ReadFile@24"
    assert set(abi.REQUIRED) <= abi.PROTOTYPES.keys()
