"""Every fault of the soft SM2 module does what its README says. Crashes and hangs happen in child processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ctypes import addressof, byref, c_ulong, create_string_buffer
from pathlib import Path

import pytest

import softgm
from sealagent.pki.digests import digest
from sealagent.pki.sm2 import N
from softgm import SM2_FAULTS, SoftSm2, SoftSm2Token, certificate, new_key
from softgm.cryptoki import CKA, PUBLIC_KEY, Attribute, Cryptoki, CryptokiError, Opened
from softsm2_parts import DER, RAW, SIGNING, is_ecdsa, numbers, public_key

E = bytes(range(32))
SIGN_E, SM3_AND_SIGN = 0xFFFFF002, 0xFFFFF003
FOLDER = Path(softgm.__file__).parent
CHILD = """
import sys
from pathlib import Path
from types import SimpleNamespace
from softgm.cryptoki import Cryptoki, CryptokiError
library, serial, pin = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
opened = Cryptoki(library).open(SimpleNamespace(serial=serial, user_pin=pin))
opened.login()
key = opened.key()
print("signing", flush=True)
try:
    opened.sign(0xFFFFF002, bytes(range(32)), key)
except CryptokiError as error:
    print(hex(error.code))
print("end")
"""


@pytest.fixture
def cryptoki(softsm2: SoftSm2) -> Iterator[Cryptoki]:
    cryptoki = Cryptoki(softsm2.library)
    yield cryptoki
    softsm2.clear_faults()
    cryptoki.close()


@pytest.fixture
def pem(softsm2_token: SoftSm2Token) -> bytes:
    return softsm2_token.add_key("sm2", pem=new_key("sm2"))


@pytest.fixture
def opened(cryptoki: Cryptoki, softsm2_token: SoftSm2Token, pem: bytes) -> Opened:
    opened = cryptoki.open(softsm2_token)
    opened.login()
    return opened


def start_child(token: SoftSm2Token, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(token.library), token.serial, token.user_pin]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent), **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def run_child(token: SoftSm2Token, **environment: str) -> tuple[int, list[str]]:
    process = start_child(token, **environment)
    out, _ = process.communicate(timeout=60)
    return process.returncode, out.split()


def test_faults_are_those_of_the_readme_and_of_the_sources() -> None:
    readme = (
        (FOLDER / "README.md").read_text().partition("# PKCS#11\n")[2].partition("## Faults")[2].partition("\n²")[0]
    )
    rows = [line.split("|")[1] for line in readme.splitlines() if line.startswith("| `")]
    table = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    sources = "".join(path.read_text() for part in ("pkcs11", "common") for path in (FOLDER / part).glob("*.c"))
    acting = re.search(r"names\[\] = \{([^}]*)\}", sources)
    assert acting is not None
    used = set(re.findall(r'fault\(call, "(\w+)"\)', sources)) | set(re.findall(r'"(\w+)"', acting[1]))
    assert table == used == SM2_FAULTS


def test_unknown_fault_is_refused(softsm2_token: SoftSm2Token) -> None:
    with pytest.raises(ValueError, match="no fault"):
        softsm2_token.set_fault("sinature", "C_Sign")


# ---- any function ----


def test_delay_answers_late_and_right(opened: Opened, pem: bytes) -> None:
    opened.token.set_fault("delay", "C_Sign", 0.3)
    start = time.monotonic()
    signature = opened.sign(SIGN_E, E)
    assert time.monotonic() - start >= 0.3
    assert public_key(pem).verify(E, *numbers(signature, RAW))


def test_hang_never_answers_and_its_count_shows_that_the_call_is_inside(
    softsm2_token: SoftSm2Token, pem: bytes
) -> None:
    softsm2_token.set_fault("hang", "C_Sign", times=1)
    process = start_child(softsm2_token)
    try:
        while softsm2_token.faults():
            assert process.poll() is None
            time.sleep(0.01)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("how", "status"), [("abort", -signal.SIGABRT), ("segv", -signal.SIGSEGV), (None, -signal.SIGSEGV), ("exit", 3)]
)
def test_crash_ends_the_process_once(softsm2_token: SoftSm2Token, pem: bytes, how: str | None, status: int) -> None:
    softsm2_token.set_fault("crash", "C_Sign", how, times=1)
    assert run_child(softsm2_token) == (status, ["signing"])
    assert run_child(softsm2_token) == (0, ["signing", "end"])


def test_unplug_in_the_middle_of_a_signature(opened: Opened, pem: bytes) -> None:
    opened.token.set_fault("unplug", "C_Sign", 0.2, times=1)
    start = time.monotonic()
    with pytest.raises(CryptokiError, match="C_Sign: 0x32"):
        opened.sign(SIGN_E, E)
    assert time.monotonic() - start >= 0.2
    assert opened.slot not in opened.cryptoki.slots()
    assert opened.cryptoki.code("C_GetTokenInfo", opened.slot, create_string_buffer(208)) == 0xE0
    opened.token.insert()
    again = opened.cryptoki.open(opened.token)
    again.login()
    assert public_key(pem).verify(E, *numbers(again.sign(SIGN_E, E), RAW))


def test_return_takes_the_place_of_the_function(opened: Opened) -> None:
    opened.token.set_fault("return", "C_Login", "0xA4")
    opened.call("C_Logout")
    assert opened.login_code() == 0xA4
    assert opened.login_code("wrong-pin") == 0xA4
    assert opened.token.tries_left() == 6


def test_late_fault_lets_the_function_act_first(opened: Opened) -> None:
    opened.call("C_Logout")
    opened.token.set_fault("return", "C_Login", "0x5", late=True)
    assert opened.login_code("wrong-pin") == 5
    assert opened.token.tries_left() == 5


def test_no_output_succeeds_and_writes_nothing(opened: Opened, softsm2: SoftSm2) -> None:
    assert opened.sign_init(SIGN_E) == 0
    opened.token.set_fault("no_output", "*")
    buffer, size = create_string_buffer(b"\xa5" * 64, 64), c_ulong(77)
    opened.call("C_Sign", E, 32, buffer, byref(size))
    assert (buffer.raw, size.value) == (b"\xa5" * 64, 77)
    softsm2.set_fault("no_output", "C_GetSlotList")
    opened.cryptoki.call("C_GetSlotList", 1, None, byref(size))
    assert size.value == 77


def test_fault_counts_down_among_others(opened: Opened, pem: bytes) -> None:
    opened.token.set_fault("return", "C_Sign", "0x30", times=2)
    opened.token.set_fault("signature", "C_Sign", "zero", times=1)
    assert opened.sign_init(SIGN_E) == 0
    buffer, size = create_string_buffer(64), c_ulong(64)
    assert [opened.code("C_Sign", E, 32, buffer, byref(size)) for _ in range(3)] == [0x30, 0x30, 0]
    assert buffer.raw == bytes(64)
    assert opened.token.faults() == []
    assert public_key(pem).verify(E, *numbers(opened.sign(SIGN_E, E), RAW))


def test_faults_from_the_environment_and_for_all_tokens(opened: Opened, softsm2: SoftSm2) -> None:
    softsm2.set_fault("return", "C_GetSlotList", "0x5")
    assert opened.cryptoki.code("C_GetSlotList", 1, None, byref(c_ulong())) == 5
    softsm2.set_fault("return", "C_SignInit", "0x6")
    assert opened.sign_init(SIGN_E) == 6
    softsm2.clear_faults()
    faults = "delay C_Sign 0.01; return C_Sign 0x31"
    assert run_child(opened.token, SOFTGM_PKCS11_FAULTS=faults) == (0, ["signing", "0x31", "end"])


def test_functions_that_are_softhsms_have_faults_too(opened: Opened) -> None:
    opened.token.set_fault("return", "C_GenerateRandom", "0x30")
    assert opened.code("C_GenerateRandom", create_string_buffer(4), 4) == 0x30
    opened.token.clear_faults()
    assert opened.code("C_GenerateRandom", create_string_buffer(4), 4) == 0


# ---- sizes and octets ----


def raw_sign(opened: Opened, room: int) -> tuple[int, int, bytes]:
    buffer, size = create_string_buffer(b"\xa5" * 4096, 4096), c_ulong(room)
    assert opened.sign_init(SIGN_E) == 0
    return opened.code("C_Sign", E, 32, buffer, byref(size)), size.value, buffer.raw


@pytest.mark.parametrize("length", [0, 1, 63, 0x7FFFFFFF, 2**64 - 1])
def test_absurd_length_of_a_signature(opened: Opened, length: int) -> None:
    opened.token.set_fault("length", "C_Sign", length)
    key = opened.key()
    assert opened.sign_init(SIGN_E, key) == 0
    size = c_ulong()
    opened.call("C_Sign", E, 32, None, byref(size))
    assert size.value == length
    buffer, size = create_string_buffer(b"\xa5" * 100, 100), c_ulong(10)
    opened.call("C_Sign", E, 32, buffer, byref(size))
    assert size.value == length
    assert buffer.raw[10:] == b"\xa5" * 90
    assert opened.sign_init(SIGN_E, key) == 0


def test_oversize_signature_claims_more_than_the_buffer(opened: Opened) -> None:
    opened.token.set_fault("oversize", "C_Sign")
    code, size, data = raw_sign(opened, 100)
    assert (code, size) == (0, 116)
    assert data[64:] == b"\xa5" * 4032


def test_overrun_writes_past_the_buffer(opened: Opened) -> None:
    opened.token.set_fault("overrun", "C_Sign", 3)
    code, size, data = raw_sign(opened, 100)
    assert (code, size) == (0, 103)
    assert data[100:] == b"\xee" * 3 + b"\xa5" * 3993


def test_signature_from_a_file(opened: Opened) -> None:
    (opened.token.directory / "rubbish").write_bytes(b"rubbish")
    opened.token.set_fault("substitute", "C_Sign", "rubbish")
    code, size, data = raw_sign(opened, 100)
    assert (code, size, data[:7]) == (0, 7, b"rubbish")


@pytest.mark.parametrize("function", ["C_GetSlotList", "C_GetMechanismList"])
def test_lists_lie_about_their_length(opened: Opened, softsm2: SoftSm2, function: str) -> None:
    arguments = (1,) if function == "C_GetSlotList" else (opened.slot,)
    for fault, argument, asked, given in (
        ("length", 2**64 - 1, 2**64 - 1, 2**64 - 1),
        ("length", 0, 0, 0),
        ("oversize", None, None, 200 + 16),
        ("overrun", 2, None, 202),
    ):
        softsm2.set_fault(fault, function, argument)
        count, out = c_ulong(), (c_ulong * 210)(*[0xA5] * 210)
        opened.cryptoki.call(function, *arguments, None, byref(count))
        if asked is not None:
            assert count.value == asked
        count.value = 200
        opened.cryptoki.call(function, *arguments, out, byref(count))
        assert count.value == given
        past = [0xEEEEEEEEEEEEEEEE] * 2 if fault == "overrun" else [0xA5] * 2
        assert out[200:202] == past
        assert out[202] == 0xA5
        softsm2.clear_faults()


def get_attribute(opened: Opened, item: int, kind: int, room: int) -> tuple[int, int, bytes]:
    buffer = create_string_buffer(b"\xa5" * 4096, 4096)
    asked = Attribute(kind, addressof(buffer), room)
    code = opened.code("C_GetAttributeValue", item, byref(asked), 1)
    return code, asked.length, buffer.raw


def test_attributes_lie_about_their_length(opened: Opened, pem: bytes) -> None:
    opened.token.add_certificate(certificate(pem))
    item = opened.key(1)
    whole = opened.attribute(item, CKA["VALUE"])
    asked = Attribute(CKA["VALUE"], None, 0)
    for length in (0, 1, 0x7FFFFFFF, 2**64 - 2):
        opened.token.set_fault("length", "C_GetAttributeValue", f"{length}@0x11")
        opened.call("C_GetAttributeValue", item, byref(asked), 1)
        assert asked.length == length
        assert get_attribute(opened, item, CKA["VALUE"], 2000) == (0, length, whole.ljust(4096, b"\xa5"))
        assert opened.attribute(item, CKA["ID"]) == b"\x01"  # another attribute
        opened.token.clear_faults()
    opened.token.set_fault("oversize", "C_GetAttributeValue", 7)
    assert get_attribute(opened, item, CKA["VALUE"], 2000)[:2] == (0, 2007)
    opened.token.clear_faults()
    opened.token.set_fault("overrun", "C_GetAttributeValue", "3@0x11")
    code, length, data = get_attribute(opened, item, CKA["VALUE"], 2000)
    assert (code, length) == (0, 2003)
    assert data[2000:] == b"\xee" * 3 + b"\xa5" * 2093


def test_substitute_hands_out_another_certificate(opened: Opened, pem: bytes) -> None:
    opened.token.add_certificate(certificate(pem))
    other = certificate(new_key("sm2"))
    (opened.token.directory / "other.crt").write_bytes(other)
    opened.token.set_fault("substitute", "C_GetAttributeValue", "other.crt")
    assert opened.attribute(opened.key(1), CKA["VALUE"]) == other
    assert opened.attribute(opened.key(1), CKA["ID"]) == b"\x01"
    with pytest.raises(CryptokiError, match="0x11"):
        opened.attribute(opened.key(), CKA["VALUE"])  # that of a key


def test_raw_point_of_a_public_key(opened: Opened, pem: bytes) -> None:
    opened.token.set_fault("raw_point", "C_GetAttributeValue")
    assert opened.attribute(opened.key(PUBLIC_KEY), CKA["EC_POINT"]) == public_key(pem).point


def test_search_that_never_ends(opened: Opened) -> None:
    opened.token.set_fault("endless", "C_FindObjects")
    opened.call("C_FindObjectsInit", None, 0)
    out, count = (c_ulong * 9)(), c_ulong()
    for _ in range(5):
        opened.call("C_FindObjects", out, 9, byref(count))
        assert count.value == 2
    opened.token.set_fault("length", "C_FindObjects", 1000, times=1)
    opened.call("C_FindObjects", out, 9, byref(count))
    assert count.value == 1000
    opened.call("C_FindObjectsFinal")


# ---- texts ----


@pytest.mark.parametrize(
    ("fault", "kind", "pad"),
    [("unterminated", None, b"x"), ("text", "nul", b"\0"), ("text", "blank", b" "), ("text", "gbk", b" ")],
)
def test_odd_text_fields(opened: Opened, softsm2: SoftSm2, fault: str, kind: str | None, pad: bytes) -> None:
    softsm2.set_fault(fault, "*", kind)
    info = opened.cryptoki.record("C_GetInfo", size=88)
    slot = opened.cryptoki.record("C_GetSlotInfo", opened.slot, size=112)
    token = opened.cryptoki.token_info(opened.slot)
    fields = (
        (info[2:34], b"SoftGM test only"),
        (info[48:80], b"profile neutral"),
        (slot[:64], opened.token.name.encode()),
        (token[:32], opened.token.label.encode()),
        (token[64:80], b"profile neutral"),
        (token[80:96], opened.token.serial.encode()),
    )
    for field, text in fields:
        if kind == "blank":
            assert field == b" " * len(field)
        elif kind == "gbk":
            assert field == (b"\xb2\xe2\xca\xd4" + text[4:]).ljust(len(field))
            with pytest.raises(UnicodeDecodeError):
                field.decode()
        else:
            assert field == text.ljust(len(field), pad)


# ---- PINs, sessions, events ----


def test_right_pin_is_called_wrong_and_costs_a_try(opened: Opened) -> None:
    opened.call("C_Logout")
    opened.token.set_fault("wrong_pin", "C_Login", times=1)
    assert opened.login_code() == 0xA0
    assert opened.token.tries_left() == 5
    assert opened.login_code() == 0
    assert opened.token.tries_left() == 6


def test_module_that_cannot_lock(softsm2: SoftSm2) -> None:
    softsm2.set_fault("cant_lock", "C_Initialize")
    try:
        with pytest.raises(CryptokiError, match="C_Initialize: 0xA"):
            Cryptoki(softsm2.library)
        plain = Cryptoki(softsm2.library, flags=None)
        plain.close()
    finally:
        softsm2.clear_faults()


def test_one_session_alone(opened: Opened) -> None:
    opened.token.set_fault("single_session", "C_OpenSession")
    with pytest.raises(CryptokiError, match="C_OpenSession: 0xB1"):
        opened.cryptoki.open(opened.token)
    opened.close()
    opened.cryptoki.open(opened.token)


def test_module_without_slot_events(opened: Opened, softsm2: SoftSm2) -> None:
    softsm2.set_fault("return", "C_WaitForSlotEvent", "0x54")
    assert opened.cryptoki.code("C_WaitForSlotEvent", 0, byref(c_ulong()), None) == 0x54


def test_waiting_may_hold_the_modules_lock(cryptoki: Cryptoki, softsm2: SoftSm2, softsm2_token: SoftSm2Token) -> None:
    slot, listed = c_ulong(), threading.Event()
    while cryptoki.code("C_WaitForSlotEvent", 1, byref(slot), None) == 0:
        pass  # what earlier tests left to report
    softsm2.set_fault("holds_lock", "C_WaitForSlotEvent", times=1)
    waiting = threading.Thread(target=lambda: cryptoki.call("C_WaitForSlotEvent", 0, byref(slot), None))
    waiting.start()
    while (softsm2.directory / "faults").read_text().strip():
        time.sleep(0.01)

    def list_slots() -> None:
        cryptoki.slots()
        listed.set()

    lister = threading.Thread(target=list_slots)
    lister.start()
    held = not listed.wait(0.3)
    softsm2_token.remove()
    for thread in (waiting, lister):
        thread.join(10)
        assert not thread.is_alive()
    assert held


# ---- signatures ----


@pytest.fixture(params=["raw", "der"])
def form(request: pytest.FixtureRequest, softsm2: SoftSm2, opened: Opened) -> str:
    """The form of the profile's signatures; the mechanism that signs e is :data:`OF_FORM`'s."""
    form: str = request.param
    softsm2.profile = "neutral" if form == RAW else "tass"
    return form


OF_FORM = {RAW: SIGN_E, DER: 0x80008000}


@pytest.fixture
def sign_as(opened: Opened, form: str) -> Callable[[str], bytes]:
    def sign(kind: str) -> bytes:
        opened.token.set_fault("signature", "C_Sign", kind, times=1)
        return opened.sign(OF_FORM[form], E)

    return sign


@pytest.mark.parametrize("kind", ["zero", "ones"])
def test_numbers_that_are_none(sign_as: Callable[[str], bytes], form: str, kind: str) -> None:
    octets = b"\0" if kind == "zero" else b"\xff"
    expected = octets * 64 if form == RAW else None
    if form == DER and kind == "zero":
        expected = bytes.fromhex("3006020100020100")
    if form == DER and kind == "ones":
        expected = b"\x30\x46" + (b"\x02\x21\0" + octets * 32) * 2
    assert sign_as(kind) == expected


@pytest.mark.parametrize("kind", ["flip", "hash", "other_key"])
def test_signature_of_something_else(sign_as: Callable[[str], bytes], pem: bytes, form: str, kind: str) -> None:
    pair = numbers(sign_as(kind), form)
    key = public_key(pem)
    assert not key.verify(E, *pair)
    signed = {"flip": E[:31] + bytes([E[31] ^ 1]), "hash": digest("sm3", E)}
    if kind in signed:
        assert key.verify(signed[kind], *pair)
    else:
        assert all(0 < number < N for number in pair)


def test_ecdsa_instead_of_sm2(sign_as: Callable[[str], bytes], pem: bytes, form: str) -> None:
    pair = numbers(sign_as("ecdsa"), form)
    assert not public_key(pem).verify(E, *pair)
    assert is_ecdsa(public_key(pem), E, *pair)


@pytest.mark.parametrize("other", [RAW, DER])
def test_form_is_chosen(sign_as: Callable[[str], bytes], pem: bytes, other: str) -> None:
    assert public_key(pem).verify(E, *numbers(sign_as(other), other))


def test_integers_that_are_not_minimal(sign_as: Callable[[str], bytes], pem: bytes) -> None:
    signature = sign_as("nonminimal")
    integer = b"\x02\x22\0\0"
    assert signature[:2] == b"\x30\x48"
    assert signature[2:6] == signature[38:42] == integer
    assert len(signature) == 74
    pair = int.from_bytes(signature[6:38], "big"), int.from_bytes(signature[42:], "big")
    assert public_key(pem).verify(E, *pair)


@pytest.mark.parametrize(("kind", "at"), [("short_r", 0), ("short_s", 32)])
def test_short_number_without_its_zero_octet(
    sign_as: Callable[[str], bytes], pem: bytes, form: str, kind: str, at: int
) -> None:
    signature = sign_as(kind)
    if form == RAW:
        assert len(signature) == 63
        signature = signature[:at] + b"\0" + signature[at:]
    pair = numbers(signature, form)
    assert pair[at // 32] < 1 << 248
    assert public_key(pem).verify(E, *pair)


@pytest.mark.parametrize(("name", "number", "kind", "of"), SIGNING)
def test_z_is_put_in_or_left_out(
    opened: Opened, softsm2: SoftSm2, pem: bytes, name: str, number: int, kind: str, of: str
) -> None:
    softsm2.profile = name
    key = public_key(pem)
    opened.token.set_fault("signature", "C_Sign", "with_z", times=1)
    assert key.verify(key.e(E), *numbers(opened.sign(number, E), of))
    opened.token.set_fault("signature", "C_Sign", "no_z", times=1)
    signed = E if kind == "e" else digest("sm3", E)
    assert key.verify(signed, *numbers(opened.sign(number, E), of))


def test_signature_in_parts_goes_wrong_too(opened: Opened, pem: bytes) -> None:
    opened.token.set_fault("signature", "C_SignFinal", "zero")
    assert opened.sign_init(SM3_AND_SIGN) == 0
    opened.call("C_SignUpdate", E, 32)
    buffer, size = create_string_buffer(b"\xa5" * 64, 64), c_ulong(64)
    opened.call("C_SignFinal", buffer, byref(size))
    assert buffer.raw == bytes(64)


def test_unknown_kind_fails(sign_as: Callable[[str], bytes]) -> None:
    with pytest.raises(CryptokiError, match="C_Sign: 0x6"):
        sign_as("nonsense")


@pytest.mark.parametrize("kind", ["flip", "zero", "ones", "short"])
def test_rsa_signatures_go_wrong_too(cryptoki: Cryptoki, softsm2_token: SoftSm2Token, kind: str) -> None:
    softsm2_token.add_key("rsa-2048")
    opened = cryptoki.open(softsm2_token)
    opened.login()
    good = opened.sign(1, E)
    softsm2_token.set_fault("signature", "C_Sign", kind)
    bad = opened.sign(1, E)
    expected = {"zero": bytes(256), "ones": b"\xff" * 256, "short": good[1:]}
    assert bad == expected.get(kind, bad) != good
    assert len(bad) == len(good) - (kind == "short")
