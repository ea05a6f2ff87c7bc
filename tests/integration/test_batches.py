"""Batches with a real daemon: killed, unplugged, with a wrong PIN, with foreign documents, and on a terminal."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from agent_world import Daemon, World, in_background, until
from cli_parts import Shell, command
from demo.ofdmaker import make_document
from event_parts import Heard
from sealagent.client import Agent, AgentError, invisible
from sealagent.records.check import check_export

NAME = "测试单位公章"
PLACES = [invisible()]


def digest_of(number: int) -> bytes:
    return hashlib.sha256(b"digest %d" % number).digest()


def digests(count: int) -> list[tuple[str, bytes]]:
    return [(f"{number}.bin", digest_of(number)) for number in range(1, count + 1)]


@pytest.fixture
def certificate(world: World) -> bytes:
    """A signer and a seal on the world's token."""
    der = world.add_signer()
    world.token.add_data(world.authority.make_seal([der], name=NAME), label="seal")
    return der


def documents(folder: Path, count: int) -> list[Path]:
    """Write documents that differ."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{number:02}.ofd" for number in range(1, count + 1)]
    for number, file in enumerate(files, 1):
        file.write_bytes(make_document(f"通知 {number}", ["正文"], "单位", date(2026, 11, 28)).data)
    return files


def signed_entries(agent: Agent) -> list[dict[str, Any]]:
    """Return the intents of all signatures on record, after a check of the record itself."""
    assert check_export(b"".join(agent.export_record()).splitlines()).ok
    found: dict[int, dict[str, Any]] = {}
    intents: dict[int, dict[str, Any]] = {}
    after = 0
    while page := agent.records(after, 1000)["records"]:
        for entry in page:
            after = entry["number"]
            if entry["kind"] == "intent":
                intents[after] = entry["body"]
            if entry["kind"] == "signed":
                found[after] = intents[entry["body"]["intent"]]
    return list(found.values())


def code_of(work: Callable[[], Any]) -> str:
    with pytest.raises(AgentError) as caught:
        work()
    return caught.value.code


def kill(daemon: Daemon) -> None:
    daemon.stop(signal.SIGKILL)
    until(lambda: not daemon.workers())


def test_documents_go_on_after_the_daemon_was_killed(world: World, certificate: bytes, tmp_path: Path) -> None:
    files = documents(tmp_path / "in", 12)
    daemon = world.start()
    with daemon.agent() as agent:
        batch = agent.make_batch(files, seal=NAME, placements=PLACES, idempotency_key="these twelve")
        assert (batch["state"], batch["total"]) == ("approved", 12)
        first = [agent.seal_batch_document(batch["id"], number, files[number - 1]) for number in (1, 2, 3, 4)]

    def goes_on() -> None:
        with daemon.agent() as agent:
            for number in range(5, 13):
                agent.seal_batch_document(batch["id"], number, files[number - 1])

    thread, outcome = in_background(goes_on)
    until(lambda: (world.directory / "state" / "record.sqlite-wal").stat().st_size > 0)
    time.sleep(0.05)
    kill(daemon)  # in the middle of one of them, whichever it is
    thread.join()
    assert outcome == ["agent_unreachable"]
    shell = Shell.of(world.start())
    with world.daemons[-1].agent() as agent:
        again = agent.make_batch(files, seal=NAME, placements=PLACES, idempotency_key="these twelve")
        assert again["id"] == batch["id"]  # no second batch, and nobody is asked again

        def other() -> dict[str, Any]:
            return agent.make_batch(files[:3], seal=NAME, placements=PLACES, idempotency_key="these twelve")

        assert code_of(other) == "idempotency_conflict"
    done = shell("document", "seal", "--resume", batch["id"], *reversed(files))
    assert done.status == 0, done.err
    with world.daemons[-1].agent() as agent:
        shown = agent.batch(batch["id"])
        assert (shown["state"], shown["signed"]) == ("done", 12)
        sealed = [file.with_name(f"{file.stem}-sealed.ofd") for file in files]
        assert all(agent.verify_document(file)["verdict"] == "valid" for file in sealed)
        # The first four were signed once: the file that came after the crash holds the same signature.
        assert [file.read_bytes() for file in sealed[:4]] == [each.document for each in first]
        intents = signed_entries(agent)
        assert len(intents) == 12
        assert len({intent["document"]["sm3"] for intent in intents}) == 12
        assert {intent["authorization"]["name"] for intent in intents} == {"document"}


def test_digests_go_on_after_the_daemon_was_killed(world: World, certificate: bytes) -> None:
    daemon = world.start()
    heard = Heard(daemon)
    with daemon.agent() as agent:
        [key] = agent.keys()
        batch = agent.make_digest_batch(digests(400), key=key["id"])

    def run() -> None:
        with daemon.agent() as agent:
            agent.run_batch(batch["id"])

    thread, outcome = in_background(run)
    with closing(heard):
        while heard.until("batch", 20)["done"] < 40:
            pass
        kill(daemon)
        thread.join()
    assert outcome == ["agent_unreachable"]
    daemon = world.start()
    with daemon.agent() as agent:
        paused = agent.batch(batch["id"], limit=1000)
        assert (paused["state"], paused["reason"]) == ("paused", "interrupted")
        assert 40 <= paused["signed"] < 400
        before = {item["number"]: item["record"] for item in paused["items"] if item["state"] == "signed"}
        done = Shell.of(daemon)("batch", "resume", batch["id"])
        assert (done.status, done.out) == (0, f"{batch['id']}: done, 400/400\n"), done.err
        items = list(agent.batch_items(batch["id"], results=True))
        public = x509.load_der_x509_certificate(certificate).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        for item in items:
            raw = base64.b64decode(item["signature"])
            halves = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
            wrapped = utils.encode_dss_signature(*halves) if len(raw) == 64 else raw
            digest = digest_of(item["number"])
            public.verify(wrapped, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
            assert item["receipt"]["digest"] == digest.hex()
            assert item["receipt"]["record"] == item["record"]
        assert {number: items[number - 1]["record"] for number in before} == before
        intents = signed_entries(agent)
        assert len(intents) == len({intent["document"]["digest"] for intent in intents}) == 400
        assert {intent["batch"] for intent in intents} == {batch["id"]}


def test_the_token_is_unplugged_in_the_middle(world: World, certificate: bytes, tmp_path: Path) -> None:
    files = documents(tmp_path / "in", 4)
    daemon = world.start()
    shell = Shell.of(daemon)
    with daemon.agent() as agent:
        batch = agent.make_batch(files, seal=NAME, placements=PLACES)
        agent.seal_batch_document(batch["id"], 1, files[0])
        world.token.remove()
        until(lambda: not agent.tokens()["tokens"])
        code = code_of(lambda: agent.seal_batch_document(batch["id"], 2, files[1]))
        paused = agent.batch(batch["id"])
        assert (paused["state"], paused["reason"], paused["pending"]) == ("paused", code, 3)
        stopped = shell("document", "seal", "--resume", batch["id"], *files)
        assert stopped.status in (1, 4)
        assert f"To go on with the rest: sealagent document seal --resume {batch['id']} FILES" in stopped.err
        world.token.insert()
        until(lambda: agent.tokens()["tokens"])
        done = shell("document", "seal", "--resume", batch["id"], *files)
        assert done.status == 0, done.err
        assert agent.batch(batch["id"])["state"] == "done"
        assert len(signed_entries(agent)) == 4
        asked = [entry for entry in agent.records(0, 1000)["records"] if entry["body"].get("operation") == "batch"]
        assert len(asked) == 1


def test_a_wrong_pin_stops_it_with_one_try_spent(world: World, certificate: bytes, tmp_path: Path) -> None:
    files = documents(tmp_path / "in", 3)
    world.pin_file.write_text("0000\n")
    world.pin_file.chmod(0o600)
    daemon = world.start()
    shell = Shell.of(daemon)
    stopped = shell("document", "seal", *files, "--seal", NAME, "--invisible")
    assert stopped.status == 5, stopped.err
    assert "[1/3]" in stopped.err
    assert "[2/3]" not in stopped.err
    with daemon.agent() as agent:
        [batch] = agent.batches()
        assert (batch["state"], batch["reason"], batch["pending"]) == ("stopped", "pin_incorrect", 3)
        refused = [entry for entry in agent.records(0, 100)["records"] if entry["kind"] == "refused"]
        assert [entry["body"]["reason"] for entry in refused] == ["pin_incorrect"]
        assert code_of(lambda: agent.seal_batch_document(batch["id"], 2, files[1])) == "batch_stopped"
        world.pin_file.write_text(world.token.user_pin + "\n")
        done = shell("document", "seal", "--resume", batch["id"], *files)
        assert done.status == 0, done.err
        assert agent.batch(batch["id"])["state"] == "done"
        assert len(signed_entries(agent)) == 3


def test_only_what_was_agreed_to_is_signed(world: World, certificate: bytes, tmp_path: Path) -> None:
    files = documents(tmp_path / "in", 3)
    daemon = world.start()
    shell = Shell.of(daemon)
    with daemon.agent() as agent:
        batch = agent.make_batch(files, seal=NAME, placements=PLACES)
        octets = files[1].read_bytes()
        files[1].write_bytes(files[0].read_bytes())
        assert code_of(lambda: agent.seal_batch_document(batch["id"], 2, files[1])) == "batch_item_mismatch"
        assert code_of(lambda: agent.seal_batch_document(batch["id"], 9, files[1])) == "batch_item_not_found"
        assert code_of(lambda: agent.seal_batch_document("0" * 16, 1, files[0])) == "batch_not_found"
        assert code_of(lambda: agent.run_batch(batch["id"])) == "request_invalid"
        assert signed_entries(agent) == []
        changed = shell("document", "seal", "--resume", batch["id"], *files)
        assert (changed.status, changed.out) == (2, "")
        assert "02.ofd is not in the batch" in changed.err
        files[1].write_bytes(octets)
        first = agent.seal_batch_document(batch["id"], 2, files[1])
        inside = {"content": base64.b64encode(octets).decode()}  # as web pages send it
        again = agent._batch_post(f"/v1/batches/{batch['id']}/items/2/document", inside)
        assert base64.b64decode(again["document"]) == first.document
        assert again["receipt"]["record"] == first.receipt["record"]
        assert code_of(lambda: agent._batch_post(f"/v1/batches/{batch['id']}/items/x/document", inside)) == (
            "batch_item_not_found"
        )
        agent.cancel_batch(batch["id"])
        assert code_of(lambda: agent.seal_batch_document(batch["id"], 1, files[0])) == "batch_ended"
        # What was signed before is still given out, as it was.
        agent.seal_batch_document(batch["id"], 2, files[1])
        assert len(signed_entries(agent)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"items": []},
        {"seal": None},
        {"key": "k"},
        {"placements": None},
        {"hours": 25},
        {"hours": 0},
        {"more": 1},
        {"items": [{"name": "a", "digest": "AAAA"}]},
        {"items": [{"name": "a", "sha256": "00"}]},
        {"items": [{"name": "", "sha256": "00" * 32}]},
        {"items": [{"name": "a", "sha256": "00" * 32}] * 10_001},
    ],
)
def test_lists_that_are_none(open_world: Daemon, change: dict[str, Any]) -> None:
    body = {"seal": NAME, "placements": PLACES, "items": [{"name": "a", "sha256": "00" * 32}], **change}
    with open_world.agent() as agent:
        assert code_of(lambda: agent._batch_post("/v1/batches", body)) == "request_invalid"
        assert agent.batches() == []


@pytest.fixture(scope="module")
def open_world(softhsm: Any, authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A daemon for requests that change nothing."""
    token = softhsm.new_token()
    world = World(tmp_path_factory.mktemp("b"), token, authority)
    yield world.start()
    world.close()
    token.destroy()


def test_the_holder_of_a_headless_agent_is_not_asked_and_so_does_not_agree(
    world: World, certificate: bytes, tmp_path: Path
) -> None:
    world.policy = ""
    files = documents(tmp_path / "in", 2)
    daemon = world.start()
    done = Shell.of(daemon)("document", "seal", *files, "--seal", NAME, "--invisible")
    assert done.status != 0
    assert "consent_unavailable" in done.err
    with daemon.agent() as agent:
        assert [batch["state"] for batch in agent.batches()] == ["refused"]
        assert [file.name for file in (tmp_path / "in").iterdir() if "sealed" in file.name] == []


def test_policy_says_how_many_and_whether(world: World, certificate: bytes, tmp_path: Path) -> None:
    world.policy += "batch_items = 2\n[[rules]]\nname = 'no bare digests'\neffect = 'deny'\noperations = ['raw']\n"
    files = documents(tmp_path / "in", 3)
    with world.start().agent() as agent:
        assert code_of(lambda: agent.make_batch(files, seal=NAME, placements=PLACES)) == "batch_too_large"
        [key] = agent.keys()
        assert code_of(lambda: agent.make_digest_batch(digests(2), key=key["id"])) == "use_denied"


MANY = 150
"""Documents that take long enough to be interrupted."""


def test_on_a_terminal_there_is_a_bar_and_ctrl_c_says_how_to_go_on(
    world: World, certificate: bytes, tmp_path: Path
) -> None:
    files = documents(tmp_path / "in", MANY)
    shell = Shell.of(world.start())
    ours, theirs = pty.openpty()
    words = command("document", "seal", *files, "--seal", NAME, "--invisible")
    words = ["env", "--default-signal=INT", *words]  # ignored where the tests themselves run in the background
    environment = shell.environment()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=theirs, env=environment, start_new_session=True)
    os.close(theirs)
    said = b""
    with suppress(OSError):  # the terminal is closed at the end
        while chunk := os.read(ours, 65536):
            said += chunk
            if b"] 3/%d " % MANY in said and process.returncode is None:
                process.send_signal(signal.SIGINT)
                break
        while chunk := os.read(ours, 65536):
            said += chunk
    os.close(ours)
    assert process.wait(30) == 1
    text = said.decode()
    assert "\r\x1b[K[" in text
    assert f"{MANY} documents for the seal" in text
    assert f"… {MANY - 20} more" in text
    (batch,) = json.loads(shell("batch", "list", "--json").out)
    assert f"sealagent document seal --resume {batch['id']} FILES" in text
    assert 3 <= batch["signed"] < MANY
    done = shell("document", "seal", "--resume", batch["id"], *files)
    assert done.status == 0, done.err
    assert done.out.count("sealed before") >= 3
    assert shell("batch", "list").out.splitlines()[1].split()[2:6] == ["done", str(MANY), "0", str(MANY)]
    shown = shell("batch", "show", batch["id"]).out
    assert f"{batch['id']}: done; {MANY} of {MANY} signed, 0 failed" in shown
    assert shell("batch", "cancel", batch["id"]).status == 1
    assert shell("batch", "show", batch["id"], LANG="zh_CN.UTF-8").out.startswith(f"{batch['id']}: 完成")


def test_a_batch_of_digests_is_cancelled_while_it_runs(world: World, certificate: bytes) -> None:
    daemon = world.start()
    shell = Shell.of(daemon)
    heard = Heard(daemon)
    with closing(heard), daemon.agent() as agent, daemon.agent() as other:
        [key] = agent.keys()
        batch = agent.make_digest_batch(digests(2000), key=key["id"])
        thread, outcome = in_background(lambda: other.run_batch(batch["id"])["state"])
        while heard.until("batch", 20)["done"] < 20:
            pass
        assert shell("batch", "cancel", batch["id"]).out == f"{batch['id']}: cancelled\n"
        thread.join()
        assert outcome == ["cancelled"]
        ended = agent.batch(batch["id"])
        assert ended["signed"] + ended["skipped"] == 2000
        assert len(signed_entries(agent)) == ended["signed"]
        assert len(agent.batch_signatures(batch["id"])) == ended["signed"]
        resumed = shell("batch", "resume", batch["id"])
        assert "batch_ended" in resumed.err
