"""Real processes at the other end of real sockets."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec

P = ParamSpec("P")

PATIENCE = 20.0
"""Seconds for a process to start and connect."""

WAITING = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.recv(1)
"""
"""Connects and waits."""


PYTHON = os.path.realpath(sys.executable)
"""The program that runs the tests."""


def in_loop(scene: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Let a test be a coroutine: each runs in a loop of its own."""

    @functools.wraps(scene)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        asyncio.run(scene(*arguments, **named))

    return run


def own_python(folder: Path, name: str = "程序 (x)") -> Path:
    """Return a program file of our own that may be renamed, replaced or removed."""
    target = folder / name
    shutil.copy2(PYTHON, target)
    return target


@contextmanager
def connected(
    folder: Path, python: Path, code: str = WAITING, arguments: Sequence[str] = (), *, before: Sequence[str] = ()
) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """Start a Python of our choice that connects, and hand over the accepted connection.

    :param code: its program; the first argument is the address of the socket.
    :param before: a command that starts it instead of this process.
    """
    address = str(folder / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        listener.settimeout(PATIENCE)
        command = [*before, str(python), "-I", "-S", "-c", code, address, *arguments]
        environ = {**os.environ, "PYTHONHOME": sys.base_prefix}
        child = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE)
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                yield connection, child
        finally:
            child.kill()
            child.communicate()
            os.unlink(address)
