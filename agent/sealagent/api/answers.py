"""How routes answer: once for each Idempotency-Key, from memory or streamed from a file."""

from __future__ import annotations

import asyncio
import base64
import io
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO, cast

from aiohttp import web

from sealagent.api.idempotency import Answer, Before, IdempotencyCache, fingerprint
from sealagent.api.routing import CALLER, write_in_time
from sealagent.api.services import Services
from sealagent.records.ledger import Ledger
from sealagent.signing.line import Receipt
from sealagent.signing.owners import owner_of
from sealagent.signing.performing import Once

__all__ = [
    "CHUNK",
    "IDEMPOTENCY",
    "IN_MEMORY",
    "answer_with",
    "once",
    "once_for",
    "run_once",
    "signature_json",
    "signed_under",
    "spool",
]

IDEMPOTENCY: web.AppKey[IdempotencyCache] = web.AppKey("idempotency", IdempotencyCache)

IN_MEMORY = 8 << 20
"""Octets of a document kept in memory; a larger one goes to an unnamed file in the state directory."""
CHUNK = 256 << 10
"""Octets moved at once."""


def spool(parts: Services) -> BinaryIO:
    """Return a place for octets in passage: memory first, then an unnamed file. Whoever uses it closes it."""
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(parts.spool)))


async def answer_with(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Send an answer, streaming it when it is a file."""
    if answer.file is None:
        return web.Response(
            status=answer.status, body=answer.body, content_type=answer.media_type, headers=dict(answer.headers)
        )
    with answer.file as file:
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        response = web.StreamResponse(status=answer.status, headers=dict(answer.headers))
        response.content_type = answer.media_type
        response.content_length = length
        await response.prepare(request)
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            await write_in_time(request, response, chunk)
        await response.write_eof()
    return response


def signed_under(ledger: Ledger) -> Callable[[str, str], Before | None]:
    """Return what tells the idempotency cache of signatures that are kept with the record."""

    def known(owner: str, key: str) -> Before | None:
        kept = ledger.kept_items(owner, key, limit=1)
        return Before(kept[0].request, kept[0].item) if kept else None

    return known


def signature_json(value: bytes, receipt: Receipt) -> dict[str, Any]:
    return {"signature": base64.b64encode(value).decode(), "receipt": receipt.as_json()}


def once_for(request: web.Request, *parts: bytes) -> Once | None:
    """Return the name under which a request signs once; None without an Idempotency-Key.

    :param parts: the octets of the request.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    return Once(owner_of(request[CALLER]), key, fingerprint(request.method.encode(), request.path.encode(), *parts))


async def once(request: web.Request, octets: bytes, work: Callable[[], Awaitable[Answer]]) -> web.StreamResponse:
    """Run a state-changing request under its Idempotency-Key."""
    return await answer_with(request, await run_once(request, once_for(request, octets), work))


async def run_once(request: web.Request, name: Once | None, work: Callable[[], Awaitable[Answer]]) -> Answer:
    """Do the work of a request, unless it was done under its name before."""
    if name is None:
        return await work()
    return await request.app[IDEMPOTENCY].run(name.owner, name.key, name.request, work)
