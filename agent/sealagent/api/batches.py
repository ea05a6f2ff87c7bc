"""Batches over the socket: one list, one yes of the holder, then item by item."""

from __future__ import annotations

import base64
from typing import Any, BinaryIO

from aiohttp import web

from sealagent.api import messages_batches as m
from sealagent.api.answers import answer_with, once_for, run_once
from sealagent.api.documents import OFD_MEDIA_TYPE, placement_of, received, sealed_answer
from sealagent.api.idempotency import Answer
from sealagent.api.messages import SealedDocumentOut
from sealagent.api.routing import CALLER, Route, json_answer, json_response, parse_json, read_json, services
from sealagent.callers.peer import Caller
from sealagent.errors import FormatError
from sealagent.signing.batches.model import Batch, BatchKind, Item, Order, Result, page
from sealagent.signing.line import DocumentJob
from sealagent.signing.receipts import Receipt
from sealagent.verdict import timestamp

__all__ = ["ROUTES"]

MAX_MANIFEST_OCTETS = 8 << 20
"""Octets of the JSON of a batch: 10,000 items with names of 256 Chinese characters."""
MAX_PAGE = 1000
"""Items of one answer."""
MAX_RESULTS = 250
"""Items of one answer with signatures and receipts, each of which is put together from two entries of the record."""
MAX_WAIT_SECONDS = 60
"""Seconds that an answer may wait for a batch to come to rest."""


def _job(asked: m.BatchIn, item: m.BatchItemIn | None) -> str | None:
    """Return where the seal goes, as it is kept: for the batch, or for an item where that differs."""
    placements, close, document = asked.placements, asked.close, asked.document
    if item is not None:
        if item.placements is None and item.close is None and item.document is None:
            return None
        placements = item.placements or placements
        close = close if item.close is None else item.close
        document = document if item.document is None else item.document
    if placements is None:
        return None
    return m.JobIn(placements=placements, close=close, document=document).model_dump_json()


def _order(asked: m.BatchIn) -> Order:
    kind = BatchKind.DIGESTS if asked.seal is None else BatchKind.DOCUMENTS
    items = []
    for item in asked.items:
        digest = bytes.fromhex(item.sha256) if item.sha256 is not None else item.digest or b""
        items.append(Item(item.name, digest, _job(asked, item)))
    return Order(kind, asked.seal, asked.key or "", asked.mechanism, _job(asked, None), tuple(items))


def _batch(batch: Batch, caller: Caller) -> dict[str, Any]:
    order, progress = batch.order, batch.progress
    return {
        "id": batch.id,
        "kind": order.kind.value,
        "state": progress.state.value,
        "reason": progress.reason,
        "application": batch.name,
        "program": batch.executable,
        "own": batch.belongs_to(caller),
        "seal": order.seal,
        "key": order.key,
        "mechanism": order.mechanism,
        "created": timestamp(batch.created),
        "expires": timestamp(batch.expires),
        "sha256": batch.digest.hex(),
        "record": batch.record,
        **batch.numbers(),
    }


def _item(batch: Batch, number: int, made: tuple[bytes, Receipt] | None) -> dict[str, Any]:
    item, result = batch.item(number), batch.results.get(number) or Result()
    return {
        "number": number,
        "name": item.name,
        "digest": item.digest.hex(),
        "state": batch.progress.item(number).value,
        "code": result.code,
        "detail": result.detail,
        "record": result.record,
        "signature": base64.b64encode(made[0]).decode() if made else None,
        "receipt": made[1].as_json() if made else None,
    }


def _number(request: web.Request, name: str, default: int, largest: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > largest:
        raise FormatError("request_invalid", f"{name} is a number from 0 to {largest}", field=name)
    return int(text)


async def make_batch(request: web.Request) -> web.StreamResponse:
    """``POST /v1/batches``: answers when the holder did."""
    parts, caller = services(request), request[CALLER]
    asked, octets = await read_json(request, m.BatchIn, limit=MAX_MANIFEST_OCTETS)
    name = once_for(request, octets)

    async def work() -> Answer:
        batch = await parts.batches.create(
            caller,
            _order(asked),
            hours=asked.hours,
            idempotency_key=name.key if name else None,
            request=name.request if name else b"",
        )
        return json_answer(_batch(batch, caller), status=201)

    return await answer_with(request, await run_once(request, name, work))


async def list_batches(request: web.Request) -> web.StreamResponse:
    """``GET /v1/batches``."""
    caller = request[CALLER]
    found = await services(request).batches.list(caller)
    return json_response({"batches": [_batch(batch, caller) for batch in found]})


async def show_batch(request: web.Request) -> web.StreamResponse:
    """``GET /v1/batches/{batch}``: with a page of its items, and where asked for, their signatures."""
    batches, caller = services(request).batches, request[CALLER]
    results = request.query.get("results", "false") == "true"
    after, limit = _number(request, "after", 0, 10**8), _number(request, "limit", 100, MAX_PAGE)
    find = batches.own if results else batches.find
    batch = await find(caller, request.match_info["batch"])
    numbers = page(batch, after, min(limit, MAX_RESULTS) if results else limit)
    made = await batches.signatures(batch, after, len(numbers)) if results else {}
    more = bool(numbers) and numbers[-1] < batch.progress.total
    listed = [_item(batch, number, made.get(number)) for number in numbers]
    return json_response({**_batch(batch, caller), "items": listed, "next": numbers[-1] if more else None})


async def seal_item(request: web.Request) -> web.StreamResponse:
    """``POST /v1/batches/{batch}/items/{number}/document``: a document of the list in, sealed out."""
    parts, caller = services(request), request[CALLER]
    text = request.match_info["number"]
    batch = await parts.batches.own(caller, request.match_info["batch"])
    item = batch.item(int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0)
    number = int(text)
    async with received(request, m.BatchDocumentIn, m.BatchDocumentJsonIn) as (_, _, document, sha256):
        kept = parse_json((item.job or batch.order.job or "{}").encode(), m.JobIn)
        job = DocumentJob(
            seal=batch.order.seal or "",
            placements=[placement_of(place) for place in kept.placements],
            name=item.name,
            close=kept.close,
            document=kept.document,
        )

        async def seal(out: BinaryIO) -> Receipt:
            return await parts.batches.seal(caller, batch.id, number, job, sha256, document, out)

        answer = await sealed_answer(request, seal)
    return await answer_with(request, answer)


async def run_batch(request: web.Request) -> web.StreamResponse:
    """``POST /v1/batches/{batch}/run``: signs every digest that waits; ``wait`` seconds for it to come to rest."""
    batches, caller = services(request).batches, request[CALLER]
    seconds = _number(request, "wait", 0, MAX_WAIT_SECONDS)
    batch = await batches.run(caller, request.match_info["batch"])
    if seconds:
        batch = await batches.settled(caller, batch.id, seconds)
    return json_response(_batch(batch, caller))


async def resume_batch(request: web.Request) -> web.StreamResponse:
    """``POST /v1/batches/{batch}/resume``."""
    caller = request[CALLER]
    return json_response(_batch(await services(request).batches.resume(caller, request.match_info["batch"]), caller))


async def cancel_batch(request: web.Request) -> web.StreamResponse:
    """``POST /v1/batches/{batch}/cancel``."""
    caller = request[CALLER]
    return json_response(_batch(await services(request).batches.cancel(caller, request.match_info["batch"]), caller))


_GOING_ON = ("batch_not_found", "batch_not_yours", "batch_waiting", "batch_stopped", "batch_ended")

ROUTES = (
    Route(
        "POST",
        "/v1/batches",
        make_batch,
        "Have the holder agree, once, to a list of documents or digests; answers when they did",
        m.BatchOut,
        m.BatchIn,
        changes=True,
        errors=(
            "batch_too_large",
            "too_many_batches",
            "consent_refused",
            "consent_unavailable",
            "use_denied",
            "seal_not_found",
            "key_not_found",
            "digest_invalid",
            "record_failed",
        ),
    ),
    Route("GET", "/v1/batches", list_batches, "Batches, newest first", m.BatchesOut),
    Route(
        "GET",
        "/v1/batches/{batch}",
        show_batch,
        "A batch with a page of its items and, for its own caller, the signatures of digests",
        m.BatchDetailOut,
        errors=("batch_not_found", "batch_not_yours"),
        query=(
            ("after", "integer", "items with larger numbers only"),
            ("limit", "integer", f"items at most, up to {MAX_PAGE}; with results up to {MAX_RESULTS}"),
            ("results", "string", "true: with signatures and receipts"),
        ),
    ),
    Route(
        "POST",
        "/v1/batches/{batch}/items/{number}/document",
        seal_item,
        "Seal a document of the list; one that was sealed before gets the same signature again",
        OFD_MEDIA_TYPE,
        m.BatchDocumentIn,
        document=True,
        json_request=m.BatchDocumentJsonIn,
        json_answer=SealedDocumentOut,
        changes=True,
        errors=(
            *_GOING_ON,
            "batch_item_not_found",
            "batch_item_mismatch",
            "batch_item_busy",
            "batch_item_settled",
            "pin_incorrect",
            "record_failed",
        ),
    ),
    Route(
        "POST",
        "/v1/batches/{batch}/run",
        run_batch,
        "Sign every digest that waits; the answer comes at once, or when the batch comes to rest within `wait` seconds",
        m.BatchOut,
        changes=True,
        errors=_GOING_ON,
        query=(("wait", "integer", f"seconds to wait for it, up to {MAX_WAIT_SECONDS}"),),
    ),
    Route(
        "POST",
        "/v1/batches/{batch}/resume",
        resume_batch,
        "Let a batch that a PIN stopped go on; nothing is asked again but the PIN",
        m.BatchOut,
        changes=True,
        errors=("batch_not_found", "batch_not_yours", "batch_waiting", "batch_ended"),
    ),
    Route(
        "POST",
        "/v1/batches/{batch}/cancel",
        cancel_batch,
        "Let nothing more of a batch be signed",
        m.BatchOut,
        changes=True,
        errors=("batch_not_found", "batch_ended"),
    ),
)
