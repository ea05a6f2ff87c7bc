"""For how long an answer about a seal is used, and what counts when nobody can be asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from sealagent.pki.certificates import Certificate
from sealagent.pki.trust import TrustRole
from sealagent.seals.parse import parse_seal
from sealagent.seals.status import SealState, SealStatus
from sealagent.status.policy import AskingPolicy, Unavailable
from status_parts import (
    VALID,
    changes,
    listed_entry,
    trusting,
)
from status_world import HOUR, MINUTE, StatusWorld, gone

# How long an answer is used


def test_an_answer_is_used_again_until_the_cache_time_is_over(asking: StatusWorld) -> None:
    client = asking.client(cached=MINUTE)
    for _ in range(3):
        assert asking.state_of(client) == "valid"
    asking.unit.history = changes(asking.party.start, *VALID, SealState.SUSPENDED)
    asking.now += MINUTE - timedelta(seconds=1)
    assert asking.state_of(client) == "valid"
    assert asking.questions == 1
    asking.now += timedelta(seconds=1)
    assert asking.state_of(client) == "suspended"
    assert asking.questions == 2


def test_an_issuer_may_say_less(asking: StatusWorld) -> None:
    asking.unit.lasts = timedelta(seconds=10)
    client = asking.client(cached=HOUR)
    asking.ask(client)
    asking.now += timedelta(seconds=10)
    asking.ask(client)
    assert asking.questions == 2


def test_a_clock_that_was_set_back_gives_an_answer_no_longer_life(asking: StatusWorld) -> None:
    client = asking.client(cached=MINUTE)
    asking.ask(client)
    asking.now -= HOUR
    asking.unit.clock = lambda: asking.now
    asking.ask(client)
    assert asking.questions == 2


def test_another_trust_or_another_maker_is_asked_anew(asking: StatusWorld) -> None:
    client = asking.client(cached=HOUR)
    asking.ask(client)
    asking.trust = trusting(*asking.trust.listed)
    asking.ask(client)
    assert asking.questions == 2
    client.status(asking.seal, Certificate.from_der(asking.party.signer.der), asking.now)
    assert asking.ask(client).history
    assert asking.questions == 2


def test_many_threads_ask_once(asking: StatusWorld) -> None:
    client = asking.client(cached=HOUR)
    start = threading.Barrier(8)

    def ask(number: int) -> SealStatus:
        start.wait()
        return client.status(asking.seal, asking.maker, asking.now - timedelta(milliseconds=number))

    with ThreadPoolExecutor(8) as pool:
        assert {status.produced_at for status in pool.map(ask, range(8))} == {asking.now}
    assert asking.questions == 1


def test_the_cache_is_bounded(asking: StatusWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealagent.status.seals.MAX_CACHED", 2)
    monkeypatch.setattr("sealagent.status.kept.MAX_KEPT", 2)
    monkeypatch.setattr("sealagent.status.kept.TIDY_EVERY", 1 + 1)
    client = asking.client(cached=HOUR)
    for number in range(5):
        asking.unit.seal = asking.party.seal(name=f"{number}")
        seal = parse_seal(asking.unit.seal)
        assert client.status(seal, asking.maker, asking.now).history
    assert len(list((asking.state / "status").glob("*.answer"))) <= 3
    asking.ask(client)
    assert asking.questions == 6


def test_an_answer_from_the_cache_takes_less_than_a_millisecond(asking: StatusWorld) -> None:
    client = asking.client(cached=HOUR)
    asking.ask(client)
    took = []
    for _ in range(100):
        begun = time.perf_counter()
        client.status(asking.seal, asking.maker, asking.now)
        took.append(time.perf_counter() - begun)
    assert sorted(took)[50] < 0.001


# When nobody can be asked


@pytest.mark.parametrize(
    ("unavailable", "states"),
    [
        (Unavailable.REFUSE, ["unknown", "unknown"]),
        (Unavailable.WARN, ["unknown", "unknown"]),
        (Unavailable.OFFLINE, ["valid (old)", "unknown"]),
    ],
)
def test_policy_for_a_good_seal(asking: StatusWorld, unavailable: Unavailable, states: list[str]) -> None:
    client = asking.client(unavailable=unavailable, offline=5 * HOUR, cached=MINUTE)
    assert asking.state_of(client) == "valid"
    produced = asking.now
    asking.server.answer = gone
    asking.now = produced + 5 * HOUR
    assert asking.state_of(client) == states[0]
    assert asking.state_of(asking.client(unavailable=unavailable, offline=5 * HOUR)) == states[0], "after a restart"
    asking.now += timedelta(seconds=1)
    assert asking.state_of(client) == states[1]
    status = asking.ask(client)
    assert "service_refused" in status.detail
    assert AskingPolicy(unavailable).demanded is (unavailable is not Unavailable.WARN)


def test_an_old_answer_says_until_when_it_is_used(asking: StatusWorld) -> None:
    client = asking.client(unavailable=Unavailable.OFFLINE, offline=5 * HOUR, cached=MINUTE)
    made = asking.now
    fresh = asking.ask(client)
    asking.server.answer = gone
    asking.now += HOUR
    old = asking.ask(client)
    assert (old.stale, old.produced_at, old.next_update) == (True, made, made + 5 * HOUR)
    assert (old.evidence, old.source) == (fresh.evidence, fresh.source)
    assert "service_refused" in old.detail


def test_offline_is_asked_again_as_soon_as_somebody_answers(asking: StatusWorld) -> None:
    client = asking.client(unavailable=Unavailable.OFFLINE, cached=MINUTE)
    asking.ask(client)
    asking.server.answer = gone
    asking.now += HOUR
    assert asking.state_of(client) == "valid (old)"
    asking.server.answer = asking.unit
    asking.unit.history = changes(asking.party.start, *VALID, SealState.CANCELLED)
    assert asking.state_of(client) == "cancelled"


@pytest.mark.parametrize("unavailable", list(Unavailable))
@pytest.mark.parametrize("state", [SealState.SUSPENDED, SealState.CANCELLED, SealState.LOST, SealState.INVALID])
def test_a_seal_last_known_to_be_bad_stays_so(asking: StatusWorld, unavailable: Unavailable, state: SealState) -> None:
    asking.unit.history = changes(asking.party.start, *VALID, state)
    client = asking.client(unavailable=unavailable, cached=MINUTE)
    assert asking.state_of(client) == state
    asking.server.answer = gone
    asking.now += timedelta(days=100)
    assert asking.state_of(client) == f"{state} (old)"
    status = asking.ask(asking.client(unavailable=unavailable))
    assert (status.stale, status.next_update) == (True, None), "after a restart, and without an end"


@pytest.mark.parametrize("restart", [False, True])
def test_an_older_answer_does_not_replace_a_newer_one(asking: StatusWorld, restart: bool) -> None:
    asking.unit.history = changes(asking.party.start, *VALID, SealState.SUSPENDED)
    client = asking.client(cached=MINUTE)
    asking.ask(client)
    if restart:
        client = asking.client(cached=MINUTE)
    asking.now += 2 * MINUTE
    asking.unit.history = changes(asking.party.start, *VALID)
    asking.unit.twist = lambda answer: replace(
        answer, at=answer.at - 3 * MINUTE, produced_at=answer.produced_at - 3 * MINUTE
    )
    assert asking.state_of(client) == "suspended (old)"
    assert "something newer" in asking.ask(client).detail
    asking.unit.twist = None
    assert asking.state_of(client) == "valid"


def test_an_answer_kept_counts_only_while_its_signer_is_recognised(asking: StatusWorld) -> None:
    client = asking.client(unavailable=Unavailable.OFFLINE, cached=MINUTE)
    asking.ask(client)
    asking.server.answer = gone
    asking.now += HOUR
    maker = listed_entry(asking.party.maker, TrustRole.MAKER, urls=(asking.server.url,))
    withdrawn = listed_entry(asking.unit.signer, TrustRole.STATUS, withdrawn_since=asking.party.start)
    asking.trust = trusting(maker, withdrawn)
    assert asking.state_of(client) == "unknown"
    assert asking.state_of(asking.client(unavailable=Unavailable.OFFLINE)) == "unknown"


@pytest.mark.parametrize("spoil", [lambda octets: octets[:-1], lambda octets: b"", lambda octets: bytes(1 << 20)])
def test_an_answer_kept_that_was_damaged_does_not_count(asking: StatusWorld, spoil: Callable[[bytes], bytes]) -> None:
    asking.ask(asking.client())
    [kept] = (asking.state / "status").glob("*.answer")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    kept.write_bytes(spoil(kept.read_bytes()))
    asking.server.answer = gone
    assert asking.state_of(asking.client(unavailable=Unavailable.OFFLINE)) == "unknown"


def test_a_disk_that_takes_nothing_does_not_stop_anybody(asking: StatusWorld) -> None:
    (asking.state / "status").write_bytes(b"a file where the folder should be")
    assert asking.state_of(asking.client()) == "valid"
