"""Who is asking: real processes at the other end of real sockets."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sealagent.callers.peer import Caller, peer_of, require_uid
from sealagent.errors import SealAgentError

CLIENT = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.recv(1)
"""


@contextmanager
def connected(folder: Path, python: Path) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """Start a Python of our choice that connects and waits, and hand over the accepted connection."""
    address = str(folder / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        listener.settimeout(20)
        environ = {**os.environ, "PYTHONHOME": sys.base_prefix}
        child = subprocess.Popen([python, "-I", "-S", "-c", CLIENT, address], env=environ)
        try:
            connection, _ = listener.accept()
            with connection:
                yield connection, child
        finally:
            child.kill()
            child.wait()


@pytest.fixture
def copied_python(tmp_path: Path) -> Path:
    """A program file of our own that may be renamed, replaced or removed."""
    target = tmp_path / "程序 (x)"
    shutil.copy2(Path(sys.executable).resolve(), target)
    return target


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


def test_pid_that_was_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start time that moved while we looked: the path is another process's."""
    moments = iter((100, 200))
    monkeypatch.setattr("sealagent.callers.peer._started", lambda pid: next(moments))
    with connected(tmp_path, Path(sys.executable)) as (connection, child):
        assert peer_of(connection) == Caller(os.getuid(), os.getgid(), child.pid, None, None)


def test_path_that_is_no_utf8(tmp_path: Path, copied_python: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/a\xff"
    os.rename(copied_python, odd)
    with connected(tmp_path, Path(os.fsdecode(odd))) as (connection, _):
        caller = peer_of(connection)
        assert caller.executable == f"{tmp_path}/a\\xff"
        json.dumps(caller.as_json()).encode()


def test_socket_without_peer() -> None:
    with socket.socket(socket.AF_UNIX) as lonely, pytest.raises(SealAgentError) as caught:
        peer_of(lonely)
    assert caught.value.code == "caller_unknown"
