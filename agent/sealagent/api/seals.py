"""Seals over the socket."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from aiohttp import web

from sealagent.api import messages as m
from sealagent.api.answers import once, once_for, signature_json
from sealagent.api.idempotency import Answer
from sealagent.api.routing import CALLER, Route, json_answer, json_response, read_json, services
from sealagent.consent.prompter import Occasion
from sealagent.errors import SealAgentError
from sealagent.seals.model import Seal
from sealagent.seals.parse import parse_seal
from sealagent.signing.administration import administered
from sealagent.signing.inventory import AvailableSeal
from sealagent.verdict import Verdict, timestamp

__all__ = ["ROUTES"]

PICTURE_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "svg": "image/svg+xml",
    "ofd": "application/ofd",
}

SEAL_APPLICATION = "SES_Seal"
"""CKA_APPLICATION of a seal kept on a token as a data object; on reading, content alone decides."""


def _seal(item: AvailableSeal, now: datetime) -> dict[str, Any]:
    seal = item.seal
    verdict = item.verdict
    return {
        "id": seal.id,
        "es_id": seal.es_id,
        "name": seal.name,
        "version": seal.version,
        "vendor": seal.vendor,
        "type": seal.type,
        "source": item.found.source,
        "valid_from": timestamp(seal.valid_from),
        "valid_until": timestamp(seal.valid_until),
        "days_left": max(0, (seal.valid_until - now).days),
        "verdict": verdict.value,
        "reasons": [reason.as_json() for reason in item.reasons],
        "notes": [note.as_json() for note in item.notes],
        "status": item.report.status,
        "trust": item.report.trust,
        "usable": verdict is Verdict.VALID and item.key is not None,
        "key": item.key.info.id if item.key else None,
        "token": item.key.token.id if item.key else None,
        "software": item.key.token.software if item.key else None,
        "picture": {"type": seal.picture.type, "width": seal.picture.width, "height": seal.picture.height},
        "maker": item.report.maker.as_json() if item.report.maker else None,
    }


def _named(seal: Seal) -> dict[str, str]:
    return {"id": seal.id, "es_id": seal.es_id, "name": seal.name}


async def list_seals(request: web.Request) -> web.StreamResponse:
    """``GET /v1/seals``."""
    parts = services(request)
    judged, unread = await parts.inventory.listing()
    now = parts.clock()
    faults = [*unread, *parts.trust_lists.faults]  # trust that is smaller than it was makes seals unusable
    return json_response({"seals": [_seal(item, now) for item in judged], "faults": faults})


async def show_seal(request: web.Request) -> web.StreamResponse:
    """``GET /v1/seals/{seal}``."""
    parts = services(request)
    return json_response(_seal(await parts.inventory.seal(request.match_info["seal"]), parts.clock()))


async def show_seal_image(request: web.Request) -> web.StreamResponse:
    """``GET /v1/seals/{seal}/image``."""
    picture = (await services(request).inventory.seal(request.match_info["seal"])).seal.picture
    return web.Response(
        body=picture.data,
        content_type=PICTURE_TYPES.get(picture.type.lower(), "application/octet-stream"),
        headers={"X-Content-Type-Options": "nosniff"},
    )


async def export_seal(request: web.Request) -> web.StreamResponse:
    """``GET /v1/seals/{seal}/file``."""
    item = await services(request).inventory.seal(request.match_info["seal"])
    return web.Response(body=item.seal.raw, content_type="application/octet-stream")


async def import_seal(request: web.Request) -> web.StreamResponse:
    """``POST /v1/seals``."""
    parts = services(request)
    caller = request[CALLER]
    asked, octets = await read_json(request, m.SealImportIn)
    parsed = parse_seal(asked.seal)
    token = await parts.inventory.token(asked.token) if asked.token else None

    async def work() -> Answer:
        facts = {"seal": _named(parsed), "token": token.uri if token else None}
        if token is None:
            async with administered(parts.recorder, caller, "import_seal", **facts) as act:
                await act.begin()
                await asyncio.to_thread(parts.store.add, asked.seal)
        else:
            shown = Occasion(caller, seal=parsed.name)
            async with parts.management.change(caller, token, "import_seal", facts, shown=shown):
                await parts.tokens.import_data(token.uri, asked.seal, parsed.es_id, SEAL_APPLICATION)
        parts.inventory.invalidate()
        item = await parts.inventory.seal(parsed.id)
        return json_answer(_seal(item, parts.clock()), status=201)

    return await once(request, octets, work)


async def remove_seal(request: web.Request) -> web.StreamResponse:
    """``DELETE /v1/seals/{seal}``: from the local store only."""
    parts = services(request)

    async def work() -> Answer:
        item = await parts.inventory.seal(request.match_info["seal"])
        async with administered(parts.recorder, request[CALLER], "remove_seal", seal=_named(item.seal)) as act:
            try:
                await asyncio.to_thread(parts.store.get, item.seal.id)
            except SealAgentError as error:
                if error.code == "seal_not_found":  # one that cannot be read is removed all the same
                    message = "it is on a token only, from which the token's own tool removes it"
                    raise SealAgentError("not_supported", message) from error
            await act.begin()
            await asyncio.to_thread(parts.store.remove, item.seal.id)
        parts.inventory.invalidate()
        return json_answer(_seal(item, parts.clock()))

    return await once(request, b"", work)


async def sign_with_seal(request: web.Request) -> web.StreamResponse:
    """``POST /v1/seals/{seal}/signatures``."""
    parts = services(request)
    asked, octets = await read_json(request, m.SealDigestIn)

    async def work() -> Answer:
        made = await parts.line.sign_with_seal(
            request[CALLER],
            request.match_info["seal"],
            asked.digest,
            asked.property_info,
            asked.name,
            once=once_for(request, octets),
        )
        return json_answer(signature_json(made.signature, made.receipt))

    return await once(request, octets, work)


ROUTES = (
    Route("GET", "/v1/seals", list_seals, "Seals in reach, and whether they can be used now", m.SealsOut),
    Route(
        "POST",
        "/v1/seals",
        import_seal,
        "Import a seal into the local store or to a token",
        m.SealOut,
        m.SealImportIn,
        changes=True,
        errors=("seal_format", "token_not_found", "object_exists"),
    ),
    Route("GET", "/v1/seals/{seal}", show_seal, "One seal", m.SealOut, errors=("seal_not_found", "seal_ambiguous")),
    Route(
        "DELETE",
        "/v1/seals/{seal}",
        remove_seal,
        "Remove a seal from the local store",
        m.SealOut,
        changes=True,
        errors=("seal_not_found", "not_supported"),
    ),
    Route(
        "GET", "/v1/seals/{seal}/image", show_seal_image, "The seal's picture", "image/png", errors=("seal_not_found",)
    ),
    Route(
        "GET",
        "/v1/seals/{seal}/file",
        export_seal,
        "The seal itself (DER SESeal)",
        "application/octet-stream",
        errors=("seal_not_found",),
    ),
    Route(
        "POST",
        "/v1/seals/{seal}/signatures",
        sign_with_seal,
        "Make an SES_Signature over a digest (operation digest of the policy)",
        m.SealDigestOut,
        m.SealDigestIn,
        changes=True,
        errors=(
            "seal_not_found",
            "seal_not_valid",
            "seal_outdated",
            "use_denied",
            "pin_incorrect",
            "record_failed",
        ),
    ),
)
