"""What the judge makes of trust lists, revocation and the seal's state: before, at and after signing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from sample_parties import DOCUMENT, Party, codes, hash_of
from sample_seals import Identity
from sealagent.pki.certificates import Certificate
from sealagent.pki.revocation import CertificateState, CertificateStatus
from sealagent.pki.trust import EVERY_ROLE, TrustClass, TrustEntry, TrustRole, TrustSource, TrustStore
from sealagent.seals.model import Seal
from sealagent.seals.status import SealState, SealStatus, StateChange
from sealagent.seals.verify import Policy, judge_seal, judge_signature, judge_signer
from sealagent.status.budget import within
from sealagent.verdict import SignatureReport

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass
class Certificates:
    """Answers by subject; everything else is good."""

    answers: dict[str, CertificateStatus] = field(default_factory=dict)
    asked: list[tuple[tuple[str, ...], datetime]] = field(default_factory=list)

    def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
        self.asked.append((tuple(each.subject for each in chain), at))
        return self.answers.get(chain[0].subject, CertificateStatus(CertificateState.GOOD))


@dataclass
class Seals:
    """One answer for every seal."""

    answer: SealStatus
    asked: list[str] = field(default_factory=list)

    def status(self, seal: Seal, maker: Certificate, now: datetime) -> SealStatus:
        self.asked.append(seal.es_id)
        return self.answer


def loaded(identity: Identity) -> Certificate:
    return Certificate.from_der(identity.der)


def source(party: Party, **changes: Any) -> TrustSource:
    given = TrustSource("beijing", 7, "110000", "北京市", "北京某管理单位", party.start, party.start + 1000 * DAY)
    return replace(given, **changes)


def listed(
    party: Party,
    identity: Identity,
    *roles: TrustRole,
    trust_class: TrustClass = TrustClass.E_GOVERNMENT,
    withdrawn: datetime | None = None,
    **changes: Any,
) -> TrustEntry:
    return TrustEntry(loaded(identity), frozenset(roles), trust_class, source(party, **changes), withdrawn)


def policy(party: Party, *entries: TrustEntry, now: datetime | None = None, **changes: Any) -> Policy:
    usual = (listed(party, party.maker, TrustRole.MAKER), listed(party, party.ca, TrustRole.CA))
    store = TrustStore((), "lists", entries or usual)
    return Policy(store, now or party.start + 2 * DAY, **changes)


def judged(party: Party, by: Policy, signed: datetime | None = None) -> SignatureReport:
    return judge_signature(party.signature(time=signed or party.start + DAY), by, hash_of(DOCUMENT))


def outcome(report: SignatureReport) -> tuple[list[str], str]:
    return codes(report.reasons), report.verdict.value


# --- trust lists ---


def test_a_list_vouches_with_its_region_unit_and_class(party: Party) -> None:
    report = judged(party, policy(party))
    assert outcome(report) == ([], "valid")
    assert report.trust == {
        "list": "beijing",
        "region": "110000",
        "region_name": "北京市",
        "unit": "北京某管理单位",
        "class": "e-government",
    }
    assert judge_seal(party.seal(), policy(party)).trust == report.trust


def test_a_ca_for_signers_does_not_vouch_for_makers(party: Party) -> None:
    """Or whoever has a certificate could make seals."""
    report = judged(party, policy(party, listed(party, party.ca, TrustRole.CA)))
    assert outcome(report) == (["maker_not_trusted"], "indeterminate")
    assert report.trust is not None
    other_way = judged(party, policy(party, listed(party, party.ca, TrustRole.MAKER)))
    assert outcome(other_way) == (["signer_not_trusted"], "indeterminate")
    assert other_way.trust is None


@pytest.mark.parametrize("role", [TrustRole.STATUS, TrustRole.TSA])
def test_other_roles_vouch_for_neither(party: Party, role: TrustRole) -> None:
    report = judged(party, policy(party, listed(party, party.ca, role)))
    assert outcome(report) == (["signer_not_trusted", "maker_not_trusted"], "indeterminate")


def test_a_makers_ca_vouches_for_its_makers(party: Party) -> None:
    by = policy(party, listed(party, party.ca, TrustRole.MAKER, TrustRole.CA))
    assert outcome(judged(party, by)) == ([], "valid")


def test_an_internal_class_shows_in_every_result(party: Party) -> None:
    entry = listed(party, party.ca, *EVERY_ROLE, trust_class=TrustClass.INTERNAL)
    for report in (judged(party, policy(party, entry)), judge_seal(party.seal(), policy(party, entry))):
        assert outcome(report) == ([], "valid")
        assert report.trust is not None
        assert report.trust["class"] == "internal"
        assert "internal_trust" in codes(report.notes)


def test_a_withdrawn_maker(party: Party) -> None:
    """What was made before the withdrawal stays good; what was made after it is not (judged at createDate)."""
    for since, expected in ((party.start, ["maker_trust_withdrawn"]), (party.start + HOUR, [])):
        entries = (
            listed(party, party.maker, TrustRole.MAKER, withdrawn=since),
            listed(party, party.ca, TrustRole.CA),
        )
        assert codes(judged(party, policy(party, *entries)).reasons) == expected
        strict = policy(party, *entries, strict=True)  # judged at signing time, a day later
        assert codes(judged(party, strict).reasons) == ["maker_trust_withdrawn"]


def test_a_withdrawn_ca(party: Party) -> None:
    signed = party.start + DAY
    for since, expected in ((signed, ["signer_trust_withdrawn"]), (signed + HOUR, [])):
        entries = (
            listed(party, party.maker, TrustRole.MAKER),
            listed(party, party.ca, TrustRole.CA, withdrawn=since),
        )
        report = judged(party, policy(party, *entries), signed)
        assert codes(report.reasons) == expected
        assert report.intact is True
        assert (report.trust is None) is bool(expected)


def test_a_list_beyond_its_next_update_keeps_a_verdict_from_being_valid(party: Party) -> None:
    now = party.start + 2 * DAY
    stale = {"next_update": now - HOUR}
    entries = (
        listed(party, party.maker, TrustRole.MAKER, **stale),
        listed(party, party.ca, TrustRole.CA),
    )
    report = judged(party, policy(party, *entries, now=now))
    assert outcome(report) == (["trust_list_stale"], "indeterminate")


# --- revocation ---


def revoked(at: datetime | None, reason: str = "") -> CertificateStatus:
    return CertificateStatus(CertificateState.REVOKED, at, reason, "test")


def test_what_is_asked(party: Party) -> None:
    """Each certificate below its anchor, at the moment that matters; one that is listed itself has nobody above it."""
    certificates = Certificates()
    signed = party.start + DAY
    assert outcome(judged(party, policy(party, revocation=certificates), signed)) == ([], "valid")
    assert certificates.asked == [((loaded(party.signer).subject, loaded(party.ca).subject), signed)]
    certificates = Certificates()
    by = policy(party, listed(party, party.ca, *EVERY_ROLE), revocation=certificates)
    judged(party, by, signed)
    assert [at for _, at in certificates.asked] == [party.start, signed]  # the maker's at createDate


@pytest.mark.parametrize(
    ("since", "reasons", "notes"),
    [
        (0 * DAY, ["cert_revoked_before_signing"], []),
        (DAY, ["cert_revoked_before_signing"], []),
        (DAY + HOUR, [], ["signer_cert_revoked_since", "signing_time_not_proven"]),
        (None, ["cert_revoked_before_signing"], []),
    ],
)
def test_a_revoked_signer(party: Party, since: timedelta | None, reasons: list[str], notes: list[str]) -> None:
    moment = None if since is None else party.start + since
    certificates = Certificates({loaded(party.signer).subject: revoked(moment, "key_compromise")})
    report = judged(party, policy(party, revocation=certificates), party.start + DAY)
    assert codes(report.reasons) == reasons
    assert report.intact is True
    for code in ("signer_cert_revoked_since", "signing_time_not_proven"):
        assert (code in codes(report.notes)) is (code in notes)
    assert report.verdict == ("invalid" if reasons else "valid")


@pytest.mark.parametrize("strict", [False, True])
def test_a_revoked_maker(party: Party, strict: bool) -> None:
    """2025: good when the seal was made is enough, with a note. 2014 and 2020: it must be good at the judged moment."""
    for since, expected in (
        (party.start, ["maker_cert_revoked"]),
        (party.start + HOUR, ["maker_cert_revoked"] if strict else []),
    ):
        certificates = Certificates({loaded(party.maker).subject: revoked(since)})
        by = policy(party, listed(party, party.ca, *EVERY_ROLE), revocation=certificates, strict=strict)
        report = judged(party, by, party.start + DAY)
        assert codes(report.reasons) == expected
        assert ("maker_cert_revoked_since" in codes(report.notes)) is (not expected)


def test_a_status_that_cannot_be_had(party: Party) -> None:
    unknown = CertificateStatus(CertificateState.UNKNOWN, detail="nobody answers")
    certificates = Certificates({loaded(party.signer).subject: unknown})
    by = policy(party, revocation=certificates)
    report = judged(party, by)
    assert outcome(report) == (["signer_cert_status_unknown"], "indeterminate")
    assert report.reasons[0].detail.endswith(": nobody answers")
    lenient = judged(party, replace(by, demand_status=False))
    assert outcome(lenient) == ([], "valid")
    assert "cert_status_not_checked" in codes(lenient.notes)


def test_an_issuer_nobody_can_be_asked_about(party: Party) -> None:
    """As for seals: what was not asked is a note, what was asked in vain a reason."""
    nobody = CertificateStatus(CertificateState.UNKNOWN, detail="no responder is known", asked=False)
    report = judged(party, policy(party, revocation=Certificates({loaded(party.signer).subject: nobody})))
    assert outcome(report) == ([], "valid")
    assert [note.detail for note in report.notes if note.code == "cert_status_not_checked"] == [
        f"{loaded(party.signer).subject}: no responder is known"
    ]


def test_an_older_answer_is_said_to_be_one(party: Party) -> None:
    old = CertificateStatus(CertificateState.GOOD, source="ocsp", produced_at=party.start, stale=True)
    certificates = Certificates({loaded(party.signer).subject: old})
    report = judged(party, policy(party, revocation=certificates))
    assert outcome(report) == ([], "valid")
    assert "status_old" in codes(report.notes)


def test_without_a_source_the_report_says_that_nobody_was_asked(party: Party) -> None:
    report = judged(party, policy(party))
    assert {"cert_status_not_checked", "status_not_checked"} <= set(codes(report.notes))
    assert report.status == "not_checked"
    assert "cert_status_not_checked" in codes(judge_signer(loaded(party.signer), party.start, policy(party)).notes)


# --- the state of the seal ---


def states(*changes: tuple[SealState, datetime]) -> Seals:
    history = tuple(
        StateChange(state, since, "why" if state is SealState.SUSPENDED else "") for state, since in changes
    )
    last = changes[-1][1]
    return Seals(SealStatus(history, "test", last + 100 * DAY, last + 200 * DAY))


def test_a_seal_that_was_valid_all_the_time(party: Party) -> None:
    seals = states((SealState.MADE, party.start), (SealState.FILED, party.start), (SealState.VALID, party.start))
    report = judged(party, policy(party, seals=seals))
    assert (outcome(report), report.status) == (([], "valid"), "valid")
    assert not {"status_not_checked", "seal_state_since"} & set(codes(report.notes))


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (SealState.MADE, "seal_not_filed"),
        (SealState.FILED, "seal_not_filed"),
        (SealState.SUSPENDED, "seal_suspended"),
        (SealState.CANCELLED, "seal_cancelled"),
        (SealState.SUPERSEDED, "seal_superseded"),
        (SealState.LOST, "seal_lost"),
        (SealState.INVALID, "seal_invalidated"),
    ],
)
def test_states_that_end_or_forbid_use(party: Party, state: SealState, code: str) -> None:
    signed = party.start + DAY
    before = states((SealState.VALID, party.start), (state, signed - HOUR))
    after = states((SealState.VALID, party.start), (state, signed + HOUR))
    now = judge_seal(party.seal(), policy(party, seals=before))
    assert (outcome(now), now.status) == (([code], "invalid"), state.value)
    refused = judged(party, policy(party, seals=before), signed)
    assert refused.status == state.value
    good = judged(party, policy(party, seals=after), signed)
    if state is SealState.INVALID:  # it never was valid, so it does not matter when it was found out
        assert outcome(refused) == outcome(good) == (["seal_invalidated"], "invalid")
    else:
        assert outcome(refused) == (["seal_not_valid_at_signing"], "invalid")
        assert (outcome(good), good.status) == (([], "valid"), "valid")
        assert "seal_state_since" in codes(good.notes)


def test_a_seal_that_was_resumed(party: Party) -> None:
    signed = party.start + DAY
    seals = states(
        (SealState.VALID, party.start), (SealState.SUSPENDED, signed - 2 * HOUR), (SealState.VALID, signed - HOUR)
    )
    assert outcome(judged(party, policy(party, seals=seals), signed)) == ([], "valid")
    during = judged(party, policy(party, seals=seals), signed - HOUR - timedelta(minutes=30))
    assert outcome(during) == (["seal_not_valid_at_signing"], "invalid")
    assert "why" in during.reasons[0].detail


def test_signed_before_the_seal_was_on_file(party: Party) -> None:
    signed = party.start + DAY
    report = judged(party, policy(party, seals=states((SealState.VALID, signed + HOUR))), signed)
    assert outcome(report) == (["seal_not_valid_at_signing"], "invalid")
    alone = judge_seal(party.seal(), policy(party, seals=states((SealState.VALID, party.start + 10 * DAY))))
    assert outcome(alone) == (["seal_not_filed"], "invalid")


def test_a_state_that_is_not_known(party: Party) -> None:
    for answer in (
        SealStatus(detail="the server does not answer"),
        SealStatus((StateChange(SealState.VALID, party.start),), "test", party.start, party.start + HOUR),
    ):
        by = policy(party, seals=Seals(answer))
        report = judged(party, by)
        assert (outcome(report), report.status) == ((["status_unknown"], "indeterminate"), "unknown")
        lenient = judged(party, replace(by, demand_status=False))
        assert (outcome(lenient), lenient.status) == (([], "valid"), "unknown")
        assert "status_not_checked" in codes(lenient.notes)


def test_a_seal_that_its_unit_does_not_know(party: Party) -> None:
    """That is an answer, whatever the policy says of silence."""
    answer = SealStatus(source="test", produced_at=party.start, evidence=b"signed", detail="the unit does not know it")
    for demand in (True, False):
        report = judged(party, policy(party, seals=Seals(answer), demand_status=demand))
        assert (outcome(report), report.status) == ((["status_unknown"], "indeterminate"), "unknown")


def test_a_maker_without_a_service_is_not_asked_about(party: Party) -> None:
    report = judged(party, policy(party, seals=Seals(SealStatus(asked=False, detail="no service for this maker"))))
    assert (outcome(report), report.status) == (([], "valid"), "not_checked")
    assert "status_not_checked" in codes(report.notes)


def test_nobody_is_asked_about_a_seal_that_is_nobodys(party: Party) -> None:
    """A hostile file must not make the agent talk: neither for an untrusted maker nor for a changed seal."""
    seals, certificates = states((SealState.VALID, party.start)), Certificates()
    stranger = policy(party, listed(party, party.ca, TrustRole.TSA), seals=seals, revocation=certificates)
    judged(party, stranger)
    changed = bytearray(party.seal())
    changed[-1] ^= 1
    judge_seal(bytes(changed), policy(party, seals=seals))
    assert (seals.asked, certificates.asked) == ([], [])


def test_the_order_of_reasons(party: Party) -> None:
    """The first reason decides: the seal's own state comes before the document, what is missing comes last."""
    signed = party.start + DAY
    seals = states((SealState.VALID, party.start), (SealState.SUSPENDED, signed - HOUR))
    unknown = CertificateStatus(CertificateState.UNKNOWN)
    certificates = Certificates({loaded(party.signer).subject: unknown})
    by = policy(party, seals=seals, revocation=certificates)
    report = judge_signature(party.signature(time=signed), by, hash_of(b"other"))
    assert codes(report.reasons) == ["seal_not_valid_at_signing", "data_hash", "signer_cert_status_unknown"]


# --- time for questions ---


def test_questions_end_with_their_budget(party: Party) -> None:
    seals, certificates = states((SealState.VALID, party.start)), Certificates()
    clock = [0.0]
    by = within(policy(party, seals=seals, revocation=certificates), 10, lambda: clock[0])
    assert outcome(judged(party, by)) == ([], "valid")
    clock[0] = 10.5
    late = judged(party, by)
    assert outcome(late) == (["signer_cert_status_unknown", "status_unknown"], "indeterminate")
    assert (len(seals.asked), len(certificates.asked)) == (1, 1)


def test_a_moment_in_the_past_is_judged_by_todays_answers(party: Party) -> None:
    """--at moves what is judged, not the clock against which answers are fresh."""
    asked: list[datetime] = []

    class Noting(Certificates):
        def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
            asked.append(now)
            return CertificateStatus(CertificateState.GOOD)

    present = party.start + 100 * DAY
    by = policy(party, revocation=Noting(), now=party.start + 2 * DAY)
    judged(party, replace(by, present=present))
    assert asked == [present]
