"""The states of a batch and of its items. Pure: knows neither time, nor disk, nor device.

    waiting ──▶ approved ──▶ running ◀──▶ paused        (unplugged, restarted, record full: goes on with any item)
       │                        │  ▲
       ▼                        ▼  │ resume, explicitly
    refused                   stopped                   (the PIN failed or was not given)

From every state that is not at its end: cancelled, expired; and done, when no item is left. An item that was signed
stays signed, whatever becomes of the batch; one that is being signed ends as what it becomes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from sealagent.errors import SealAgentError

__all__ = ["ENDED", "BatchState", "ItemState", "Progress"]


class BatchState(StrEnum):
    """What may happen with a batch now."""

    WAITING = "waiting"
    """The holder has not answered yet."""
    APPROVED = "approved"
    """Every item may be signed; none was begun."""
    RUNNING = "running"
    PAUSED = "paused"
    """Something beside the items failed; it goes on with the next item that is asked for."""
    STOPPED = "stopped"
    """The PIN failed, or was not given. It goes on only after it was resumed explicitly."""
    DONE = "done"
    """Every item is signed, failed or skipped."""
    CANCELLED = "cancelled"
    REFUSED = "refused"
    """The holder did not agree."""
    EXPIRED = "expired"


ENDED = frozenset({BatchState.DONE, BatchState.CANCELLED, BatchState.REFUSED, BatchState.EXPIRED})
"""States that nothing leaves."""
_OPEN = frozenset({BatchState.APPROVED, BatchState.RUNNING, BatchState.PAUSED})
"""States in which an item may be begun."""


class ItemState(StrEnum):
    """What became of an item."""

    PENDING = "pending"
    RUNNING = "running"
    SIGNED = "signed"
    FAILED = "failed"
    """It cannot be signed, for a reason that lies in itself."""
    SKIPPED = "skipped"
    """The batch ended before its turn."""


class Progress:
    """The state of one batch and of its items, which are numbered from 1.

    :param items: states, in order.
    """

    def __init__(
        self, items: Iterable[ItemState], state: BatchState = BatchState.WAITING, reason: str | None = None
    ) -> None:
        self._items = list(items)
        self._counts = Counter(self._items)
        self._next = 1
        self.state = state
        self.reason = reason
        """Code of what paused, stopped or refused it."""

    @classmethod
    def of(cls, total: int) -> Progress:
        """Return the beginning of a batch."""
        return cls([ItemState.PENDING] * total)

    @property
    def total(self) -> int:
        """How many items there are."""
        return len(self._items)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def count(self, state: ItemState) -> int:
        """Return how many items are in a state."""
        return self._counts[state]

    def item(self, number: int) -> ItemState:
        """Return the state of an item. :raises SealAgentError: ``batch_item_not_found``."""
        if not 1 <= number <= len(self._items):
            raise SealAgentError("batch_item_not_found", f"the batch has items 1 to {len(self._items)}, no {number}")
        return self._items[number - 1]

    def next_pending(self) -> int | None:
        """Return the number of the first item that waits; None: there is none."""
        for number in range(self._next, len(self._items) + 1):
            if self._items[number - 1] is ItemState.PENDING:
                self._next = number
                return number
        return None

    # The holder

    def agree(self) -> None:
        """The holder said yes."""
        self._leave(BatchState.WAITING, to=BatchState.APPROVED)

    def refuse(self, reason: str) -> None:
        """The holder did not say yes."""
        self._leave(BatchState.WAITING, to=BatchState.REFUSED, reason=reason)
        self._skip()

    # Items

    def require_open(self) -> None:
        """Have the batch be one whose items may be begun.

        :raises SealAgentError: ``batch_waiting``, ``batch_stopped``, ``batch_ended``.
        """
        if self.state in _OPEN:
            return
        if self.state is BatchState.WAITING:
            raise SealAgentError("batch_waiting", "the holder has not agreed to the batch yet")
        if self.state is BatchState.STOPPED:
            raise SealAgentError("batch_stopped", f"the batch was stopped: {self.reason}", reason=self.reason)
        raise SealAgentError("batch_ended", f"the batch is {self.state.value}", state=self.state.value)

    def begin(self, number: int) -> None:
        """An item is about to be signed.

        :raises SealAgentError: those of :meth:`require_open`; ``batch_item_not_found``; ``batch_item_busy``: it is
            being signed; ``batch_item_settled``: it was signed, or failed, before.
        """
        self.require_open()
        state = self.item(number)
        if state is ItemState.RUNNING:
            raise SealAgentError("batch_item_busy", f"item {number} is being signed at this moment")
        if state is not ItemState.PENDING:
            raise SealAgentError("batch_item_settled", f"item {number} is {state.value}", state=state.value)
        self._set(number, ItemState.RUNNING)
        self.state, self.reason = BatchState.RUNNING, None

    def signed(self, number: int) -> None:
        """An item that was begun is signed, on record, and kept."""
        self._settle(number, ItemState.SIGNED)

    def failed(self, number: int) -> None:
        """An item that was begun cannot be signed, for a reason that lies in itself."""
        self._settle(number, ItemState.FAILED)

    def returned(self, number: int) -> None:
        """An item that was begun was not signed, for a reason that does not lie in itself."""
        self._settle(number, ItemState.SKIPPED if self.ended else ItemState.PENDING)

    # The batch

    def pause(self, reason: str) -> None:
        """Something beside the items failed. The first reason stays, and so does a state that demands more."""
        if self.state in (BatchState.APPROVED, BatchState.RUNNING):
            self.state, self.reason = BatchState.PAUSED, reason

    def stop(self, reason: str) -> None:
        """The PIN failed, or was not given."""
        if self.state in _OPEN:
            self.state, self.reason = BatchState.STOPPED, reason

    def resume(self) -> None:
        """Whoever asked for the batch wants it to go on.

        :raises SealAgentError: ``batch_waiting``, ``batch_ended``.
        """
        if self.state is BatchState.STOPPED:
            self.state, self.reason = BatchState.PAUSED, None
        self.require_open()

    def cancel(self) -> None:
        """It is not to go on. Of one that ended, nothing changes."""
        self._end(BatchState.CANCELLED)

    def expire(self) -> None:
        """Its time is over."""
        self._end(BatchState.EXPIRED)

    def restarted(self, signed: Iterable[int]) -> None:
        """The agent was started anew.

        :param signed: numbers of items whose signatures are kept with the record, whatever was known of them here.
        """
        for number in signed:
            if self._items[number - 1] is not ItemState.SIGNED:
                self._set(number, ItemState.SIGNED)
        for number in range(1, len(self._items) + 1):
            if self._items[number - 1] is ItemState.RUNNING:
                self._set(number, ItemState.SKIPPED if self.ended else ItemState.PENDING)
        if self.state is BatchState.WAITING:  # the prompt is gone
            self.refuse("interrupted")
        elif self.state is BatchState.RUNNING or self._counts[ItemState.PENDING] < self.total:
            self.pause("interrupted")
        self._finish()

    def _leave(self, state: BatchState, *, to: BatchState, reason: str | None = None) -> None:
        if self.state is not state:
            raise SealAgentError("batch_ended", f"the batch is {self.state.value}", state=self.state.value)
        self.state, self.reason = to, reason

    def _set(self, number: int, state: ItemState) -> None:
        self._counts[self._items[number - 1]] -= 1
        self._counts[state] += 1
        self._items[number - 1] = state
        if state is ItemState.PENDING:
            self._next = min(self._next, number)

    def _settle(self, number: int, state: ItemState) -> None:
        assert self.item(number) is ItemState.RUNNING
        self._set(number, state)
        self._finish()

    def _finish(self) -> None:
        left = self._counts[ItemState.PENDING] + self._counts[ItemState.RUNNING]
        if not left and not self.ended and self.state is not BatchState.WAITING:
            self.state, self.reason = BatchState.DONE, None

    def _end(self, state: BatchState) -> None:
        if not self.ended:
            self.state, self.reason = state, None
            self._skip()

    def _skip(self) -> None:
        for number in range(1, len(self._items) + 1):
            if self._items[number - 1] is ItemState.PENDING:
                self._set(number, ItemState.SKIPPED)
