"""Judging seals and seal signatures made with keys that only the OpenSSL command line touches."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding

from sample_parties import DOCUMENT, KINDS, PATH, Party, codes, hash_of, noted, outcome
from sample_seals import (
    SHA256_WITH_RSA,
    Identity,
    bits,
    generalized,
    ia5,
    identity,
    integer,
    oid,
    openssl,
    png,
    raw_info,
    raw_seal,
    raw_signature,
    raw_tbs,
    tlv,
)
from sealagent.errors import FormatError
from sealagent.pki.certificates import Certificate
from sealagent.pki.digests import digest
from sealagent.pki.trust import TrustStore
from sealagent.seals.build import assemble_seal, assemble_signature, build_tbs
from sealagent.seals.parse import parse_seal
from sealagent.seals.steps import judge_value
from sealagent.seals.verify import (
    Policy,
    Rule,
    judge_seal,
    judge_signature,
    judge_signer,
    lists_certificate,
    seal_signature_ok,
)
from sealagent.verdict import Note, Reason

# --- what we build is right, by our own verifier and by OpenSSL ---


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_built_seals_and_signatures_are_valid(parties: dict[str, Party], kind: str, version: int) -> None:
    party = parties[kind]
    seal = party.seal(version)
    report = judge_seal(seal, party.policy(pins=False), id="s1")
    assert outcome(report) == ([], "valid", True)
    assert (noted(report), report.id, report.kind, report.version) == ([], "s1", "seal", version)
    signed = judge_signature(
        party.signature(seal, version=version),
        party.policy(pins=False),
        hash_of(DOCUMENT),
        stored_seal=seal,
        expected_property=PATH,
        closed=True,
    )
    assert outcome(signed) == ([], "valid", True)
    assert (noted(signed), signed.closed, signed.signed_at) == ([], True, party.start)
    assert signed.trust == {"list": "test list", "region": ""}
    assert signed.seal is not None
    assert (signed.seal.id, signed.seal.name, signed.seal.valid_from) == ("0001", "测试章", party.start)


def elements(der: bytes, depth: int) -> list[tuple[int, int, int]]:
    """Let OpenSSL say where the elements of one depth are: (offset, header octets, content octets)."""
    listing = openssl("asn1parse", "-inform", "DER", data=der).decode()
    found = re.findall(r"^ *(\d+):d=(\d+) +hl=(\d+) l= *(\d+) ", listing, re.MULTILINE)
    return [(int(at), int(header), int(size)) for at, level, header, size in found if int(level) == depth]


def check_with_openssl(der: bytes, owner: Identity) -> bytes:
    """Verify a seal or a seal signature with nothing but OpenSSL; return the octets it covers."""
    signed, certificate, _, value = elements(der, 1)[:4]
    octets = der[signed[0] : signed[0] + signed[1] + signed[2]]
    assert der[certificate[0] + certificate[1] :][: certificate[2]] == owner.der
    bit_string = der[value[0] + value[1] :][: value[2]]
    assert bit_string[0] == 0
    owner.verify(octets, bit_string[1:])
    return octets


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_openssl_accepts_what_is_built(parties: dict[str, Party], kind: str, version: int) -> None:
    party = parties[kind]
    seal = party.seal(version)
    check_with_openssl(seal, party.maker)
    whole = party.signature(seal, version=version)
    tbs = check_with_openssl(whole, party.signer)
    embedded, hashed = elements(tbs, 1)[1], elements(tbs, 1)[3]
    assert tbs[embedded[0] :][: embedded[1] + embedded[2]] == seal
    expected = openssl("dgst", "-sm3", "-binary", data=DOCUMENT)
    assert tbs[hashed[0] + hashed[1] :][: hashed[2]] == b"\0" + expected
    with pytest.raises(AssertionError, match="erif"):
        check_with_openssl(seal.replace("测试章".encode(), "试测章".encode()), party.maker)


# --- trust ---


def test_without_an_anchor_the_verdict_is_open(party: Party) -> None:
    nobody = Policy(TrustStore(()), party.start)
    assert outcome(judge_seal(party.seal(), nobody)) == (["maker_not_trusted"], "indeterminate", True)
    report = judge_signature(party.signature(), nobody, hash_of(DOCUMENT))
    assert outcome(report) == (["signer_not_trusted", "maker_not_trusted"], "indeterminate", True)
    assert report.trust is None
    other = judge_signature(party.signature(), nobody, hash_of(b"other"))
    assert outcome(other) == (["data_hash", "signer_not_trusted", "maker_not_trusted"], "invalid", False)


def test_pinned_certificates_are_noted(party: Party) -> None:
    report = judge_signature(party.signature(), party.policy(), hash_of(DOCUMENT))
    assert outcome(report) == ([], "valid", True)
    assert report.notes == (
        Note("pinned", "the maker's certificate"),
        Note("pinned", "the signer's certificate"),
        Note("status_not_checked"),
    )


def test_certificates_that_may_not_sign(party: Party, tmp_path: Path) -> None:
    usage = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyEncipherment\n"
    wrong = identity(tmp_path, "sm2", "wrong", ca=party.ca, extensions=usage)
    crooked = replace(party, maker=wrong, signer=wrong)
    for pins in (False, True):
        report = judge_signature(crooked.signature(), crooked.policy(pins=pins), hash_of(DOCUMENT))
        assert outcome(report) == (["maker_cert_usage", "signer_cert_usage"], "invalid", True)
    assert "same_maker_and_signer" in codes(report.notes)


def test_judge_signer_for_a_certificate_on_a_token(party: Party) -> None:
    certificate = Certificate.from_der(party.signer.der)
    assert judge_signer(certificate, party.start, party.policy(pins=False)).reasons == []
    late = judge_signer(certificate, party.end, party.policy())
    assert codes(late.reasons) == ["signed_outside_cert_validity"]


# --- the octets ---


@pytest.mark.parametrize("kind", KINDS)
def test_changed_octets(parties: dict[str, Party], kind: str) -> None:
    party = parties[kind]
    seal, old, new = party.seal(), "测试章".encode(), "试测章".encode()
    assert outcome(judge_seal(seal.replace(old, new), party.policy())) == (["seal_signature"], "invalid", False)
    whole = party.signature(seal)
    report = judge_signature(whole.replace(old, new), party.policy(), hash_of(DOCUMENT))
    assert outcome(report) == (["seal_signature", "sig_value"], "invalid", False)
    report = judge_signature(whole.replace(PATH.encode(), PATH.encode().upper()), party.policy(), hash_of(DOCUMENT))
    assert outcome(report) == (["sig_value"], "invalid", False)


def test_seals_that_no_rule_accepts(party: Party) -> None:
    info = party.info()
    fields = tlv(4, party.maker.der) + oid(party.maker.algorithm)
    by_old_rule = assemble_seal(info, party.maker.der, party.maker.algorithm, party.maker.sign(tlv(0x30, info, fields)))
    assert seal_signature_ok(parse_seal(by_old_rule), Rule.V1).ok
    assert outcome(judge_seal(by_old_rule, party.policy())) == (["seal_signature"], "invalid", False)


def test_key_and_algorithm_that_do_not_belong_together(parties: dict[str, Party]) -> None:
    party, rsa = parties["sm2"], parties["rsa"]
    info = party.info()
    for owner, algorithm in ((party.maker, SHA256_WITH_RSA), (rsa.maker, party.maker.algorithm)):
        seal = assemble_seal(info, owner.der, algorithm, owner.sign(info))
        assert outcome(judge_seal(seal, party.policy()))[0][:1] == ["seal_signature"]


def test_unknown_algorithm_leaves_the_verdict_open(party: Party) -> None:
    info = party.info()
    seal = assemble_seal(info, party.maker.der, "1.2.3.4", b"value")
    assert outcome(judge_seal(seal, party.policy())) == (["algorithm_not_supported"], "indeterminate", None)
    with pytest.raises(FormatError) as error:
        seal_signature_ok(parse_seal(seal), Rule.V4)
    assert error.value.code == "algorithm_not_supported"


def test_certificates_that_are_none(party: Party) -> None:
    info = party.info()
    seal = assemble_seal(info, b"\x30\x00", party.maker.algorithm, b"value")
    assert outcome(judge_seal(seal, party.policy())) == (["seal_format"], "invalid", False)
    tbs = build_tbs(party.seal(), 4, party.start, digest("sm3", DOCUMENT), PATH)
    whole = assemble_signature(tbs, b"\x30\x00", party.signer.algorithm, b"value")
    assert outcome(judge_signature(whole, party.policy(), hash_of(DOCUMENT))) == (["sig_format"], "invalid", False)


def split(value: bytes) -> list[bytes]:
    """Return the contents of the two INTEGERs of a DER signature."""
    r = value[4 : 4 + value[3]]
    return [r, value[6 + len(r) :]]


@pytest.mark.parametrize("quirk", ["quirk_raw_signature", "quirk_long_integer"])
def test_signature_values_in_other_forms(party: Party, quirk: str) -> None:
    def other_form(value: bytes) -> bytes:
        r, s = split(value)
        if quirk == "quirk_raw_signature":
            return b"".join(part.lstrip(b"\0").rjust(32, b"\0") for part in (r, s))
        return tlv(0x30, *(tlv(2, b"\0" + part) for part in (r, s)))

    info = party.info()
    seal = assemble_seal(info, party.maker.der, party.maker.algorithm, other_form(party.maker.sign(info)))
    report = judge_seal(seal, party.policy())
    assert outcome(report) == ([], "valid", True)
    assert Note(quirk, "the maker's signature") in report.notes
    tbs = build_tbs(seal, 4, party.start, digest("sm3", DOCUMENT), PATH)
    whole = assemble_signature(tbs, party.signer.der, party.signer.algorithm, party.signer.sign(tbs))
    mixed = judge_signature(whole, party.policy(), hash_of(DOCUMENT))
    assert outcome(mixed) == ([], "valid", True)
    assert [note.detail for note in mixed.notes if note.code == quirk] == ["the maker's signature"]


def test_quirks_do_not_change_the_signed_octets(party: Party) -> None:
    """A critical FALSE that is written out, in [0], in a version 4 seal: verified as received."""
    item = tlv(0x30, oid("1.2.3"), tlv(1, b"\0"), tlv(4, b"2.1"))
    plain = party.info()
    body = plain[4:] if plain[1] & 0x80 else plain[2:]
    info = tlv(0x30, body, tlv(0xA0, tlv(0x30, item)))
    seal = raw_seal(4, info=info, maker=party.maker.der, signature=bits(party.maker.sign(info)))
    report = judge_seal(seal, party.policy())
    assert outcome(report) == ([], "valid", True)
    assert {"quirk_critical_false", "quirk_ext_wrapped"} < set(codes(report.notes))


def with_general_times(certificate: bytes) -> bytes:
    """Return the certificate with GeneralizedTime before 2050 (its issuer's signature no longer fits: pin it)."""
    at = certificate.index(b"\x30\x1e\x17\x0d")
    start, end = certificate[at + 4 : at + 17], certificate[at + 19 : at + 32]
    validity = tlv(0x30, tlv(0x18, b"20", start), tlv(0x18, b"20", end))
    inner = int.from_bytes(certificate[6:8], "big") + 8
    assert certificate[4:6] == b"\x30\x82"
    return tlv(0x30, tlv(0x30, certificate[8:at], validity, certificate[at + 32 : inner]), certificate[inner:])


def test_certificates_with_odd_times_are_noted(party: Party) -> None:
    odd = replace(party.signer, der=with_general_times(party.signer.der))
    crooked = replace(party, signer=odd)
    report = judge_signature(crooked.signature(), crooked.policy(), hash_of(DOCUMENT))
    assert outcome(report) == ([], "valid", True)
    assert Note("quirk_cert_general_time", "the signer's certificate") in report.notes


# --- the signer and the seal's list ---


def test_signer_that_is_not_listed(party: Party) -> None:
    stranger = replace(party, signer=party.maker)
    report = judge_signature(stranger.signature(party.seal()), party.policy(), hash_of(DOCUMENT))
    assert outcome(report) == (["signer_not_in_seal"], "invalid", False)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("SM3", "sm3"),
        ("sm3", "sm3"),
        ("SHA-256", "sha256"),
        ("SHA256", "sha256"),
        ("1.2.156.10197.1.401", "sm3"),
        ("digest", "sm3"),
    ],
)
def test_lists_of_digests(party: Party, label: str, name: str) -> None:
    seal = party.seal(certificate_digests=((label, digest(name, party.signer.der)),))
    assert lists_certificate(parse_seal(seal), party.signer.der)
    assert not lists_certificate(parse_seal(seal), party.maker.der)
    assert outcome(judge_signature(party.signature(seal), party.policy(), hash_of(DOCUMENT))) == ([], "valid", True)
    stranger = replace(party, signer=party.maker)
    report = judge_signature(stranger.signature(seal), party.policy(), hash_of(DOCUMENT))
    assert outcome(report) == (["signer_not_in_seal"], "invalid", False)


def test_weak_digest_in_the_list_is_noted(party: Party) -> None:
    """Written octet by octet: ours are never made so."""
    times = [generalized((party.start + timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")) for days in (0, 0, 365)]
    listed = tlv(0x30, tlv(0x30, tlv(0x13, b"SHA-1"), tlv(4, digest("sha1", party.signer.der))))
    info = raw_info(cert_list_type=integer(2), cert_list=listed, times=(times[0], times[1], times[2]))
    seal = raw_seal(info=info, maker=party.maker.der, signature=bits(party.maker.sign(info)))
    report = judge_signature(party.signature(seal), party.policy(), hash_of(DOCUMENT))
    assert outcome(report) == ([], "valid", True)
    assert "weak_algorithm" in codes(report.notes)


def test_a_short_key_is_noted() -> None:
    """Whoever can factor it signs in the other's name; old files have such keys."""
    key = rsa.generate_private_key(65537, 1024)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "short")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
    certificate = Certificate.from_der(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    value = key.sign(b"m", PKCS1v15(), hashes.SHA256())
    found = judge_value(certificate, SHA256_WITH_RSA, value, b"m", "signer")
    assert (found.reasons, found.notes) == ([], [Note("weak_algorithm", "the signer's key is too short")])


# --- times ---


def test_seal_alone_is_judged_now(party: Party) -> None:
    seal = party.seal()
    until = party.start + timedelta(days=365)
    second = timedelta(seconds=1)
    for now, expected in (
        (party.start - second, ["seal_not_yet_valid"]),
        (party.start, []),
        (until, []),
        (until + second, ["seal_expired"]),
    ):
        assert codes(judge_seal(seal, party.policy(now)).reasons) == expected


def test_signature_is_judged_at_its_time(party: Party) -> None:
    second, until = timedelta(seconds=1), party.start + timedelta(days=365)
    for time, expected in (
        (party.start - second, ["seal_not_valid_at_signing"]),
        (until, []),
        (until + second, ["seal_not_valid_at_signing"]),
        (party.end, ["signed_outside_cert_validity", "seal_not_valid_at_signing"]),
    ):
        report = judge_signature(party.signature(time=time), party.policy(), hash_of(DOCUMENT))
        assert (codes(report.reasons), report.intact) == (expected, True)
    later = judge_signature(party.signature(), party.policy(party.end), hash_of(DOCUMENT))
    assert outcome(later) == ([], "valid", True)
    assert {"maker_cert_expired_since", "signer_cert_expired_since", "seal_expired_since"} < set(codes(later.notes))


def test_maker_that_expired_before_signing(party: Party) -> None:
    """Common in the field: the 2025 order accepts it, the order of 2014 and 2020 does not."""
    seal = party.seal(valid_until=party.end + timedelta(days=100))
    for strict, expected in ((False, []), (True, ["maker_cert_expired"])):
        assert codes(judge_seal(seal, party.policy(party.end, strict=strict)).reasons) == expected
    signed = party.signature(seal, party.end)
    for strict, first in ((False, []), (True, ["maker_cert_expired"])):
        report = judge_signature(signed, party.policy(party.end, strict=strict), hash_of(DOCUMENT))
        assert codes(report.reasons) == [*first, "signed_outside_cert_validity"]


def seal_with_times(party: Party, *times: datetime) -> bytes:
    """A seal that :mod:`build` would refuse to write."""
    octets = tuple(generalized(moment.strftime("%Y%m%d%H%M%SZ")) for moment in times)
    info = raw_info(4, certificates=(party.signer.der,), times=octets)  # type: ignore[arg-type]
    return raw_seal(4, info=info, maker=party.maker.der, signature=bits(party.maker.sign(info)))


def test_seal_made_outside_its_own_validity(party: Party) -> None:
    second, until = timedelta(seconds=1), party.start + timedelta(days=30)
    for created in (party.start - second, until + second):
        seal = seal_with_times(party, created, party.start, until)
        assert codes(judge_seal(seal, party.policy()).reasons) == ["make_time"]
        assert codes(judge_seal(seal, party.policy(strict=True)).reasons) == []
    late = judge_seal(seal_with_times(party, until, party.start, until), party.policy())
    assert (codes(late.reasons), noted(late)) == ([], ["create_after_start", "pinned"])


def test_maker_that_was_not_good_when_the_seal_was_made(party: Party) -> None:
    early = party.start - timedelta(days=30)
    seal = seal_with_times(party, early, early, party.start + timedelta(days=30))
    assert codes(judge_seal(seal, party.policy()).reasons) == ["maker_cert_not_yet_valid"]
    assert codes(judge_seal(seal, party.policy(strict=True)).reasons) == []


# --- the document and its package ---


def test_data_hash_is_sm3_and_nothing_else_since_version_4(party: Party) -> None:
    tbs = build_tbs(party.seal(), 4, party.start, digest("sha256", DOCUMENT), PATH)
    data = assemble_signature(tbs, party.signer.der, party.signer.algorithm, party.signer.sign(tbs))
    assert outcome(judge_signature(data, party.policy(), hash_of(DOCUMENT))) == (["data_hash"], "invalid", False)


def test_document_not_at_hand(party: Party) -> None:
    report = judge_signature(party.signature(), party.policy(), None)
    assert outcome(report) == (["document_not_checked"], "indeterminate", None)


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        (PATH, False),
        (PATH + "\n", False),
        (json.dumps({"DocId": "1", "DocName": "a", "Entry": PATH}) + "\n", False),
        ("/Doc_0/Signs/Sign_1/Signature.xml", True),
        ('{"Entry": 5}', True),
        ("[" * 60_000, True),
    ],
)
def test_property_info_is_compared(party: Party, text: str, noted: bool) -> None:
    whole = raw_tbs(4, seal=party.seal(), property_info=tlv(0x16, text.encode()), certificate=party.signer.der)
    whole = raw_signature(4, tbs=whole, certificate=party.signer.der)
    report = judge_signature(whole, party.policy(), None, expected_property=PATH)
    assert ("property_info" in codes(report.notes)) is noted


def test_the_package_speaks_first(party: Party) -> None:
    whole = party.signature(time=party.end)
    report = judge_signature(
        whole,
        party.policy(),
        hash_of(b"other"),
        stored_seal=b"other",
        extra_reasons=[Reason("reference_digest", "/a"), Reason("reference_digest", "/b")],
        extra_notes=[Note("not_covered", "/OFD.xml")],
    )
    assert codes(report.reasons) == [
        "reference_digest",
        "reference_digest",
        "seal_mismatch",
        "signed_outside_cert_validity",
        "seal_not_valid_at_signing",
        "data_hash",
    ]
    assert report.notes[0] == Note("not_covered", "/OFD.xml")
    assert report.intact is False
    alone = judge_signature(party.signature(), party.policy(), hash_of(DOCUMENT), stored_seal=b"other")
    assert outcome(alone) == (["seal_mismatch"], "invalid", False)


def test_malformed_input_is_reported(party: Party) -> None:
    report = judge_seal(b"no seal", party.policy(), id="7")
    assert (outcome(report), report.id, report.version) == ((["seal_format"], "invalid", False), "7", None)
    signed = judge_signature(
        party.signature()[:-1], party.policy(), None, extra_reasons=[Reason("reference_digest", "/a")], closed=False
    )
    assert outcome(signed) == (["reference_digest", "sig_format"], "invalid", False)
    assert (signed.seal, signed.closed) == (None, False)


# --- pictures ---


@pytest.mark.parametrize(
    ("kind", "data", "noted"),
    [
        ("PNG", png(), False),
        ("SVG", b"\xef\xbb\xbf<svg xmlns=''/>", False),
        ("GIF", b"GIF89a", False),
        ("BMP", b"BM", False),
        ("JPG", b"\xff\xd8\xff\xe0", False),
        ("png", png(), True),
        ("ofd", b"PK\x03\x04", True),
        ("JPG", png(), True),
        ("PNG", b"", True),
    ],
)
def test_picture_types(party: Party, kind: str, data: bytes, noted: bool) -> None:
    picture = tlv(0x30, ia5(kind), tlv(4, data), integer(40), integer(40))
    report = judge_seal(raw_seal(4, picture=picture, maker=party.maker.der), party.policy())
    assert ("picture_type" in codes(report.notes)) is noted
