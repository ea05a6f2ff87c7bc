"""Start, readiness, the end in every situation, and what is left behind; socket activation by a parent."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_world import Daemon, World, in_background, until
from host_parts import is_gone
from ofd_samples import document_files, pack
from sealagent.client import Agent, AgentError, AgentUnreachable, at, invisible

SEAL = "测试单位公章"
END_SECONDS = 15.0


def _with_seal(world: World, kind: str = "ec-p256") -> None:
    world.token.add_data(world.authority.make_seal([world.add_signer(kind)]), label="seal")


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def _seal(daemon: Daemon) -> str:
    with daemon.agent() as agent:
        agent.seal_document(pack(document_files()), seal=SEAL, placements=[invisible()])
    return "sealed"


def _size(daemon: Daemon) -> int:
    with daemon.agent() as agent:
        return int(agent.checkpoint()["size"])


def _listened(daemon: Daemon) -> int:
    """Listen to events until the daemon ends; return how many there were."""
    with daemon.agent() as agent:
        return len(list(agent.events()))


def _kinds(world: World) -> list[tuple[str, str | None]]:
    with world.start().agent() as agent:
        assert agent.status()["interrupted"] == 0
        return [(entry["kind"], entry["body"].get("reason")) for entry in agent.records(limit=1000)["records"]]


def _ended_well(daemon: Daemon, children: list[int], number: signal.Signals = signal.SIGTERM) -> float:
    """End the daemon; return how long it took, after a look at what is left."""
    begun = time.monotonic()
    assert daemon.stop(number) == 0, daemon.said()
    seconds = time.monotonic() - begun
    assert seconds < END_SECONDS
    until(lambda: all(is_gone(pid) for pid in children))
    assert not daemon.socket.exists()
    assert list((daemon.state / "spool").iterdir()) == []
    assert "Traceback" not in daemon.said(), daemon.said()
    return seconds


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_idle_daemon_ends_at_once_with_listeners_and_kept_connections(world: World, number: signal.Signals) -> None:
    _with_seal(world)
    daemon = world.start()
    assert _seal(daemon) == "sealed"
    with daemon.agent() as kept:
        kept.status()
        listener, _ = in_background(lambda: _listened(daemon))
        time.sleep(0.3)
        children = _children(daemon.process.pid)
        assert len(children) == 1
        assert _ended_well(daemon, children, number) < 3
        listener.join(5)
        assert not listener.is_alive()


def test_a_signature_under_way_is_finished_and_delivered(world: World) -> None:
    world.add_signer("rsa-4096")
    daemon = world.start()
    with daemon.agent() as agent:
        key = agent.keys()[0]["id"]
        agent.sign_digests([bytes(32)], key=key)

    def sign() -> int:
        with daemon.agent() as agent:
            return len(agent.sign_digests([bytes(32)] * 50, key=key))

    thread, outcome = in_background(sign)
    until(lambda: _size(daemon) > 4)
    _ended_well(daemon, _children(daemon.process.pid))
    thread.join(5)
    assert outcome == [50]
    assert _kinds(world) == [("intent", None), ("signed", None)] * 51


def test_an_open_prompt_ends_with_the_daemon(world: World) -> None:
    _with_seal(world)
    asking = world.directory / "pinentry"
    asking.write_text(
        "#!/bin/sh\necho OK\nwhile read line; do case $line in GETPIN) sleep 60;; *) echo OK;; esac; done\n"
    )
    asking.chmod(0o700)
    world.settings["pin"] = {"source": "pinentry", "pinentry": str(asking), "file": "/unused"}
    daemon = world.start()
    thread, outcome = in_background(lambda: _seal(daemon))
    until(lambda: len(_children(daemon.process.pid)) == 2)
    assert _ended_well(daemon, _children(daemon.process.pid)) < 5
    thread.join(5)
    assert outcome == ["agent_stopping"]
    assert _kinds(world) == [("refused", "agent_stopping")]


def test_a_hanging_worker_does_not_hold_up_the_end(world: World) -> None:
    _with_seal(world)
    daemon = world.start()
    assert _seal(daemon) == "sealed"
    (worker,) = _children(daemon.process.pid)
    os.kill(worker, signal.SIGSTOP)
    thread, outcome = in_background(lambda: _seal(daemon))
    until(lambda: _size(daemon) == 3)
    _ended_well(daemon, [worker])
    thread.join(5)
    assert outcome == ["agent_unreachable"]
    assert _kinds(world)[2:] == [("intent", None), ("failed", "cancelled")]


def test_a_hanging_module_freezes_neither_status_nor_listings_nor_other_tokens(world: World) -> None:
    _with_seal(world)
    daemon = world.start()
    assert _seal(daemon) == "sealed"
    (worker,) = _children(daemon.process.pid)
    os.kill(worker, signal.SIGSTOP)
    with daemon.agent(timeout=15) as agent:
        agent.tokens()  # has patience once
        begun = time.monotonic()
        for _ in range(20):
            agent.status()
            assert len(agent.tokens()["tokens"]) == 1
            assert agent.seals()["seals"][0]["name"] == SEAL
            agent.keys()
        assert time.monotonic() - begun < 4
    os.kill(worker, signal.SIGCONT)
    assert _seal(daemon) == "sealed"


def test_readiness_is_told_to_the_service_manager(world: World) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = world.directory / "notify"
        manager.bind(str(address))
        manager.settimeout(10)
        daemon = world.start(environment={"NOTIFY_SOCKET": str(address)})
        assert manager.recv(100) == b"READY=1"
        daemon.stop()
        assert manager.recv(100) == b"STOPPING=1"
    again = world.start(environment={"NOTIFY_SOCKET": str(world.directory / "nothing")})
    with again.agent() as agent:
        assert agent.status()["version"]


_PARENT = """
import os, socket, sys
handed = socket.socket(socket.AF_UNIX if sys.argv[1] != "tcp" else socket.AF_INET)
if sys.argv[1] != "tcp":
    handed.bind(sys.argv[2])
    os.chmod(sys.argv[2], 0o666)
else:
    handed.bind(("127.0.0.1", 0))
if sys.argv[1] != "deaf":
    handed.listen(16)
number = os.dup2(handed.fileno(), 3) if handed.fileno() != 3 else 3
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "sealagent", "daemon", "run", "--config", sys.argv[3]])
"""


def _activated(world: World, kind: str, path: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Start the daemon as a service manager does, with a listening socket as descriptor 3."""
    world.start().stop()  # leaves its configuration
    log = world.directory / "activated.log"
    with log.open("wb") as written:
        arguments = [sys.executable, "-c", _PARENT, kind, str(path), str(world.directory / "agent.toml")]
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=written, stderr=written)
    return process, log


def test_a_socket_handed_over_is_served_and_its_peers_are_checked(world: World) -> None:
    _with_seal(world)
    path = world.directory / "handed.sock"
    process, log = _activated(world, "unix", path)
    try:
        until(lambda: "ready:" in log.read_text())
        with Agent(path) as agent:
            agent.seal_document(pack(document_files()), seal=SEAL, placements=[at(1, 1, 1)])
            assert agent.records()["records"][0]["body"]["caller"]["pid"] == os.getpid()
        if os.geteuid() == 0:
            world.directory.chmod(0o755)
            program = (
                "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
                "s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(4096))"
            )
            command = [sys.executable, "-c", program, str(path)]
            answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
            assert "caller_not_allowed" in answer.stdout
        (worker,) = _children(process.pid)
        assert b"LISTEN" not in Path(f"/proc/{worker}/environ").read_bytes()
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert path.exists()  # it belongs to the service manager


@pytest.mark.parametrize("kind", ["tcp", "deaf"])
def test_another_socket_handed_over_is_refused(world: World, kind: str) -> None:
    process, log = _activated(world, kind, world.directory / "handed.sock")
    assert process.wait(30) == 1
    assert "socket_unusable" in log.read_text()
    assert "Traceback" not in log.read_text()


def _refused(world: World) -> str:
    daemon = world.launch()
    assert daemon.process.wait(30) in (1, 2)
    assert "Traceback" not in daemon.said()
    return daemon.said()


def test_directories_that_are_not_private_or_not_there(world: World) -> None:
    place = world.directory / "run"
    place.mkdir(mode=0o750)
    assert "must be private" in _refused(world)
    place.rmdir()
    elsewhere = world.directory / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    place.symlink_to(elsewhere)
    assert "is not a directory of this user" in _refused(world)
    place.unlink()
    place.touch()
    assert "socket_unusable" in _refused(world)
    place.unlink()
    place.mkdir(mode=0o700)
    (place / "agent.sock").write_text("a file that is no socket")
    assert "socket_unusable" in _refused(world)
    assert (place / "agent.sock").read_text() == "a file that is no socket"
    (place / "agent.sock").unlink()
    (place / "agent.lock").write_text("stale")
    assert world.start().stop() == 0


def test_a_path_too_long_for_a_socket(world: World, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    said = _run_with(world, f'socket = "{long}/agent.sock"')
    assert "too long" in said


def _run_with(world: World, line: str) -> str:
    """Start the daemon with one more top-level line in its configuration; return what it said when it ended."""
    world.start().stop()
    config = world.directory / "agent.toml"
    key = line.split(" ")[0]
    kept = [text for text in config.read_text().splitlines() if not text.startswith(key)]
    config.write_text("\n".join([line, *kept]))
    command = [sys.executable, "-m", "sealagent", "daemon", "run", "--config", str(config)]
    environment = {name: value for name, value in os.environ.items() if name != "SEALAGENT_SOCKET"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_trust_that_is_not_there_prevents_the_start(world: World) -> None:
    world.settings["trust"] = {"paths": [str(world.directory / "nothing.pem")]}
    assert "nothing.pem" in _refused(world)


def _measured(pid: int) -> tuple[int, float]:
    """Return open descriptors and resident MiB of a process."""
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), resident


def test_thousands_of_requests_of_all_kinds_leave_memory_and_descriptors_as_they_were(world: World) -> None:
    _with_seal(world)
    daemon = world.start()
    document = pack(document_files())

    def some(rounds: int) -> None:
        with daemon.agent() as agent:
            key = agent.keys()[0]["id"]
            for _ in range(rounds):
                sealed = agent.seal_document(document, seal=SEAL, placements=[at(1, 1, 1)])
                assert agent.verify_document(sealed.document)["verdict"] == "valid"
                agent.sign_digests([bytes(32)], key=key)
                agent.status()
                agent.seals()
                agent.records(limit=5)
                with pytest.raises(AgentError):
                    agent.seal("none")
                with pytest.raises(AgentError):
                    agent.verify_document(b"PK\x03\x04 and no more")
            with daemon.agent() as another:
                another.tokens()
            with pytest.raises(AgentUnreachable), Agent(daemon.socket.with_name("nothing")) as nobody:
                nobody.status()

    some(60)
    (worker,) = _children(daemon.process.pid)
    before = [_measured(pid) for pid in (daemon.process.pid, worker)]
    for _ in range(5):
        some(40)  # eight requests a round, and two connections
    after = [_measured(pid) for pid in (daemon.process.pid, worker)]
    for (descriptors, resident), (descriptors_after, resident_after) in zip(before, after, strict=True):
        assert descriptors_after <= descriptors + 2
        assert resident_after - resident < 16, (before, after)
