"""Asking in which state a seal is: who is believed, whatever a server says or does not say, and who is asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sample_parties import Party
from sealagent.pki.certificates import Certificate
from sealagent.pki.trust import TrustRole, TrustStore
from sealagent.seals.answers import StatusAnswer, seal_sm3
from sealagent.status.policy import Unavailable
from sealagent.status.services import HttpService
from status_parts import (
    VALID,
    Asked,
    Reply,
    Unit,
    absent,
    changes,
    listed_entry,
    silent,
    trusting,
    with_members,
)
from status_world import BOUND, HOUR, MINUTE, StatusWorld

# Who is believed


def test_an_answer_is_believed_and_kept_as_evidence(asking: StatusWorld) -> None:
    status = asking.ask(asking.client())
    assert status.history == asking.unit.history
    assert (status.source, status.stale, status.asked) == (asking.server.url, False, True)
    assert (status.produced_at, status.next_update) == (asking.now, asking.now + 10 * MINUTE)
    [asked] = asking.server.asked
    assert (asked.method, asked.path) == ("GET", f"/v1/seals/{seal_sm3(asking.unit.seal)}")
    assert len(bytes.fromhex(asked.query["nonce"])) == 16
    assert bytes.fromhex(asked.query["nonce"]) in status.evidence or asked.query["nonce"].encode() in status.evidence


def test_every_question_has_a_nonce_of_its_own(asking: StatusWorld) -> None:
    for _ in range(2):
        asking.ask(asking.client())
    first, second = (asked.query["nonce"] for asked in asking.server.asked)
    assert first != second


def test_the_makers_own_certificate_may_sign(asking: StatusWorld) -> None:
    asking.unit.signer = asking.party.maker
    assert asking.state_of(asking.client()) == "valid"


def test_a_certificate_of_the_configuration_may_sign_for_its_own_service_only(asking: StatusWorld) -> None:
    asking.trust = trusting(listed_entry(asking.party.maker, TrustRole.MAKER))
    named = frozenset({Certificate.from_der(asking.unit.signer.der).sha256})
    service = HttpService(asking.server.url, lambda *_: b"", signers=named)
    assert asking.state_of(asking.client(services=[service])) == "valid"
    other = HttpService(absent(), lambda *_: b"", signers=named)
    plain = HttpService(asking.server.url, lambda *_: b"")
    asking.state = asking.state / "other"
    status = asking.ask(asking.client(services=[other, plain]))
    assert "may not speak for this seal" in status.detail


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"roles": (TrustRole.CA, TrustRole.MAKER, TrustRole.TSA)}, "may not speak for this seal"),
        ({"roles": (TrustRole.STATUS,), "name": "another-list"}, "may not speak for this seal"),
        ({"roles": (TrustRole.STATUS,), "withdrawn": True}, "not recognised since"),
    ],
)
def test_whom_a_trust_list_does_not_name_for_it_is_not_believed(
    asking: StatusWorld, entry: dict[str, Any], why: str
) -> None:
    since = {"withdrawn_since": asking.now - HOUR} if entry.pop("withdrawn", False) else {}
    roles = entry.pop("roles")
    maker = listed_entry(asking.party.maker, TrustRole.MAKER, urls=(asking.server.url,))
    asking.trust = trusting(maker, listed_entry(asking.unit.signer, *roles, **entry, **since))
    refused(asking, why)


def test_a_withdrawal_counts_from_its_moment_on(asking: StatusWorld) -> None:
    maker = listed_entry(asking.party.maker, TrustRole.MAKER, urls=(asking.server.url,))
    signer = listed_entry(asking.unit.signer, TrustRole.STATUS, withdrawn_since=asking.now + MINUTE)
    asking.trust = trusting(maker, signer)
    assert asking.state_of(asking.client()) == "valid"
    asking.now += 2 * MINUTE
    refused(asking, "not recognised since")


def test_a_maker_that_was_withdrawn_speaks_for_its_seals_no_more(asking: StatusWorld) -> None:
    asking.unit.signer = asking.party.maker
    entry = listed_entry(asking.party.maker, TrustRole.MAKER, urls=(asking.server.url,), withdrawn_since=asking.now)
    asking.trust = trusting(entry)
    refused(asking, "not recognised since")


def test_certificates_of_the_configuration_speak_for_no_seal(asking: StatusWorld) -> None:
    # They vouch in every role, a signer's pinned certificate too: who owns a seal would state its status.
    pinned = tuple(Certificate.from_der(each.der) for each in (asking.party.maker, asking.unit.signer))
    asking.trust = TrustStore(pinned, "configuration")
    service = HttpService(asking.server.url, lambda *_: b"")
    status = asking.ask(asking.client(services=[service]))
    assert (status.history, "may not speak for this seal" in status.detail) == ((), True)


def refused(asking: StatusWorld, why: str, **policy: Any) -> None:
    status = asking.ask(asking.client(**policy))
    assert status.history == ()
    assert (status.asked, status.stale, status.evidence) == (True, False, b"")
    assert why in status.detail
    assert len(status.detail) < 400


# Servers that lie, or are broken


def lying(change: Callable[[StatusAnswer], StatusAnswer]) -> Callable[[StatusWorld], None]:
    def spoil(asking: StatusWorld) -> None:
        asking.unit.twist = change

    return spoil


def rewriting(**members: Any) -> Callable[[StatusWorld], None]:
    def spoil(asking: StatusWorld) -> None:
        asking.unit.octets = with_members(**members)

    return spoil


def answering(octets: Callable[[Unit, Asked], bytes]) -> Callable[[StatusWorld], None]:
    def spoil(asking: StatusWorld) -> None:
        asking.server.answer = lambda reply, asked: reply.octets(octets(asking.unit, asked))

    return spoil


def replaying(asking: StatusWorld) -> None:
    old = asking.unit.answer(seal_sm3(asking.unit.seal), bytes(16))
    asking.server.answer = lambda reply, asked: reply.octets(old)


def flipped(unit: Unit, asked: Asked) -> bytes:
    octets = bytearray(unit.answer(asked.path.rpartition("/")[2], bytes.fromhex(asked.query["nonce"])))
    octets[octets.index(b'"status"') + 12] ^= 1
    return bytes(octets)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lying(lambda answer: replace(answer, seal_sm3="ab" * 32)), "about another seal"),
        (lying(lambda answer: replace(answer, es_id="0002")), "another esID"),
        (lying(lambda answer: replace(answer, nonce=bytes(16))), "nonce"),
        (lying(lambda answer: replace(answer, nonce=b"")), "nonce"),
        (replaying, "nonce"),
        (
            lying(lambda answer: replace(answer, produced_at=answer.produced_at + HOUR, next_update=answer.at + HOUR)),
            "made in the future",
        ),
        (
            lying(
                lambda answer: replace(
                    answer,
                    at=answer.at - HOUR,
                    produced_at=answer.produced_at - HOUR,
                    next_update=answer.produced_at - MINUTE,
                )
            ),
            "out of date since",
        ),
        (rewriting(status="suspended"), "contradicts its history"),
        (rewriting(status="valid", history=[]), "contradicts its history"),
        (rewriting(type="sealagent-trust-list"), "not of type"),
        (rewriting(more=1), "exactly the members"),
        (answering(flipped), "signed_message_invalid"),
        (answering(lambda unit, asked: b""), "signed_message_invalid"),
        (answering(lambda unit, asked: b"\x30\x80" + bytes(1000)), "signed_message_invalid"),
        (answering(lambda unit, asked: b"<html>Sign in to this network</html>"), "signed_message_invalid"),
        (answering(lambda unit, asked: bytes(4 << 20)), "service_answer_too_large"),
    ],
)
def test_a_server_that_lies_is_not_believed(
    asking: StatusWorld, spoil: Callable[[StatusWorld], None], why: str
) -> None:
    asking.unit.history = changes(asking.party.start, *VALID)
    spoil(asking)
    refused(asking, why)
    assert asking.questions == 1


def test_an_answer_out_of_date_counts_offline_all_the_same(asking: StatusWorld) -> None:
    asking.unit.twist = lambda answer: replace(
        answer, at=answer.at - HOUR, produced_at=answer.produced_at - HOUR, next_update=answer.produced_at - MINUTE
    )
    assert asking.state_of(asking.client(unavailable=Unavailable.OFFLINE)) == "valid (old)"


def test_a_signer_whose_certificate_had_ended(asking: StatusWorld, party: Party) -> None:
    asking.now = party.end
    refused(asking, "was not valid when it was signed")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda reply, asked: reply.octets(b"", 404), "service_refused"),
        (lambda reply, asked: reply.octets(b"", 302, Location="http://127.0.0.1/"), "service_refused"),
        (lambda reply, asked: reply.server.stopping.wait(), "service_timeout"),
    ],
)
def test_a_server_that_does_not_answer(asking: StatusWorld, answer: Callable[[Reply, Asked], None], why: str) -> None:
    asking.server.answer = answer
    refused(asking, why)


def test_fifty_seals_and_a_dead_server_end_in_bounded_time(asking: StatusWorld) -> None:
    with silent() as url:
        asking.trust = trusting(listed_entry(asking.party.maker, TrustRole.MAKER, urls=(url,)))
        client = asking.client()
        begun = time.monotonic()
        for number in range(50):
            seal = replace(asking.seal, raw=asking.seal.raw + bytes([number]))
            assert "service_timeout" in client.status(seal, asking.maker, asking.now).detail
        assert time.monotonic() - begun < BOUND


# Who is asked


def test_nobody_is_asked_where_nothing_is_configured(asking: StatusWorld) -> None:
    asking.trust = trusting(listed_entry(asking.party.maker, TrustRole.MAKER))
    status = asking.ask(asking.client())
    assert (status.asked, status.history, asking.questions) == (False, (), 0)
    other = HttpService(asking.server.url, lambda *_: b"", makers=frozenset({"00" * 32}))
    status = asking.ask(asking.client(services=[other]))
    assert (status.asked, asking.questions) == (False, 0)


def test_a_service_that_is_gone_is_passed_over(asking: StatusWorld) -> None:
    gone = HttpService(absent(), lambda *_: b"")
    client = asking.client(services=[gone])
    assert asking.state_of(client) == "valid"
    assert asking.questions == 1


def test_a_service_named_twice_is_asked_once(asking: StatusWorld) -> None:
    asking.unit.history = ()
    asking.unit.seal = b"another"
    configured = HttpService(asking.server.url, lambda *_: b"")
    status = asking.ask(asking.client(services=[configured]))
    assert (asking.questions, "not known there" in status.detail) == (1, True)


def test_a_seal_that_the_service_does_not_know(asking: StatusWorld) -> None:
    asking.unit.seal = asking.party.seal(name="另一枚")
    status = asking.ask(asking.client(unavailable=Unavailable.OFFLINE))
    assert status.history == ()
    assert "the seal is not known there" in status.detail
    assert status.evidence
    assert status.produced_at == asking.now
