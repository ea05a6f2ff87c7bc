"""Who is asked whether a certificate is revoked, in which order, and for how long answers are kept.

Evidence is signed by openssl; only the wire is replaced: ``Web`` answers where HTTP would.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import ocsp

from revocation_parts import (
    Revoked,
    Web,
    World,
    access,
    answering,
    at,
    files_in,
    make_ocsp_response,
    make_world,
    points,
)
from sealagent.pki.certificates import Certificate
from sealagent.pki.ocsp import MAX_OCSP_OCTETS
from sealagent.pki.revocation import CertificateState, CertificateStatus, RevocationSource
from sealagent.pki.trust import TrustEntry, TrustRole, TrustStore
from sealagent.status import certificates
from sealagent.status.certificates import FirstAnswer, KeptStatus, OcspResponder, build_revocation
from sealagent.status.places import (
    MAX_PLACES,
    QUESTION_SECONDS,
    by_issuer,
    in_certificates,
    in_trust,
    together,
)
from sealagent.status.policy import CLOCK_SKEW, AskingPolicy, Unavailable
from sealagent.status.revocation_lists import CrlFiles, CrlUrls

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
GOOD, REVOKED, UNKNOWN = CertificateState
OCSP, OTHER, CRL = "http://ocsp.example/", "http://other.example/", "http://crl.example/ca.crl"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), "sm2", NOW)


# OCSP


def test_a_responder_is_asked_as_rfc_6960_says(world: World) -> None:
    web = Web({OCSP: answering(world)})
    status = OcspResponder(at(OCSP), web).status(world.chain, NOW, NOW)
    assert (status.state, status.source) == (GOOD, f"ocsp {OCSP}")
    ((body, content_type, limit),) = web.questions
    assert (content_type, limit) == ("application/ocsp-request", MAX_OCSP_OCTETS)
    request = ocsp.OCSPRequest.load(body or b"")
    (asked,) = request["tbs_request"]["request_list"]
    assert asked["req_cert"]["serial_number"].native == world.serial
    assert len(request.nonce_value.native) == 16


def test_each_question_has_a_nonce_of_its_own(world: World) -> None:
    web = Web({OCSP: answering(world)})
    responder = OcspResponder(at(OCSP), web)
    for _ in range(3):
        responder.status(world.chain, NOW, NOW)
    assert len({body for body, _, _ in web.questions}) == 3
    first = ocsp.OCSPRequest.load(web.questions[0][0] or b"").nonce_value.native
    web.answers[OCSP] = world.response(nonce=first)  # played back
    status = responder.status(world.chain, NOW, NOW)
    assert (status.state, "nonce" in status.detail) == (UNKNOWN, True)


def test_requests_without_a_nonce_and_with_another_digest(world: World) -> None:
    web = Web({OCSP: world.response(world.good(digest="sm3"))})
    status = OcspResponder(at(OCSP), web, nonce=False, digest_name="sm3").status(world.chain, NOW, NOW)
    assert status.state is GOOD
    request = ocsp.OCSPRequest.load(web.questions[0][0] or b"")
    assert request.nonce_value is None
    (asked,) = request["tbs_request"]["request_list"]
    assert asked["req_cert"]["hash_algorithm"]["algorithm"].native == "sm3"


@pytest.mark.parametrize("bad", ["absent", "garbage", "stranger", "unknown", "refused", "other"])
def test_the_next_responder_is_asked_where_one_does_not_know(bad: str, world: World) -> None:
    answers: dict[str, bytes | Callable[[bytes], bytes]] = {
        "garbage": b"<html>",
        "stranger": world.response(signer=world.certify("Stranger")),
        "unknown": answering(world, "unknown"),
        "refused": bytes(ocsp.OCSPResponse({"response_status": "try_later"}).dump()),
        "other": world.response(world.good(serial=1)),
    }
    web = Web({OTHER: answering(world)} | ({OCSP: answers[bad]} if bad in answers else {}))
    assert OcspResponder(at(OCSP, OTHER), web).status(world.chain, NOW, NOW).state is GOOD
    assert web.asked == [OCSP, OTHER]
    status = OcspResponder(at(OCSP), web).status(world.chain, NOW, NOW)
    assert (status.state, status.asked, status.detail.startswith(OCSP)) == (UNKNOWN, True, True)
    assert bool(status.evidence) is (bad == "unknown")


def test_nobody_to_ask(world: World) -> None:
    web = Web()
    for source in (OcspResponder(at(), web), CrlUrls(at(), web), CrlFiles(())):
        assert source.status(world.chain, NOW, NOW) == CertificateStatus(UNKNOWN, asked=False)
    for asked in (OcspResponder(at(OCSP), web), CrlUrls(at(CRL), web)):
        assert asked.status(world.chain[:1], NOW, NOW).asked is False  # pinned: nobody is above it
    assert web.asked == []
    status = FirstAnswer(OcspResponder(at(), web), CrlFiles(())).status(world.chain, NOW, NOW)
    assert (status.asked, status.state) == (False, UNKNOWN)
    assert status.detail == "no responder and no revocation list is known for certificates of CN=CA,C=CN"


def test_the_time_for_one_question_is_bounded(world: World) -> None:
    moments = iter(range(0, 1000, 6))
    web = Web()
    urls = [f"http://h{number}/" for number in range(MAX_PLACES)]
    status = OcspResponder(at(*urls), web, clock=lambda: next(moments)).status(world.chain, NOW, NOW)
    assert "used up" in status.detail
    assert len(web.asked) == 2 < QUESTION_SECONDS
    web.asked.clear()
    CrlUrls(at(*urls), web, clock=lambda: next(moments)).status(world.chain, NOW, NOW)
    assert len(web.asked) == 2


# Places


def test_places(world: World) -> None:
    _, ca, root = world.chain
    assert by_issuer({ca.sha256: [OCSP]})(world.chain) == [OCSP]
    assert not by_issuer({root.sha256: [OCSP]})(world.chain)
    named = world.certify("Named", extensions=[access(OCSP), points(CRL)]).certificate
    assert in_certificates("ocsp")((named, ca, root)) == (OCSP,)
    assert in_certificates("crls")((named, ca, root)) == (CRL,)
    many = tuple(f"http://h{number}/" for number in range(6))
    assert list(together(at(OCSP, *many), at(OTHER, OCSP), at("http://last/"))(world.chain)) == [OCSP, *many, OTHER]


def test_places_of_trust_lists(world: World) -> None:
    """Of the issuer first, then of the anchor; whatever the roles; of the trust in force."""
    roles = frozenset({TrustRole.MAKER})
    ca = TrustEntry(world.ca.certificate, roles, ocsp=("http://ca/",), crls=("http://ca.crl/",))
    root = TrustEntry(world.root.certificate, ocsp=("http://top/",), crls=("http://top.crl/",))
    stores = [TrustStore((), "", (root, ca))]
    ocsp_places, crl_places = in_trust(lambda: stores[-1], "ocsp"), in_trust(lambda: stores[-1], "crls")
    assert list(dict.fromkeys(ocsp_places(world.chain))) == ["http://ca/", "http://top/"]
    assert list(dict.fromkeys(crl_places(world.chain))) == ["http://ca.crl/", "http://top.crl/"]
    assert list(dict.fromkeys(ocsp_places(world.chain[1:]))) == ["http://top/"]
    stores.append(TrustStore((world.root.certificate,)))
    assert ocsp_places(world.chain) == []


# Order


def told(status: CertificateState | None, **changes: Any) -> RevocationSource:
    """A source that says always the same."""

    class Told:
        def status(self, chain: Any, at: datetime, now: datetime) -> CertificateStatus:
            if status is None:
                return CertificateStatus(UNKNOWN, asked=False)
            return CertificateStatus(status, **({"produced_at": NOW, "next_update": NOW + HOUR} | changes))

    return Told()


def test_the_first_clear_answer_counts(world: World) -> None:
    def asked(*sources: RevocationSource) -> CertificateStatus:
        return FirstAnswer(*sources).status(world.chain, NOW, NOW)

    unsure, stale = told(UNKNOWN, detail="a"), told(GOOD, stale=True, source="stale")
    assert asked(told(GOOD, source="1"), told(REVOKED)).source == "1"
    assert asked(unsure, told(None), told(REVOKED, source="2")).source == "2"
    assert asked(stale, told(GOOD, source="fresh")).source == "fresh"
    assert asked(unsure, stale).source == "stale"
    assert asked(stale, told(REVOKED, stale=True, source="revoked")).source == "revoked"
    assert asked(unsure, told(UNKNOWN, detail="b", evidence=b"signed")).evidence == b"signed"
    assert asked(unsure, told(None), told(UNKNOWN, detail="b")).detail == "a; b"
    assert asked(told(None), told(None)).asked is False


# Kept answers


def policy(**changes: Any) -> AskingPolicy:
    return AskingPolicy(**({"cached": timedelta(minutes=5)} | changes))


OFFLINE = policy(unavailable=Unavailable.OFFLINE, offline=DAY)


def keeping(world: World, web: Web, asking: AskingPolicy | None = None, **more: Any) -> KeptStatus:
    return KeptStatus(OcspResponder(at(OCSP), web), asking or policy(), **more)


def test_a_repeated_question_costs_no_network_and_hardly_time(world: World) -> None:
    web = Web({OCSP: answering(world)})
    source = keeping(world, web)
    first = source.status(world.chain, NOW, NOW)
    best = float("inf")
    for _ in range(200):
        begun = time.perf_counter()
        assert source.status(world.chain, NOW - DAY, NOW + MINUTE) is first
        best = min(best, time.perf_counter() - begun)
    assert len(web.asked) == 1
    assert best < 0.001


def test_an_answer_is_used_again_for_as_long_as_both_say(world: World) -> None:
    for cached, next_update, until in ((5, 60, 5), (60, 5, 5)):
        web = Web({OCSP: answering(world, next_update=NOW + next_update * MINUTE)})
        source = keeping(world, web, policy(cached=cached * MINUTE))
        source.status(world.chain, NOW, NOW)
        source.status(world.chain, NOW, NOW + until * MINUTE - SECOND)
        assert len(web.asked) == 1
        source.status(world.chain, NOW, NOW + until * MINUTE)
        assert len(web.asked) == 2
    web = Web({OCSP: answering(world)})
    source = keeping(world, web, policy(cached=timedelta(0)))
    for number in range(1, 4):
        source.status(world.chain, NOW, NOW)
        assert len(web.asked) == number


def test_an_answer_counts_until_its_next_update_while_nobody_can_be_asked(world: World) -> None:
    web = Web({OCSP: answering(world)})
    source = keeping(world, web)
    first = source.status(world.chain, NOW, NOW)
    web.answers.clear()
    assert source.status(world.chain, NOW, NOW + HOUR) is first
    assert len(web.asked) == 2
    status = source.status(world.chain, NOW, NOW + HOUR + SECOND)
    assert (status.state, status.detail) == (UNKNOWN, f"{OCSP}: nobody is there")


@pytest.mark.parametrize("unavailable", list(Unavailable))
def test_an_answer_out_of_date_counts_as_long_as_policy_allows(unavailable: Unavailable, world: World) -> None:
    made = NOW - MINUTE
    web = Web({OCSP: answering(world)})
    source = keeping(world, web, policy(unavailable=unavailable, offline=DAY))
    first = source.status(world.chain, NOW, NOW)
    web.answers[OCSP] = b"<html>"
    for now in (NOW + 2 * HOUR, made + DAY):
        status = source.status(world.chain, NOW, now)
        if unavailable is Unavailable.OFFLINE:
            assert (status.state, status.stale, status.evidence) == (GOOD, True, first.evidence)
            assert "cannot be read" in status.detail
        else:
            assert (status.state, status.stale) == (UNKNOWN, False)
    assert source.status(world.chain, NOW, made + DAY + SECOND).state is UNKNOWN
    web.answers[OCSP] = answering(world, this_update=NOW + DAY, next_update=NOW + 2 * DAY)
    status = source.status(world.chain, NOW, NOW + DAY)
    assert (status.state, status.stale) == (GOOD, False)


def test_who_says_that_it_does_not_know_was_asked(world: World) -> None:
    web = Web({OCSP: answering(world)})
    source = keeping(world, web, OFFLINE)
    source.status(world.chain, NOW, NOW)
    web.answers[OCSP] = answering(world, "unknown")
    status = source.status(world.chain, NOW, NOW + 6 * MINUTE)
    assert (status.state, bool(status.evidence)) == (UNKNOWN, True)


def test_a_revocation_is_final(world: World) -> None:
    web = Web({OCSP: answering(world, "revoked", reason="key_compromise")})
    source = keeping(world, web)
    first = source.status(world.chain, NOW, NOW)
    web.answers[OCSP] = answering(world)
    for now in (NOW + DAY, NOW + 9000 * DAY, NOW - 9000 * DAY):
        assert source.status(world.chain, NOW, now) is first
    assert len(web.asked) == 1


def test_a_hold_is_asked_about_and_lasts_while_nobody_can_be(world: World) -> None:
    web = Web({OCSP: answering(world, "revoked", reason="certificate_hold")})
    source = keeping(world, web)
    assert source.status(world.chain, NOW, NOW).reason == "certificate_hold"
    web.answers.clear()
    for now, stale in ((NOW + HOUR, False), (NOW + 2 * HOUR, True), (NOW + 300 * DAY, True)):
        status = source.status(world.chain, NOW, now)
        assert (status.state, status.reason, status.stale) == (REVOKED, "certificate_hold", stale)
    web.answers[OCSP] = answering(world, "unknown", this_update=NOW + HOUR, next_update=NOW + 2 * HOUR)
    assert source.status(world.chain, NOW, NOW + HOUR).state is REVOKED
    web.answers[OCSP] = answering(world, this_update=NOW + HOUR, next_update=NOW + 2 * HOUR)
    assert source.status(world.chain, NOW, NOW + HOUR).state is GOOD


def test_an_older_answer_does_not_take_the_place_of_a_newer_one(world: World) -> None:
    """A responder that answers from stock can be played back; what is newer and still counts is kept."""
    old = world.response(this_update_of(world, NOW - HOUR))
    new = world.response(world.answer("revoked", reason="certificate_hold"))
    web = Web({OCSP: new})
    source = keeping(world, web)
    assert source.status(world.chain, NOW, NOW).state is REVOKED
    web.answers[OCSP] = old
    assert source.status(world.chain, NOW, NOW + 10 * MINUTE).state is REVOKED


def this_update_of(world: World, moment: datetime) -> Any:
    return world.good(this_update=moment, next_update=NOW + 2 * HOUR)


def test_a_clock_that_went_back_asks_anew(world: World) -> None:
    web = Web({OCSP: answering(world)})
    source = keeping(world, web)
    source.status(world.chain, NOW, NOW)
    source.status(world.chain, NOW, NOW - CLOCK_SKEW)
    assert len(web.asked) == 1
    assert source.status(world.chain, NOW, NOW - DAY).state is UNKNOWN  # the answer would be of the future
    assert len(web.asked) == 2
    assert source.status(world.chain, NOW, NOW + MINUTE).state is GOOD
    assert len(web.asked) == 2


def test_answers_are_kept_by_chain(world: World) -> None:
    web = Web({OCSP: answering(world)})
    source = keeping(world, web)
    assert source.status(world.chain, NOW, NOW).state is GOOD
    assert source.status(world.chain[:2], NOW, NOW).state is GOOD
    assert source.status(world.chain[1:], NOW, NOW).state is UNKNOWN
    assert len(web.asked) == 3


def test_kept_answers_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "MAX_KEPT", 2)
    monkeypatch.setattr(certificates, "MAX_REVOKED", 2)
    for state in (GOOD, REVOKED):
        source = KeptStatus(told(state), policy())
        for number in range(4):
            source.status(world.chain[:1] * (number + 1), NOW, NOW)
        assert [len(key) for key in (source._answers if state is GOOD else source._revoked)] == [3, 4]


def test_large_evidence_of_a_revocation_is_let_go(world: World) -> None:
    large = bytes(MAX_OCSP_OCTETS + 1)
    source = KeptStatus(told(REVOKED, evidence=large, reason="superseded"), policy())
    assert source.status(world.chain, NOW, NOW).evidence == large
    assert source.status(world.chain, NOW, NOW + HOUR).evidence == large
    later = source.status(world.chain, NOW, NOW + DAY)
    assert (later.state, later.reason, later.evidence) == (REVOKED, "superseded", b"")


def test_two_who_ask_at_once_ask_once(world: World) -> None:
    begun = threading.Barrier(8)
    answer = answering(world)

    def slow(request: bytes) -> bytes:
        time.sleep(0.2)
        return answer(request)

    web = Web({OCSP: slow})
    source = keeping(world, web)
    found: list[CertificateState] = []

    def ask() -> None:
        begun.wait(10)
        found.append(source.status(world.chain, NOW, NOW).state)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [GOOD] * 8
    assert len(web.asked) == 1


def test_a_final_revocation_from_a_list_out_of_date_counts(world: World) -> None:
    """A list that policy still allows says revoked: that cannot have changed, whatever was good before."""
    said = [CertificateStatus(GOOD, produced_at=NOW, next_update=NOW + DAY)]

    class Said:
        def status(self, chain: Any, at: datetime, now: datetime) -> CertificateStatus:
            return said[-1]

    source = KeptStatus(Said(), OFFLINE)
    assert source.status(world.chain, NOW, NOW).state is GOOD
    said.append(CertificateStatus(REVOKED, reason="superseded", produced_at=NOW, next_update=NOW, stale=True))
    assert source.status(world.chain, NOW, NOW + HOUR).state is REVOKED


# After a restart


def test_answers_survive_a_restart(world: World, tmp_path: Path) -> None:
    keeping(world, Web({OCSP: answering(world)}), OFFLINE, files=files_in(tmp_path)).status(world.chain, NOW, NOW)
    for now, stale in ((NOW + HOUR, False), (NOW + 2 * HOUR, True), (NOW + 2 * DAY, None)):
        web = Web()
        status = keeping(world, web, OFFLINE, files=files_in(tmp_path)).status(world.chain, NOW, now)
        assert web.asked == [OCSP]  # asked first
        assert (status.state, status.stale) == ((GOOD, stale) if stale is not None else (UNKNOWN, False))
    status = keeping(world, Web(), files=files_in(tmp_path)).status(world.chain, NOW, NOW + 2 * HOUR)
    assert status.state is UNKNOWN  # the policy does not allow it
    other = keeping(world, Web(), OFFLINE, files=files_in(tmp_path)).status(world.chain[:2], NOW, NOW + HOUR)
    assert other.state is UNKNOWN  # another chain


def test_a_revocation_survives_a_restart(world: World, tmp_path: Path) -> None:
    web = Web({OCSP: answering(world, "revoked", reason="key_compromise", revoked_at=NOW - DAY)})
    keeping(world, web, files=files_in(tmp_path)).status(world.chain, NOW, NOW)
    web = Web({OCSP: answering(world)})
    status = keeping(world, web, files=files_in(tmp_path)).status(world.chain, NOW, NOW + 300 * DAY)
    assert (status.state, status.revoked_at, web.asked) == (REVOKED, NOW - DAY, [])
    assert status.source == "ocsp of 2026-06-01T12:00:00Z"


@pytest.mark.parametrize("how", ["octets", "time", "absurd time", "large", "folder", "empty"])
def test_a_kept_answer_that_was_changed_does_not_count(how: str, world: World, tmp_path: Path) -> None:
    keeping(world, Web({OCSP: answering(world)}), OFFLINE, files=files_in(tmp_path)).status(world.chain, NOW, NOW)
    (file,) = (tmp_path / "kept").iterdir()
    match how:
        case "octets":
            octets = bytearray(file.read_bytes())
            octets[-1] ^= 1
            octets[len(octets) // 3] ^= 1
            file.write_bytes(octets)
            os.utime(file, (NOW.timestamp(), NOW.timestamp()))
        case "time":
            os.utime(file, (0, 0))
        case "absurd time":
            os.utime(file, (1 << 40, 1 << 40))
        case "large":
            file.write_bytes(bytes(MAX_OCSP_OCTETS + 1))
        case "folder":
            file.unlink()
            file.mkdir()
        case _:
            file.write_bytes(b"")
    source = keeping(world, Web(), OFFLINE, files=files_in(tmp_path))
    assert source.status(world.chain, NOW, NOW + HOUR).state is UNKNOWN


def test_a_folder_that_cannot_be_written_stops_nobody(world: World, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"a file")
    source = keeping(world, Web({OCSP: answering(world)}), files=files_in(tmp_path))
    assert source.status(world.chain, NOW, NOW).state is GOOD


# Put together


def test_what_the_configuration_describes(world: World, tmp_path: Path) -> None:
    leaf = world.certify("Named", extensions=[access("http://own/"), points("http://own.crl/")])
    chain = (leaf.certificate, *world.chain[1:])
    entry = TrustEntry(world.ca.certificate, ocsp=("http://listed/",), crls=("http://listed.crl/",))
    store = TrustStore((), "", (entry,))
    file = tmp_path / "ca.crl"

    def asked(**options: Any) -> tuple[list[str], CertificateState]:
        web = Web()
        source = build_revocation(lambda: store, web, policy(), **options)
        assert source is not None
        return web.asked, source.status(chain, NOW, NOW).state

    assert build_revocation(lambda: store, Web(), policy(), use_trust_lists=False) is None
    assert asked() == (["http://listed/", "http://listed.crl/"], UNKNOWN)
    urls, _ = asked(ocsp={world.ca.certificate.sha256: [OCSP]}, crls=[CRL, file], use_certificate_urls=True)
    assert urls == [OCSP, "http://listed/", "http://own/", CRL, "http://listed.crl/", "http://own.crl/"]
    assert asked(ocsp={"0" * 64: [OCSP]}, use_trust_lists=False) == ([], UNKNOWN)
    file.write_bytes(world.crl())
    assert asked(crls=[file], use_trust_lists=False) == ([], GOOD)
    assert asked(crls=[file]) == (["http://listed/"], GOOD)  # files come before addresses
    build_revocation(lambda: store, Web(), policy(), crls=[file], directory=tmp_path / "kept")


def test_a_responder_is_looked_up_in_the_lists_at_hand(world: World, tmp_path: Path) -> None:
    number = world.responder.x509.serial_number
    listed = world.crl(Revoked(number, NOW - DAY, "key_compromise"))
    (tmp_path / "ca.crl").write_bytes(listed)
    for crls in ([tmp_path / "ca.crl"], [CRL]):
        web = Web({OCSP: answering(world), CRL: listed})
        source = build_revocation(
            lambda: TrustStore(()),
            web,
            policy(cached=timedelta(0)),
            ocsp={world.ca.certificate.sha256: [OCSP]},
            crls=crls,
        )
        assert source is not None
        # A list that would have to be fetched for it is not: nothing more is asked about a responder.
        status = source.status(world.chain, NOW, NOW)
        assert status.source == (f"ocsp {OCSP}" if crls == [CRL] else f"crl {tmp_path / 'ca.crl'}")


def test_an_intermediate_is_asked_about_at_its_own_issuer(world: World) -> None:
    responder = world.certify("Root responder", world.root, purposes=["ocsp_signing"])

    def about_ca(request: bytes) -> bytes:
        nonce = ocsp.OCSPRequest.load(request).nonce_value.native
        return make_ocsp_response(responder, world.ca, world.root, world.good(), nonce=nonce)

    places = {world.ca.certificate.sha256: [OCSP], world.root.certificate.sha256: [OTHER]}
    web = Web({OCSP: answering(world), OTHER: about_ca})
    source = build_revocation(lambda: TrustStore(()), web, policy(), ocsp=places)
    assert source is not None
    for chain, url in ((world.chain, OCSP), (world.chain[1:], OTHER)):
        status = source.status(chain, NOW, NOW)
        assert (status.state, status.source) == (GOOD, f"ocsp {url}")


def test_nothing_is_loaded_before_somebody_is_asked() -> None:
    import subprocess
    import sys

    code = (
        "import sys, sealagent.status.certificates\n"
        "assert not any(name.startswith('pyhanko') for name in sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_certificates_of_one_key_are_told_apart(world: World) -> None:
    again = world.certify("Leaf", key=world.leaf)
    web = Web({OCSP: answering(world)})
    source = keeping(world, web)
    assert source.status(world.chain, NOW, NOW).state is GOOD
    assert source.status((Certificate.from_der(again.der), *world.chain[1:]), NOW, NOW).state is UNKNOWN
