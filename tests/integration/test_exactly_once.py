"""An idempotency key holds over the end of the agent: the same request gets the same signature, and none is made."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from agent_world import World
from sealagent.client import Agent, AgentError, at

SEAL = "测试单位公章"


@pytest.fixture
def office(world: World) -> World:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    return world


def sealed(agent: Agent, document: bytes, x: float = 5) -> Any:
    return agent.seal_document(document, seal=SEAL, placements=[at(1, x, 5)], idempotency_key="k1")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_document_is_put_together_again_after_a_restart(office: World, vectors: Path, end: signal.Signals) -> None:
    document = (vectors / "helloworld.ofd").read_bytes()
    daemon = office.start()
    with daemon.agent() as agent:
        first = sealed(agent, document)
    daemon.stop(end)
    with office.start().agent() as agent:
        again = sealed(agent, document)
        assert again.document == first.document
        moved = {"checkpoint"}  # it is of now
        assert {k: v for k, v in again.receipt.items() if k not in moved} == {
            k: v for k, v in first.receipt.items() if k not in moved
        }
        assert [entry["kind"] for entry in agent.records()["records"]] == ["intent", "signed"]
        for other in (lambda: sealed(agent, document, 6), lambda: sealed(agent, document + b"\n")):
            with pytest.raises(AgentError) as caught:
                other()
            assert caught.value.code == "idempotency_conflict"


def test_it_needs_no_token_and_asks_nobody(office: World, vectors: Path) -> None:
    document = (vectors / "helloworld.ofd").read_bytes()
    daemon = office.start()
    with daemon.agent() as agent:
        first = sealed(agent, document)
    daemon.stop()
    office.pin_file.write_text("wrong\n")
    office.token.remove()
    with office.start().agent() as agent:
        assert sealed(agent, document).document == first.document
    office.token.insert()


def test_digests_are_signed_once_each(office: World) -> None:
    digests = [bytes([number]) * 32 for number in range(5)]
    daemon = office.start()
    with daemon.agent() as agent:
        key = agent.keys()[0]["id"]
        first = agent.sign_digests(digests, key=key, idempotency_key="k2")
        over = agent.sign_digest_with_seal(bytes(32), seal=SEAL, property_info="/S.xml", idempotency_key="k3")
    daemon.stop(signal.SIGKILL)
    with office.start().agent() as agent:
        again = agent.sign_digests(digests, key=key, idempotency_key="k2")
        assert [each.signature for each in again] == [each.signature for each in first]
        assert [each.receipt["record"] for each in again] == [each.receipt["record"] for each in first]
        same = agent.sign_digest_with_seal(bytes(32), seal=SEAL, property_info="/S.xml", idempotency_key="k3")
        assert same.signature == over.signature
        assert agent.records()["size"] == 2 * 6
        with pytest.raises(AgentError) as caught:
            agent.sign_digests(digests[:4], key=key, idempotency_key="k2")
        assert caught.value.code == "idempotency_conflict"
