"""Time-stamp tokens in seals and signatures: junk and tokens over other octets are refused, none is silently valid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sample_parties import DOCUMENT, PATH, Party, codes, hash_of, outcome, version_1
from sample_seals import bits, identity, integer, oid, openssl, raw_seal, tlv
from sealagent.pki.digests import digest
from sealagent.seals.build import assemble_seal, assemble_signature, build_tbs
from sealagent.seals.verify import judge_seal, judge_signature


@pytest.fixture(scope="module")
def stamp(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function that has OpenSSL stamp octets: a real RFC 3161 token."""
    folder = tmp_path_factory.mktemp("tsa")
    usage = "keyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n"
    tsa = identity(folder, "rsa", "tsa", extensions=usage)
    configuration = folder / "tsa.cnf"
    configuration.write_text(
        f"[tsa]\nserial={folder}/serial\nsigner_digest=sha256\ndefault_policy=1.2.3.4\ndigests=sha256\n"
        "ess_cert_id_alg=sha256\n"
    )

    def token(octets: bytes) -> bytes:
        (folder / "data").write_bytes(octets)
        openssl("ts", "-query", "-data", folder / "data", "-sha256", "-out", folder / "query")
        return openssl(
            *("ts", "-reply", "-config", configuration, "-section", "tsa", "-queryfile", folder / "query"),
            *("-signer", tsa.pem, "-inkey", tsa.key, "-token_out"),
        )

    return token


def stamped(party: Party, token: Any) -> tuple[bytes, bytes]:
    """A version 5 seal and a signature with tokens over their values, or with the given octets as tokens.

    The seal is made some seconds ago, because the token is of this moment (and before the certificates begin).
    """
    created = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=10)
    info = party.info(5, created=created, valid_from=created, valid_until=created + timedelta(days=30))
    value = party.maker.sign(info)
    seal_token = token(value) if callable(token) else token
    seal = assemble_seal(info, party.maker.der, party.maker.algorithm, value, seal_token)
    tbs = build_tbs(seal, 5, created, digest("sm3", DOCUMENT), PATH)
    value = party.signer.sign(tbs)
    signature_token = token(value) if callable(token) else token
    return seal, assemble_signature(tbs, party.signer.der, party.signer.algorithm, value, signature_token)


def test_tokens_that_are_well_formed_are_not_silently_valid(party: Party, stamp: Any) -> None:
    seal, whole = stamped(party, stamp)
    policy = party.policy(party.start)
    report = judge_seal(seal, policy)
    assert "timestamp_not_checked" in codes(report.reasons)
    assert "seal_timestamp" not in codes(report.reasons)
    signed = judge_signature(whole, policy, hash_of(DOCUMENT))
    found = [(reason.code, reason.detail) for reason in signed.reasons if "timestamp" in reason.code]
    assert [(code, detail.partition(":")[0]) for code, detail in found] == [
        ("timestamp_not_checked", "seal_timestamp"),
        ("timestamp_not_checked", "sig_timestamp"),
    ]
    assert signed.verdict != "valid"


def test_tokens_over_other_octets(party: Party, stamp: Any) -> None:
    seal, whole = stamped(party, stamp(b"other octets"))
    policy = party.policy(party.start)
    assert "seal_timestamp" in codes(judge_seal(seal, policy).reasons)
    signed = judge_signature(whole, policy, hash_of(DOCUMENT))
    assert [code for code in codes(signed.reasons) if "timestamp" in code] == ["seal_timestamp", "sig_timestamp"]
    assert signed.verdict == "invalid"


def test_junk_tokens(party: Party) -> None:
    for junk in (b"\1\2\3", b"\0", raw_seal(4), tlv(0x30, oid("1.2.840.113549.1.7.2"), tlv(0xA0, integer(1)))):
        seal, whole = stamped(party, junk)
        assert "seal_timestamp" in codes(judge_seal(seal, party.policy(party.start)).reasons)
        assert "sig_timestamp" in codes(judge_signature(whole, party.policy(), hash_of(DOCUMENT)).reasons)


def test_seal_made_after_its_token(party: Party, stamp: Any) -> None:
    info = party.info(5)  # made tomorrow
    value = party.maker.sign(info)
    seal = assemble_seal(info, party.maker.der, party.maker.algorithm, value, stamp(value))
    report = judge_seal(seal, party.policy())
    assert outcome(report) == (["seal_timestamp"], "invalid", True)


def test_version_1_with_a_token_as_its_time(parties: dict[str, Party], stamp: Any) -> None:
    party = parties["rsa"]
    report = judge_signature(version_1(party, time=bits(stamp(b"any"))), party.policy(), hash_of(DOCUMENT))
    assert report.signed_at is not None
    assert abs(report.signed_at - datetime.now(UTC)) < timedelta(minutes=10)
    assert "timestamp_not_checked" in codes(report.reasons)
    assert report.verdict != "valid"
