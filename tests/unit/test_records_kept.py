"""Values kept beside the record: with their entry or not at all, forgotten in time, and no part of the record."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sealagent.clock import system_clock
from sealagent.errors import FormatError, SealAgentError
from sealagent.records import kept as kept_module
from sealagent.records.check import check_export
from sealagent.records.entry import Entry, EntryKind
from sealagent.records.kept import KEPT_DAYS, MAX_VALUE, Kept
from sealagent.records.ledger import Ledger

REQUEST = bytes(range(32))


def a_value(item: int = 0, key: str = "k-1", owner: str = "1000") -> Kept:
    return Kept(owner, key, item, REQUEST, "signature", b"sig %d" % item)


async def signed(ledger: Ledger, keep: Kept | None) -> Entry:
    intent = await ledger.append(EntryKind.INTENT, {})
    return await ledger.append(EntryKind.SIGNED, {"intent": intent.number}, keep=keep)


def sign(ledger: Ledger, keep: Kept | None) -> Entry:
    return asyncio.run(signed(ledger, keep))


def code_of(action: Callable[[], Any]) -> str:
    with pytest.raises(SealAgentError) as caught:
        action()
    return caught.value.code


def test_kept_with_its_entry_and_after_a_restart(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "record.db", system_clock) as ledger:
        assert ledger.kept("1000", "k-1") is None
        entries = [sign(ledger, a_value(item)) for item in range(3)]
        exported = io.BytesIO()
        ledger.export(exported)
    with Ledger.open(tmp_path / "record.db", system_clock) as ledger:
        for item, entry in enumerate(entries):
            found = ledger.kept("1000", "k-1", item)
            assert found is not None
            assert (found.item, found.request, found.kind, found.value) == (
                item,
                REQUEST,
                "signature",
                b"sig %d" % item,
            )
            assert (found.intent, found.outcome) == (entry.intent, entry.number)
            assert ledger.read(found.outcome) == entry
        assert [value.item for value in ledger.kept_items("1000", "k-1")] == [0, 1, 2]
        assert [value.item for value in ledger.kept_items("1000", "k-1", first=1, limit=1)] == [1]
        for owner, key, item in (("1000", "k-1", 3), ("1000", "k-2", 0), ("1001", "k-1", 0), ("1000 a", "k-1", 0)):
            assert ledger.kept(owner, key, item) is None
        assert ledger.verify().ok
        again = io.BytesIO()
        ledger.export(again)
    # The record says nothing of it, and its check needs nothing of it.
    assert again.getvalue() == exported.getvalue()
    assert b"k-1" not in exported.getvalue()
    assert check_export(exported.getvalue().splitlines()).ok


def test_nothing_is_signed_twice_under_one_name(tmp_path: Path) -> None:
    """Of two outcomes under one name the first is written, in one group or in two; the other leaves its intent open."""

    async def use(ledger: Ledger) -> list[object]:
        for _ in range(3):
            await ledger.append(EntryKind.INTENT, {})
        together = await asyncio.gather(
            *(ledger.append(EntryKind.SIGNED, {"intent": n}, keep=a_value()) for n in (1, 2)),
            ledger.append(EntryKind.REFUSED, {}),
            return_exceptions=True,
        )
        with pytest.raises(SealAgentError) as caught:
            await ledger.append(EntryKind.SIGNED, {"intent": 3}, keep=replace(a_value(), value=b"other"))
        assert caught.value.code == "idempotency_conflict"
        await ledger.append(EntryKind.FAILED, {"intent": 2, "reason": "idempotency_conflict"})
        return list(together)

    with Ledger.open(tmp_path / "record.db", system_clock) as ledger:
        first, second, other = asyncio.run(use(ledger))
        assert isinstance(first, Entry)
        assert isinstance(second, SealAgentError)
        assert (second.code, second.__cause__) == ("idempotency_conflict", None)
        assert isinstance(other, Entry)
        assert [entry.number for entry in ledger.open_intents()] == [3]
        found = ledger.kept("1000", "k-1")
        assert found is not None
        assert (found.value, found.outcome) == (b"sig 0", first.number)
        assert ledger.verify().ok


def test_an_entry_that_fails_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    with Ledger.open(path, system_clock) as ledger:
        asyncio.run(ledger.append(EntryKind.INTENT, {}))
        assert (
            code_of(lambda: asyncio.run(ledger.append(EntryKind.SIGNED, {"intent": 7}, keep=a_value())))
            == "record_intent_not_open"
        )
        assert ledger.kept("1000", "k-1") is None
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("DROP TABLE kept")  # the value cannot be written: the entry must not be, either
        assert (
            code_of(lambda: asyncio.run(ledger.append(EntryKind.SIGNED, {"intent": 1}, keep=a_value())))
            == "record_failed"
        )
        assert ledger.head().size == 1
        asyncio.run(ledger.append(EntryKind.SIGNED, {"intent": 1}))  # the record itself is well
        assert ledger.verify().ok
        assert code_of(lambda: ledger.kept("1000", "k-1")) == "record_damaged"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"owner": ""}, "record_body_invalid"),
        ({"owner": "x" * 300}, "record_body_invalid"),
        ({"key": "nön"}, "record_body_invalid"),
        ({"key": "a\nb"}, "record_body_invalid"),
        ({"item": -1}, "record_body_invalid"),
        ({"item": 2**31}, "record_body_invalid"),
        ({"request": b"short"}, "record_body_invalid"),
        ({"kind": ""}, "record_body_invalid"),
        ({"value": bytes(MAX_VALUE + 1)}, "record_body_too_large"),
    ],
)
def test_bounds(tmp_path: Path, wrong: dict[str, Any], code: str) -> None:
    with Ledger.open(tmp_path / "record.db", system_clock) as ledger:
        asyncio.run(ledger.append(EntryKind.INTENT, {}))
        keep = replace(a_value(), **wrong)
        assert code_of(lambda: asyncio.run(ledger.append(EntryKind.SIGNED, {"intent": 1}, keep=keep))) == code
        with pytest.raises(FormatError):
            asyncio.run(ledger.append(EntryKind.FAILED, {"intent": 1}, keep=a_value()))
        assert ledger.head().size == 1


def test_a_value_says_nothing_of_itself() -> None:
    assert "sig 0" not in repr(a_value())


def test_forgotten_by_age(tmp_path: Path) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)

    def clock() -> datetime:
        return now

    path = tmp_path / "record.db"
    with Ledger.open(path, clock) as ledger:
        for item in range(200):
            sign(ledger, a_value(item))
        now += timedelta(days=KEPT_DAYS)
        assert ledger.kept("1000", "k-1") is not None
        sign(ledger, a_value(200))
        now += timedelta(seconds=1)
        assert ledger.kept("1000", "k-1") is None  # not given any more, though still there
        assert [value.item for value in ledger.kept_items("1000", "k-1", limit=300)] == [200]
        for item in range(201, 205):
            sign(ledger, a_value(item))
        with contextlib.closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT count(*), min(item) FROM kept").fetchone() == (5, 200)
        assert ledger.verify().ok


def test_forgotten_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "MAX_KEPT", 10)
    with Ledger.open(tmp_path / "record.db", system_clock) as ledger:
        for item in range(25):
            sign(ledger, a_value(item))
        assert [value.item for value in ledger.kept_items("1000", "k-1")] == list(range(15, 25))
        assert len([entry for entry in ledger.entries(limit=100) if entry.kind is EntryKind.SIGNED]) == 25


def test_forgotten_by_octets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "MAX_KEPT_OCTETS", 1000)
    path = tmp_path / "record.db"
    with Ledger.open(path, system_clock) as ledger:
        for item in range(60):
            sign(ledger, replace(a_value(item), value=bytes(40)))
        left = [value.item for value in ledger.kept_items("1000", "k-1")]
        assert left == list(range(left[0], 60))
        assert 1000 // 40 - kept_module.AT_ONCE <= len(left) <= 1000 // 40
        with contextlib.closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT octets FROM kept_size").fetchone() == (40 * len(left),)
        sign(ledger, replace(a_value(60), value=bytes(1001)))  # larger than all there may be: not even it is kept
        assert ledger.kept_items("1000", "k-1") == []
        sign(ledger, a_value(61))
        assert ledger.kept("1000", "k-1", 61) is not None
        assert ledger.verify().ok


def as_version_one(path: Path) -> None:
    """Make a record what the version before wrote."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(
            "DROP TABLE kept; DROP TABLE kept_size; PRAGMA user_version = 1; PRAGMA wal_checkpoint(TRUNCATE);"
        )


def test_a_record_of_the_version_before_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    with Ledger.open(path, system_clock) as ledger:
        for _ in range(5):
            sign(ledger, None)
        before = io.BytesIO()
        ledger.export(before)
    as_version_one(path)
    with Ledger.open(path, system_clock) as ledger:
        after = io.BytesIO()
        ledger.export(after)
        assert after.getvalue() == before.getvalue()
        sign(ledger, a_value())
        assert ledger.kept("1000", "k-1") is not None
        assert ledger.verify().ok
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_damaged_record_is_not_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    with Ledger.open(path, system_clock) as ledger:
        sign(ledger, None)
    as_version_one(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript("DROP TRIGGER entry_stays; UPDATE entry SET octets = x'00' WHERE number = 2;")
    assert code_of(lambda: Ledger.open(path, system_clock)) == "record_damaged"
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert not database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'kept'").fetchone()


def test_a_damaged_value_is_named(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    with Ledger.open(path, system_clock) as ledger:
        sign(ledger, a_value())
        for change in ("request = x'00'", "request = x''"):
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
                database.execute(f"UPDATE kept SET {change}")
            assert code_of(lambda: ledger.kept("1000", "k-1")) == "record_damaged"
