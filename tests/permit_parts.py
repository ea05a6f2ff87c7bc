"""What tests of permits share: a grant book, an authorizer that decides by it alone, and a guard before some tokens."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sealagent.callers.grants import GrantBook
from sealagent.callers.model import Decision, Effect, Grant, Paired
from sealagent.callers.peer import Caller
from sealagent.callers.store import CallersStore
from sealagent.consent.prompter import Consent, ConsentRequest, Occasion
from sealagent.records.ledger import Ledger
from sealagent.signing.authorize import Authorizer
from sealagent.signing.guard import Guard
from sealagent.signing.recording import Recorder
from sealagent.signing.unlock import Unlocked
from sealagent.uses import Operation, Use
from sealdrivers.contract import TokenInfo

CALLER = Caller(1000, 1000, 4242, "/usr/bin/wps", 7, application=Paired("app1", "办公软件"))
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


@dataclass
class Holder:
    """Stands for unlocking: the holder answers what is set here."""

    answers: Consent | None = Consent.ONCE
    by: Any = "pin"
    number: int = 1
    asked: list[tuple[bool, bool]] = field(default_factory=list)
    """Whether the holder was asked, and whether a session was offered."""

    listed: list[ConsentRequest] = field(default_factory=list)
    """The lists that were shown."""

    async def confirm(self, request: ConsentRequest) -> Consent:
        self.listed.append(request)
        return self.answers or Consent.NO

    def session(self, token_uri: str) -> int:
        return self.number

    @asynccontextmanager
    async def unlocked(
        self, token: TokenInfo | None, occasion: Occasion, *, ask: bool = False, offer_session: bool = False
    ) -> AsyncIterator[Unlocked]:
        self.asked.append((ask, offer_session))
        yield Unlocked(self.by, self.answers if ask else None, self.number)


@dataclass
class Scene:
    """An authorizer and a guard over a real grant book."""

    book: GrantBook
    holder: Holder
    authorizer: Authorizer
    guard: Guard
    ledger: Ledger
    default: Effect = Effect.ASK
    per_day: int | None = None
    """A rule with this daily limit allows everything."""
    now: datetime = NOON

    def decide(self, caller: Caller, use: Use, now: datetime) -> Decision:
        """Decide by grants, a counted rule or the default."""
        matching = self.book.matching(caller, use, now)
        for grant in sorted(matching, key=lambda each: each.effect is not Effect.DENY):
            return Decision(grant.effect, "grant", grant.id, "a grant")
        if self.per_day is not None:
            return Decision(Effect.ALLOW, "rule", "daily", "a rule", per_day=self.per_day)
        return Decision(self.default, "default", use.operation.value, "the default")

    def grant(self, effect: Any = Effect.ALLOW, **terms: Any) -> Grant:
        """Give the caller a grant for raw signatures."""
        made = Grant("g1", "app1", effect, Operation.RAW, created=NOON - timedelta(days=1))
        return self.book.add(replace(made, **terms))


@contextlib.contextmanager
def scene(directory: Path, tokens: Any, **settings: Any) -> Iterator[Scene]:
    """Open a scene whose guard stands before ``tokens``."""
    with (
        contextlib.closing(CallersStore(directory / "callers.sqlite")) as store,
        Ledger.open(directory / "record.sqlite", lambda: NOON) as ledger,
    ):
        holder = Holder()
        place: Scene

        def decide(caller: Caller, use: Use, now: datetime) -> Decision:
            return place.decide(caller, use, now)

        def clock() -> datetime:
            return place.now

        book = GrantBook(store, clock)
        book.follow_sessions(holder.session)
        unlocker: Any = holder
        authorizer = Authorizer(decide, book, unlocker, Recorder(ledger), clock)
        place = Scene(book, holder, authorizer, Guard(tokens, authorizer, book, clock), ledger, **settings)
        yield place
