"""What goes wrong: each fault has its own clear error, nothing is released without its record, the daemon lives on."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from agent_world import Daemon, World, in_background, until
from sealagent.client import Agent, AgentError, AgentUnreachable, Signed, invisible
from sealagent.records.check import check_export


def _with_seal(world: World) -> None:
    world.token.add_data(world.authority.make_seal([world.add_signer("rsa-2048")]), label="seal")


def _seal(daemon: Daemon, vectors: Path) -> AgentError | None:
    """Try to seal a document; return the error, if any."""
    with daemon.agent() as agent:
        try:
            agent.seal_document(vectors / "helloworld.ofd", seal="测试单位公章", placements=[invisible()])
        except AgentError as error:
            return error
    return None


def _kinds(daemon: Daemon) -> list[tuple[str, str | None]]:
    """Return kind and reason of each entry, from an export that is checked on the way."""
    with daemon.agent() as agent:
        lines = b"".join(agent.export_record()).splitlines()
    assert check_export(lines).ok
    entries = [json.loads(line) for line in lines[1:]]
    return [(entry["kind"], entry["body"].get("reason")) for entry in entries]


def _size(daemon: Daemon) -> int:
    with daemon.agent() as agent:
        size = agent.checkpoint()["size"]
        assert isinstance(size, int)
        return size


def test_a_wrong_pin_is_spent_once_and_never_offered_again(world: World, vectors: Path) -> None:
    _with_seal(world)
    world.pin_file.touch(0o600)
    world.pin_file.write_text("wrong-pin\n")
    daemon = world.start()
    first = _seal(daemon, vectors)
    assert first is not None
    assert first.code == "pin_incorrect"
    assert first.problem["count_low"] is True
    second = _seal(daemon, vectors)
    assert second is not None
    assert second.code == "pin_source_refused"
    assert _kinds(daemon) == [("refused", "pin_incorrect"), ("refused", "pin_source_refused")]
    world.pin_file.write_text(world.token.user_pin + "\n")
    assert _seal(daemon, vectors) is None


def test_a_locked_pin_is_not_tried(world: World, vectors: Path) -> None:
    _with_seal(world)
    world.token.lock()
    daemon = world.start()
    with daemon.agent() as agent:
        assert agent.tokens()["tokens"][0]["pin"]["locked"]
    error = _seal(daemon, vectors)
    assert error is not None
    assert error.code == "pin_locked"
    assert error.problem["locked"] is True
    assert _kinds(daemon) == [("refused", "pin_locked")]


def test_a_pulled_token_and_its_return(world: World, vectors: Path) -> None:
    _with_seal(world)
    daemon = world.start()
    assert _seal(daemon, vectors) is None
    world.token.remove()
    error = _seal(daemon, vectors)
    assert error is not None
    assert error.code in ("token_removed", "token_not_found", "seal_not_found", "seal_key_absent")
    assert error.problem["next_step"]
    world.token.insert()

    def back() -> bool:
        with daemon.agent() as agent:
            return len(agent.tokens()["tokens"]) == 1

    until(back)
    assert _seal(daemon, vectors) is None


def test_insertion_and_removal_reach_the_events_stream(world: World) -> None:
    _with_seal(world)
    daemon = world.start()
    seen: list[str] = []

    def listen() -> None:
        with daemon.agent() as agent:
            for name, _ in agent.events():
                seen.append(name)
                if name == "token_inserted":
                    return

    thread, _ = in_background(listen)
    time.sleep(1.0)
    world.token.remove()
    until(lambda: "token_removed" in seen)
    world.token.insert()
    thread.join(10)
    assert seen[-1] == "token_inserted"


def test_a_worker_killed_while_it_signs_leaves_no_intent_without_outcome(world: World) -> None:
    """Where the kill hits is left to chance; within C_Sign for certain: test_skf_sealing."""
    world.add_signer("rsa-2048")
    daemon = world.start()
    with daemon.agent() as agent:
        key = agent.keys()[0]["id"]

    def sign_many() -> AgentError | None:
        with daemon.agent() as agent:
            try:
                agent.sign_digests([bytes(32)] * 200, key=key)
            except AgentError as error:
                return error
        return None

    for _ in range(3):
        thread, results = in_background(sign_many)
        before = _size(daemon)
        until(lambda: _size(daemon) > before + 20)  # noqa: B023 (called at once)
        for pid in daemon.workers():
            os.kill(pid, signal.SIGKILL)
        thread.join(60)
        assert results[0] is None or results[0].code == "worker_died"
    kinds = _kinds(daemon)
    assert sum(kind == "intent" for kind, _ in kinds) == sum(kind in ("signed", "failed") for kind, _ in kinds)
    # A new worker is not logged in: the intent that meets it fails, and another follows once the PIN was entered.
    assert {reason for kind, reason in kinds if kind == "failed"} <= {"worker_died", "login_required"}
    with daemon.agent() as agent:
        assert len(agent.sign_digests([bytes(32)], key=key)) == 1
        assert agent.status()["modules"][0]["restarts"] >= 1


def test_a_connection_lost_amid_signing_is_made_good_by_a_retry_that_signs_nothing_more(world: World) -> None:
    world.presence_seconds = 60
    world.add_signer("rsa-2048")
    daemon = world.start()
    with daemon.agent() as agent:
        key = agent.keys()[0]["id"]
        agent.sign_digests([bytes(32)], key=key)

    def ask(agent: Agent) -> list[Signed]:
        return agent.sign_digests([bytes(range(32))], key=key, idempotency_key="once")

    def lose() -> None:
        with pytest.raises(AgentUnreachable):
            ask(lost)

    (pid,) = daemon.workers()
    os.kill(pid, signal.SIGSTOP)
    lost = daemon.agent()
    thread, results = in_background(lose)
    until(lambda: _kinds(daemon)[-1][0] == "intent")
    assert lost._transport._connection is not None
    lost._transport._connection.sock.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert results == [None]
    lost.close()
    time.sleep(0.2)  # the daemon has seen the end of the connection
    os.kill(pid, signal.SIGCONT)
    with daemon.agent() as agent:
        (signed,) = ask(agent)
        kinds = _kinds(daemon)
        assert [kind for kind, _ in kinds] == ["intent", "signed", "intent", "signed"]
        assert signed.receipt["record"] == len(kinds)


def test_a_hanging_module_is_killed_and_named(world: World, vectors: Path) -> None:
    _with_seal(world)
    world.settings["timeouts"] = {"sign": 1.0}
    daemon = world.start()
    assert _seal(daemon, vectors) is None
    (pid,) = daemon.workers()
    os.kill(pid, signal.SIGSTOP)
    error = _seal(daemon, vectors)
    assert error is not None
    assert error.code == "worker_timeout"
    assert _kinds(daemon)[-1] == ("failed", "worker_timeout")
    assert _seal(daemon, vectors) is None
    assert pid not in daemon.workers()


def test_a_crash_between_intent_and_outcome_shows_after_restart(world: World, vectors: Path) -> None:
    _with_seal(world)
    daemon = world.start()
    assert _seal(daemon, vectors) is None
    (pid,) = daemon.workers()
    os.kill(pid, signal.SIGSTOP)
    thread, results = in_background(lambda: _seal(daemon, vectors))
    until(lambda: _kinds(daemon)[-1][0] == "intent")
    daemon.stop(signal.SIGKILL)
    thread.join(30)
    assert isinstance(results[0], AgentUnreachable)
    again = world.start()
    with again.agent() as agent:
        assert agent.status()["interrupted"] == 1
    assert _kinds(again)[-1] == ("failed", "interrupted")
    assert _seal(again, vectors) is None


def test_a_module_that_is_none(world: World) -> None:
    fake = world.directory / "libfake.so"
    fake.write_text("this is no library\n")
    world.modules = [fake]
    with world.start().agent() as agent:
        assert agent.tokens()["tokens"] == []
        (module,) = agent.status()["modules"]
        assert module["path"] == str(fake)
        assert module["fault"]
        assert agent.tokens()["tokens"] == []


def test_a_second_daemon_is_refused(world: World) -> None:
    world.start()
    second = world.launch()
    assert second.process.wait(30) == 1
    assert "record_in_use" in second.said() or "daemon_running" in second.said()
    assert "Traceback" not in second.said()


def test_a_stale_socket_file_is_replaced(world: World) -> None:
    daemon = world.start()
    daemon.stop(signal.SIGKILL)
    assert daemon.socket.is_socket()
    with pytest.raises(AgentUnreachable), daemon.agent() as agent:
        agent.status()
    with world.start().agent() as agent:
        assert agent.status()["version"]


def test_a_full_record_stops_signing_and_says_so(world: World, vectors: Path) -> None:
    _with_seal(world)
    world.settings["record"] = {"max_bytes": 1 << 16}
    daemon = world.start()
    error = None
    for _ in range(200):
        if error := _seal(daemon, vectors):
            break
    assert error is not None
    assert error.code == "record_failed"
    kinds = _kinds(daemon)
    assert kinds.count(("signed", None)) == sum(kind == "intent" for kind, _ in kinds) or kinds[-1][0] == "intent"
    with daemon.agent() as agent:
        assert agent.status()["record"]["size"] == len(kinds)


@pytest.mark.parametrize(
    "octets",
    [
        b"\x00" * 4096,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/documents/seal HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_octets_that_are_no_request(world: World, octets: bytes) -> None:
    daemon = world.start()
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(str(daemon.socket))
        raw.sendall(octets)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65536):
            pass
    with daemon.agent() as agent:
        assert agent.status()["record"]["size"] == 0


def test_more_connections_than_allowed_are_turned_away(world: World) -> None:
    world.settings["limits"] = {"connections": 4}
    daemon = world.start()
    held = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for one in held:
        one.connect(str(daemon.socket))
        one.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one.recv(65536).startswith(b"HTTP/1.1 200")
    with socket.socket(socket.AF_UNIX) as further:
        further.settimeout(10)
        further.connect(str(daemon.socket))
        assert further.recv(65536).startswith(b"HTTP/1.1 503")
    for one in held:
        one.close()

    def answers() -> bool:
        with daemon.agent() as agent:
            try:
                return bool(agent.status()["version"])
            except AgentError:
                return False

    until(answers)
