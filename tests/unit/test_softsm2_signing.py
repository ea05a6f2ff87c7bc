"""SM2 through the soft PKCS#11 module: every profile signs as its table says; checked outside the module."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from ctypes import byref, c_ulong
from pathlib import Path

import pytest

from sealagent.pki.digests import digest
from sealagent.pki.sm2 import SM2PublicKey
from softgm import PROFILES, SoftSm2, SoftSm2Token, new_key
from softgm.cryptoki import CKA, PUBLIC_KEY, Cryptoki, CryptokiError, Mechanism, Opened, template
from softhsm2_fixtures import SM2_CURVE
from softsm2_parts import RAW, SIGNING, VENDORS, der, is_ecdsa, numbers, public_key

MESSAGE = b"message of any length" * 9
E = bytes(range(32))
ECDSA, EC_KEY_PAIR_GEN = 0x1041, 0x1040
CURVE = bytes.fromhex(SM2_CURVE)


@pytest.fixture
def cryptoki(softsm2: SoftSm2) -> Iterator[Cryptoki]:
    cryptoki = Cryptoki(softsm2.library)
    yield cryptoki
    cryptoki.close()


@pytest.fixture
def pem(softsm2_token: SoftSm2Token) -> bytes:
    return softsm2_token.add_key("sm2", pem=new_key("sm2"))


@pytest.fixture
def opened(cryptoki: Cryptoki, softsm2_token: SoftSm2Token, pem: bytes) -> Opened:
    opened = cryptoki.open(softsm2_token)
    opened.login()
    return opened


def openssl_verifies(directory: Path, public: SM2PublicKey, signature: bytes) -> bool:
    """Let the openssl command compute Z and e of the message and verify."""
    for name, octets in (("signature", signature), ("message", MESSAGE), ("key.der", public.spki)):
        (directory / name).write_bytes(octets)
    command = ["openssl", "dgst", "-sm3", "-keyform", "DER", "-verify", "key.der", "-signature", "signature"]
    command += ["-sigopt", "distid:1234567812345678", "message"]
    return subprocess.run(command, cwd=directory, capture_output=True, check=False).stdout == b"Verified OK\n"


def test_table_of_the_tests_covers_the_profiles() -> None:
    assert tuple(VENDORS) == PROFILES


@pytest.mark.parametrize(("name", "number", "kind", "form"), SIGNING)
def test_mechanism_signs_as_its_profile_says(
    opened: Opened, softsm2: SoftSm2, pem: bytes, name: str, number: int, kind: str, form: str
) -> None:
    softsm2.profile = name
    key = public_key(pem)
    if kind == "e":
        assert key.verify(E, *numbers(opened.sign(number, E), form))
        for data in (E[:31], E + b"\0", b""):
            with pytest.raises(CryptokiError, match="C_Sign: 0x21"):
                opened.sign(number, data)
    else:
        e = key.e(MESSAGE) if kind == "sm3_with_z" else digest("sm3", MESSAGE)
        assert key.verify(e, *numbers(opened.sign(number, MESSAGE), form))


@pytest.mark.parametrize("name", PROFILES)
def test_signature_over_e_verifies_with_openssl_over_the_message(
    opened: Opened, softsm2: SoftSm2, pem: bytes, tmp_path: Path, name: str
) -> None:
    softsm2.profile = name
    number, form = next(iter(VENDORS[name].e.items()))
    key = public_key(pem)
    pair = numbers(opened.sign(number, key.e(MESSAGE)), form)
    assert openssl_verifies(tmp_path, key, der(*pair))
    assert not openssl_verifies(tmp_path, key, der(pair[0], pair[1] ^ 1))


def test_ecdsa_on_the_curve_is_still_ecdsa(opened: Opened, pem: bytes) -> None:
    pair = numbers(opened.sign(ECDSA, E), RAW)
    assert not public_key(pem).verify(E, *pair)
    assert is_ecdsa(public_key(pem), E, *pair)


# ---- keys as they look from outside ----


@pytest.mark.parametrize("name", PROFILES)
def test_private_key_is_that_of_a_device(opened: Opened, softsm2: SoftSm2, pem: bytes, name: str) -> None:
    softsm2.profile = name
    vendor, key = VENDORS[name], opened.key()
    assert opened.attribute(key, CKA["KEY_TYPE"]) == bytes(c_ulong(vendor.key_type))
    assert opened.attribute(key, CKA["EC_PARAMS"]) == CURVE
    for attribute, value in (("SENSITIVE", 1), ("ALWAYS_SENSITIVE", 1), ("NEVER_EXTRACTABLE", 1), ("EXTRACTABLE", 0)):
        assert opened.attribute(key, CKA[attribute]) == bytes([value])
    with pytest.raises(CryptokiError, match="0x11"):
        opened.attribute(key, CKA["VALUE"])
    point = public_key(pem).point
    expected = {CKA["EC_POINT"]: None, CKA["VENDOR_X"]: None, CKA["VENDOR_Y"]: None}
    if name in ("tass", "luna"):
        expected[CKA["EC_POINT"]] = b"\x04\x41" + point
    if name == "weston":
        expected |= {CKA["VENDOR_X"]: point[1:33], CKA["VENDOR_Y"]: point[33:]}
    for attribute, value in expected.items():
        if value is None:
            with pytest.raises(CryptokiError, match="0x12"):
                opened.attribute(key, attribute)
        else:
            assert opened.attribute(key, attribute) == value


@pytest.mark.parametrize("name", PROFILES)
def test_public_key_has_its_point(opened: Opened, softsm2: SoftSm2, pem: bytes, name: str) -> None:
    softsm2.profile = name
    key, point = opened.key(PUBLIC_KEY), public_key(pem).point
    assert opened.attribute(key, CKA["KEY_TYPE"]) == bytes(c_ulong(VENDORS[name].key_type))
    if name == "weston":
        assert opened.attribute(key, CKA["VENDOR_X"]) + opened.attribute(key, CKA["VENDOR_Y"]) == point[1:]
        with pytest.raises(CryptokiError, match="0x12"):
            opened.attribute(key, CKA["EC_POINT"])
    else:
        assert opened.attribute(key, CKA["EC_POINT"]) == b"\x04\x41" + point


@pytest.mark.parametrize("name", PROFILES)
def test_search_by_the_vendors_key_type_finds_sm2_keys_alone(
    opened: Opened, softsm2: SoftSm2, softsm2_token: SoftSm2Token, name: str
) -> None:
    softsm2.profile = name
    softsm2_token.add_key("ec-p256", object_id=b"\x02", label="other")
    private = {CKA["CLASS"]: 3}
    (sm2,) = opened.find(private | {CKA["KEY_TYPE"]: VENDORS[name].key_type})
    (other,) = opened.find(private | {CKA["KEY_TYPE"]: 3})
    assert opened.attribute(sm2, CKA["ID"]) == b"\x01"
    assert opened.attribute(other, CKA["ID"]) == b"\x02"
    assert sorted(opened.find(private | {CKA["SENSITIVE"]: True})) == sorted((sm2, other))
    assert opened.find({CKA["EXTRACTABLE"]: True, CKA["CLASS"]: 3}) == []
    assert sorted(opened.find({CKA["CLASS"]: 3}, at_once=1)) == sorted((sm2, other))


def test_several_attributes_at_once_tell_each_its_fate(opened: Opened, pem: bytes) -> None:
    asked = template({CKA["KEY_TYPE"]: 0, CKA["VALUE"]: bytes(32), CKA["ID"]: b"?", CKA["EC_PARAMS"]: b"??"})
    assert opened.code("C_GetAttributeValue", opened.key(), asked, len(asked)) == 0x11
    unavailable = c_ulong(-1).value
    assert [entry.length for entry in asked] == [8, unavailable, 1, unavailable]
    assert ctypes.string_at(asked[2].value, 1) == b"\x01"


def test_private_keys_are_hidden_before_login(cryptoki: Cryptoki, softsm2_token: SoftSm2Token, pem: bytes) -> None:
    opened = cryptoki.open(softsm2_token)
    assert opened.find({CKA["CLASS"]: 3}) == []
    assert len(opened.find({CKA["CLASS"]: 2})) == 1
    opened.login()
    key = opened.key()
    opened.call("C_Logout")
    assert opened.sign_init(0xFFFFF002, key) != 0


def test_key_does_not_come_out_wrapped(opened: Opened) -> None:
    wrapping = template({CKA["CLASS"]: 4, CKA["KEY_TYPE"]: 0x1F, CKA["VALUE"]: bytes(32), CKA["WRAP"]: True})
    aes = opened.cryptoki.number("C_CreateObject", opened.session, wrapping, len(wrapping))
    room = c_ulong(512)
    buffer = ctypes.create_string_buffer(512)
    mechanism = byref(Mechanism(0x210A))  # CKM_AES_KEY_WRAP_PAD
    assert opened.code("C_WrapKey", mechanism, aes, opened.key(), buffer, byref(room)) == 0x6A


# ---- keys made through the module ----


@pytest.mark.parametrize("name", [*PROFILES, "EC"])
def test_generated_key_signs(cryptoki: Cryptoki, softsm2: SoftSm2, softsm2_token: SoftSm2Token, name: str) -> None:
    """``EC``: with the mechanism of the standard, on the SM2 curve."""
    softsm2.profile = "neutral" if name == "EC" else name
    vendor = VENDORS[softsm2.profile]
    opened = cryptoki.open(softsm2_token)
    opened.login()
    public = {CKA["TOKEN"]: True, CKA["ID"]: b"\x07"}
    public |= {CKA["EC_PARAMS"]: CURVE} if name == "EC" else {CKA["KEY_TYPE"]: vendor.key_type}
    private = {CKA["TOKEN"]: True, CKA["ID"]: b"\x07", CKA["SENSITIVE"]: True, CKA["EXTRACTABLE"]: False}
    templates = (template(public), len(public), template(private), len(private))
    out = c_ulong(), c_ulong()
    number = EC_KEY_PAIR_GEN if name == "EC" else vendor.generation
    opened.call("C_GenerateKeyPair", byref(Mechanism(number)), *templates, byref(out[0]), byref(out[1]))
    assert opened.key(PUBLIC_KEY) == out[0].value
    assert opened.key() == out[1].value
    generation = opened.attribute(out[1].value, CKA["KEY_GEN_MECHANISM"])
    assert generation == bytes(c_ulong(vendor.generation))
    with pytest.raises(CryptokiError, match="0x11"):
        opened.attribute(out[1].value, CKA["VALUE"])
    if name == "weston":
        point = b"\x04" + b"".join(opened.attribute(out[0].value, CKA[part]) for part in ("VENDOR_X", "VENDOR_Y"))
    else:
        point = opened.attribute(out[0].value, CKA["EC_POINT"])[2:]
    mechanism, form = next(iter(vendor.e.items()))
    assert SM2PublicKey.from_point(point).verify(E, *numbers(opened.sign(mechanism, E), form))


def test_generation_on_another_curve_is_refused(opened: Opened) -> None:
    p256 = template({CKA["EC_PARAMS"]: bytes.fromhex("06082a8648ce3d030107")})
    arguments = (p256, 1, template({CKA["TOKEN"]: True}), 1, byref(c_ulong()), byref(c_ulong()))
    assert opened.code("C_GenerateKeyPair", byref(Mechanism(0xFFFFF001)), *arguments) == 0xD1


def test_key_created_with_the_vendors_type_signs_and_stays_hidden(opened: Opened, softsm2_token: SoftSm2Token) -> None:
    value = (12345).to_bytes(32, "big")
    made = template({CKA["CLASS"]: 3, CKA["KEY_TYPE"]: 0xFFFFF001, CKA["VALUE"]: value, CKA["ID"]: b"\x09"})
    key = opened.cryptoki.number("C_CreateObject", opened.session, made, len(made))
    opened.sign(0xFFFFF002, E, key)
    with pytest.raises(CryptokiError, match="0x11"):
        opened.attribute(key, CKA["VALUE"])
    copy = opened.cryptoki.number("C_CopyObject", opened.session, key, template({CKA["SENSITIVE"]: True}), 1)
    assert copy != key
    opened.sign(0xFFFFF002, E, copy)


def test_key_that_softhsm_hides_is_not_signed_with(cryptoki: Cryptoki, softsm2_token: SoftSm2Token) -> None:
    softsm2_token.store.generate_curve_key(SM2_CURVE)
    opened = cryptoki.open(softsm2_token)
    opened.login()
    assert opened.sign_init(0xFFFFF002) == 0x68
    assert len(opened.sign(ECDSA, E)) == 64  # nothing was left open


# ---- the calls ----


@pytest.mark.parametrize(("name", "size"), [("neutral", 64), ("tass", 72)])
def test_size_may_be_asked_and_too_small_a_buffer_keeps_the_operation(
    opened: Opened, softsm2: SoftSm2, pem: bytes, name: str, size: int
) -> None:
    softsm2.profile = name
    number, form = next(iter(VENDORS[name].e.items()))
    assert opened.sign_init(number) == 0
    asked = c_ulong()
    opened.call("C_Sign", E, 32, None, byref(asked))
    assert asked.value == size
    buffer, asked = ctypes.create_string_buffer(size), c_ulong(size - 1)
    assert opened.code("C_Sign", E, 32, buffer, byref(asked)) == 0x150
    assert asked.value == size
    opened.call("C_Sign", E, 32, buffer, byref(asked))
    assert public_key(pem).verify(E, *numbers(buffer.raw[: asked.value], form))
    assert opened.code("C_Sign", E, 32, buffer, byref(asked)) == 0x91


def test_message_in_parts(opened: Opened, pem: bytes) -> None:
    assert opened.sign_init(0xFFFFF003) == 0
    for part in (MESSAGE[:5], b"", MESSAGE[5:]):
        opened.call("C_SignUpdate", part, len(part))
    buffer, size = ctypes.create_string_buffer(64), c_ulong(64)
    assert opened.code("C_Sign", E, 32, buffer, byref(size)) == 0x90
    opened.call("C_SignFinal", buffer, byref(size))
    assert public_key(pem).verify(digest("sm3", MESSAGE), *numbers(buffer.raw, RAW))
    assert opened.sign_init(0xFFFFF002) == 0
    assert opened.code("C_SignUpdate", E, 32) == 0x54
    assert opened.sign_init(0xFFFFF002) == 0


def test_operations_begin_once_and_with_fitting_keys(opened: Opened, softsm2_token: SoftSm2Token) -> None:
    softsm2_token.add_key("ec-p256", object_id=b"\x02")
    (other,) = opened.find({CKA["CLASS"]: 3, CKA["ID"]: b"\x02"})
    (sm2,) = opened.find({CKA["CLASS"]: 3, CKA["ID"]: b"\x01"})
    assert opened.sign_init(0xFFFFF002, other) == 0x63
    assert opened.sign_init(0xFFFFF001, sm2) == 0x70  # that of key generation
    assert opened.sign_init(0xFFFFF002, 99999) != 0
    parameter = Mechanism(0xFFFFF002, ctypes.cast(ctypes.create_string_buffer(16), ctypes.c_void_p), 16)
    assert opened.code("C_SignInit", byref(parameter), sm2) == 0x71
    assert opened.sign_init(0xFFFFF002, sm2) == 0
    assert opened.sign_init(0xFFFFF002, sm2) == 0x90
    assert opened.sign_init(ECDSA, sm2) == 0x90


def test_key_that_always_authenticates(cryptoki: Cryptoki, softsm2_token: SoftSm2Token) -> None:
    pem = softsm2_token.add_key("sm2", always_authenticate=True)
    opened = cryptoki.open(softsm2_token)
    opened.login()
    key = opened.key()
    with pytest.raises(CryptokiError, match="C_Sign: 0x101"):
        opened.sign(0xFFFFF002, E, key)
    assert opened.sign_init(0xFFFFF002, key) == 0
    assert opened.login_code("wrong-pin", user=2) == 0xA0
    assert softsm2_token.tries_left() == 5
    opened.login(user=2)
    assert softsm2_token.tries_left() == 6
    buffer, size = ctypes.create_string_buffer(64), c_ulong(64)
    opened.call("C_Sign", E, 32, buffer, byref(size))
    assert public_key(pem).verify(E, *numbers(buffer.raw, RAW))


@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p256"])
def test_other_keys_sign_as_in_softhsm(cryptoki: Cryptoki, softsm2_token: SoftSm2Token, kind: str) -> None:
    pem = softsm2_token.add_key(kind)
    opened = cryptoki.open(softsm2_token)
    opened.login()
    number = 0x1 if kind == "rsa-2048" else ECDSA
    signature = opened.sign(number, E)
    assert len(signature) == (256 if kind == "rsa-2048" else 64)
    assert b"PRIVATE KEY" in pem
    assert opened.attribute(opened.key(), CKA["KEY_TYPE"]) == bytes(c_ulong(0 if kind == "rsa-2048" else 3))
    assert opened.sign(number, E, room=len(signature)) is not None


# ---- lists ----


@pytest.mark.parametrize("name", PROFILES)
def test_mechanisms_of_the_profile_are_listed(cryptoki: Cryptoki, softsm2: SoftSm2, opened: Opened, name: str) -> None:
    softsm2.profile = name
    vendor = VENDORS[name]
    signs = {**vendor.e, **vendor.sm3, **vendor.sm3_with_z}
    listed = cryptoki.numbers("C_GetMechanismList", opened.slot)
    assert ECDSA in listed
    assert {number for number in listed if number >= 0x80000000 or number >> 16 == 1} == {vendor.generation, *signs}
    for number in {vendor.generation, *signs}:
        info = cryptoki.record("C_GetMechanismInfo", opened.slot, number, size=24)
        assert [int.from_bytes(info[at : at + 8], "little") for at in (0, 8)] == [256, 256]
        flags = int.from_bytes(info[16:], "little")
        assert bool(flags & 0x800) == (number in signs)
        assert bool(flags & 0x10000) == (number == vendor.generation)


@pytest.mark.parametrize("name", PROFILES)
def test_module_and_token_say_what_they_are(cryptoki: Cryptoki, softsm2: SoftSm2, opened: Opened, name: str) -> None:
    softsm2.profile = name
    info = cryptoki.record("C_GetInfo", size=88)
    assert info[:2] == b"\x02\x28"
    assert info[2:34] == b"SoftGM test only".ljust(32)
    assert info[48:80] == f"profile {name}".encode().ljust(32)
    token = cryptoki.token_info(opened.slot)
    assert token[:32] == opened.token.label.encode().ljust(32)
    assert token[32:64] == b"SoftGM test only".ljust(32)
    assert token[64:80] == f"profile {name}".encode().ljust(16)
