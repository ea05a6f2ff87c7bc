"""What the tests of the probe share: running it in this process, and looking things up in its report."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sealagent.cli.probe_text import COLUMNS_ZH
from sealdrivers.probe.model import Finding, Report, SectionReport
from sealdrivers.probe.process import Limits, TokenChoice
from sealdrivers.probe.run import ProbeOptions, probe

DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def run(
    library: Path,
    pin: str | Callable[[TokenChoice], bytearray] | None = None,
    *,
    call: float = 20,
    **options: object,
) -> Report:
    """Probe a library, with the PIN if there is one. :param call: seconds for one native call."""
    ask = (lambda token: bytearray(pin.encode())) if isinstance(pin, str) else pin
    chosen = ProbeOptions(limits=Limits(call=call), signatures=2, **options)  # type: ignore[arg-type]  # its fields
    return probe(library.resolve(), chosen, version="0.0", now=lambda: DATE, ask_pin=ask)


def section(report: Report, name: str) -> SectionReport:
    (found,) = [each for each in report.sections if each.name == name]
    return found


def findings(report: Report, code: str) -> list[Finding]:
    return [each for part in report.sections for each in part.findings if each.code == code]


def codes(report: Report, *severities: str) -> set[str]:
    """Return the codes of the findings, of some severities or all."""
    return {
        each.code for part in report.sections for each in part.findings if not severities or each.severity in severities
    }


def untranslated(report: Report) -> set[str]:
    """Return the names of facts and columns that have no name in Chinese."""
    facts = [section.facts for section in report.sections]
    rows = [row for each in facts for value in each.values() if isinstance(value, list) for row in value]
    names = {name for each in facts for name in each}
    names |= {name for row in rows if isinstance(row, dict) for name in row}
    return names - set(COLUMNS_ZH)
