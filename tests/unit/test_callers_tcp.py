"""Who is asking over loopback TCP: real processes that hold the other end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from caller_parts import PATIENCE, PYTHON
from sealagent.callers import tcp
from sealagent.callers.processes import NANOSECONDS, look_at, moment
from sealagent.callers.tcp import tcp_peer_of
from sealagent.errors import SealAgentError

WAITING = """
import os, socket, sys
s = socket.socket()
s.connect(("127.0.0.1", int(sys.argv[1])))
s.recv(1)
"""
NOBODY = 65534


@contextmanager
def dialled(
    code: str = WAITING, arguments: Sequence[str] = ()
) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """Start a program that connects to a port of ours, and hand over the accepted connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        port = str(listener.getsockname()[1])
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code, port, *arguments])
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                yield connection, child
        finally:
            child.kill()
            child.wait()


def refusal(connection: socket.socket, accepted: int | None = None) -> SealAgentError:
    with pytest.raises(SealAgentError) as caught:
        tcp_peer_of(connection, os.getuid(), accepted)
    return caught.value


def test_program_of_the_same_user() -> None:
    with dialled() as (connection, child):
        caller = tcp_peer_of(connection, os.getuid(), moment())
        seen = look_at(child.pid)
        assert seen is not None
        assert (caller.uid, caller.gid, caller.pid) == (os.getuid(), os.getgid(), child.pid)
        assert (caller.executable, caller.started) == (PYTHON, seen.started)
        assert caller.program is not None


def test_this_process_on_both_ends() -> None:
    """Each end is looked for by its exact pair of addresses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ends = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        accepted = [listener.accept()[0] for _ in ends]
        try:
            assert {tcp_peer_of(each, os.getuid()).pid for each in accepted} == {os.getpid()}
        finally:
            for each in (*ends, *accepted):
                each.close()


def test_program_of_another_user() -> None:
    if os.geteuid() != 0:
        reason = "only root can start a program of another user"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    code = WAITING.replace("s =", f"os.setuid({NOBODY})\ns =", 1)
    with dialled(code) as (connection, _):
        error = refusal(connection)
        assert error.code == "caller_not_allowed"
        assert str(NOBODY) in error.message


def test_socket_of_ours_that_another_user_holds() -> None:
    """Made by this user, kept by a process that is another user's by now: among our processes nobody has it."""
    if os.geteuid() != 0:
        reason = "only root can start a program of another user"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    code = WAITING.replace("s.recv", f"os.setuid({NOBODY})\ns.sendall(b'x')\ns.recv", 1)
    with dialled(code) as (connection, _):
        assert connection.recv(1) == b"x"
        assert refusal(connection).code == "caller_unknown"


def test_ended_program() -> None:
    with dialled() as (connection, child):
        child.kill()
        child.wait()
        assert refusal(connection).code == "caller_unknown"


def test_child_of_the_same_program() -> None:
    """Parent and child hold it and run the same program: the parent, which was first, counts."""
    code = "import os\n" + WAITING.replace("s.recv(1)", "os.fork()\ns.sendall(b'x')\ns.recv(1)")
    with dialled(code) as (connection, child):
        received = b""
        while len(received) < 2:
            received += connection.recv(2)
        assert tcp_peer_of(connection, os.getuid()).pid == child.pid
        connection.sendall(b"xx")


def test_several_programs_with_one_connection() -> None:
    """A trusted program that was handed a copy of the connection does not lend its name."""
    shell = shutil.which("sleep")
    assert shell is not None
    code = WAITING.replace(
        "s.recv(1)",
        "import subprocess\nwith subprocess.Popen([sys.argv[2], '60'], pass_fds=[s.fileno()]) as other:\n"
        "    s.sendall(b'x')\n    s.recv(1)\n    other.kill()",
    )
    with dialled(code, [shell]) as (connection, child):
        assert connection.recv(1) == b"x"
        error = refusal(connection)
        assert error.code == "caller_unknown"
        assert str(child.pid) in error.message
        connection.sendall(b"x")
        child.wait(PATIENCE)


def test_program_that_took_a_connection_over() -> None:
    """Who connected has ended and left the connection to a program that started later."""
    code = WAITING.replace(
        "s.recv(1)",
        "import subprocess, time\ns.recv(1)\ntime.sleep(0.05)\n"
        "subprocess.Popen([sys.executable, '-c', 'import sys,socket; s=socket.socket(fileno=int(sys.argv[1])); "
        's.sendall(b"x"); s.recv(1)\', str(s.fileno())], pass_fds=[s.fileno()])',
    )
    with dialled(code) as (connection, child):
        accepted = moment()
        connection.sendall(b"x")
        child.wait(PATIENCE)
        assert connection.recv(1) == b"x"
        assert refusal(connection, accepted).code == "caller_changed"
        heir = tcp_peer_of(connection, os.getuid())
        assert heir.pid != child.pid
        connection.sendall(b"x")


def test_half_closed_connection() -> None:
    """A client that has nothing more to send is still there."""
    code = WAITING.replace("s.recv", "s.shutdown(socket.SHUT_WR)\ns.recv", 1)
    with dialled(code) as (connection, child):
        assert connection.recv(1) == b""
        assert tcp_peer_of(connection, os.getuid()).pid == child.pid


def test_ipv6_sockets() -> None:
    """An IPv6 socket may speak to an IPv4 address; it is in the other table."""
    try:
        client = socket.socket(socket.AF_INET6)
    except OSError:
        assert not os.path.exists("/proc/net/tcp6"), "IPv6 is there, but no socket of it can be made"
        return
    with client, socket.create_server(("127.0.0.1", 0)) as listener:
        client.connect(("::ffff:127.0.0.1", listener.getsockname()[1]))
        connection, _ = listener.accept()
        with connection:
            assert tcp_peer_of(connection, os.getuid()).pid == os.getpid()


def test_addresses_as_the_kernel_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of proc(5): words in the machine's order; here little-endian."""
    monkeypatch.setattr(sys, "byteorder", "little")
    assert tcp._written(tcp._address(("127.0.0.1", 80))) == (
        b"0100007F:0050",
        b"0000000000000000FFFF00000100007F:0050",
    )
    loopback = b"00000000000000000000000001000000:1F90"
    assert tcp._written(tcp._address(("::1", 8080, 0, 0))) == (loopback, loopback)
    assert tcp._address(("::ffff:127.0.0.1", 1, 0, 0)) == tcp._address(("127.0.0.1", 1))


def test_not_over_loopback_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert refusal(one).code == "caller_unknown"
    with socket.socket() as lonely:
        assert refusal(lonely).code == "caller_unknown"
    with dialled() as (connection, _):
        monkeypatch.setattr(tcp, "_address", lambda name: (tcp.ipaddress.ip_address("192.0.2.1"), 1))
        assert refusal(connection).code == "caller_not_allowed"


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    with dialled() as (connection, _):
        monkeypatch.setattr(tcp, "SCAN_SECONDS", -1.0)
        error = refusal(connection)
        assert (error.code, "within" in error.message) == ("caller_unknown", True)
        monkeypatch.setattr(tcp, "SCAN_SECONDS", 2.0)
        monkeypatch.setattr(tcp, "MAX_TABLE", 10)
        error = refusal(connection)
        assert (error.code, "too many" in error.message) == ("caller_unknown", True)


def test_many_descriptors_are_looked_through_in_time() -> None:
    """A process of the user with thousands of descriptors must not keep its others from connecting."""
    code = (
        "import os, resource\nhard = min(5000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\n"
    ) + WAITING.replace(
        "s.recv", "held = [os.open('/dev/null', 0) for _ in range(hard - 50)]\ns.sendall(b'x')\ns.recv", 1
    )
    with dialled(code) as (connection, child):
        assert connection.recv(1) == b"x"
        start = time.monotonic()
        assert tcp_peer_of(connection, os.getuid(), moment() + NANOSECONDS).pid == child.pid
        assert time.monotonic() - start < tcp.SCAN_SECONDS
