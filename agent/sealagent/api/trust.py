"""Trust lists over the socket: whom they name, and bringing them in."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from aiohttp import web

from sealagent.api import messages_trust as m
from sealagent.api.answers import once
from sealagent.api.idempotency import Answer
from sealagent.api.routing import CALLER, Route, json_answer, json_response, read_json, services
from sealagent.api.services import Services
from sealagent.errors import FormatError
from sealagent.events import Event
from sealagent.pki.trustlist import MAX_TRUST_LIST, ListedCertificate, TrustList
from sealagent.pki.trustlists import HeldList, Plan
from sealagent.signing.administration import Act, administered
from sealagent.verdict import timestamp

__all__ = ["ROUTES"]

MAX_BODY = MAX_TRUST_LIST // 3 * 4 + 4096
"""Octets of a request with a list in base64; other requests are bounded by ``limits.json_bytes``."""


def _list(held: HeldList, now: datetime) -> dict[str, Any]:
    version = held.list
    return {
        "id": version.id,
        "region": version.region,
        "region_name": version.region_name,
        "unit": version.unit,
        "sequence": version.sequence,
        "issued_at": timestamp(version.issued_at),
        "next_update": timestamp(version.next_update),
        "stale": version.is_stale(now),
        "origin": held.origin,
        "signer": version.signer.facts().as_json(),
        "next_signers": [*version.next_signers],
        "status_urls": [*version.status_urls],
        "size": len(version.listed),
        "roles": Counter(role for each in version.listed for role in sorted(each.roles)),
        "classes": Counter(each.trust_class for each in version.listed),
        "states": Counter(each.state for each in version.listed),
    }


def _entry(entry: ListedCertificate) -> dict[str, Any]:
    return {
        "certificate": entry.certificate.facts().as_json(),
        "roles": sorted(entry.roles),
        "class": entry.trust_class,
        "state": entry.state,
        "since": timestamp(entry.since),
        "ocsp": [*entry.ocsp],
        "crls": [*entry.crls],
    }


def _on_record(version: TrustList) -> dict[str, Any]:
    return {
        "list": version.id,
        "sequence": version.sequence,
        "region": version.region,
        "unit": version.unit,
        "size": len(version.listed),
        "signer": version.signer.sha256,
        "content_sha256": version.content_sha256,
    }


async def list_trust(request: web.Request) -> web.StreamResponse:
    """``GET /v1/trust``."""
    parts = services(request)
    await _refresh(parts)
    now = parts.clock()
    lists = parts.trust_lists
    return json_response({"lists": [_list(held, now) for held in lists.lists], "faults": [*lists.faults]})


async def show_trust(request: web.Request) -> web.StreamResponse:
    """``GET /v1/trust/{list}``."""
    parts = services(request)
    await _refresh(parts)
    held = parts.trust_lists.get(request.match_info["list"])
    return json_response({**_list(held, parts.clock()), "entries": [_entry(each) for each in held.list.listed]})


async def _refresh(parts: Services) -> None:
    """Let what was laid into the administrator's folders count at once for whoever looks."""
    if await asyncio.to_thread(parts.trust_lists.refresh):
        _changed(parts, {"act": "reread"})


async def add_trust_list(request: web.Request) -> web.StreamResponse:
    """``POST /v1/trust``."""
    asked, octets = await read_json(request, m.TrustListAddIn, limit=MAX_BODY)
    lists = services(request).trust_lists

    def plan() -> Plan:
        return lists.plan_add(asked.list, asked.signer, new_signer=asked.new_signer)

    facts = {"message_sha256": _sha256(asked.list), "confirmed_signer": asked.signer.lower()}
    return await once(request, octets, lambda: _bring(request, "add_trust_list", facts, plan, 201))


async def update_trust_list(request: web.Request) -> web.StreamResponse:
    """``PUT /v1/trust/{list}``."""
    asked, octets = await read_json(request, m.TrustListUpdateIn, limit=MAX_BODY)
    lists = services(request).trust_lists
    named = request.match_info["list"]

    def plan() -> Plan:
        planned = lists.plan_update(asked.list)
        if planned.list_id != named:
            raise FormatError("request_invalid", f"the message holds the list {planned.list_id}", field="list")
        return planned

    facts = {"list": named, "message_sha256": _sha256(asked.list)}
    return await once(request, octets, lambda: _bring(request, "update_trust_list", facts, plan, 200))


async def _bring(
    request: web.Request, operation: str, facts: dict[str, Any], plan: Callable[[], Plan], status: int
) -> Answer:
    """Bring a version in, on record."""
    parts = services(request)
    async with administered(parts.recorder, request[CALLER], operation, trust_list=facts) as act:
        planned = await asyncio.to_thread(plan)
        assert planned.version is not None
        act.facts["trust_list"] = {**facts, **_on_record(planned.version)}
        await _carry_out(parts, act, planned)
    held = HeldList(planned.version, "added")
    return json_answer(_list(held, parts.clock()), status)


async def remove_trust_list(request: web.Request) -> web.StreamResponse:
    """``DELETE /v1/trust/{list}``."""
    parts = services(request)
    named = request.match_info["list"]

    async def work() -> Answer:
        async with administered(
            parts.recorder, request[CALLER], "remove_trust_list", trust_list={"list": named}
        ) as act:
            planned = await asyncio.to_thread(parts.trust_lists.plan_remove, named)
            await _carry_out(parts, act, planned)
        return json_answer({"id": planned.list_id})

    return await once(request, b"", work)


async def _carry_out(parts: Services, act: Act, planned: Plan) -> None:
    await act.begin()
    await asyncio.to_thread(parts.trust_lists.carry_out, planned)
    sequence = planned.version.sequence if planned.version else None
    _changed(parts, {"act": planned.act, "list": planned.list_id, "sequence": sequence})


def _changed(parts: Services, data: dict[str, Any]) -> None:
    parts.inventory.invalidate()
    parts.events.publish(Event("trust_changed", data))


def _sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


_LIST_ERRORS = (
    *("signed_message_invalid", "trust_list_invalid", "trust_list_signer", "trust_list_rolled_back"),
    *("trust_list_conflict", "trust_list_stale", "trust_list_read_only", "trust_list_damaged"),
    *("trust_store_full", "trust_store_failed", "body_too_large"),
)

ROUTES = (
    Route("GET", "/v1/trust", list_trust, "The trust lists in force, and which do not count and why", m.TrustListsOut),
    Route(
        "POST",
        "/v1/trust",
        add_trust_list,
        "Add a signed trust list whose signer was confirmed",
        m.TrustListOut,
        m.TrustListAddIn,
        changes=True,
        errors=(*_LIST_ERRORS, "trust_list_exists"),
    ),
    Route(
        "GET",
        "/v1/trust/{list}",
        show_trust,
        "One trust list, entry by entry",
        m.TrustListEntriesOut,
        None,
        errors=("trust_list_not_found",),
    ),
    Route(
        "PUT",
        "/v1/trust/{list}",
        update_trust_list,
        "Put a newer version in the place of a trust list",
        m.TrustListOut,
        m.TrustListUpdateIn,
        changes=True,
        errors=(*_LIST_ERRORS, "trust_list_not_found"),
    ),
    Route(
        "DELETE",
        "/v1/trust/{list}",
        remove_trust_list,
        "Remove a trust list; its newest version and signer stay known",
        m.TrustListRemovedOut,
        changes=True,
        errors=("trust_list_not_found", "trust_list_read_only", "trust_list_damaged", "trust_store_failed"),
    ),
)
