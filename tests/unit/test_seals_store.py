"""The local store of seals: durable, private, and not upset by what others put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sample_seals import ia5, raw_seal
from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.seals import store as store_module
from sealagent.seals.store import SealStore

SEAL = raw_seal(4)
OTHER = raw_seal(5)


@pytest.fixture
def store(tmp_path: Path) -> SealStore:
    return SealStore(tmp_path / "state" / "seals")


def folder(store: SealStore) -> Path:
    return store.directory


def test_add_list_get_remove(store: SealStore) -> None:
    assert store.list() == []
    first, second = store.add(SEAL), store.add(OTHER)
    assert store.add(SEAL) == first
    assert store.list() == sorted([first, second], key=lambda seal: seal.id)
    assert store.get(first.id).raw == SEAL
    store.remove(first.id)
    assert store.list() == [second]
    for action in (store.get, store.remove):
        with pytest.raises(SealAgentError) as error:
            action(first.id)
        assert error.value.code == "seal_not_found"


def test_seals_survive_in_private_files(store: SealStore) -> None:
    old = os.umask(0)
    try:
        seal = store.add(SEAL)
    finally:
        os.umask(old)
    assert [path.name for path in folder(store).iterdir()] == [f"{seal.id}.esl"]
    assert (folder(store) / f"{seal.id}.esl").stat().st_mode & 0o777 == 0o600
    assert folder(store).stat().st_mode & 0o777 == 0o700
    assert SealStore(folder(store)).list() == [seal]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", ".", "a" * 31, "A" * 32, "a" * 32 + "\n", "\0" * 32])
def test_hostile_ids_reach_no_file(store: SealStore, name: str) -> None:
    store.add(SEAL)
    secret = folder(store).parent / "secret.esl"
    secret.write_bytes(SEAL)
    for action in (store.get, store.remove):
        with pytest.raises(SealAgentError) as error:
            action(name)
        assert error.value.code == "seal_not_found"
    assert secret.exists()


def test_malformed_seal_is_not_stored(store: SealStore) -> None:
    with pytest.raises(FormatError) as error:
        store.add(SEAL[:-1])
    assert error.value.code == "seal_format"
    assert not folder(store).exists()


def test_damaged_files_are_reported_and_skipped(store: SealStore, caplog: pytest.LogCaptureFixture) -> None:
    good = store.add(SEAL)
    damaged = store.add(OTHER)
    directory = folder(store)
    (directory / f"{damaged.id}.esl").write_bytes(OTHER[:100])
    (directory / f"{'0' * 32}.esl").write_bytes(SEAL)  # another seal than the name says
    (directory / f"{'1' * 32}.esl").symlink_to(directory / f"{good.id}.esl")
    os.mkfifo(directory / f"{'2' * 32}.esl")
    (directory / f"{'3' * 32}.esl").mkdir()
    (directory / "readme.txt").write_text("not ours")
    contents = store.contents()
    assert contents.seals == (good,)
    assert {name for name, _ in contents.damaged} == {f"{char * 32}.esl" for char in "0123"} | {f"{damaged.id}.esl"}
    assert len(caplog.records) == 5
    for seal_id in (damaged.id, "0" * 32, "1" * 32, "2" * 32, "3" * 32):
        with pytest.raises(SealAgentError) as error:
            store.get(seal_id)
        assert error.value.code == "seal_damaged"


def test_damaged_seal_can_be_replaced(store: SealStore) -> None:
    seal = store.add(SEAL)
    file = folder(store) / f"{seal.id}.esl"
    file.write_bytes(b"")
    store.remove(seal.id)
    store.add(SEAL)
    assert store.list() == [seal]
    file.write_bytes(SEAL[:-1])
    store.add(SEAL)
    assert store.list() == [seal]


def test_number_and_size_are_limited(store: SealStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_SEALS", 2)
    store.add(SEAL)
    store.add(OTHER)
    store.add(OTHER)
    with pytest.raises(LimitExceeded) as error:
        store.add(raw_seal(4, es_id=ia5("third")))
    assert error.value.code == "seal_store_full"
    monkeypatch.setattr(store_module, "MAX_SEALS", 10)
    monkeypatch.setattr(store_module, "MAX_STORE", len(SEAL) + len(OTHER))
    with pytest.raises(LimitExceeded):
        store.add(raw_seal(4, es_id=ia5("third")))
    assert len(store.list()) == 2


def test_failed_write_leaves_nothing(store: SealStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(SEAL)

    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(SealAgentError, match="No space left") as error:
        store.add(OTHER)
    assert error.value.code == "seal_store_failed"
    monkeypatch.undo()
    assert [path.read_bytes() for path in folder(store).iterdir()] == [SEAL]


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SealAgentError) as error:
        SealStore(tmp_path / "file" / "seals").add(SEAL)
    assert error.value.code == "seal_store_failed"
    with pytest.raises(SealAgentError) as error:
        SealStore(tmp_path / "file").list()
    assert error.value.code == "seal_store_failed"
