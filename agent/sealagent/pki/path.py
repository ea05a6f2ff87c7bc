"""Certification paths (RFC 5280 chapter 6), offline. Revocation is asked in :mod:`.revocation`."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal
from weakref import ref

from sealagent.pki.certificates import Certificate
from sealagent.pki.trust import TrustEntry, TrustRole, TrustStore
from sealagent.verdict import timestamp

__all__ = ["MAX_OTHERS", "PathResult", "PathStatus", "validate_path"]

MAX_OTHERS = 64  # certificates offered as possible intermediates; a signature brings three or four
MAX_KEPT = 256  # results kept; one takes some KiB, and a verifier meets the same few makers and CAs again and again


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
    key = (id(trust), role, certificate.sha256, tuple(other.sha256 for other in others))
    inside = min(max(at, certificate.not_before), certificate.not_after)
    if (proof := _proofs.get(key, trust, at, inside)) is not None:
        return proof
    if not certificate.may_sign:
        return PathResult(PathStatus.invalid, "usage", f"{certificate.subject}: the key usage allows no signatures")
    if (entry := trust.entry(certificate, role)) is not None:
        found = PathResult(PathStatus.pinned, anchor=certificate, entry=entry, chain=(certificate,))
        return found if entry.withdrawn_since is None or at < entry.withdrawn_since else _withdrawn(found, entry)
    if len(others) > MAX_OTHERS:
        return _invalid(f"{len(others)} certificates to build a path from; {MAX_OTHERS} are allowed")
    result = _search(certificate, others, trust, at, inside, role)
    if result.status is PathStatus.trusted:
        _proofs.keep(key, trust, result, at, inside)
    return result


def _search(
    certificate: Certificate,
    others: Sequence[Certificate],
    trust: TrustStore,
    at: datetime,
    inside: datetime,
    role: TrustRole,
) -> PathResult:
    """Find a path that no withdrawn certificate is part of; if there is none, say whether one with such would do."""
    reachable = _reachable(certificate, others)
    gone = _gone(trust, at, role)
    known = dict.fromkeys(entry.certificate for entry in trust.entries(role))
    named = [each for each in known if any(cert.names_issuer(each) for cert in reachable)]
    anchors = [each for each in named if each.may_sign_certificates]
    candidates = [other for other in others if other.may_sign_certificates]
    result = PathResult(PathStatus.no_anchor, detail=f"no trusted certificate of {certificate.issuer}")
    standing = [each for each in anchors if each.spki not in gone and not _is_withdrawn(trust.entry(each, role), at)]
    if standing:
        from sealagent.pki import chain  # slow to import; a list of pins never needs it

        left = [each for each in candidates if each.spki not in gone]
        result = chain.validate(certificate, left, standing, inside)
    if result.anchor is not None:
        return replace(result, entry=trust.entry(result.anchor, role))
    if anchors and (gone or len(standing) < len(anchors)):
        from sealagent.pki import chain

        other = chain.validate(certificate, candidates, anchors, inside)
        for link in other.chain[1:]:
            entry = gone.get(link.spki) or trust.entry(link, role)
            if entry is not None and _is_withdrawn(entry, at):
                return _withdrawn(replace(other, entry=entry), entry)
    if result.status is PathStatus.no_anchor:
        for issuer in named:
            if not issuer.may_sign_certificates and any(cert.is_issued_by(issuer) for cert in reachable):
                return _invalid(f"{issuer.subject} issued a certificate of the path but is no CA certificate")
    return result


def _is_withdrawn(entry: TrustEntry | None, at: datetime) -> bool:
    return entry is not None and entry.withdrawn_since is not None and entry.withdrawn_since <= at


def _gone(trust: TrustStore, at: datetime, role: TrustRole) -> dict[bytes, TrustEntry]:
    """Return the public keys that entries withdrew by then and no other entry vouches for, each with its entry.

    Keys and not certificates: another certificate of a withdrawn CA, issued by a CA that still counts and brought along
    with a signature, must not bring that CA back.
    """
    gone = {each.certificate.spki: each for each in trust.entries(role) if _is_withdrawn(each, at)}
    if gone:
        for each in trust.entries(role):
            if not _is_withdrawn(each, at):
                gone.pop(each.certificate.spki, None)
    return gone


def _withdrawn(result: PathResult, entry: TrustEntry) -> PathResult:
    """Refuse what rests on an entry that was withdrawn by then."""
    detail = f"{entry.certificate.subject}: withdrawn since {timestamp(entry.withdrawn_since)}"
    return replace(result, status=PathStatus.invalid, fault="withdrawn", detail=detail)


def _invalid(detail: str) -> PathResult:
    return PathResult(PathStatus.invalid, "chain", detail)


def _reachable(certificate: Certificate, others: Sequence[Certificate]) -> list[Certificate]:
    """Return the certificate and those of the others that could stand above it, by name."""
    found = [certificate]
    for cert in found:
        found += [other for other in others if other not in found and cert.names_issuer(other)]
    return found


_Key = tuple[int, TrustRole, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Proof:
    """A path that was found valid, and for which moments it is."""

    trust: ref[TrustStore]
    result: PathResult
    first: datetime
    last: datetime
    """The moments inside, both included, at which all certificates of the path are within their validity."""
    before: datetime | None
    """The first moment of use at which a certificate of the path is withdrawn; None if it never is."""


class _Proofs:
    """Paths found valid, so that a certificate that is met again costs a look-up.

    Why that is sound: whether one given path is valid depends on the moment only through the validity periods of its
    certificates, the anchor's included, and through what the trust store withdraws; signatures, usages, constraints,
    policies and the algorithms allowed do not change with time (:class:`.chain.Algorithms` ignores the moment). So a
    path that was valid once is valid at every moment within all those periods before the first such withdrawal. At
    another moment a fresh search might come upon another path first; that one is no better.

    The key stands for everything else that the result is made from: the role, the certificate and all that came along
    in their order, by their SHA-256 (junk that came along is not kept), and the trust store itself. A store never
    changes; the weak reference tells a store from a later one at the same address. Only trust is kept: what was missing
    or wrong is looked for again every time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, _Proof] = OrderedDict()

    def get(self, key: _Key, trust: TrustStore, at: datetime, inside: datetime) -> PathResult | None:
        with self._lock:
            proof = self._kept.get(key)
            if proof is None or proof.trust() is not trust or not proof.first <= inside <= proof.last:
                return None
            if proof.before is not None and at >= proof.before:
                return None
            self._kept.move_to_end(key)
            return proof.result

    def keep(self, key: _Key, trust: TrustStore, result: PathResult, at: datetime, inside: datetime) -> None:
        first = max(each.not_before for each in result.chain)
        last = min(each.not_after for each in result.chain)
        if not first <= inside <= last:
            return  # a certificate that ends before it begins
        keys = {each.spki for each in result.chain[1:]}
        ends = [
            entry.withdrawn_since
            for entry in trust.entries(key[1])
            if entry.withdrawn_since is not None and entry.withdrawn_since > at and entry.certificate.spki in keys
        ]
        with self._lock:
            self._kept[key] = _Proof(ref(trust), result, first, last, min(ends, default=None))
            self._kept.move_to_end(key)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)


_proofs: Final = _Proofs()
