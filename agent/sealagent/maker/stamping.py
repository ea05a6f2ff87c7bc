"""Time-stamps over seals of version 5 (GM/T 0031-2025: over the seal's signature), where the unit has an authority."""

from __future__ import annotations

import asyncio
import secrets

from sealagent.maker.making import Stamp
from sealagent.maker.settings import TimestampAuthority
from sealagent.pki.timestamp_request import MAX_RESPONSE, prepare_request, read_response
from sealagent.status.fetch import Fetcher

__all__ = ["stamp_by"]


def stamp_by(authority: TimestampAuthority, digest: str) -> Stamp | None:
    """Return what gets a time-stamp token over octets from the configured authority; None: there is none.

    :param digest: of the message imprint: the one that the maker's key signs with.
    """
    if not authority.url:
        return None

    async def stamp(covered: bytes) -> bytes:
        """:raises SealAgentError: ``service_unreachable``, ``service_timeout``, ``timestamp_refused`` and others."""
        nonce = secrets.randbits(63)
        request = prepare_request(covered, digest, nonce)
        fetch = Fetcher(authority.seconds)
        try:
            answer = await asyncio.to_thread(fetch, authority.url, request, "application/timestamp-query", MAX_RESPONSE)
        finally:
            await asyncio.to_thread(fetch.close)
        return read_response(answer, covered, digest, nonce)

    return stamp
