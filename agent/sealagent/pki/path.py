"""Trust anchors and certification paths (RFC 5280 chapter 6), offline.

A certificate of the trust list counts in one of two ways: its octets are *pinned*, or, if it is a CA certificate, it
anchors paths. Revocation is not asked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

from sealagent.errors import FormatError, SealAgentError
from sealagent.pki.certificates import MAX_BUNDLE_OCTETS, Certificate, load_certificates

__all__ = ["MAX_OTHERS", "PathResult", "PathStatus", "TrustStore", "validate_path"]

MAX_OTHERS = 64  # certificates offered as possible intermediates; a signature brings three or four

_SUFFIXES = frozenset({".pem", ".crt", ".cer", ".der"})


@dataclass(frozen=True, slots=True)
class TrustStore:
    """Certificates that are trusted, under a name that reports show."""

    certificates: tuple[Certificate, ...]
    name: str = ""

    @classmethod
    def load(cls, paths: Iterable[Path], name: str = "") -> TrustStore:
        """Read certificate files, and the .pem, .crt, .cer and .der files of folders (not of their subfolders).

        :raises SealAgentError: ``config_invalid`` if a file cannot be read or holds no certificate; ``path`` says
            which one. Trust that is silently smaller than configured would be worse.
        """
        found: dict[bytes, Certificate] = {}
        for path in paths:
            for file in _files(path):
                found.update((certificate.der, certificate) for certificate in _read(file))
        return cls(tuple(found.values()), name)

    def pins(self, certificate: Certificate) -> bool:
        """Return whether these very octets are in the list."""
        return certificate in self.certificates


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            return sorted(each for each in path.iterdir() if each.suffix.lower() in _SUFFIXES and each.is_file())
    except OSError as error:
        raise _unreadable(path, error) from error
    return [path]


def _read(file: Path) -> list[Certificate]:
    try:
        with file.open("rb") as stream:
            return load_certificates(stream.read(MAX_BUNDLE_OCTETS + 1))
    except (OSError, FormatError) as error:
        raise _unreadable(file, error) from error


def _unreadable(path: Path, error: OSError | FormatError) -> SealAgentError:
    why = error.strerror if isinstance(error, OSError) else error.message
    return SealAgentError("config_invalid", f"trusted certificates {path}: {why}", path=str(path))


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
    fault: Literal["chain", "usage"] | None = None
    """``usage``: the certificate itself may not sign; ``chain``: everything else. Set if and only if invalid."""
    detail: str = ""
    anchor: Certificate | None = None
    """The CA of the trust list, or the pinned certificate."""


def validate_path(
    certificate: Certificate, others: Sequence[Certificate], trust: TrustStore, at: datetime
) -> PathResult:
    """Judge the chain and the key usage of a certificate that signed something other than certificates.

    The certificate's own validity period is left to the caller, who knows what being outside of it means. Where ``at``
    lies outside, the issuers are judged at the nearest moment inside.

    :param others: certificates that may be intermediates; they are not trusted.
    :param at: when the certificate was used, timezone-aware.
    """
    if not certificate.may_sign:
        return PathResult(PathStatus.invalid, "usage", f"{certificate.subject}: the key usage allows no signatures")
    if trust.pins(certificate):
        return PathResult(PathStatus.pinned, anchor=certificate)
    if len(others) > MAX_OTHERS:
        return _invalid(f"{len(others)} certificates to build a path from; {MAX_OTHERS} are allowed")
    reachable = _reachable(certificate, others)
    named = [each for each in trust.certificates if any(cert.names_issuer(each) for cert in reachable)]
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
    return result


def _invalid(detail: str) -> PathResult:
    return PathResult(PathStatus.invalid, "chain", detail)


def _reachable(certificate: Certificate, others: Sequence[Certificate]) -> list[Certificate]:
    """Return the certificate and those of the others that could stand above it, by name."""
    found = [certificate]
    for cert in found:
        found += [other for other in others if other not in found and cert.names_issuer(other)]
    return found
