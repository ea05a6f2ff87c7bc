"""Who is asking: real processes at the other end of real sockets."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caller_parts import connected, own_python
from sealagent.callers import peer, processes
from sealagent.callers.peer import Caller, peer_of, require_uid
from sealagent.callers.processes import look_at, moment
from sealagent.errors import SealAgentError


@pytest.fixture
def copied_python(tmp_path: Path) -> Path:
    return own_python(tmp_path)


def test_running_caller(tmp_path: Path) -> None:
    with connected(tmp_path, Path(sys.executable)) as (connection, child):
        caller = peer_of(connection)
        assert (caller.uid, caller.gid, caller.pid) == (os.getuid(), os.getgid(), child.pid)
        assert caller.executable == os.path.realpath(sys.executable)
        with open(f"/proc/{child.pid}/stat") as stat:
            assert caller.started == int(stat.read().split()[21])
        json.dumps(caller.as_json())
        assert caller.as_json() == {
            "uid": caller.uid,
            "gid": caller.gid,
            "pid": caller.pid,
            "executable": caller.executable,
            "started": caller.started,
        }
        require_uid(caller, os.getuid())
        with pytest.raises(SealAgentError) as caught:
            require_uid(caller, os.getuid() + 1)
        assert caught.value.code == "caller_not_allowed"


def test_name_with_spaces_and_brackets(tmp_path: Path, copied_python: Path) -> None:
    """The name stands in brackets in /proc/PID/stat, unescaped; ours holds a bracket and a space."""
    with connected(tmp_path, copied_python) as (connection, _):
        caller = peer_of(connection)
        assert caller.executable == str(copied_python)
        assert caller.started is not None


def test_removed_and_replaced_executable(tmp_path: Path, copied_python: Path) -> None:
    with connected(tmp_path, copied_python) as (connection, _):
        copied_python.unlink()
        removed = peer_of(connection)
        assert removed.executable is None
        assert removed.started is not None
        copied_python.with_name(copied_python.name + " (deleted)").touch()  # what the kernel's text would point to
        assert peer_of(connection).executable is None
        copied_python.touch()
        assert peer_of(connection).executable is None


def test_exited_caller(tmp_path: Path) -> None:
    with connected(tmp_path, Path(sys.executable)) as (connection, child):
        child.kill()
        child.wait()
        assert peer_of(connection) == Caller(os.getuid(), os.getgid(), child.pid, None, None)


def test_kernel_without_pidfd_of_the_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 6.5: looked at twice, and held to the moment of the connection."""
    with connected(tmp_path, Path(sys.executable)) as (connection, child):
        accepted = moment()
        held = peer_of(connection, accepted)
        monkeypatch.setattr(peer, "_pidfd", lambda sock: None)
        assert peer_of(connection, accepted) == peer_of(connection) == held
        assert held.started is not None
        with pytest.raises(SealAgentError) as caught:
            peer_of(connection, accepted - 3600 * processes.NANOSECONDS)
        assert caught.value.code == "caller_changed"

        real, looks = look_at, iter((0, 1))
        later = processes.ProcessLook(held.started + 1, 1, False)
        monkeypatch.setattr(peer, "look_at", lambda pid: later if next(looks) else real(pid))
        assert peer_of(connection) == Caller(os.getuid(), os.getgid(), child.pid, None, None)


def test_unknown_option_of_an_old_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(tmp_path, Path(sys.executable)) as (connection, child):
        monkeypatch.setattr(peer, "_SO_PEERPIDFD", 9999)  # no option of any kernel
        assert peer._pidfd(connection) is None
        assert peer_of(connection).pid == child.pid


class Answering:
    """A socket whose kernel answers SO_PEERPIDFD with an error."""

    def __init__(self, number: int) -> None:
        self._number = number

    def getsockopt(self, level: int, option: int) -> int:
        raise OSError(self._number, os.strerror(self._number))


def test_answers_of_kernels() -> None:
    """Old ones know no such option, some give no pidfd of what was reaped; nothing else is a reason to trust a pid."""
    assert peer._pidfd(Answering(errno.ENOPROTOOPT)) is None  # type: ignore[arg-type]
    for number in (errno.EINVAL, errno.ESRCH, errno.ENODATA):
        with pytest.raises(ProcessLookupError):
            peer._pidfd(Answering(number))  # type: ignore[arg-type]
    with pytest.raises(SealAgentError) as caught:
        peer._pidfd(Answering(errno.EMFILE))  # type: ignore[arg-type]
    assert caught.value.code == "caller_unknown"


def test_first_thread_that_ended_before_the_others(tmp_path: Path) -> None:
    """It is shown as a zombie, but the process runs; its program cannot be seen any more."""
    code = """
import ctypes, os, socket, sys, threading
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
threading.Thread(target=lambda: (s.recv(1), s.sendall(b"x"), s.recv(1))).start()
ctypes.CDLL(None).syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)  # exit(2) ends one thread
"""
    with connected(tmp_path, Path(sys.executable), code) as (connection, child):
        caller = peer_of(connection)
        deadline = time.monotonic() + 20
        while b") Z " not in Path(f"/proc/{child.pid}/stat").read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        seen = look_at(child.pid)
        assert seen is not None
        assert (seen.ended, seen.started) == (False, caller.started)
        late = peer_of(connection)
        assert (late.started, late.executable) == (caller.started, None)
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    with connected(tmp_path, Path(sys.executable)) as (connection, child):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            peer_of(connection)
        child.kill()
        child.wait()
        for _ in range(5):
            peer_of(connection)
        assert len(os.listdir("/proc/self/fd")) == before


def test_path_that_is_no_utf8(tmp_path: Path, copied_python: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/a\xff"
    os.rename(copied_python, odd)
    with connected(tmp_path, Path(os.fsdecode(odd))) as (connection, _):
        caller = peer_of(connection)
        assert caller.executable == f"{tmp_path}/a\\xff"
        json.dumps(caller.as_json()).encode()


@pytest.mark.parametrize("name", ["a\nb", "x (deleted)", "\u202egnp.exe", "\x1b[31m", "é" * 120])
def test_odd_names_of_program_files(tmp_path: Path, name: str) -> None:
    """The path is given as it is, whoever shows it makes it harmless; a name is no reason to know a program less."""
    python = own_python(tmp_path, name)
    with connected(tmp_path, python) as (connection, _):
        assert peer_of(connection).executable == str(python)


def test_socket_without_peer() -> None:
    with socket.socket(socket.AF_UNIX) as lonely, pytest.raises(SealAgentError) as caught:
        peer_of(lonely)
    assert caught.value.code == "caller_unknown"


HOSTILE_NAMES = [b"a) S 1 1 1", b") Z 0", b"(", b"))))", b"\n) X 1 \n2 3", b"\xff\xfe", b"", b"1 2 3 4 5 6 7"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_name_made_to_mislead(tmp_path: Path, name: bytes) -> None:
    """A process may call itself what it likes (15 octets), also what reads like the fields that follow."""
    code = """
import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, bytes.fromhex(sys.argv[2]))
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.recv(1)
"""
    with connected(tmp_path, Path(sys.executable), code, [name[:15].hex()]) as (connection, child):
        with open(f"/proc/{child.pid}/stat", "rb") as stat:
            assert name[:15] in stat.read()
        caller = peer_of(connection)
        seen = look_at(child.pid)
        assert seen is not None
        assert (seen.parent, seen.ended, seen.started) == (os.getpid(), False, caller.started)
        assert caller.executable == os.path.realpath(sys.executable)


@given(st.binary(max_size=200), st.integers(1, 2**62), st.integers(0, 2**22))
def test_any_name_leaves_the_fields_alone(name: bytes, started: int, parent: int) -> None:
    fields = [b"S", b"%d" % parent, *[b"0"] * 15, b"1", b"0", b"%d" % started, *[b"0"] * 30]
    found = processes._parse(b"42 (" + name + b") " + b" ".join(fields) + b"\n")
    assert found == processes.ProcessLook(started, parent, False)


@given(st.binary(max_size=400))
def test_no_line_breaks_the_reader(line: bytes) -> None:
    """What cannot be read is a ``ValueError``, which counts as no process."""
    with contextlib.suppress(ValueError):
        assert processes._parse(line).started == int(line.rpartition(b")")[2].split()[19])


def test_process_that_is_none() -> None:
    assert look_at(2**22 + 1) is None
    assert processes.program_of(2**22 + 1) is None
    assert look_at(0) is None
