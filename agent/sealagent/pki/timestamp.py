"""Look into a time-stamp token (GB/T 20520, RFC 3161 2.4.2): what it covers and when. Nothing is verified here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sealagent.pki import der
from sealagent.pki.certificates import Certificate
from sealagent.pki.der import DerError, Element
from sealagent.pki.digests import DIGEST_BY_OID, digest
from sealagent.pki.revocation import RevocationSource
from sealagent.pki.trust import TrustEntry, TrustStore
from sealagent.verdict import Note

__all__ = ["Token", "TokenJudgement", "TokenState", "judge_token", "read_token"]

SIGNED_DATA = ("1.2.840.113549.1.7.2", "1.2.156.10197.6.1.4.2.2")  # RFC 5652 5.1, GM/T 0010
TST_INFO = "1.2.840.113549.1.9.16.1.4"  # RFC 3161 2.4.2

MAX_TST_INFO = 64 << 10  # octets
MAX_PARTS = 64  # elements of any one structure
MAX_DIGEST = 64  # octets


@dataclass(frozen=True, slots=True)
class Token:
    """What an unverified token claims."""

    time: datetime
    """genTime in UTC."""
    digest_oid: str
    """The digest of the message imprint, dotted."""
    imprint: bytes


class TokenState(StrEnum):
    """What a token is worth."""

    GOOD = "good"
    BAD = "bad"
    UNTRUSTED = "untrusted"
    """Nothing is wrong with it, and nobody we trust vouches for its authority."""
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class TokenJudgement:
    """The outcome of :func:`judge_token`."""

    state: TokenState
    detail: str = ""
    time: datetime | None = None
    """genTime in UTC, of a token that can be read."""
    tsa: Certificate | None = None
    entry: TrustEntry | None = None
    notes: tuple[Note, ...] = ()


def judge_token(
    data: bytes, covered: bytes | None, trust: TrustStore, revocation: RevocationSource | None, now: datetime
) -> TokenJudgement:
    """Judge a token (interim: its signature is not verified yet)."""
    try:
        claims = read_token(data)
    except DerError as error:
        return TokenJudgement(TokenState.BAD, str(error))
    name = DIGEST_BY_OID.get(claims.digest_oid)
    if covered is not None and name is not None and digest(name, covered) != claims.imprint:
        return TokenJudgement(TokenState.BAD, "the token covers other octets")
    return TokenJudgement(TokenState.UNTRUSTED, "", claims.time)


def read_token(data: bytes) -> Token:
    """Read a TimeStampToken down to its TSTInfo.

    :param data: DER.
    :raises DerError: it is no such structure.
    """
    kind, wrapped = _sequence(der.read(data, "the token"), "ContentInfo", 2)[:2]
    if kind.oid("contentType") not in SIGNED_DATA:
        raise DerError("the token: not SignedData")
    signed_data = _sequence(_tagged(wrapped, "content"), "SignedData", 4)
    kind, wrapped = _sequence(signed_data[2], "encapContentInfo", 2)[:2]
    if kind.oid("eContentType") != TST_INFO:
        raise DerError("the token: its content is not a TSTInfo")
    content = _tagged(wrapped, "eContent").octets("eContent", MAX_TST_INFO)
    info = _sequence(der.read(content, "TSTInfo"), "TSTInfo", 5)
    algorithm, imprint = _sequence(info[2], "messageImprint", 2)[:2]
    return Token(
        time=info[4].time(der.GENERALIZED_TIME, "genTime"),
        digest_oid=_sequence(algorithm, "hashAlgorithm", 1)[0].oid("hashAlgorithm"),
        imprint=imprint.octets("hashedMessage", MAX_DIGEST),
    )


def _sequence(element: Element, what: str, minimum: int) -> list[Element]:
    return element.expect(der.SEQUENCE, what).children(what, MAX_PARTS, minimum)


def _tagged(element: Element, what: str) -> Element:
    """Return what is inside [0] EXPLICIT."""
    return element.expect(der.CONTEXT_0, what).children(what, 1, 1)[0]
