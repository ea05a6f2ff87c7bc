"""Seal signatures are time-stamped before they are released: a real daemon, and OpenSSL's authority."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent_world import World
from ofd_samples import document_files, pack
from sealagent.client import AgentError, invisible
from sealagent.pki.timestamp_request import prepare_request
from status_parts import Asked, Reply, Server, absent, serving
from timestamp_parts import OpensslAuthority, time_stamper

NAME = "测试单位公章"
DOCUMENT = pack(document_files())


@dataclass
class Scene:
    """A world with a seal, and an authority that answers as a test wants."""

    world: World
    authority: OpensslAuthority
    server: Server

    def start(self, url: str | None = None, **timestamp: Any) -> Any:
        self.world.settings["timestamp"] = {"url": url or self.server.url, "digest": "sha256"} | timestamp
        self.world.settings["trust"] = {"paths": [str(self.world.root_file), str(self.authority.tsa.pem)]}
        self.world.settings["status"] = {"timeout_seconds": 2.0}
        return self.world.start().agent()

    def replies(self, answer: Callable[[bytes], bytes]) -> None:
        """Let the authority answer a query so."""

        def reply(to: Reply, asked: Asked) -> None:
            to.octets(answer(asked.body), Content_Type="application/timestamp-reply")

        self.server.answer = reply


@pytest.fixture
def scene(world: World, tmp_path: Path) -> Iterator[Scene]:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    authority = OpensslAuthority(time_stamper(tmp_path, "rsa", "tsa"))
    with serving(lambda reply, asked: reply.octets(b"", 503)) as server:
        made = Scene(world, authority, server)
        made.replies(authority.reply)
        yield made


def test_a_document_is_sealed_with_a_time_stamp(scene: Scene) -> None:
    with scene.start() as agent:
        sealed = agent.seal_document(DOCUMENT, seal=NAME, placements=[invisible()])
        assert [asked.headers["Content-Type"] for asked in scene.server.asked] == ["application/timestamp-query"]
        (signature,) = agent.verify_document(sealed.document)["signatures"]
        assert (signature["verdict"], signature["reasons"]) == ("valid", [])
        stamped = [note["detail"] for note in signature["notes"] if note["code"] == "time_stamped"]
        assert stamped == [f"{sealed.receipt['timestamp']}, CN=tsa,O=Test,C=CN"]
        outcome = agent.record(sealed.receipt["record"])["body"]
        assert outcome["timestamp"]["time"] == sealed.receipt["timestamp"]
        assert len(outcome["timestamp"]["sha256"]) == 64
        # Who does not trust the authority is not told "valid" because of it.
        trusted = [scene.world.authority.root_pem()]
        stranger = agent.verify_document(sealed.document, trust=trusted, only_these=True)["signatures"][0]
        assert stranger["verdict"] == "indeterminate"
        assert [reason["code"] for reason in stranger["reasons"]] == ["timestamp_not_checked"]


def test_bare_signatures_are_not_time_stamped(scene: Scene) -> None:
    with scene.start() as agent:
        key = agent.keys()[0]["id"]
        (signed,) = agent.sign_digests([bytes(32)], key=key)
        assert signed.receipt["timestamp"] is None
        sealed = agent.sign_digest_with_seal(bytes(32), seal=NAME, property_info="/Signature.xml")
        assert sealed.receipt["timestamp"] is not None
    assert len(scene.server.asked) == 1


def test_without_its_time_stamp_nothing_is_released(scene: Scene) -> None:
    foreign = time_stamper(scene.world.directory, "rsa", "foreign")
    faults: dict[str, Callable[[bytes], bytes]] = {
        "over other octets": lambda query: scene.authority.reply(prepare_request(b"other octets", "sha256", 1)),
        "of an authority nobody trusts": OpensslAuthority(foreign).reply,
        "garbage": lambda query: b"\x30\x03\x02\x01\x00",
        "empty": lambda query: b"",
        "endless": lambda query: bytes(4 << 20),
    }
    with scene.start() as agent:
        for what, answer in faults.items():
            scene.replies(answer)
            with pytest.raises(AgentError) as error:
                agent.seal_document(DOCUMENT, seal=NAME, placements=[invisible()])
            assert error.value.code == "timestamp_failed", what
            last = agent.records(after=agent.status()["record"]["size"] - 1)["records"][0]
            assert (last["kind"], last["body"]["reason"]) == ("failed", "timestamp_failed"), what
        scene.replies(scene.authority.reply)
        assert agent.seal_document(DOCUMENT, seal=NAME, placements=[invisible()]).receipt["timestamp"]


def test_an_authority_that_is_gone(scene: Scene) -> None:
    with scene.start(absent()) as agent, pytest.raises(AgentError) as error:
        agent.seal_document(DOCUMENT, seal=NAME, placements=[invisible()])
    assert error.value.code == "timestamp_failed"
    assert error.value.problem["cause"] == "service_unreachable"


def test_where_none_is_required_the_record_says_why_there_is_none(scene: Scene) -> None:
    with scene.start(absent(), required=False) as agent:
        sealed = agent.seal_document(DOCUMENT, seal=NAME, placements=[invisible()])
        assert sealed.receipt["timestamp"] is None
        outcome = agent.record(sealed.receipt["record"])["body"]
        assert outcome["timestamp"]["fault"].startswith("service_unreachable")
        (signature,) = agent.verify_document(sealed.document)["signatures"]
        assert (signature["verdict"], "time_stamped" in str(signature["notes"])) == ("valid", False)


def test_a_token_of_the_wrong_moment_is_not_taken(scene: Scene) -> None:
    """A replayed token has another nonce."""
    kept: list[bytes] = []

    def replay(query: bytes) -> bytes:
        kept.append(scene.authority.reply(query))
        return kept[0]

    scene.replies(replay)
    with scene.start() as agent:
        agent.seal_document(DOCUMENT, seal=NAME, placements=[invisible()])
        with pytest.raises(AgentError) as error:
            agent.seal_document(DOCUMENT, seal=NAME, placements=[invisible()])
    assert error.value.code == "timestamp_failed"
