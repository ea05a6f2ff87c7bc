"""Messages of an extension to requests of the agent, several at once, and the answers back.

Each request has a thread and a connection of its own, so that one that waits for the holder, or fails, is no other's
business. Nothing that passes is logged.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sealagent.browser.framing import MAX_MESSAGE_IN, Assembly, Oversized, in_messages
from sealagent.browser.requests import Cancel, Part, Request, ident_of, read_json, read_message
from sealagent.browser.routes import EVENTS, RECORD
from sealagent.client.errors import AgentError
from sealagent.client.transport import CHUNK, Transport
from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.problem_details import PROBLEM_MEDIA_TYPE, problem_body

__all__ = ["ORIGIN_HEADER", "PAGE_HEADER", "Bridge", "BrowserGone"]

ORIGIN_HEADER = "SealAgent-Origin"
"""Which extension asks, as the browser said when it started the host. The agent believes a browser's child only."""
PAGE_HEADER = "SealAgent-Page"
"""Origin of the web page that the extension says it acts for."""

MAX_IN_FLIGHT = 16
"""Requests under way at once, streams of events and requests that come in parts included."""
MAX_HELD = 64 << 20
"""Octets of requests held at once: one of the largest, beside others. Reading and writing JSON takes thrice that."""
WAIT_SECONDS = 3600.0
"""Patience for the agent, whose own limits on prompts and batches are what ends a request."""
MAX_EVENT = 64 << 10
"""Octets of one line of the events stream; events hold names and numbers."""

_NOT_TOLD = frozenset({"detail", "reasons"})
"""Members of events that an extension does not see: events are about everybody's requests, and these are free text."""

_PASSED_ON = ("Content-Type", "SealAgent-Receipt", "Retry-After")
"""Headers of answers that an extension sees."""


class BrowserGone(Exception):
    """The browser takes nothing any more."""


class _UnderWay:
    """A request that is being asked, or is coming in parts."""

    def __init__(self) -> None:
        self.assembly: Assembly | None = None
        self.transport: Transport | None = None
        self.held = 0
        self.cancelled = False


class Bridge:
    """Serves one extension.

    :param origin: which, as the browser names it. :param socket: of the agent.
    :param write: sends one message to the browser; called by several threads, one at a time; raises
        :class:`BrowserGone`.
    """

    def __init__(self, origin: str, socket: Path, write: Callable[[bytes], None]) -> None:
        self._origin = origin
        self._socket = socket
        self._write = write
        self._writing = threading.Lock()
        self._lock = threading.Lock()
        """Of the two below."""
        self._under_way: dict[int, _UnderWay] = {}
        self._held = 0

    def take(self, octets: bytes | Oversized) -> None:
        """Take a message of the browser; return as soon as it is understood, and answer when there is an answer.

        :raises BrowserGone:
        """
        ident: int | None = None
        try:
            if isinstance(octets, Oversized):
                message = f"a message may have {MAX_MESSAGE_IN} octets; more goes in parts"
                raise LimitExceeded("message_too_large", message, octets=octets.octets)
            value = read_json(octets)
            ident = ident_of(value)
            self._take(value, len(octets))
        except SealAgentError as error:
            if error.code == "id_in_use":  # under that id another answer is waited for
                ident = None
            self._refuse(ident, error)

    def close(self) -> None:
        """Give up everything under way; nothing is answered any more."""
        with self._lock:
            transports = [work.transport for work in self._under_way.values()]
            self._under_way.clear()
        for transport in transports:
            if transport is not None:
                transport.abort()

    def _take(self, value: Mapping[str, Any], size: int) -> None:
        match read_message(value):
            case Cancel(ident):
                self._cancel(ident)
            case Part() as part:
                self._part(part)
            case Request() as request:
                self._start(request, self._begin(request.id, size))

    def _begin(self, ident: int, size: int) -> _UnderWay:
        """Take a place for a request. :raises SealAgentError: ``id_in_use``, ``bridge_busy``."""
        work = _UnderWay()
        with self._lock:
            if ident in self._under_way:
                raise SealAgentError("id_in_use", f"a request with the id {ident} is under way", message_id=ident)
            if len(self._under_way) >= MAX_IN_FLIGHT:
                raise SealAgentError("bridge_busy", f"{MAX_IN_FLIGHT} requests are under way")
            self._hold(work, size)
            self._under_way[ident] = work
        return work

    def _hold(self, work: _UnderWay, size: int) -> None:
        if self._held + size > MAX_HELD:
            raise SealAgentError("bridge_busy", f"requests of {MAX_HELD} octets are under way")
        self._held += size
        work.held += size

    def _finish(self, ident: int, work: _UnderWay) -> bool:
        """Free the place of a request; say whether it was still its."""
        with self._lock:
            self._held -= work.held
            work.held = 0
            if self._under_way.get(ident) is not work:
                return False
            del self._under_way[ident]
            return True

    def _cancel(self, ident: int) -> None:
        with self._lock:
            work = self._under_way.get(ident)
            if work is None:  # its answer and the wish crossed
                return
            work.cancelled = True
            transport = work.transport
        if transport is not None:
            transport.abort()
        elif work.assembly is not None:
            self._end(ident, work, {"id": ident, "cancelled": True})

    def _part(self, part: Part) -> None:
        with self._lock:
            work = self._under_way.get(part.id)
        if work is None:
            if part.number != 0:
                raise FormatError("message_invalid", f"part {part.number} came, and no part 0 before it")
            work = self._begin(part.id, 0)
            work.assembly = Assembly()
        elif work.assembly is None:
            raise SealAgentError("id_in_use", f"a request with the id {part.id} is under way", message_id=part.id)
        try:
            size = part.into(work.assembly)
            with self._lock:
                self._hold(work, size)
            if not part.last:
                return
            value = read_json(work.assembly.octets())
            work.assembly = None
            if ident_of(value) != part.id:
                raise FormatError("message_invalid", "the id within the parts differs from that of the parts")
            request = read_message(value, assembled=True)
            assert isinstance(request, Request)
        except SealAgentError:
            self._finish(part.id, work)
            raise
        self._start(request, work)

    def _start(self, request: Request, work: _UnderWay) -> None:
        headers = {ORIGIN_HEADER: self._origin}
        if request.page is not None:
            headers[PAGE_HEADER] = request.page
        if request.token is not None:
            headers["Authorization"] = f"Bearer {request.token}"
        work.transport = Transport(self._socket, WAIT_SECONDS, headers)
        threading.Thread(target=self._serve, args=(request, work, work.transport), daemon=True).start()

    def _serve(self, request: Request, work: _UnderWay, transport: Transport) -> None:
        """Ask the agent and answer; nothing escapes but the end of the browser."""
        try:
            if request.template == EVENTS:
                self._stream(request, transport)
            else:
                response = self._ask(request, transport)
                self._answer(request.id, work, _answer_pieces(request.id, response))
        except BrowserGone:
            pass  # whoever reads from it finds out, too, and ends everything
        except Exception as error:
            with contextlib.suppress(BrowserGone):
                if work.cancelled:
                    self._end(request.id, work, {"id": request.id, "cancelled": True})
                elif self._finish(request.id, work):  # else nobody waits: everything was given up
                    self._refuse(request.id, error)
        finally:
            transport.close()

    def _ask(self, request: Request, transport: Transport) -> http.client.HTTPResponse:
        if request.template == RECORD:
            self._own_record(request, transport)
        body = None if request.body is None else json.dumps(request.body).encode()
        media_type = None if body is None else "application/json"
        return transport.request(
            request.method, request.path, body, media_type, idempotency_key=request.idempotency_key
        )

    def _own_record(self, request: Request, transport: Transport) -> None:
        """Let an extension see what is on record of its own requests. :raises SealAgentError: ``record_not_own``."""
        body = transport.json("GET", request.path)["body"]
        if "caller" not in body and isinstance(body.get("intent"), int):
            body = transport.json("GET", f"/v1/records/{body['intent']}")["body"]
        caller = body.get("caller")
        if not isinstance(caller, dict) or caller.get("origin") != self._origin:
            raise SealAgentError("record_not_own", "the entry is not about a request of this extension")

    def _stream(self, request: Request, transport: Transport) -> None:
        response = transport.request("GET", request.path, None, None)
        self._say({"id": request.id, "status": response.status, "event": None})
        name = ""
        while line := response.readline(MAX_EVENT):
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                told = {member: fact for member, fact in json.loads(value).items() if member not in _NOT_TOLD}
                self._say({"id": request.id, "event": name, "data": told})
        raise AgentError("agent_unreachable", "the agent ended the stream of events")

    def _answer(self, ident: int, work: _UnderWay, pieces: Iterator[bytes]) -> None:
        """Send an answer. Its id is free before its last message goes: the extension may use it again at once."""
        messages = in_messages(ident, pieces)
        waiting = next(messages)
        for message in messages:
            self._send(waiting)
            waiting = message
        if self._finish(ident, work):
            self._send(waiting)

    def _end(self, ident: int, work: _UnderWay, message: Mapping[str, Any]) -> None:
        if self._finish(ident, work):
            self._say(message)

    def _refuse(self, ident: int | None, error: Exception) -> None:
        problem = _problem(error)
        headers = {"content-type": PROBLEM_MEDIA_TYPE}
        self._say({"id": ident, "status": problem["status"], "headers": headers, "body": problem})

    def _say(self, message: Mapping[str, Any]) -> None:
        self._send(json.dumps(message).encode())

    def _send(self, message: bytes) -> None:
        with self._writing:
            self._write(message)


def _problem(error: Exception) -> dict[str, Any]:
    """Return problem details; of an unforeseen error only its kind, since what it says may quote."""
    match error:
        case AgentError() if "status" in error.problem:
            return error.problem
        case AgentError():
            return problem_body(error.code, error.detail)
        case SealAgentError():
            return problem_body(error.code, error.message, dict(error.facts))
        case OSError() | http.client.HTTPException():
            return problem_body("agent_unreachable", f"the connection to the agent broke: {type(error).__name__}")
    return problem_body("internal_error", f"an unforeseen fault of the bridge: {type(error).__name__}")


def _answer_pieces(ident: int, response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield an answer's JSON; what is no JSON itself is in it as base64."""
    headers = {name.lower(): value for name in _PASSED_ON if (value := response.getheader(name)) is not None}
    head: dict[str, Any] = {"id": ident, "status": response.status, "headers": headers}
    is_json = headers.get("content-type", "").partition(";")[0].strip() == "application/json"
    if not is_json:
        head["encoding"] = "base64"
    yield json.dumps(head)[:-1].encode() + b', "body": ' + (b"" if is_json else b'"')
    kept = b""
    empty = True
    while chunk := response.read(CHUNK):
        empty = False
        if is_json:
            yield chunk
        else:
            kept += chunk
            whole = len(kept) // 3 * 3  # base64 of multiples of three octets can be put together
            yield base64.b64encode(kept[:whole])
            kept = kept[whole:]
    if response.length:  # read() does not tell an answer that breaks off from one that ends
        raise http.client.IncompleteRead(b"", response.length)
    if is_json:
        yield b"null}" if empty else b"}"
    else:
        yield base64.b64encode(kept) + b'"}'
