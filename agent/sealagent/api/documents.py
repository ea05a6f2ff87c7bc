"""Documents over the socket: the file itself in, the sealed file or the verdict out.

A file comes as part of a multipart body, or in base64 inside JSON, which is what web pages send.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC
from typing import BinaryIO, TypeVar

from aiohttp import BodyPartReader, web
from pydantic import BaseModel

from sealagent.api.answers import CHUNK, IN_MEMORY, answer_with, once_for, run_once, spool
from sealagent.api.content import DocumentReader
from sealagent.api.idempotency import Answer
from sealagent.api.messages import (
    AtPositionIn,
    InvisibleIn,
    ReportOut,
    RidingIn,
    SealDocumentIn,
    SealDocumentJsonIn,
    SealedDocumentOut,
    VerifyIn,
    VerifyJsonIn,
)
from sealagent.api.routing import CALLER, Route, json_response, parse_json, services
from sealagent.api.services import Services
from sealagent.documents.ofd.seal import AtPosition, Invisible, Placement, Riding
from sealagent.documents.verify import verify_document
from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.pki.certificates import load_certificates
from sealagent.pki.digests import new_digest
from sealagent.pki.trust import TrustStore
from sealagent.signing.line import DocumentJob, Receipt
from sealagent.status.budget import within

__all__ = ["OFD_MEDIA_TYPE", "ROUTES", "placement_of", "received", "sealed_answer"]

OFD_MEDIA_TYPE = "application/ofd"
RECEIPT_HEADER = "SealAgent-Receipt"

M = TypeVar("M", bound=BaseModel)


async def _part(reader: object, name: str) -> BodyPartReader:
    if not isinstance(reader, BodyPartReader) or reader.name != name:
        raise FormatError(
            "request_invalid", f"the body must be two parts, 'request' then 'document'; {name!r} is absent"
        )
    return reader


class _Incoming:
    """A document on its way into its spool.

    :param limit: octets it may have.
    """

    def __init__(self, document: BinaryIO, limit: int) -> None:
        self._document = document
        self._limit = limit
        self._total = 0
        self._state = new_digest("sha256")

    def take(self, octets: bytes) -> None:
        """:raises LimitExceeded: ``body_too_large``. :raises SealAgentError: ``spool_full``."""
        self._total += len(octets)
        if self._total > self._limit:
            raise LimitExceeded("body_too_large", f"a document may have {self._limit} octets")
        self._state.update(octets)
        try:
            self._document.write(octets)
        except OSError as error:
            raise SealAgentError("spool_full", f"the document cannot be kept while it is worked on: {error}") from error

    def done(self) -> bytes:
        """Return its SHA-256."""
        self._document.seek(0)
        return self._state.digest()


def _is_json(request: web.Request) -> bool:
    return request.content_type == "application/json"


@asynccontextmanager
async def received(
    request: web.Request, model: type[M], json_model: type[M]
) -> AsyncIterator[tuple[M, bytes, BinaryIO, bytes]]:
    """Take in a body: the checked request, its octets, the document spooled, and the document's SHA-256.

    :param json_model: of a JSON body, in which the document is.
    """
    if not _is_json(request) and request.content_type != "multipart/form-data":
        raise FormatError("media_type_unsupported", "the body must be multipart/form-data or application/json")
    parts = services(request)
    async with _slot(parts):
        with spool(parts) as document:
            try:
                async with asyncio.timeout(parts.limits.body_seconds):
                    incoming = _Incoming(document, parts.limits.documents.package_octets)
                    if _is_json(request):
                        asked, octets = await _receive_json(request, json_model, incoming)
                    else:
                        asked, octets = await _receive(request, model, incoming)
                    document_sha256 = incoming.done()
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


async def _receive_json(request: web.Request, model: type[M], incoming: _Incoming) -> tuple[M, bytes]:
    reader = DocumentReader(incoming.take, rest_octets=services(request).limits.json_bytes)
    async for piece in request.content.iter_chunked(CHUNK):
        reader.feed(piece)
    octets = reader.close()
    return parse_json(octets, model), octets


async def _receive(request: web.Request, model: type[M], incoming: _Incoming) -> tuple[M, bytes]:
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
    while chunk := await second.read_chunk(CHUNK):
        incoming.take(chunk)
    if await reader.next() is not None:
        raise FormatError("request_invalid", "the body has more than the two parts")
    return asked, bytes(octets)


def _write_json(document: BinaryIO, receipt: dict[str, object], out: BinaryIO) -> None:
    """Write a sealed document and its receipt as JSON (:class:`SealedDocumentOut`).

    :raises SealAgentError: ``spool_full``.
    """
    document.seek(0)
    try:
        out.write(b'{"receipt": ' + json.dumps(receipt).encode() + b', "document": "')
        while piece := document.read(3 * CHUNK):  # whole groups of three octets, so that the pieces join
            out.write(base64.b64encode(piece))
        out.write(b'"}')
    except OSError as error:
        raise SealAgentError("spool_full", f"the sealed document cannot be kept to be sent: {error}") from error


def placement_of(asked: AtPositionIn | RidingIn | InvisibleIn) -> Placement:
    if isinstance(asked, AtPositionIn):
        return AtPosition(asked.page, asked.x, asked.y)
    if isinstance(asked, RidingIn):
        return Riding(asked.edge, asked.pages, asked.at)
    return Invisible()


async def sealed_answer(request: web.Request, seal: Callable[[BinaryIO], Awaitable[Receipt]]) -> Answer:
    """Have a document sealed, and return it with its receipt in the form of the request.

    :param seal: writes the sealed document.
    """
    parts = services(request)
    with contextlib.ExitStack() as kept:
        out = kept.enter_context(spool(parts))
        receipt = await seal(out)
        if _is_json(request):
            sealed, out = out, kept.enter_context(spool(parts))
            with sealed:
                await asyncio.to_thread(_write_json, sealed, receipt.as_json(), out)
            answer = Answer(b"", "application/json", file=out)
        else:
            headers = ((RECEIPT_HEADER, json.dumps(receipt.as_json())),)
            answer = Answer(b"", OFD_MEDIA_TYPE, headers, file=out)
        if out.seek(0, io.SEEK_END) <= IN_MEMORY:
            out.seek(0)
            return replace(answer, body=out.read(), file=None)
        kept.pop_all()
        return answer


async def seal_document(request: web.Request) -> web.StreamResponse:
    """``POST /v1/documents/seal``."""
    parts = services(request)
    caller = request[CALLER]
    async with received(request, SealDocumentIn, SealDocumentJsonIn) as (asked, octets, document, document_sha256):
        name = once_for(request, octets, document_sha256)

        async def work() -> Answer:
            job = DocumentJob(
                seal=asked.seal,
                placements=[placement_of(place) for place in asked.placements],
                name=asked.name,
                close=asked.close,
                document=asked.document,
            )
            return await sealed_answer(
                request, lambda out: parts.line.seal_document(caller, job, document, out, once=name)
            )

        answer = await run_once(request, name, work)
    return await answer_with(request, answer)


async def check_document(request: web.Request) -> web.StreamResponse:
    """``POST /v1/documents/verify``."""
    parts = services(request)
    async with received(request, VerifyIn, VerifyJsonIn) as (asked, _, document, _):
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
        json_request=SealDocumentJsonIn,
        json_answer=SealedDocumentOut,
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
        json_request=VerifyJsonIn,
        reads=True,
        errors=_DOCUMENT_ERRORS,
    ),
)
