"""A caller is looked at again before anything is changed for it: real processes that changed meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caller_parts import connected, own_python
from sealagent.callers.peer import Caller, peer_of, recheck
from sealagent.errors import SealAgentError

REUSE = Path(__file__).parents[1] / "pid_reuse.py"


def refusal(caller: Caller) -> str:
    with pytest.raises(SealAgentError) as caught:
        recheck(caller)
    return caught.value.code


def test_unchanged_caller(tmp_path: Path) -> None:
    with connected(tmp_path, Path(sys.executable)) as (connection, child):
        caller = peer_of(connection)
        assert recheck(caller) is caller
        child.kill()
        child.wait()
        assert refusal(caller) == "caller_gone"


def test_ended_caller_that_nobody_buried(tmp_path: Path) -> None:
    with connected(tmp_path, Path(sys.executable)) as (connection, child):
        caller = peer_of(connection)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie: its line in /proc is still there
        assert refusal(caller) == "caller_gone"
        assert peer_of(connection).started is None


def test_exec_after_connect(tmp_path: Path) -> None:
    """The connection survives ``execve``; the program behind it is another."""
    code = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.recv(1)
os.dup2(s.fileno(), 9)
os.execv(sys.argv[2], [sys.argv[2], "-c", "read line <&9; echo ok >&9; read line <&9"])
"""
    shell = shutil.which("bash")
    assert shell is not None
    with connected(tmp_path, Path(sys.executable), code, [shell]) as (connection, child):
        caller = peer_of(connection)
        assert recheck(caller) is caller
        connection.sendall(b"x")
        connection.sendall(b"line\n")
        assert connection.recv(8) == b"ok\n"  # the other program speaks now
        assert refusal(caller) == "caller_changed"
        now = peer_of(connection)
        assert (now.pid, now.started, now.executable) == (child.pid, caller.started, os.path.realpath(shell))
        assert now.process != caller.process  # it inherits no grant, and no unlocked token


def test_child_that_keeps_the_connection(tmp_path: Path) -> None:
    """Who connected has ended; its child, which holds the connection, does not count as it."""
    code = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.recv(1)
if os.fork() == 0:
    s.recv(1)
    s.sendall(b"child")
    s.recv(1)
"""
    with connected(tmp_path, Path(sys.executable), code) as (connection, child):
        caller = peer_of(connection)
        connection.sendall(b"x")
        child.wait()
        connection.sendall(b"x")
        assert connection.recv(8) == b"child"
        assert refusal(caller) == "caller_gone"
        late = peer_of(connection)
        assert (late.pid, late.started, late.executable) == (child.pid, None, None)
        assert refusal(late) == "caller_gone"


def test_removed_and_replaced_program_file(tmp_path: Path) -> None:
    python = own_python(tmp_path)
    with connected(tmp_path, python) as (connection, _):
        caller = peer_of(connection)
        assert caller.executable == str(python)
        python.unlink()
        assert refusal(caller) == "caller_changed"
        own_python(tmp_path)  # the same octets at the same path are another file
        assert refusal(caller) == "caller_changed"
        unnamed = peer_of(connection)  # a new connection: known to run what no path leads to
        assert unnamed.executable is None
        assert recheck(unnamed) is unnamed


def test_renamed_program_file(tmp_path: Path) -> None:
    python = own_python(tmp_path)
    with connected(tmp_path, python) as (connection, _):
        caller = peer_of(connection)
        python.rename(tmp_path / "other")
        assert refusal(caller) == "caller_changed"


def test_script_is_its_interpreter(tmp_path: Path) -> None:
    """What runs is the interpreter: two scripts are one program here, whatever they are called."""
    for name in ("one", "two"):
        script = tmp_path / name
        script.write_text(
            f"#!{sys.executable} -IS\nimport socket, sys\ns = socket.socket(socket.AF_UNIX)\n"
            "s.connect(sys.argv[1])\ns.recv(1)\n"
        )
        script.chmod(0o755)
        code = "import os, sys; os.execv(sys.argv[2], [sys.argv[2], sys.argv[1]])"
        with connected(tmp_path, Path(sys.executable), code, [str(script)]) as (connection, _):
            assert peer_of(connection).executable == os.path.realpath(sys.executable)


def test_caller_that_the_kernel_does_not_name() -> None:
    assert refusal(Caller(os.getuid(), os.getgid(), 0, None, None)) == "caller_unknown"


def test_pid_that_was_used_again(tmp_path: Path) -> None:
    """In a pid namespace of its own a process gets the pid of the one that connected and ended."""
    command = ["unshare", "--pid", "--fork", "--mount-proc"]
    if os.geteuid() != 0:
        command[1:1] = ["--user", "--map-root-user"]
    if subprocess.run([*command, "true"], capture_output=True, timeout=20, check=False).returncode != 0:
        reason = "this user may not make a pid namespace, so no pid can be used again here"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    ran = subprocess.run([*command, sys.executable, REUSE, tmp_path], capture_output=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    found = json.loads(ran.stdout)
    first, second = found["pids"]
    assert first == second, "the kernel did not use the pid again"
    assert found["started"][0] < found["started"][1]
    assert found["peer"] in ([first, None, None], "caller_changed")  # by the pidfd; on older kernels by the time
    assert found["peer_without_pidfd"] == "caller_changed"
    assert found["recheck"] == found["described"] == "caller_changed"
    assert found["watch"] == "ended"
