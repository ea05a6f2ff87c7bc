"""Having a signature time-stamped before it is released (design §2; GB/T 20520, RFC 3161)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from sealagent.errors import SealAgentError
from sealagent.pki.digests import digest
from sealagent.pki.timestamp import TokenState, judge_token
from sealagent.pki.timestamp_request import MAX_RESPONSE, prepare_request, read_response
from sealagent.seals.steps import Policy
from sealagent.verdict import timestamp

__all__ = ["Stamp", "Timestamper"]

QUERY: Final = "application/timestamp-query"  # RFC 3161 3.4
NONCE_BITS: Final = 63


class Post(Protocol):
    """Sends a question over the network (:class:`sealagent.status.fetch.Fetcher`)."""

    def __call__(self, url: str, body: bytes | None, content_type: str, limit: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Stamp:
    """A time-stamp over a signature value, or why there is none."""

    token: bytes | None = field(repr=False)
    """DER TimeStampToken."""
    time: datetime | None = None
    authority: str = ""
    """Subject of its certificate."""
    fault: str = ""

    def facts(self) -> dict[str, Any]:
        """Return what the record says of it."""
        if self.token is None:
            return {"fault": self.fault}
        return {
            "time": timestamp(self.time),
            "authority": self.authority,
            "sha256": digest("sha256", self.token).hex(),
        }


class Timestamper:
    """Asks one time-stamping authority.

    :param policy: gives whom to trust now; the authority must be among them, or verifiers would doubt its tokens.
    :param digest: of the message imprint.
    :param required: whether a signature without a time-stamp is not released.
    """

    def __init__(self, post: Post, url: str, policy: Callable[[], Policy], *, digest: str, required: bool) -> None:
        self._post = post
        self._url = url
        self._policy = policy
        self._digest = digest
        self._required = required

    def stamp(self, signature: bytes) -> Stamp:
        """Return a verified token over a signature value. Waits for the network: call it in a thread.

        :param signature: content of the BIT STRING, without its unused-bits octet.
        :raises SealAgentError: ``timestamp_failed`` where one is required; ``cause`` is the code of what went wrong.
        """
        try:
            return self._stamp(signature)
        except SealAgentError as error:
            if self._required:
                message = f"the signature could not be time-stamped: {error.message}"
                raise SealAgentError("timestamp_failed", message, cause=error.code) from error
            return Stamp(None, fault=f"{error.code}: {error.message}")

    def _stamp(self, signature: bytes) -> Stamp:
        nonce = secrets.randbits(NONCE_BITS)
        answer = self._post(self._url, prepare_request(signature, self._digest, nonce), QUERY, MAX_RESPONSE)
        token = read_response(answer, signature, self._digest, nonce)
        policy = self._policy()
        judged = judge_token(token, signature, policy.trust, policy.revocation, policy.asked_at)
        if judged.state is not TokenState.GOOD:
            raise SealAgentError("timestamp_invalid", f"the time-stamp is {judged.state}: {judged.detail}")
        assert judged.tsa is not None
        return Stamp(token, judged.time, judged.tsa.subject)
