"""A whole report: the sections in their order, the one PIN, and what is kept out of what gets published."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sealdrivers.errors import TokenNotFound
from sealdrivers.host.protocol import wipe
from sealdrivers.probe import library as file
from sealdrivers.probe.child import NEED_PIN, SECTIONS
from sealdrivers.probe.kinds import KINDS
from sealdrivers.probe.model import Finding, LibraryFacts, Outcome, Report, SectionReport
from sealdrivers.probe.process import Limits, TokenChoice, Told, run_section
from sealdrivers.probe.section import SectionRequest
from sealdrivers.vendors import vendor_table

__all__ = ["TOOL", "AskPin", "ProbeOptions", "probe"]

TOOL = "sealagent driver probe"

MIN_SERIAL = 4
"""Characters of a serial number that is looked for in other texts; a shorter one could be part of anything."""

NEEDED = frozenset(("tokens", "devices"))
"""Sections that find the token to sign on."""

REDACTED = "(serial)"

AskPin = Callable[[TokenChoice], bytearray]
"""Asks for the PIN of a token; the probe wipes it."""


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """How to probe."""

    driver: str = ""
    """``pkcs11``, ``skf``; empty: by what the file exports."""
    profile: str = ""
    """Name of an ``[[sm2]]`` entry; empty: the one that matches."""
    token: str = ""
    """Label, serial number or application of the token to sign on; empty: the only one."""
    only: frozenset[str] = frozenset()
    """Names of the sections to run; empty: all. What the others depend on is run all the same."""
    serials: bool = False
    """Show serial numbers, labels and names."""
    vendor_files: tuple[Path, ...] = ()
    """Operator's vendor tables."""
    limits: Limits = field(default_factory=Limits)
    signatures: int = 5
    """Signatures with each key and mechanism."""


def probe(
    path: Path,
    options: ProbeOptions,
    *,
    version: str,
    now: Callable[[], datetime],
    ask_pin: AskPin | None = None,
    progress: Callable[[str, SectionReport | None], None] = lambda name, report: None,
) -> Report:
    """Probe a library.

    :param path: its resolved path; whether it may be loaded at all is for the caller to say.
    :param version: of the tool. :param now: the time, for the report's date.
    :param ask_pin: asked once, for the token to sign on, unless one try is left; None: no signatures. What it raises
        goes through.
    :param progress: told of each section before it begins (None) and after it has ended.
    :raises TokenNotFound: signatures are wanted, and which token is meant is not clear.
    :raises VendorTableInvalid: an operator's vendor table is malformed.
    """
    return _Probe(path, options, version, now, ask_pin, progress).report()


class _Probe:
    def __init__(
        self,
        path: Path,
        options: ProbeOptions,
        version: str,
        now: Callable[[], datetime],
        ask_pin: AskPin | None,
        progress: Callable[[str, SectionReport | None], None],
    ) -> None:
        self._options = options
        self._version = version
        self._date = now()
        self._ask_pin = ask_pin
        self._progress = progress
        self._table = vendor_table(options.vendor_files)
        self._request = SectionRequest(
            name="",
            driver=options.driver,
            path=str(path),
            serials=options.serials,
            patience=options.limits.call / 2,
            signatures=options.signatures,
            profile=options.profile,
            vendor_files=tuple(str(each) for each in options.vendor_files),
        )
        self._path = path
        self._sections: list[SectionReport] = []
        self._serials: set[str] = set()
        self._tokens: list[TokenChoice] = []
        self._signed = False

    def report(self) -> Report:
        driver = self._load()
        if driver:
            self._request = replace(self._request, driver=driver)
            public = [name for name in SECTIONS[driver] if name not in NEED_PIN]
            for name in public:
                if not self._wanted(name):
                    self._skip([name], "not asked for")
                    continue
                self._run(name)
                if name == "abi" and self._sections[-1].outcome is Outcome.DONE and self._cannot_go_on():
                    self._skip(SECTIONS[driver], "the library cannot be used")
                    break
            else:
                signing = [name for name in SECTIONS[driver] if name in NEED_PIN]
                self._skip([name for name in signing if not self._wanted(name)], "not asked for")
                self._sign([name for name in signing if self._wanted(name)])
        if not self._options.serials:
            for section in self._sections:
                section.facts = self._redacted(section.facts)
                section.findings = [replace(each, detail=self._redacted(each.detail)) for each in section.findings]
        return Report(
            tool=TOOL,
            version=self._version,
            date=self._date.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            library=self._library(driver),
            signatures=self._signed,
            serials=self._options.serials,
            sections=tuple(self._sections),
        )

    def _wanted(self, name: str) -> bool:
        only = self._options.only
        return not only or name in only or (name in NEEDED and self._ask_pin is not None) or name == "abi"

    def _load(self) -> str:
        """Load the library once, to see what it exports; return the driver to go on with, or nothing."""
        request = replace(self._request, driver=self._options.driver)
        told = self._one("load", replace(request, name="load", driver=""))
        found = {kind for kind in ("pkcs11", "skf") if told.report.facts.get(kind)}
        if told.report.outcome is not Outcome.DONE or any(
            each.code in ("load_failed", "other_architecture") for each in told.report.findings
        ):
            return ""
        wanted = self._options.driver
        if not found or (wanted and wanted not in found):
            self._add("no_driver_library", f"for driver {wanted}" if wanted else "")
            return ""
        if len(found) == 2 and not wanted:
            self._add("two_interfaces", "PKCS#11 was chosen")
        return wanted or ("pkcs11" if "pkcs11" in found else "skf")

    def _add(self, code: str, detail: str) -> None:
        self._sections[-1].findings.append(Finding(code, KINDS[code].severity, "exports", detail))

    def _cannot_go_on(self) -> bool:
        ends = ("skf_required_missing", "p11_null_required", "p11_initialize_failed", "load_failed")
        return any(finding.code in ends for finding in self._sections[-1].findings)

    def _run(self, name: str, pin: bytearray | None = None, token: int = 0) -> Told:
        return self._one(name, replace(self._request, name=name, token=token), pin)

    def _one(self, name: str, request: SectionRequest, pin: bytearray | None = None) -> Told:
        self._progress(name, None)
        told = run_section(request, self._options.limits, pin)
        self._progress(name, told.report)
        self._sections.append(told.report)
        self._serials |= told.serials
        self._tokens += told.tokens
        return told

    def _skip(self, names: Sequence[str] | dict[str, str], reason: str) -> None:
        done = {section.name for section in self._sections}
        self._sections += [SectionReport(name, reason=reason) for name in names if name not in done]

    # Signatures

    def _sign(self, names: list[str]) -> None:
        if not names:
            return
        if self._ask_pin is None:
            self._skip(names, "no PIN was given")
            return
        token = self._chosen()
        reason = _why_not(token)
        if reason:
            self._skip(names, KINDS[reason].title)
            self._sections[-1].findings.append(Finding(reason, KINDS[reason].severity, "", ""))
            return
        pin = self._ask_pin(token)
        try:
            for name in names:
                self._signed = True
                told = self._run(name, pin, token.number)
                if not told.pin_proven:  # a try may be spent: the PIN is never offered again
                    self._skip(names, "the login did not succeed")
                    return
        finally:
            wipe(pin)

    def _chosen(self) -> TokenChoice:
        """Return the token to sign on. :raises TokenNotFound: none, or several."""
        wanted = self._options.token
        found = [each for each in self._tokens if not wanted or wanted in (each.label, each.serial, each.application)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise TokenNotFound("no token of this label, serial number or application is present")
        raise TokenNotFound(f"{len(found)} tokens are present: name one by label, serial number or application")

    # What is published

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, str):
            for serial in sorted(self._serials, key=len, reverse=True):
                if len(serial) >= MIN_SERIAL:
                    value = value.replace(serial, REDACTED)
            return value
        if isinstance(value, list):
            return [self._redacted(item) for item in value]
        if isinstance(value, dict):
            return {self._redacted(name): self._redacted(item) for name, item in value.items()}
        return value

    def _library(self, driver: str) -> LibraryFacts:
        abi = next((section.facts for section in self._sections if section.name == "abi"), {})
        entry = file.vendor_entry(self._path, [each for each in self._table.modules if each.driver == driver])
        profile = str(abi.get("sm2_profile", ""))
        chosen_by = "option" if self._options.profile else "match"
        return LibraryFacts(
            path=file.shown_path(self._path),
            size=self._path.stat().st_size,
            sha256=file.sha256_of(self._path),
            architecture=file.architecture(self._path),
            driver=driver,
            driver_chosen_by="option" if self._options.driver else "exports",
            manufacturer=str(abi.get("manufacturer", "")),
            description=str(abi.get("description", "")),
            version=str(abi.get("library_version", "")),
            vendor_entry=entry.name if entry else "",
            sm2_profile=profile,
            sm2_profile_chosen_by=chosen_by if profile else "",
        )


def _why_not(token: TokenChoice) -> str:
    """Return the code of the finding for which no PIN is asked for; empty: it may be."""
    if token.locked:
        return "pin_locked"
    if token.final_try or token.tries_left == 1:
        return "pin_last_try"
    if token.protected_path:
        return "pin_on_device"
    if not token.initialized:
        return "pin_rejected"
    return ""
