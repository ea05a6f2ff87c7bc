"""Servers on loopback for the tests of the status questions: honest, slow, absent, lying, endless."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import rfc8785

from sample_seals import Identity
from sealagent.pki import signatures
from sealagent.pki.certificates import Certificate
from sealagent.pki.signed import prepare_signed
from sealagent.pki.trust import TrustClass, TrustEntry, TrustRole, TrustSource, TrustStore
from sealagent.seals.answers import (
    StatusAnswer,
    StatusList,
    encode_answer,
    encode_list,
    seal_sm3,
)
from sealagent.seals.status import SealState, StateChange


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


Answer = Callable[["Reply", Asked], None]


class Reply(BaseHTTPRequestHandler):
    """Answers by what the server's ``answer`` does with this object."""

    server: Server
    protocol_version = "HTTP/1.1"

    def octets(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Send a whole answer. :param headers: ``_`` stands for ``-``."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        asked = Asked(
            self.command,
            parts.path,
            {name: values[0] for name, values in parse_qs(parts.query).items()},
            dict(self.headers.items()),
            self.rfile.read(int(self.headers.get("Content-Length", 0))),
        )
        self.server.asked.append(asked)
        with contextlib.suppress(ConnectionError):
            self.server.answer(self, asked)

    do_GET = do_POST = _handle

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A server whose answers can be changed while it runs."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Reply)
        self.answer = answer
        self.asked: list[Asked] = []
        self.stopping = threading.Event()
        """What waits on it lets go when the test ends."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """A client that leaves in the middle is what these tests are about."""


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    """Run a server on a free port of loopback."""
    server = Server(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """Listen without ever answering; yield the address."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def absent() -> str:
    """Return an address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@dataclass
class Seconds:
    """A monotonic clock that tests move on."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


_signing = threading.Lock()
"""OpenSSL reads what it signs from a file beside the key."""


def signed(content: bytes, identity: Identity, time: datetime) -> bytes:
    """Return a signed message; OpenSSL holds the key."""
    algorithm = signatures.algorithm(identity.algorithm)
    draft = prepare_signed(content, Certificate.from_der(identity.der), algorithm, time)
    with _signing:
        return draft.finish(identity.sign(draft.to_sign))


def changes(start: datetime, *states: SealState) -> tuple[StateChange, ...]:
    """Return a history with a state an hour, from ``start``."""
    return tuple(StateChange(state, start + number * timedelta(hours=1)) for number, state in enumerate(states))


VALID = (SealState.MADE, SealState.FILED, SealState.VALID)


@dataclass
class Unit:
    """A production-management unit: a seal, what is known of it, and a service that tells."""

    signer: Identity
    """Signs the answers."""
    clock: Callable[[], datetime]
    seal: bytes
    history: tuple[StateChange, ...]
    es_id: str = "0001"
    lasts: timedelta = timedelta(minutes=10)
    twist: Callable[[StatusAnswer], StatusAnswer] | None = None
    """Changes an answer before it is signed."""
    octets: Callable[[bytes], bytes] | None = None
    """Changes the content before it is signed."""

    def answer(self, sm3: str, nonce: bytes = b"") -> bytes:
        """Return a signed answer."""
        now = self.clock().astimezone(UTC).replace(microsecond=0)
        known = self.history if sm3 == seal_sm3(self.seal) else ()
        answer = StatusAnswer("测试单位", sm3, self.es_id if known else "", known, now, now, now + self.lasts, nonce)
        answer = self.twist(answer) if self.twist else answer
        content = encode_answer(answer)
        return signed(self.octets(content) if self.octets else content, self.signer, now)

    def list(self, sequence: int = 1, **changed: Any) -> bytes:
        """Return a signed list with the seal in it."""
        now = self.clock().astimezone(UTC).replace(microsecond=0)
        seals = {seal_sm3(self.seal): self.history}
        listed = StatusList("unit-seals", "测试单位", sequence, now, now + self.lasts, seals)
        return signed(encode_list(replace(listed, **changed)), self.signer, now)

    def __call__(self, reply: Reply, asked: Asked) -> None:
        """Answer over HTTP."""
        sm3 = asked.path.rpartition("/")[2]
        reply.octets(self.answer(sm3, bytes.fromhex(asked.query.get("nonce", ""))))


def listed_entry(identity: Identity, *roles: TrustRole, name: str = "unit", **changed: Any) -> TrustEntry:
    """Return an entry of a trust list."""
    long = timedelta(days=5000)
    source = TrustSource(name, 1, "110000", "北京市", "测试单位", datetime.now(UTC) - long, datetime.now(UTC) + long)
    if "urls" in changed:
        source = replace(source, status_urls=changed.pop("urls"))
    return TrustEntry(Certificate.from_der(identity.der), frozenset(roles), TrustClass.COMMERCIAL, source, **changed)


def trusting(*entries: TrustEntry) -> TrustStore:
    """Return a trust store of these entries alone."""
    return TrustStore((), "test", entries)


def put_list(folder: Path, name: str, message: bytes) -> None:
    """Put a signed list into a folder, as an operator does."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(message)


def with_members(**members: Any) -> Callable[[bytes], bytes]:
    """Return a change of a content that sets members, in canonical form."""
    return lambda content: rfc8785.dumps(json.loads(content) | members)
