"""The SDK's part about batches: one list, one yes of the holder, then item by item.

>>> with Agent() as agent:                                              # doctest: +SKIP
...     batch = agent.make_batch(files, seal="某某公司公章", placements=[riding()])
...     for number, file in enumerate(files, 1):
...         agent.seal_batch_document(batch["id"], number, file).save(f"{file}.sealed")
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sealagent.client.transport import CHUNK, Transport
from sealagent.client.values import Document, Json, Opened, Sealed, Signed, signed

__all__ = ["Batches", "sha256_of"]

WAIT_SECONDS = 30
"""How long one request waits for a batch to come to rest."""
RESTING = frozenset({"paused", "stopped", "done", "cancelled", "refused", "expired"})
"""States in which nothing is being signed."""


def sha256_of(document: Document) -> str:
    """Return the SHA-256 of a document, lower-case hexadecimal: what the list of a batch names it by."""
    with Opened(document) as (file, _):
        start, state = file.tell(), hashlib.sha256()
        while chunk := file.read(CHUNK):
            state.update(chunk)
        file.seek(start)
        return state.hexdigest()


class Batches:
    """Methods of :class:`sealagent.client.Agent` about batches."""

    _transport: Transport

    def make_batch(
        self,
        documents: Sequence[str | Path],
        *,
        seal: str,
        placements: Sequence[Mapping[str, Any]],
        close: bool = False,
        hours: int = 24,
        idempotency_key: str | None = None,
    ) -> Json:
        """Have the holder agree, once, to a list of documents.

        :param documents: paths; the list has their names and digests.
        :param placements: as for :meth:`Agent.seal_document`, for all of them.
        :param hours: after which the approval ends.
        :param idempotency_key: the same key again gives the same batch, after a restart of the agent, too.
        :raises AgentError: ``consent_refused``, ``batch_too_large`` and others.
        """
        items = [{"name": Path(path).name, "sha256": sha256_of(path)} for path in documents]
        body = {"seal": seal, "placements": [dict(place) for place in placements], "close": close, "hours": hours}
        return self._batch_post("/v1/batches", {**body, "items": items}, idempotency_key)

    def make_digest_batch(
        self,
        digests: Sequence[tuple[str, bytes]],
        *,
        key: str,
        mechanism: str | None = None,
        hours: int = 24,
        idempotency_key: str | None = None,
    ) -> Json:
        """Have the holder agree, once, to a list of digests, which nobody but the caller can look into.

        :param digests: a name, shown to the holder, and the digest of each.
        """
        items = [{"name": name, "digest": base64.b64encode(digest).decode()} for name, digest in digests]
        body = {"key": key, "mechanism": mechanism, "hours": hours, "items": items}
        return self._batch_post("/v1/batches", body, idempotency_key)

    def batches(self) -> list[Json]:
        """Return the batches there are, newest first."""
        return list(self._transport.json("GET", "/v1/batches")["batches"])

    def batch(self, batch: str, *, after: int = 0, limit: int = 100, results: bool = False) -> Json:
        """Return a batch with a page of its items.

        :param after: items with larger numbers. :param results: with signatures and receipts (digests).
        """
        wanted = f"?after={after}&limit={limit}" + ("&results=true" if results else "")
        return self._transport.json("GET", f"/v1/batches/{_part(batch)}{wanted}")

    def batch_items(self, batch: str, *, results: bool = False) -> Iterator[Json]:
        """Yield all items of a batch, page by page."""
        after: int | None = 0
        while after is not None:
            page = self.batch(batch, after=after, limit=1000, results=results)
            yield from page["items"]
            after = page["next"]

    def seal_batch_document(self, batch: str, number: int, document: Document) -> Sealed:
        """Seal one document of a batch; one that was sealed before comes with the same signature again.

        :param number: of the item, from 1; the document must have the digest that the list says.
        :raises AgentError: ``batch_item_mismatch``, ``batch_stopped`` and others.
        """
        with Opened(document) as (file, _):
            # The item itself is what makes it happen once; the key only tells the transport that it may ask again.
            path, key = f"/v1/batches/{_part(batch)}/items/{number}/document", f"{batch}-{number}"
            response = self._transport.document(path, {}, file, idempotency_key=key)
            receipt = json.loads(response.getheader("SealAgent-Receipt", "{}"))
            return Sealed(response.read(), receipt)

    def run_batch(self, batch: str) -> Json:
        """Sign every digest of a batch that waits, and return the batch when it has come to rest."""
        path = f"/v1/batches/{_part(batch)}/run?wait={WAIT_SECONDS}"
        while True:
            answer = self._batch_post(path, None)
            if answer["state"] in RESTING:
                return answer

    def batch_signatures(self, batch: str) -> dict[int, Signed]:
        """Return the signatures of a batch of digests by item number."""
        return {item["number"]: signed(item) for item in self.batch_items(batch, results=True) if item["signature"]}

    def resume_batch(self, batch: str) -> Json:
        """Let a batch that a PIN stopped go on."""
        return self._batch_post(f"/v1/batches/{_part(batch)}/resume", None)

    def cancel_batch(self, batch: str) -> Json:
        """Let nothing more of a batch be signed."""
        return self._batch_post(f"/v1/batches/{_part(batch)}/cancel", None)

    def _batch_post(self, path: str, body: Mapping[str, Any] | None, key: str | None = None) -> Json:
        return self._transport.json("POST", path, body, idempotency_key=key or os.urandom(16).hex())


def _part(name: str) -> str:
    return quote(name, safe="")
