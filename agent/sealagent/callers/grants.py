"""The grant book: what the holder allowed applications, or forbade them, and how much of it is left.

Kept in memory and matched there; what must outlive a restart is in the store before a call returns. Grants of a token's
session are in memory only. Methods that change something may block on the disk and are safe in any thread; matching
takes microseconds and never waits for the disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime

from sealagent.callers.model import DailyHours, Effect, Grant
from sealagent.callers.peer import Caller
from sealagent.callers.store import CallersStore, Statement, drop_grant, put_grant
from sealagent.clock import Clock
from sealagent.errors import FormatError, SealAgentError
from sealagent.uses import Operation, Use

__all__ = ["MAX_GRANTS", "PROCESS", "GrantBook", "grantees", "is_over", "mismatch", "require_sound", "within"]

MAX_GRANTS = 10_000
"""Grants at once. A person has tens; whoever makes more has a program that asks without end."""
MAX_COUNT = 1_000_000_000
"""Signatures that one grant may count."""
PROCESS = "process:"
"""How the grantee of an unpaired process begins."""

_Bucket = tuple[str, Operation, str | None, str | None]
"""Grantee, operation, seal and key of grants that are looked at together."""

_LAST = datetime.max.replace(tzinfo=UTC)


def grantees(caller: Caller) -> tuple[str, ...]:
    """Return whose grants a caller may use: its paired application's, and those of its process.

    A process that acts for web origins acts for many; one whose start is not known may be another's by now.
    """
    paired = (caller.application.id,) if caller.application else ()
    process = (caller.process,) if caller.origin is None and caller.started is not None else ()
    return (*paired, *process)


def within(hours: DailyHours, now: datetime) -> bool:
    """Say whether a moment is within hours of the day, local time of the machine; the end is outside."""
    local = now.astimezone().time()
    if hours.start <= hours.end:
        return hours.start <= local < hours.end
    return local >= hours.start or local < hours.end


def mismatch(grant: Grant, use: Use, now: datetime) -> str | None:
    """Say why a grant of the caller's has nothing to say about a use now; None: it has.

    Whether the session of a session grant still lasts is known to the book alone.
    """
    if grant.operation is not use.operation:
        return f"it is for {grant.operation.value}"
    if grant.seal is not None and grant.seal != use.seal:
        return "it is for another seal"
    if grant.key is not None and grant.key not in (use.key, use.token):
        return "it is for another key"
    unknown = use.format is None and grant.effect is Effect.DENY  # what cannot be looked into escapes no prohibition
    if grant.formats and use.format not in grant.formats and not unknown:
        return f"it is for {', '.join(grant.formats)} only"
    if grant.session is not None and grant.session[0] != use.token:
        return "it is for a session of another token"
    if (why := _not_now(grant, now)) is not None:
        return why
    if grant.remaining is not None and grant.remaining < use.count:
        return f"{grant.remaining} signatures are left of it"
    return None


def _not_now(grant: Grant, now: datetime) -> str | None:
    if grant.expires is not None and now >= grant.expires:
        return "it has expired"
    if grant.not_before is not None and now < grant.not_before:
        return "it does not count yet"
    if grant.effect is Effect.ALLOW and grant.created is not None and now < grant.created:
        return "it was given later than now: the clock was set back"
    if grant.hours is not None and not within(grant.hours, now):
        return "it is outside its hours"
    return None


class GrantBook:
    """All grants.

    :raises SealAgentError: ``callers_damaged``.
    """

    def __init__(self, store: CallersStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._writing = threading.Lock()
        """Held by one change at a time, also while it waits for the disk."""
        self._memory = threading.Lock()
        """Held while the two below are read or changed; never while waiting for the disk."""
        self._grants: dict[str, Grant] = {}
        self._buckets: dict[_Bucket, dict[str, Grant]] = {}
        self._session: Callable[[str], int] | None = None
        for grant in store.grants():
            self._keep(grant)

    def follow_sessions(self, current: Callable[[str], int]) -> None:
        """Take session grants only in the session that lasts.

        :param current: gives the number of a token's session now (by the token's URI).
        """
        self._session = current

    # Matching

    def matching(self, caller: Caller, use: Use, now: datetime) -> list[Grant]:
        """Return the grants that say something about a use, prohibitions too; what costs nothing comes first."""
        found = [
            grant
            for grant in self._candidates(caller, use)
            if mismatch(grant, use, now) is None and self._session_lasts(grant)
        ]
        found.sort(key=lambda grant: (grant.remaining is not None, grant.expires or _LAST, grant.id))
        return found

    def considered(self, caller: Caller) -> list[Grant]:
        """Return every grant of a caller, for explaining; session grants whose session has ended are none."""
        names = grantees(caller)
        return [grant for grant in self.list() if grant.grantee in names and self._session_lasts(grant)]

    def _candidates(self, caller: Caller, use: Use) -> list[Grant]:
        seals = (use.seal, None) if use.seal is not None else (None,)
        keys = dict.fromkeys((use.key, use.token, None))
        found: list[Grant] = []
        with self._memory:
            for grantee in grantees(caller):
                for seal in seals:
                    for key in keys:
                        if bucket := self._buckets.get((grantee, use.operation, seal, key)):
                            found.extend(bucket.values())
        return found

    def _session_lasts(self, grant: Grant) -> bool:
        return grant.session is None or self._session is None or self._session(grant.session[0]) == grant.session[1]

    def list(self, application: str | None = None) -> list[Grant]:
        """Return the grants there are, spent and expired ones too, oldest first.

        :param application: only those of this grantee.
        """
        with self._memory:
            held = [each for each in self._grants.values() if application is None or each.grantee == application]
        return sorted(held, key=lambda grant: (grant.created or _LAST, grant.id))

    def get(self, grant_id: str) -> Grant:
        """Return a grant. :raises SealAgentError: ``grant_not_found``."""
        with self._memory:
            grant = self._grants.get(grant_id)
        if grant is None:
            raise SealAgentError("grant_not_found", "there is no such grant")
        return grant

    # Changing

    def add(self, grant: Grant) -> Grant:
        """Take a grant in, durably unless it is one of a session; return it.

        :raises FormatError: ``grant_invalid``.
        :raises SealAgentError: ``too_many_grants``; ``grant_ended``: its session is over already; ``callers_failed``.
        """
        require_sound(grant)
        with self._writing:
            if grant.id in self._grants:
                raise FormatError("grant_invalid", "there is a grant with this id")
            if not self._session_lasts(grant):
                raise SealAgentError("grant_ended", "the token's session ended before the grant was given")
            removed = self._room()
            if grant.session is None:
                self._store.write([*map(drop_grant, removed), put_grant(grant)])
            elif removed:
                self._store.write(map(drop_grant, removed))
            self._forget(removed)
            self._keep(grant)
        if not self._session_lasts(grant):  # it ended while this was being written
            with suppress(SealAgentError):
                self.revoke(grant.id)
            raise SealAgentError("grant_ended", "the token's session ended before the grant was given")
        return grant

    def spend(self, grant_id: str, now: datetime, count: int = 1) -> None:
        """Take signatures off a grant, durably where they are counted.

        :raises SealAgentError: ``grant_spent``: fewer are left, none was taken; ``grant_ended``: it was revoked or its
            time or session is over; ``callers_failed``. Nothing may be signed on it then.
        """
        if count < 1:
            raise FormatError("grant_invalid", "at least one signature is spent")
        with self._writing:
            with self._memory:
                grant = self._grants.get(grant_id)
            if grant is None or grant.effect is not Effect.ALLOW or not self._session_lasts(grant):
                raise SealAgentError("grant_ended", "the grant was revoked, or its session is over")
            if (why := _not_now(grant, now)) is not None:
                raise SealAgentError("grant_ended", f"the grant does not count now: {why}")
            if grant.remaining is None:
                return
            if grant.remaining < count:
                raise SealAgentError(
                    "grant_spent", f"{grant.remaining} signatures are left of the grant", remaining=grant.remaining
                )
            left = replace(grant, remaining=grant.remaining - count)
            if grant.session is None:
                self._store.write([put_grant(left)], recount=False)
            with self._memory:
                if grant_id in self._grants:  # else its session ended just now
                    self._place(left)

    def revoke(self, grant_id: str) -> Grant:
        """Remove a grant, durably; return what it was. :raises SealAgentError: ``grant_not_found``, …"""
        with self._writing:
            grant = self.get(grant_id)
            if grant.session is None:
                self._store.write([drop_grant(grant_id)])
            self._forget([grant_id])
        return grant

    def end_grantee(self, grantee: str, also: Sequence[Statement] = ()) -> None:
        """Remove all grants of a grantee, durably and together with other changes of the store.

        :raises SealAgentError: ``callers_failed``; nothing was changed.
        """
        with self._writing:
            held = self.list(grantee)
            self._store.write([*also, *(drop_grant(grant.id) for grant in held if grant.session is None)])
            self._forget(grant.id for grant in held)

    def end_session(self, token_uri: str) -> None:
        """Remove the grants of a token's session. Never waits for the disk."""
        with self._memory:
            ended = [each.id for each in self._grants.values() if each.session and each.session[0] == token_uri]
        self._forget(ended)

    def count_rule(self, name: str, day: date, limit: int, count: int = 1) -> None:
        """Count signatures that a rule of the policy allows, durably.

        :raises SealAgentError: ``policy_limit_reached``: there would be more than ``limit`` on this day; none was
            counted; ``callers_failed``, ``callers_damaged``.
        """
        if not self._store.count_rule(name, day, limit, count):
            raise SealAgentError(
                "policy_limit_reached", f"the rule {name!r} allows {limit} signatures a day", rule=name, limit=limit
            )

    def rule_uses(self, name: str, day: date) -> int:
        """Return how many signatures a rule has allowed on a day. :raises SealAgentError: ``callers_failed``, …"""
        return self._store.rule_uses(name, day)

    # Memory

    def _room(self) -> tuple[str, ...]:
        """Return which grants go to make room: none, or all that are over.

        :raises SealAgentError: ``too_many_grants``.
        """
        if len(self._grants) < MAX_GRANTS:
            return ()
        now = self._clock()
        over = tuple(grant.id for grant in self.list() if is_over(grant, now))
        if not over:
            raise SealAgentError("too_many_grants", f"there are {MAX_GRANTS} grants; remove some", limit=MAX_GRANTS)
        return over

    def _keep(self, grant: Grant) -> None:
        with self._memory:
            self._place(grant)

    def _place(self, grant: Grant) -> None:
        self._grants[grant.id] = grant
        self._buckets.setdefault(_bucket(grant), {})[grant.id] = grant

    def _forget(self, grant_ids: Iterable[str]) -> None:
        with self._memory:
            for grant_id in grant_ids:
                if (grant := self._grants.pop(grant_id, None)) is not None:
                    bucket = self._buckets[_bucket(grant)]
                    del bucket[grant_id]
                    if not bucket:
                        del self._buckets[_bucket(grant)]


def is_over(grant: Grant, now: datetime) -> bool:
    """Say whether a grant can never count again: it is spent or has expired."""
    return grant.remaining == 0 or (grant.expires is not None and now >= grant.expires)


def _bucket(grant: Grant) -> _Bucket:
    return grant.grantee, grant.operation, grant.seal, grant.key


def require_sound(grant: Grant) -> None:
    """Refuse a grant that makes no sense. :raises FormatError: ``grant_invalid``."""
    wrong = None
    if grant.grantee.startswith(PROCESS) and (grant.session is None or ":None" in grant.grantee):
        wrong = "an unpaired process is granted nothing beyond a session of a token"
    elif grant.remaining is not None and not 1 <= grant.remaining <= MAX_COUNT:
        wrong = f"it counts 1 to {MAX_COUNT} signatures"
    elif grant.effect is Effect.DENY and (grant.remaining is not None or grant.session is not None):
        wrong = "a prohibition is not counted and is of no session"
    elif grant.not_before is not None and grant.expires is not None and grant.expires <= grant.not_before:
        wrong = "it would end before it begins"
    elif grant.hours is not None and grant.hours.start == grant.hours.end:
        wrong = "its hours are empty"
    elif any(each.tzinfo is None for each in (grant.not_before, grant.expires, grant.created) if each is not None):
        wrong = "its times have no time zone"
    if wrong is not None:
        raise FormatError("grant_invalid", wrong)
