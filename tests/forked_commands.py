"""Processes of the command line for tests, without loading the program anew for each: they are forked off one that has.

What is forked is a process of its own all the same: arguments, environment, folder, standard streams and status are
a fresh program's. Loading takes most of a short command's time, and a second of each daemon's; the tests run a thousand
commands and hundreds of daemons. Those about the start of a program run it afresh.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

__all__ = ["Forked", "run_forked"]

LOADED = (
    "sealagent.cli.main",
    "sealagent.cli.maker",
    "sealagent.cli.maker_making",
    "sealagent.cli.maker_publish",
    "sealagent.cli.maker_states",
    "sealagent.client",
    "sealagent.daemon.lifecycle",
    "sealagent.maker.delivery",
    "sealagent.maker.device",
    "sealagent.maker.making",
    "sealagent.maker.publishing",
    "sealagent.maker.trustlists",
)
"""Modules that commands load when they need them."""


class _Server:
    """The process that forks, and how it is reached. It ends with this one."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fork")
        self.path = str(Path(self._folder.name) / "s")
        self._theirs, ours = os.pipe()
        os.set_inheritable(self._theirs, True)
        self._process = subprocess.Popen(
            [sys.executable, __file__, self.path, str(self._theirs)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=(self._theirs,),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        os.close(self._theirs)
        self._ours = ours
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        self._process.stdout.close()
        atexit.register(self.close)

    def close(self) -> None:
        os.close(self._ours)
        self._process.wait(20)
        self._folder.cleanup()


_lock = threading.Lock()
_servers: list[_Server] = []


def run_forked(arguments: list[str], folder: Path, environment: dict[str, str], seconds: float) -> tuple[int, str, str]:
    """Run ``sealagent ARGUMENTS`` and return exit status (negative: the signal), standard output and error.

    :raises subprocess.TimeoutExpired: it took longer than ``seconds``.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with Forked(arguments, folder, environment, out.fileno(), err.fileno()) as process:
            status = process.wait(seconds)
        for file in (out, err):
            file.seek(0)
        return status, out.read().decode(), err.read().decode()


class Forked:
    """A process of ``sealagent ARGUMENTS``, with as much of :class:`subprocess.Popen` as tests of daemons use.

    :param out: descriptor of its standard output. :param err: of its standard error.
    """

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str], out: int, err: int) -> None:
        with _lock:
            if not _servers:
                _servers.append(_Server())
        self.args = arguments
        self.returncode: int | None = None
        self._lock = threading.RLock()
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(30)
        self._connection.connect(_servers[0].path)
        asked = json.dumps({"arguments": arguments, "folder": str(folder), "environment": environment}).encode()
        socket.send_fds(self._connection, [struct.pack("!I", len(asked))], [out, err])
        self._connection.sendall(asked)
        (self.pid,) = struct.unpack("!i", self._connection.recv(4, socket.MSG_WAITALL))

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status once it has ended. :raises subprocess.TimeoutExpired: it has not."""
        with self._lock:
            if self.returncode is None:
                ready, _, _ = select.select([self._connection], [], [], timeout)
                if not ready:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                (self.returncode,) = struct.unpack("!i", self._connection.recv(4, socket.MSG_WAITALL))
                self._connection.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# --- in the process that forks ---


def _serve(path: str, lifeline: int) -> None:
    import importlib

    for name in LOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        os.write(1, b"ready\n")
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        while True:
            ready, _, _ = select.select([listener, lifeline], [], [])
            if lifeline in ready:
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Read a request, fork the command, say its number, and its status when it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
    asked = b""
    while len(asked) < struct.unpack("!I", size)[0]:
        asked += connection.recv(1 << 16)
    child = os.fork()
    if child == 0:
        connection.close()
        _become(json.loads(asked), *descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(struct.pack("!i", child))
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):  # nobody wants to know
        connection.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _become(asked: dict[str, object], out: int, err: int) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, 256)
    os.chdir(str(asked["folder"]))
    os.environ.clear()
    os.environ.update(asked["environment"])  # type: ignore[call-overload]
    sys.argv = ["sealagent", *asked["arguments"]]  # type: ignore[misc]
    status = 1
    try:
        from sealagent.cli.main import main

        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
