"""The status service over HTTP (``sealagent maker serve``): small, read-only, and nobody's way in.

``GET /v1/seals/{sm3}?at=TIME&nonce=HEX`` and ``GET /v1/list`` answer with signed messages; ``GET /healthz`` with JSON.
What is asked is bounded before anything is looked up, and faults of device and disk are told to the log, not to
whoever asks.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from aiohttp import web

from sealagent.api.problems import PROBLEM_MEDIA_TYPE, problem_octets, problem_response
from sealagent.clock import Clock
from sealagent.errors import FormatError, SealAgentError
from sealagent.maker.device import Device, UnitKey
from sealagent.maker.publishing import Answers, Published, RegisterView, publish_list, published_list
from sealagent.maker.register import Said, Who, opened_register
from sealagent.maker.settings import Settings
from sealagent.seals.answers import MAX_NONCE
from sealdrivers.errors import DriverError

__all__ = ["StatusServer"]

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/pkcs7-mime"
FIRST_REQUEST_SECONDS = 10.0
"""A connection whose first request is not whole by then is closed."""
KEEP_ALIVE_SECONDS = 30.0
WRITE_SECONDS = 30.0
"""How long a client may take to read one piece of an answer."""
PIECE = 256 << 10
"""Octets written at once of a long answer."""
PER_CLIENT = 16
"""Questions of one address that wait for an answer at once: one that asks without end holds up nobody else."""
LIST_REFRESH_SECONDS = 60
"""After a change the list is made anew when somebody asks for it, but not sooner than this after the last one."""
LIST_WAIT_SECONDS = 5.0
"""How long the list waits for a command that has the register open, before the one there is serves."""
STOP_SECONDS = 2.0

_SM3 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NONCE = re.compile(rf"(?:[0-9a-f]{{2}}){{1,{MAX_NONCE}}}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)

# Errors that are the client's, or that it may know of; of all others it hears that the service cannot answer.
_PUBLIC = frozenset({"status_question_invalid", "status_busy", "not_found", "method_not_allowed"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Refuse(asyncio.Protocol):
    """Answers a connection beyond the limit without reading from it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast(asyncio.WriteTransport, transport)
        status, body = problem_octets(SealAgentError("status_busy", "the service has no connection to spare"))
        head = f"Connection: close\r\nContent-Type: {PROBLEM_MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
        writing.write(f"HTTP/1.1 {status} Service Unavailable\r\n{head}".encode() + body)
        writing.close()


class StatusServer:
    """Serves the register's answers on a TCP address.

    :param key: the status key; its token is unlocked when the first answer is signed.
    """

    def __init__(self, settings: Settings, view: RegisterView, device: Device, key: UnitKey, clock: Clock) -> None:
        self._settings = settings
        self._view = view
        self._device = device
        self._key = key
        self._clock = clock
        self._answers = Answers(view, device, key, clock, unit=settings.unit, seconds=settings.status.answer_seconds)
        self._asking: Counter[str] = Counter()
        self._list_turn = asyncio.Lock()
        self._heard: set[asyncio.Protocol] = set()
        """Connections that have sent a whole request."""
        self._server: asyncio.Server | None = None
        app = web.Application(middlewares=[self._guard], client_max_size=1)
        app.router.add_get("/v1/seals/{sm3}", self._seal, allow_head=False)
        app.router.add_get("/v1/list", self._list, allow_head=False)
        app.router.add_get("/healthz", self._health)
        app.on_response_prepare.append(_unnamed)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            lingering_time=1.0,
            shutdown_timeout=STOP_SECONDS,
        )

    async def start(self) -> tuple[str, int]:
        """Listen; return host and port. :raises SealAgentError: ``status_address_unusable``."""
        host, _, port = self._settings.status.listen.rpartition(":")
        await self._runner.setup()
        http = self._runner.server
        assert http is not None
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            if len(http.connections) >= self._settings.status.connections:
                return _Refuse()
            self._heard.intersection_update(http.connections)
            protocol = http()
            loop.call_later(FIRST_REQUEST_SECONDS, self._close_silent, protocol)
            return protocol

        try:
            self._server = await loop.create_server(connection, host.strip("[]"), int(port), backlog=128)
        except OSError as error:
            await self._runner.cleanup()
            message = f"{self._settings.status.listen}: {error.strerror or error}"
            raise SealAgentError("status_address_unusable", message) from error
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    async def stop(self) -> None:
        """Stop listening, let answers under way finish."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _close_silent(self, protocol: Any) -> None:
        if protocol not in self._heard and protocol.transport is not None:
            protocol.transport.abort()

    # Routes

    async def _seal(self, request: web.Request) -> web.StreamResponse:
        sm3 = request.match_info["sm3"]
        if not _SM3.fullmatch(sm3):
            raise FormatError("status_question_invalid", "a seal is named by its SM3: 64 lower-case hexadecimal digits")
        at, nonce = _question(request)
        message, until = await self._answers.answer(sm3, at, nonce)
        fresh = max(0, int((until - self._clock()).total_seconds()))
        caching = "no-store" if nonce or at is not None else f"public, max-age={fresh}"
        return web.Response(body=message, content_type=MEDIA_TYPE, headers={"Cache-Control": caching})

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if request.query:
            raise FormatError("status_question_invalid", "the list takes no parameters")
        async with self._list_turn:
            _, message = await self._current_list()
        response = web.StreamResponse(headers={"Cache-Control": "no-cache"})
        response.content_type = MEDIA_TYPE
        response.content_length = len(message)
        await response.prepare(request)
        for start in range(0, len(message), PIECE):
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await response.write(message[start : start + PIECE])
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError("the client does not read its answer") from None
        return response

    async def _health(self, request: web.Request) -> web.StreamResponse:
        await self._view.catch_up()
        return web.json_response({"status": "ok", "entries": self._view.size(), "answers": self._answers.signed})

    async def _current_list(self) -> tuple[Published, bytes]:
        now = self._clock().astimezone(UTC)
        found = await asyncio.to_thread(published_list, self._settings.places)
        if found is not None and not self._is_due(found[0], now):
            return found
        try:
            await self._publish()
        except (SealAgentError, DriverError) as error:
            ends = found[0].produced_at + timedelta(seconds=self._settings.status.list_seconds) if found else now
            if found is None or now >= ends:
                raise
            log.warning("the status list could not be made anew: %s; the one of %s serves", error, found[0].produced_at)
            return found
        made = await asyncio.to_thread(published_list, self._settings.places)
        assert made is not None
        return made

    def _is_due(self, last: Published, now: datetime) -> bool:
        age = (now - last.produced_at).total_seconds()
        changed = self._view.size() > last.entry
        return age >= self._settings.status.list_seconds / 2 or (changed and age >= LIST_REFRESH_SECONDS)

    async def _publish(self) -> None:
        settings = self._settings
        said = Said(Who.here(settings.operator or "status service"))
        async with opened_register(settings.places, self._clock, wait=LIST_WAIT_SECONDS) as register:
            await publish_list(
                register,
                self._device,
                self._key,
                said,
                list_id=settings.list_id,
                unit=settings.unit,
                seconds=settings.status.list_seconds,
            )

    # Around every request

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._heard.add(request.protocol)
        client = request.remote or ""
        if self._asking[client] >= PER_CLIENT:
            return _problem(SealAgentError("status_busy", f"{PER_CLIENT} questions of this address wait already"))
        self._asking[client] += 1
        try:
            return await handler(request)
        except (SealAgentError, DriverError) as error:
            if error.code not in _PUBLIC:
                log.error("%s: %s: %s", request.path[:200], error.code, error.message)
                error = SealAgentError("status_unavailable", "the service cannot answer now")
            return _problem(error)
        except web.HTTPNotFound:
            return _problem(SealAgentError("not_found", "there is /v1/seals/{sm3}, /v1/list and /healthz"))
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            return problem_response(SealAgentError("method_not_allowed", f"it takes {allowed}"), {"Allow": allowed})
        except web.HTTPException:
            raise
        except ConnectionError:
            return web.Response(status=400)  # nobody reads it
        except Exception:
            # The one place where an unforeseen fault ends: logged with its trace, answered without.
            log.exception("%s failed", request.path[:200])
            return _problem(SealAgentError("status_unavailable", "the service cannot answer now"))
        finally:
            self._asking[client] -= 1
            if not self._asking[client]:
                del self._asking[client]


async def _unnamed(request: web.Request, response: web.StreamResponse) -> None:
    """What runs here, and in which version, is nobody's business."""
    response.headers["Server"] = "SealAgent"


def _question(request: web.Request) -> tuple[datetime | None, bytes]:
    """Read the parameters strictly. :raises FormatError: ``status_question_invalid`` with the fact ``field``."""
    values: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in ("at", "nonce") or name in values:
            raise FormatError(
                "status_question_invalid", "the parameters are `at` and `nonce`, each once", field="query"
            )
        values[name] = value
    at = None
    if "at" in values:
        try:
            if not _TIME.fullmatch(values["at"]):
                raise ValueError
            at = datetime.fromisoformat(values["at"])
        except ValueError:
            message = "`at` is a time as in 2026-07-01T08:00:00Z"
            raise FormatError("status_question_invalid", message, field="at") from None
    nonce = values.get("nonce", "")
    if nonce and not _NONCE.fullmatch(nonce):
        message = f"`nonce` has up to {MAX_NONCE} octets in lower-case hexadecimal"
        raise FormatError("status_question_invalid", message, field="nonce")
    return at, bytes.fromhex(nonce)


def _problem(error: SealAgentError | DriverError) -> web.Response:
    headers = {"Retry-After": "1"} if error.code in ("status_busy", "status_unavailable") else None
    return problem_response(error, headers)
