"""The processes of a test bed: started apart from the terminal, known by number and start, stopped for certain.

A process number may belong to a stranger by the time it is used. What is written down of a process is therefore its
number, the moment it started, and the machine's start; nothing is ever signalled that does not have all three.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed.errors import TestbedError, Trouble

__all__ = ["LOOPBACK", "Guard", "Launch", "Process", "found", "free_port", "start", "stop", "stop_all"]

LOOPBACK = "127.0.0.1"
PORTS = range(20000, 32000)
"""Below those of outgoing connections (Linux: from 32768)."""
STOP_SECONDS = 15.0
"""Patience for a process that was asked to end, before it is killed."""
START_SECONDS = 60.0
"""Patience for a process to say that it works."""
MARK = "SEALAGENT_TESTBED_RUN"
"""Environment variable of every process of a test bed: the folder it is written down in."""
SWEEP_SECONDS = 3.0
"""How long a guard looks for processes that were started and not yet written down when their maker was killed."""
LOG_TAIL = 2000
"""Characters of a log shown in an error."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it is written down."""

    name: str
    pid: int
    started: int
    """Field 22 of /proc/PID/stat: clock ticks since the machine's start."""
    boot: str
    """Which start of the machine that was."""

    def alive(self) -> bool:
        """Say whether this very process runs. A zombie does not."""
        facts = _stat(self.pid)
        return facts is not None and facts[0] not in "ZX" and facts[1] == self.started and self.boot == _boot()


@dataclass(frozen=True, slots=True)
class Launch:
    """How a process is started, and started again."""

    name: str
    command: list[str]
    environment: dict[str, str]
    """All of it."""
    listens: str
    """Where it accepts connections once it works: the path of a Unix socket, or a port of the loopback address."""
    lasting: bool = True
    """Whether it belongs to the test bed that is up, or only to its making."""

    @property
    def port(self) -> int | None:
        return int(self.listens) if self.listens.isdecimal() else None

    def answers(self) -> bool:
        """Say whether somebody accepts connections there."""
        family, address = (
            (socket.AF_UNIX, self.listens) if self.port is None else (socket.AF_INET, (LOOPBACK, self.port))
        )
        with socket.socket(family) as connection:
            connection.settimeout(1)
            return connection.connect_ex(address) == 0


def free_port() -> int:
    """Return a port of the loopback address that nobody has right now.

    It is used seconds later, and again after a restart; so it is none of those that systems hand out by themselves.
    """
    while not _is_free(port := secrets.choice(PORTS)):
        pass
    return port


def start(folder: Path, launch: Launch, directory: Path) -> Process:
    """Start a process in a session of its own, write it down in ``folder/NAME.pid``, and wait until it works.

    What it says goes to ``folder/NAME.log``.

    :param directory: where it runs.
    :raises TestbedError: ``port``: its port is taken; ``step``: it ended or took too long, with the end of its log.
    """
    if launch.port is not None and not _is_free(launch.port):
        raise TestbedError(Trouble.PORT, f"port {launch.port} of {LOOPBACK}, for {launch.name}, is taken")
    if launch.port is None:  # a restart of the machine may have emptied the place of sockets
        Path(launch.listens).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    process = _started(folder, launch, directory)
    deadline = time.monotonic() + START_SECONDS
    while not (launch.answers() and process.alive()):
        alive = process.alive()
        if not alive or time.monotonic() > deadline:
            said = (folder / f"{process.name}.log").read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:].strip()
            what = "took too long to start" if alive else "did not start"
            raise TestbedError(Trouble.STEP, f"{process.name} {what}: {said or 'it said nothing'}")
        time.sleep(0.02)
    return process


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers bind: connections of before that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _started(folder: Path, launch: Launch, directory: Path) -> Process:
    with (folder / f"{launch.name}.log").open("ab") as log:
        started = subprocess.Popen(
            launch.command,
            cwd=directory,
            env={**launch.environment, MARK: str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    started.returncode = 0  # it is to outlive us: Popen shall not complain when it is forgotten
    facts = _stat(started.pid)
    process = Process(launch.name, started.pid, facts[1] if facts else -1, _boot())
    draft = folder / f".{launch.name}.pid"
    draft.write_text(json.dumps(asdict(process)))
    draft.replace(folder / f"{launch.name}.pid")
    return process


def found(folder: Path) -> list[Process]:
    """Return the processes written down in a folder, whether they run or not, the last one started first."""
    files = sorted(folder.glob("*.pid"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    written = []
    for file in files:
        with contextlib.suppress(ValueError, TypeError):  # what is not readable names nobody
            written.append(Process(**json.loads(file.read_text())))
    return written


def stop_all(folder: Path) -> list[Process]:
    """Stop what is written down in a folder and runs, the last one started first.

    :return: what was stopped.
    """
    stopped = []
    for process in found(folder):
        if process.alive():
            stop(process)
            stopped.append(process)
        (folder / f"{process.name}.pid").unlink(missing_ok=True)
    return stopped


def stop(process: Process) -> None:
    """End a process and its workers: asked first, killed if that is of no use."""
    # Its workers are of its session. They end when it does; one that does not is known by its own number and start.
    workers = _session_of(process)
    for each in (process, *workers):
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not each.alive():
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, number)
            deadline = time.monotonic() + STOP_SECONDS
            while each.alive() and time.monotonic() < deadline:
                time.sleep(0.01)
        with contextlib.suppress(ChildProcessError):  # it may be a child of ours
            os.waitpid(each.pid, os.WNOHANG)


def _session_of(process: Process) -> list[Process]:
    """Return the other processes of its session."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (facts := _stat(int(entry.name))) and facts[2] == process.pid:
            members.append(Process(process.name, int(entry.name), facts[1], process.boot))
    return [each for each in members if each.pid != process.pid]


def _stat(pid: int) -> tuple[str, int, int] | None:
    """Return state, start and session of a process, or None."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[19]), int(fields[3])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Guard:
    """Stops what was started in a folder if this process dies before :meth:`release`, however it dies.

    A process of its own waits at the other end of a pipe.
    """

    def __init__(self, folder: Path) -> None:
        theirs, self._ours = os.pipe()
        tests = Path(__file__).resolve().parents[1]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "testbed.processes", str(folder)],
                env={**os.environ, "PYTHONPATH": str(tests)},
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(theirs)

    def release(self) -> None:
        """Let the processes live on."""
        with contextlib.suppress(BrokenPipeError):  # somebody killed it
            os.write(self._ours, b"released")
        os.close(self._ours)
        self._process.wait(STOP_SECONDS)


def _guard(folder: Path) -> None:
    if not sys.stdin.buffer.read():
        stop_all(folder)
        end = time.monotonic() + SWEEP_SECONDS
        while time.monotonic() < end:
            for process in _marked(folder):
                stop(process)
            time.sleep(0.1)


def _marked(folder: Path) -> list[Process]:
    """Return the processes that were started in a folder and are in no session of another, whoever wrote them down."""
    mark = f"{MARK}={folder}".encode()
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                marked = mark in (entry / "environ").read_bytes().split(b"\0")
            except OSError:  # it has ended, or is somebody else's
                continue
            if marked and (facts := _stat(int(entry.name))):
                members.append(Process("unnamed", int(entry.name), facts[1], _boot()))
    return members


if __name__ == "__main__":
    _guard(Path(sys.argv[1]))
