"""Documents over the socket: the file itself in, the sealed file or the verdict out."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC
from typing import BinaryIO, TypeVar

from aiohttp import BodyPartReader, web
from pydantic import BaseModel

from sealagent.api.answers import CHUNK, IN_MEMORY, answer_with, once_for, run_once, spool
from sealagent.api.idempotency import Answer
from sealagent.api.messages import AtPositionIn, InvisibleIn, ReportOut, RidingIn, SealDocumentIn, VerifyIn
from sealagent.api.routing import CALLER, Route, json_response, parse_json, services
from sealagent.api.services import Services
from sealagent.documents.ofd.seal import AtPosition, Invisible, Placement, Riding
from sealagent.documents.verify import verify_document
from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.pki.certificates import load_certificates
from sealagent.pki.digests import new_digest
from sealagent.pki.trust import TrustStore
from sealagent.signing.line import DocumentJob
from sealagent.status.budget import within

__all__ = ["ROUTES"]

OFD_MEDIA_TYPE = "application/ofd"
RECEIPT_HEADER = "SealAgent-Receipt"

M = TypeVar("M", bound=BaseModel)


async def _part(reader: object, name: str) -> BodyPartReader:
    if not isinstance(reader, BodyPartReader) or reader.name != name:
        raise FormatError(
            "request_invalid", f"the body must be two parts, 'request' then 'document'; {name!r} is absent"
        )
    return reader


@asynccontextmanager
async def _received(request: web.Request, model: type[M]) -> AsyncIterator[tuple[M, bytes, BinaryIO, bytes]]:
    """Take in a multipart body: the checked request, its octets, the document spooled, and the document's SHA-256."""
    if request.content_type != "multipart/form-data":
        raise FormatError("media_type_unsupported", "the body must be multipart/form-data")
    parts = services(request)
    async with _slot(parts):
        with spool(parts) as document:
            try:
                async with asyncio.timeout(parts.limits.body_seconds):
                    asked, octets, document_sha256 = await _receive(request, model, document)
            except TimeoutError:
                raise LimitExceeded(
                    "body_timeout", f"the body took longer than {parts.limits.body_seconds} s"
                ) from None
            except (ValueError, AssertionError) as error:
                # aiohttp reports a broken multipart body by these.
                raise FormatError("request_invalid", "the multipart body is malformed") from error
            yield asked, octets, document, document_sha256


@asynccontextmanager
async def _slot(parts: Services) -> AsyncIterator[None]:
    """Wait for one of the places that bound how many documents are worked on at once."""
    try:
        async with asyncio.timeout(parts.limits.body_seconds):
            await parts.document_slots.acquire()
    except TimeoutError:
        raise SealAgentError("too_many_documents", "the agent is busy with other documents") from None
    try:
        yield
    finally:
        parts.document_slots.release()


async def _receive(request: web.Request, model: type[M], document: BinaryIO) -> tuple[M, bytes, bytes]:
    limits = services(request).limits
    reader = await request.multipart()
    first = await _part(await reader.next(), "request")
    octets = bytearray()
    while chunk := await first.read_chunk(CHUNK):
        octets += chunk
        if len(octets) > limits.json_bytes:
            raise LimitExceeded("body_too_large", f"part 'request' may have {limits.json_bytes} octets")
    asked = parse_json(bytes(octets), model)
    second = await _part(await reader.next(), "document")
    total = 0
    state = new_digest("sha256")
    while chunk := await second.read_chunk(CHUNK):
        total += len(chunk)
        if total > limits.documents.package_octets:
            raise LimitExceeded("body_too_large", f"a document may have {limits.documents.package_octets} octets")
        state.update(chunk)
        try:
            document.write(chunk)
        except OSError as error:
            raise SealAgentError("spool_full", f"the document cannot be kept while it is worked on: {error}") from error
    if await reader.next() is not None:
        raise FormatError("request_invalid", "the body has more than the two parts")
    document.seek(0)
    return asked, bytes(octets), state.digest()


def _placement(asked: AtPositionIn | RidingIn | InvisibleIn) -> Placement:
    if isinstance(asked, AtPositionIn):
        return AtPosition(asked.page, asked.x, asked.y)
    if isinstance(asked, RidingIn):
        return Riding(asked.edge, asked.pages, asked.at)
    return Invisible()


async def seal_document(request: web.Request) -> web.StreamResponse:
    """``POST /v1/documents/seal``."""
    parts = services(request)
    caller = request[CALLER]
    async with _received(request, SealDocumentIn) as (asked, octets, document, document_sha256):
        name = once_for(request, octets, document_sha256)

        async def work() -> Answer:
            job = DocumentJob(
                seal=asked.seal,
                placements=[_placement(place) for place in asked.placements],
                name=asked.name,
                close=asked.close,
                document=asked.document,
            )
            out = spool(parts)
            try:
                receipt = await parts.line.seal_document(caller, job, document, out, once=name)
            except BaseException:
                out.close()
                raise
            headers = ((RECEIPT_HEADER, json.dumps(receipt.as_json())),)
            answer = Answer(b"", OFD_MEDIA_TYPE, headers, file=out)
            if out.seek(0, io.SEEK_END) > IN_MEMORY:
                return answer
            with out:
                out.seek(0)
                return replace(answer, body=out.read(), file=None)

        answer = await run_once(request, name, work)
    return await answer_with(request, answer)


async def check_document(request: web.Request) -> web.StreamResponse:
    """``POST /v1/documents/verify``."""
    parts = services(request)
    async with _received(request, VerifyIn) as (asked, _, document, _):
        policy = parts.inventory.policy
        brought = tuple(certificate for pem in asked.trust for certificate in load_certificates(pem.encode()))
        if brought or asked.only_these:
            known = TrustStore(()) if asked.only_these else policy.trust
            trust = TrustStore((*known.certificates, *brought), "request", known.listed)
            policy = replace(policy, trust=trust)
        if asked.offline:
            policy = replace(policy, revocation=None, seals=None)
        if asked.at is not None:
            if asked.at.tzinfo is None:
                raise FormatError("request_invalid", "at: give the time with its zone, e.g. 2026-01-31T12:00:00Z")
            try:
                policy = replace(policy, now=asked.at.astimezone(UTC), present=policy.asked_at)
            except OverflowError:
                raise FormatError("request_invalid", "at: the time lies beyond the calendar") from None
        if asked.strict is not None:
            policy = replace(policy, strict=asked.strict)
        report = await asyncio.to_thread(verify_document, document, asked.name, within(policy), parts.limits.documents)
    return json_response(report.as_json())


_DOCUMENT_ERRORS = ("body_too_large", "too_many_documents", "format_unknown", "ofd_truncated", "ofd_too_large")

ROUTES = (
    Route(
        "POST",
        "/v1/documents/seal",
        seal_document,
        "Seal a document. The agent hashes it; the answer is the sealed file, its receipt in SealAgent-Receipt.",
        OFD_MEDIA_TYPE,
        SealDocumentIn,
        document=True,
        changes=True,
        errors=(
            *_DOCUMENT_ERRORS,
            "seal_not_found",
            "seal_not_valid",
            "seal_outdated",
            "ofd_closed",
            "pin_incorrect",
            "record_failed",
        ),
    ),
    Route(
        "POST",
        "/v1/documents/verify",
        check_document,
        "Verify the signatures of a document, a seal or a bare signature; the file is not kept.",
        ReportOut,
        VerifyIn,
        document=True,
        errors=_DOCUMENT_ERRORS,
    ),
)
