"""What a report consists of: values, and their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["FORMAT", "Finding", "LibraryFacts", "Outcome", "Report", "SectionReport", "Severity", "Timing"]

FORMAT = 1
"""Version of the JSON form. It changes when a key goes or changes its meaning, not when one is added."""


class Severity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    """Checked, and as it should be."""
    NOTE = "note"
    """Worth knowing; no fault of the library."""
    QUIRK = "quirk"
    """It departs from the standard, and SealAgent copes."""
    FAULT = "fault"
    """It departs from the standard, and something does not work for it."""


class Outcome(StrEnum):
    """How a section ended."""

    DONE = "done"
    CRASHED = "crashed"
    HUNG = "hung"
    FAILED = "failed"
    """The probe itself failed, or the library ended the process."""
    NOT_RUN = "not_run"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked or noticed. What a code means: :mod:`sealdrivers.probe.kinds`."""

    code: str
    severity: Severity
    where: str
    """The function or record; empty: the library as a whole."""
    detail: str
    times: int = 1

    def to_json(self) -> dict[str, Any]:
        from sealdrivers.probe.kinds import KINDS

        kind = KINDS[self.code]
        return {
            "code": self.code,
            "severity": self.severity.value,
            "where": self.where,
            "detail": self.detail,
            "times": self.times,
            "title": kind.title,
            "clause": kind.clause,
            "handling": kind.handling,
        }


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one native function took, in milliseconds, as its caller sees it."""

    call: str
    count: int
    min_ms: float
    median_ms: float
    max_ms: float

    def to_json(self) -> dict[str, Any]:
        return {
            "call": self.call,
            "count": self.count,
            "min_ms": round(self.min_ms, 3),
            "median_ms": round(self.median_ms, 3),
            "max_ms": round(self.max_ms, 3),
        }


@dataclass(slots=True)
class SectionReport:
    """One section."""

    name: str
    outcome: Outcome = Outcome.NOT_RUN
    seconds: float = 0.0
    reason: str = ""
    """Why it was not run."""
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON values by name; a list of objects is a table."""
    findings: list[Finding] = field(default_factory=list)
    timings: tuple[Timing, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
            "facts": self.facts,
            "findings": [finding.to_json() for finding in self.findings],
            "timings": [timing.to_json() for timing in self.timings],
        }


@dataclass(frozen=True, slots=True)
class LibraryFacts:
    """The file, and what the vendor table says of it."""

    path: str
    """With ``~`` for the home directory."""
    size: int
    """Octets."""
    sha256: str
    """Lower-case hexadecimal."""
    architecture: str
    """Format, word size and machine, such as ``ELF 64-bit x86-64``; empty where it is none that is known."""
    driver: str
    """``pkcs11`` or ``skf``; empty where the library is neither."""
    driver_chosen_by: str
    """``exports`` or ``option``."""
    manufacturer: str = ""
    description: str = ""
    version: str = ""
    vendor_entry: str = ""
    """``[[module]]`` entry of the vendor table with this file name."""
    sm2_profile: str = ""
    """``[[sm2]]`` entry that is used."""
    sm2_profile_chosen_by: str = ""
    """``option`` or ``match``."""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Report:
    """The whole report. It holds no PIN and no signature, and no serial number or name unless they were asked for."""

    tool: str
    version: str
    date: str
    """ISO 8601, UTC."""
    system: str
    library: LibraryFacts
    signatures: bool
    """Whether a PIN was given and signatures were tried."""
    serials: bool
    """Whether serial numbers, labels and names are shown."""
    sections: tuple[SectionReport, ...]

    @property
    def blocking(self) -> tuple[str, ...]:
        """Codes of the faults for which the library, or every key on it, cannot be used; empty: it is usable."""
        from sealdrivers.probe.kinds import KINDS, Scope

        found: dict[str, None] = {}
        works = any(key.get("works") for section in self.sections for key in _rows(section.facts, "keys"))
        for section in self.sections:
            for finding in section.findings:
                if finding.severity is not Severity.FAULT or section.name in OPTIONAL_SECTIONS:
                    continue
                if KINDS[finding.code].scope is Scope.KEY and works:
                    continue
                found[finding.code] = None
        return tuple(found)

    @property
    def usable(self) -> bool:
        """Whether SealAgent can use the library, as far as was looked at."""
        return not self.blocking

    def to_json(self) -> dict[str, Any]:
        return {
            "report": self.tool,
            "format": FORMAT,
            "version": self.version,
            "date": self.date,
            "system": self.system,
            "library": self.library.to_json(),
            "usable": self.usable,
            "blocking": list(self.blocking),
            "signatures": self.signatures,
            "serials": self.serials,
            "sections": [section.to_json() for section in self.sections],
        }


OPTIONAL_SECTIONS = frozenset(("sessions", "threads", "events", "errors"))
"""Sections that try what SealAgent does not depend on: no fault in them makes a library unusable."""


def _rows(facts: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = facts.get(name)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
