"""What changes a token or the store without signing: on record before and after, and when refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sealagent.callers.peer import Caller
from sealagent.records.ledger import Entry
from sealagent.signing.recording import Recorder

__all__ = ["Act", "administered"]


class Act:
    """An administrative operation under way.

    ``facts`` is what its entries say; the block may add to it.
    """

    def __init__(self, recorder: Recorder, caller: Caller, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.begun = False
        self.intent: Entry | None = None
        self._recorder = recorder
        self._caller = caller

    async def begin(self) -> None:
        """Record the intent, durably; call it right before the device or the store is asked to change.

        :raises SealAgentError: ``record_failed``: nothing may be changed.
        """
        self.begun = True  # should this be cancelled, the recorder gives the intent its outcome
        self.intent = await self._recorder.intent(self._caller, self.facts)


@asynccontextmanager
async def administered(recorder: Recorder, caller: Caller, operation: str, **facts: Any) -> AsyncIterator[Act]:
    """Put an administrative operation on record.

    A block that raises before it begins is ``refused``. Once it has begun there is an intent, and for it ``admin`` when
    the block ends well, ``failed`` when it raises, and ``failed`` (``interrupted``) after the next start when the agent
    ended meanwhile.

    :raises SealAgentError: ``record_failed``, and whatever the block raises.
    """
    act = Act(recorder, caller, {"operation": operation, **facts})
    try:
        yield act
    except (Exception, asyncio.CancelledError) as error:
        if not act.begun:
            await recorder.refused(caller, act.facts, error)
        elif act.intent is not None:
            await recorder.failed(act.intent, error)
        raise
    await recorder.done(caller, act.intent, act.facts)
