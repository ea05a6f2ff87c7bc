"""Random harm to exports and to the database file: a report or a named error, never anything else."""

from __future__ import annotations

import asyncio
import io
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealagent.clock import system_clock
from sealagent.errors import SealAgentError
from sealagent.records.check import check_export, read_lines
from sealagent.records.entry import EntryKind
from sealagent.records.ledger import Ledger
from sealagent.records.tree import parse_checkpoint


async def _fill(ledger: Ledger, count: int) -> None:
    for number in range(0, count, 2):
        intent = await ledger.append(EntryKind.INTENT, {"document": f"合同{number}.ofd"})
        await ledger.append(EntryKind.SIGNED, {"intent": intent.number})


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = io.BytesIO()
    with Ledger.open(tmp_path_factory.mktemp("record") / "record.db", system_clock) as ledger:
        asyncio.run(_fill(ledger, 12))
        ledger.export(out)
    return out.getvalue()


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_change_of_an_export_is_found(export: bytes, data: st.DataObject) -> None:
    """Overwrite, delete or insert anywhere: the check ends with a fault, except where nothing changed."""
    at = data.draw(st.integers(0, len(export) - 1))
    gone = data.draw(st.integers(0, 40))
    put = data.draw(st.binary(max_size=40))
    changed = export[:at] + put + export[at + gone :]
    report = check_export(read_lines(io.BytesIO(changed)))
    if report.ok:  # only the origin is free text, and the last LF may be missing
        origin = export.index(b'"origin"'), export.index(b'"root"')
        assert changed in (export, export[:-1]) or (origin[0] < at and at + gone <= origin[1])


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_arbitrary_lines(lines: list[bytes]) -> None:
    assert check_export(lines).fault is not None


@given(st.text(max_size=200))
def test_arbitrary_checkpoints(text: str) -> None:
    code = None
    try:
        parse_checkpoint(text)
    except SealAgentError as error:
        code = error.code
    assert code in (None, "checkpoint_invalid")


def test_damaged_database_files(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    with Ledger.open(path, system_clock) as ledger:
        asyncio.run(_fill(ledger, 60))
        whole = ledger.head()
    good = path.read_bytes()
    chance = random.Random(38540)
    for _ in range(120):
        octets = bytearray(good)
        for _ in range(chance.choice((1, 8, 200))):
            octets[chance.randrange(len(octets))] = chance.randrange(256)
        if chance.random() < 0.2:
            del octets[chance.randrange(len(octets)) :]
        path.write_bytes(octets)
        code = None
        try:
            with Ledger.open(path, system_clock) as ledger:
                report = ledger.verify(whole)
                ledger.entries(limit=1000)
                if report.ok:
                    assert (report.size, ledger.head().root) == (whole.size, whole.root)
        except SealAgentError as error:
            code = error.code
        assert code in (None, "record_damaged", "record_failed")
