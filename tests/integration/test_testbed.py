"""The test bed: what it promises is so, and it comes and goes without a trace."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent_world import until
from sealagent.client import Agent, AgentError, at
from testbed import TestBed

PROJECT = Path(__file__).resolve().parents[2]


def regional(testbed: TestBed) -> dict[str, dict[str, Any]]:
    """One usable seal of each unit."""
    return {region: testbed.seal(region, "valid") for region in ("110000", "310000", "440300")}


# --- what it promises ---


def test_every_seal_is_as_promised(testbed: TestBed) -> None:
    done = testbed.command("seal", "list", "--json")
    assert done.returncode == 0, done.stderr
    listed = {seal["es_id"]: seal for seal in json.loads(done.stdout)["seals"]}
    assert len(listed) == len(testbed.world["seals"])
    found = {
        seal["name"] + seal["es_id"]: [reason["code"] for reason in listed[seal["es_id"]]["reasons"]]
        for seal in testbed.world["seals"]
    }
    assert found == {seal["name"] + seal["es_id"]: seal["reasons"] for seal in testbed.world["seals"]}
    for seal in testbed.world["seals"]:
        assert listed[seal["es_id"]]["usable"] is not bool(seal["reasons"]), seal["name"]
        assert listed[seal["es_id"]]["source"] == ("token" if seal["on_token"] else "store")
    states = {seal["state"] for seal in testbed.world["seals"]}
    assert states == {"made", "filed", "valid", "suspended", "cancelled", "superseded", "lost", "invalid"}


def test_valid_seals_seal_and_verify(testbed: TestBed) -> None:
    for seal in testbed.world["seals"]:
        if seal["reasons"]:
            continue
        with testbed.agent() as agent:
            sealed = agent.seal_document(testbed.document(), seal=seal["es_id"], placements=[at(1, 20, 20)])
            report = agent.verify_document(sealed.document)
        (signature,) = report["signatures"]
        assert report["verdict"] == "valid", (seal["name"], signature["reasons"])
        assert signature["status"] == "valid"
        assert signature["seal"]["id"] == seal["es_id"]
        stamped = [note["detail"] for note in signature["notes"] if note["code"] == "time_stamped"]
        assert f"{datetime.now(UTC):%Y-%m-%dT}" in stamped[-1]
        assert sealed.receipt["timestamp"] is not None
        trust = signature["trust"]
        assert (trust["list"], trust["region"]) == (f"testbed-{seal['region']}", seal["region"])
        assert (trust["class"] == "internal") is (seal["region"] == "440300")


def test_seals_that_are_not_valid_do_not_seal(testbed: TestBed) -> None:
    refused = {}
    for seal in testbed.world["seals"]:
        if seal["reasons"]:
            with testbed.agent() as agent, pytest.raises(AgentError) as caught:
                agent.seal_document(testbed.document(), seal=seal["es_id"], placements=[at(1, 20, 20)])
            refused[seal["es_id"]] = [reason["code"] for reason in caught.value.problem["reasons"]]
    assert refused == {seal["es_id"]: seal["reasons"] for seal in testbed.world["seals"] if seal["reasons"]}


def test_another_region_counts_only_with_its_list(testbed: TestBed) -> None:
    here, there = testbed.seal("110000", "valid"), testbed.seal("310000", "valid")
    published = Path(testbed.world["files"]["trust list 310000"])
    with testbed.agent() as agent:
        documents = [
            agent.seal_document(testbed.document(), seal=seal["es_id"], placements=[at(1, 20, 20)]).document
            for seal in (here, there)
        ]
        agent.remove_trust_list("testbed-310000")
        try:
            verdicts = [agent.verify_document(each) for each in documents]
            assert [each["verdict"] for each in verdicts] == ["valid", "indeterminate"]
            codes = {reason["code"] for reason in verdicts[1]["signatures"][0]["reasons"]}
            assert "maker_not_trusted" in codes
        finally:
            signer = testbed.folder / "makers" / "310000" / "maker.pem"
            agent.add_trust_list(published.read_bytes(), _sha256(signer))
        assert [agent.verify_document(each)["verdict"] for each in documents] == ["valid", "valid"]


def _sha256(pem: Path) -> str:
    done = subprocess.run(
        ["openssl", "x509", "-in", pem, "-noout", "-fingerprint", "-sha256"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().partition("=")[2].replace(":", "").lower()


def test_a_maker_changes_a_state_and_the_agent_hears_of_it(testbed: TestBed) -> None:
    seal = testbed.seal("310000", "suspended", reason="seal_suspended")

    def usable() -> bool:
        with testbed.agent() as agent:
            return bool(agent.seal(seal["es_id"])["usable"])

    assert not usable()
    testbed.maker("310000", "resume", seal["es_id"], "--reason", "matter_settled")
    try:
        until(usable, 30)
    finally:
        testbed.maker("310000", "suspend", seal["es_id"], "--reason", "owner_request")
    until(lambda: not usable(), 30)


def test_an_authority_that_answers_nothing_of_use(testbed: TestBed) -> None:
    """Told by an agent that has no older answer: those count until their issuer's next update."""
    seal = testbed.seal("310000", "valid", key="shanghai-ec")
    with testbed.agent() as agent:
        sealed = agent.seal_document(testbed.document(), seal=seal["es_id"], placements=[at(1, 20, 20)]).document
    with another_agent(testbed) as agent:
        with testbed.fault("/ocsp/ec/signers", "hang"), testbed.fault("/crl/ec/signers.crl", "stale"):
            begun = time.monotonic()
            report = agent.verify_document(sealed)
            assert time.monotonic() - begun < 60
        assert report["verdict"] == "indeterminate"
        codes = [reason["code"] for reason in report["signatures"][0]["reasons"]]
        assert codes == ["signer_cert_status_unknown"]
        # A host that kept it waiting is left alone for a while.
        until(lambda: agent.verify_document(sealed)["verdict"] == "valid", 120)


@contextmanager
def another_agent(testbed: TestBed) -> Iterator[Agent]:
    """An agent with the same configuration that has seen nothing but the trust lists."""
    with tempfile.TemporaryDirectory(prefix="agent") as folder:
        place = Path(folder) / "run" / "agent.sock"
        environment = {
            **os.environ,
            **testbed.world["environment"],
            "SEALAGENT_SOCKET": str(place),
            "SEALAGENT_STATE_DIR": str(Path(folder) / "state"),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "sealagent", "daemon", "run"], env=environment, stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 60
            while not place.exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            with Agent(place) as agent:
                for unit in ("110000", "310000"):
                    maker = testbed.folder / "makers" / unit
                    agent.add_trust_list((maker / "trust-list.p7m").read_bytes(), _sha256(maker / "maker.pem"))
                yield agent
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_the_examples_work_when_pasted(testbed: TestBed) -> None:
    world = testbed.world
    script = "\n".join(["set -e", f". {shlex.quote(world['shell'])}", *world["examples"]])
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "notice-sealed.ofd: valid" in done.stdout
    assert "testbed-310000" in done.stdout
    assert (testbed.document().with_name("notice-sealed.ofd")).is_file()


def test_the_readme_names_commands_that_there_are(testbed: TestBed) -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8").partition("### A world to test in")[2]
    named = re.findall(r"^    sealagent testbed (\w+)", readme, flags=re.M)
    assert named == ["up", "status", "down"]
    for name in named:
        assert testbed.command("testbed", name, "--help").returncode == 0


def test_pins_are_in_no_log(testbed: TestBed) -> None:
    said = "".join(log.read_text(errors="replace") for log in (testbed.folder / "run").glob("*.log"))
    assert "ready:" in said
    assert not [token["label"] for token in testbed.world["tokens"] if token["pin"] in said]


# --- up, again ---


def test_up_twice_changes_nothing(testbed: TestBed) -> None:
    before = testbed.status()
    assert before["phase"] == "up"
    done = testbed.command("testbed", "up", "--dir", testbed.folder)
    assert done.returncode == 0, done.stderr
    assert "the test bed is up already" in done.stderr
    for seal in testbed.world["seals"]:
        assert seal["name"] in done.stdout
    assert testbed.status() == before


def test_what_died_is_started_again(testbed: TestBed) -> None:
    """As after a restart of the machine: the same ports, the same seals."""
    pids = {process["name"]: process["pid"] for process in testbed.status()["processes"]}
    for name in ("services", "agent"):
        os.kill(pids[name], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while testbed.status()["phase"] != "partly":
        assert time.monotonic() < deadline
    done = testbed.command("testbed", "status", "--dir", testbed.folder)
    assert done.returncode == 1
    assert "not everything runs" in done.stderr
    testbed.up()
    after = {process["name"]: process["pid"] for process in testbed.status()["processes"]}
    assert {name for name in pids if pids[name] != after[name]} == {"services", "agent"}
    with testbed.agent() as agent:
        assert agent.seal(testbed.seal("110000", "valid")["es_id"])["usable"]


def test_in_chinese(testbed: TestBed) -> None:
    done = testbed.command("testbed", "status", "--dir", testbed.folder, LANG="zh_CN.UTF-8")
    assert done.returncode == 0
    assert "印章及其应有状态" in done.stdout
    assert "可用" in done.stdout


# --- when it does not succeed ---


@pytest.fixture
def bed() -> Iterator[TestBed]:
    """A folder for another one, which is not made yet; it is gone after the test whatever happens."""
    with tempfile.TemporaryDirectory(prefix="bed") as folder:
        made = TestBed(Path(folder) / "bed")
        yield made
        if (made.folder / "testbed.json").is_file():
            made.down()


def run(bed: TestBed, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return bed.command("testbed", *arguments, "--dir", bed.folder, **environment)


def processes_of(folder: Path) -> list[str]:
    """Every process that has the folder in its command line or its environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if os.fsencode(folder) in told and state != "Z":
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def begin(bed: TestBed, started: str = "services") -> subprocess.Popen[bytes]:
    """Begin to make a test bed; return once it has started a process whose name begins so."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sealagent", "testbed", "up", "--dir", str(bed.folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "LANG": "C.UTF-8"},
        # A shell that runs us in the background has us ignore SIGINT, and what we start after us.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list((bed.folder / "run").glob(f"{started}*.pid")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def gone(bed: TestBed) -> bool:
    deadline = time.monotonic() + 40
    while left := processes_of(bed.folder):
        if time.monotonic() > deadline:
            raise AssertionError(left)
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(("number", "started"), [(signal.SIGKILL, "workshop"), (signal.SIGTERM, "services")])
def test_half_way_nothing_is_left_running_and_down_removes_it(
    bed: TestBed, number: signal.Signals, started: str
) -> None:
    with begin(bed, started) as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
        assert process.returncode != 0
    if number is signal.SIGTERM:
        assert b"testbed_step_failed" in said
        assert b"SIGTERM" in said
    assert gone(bed)
    status = run(bed, "status", "--json")
    assert status.returncode == 1
    assert json.loads(status.stdout)["phase"] == "unfinished"
    again = run(bed, "up")
    assert again.returncode == 1
    assert "testbed_unfinished" in again.stderr
    assert "sealagent testbed down" in again.stderr
    assert run(bed, "down").returncode == 0
    assert not bed.folder.exists()


def test_two_at_once(bed: TestBed) -> None:
    with begin(bed) as process:
        for command in ("up", "down"):
            second = run(bed, command)
            assert second.returncode == 1
            assert "testbed_busy" in second.stderr
        process.terminate()
        process.communicate(timeout=120)
    assert gone(bed)


def test_a_port_that_its_certificates_name_is_taken(testbed: TestBed) -> None:
    services = next(process for process in testbed.status()["processes"] if process["name"] == "services")
    port = int(testbed.world["addresses"]["services"].rpartition(":")[2])
    os.kill(services["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while True:
        try:
            taken = socket.create_server(("127.0.0.1", port))
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    with taken:
        done = testbed.command("testbed", "up", "--dir", testbed.folder)
        assert done.returncode == 1
        assert "testbed_port_busy" in done.stderr
        assert str(port) in done.stderr
    testbed.up()
    assert testbed.status()["phase"] == "up"


def test_a_folder_that_is_something_else_is_left_alone(bed: TestBed) -> None:
    bed.folder.mkdir()
    (bed.folder / "thesis.txt").write_text("years of work")
    for command in ("up", "down", "status"):
        done = run(bed, command)
        assert done.returncode == 1
        assert "testbed_foreign_folder" in done.stderr
    (bed.folder / "testbed.json").write_text('{"format": 0}')
    assert "testbed_foreign_folder" in run(bed, "down").stderr
    assert (bed.folder / "thesis.txt").read_text() == "years of work"
    (bed.folder / "testbed.json").unlink()


def test_missing_packages_are_named(bed: TestBed, tmp_path: Path) -> None:
    done = run(bed, "up", PATH=str(tmp_path), SOFTHSM2_MODULE=str(tmp_path / "none.so"))
    assert done.returncode == 1
    assert "testbed_packages_missing" in done.stderr
    assert "needs these Debian packages: openssl softhsm2 gcc make" in done.stderr
    assert not bed.folder.exists()


def test_without_a_source_checkout(bed: TestBed, tmp_path: Path) -> None:
    for command in ("up", "down", "status"):
        done = run(bed, command, SEALAGENT_SOURCE=str(tmp_path))
        assert done.returncode == 1
        assert "testbed_needs_source" in done.stderr
        assert "SEALAGENT_SOURCE" in done.stderr
    found = run(bed, "status", SEALAGENT_SOURCE=str(PROJECT))
    assert found.returncode == 1
    assert "there is no test bed" in found.stderr


def test_nothing_of_the_tests_is_loaded_otherwise() -> None:
    code = "import sys, sealagent.cli.testbed; print([name for name in sys.modules if name.split('.')[0] == 'testbed'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the last one: it takes the session's test bed down ---


def test_down_leaves_no_process_and_no_folder(testbed: TestBed) -> None:
    """Its path is too long for sockets, which are elsewhere."""
    sockets = Path(testbed.world["socket"]).parents[1]
    assert not sockets.is_relative_to(testbed.folder)
    begun = time.monotonic()
    done = run(testbed, "down")
    assert done.returncode == 0, done.stderr
    assert "stopped 5 processes" in done.stderr
    assert time.monotonic() - begun < 30
    assert not testbed.folder.exists()
    assert not sockets.exists()
    assert processes_of(testbed.folder) == []
    assert processes_of(sockets) == []
    again = run(testbed, "down")
    assert again.returncode == 0
    assert "stopped 0 processes" in again.stderr
    assert not testbed.folder.exists()
