"""Seal status services over HTTP: ``GET {base}/v1/seals/{sm3}?nonce=…`` answers with a signed message."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from sealagent.pki.certificates import Certificate
from sealagent.status.statements import MAX_MESSAGE, Question, Statement, answer_statement

__all__ = ["Fetch", "HttpService"]

NONCE_OCTETS = 16
"""Nobody can have asked with the same nonce before, so an old answer cannot be played back."""

Fetch = Callable[[str, bytes | None, str | None, int], bytes]
"""Address, body (None: GET), its media type and the octets allowed: the octets of the answer."""


@dataclass(frozen=True, slots=True)
class HttpService:
    """A service at an address."""

    url: str
    """Base of its addresses, without a slash at the end."""
    fetch: Fetch
    makers: frozenset[str] = frozenset()
    """SHA-256 of the makers whose seals it is asked about; empty: of all."""
    signers: frozenset[str] = frozenset()
    """SHA-256 of certificates that may sign its answers, beside those that a trust list names."""

    @property
    def name(self) -> str:
        return self.url

    def serves(self, maker: Certificate) -> bool:
        """See :class:`.statements.Adapter`."""
        return not self.makers or maker.sha256 in self.makers

    def ask(self, question: Question) -> Statement:
        """See :class:`.statements.Adapter`.

        :raises SealAgentError: of the fetch; ``status_answer_refused``. :raises FormatError: the answer is malformed.
        """
        nonce = secrets.token_bytes(NONCE_OCTETS)
        message = self.fetch(f"{self.url}/v1/seals/{question.sm3}?nonce={nonce.hex()}", None, None, MAX_MESSAGE)
        return answer_statement(question, message, self.url, self.signers, nonce)
