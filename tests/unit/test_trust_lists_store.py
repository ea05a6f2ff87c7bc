"""Which trust lists are in force: who may bring one in, what cannot come back, and what damage is told."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from trust_store_parts import CENTRE, HEIR, MAKER, MALLORY, START, Store, flip, refused, store_of, version

from sealagent.errors import LimitExceeded, SealAgentError
from sealagent.pki import trustfiles, trustlists
from sealagent.pki.trust import TrustRole, TrustStore
from sealagent.pki.trustfiles import Floor, Kept, TrustFiles
from sealagent.pki.trustlist import MAX_TRUST_LIST
from trust_parts import MONTH


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "trust")


def test_nothing_is_made_until_a_list_is_added(store: Store) -> None:
    assert (store.lists.lists, store.lists.entries(), store.lists.faults) == ((), (), ())
    assert not store.folder.exists()


def test_a_list_is_added_updated_and_removed(store: Store) -> None:
    added = store.add(version(3))
    assert (added.sequence, store.sequences) == (3, {"beijing": 3})
    assert store.lists.get("beijing").origin == "added"
    assert [entry.certificate for entry in store.lists.entries()] == [MAKER]
    store.lists.update(version(4))
    assert store.sequences == store_of(store).sequences == {"beijing": 4}
    store.lists.remove("beijing")
    assert store.sequences == store_of(store).sequences == {}
    assert store.lists.entries() == ()
    for act in (lambda: store.lists.get("beijing"), lambda: store.lists.remove("beijing")):
        assert refused(act) == "trust_list_not_found"
    assert refused(lambda: store.lists.update(version(5))) == "trust_list_not_found"


def test_files_are_private_and_the_folder_is(store: Store) -> None:
    old = os.umask(0)
    try:
        store.add(version(1))
    finally:
        os.umask(old)
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in store.folder.iterdir()] == ["beijing.list"]
    assert store.file().stat().st_mode & 0o777 == 0o600


def test_the_signer_must_be_the_confirmed_one(store: Store) -> None:
    assert refused(lambda: store.lists.add(version(1), MALLORY.sha256)) == "trust_list_signer"
    assert refused(lambda: store.lists.add(version(1), "")) == "trust_list_signer"
    assert store.sequences == {}
    assert store.lists.add(version(1), CENTRE.sha256.upper()).sequence == 1


def test_an_update_is_signed_by_the_signer_before_or_by_one_it_named(store: Store) -> None:
    store.add(version(1, next_signers=[HEIR.sha256]))
    assert refused(lambda: store.lists.update(version(2, MALLORY))) == "trust_list_signer"
    assert refused(lambda: store.lists.update(version(2, MALLORY, next_signers=[HEIR.sha256]))) == "trust_list_signer"
    store.lists.update(version(2, HEIR))
    assert refused(lambda: store.lists.update(version(3, CENTRE))) == "trust_list_signer", "HEIR did not name it"
    store.lists.update(version(3, HEIR))
    assert store.sequences == {"beijing": 3}


def test_older_versions_never_come_back(store: Store) -> None:
    store.add(version(5))
    assert refused(lambda: store.lists.update(version(4))) == "trust_list_rolled_back"
    store.lists.remove("beijing")
    for lists in (store.lists, store.again()):
        assert refused(lambda lists=lists: lists.add(version(4), CENTRE.sha256)) == "trust_list_rolled_back"
        assert (
            refused(lambda lists=lists: lists.add(version(4, MALLORY), MALLORY.sha256, new_signer=True))
            == "trust_list_rolled_back"
        )
    store.add(version(6))
    assert store.sequences == {"beijing": 6}


def test_one_sequence_is_one_list(store: Store) -> None:
    first, other = version(5), version(5, unit="另一个单位")
    store.add(first)
    assert refused(lambda: store.lists.update(other)) == "trust_list_conflict"
    assert store.lists.update(first).sequence == 5, "the same again changes nothing"
    assert store.lists.update(version(5)).sequence == 5, "nor does the same content signed anew"
    store.lists.remove("beijing")
    assert refused(lambda: store.add(other)) == "trust_list_conflict"
    assert store.add(first).sequence == 5


def test_the_signer_is_remembered_after_removal(store: Store) -> None:
    store.add(version(5, next_signers=[HEIR.sha256]))
    store.lists.remove("beijing")
    store.again()
    assert refused(lambda: store.add(version(6, MALLORY), MALLORY)) == "trust_list_signer"
    assert store.add(version(6, HEIR), HEIR).sequence == 6
    store.lists.remove("beijing")
    assert store.add(version(7, MALLORY), MALLORY, new_signer=True).sequence == 7, "confirmed with open eyes"


def test_a_list_that_is_there_is_updated_and_not_added(store: Store) -> None:
    data = version(5)
    store.add(data)
    assert store.add(data).sequence == 5
    assert refused(lambda: store.add(version(6))) == "trust_list_exists"
    assert refused(lambda: store.add(version(6, MALLORY), MALLORY, new_signer=True)) == "trust_list_exists"


@pytest.mark.parametrize("act", ["add", "update"])
def test_what_is_no_good_list_is_refused_and_changes_nothing(store: Store, act: str) -> None:
    good = version(2)
    if act == "update":
        store.add(version(1))
    do = (lambda data: store.add(data)) if act == "add" else (lambda data: store.lists.update(data))
    place = good.index(b'"sequence":2') + len('"sequence":')
    content = CENTRE.content(2, issued_at=START)
    cases = {
        "unsigned": (content, "signed_message_invalid"),
        "wrongly signed": (good[:place] + b"3" + good[place + 1 :], "signed_message_invalid"),
        "cut": (good[:-1], "signed_message_invalid"),
        "too large": (bytes(MAX_TRUST_LIST + 1), "signed_message_invalid"),
        "another thing": (CENTRE.sign(b'{"type":"sealagent-seal-status"}'), "trust_list_invalid"),
        "stale": (version(2, next_update=START + timedelta(seconds=1)), "trust_list_stale"),
        "of the future": (version(2, issued_at=START + MONTH), "trust_list_invalid"),
    }
    store.now = START + timedelta(seconds=2)
    before = {path.name: path.read_bytes() for path in store.folder.glob("*")}
    for case, (data, code) in cases.items():
        assert refused(lambda data=data: do(data)) == code, case
    assert {path.name: path.read_bytes() for path in store.folder.glob("*")} == before


def test_a_list_that_has_become_stale_still_loads(store: Store) -> None:
    store.add(version(1))
    store.now = START + 2 * MONTH
    assert store.again().faults == ()
    (entry,) = store.lists.entries()
    assert entry.source is not None
    assert entry.source.next_update < store.now, "the judge sees that it is"
    assert store.lists.get("beijing").list.is_stale(store.now)


def test_a_clock_that_went_back_takes_no_trust_away(store: Store) -> None:
    store.add(version(1))
    store.now = datetime(1970, 1, 1, tzinfo=UTC)
    assert store.again().faults == ()
    assert store.sequences == {"beijing": 1}


def test_an_import_changes_what_the_judge_is_given_at_once(store: Store) -> None:
    certificates = TrustStore((HEIR.certificate,), "configured")
    before = store.lists.beside(certificates)
    assert before.entry(MAKER, TrustRole.MAKER) is None
    assert store.lists.beside(certificates) is before
    store.add(version(1))
    after = store.lists.beside(certificates)
    assert after.pins(HEIR.certificate)
    assert after.name == "configured"
    assert after.entry(MAKER, TrustRole.MAKER) is not None
    assert store.lists.beside(certificates) is after, "made once, so that what it has looked up stays"
    store.lists.update(version(2, entries=[]))
    assert store.lists.beside(certificates).entry(MAKER, TrustRole.MAKER) is None


# What lies on the disk


DAMAGE: dict[str, Callable[[Path], object]] = {
    "the message is changed": lambda file: flip(file, -1),
    "the message is cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "the message is of another version": lambda file: file.write_bytes(
        file.read_bytes().split(b"\n", 1)[0] + b"\n" + version(2)
    ),
    "the message is of another signer": lambda file: file.write_bytes(
        file.read_bytes().split(b"\n", 1)[0] + b"\n" + version(3, MALLORY)
    ),
    "the message is of another list": lambda file: file.write_bytes(
        file.read_bytes().split(b"\n", 1)[0] + b"\n" + version(3, id="shanghai")
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_list_is_a_fault_and_mended_by_the_same_or_a_newer_version(store: Store, case: str) -> None:
    good = version(3)
    for mend in (lambda: store.lists.update(good), lambda: store.add(good), lambda: store.lists.update(version(4))):
        store.lists.remove("beijing") if store.sequences else None
        store.file().unlink(missing_ok=True)
        store.again()
        store.add(good)
        DAMAGE[case](store.file())
        (fault,) = store.again().faults
        assert fault.startswith("trust list beijing: ")
        assert store.lists.entries() == ()
        assert refused(lambda: store.lists.update(version(2))) == "trust_list_rolled_back"
        assert refused(lambda: store.lists.update(version(4, MALLORY))) == "trust_list_signer"
        mend()
        assert store.lists.faults == ()
        assert store.sequences == store_of(store).sequences
    DAMAGE[case](store.file())
    store.again().remove("beijing")
    assert store_of(store).sequences == {}


HEAD_DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no JSON": lambda octets: octets[1:],
    "not UTF-8": lambda octets: b"\xff" + octets,
    "a lower sequence in another form": lambda octets: octets.replace(b'"sequence":3', b'"sequence": 3', 1),
    "sequence true": lambda octets: octets.replace(b'"sequence":3', b'"sequence":true', 1),
    "sequence 0": lambda octets: octets.replace(b'"sequence":3', b'"sequence":0', 1),
    "no sequence": lambda octets: octets.replace(b',"sequence":3', b"", 1),
    "another format": lambda octets: octets.replace(b'"format":1', b'"format":2', 1),
    "of another list": lambda octets: octets.replace(b'"list":"beijing"', b'"list":"beijinh"', 1),
    "signer cut": lambda octets: octets.replace(CENTRE.sha256.encode(), CENTRE.sha256[:-1].encode(), 1),
    "signer a number": lambda octets: octets.replace(f'"{CENTRE.sha256}"'.encode(), b"1", 1),
    "next signers a number": lambda octets: octets.replace(b'"next_signers":[]', b'"next_signers":1', 1),
    "next signers of lists": lambda octets: octets.replace(b'"next_signers":[]', b'"next_signers":[[]]', 1),
    "deep": lambda octets: b"[" * 4000,
    "without end": lambda octets: octets.replace(b"\n", b" ", 1),
}


@pytest.mark.parametrize("case", HEAD_DAMAGE)
def test_where_the_memory_itself_is_damaged_nothing_is_taken_until_somebody_looks(store: Store, case: str) -> None:
    store.add(version(3))
    octets = store.file().read_bytes()
    damaged = HEAD_DAMAGE[case](octets)
    assert damaged != octets
    store.file().write_bytes(damaged)
    assert store.again().faults == ("trust list beijing: its first line is damaged",)
    assert store.lists.lists == ()
    for act in (
        lambda: store.add(version(3)),
        lambda: store.lists.update(version(4)),
        lambda: store.lists.remove("beijing"),
    ):
        assert refused(act) == "trust_list_damaged"
    assert store.file().read_bytes() == damaged
    store.add(version(1, id="shanghai"))
    assert store.sequences == {"shanghai": 1}, "the others are not concerned"


def test_what_is_no_file_is_a_fault_and_neither_followed_nor_waited_for(store: Store, tmp_path: Path) -> None:
    store.add(version(3))
    elsewhere = tmp_path / "elsewhere"
    store.file().rename(elsewhere)
    store.file().symlink_to(elsewhere)
    os.mkfifo(store.file("fifo"))
    store.file("folder").mkdir()
    faults = store.again().faults
    assert [fault.split(": ")[0] for fault in faults] == [
        f"trust list {name}" for name in ("beijing", "fifo", "folder")
    ]
    assert store.lists.lists == ()


def test_what_cannot_be_read_is_a_fault(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(version(3))

    def forbidden(path: Path, *_: object, **__: object) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))  # root, as whom tests may run, reads everything

    monkeypatch.setattr(trustfiles, "read_regular", forbidden)
    assert store.again().faults == ("trust list beijing: it cannot be read: Permission denied",)


def test_a_folder_that_cannot_be_read_is_a_fault_and_nothing_is_taken(tmp_path: Path) -> None:
    (tmp_path / "trust").write_text("no folder")
    store = Store(tmp_path / "trust")
    assert store.lists.faults == ("the trust lists cannot be read: Not a directory",)
    assert refused(lambda: store.add(version(1))) == "trust_store_failed"


def test_other_names_are_not_ours(store: Store) -> None:
    store.add(version(3))
    for name in ("README", "..list", "Beijing.list", "a b.list", ".new-0123", "x" * 65 + ".list"):
        (store.folder / name).write_bytes(store.file().read_bytes())
    assert store_of(store).sequences == {"beijing": 3}


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "", ".", "..", "Beijing", "beijing\0", "beijing\n", "b" * 65]
)
def test_hostile_identifiers_reach_no_file(store: Store, name: str) -> None:
    store.add(version(1))
    for act in (lambda: store.lists.get(name), lambda: store.lists.remove(name)):
        assert refused(act) == "trust_list_not_found"
    floor = Floor(1, "0" * 64, "0" * 64, ())
    with pytest.raises(ValueError, match="not checked"):
        TrustFiles(store.folder).write(name, Kept(floor, b""))
    assert [path.name for path in store.folder.iterdir()] == ["beijing.list"]


def test_a_write_that_fails_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(version(1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(trustfiles.os, "fsync", full)
        assert refused(lambda: store.lists.update(version(2))) == "trust_store_failed"
        assert refused(lambda: store.lists.remove("beijing")) == "trust_store_failed"
        assert refused(lambda: store.add(version(1, id="shanghai"))) == "trust_store_failed"
    assert [path.name for path in store.folder.iterdir()] == ["beijing.list"]
    assert store.sequences == store_of(store).sequences == {"beijing": 1}
    store.lists.update(version(2))


def test_there_is_room_for_so_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trustlists, "MAX_LISTS", 2)
    store.add(version(1))
    store.add(version(1, id="shanghai"))
    with pytest.raises(LimitExceeded) as caught:
        store.add(version(1, id="tianjin"))
    assert caught.value.code == "trust_store_full"
    store.lists.update(version(2))
    store.lists.remove("shanghai")
    store.add(version(1, id="tianjin"))
    monkeypatch.setattr(trustlists, "MAX_REMEMBERED", 3)
    store.lists.remove("tianjin")
    assert refused(lambda: store.add(version(1, id="hebei"))) == "trust_store_full", "removed ones are remembered"
    store.add(version(1, id="tianjin"))
    monkeypatch.setattr(trustlists, "MAX_KEPT", 2 * len(version(1)))
    assert refused(lambda: store.lists.update(version(3, unit="单" * 200))) == "trust_store_full"
    monkeypatch.setattr(trustfiles, "MAX_REMEMBERED", 1)
    monkeypatch.setattr(trustlists, "MAX_LISTS", 1)
    assert [fault[:20] for fault in store.again().faults] == ["trust list shanghai:", "trust list tianjin: "]


def test_what_changed_between_looking_and_doing_counts(store: Store) -> None:
    store.add(version(1))
    slow, fast = store.lists.plan_update(version(2)), store.lists.plan_update(version(3))
    gone = store.lists.plan_remove("beijing")
    store.lists.carry_out(fast)
    assert refused(lambda: store.lists.carry_out(slow)) == "trust_list_rolled_back"
    later = store.lists.plan_update(version(4))
    store.lists.carry_out(gone)
    assert refused(lambda: store.lists.carry_out(later)) == "trust_list_not_found"
    first, second = (store.lists.plan_add(version(each), CENTRE.sha256) for each in (4, 5))
    store.lists.carry_out(first)
    assert refused(lambda: store.lists.carry_out(second)) == "trust_list_exists"
    store.lists.remove("beijing")
    assert refused(lambda: store.add(version(3))) == "trust_list_rolled_back"


def test_removal_remembers_what_was_there_then(store: Store) -> None:
    """A plan to remove was made at version 1; the version 2 that came in between must stay known."""
    store.add(version(1))
    gone = store.lists.plan_remove("beijing")
    store.lists.update(version(2))
    store.lists.carry_out(gone)
    assert refused(lambda: store.add(version(1))) == "trust_list_rolled_back"
    assert refused(lambda: store_of(store).add(version(1))) == "trust_list_rolled_back"


def test_many_at_once_leave_the_highest(store: Store) -> None:
    store.add(version(1))
    versions = [version(each) for each in range(2, 30)]

    def bring(data: bytes) -> None:
        try:
            store.lists.update(data)
        except SealAgentError as error:
            assert error.code == "trust_list_rolled_back"  # noqa: PT017

    threads = [threading.Thread(target=bring, args=(data,)) for data in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.sequences == store_of(store).sequences == {"beijing": 29}
