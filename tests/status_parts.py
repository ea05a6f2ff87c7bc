"""Servers on loopback for the tests of the status questions: honest, slow, absent, lying, endless."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


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
