"""Certification requests of others, made by the OpenSSL command line: believed only when their own key signed."""

from __future__ import annotations

import ssl
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sample_seals import openssl
from sealagent.errors import FormatError
from sealagent.pki.csr import MAX_REQUEST, pem, read_request
from testbed.openssl import KEY_TYPES, new_key, new_request

SUBJECT = [("C", "CN"), ("O", "某某公司"), ("CN", "11000000000001")]


def make(folder: Path, kind: str, *, attributes: str = "") -> bytes:
    """Return a request (PEM) of a fresh key, which stays in the folder."""
    new_key(KEY_TYPES[kind], folder / "key.pem")
    return new_request(KEY_TYPES[kind], folder / "key.pem", SUBJECT)


def der_of(request: bytes) -> bytes:
    return openssl("req", "-outform", "DER", data=request)


def refused(data: bytes) -> str:
    with pytest.raises(FormatError) as caught:
        read_request(data)
    assert caught.value.code == "certificate_request_invalid"
    return caught.value.message


@pytest.fixture(scope="module")
def request_der(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return der_of(make(tmp_path_factory.mktemp("request"), "sm2"))


@pytest.mark.parametrize("kind", KEY_TYPES)
def test_requests_of_every_kind_of_key(kind: str, tmp_path: Path) -> None:
    text = make(tmp_path, kind)
    found = read_request(text)
    assert found == read_request(der_of(text))
    assert found.der == der_of(text)
    assert found.subject == "CN=11000000000001,O=某某公司,C=CN"
    assert found.spki == openssl("pkey", "-in", tmp_path / "key.pem", "-pubout", "-outform", "DER")
    assert (found.algorithm.kind == "sm2") == (kind == "sm2")


def test_a_request_with_attributes(tmp_path: Path) -> None:
    new_key(KEY_TYPES["p-256"], tmp_path / "key.pem")
    asked = openssl(
        *("req", "-new", "-key", tmp_path / "key.pem", "-subj", "/CN=x"),
        *("-addext", "keyUsage=digitalSignature", "-addext", "subjectAltName=DNS:a.example"),
    )
    assert read_request(asked).subject == "CN=x"


def test_older_pem_and_text_around_it(tmp_path: Path) -> None:
    text = make(tmp_path, "p-256")
    assert read_request(b"\n" + text.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST")).der == der_of(text)
    refused(text + text)
    refused(text.replace(b"-----END", b"-----ENDE"))
    refused(text.replace(b"M", b"*", 1))
    refused(ssl.DER_cert_to_PEM_cert(der_of(text)).encode())


def test_a_request_that_another_key_signed(tmp_path: Path) -> None:
    """The octets are right but for the signature, which another key made: nobody has shown to have this one."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = (der_of(make(tmp_path / name, "p-256")) for name in "ab")
    assert len(read_request(first).der) > 0
    stolen = first.replace(read_request(first).spki, read_request(second).spki)
    assert "not signed by its own key" in refused(stolen)


def test_weak_keys_and_algorithms(tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", tmp_path / "short.pem")
    assert "weak" in refused(openssl("req", "-new", "-key", tmp_path / "short.pem", "-subj", "/CN=x", "-sha256"))
    new_key(KEY_TYPES["rsa-2048"], tmp_path / "key.pem")
    assert "weak" in refused(openssl("req", "-new", "-key", tmp_path / "key.pem", "-subj", "/CN=x", "-sha1"))


def test_sm2_with_another_id_proves_nothing(tmp_path: Path) -> None:
    """GM/T 0009: the default ID; OpenSSL without one takes an empty one."""
    new_key(KEY_TYPES["sm2"], tmp_path / "key.pem")
    refused(openssl("req", "-new", "-key", tmp_path / "key.pem", "-subj", "/CN=x", "-sm3"))


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_changed_octet_is_refused(request_der: bytes, data: st.DataObject) -> None:
    changed = bytearray(request_der)
    where = data.draw(st.integers(0, len(changed) - 1))
    changed[where] ^= data.draw(st.integers(1, 255))
    refused(bytes(changed))


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x30\x00",
        b"\x30\x80\x00\x00",
        b"-----BEGIN CERTIFICATE REQUEST-----",
        bytes(3 * MAX_REQUEST),
        b"\x30" * 99,
    ],
)
def test_what_is_no_request(octets: bytes) -> None:
    refused(octets)
    refused(b"-----BEGIN CERTIFICATE REQUEST-----\n" + b64encode(octets) + b"\n-----END CERTIFICATE REQUEST-----\n")


def test_a_certificate_is_no_request(request_der: bytes, tmp_path: Path) -> None:
    new_key(KEY_TYPES["p-256"], tmp_path / "key.pem")
    certificate = openssl("req", "-x509", "-key", tmp_path / "key.pem", "-subj", "/CN=x", "-outform", "DER")
    refused(certificate)
    refused(pem("CERTIFICATE REQUEST", certificate).encode())
    refused(request_der + b"\x00")
