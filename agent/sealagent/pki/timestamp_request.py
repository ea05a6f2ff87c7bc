"""Asking a time-stamping authority (RFC 3161 2.4, GB/T 20520): the request and what is taken from the answer.

How they travel is not looked at here. Whether the token is worth anything is for :func:`.timestamp.judge_token` to say.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.pki import der
from sealagent.pki.der import DerError, Element
from sealagent.pki.digests import DIGEST_BY_OID, WEAK_DIGESTS
from sealagent.pki.digests import digest as digest_of
from sealagent.pki.timestamp import CLOCKS_APART, MAX_TOKEN, read_token
from sealagent.verdict import timestamp

__all__ = ["MAX_RESPONSE", "prepare_request", "read_response"]

MAX_RESPONSE: Final = MAX_TOKEN + (16 << 10)  # octets: a token, and what the authority says of a refusal
MAX_TEXT: Final = 200  # characters shown of what an authority says: it goes into an error message
MAX_TEXTS: Final = 16  # strings in a status
MAX_NONCE: Final = 1 << 63  # RFC 3161 2.4.1 wants "large"; authorities exist that read 64 bits with a sign

_GRANTED: Final = (0, 1)  # granted, and granted with modifications
_STATUS: Final = {2: "rejection", 3: "waiting", 4: "revocation warning", 5: "revocation notification"}
_FAILURES: Final = {
    0: "unknown or unsupported digest",
    2: "request not permitted",
    5: "data format wrong",
    14: "the authority's time source is not available",
    15: "policy not supported",
    16: "extension not supported",
    17: "additional information not available",
    25: "system failure",
}
"""PKIFailureInfo by bit (RFC 3161 2.4.2)."""


def prepare_request(covered: bytes, digest: str, nonce: int | None) -> bytes:
    """Return a TimeStampReq (DER) over octets; it asks for the authority's certificate to come along.

    :param digest: a name of :data:`~.digests.DIGEST_SIZES`.
    :param nonce: random, below :data:`MAX_NONCE`; None leaves it out.
    :raises FormatError: ``algorithm_not_supported``: unknown, or weak.
    :raises ValueError: the nonce is out of range.
    """
    from asn1crypto import tsp  # only those who ask for time-stamps load it

    if digest in WEAK_DIGESTS:
        raise FormatError("algorithm_not_supported", f"no time-stamp is asked for with {digest}")
    if nonce is not None and not 0 <= nonce < MAX_NONCE:
        raise ValueError("a nonce has 63 bits")
    imprint = {"hash_algorithm": {"algorithm": digest}, "hashed_message": digest_of(digest, covered)}
    request = tsp.TimeStampReq({"version": "v1", "message_imprint": imprint, "cert_req": True})
    if nonce is not None:
        request["nonce"] = nonce
    return bytes(request.dump())


def read_response(data: bytes, covered: bytes, digest: str, nonce: int | None, now: datetime | None = None) -> bytes:
    """Return the token (DER, as received) of a TimeStampResp, if it answers this request; it is not verified.

    RFC 3161 2.2: status, imprint and nonce are compared with the request, and the time with the requester's, by which
    a token from the drawer is noticed where there is no nonce.

    :param data: DER.
    :param covered: as for :func:`prepare_request`, like ``digest`` and ``nonce``.
    :param now: aware; the token may be :data:`~.timestamp.CLOCKS_APART` from it. None, with a nonce: any time will do.
    :raises SealAgentError: ``timestamp_refused``: the authority says no; ``facts`` have ``status`` and ``failure``.
    :raises FormatError: ``timestamp_invalid``: malformed, or the answer to another request.
    :raises LimitExceeded: ``timestamp_invalid``.
    :raises ValueError: neither nonce nor time: an old answer would pass for this one.
    """
    if nonce is None and now is None:
        raise ValueError("without a nonce the time must be compared")
    if len(data) > MAX_RESPONSE:
        raise LimitExceeded("timestamp_invalid", f"an answer of {len(data)} octets; {MAX_RESPONSE} are allowed")
    try:
        parts = der.read(data, "TimeStampResp").expect(der.SEQUENCE, "TimeStampResp").children("TimeStampResp", 2, 1)
        _check_status(parts[0].expect(der.SEQUENCE, "PKIStatusInfo").children("PKIStatusInfo", 3, 1))
        if len(parts) != 2:
            raise DerError("granted, and no token")
        token = read_token(parts[1].raw)
    except DerError as error:
        raise FormatError("timestamp_invalid", f"the time-stamping authority's answer: {error}") from error
    if DIGEST_BY_OID.get(token.digest_oid) != digest or token.imprint != digest_of(digest, covered):
        raise FormatError("timestamp_invalid", "the time-stamp is over other octets than were asked for")
    if token.nonce != nonce:
        raise FormatError("timestamp_invalid", "the time-stamp answers another request: its nonce differs")
    if now is not None and abs(token.time - now) > CLOCKS_APART:
        detail = f"the time-stamp says {timestamp(token.time)} and this computer's clock {timestamp(now)}"
        raise FormatError("timestamp_invalid", detail)
    return parts[1].raw


def _check_status(parts: list[Element]) -> None:
    """:raises SealAgentError: ``timestamp_refused``."""
    status = parts[0].integer("PKIStatus")
    if status in _GRANTED:
        return
    said, failure = "", None
    for part in parts[1:]:
        if part.tag == der.SEQUENCE:
            texts = part.children("statusString", MAX_TEXTS)
            said = " ".join(text.text(der.UTF8_STRING, "statusString", MAX_RESPONSE) for text in texts)
        else:
            failure = _failure(part) or None
    word = _STATUS.get(status, f"status {status}")
    shown = "".join(char if char.isprintable() else " " for char in said)[:MAX_TEXT]
    why = "; ".join(each for each in (failure, shown) if each)
    raise SealAgentError(
        "timestamp_refused",
        f"the time-stamping authority refuses: {word}{f': {why}' if why else ''}",
        status=word,
        failure=failure,
    )


def _failure(element: Element) -> str:
    """Return PKIFailureInfo in words: a BIT STRING of which one bit is set."""
    octets = element.expect(der.BIT_STRING, "failInfo").bounded("failInfo", 8)
    value = octets[1:]
    bits = [index for index in range(8 * len(value)) if value[index // 8] << index % 8 & 0x80]
    return ", ".join(_FAILURES.get(bit, f"failure {bit}") for bit in bits)
