"""Whether a caller may do what it asks: policy and grants decide, the holder is asked where they say so.

A decision is made before anything is prepared, so that a caller who may not is told at once. What it rests on is looked
at again beside the driver call (:mod:`sealagent.signing.guard`): a grant may end, and a rule may come, while the holder
reads a prompt.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sealagent.callers.model import Decision, Effect, Grant
from sealagent.callers.peer import Caller
from sealagent.clock import Clock
from sealagent.consent.prompter import Consent, ConsentRequest, Occasion
from sealagent.errors import SealAgentError
from sealagent.signing.recording import Recorder
from sealagent.signing.unlock import Unlocked, Unlocker
from sealagent.uses import Operation, Use
from sealdrivers.contract import TokenInfo

__all__ = ["Approval", "Authorizer", "Decide", "Grants", "Permit"]

Decide = Callable[[Caller, Use, datetime], Decision]
"""Policy and grants together (:func:`sealagent.callers.decide.decide`)."""

_Alike = tuple[str, Operation, str, str | None]
"""Caller, operation, seal or key, and format."""

MAX_ASKED = 4096
"""Callers remembered for having been asked in this session of a token; beyond them the oldest are forgotten."""


class Grants(Protocol):
    """What is needed of the grant book (:class:`sealagent.callers.grants.GrantBook`)."""

    def add(self, grant: Grant) -> Grant: ...

    def spend(self, grant_id: str, now: datetime, count: int = 1) -> None: ...

    def count_rule(self, name: str, day: Any, limit: int) -> None: ...


class Approval(Protocol):
    """A list that the holder agreed to as a whole (a batch)."""

    @property
    def id(self) -> str: ...

    def covers(self, caller: Caller, item: bytes) -> bool:
        """Say whether an item may be signed now: it is on the list, the list was agreed to and has not ended.

        :param item: SHA-256 of a document as it came in, or the digest that is to be signed.
        """


@dataclass(slots=True)
class Permit:
    """Leave for one use, from the decision to the device. It is good for :attr:`Use.count` signatures."""

    caller: Caller
    use: Use
    decision: Decision
    offer_session: bool = False
    """Offer the holder to agree to all like it, when they are asked."""
    approval: Approval | None = None
    item: bytes | None = None
    """What the approval is asked about."""
    agreed: str | None = None
    """How the holder agreed: ``pin``, ``confirm``, ``session`` or ``batch``; None: not yet, or there was no need."""
    left: int = 0
    unpaid: bool = True
    """Whether the grant was not charged yet for the signature under way: a device that asks for a new login costs the
    caller nothing."""

    def __post_init__(self) -> None:
        self.left = self.use.count

    @property
    def ask(self) -> bool:
        """Whether the holder has yet to agree."""
        return self.decision.effect is Effect.ASK and self.agreed is None

    def used(self) -> None:
        """Take note that a signature was made, or may have been."""
        self.left -= 1
        self.unpaid = True

    def facts(self) -> dict[str, Any]:
        """Return what the record keeps of it."""
        batch = {"batch": self.approval.id} if self.approval is not None else {}
        return {"source": self.decision.source, "name": self.decision.name, "agreed": self.agreed, **batch}


class Authorizer:
    """Decides, and sees to it that the holder is asked.

    :param decide: policy and grants. :param offers: whether policy lets sessions be offered at the moment.
    """

    def __init__(
        self,
        decide: Decide,
        grants: Grants,
        unlocker: Unlocker,
        recorder: Recorder,
        clock: Clock,
        *,
        offers: Callable[[], bool] = lambda: True,
    ) -> None:
        self._decide = decide
        self._grants = grants
        self._unlocker = unlocker
        self._recorder = recorder
        self._clock = clock
        self._offers = offers
        self._asked: dict[_Alike, int] = {}
        """The session of the token in which the holder agreed to a use like it last."""

    def permit(
        self, caller: Caller, use: Use, *, approval: Approval | None = None, item: bytes | None = None
    ) -> Permit:
        """Decide about a use.

        :param approval: a list the holder agreed to; it stands for being asked, and for no more: what is denied
            stays so.
        :param item: what that list is asked about.
        :raises SealAgentError: ``use_denied``, ``policy_invalid``; ``batch_item_unknown``: the list does not cover it.
        """
        permit = Permit(caller, use, self.decided(caller, use), approval=approval, item=item)
        if approval is not None:
            require_covered(approval, caller, item)
            if permit.ask:
                permit.agreed = "batch"
        session = self._unlocker.session(use.token)
        permit.offer_session = permit.ask and self._offers() and self._asked.get(_alike(caller, use)) == session
        return permit

    def decided(self, caller: Caller, use: Use) -> Decision:
        """Return the decision, unless it is no. :raises SealAgentError: ``use_denied``, ``policy_invalid``."""
        decision = self._decide(caller, use, self._clock())
        if decision.effect is Effect.DENY:
            raise SealAgentError("use_denied", decision.why, decision=decision.as_json())
        return decision

    @asynccontextmanager
    async def unlocked(
        self, permit: Permit, token: TokenInfo, occasion: Occasion, *, asks_itself: bool = False
    ) -> AsyncIterator[Unlocked]:
        """Keep the token unlocked for a permit while the block runs; the holder has agreed when it begins.

        :param asks_itself: the key wants a PIN for each signature, whose prompt is the question.
        :raises SealAgentError: ``consent_refused``, ``consent_unavailable``, ``caller_gone``, and what
            :meth:`Unlocker.unlocked` raises. :raises DriverError: the device's.
        """
        if permit.ask and len(occasion.items) > 1:
            await self._agreed_to_list(permit, token, occasion)
        ask = permit.ask and not asks_itself
        async with self._unlocker.unlocked(token, occasion, ask=ask, offer_session=permit.offer_session) as unlocked:
            if ask:
                await self.agreed(permit, unlocked)
            yield unlocked

    async def _agreed_to_list(self, permit: Permit, token: TokenInfo, occasion: Occasion) -> None:
        """Have the holder see a whole list, for which a prompt for a PIN has no room."""
        request = ConsentRequest("batch", occasion, token.label, token.serial)
        consent = await self._unlocker.confirm(request)
        await self.agreed(permit, Unlocked("window", consent, self._unlocker.session(token.uri)))

    async def agreed(self, permit: Permit, unlocked: Unlocked) -> None:
        """Take note of what the holder answered. :raises SealAgentError: ``consent_refused``, ``record_failed``."""
        if unlocked.consent is None or unlocked.consent is Consent.NO:
            raise SealAgentError("consent_refused", "the holder did not agree")
        permit.agreed = "pin" if unlocked.by == "pin" else "confirm"
        alike = _alike(permit.caller, permit.use)
        if len(self._asked) >= MAX_ASKED:
            self._asked.pop(next(iter(self._asked)))
        self._asked[alike] = unlocked.session
        if unlocked.consent is Consent.SESSION and permit.offer_session:
            await self._grant_session(permit, unlocked.session)
            permit.agreed = "session"

    async def _grant_session(self, permit: Permit, session: int) -> None:
        use, caller = permit.use, permit.caller
        facts = {
            "operation": "grant",
            "grant": {
                "for": use.operation.value,
                "seal": use.seal,
                "key": use.key,
                "until": "the token is locked or pulled",
            },
        }
        entry = await self._recorder.done(caller, None, facts)
        self._grants.add(
            Grant(
                id=secrets.token_hex(8),
                grantee=_grantee(caller),
                effect=Effect.ALLOW,
                operation=use.operation,
                seal=use.seal,
                key=use.key,
                formats=(use.format,) if use.format else (),
                session=(use.token, session),
                created=self._clock(),
                record=entry.number,
            )
        )


def require_covered(approval: Approval, caller: Caller, item: bytes | None) -> None:
    """Have a list cover an item. :raises SealAgentError: ``batch_item_unknown``."""
    if item is None or not approval.covers(caller, item):
        raise SealAgentError("batch_item_unknown", f"the batch {approval.id} does not allow this item now")


def _grantee(caller: Caller) -> str:
    return caller.application.id if caller.application else caller.process


def _alike(caller: Caller, use: Use) -> _Alike:
    return _grantee(caller), use.operation, use.seal or use.key, use.format
