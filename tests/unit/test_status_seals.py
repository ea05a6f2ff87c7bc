"""Asking in which state a seal is: who is believed, for how long, and what counts when nobody can be asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sample_parties import Party
from sample_seals import Identity, identity
from sealagent.pki.certificates import Certificate
from sealagent.pki.trust import TrustRole, TrustStore
from sealagent.seals.answers import StatusAnswer, seal_sm3
from sealagent.seals.parse import parse_seal
from sealagent.seals.status import SealState, SealStatus, StateChange
from sealagent.status.fetch import Fetcher
from sealagent.status.kept import KeptAnswers
from sealagent.status.lists import ListFloors, SignedLists
from sealagent.status.policy import AskingPolicy, Unavailable
from sealagent.status.seals import SealStatusClient
from sealagent.status.services import HttpService
from status_parts import (
    VALID,
    Asked,
    Reply,
    Server,
    Unit,
    absent,
    changes,
    listed_entry,
    serving,
    silent,
    trusting,
    with_members,
)

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SHORT = 0.5
BOUND = 4.0


@pytest.fixture(scope="module")
def status_signer(tmp_path_factory: pytest.TempPathFactory, party: Party) -> Identity:
    """Return a certificate of its own for status answers."""
    return identity(tmp_path_factory.mktemp("status"), "sm2", "status", ca=party.ca)


class World:
    """A unit with its service, and a client that asks it. Time stands still until it is moved."""

    def __init__(self, party: Party, signer: Identity, state: Path, stack: ExitStack) -> None:
        self.party = party
        self.now = party.start + timedelta(days=2)
        self.unit = Unit(signer, lambda: self.now, party.seal(), changes(party.start, *VALID))
        self.server: Server = stack.enter_context(serving(self.unit))
        self.state = state
        self.stack = stack
        maker = listed_entry(party.maker, TrustRole.MAKER, urls=(self.server.url,))
        self.trust: TrustStore = trusting(maker, listed_entry(signer, TrustRole.STATUS))
        self.seal = parse_seal(self.unit.seal)
        self.maker = Certificate.from_der(party.maker.der)

    def client(self, **policy: Any) -> SealStatusClient:
        """Return a client; it knows what an earlier one left on disk."""
        fetch = Fetcher(SHORT)
        self.stack.callback(fetch.close)
        services = policy.pop("services", ())
        return SealStatusClient(
            lambda: self.trust,
            KeptAnswers(self.state / "status"),
            AskingPolicy(**policy),
            services=[replace(service, fetch=fetch) for service in services],
            lists=self.lists,
            fetch=fetch,
        )

    lists: tuple[SignedLists, ...] = ()

    def ask(self, client: SealStatusClient) -> SealStatus:
        begun = time.monotonic()
        status = client.status(self.seal, self.maker, self.now)
        assert time.monotonic() - begun < BOUND
        return status

    def state_of(self, client: SealStatusClient) -> str:
        status = self.ask(client)
        found = status.at(self.now)
        return f"{found.state if found else 'unknown'}{' (old)' if status.stale else ''}"

    @property
    def questions(self) -> int:
        return len(self.server.asked)


@pytest.fixture
def world(party: Party, status_signer: Identity, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(party, status_signer, tmp_path, stack)


# Who is believed


def test_an_answer_is_believed_and_kept_as_evidence(world: World) -> None:
    status = world.ask(world.client())
    assert status.history == world.unit.history
    assert (status.source, status.stale, status.asked) == (world.server.url, False, True)
    assert (status.produced_at, status.next_update) == (world.now, world.now + 10 * MINUTE)
    [asked] = world.server.asked
    assert (asked.method, asked.path) == ("GET", f"/v1/seals/{seal_sm3(world.unit.seal)}")
    assert len(bytes.fromhex(asked.query["nonce"])) == 16
    assert bytes.fromhex(asked.query["nonce"]) in status.evidence or asked.query["nonce"].encode() in status.evidence


def test_every_question_has_a_nonce_of_its_own(world: World) -> None:
    for _ in range(2):
        world.ask(world.client())
    first, second = (asked.query["nonce"] for asked in world.server.asked)
    assert first != second


def test_the_makers_own_certificate_may_sign(world: World) -> None:
    world.unit.signer = world.party.maker
    assert world.state_of(world.client()) == "valid"


def test_a_certificate_of_the_configuration_may_sign_for_its_own_service_only(world: World) -> None:
    world.trust = trusting(listed_entry(world.party.maker, TrustRole.MAKER))
    named = frozenset({Certificate.from_der(world.unit.signer.der).sha256})
    service = HttpService(world.server.url, lambda *_: b"", signers=named)
    assert world.state_of(world.client(services=[service])) == "valid"
    other = HttpService(absent(), lambda *_: b"", signers=named)
    plain = HttpService(world.server.url, lambda *_: b"")
    world.state = world.state / "other"
    status = world.ask(world.client(services=[other, plain]))
    assert "may not speak for this seal" in status.detail


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"roles": (TrustRole.CA, TrustRole.MAKER, TrustRole.TSA)}, "may not speak for this seal"),
        ({"roles": (TrustRole.STATUS,), "name": "another-list"}, "may not speak for this seal"),
        ({"roles": (TrustRole.STATUS,), "withdrawn": True}, "not recognised since"),
    ],
)
def test_whom_a_trust_list_does_not_name_for_it_is_not_believed(world: World, entry: dict[str, Any], why: str) -> None:
    since = {"withdrawn_since": world.now - HOUR} if entry.pop("withdrawn", False) else {}
    roles = entry.pop("roles")
    maker = listed_entry(world.party.maker, TrustRole.MAKER, urls=(world.server.url,))
    world.trust = trusting(maker, listed_entry(world.unit.signer, *roles, **entry, **since))
    refused(world, why)


def test_a_withdrawal_counts_from_its_moment_on(world: World) -> None:
    maker = listed_entry(world.party.maker, TrustRole.MAKER, urls=(world.server.url,))
    signer = listed_entry(world.unit.signer, TrustRole.STATUS, withdrawn_since=world.now + MINUTE)
    world.trust = trusting(maker, signer)
    assert world.state_of(world.client()) == "valid"
    world.now += 2 * MINUTE
    refused(world, "not recognised since")


def test_a_maker_that_was_withdrawn_speaks_for_its_seals_no_more(world: World) -> None:
    world.unit.signer = world.party.maker
    entry = listed_entry(world.party.maker, TrustRole.MAKER, urls=(world.server.url,), withdrawn_since=world.now)
    world.trust = trusting(entry)
    refused(world, "not recognised since")


def test_certificates_of_the_configuration_speak_for_no_seal(world: World) -> None:
    # They vouch in every role, a signer's pinned certificate too: who owns a seal would state its status.
    pinned = tuple(Certificate.from_der(each.der) for each in (world.party.maker, world.unit.signer))
    world.trust = TrustStore(pinned, "configuration")
    service = HttpService(world.server.url, lambda *_: b"")
    status = world.ask(world.client(services=[service]))
    assert (status.history, "may not speak for this seal" in status.detail) == ((), True)


def refused(world: World, why: str, **policy: Any) -> None:
    status = world.ask(world.client(**policy))
    assert status.history == ()
    assert (status.asked, status.stale, status.evidence) == (True, False, b"")
    assert why in status.detail
    assert len(status.detail) < 400


# Servers that lie, or are broken


def lying(change: Callable[[StatusAnswer], StatusAnswer]) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.unit.twist = change

    return spoil


def rewriting(**members: Any) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.unit.octets = with_members(**members)

    return spoil


def answering(octets: Callable[[Unit, Asked], bytes]) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.server.answer = lambda reply, asked: reply.octets(octets(world.unit, asked))

    return spoil


def replaying(world: World) -> None:
    old = world.unit.answer(seal_sm3(world.unit.seal), bytes(16))
    world.server.answer = lambda reply, asked: reply.octets(old)


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
def test_a_server_that_lies_is_not_believed(world: World, spoil: Callable[[World], None], why: str) -> None:
    world.unit.history = changes(world.party.start, *VALID)
    spoil(world)
    refused(world, why)
    assert world.questions == 1


def test_an_answer_out_of_date_counts_offline_all_the_same(world: World) -> None:
    world.unit.twist = lambda answer: replace(
        answer, at=answer.at - HOUR, produced_at=answer.produced_at - HOUR, next_update=answer.produced_at - MINUTE
    )
    assert world.state_of(world.client(unavailable=Unavailable.OFFLINE)) == "valid (old)"


def test_a_signer_whose_certificate_had_ended(world: World, party: Party) -> None:
    world.now = party.end
    refused(world, "was not valid when it was signed")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda reply, asked: reply.octets(b"", 404), "service_refused"),
        (lambda reply, asked: reply.octets(b"", 302, Location="http://127.0.0.1/"), "service_refused"),
        (lambda reply, asked: reply.server.stopping.wait(), "service_timeout"),
    ],
)
def test_a_server_that_does_not_answer(world: World, answer: Callable[[Reply, Asked], None], why: str) -> None:
    world.server.answer = answer
    refused(world, why)


def test_fifty_seals_and_a_dead_server_end_in_bounded_time(world: World) -> None:
    with silent() as url:
        world.trust = trusting(listed_entry(world.party.maker, TrustRole.MAKER, urls=(url,)))
        client = world.client()
        begun = time.monotonic()
        for number in range(50):
            seal = replace(world.seal, raw=world.seal.raw + bytes([number]))
            assert "service_timeout" in client.status(seal, world.maker, world.now).detail
        assert time.monotonic() - begun < BOUND


# Who is asked


def test_nobody_is_asked_where_nothing_is_configured(world: World) -> None:
    world.trust = trusting(listed_entry(world.party.maker, TrustRole.MAKER))
    status = world.ask(world.client())
    assert (status.asked, status.history, world.questions) == (False, (), 0)
    other = HttpService(world.server.url, lambda *_: b"", makers=frozenset({"00" * 32}))
    status = world.ask(world.client(services=[other]))
    assert (status.asked, world.questions) == (False, 0)


def test_a_service_that_is_gone_is_passed_over(world: World) -> None:
    gone = HttpService(absent(), lambda *_: b"")
    client = world.client(services=[gone])
    assert world.state_of(client) == "valid"
    assert world.questions == 1


def test_a_service_named_twice_is_asked_once(world: World) -> None:
    world.unit.history = ()
    world.unit.seal = b"another"
    configured = HttpService(world.server.url, lambda *_: b"")
    status = world.ask(world.client(services=[configured]))
    assert (world.questions, "not known there" in status.detail) == (1, True)


def test_a_seal_that_the_service_does_not_know(world: World) -> None:
    world.unit.seal = world.party.seal(name="另一枚")
    status = world.ask(world.client(unavailable=Unavailable.OFFLINE))
    assert status.history == ()
    assert "the seal is not known there" in status.detail
    assert status.evidence
    assert status.produced_at == world.now


# How long an answer is used


def test_an_answer_is_used_again_until_the_cache_time_is_over(world: World) -> None:
    client = world.client(cached=MINUTE)
    for _ in range(3):
        assert world.state_of(client) == "valid"
    world.unit.history = changes(world.party.start, *VALID, SealState.SUSPENDED)
    world.now += MINUTE - timedelta(seconds=1)
    assert world.state_of(client) == "valid"
    assert world.questions == 1
    world.now += timedelta(seconds=1)
    assert world.state_of(client) == "suspended"
    assert world.questions == 2


def test_an_issuer_may_say_less(world: World) -> None:
    world.unit.lasts = timedelta(seconds=10)
    client = world.client(cached=HOUR)
    world.ask(client)
    world.now += timedelta(seconds=10)
    world.ask(client)
    assert world.questions == 2


def test_a_clock_that_was_set_back_gives_an_answer_no_longer_life(world: World) -> None:
    client = world.client(cached=MINUTE)
    world.ask(client)
    world.now -= HOUR
    world.unit.clock = lambda: world.now
    world.ask(client)
    assert world.questions == 2


def test_another_trust_or_another_maker_is_asked_anew(world: World) -> None:
    client = world.client(cached=HOUR)
    world.ask(client)
    world.trust = trusting(*world.trust.listed)
    world.ask(client)
    assert world.questions == 2
    client.status(world.seal, Certificate.from_der(world.party.signer.der), world.now)
    assert world.ask(client).history
    assert world.questions == 2


def test_many_threads_ask_once(world: World) -> None:
    client = world.client(cached=HOUR)
    start = threading.Barrier(8)

    def ask(number: int) -> SealStatus:
        start.wait()
        return client.status(world.seal, world.maker, world.now - timedelta(milliseconds=number))

    with ThreadPoolExecutor(8) as pool:
        assert {status.produced_at for status in pool.map(ask, range(8))} == {world.now}
    assert world.questions == 1


def test_the_cache_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealagent.status.seals.MAX_CACHED", 2)
    monkeypatch.setattr("sealagent.status.kept.MAX_KEPT", 2)
    monkeypatch.setattr("sealagent.status.kept.TIDY_EVERY", 1 + 1)
    client = world.client(cached=HOUR)
    for number in range(5):
        world.unit.seal = world.party.seal(name=f"{number}")
        seal = parse_seal(world.unit.seal)
        assert client.status(seal, world.maker, world.now).history
    assert len(list((world.state / "status").glob("*.answer"))) <= 3
    world.ask(client)
    assert world.questions == 6


def test_an_answer_from_the_cache_takes_less_than_a_millisecond(world: World) -> None:
    client = world.client(cached=HOUR)
    world.ask(client)
    took = []
    for _ in range(100):
        begun = time.perf_counter()
        client.status(world.seal, world.maker, world.now)
        took.append(time.perf_counter() - begun)
    assert sorted(took)[50] < 0.001


# When nobody can be asked


def gone(reply: Reply, asked: Asked) -> None:
    reply.octets(b"", 503)


@pytest.mark.parametrize(
    ("unavailable", "states"),
    [
        (Unavailable.REFUSE, ["unknown", "unknown"]),
        (Unavailable.WARN, ["unknown", "unknown"]),
        (Unavailable.OFFLINE, ["valid (old)", "unknown"]),
    ],
)
def test_policy_for_a_good_seal(world: World, unavailable: Unavailable, states: list[str]) -> None:
    client = world.client(unavailable=unavailable, offline=5 * HOUR, cached=MINUTE)
    assert world.state_of(client) == "valid"
    produced = world.now
    world.server.answer = gone
    world.now = produced + 5 * HOUR
    assert world.state_of(client) == states[0]
    assert world.state_of(world.client(unavailable=unavailable, offline=5 * HOUR)) == states[0], "after a restart"
    world.now += timedelta(seconds=1)
    assert world.state_of(client) == states[1]
    status = world.ask(client)
    assert "service_refused" in status.detail
    assert AskingPolicy(unavailable).demanded is (unavailable is not Unavailable.WARN)


def test_an_old_answer_says_until_when_it_is_used(world: World) -> None:
    client = world.client(unavailable=Unavailable.OFFLINE, offline=5 * HOUR, cached=MINUTE)
    made = world.now
    fresh = world.ask(client)
    world.server.answer = gone
    world.now += HOUR
    old = world.ask(client)
    assert (old.stale, old.produced_at, old.next_update) == (True, made, made + 5 * HOUR)
    assert (old.evidence, old.source) == (fresh.evidence, fresh.source)
    assert "service_refused" in old.detail


def test_offline_is_asked_again_as_soon_as_somebody_answers(world: World) -> None:
    client = world.client(unavailable=Unavailable.OFFLINE, cached=MINUTE)
    world.ask(client)
    world.server.answer = gone
    world.now += HOUR
    assert world.state_of(client) == "valid (old)"
    world.server.answer = world.unit
    world.unit.history = changes(world.party.start, *VALID, SealState.CANCELLED)
    assert world.state_of(client) == "cancelled"


@pytest.mark.parametrize("unavailable", list(Unavailable))
@pytest.mark.parametrize("state", [SealState.SUSPENDED, SealState.CANCELLED, SealState.LOST, SealState.INVALID])
def test_a_seal_last_known_to_be_bad_stays_so(world: World, unavailable: Unavailable, state: SealState) -> None:
    world.unit.history = changes(world.party.start, *VALID, state)
    client = world.client(unavailable=unavailable, cached=MINUTE)
    assert world.state_of(client) == state
    world.server.answer = gone
    world.now += timedelta(days=100)
    assert world.state_of(client) == f"{state} (old)"
    status = world.ask(world.client(unavailable=unavailable))
    assert (status.stale, status.next_update) == (True, None), "after a restart, and without an end"


@pytest.mark.parametrize("restart", [False, True])
def test_an_older_answer_does_not_replace_a_newer_one(world: World, restart: bool) -> None:
    world.unit.history = changes(world.party.start, *VALID, SealState.SUSPENDED)
    client = world.client(cached=MINUTE)
    world.ask(client)
    if restart:
        client = world.client(cached=MINUTE)
    world.now += 2 * MINUTE
    world.unit.history = changes(world.party.start, *VALID)
    world.unit.twist = lambda answer: replace(
        answer, at=answer.at - 3 * MINUTE, produced_at=answer.produced_at - 3 * MINUTE
    )
    assert world.state_of(client) == "suspended (old)"
    assert "something newer" in world.ask(client).detail
    world.unit.twist = None
    assert world.state_of(client) == "valid"


def test_an_answer_kept_counts_only_while_its_signer_is_recognised(world: World) -> None:
    client = world.client(unavailable=Unavailable.OFFLINE, cached=MINUTE)
    world.ask(client)
    world.server.answer = gone
    world.now += HOUR
    maker = listed_entry(world.party.maker, TrustRole.MAKER, urls=(world.server.url,))
    withdrawn = listed_entry(world.unit.signer, TrustRole.STATUS, withdrawn_since=world.party.start)
    world.trust = trusting(maker, withdrawn)
    assert world.state_of(client) == "unknown"
    assert world.state_of(world.client(unavailable=Unavailable.OFFLINE)) == "unknown"


@pytest.mark.parametrize("spoil", [lambda octets: octets[:-1], lambda octets: b"", lambda octets: bytes(1 << 20)])
def test_an_answer_kept_that_was_damaged_does_not_count(world: World, spoil: Callable[[bytes], bytes]) -> None:
    world.ask(world.client())
    [kept] = (world.state / "status").glob("*.answer")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    kept.write_bytes(spoil(kept.read_bytes()))
    world.server.answer = gone
    assert world.state_of(world.client(unavailable=Unavailable.OFFLINE)) == "unknown"


def test_a_disk_that_takes_nothing_does_not_stop_anybody(world: World) -> None:
    (world.state / "status").write_bytes(b"a file where the folder should be")
    assert world.state_of(world.client()) == "valid"


# Lists


def listing(world: World, *paths: Path, **settings: Any) -> None:
    floors = ListFloors(world.state / "status" / "lists.json")
    world.lists = tuple(SignedLists(path, floors, **settings) for path in paths)
    world.trust = trusting(
        listed_entry(world.party.maker, TrustRole.MAKER), listed_entry(world.unit.signer, TrustRole.STATUS)
    )


@pytest.fixture
def folder(world: World) -> Path:
    path = world.state / "lists"
    path.mkdir()
    listing(world, path)
    return path


def test_a_list_answers_where_nobody_can_be_asked(world: World, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(world.unit.list(3))
    status = world.ask(world.client())
    assert (status.source, status.history, status.stale) == ("list unit-seals 3", world.unit.history, False)
    assert status.evidence == (folder / "unit.p7").read_bytes()
    assert world.questions == 0


def test_a_single_file_is_a_list_too(world: World, folder: Path) -> None:
    file = folder / "unit.p7"
    listing(world, file)
    file.write_bytes(world.unit.list())
    assert world.state_of(world.client()) == "valid"


def test_a_newer_list_takes_the_place_of_an_older_one(world: World, folder: Path) -> None:
    client = world.client(cached=MINUTE)
    (folder / "1.p7").write_bytes(world.unit.list(1))
    assert world.state_of(client) == "valid"
    world.now += 2 * MINUTE
    world.unit.history = changes(world.party.start, *VALID, SealState.SUSPENDED)
    (folder / "2.p7").write_bytes(world.unit.list(2))
    assert world.state_of(client) == "suspended"


@pytest.mark.parametrize("restart", [False, True])
def test_a_list_rolled_back_is_refused_even_after_the_newer_one_was_removed(
    world: World, folder: Path, restart: bool
) -> None:
    old = world.unit.list(1)
    (folder / "2.p7").write_bytes(world.unit.list(2))
    client = world.client(cached=MINUTE)
    assert world.state_of(client) == "valid"
    (folder / "2.p7").unlink()
    (folder / "1.p7").write_bytes(old)
    world.now += 2 * MINUTE
    if restart:
        listing(world, folder)
        client = world.client()
    status = world.ask(client)
    assert (status.history, "status_list_rolled_back" in status.detail) == ((), True)


def test_two_lists_of_one_sequence_are_a_conflict(world: World, folder: Path) -> None:
    (folder / "a.p7").write_bytes(world.unit.list(2))
    client = world.client(cached=MINUTE)
    assert world.state_of(client) == "valid"
    world.now += 2 * MINUTE
    (folder / "a.p7").write_bytes(world.unit.list(2))
    assert "status_list_conflict" in world.ask(client).detail


def test_nobody_outranks_the_list_of_another(world: World, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(world.unit.list(2))
    honest, world.unit.signer = world.unit.signer, world.party.signer
    (folder / "forged.p7").write_bytes(world.unit.list(2**53 - 1))
    world.unit.signer = honest
    client = world.client()
    assert world.state_of(client) == "valid"
    assert world.ask(client).source == "list unit-seals 2"


def test_a_list_out_of_date(world: World, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(world.unit.list())
    world.now += HOUR
    assert "out of date since" in world.ask(world.client()).detail
    client = world.client(unavailable=Unavailable.OFFLINE, offline=2 * HOUR)
    assert world.state_of(client) == "valid (old)"
    world.now += HOUR + MINUTE
    assert world.state_of(client) == "unknown"


def test_a_seal_that_no_list_knows(world: World, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(world.unit.list(seals={}))
    status = world.ask(world.client())
    assert (status.history, status.source, "not known there" in status.detail) == ((), "list unit-seals 1", True)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "signed_message_invalid"),
        (b"\x30\x03\x02\x01\x01", "signed_message_invalid"),
        (None, "there is no list"),
    ],
)
def test_files_that_are_no_lists(world: World, folder: Path, octets: bytes | None, why: str) -> None:
    (folder / ".hidden").write_bytes(b"")
    (folder / "sub").mkdir()
    if octets is not None:
        (folder / "bad.p7").write_bytes(octets)
    assert why in world.ask(world.client()).detail
    (folder / "good.p7").write_bytes(world.unit.list())
    assert world.state_of(world.client()) == "valid", "a bad file does not keep a good one from being used"


def test_a_folder_that_is_not_there_or_too_full(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing(world, folder / "absent")
    assert "status_answer_refused" in world.ask(world.client()).detail
    monkeypatch.setattr("sealagent.status.lists.MAX_FILES", 2)
    listing(world, folder)
    for number in range(3):
        (folder / f"{number}.p7").write_bytes(b"")
    assert "3 files" in world.ask(world.client()).detail


def test_without_its_memory_no_list_is_used(world: World, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(world.unit.list())
    memory = world.state / "status" / "lists.json"
    memory.parent.mkdir()
    memory.write_bytes(b"{}")
    status = world.ask(world.client())
    assert (status.history, "status_state_failed" in status.detail) == ((), True)


def test_a_list_is_read_again_only_when_it_was_changed(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    from sealagent.status import lists

    original = lists.read_list
    monkeypatch.setattr(lists, "read_list", lambda content: (read.append("list"), original(content))[1])
    (folder / "unit.p7").write_bytes(world.unit.list())
    client = world.client(cached=timedelta(0))
    for _ in range(3):
        world.ask(client)
    assert len(read) == 1


def test_a_service_comes_before_a_list(world: World, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(world.unit.list())
    service = HttpService(world.server.url, lambda *_: b"")
    assert world.ask(world.client(services=[service])).source == world.server.url
    world.server.answer = gone
    world.state = world.state / "other"
    assert world.ask(world.client(services=[service])).source == "list unit-seals 1"


def test_a_list_that_is_older_than_what_a_service_said(world: World, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(world.unit.list())
    world.now += MINUTE
    world.unit.history = (*changes(world.party.start, *VALID), StateChange(SealState.SUSPENDED, world.now))
    service = HttpService(world.server.url, lambda *_: b"")
    client = world.client(services=[service], cached=MINUTE, unavailable=Unavailable.WARN)
    assert world.state_of(client) == "suspended"
    world.server.answer = gone
    world.now += 2 * MINUTE
    assert world.state_of(client) == "suspended (old)"
