"""What is kept of batches, for how long, and within which bounds."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from batch_parts import (
    APPLICATION,
    CALLER,
    Open,
    Stage,
    code_of,
    digests,
    documents,
    play,
    seal,
)
from sealagent.errors import FormatError, SealAgentError
from sealagent.signing.batches import service, store
from sealagent.signing.batches.model import Item
from sealdrivers.contract import Mechanism


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture(autouse=True)
def any_mechanism(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the stage is none of a driver's."""
    monkeypatch.setattr(service, "checked_mechanism", lambda info, name: Mechanism.ECDSA_SHA256)


def test_the_same_key_makes_the_same_batch_over_a_restart(stage: Stage) -> None:
    made: list[str] = []

    async def scene(opened: Open) -> None:
        for _ in range(2):
            batch = await opened.approved(documents(2), idempotency_key="k", request=b"r" * 32)
            made.append(batch.id)
        assert await code_of(opened.approved(documents(1), idempotency_key="k", request=b"x" * 32)) == (
            "idempotency_conflict"
        )
        app = await opened.approved(documents(2), APPLICATION, idempotency_key="k", request=b"r" * 32)
        assert app.id not in made  # another application's key is another key

    play(stage, scene)
    play(stage, scene)
    assert len(set(made)) == 1
    assert len(stage.asked) == 2


def test_bounds(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_OPEN", 3)
    monkeypatch.setattr(service, "MAX_OPEN_OF_ONE", 2)

    async def scene(opened: Open) -> None:
        assert await code_of(opened.approved(documents(10_001))) == "batch_too_large"
        assert await code_of(opened.approved(documents(0))) == "batch_too_large"
        stage.most = 5
        assert await code_of(opened.approved(documents(6))) == "batch_too_large"
        first = await opened.approved(documents(1))
        await opened.approved(documents(1))
        assert await code_of(opened.approved(documents(1))) == "too_many_batches"
        await opened.approved(documents(1), APPLICATION)
        await seal(opened, first, 1)
        last = await opened.approved(documents(1))
        assert await code_of(opened.approved(documents(1))) == "too_many_batches"
        stage.ahead = timedelta(hours=25)  # those whose time is over take no place
        last = await opened.approved(documents(1))
        short = replace(digests(1), items=(Item("1", bytes(20)),))
        await opened.batches.cancel(CALLER, last.id)
        assert await code_of(opened.approved(short)) == "digest_invalid"
        assert await code_of(opened.batches.find(CALLER, "0" * 16)) == "batch_not_found"

    play(stage, scene)


def test_the_oldest_that_ended_are_forgotten(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_ENDED", 3)

    async def scene(opened: Open) -> None:
        going = await opened.approved(documents(1))
        for _ in range(8):
            stage.ahead += timedelta(seconds=1)
            batch = await opened.approved(documents(2))
            await opened.batches.cancel(CALLER, batch.id)
        found = {each.id for each in await opened.batches.list(CALLER)}
        assert going.id in found
        assert len(found) == 5

    play(stage, scene)


@pytest.mark.parametrize("octets", [b"no database at all" * 100, b""])
def test_a_store_that_is_none(stage: Stage, octets: bytes) -> None:
    path = stage.directory / "batches.sqlite"
    path.write_bytes(octets)
    if not octets:  # an empty file is what a crash between its making and its filling leaves
        play(stage, _nothing)
        return
    with pytest.raises(SealAgentError) as caught:
        play(stage, _nothing)
    assert caught.value.code == "batch_store_failed"
    assert path.read_bytes() == octets


async def _nothing(opened: Open) -> None:
    assert await opened.batches.list(CALLER) == []


def test_a_damaged_batch_is_named(stage: Stage) -> None:
    made: list[str] = []

    async def scene(opened: Open) -> None:
        batch = await opened.approved(documents(2))
        made.append(batch.id)
        await opened.batches.cancel(CALLER, batch.id)

    play(stage, scene)
    with contextlib.closing(sqlite3.connect(stage.directory / "batches.sqlite", isolation_level=None)) as database:
        database.execute("UPDATE item SET state = 'half' WHERE number = 2")

    async def later(opened: Open) -> None:
        assert await code_of(opened.batches.find(CALLER, made[0])) == "batch_store_failed"
        assert await code_of(opened.batches.list(CALLER)) == "batch_store_failed"
        await opened.approved(documents(1))  # others are unharmed

    play(stage, later)


def test_of_batches_that_ended_only_counts_are_listed(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        for _ in range(6):
            batch = await opened.approved(documents(5))
            opened.device.faults[2] = [FormatError("ofd_structure", "no")]
            for number in (1, 2):
                with contextlib.suppress(FormatError):
                    await seal(opened, batch, number)
            await opened.batches.cancel(CALLER, batch.id)
        for batch in await opened.batches.list(CALLER):
            assert batch.order.items == ()
            assert batch.numbers() == {
                "total": 5,
                "signed": 1,
                "failed": 1,
                "pending": 0,
                "running": 0,
                "skipped": 3,
            }
            whole = await opened.batches.find(CALLER, batch.id)
            assert [item.name for item in whole.order.items] == [f"{n}.ofd" for n in range(1, 6)]
            assert whole.results[2].code == "ofd_structure"

    play(stage, scene)
