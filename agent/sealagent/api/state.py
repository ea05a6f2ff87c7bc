"""Status, the record and events over the socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from sealagent import __version__
from sealagent.api import messages as m
from sealagent.api.answers import answer_with, spool
from sealagent.api.idempotency import Answer
from sealagent.api.routing import Route, json_response, services, write_in_time
from sealagent.errors import FormatError
from sealagent.records.ledger import Entry
from sealagent.records.tree import Head, leaf_hash
from sealagent.verdict import timestamp

__all__ = ["ROUTES"]

MAX_RECORDS = 1000
"""Entries in one answer of ``GET /v1/records``."""

KEEP_ALIVE_SECONDS = 15.0
"""Between two comment lines on an idle events stream, so that a dead listener is noticed."""


def _record(entry: Entry, hash_name: str) -> dict[str, Any]:
    return {**entry.as_json(), "hash": leaf_hash(hash_name, entry.octets).hex()}


def _checkpoint(head: Head) -> dict[str, Any]:
    return {"size": head.size, "root": head.root.hex(), "hash": head.hash, "text": head.checkpoint()}


async def show_status(request: web.Request) -> web.StreamResponse:
    """``GET /v1/status``."""
    parts = services(request)
    return json_response(
        {
            "version": __version__,
            "started": timestamp(parts.started),
            "uptime_seconds": int((parts.clock() - parts.started).total_seconds()),
            "record": _checkpoint(parts.ledger.head()),
            **parts.health(),
        }
    )


async def list_devices(request: web.Request) -> web.StreamResponse:
    """``GET /v1/devices``."""
    return json_response(await services(request).devices())


def _number(request: web.Request, name: str, default: int, largest: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) > largest:
        raise FormatError("request_invalid", f"{name} must be a number from 0 to {largest}", field=name)
    return int(text)


async def list_records(request: web.Request) -> web.StreamResponse:
    """``GET /v1/records``."""
    parts = services(request)
    after = _number(request, "after", 0, 10**18)
    limit = _number(request, "limit", 100, MAX_RECORDS)
    entries: Sequence[Entry] = await asyncio.to_thread(parts.ledger.entries, after, limit)
    head = parts.ledger.head()
    return json_response({"records": [_record(entry, head.hash) for entry in entries], "size": head.size})


async def show_record(request: web.Request) -> web.StreamResponse:
    """``GET /v1/records/{number}``."""
    text = request.match_info["number"]
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise FormatError("request_invalid", "a record is named by its number", field="number")
    ledger = services(request).ledger
    return json_response(_record(await asyncio.to_thread(ledger.read, int(text)), ledger.head().hash))


async def show_checkpoint(request: web.Request) -> web.StreamResponse:
    """``GET /v1/ledger/checkpoint``."""
    return json_response(_checkpoint(services(request).ledger.head()))


async def export_record(request: web.Request) -> web.StreamResponse:
    """``GET /v1/ledger/export``: JSON lines, checkable offline."""
    parts = services(request)
    file = spool(parts)
    await asyncio.to_thread(parts.ledger.export, file)
    return await answer_with(request, Answer(b"", "application/jsonl", file=file))


async def show_evidence(request: web.Request) -> web.StreamResponse:
    """``GET /v1/evidence/{sha256}``: what a service answered, as it was received."""
    parts = services(request)
    octets = await asyncio.to_thread(parts.evidence.get, request.match_info["sha256"])
    return web.Response(body=octets, content_type="application/octet-stream")


async def stream_events(request: web.Request) -> web.StreamResponse:
    """``GET /v1/events``: server-sent events."""
    with services(request).events.listening() as queue:
        response = web.StreamResponse(headers={"Cache-Control": "no-store"})
        response.content_type = "text/event-stream"
        await response.prepare(request)
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    event = await queue.get()
            except TimeoutError:
                await write_in_time(request, response, b": alive\n\n")
                continue
            if event is None:
                return response
            text = f"event: {event.name}\ndata: {json.dumps(event.data)}\n\n"
            await write_in_time(request, response, text.encode())


ROUTES = (
    Route("GET", "/v1/status", show_status, "How the agent is", m.StatusOut),
    Route("GET", "/v1/devices", list_devices, "Known USB keys that are plugged in, and what each lacks", m.DevicesOut),
    Route(
        "GET",
        "/v1/records",
        list_records,
        "Entries of the record",
        m.RecordsOut,
        query=(("after", "integer", "entries after this number"), ("limit", "integer", f"at most {MAX_RECORDS}")),
    ),
    Route(
        "GET", "/v1/records/{number}", show_record, "One entry of the record", m.RecordOut, errors=("record_not_found",)
    ),
    Route("GET", "/v1/ledger/checkpoint", show_checkpoint, "Size and root of the record", m.CheckpointOut),
    Route("GET", "/v1/ledger/export", export_record, "The whole record, checkable offline", "application/jsonl"),
    Route(
        "GET",
        "/v1/evidence/{sha256}",
        show_evidence,
        "A status answer, OCSP response or revocation list that a record names, as it was received",
        "application/octet-stream",
        errors=("evidence_not_found", "evidence_failed"),
    ),
    Route(
        "GET",
        "/v1/events",
        stream_events,
        "What happens, as it happens",
        "text/event-stream",
        errors=("too_many_listeners",),
    ),
)
