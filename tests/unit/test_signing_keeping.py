"""Seal signatures are kept without their seal, and given again to the last octet."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealagent.errors import SealAgentError
from sealagent.signing.keeping import joined, parted
from sealagent.status.evidence import EvidenceStore, sha256_of

SEAL = bytes(range(256)) * 120


@given(before=st.binary(max_size=64), after=st.binary(max_size=64), holds=st.booleans())
def test_what_is_put_together_again_is_what_was_kept(
    tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes, holds: bool
) -> None:
    evidence = EvidenceStore(tmp_path_factory.getbasetemp() / "evidence")
    value = before + (SEAL if holds else b"") + after
    kept = parted(value, SEAL, evidence)
    assert joined(kept, evidence) == value
    assert len(kept) < 256
    assert joined(parted(value, None, evidence), evidence) == value


def test_the_seal_is_kept_once(tmp_path: Path) -> None:
    evidence = EvidenceStore(tmp_path)
    for number in range(3):
        parted(bytes([number]) + SEAL, SEAL, evidence)
    assert [file.name for file in tmp_path.iterdir()] == [sha256_of(SEAL)]


@pytest.mark.parametrize("harm", ["gone", "changed", "form", "cut"])
def test_what_cannot_be_put_together_is_said_to_be_gone(tmp_path: Path, harm: str) -> None:
    evidence = EvidenceStore(tmp_path)
    kept = parted(b"a" + SEAL + b"b", SEAL, evidence)
    (file,) = tmp_path.iterdir()
    if harm == "gone":
        file.unlink()
    elif harm == "changed":
        file.write_bytes(b"x")
    else:
        kept = b"\x07" + kept if harm == "form" else kept[:20]
    with pytest.raises(SealAgentError) as caught:
        joined(kept, EvidenceStore(tmp_path))
    assert caught.value.code == "idempotency_result_gone"
