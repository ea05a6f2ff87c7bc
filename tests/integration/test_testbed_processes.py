"""Processes of the test bed: known by number and start, stopped for certain, and never a stranger's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from testbed import processes
from testbed.errors import TestbedError, Trouble
from testbed.processes import LOOPBACK, Launch, Process, found, free_port, start, stop_all

TESTS = Path(__file__).resolve().parents[1]

SERVER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(60)
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER
WITH_WORKER = (
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n" + SERVER
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop_all(tmp_path)


def launch(code: str, name: str = "server", port: int | None = None) -> Launch:
    number = str(free_port() if port is None else port)
    return Launch(name, [sys.executable, "-c", code, number], dict(os.environ), number)


def running(folder: Path, code: str = SERVER, name: str = "server") -> Process:
    return start(folder, launch(code, name), folder)


def test_a_process_is_written_down_and_stopped(folder: Path) -> None:
    made = running(folder)
    assert made.alive()
    assert found(folder) == [made]
    assert json.loads((folder / "server.pid").read_text()) == asdict(made)
    assert stop_all(folder) == [made]
    assert not made.alive()
    assert found(folder) == []
    assert stop_all(folder) == []


def test_the_last_one_started_is_stopped_first(folder: Path) -> None:
    first, second = running(folder, name="first"), running(folder, name="second")
    assert stop_all(folder) == [second, first]


def test_a_stranger_with_the_same_number_is_left_alone(folder: Path) -> None:
    """After a restart of the machine, or once numbers came round."""
    stranger = running(folder, name="stranger")
    (folder / "stranger.pid").unlink()
    for changed in (replace(stranger, started=stranger.started - 1), replace(stranger, boot="another start")):
        (folder / "ours.pid").write_text(json.dumps(asdict(replace(changed, name="ours"))))
        assert not changed.alive()
        assert stop_all(folder) == []
        assert stranger.alive()
        assert found(folder) == []
    processes.stop(stranger)


def test_workers_go_with_it(folder: Path) -> None:
    made = running(folder, WITH_WORKER)
    workers = processes._session_of(made)
    assert len(workers) == 1
    stop_all(folder)
    assert not any(each.alive() for each in workers)


def test_one_that_will_not_end_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.3)
    made = running(folder, STUBBORN)
    stop_all(folder)
    assert not made.alive()


def test_one_that_does_not_start_is_named_with_what_it_said(folder: Path) -> None:
    with pytest.raises(TestbedError, match="server did not start: no such luck") as caught:
        start(folder, launch("raise SystemExit('no such luck')"), folder)
    assert caught.value.trouble is Trouble.STEP


def test_one_that_never_works_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "START_SECONDS", 0.3)
    with pytest.raises(TestbedError, match="took too long to start: it said nothing"):
        start(folder, launch("import time; time.sleep(60)"), folder)
    assert [each.name for each in stop_all(folder)] == ["server"]


def test_a_taken_port_is_named(folder: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        with pytest.raises(TestbedError, match="is taken") as caught:
            start(folder, launch(SERVER, port=taken.getsockname()[1]), folder)
        assert caught.value.trouble is Trouble.PORT
    assert found(folder) == []


MAKER = """
import os, sys, time
from pathlib import Path
from testbed.processes import Guard, Launch, start
folder = Path(sys.argv[1])
guard = Guard(folder)
start(folder, Launch("server", [sys.executable, "-c", sys.argv[3], sys.argv[2]], dict(os.environ), sys.argv[2]), folder)
if sys.argv[4] == "release":
    guard.release()
print("made", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("end", ["release", "die"])
def test_whatever_kills_the_one_that_makes_it(folder: Path, end: str) -> None:
    command = [sys.executable, "-c", MAKER, str(folder), str(free_port()), SERVER, end]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == b"made\n"
        (made,) = found(folder)
        maker.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while made.alive() and end == "die":
        assert time.monotonic() < deadline, "what it started lives on"
        time.sleep(0.02)
    time.sleep(0.3)
    assert made.alive() is (end == "release")
