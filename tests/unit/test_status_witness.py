"""A verdict is used again only while everybody who was asked answers as before, and the record says who they were."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from sample_parties import Party
from sealagent.pki.certificates import Certificate
from sealagent.pki.revocation import CertificateState, CertificateStatus
from sealagent.seals.model import Seal
from sealagent.seals.status import SealState, SealStatus, StateChange
from sealagent.seals.verify import Policy, judge_seal, judge_signer
from sealagent.status.witness import Answers, Witness

DAY = timedelta(days=1)


@dataclass
class Answering:
    """Answers about certificates and seals as a test sets it, and counts the questions."""

    party: Party
    certificate: CertificateStatus = field(
        default_factory=lambda: CertificateStatus(CertificateState.GOOD, source="crl /x", evidence=b"crl")
    )
    seal: SealStatus = field(default_factory=SealStatus)
    questions: int = 0
    moments: list[datetime] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seal = SealStatus(
            (StateChange(SealState.VALID, self.party.start),), "http://unit", self.party.start, evidence=b"answer"
        )

    def of_certificates(self) -> OfCertificates:
        return OfCertificates(self)

    def status(self, seal: Seal, maker: Certificate, now: datetime) -> SealStatus:
        self.questions += 1
        return self.seal


@dataclass
class OfCertificates:
    """The half that is asked about certificates."""

    whole: Answering

    def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
        self.whole.questions += 1
        self.whole.moments.append(at)
        return self.whole.certificate


def policy_of(source: Answering, now: datetime) -> Policy:
    return replace(source.party.policy(now, pins=False), seals=source, revocation=source.of_certificates())


@pytest.fixture
def source(party: Party) -> Answering:
    return Answering(party)


@pytest.fixture
def now(party: Party) -> datetime:
    return party.start + 2 * DAY


def heard(source: Answering, now: datetime) -> Answers:
    """Judge a seal and its signer; return what was answered."""
    witness = Witness(policy_of(source, now))
    report = judge_seal(source.party.seal(), witness.policy)
    signer = judge_signer(Certificate.from_der(source.party.signer.der), now, witness.policy)
    assert not [*report.reasons, *signer.reasons]
    return witness.answers()


def test_everything_that_was_asked_is_asked_again(source: Answering, now: datetime) -> None:
    answers = heard(source, now)
    assert (answers.asked, source.questions) == (True, 3)
    assert answers.hold(policy_of(source, now + timedelta(seconds=5)))
    assert source.questions == 6
    # The maker was asked about as of when the seal was made; the signer as of now, whenever that is.
    start = source.party.start
    assert source.moments == [start, now, start, now + timedelta(seconds=5)]


@pytest.mark.parametrize(
    "changed",
    [
        {"seal": SealStatus()},
        {"certificate": CertificateStatus(CertificateState.GOOD, source="crl /x", evidence=b"newer crl")},
        {"certificate": CertificateStatus(CertificateState.REVOKED, source="crl /x", evidence=b"crl")},
    ],
)
def test_one_other_answer_ends_the_verdict(source: Answering, now: datetime, changed: dict[str, object]) -> None:
    answers = heard(source, now)
    for name, value in changed.items():
        setattr(source, name, value)
    assert not answers.hold(policy_of(source, now))


def test_a_source_that_is_gone_ends_the_verdict(source: Answering, now: datetime) -> None:
    answers = heard(source, now)
    whole = policy_of(source, now)
    assert not answers.hold(replace(whole, seals=None))
    assert not answers.hold(replace(whole, revocation=None))


def test_where_nobody_was_asked_nothing_need_be_asked_again(source: Answering, now: datetime) -> None:
    source.seal = SealStatus(asked=False, detail="nobody is configured")
    source.certificate = CertificateStatus(CertificateState.GOOD, asked=False)
    answers = heard(source, now)
    assert not answers.asked
    assert answers.facts("not_checked") == {"seal": {"state": "not_checked"}, "certificates": []}
    assert answers.evidence() == {}
    assert not Answers().asked


def test_the_record_names_who_said_what(source: Answering, now: datetime) -> None:
    source.seal = replace(source.seal, stale=True)
    answers = heard(source, now)
    digests = {octets: hashlib.sha256(octets).hexdigest() for octets in (b"answer", b"crl")}
    assert answers.evidence() == {digest: octets for octets, digest in digests.items()}
    facts = answers.facts("valid")
    assert facts["seal"] == {
        "state": "valid",
        "source": "http://unit",
        "produced_at": source.party.start.isoformat().replace("+00:00", "Z"),
        "sha256": digests[b"answer"],
        "stale": True,
    }
    certificate = {"state": "good", "source": "crl /x", "produced_at": None, "sha256": digests[b"crl"]}
    serial = Certificate.from_der(source.party.maker.der).serial
    assert facts["certificates"] == [{"serial": serial, **certificate}] * 2


def test_what_could_not_be_asked_is_on_record_with_its_reason(source: Answering, now: datetime) -> None:
    source.seal = SealStatus(detail="http://unit: service_timeout")
    witness = Witness(policy_of(source, now))
    report = judge_seal(source.party.seal(), witness.policy)
    assert [reason.code for reason in report.reasons] == ["status_unknown"]
    facts = witness.answers().facts(report.status)
    assert facts["seal"] == {"state": "unknown", "detail": "http://unit: service_timeout"}


def test_without_sources_there_is_nothing_to_hear(party: Party, now: datetime) -> None:
    witness = Witness(party.policy(now))
    assert witness.policy == party.policy(now)
    judge_seal(party.seal(), witness.policy)
    assert not witness.answers().asked
    assert witness.answers().hold(party.policy(now))
