"""The agent as a Python object."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from sealagent.client.applications import Applications, authorization
from sealagent.client.batches import Batches
from sealagent.client.transport import Transport
from sealagent.client.values import Document, Json, Opened, Sealed, Signed, signed
from sealagent.paths import socket_path

__all__ = ["Agent", "Sealed", "Signed", "at", "invisible", "riding"]


def at(page: int, x: float, y: float) -> Json:
    """Place the picture on a page (from 1), its top left corner ``x``, ``y`` mm from the page's."""
    return {"type": "position", "page": page, "x": x, "y": y}


def riding(edge: str = "right", pages: Sequence[int] | None = None, at: float | None = None) -> Json:
    """Place a strip of the picture on the edge of each page (骑缝章); ``at`` is the top in mm."""
    return {"type": "riding", "edge": edge, "pages": list(pages) if pages is not None else None, "at": at}


def invisible() -> Json:
    """Seal without a picture."""
    return {"type": "invisible"}


class Agent(Applications, Batches):
    """A connection to the local agent. Not for several threads at once: give each its own.

    :param socket: path of the socket; default: where the agent usually listens.
    :param timeout: seconds to wait for an answer; entering a PIN counts.
    :param token: of the paired application that asks. :param token_file: a private file that holds it; default: the one
        that ``SEALAGENT_TOKEN_FILE`` names, if any.
    :raises AgentError: ``token_file_refused``.
    """

    def __init__(
        self,
        socket: str | Path | None = None,
        timeout: float = 300.0,
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
    ) -> None:
        path = Path(socket) if socket is not None else socket_path()
        self._transport = Transport(path, timeout, authorization(token, token_file))

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    # What there is

    def status(self) -> Json:
        """Return version, modules, record and what else ``GET /v1/status`` says."""
        return self._transport.json("GET", "/v1/status")

    def devices(self) -> Json:
        """Return ``{"devices": […], "usb": …, "fault": …}``: known USB keys and what each lacks."""
        return self._transport.json("GET", "/v1/devices")

    def tokens(self) -> Json:
        """Return ``{"tokens": […], "faults": […]}``."""
        return self._transport.json("GET", "/v1/tokens")

    def keys(self) -> list[Json]:
        """Return the keys on plugged-in tokens."""
        return list(self._transport.json("GET", "/v1/keys")["keys"])

    def seals(self) -> Json:
        """Return ``{"seals": […], "faults": […]}``."""
        return self._transport.json("GET", "/v1/seals")

    def seal(self, seal: str) -> Json:
        """Return one seal by id, esID or name."""
        return self._transport.json("GET", f"/v1/seals/{_part(seal)}")

    def seal_image(self, seal: str) -> bytes:
        """Return the picture of a seal."""
        return self._transport.octets(f"/v1/seals/{_part(seal)}/image")

    def seal_file(self, seal: str) -> bytes:
        """Return the seal itself (DER SESeal)."""
        return self._transport.octets(f"/v1/seals/{_part(seal)}/file")

    # Documents

    def seal_document(
        self,
        document: Document,
        *,
        seal: str,
        placements: Sequence[Mapping[str, Any]],
        name: str | None = None,
        close: bool = False,
        document_index: int = 0,
        idempotency_key: str | None = None,
    ) -> Sealed:
        """Seal an OFD document.

        :param placements: from :func:`at`, :func:`riding`, :func:`invisible`.
        :param name: file name shown to the holder and recorded; default: the path's.
        :param close: forbid later signatures.
        :param idempotency_key: the same key again gives the same answer; default: a fresh one.
        :raises AgentError: with the agent's code. :raises AgentUnreachable: no agent.
        """
        with Opened(document) as (file, own_name):
            request = {
                "seal": seal,
                "placements": [dict(place) for place in placements],
                "name": name or own_name or "document.ofd",
                "close": close,
                "document": document_index,
            }
            response = self._transport.document(
                "/v1/documents/seal", request, file, idempotency_key=idempotency_key or _fresh_key()
            )
            receipt = json.loads(response.getheader("SealAgent-Receipt", "{}"))
            return Sealed(response.read(), receipt)

    def verify_document(
        self,
        document: Document,
        *,
        name: str | None = None,
        at: datetime | None = None,
        trust: Sequence[str] = (),
        only_these: bool = False,
        strict: bool | None = None,
        offline: bool = False,
    ) -> Json:
        """Return the verdict report of a document, seal or bare signature.

        :param trust: PEM certificates that vouch beside the agent's own.
        :param offline: ask no status service, OCSP responder or revocation list.
        """
        with Opened(document) as (file, own_name):
            request: Json = {"name": name or own_name or "document", "trust": list(trust), "only_these": only_these}
            if at is not None:
                request["at"] = at.isoformat()
            if strict is not None:
                request["strict"] = strict
            if offline:
                request["offline"] = True
            report = json.loads(self._transport.document("/v1/documents/verify", request, file).read())
            assert isinstance(report, dict)
            return report

    # Signatures over digests

    def sign_digest_with_seal(
        self,
        digest: bytes,
        *,
        seal: str,
        property_info: str,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Signed:
        """Return an SES_Signature over an SM3 digest."""
        body = {"digest": base64.b64encode(digest).decode(), "property_info": property_info, "name": name}
        return signed(self._post(f"/v1/seals/{_part(seal)}/signatures", body, idempotency_key))

    def sign_digests(
        self,
        digests: Sequence[bytes],
        *,
        key: str,
        mechanism: str | None = None,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> list[Signed]:
        """Return bare signatures over digests, in order."""
        body = {
            "digests": [base64.b64encode(digest).decode() for digest in digests],
            "mechanism": mechanism,
            "name": name,
        }
        answer = self._post(f"/v1/keys/{_part(key)}/signatures", body, idempotency_key)
        return [signed(item) for item in answer["signatures"]]

    # Tokens, keys and seals

    def generate_key(self, token: str, type: str, label: str, object_id: str | None = None) -> Json:
        """Generate a key pair on a token; the agent asks for the PIN."""
        return self._post("/v1/keys", {"token": token, "type": type, "label": label, "id": object_id})

    def certificate_request(self, key: str, subject: Mapping[str, str]) -> str:
        """Return a PEM PKCS#10 request signed on the device."""
        answer = self._post(f"/v1/keys/{_part(key)}/certificate-request", {"subject": dict(subject)})
        return str(answer["request"])

    def import_certificate(self, key: str, certificate: str, label: str | None = None) -> Json:
        """Store a PEM certificate beside its key."""
        body = {"certificate": certificate, "label": label}
        return self._transport.json("PUT", f"/v1/keys/{_part(key)}/certificate", body, idempotency_key=_fresh_key())

    def import_seal(self, seal: bytes, token: str | None = None) -> Json:
        """Import a DER SESeal into the local store, or write it to a token."""
        return self._post("/v1/seals", {"seal": base64.b64encode(seal).decode(), "token": token})

    def remove_seal(self, seal: str) -> Json:
        """Remove a seal from the local store."""
        return self._transport.json("DELETE", f"/v1/seals/{_part(seal)}")

    def lock_token(self, token: str) -> Json:
        """Log out of a token."""
        return self._transport.json("POST", f"/v1/tokens/{_part(token)}/lock")

    def change_pin(self, token: str) -> Json:
        """Change a token's PIN; the agent asks its holder."""
        return self._post(f"/v1/tokens/{_part(token)}/pin", None)

    def unblock_pin(self, token: str) -> Json:
        """Set a new PIN of the user; the agent asks for the administrator's PIN and the new one."""
        return self._post(f"/v1/tokens/{_part(token)}/unblock", None)

    # Trust lists

    def trust(self) -> Json:
        """Return ``{"lists": […], "faults": […]}``: the trust lists in force, and which do not count and why."""
        return self._transport.json("GET", "/v1/trust")

    def trust_list(self, list_id: str) -> Json:
        """Return one trust list, entry by entry."""
        return self._transport.json("GET", f"/v1/trust/{_part(list_id)}")

    def add_trust_list(self, data: bytes, signer: str, *, new_signer: bool = False) -> Json:
        """Add a signed trust list.

        :param signer: SHA-256 (hexadecimal) of the signer's certificate, as the unit publishes it elsewhere.
        :param new_signer: the list was here before; accept a signer that its last version did not name.
        """
        body = {"list": base64.b64encode(data).decode(), "signer": signer, "new_signer": new_signer}
        return self._post("/v1/trust", body)

    def update_trust_list(self, list_id: str, data: bytes) -> Json:
        """Put a newer version in the place of a trust list."""
        body = {"list": base64.b64encode(data).decode()}
        return self._transport.json("PUT", f"/v1/trust/{_part(list_id)}", body, idempotency_key=_fresh_key())

    def remove_trust_list(self, list_id: str) -> Json:
        """Remove a trust list; its newest version and signer stay known to the agent."""
        return self._transport.json("DELETE", f"/v1/trust/{_part(list_id)}", idempotency_key=_fresh_key())

    # Policy

    def explain_policy(self, operation: str, **use: Any) -> Json:
        """Return why a use would be allowed or refused; nothing is spent or asked by it.

        :param operation: ``document`` or ``digest`` (with ``seal``), ``raw`` (with ``key``), ``manage`` (with
            ``token``).
        :param use: further fields of ``POST /v1/policy/explain``: ``executable``, ``application``, ``format``, ``at`` …
        """
        body = {name: value for name, value in use.items() if value is not None}
        return self._transport.json("POST", "/v1/policy/explain", {"operation": operation, **body})

    # The record

    def records(self, after: int = 0, limit: int = 100) -> Json:
        """Return ``{"records": […], "size": n}``."""
        return self._transport.json("GET", f"/v1/records?after={after}&limit={limit}")

    def record(self, number: int) -> Json:
        """Return one entry."""
        return self._transport.json("GET", f"/v1/records/{number}")

    def checkpoint(self) -> Json:
        """Return size and root of the record."""
        return self._transport.json("GET", "/v1/ledger/checkpoint")

    def export_record(self) -> Iterator[bytes]:
        """Yield the whole record as JSON lines, in pieces."""
        return self._transport.chunks("/v1/ledger/export")

    def evidence(self, sha256: str) -> bytes:
        """Return what a service answered, as it was received: a status answer, an OCSP response, a revocation list.

        :param sha256: as the record names it (``status``), lower-case hexadecimal.
        """
        return self._transport.octets(f"/v1/evidence/{_part(sha256)}")

    def events(self) -> Iterator[tuple[str, Json]]:
        """Yield events as they happen: name and data. Give the agent a long ``timeout``."""
        name = ""
        for line in self._transport.lines("/v1/events"):
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)

    def openapi(self) -> Json:
        """Return the OpenAPI document."""
        return self._transport.json("GET", "/v1/openapi.json")

    def _post(self, path: str, body: Mapping[str, Any] | None, idempotency_key: str | None = None) -> Json:
        return self._transport.json("POST", path, body, idempotency_key=idempotency_key or _fresh_key())


def _fresh_key() -> str:
    """Return an Idempotency-Key; the module ``secrets`` takes longer to load than a request."""
    return os.urandom(16).hex()


def _part(name: str) -> str:
    return quote(name, safe="")
