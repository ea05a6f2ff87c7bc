"""The states of a batch, against a model of their own: whatever comes in whatever order."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sealagent.errors import SealAgentError
from sealagent.signing.batches.machine import ENDED, BatchState, ItemState, Progress
from sealagent.signing.batches.model import Batch, BatchKind, Item, Order
from sealagent.signing.batches.store import BatchStore, changed_rows

OPEN = {BatchState.APPROVED, BatchState.RUNNING, BatchState.PAUSED}
ITEMS = st.integers(0, 9)


def code_of(action: Any, *arguments: Any) -> str | None:
    try:
        action(*arguments)
    except SealAgentError as error:
        return error.code
    return None


class BatchMachine(RuleBasedStateMachine):
    """What must hold of every batch: nothing is signed without a yes, nothing twice, nothing after the end."""

    @initialize(total=st.integers(1, 8))
    def begin_anew(self, total: int) -> None:
        self.progress = Progress.of(total)
        self.total = total
        self.agreed = False
        self.kept: set[int] = set()
        """Items whose signatures are kept with the record; a crash does not change that."""
        self.running: set[int] = set()
        self.signatures: list[int] = []
        self.failed: set[int] = set()
        self.explicit = True
        """Whether the batch was resumed since a PIN stopped it."""

    @rule()
    def holder_agrees(self) -> None:
        if self.progress.state is BatchState.WAITING:
            self.progress.agree()
            self.agreed = True
        else:
            assert code_of(self.progress.agree) == "batch_ended"

    @rule()
    def holder_refuses(self) -> None:
        waiting = self.progress.state is BatchState.WAITING
        assert code_of(self.progress.refuse, "consent_refused") == (None if waiting else "batch_ended")

    @rule(number=ITEMS)
    def begin(self, number: int) -> None:
        before = self.progress.state
        code = code_of(self.progress.begin, number)
        if code is None:
            assert before in OPEN
            assert self.agreed
            assert self.explicit
            assert number not in self.kept | self.running | self.failed
            self.running.add(number)
            assert self.progress.state is BatchState.RUNNING
        elif before is BatchState.WAITING:
            assert code == "batch_waiting"
        elif before is BatchState.STOPPED:
            assert code == "batch_stopped"
        elif before in ENDED:
            assert code == "batch_ended"
        elif not 1 <= number <= self.total:
            assert code == "batch_item_not_found"
        else:
            assert code == ("batch_item_busy" if number in self.running else "batch_item_settled")

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["signed", "failed", "returned", "crash after it was kept"]))
    def ends(self, data: Any, how: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        if how in ("signed", "crash after it was kept"):
            assert number not in self.signatures
            self.signatures.append(number)
            self.kept.add(number)
        if how == "crash after it was kept":
            self.restart()
            return
        self.running.discard(number)
        getattr(self.progress, how)(number)
        if how == "failed":
            self.failed.add(number)

    @rule()
    def pause(self) -> None:
        before = (self.progress.state, self.progress.reason)
        self.progress.pause("token_not_found")
        if before[0] in (BatchState.APPROVED, BatchState.RUNNING):
            assert (self.progress.state, self.progress.reason) == (BatchState.PAUSED, "token_not_found")
        else:
            assert (self.progress.state, self.progress.reason) == before

    @rule()
    def pin_fails(self) -> None:
        before = self.progress.state
        self.progress.stop("pin_incorrect")
        if before in OPEN:
            assert self.progress.state is BatchState.STOPPED
            self.explicit = False
        else:
            assert self.progress.state is before

    @rule()
    def resume(self) -> None:
        before = self.progress.state
        code = code_of(self.progress.resume)
        if before is BatchState.WAITING:
            assert code == "batch_waiting"
        elif before in ENDED:
            assert code == "batch_ended"
        else:
            assert code is None
            assert self.progress.state in OPEN
            self.explicit = True

    @rule(how=st.sampled_from(["cancel", "expire"]))
    def end(self, how: str) -> None:
        before = self.progress.state
        getattr(self.progress, how)()
        assert self.progress.ended
        if before in ENDED:
            assert self.progress.state is before

    @rule()
    def restart(self) -> None:
        """Nothing of what was not written is known any more; the record knows what was signed."""
        states = [self.progress.item(number) for number in range(1, self.total + 1)]
        self.progress = Progress(states, self.progress.state, self.progress.reason)
        self.progress.restarted(self.kept)
        self.running.clear()
        assert self.progress.state not in (BatchState.WAITING, BatchState.RUNNING)

    @invariant()
    def holds(self) -> None:
        progress = self.progress
        states = [progress.item(number) for number in range(1, self.total + 1)]
        assert len(set(self.signatures)) == len(self.signatures)
        assert {n for n, state in enumerate(states, 1) if state is ItemState.SIGNED} == self.kept
        assert {n for n, state in enumerate(states, 1) if state is ItemState.FAILED} == self.failed
        assert {n for n, state in enumerate(states, 1) if state is ItemState.RUNNING} == self.running
        assert sum(progress.count(state) for state in ItemState) == self.total
        for state in ItemState:
            assert progress.count(state) == states.count(state)
        pending = [n for n, state in enumerate(states, 1) if state is ItemState.PENDING]
        assert progress.next_pending() == (pending[0] if pending else None)
        if progress.ended:
            assert not pending
        if not self.agreed:
            assert not self.signatures
            assert progress.state in (
                BatchState.WAITING,
                BatchState.REFUSED,
                BatchState.CANCELLED,
                BatchState.EXPIRED,
            )
        if progress.state is BatchState.DONE:
            assert self.kept | self.failed == set(range(1, self.total + 1))
        if not pending and not self.running and self.agreed:
            assert progress.ended


BatchMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBatchMachine = BatchMachine.TestCase


class StoredBatchMachine(BatchMachine):
    """The same with a store between: what the holder said and what stops a batch is written at once, items later."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.written: set[int] = set()
        """Failed items that were written."""

    @initialize(total=st.integers(1, 8))
    def begin_anew(self, total: int) -> None:
        super().begin_anew(total)
        items = tuple(Item(f"{number}", bytes([number]) * 32) for number in range(total))
        order = Order(BatchKind.DIGESTS, None, "key", None, None, items)
        now = datetime(2026, 11, 28, tzinfo=UTC)
        self.batch = Batch("b", "1000", "/bin/a", None, order, order.digest(), now, now, self.progress)
        self.store = BatchStore(Path(self.folder.name) / f"{total}.sqlite")
        self.store.add(self.batch)

    @rule()
    def holder_agrees(self) -> None:
        super().holder_agrees()
        self.write()

    @rule()
    def holder_refuses(self) -> None:
        super().holder_refuses()
        self.write()

    @rule()
    def pin_fails(self) -> None:
        super().pin_fails()
        self.write()

    @rule()
    def resume(self) -> None:
        super().resume()
        self.write()

    @rule(how=st.sampled_from(["cancel", "expire"]))
    def end(self, how: str) -> None:
        super().end(how)
        self.write()

    @rule()
    def write(self) -> None:
        progress = self.batch.progress = self.progress
        rows = changed_rows(self.batch, list(range(1, self.total + 1)))
        self.store.save("b", progress.state, progress.reason, None, rows)
        self.written = set(self.failed)

    @rule()
    def restart(self) -> None:
        """The agent crashes: items that failed since the last writing are not known to have."""
        path = self.store._path
        self.store.close()
        self.store = BatchStore(path)
        loaded = self.store.load("b")
        assert loaded is not None
        assert loaded.order == self.batch.order
        self.batch, self.progress = loaded, loaded.progress
        self.progress.restarted(self.kept)
        self.failed, self.running = set(self.written), set()
        assert self.progress.state not in (BatchState.WAITING, BatchState.RUNNING)
        self.write()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        self.folder.cleanup()


TestStoredBatchMachine = StoredBatchMachine.TestCase
TestStoredBatchMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_ten_thousand_items_are_found_in_their_order() -> None:
    progress = Progress.of(10_000)
    progress.agree()
    for number in range(1, 10_001):
        assert progress.next_pending() == number
        progress.begin(number)
        (progress.failed if number == 5_000 else progress.signed)(number)
    assert progress.next_pending() is None
    assert progress.state is BatchState.DONE
    assert (progress.count(ItemState.SIGNED), progress.count(ItemState.FAILED)) == (9_999, 1)


@pytest.mark.parametrize("number", [0, -1, 3, 10**9])
def test_an_item_that_is_not_there(number: int) -> None:
    assert code_of(Progress.of(2).item, number) == "batch_item_not_found"
