"""The record as the daemon uses it."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from sealagent.clock import system_clock
from sealagent.errors import FormatError, SealAgentError
from sealagent.records.check import check_export, head_line
from sealagent.records.entry import JSON, Entry, EntryKind
from sealagent.records.ledger import Ledger
from sealagent.records.tree import Frontier, leaf_hash


def ticking() -> Callable[[], datetime]:
    moments: Iterator[datetime] = (datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=n) for n in range(10**6))
    return lambda: next(moments)


async def fill(ledger: Ledger, count: int) -> list[Entry]:
    return await asyncio.gather(*(ledger.append(EntryKind.REFUSED, {"reason": f"印章 {n}"}) for n in range(count)))


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(SealAgentError) as caught:
        action()
    return caught.value.code


def failure_of(ledger: Ledger, kind: EntryKind, body: dict[str, JSON]) -> str:
    return code_of(lambda: asyncio.run(ledger.append(kind, body)))


@pytest.mark.parametrize("name", [None, "sm3", "sha256"])
def test_append_chain_and_head(tmp_path: Path, name: str | None) -> None:
    with Ledger.open(tmp_path / "record.db", ticking(), tree_hash=name) as ledger:
        assert ledger.head().size == 0
        entries = asyncio.run(fill(ledger, 21))
        head = ledger.head()
        assert head.hash == (name or "sm3")
        assert [entry.number for entry in entries] == list(range(1, 22))
        tree = Frontier(head.hash)
        leaf = b""
        for entry in entries:
            assert entry.prev == leaf.hex()
            leaf = leaf_hash(head.hash, entry.octets)
            tree.append(leaf)
        assert (head.size, head.root) == (21, tree.root())
        assert [entry.time.second for entry in entries] == list(range(21))
        assert ledger.entries() == entries
        assert ledger.entries(after=5, limit=3) == entries[5:8]
        assert ledger.entries(after=21) == ledger.entries(limit=-1) == []
        assert ledger.read(7) == entries[6]
        assert ledger.read(7).body == {"reason": "印章 6"}
        for missing in (0, -1, 22, 2**70):
            assert code_of(partial(ledger.read, missing)) == "record_not_found"
        assert ledger.verify().ok


def test_reopen_continues_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "new" / "record.db"
    for opened in range(12):
        with Ledger.open(path, system_clock) as ledger:
            assert ledger.head().size == opened * (opened + 1) // 2
            origin = ledger.head().origin
            asyncio.run(fill(ledger, opened + 1))
    with Ledger.open(path, system_clock) as ledger:
        assert ledger.head().origin == origin
        assert ledger.verify().ok
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_hash_is_fixed_at_creation(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    Ledger.open(path, system_clock, tree_hash="sha256").close()
    with Ledger.open(path, system_clock) as ledger:
        assert ledger.head().hash == "sha256"
    assert code_of(lambda: Ledger.open(path, system_clock, tree_hash="sm3")) == "record_hash_mismatch"
    assert code_of(lambda: Ledger.open(tmp_path / "other.db", system_clock, tree_hash="md5")) == "record_hash_mismatch"
    assert not (tmp_path / "other.db").exists()


def test_intents_and_outcomes(tmp_path: Path) -> None:
    path = tmp_path / "record.db"

    async def use(ledger: Ledger) -> None:
        first = await ledger.append(EntryKind.INTENT, {"seal": "a"})
        second = await ledger.append(EntryKind.INTENT, {"seal": "b"})
        assert ledger.open_intents() == [first, second]
        signed = await ledger.append(EntryKind.SIGNED, {"intent": first.number})
        assert signed.intent == first.number
        assert ledger.open_intents() == [second]
        for wrong in (first.number, signed.number, 99):
            with pytest.raises(SealAgentError) as caught:
                await ledger.append(EntryKind.FAILED, {"intent": wrong})
            assert caught.value.code == "record_intent_not_open"

    with Ledger.open(path, system_clock) as ledger:
        asyncio.run(use(ledger))
    with Ledger.open(path, system_clock) as ledger:  # what a restart finds, and closes
        assert [entry.number for entry in ledger.open_intents()] == [2]
        asyncio.run(ledger.append(EntryKind.FAILED, {"intent": 2, "reason": "interrupted"}))
        assert ledger.open_intents() == []
        report = ledger.verify()
        assert report.ok
        assert report.open_intents == ()


def test_two_outcomes_in_one_group(tmp_path: Path) -> None:
    """Of two outcomes for one intent that reach one commit, one is kept, and the rest of the group is unharmed."""

    async def use(ledger: Ledger) -> list[object]:
        await ledger.append(EntryKind.INTENT, {})
        return await asyncio.gather(
            ledger.append(EntryKind.SIGNED, {"intent": 1}),
            ledger.append(EntryKind.FAILED, {"intent": 1}),
            ledger.append(EntryKind.REFUSED, {}),
            return_exceptions=True,
        )

    with Ledger.open(tmp_path / "record.db", system_clock) as ledger:
        kept, refused, other = asyncio.run(use(ledger))
        assert isinstance(kept, Entry)
        assert isinstance(refused, SealAgentError)
        assert isinstance(other, Entry)
        assert (kept.number, refused.code, other.number) == (2, "record_intent_not_open", 3)
        assert ledger.verify().ok


def test_work_goes_on_while_an_intent_becomes_durable(tmp_path: Path) -> None:
    async def use(ledger: Ledger) -> tuple[Entry, Entry]:
        queued = ledger.submit(EntryKind.INTENT, {"seal": "a"})
        assert not queued.done()
        intent = await queued
        return intent, await ledger.append(EntryKind.SIGNED, {"intent": intent.number})

    with Ledger.open(tmp_path / "record.db", system_clock) as ledger:
        assert [entry.number for entry in asyncio.run(use(ledger))] == [1, 2]


def test_a_group_is_one_commit(tmp_path: Path) -> None:
    """All that is submitted in one turn of the loop is one transaction: one head update for 50 entries."""
    path = tmp_path / "record.db"
    with Ledger.open(path, system_clock) as ledger:
        with sqlite3.connect(path, isolation_level=None) as database:
            before = database.execute("PRAGMA data_version").fetchone()
            asyncio.run(fill(ledger, 50))
            after = database.execute("PRAGMA data_version").fetchone()
        database.close()
    assert after[0] - before[0] == 1


def test_cancelled_wait_keeps_the_entry(tmp_path: Path) -> None:
    async def use(ledger: Ledger) -> None:
        task = asyncio.create_task(ledger.append(EntryKind.REFUSED, {"n": 1}))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ledger.append(EntryKind.REFUSED, {"n": 2})

    with Ledger.open(tmp_path / "record.db", system_clock) as ledger:
        asyncio.run(use(ledger))
        assert [entry.body["n"] for entry in ledger.entries()] == [1, 2]


def test_bad_body_and_closed_record(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "record.db", system_clock)
    with pytest.raises(FormatError):
        asyncio.run(ledger.append(EntryKind.ADMIN, {"pi": 3.14}))  # type: ignore[dict-item]
    assert ledger.head().size == 0
    ledger.close()
    ledger.close()
    assert failure_of(ledger, EntryKind.ADMIN, {}) == "record_failed"
    assert code_of(ledger.entries) == "record_failed"


def test_closing_commits_what_is_queued(tmp_path: Path) -> None:
    path = tmp_path / "record.db"

    async def use() -> list[Entry]:
        ledger = Ledger.open(path, system_clock)
        futures = [ledger.submit(EntryKind.REFUSED, {"n": n}) for n in range(5)]
        ledger.close()
        return await asyncio.gather(*futures)

    assert len(asyncio.run(use())) == 5
    with Ledger.open(path, system_clock) as ledger:
        assert ledger.head().size == 5


def test_clock_that_fails_fails_the_group_only(tmp_path: Path) -> None:
    broken = True

    def clock() -> datetime:
        if broken:
            raise RuntimeError("no time")
        return system_clock()

    with Ledger.open(tmp_path / "record.db", clock) as ledger:
        assert failure_of(ledger, EntryKind.ADMIN, {}) == "record_failed"
        broken = False
        assert asyncio.run(ledger.append(EntryKind.ADMIN, {})).number == 1


def test_full_database_reaches_every_submitter(tmp_path: Path) -> None:
    path = tmp_path / "record.db"

    async def overfill(ledger: Ledger) -> list[Entry | BaseException]:
        big: dict[str, JSON] = {"name": "x" * 15_000}
        return await asyncio.gather(*(ledger.append(EntryKind.REFUSED, big) for _ in range(8)), return_exceptions=True)

    with Ledger.open(path, system_clock, max_bytes=96 * 1024) as ledger:
        asyncio.run(fill(ledger, 3))
        before = ledger.head()
        failures = asyncio.run(overfill(ledger))
        for failure in failures:
            assert isinstance(failure, SealAgentError)
            assert (failure.code, failure.facts) == ("record_failed", {"sqlite": "SQLITE_FULL"})
        assert ledger.head() == before
        assert len(ledger.entries()) == 3
        assert asyncio.run(ledger.append(EntryKind.REFUSED, {})).number == 4  # a small one still fits
    with Ledger.open(path, system_clock, max_bytes=1024 * 1024) as ledger:
        assert all(isinstance(entry, Entry) for entry in asyncio.run(overfill(ledger)))
        assert ledger.head().size == 12
        assert ledger.verify().ok


def test_second_opening_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    with Ledger.open(path, system_clock):
        assert code_of(lambda: Ledger.open(path, system_clock)) == "record_in_use"
    Ledger.open(path, system_clock).close()


def test_rows_refuse_change(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    with Ledger.open(path, system_clock) as ledger:
        asyncio.run(fill(ledger, 2))
    database = sqlite3.connect(path)
    for statement in ("UPDATE entry SET octets = x'00' WHERE number = 1", "DELETE FROM entry WHERE number = 2"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            database.execute(statement)
    database.close()


def tamper(path: Path, statement: str, *values: object) -> None:
    """Change a row as somebody would who knows of the triggers."""
    database = sqlite3.connect(path)
    database.execute("DROP TRIGGER entry_stays")
    database.execute("DROP TRIGGER entry_kept")
    assert database.execute(statement, values).rowcount == 1
    database.commit()
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entry WHERE number = 12",
        "DELETE FROM entry WHERE number = 11",
        "UPDATE entry SET octets = CAST(replace(octets, 'reason', 'raisin') AS BLOB) WHERE number = 11",
        "UPDATE entry SET octets = CAST(replace(octets, 'reason', 'raisin') AS BLOB) WHERE number = 12",
        "UPDATE entry SET nodes = zeroblob(96) WHERE number = 12",
        "UPDATE entry SET nodes = zeroblob(96) WHERE number = 8",
        "UPDATE entry SET nodes = x'00' WHERE number = 12",
        "UPDATE head SET size = 11",
        "UPDATE head SET root = zeroblob(32)",
        "UPDATE head SET hash = 'md5'",
        "DELETE FROM head",
    ],
)
def test_opening_notices_a_changed_end(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "record.db"
    with Ledger.open(path, system_clock) as ledger:
        asyncio.run(fill(ledger, 12))
    tamper(path, statement)
    before = path.read_bytes()
    with pytest.raises(SealAgentError) as caught:
        Ledger.open(path, system_clock)
    assert caught.value.code == "record_damaged"
    assert str(path) in caught.value.message
    assert "backup" in caught.value.message
    assert path.read_bytes() == before


def test_verify_notices_what_opening_does_not(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    with Ledger.open(path, system_clock) as ledger:
        asyncio.run(fill(ledger, 12))
    tamper(path, "UPDATE entry SET octets = CAST(replace(octets, 'reason', 'raisin') AS BLOB) WHERE number = 5")
    with Ledger.open(path, system_clock) as ledger:
        fault = ledger.verify().fault
        assert fault is not None
        assert (fault.code, fault.number) == ("edited", 5)


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\x00" + bytes(5000)])
def test_foreign_file_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.db"
    path.write_bytes(content)
    assert code_of(lambda: Ledger.open(path, system_clock)) == "record_damaged"
    assert path.read_bytes() == content


def test_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE entry (number INTEGER)")
    database.close()
    before = path.read_bytes()
    assert code_of(lambda: Ledger.open(path, system_clock)) == "record_damaged"
    assert path.read_bytes() == before


def test_lost_main_file_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    (tmp_path / "record.db-wal").write_bytes(b"what the main file lacks")
    assert code_of(lambda: Ledger.open(path, system_clock)) == "record_damaged"
    assert not path.exists()


def test_half_made_record_is_made_anew(tmp_path: Path) -> None:
    """A creation that was interrupted left no record, so there is nothing to keep."""
    (tmp_path / "record.db.new").write_bytes(b"half")
    Ledger.open(tmp_path / "record.db", system_clock).close()
    assert not (tmp_path / "record.db.new").exists()


def test_unusable_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert code_of(lambda: Ledger.open(tmp_path / "file" / "record.db", system_clock)) == "record_failed"
    (tmp_path / "folder").mkdir()
    assert code_of(lambda: Ledger.open(tmp_path / "folder", system_clock)) == "record_failed"


def test_export_is_the_stored_octets(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "record.db", system_clock) as ledger:
        entries = asyncio.run(fill(ledger, 1203))  # more than two pages of the export
        out = io.BytesIO()
        head = ledger.export(out)
    lines = out.getvalue().split(b"\n")
    assert lines[0] == head_line(head)
    assert lines[1:] == [entry.octets for entry in entries] + [b""]
    report = check_export(out.getvalue().splitlines(), head)
    assert report.ok
    assert (report.size, report.head, report.checkpoint) == (1203, head, True)
