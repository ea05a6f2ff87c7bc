"""Certification requests, checked by openssl."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pki_parts import EXAMPLE_SCALAR, SigningKey, openssl, sm2_key_file, sm2_sign, spki_of

from sample_seals import DISTID
from sealagent.errors import FormatError
from sealagent.pki import oids
from sealagent.pki.csr import assemble_request, pem, prepare_request
from sealagent.pki.signatures import SignatureAlgorithm, algorithm, rsa_pss

SUBJECT = {"CN": "张三 Zhang", "O": "某某公司", "OU": "Seals", "C": "CN", "ST": "浙江省", "L": "杭州市"}
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def spki(key: SigningKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def openssl_says(request: bytes, *options: str) -> str:
    """Return openssl's reading of a request whose signature it has verified."""
    text = openssl("req", "-verify", "-noout", "-text", "-subject", "-nameopt", "utf8,sep_comma_plus,-esc_msb",
                   *options, stdin=pem("CERTIFICATE REQUEST", request).encode())  # fmt: skip
    return text.decode()


RSA_ALGORITHMS = [
    algorithm(oids.SHA256_RSA), algorithm(oids.SHA384_RSA), algorithm(oids.SHA512_RSA),
    rsa_pss("sha256"), rsa_pss("sha384"), rsa_pss("sha512"),
]  # fmt: skip


@pytest.mark.parametrize("chosen", RSA_ALGORITHMS, ids=lambda each: each.name)
def test_rsa_requests(chosen: SignatureAlgorithm) -> None:
    tbs = prepare_request(spki(RSA_KEY), SUBJECT)
    digest = HASHES[chosen.digest]
    padding = PSS(MGF1(digest), digest.digest_size) if chosen.kind == "rsa-pss" else PKCS1v15()
    request = assemble_request(tbs, chosen, RSA_KEY.sign(tbs, padding, digest))
    text = openssl_says(request)
    assert "CN=张三 Zhang" in text
    if chosen.kind == "rsa-pss":
        assert f"Hash Algorithm: {chosen.digest}" in text
        assert f"Mask Algorithm: mgf1 with {chosen.digest}" in text
        assert f"Salt Length: 0x{digest.digest_size:02X}" in text
    parsed = x509.load_der_x509_csr(request)
    assert parsed.is_signature_valid
    assert parsed.tbs_certrequest_bytes == tbs


@pytest.mark.parametrize("oid", [oids.ECDSA_SHA256, oids.ECDSA_SHA384, oids.ECDSA_SHA512])
def test_ec_requests(oid: str) -> None:
    chosen = algorithm(oid)
    tbs = prepare_request(spki(EC_KEY), SUBJECT)
    request = assemble_request(tbs, chosen, EC_KEY.sign(tbs, ec.ECDSA(HASHES[chosen.digest])))
    openssl_says(request)
    assert x509.load_der_x509_csr(request).is_signature_valid


def test_sm2_requests(tmp_path: Path) -> None:
    key = sm2_key_file(tmp_path, EXAMPLE_SCALAR)
    tbs = prepare_request(spki_of(key), SUBJECT)
    request = assemble_request(tbs, algorithm(oids.SM2_WITH_SM3), sm2_sign(key, tbs))
    assert "SM2-with-SM3" in openssl_says(request, "-vfyopt", DISTID)


def test_a_wrong_signature_is_seen_by_openssl() -> None:
    """Guards the tests above: openssl does look at the signature."""
    tbs = prepare_request(spki(EC_KEY), {"CN": "x"})
    request = assemble_request(tbs, algorithm(oids.ECDSA_SHA256), EC_KEY.sign(b"other", ec.ECDSA(hashes.SHA256())))
    assert not openssl("req", "-verify", "-noout", "-inform", "DER", stdin=request, check=False)
    assert not x509.load_der_x509_csr(request).is_signature_valid


def test_the_parts_of_a_request() -> None:
    tbs = prepare_request(spki(EC_KEY), dict(reversed(SUBJECT.items())))
    request = assemble_request(tbs, algorithm(oids.ECDSA_SHA256), EC_KEY.sign(tbs, ec.ECDSA(hashes.SHA256())))
    parsed = x509.load_der_x509_csr(request)
    assert parsed.subject.rfc4514_string() == "CN=张三 Zhang,OU=Seals,O=某某公司,L=杭州市,ST=浙江省,C=CN"
    assert spki(EC_KEY) in tbs
    assert tbs in request
    assert tbs.endswith(b"\xa0\x00")  # RFC 2986 4.1: the set of attributes is empty but there
    assert len(parsed.extensions) == 0


@pytest.mark.parametrize(
    "subject",
    [
        {},
        {"O": "no CN"},
        {"CN": ""},
        {"CN": "x" * 65},
        {"CN": "a\nb"},
        {"CN": "a\0"},
        {"CN": "x", "C": "China"},
        {"CN": "x", "C": "c1"},
        {"CN": "x", "C": "中国"},
        {"CN": "x", "L": "y" * 129},
        {"CN": "x", "emailAddress": "a@b"},
        {"CN": "x", "cn": "y"},
        {"CN": "\ud800"},
    ],
)
def test_subjects_that_cannot_be_written_are_refused(subject: dict[str, str]) -> None:
    with pytest.raises(FormatError) as caught:
        prepare_request(spki(EC_KEY), subject)
    assert caught.value.code == "request_invalid"


def test_a_key_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(FormatError) as caught:
        prepare_request(b"\x30\x00", {"CN": "x"})
    assert caught.value.code == "public_key_invalid"


@pytest.mark.parametrize("size", [0, 1, 47, 48, 49, 96, 1000])
def test_pem_is_read_by_others(size: int) -> None:
    text = pem("X", bytes(range(256)) * 4)[:]
    assert text.startswith("-----BEGIN X-----\n")
    assert max(map(len, text.splitlines())) == 64
    body = pem("X", bytes(size))
    assert body.endswith("-----END X-----\n")
    assert "\n\n" not in body
