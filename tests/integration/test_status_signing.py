"""The seal's status before every signature: with a real daemon, a real token and a status server of the test."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from agent_world import Daemon, World, in_background
from cli_parts import Shell
from ofd_samples import document_files, pack
from sample_seals import identity
from sealagent.client import Agent, AgentError, invisible
from sealagent.pki.signed import open_signed
from sealagent.seals.answers import read_answer, seal_sm3
from sealagent.seals.parse import parse_seal
from sealagent.seals.status import SealState, StateChange
from sealagent.seals.store import SealStore
from status_parts import VALID, Asked, Reply, Server, Unit, changes, put_list, serving, silent
from trust_parts import Publisher, listed

NAME = "测试单位公章"
CACHE = 1.0
"""Seconds for which the daemons of these tests use an answer again."""
HOURS = timedelta(hours=10)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def gone(reply: Reply, asked: Asked) -> None:
    reply.octets(b"", 503)


@dataclass
class Scene:
    """A world with a seal, its unit, and the unit's status server."""

    world: World
    unit: Unit
    server: Server
    signer: Path
    """Certificate of whoever signs the answers."""

    def configure(self, **status: Any) -> None:
        service = {"url": self.server.url, "signers": [str(self.signer)]}
        chosen = {"services": [service], "cache_seconds": CACHE, "timeout_seconds": 1.0}
        self.world.settings["status"] = chosen | status

    def start(self, **status: Any) -> Daemon:
        self.configure(**status)
        return self.world.start()

    def becomes(self, state: SealState) -> None:
        """Let the unit put the seal into a state, and wait until the agent has to ask again."""
        self.unit.history = changes(now() - HOURS, *VALID, state)
        self.forget()

    def forget(self) -> None:
        """Wait until the agent uses no answer again."""
        time.sleep(CACHE + 0.1)


@pytest.fixture
def scene(world: World, tmp_path: Path) -> Iterator[Scene]:
    signer = identity(tmp_path, "sm2", "status")
    seal = world.authority.make_seal([world.add_signer()])
    world.token.add_data(seal, label="seal")
    unit = Unit(signer, now, seal, changes(now() - HOURS, *VALID), es_id="11010000000001")
    with serving(unit) as server:
        yield Scene(world, unit, server, signer.pem)


def seal_one(agent: Agent) -> dict[str, Any]:
    """Seal a document; return what the record says of the intent."""
    sealed = agent.seal_document(pack(document_files()), seal=NAME, placements=[invisible()])
    intent = agent.record(sealed.receipt["intent"])
    assert intent["kind"] == "intent"
    return dict(intent["body"])


def refused(agent: Agent) -> list[str]:
    """Have a document refused; return the reasons, which are on record too."""
    with pytest.raises(AgentError) as caught:
        seal_one(agent)
    assert caught.value.code == "seal_not_valid"
    reasons = [reason["code"] for reason in caught.value.problem["reasons"]]
    last = agent.records(agent.checkpoint()["size"] - 1)["records"][0]
    assert last["kind"] == "refused"
    assert [reason["code"] for reason in last["body"]["reasons"]] == reasons
    return reasons


def test_a_valid_seal_signs_and_the_answer_is_kept(scene: Scene) -> None:
    daemon = scene.start(cache_seconds=60)
    with daemon.agent() as agent:
        [seal] = agent.seals()["seals"]
        assert (seal["status"], seal["usable"], seal["trust"]) == ("valid", True, {"list": "", "region": ""})
        status = seal_one(agent)["status"]
        assert status["certificates"] == []
        said = status["seal"]
        assert (said["state"], said["source"]) == ("valid", scene.server.url)
        octets = agent.evidence(said["sha256"])
        assert hashlib.sha256(octets).hexdigest() == said["sha256"]
        answer = read_answer(open_signed(octets, limit=1 << 20).content)
        assert (answer.seal_sm3, answer.status) == (seal_sm3(scene.unit.seal), "valid")
        assert answer.produced_at == datetime.fromisoformat(said["produced_at"])
        assert answer.nonce.hex() == scene.server.asked[-1].query["nonce"]
        file = daemon.state / "evidence" / said["sha256"]
        assert file.read_bytes() == octets
        assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        for _ in range(3):
            assert seal_one(agent)["status"]["seal"] == said, "from the cache"
        assert len(scene.server.asked) == 1
        with pytest.raises(AgentError) as absent:
            agent.evidence("00" * 32)
        assert absent.value.code == "evidence_not_found"
    shell = Shell.of(daemon)
    assert shell("record", "evidence", said["sha256"], "-o", "answer.p7").status == 0
    assert (daemon.directory / "answer.p7").read_bytes() == octets
    failed = shell("record", "evidence", "../record.sqlite", "-o", "nothing")
    assert (failed.status, "not_found" in failed.err) == (1, True)
    assert not (daemon.directory / "nothing").exists()


@pytest.mark.parametrize(
    ("state", "reason", "shown"),
    [
        (SealState.SUSPENDED, "seal_suspended", "suspended"),
        (SealState.CANCELLED, "seal_cancelled", "cancelled"),
        (SealState.SUPERSEDED, "seal_superseded", "re-made"),
        (SealState.LOST, "seal_lost", "lost"),
        (SealState.INVALID, "seal_invalidated", "declared invalid"),
    ],
)
def test_a_seal_that_ceases_to_be_valid_between_two_signatures(
    scene: Scene, state: SealState, reason: str, shown: str
) -> None:
    daemon = scene.start()
    with daemon.agent() as agent:
        seal_one(agent)
        scene.becomes(state)
        assert refused(agent) == [reason]
        record = agent.records(agent.checkpoint()["size"] - 1)["records"][0]["body"]["status"]["seal"]
        assert record["state"] == state
        assert agent.evidence(record["sha256"])
        [seal] = agent.seals()["seals"]
        assert (seal["status"], seal["usable"]) == (state, False)
        assert [each["code"] for each in seal["reasons"]] == [reason]
        assert seal["days_left"] == 299
    listing = Shell.of(daemon)("seal", "list").out
    assert "STATUS" in listing
    assert shown in listing
    assert f"no: {reason}" in listing
    assert f"seal status: {shown}" in Shell.of(daemon)("seal", "show", NAME).out
    assert "299" in listing


def test_a_seal_resumed_signs_again(scene: Scene) -> None:
    scene.unit.history = changes(now() - HOURS, *VALID, SealState.SUSPENDED)
    with scene.start().agent() as agent:
        assert refused(agent) == ["seal_suspended"]
        scene.unit.history = changes(now() - HOURS, *VALID, SealState.SUSPENDED, SealState.VALID)
        scene.forget()
        assert seal_one(agent)["status"]["seal"]["state"] == "valid"


@pytest.mark.parametrize(("states", "length"), [(("made",), 1), (("made", "filed"), 2)])
def test_a_seal_that_is_not_filed_and_delivered(scene: Scene, states: tuple[str, ...], length: int) -> None:
    scene.unit.history = scene.unit.history[:length]
    with scene.start().agent() as agent:
        assert refused(agent) == ["seal_not_filed"]
        assert agent.seals()["seals"][0]["status"] == states[-1]


def test_nothing_is_asked_where_nothing_is_configured(scene: Scene) -> None:
    with scene.world.start().agent() as agent:
        assert seal_one(agent)["status"] == {"seal": {"state": "not_checked"}, "certificates": []}
        [seal] = agent.seals()["seals"]
        assert (seal["status"], seal["usable"]) == ("not_checked", True)
        assert "status_not_checked" in [note["code"] for note in seal["notes"]]
    assert scene.server.asked == []


def test_a_document_is_judged_by_the_state_at_its_signing_time(scene: Scene) -> None:
    with scene.start().agent() as agent:
        sealed = agent.seal_document(pack(document_files()), seal=NAME, placements=[invisible()]).document
        scene.forget()
        suspended = StateChange(SealState.SUSPENDED, now(), "owner_request")
        scene.unit.history = (*scene.unit.history, suspended)
        scene.forget()
        [signature] = agent.verify_document(sealed)["signatures"]
        assert (signature["verdict"], signature["status"]) == ("valid", "valid")
        assert "seal_state_since" in [note["code"] for note in signature["notes"]]
        [signature] = agent.verify_document(sealed, offline=True)["signatures"]
        assert (signature["verdict"], signature["status"]) == ("valid", "not_checked")
        scene.unit.history = changes(now() - HOURS, *VALID, SealState.SUSPENDED)
        scene.forget()
        [signature] = agent.verify_document(sealed)["signatures"]
        assert signature["verdict"] == "invalid"
        assert [reason["code"] for reason in signature["reasons"]] == ["seal_not_valid_at_signing"]


# When nobody can be asked


def test_refuse(scene: Scene) -> None:
    with scene.start(unavailable="refuse").agent() as agent:
        seal_one(agent)
        scene.server.answer = gone
        scene.forget()
        assert refused(agent) == ["status_unknown"]
        [seal] = agent.seals()["seals"]
        assert (seal["status"], seal["verdict"], seal["usable"]) == ("unknown", "indeterminate", False)
        assert "service_refused" in seal["reasons"][0]["detail"]
        scene.server.answer = scene.unit
        seal_one(agent)


def test_warn(scene: Scene) -> None:
    with scene.start(unavailable="warn").agent() as agent:
        scene.server.answer = gone
        said = seal_one(agent)["status"]["seal"]
        assert said["state"] == "unknown"
        assert "service_refused" in said["detail"]
        [seal] = agent.seals()["seals"]
        assert (seal["status"], seal["usable"]) == ("unknown", True)
        assert "status_not_checked" in [note["code"] for note in seal["notes"]]
        # What is known to be bad stays so, whoever keeps the agent from asking.
        scene.server.answer = scene.unit
        scene.becomes(SealState.SUSPENDED)
        assert refused(agent) == ["seal_suspended"]
        scene.server.answer = gone
        scene.forget()
        assert refused(agent) == ["seal_suspended"]


def test_offline_also_after_a_restart(scene: Scene) -> None:
    daemon = scene.start(unavailable="offline", offline_hours=1)
    with daemon.agent() as agent:
        first = seal_one(agent)["status"]["seal"]
        scene.server.answer = gone
        scene.forget()
        assert seal_one(agent)["status"]["seal"] == first | {"stale": True}
    assert daemon.stop() == 0
    with scene.world.start().agent() as agent:
        [seal] = agent.seals()["seals"]
        assert (seal["status"], seal["usable"]) == ("valid", True)
        assert "status_old" in [note["code"] for note in seal["notes"]]
        assert seal_one(agent)["status"]["seal"] == first | {"stale": True}
        assert agent.evidence(first["sha256"])


def test_offline_has_an_end(scene: Scene) -> None:
    scene.unit.lasts = timedelta(seconds=1)
    with scene.start(unavailable="offline", offline_hours=2 / 3600).agent() as agent:
        seal_one(agent)
        scene.server.answer = gone
        time.sleep(3.1)
        assert refused(agent) == ["status_unknown"]


def test_a_restart_does_not_make_a_bad_seal_good(scene: Scene) -> None:
    scene.unit.history = changes(now() - HOURS, *VALID, SealState.CANCELLED)
    daemon = scene.start(unavailable="warn")
    with daemon.agent() as agent:
        assert refused(agent) == ["seal_cancelled"]
    daemon.stop()
    scene.server.answer = gone
    with scene.world.start().agent() as agent:
        assert refused(agent) == ["seal_cancelled"]


# Servers that lie, or do not answer


def test_an_answer_about_another_seal_or_by_somebody_else(scene: Scene, tmp_path: Path) -> None:
    with scene.start().agent() as agent:
        scene.unit.twist = lambda answer: replace(answer, seal_sm3="ab" * 32)
        assert refused(agent) == ["status_unknown"]
        assert "about another seal" in agent.seals()["seals"][0]["reasons"][0]["detail"]
        scene.unit.twist = None
        (tmp_path / "other").mkdir()
        honest, scene.unit.signer = scene.unit.signer, identity(tmp_path / "other", "sm2", "status")
        assert refused(agent) == ["status_unknown"]
        assert "may not speak for this seal" in agent.seals()["seals"][0]["reasons"][0]["detail"]
        scene.unit.signer = honest
        seal_one(agent)


def test_a_dead_server_holds_up_nothing_but_its_seals(scene: Scene) -> None:
    authority, store = scene.world.authority, SealStore(scene.world.directory / "state" / "seals")
    absent = authority.issue(authority.maker_key)
    for number in range(30):
        store.add(authority.make_seal([absent], es_id=f"1101000000{number:04}", name=f"章{number}"))
    with silent() as url:
        daemon = scene.start(services=[{"url": url}], timeout_seconds=3.0)
        with daemon.agent() as agent, daemon.agent() as other:
            other.keys()
            begun = time.monotonic()
            thread, outcome = in_background(agent.seals)
            time.sleep(0.5)
            other.keys()
            assert time.monotonic() - begun < 2.5, "the keys waited for the seals' status"
            thread.join()
            assert time.monotonic() - begun < 10
            seals = outcome[0]["seals"]
            assert len(seals) == 31
            assert {seal["status"] for seal in seals} == {"unknown"}
            begun = time.monotonic()
            assert refused(agent) == ["status_unknown"]
            assert time.monotonic() - begun < 10


def test_a_slow_server_does_not_keep_the_agent_from_ending(scene: Scene) -> None:
    scene.server.answer = lambda reply, asked: reply.server.stopping.wait()
    daemon = scene.start(timeout_seconds=30)
    with daemon.agent() as agent:
        thread, _ = in_background(agent.seals)
        while not scene.server.asked:
            time.sleep(0.05)
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < 10
        thread.join()
    assert "Traceback" not in daemon.said()


# Lists, trust lists, evidence


def test_a_signed_list_where_there_is_no_network(scene: Scene) -> None:
    folder = scene.world.directory / "lists"
    put_list(folder, "1.p7", scene.unit.list(1))
    lists = [{"path": str(folder), "signers": [str(scene.signer)]}]
    daemon = scene.start(services=[], lists=lists)
    with daemon.agent() as agent:
        said = seal_one(agent)["status"]["seal"]
        assert (said["state"], said["source"]) == ("valid", "list unit-seals 1")
        assert agent.evidence(said["sha256"]) == (folder / "1.p7").read_bytes()
        scene.unit.history = changes(now() - HOURS, *VALID, SealState.LOST)
        put_list(folder, "2.p7", scene.unit.list(2))
        scene.forget()
        assert refused(agent) == ["seal_lost"]
        (folder / "2.p7").unlink()
    daemon.stop()
    with scene.world.start().agent() as agent:
        assert refused(agent) == ["status_unknown"]
        assert "status_list_rolled_back" in agent.seals()["seals"][0]["reasons"][0]["detail"]
    assert scene.server.asked == []


def test_a_trust_list_names_service_and_signer_and_the_class_is_shown(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "publisher").mkdir()
    publisher = identity(tmp_path / "publisher", "sm2", "publisher")
    unit = Publisher(publisher.der, publisher.sign)
    maker = scene.world.authority.maker.public_bytes(Encoding.DER)
    file = scene.world.directory / "internal.list"
    entries = [listed(maker, "maker", trust_class="internal"), listed(scene.unit.signer.der, "status")]
    file.write_bytes(unit.publish(1, entries, status_urls=(scene.server.url,)))
    scene.world.settings["trust"] = {"lists": [str(file)], "list_signers": [unit.sha256]}
    daemon = scene.start(services=[])
    with daemon.agent() as agent:
        [seal] = agent.seals()["seals"]
        assert (seal["status"], seal["usable"]) == ("valid", True)
        assert (seal["trust"]["class"], seal["trust"]["list"]) == ("internal", "beijing")
        assert "internal_trust" in [note["code"] for note in seal["notes"]]
        body = seal_one(agent)
        assert body["trust"]["class"] == "internal"
        assert body["status"]["seal"]["source"] == scene.server.url
    shell = Shell.of(daemon)
    for language in ("C.UTF-8", "zh_CN.UTF-8"):
        assert "内部" in shell("seal", "list", LANG=language).out
        assert "内部" in shell("seal", "show", NAME, LANG=language).out
    daemon.stop()
    with scene.start(services=[], use_trust_lists=False).agent() as agent:
        assert agent.seals()["seals"][0]["status"] == "not_checked"


# Certificates


def crl(scene: Scene, *revoked: bytes) -> Path:
    """Write a revocation list of the test CA."""
    authority = scene.world.authority
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.root.subject)
        .last_update(now() - timedelta(minutes=1))
        .next_update(now() + timedelta(days=1))
    )
    for der in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(x509.load_der_x509_certificate(der).serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(now() - timedelta(minutes=2)).build())
    file = scene.world.directory / "root.crl"
    file.write_bytes(builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.DER))
    return file


def test_a_signers_certificate_that_is_revoked_between_two_signatures(scene: Scene) -> None:
    file = crl(scene)
    scene.world.settings["revocation"] = {"crls": [str(file)]}
    with scene.start().agent() as agent:
        certificates = seal_one(agent)["status"]["certificates"]
        assert [(each["state"], each["source"]) for each in certificates] == [("good", f"crl {file}")] * 2
        assert agent.evidence(certificates[0]["sha256"]) == file.read_bytes()
        [seal] = agent.seals()["seals"]
        [signer] = [key["certificate"] for key in agent.keys()]
        crl(scene, *parse_seal(scene.unit.seal).certificates)
        scene.forget()
        assert refused(agent) == ["cert_revoked_before_signing"]
        body = agent.records(agent.checkpoint()["size"] - 1)["records"][0]["body"]
        states = {each["serial"]: each["state"] for each in body["status"]["certificates"]}
        assert states[signer["serial"]] == "revoked"
        [seal] = agent.seals()["seals"]
        assert (seal["usable"], [each["code"] for each in seal["reasons"]]) == (False, ["cert_revoked_before_signing"])


def test_a_revocation_list_out_of_reach_is_like_a_service_out_of_reach(scene: Scene) -> None:
    scene.world.settings["revocation"] = {"crls": [f"{scene.server.url}/root.crl"]}
    with scene.start().agent() as agent:
        assert refused(agent) == ["maker_cert_status_unknown", "signer_cert_status_unknown"]
    scene.world.close()
    with scene.start(unavailable="warn").agent() as agent:
        seal_one(agent)
        notes = [note["code"] for note in agent.seals()["seals"][0]["notes"]]
        assert "cert_status_not_checked" in notes


def test_offline_is_for_certificates_too_and_outlives_a_restart(scene: Scene) -> None:
    octets = crl(scene).read_bytes()
    unit = scene.server.answer
    scene.server.answer = lambda reply, asked: reply.octets(octets) if asked.path == "/root.crl" else unit(reply, asked)
    scene.world.settings["revocation"] = {"crls": [f"{scene.server.url}/root.crl"]}
    daemon = scene.start(unavailable="offline")
    with daemon.agent() as agent:
        assert [each["state"] for each in seal_one(agent)["status"]["certificates"]] == ["good"] * 2
    daemon.stop()
    scene.server.answer = gone
    with scene.world.start().agent() as agent:
        status = seal_one(agent)["status"]
        assert status["seal"]["stale"] is True
        assert [each["state"] for each in status["certificates"]] == ["good"] * 2
        assert agent.evidence(status["certificates"][0]["sha256"]) == octets


@pytest.mark.parametrize("use", [True, False])
def test_a_trust_list_says_where_certificates_are_asked_about(scene: Scene, tmp_path: Path, use: bool) -> None:
    file = crl(scene)
    answer = scene.server.answer

    def both(reply: Reply, asked: Asked) -> None:
        if asked.path == "/root.crl":
            reply.octets(file.read_bytes())
        else:
            answer(reply, asked)

    scene.server.answer = both
    (tmp_path / "publisher").mkdir()
    publisher = identity(tmp_path / "publisher", "sm2", "publisher")
    unit = Publisher(publisher.der, publisher.sign)
    root = scene.world.authority.root.public_bytes(Encoding.DER)
    entry = listed(root, "ca", "maker", trust_class="commercial", crls=(f"{scene.server.url}/root.crl",))
    trusted = scene.world.directory / "unit.list"
    trusted.write_bytes(unit.publish(1, [entry]))
    scene.world.settings["trust"] = {"paths": [], "lists": [str(trusted)], "list_signers": [unit.sha256]}
    scene.world.settings["revocation"] = {"use_trust_lists": use}
    with scene.start().agent() as agent:
        certificates = seal_one(agent)["status"]["certificates"]
        assert [each["state"] for each in certificates] == ["good"] * 2 * use
        notes = [note["code"] for note in agent.seals()["seals"][0]["notes"]]
        assert ("cert_status_not_checked" in notes) is not use
    assert [asked.path for asked in scene.server.asked].count("/root.crl") == use


def test_without_room_for_evidence_nothing_is_signed(scene: Scene) -> None:
    daemon = scene.start()
    (daemon.state / "evidence").write_bytes(b"a file where the folder should be")
    with daemon.agent() as agent:
        with pytest.raises(AgentError) as caught:
            seal_one(agent)
        assert caught.value.code == "evidence_failed"
        [entry] = agent.records()["records"]
        assert (entry["kind"], entry["body"]["reason"]) == ("refused", "evidence_failed")


def test_a_configuration_that_names_no_certificate(scene: Scene) -> None:
    scene.configure(services=[{"url": scene.server.url, "signers": ["/nowhere/status.pem"]}])
    daemon = scene.world.launch()
    assert daemon.process.wait(30) == 2
    assert "config_invalid" in daemon.said() or "/nowhere/status.pem" in daemon.said()
