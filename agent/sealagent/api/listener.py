"""The Unix socket: private directory, one daemon, no stale file, bounded connections."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import cast

from aiohttp import web

from sealagent.api.identify import Accepted
from sealagent.api.problems import PROBLEM_MEDIA_TYPE, problem_octets
from sealagent.api.routing import RUNNING
from sealagent.errors import SealAgentError

__all__ = ["UnixListener"]

BACKLOG = 128
KEEP_ALIVE_SECONDS = 75.0
"""An idle connection is closed after this."""
FINISH_SECONDS = 6.0
"""Requests under way may finish for this long when the daemon stops."""
SETTLE_SECONDS = 2.0
"""A request that is stopped then has this long to put its outcome on record."""
CLOSE_SECONDS = 0.5
"""Connections of requests that are over may take this long to close."""


class _Refuse(asyncio.Protocol):
    """Answers a connection beyond the limit without reading from it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast(asyncio.WriteTransport, transport)  # uvloop's transports are not of asyncio's classes
        _, body = problem_octets(SealAgentError("too_many_connections", "the agent serves no more at once"))
        head = f"Connection: close\r\nContent-Type: {PROBLEM_MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
        writing.write(b"HTTP/1.1 503 Service Unavailable\r\n" + head.encode() + body)
        writing.close()


class UnixListener:
    """Serves an application on a Unix socket.

    :param path: where the socket is made (directory 0700, socket 0600).
    :param inherited: a listening socket handed over by the service manager, instead of ``path``.
    """

    def __init__(
        self, app: web.Application, path: Path, *, connections: int, inherited: socket.socket | None = None
    ) -> None:
        self._app = app
        self._path = path
        self._connections = connections
        self._inherited = inherited
        self._runner = web.AppRunner(
            app,
            access_log=None,
            # A lost connection stops nothing: a retry with the same Idempotency-Key gets what was signed meanwhile.
            handler_cancellation=False,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            shutdown_timeout=CLOSE_SECONDS,
        )
        self._server: asyncio.Server | None = None
        self._lock = -1
        self._bound = False
        """Whether what lies at the path is ours."""

    async def start(self) -> None:
        """Listen. :raises SealAgentError: ``daemon_running``, ``socket_unusable``."""
        listening = self._inherited if self._inherited is not None else self._bind()
        await self._runner.setup()
        http = self._runner.server
        assert http is not None

        def connection() -> asyncio.Protocol:
            return _Refuse() if len(http.connections) >= self._connections else Accepted(http())

        self._server = await asyncio.get_running_loop().create_unix_server(connection, sock=listening, backlog=BACKLOG)

    @property
    def served(self) -> web.Server:
        """The running server, for listeners beside this one."""
        assert self._runner.server is not None
        return self._runner.server

    async def stop(self) -> None:
        """Stop listening, let requests under way finish, remove the socket."""
        if self._server is not None:
            self._server.close()
        running = self._app[RUNNING]
        if running:
            await asyncio.wait([*running], timeout=FINISH_SECONDS)
        if running:
            for task in running:
                task.cancel()
            await asyncio.wait([*running], timeout=SETTLE_SECONDS)
        await self._runner.cleanup()
        if self._bound:
            self._path.unlink(missing_ok=True)
            self._bound = False
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _bind(self) -> socket.socket:
        directory = self._path.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_private(directory)
            self._lock = _take_lock(self._path.with_suffix(".lock"))
            # The lock is ours, so whatever lies at the path belongs to a daemon that is gone.
            if self._path.is_socket():
                self._path.unlink()
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                # Nobody else gets into the directory, so the moment between bind and chmod is no gap.
                listening.bind(str(self._path))
                self._bound = True
                self._path.chmod(0o600)
            except BaseException:
                listening.close()
                raise
        except OSError as error:
            reason = "the path is too long for a socket" if "too long" in str(error) else (error.strerror or str(error))
            raise SealAgentError("socket_unusable", f"{self._path}: {reason}") from error
        return listening


def _require_private(directory: Path) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SealAgentError("socket_unusable", f"{directory} is not a directory of this user")
    if found.st_mode & 0o077:
        raise SealAgentError("socket_unusable", f"{directory} must be private: chmod 700, or choose another directory")


def _take_lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise SealAgentError("daemon_running", f"another agent holds {path}") from error
        raise
    return descriptor
