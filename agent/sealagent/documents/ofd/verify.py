"""Judge the signatures of a package (GB/T 33190-2016, 18.2; GM/T 0099-2020; order: GB/T 38540-2020, 7.3).

What makes a package unreadable is an error; what is wrong with one signature is a reason in its report.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import BinaryIO

from sealagent.documents.digital import Context, judge_bare, judge_cms, judge_malformed, judge_unsupported
from sealagent.documents.limits import DEFAULT_LIMITS, Limits
from sealagent.documents.ofd import names
from sealagent.documents.ofd.integrity import judge_integrity
from sealagent.documents.ofd.package import Package
from sealagent.documents.ofd.reading import is_encrypted, read_bodies
from sealagent.documents.ofd.signatures import (
    Reference,
    SignatureFile,
    SignatureList,
    SignatureRecord,
    SignedBody,
    read_signatures,
)
from sealagent.documents.ofd.times import read_time
from sealagent.documents.ofd.values import Location, existing
from sealagent.errors import FormatError
from sealagent.pki.digests import WEAK_DIGESTS
from sealagent.pki.oids import SM2_SIGN, SM2_WITH_SM3
from sealagent.seals.parse import sniff
from sealagent.seals.verify import Policy, judge_signature
from sealagent.verdict import FileReport, Note, Reason, SignatureReport, Verdict, in_order

__all__ = ["verify_package"]

_RAW_SM2 = 64
"""Octets of an SM2 signature without DER."""
_SM2_METHODS = ("", SM2_SIGN, SM2_WITH_SM3)
"""SignatureMethod of GM formats; it may be absent."""


def verify_package(file: BinaryIO, name: str, policy: Policy, limits: Limits = DEFAULT_LIMITS) -> FileReport:
    """Judge every signature of an OFD package, and its integrity list where it has one.

    :param file: seekable.
    :raises FormatError: of :class:`~sealagent.documents.ofd.package.Package` and
        :func:`~sealagent.documents.ofd.reading.read_bodies`.
    """
    package = Package(file, limits)
    if is_encrypted(package):
        return FileReport(name, "ofd", reasons=(Reason("document_encrypted", f"/{names.ENCRYPTIONS}"),))
    signatures: list[SignatureReport] = []
    reasons: list[Reason] = []
    for signed in read_signatures(package, read_bodies(package)):
        if isinstance(signed.listed, FormatError):
            # A list that is named but gone or broken hides signatures: that is not a file without signatures.
            reasons.append(Reason("signature_incomplete", signed.listed.message))
            continue
        prefix = f"{signed.body.number}/" if signatures else ""  # IDs are unique within one list only
        signatures += _judge_list(package, signed.listed, signed, prefix, policy)
    if not signatures and not reasons:
        reasons.append(Reason("no_signature"))
    if names.INTEGRITY_LIST in package:
        signatures.append(judge_integrity(package, policy))
    return FileReport(name, "ofd", tuple(signatures), tuple(reasons))


def _judge_list(
    package: Package, listed: SignatureList, signed: SignedBody, prefix: str, policy: Policy
) -> list[SignatureReport]:
    assert signed.body.signatures is not None  # or there would be no list
    notes = [*signed.body.signatures.notes, *listed.notes]
    reports: list[SignatureReport] = []
    excused: set[str | None] = {listed.name}
    for record, file in reversed(list(zip(listed.records, signed.files, strict=True))):
        case = _Case(package, record, prefix + record.id, [*notes, *record.location.notes], policy)
        if isinstance(file, FormatError):
            case.cannot_read(file)
            reports.append(case.unreadable(None))
            continue
        reports.append(_judge(case, file, listed.name, excused))
        if reports[-1].intact:  # or a record of rubbish would hide added files from the earlier signatures
            excused |= {*_own_files(file), file.seal.name if file.seal else None}
    return _with_bases(listed.records, reports[::-1], prefix)


@dataclass(slots=True)
class _Case:
    """A signature while it is judged."""

    package: Package
    record: SignatureRecord
    id: str
    notes: list[Note]
    policy: Policy
    reasons: list[Reason] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return "signature" if self.record.type == "Sign" else "seal"

    def note(self, code: str, detail: str = "") -> None:
        self.notes.append(Note(code, detail))

    def read(self, location: Location) -> bytes | None:
        """Return a file of the signature, or None and a reason."""
        self.notes += location.notes
        try:
            return self.package.read(existing(self.package, location), self.package.limits.signed_value_octets)
        except FormatError as error:
            self.cannot_read(error)
            return None

    def cannot_read(self, error: FormatError) -> None:
        missing = error.code in ("ofd_entry_missing", "ofd_entry_damaged")
        self.reasons.append(Reason("signature_incomplete" if missing else "sig_format", error.message))

    def unreadable(self, closed: bool | None) -> SignatureReport:
        """Return the report on a signature whose own files are missing or malformed."""
        return SignatureReport(
            self.id, self.kind, None, False, tuple(self.reasons), tuple(dict.fromkeys(self.notes)), closed=closed
        )


def _judge(case: _Case, file: SignatureFile, list_name: str, excused: set[str | None]) -> SignatureReport:
    case.notes += file.notes
    _check_references(case, file.references)
    covered = {reference.file.name for reference in file.references}
    closed = list_name in covered
    _note_uncovered(case, covered | excused | _own_files(file))
    if file.signed_value is None:
        case.cannot_read(FormatError("ofd_signature", f"/{file.name} names no SignedValue"))
    value = None if file.signed_value is None else case.read(file.signed_value)
    seal = None if file.seal is None else case.read(file.seal)
    if value is None:
        return case.unreadable(closed)
    content = sniff(value)
    if content == "ses" or (case.kind == "seal" and content not in ("cms", "sm2")):
        return _judge_seal(case, file, value, seal, closed)
    return _judge_digital(case, file, value, content, closed)


def _judge_seal(case: _Case, file: SignatureFile, value: bytes, seal: bytes | None, closed: bool) -> SignatureReport:
    if case.kind != "seal":
        case.note("quirk_xml", "Type says Sign, the value is a seal signature")
    if file.seal is None:
        case.note("seal_file_absent")
    report = judge_signature(
        value,
        case.policy,
        lambda algorithm: case.package.digest(file.name, algorithm),
        id=case.id,
        stored_seal=seal,
        expected_property=f"/{file.name}",
        extra_reasons=case.reasons,
        extra_notes=case.notes,
        closed=closed,
    )
    moment, exact = read_time(file.date_time)
    if report.signed_at is not None and (moment != report.signed_at or not exact):
        report = replace(report, notes=(*report.notes, Note("quirk_signing_time_text", file.date_time)))
    return report


def _judge_digital(
    case: _Case, file: SignatureFile, value: bytes, content: str | None, closed: bool
) -> SignatureReport:
    if case.kind != "signature":
        case.note("quirk_xml", "Type says Seal, the value is a digital signature")
    moment, exact = read_time(file.date_time)
    if not exact:
        case.note("quirk_signing_time_text", file.date_time)
    reasons = case.reasons
    if file.seal is not None:
        # A reader shows that seal, and nothing its maker signed vouches for it.
        reasons = [*reasons, Reason("seal_mismatch", "the signature is a digital one and holds no seal")]
    context = Context(
        case.id,
        case.package.read(file.name, case.package.limits.xml_octets),
        claimed_time=moment,
        reasons=reasons,
        notes=case.notes,
        closed=closed,
    )
    if file.method not in _SM2_METHODS:
        return judge_unsupported(context, file.method)
    if content == "cms":
        return judge_cms(value, context, case.policy)
    if content == "sm2" or len(value) == _RAW_SM2:
        return judge_bare(value, context, case.policy, case.package.limits)
    if file.method:
        return judge_malformed(context, "neither a SignedData nor an SM2 signature")
    return judge_unsupported(context, "the format of the value is not known")


def _check_references(case: _Case, references: tuple[Reference, ...]) -> None:
    """Compare every protected file with its digest."""
    if not references:
        case.reasons.append(Reason("sig_format", "the signature protects no file"))
    for reference in references:
        case.notes += reference.file.notes
        name = reference.file.name
        shown = reference.file.text if name is None else f"/{name}"
        if name is None or name not in case.package:
            case.reasons.append(Reason("reference_missing", shown))
        elif reference.method is None:
            case.reasons.append(Reason("check_method_unknown", f"{shown}: {reference.method_text}"))
        else:
            if reference.method in WEAK_DIGESTS:
                case.note("weak_algorithm", f"{shown}: {reference.method_text}")
            if not _matches(case.package, name, reference.method, reference.value):
                case.reasons.append(Reason("reference_digest", shown))


def _matches(package: Package, name: str, method: str, value: bytes | None) -> bool:
    try:
        return package.digest(name, method) == value
    except FormatError as error:
        if error.code != "ofd_entry_damaged":
            raise
        return False  # damaged is changed


def _own_files(file: SignatureFile) -> set[str | None]:
    """Return what a signature cannot cover: its Signature.xml and its value."""
    return {file.name, file.signed_value.name if file.signed_value else None}


def _note_uncovered(case: _Case, excused: set[str | None]) -> None:
    """Note each file that could be changed without this signature noticing; those of later signatures may be there."""
    uncovered = [name for name in case.package.files if name not in excused]
    uncovered.sort(key=lambda name: name != names.MAIN)  # it decides what is shown: never among those only counted
    listed = uncovered[: case.package.limits.uncovered_listed]
    for name in listed:
        case.note("not_covered", f"/{name}")
    if len(uncovered) > len(listed):
        case.note("not_covered", f"{len(uncovered) - len(listed)} more files")


def _with_bases(
    records: tuple[SignatureRecord, ...], reports: list[SignatureReport], prefix: str
) -> list[SignatureReport]:
    """GM/T 0099: verifying a signature that is Relative to another includes verifying that one, and its base in turn.

    A base that is missing, or that builds on the signature itself, is a bad one.
    """
    by_id: dict[str, list[int]] = {}
    for index, report in enumerate(reports):
        by_id.setdefault(report.id, []).append(index)
    settled: dict[int, Verdict] = {}
    under_way: set[int] = set()

    def settle(index: int) -> Verdict:
        if index in under_way:
            return Verdict.INVALID
        base = records[index].relative
        if index not in settled and base is not None:
            under_way.add(index)
            verdicts = {settle(each) for each in by_id.get(prefix + base, ())} or {Verdict.INVALID}
            under_way.remove(index)
            if verdicts != {Verdict.VALID}:
                code = "base_signature" if Verdict.INVALID in verdicts else "base_not_verified"
                reasons = in_order([*reports[index].reasons, Reason(code, base)])
                reports[index] = replace(reports[index], reasons=reasons)
        return settled.setdefault(index, reports[index].verdict)

    for index in range(len(reports)):
        settle(index)
    return reports
