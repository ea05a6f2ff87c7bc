"""The soft SKF library's keys and signatures, checked by the openssl command line and by our own SM2 arithmetic."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from ctypes import byref, c_uint32, create_string_buffer
from pathlib import Path

import pytest

from sealagent.pki.sm2 import SM2PublicKey
from sealdrivers.sm2 import DEFAULT_ID
from softgm import SoftSkf, SoftSkfToken, certificate, new_key, spki
from softgm.client import Opened, Skf, SkfError

MESSAGE = "盖章的原文".encode()
DIGEST_INFO_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")
VENDOR, GMT0006 = 0x00020100, 0x00020200
SIGN, EXCHANGE = 1, 0


@pytest.fixture
def skf(softskf: SoftSkf) -> Skf:
    return Skf(softskf.library)


@pytest.fixture
def sm2(skf: Skf, softskf_token: SoftSkfToken) -> Iterator[Opened]:
    softskf_token.add_key("sm2")
    opened = skf.open(softskf_token)
    yield opened
    opened.close()


@pytest.fixture
def rsa(skf: Skf, softskf_token: SoftSkfToken) -> Iterator[Opened]:
    softskf_token.add_key("rsa-2048")
    opened = skf.open(softskf_token)
    yield opened
    opened.close()


def public_key(opened: Opened, sign: int = SIGN) -> SM2PublicKey:
    blob = opened.skf.octets("SKF_ExportPublicKey", opened.container, sign)
    assert len(blob) == 132
    assert blob[:4] == (256).to_bytes(4, "little")
    assert blob[4:36] == blob[68:100] == bytes(32), "values are right-aligned in 64 octets"
    return SM2PublicKey.from_point(b"\x04" + blob[36:68] + blob[100:132])


def numbers(signature: bytes) -> tuple[int, int]:
    assert signature[:32] == signature[64:96] == bytes(32), "values are right-aligned in 64 octets"
    return int.from_bytes(signature[:64], "big"), int.from_bytes(signature[64:], "big")


def der(signature: bytes) -> bytes:
    r, s = (value.to_bytes(value.bit_length() // 8 + 1, "big") for value in numbers(signature))
    body = b"".join(b"\x02" + bytes([len(value)]) + value for value in (r, s))
    return b"\x30" + bytes([len(body)]) + body


def openssl_verifies(directory: Path, key: bytes, message: bytes, signature: bytes, *options: str) -> bool:
    for name, data in (("key", key), ("message", message), ("signature", signature)):
        (directory / name).write_bytes(data)
    command = "openssl pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in message -sigfile signature"
    return subprocess.run([*command.split(), *options], cwd=directory, capture_output=True, check=False).returncode == 0


def test_sm2_signature_over_e_verifies_with_openssl_over_the_message(sm2: Opened, tmp_path: Path) -> None:
    key = public_key(sm2)
    sm2.login()
    signature = sm2.sign(key.e(MESSAGE))
    options = ("-digest", "sm3", "-pkeyopt", f"distid:{DEFAULT_ID.decode()}")
    assert key.verify(key.e(MESSAGE), *numbers(signature))
    assert openssl_verifies(tmp_path, key.spki, MESSAGE, der(signature), *options)
    assert not openssl_verifies(tmp_path, key.spki, MESSAGE + b"!", der(signature), *options)


def test_public_key_is_that_of_the_private_key_put_in(skf: Skf, softskf_token: SoftSkfToken) -> None:
    for container in ("one", "two"):
        pem = softskf_token.add_key("sm2", container=container, pem=new_key("sm2"))
        opened = skf.open(softskf_token, container.encode())
        assert public_key(opened).spki == spki(pem)
        opened.close()


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_sm2_signs_exactly_32_octets(sm2: Opened, size: int) -> None:
    sm2.login()
    with pytest.raises(SkfError, match="0x0A00000B"):
        sm2.sign(bytes(size))


def test_signing_needs_the_user_pin(sm2: Opened, rsa: Opened) -> None:
    with pytest.raises(SkfError, match="0x0A00002D"):
        sm2.sign(bytes(32))
    sm2.login(kind=0)
    with pytest.raises(SkfError, match="0x0A00002D"):  # the administrator signs nothing
        sm2.sign(bytes(32))


def test_device_verifies_sm2(sm2: Opened) -> None:
    sm2.login()
    blob = sm2.skf.octets("SKF_ExportPublicKey", sm2.container, SIGN)
    e = public_key(sm2).e(MESSAGE)
    signature = sm2.sign(e)
    for function in ("SKF_ECCVerify", "SKF_ExtECCVerify"):
        assert sm2.skf.code(function, sm2.device, blob, e, 32, signature) == 0
        assert sm2.skf.code(function, sm2.device, blob, bytes(32), 32, signature) == 0x0A00001A
        assert sm2.skf.code(function, sm2.device, blob, e, 31, signature) == 0x0A000010
        assert sm2.skf.code(function, sm2.device, b"\0" * 132, e, 32, signature) == 0x0A000006


@pytest.mark.parametrize("algorithm", [VENDOR, GMT0006])
def test_generated_sm2_key_signs(skf: Skf, softskf_token: SoftSkfToken, algorithm: int) -> None:
    opened = skf.open(softskf_token, None)
    with pytest.raises(SkfError, match="0x0A00002D"):
        skf.handle("SKF_CreateContainer", opened.application, b"new")
    opened.login()
    opened.container = skf.handle("SKF_CreateContainer", opened.application, b"new")
    assert skf.number("SKF_GetContainerType", opened.container) == 0
    with pytest.raises(SkfError, match="0x0A00001B"):
        opened.sign(bytes(32))
    blob = skf.record("SKF_GenECCKeyPair", opened.container, algorithm, size=132)
    assert blob == skf.octets("SKF_ExportPublicKey", opened.container, SIGN)
    assert skf.number("SKF_GetContainerType", opened.container) == 2
    key = public_key(opened)
    assert key.verify(key.e(MESSAGE), *numbers(opened.sign(key.e(MESSAGE))))
    assert skf.code("SKF_GenECCKeyPair", opened.container, 0x00020400, create_string_buffer(132)) == 0x0A000003
    opened.close()


def test_generated_rsa_key_signs(skf: Skf, softskf_token: SoftSkfToken, tmp_path: Path) -> None:
    opened = skf.open(softskf_token, None)
    opened.login()
    opened.container = skf.handle("SKF_CreateContainer", opened.application, b"new")
    assert skf.code("SKF_GenRSAKeyPair", opened.container, 4096, create_string_buffer(268)) == 0x0A000016
    blob = skf.record("SKF_GenRSAKeyPair", opened.container, 1024, size=268)
    assert int.from_bytes(blob[:4], "little") == 0x00010000
    assert int.from_bytes(blob[4:8], "little") == 1024
    assert blob[8:136] == bytes(128), "a short modulus is right-aligned"
    assert blob[264:] == (65537).to_bytes(4, "big")
    assert skf.number("SKF_GetContainerType", opened.container) == 1
    opened.close()


def test_rsa_signature_over_digest_info_verifies_with_openssl(rsa: Opened, tmp_path: Path) -> None:
    info = DIGEST_INFO_SHA256 + hashlib.sha256(MESSAGE).digest()
    rsa.login()
    signature = rsa.skf.octets("SKF_RSASignData", rsa.container, info, len(info))
    pem = (rsa.token.directory / "applications/SOFTSKF/containers/key/sign.key").read_bytes()
    assert len(signature) == 256
    assert openssl_verifies(tmp_path, spki(pem), MESSAGE, signature, "-digest", "sha256")
    blob = rsa.skf.octets("SKF_ExportPublicKey", rsa.container, SIGN)
    assert len(blob) == 268
    verified = rsa.skf.code("SKF_RSAVerify", rsa.device, blob, info, len(info), signature, 256)
    assert verified == 0
    assert rsa.skf.code("SKF_RSAVerify", rsa.device, blob, info, len(info) - 1, signature, 256) == 0x0A00001A


def test_rsa_input_and_room_are_checked(rsa: Opened) -> None:
    rsa.login()
    size = c_uint32(256)
    out = create_string_buffer(256)
    assert rsa.skf.code("SKF_RSASignData", rsa.container, bytes(246), 246, out, byref(size)) == 0x0A000010
    size.value = 255
    assert rsa.skf.code("SKF_RSASignData", rsa.container, bytes(32), 32, out, byref(size)) == 0x0A000020
    assert size.value == 256
    assert out.raw == bytes(256), "nothing is written into a buffer that is too small"
    with pytest.raises(SkfError, match="0x0A00001B"):  # an RSA container has no SM2 key
        rsa.sign(bytes(32))


def test_certificate_goes_in_and_out(sm2: Opened) -> None:
    der_octets = certificate(new_key("sm2"), "测试")
    with pytest.raises(SkfError, match="0x0A00001C"):
        sm2.skf.octets("SKF_ExportCertificate", sm2.container, SIGN)
    assert sm2.skf.code("SKF_ImportCertificate", sm2.container, SIGN, der_octets, len(der_octets)) == 0x0A00002D
    sm2.login()
    sm2.skf.call("SKF_ImportCertificate", sm2.container, SIGN, der_octets, len(der_octets))
    assert sm2.skf.octets("SKF_ExportCertificate", sm2.container, SIGN) == der_octets
    with pytest.raises(SkfError, match="0x0A00001C"):
        sm2.skf.octets("SKF_ExportCertificate", sm2.container, EXCHANGE)


def test_encryption_pair_is_kept_apart(sm2: Opened) -> None:
    other = new_key("sm2")
    sm2.token.add_key("sm2", pem=other, sign=False)
    sm2.token.add_certificate(certificate(other), sign=False)
    assert public_key(sm2, EXCHANGE).spki == spki(other) != public_key(sm2, SIGN).spki
    assert sm2.skf.octets("SKF_ExportCertificate", sm2.container, EXCHANGE)


def test_key_put_in_later_is_seen_by_open_handles(sm2: Opened) -> None:
    before = public_key(sm2)
    sm2.token.add_key("sm2", pem=new_key("sm2"))
    assert public_key(sm2) != before


@pytest.mark.parametrize(("number", "name"), [(1, "sm3"), (2, "sha1"), (4, "sha256")])
def test_digest_in_one_call_and_in_parts(sm2: Opened, number: int, name: str) -> None:
    skf = sm2.skf
    whole = skf.handle("SKF_DigestInit", sm2.device, number, None, None, 0)
    parts = skf.handle("SKF_DigestInit", sm2.device, number, None, None, 0)
    for part in (MESSAGE[:5], MESSAGE[5:]):
        skf.call("SKF_DigestUpdate", parts, part, len(part))
    expected = hashlib.new(name, MESSAGE).digest()
    assert skf.octets("SKF_Digest", whole, MESSAGE, len(MESSAGE)) == expected
    assert skf.octets("SKF_DigestFinal", parts) == expected
    for handle in (whole, parts):
        skf.call("SKF_CloseHandle", handle)
    assert skf.code("SKF_CloseHandle", whole) == 0x0A000005


@pytest.mark.parametrize("user_id", [DEFAULT_ID, b"1", bytes(8191)])
def test_digest_with_public_key_and_id_is_e(sm2: Opened, user_id: bytes) -> None:
    blob = sm2.skf.octets("SKF_ExportPublicKey", sm2.container, SIGN)
    handle = sm2.skf.handle("SKF_DigestInit", sm2.device, 1, blob, user_id, len(user_id))
    assert sm2.skf.octets("SKF_Digest", handle, MESSAGE, len(MESSAGE)) == public_key(sm2).e(MESSAGE, user_id)


def test_random_octets_differ(sm2: Opened) -> None:
    first, second = (create_string_buffer(32) for _ in range(2))
    for buffer in (first, second):
        sm2.skf.call("SKF_GenRandom", sm2.device, buffer, 32)
    assert bytes(32) != first.raw != second.raw != bytes(32)
