"""HTTP over the agent's Unix socket, with nothing but the standard library: a program starts fast."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from sealagent.client.errors import AgentError, AgentUnreachable

__all__ = ["Transport"]

CHUNK = 256 << 10
"""Octets sent or received at once."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._wire: socket.socket | None = None
        self._aborted = False

    def connect(self) -> None:
        self._wire = self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
        if self._aborted:
            raise ConnectionAbortedError("the request was given up")

    def abort(self) -> None:
        """End the connection under whoever waits for its answer in another thread; closing would not wake it."""
        self._aborted = True  # before the look at the socket: one that is being connected sees it
        if self._wire is not None:
            with contextlib.suppress(OSError):
                self._wire.shutdown(socket.SHUT_RDWR)


class Transport:
    """One connection, kept open between requests and opened anew when the agent closed it meanwhile.

    :param path: the agent's socket. :param timeout: seconds to wait for an answer; a PIN prompt counts.
    :param headers: sent with every request.
    """

    def __init__(self, path: Path, timeout: float, headers: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._timeout = timeout
        self._headers = dict(headers or {})
        self._connection: _UnixConnection | None = None
        self._aborted = False

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abort(self) -> None:
        """Give up, from another thread, what is under way; nothing can be asked with this transport afterwards."""
        self._aborted = True
        if self._connection is not None:
            self._connection.abort()

    def json(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Send a request and return the JSON answer. :raises AgentError: the agent's problem details."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        octets = json.dumps(body).encode() if body is not None else None
        response = self._send(method, path, octets, headers, idempotency_key)
        answer = json.loads(response.read())
        assert isinstance(answer, dict)
        return answer

    def octets(self, path: str) -> bytes:
        """Get a resource as it is."""
        return self._send("GET", path, None, {}, None).read()

    def chunks(self, path: str) -> Iterator[bytes]:
        """Get a large resource piece by piece. :raises AgentUnreachable: it broke off."""
        response = self._send("GET", path, None, {}, None)
        while chunk := response.read(CHUNK):
            yield chunk
        if response.length:  # read() does not tell an answer that breaks off from one that ends
            self.close()
            raise AgentUnreachable(f"the agent ended the answer {response.length} octets too early")

    def lines(self, path: str) -> Iterator[bytes]:
        """Get an endless resource line by line (events)."""
        response = self._send("GET", path, None, {}, None)
        while line := response.readline():
            yield line

    def document(
        self, path: str, request: Mapping[str, Any], document: BinaryIO, *, idempotency_key: str | None = None
    ) -> http.client.HTTPResponse:
        """Send a document (multipart: ``request``, ``document``) from a seekable file; return the response unread."""
        boundary = os.urandom(16).hex()
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="request"\r\n'
            f"Content-Type: application/json\r\n\r\n{json.dumps(request)}\r\n"
            f'--{boundary}\r\nContent-Disposition: form-data; name="document"; filename="document"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        start = document.tell()
        length = document.seek(0, os.SEEK_END) - start

        class _Body:
            """The body anew for each attempt; the length is known, so nothing is chunked."""

            def __iter__(self) -> Iterator[bytes]:
                document.seek(start)
                yield head
                left = length
                while left > 0 and (chunk := document.read(min(CHUNK, left))):
                    left -= len(chunk)
                    yield chunk
                yield tail

        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + length + len(tail)),
        }
        return self._send("POST", path, _Body(), headers, idempotency_key)

    def request(
        self, method: str, path: str, body: bytes | None, media_type: str | None, *, idempotency_key: str | None = None
    ) -> http.client.HTTPResponse:
        """Send a request as it is; return the response unread. :raises AgentError: the agent's problem details."""
        headers = {"Content-Type": media_type} if media_type is not None else {}
        return self._send(method, path, body, headers, idempotency_key)

    def _send(
        self, method: str, path: str, body: Any, headers: dict[str, str], idempotency_key: str | None
    ) -> http.client.HTTPResponse:
        headers = {**self._headers, **headers}
        if idempotency_key is not None:
            headers = {**headers, "Idempotency-Key": idempotency_key}
        for reused in (self._connection is not None, False):
            connection = self._connection or _UnixConnection(self._path, self._timeout)
            self._connection = connection
            if self._aborted:  # looked at after the connection is in its place, where abort() finds it
                connection.abort()
            try:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
            except (FileNotFoundError, ConnectionRefusedError, PermissionError) as error:
                self.close()
                raise AgentUnreachable(f"nothing listens at {self._path} ({error.strerror})") from error
            except TimeoutError as error:
                self.close()
                raise AgentError("agent_timeout", f"no answer within {self._timeout} s") from error
            except (http.client.RemoteDisconnected, ConnectionError) as error:
                self.close()
                # A kept connection that the agent closed while idle carried nothing; a fresh one may have.
                if reused and (idempotency_key is not None or method == "GET"):
                    continue
                raise AgentUnreachable(f"the agent closed the connection: {error}") from error
            if response.status >= 400:
                raise self._problem(response)
            return response
        raise AssertionError("unreachable")

    def _problem(self, response: http.client.HTTPResponse) -> AgentError:
        octets = response.read()
        if response.getheader("Connection", "").lower() == "close":
            self.close()
        try:
            problem = json.loads(octets)
            return AgentError(problem["code"], problem["detail"], problem)
        except (ValueError, KeyError, TypeError):
            return AgentError("agent_failed", f"the agent answered {response.status} {response.reason}")
