"""Verify a file whose kind is told from its content: an OFD package, a seal, a seal signature, a CMS."""

from __future__ import annotations

from typing import BinaryIO

from sealagent.documents.digital import Context, judge_cms
from sealagent.documents.limits import DEFAULT_LIMITS, Limits
from sealagent.documents.ofd.verify import verify_package
from sealagent.errors import FormatError, LimitExceeded
from sealagent.seals.parse import sniff
from sealagent.seals.verify import Policy, judge_seal, judge_signature
from sealagent.verdict import FileReport

__all__ = ["verify_document"]

_ZIP = b"PK"


def verify_document(file: BinaryIO, name: str, policy: Policy, limits: Limits = DEFAULT_LIMITS) -> FileReport:
    """Judge every signature of a file.

    :param file: seekable; read from its beginning.
    :param name: what the report calls the file.
    :raises FormatError: ``format_unknown``, or what is wrong with a package that cannot be opened.
    :raises LimitExceeded: a named limit.
    """
    file.seek(0)
    if file.read(len(_ZIP)) == _ZIP:
        return verify_package(file, name, policy, limits)
    file.seek(0)
    data = file.read(limits.signed_value_octets + 1)
    if len(data) > limits.signed_value_octets:
        raise LimitExceeded("format_unknown", "too large for any known format", limit=limits.signed_value_octets)
    match sniff(data):
        case "seal":
            return FileReport(name, "seal", (judge_seal(data, policy, id="1"),))
        case "ses":
            return FileReport(name, "ses", (judge_signature(data, policy, None, id="1"),))
        case "cms":
            return FileReport(name, "cms", (judge_cms(data, Context("1", None), policy),))
        case _:
            raise FormatError("format_unknown", "neither an OFD package, a seal, a seal signature nor a CMS")
