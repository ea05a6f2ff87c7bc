"""A daemon's events as a test hears them."""

from __future__ import annotations

import http.client
import json
import queue
import socket
import threading
import time
from pathlib import Path
from typing import Any

from agent_world import Daemon

__all__ = ["Heard"]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Heard:
    """The events of a daemon from now on. Ends with the daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._events: queue.Queue[tuple[float, str, dict[str, Any]]] = queue.Queue()
        self._connection = _Connection(daemon.socket)
        self._connection.request("GET", "/v1/events")
        self._response = self._connection.getresponse()  # whoever got this is listening
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        name = ""
        for line in self._response:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                self._events.put((time.monotonic(), name, json.loads(value)))

    def until(self, wanted: str, seconds: float = 5.0) -> dict[str, Any]:
        """Wait for an event, dropping others; return its data."""
        return self.moment(wanted, seconds)[1]

    def moment(self, wanted: str, seconds: float = 5.0) -> tuple[float, dict[str, Any]]:
        """Wait for an event, dropping others; return when it came (monotonic clock) and its data."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                when, name, data = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {wanted} within {seconds} s") from None
            if name == wanted:
                return when, data

    def rest(self, seconds: float) -> list[str]:
        """Return the names of what comes within a time."""
        time.sleep(seconds)
        return [self._events.get_nowait()[1] for _ in range(self._events.qsize())]

    def close(self) -> None:
        """Stop the daemon, which ends the stream."""
        self._daemon.stop()
        self._thread.join(10)
        self._connection.close()
