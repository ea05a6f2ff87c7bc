"""One entrance for every kind of file: the content decides, never the name."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from ofd_samples import NOW, Sealer, document_files, pack
from sealagent.documents.limits import DEFAULT_LIMITS
from sealagent.documents.verify import verify_document
from sealagent.errors import FormatError, LimitExceeded
from sealagent.pki.digests import digest
from sealagent.verdict import Verdict


def test_each_format_is_told_from_its_content(sealer: Sealer) -> None:
    value = sealer.signed_value(digest("sm3", b"x"), "/a")
    for data, kind, verdict in (
        (pack(document_files()), "ofd", Verdict.INDETERMINATE),
        (sealer.seal(pack(document_files())), "ofd", Verdict.VALID),
        (sealer.seal_der, "seal", Verdict.VALID),
        (value, "ses", Verdict.INDETERMINATE),
    ):
        file = io.BytesIO(data)
        file.seek(3)
        report = verify_document(file, "any.pdf", sealer.policy)
        assert (report.file, report.format, report.verdict) == ("any.pdf", kind, verdict)
    assert [reason.code for reason in report.signatures[0].reasons] == ["document_not_checked"]


@pytest.mark.parametrize(
    "data", [b"", b"\x30", b"%PDF-1.7", b"\x30\x06\x02\x01\x01\x02\x01\x01", b"\0" * 1000, b"text"]
)
def test_anything_else_is_not_known(sealer: Sealer, data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        verify_document(io.BytesIO(data), "a", sealer.policy)
    assert caught.value.code == "format_unknown"


def test_what_is_too_large_for_any_format_is_not_read_whole(sealer: Sealer) -> None:
    with pytest.raises(LimitExceeded):
        verify_document(io.BytesIO(bytes(101)), "a", sealer.policy, replace(DEFAULT_LIMITS, signed_value_octets=100))


def test_a_zip_that_is_no_package_is_an_error_not_a_verdict(sealer: Sealer) -> None:
    with pytest.raises(FormatError) as caught:
        verify_document(io.BytesIO(pack({"a.txt": b"x"})), "a", sealer.policy)
    assert caught.value.code == "ofd_main_missing"
    assert sealer.policy.now == NOW
