"""The soft SKF library's devices, names, handles, PINs, files and events, through its C interface."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from ctypes import byref, c_uint32, c_void_p, create_string_buffer
from pathlib import Path

import pytest

from softgm import ADMIN, NEVER, USER, SoftSkf, SoftSkfToken
from softgm.client import ADMIN_TYPE, USER_TYPE, Opened, Skf, SkfError

INVALID_HANDLE, REMOVED, INCORRECT, LOCKED = 0x0A000005, 0x0A000023, 0x0A000024, 0x0A000025
NOT_LOGGED_IN, LENGTH_RANGE = 0x0A00002D, 0x0A000027
DEVICE_KEY = b"1234567812345678"
NewToken = Callable[..., SoftSkfToken]


@pytest.fixture
def skf(softskf: SoftSkf) -> Skf:
    return Skf(softskf.library)


@pytest.fixture
def opened(skf: Skf, softskf_token: SoftSkfToken) -> Opened:
    softskf_token.add_key("sm2")
    return skf.open(softskf_token)


def authenticate(opened: Opened, key: bytes = DEVICE_KEY) -> int:
    challenge = create_string_buffer(8)
    opened.skf.call("SKF_GenRandom", opened.device, challenge, 8)
    command = ["openssl", "enc", "-sm4-ecb", "-nopad", "-K", key.hex()]
    answer = subprocess.run(command, input=challenge.raw + bytes(8), capture_output=True, check=True).stdout
    return opened.skf.code("SKF_DevAuth", opened.device, answer, len(answer))


# ---- devices and records ----


def test_dev_info_is_294_octets_with_the_facts_at_their_places(skf: Skf, softskf_new_token: NewToken) -> None:
    token = softskf_new_token("标签", serial="S1", manufacturer="厂商".encode("gbk"), space=1000)
    token.add_file("seal", bytes(100))
    opened = skf.open(token, None)
    buffer = create_string_buffer(b"\xa5" * 512, 512)
    skf.call("SKF_GetDevInfo", opened.device, buffer)
    raw = buffer.raw
    assert raw[294:] == b"\xa5" * 218
    assert raw[293] == 0
    assert raw[2:66].rstrip(b"\0").decode("gbk") == "厂商"
    assert raw[130:162].rstrip(b"\0").decode() == "标签"
    assert raw[162:194].rstrip(b"\0") == b"S1"
    words = [int.from_bytes(raw[at : at + 4], "little") for at in range(198, 230, 4)]
    assert words == [0x401, 0x00030300, 7, 0x401, 1000, 900, 256, 4096]


def test_only_present_devices_are_listed_unless_all_are_asked_for(skf: Skf, softskf_new_token: NewToken) -> None:
    first, second = softskf_new_token(), softskf_new_token(name="设备".encode("gbk"))
    names = {first.name.encode(), "设备".encode("gbk")}
    assert set(skf.names("SKF_EnumDev", 1)) == names
    first.remove()
    assert set(skf.names("SKF_EnumDev", 1)) == {"设备".encode("gbk")}
    assert set(skf.names("SKF_EnumDev", 0)) == names
    assert skf.code("SKF_ConnectDev", first.name.encode(), byref(c_void_p())) == REMOVED
    assert [skf.number("SKF_GetDevState", name) for name in (first.name.encode(), *names)].count(0) == 2
    assert skf.number("SKF_GetDevState", b"unknown") == 2
    second.destroy()
    assert skf.octets("SKF_EnumDev", 1) == b"\0\0"


def test_name_list_wants_room_and_ends_in_two_nuls(skf: Skf, softskf_token: SoftSkfToken) -> None:
    name = softskf_token.name.encode()
    assert skf.octets("SKF_EnumDev", 1) == name + b"\0\0"
    size = c_uint32(len(name))
    buffer = create_string_buffer(len(name))
    assert skf.code("SKF_EnumDev", 1, buffer, byref(size)) == 0x0A000020
    assert (size.value, buffer.raw) == (len(name) + 2, bytes(len(name)))


@pytest.mark.parametrize("name", [b"..", b"a/b", b"", b".hidden", b"x" * 200])
def test_names_lead_nowhere_else(opened: Opened, name: bytes) -> None:
    skf, out = opened.skf, byref(c_void_p())
    assert skf.code("SKF_ConnectDev", name, out) == 0x0A000006
    assert skf.code("SKF_OpenApplication", opened.device, name, out) == 0x0A00002B
    assert skf.code("SKF_OpenContainer", opened.application, name, out) == 0x0A000009
    assert skf.code("SKF_CreateFile", opened.application, name, 1, 0xFF, 0xFF) == 0x0A000009


def test_label_is_set_and_kept(opened: Opened) -> None:
    opened.skf.call("SKF_SetLabel", opened.device, "新".encode())
    assert opened.skf.code("SKF_SetLabel", opened.device, b"x" * 32) == 0x0A000009
    assert opened.skf.record("SKF_GetDevInfo", opened.device, size=294)[130:162].rstrip(b"\0").decode() == "新"


def test_without_a_folder_of_devices_nothing_works(skf: Skf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOFTSKF_DIR")
    assert skf.code("SKF_EnumDev", 1, None, byref(c_uint32())) == 0x0A00000C


def test_exclusive_use_ends_with_the_handle(skf: Skf, softskf_token: SoftSkfToken) -> None:
    first, second = skf.open(softskf_token, None), skf.open(softskf_token, None)
    skf.call("SKF_LockDev", first.device, 0xFFFFFFFF)
    start = time.monotonic()
    assert skf.code("SKF_LockDev", second.device, 50) == 0x0A00000F
    assert 0.05 <= time.monotonic() - start < 5
    skf.call("SKF_UnlockDev", first.device)
    skf.call("SKF_LockDev", second.device, 50)
    second.close()
    skf.call("SKF_LockDev", first.device, 50)


# ---- handles ----


def test_kind_of_handle_is_checked_and_costs_no_try(opened: Opened) -> None:
    skf, retries = opened.skf, byref(c_uint32())
    for wrong in (opened.device, opened.container, None, c_void_p(16)):
        assert skf.code("SKF_VerifyPIN", wrong, USER_TYPE, b"wrong-pin", retries) == INVALID_HANDLE
    for wrong in (opened.application, opened.container, c_void_p()):
        assert skf.code("SKF_GetDevInfo", wrong, create_string_buffer(512)) == INVALID_HANDLE
        assert skf.code("SKF_GenRandom", wrong, create_string_buffer(8), 8) == INVALID_HANDLE
    for wrong in (opened.application, opened.device):
        assert skf.code("SKF_ECCSignData", wrong, bytes(32), 32, create_string_buffer(128)) == INVALID_HANDLE
    assert opened.token.tries_left() == 6


def test_closing_ends_what_is_below(opened: Opened) -> None:
    skf = opened.skf
    skf.call("SKF_CloseApplication", opened.application)
    assert skf.code("SKF_GetContainerType", opened.container, byref(c_uint32())) == INVALID_HANDLE
    assert skf.code("SKF_CloseApplication", opened.application) == INVALID_HANDLE
    opened.close()
    assert skf.code("SKF_DisConnectDev", opened.device) == INVALID_HANDLE


def test_missing_parts_have_their_codes(opened: Opened) -> None:
    skf, out = opened.skf, byref(c_void_p())
    assert skf.names("SKF_EnumApplication", opened.device) == [b"SOFTSKF"]
    assert skf.names("SKF_EnumContainer", opened.application) == [b"key"]
    assert skf.code("SKF_OpenApplication", opened.device, b"none", out) == 0x0A00002E
    assert skf.code("SKF_OpenContainer", opened.application, b"none", out) == 0x0A000036
    assert skf.code("SKF_VerifyPIN", opened.application, 2, b"123456", byref(c_uint32())) == 0x0A00002A
    assert skf.code("SKF_EnumDev", 1, None, None) == 0x0A000006
    assert skf.code("SKF_Transmit", opened.device, b"", 0, None, byref(c_uint32())) == 0x0A000003
    assert opened.login() == 6
    assert skf.code("SKF_CreateContainer", opened.application, b"key", out) == 0x0A000037
    skf.call("SKF_DeleteContainer", opened.application, b"key")
    assert skf.code("SKF_GetContainerType", opened.container, byref(c_uint32())) == 0
    assert skf.names("SKF_EnumContainer", opened.application) == []


# ---- PINs ----


def pin_info(opened: Opened, kind: int = USER_TYPE) -> tuple[int, int, int]:
    cells = [c_uint32(), c_uint32(), c_uint32()]
    opened.skf.call("SKF_GetPINInfo", opened.application, kind, *(byref(cell) for cell in cells))
    return cells[0].value, cells[1].value, cells[2].value


def code_and_retries(opened: Opened, function: str, *arguments: object) -> tuple[int, int]:
    left = c_uint32(99)
    return opened.skf.code(function, opened.application, *arguments, byref(left)), left.value


def test_wrong_pins_count_down_to_locked_and_the_count_survives_the_process(opened: Opened) -> None:
    assert pin_info(opened) == (6, 6, 0)
    for left in (5, 4, 3):
        assert code_and_retries(opened, "SKF_VerifyPIN", USER_TYPE, b"wrong-pin") == (INCORRECT, left)
    program = (
        "from pathlib import Path; import sys; from ctypes import c_uint32, byref\n"
        "from softgm import SoftSkfToken; from softgm.client import Skf\n"
        "skf = Skf(Path(sys.argv[1])); device = skf.handle('SKF_ConnectDev', sys.argv[2].encode())\n"
        "application = skf.handle('SKF_OpenApplication', device, b'SOFTSKF'); left = c_uint32()\n"
        "print(hex(skf.code('SKF_VerifyPIN', application, 1, b'wrong-pin', byref(left))), left.value)\n"
    )
    command = [sys.executable, "-c", program, str(opened.token.library), opened.token.name]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
    assert done.stdout.split() == ["0xa000024", "2"]
    assert opened.token.tries_left() == 2
    assert opened.login() == 6
    opened.token.set_tries_left(1)
    assert code_and_retries(opened, "SKF_VerifyPIN", USER_TYPE, b"wrong-pin") == (INCORRECT, 0)
    assert code_and_retries(opened, "SKF_VerifyPIN", USER_TYPE, opened.token.user_pin.encode()) == (LOCKED, 0)
    assert pin_info(opened, ADMIN_TYPE) == (6, 6, 0)


def test_pin_of_a_wrong_length_costs_no_try(opened: Opened) -> None:
    for pin in (b"", b"12345", b"x" * 33):
        assert code_and_retries(opened, "SKF_VerifyPIN", USER_TYPE, pin) == (LENGTH_RANGE, 99)
    assert opened.token.tries_left() == 6


def test_wrong_pin_logs_out(opened: Opened) -> None:
    opened.login()
    opened.sign(bytes(range(32)))
    code_and_retries(opened, "SKF_VerifyPIN", USER_TYPE, b"wrong-pin")
    with pytest.raises(SkfError, match="0x0A00002D"):
        opened.sign(bytes(range(32)))


def test_unblocking_needs_the_administrators_pin(opened: Opened) -> None:
    opened.token.lock()
    assert code_and_retries(opened, "SKF_UnblockPIN", b"wrong-pin", b"new-pin") == (INCORRECT, 5)
    assert code_and_retries(opened, "SKF_UnblockPIN", opened.token.so_pin.encode(), b"short") == (LENGTH_RANGE, 99)
    assert code_and_retries(opened, "SKF_UnblockPIN", opened.token.so_pin.encode(), b"new-pin") == (0, 6)
    assert opened.login("new-pin") == 6


def test_changing_the_pin_ends_the_factory_default(skf: Skf, softskf_new_token: NewToken) -> None:
    opened = skf.open(softskf_new_token(factory_pin=True, user_pin="123456", tries=10), None)
    assert pin_info(opened) == (10, 10, 1)
    assert code_and_retries(opened, "SKF_ChangePIN", USER_TYPE, b"wrong-pin", b"new-pin") == (INCORRECT, 9)
    assert code_and_retries(opened, "SKF_ChangePIN", USER_TYPE, b"123456", b"new-pin") == (0, 10)
    assert pin_info(opened) == (10, 10, 0)
    assert code_and_retries(opened, "SKF_VerifyPIN", USER_TYPE, b"123456") == (INCORRECT, 9)


def test_login_belongs_to_the_application_until_it_is_cleared(skf: Skf, softskf_token: SoftSkfToken) -> None:
    softskf_token.add_key("sm2")
    first, second = skf.open(softskf_token), skf.open(softskf_token)
    first.login()
    first.close()
    second.sign(bytes(range(32)))
    skf.call("SKF_ClearSecureState", second.application)
    with pytest.raises(SkfError, match="0x0A00002D"):
        second.sign(bytes(range(32)))


# ---- removal ----


@pytest.mark.parametrize("by_hand", [True, False])
def test_pulled_device_takes_handles_and_login_with_it(skf: Skf, softskf_token: SoftSkfToken, by_hand: bool) -> None:
    softskf_token.add_key("sm2")
    old = skf.open(softskf_token)
    old.login()
    softskf_token.remove()
    if by_hand:  # nothing but the mark tells the library
        with pytest.raises(SkfError, match="0x0A000023"):
            old.sign(bytes(32))
        (softskf_token.directory / "removed").unlink()
    else:
        softskf_token.insert()
    with pytest.raises(SkfError, match="0x0A000023"):
        old.sign(bytes(32))
    old.close()
    new = skf.open(softskf_token)
    with pytest.raises(SkfError, match="0x0A00002D"):
        new.sign(bytes(32))


def test_device_whose_folder_is_gone_is_removed(opened: Opened) -> None:
    opened.token.destroy()
    with pytest.raises(SkfError, match="0x0A000023"):
        opened.skf.number("SKF_GetContainerType", opened.container)
    opened.close()


def wait_event(skf: Skf) -> tuple[bytes, int]:
    size, event, name = c_uint32(128), c_uint32(), create_string_buffer(128)
    skf.call("SKF_WaitForDevEvent", name, byref(size), byref(event))
    return name.raw[: size.value].rstrip(b"\0"), event.value


def test_events_report_removal_and_insertion_and_can_be_cancelled(skf: Skf, softskf_token: SoftSkfToken) -> None:
    found: list[object] = []

    def wait() -> None:
        try:
            while True:
                found.append(wait_event(skf))
        except SkfError as error:
            found.append(error.code)

    def until(count: int) -> None:
        end = time.monotonic() + 10
        while len(found) < count and time.monotonic() < end:
            time.sleep(0.01)

    thread = threading.Thread(target=wait)
    thread.start()
    name = softskf_token.name.encode()
    time.sleep(0.3)  # the first look, after which changes count
    before = len(found)  # what earlier tests left to report
    softskf_token.remove()
    until(before + 1)
    assert skf.names("SKF_EnumDev", 1) == [], "other calls go on while one waits"
    softskf_token.insert()
    until(before + 2)
    softskf_token.remove()
    softskf_token.insert()
    until(before + 4)
    skf.call("SKF_CancelWaitForDevEvent")
    thread.join(10)
    assert found[before:] == [(name, 2), (name, 1), (name, 2), (name, 1), 0x0A000022]


# ---- applications and files ----


def test_applications_need_the_authentication_of_the_device(opened: Opened) -> None:
    skf, out = opened.skf, byref(c_void_p())
    creation = (b"NEW", b"admin-pin", 3, b"user-pin", 4, USER, out)
    assert skf.code("SKF_CreateApplication", opened.device, *creation) == 0x0A00003B
    assert skf.code("SKF_DevAuth", opened.device, bytes(16), 16) == 0x0A000001  # no challenge was asked for
    assert authenticate(opened, bytes(16)) == 0x0A000001
    assert authenticate(opened) == 0
    skf.call("SKF_ChangeDevAuthKey", opened.device, b"another key 1234", 16)
    assert authenticate(opened, b"another key 1234") == 0
    skf.call("SKF_CreateApplication", opened.device, *creation)
    assert skf.code("SKF_CreateApplication", opened.device, *creation) == 0x0A00002C
    assert skf.names("SKF_EnumApplication", opened.device) == [b"NEW", b"SOFTSKF"]
    new = skf.handle("SKF_OpenApplication", opened.device, b"NEW")
    assert skf.number("SKF_VerifyPIN", new, USER_TYPE, b"user-pin") == 4
    skf.call("SKF_DeleteApplication", opened.device, b"NEW")
    assert skf.names("SKF_EnumApplication", opened.device) == [b"SOFTSKF"]


def read(opened: Opened, name: bytes, offset: int = 0, size: int = 65536) -> bytes:
    return opened.skf.octets("SKF_ReadFile", opened.application, name, offset, size)


def test_file_is_created_written_in_parts_read_and_deleted(opened: Opened) -> None:
    skf, application = opened.skf, opened.application
    assert skf.code("SKF_CreateFile", application, b"seal", 6, 0xFF, USER) == NOT_LOGGED_IN
    opened.login()
    skf.call("SKF_CreateFile", application, b"seal", 6, 0xFF, USER)
    assert skf.code("SKF_CreateFile", application, b"seal", 6, 0xFF, USER) == 0x0A00002F
    assert skf.code("SKF_CreateFile", application, b"x" * 33, 6, 0xFF, USER) == 0x0A000009
    assert skf.code("SKF_CreateFile", application, b"big", 65536, 0xFF, USER) == 0x0A000030
    skf.call("SKF_WriteFile", application, b"seal", 0, b"abc", 3)
    skf.call("SKF_WriteFile", application, b"seal", 3, b"def", 3)
    assert skf.code("SKF_WriteFile", application, b"seal", 4, b"def", 3) == 0x0A000010
    skf.call("SKF_ClearSecureState", application)
    assert skf.code("SKF_WriteFile", application, b"seal", 0, b"abc", 3) == NOT_LOGGED_IN
    assert skf.names("SKF_EnumFiles", application) == [b"seal"]
    info = skf.record("SKF_GetFileInfo", application, b"seal", size=44)
    assert info == b"seal".ljust(32, b"\0") + b"".join(n.to_bytes(4, "little") for n in (6, 0xFF, USER))
    assert (read(opened, b"seal"), read(opened, b"seal", 2, 3), read(opened, b"seal", 6)) == (b"abcdef", b"cde", b"")
    with pytest.raises(SkfError, match="0x0A000006"):
        read(opened, b"seal", 7)
    opened.login()
    skf.call("SKF_DeleteFile", application, b"seal")
    assert skf.code("SKF_DeleteFile", application, b"seal") == 0x0A000031


@pytest.mark.parametrize("right", [NEVER, ADMIN, USER])
def test_rights_of_a_file(opened: Opened, right: int) -> None:
    opened.token.add_file("secret", b"octets", read=right)
    logins = {ADMIN: ADMIN_TYPE, USER: USER_TYPE}
    for login in (None, *logins.values()):
        if login is not None:
            opened.skf.call("SKF_ClearSecureState", opened.application)
            opened.login(kind=login)
        if login is not None and logins.get(right) == login:
            assert read(opened, b"secret") == b"octets"
        else:
            with pytest.raises(SkfError, match="0x0A00002D"):
                read(opened, b"secret")


def test_device_may_insist_on_its_transfer_size(skf: Skf, softskf_new_token: NewToken) -> None:
    token = softskf_new_token(max_buffer=64, insist_on_max_buffer=1)
    token.add_file("seal", bytes(range(100)))
    opened = skf.open(token, None)
    with pytest.raises(SkfError, match="0x0A000010"):
        read(opened, b"seal", 0, 65)
    assert read(opened, b"seal", 0, 64) + read(opened, b"seal", 64, 64) == bytes(range(100))


def test_seal_kept_by_the_vendors_extension(opened: Opened, softskf: SoftSkf) -> None:
    skf, application = opened.skf, opened.application
    opened.token.add_seal(b"seal")
    with pytest.raises(SkfError, match="0x0A00002D"):
        eps_read(opened)
    opened.login()
    assert eps_read(opened) == b"seal"
    skf.call("EPS_WriteESealData", application, b"another", 7, 0)
    assert eps_read(opened) == b"another"
    assert skf.code("EPS_WriteESealData", application, bytes(40961), 40961, 0) == 0x0A000010
    opened.token.configure(eps=0)
    with pytest.raises(SkfError, match="0x0A000003"):
        eps_read(opened)
    plain = Skf(softskf.plain_library).native
    assert hasattr(plain, "SKF_EnumDev")
    assert not hasattr(plain, "EPS_ReadESealData")


def eps_read(opened: Opened) -> bytes:
    size = c_uint32(40960)
    buffer = create_string_buffer(size.value)
    opened.skf.call("EPS_ReadESealData", opened.application, 0xA2, 0x401, buffer, byref(size), 0)
    return buffer.raw[: size.value]


# ---- the command ----


def test_one_command_makes_a_usable_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["create", "--label", "印章", "--pin", "123456", "--so-pin", "12345678", "--key", "sm2", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "softgm", *command], capture_output=True, text=True, check=True, env=environment
    )
    said = dict(line.replace("=", " ").split(maxsplit=1) for line in done.stdout.splitlines())
    monkeypatch.setenv("SOFTSKF_DIR", str(tmp_path))
    skf = Skf(Path(said["library"]))
    assert said["export"] == f"SOFTSKF_DIR {tmp_path}"
    [name] = skf.names("SKF_EnumDev", 1)
    assert Path(said["device"]) == tmp_path / name.decode()
    opened = skf.open(SoftSkfToken(tmp_path / name.decode(), "印章", "", "SOFTSKF", "123456", "12345678"))
    assert opened.login() == 6
    assert opened.sign(bytes(range(32))) != bytes(128)
    assert skf.octets("SKF_ExportCertificate", opened.container, 1)
    opened.close()
