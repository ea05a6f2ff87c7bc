"""Smart cards and the real daemon: pcscd, a virtual reader, PIV cards, OpenSC. Cards come and go while they sign."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent_world import Daemon, World
from piv_card import GENERAL_AUTHENTICATE, VERIFY, KeyKind, PivCard, SmartCards, new_key
from sealagent.client import AgentError, Sealed, at
from sealagent.records.check import check_export

PROMISED = 2.0
"""Seconds from the moment a card is plugged in to the event."""

PATIENCE = 20.0
"""Seconds for anything that is only slow."""


@dataclass
class Listener:
    """What came on the events stream, and when (:func:`time.monotonic`)."""

    seen: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)

    def names(self) -> list[str]:
        return [name for _, name, _ in self.seen]

    def wait(self, name: str, count: int = 1) -> float:
        """Wait until an event has come so often; return when it came the last time."""
        _until(lambda: self.names().count(name) >= count, f"{name}, {count} times")
        return [when for when, what, _ in self.seen if what == name][count - 1]


@pytest.fixture
def card_world(world: World, smart_cards: SmartCards) -> World:
    """The usual world with OpenSC in place of SoftHSM."""
    world.modules = [smart_cards.module]
    world.pin_file.touch(0o600)
    world.pin_file.write_text("123456\n")
    return world


@contextmanager
def _listening(daemon: Daemon) -> Iterator[Listener]:
    listener = Listener()
    agent = daemon.agent()

    def listen() -> None:
        with agent, contextlib.suppress(AgentError):  # the daemon ends first
            for name, data in agent.events():
                listener.seen.append((time.monotonic(), name, data))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    time.sleep(0.3)  # until the daemon knows that somebody listens
    yield listener


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.02)


def _certify(world: World, card: PivCard, slot: int, name: str, kind: KeyKind = "ec-p256") -> bytes:
    """Put a key of its own with a certificate of the test CA into a slot; return a seal that lists it."""
    certificate = world.authority.issue(card.put_key(slot, key=new_key(kind), certified=False), name)
    card.put_certificate(certificate, slot)
    return world.authority.make_seal([certificate], name=name, es_id=f"es-{card.serial}")


def _seal(daemon: Daemon, vectors: Path, name: str) -> Sealed | AgentError:
    with daemon.agent() as agent:
        try:
            return agent.seal_document(vectors / "helloworld.ofd", seal=name, placements=[at(1, 100, 100)])
        except AgentError as error:
            return error


def _sealed(daemon: Daemon, vectors: Path, name: str) -> None:
    """Seal a document, and check that it is valid."""
    signed = _seal(daemon, vectors, name)
    assert not isinstance(signed, AgentError), signed
    with daemon.agent() as agent:
        assert agent.verify_document(signed.document)["verdict"] == "valid"


def _refused(daemon: Daemon, vectors: Path, name: str) -> AgentError:
    error = _seal(daemon, vectors, name)
    assert isinstance(error, AgentError)
    assert error.problem["next_step"]
    return error


def _kinds(daemon: Daemon) -> list[tuple[str, str | None]]:
    """Return kind and reason of each entry, from an export that is checked on the way."""
    with daemon.agent() as agent:
        lines = b"".join(agent.export_record()).splitlines()
    assert check_export(lines).ok
    entries = [json.loads(line) for line in lines[1:]]
    return [(entry["kind"], entry["body"].get("reason")) for entry in entries]


def _tokens(daemon: Daemon) -> list[dict[str, Any]]:
    with daemon.agent() as agent:
        listed: list[dict[str, Any]] = agent.tokens()["tokens"]
        return listed


def _import_seals(daemon: Daemon, *seals: bytes) -> None:
    with daemon.agent() as agent:
        for seal in seals:
            agent.import_seal(seal)


def test_cards_that_come_and_go_are_told_within_two_seconds(card_world: World, piv_new_card: Any) -> None:
    card = piv_new_card(insert=False)
    card.put_key(0x9A)
    daemon = card_world.start()
    assert _tokens(daemon) == []
    took: dict[str, list[float]] = {"token_inserted": [], "token_removed": []}
    with _listening(daemon) as heard:
        for number in range(1, 4):
            for name, act in (("token_inserted", card.insert), ("token_removed", card.remove)):
                began = time.monotonic()
                act()
                took[name].append(heard.wait(name, number) - began)
    for times in took.values():
        assert min(times) < PROMISED, took  # the machine may be busy; what the daemon does takes this long
    assert _tokens(daemon) == []


def test_a_card_pulled_between_two_signatures(card_world: World, piv_new_card: Any, vectors: Path) -> None:
    card = piv_new_card(insert=False)
    seal = _certify(card_world, card, 0x9A, "印章")
    card.insert()
    daemon = card_world.start()
    _import_seals(daemon, seal)
    with _listening(daemon) as heard:
        _sealed(daemon, vectors, "印章")
        _sealed(daemon, vectors, "印章")
        assert card.count(VERIFY) == 1
        card.remove()
        assert _refused(daemon, vectors, "印章").code in ("seal_key_absent", "token_removed", "token_not_found")
        heard.wait("token_removed")
        card.insert()
        heard.wait("token_inserted")
        _sealed(daemon, vectors, "印章")
    assert card.count(VERIFY) == 2  # its return does not bring the login back
    assert heard.names().count("pin_asked") == 2
    with daemon.agent() as agent:
        (module,) = agent.status()["modules"]
        assert module["restarts"] == 0


@pytest.mark.parametrize("how", ["leaves", "is pulled from a card that hangs"])
def test_a_card_pulled_while_it_signs(card_world: World, piv_new_card: Any, vectors: Path, how: str) -> None:
    card = piv_new_card(insert=False)
    seal = _certify(card_world, card, 0x9A, "印章", "rsa-2048")
    card.insert()
    daemon = card_world.start()
    _import_seals(daemon, seal)
    with _listening(daemon) as heard:
        _sealed(daemon, vectors, "印章")
        results: list[AgentError] = []
        thread = threading.Thread(target=lambda: results.append(_refused(daemon, vectors, "印章")))
        if how == "leaves":
            card.drop()
            thread.start()
        else:
            card.hang()
            thread.start()
            card.wait_struck()
            assert _kinds(daemon)[-1] == ("intent", None)
            card.remove()
        thread.join(PATIENCE)
        assert results[0].code in ("token_removed", "device_failure")
        assert _kinds(daemon)[-2:] == [("intent", None), ("failed", results[0].code)]
        heard.wait("failed")
        heard.wait("token_removed")
        assert card.count(GENERAL_AUTHENTICATE) == 1  # of the signature before: nothing was tried again
        card.insert()
        heard.wait("token_inserted")
        _sealed(daemon, vectors, "印章")
    with daemon.agent() as agent:
        (module,) = agent.status()["modules"]
        assert module["restarts"] == module["timeouts"] == 0


def test_a_wrong_pin_costs_one_try(card_world: World, piv_new_card: Any, vectors: Path) -> None:
    card = piv_new_card(insert=False)
    seal = _certify(card_world, card, 0x9A, "印章")
    card.insert()
    card_world.pin_file.write_text("654321\n")
    daemon = card_world.start()
    _import_seals(daemon, seal)
    assert _refused(daemon, vectors, "印章").code == "pin_incorrect"
    assert card.tries == 2
    assert _refused(daemon, vectors, "印章").code == "pin_source_refused"
    assert (card.tries, card.count(VERIFY)) == (2, 1)
    card_world.pin_file.write_text("123456\n")
    _sealed(daemon, vectors, "印章")
    assert (card.tries, card.count(VERIFY)) == (3, 2)


def test_a_locked_pin_is_not_sent(card_world: World, piv_new_card: Any, vectors: Path) -> None:
    card = piv_new_card(insert=False)
    seal = _certify(card_world, card, 0x9A, "印章")
    card.lock()
    card.insert()
    daemon = card_world.start()
    _import_seals(daemon, seal)
    (token,) = _tokens(daemon)
    assert token["pin"]["locked"]
    assert _refused(daemon, vectors, "印章").code == "pin_locked"
    assert card.count(VERIFY) == card.count(GENERAL_AUTHENTICATE) == 0
    assert _kinds(daemon)[-1] == ("refused", "pin_locked")


def test_a_key_that_always_authenticates_seals_with_one_pin_each(
    card_world: World, piv_new_card: Any, vectors: Path
) -> None:
    card = piv_new_card(insert=False)
    seal = _certify(card_world, card, 0x9C, "印章")
    card.insert()
    daemon = card_world.start()
    _import_seals(daemon, seal)
    with _listening(daemon) as heard:
        _sealed(daemon, vectors, "印章")
        assert card.count(VERIFY) == 2  # one opens the token, which shows only then that the key wants one more
        for number in range(1, 4):
            _sealed(daemon, vectors, "印章")
            assert card.count(VERIFY) == 2 + number
            assert card.count(GENERAL_AUTHENTICATE) == 1 + number
        heard.wait("signed", 4)
        assert heard.names().count("pin_asked") == 5


def test_two_readers_and_one_card_is_pulled_while_the_other_signs(
    card_world: World, piv_new_card: Any, vectors: Path
) -> None:
    stays, goes = piv_new_card(insert=False), piv_new_card(insert=False)
    seals = [_certify(card_world, card, 0x9A, name) for card, name in ((stays, "甲"), (goes, "乙"))]
    readers = {stays.insert(), goes.insert()}
    assert len(readers) == 2
    daemon = card_world.start()
    _import_seals(daemon, *seals)
    assert sorted(token["serial"] for token in _tokens(daemon)) == sorted((stays.serial, goes.serial))
    with _listening(daemon) as heard:
        _sealed(daemon, vectors, "甲")
        _sealed(daemon, vectors, "乙")
        stays.delay(1.5)
        results: list[Sealed | AgentError] = []
        thread = threading.Thread(target=lambda: results.append(_seal(daemon, vectors, "甲")))
        thread.start()
        stays.wait_struck()
        goes.remove()
        thread.join(PATIENCE)
        assert not isinstance(results[0], AgentError), results[0]
        heard.wait("token_removed")
        assert [token["serial"] for token in _tokens(daemon)] == [stays.serial]
        assert _refused(daemon, vectors, "乙").code in ("seal_key_absent", "token_removed", "token_not_found")
        _sealed(daemon, vectors, "甲")
        assert stays.count(VERIFY) == 1  # nobody had to unlock it again
        goes.insert()
        heard.wait("token_inserted")
        _sealed(daemon, vectors, "乙")
        assert (stays.count(VERIFY), goes.count(VERIFY)) == (1, 2)
    assert ("failed", "token_removed") not in _kinds(daemon)
