"""The loopback listener for web pages: TCP on 127.0.0.1, off unless it is configured.

A gate stands before the server. It reads the head of the one request that a connection may carry, checks it by the
rules of :mod:`sealagent.api.pages`, and answers refusals itself: no octet of a body has passed it by then, and reading
has stopped. What is admitted is written anew and handed to the same application that serves the Unix socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from aiohttp import web

from sealagent.api.heads import END, MAX_HEAD, Head, parse_head, write_head
from sealagent.api.listener import BACKLOG
from sealagent.api.pages import PageRules, answer_headers, preflight_headers
from sealagent.api.problems import CHALLENGE, PROBLEM_MEDIA_TYPE, problem_octets
from sealagent.api.routing import ARRIVED
from sealagent.callers.peer import Caller
from sealagent.callers.processes import moment
from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealdrivers.errors import DriverError

__all__ = ["ADDRESS", "LoopbackListener"]

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
"""Where it listens, and nowhere else."""
MAX_CONNECTIONS = 32
"""Connections at once, event streams included. A browser opens six to a server."""
HEAD_SECONDS = 10.0
"""A head must be there within this; browsers send it whole."""
CLOSE_SECONDS = 2.0
"""A refusal must be taken within this."""
LOG_LINES = 120
"""Refusals that are logged in :data:`LOG_SECONDS`: any page can cause as many as it likes."""
LOG_SECONDS = 60.0
LOOKERS = 2
"""Threads that look for the programs at the other ends: their own, since any page can make the agent look, and what
seals and records works in threads, too."""

Peer = Callable[[socket.socket, int], Caller]
"""Tells which program of this machine is at the other end of a connection that was accepted at a moment
(:func:`sealagent.callers.processes.moment`). May take some milliseconds."""


class LoopbackListener:
    """Serves an application to web pages.

    :param app: the application of the Unix socket, not started yet. :param port: on :data:`ADDRESS`.
    :param rules: what is checked. :param peer: identifies the connecting program; called in a thread.
    """

    def __init__(self, app: web.Application, port: int, rules: PageRules, peer: Peer) -> None:
        self._app = app
        self._port = port
        self.rules = rules
        self._peer = peer
        self.gates: set[_Gate] = set()
        self._server: asyncio.Server | None = None
        self._http: web.Server | None = None
        self._logged: deque[float] = deque(maxlen=LOG_LINES)
        self._unlogged = 0
        self._lookers = ThreadPoolExecutor(LOOKERS, thread_name_prefix="page-peer")
        app.on_response_prepare.append(self._dress)

    async def start(self, served: web.Server) -> None:
        """Listen.

        :param served: the running server of the application. :raises SealAgentError: ``loopback_unusable``.
        """
        self._http = served
        with contextlib.ExitStack() as opened:
            try:
                listening = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                # Lets it listen again while connections of the last run fade away; nobody can listen beside it.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind((ADDRESS, self._port))
            except OSError as error:
                raise SealAgentError("loopback_unusable", f"{ADDRESS}:{self._port}: {_reason(error)}") from error
            opened.pop_all()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Gate(self), sock=listening, backlog=BACKLOG)

    def stop(self) -> None:
        """Stop listening, and drop connections that have not been admitted; admitted requests end with the server."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for gate in [*self.gates]:
            gate.drop()
        self._lookers.shutdown(wait=False, cancel_futures=True)

    async def look(self, sock: socket.socket, accepted: int) -> Caller:
        """Identify the program at the other end. :raises SealAgentError: it is not to be found, or another user's."""
        return await asyncio.get_running_loop().run_in_executor(self._lookers, self._peer, sock, accepted)

    def note(self, text: str, *values: object) -> None:
        """Log a refusal, unless too many were."""
        now = asyncio.get_running_loop().time()
        if len(self._logged) == LOG_LINES and now - self._logged[0] < LOG_SECONDS:
            self._unlogged += 1
            return
        if self._unlogged:
            log.warning("%d further refusals of pages were not logged", self._unlogged)
            self._unlogged = 0
        self._logged.append(now)
        log.info(text, *values)

    def serve(self, transport: asyncio.Transport, caller: Caller) -> asyncio.Protocol:
        """Return the server's end of a connection, on which this caller will be found."""
        assert self._http is not None
        self._app[ARRIVED][transport] = caller
        return self._http()

    async def _dress(self, request: web.Request, response: web.StreamResponse) -> None:
        """Tell the browser who may read the answer."""
        caller = self._app[ARRIVED].get(request.transport)
        if caller is not None:
            for name, value in answer_headers(caller.origin):
                response.headers[name] = value


class _Gate(asyncio.Protocol):
    """One connection: reads one head, then refuses it or steps aside."""

    def __init__(self, listener: LoopbackListener) -> None:
        self._listener = listener
        self._accepted = moment()
        self._transport: asyncio.Transport | None = None
        self._octets = bytearray()
        self._head: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when a whole head has arrived, or more than one may have."""
        self._task: asyncio.Task[None] | None = None
        self._behind: asyncio.Protocol | None = None
        """The server, once the request is admitted."""
        self._left = 0
        """Octets of the body that have not come yet."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._listener.gates) >= MAX_CONNECTIONS:
            self._refuse(SealAgentError("too_many_connections", "the agent serves no more pages at once"), None)
            return
        self._listener.gates.add(self)
        self._task = asyncio.get_running_loop().create_task(self._run(self._transport))

    def data_received(self, data: bytes) -> None:
        if self._behind is not None:
            self._pass_on(data)
        elif not self._head.done():
            self._octets += data
            # The end may lie across two pieces.
            if self._octets.find(END, max(0, len(self._octets) - len(data) - len(END))) >= 0 or (
                len(self._octets) > MAX_HEAD
            ):
                self._head.set_result(None)
                if self._transport is not None:
                    self._transport.pause_reading()

    def eof_received(self) -> bool | None:
        if self._behind is not None:
            return self._behind.eof_received()
        return None  # closes the connection

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.gates.discard(self)
        self._transport = None
        if self._behind is not None:
            self._behind.connection_lost(exc)
        elif self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        if self._behind is not None:
            self._behind.pause_writing()

    def resume_writing(self) -> None:
        if self._behind is not None:
            self._behind.resume_writing()

    # The way of one request

    @property
    def held(self) -> int:
        """Octets that have come and have gone nowhere yet."""
        return len(self._octets)

    def drop(self) -> None:
        """Close the connection, unless its request was admitted."""
        if self._behind is None and self._transport is not None:
            self._transport.abort()

    async def _run(self, transport: asyncio.Transport) -> None:
        head: Head | None = None
        rules = self._listener.rules
        try:
            peer = await self._listener.look(transport.get_extra_info("socket"), self._accepted)
            rules.check_peer(peer)
            head = await self._read_head()
            rules.check_host(head)
            origin = rules.check_origin(head)
            if head.method == "OPTIONS" and head.values("access-control-request-method"):
                self._answer(204, preflight_headers(head, origin), b"")
                return
            admitted = await rules.admit(head, peer, origin)
            if len(self._octets) > admitted.length:
                raise FormatError("http_refused", "there is more than the one request that a connection carries")
        except (SealAgentError, DriverError) as error:
            self._refuse(error, head)
        except Exception:
            # Nothing is let through by a fault.
            log.exception("a page's request failed at the gate")
            self._refuse(SealAgentError("internal_error", "an unforeseen fault; the daemon's log has the trace"), head)
        else:
            self._admit(transport, head, admitted.caller, admitted.fields, admitted.length)

    async def _read_head(self) -> Head:
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                await self._head
        except TimeoutError:
            raise LimitExceeded("head_timeout", f"the head took longer than {HEAD_SECONDS} s") from None
        end = self._octets.find(END)
        if not 0 <= end <= MAX_HEAD - len(END):
            raise LimitExceeded("head_too_large", f"the head of a request may have {MAX_HEAD} octets")
        octets = bytes(self._octets[: end + len(END)])
        del self._octets[: end + len(END)]
        return parse_head(octets)

    def _admit(
        self,
        transport: asyncio.Transport,
        head: Head,
        caller: Caller,
        fields: Sequence[tuple[str, str]],
        length: int,
    ) -> None:
        if transport.is_closing():
            return
        self._left = length
        self._behind = self._listener.serve(transport, caller)
        self._behind.connection_made(transport)
        self._behind.data_received(write_head(head.method, head.target, fields))
        came, self._octets = bytes(self._octets), bytearray()
        transport.resume_reading()
        if came:
            self._pass_on(came)

    def _pass_on(self, data: bytes) -> None:
        """Give the server the body and no more: what comes after it would be another request."""
        assert self._behind is not None
        if len(data) > self._left:
            self._listener.note("a page sent more than the body it announced; the connection is cut")
            if self._transport is not None:
                self._transport.abort()
            return
        self._left -= len(data)
        self._behind.data_received(data)

    def _refuse(self, error: SealAgentError | DriverError, head: Head | None) -> None:
        origin = self._listener.rules.origin(head) if head is not None else None
        if head is not None:
            self._listener.note(
                "page of %s: %s %r: %s: %r", origin, head.method, head.path[:200], error.code, error.message
            )
        else:
            self._listener.note("page: %s: %r", error.code, error.message)
        status, body = problem_octets(error)
        headers = [*answer_headers(origin), ("Content-Type", PROBLEM_MEDIA_TYPE)]
        if isinstance(error, SealAgentError) and isinstance(wait := error.facts.get("retry_after"), int):
            headers.append(("Retry-After", str(wait)))
        if status == 401:
            headers.append(("WWW-Authenticate", CHALLENGE))
        self._answer(status, headers, body)

    def _answer(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if body:
            headers = [*headers, ("Content-Length", str(len(body)))]
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        transport.write("\r\n".join(lines).encode("ascii") + END + body)
        transport.close()
        # A client that takes nothing must not hold its place.
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, _abort, transport)


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there"
    if error.errno == errno.EAFNOSUPPORT:
        return "AF_INET is not among RestrictAddressFamilies= of the agent's systemd unit"
    return error.strerror or str(error)


def _abort(transport: Any) -> None:
    transport.abort()
