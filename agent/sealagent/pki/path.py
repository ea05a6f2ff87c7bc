"""Certification paths (RFC 5280 chapter 6), offline. Revocation is asked in :mod:`.revocation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from sealagent.pki.certificates import Certificate
from sealagent.pki.trust import TrustEntry, TrustRole, TrustStore
from sealagent.verdict import timestamp

__all__ = ["MAX_OTHERS", "PathResult", "PathStatus", "validate_path"]

MAX_OTHERS = 64  # certificates offered as possible intermediates; a signature brings three or four


class PathStatus(StrEnum):
    """What stands behind a certificate."""

    trusted = "trusted"
    """A valid path ends at a CA of the trust list."""
    pinned = "pinned"
    """The certificate itself is in the trust list; no path is needed."""
    no_anchor = "no_anchor"
    """No CA of the trust list was found: something is missing, nothing is known to be wrong."""
    invalid = "invalid"
    """Something is wrong; ``fault`` says what."""


@dataclass(frozen=True, slots=True)
class PathResult:
    """The outcome of :func:`validate_path`."""

    status: PathStatus
    fault: Literal["chain", "usage", "withdrawn"] | None = None
    """``usage``: the certificate itself may not sign; ``withdrawn``: what vouched for it no longer does; ``chain``:
    everything else. Set if and only if invalid."""
    detail: str = ""
    anchor: Certificate | None = None
    """The CA of the trust list, or the pinned certificate."""
    entry: TrustEntry | None = field(default=None, compare=False)
    """What the trust list says of :attr:`anchor`."""
    chain: tuple[Certificate, ...] = field(default=(), compare=False)
    """The path: the certificate, its issuers, last the anchor. One certificate if pinned; empty without trust."""


def validate_path(
    certificate: Certificate,
    others: Sequence[Certificate],
    trust: TrustStore,
    at: datetime,
    role: TrustRole = TrustRole.CA,
) -> PathResult:
    """Judge the chain and the key usage of a certificate that signed something other than certificates.

    The certificate's own validity period is left to the caller, who knows what being outside of it means. Where ``at``
    lies outside, the issuers are judged at the nearest moment inside.

    :param others: certificates that may be intermediates; they are not trusted.
    :param at: when the certificate was used, timezone-aware.
    :param role: which entries of the trust lists vouch.
    """
    if not certificate.may_sign:
        return PathResult(PathStatus.invalid, "usage", f"{certificate.subject}: the key usage allows no signatures")
    if (entry := trust.entry(certificate, role)) is not None:
        found = PathResult(PathStatus.pinned, anchor=certificate, entry=entry, chain=(certificate,))
        return _recognised(found, at)
    if len(others) > MAX_OTHERS:
        return _invalid(f"{len(others)} certificates to build a path from; {MAX_OTHERS} are allowed")
    reachable = _reachable(certificate, others)
    known = dict.fromkeys(entry.certificate for entry in trust.entries(role))
    named = [each for each in known if any(cert.names_issuer(each) for cert in reachable)]
    result = PathResult(PathStatus.no_anchor, detail=f"no trusted certificate of {certificate.issuer}")
    if anchors := [each for each in named if each.may_sign_certificates]:
        from sealagent.pki import chain  # slow to import; a list of pins never needs it

        candidates = [other for other in others if other.may_sign_certificates]
        inside = min(max(at, certificate.not_before), certificate.not_after)
        result = chain.validate(certificate, candidates, anchors, inside)
    if result.status is PathStatus.no_anchor:
        for issuer in named:
            if not issuer.may_sign_certificates and any(cert.is_issued_by(issuer) for cert in reachable):
                return _invalid(f"{issuer.subject} issued a certificate of the path but is no CA certificate")
    if result.anchor is not None:
        result = _recognised(replace(result, entry=trust.entry(result.anchor, role)), at)
    return result


def _recognised(result: PathResult, at: datetime) -> PathResult:
    """Refuse what rests on an entry that was withdrawn by then."""
    since = result.entry.withdrawn_since if result.entry else None
    if since is None or at < since:
        return result
    assert result.anchor is not None
    detail = f"{result.anchor.subject}: withdrawn since {timestamp(since)}"
    return replace(result, status=PathStatus.invalid, fault="withdrawn", detail=detail)


def _invalid(detail: str) -> PathResult:
    return PathResult(PathStatus.invalid, "chain", detail)


def _reachable(certificate: Certificate, others: Sequence[Certificate]) -> list[Certificate]:
    """Return the certificate and those of the others that could stand above it, by name."""
    found = [certificate]
    for cert in found:
        found += [other for other in others if other not in found and cert.names_issuer(other)]
    return found
