"""Load on the socket: client processes that send a prepared request in a closed loop and check every answer.

Run as ``python -m bench.load SOCKET SECONDS REQUEST_FILE``: prints one line of JSON.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients of one run saw together."""

    rate: float
    """Answers a second."""
    p50: float
    """Microseconds."""
    p99: float


def request_octets(path: str, body: dict[str, object]) -> bytes:
    """Return an HTTP request with a JSON body."""
    octets = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(octets)}"
    return head.encode() + b"\r\n\r\n" + octets


def _answer(connection: socket.socket) -> None:
    received = b""
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += connection.recv(65536)
    if not received.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"not a signature: {received[:300]!r}")
    head = received[:end].lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    missing = length - (len(received) - end - 4)
    while missing > 0:
        missing -= len(connection.recv(65536))


def _client(path: str, seconds: float, request: bytes) -> None:
    times = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        sys.stdin.readline()  # all clients begin together
        start = before = time.perf_counter()
        while before - start < seconds:
            connection.sendall(request)
            _answer(connection)
            now = time.perf_counter()
            times.append(now - before)
            before = now
    print(json.dumps({"seconds": before - start, "times": times}))


def run(path: Path, clients: int, seconds: float, request: bytes, directory: Path) -> Load:
    """Run clients against a socket and sum up what they saw."""
    file = directory / "request.bin"
    file.write_bytes(request)
    command = [sys.executable, "-m", "bench.load", str(path), str(seconds), str(file)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(clients)
    ]
    time.sleep(0.3)
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = []
    for process in running:
        output, _ = process.communicate()
        if process.returncode:
            raise RuntimeError("a client failed")
        answers.append(json.loads(output))
    return summed(answers)


def summed(answers: Sequence[dict[str, object]]) -> Load:
    """Add the rates up and take percentiles over all times."""
    times = sorted(value for answer in answers for value in answer["times"])  # type: ignore[attr-defined]
    rate = sum(len(answer["times"]) / answer["seconds"] for answer in answers)  # type: ignore[arg-type, operator]
    return Load(rate, times[len(times) // 2] * 1e6, times[int(len(times) * 0.99)] * 1e6)


if __name__ == "__main__":
    _client(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]).read_bytes())
