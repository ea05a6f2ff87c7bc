"""Judging seal signatures of GM/T 0031-2014, which know RSA and check the seal last."""

from __future__ import annotations

from datetime import timedelta

from sample_parties import DOCUMENT, Party, codes, hash_of, noted, outcome, version_1
from sample_seals import SHA1_WITH_RSA, bits
from sealagent.pki.digests import digest
from sealagent.seals.verify import judge_signature


def test_version_1_with_rsa(parties: dict[str, Party]) -> None:
    party = parties["rsa"]
    for data_hash in (None, digest("sm3", DOCUMENT)):
        report = judge_signature(version_1(party, data_hash=data_hash), party.policy(), hash_of(DOCUMENT))
        assert (outcome(report), report.version) == (([], "valid", True), 1)
        assert noted(report) == ["pinned", "pinned"]
    report = judge_signature(version_1(party), party.policy(), hash_of(b"other"))
    assert outcome(report) == (["data_hash"], "invalid", False)
    sha384 = judge_signature(version_1(party, data_hash=digest("sha384", DOCUMENT)), party.policy(), hash_of(DOCUMENT))
    assert outcome(sha384) == (["data_hash"], "invalid", False)


def test_version_1_with_sha1_is_noted_as_weak(parties: dict[str, Party]) -> None:
    party = parties["rsa"]
    whole = version_1(party, algorithm=SHA1_WITH_RSA, digest_name="sha1")
    report = judge_signature(whole, party.policy(), hash_of(DOCUMENT))
    assert outcome(report) == ([], "valid", True)
    assert [note.detail.split(":")[0] for note in report.notes if note.code == "weak_algorithm"] == [
        "the signer's signature",
        "dataHash",
        "the maker's signature",
    ]


def test_version_1_checks_the_seal_after_the_document(parties: dict[str, Party]) -> None:
    party = parties["rsa"]
    time = bits((party.end + timedelta(hours=8)).strftime("%Y-%m-%d %H:%M:%S").encode())
    whole = version_1(party, time=time).replace("测试章".encode(), "试测章".encode())
    report = judge_signature(whole, party.policy(), hash_of(b"other"))
    assert report.signed_at == party.end
    assert codes(report.reasons) == [
        "sig_value",
        "signed_outside_cert_validity",
        "data_hash",
        "seal_signature",
        "seal_not_valid_at_signing",
    ]


def test_version_1_without_a_readable_time(parties: dict[str, Party]) -> None:
    party = parties["rsa"]
    report = judge_signature(version_1(party, time=bits(b"yesterday")), party.policy(), hash_of(DOCUMENT))
    assert outcome(report) == (["signing_time_unknown"], "indeterminate", True)
    assert report.signed_at is None
