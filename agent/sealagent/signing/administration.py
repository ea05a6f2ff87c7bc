"""What changes a token or the store without signing: on record before and after, and when refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from sealagent.callers.peer import Caller
from sealagent.consent.prompter import Occasion
from sealagent.records.ledger import Entry
from sealagent.signing.authorize import Authorizer
from sealagent.signing.guard import Guard
from sealagent.signing.recording import Recorder
from sealagent.uses import Operation, Use
from sealdrivers.contract import TokenInfo

__all__ = ["Act", "Management", "administered"]


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


class Management:
    """Changes to tokens: allowed like every other use, agreed to by the holder, on record.

    :param guard: charges what allows a change, right before it is made.
    """

    def __init__(self, authorizer: Authorizer, guard: Guard, recorder: Recorder) -> None:
        self._authorizer = authorizer
        self._guard = guard
        self._recorder = recorder

    @asynccontextmanager
    async def change(
        self,
        caller: Caller,
        token: TokenInfo,
        operation: str,
        facts: Mapping[str, Any],
        *,
        shown: Occasion,
        key: str | None = None,
    ) -> AsyncIterator[Act]:
        """Run a block that changes a token, once its intent is durable.

        :param facts: what the record says of it. :param key: URI of the key concerned.
        :param shown: what the holder is told beside caller and operation.
        :raises SealAgentError: ``use_denied``, ``consent_refused``, ``record_failed``, what unlocking raises and
            whatever the block does.
        """
        use = Use(Operation.MANAGE, key or token.uri, token.uri)
        occasion = replace(shown, caller=caller, operation=Operation.MANAGE, act=operation)
        async with administered(self._recorder, caller, operation, **facts) as act:
            permit = self._authorizer.permit(caller, use)
            async with self._authorizer.unlocked(permit, token, occasion):
                act.facts["authorization"] = permit.facts()
                await act.begin()
                await self._guard.pass_through(permit, use.key)
                yield act
