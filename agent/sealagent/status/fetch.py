"""HTTP for the judge's questions: bounded in time, size and number, and suspicious of whoever answers.

The judge works in threads and waits for its answers; the client (aiohttp) wants an event loop. It gets one of its own,
in a thread that starts with the first question: an agent that asks nobody has none. Never called from an event loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from sealagent.errors import LimitExceeded, SealAgentError

__all__ = ["HOST_REST_SECONDS", "TIMEOUT_SECONDS", "Fetcher"]

TIMEOUT_SECONDS = 5.0
"""Seconds for one question, from the look-up of the name to the last octet, unless the configuration says otherwise."""

QUESTIONS_AT_ONCE = 8
"""Connections in all; a further question waits, and the wait counts in its time."""

HOST_REST_SECONDS = 10.0
"""Seconds for which a host that kept a question waiting in vain is not asked again: a listing of fifty seals would
otherwise wait fifty times."""

IN_VAIN_SECONDS = 1.0
"""A failure that took at least so long counts as a wait in vain; a refused connection takes no time and is no harm."""

MAX_HOSTS = 256  # hosts remembered; addresses may come from certificates of strangers
MAX_URL = 2048  # characters; a nonce, a digest and a path have some 200

CHUNK = 64 << 10  # octets read at once
GRACE_SECONDS = 2.0
"""Seconds beyond a question's own time for which its thread is waited for, should the loop be held up."""

_HEADERS = {"User-Agent": "SealAgent", "Accept": "*/*", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class _Rest:
    until: float
    """Of the monotonic clock."""
    error: SealAgentError


class Fetcher:
    """Asks over http and https. Redirects, cookies, compression and the environment's proxies are not followed.

    :param timeout: seconds for one question in all.
    :param clock: monotonic seconds, for the rest of hosts.
    """

    def __init__(self, timeout: float = TIMEOUT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._resting: dict[str, _Rest] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        # These two belong to the loop's thread.
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    def __call__(self, url: str, body: bytes | None, content_type: str | None, limit: int) -> bytes:
        """Return what a server answers with status 200: to GET without a body, else to POST.

        :param content_type: of the body.
        :param limit: octets the answer may have; it is enforced while reading.
        :raises SealAgentError: ``service_unreachable`` (no such address or host, no connection, a broken answer),
            ``service_timeout``, ``service_refused`` (another status, or a redirect; fact ``http_status``).
        :raises LimitExceeded: ``service_answer_too_large``.
        :raises RuntimeError: called in a thread that runs an event loop, which would stand still.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("Fetcher was called in an event loop's thread; use asyncio.to_thread")
        host = _host(url)
        self._refuse_resting(host)
        begun = self._clock()
        try:
            octets = self._wait(url, body, content_type, limit)
        except SealAgentError as error:
            if error.code in ("service_timeout", "service_unreachable"):
                self._remember(host, begun, error)
            raise
        with self._lock:
            self._resting.pop(host, None)
        return octets

    def close(self) -> None:
        """End the thread, if there is one; questions under way fail with ``service_unreachable``."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            if loop is None or thread is None or loop.is_closed():
                return
            loop.call_soon_threadsafe(loop.stop)
        thread.join(GRACE_SECONDS)

    # In the thread of whoever asks

    def _refuse_resting(self, host: str) -> None:
        with self._lock:
            rest = self._resting.get(host)
            if rest is None:
                return
            left = rest.until - self._clock()
            if left <= 0:
                del self._resting[host]
                return
        raise SealAgentError(rest.error.code, f"{rest.error.message}; it is asked again in {left:.0f} s")

    def _remember(self, host: str, begun: float, error: SealAgentError) -> None:
        now = self._clock()
        if error.code != "service_timeout" and now - begun < IN_VAIN_SECONDS:
            return
        with self._lock:
            if len(self._resting) >= MAX_HOSTS:
                del self._resting[min(self._resting, key=lambda name: self._resting[name].until)]
            self._resting[host] = _Rest(now + HOST_REST_SECONDS, error)

    def _wait(self, url: str, body: bytes | None, content_type: str | None, limit: int) -> bytes:
        with self._lock:  # so that close() comes before or after, and finds the question in the second case
            if self._closed:
                raise SealAgentError("service_unreachable", "nobody is asked any more: the agent is ending")
            future = asyncio.run_coroutine_threadsafe(self._ask(url, body, content_type, limit), self._running())
        try:
            return future.result(self.timeout + GRACE_SECONDS)
        except concurrent.futures.CancelledError as error:
            raise SealAgentError("service_unreachable", "the question was given up: the agent is ending") from error
        except TimeoutError as error:
            future.cancel()
            raise SealAgentError("service_timeout", f"{_host(url)}: the question was never sent") from error

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._serve, name="sealagent-fetch", daemon=True)
            self._thread.start()
        return self._loop

    # In the loop's thread

    def _serve(self) -> None:
        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            # A look-up of a name that hangs is not waited for: its thread ends by itself.
            loop.run_until_complete(self._end())
            loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _ask(self, url: str, body: bytes | None, content_type: str | None, limit: int) -> bytes:
        host = _host(url)
        try:
            async with asyncio.timeout(self.timeout), self._slots:
                if self._session is None:
                    self._session = _session()
                return await _exchange(self._session, url, body, content_type, limit)
        except TimeoutError:
            raise SealAgentError("service_timeout", f"{host} did not answer within {self.timeout:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: an address, or something in the answer, that the client library cannot take.
            why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise SealAgentError("service_unreachable", f"{host}: {why}") from error


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=QUESTIONS_AT_ONCE),
        headers=_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),  # asyncio.timeout around it all, the wait for a place included
        trust_env=False,
        auto_decompress=False,
    )


async def _exchange(
    session: aiohttp.ClientSession, url: str, body: bytes | None, content_type: str | None, limit: int
) -> bytes:
    headers = {"Content-Type": content_type} if content_type is not None else {}
    method = "GET" if body is None else "POST"
    async with session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
        if answer.status != 200:
            what = "a redirect, which is not followed" if 300 <= answer.status < 400 else answer.reason or ""
            message = f"{_host(url)} answered {answer.status} {what[:80]}".rstrip()
            raise SealAgentError("service_refused", message, http_status=answer.status)
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            message = f"{_host(url)} answered in a compressed form that was not asked for"
            raise SealAgentError("service_refused", message, http_status=answer.status)
        too_large = LimitExceeded("service_answer_too_large", f"{_host(url)} answered more than {limit} octets")
        if (answer.content_length or 0) > limit:
            raise too_large
        octets = bytearray()
        async for chunk in answer.content.iter_chunked(CHUNK):
            octets += chunk
            if len(octets) > limit:
                raise too_large
        return bytes(octets)


def _host(url: str) -> str:
    """Return host and port of an address, as messages and the memory of hosts name it.

    :raises SealAgentError: ``service_unreachable``: no address that is asked.
    """
    try:
        parts = urlsplit(url)
        named, port = parts.hostname, parts.port
    except ValueError:
        named = port = None
        parts = None
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= MAX_URL
    if parts is None or not plain or parts.scheme not in ("http", "https") or not named or "@" in parts.netloc:
        raise SealAgentError("service_unreachable", f"{url[:100]!r} is no http or https address that can be asked")
    return f"{named}:{port}" if port is not None else named
