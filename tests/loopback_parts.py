"""The loopback listener with a small application behind it that notes what reaches it, and raw sockets to ask it.

The listener, its gate, its rules and the way to the kernel's table of connections are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from aiohttp import web

from sealagent.api.loopback import LoopbackListener
from sealagent.api.pages import PageRules
from sealagent.api.routing import ARRIVED
from sealagent.callers.model import Paired
from sealagent.callers.peer import Caller
from sealagent.callers.tcp import tcp_peer_of
from sealagent.catalog import CATALOG
from sealagent.errors import SealAgentError

ORIGIN = "https://office.example"
OTHER = "https://bank.example:8443"
TOKEN = "t" * 43
BODY_OCTETS = 100_000


@dataclass
class Behind:
    """The application behind the gate, and how to reach it."""

    port: int
    listener: LoopbackListener
    reached: list[tuple[str, str, dict[str, str], bytes, Caller]] = field(default_factory=list)
    """Method, target, headers, body and caller of each request that came through."""
    identified: list[str | None] = field(default_factory=list)
    """The tokens that somebody had to look up."""
    ahead: float = 0.0
    """Seconds that the clock of the rules runs ahead."""
    peer_uid: int | None = None
    """The user that the kernel is made to name."""
    fault: Exception | None = None
    """What identifying fails with."""
    hesitates: float = 0.0
    """Seconds that identifying takes: the holder is asked about a program that changed."""

    def ask(
        self, method: str = "GET", target: str = "/v1/status", *, body: bytes | None = None, **fields: str | None
    ) -> Answer:
        """Send a request that is all right but for what is given; a field of None is left out."""
        return self.send(self.head(method, target, body=body, **fields) + (body or b""))

    def head(
        self, method: str = "GET", target: str = "/v1/status", *, body: bytes | None = None, **fields: str | None
    ) -> bytes:
        usual: dict[str, str | None] = {
            "Host": f"127.0.0.1:{self.port}",
            "Origin": ORIGIN,
            "Authorization": f"Bearer {TOKEN}",
        }
        if body is not None:
            usual |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        usual |= {name.replace("_", "-"): value for name, value in fields.items()}
        lines = [f"{name}: {value}" for name, value in usual.items() if value is not None]
        return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode()

    def send(self, octets: bytes) -> Answer:
        """Send octets as they are; return what is answered until the connection is closed."""
        with socket.create_connection(("127.0.0.1", self.port), 15) as raw:
            raw.sendall(octets)
            return read_answer(raw)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes
    octets: bytes

    @property
    def answers(self) -> int:
        """How many answers came."""
        return len(re.findall(rb"HTTP/1\.1 \d{3} ", self.octets))

    @property
    def code(self) -> str:
        """The code of a problem."""
        assert self.headers["content-type"] == "application/problem+json", self
        return str(json.loads(self.body)["code"])


def read_answer(raw: socket.socket) -> Answer:
    """Read until the other side closes. A reset after an answer is the end of what was not read."""
    octets = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := raw.recv(65536):
            octets += piece
    head, _, body = octets.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    headers: dict[str, str] = {}
    for text in fields:
        name, _, value = text.partition(": ")
        assert name.lower() not in headers, f"{name} is there twice"
        headers[name.lower()] = value
    return Answer(int(line.split()[1]), headers, body, octets)


def free_port() -> int:
    """Return a port of 127.0.0.1 at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def opened_listener() -> Iterator[Behind]:
    """A listener in a thread of its own."""
    port = free_port()
    place = Behind(port, None)  # type: ignore[arg-type]

    async def noted(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        caller = request.app[ARRIVED][request.transport]
        place.reached.append((request.method, request.raw_path, dict(request.headers), body, caller))
        if request.path == "/v1/events":
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for number in range(3):
                await response.write(f"data: {number}\n\n".encode())
                await asyncio.sleep(0.05)
            return response
        return web.json_response({"got": len(body)}, headers={"SealAgent-Receipt": "{}"})

    async def identify(caller: Caller, token: str | None) -> Caller:
        place.identified.append(token)
        await asyncio.sleep(place.hesitates)
        if place.fault is not None:
            raise place.fault
        if token is None:
            return caller
        if token != TOKEN:
            raise SealAgentError("token_invalid", "the token is none of this agent's")
        return replace(caller, application=Paired("a1", "Office"))

    def peer(sock: socket.socket, accepted: int) -> Caller:
        found = tcp_peer_of(sock, os.getuid(), accepted)
        return found if place.peer_uid is None else replace(found, uid=place.peer_uid)

    async def serve(ready: threading.Event, stop: asyncio.Event) -> None:
        app = web.Application()
        app[ARRIVED] = weakref.WeakKeyDictionary()
        app.router.add_route("*", "/{path:.*}", noted)
        rules = PageRules(
            owner_uid=os.getuid(),
            hosts=frozenset({f"127.0.0.1:{port}", f"localhost:{port}"}),
            origins=frozenset({ORIGIN, OTHER}),
            identify=identify,
            body_octets=BODY_OCTETS,
            monotonic=lambda: time.monotonic() + place.ahead,
        )
        place.listener = LoopbackListener(app, port, rules, peer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        assert runner.server is not None
        await place.listener.start(runner.server)
        ready.set()
        await stop.wait()
        place.listener.stop()
        await runner.cleanup()

    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(ready, stop)))
    thread.start()
    assert ready.wait(20)
    try:
        yield place
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


def refused(behind: Behind, answer: Answer, code: str) -> None:
    """It was refused by name, nothing reached the application, nobody looked up a token, nobody else may read why."""
    assert answer.code == code, answer
    assert answer.status == CATALOG[code].status
    assert answer.headers["connection"] == "close"
    assert behind.reached == []
    dressed(answer)


def dressed(answer: Answer) -> None:
    assert answer.headers["vary"] == "Origin"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "set-cookie" not in answer.headers
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers.get("access-control-allow-origin") in (None, ORIGIN, OTHER)
