"""Tokens, keys, seals, the record, status and events over the socket."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from sealagent import __version__
from sealagent.api import messages as m
from sealagent.api.documents import IDEMPOTENCY, answer_with, spool
from sealagent.api.idempotency import Answer, fingerprint
from sealagent.api.routing import CALLER, Route, json_answer, json_response, read_json, services, write_in_time
from sealagent.api.services import Services
from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.pki.certificates import Certificate, load_certificates
from sealagent.pki.csr import assemble_request, pem, prepare_request
from sealagent.records.ledger import Entry
from sealagent.records.tree import Head, leaf_hash
from sealagent.seals.model import Seal
from sealagent.seals.parse import parse_seal
from sealagent.signing.administration import administered
from sealagent.signing.inventory import AvailableKey, AvailableSeal, is_key_of
from sealagent.signing.line import Receipt
from sealagent.signing.mechanisms import algorithm_of, certified_choice
from sealagent.signing.unlock import Occasion
from sealagent.verdict import Verdict, timestamp
from sealdrivers.contract import TokenInfo

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

MAX_RECORDS = 1000
"""Entries in one answer of ``GET /v1/records``."""

KEEP_ALIVE_SECONDS = 15.0
"""Between two comment lines on an idle events stream, so that a dead listener is noticed."""


# How things look on the socket


def _token(parts: Services, token: TokenInfo) -> dict[str, Any]:
    return {
        "id": token.id,
        "uri": token.uri,
        "label": token.label,
        "serial": token.serial,
        "manufacturer": token.manufacturer,
        "model": token.model,
        "driver": token.driver,
        "module": token.module,
        "software": token.software,
        "login_required": token.login_required,
        "unlocked": parts.unlocker.is_unlocked(token.uri) or not token.login_required,
        "protected_authentication_path": token.protected_authentication_path,
        "write_protected": token.write_protected,
        "pin": {
            "initialized": token.pin.initialized,
            "tries_left": token.pin.tries_left,
            "count_low": token.pin.count_low,
            "final_try": token.pin.final_try,
            "locked": token.pin.locked,
            "factory_pin": token.pin.factory_pin,
        },
    }


def _key(key: AvailableKey) -> dict[str, Any]:
    return {
        "id": key.info.id,
        "uri": key.info.uri,
        "token": key.token.id,
        "label": key.info.label,
        "object_id": key.info.object_id.hex(),
        "type": key.info.type.value,
        "bits": key.info.bits,
        "mechanisms": [mechanism.value for mechanism in key.info.mechanisms],
        "always_authenticate": key.info.always_authenticate,
        "software": key.token.software,
        "certificate": key.certificate.facts().as_json() if key.certificate else None,
    }


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
        "source": item.source,
        "valid_from": timestamp(seal.valid_from),
        "valid_until": timestamp(seal.valid_until),
        "days_left": max(0, (seal.valid_until - now).days),
        "verdict": verdict.value,
        "reasons": [reason.as_json() for reason in item.reasons],
        "notes": [note.as_json() for note in item.report.notes],
        "usable": verdict is Verdict.VALID and item.key is not None,
        "key": item.key.info.id if item.key else None,
        "token": item.key.token.id if item.key else None,
        "picture": {"type": seal.picture.type, "width": seal.picture.width, "height": seal.picture.height},
        "maker": item.report.maker.as_json() if item.report.maker else None,
    }


def _named(seal: Seal) -> dict[str, str]:
    return {"id": seal.id, "es_id": seal.es_id, "name": seal.name}


def _record(entry: Entry, hash_name: str) -> dict[str, Any]:
    return {**entry.as_json(), "hash": leaf_hash(hash_name, entry.octets).hex()}


def _checkpoint(head: Head) -> dict[str, Any]:
    return {"size": head.size, "root": head.root.hex(), "hash": head.hash, "text": head.checkpoint()}


def _signature(value: bytes, receipt: Receipt) -> dict[str, Any]:
    return {"signature": base64.b64encode(value).decode(), "receipt": receipt.as_json()}


async def _once(request: web.Request, octets: bytes, work: Any) -> web.StreamResponse:
    """Run a state-changing request under its Idempotency-Key."""
    answer: Answer = await request.app[IDEMPOTENCY].run(
        request[CALLER].uid,
        request.headers.get("Idempotency-Key"),
        fingerprint(request.method.encode(), request.path.encode(), octets),
        work,
    )
    return await answer_with(request, answer)


# Status


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


# Tokens and keys


async def list_tokens(request: web.Request) -> web.StreamResponse:
    """``GET /v1/tokens``."""
    parts = services(request)
    snapshot = await parts.inventory.snapshot(fresh=True)
    return json_response(
        {"tokens": [_token(parts, token) for token in snapshot.tokens.values()], "faults": list(snapshot.faults)}
    )


async def lock_token(request: web.Request) -> web.StreamResponse:
    """``POST /v1/tokens/{token}/lock``."""
    parts = services(request)
    token = await parts.inventory.token(request.match_info["token"])
    await parts.unlocker.lock(token.uri)
    return json_response(_token(parts, token))


async def change_pin(request: web.Request) -> web.StreamResponse:
    """``POST /v1/tokens/{token}/pin``: the agent asks the holder; the request carries no PIN."""
    parts = services(request)
    caller = request[CALLER]
    token = await parts.inventory.token(request.match_info["token"])

    async def work() -> Answer:
        async with administered(parts.ledger, caller, "change_pin", token=token.uri):
            await parts.unlocker.change_pin(token, Occasion(caller))
        return json_answer(_token(parts, token))

    return await _once(request, b"", work)


async def list_keys(request: web.Request) -> web.StreamResponse:
    """``GET /v1/keys``."""
    snapshot = await services(request).inventory.snapshot(fresh=True)
    return json_response({"keys": [_key(key) for key in snapshot.keys.values()]})


async def generate_key(request: web.Request) -> web.StreamResponse:
    """``POST /v1/keys``: a new key pair, made on the device."""
    parts = services(request)
    caller = request[CALLER]
    asked, octets = await read_json(request, m.KeyGenerateIn)
    token = await parts.inventory.token(asked.token)

    async def work() -> Answer:
        object_id = bytes.fromhex(asked.id) if asked.id else secrets.token_bytes(16)
        named = {"type": asked.type.value, "label": asked.label, "object_id": object_id.hex()}
        async with administered(parts.ledger, caller, "generate_key", token=token.uri, **named) as facts:
            async with parts.unlocker.unlocked(token, Occasion(caller)):
                info = await parts.tokens.generate_key(token.uri, asked.type, asked.label, object_id)
            facts["key"] = info.uri
        parts.inventory.invalidate()
        return json_answer(_key(AvailableKey(info, token, None)), status=201)

    return await _once(request, octets, work)


async def certificate_request(request: web.Request) -> web.StreamResponse:
    """``POST /v1/keys/{key}/certificate-request``: PKCS#10, signed on the device."""
    parts = services(request)
    caller = request[CALLER]
    asked, octets = await read_json(request, m.CertificateRequestIn)
    key = await parts.inventory.key(request.match_info["key"])
    if key.info.public_key is None:
        raise SealAgentError("public_key_unreadable", "the token does not show the key's public half")
    # The request is for the key itself, so a certificate already there must not stand in for its public key.
    bare = AvailableKey(key.info, key.token, None)

    async def work() -> Answer:
        assert key.info.public_key is not None
        subject: dict[str, str] = {name: value for name, value in asked.subject.items()}
        tbs = prepare_request(key.info.public_key, subject)
        signature = await parts.line.sign_request(caller, bare, tbs)
        der = assemble_request(tbs, algorithm_of(certified_choice(key.info)), signature)
        return json_answer({"request": pem("CERTIFICATE REQUEST", der)})

    return await _once(request, octets, work)


async def import_certificate(request: web.Request) -> web.StreamResponse:
    """``PUT /v1/keys/{key}/certificate``."""
    parts = services(request)
    caller = request[CALLER]
    asked, octets = await read_json(request, m.ImportCertificateIn)
    key = await parts.inventory.key(request.match_info["key"])
    certificate = _only_certificate(asked.certificate)
    if not is_key_of(certificate, key.info):
        raise SealAgentError("certificate_mismatch", "the certificate's public key is not the key's")

    async def work() -> Answer:
        label = asked.label or key.info.label
        named = {"serial": certificate.serial, "sha256": certificate.sha256}
        async with (
            administered(parts.ledger, caller, "import_certificate", key=key.info.uri, certificate=named),
            parts.unlocker.unlocked(key.token, Occasion(caller)),
        ):
            await parts.tokens.import_certificate(key.token.uri, certificate.der, label, key.info.object_id)
        parts.inventory.invalidate()
        return json_answer(_key(AvailableKey(key.info, key.token, certificate)))

    return await _once(request, octets, work)


def _only_certificate(text: str) -> Certificate:
    found = load_certificates(text.encode())
    if len(found) != 1:
        raise FormatError("certificate_invalid", f"one certificate is expected, {len(found)} were given")
    return found[0]


async def sign_digests(request: web.Request) -> web.StreamResponse:
    """``POST /v1/keys/{key}/signatures``."""
    parts = services(request)
    asked, octets = await read_json(request, m.DigestsIn)
    if len(asked.digests) > parts.limits.digests_per_request:
        raise LimitExceeded("body_too_large", f"a request may hold {parts.limits.digests_per_request} digests")

    async def work() -> Answer:
        signed = await parts.line.sign_digests(
            request[CALLER], request.match_info["key"], asked.mechanism, asked.digests, asked.name
        )
        return json_answer({"signatures": [_signature(value, receipt) for value, receipt in signed]})

    return await _once(request, octets, work)


# Seals


async def list_seals(request: web.Request) -> web.StreamResponse:
    """``GET /v1/seals``."""
    parts = services(request)
    snapshot = await parts.inventory.snapshot(fresh=True)
    now = parts.clock()
    return json_response(
        {"seals": [_seal(item, now) for item in snapshot.seals.values()], "faults": list(snapshot.faults)}
    )


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
        async with administered(
            parts.ledger, caller, "import_seal", seal=_named(parsed), token=token.uri if token else None
        ):
            if token is None:
                await asyncio.to_thread(parts.store.add, asked.seal)
            else:
                async with parts.unlocker.unlocked(token, Occasion(caller, seal=parsed.name)):
                    await parts.tokens.import_data(token.uri, asked.seal, parsed.es_id, SEAL_APPLICATION)
        parts.inventory.invalidate()
        item = await parts.inventory.seal(parsed.id)
        return json_answer(_seal(item, parts.clock()), status=201)

    return await _once(request, octets, work)


async def remove_seal(request: web.Request) -> web.StreamResponse:
    """``DELETE /v1/seals/{seal}``: from the local store only."""
    parts = services(request)

    async def work() -> Answer:
        item = await parts.inventory.seal(request.match_info["seal"])
        async with administered(parts.ledger, request[CALLER], "remove_seal", seal=_named(item.seal)):
            try:
                await asyncio.to_thread(parts.store.remove, item.seal.id)
            except SealAgentError as error:
                if error.code != "seal_not_found":
                    raise
                message = "it is on a token only, from which the token's own tool removes it"
                raise SealAgentError("not_supported", message) from error
        parts.inventory.invalidate()
        return json_answer(_seal(item, parts.clock()))

    return await _once(request, b"", work)


async def sign_with_seal(request: web.Request) -> web.StreamResponse:
    """``POST /v1/seals/{seal}/signatures``."""
    parts = services(request)
    asked, octets = await read_json(request, m.SealDigestIn)

    async def work() -> Answer:
        made = await parts.line.sign_with_seal(
            request[CALLER], request.match_info["seal"], asked.digest, asked.property_info, asked.name
        )
        return json_answer(_signature(made.signature, made.receipt))

    return await _once(request, octets, work)


# The record


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


# Events


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
    Route("GET", "/v1/tokens", list_tokens, "Plugged-in tokens", m.TokensOut),
    Route("POST", "/v1/tokens/{token}/lock", lock_token, "Log out of a token", m.TokenOut, errors=("token_not_found",)),
    Route(
        "POST",
        "/v1/tokens/{token}/pin",
        change_pin,
        "Change a token's PIN; the agent asks the holder for the old and the new one",
        m.TokenOut,
        changes=True,
        errors=("token_not_found", "pin_incorrect", "pin_locked", "pin_mismatch", "pin_cancelled"),
    ),
    Route("GET", "/v1/keys", list_keys, "Keys on plugged-in tokens", m.KeysOut),
    Route(
        "POST",
        "/v1/keys",
        generate_key,
        "Generate a key pair on a token",
        m.KeyOut,
        m.KeyGenerateIn,
        changes=True,
        errors=("token_not_found", "object_exists", "mechanism_not_supported", "pin_incorrect"),
    ),
    Route(
        "POST",
        "/v1/keys/{key}/certificate-request",
        certificate_request,
        "Make a PKCS#10 request, signed on the device",
        m.CertificateRequestOut,
        m.CertificateRequestIn,
        changes=True,
        errors=("key_not_found", "public_key_unreadable", "pin_incorrect", "record_failed"),
    ),
    Route(
        "PUT",
        "/v1/keys/{key}/certificate",
        import_certificate,
        "Store a key's certificate on its token",
        m.KeyOut,
        m.ImportCertificateIn,
        changes=True,
        errors=("key_not_found", "certificate_invalid", "certificate_mismatch", "pin_incorrect"),
    ),
    Route(
        "POST",
        "/v1/keys/{key}/signatures",
        sign_digests,
        "Sign digests with a bare key (needs signing.allow_raw_digests)",
        m.DigestsOut,
        m.DigestsIn,
        changes=True,
        errors=("key_not_found", "raw_digest_not_allowed", "digest_invalid", "pin_incorrect", "record_failed"),
    ),
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
        "Make an SES_Signature over a digest (needs signing.allow_raw_digests)",
        m.SealDigestOut,
        m.SealDigestIn,
        changes=True,
        errors=(
            "seal_not_found",
            "seal_not_valid",
            "seal_outdated",
            "raw_digest_not_allowed",
            "pin_incorrect",
            "record_failed",
        ),
    ),
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
        "/v1/events",
        stream_events,
        "What happens, as it happens",
        "text/event-stream",
        errors=("too_many_listeners",),
    ),
)
