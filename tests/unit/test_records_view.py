"""Reading a record beside its writer."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest

from sealagent.clock import system_clock
from sealagent.errors import SealAgentError
from sealagent.records.entry import EntryKind
from sealagent.records.ledger import Ledger
from sealagent.records.tree import leaf_hash
from sealagent.records.view import PAGE, RecordView


async def fill(ledger: Ledger, count: int) -> None:
    futures = [ledger.submit(EntryKind.ADMIN, {"number": number}) for number in range(count)]
    await asyncio.gather(*futures)


def code_of(action: object) -> str:
    with pytest.raises(SealAgentError) as caught:
        action()  # type: ignore[operator]
    return caught.value.code


@pytest.mark.parametrize("name", ["sm3", "sha256"])
def test_a_reader_sees_what_is_durable(tmp_path: Path, name: str) -> None:
    file = tmp_path / "record.sqlite"
    with Ledger.open(file, system_clock, tree_hash=name) as ledger:
        view = RecordView(file)
        try:
            assert (view.size(), view.hash, view.origin) == (0, name, ledger.head().origin)
            assert [*view.entries(0)] == []
            asyncio.run(fill(ledger, PAGE + 7))
            assert view.size() == PAGE + 7
            entries = [*view.entries(0)]
            assert [entry.number for entry in entries] == [*range(1, PAGE + 8)]
            assert entries[5] == ledger.read(6) == view.entry(6)
            assert [entry.number for entry in view.entries(3, 5)] == [4, 5]
            for first, second in pairwise(entries):
                assert second.prev == view.leaf(first) == leaf_hash(name, first.octets).hex()
            for number in (0, -1, PAGE + 8):
                assert code_of(lambda number=number: view.entry(number)) == "record_not_found"
        finally:
            view.close()
    # The writer is gone, and with it the write-ahead log.
    view = RecordView(file)
    assert view.size() == PAGE + 7
    view.close()


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "record.sqlite"
    with Ledger.open(file, system_clock) as ledger:
        asyncio.run(fill(ledger, 1))
    view = RecordView(file)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        view._database.execute("UPDATE head SET size = 0")
    view.close()


def test_what_is_no_record(tmp_path: Path) -> None:
    file = tmp_path / "record.sqlite"
    assert code_of(lambda: RecordView(file)) == "record_not_found"
    assert not file.exists()
    file.write_bytes(b"no database" * 1000)
    assert code_of(lambda: RecordView(file)) == "record_damaged"
    file.unlink()
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE other (x)")
    database.close()
    assert code_of(lambda: RecordView(file)) == "record_failed"


def test_a_damaged_entry_is_told(tmp_path: Path) -> None:
    file = tmp_path / "record.sqlite"
    with Ledger.open(file, system_clock) as ledger:
        asyncio.run(fill(ledger, 3))
    with sqlite3.connect(file) as database:
        database.execute("DROP TRIGGER entry_stays")
        database.execute("UPDATE entry SET octets = x'7b7d' WHERE number = 2")
    database.close()
    view = RecordView(file)
    assert view.entry(1).number == 1
    assert code_of(lambda: view.entry(2)) == "record_damaged"
    assert code_of(lambda: [*view.entries(0)]) == "record_damaged"
    view.close()
    assert os.stat(file).st_size > 0
