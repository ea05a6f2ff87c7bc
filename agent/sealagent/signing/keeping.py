"""How a signature is kept so that a retry gets it again: a seal signature without its seal.

Each SES_Signature holds the whole seal, picture included, which is the same in thousands of them. It is kept once,
under its digest, beside the other evidence; the signature is kept without it, and put together again to the last octet.
"""

from __future__ import annotations

import hashlib

from sealagent.errors import SealAgentError
from sealagent.status.evidence import EvidenceStore, sha256_of

__all__ = ["joined", "parted"]

_WHOLE, _PARTED = b"\x00", b"\x01"
_DIGEST = 32
_OFFSET = 4


def parted(value: bytes, seal: bytes | None, evidence: EvidenceStore) -> bytes:
    """Return what is kept of a signature. The first time a seal is met this waits for the disk.

    :param value: the signature. :param seal: DER SESeal that it may hold. :raises SealAgentError: ``evidence_failed``.
    """
    at = value.find(seal) if seal else -1
    if seal is None or at < 0:
        return _WHOLE + value
    if not evidence.has(sha256_of(seal)):
        evidence.keep(seal)
    rest = value[:at] + value[at + len(seal) :]
    return _PARTED + hashlib.sha256(seal).digest() + at.to_bytes(_OFFSET, "big") + rest


def joined(kept: bytes, evidence: EvidenceStore) -> bytes:
    """Return the signature as it was released. Waits for the disk.

    :raises SealAgentError: ``idempotency_result_gone``: its seal is no longer there, or it is in a form of another
        release.
    """
    form, rest = kept[:1], kept[1:]
    if form == _WHOLE:
        return rest
    try:
        if form != _PARTED:
            raise ValueError("unknown form")
        seal = evidence.get(rest[:_DIGEST].hex())
    except (SealAgentError, ValueError) as error:
        message = f"it was signed before, and the signature cannot be put together again: {error}"
        raise SealAgentError("idempotency_result_gone", message) from error
    at = int.from_bytes(rest[_DIGEST : _DIGEST + _OFFSET], "big")
    body = rest[_DIGEST + _OFFSET :]
    return body[:at] + seal + body[at:]
