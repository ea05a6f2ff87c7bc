"""The answers on which signatures rest are kept under their digest, and given back only as they were."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sealagent.errors import SealAgentError
from sealagent.status import evidence
from sealagent.status.evidence import EvidenceStore, sha256_of

ANSWER = b"\x30\x03\x02\x01\x05"
NAME = hashlib.sha256(ANSWER).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> EvidenceStore:
    return EvidenceStore(tmp_path / "state" / "evidence")


def code_of(store: EvidenceStore, name: str) -> str:
    with pytest.raises(SealAgentError) as caught:
        store.get(name)
    return caught.value.code


def test_what_is_kept_is_given_back(store: EvidenceStore, tmp_path: Path) -> None:
    assert sha256_of(ANSWER) == NAME
    assert not store.has(NAME)
    assert store.keep(ANSWER) == store.keep(ANSWER) == NAME
    assert store.has(NAME)
    assert store.get(NAME) == ANSWER
    [file] = (tmp_path / "state" / "evidence").iterdir()
    assert (file.name, file.read_bytes()) == (NAME, ANSWER)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_store_finds_what_an_earlier_one_kept(store: EvidenceStore, tmp_path: Path) -> None:
    store.keep(ANSWER)
    later = EvidenceStore(tmp_path / "state" / "evidence")
    assert not later.has(NAME)
    assert later.get(NAME) == ANSWER
    assert later.keep(ANSWER) == NAME


@pytest.mark.parametrize("name", ["", "a", "../../etc/passwd", NAME.upper(), NAME + "0", NAME[:-1] + "\n", "00" * 32])
def test_names_that_are_none_lead_nowhere(store: EvidenceStore, name: str) -> None:
    store.keep(ANSWER)
    assert code_of(store, name) == "evidence_not_found"


def test_evidence_that_was_changed_is_not_given_out_and_is_kept_anew(store: EvidenceStore, tmp_path: Path) -> None:
    store.keep(ANSWER)
    file = tmp_path / "state" / "evidence" / NAME
    file.write_bytes(ANSWER + b"x")
    assert code_of(store, NAME) == "evidence_failed"
    EvidenceStore(file.parent).keep(ANSWER)
    assert store.get(NAME) == ANSWER


def test_a_folder_in_the_place_of_evidence(store: EvidenceStore, tmp_path: Path) -> None:
    (tmp_path / "state" / "evidence" / NAME).mkdir(parents=True)
    assert code_of(store, NAME) == "evidence_failed"
    with pytest.raises(SealAgentError) as caught:
        store.keep(ANSWER)
    assert (caught.value.code, store.has(NAME)) == ("evidence_failed", False)


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_bytes(b"a file where the folder should be")
    with pytest.raises(SealAgentError) as caught:
        EvidenceStore(tmp_path / "evidence").keep(ANSWER)
    assert caught.value.code == "evidence_failed"


def test_sizes_and_memory_are_bounded(store: EvidenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MAX_EVIDENCE", 100)
    monkeypatch.setattr(evidence, "REMEMBERED", 2)
    with pytest.raises(SealAgentError) as caught:
        store.keep(bytes(101))
    assert caught.value.code == "evidence_failed"
    names = [store.keep(bytes([number])) for number in range(3)]
    assert [store.has(name) for name in names] == [False, True, True]
    (tmp_path / "state" / "evidence" / names[0]).write_bytes(bytes(101))
    assert code_of(store, names[0]) == "evidence_failed"
