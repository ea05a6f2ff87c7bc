"""Time-stamp tokens in seals and signatures: a good one proves a time, a wrong one ends it, none is silently valid."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sample_parties import DOCUMENT, PATH, Party, codes, hash_of, outcome, version_1
from sample_seals import Identity, bits, identity, integer, oid, openssl, raw_seal, tlv
from sealagent.pki.certificates import Certificate
from sealagent.pki.digests import digest
from sealagent.pki.trust import TrustEntry, TrustRole, TrustStore
from sealagent.seals.build import assemble_seal, assemble_signature, build_tbs
from sealagent.seals.verify import Policy, judge_seal, judge_signature
from timestamp_parts import make_token, time_stamper


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


# --- tokens of an authority that is trusted ---


@pytest.fixture(scope="module")
def tsas(parties: dict[str, Party], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    """An authority under each party's CA."""
    return {
        kind: time_stamper(tmp_path_factory.mktemp(f"tsa-{kind}"), party.ca.kind, "tsa", ca=party.ca)
        for kind, party in parties.items()
    }


def trusting(party: Party, now: datetime | None = None) -> Policy:
    """Maker and signer by their CA; the CA for time-stamps too."""
    store = TrustStore((), "lists", (TrustEntry(Certificate.from_der(party.ca.der)),))
    return Policy(store, now or party.start + timedelta(days=2))


def with_tokens(
    party: Party, tsa: Identity, *, sealed: datetime, signed: datetime, stamped: datetime
) -> tuple[bytes, bytes]:
    """A version 5 seal made and stamped at one moment, and a signature made and stamped at others."""
    info = party.info(5, created=sealed, valid_from=sealed, valid_until=sealed + timedelta(days=7000))
    value = party.maker.sign(info)
    seal = assemble_seal(info, party.maker.der, party.maker.algorithm, value, make_token(tsa, value, sealed))
    tbs = build_tbs(seal, 5, signed, digest("sm3", DOCUMENT), PATH)
    value = party.signer.sign(tbs)
    token = make_token(tsa, value, stamped)
    return seal, assemble_signature(tbs, party.signer.der, party.signer.algorithm, value, token)


def test_good_tokens_over_seal_and_signature(parties: dict[str, Party], tsas: dict[str, Identity]) -> None:
    for kind, party in parties.items():
        moment = party.start + timedelta(hours=1)
        seal, whole = with_tokens(party, tsas[kind], sealed=party.start, signed=moment, stamped=moment)
        alone = judge_seal(seal, trusting(party))
        assert outcome(alone) == ([], "valid", True)
        assert codes(alone.notes).count("time_stamped") == 1
        report = judge_signature(whole, trusting(party), hash_of(DOCUMENT))
        assert outcome(report) == ([], "valid", True)
        assert codes(report.notes).count("time_stamped") == 2


def test_a_tsa_that_is_trusted_for_something_else(party: Party, tsas: dict[str, Identity]) -> None:
    moment = party.start + timedelta(hours=1)
    _, whole = with_tokens(party, tsas["sm2"], sealed=party.start, signed=moment, stamped=moment)
    roles = frozenset({TrustRole.CA, TrustRole.MAKER})
    store = TrustStore((), "lists", (TrustEntry(Certificate.from_der(party.ca.der), roles),))
    report = judge_signature(whole, replace(trusting(party), trust=store), hash_of(DOCUMENT))
    assert outcome(report) == (["timestamp_not_checked", "timestamp_not_checked"], "indeterminate", True)


@pytest.mark.parametrize(
    ("late", "expected"), [(timedelta(minutes=4), []), (timedelta(minutes=6), ["sig_timestamp"]), (-timedelta(1), [])]
)
def test_signed_after_its_token(party: Party, tsas: dict[str, Identity], late: timedelta, expected: list[str]) -> None:
    """A clock may be some minutes ahead of the authority's; a signature is not stamped before it exists."""
    stamped = party.start + timedelta(days=1)
    _, whole = with_tokens(party, tsas["sm2"], sealed=party.start, signed=stamped + late, stamped=stamped)
    report = judge_signature(whole, trusting(party), hash_of(DOCUMENT))
    assert codes(report.reasons) == expected


def test_a_token_proves_a_time_that_outlives_the_certificate(party: Party, tsas: dict[str, Identity]) -> None:
    signed, after = party.start + timedelta(days=1), party.end + timedelta(days=1)
    _, whole = with_tokens(party, tsas["sm2"], sealed=party.start, signed=signed, stamped=signed)
    proven = judge_signature(whole, trusting(party, after), hash_of(DOCUMENT))
    assert outcome(proven) == ([], "valid", True)
    assert {"signer_cert_expired_since", "time_stamped"} <= set(codes(proven.notes))
    assert "signing_time_not_proven" not in codes(proven.notes)
    claimed = judge_signature(party.signature(time=signed), trusting(party, after), hash_of(DOCUMENT))
    assert "signing_time_not_proven" in codes(claimed.notes)


def test_a_wrong_token_decides_after_the_document(party: Party, tsas: dict[str, Identity]) -> None:
    moment = party.start + timedelta(hours=1)
    seal, _ = with_tokens(party, tsas["sm2"], sealed=party.start, signed=moment, stamped=moment)
    tbs = build_tbs(seal, 5, moment, digest("sm3", DOCUMENT), PATH)
    value = party.signer.sign(tbs)
    token = make_token(tsas["sm2"], b"other octets", moment)
    whole = assemble_signature(tbs, party.signer.der, party.signer.algorithm, value, token)
    report = judge_signature(whole, trusting(party), hash_of(b"another document"))
    assert codes(report.reasons) == ["data_hash", "sig_timestamp"]
    assert report.reasons[1].detail == "the token covers other octets"


def test_a_token_in_the_time_of_version_1_is_older_than_the_signature(parties: dict[str, Party], stamp: Any) -> None:
    """It gives the signing time, and does not prove that the signature came before the end of its certificate."""
    party = parties["rsa"]
    tsa = time_stamper(party.ca.key.parent, "rsa", "tsa-v1", ca=party.ca)
    whole = version_1(party, time=bits(make_token(tsa, b"any", party.start)))
    report = judge_signature(whole, trusting(party, party.end + timedelta(days=1)), hash_of(DOCUMENT))
    assert (codes(report.reasons), report.signed_at) == ([], party.start)
    assert "signing_time_not_proven" in codes(report.notes)
    assert "time_stamped" not in codes(report.notes)
