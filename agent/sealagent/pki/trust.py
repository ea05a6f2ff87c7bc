"""Whom the agent trusts: certificates of the configuration, and the entries of signed trust lists.

A certificate counts in one of two ways: its octets are *pinned*, or, if it is a CA certificate, it anchors paths. The
certificates of the configuration vouch in every role; an entry of a trust list vouches in the roles it is listed for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from sealagent.errors import FormatError, SealAgentError
from sealagent.pki.certificates import MAX_BUNDLE_OCTETS, Certificate, load_certificates

__all__ = ["EVERY_ROLE", "TrustClass", "TrustEntry", "TrustRole", "TrustSource", "TrustStore"]

_SUFFIXES = frozenset({".pem", ".crt", ".cer", ".der"})


class TrustClass(StrEnum):
    """What kind of body certified (the Measures, Art. 12; internal seals are self-made by analogy)."""

    E_GOVERNMENT = "e-government"
    COMMERCIAL = "commercial"
    INTERNAL = "internal"
    """A unit's own seals for its own use: visibly distinct in every result."""


class TrustRole(StrEnum):
    """What an entry of a trust list vouches for."""

    CA = "ca"
    """Issues signers' certificates."""
    MAKER = "maker"
    """Makes seals: a maker's certificate, or a CA that certifies makers only."""
    STATUS = "status"
    """Signs answers of the seal status service."""
    TSA = "tsa"
    """Time-stamps: an authority's certificate, or a CA that certifies such."""


EVERY_ROLE = frozenset(TrustRole)


@dataclass(frozen=True, slots=True)
class TrustSource:
    """The trust list an entry stands in."""

    list: str
    """Identifier of the list."""
    sequence: int
    region: str
    """Administrative-division code, six digits."""
    region_name: str
    unit: str
    """The production-management unit (电子印章制作管理单位) that publishes the list."""
    issued_at: datetime
    next_update: datetime
    """After this the list is stale: it vouches for nothing until it is updated."""
    status_urls: tuple[str, ...] = ()
    """Seal status services of the unit."""


@dataclass(frozen=True, slots=True)
class TrustEntry:
    """A certificate and what it vouches for."""

    certificate: Certificate
    roles: frozenset[TrustRole] = EVERY_ROLE
    trust_class: TrustClass | None = None
    """None for certificates of the configuration."""
    source: TrustSource | None = None
    """None for certificates of the configuration."""
    withdrawn_since: datetime | None = None
    """From this moment on it vouches for nothing new."""
    ocsp: tuple[str, ...] = ()
    """Where the status of certificates it issued can be asked (RFC 6960)."""
    crls: tuple[str, ...] = ()
    """Where its certificate revocation lists are."""

    def as_json(self, name: str) -> dict[str, str]:
        """Return ``trust`` of the verdict report. :param name: of the store, for certificates of the configuration."""
        if self.source is None:
            return {"list": name, "region": ""}
        return {
            "list": self.source.list,
            "region": self.source.region,
            "region_name": self.source.region_name,
            "unit": self.source.unit,
            "class": str(self.trust_class or ""),
        }


@dataclass(frozen=True)
class TrustStore:
    """What is trusted, under a name that reports show."""

    certificates: tuple[Certificate, ...]
    """Those of the configuration: they vouch in every role."""
    name: str = ""
    listed: tuple[TrustEntry, ...] = ()
    """Entries of trust lists."""

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

    @cached_property
    def _by_role(self) -> dict[TrustRole, tuple[TrustEntry, ...]]:
        entries = (*(TrustEntry(certificate) for certificate in self.certificates), *self.listed)
        return {role: tuple(entry for entry in entries if role in entry.roles) for role in TrustRole}

    @cached_property
    def _by_octets(self) -> dict[TrustRole, dict[bytes, TrustEntry]]:
        """A province's list has thousands of entries, and each verification looks up two or three."""
        found: dict[TrustRole, dict[bytes, TrustEntry]] = {}
        for role, entries in self._by_role.items():
            own = found[role] = {}
            for entry in entries:
                before = own.setdefault(entry.certificate.der, entry)
                if before.withdrawn_since is not None and entry.withdrawn_since is None:
                    own[entry.certificate.der] = entry
        return found

    def entries(self, role: TrustRole) -> tuple[TrustEntry, ...]:
        """Return what vouches in a role, the certificates of the configuration first."""
        return self._by_role[role]

    def entry(self, certificate: Certificate, role: TrustRole) -> TrustEntry | None:
        """Return the entry with these very octets: of several, one that is not withdrawn."""
        return self._by_octets[role].get(certificate.der)

    def pins(self, certificate: Certificate, role: TrustRole = TrustRole.CA) -> bool:
        """Return whether these very octets are listed for a role."""
        return self.entry(certificate, role) is not None


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
