"""Every fault of the soft SKF library does what its README says. Crashes and hangs happen in child processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from ctypes import byref, c_uint32, create_string_buffer
from pathlib import Path

import pytest

import softgm
from sealagent.pki.digests import digest
from sealagent.pki.sm2 import SM2PublicKey
from sealdrivers.sm2 import N
from softgm import FAULTS, SoftSkf, SoftSkfToken, certificate, new_key, spki
from softgm.client import Opened, Skf, SkfError

E = bytes(range(32))
SIGN = "SKF_ECCSignData"
FOLDER = Path(softgm.__file__).parent
CHILD = """
import sys
from pathlib import Path
from softgm import SoftSkfToken
from softgm.client import Skf, SkfError
device, library, pin = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
opened = Skf(library).open(SoftSkfToken(device, "", "", "SOFTSKF", pin, ""))
opened.login()
print("signing", flush=True)
try:
    opened.sign(bytes(range(32)))
except SkfError as error:
    print(hex(error.code))
print("end")
"""


@pytest.fixture
def skf(softskf: SoftSkf) -> Skf:
    return Skf(softskf.library)


@pytest.fixture
def opened(skf: Skf, softskf_token: SoftSkfToken) -> Opened:
    softskf_token.add_certificate(certificate(softskf_token.add_key("sm2")))
    opened = skf.open(softskf_token)
    opened.login()
    return opened


def start_child(token: SoftSkfToken, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(token.directory), str(token.library), token.user_pin]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent), **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def run_child(token: SoftSkfToken, **environment: str) -> tuple[int, list[str]]:
    process = start_child(token, **environment)
    out, _ = process.communicate(timeout=60)
    return process.returncode, out.split()


def public_key(opened: Opened) -> SM2PublicKey:
    pem = opened.token.directory / "applications/SOFTSKF/containers/key/sign.key"
    key = SM2PublicKey.from_spki(spki(pem.read_bytes()))
    assert key is not None
    return key


def numbers(blob: bytes, at: int = 32) -> tuple[int, int]:
    return int.from_bytes(blob[at : at + 32], "big"), int.from_bytes(blob[at + 64 : at + 96], "big")


def test_faults_are_those_of_the_readme_and_of_the_sources() -> None:
    readme = (FOLDER / "README.md").read_text()
    table = set(re.findall(r"^\| `(\w+)", readme.partition("## Faults")[2].partition("\n¹")[0], re.MULTILINE))
    sources = "".join(path.read_text() for part in ("skf", "common") for path in (FOLDER / part).glob("*.c"))
    acting = re.search(r"names\[\] = \{([^}]*)\}", sources)
    assert acting is not None
    used = set(re.findall(r'fault\(call, "(\w+)"\)', sources)) | set(re.findall(r'"(\w+)"', acting[1]))
    assert table == used == FAULTS


def test_unknown_fault_is_refused(softskf_token: SoftSkfToken) -> None:
    with pytest.raises(ValueError, match="no fault"):
        softskf_token.set_fault("sinature", SIGN)


# ---- any function ----


def test_delay_answers_late_and_right(opened: Opened) -> None:
    opened.token.set_fault("delay", SIGN, 0.3)
    start = time.monotonic()
    blob = opened.sign(E)
    assert 0.3 <= time.monotonic() - start < 5
    assert public_key(opened).verify(E, *numbers(blob))


def test_hang_never_answers(softskf_token: SoftSkfToken) -> None:
    softskf_token.add_key("sm2")
    softskf_token.set_fault("hang", SIGN)
    process = start_child(softskf_token)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "signing\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("how", "status"), [("abort", -signal.SIGABRT), ("segv", -signal.SIGSEGV), (None, -signal.SIGSEGV), ("exit", 3)]
)
def test_crash_ends_the_process_once(softskf_token: SoftSkfToken, how: str | None, status: int) -> None:
    softskf_token.add_key("sm2")
    softskf_token.set_fault("crash", SIGN, how, times=1)
    assert run_child(softskf_token) == (status, ["signing"])
    assert run_child(softskf_token) == (0, ["signing", "end"])


def test_unplug_in_the_middle_of_a_signature(opened: Opened) -> None:
    opened.token.set_fault("unplug", SIGN, 0.2)
    start = time.monotonic()
    with pytest.raises(SkfError, match="0x0A000023"):
        opened.sign(E)
    assert time.monotonic() - start >= 0.2
    assert opened.skf.names("SKF_EnumDev", 1) == []
    opened.token.clear_faults()
    opened.token.insert()
    again = opened.skf.open(opened.token)
    again.login()
    assert public_key(again).verify(E, *numbers(again.sign(E)))


def test_return_takes_the_place_of_the_function(opened: Opened) -> None:
    opened.token.set_fault("return", "SKF_VerifyPIN", "0x0A000025")
    with pytest.raises(SkfError, match="0x0A000025"):
        opened.login()
    with pytest.raises(SkfError, match="0x0A000025"):
        opened.login("wrong-pin")
    assert opened.token.tries_left() == 6


def test_late_fault_lets_the_function_act_first(opened: Opened) -> None:
    opened.token.set_fault("return", "SKF_VerifyPIN", "0x0A000001", late=True)
    with pytest.raises(SkfError, match="0x0A000001"):
        opened.login("wrong-pin")
    assert opened.token.tries_left() == 5


def test_no_output_succeeds_and_writes_nothing(opened: Opened) -> None:
    opened.token.set_fault("no_output", "*")
    buffer = create_string_buffer(b"\xa5" * 128, 128)
    opened.skf.call(SIGN, opened.container, E, 32, buffer)
    assert buffer.raw == b"\xa5" * 128
    size = c_uint32(77)
    opened.skf.call("SKF_ExportCertificate", opened.container, 1, None, byref(size))
    assert size.value == 77


def test_fault_counts_down_among_others(opened: Opened) -> None:
    opened.token.set_fault("return", SIGN, "0x0A000001", times=2)
    opened.token.set_fault("signature", SIGN, "zero", times=1)
    codes = []
    for _ in range(2):
        with pytest.raises(SkfError) as caught:
            opened.sign(E)
        codes.append(caught.value.code)
    assert codes == [0x0A000001] * 2
    assert opened.sign(E) == bytes(128)
    assert public_key(opened).verify(E, *numbers(opened.sign(E)))


def test_faults_from_the_environment_and_for_all_devices(opened: Opened, softskf: SoftSkf) -> None:
    softskf.set_fault("return", "SKF_EnumDev", "0x0A000001")
    assert opened.skf.code("SKF_EnumDev", 1, None, byref(c_uint32())) == 0x0A000001
    softskf.set_fault("return", SIGN, "0x0A00000E")
    with pytest.raises(SkfError, match="0x0A00000E"):
        opened.sign(E)
    softskf.clear_faults()
    faults = f"delay {SIGN} 0.01; return {SIGN} 0x0A00000F"
    assert run_child(opened.token, SOFTSKF_FAULTS=faults) == (0, ["signing", "0xa00000f", "end"])


# ---- sizes and octets ----


def certificate_call(opened: Opened, room: int) -> tuple[int, int, bytes]:
    size, buffer = c_uint32(room), create_string_buffer(b"\xa5" * 4096, 4096)
    code = opened.skf.code("SKF_ExportCertificate", opened.container, 1, buffer, byref(size))
    return code, size.value, buffer.raw


@pytest.mark.parametrize("length", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_absurd_length_in_both_calls(opened: Opened, length: int) -> None:
    opened.token.set_fault("length", "SKF_ExportCertificate", length)
    assert certificate_call(opened, 100)[:2] == (0, length)
    size = c_uint32()
    opened.skf.call("SKF_ExportCertificate", opened.container, 1, None, byref(size))
    assert size.value == length


def test_oversize_claims_more_than_the_buffer(opened: Opened) -> None:
    opened.token.set_fault("oversize", "SKF_ExportCertificate")
    code, size, data = certificate_call(opened, 100)
    assert (code, size) == (0, 116)
    assert data[100:] == b"\xa5" * 3996


def test_overrun_writes_past_the_buffer(opened: Opened) -> None:
    opened.token.set_fault("overrun", "SKF_ExportCertificate", 3)
    code, size, data = certificate_call(opened, 1000)
    assert (code, size) == (0, 1003)
    assert data[1000:] == b"\xee" * 3 + b"\xa5" * 3093


def test_substitute_hands_out_another_certificate(opened: Opened) -> None:
    other = certificate(new_key("sm2"))
    (opened.token.directory / "other.crt").write_bytes(other)
    opened.token.set_fault("substitute", "SKF_ExportCertificate", "other.crt")
    assert opened.skf.octets("SKF_ExportCertificate", opened.container, 1) == other
    assert public_key(opened).point not in other


# ---- names and records ----


@pytest.mark.parametrize("size", [0, 1, 2])
def test_no_device_with_each_size(opened: Opened, softskf: SoftSkf, size: int) -> None:
    softskf.set_fault("empty", "SKF_EnumDev", size)
    assert opened.skf.octets("SKF_EnumDev", 1) == bytes(size)


@pytest.mark.parametrize("function", ["SKF_EnumApplication", "SKF_EnumContainer", "SKF_EnumFiles"])
def test_name_lists_end_as_asked_for(opened: Opened, function: str) -> None:
    opened.token.add_application("B")
    opened.token.add_container("z")
    for name in ("f", "g"):
        opened.token.add_file(name, b"")
    handle = opened.device if function == "SKF_EnumApplication" else opened.application
    whole = opened.skf.octets(function, handle)
    assert whole.endswith(b"\0\0")
    opened.token.set_fault("single_nul", function)
    assert opened.skf.octets(function, handle) == whole[:-1]
    opened.token.clear_faults()
    opened.token.set_fault("unterminated", function)
    assert opened.skf.octets(function, handle) == whole[:-2]


def test_unterminated_fields_of_records(opened: Opened) -> None:
    opened.token.add_file("f", b"")
    opened.token.set_fault("unterminated", "*")
    info = opened.skf.record("SKF_GetDevInfo", opened.device, size=294)
    assert b"\0" not in info[2:194]
    assert opened.skf.record("SKF_GetFileInfo", opened.application, b"f", size=44)[:32] == b"f" + b"x" * 31


@pytest.mark.parametrize(
    ("layout", "size", "at", "width"),
    [(None, 294, 198, 4), ("natural", 296, 200, 4), ("packed64", 326, 198, 8), ("natural64", 328, 200, 8)],
)
def test_layouts_of_dev_info(opened: Opened, layout: str | None, size: int, at: int, width: int) -> None:
    if layout is not None:
        opened.token.set_fault("layout", "SKF_GetDevInfo", layout)
    buffer = create_string_buffer(b"\xa5" * 512, 512)
    opened.skf.call("SKF_GetDevInfo", opened.device, buffer)
    assert buffer.raw[size - 1 :] == b"\0" + b"\xa5" * (512 - size)
    words = [int.from_bytes(buffer.raw[at + i * width :][:width], "little") for i in range(8)]
    assert words[:4] == [0x401, 0x00030300, 7, 0x401]
    assert words[7] == 4096
    assert buffer.raw[162:194].rstrip(b"\0").decode() == opened.token.serial


def test_short_dev_info(opened: Opened) -> None:
    opened.token.set_fault("layout", "SKF_GetDevInfo", "short")
    buffer = create_string_buffer(b"\xa5" * 512, 512)
    opened.skf.call("SKF_GetDevInfo", opened.device, buffer)
    assert buffer.raw[147:] == b"\xa5" * 365


# ---- PINs, keys, files, events ----


def test_right_pin_is_called_wrong_and_costs_a_try(opened: Opened) -> None:
    opened.token.set_fault("wrong_pin", "SKF_VerifyPIN", times=1)
    with pytest.raises(SkfError, match="0x0A000024"):
        opened.login()
    assert opened.token.tries_left() == 5
    assert opened.login() == 6


@pytest.mark.parametrize(("said", "expected"), [("0xFFFFFFFF", 0xFFFFFFFF), ("none", 99)])
def test_retries_are_reported_wrongly_or_not_at_all(opened: Opened, said: str, expected: int) -> None:
    opened.token.set_fault("retries", "*", said)
    for function, arguments in (("SKF_VerifyPIN", (1, b"wrong-pin")), ("SKF_ChangePIN", (1, b"wrong-pin", b"new-pin"))):
        left = c_uint32(99)
        assert opened.skf.code(function, opened.application, *arguments, byref(left)) == 0x0A000024
        assert left.value == expected
    assert opened.token.tries_left() == 4


def test_wide_bool_writes_eight_octets(opened: Opened) -> None:
    pair = create_string_buffer(b"\xa5" * 8, 8)
    arguments = (opened.application, 1, byref(c_uint32()), byref(c_uint32()), pair)
    opened.skf.call("SKF_GetPINInfo", *arguments)
    assert pair.raw == bytes(4) + b"\xa5" * 4
    opened.token.set_fault("wide_bool", "SKF_GetPINInfo")
    opened.skf.call("SKF_GetPINInfo", *arguments)
    assert pair.raw == bytes(8)


@pytest.mark.parametrize(("only", "other"), [(0x00020100, 0x00020200), (0x00020200, 0x00020100)])
def test_only_one_value_of_sm2_1_is_taken(opened: Opened, only: int, other: int) -> None:
    opened.token.set_fault("sm2_alg", "SKF_GenECCKeyPair", hex(only))
    with pytest.raises(SkfError, match="0x0A000003"):
        opened.skf.record("SKF_GenECCKeyPair", opened.container, other, size=132)
    opened.skf.record("SKF_GenECCKeyPair", opened.container, only, size=132)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_file_size_is_claimed(opened: Opened, size: int) -> None:
    opened.token.add_file("f", b"abc")
    opened.token.set_fault("file_size", "SKF_GetFileInfo", size)
    info = opened.skf.record("SKF_GetFileInfo", opened.application, b"f", size=44)
    assert int.from_bytes(info[32:36], "little") == size


def test_waiting_may_hold_the_librarys_lock(opened: Opened, softskf: SoftSkf) -> None:
    size, event, listed = c_uint32(128), c_uint32(), threading.Event()
    name = create_string_buffer(128)

    def wait() -> None:
        opened.skf.code("SKF_WaitForDevEvent", name, byref(size), byref(event))

    def enumerate_devices() -> None:
        opened.skf.code("SKF_EnumDev", 1, None, byref(c_uint32()))
        listed.set()

    softskf.set_fault("holds_lock", "SKF_WaitForDevEvent")
    for _ in range(100):  # what earlier tests left to report comes first
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.3)
        if waiting.is_alive():
            break
        size.value = 128
    lister = threading.Thread(target=enumerate_devices)
    lister.start()
    blocked = not listed.wait(0.3)
    opened.skf.call("SKF_CancelWaitForDevEvent")
    for thread in (waiting, lister):
        thread.join(10)
    assert blocked
    assert listed.is_set()


# ---- signatures ----


@pytest.fixture
def sign_as(opened: Opened) -> Callable[[str], bytes]:
    def sign(kind: str) -> bytes:
        opened.token.set_fault("signature", SIGN, kind)
        return opened.sign(E)

    return sign


@pytest.mark.parametrize(("kind", "value"), [("zero", 0), ("ones", 2**256 - 1)])
def test_numbers_that_are_no_signature(sign_as: Callable[[str], bytes], kind: str, value: int) -> None:
    assert numbers(sign_as(kind)) == (value, value)


@pytest.mark.parametrize(("kind", "signed"), [("flip", E[:-1] + bytes([E[-1] ^ 1])), ("hash", digest("sm3", E))])
def test_signature_of_another_digest(opened: Opened, sign_as: Callable[[str], bytes], kind: str, signed: bytes) -> None:
    pair = numbers(sign_as(kind))
    assert public_key(opened).verify(signed, *pair)
    assert not public_key(opened).verify(E, *pair)


def test_signature_of_another_key(opened: Opened, sign_as: Callable[[str], bytes]) -> None:
    r, s = numbers(sign_as("other_key"))
    assert 0 < r < N
    assert 0 < s < N
    assert not public_key(opened).verify(E, r, s)


def test_ecdsa_instead_of_sm2(opened: Opened, sign_as: Callable[[str], bytes]) -> None:
    r, s = numbers(sign_as("ecdsa"))
    key = public_key(opened)
    assert not key.verify(E, r, s)
    # ECDSA asks x(u1·G + u2·Q) = r. SM2 asks e' + x(s'·G + (r' + s')·Q) = r': the same point for s' = u1, r' = u2 - u1.
    u1, u2 = (value * pow(s, -1, N) % N for value in (int.from_bytes(E, "big"), r))
    other_r = (u2 - u1) % N
    assert key.verify(((other_r - r) % N).to_bytes(32, "big"), other_r, u1)


def test_left_aligned_numbers(opened: Opened, sign_as: Callable[[str], bytes]) -> None:
    blob = sign_as("left")
    assert blob[32:64] == blob[96:] == bytes(32)
    assert public_key(opened).verify(E, *numbers(blob, 0))


@pytest.mark.parametrize(("kind", "at"), [("short_r", 32), ("short_s", 96)])
def test_short_number_is_right_aligned_and_valid(
    opened: Opened, sign_as: Callable[[str], bytes], kind: str, at: int
) -> None:
    blob = sign_as(kind)
    assert blob[at] == 0
    assert public_key(opened).verify(E, *numbers(blob))


@pytest.mark.parametrize(("kind", "at"), [("shifted_r", 32), ("shifted_s", 96)])
def test_short_number_is_shifted_out_of_place(
    opened: Opened, sign_as: Callable[[str], bytes], kind: str, at: int
) -> None:
    blob = sign_as(kind)
    assert not public_key(opened).verify(E, *numbers(blob))
    mended = blob[:at] + b"\0" + blob[at : at + 31] + blob[at + 32 :]
    assert public_key(opened).verify(E, *numbers(mended))


def test_der_in_place_of_the_record(opened: Opened, sign_as: Callable[[str], bytes]) -> None:
    blob = sign_as("der")
    assert blob[0] == 0x30
    assert blob[blob[1] + 2 :] == bytes(126 - blob[1])
    first = blob[4 : 4 + blob[3]]
    second = blob[6 + blob[3] : 2 + blob[1]]
    assert public_key(opened).verify(E, int.from_bytes(first, "big"), int.from_bytes(second, "big"))


@pytest.mark.parametrize("kind", ["flip", "zero", "short"])
def test_rsa_signatures_go_wrong_too(skf: Skf, softskf_token: SoftSkfToken, kind: str) -> None:
    softskf_token.add_key("rsa-1024")
    opened = skf.open(softskf_token)
    opened.login()
    # One signature in 256 begins with a zero, without which it is the same number.
    digests = (bytes([number]) * 32 for number in range(256))
    signed = ((each, skf.octets("SKF_RSASignData", opened.container, each, 32)) for each in digests)
    digest, good = next((each, value) for each, value in signed if value[0])
    softskf_token.set_fault("signature", "SKF_RSASignData", kind)
    bad = skf.octets("SKF_RSASignData", opened.container, digest, 32)
    blob = skf.octets("SKF_ExportPublicKey", opened.container, 1)
    codes = [skf.code("SKF_RSAVerify", opened.device, blob, digest, 32, value, len(value)) for value in (good, bad)]
    assert codes == [0, 0x0A00001A]
    assert {"flip": bad != good, "zero": bad == bytes(128), "short": bad == good[1:]}[kind]
