"""The route table: one entry a route, from which the server and the OpenAPI document are both made."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from sealagent.api.idempotency import Answer
from sealagent.api.services import SERVICES, Services
from sealagent.callers.peer import Caller
from sealagent.errors import FormatError, LimitExceeded

__all__ = [
    "ARRIVED",
    "CALLER",
    "RUNNING",
    "Route",
    "json_answer",
    "json_response",
    "read_json",
    "services",
    "write_in_time",
]

CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)

ARRIVED: web.AppKey[weakref.WeakKeyDictionary[Any, Caller]] = web.AppKey("arrived", weakref.WeakKeyDictionary)
"""Callers that a listener identified before it let their request in, by the transport of their connection."""

RUNNING: web.AppKey[set[asyncio.Task[Any]]] = web.AppKey("running", set)
"""The tasks that answer a request at this moment."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Route:
    """One route and what the OpenAPI document says of it."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    summary: str
    answer: type[BaseModel] | str
    """Model of the JSON answer, or the media type of another."""
    request: type[BaseModel] | None = None
    document: bool = False
    """The request is multipart: part ``request`` (JSON of the model) and part ``document`` (the file)."""
    json_request: type[BaseModel] | None = None
    """Model of the request where it may be JSON as well, with the file inside."""
    json_answer: type[BaseModel] | None = None
    """Model of the answer then, where it is another."""
    changes: bool = False
    """Changes state, so it takes an ``Idempotency-Key``."""
    reads: bool = False
    """Only reads, although it is no GET: the caller need not be looked at again."""
    errors: tuple[str, ...] = ()
    """Codes beyond those every route may answer with."""
    query: tuple[tuple[str, str, str], ...] = ()
    """Name, JSON type and description of query parameters."""


def services(request: web.Request) -> Services:
    """Return the agent's parts."""
    return request.app[SERVICES]


def parse_json(octets: bytes, model: type[M]) -> M:
    """Check a JSON body against its model.

    :raises FormatError: ``request_invalid``, naming the first wrong field; values are not repeated.
    """
    try:
        return model.model_validate_json(octets)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise FormatError("request_invalid", f"{where}: {first['msg']}", field=where) from None


async def read_json(request: web.Request, model: type[M], *, limit: int | None = None) -> tuple[M, bytes]:
    """Read and check a JSON body; return it and its octets.

    :param limit: octets it may have, where that is more than ``limits.json_bytes``.
    :raises FormatError: ``media_type_unsupported``, ``request_invalid``.
    :raises LimitExceeded: ``body_too_large``, ``body_timeout``.
    """
    if request.content_type != "application/json":
        raise FormatError("media_type_unsupported", "the body must be application/json")
    limits = services(request).limits
    most = max(limits.json_bytes, limit or 0)
    octets = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for piece in request.content.iter_any():
                octets += piece
                if len(octets) > most:
                    raise LimitExceeded("body_too_large", f"a JSON body may have {most} octets")
    except TimeoutError:
        raise LimitExceeded("body_timeout", f"the body took longer than {limits.body_seconds} s") from None
    return parse_json(bytes(octets), model), bytes(octets)


async def write_in_time(request: web.Request, response: web.StreamResponse, octets: bytes) -> None:
    """Write a piece of a streamed answer. :raises ConnectionResetError: the client does not read; it is cut off."""
    try:
        async with asyncio.timeout(services(request).limits.body_seconds):
            await response.write(octets)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client does not read its answer") from None


def json_answer(value: dict[str, Any], status: int = 200) -> Answer:
    """Return a JSON answer that the idempotency cache can keep."""
    return Answer(json.dumps(value, ensure_ascii=False).encode(), "application/json", status=status)


def json_response(value: dict[str, Any]) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=json.dumps(value, ensure_ascii=False).encode(), content_type="application/json")
