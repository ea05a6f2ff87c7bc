"""The keys and certificates of the interoperability vectors."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sealagent.pki import oids, signatures
from sealagent.pki.certificates import Certificate, load_certificates
from sealagent.pki.keys import load_public_key
from sealagent.pki.path import PathStatus, validate_path
from sealagent.pki.sm2 import SM2PublicKey
from sealagent.pki.trust import TrustStore

pytestmark = pytest.mark.vectors

PASSWORDS = {"USER": "777777", "SealBuilder": "777777", "ROOT": "123456"}


def openssl(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def certificates(vectors: Path) -> dict[str, Certificate]:
    """The end certificates of the three .p12 files, taken out by openssl's legacy provider."""
    found = {}
    for name, password in PASSWORDS.items():
        text = openssl(
            *("pkcs12", "-legacy", "-in", vectors / f"{name}.p12", "-passin", f"pass:{password}"),
            *("-clcerts", "-nokeys"),
        )
        (found[name],) = load_certificates(text)
    return found


def test_user_and_maker_are_signed_by_root_with_the_default_id(certificates: dict[str, Certificate]) -> None:
    root = certificates["ROOT"]
    assert isinstance(root.public_key, SM2PublicKey)
    for name in ("USER", "SealBuilder"):
        found = certificates[name]
        assert found.is_issued_by(root)
        assert found.algorithm is not None
        assert found.algorithm.oid == oids.SM2_WITH_SM3
        check = signatures.verify(root.public_key, found.algorithm, found.fields.signature, found.fields.tbs)
        assert check.ok
        other = root.public_key.e(found.fields.tbs, b"another ID")
        assert not signatures.verify_digest(root.public_key, found.algorithm, found.fields.signature, other).ok
        assert not found.is_issued_by(certificates["USER"])


def test_maker_and_signer_share_a_name_but_not_their_octets(certificates: dict[str, Certificate]) -> None:
    user, maker = certificates["USER"], certificates["SealBuilder"]
    assert user.subject == maker.subject
    assert "CN=Test Certificate" in user.subject
    assert user != maker
    assert user.public_key != maker.public_key
    assert user.not_before.isoformat() == "2020-04-21T14:39:08+00:00"
    assert user.not_after.isoformat() == "2022-04-21T14:39:08+00:00"
    assert maker.not_before.isoformat() == "2020-04-21T14:39:38+00:00"
    assert user.may_sign
    assert maker.may_sign


def test_root_is_no_ca_and_cannot_be_an_anchor(certificates: dict[str, Certificate]) -> None:
    root = certificates["ROOT"]
    assert not root.may_sign_certificates
    for name in ("USER", "SealBuilder"):
        found = certificates[name]
        result = validate_path(found, (), TrustStore((root,)), found.not_before)
        assert (result.status, result.fault) == (PathStatus.invalid, "chain")
        assert root.subject in result.detail


def test_pins_are_accepted_and_nothing_else_is_known(certificates: dict[str, Certificate]) -> None:
    user, maker = certificates["USER"], certificates["SealBuilder"]
    at = user.not_before
    both = TrustStore((user, maker))
    assert validate_path(user, (), both, at).status is PathStatus.pinned
    assert validate_path(maker, (), both, at).status is PathStatus.pinned
    assert validate_path(user, (), TrustStore((maker,)), at).status is PathStatus.no_anchor
    assert validate_path(user, (), TrustStore(()), at).status is PathStatus.no_anchor


def test_the_point_of_sign_cert_is_that_of_sign_key(vectors: Path) -> None:
    (found,) = load_certificates((vectors / "sign_cert.pem").read_bytes())
    spki = openssl("pkey", "-in", vectors / "sign_key.pem", "-pubout", "-outform", "DER")
    assert found.public_key == load_public_key(spki)
    assert found.spki == spki
    assert (found.not_before.isoformat(), found.not_after.isoformat()) == (
        "2021-07-29T11:37:34+00:00",
        "2023-07-29T11:37:34+00:00",
    )


def test_z_of_the_vectors_equals_the_published_debug_values(certificates: dict[str, Certificate]) -> None:
    """Debug values of the standards notes: the maker's Z, and the signer's."""
    found = {name: certificates[name].public_key for name in ("USER", "SealBuilder")}
    assert {name: key.z().hex() for name, key in found.items() if isinstance(key, SM2PublicKey)} == {
        "USER": "565bd8146e3c2b3568e37dadce4fa090aad1f044eba07b0714ecf92ab4508209",
        "SealBuilder": "5c92fdaead7c45e6eea2194573113a34568c9c28e300581e566048a7313d6468",
    }


def test_the_seal_signature_of_user_v4_over_its_octets(vectors: Path, certificates: dict[str, Certificate]) -> None:
    """Offsets and digest as the standards notes give them; the seal parser has no part in this."""
    seal = (vectors / "UserV4.esl").read_bytes()
    maker = certificates["SealBuilder"].public_key
    algorithm = signatures.algorithm(oids.SM2_WITH_SM3)
    signed, value = seal[4:16397], seal[seal.rindex(b"\x03", 0, -70) :]
    e = signatures.signing_digest(maker, algorithm, signed)
    assert e.hex() == "93788669d714f0dbf04b1830ecd63a90b2146953fa1936e9454bafef360c6ded"
    assert signatures.verify(maker, algorithm, value[3:], signed).ok
    assert not signatures.verify(maker, algorithm, value[3:], signed[:-1] + b"\0").ok
