"""The administrator's trust lists: by whom they are signed, when they change, and which version counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trust_store_parts import MALLORY, START, Store, flip, refused, version

from sealagent.pki import trustfiles, trustlists
from sealagent.pki.trustlist import MAX_TRUST_LIST
from trust_parts import MONTH


@pytest.fixture
def managed(tmp_path: Path) -> Store:
    folder = tmp_path / "etc"
    folder.mkdir()
    return Store(tmp_path / "trust", configured=(folder,))


def test_the_administrators_lists_count_if_a_named_signer_signed_them(managed: Store) -> None:
    (folder,) = managed.configured
    (folder / "beijing.p7m").write_bytes(version(3))
    (folder / "shanghai").write_bytes(version(1, MALLORY, id="shanghai"))
    (folder / "README").write_text("whoever reads this")
    (folder / ".beijing.swp").write_text("not looked at")
    assert managed.lists.refresh()
    assert managed.sequences == {"beijing": 3}
    assert managed.lists.get("beijing").origin == "configured"
    faults = managed.lists.faults
    assert len(faults) == 2
    assert "README" in faults[0]
    assert MALLORY.sha256 in faults[1]
    assert "trust.list_signers" in faults[1]
    for act in (
        lambda: managed.lists.remove("beijing"),
        lambda: managed.lists.update(version(4)),
        lambda: managed.add(version(4)),
    ):
        assert refused(act) == "trust_list_read_only"


def test_the_administrators_files_are_read_again_when_they_change(managed: Store) -> None:
    (folder,) = managed.configured
    file = folder / "beijing"
    assert not managed.lists.refresh()
    file.write_bytes(version(3))
    assert managed.lists.refresh()
    before = managed.lists.entries()
    assert not managed.lists.refresh()
    file.write_bytes(version(4))
    assert managed.lists.refresh()
    assert managed.sequences == {"beijing": 4}
    assert managed.lists.entries() != before
    file.unlink()
    assert managed.lists.refresh()
    assert managed.sequences == {}
    (folder / "old").write_bytes(version(3))
    assert managed.lists.refresh()
    assert managed.sequences == {}
    assert "older than version 4" in managed.lists.faults[0]
    assert "older than version 4" in managed.again().faults[0], "also after a restart"


def test_the_newest_of_the_administrators_files_counts_and_two_of_one_version_do_not(managed: Store) -> None:
    (folder,) = managed.configured
    for sequence in (2, 4, 3):
        (folder / str(sequence)).write_bytes(version(sequence))
    (folder / "copy").write_bytes(version(4))
    managed.lists.refresh()
    assert (managed.sequences, managed.lists.faults) == ({"beijing": 4}, ())
    other = version(5, unit="另一个单位")
    (folder / "a").write_bytes(version(5))
    (folder / "b").write_bytes(other)
    managed.lists.refresh()
    assert managed.sequences == {}
    assert "none of them counts" in managed.lists.faults[0]
    (folder / "b").unlink()
    managed.lists.refresh()
    assert managed.sequences == {"beijing": 5}
    (folder / "b").write_bytes(other)
    managed.lists.refresh()
    assert managed.sequences == {"beijing": 5}, "the one that was seen first"
    (folder / "a").unlink()
    managed.lists.refresh()
    assert managed.sequences == {}
    assert managed.lists.faults != ()


def test_the_administrators_list_takes_the_place_of_one_that_was_added(managed: Store) -> None:
    (folder,) = managed.configured
    managed.add(version(3))
    (folder / "old").write_bytes(version(2))
    managed.lists.refresh()
    assert managed.lists.get("beijing").origin == "added"
    assert "older than version 3" in managed.lists.faults[0]
    (folder / "new").write_bytes(version(4))
    managed.lists.refresh()
    assert managed.lists.get("beijing").origin == "configured"
    assert managed.lists.faults == ()
    (folder / "new").unlink()
    (folder / "old").unlink()
    assert managed.again().lists == ()
    assert refused(lambda: managed.add(version(3))) == "trust_list_rolled_back"
    assert managed.add(version(4)).sequence == 4


def test_the_administrators_list_mends_a_damaged_one_but_not_a_damaged_memory(managed: Store) -> None:
    (folder,) = managed.configured
    managed.add(version(3))
    flip(managed.file(), -1)
    assert len(managed.again().faults) == 1
    (folder / "new").write_bytes(version(3))
    managed.lists.refresh()
    assert (managed.sequences, managed.lists.faults) == ({"beijing": 3}, ())
    managed.file().write_bytes(b"damaged")
    managed.again()
    assert managed.sequences == {"beijing": 3}
    assert managed.lists.faults == ("trust list beijing: its first line is damaged",)
    assert managed.file().read_bytes() == b"damaged"


def test_an_administrators_list_of_the_future_counts_when_its_time_comes(managed: Store) -> None:
    (folder,) = managed.configured
    (folder / "new").write_bytes(version(3, issued_at=START + MONTH))
    managed.lists.refresh()
    assert managed.sequences == {}
    assert "in the future" in managed.lists.faults[0]
    assert not managed.lists.refresh()
    managed.now = START + MONTH
    assert managed.lists.refresh()
    assert (managed.sequences, managed.lists.faults) == ({"beijing": 3}, ())


def test_a_place_of_the_administrators_that_is_not_there_is_a_fault(managed: Store, tmp_path: Path) -> None:
    single = tmp_path / "single"
    single.write_bytes(version(2))
    managed.configured = (tmp_path / "nowhere", single)
    assert managed.again().faults == (f"trust list {tmp_path / 'nowhere'}: No such file or directory",)
    assert managed.sequences == {"beijing": 2}


def test_hostile_files_in_the_administrators_folder_are_faults(managed: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = managed.configured
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    (folder / "large").write_bytes(bytes(MAX_TRUST_LIST + 1))
    (folder / "loop").symlink_to(folder / "loop")
    managed.lists.refresh()
    assert len(managed.lists.faults) == 4
    (folder / "loop").unlink()
    monkeypatch.setattr(trustlists, "MAX_FILES", 2)
    managed.lists.refresh()
    assert any("more than 2 files" in fault for fault in managed.lists.faults)


def test_what_is_seen_but_cannot_be_remembered_counts_and_is_told(
    managed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = managed.configured
    (folder / "new").write_bytes(version(3))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trustfiles.os, "fsync", full)
    managed.lists.refresh()
    assert managed.sequences == {"beijing": 3}
    assert "will not be noticed after a restart" in managed.lists.faults[0]
