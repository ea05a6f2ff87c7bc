"""The test CA: what it issues passes openssl's own path validation, and bad requests get nothing."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from demo.testca import KEY_TYPES, SM2_ID, Authority, AuthorityError, create_authority

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
SIGNER_START, SIGNER_END = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2028, 2, 3, 4, 5, 6, tzinfo=UTC)


def openssl(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60).stdout


def request(folder: Path, kind: str = "p-256", form: str = "DER") -> bytes:
    key_type = KEY_TYPES[kind]
    openssl(folder, "genpkey", *key_type.genpkey, "-out", "key.pem")
    subject = ["-utf8", "-subj", "/C=CN/O=某某局/CN=签章人"]
    made = ["req", "-new", "-key", "key.pem", f"-{key_type.digest}", *key_type.sign, *subject, "-outform", form]
    return openssl(folder, *made)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return create_authority(tmp_path_factory.mktemp("ca") / "made", "测试根", START, END)


def test_root_is_a_proper_ca(authority: Authority) -> None:
    root = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert root.subject.rfc4514_string() == "CN=测试根"
    assert (root.not_valid_before_utc, root.not_valid_after_utc) == (START, END)
    assert (authority.folder / "ca.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_signer_certificate_says_what_was_asked(authority: Authority, tmp_path: Path, form: str) -> None:
    asked = request(tmp_path, form=form)
    signer = x509.load_der_x509_certificate(authority.issue(asked, SIGNER_START, SIGNER_END))
    usage = signer.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.value.digital_signature, usage.value.content_commitment, usage.value.key_cert_sign) == (
        True,
        True,
        False,
    )
    assert signer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert signer.subject.rfc4514_string() == "CN=签章人,O=某某局,C=CN"
    assert (signer.not_valid_before_utc, signer.not_valid_after_utc) == (SIGNER_START, SIGNER_END)
    load = x509.load_pem_x509_csr if form == "PEM" else x509.load_der_x509_csr
    assert signer.public_key() == load(asked).public_key()


def test_two_certificates_have_two_numbers(authority: Authority, tmp_path: Path) -> None:
    asked = request(tmp_path)
    numbers = {
        x509.load_der_x509_certificate(authority.issue(asked, SIGNER_START, SIGNER_END)).serial_number for _ in "ab"
    }
    assert len(numbers) == 2


@pytest.mark.parametrize("kind", list(KEY_TYPES))
def test_openssl_verifies_the_chain(tmp_path: Path, kind: str) -> None:
    authority = create_authority(tmp_path / "ca", "根", START, END, kind)
    (tmp_path / "signer.der").write_bytes(authority.issue(request(tmp_path, kind), SIGNER_START, SIGNER_END))
    options = ["-vfyopt", SM2_ID] if kind == "sm2" else []
    at = str(int(SIGNER_START.timestamp()) + 1)
    chain = ["-x509_strict", "-attime", at, "-CAfile", str(authority.certificate), "signer.der"]
    assert b"signer.der: OK" in openssl(tmp_path, "verify", *options, *chain)


def test_a_request_not_signed_by_its_key_gets_nothing(authority: Authority, tmp_path: Path) -> None:
    asked = bytearray(request(tmp_path))
    authority.issue(bytes(asked), SIGNER_START, SIGNER_END)
    asked[-1] ^= 1
    with pytest.raises(AuthorityError, match="not signed by its own key"):
        authority.issue(bytes(asked), SIGNER_START, SIGNER_END)


@pytest.mark.parametrize("rubbish", [b"", b"\x30\x80", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_rubbish_is_refused(authority: Authority, rubbish: bytes) -> None:
    with pytest.raises(AuthorityError, match="openssl req"):
        authority.issue(rubbish, SIGNER_START, SIGNER_END)


def test_a_time_without_zone_is_refused(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        authority.issue(request(tmp_path), datetime(2026, 1, 1), SIGNER_END)


def test_missing_openssl_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AuthorityError, match="make setup"):
        create_authority(tmp_path / "ca", "根", START, END)
