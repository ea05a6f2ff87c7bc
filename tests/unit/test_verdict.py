"""The table of reason and note codes: nothing can be reported that is not in it, and nothing is in it for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

import sealagent
from sealagent import verdict
from sealagent.verdict import NOTES, REASONS, Note, Reason, Verdict, decide

SOURCES = [
    path.read_text(encoding="utf-8")
    for path in Path(sealagent.__file__).parent.rglob("*.py")
    if path != Path(verdict.__file__)
]
COMPOSED = {
    f"{role}_{rest}"
    for role in ("maker", "signer")
    for rest in (
        *("cert_chain", "cert_usage", "not_trusted", "trust_withdrawn"),
        *("cert_status_unknown", "cert_revoked_since"),
    )
}  # the role is put in front where the step is taken


def used(code: str) -> bool:
    return code in COMPOSED or any(f'"{code}"' in source for source in SOURCES)


def test_every_note_is_used() -> None:
    assert [code for code in NOTES if not used(code)] == []


def test_every_reason_is_used() -> None:
    assert [code for code in REASONS if not used(code)] == []


def test_no_code_is_a_reason_and_a_note() -> None:
    assert set(REASONS).isdisjoint(NOTES)


@pytest.mark.parametrize("kind", [Reason, Note])
def test_unknown_codes_are_refused(kind: type[Reason] | type[Note]) -> None:
    with pytest.raises(ValueError, match="unknown"):
        kind("nonsense")


def test_the_worst_effect_decides() -> None:
    wrong, missing = Reason("data_hash"), Reason("signer_not_trusted")
    assert decide([]) is Verdict.VALID
    assert decide([missing]) is Verdict.INDETERMINATE
    assert decide([missing, wrong]) is decide([wrong]) is Verdict.INVALID
