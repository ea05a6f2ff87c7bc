"""The authorities of the test bed: what each certificate is for, what the database says, bad ones on request."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID

from sealagent.pki.certificates import Certificate
from sealagent.pki.path import PathStatus, validate_path
from sealagent.pki.signatures import algorithm, verify
from sealagent.pki.trust import TrustStore
from testbed.authorities import NAMES, Authority, Hierarchy, hierarchy, leaf, load_hierarchy
from testbed.openssl import FAMILIES, KEY_TYPES, SM2_ID, OpensslError, new_key, new_request

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
YEAR = (NOW - timedelta(days=30), NOW + timedelta(days=335))
URL = "http://127.0.0.1:4711"
SUBJECT = [("C", "CN"), ("O", "某某局"), ("CN", "签章人")]


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Hierarchy:
    return hierarchy(tmp_path_factory.mktemp("pki"), request.param, URL, NOW)


def all_of(family: Hierarchy) -> list[Authority]:
    return [family.authority(name) for name in NAMES]


def test_a_leaf_chains_to_the_root_for_openssl_and_for_us(family: Hierarchy, tmp_path: Path) -> None:
    root = Certificate.from_der(family.root.der)
    for authority in (family.signers, family.commercial, family.makers):
        made = leaf(authority, tmp_path / authority.folder.name, SUBJECT, YEAR)
        # Step by step: openssl takes the SM2 ID for the certificate in question only.
        openssl_verifies(family, made.certificate, "-partial_chain", "-CAfile", authority.certificate)
        openssl_verifies(family, authority.certificate, "-CAfile", family.root.certificate)
        issuer, certificate = Certificate.from_der(authority.der), Certificate.from_der(made.der)
        result = validate_path(certificate, [issuer], TrustStore((root,)), NOW)
        assert result.status is PathStatus.trusted, result.detail
        assert result.chain == (certificate, issuer, root)


def openssl_verifies(family: Hierarchy, certificate: Path, *options: str | Path) -> None:
    known = ["-vfyopt", SM2_ID] if family.family == "sm2" else []
    command = ["openssl", "verify", *known, "-x509_strict", "-attime", str(int(NOW.timestamp())), *options, certificate]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_was_issued_says_where_to_ask(family: Hierarchy, tmp_path: Path) -> None:
    made = x509.load_der_x509_certificate(leaf(family.signers, tmp_path / "leaf", SUBJECT, YEAR).der)
    access = made.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    named = {each.access_method: each.access_location.value for each in access}
    assert named == {
        AuthorityInformationAccessOID.OCSP: f"{URL}/ocsp/{family.family}/signers",
        AuthorityInformationAccessOID.CA_ISSUERS: f"{URL}/ca/{family.family}/signers.cer",
    }
    points = made.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert [name.value for point in points for name in point.full_name] == [f"{URL}/crl/{family.family}/signers.crl"]


def test_services_have_certificates_for_their_purpose(family: Hierarchy) -> None:
    stamp = x509.load_der_x509_certificate(family.tsa.der)
    usage = stamp.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (usage.critical, list(usage.value)) == (True, [ExtendedKeyUsageOID.TIME_STAMPING])
    for authority in all_of(family):
        responder = x509.load_der_x509_certificate(authority.known("OCSP responder", "ocsp").der)
        usage = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        assert list(usage.value) == [ExtendedKeyUsageOID.OCSP_SIGNING]
        assert responder.extensions.get_extension_for_oid(ExtensionOID.OCSP_NO_CHECK)
        assert Certificate.from_der(authority.known("OCSP responder", "ocsp").der).is_issued_by(
            Certificate.from_der(authority.der)
        )


def test_a_credential_signs(family: Hierarchy) -> None:
    made = family.tsa
    oid = {"sm3_sm2": "1.2.156.10197.1.501", "sha256_rsa": "1.2.840.113549.1.1.11"}.get(
        made.key_type.signature, "1.2.840.10045.4.3.2"
    )
    key = Certificate.from_der(made.der).public_key
    assert verify(key, algorithm(oid), made.sign(b"message"), b"message").ok
    assert not verify(key, algorithm(oid), made.sign(b"message"), b"other").ok


def test_bad_certificates_on_request(family: Hierarchy, tmp_path: Path) -> None:
    day = timedelta(days=1)
    expired = leaf(family.signers, tmp_path / "expired", SUBJECT, (NOW - 20 * day, NOW - day))
    early = leaf(family.signers, tmp_path / "early", SUBJECT, (NOW + day, NOW + 20 * day))
    other_use = leaf(family.signers, tmp_path / "other", SUBJECT, YEAR, "encryption")
    revoked = leaf(family.signers, tmp_path / "revoked", SUBJECT, YEAR, revoked_at=NOW - day)
    assert Certificate.from_der(expired.der).not_after < NOW < Certificate.from_der(early.der).not_before
    assert not Certificate.from_der(other_use.der).may_sign
    entry = family.signers.entry(x509.load_der_x509_certificate(revoked.der).serial_number)
    assert entry is not None
    assert (entry.revoked_at, entry.reason) == (NOW - day, "keyCompromise")
    family.signers.revoke(revoked.der, NOW, "superseded")
    changed = family.signers.entry(x509.load_der_x509_certificate(revoked.der).serial_number)
    assert changed is not None
    assert (changed.revoked_at, changed.reason) == (NOW, "superseded")


def test_the_database_knows_what_was_issued(family: Hierarchy, tmp_path: Path) -> None:
    made = leaf(family.makers, tmp_path / "leaf", SUBJECT, YEAR)
    serial = x509.load_der_x509_certificate(made.der).serial_number
    entry = family.makers.entry(serial)
    assert entry is not None
    assert entry.revoked_at is None
    assert family.makers.entry(serial ^ 1) is None
    assert family.signers.entry(serial) is None


def test_a_list_has_what_was_revoked(family: Hierarchy, tmp_path: Path) -> None:
    at = NOW - timedelta(days=3)
    revoked = leaf(family.commercial, tmp_path / "revoked", SUBJECT, YEAR, revoked_at=at)
    made = x509.load_der_x509_crl(family.commercial.crl(NOW, NOW + timedelta(days=1)))
    assert (made.last_update_utc, made.next_update_utc) == (NOW, NOW + timedelta(days=1))
    entry = made.get_revoked_certificate_by_serial_number(x509.load_der_x509_certificate(revoked.der).serial_number)
    assert entry is not None
    assert entry.revocation_date_utc == at
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise
    first = made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    again = x509.load_der_x509_crl(family.commercial.crl(NOW, NOW + timedelta(days=1)))
    assert again.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number > first


def test_authorities_are_found_again(family: Hierarchy) -> None:
    assert load_hierarchy(family.folder.parent, family.family) == family
    with pytest.raises(OSError, match=r"authority\.json"):
        load_hierarchy(family.folder, "nothing")


def test_nobody_but_the_owner_reads_keys(family: Hierarchy) -> None:
    keys = [*family.folder.rglob("*.key"), *family.folder.rglob("key.pem")]
    assert len(keys) >= 9
    assert all(key.stat().st_mode & 0o077 == 0 for key in keys)


def test_a_name_may_have_any_letters(tmp_path: Path) -> None:
    kind = KEY_TYPES["p-256"]
    new_key(kind, tmp_path / "key.pem")
    name = r"a/b+c=d\e 章"
    request = x509.load_pem_x509_csr(new_request(kind, tmp_path / "key.pem", [("CN", name)]))
    assert [each.value for each in request.subject] == [name]
    with pytest.raises(OpensslError, match="openssl req"):
        new_request(kind, tmp_path / "absent.pem", [("CN", name)])
