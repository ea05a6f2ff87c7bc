"""What a unit states of a seal, once it is certain that the unit did: who signed it, and for which seal.

An answer or a list may be signed by a certificate that the trust list of the seal's maker names for that (role
``status``), by one that the configuration names for this service, or by the seal's maker itself. Whether a statement
is fresh is another question: one that is old may still be the last thing known.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn, Protocol

from sealagent.errors import SealAgentError
from sealagent.pki.certificates import Certificate
from sealagent.pki.signed import Signed, open_signed
from sealagent.pki.trust import TrustEntry, TrustRole, TrustStore
from sealagent.seals.answers import MAX_ANSWER, read_answer, state_at
from sealagent.seals.model import Seal
from sealagent.seals.status import SealState, StateChange
from sealagent.status.policy import CLOCK_SKEW
from sealagent.verdict import timestamp

__all__ = ["MAX_MESSAGE", "Adapter", "Question", "Statement", "answer_statement", "check_times", "signer_authority"]

MAX_MESSAGE = MAX_ANSWER + (256 << 10)  # octets of a signed answer: the content, and the certificates along with it


@dataclass(frozen=True, slots=True)
class Question:
    """In which states was this seal?"""

    seal: Seal
    sm3: str
    """Of the whole seal, lower-case hexadecimal."""
    maker: Certificate
    entry: TrustEntry | None
    """What vouches for the maker."""
    trust: TrustStore
    now: datetime
    """The real time."""


@dataclass(frozen=True, slots=True)
class Statement:
    """An authentic answer: signed by somebody who may speak for the seal, and about it."""

    history: tuple[StateChange, ...]
    """Oldest first; empty: the seal is not known there."""
    source: str
    """Who said so, for people."""
    produced_at: datetime
    next_update: datetime
    evidence: bytes = field(repr=False)
    """The signed message as received."""
    alone: bool
    """The message is about this seal alone, and can be kept for it."""

    def state(self, moment: datetime) -> SealState:
        """Return the state at a moment, as far as this statement knows."""
        return state_at(self.history, moment)


class Adapter(Protocol):
    """A way to learn the states of seals."""

    @property
    def name(self) -> str:
        """For people, e.g. an address or a path."""
        ...

    def serves(self, maker: Certificate) -> bool:
        """Say whether seals of this maker are asked about here."""
        ...

    def ask(self, question: Question) -> Statement:
        """Return an authentic statement, fresh or not.

        :raises SealAgentError: whatever went wrong, with a detail that says what.
        """
        ...


def answer_statement(
    question: Question, message: bytes, source: str, named: Collection[str], nonce: bytes | None
) -> Statement:
    """Read a signed answer of a status service.

    :param named: SHA-256 of certificates that the configuration lets sign here.
    :param nonce: that was sent along; None for an answer that was kept.
    :raises SealAgentError: ``status_answer_refused``: signed by somebody else, about another seal, for another
        question, or from the future. :raises FormatError: ``signed_message_invalid``, ``status_answer_invalid``.
    """
    signed = open_signed(message, limit=MAX_MESSAGE)
    answer = read_answer(signed.content)
    signer_authority(question, signed, named, answer.produced_at)
    if answer.seal_sm3 != question.sm3:
        _refuse("it is about another seal")
    if answer.history and answer.es_id != question.seal.es_id:
        _refuse("it gives the seal another esID")
    if nonce is not None and answer.nonce != nonce:
        _refuse("it does not repeat the nonce of the question, so it may be an old one")
    check_times(question, answer.produced_at)
    return Statement(answer.history, source, answer.produced_at, answer.next_update, message, alone=True)


def signer_authority(question: Question, signed: Signed, named: Collection[str], produced_at: datetime) -> str:
    """Return on whose authority a signer speaks for a seal: ``configured``, ``maker …`` or ``list …``.

    :raises SealAgentError: ``status_answer_refused``.
    """
    signer = signed.signer
    if not signer.valid_at(produced_at):
        _refuse(f"the certificate of {signer.subject} was not valid when it was signed, {timestamp(produced_at)}")
    if not signer.may_sign:
        _refuse(f"the key usage of {signer.subject} allows no signatures")
    if signer.sha256 in named:
        return "configured"
    if signer == question.maker:
        _recognised(question.entry, signer, produced_at)
        return f"maker {signer.sha256}"
    source = question.entry.source if question.entry else None
    if source is not None:
        for entry in question.trust.entries(TrustRole.STATUS):
            if entry.certificate == signer and entry.source is not None and entry.source.list == source.list:
                _recognised(entry, signer, produced_at)
                return f"list {source.list}"
    _refuse(f"{signer.subject} may not speak for this seal")


def _recognised(entry: TrustEntry | None, signer: Certificate, produced_at: datetime) -> None:
    since = entry.withdrawn_since if entry else None
    if since is not None and since <= produced_at:
        _refuse(f"{signer.subject} is not recognised since {timestamp(since)}")


def check_times(question: Question, produced_at: datetime) -> None:
    """Refuse what comes from the future: it would outrank every honest answer until then.

    :raises SealAgentError: ``status_answer_refused``.
    """
    if produced_at > question.now + CLOCK_SKEW:
        _refuse(f"it was made in the future, {timestamp(produced_at)}; is this computer's clock right?")


def _refuse(why: str) -> NoReturn:
    raise SealAgentError("status_answer_refused", f"the answer does not count: {why}")
