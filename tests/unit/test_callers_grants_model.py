"""The life of grants against a simple model: whatever is done in whatever order, book, file and model agree."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sealagent.callers import grants as module
from sealagent.callers.grants import GrantBook
from sealagent.callers.model import Effect, Grant, Paired
from sealagent.callers.peer import Caller
from sealagent.callers.store import CallersStore
from sealagent.errors import SealAgentError
from sealagent.uses import Operation, Use

START = datetime(2026, 11, 28, tzinfo=UTC)
APPLICATIONS = ("app-1", "app-2")
TOKENS = ("pkcs11:serial=1", "pkcs11:serial=2")
SEALS = ("seal-1", "seal-2")
LIMIT = 8


def caller(grantee: str) -> Caller:
    if grantee.startswith("process:"):
        return Caller(1, 1, int(grantee.split(":")[1]), "/bin/a", 7)
    return Caller(1, 1, 99, "/bin/a", 7, application=Paired(grantee, grantee))


class Grants(RuleBasedStateMachine):
    """The model is a dict of grants, and says of each whether it counts by going through all of them."""

    @initialize()
    def begin(self) -> None:
        self.monkeypatch = pytest.MonkeyPatch()
        self.monkeypatch.setattr(module, "MAX_GRANTS", LIMIT)
        self.folder = Path(tempfile.mkdtemp(prefix="grants"))
        self.now = START
        self.sessions = dict.fromkeys(TOKENS, 1)
        self.model: dict[str, Grant] = {}
        self.made = 0
        self.open()

    def open(self) -> None:
        self.store = CallersStore(self.folder / "callers.sqlite")
        self.book = GrantBook(self.store, lambda: self.now)
        self.book.follow_sessions(self.sessions.__getitem__)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.monkeypatch.undo()
            shutil.rmtree(self.folder)

    def outcome(self, action: Any, *arguments: Any) -> str:
        try:
            action(*arguments)
        except SealAgentError as error:
            return error.code
        return "done"

    def lasts(self, grant: Grant) -> bool:
        return grant.session is None or self.sessions[grant.session[0]] == grant.session[1]

    def over(self, grant: Grant) -> bool:
        return grant.remaining == 0 or (grant.expires is not None and self.now >= grant.expires)

    def counts(self, grant: Grant) -> bool:
        """Whether it counts at this moment, apart from how much is left."""
        begun = grant.not_before is None or self.now >= grant.not_before
        after = grant.effect is Effect.DENY or (grant.created is not None and self.now >= grant.created)
        return begun and after and self.lasts(grant) and (grant.expires is None or self.now < grant.expires)

    @rule(
        grantee=st.sampled_from([*APPLICATIONS, "process:7:7"]),
        deny=st.booleans(),
        seal=st.none() | st.sampled_from(SEALS),
        remaining=st.none() | st.integers(1, 3),
        session=st.none() | st.tuples(st.sampled_from(TOKENS), st.sampled_from([-1, 0])),
        begins=st.none() | st.integers(0, 20),
        ends=st.none() | st.integers(21, 60),
    )
    def add(
        self,
        grantee: str,
        deny: bool,
        seal: str | None,
        remaining: int | None,
        session: tuple[str, int] | None,
        begins: int | None,
        ends: int | None,
    ) -> None:
        self.made += 1
        bound = (session[0], self.sessions[session[0]] + session[1]) if session else None
        grant = Grant(
            f"g{self.made:03}",
            grantee,
            Effect.DENY if deny else Effect.ALLOW,
            Operation.DOCUMENT,
            seal=seal,
            remaining=remaining,
            session=bound,
            not_before=None if begins is None else self.now + timedelta(minutes=begins),
            expires=None if ends is None else self.now + timedelta(minutes=ends),
            created=self.now,
        )
        sound = not (deny and (remaining or bound)) and not (grantee.startswith("process:") and bound is None)
        if not sound:
            expected = "grant_invalid"
        elif not self.lasts(grant):
            expected = "grant_ended"
        elif len(self.model) >= LIMIT and not any(map(self.over, self.model.values())):
            expected = "too_many_grants"
        else:
            expected = "done"
            if len(self.model) >= LIMIT:
                self.model = {name: each for name, each in self.model.items() if not self.over(each)}
            self.model[grant.id] = grant
        assert self.outcome(self.book.add, grant) == expected

    @rule(number=st.integers(1, 30), count=st.integers(1, 3))
    def spend(self, number: int, count: int) -> None:
        name = f"g{number:03}"
        grant = self.model.get(name)
        if grant is None or grant.effect is Effect.DENY or not self.counts(grant):
            expected = "grant_ended"
        elif grant.remaining is not None and grant.remaining < count:
            expected = "grant_spent"
        else:
            expected = "done"
            if grant.remaining is not None:
                self.model[name] = replace(grant, remaining=grant.remaining - count)
        assert self.outcome(self.book.spend, name, self.now, count) == expected

    @rule(number=st.integers(1, 30))
    def revoke(self, number: int) -> None:
        name = f"g{number:03}"
        assert self.outcome(self.book.revoke, name) == ("done" if name in self.model else "grant_not_found")
        self.model.pop(name, None)

    @rule(grantee=st.sampled_from(APPLICATIONS))
    def end_application(self, grantee: str) -> None:
        self.book.end_grantee(grantee)
        self.model = {name: each for name, each in self.model.items() if each.grantee != grantee}

    @rule(minutes=st.integers(-5, 25))
    def move_the_clock(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(token=st.sampled_from(TOKENS), told=st.booleans())
    def end_session(self, token: str, told: bool) -> None:
        """The number rises first; the book may be told a little later."""
        self.sessions[token] += 1
        if told:
            self.book.end_session(token)
            self.model = {
                name: each for name, each in self.model.items() if each.session is None or each.session[0] != token
            }

    @precondition(lambda self: self.made > 0)
    @rule(killed=st.booleans())
    def restart(self, killed: bool) -> None:
        if killed:  # what a process that dies leaves behind
            left = self.folder / "left"
            left.mkdir()
            for name in ("callers.sqlite", "callers.sqlite-wal"):
                shutil.copy(self.folder / name, left / name)
            self.store.close()
            for name in ("callers.sqlite", "callers.sqlite-wal"):
                (left / name).replace(self.folder / name)
            left.rmdir()
        else:
            self.store.close()
        self.model = {name: each for name, each in self.model.items() if each.session is None}
        self.open()

    @invariant()
    def all_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        assert {each.id: each for each in self.book.list()} == self.model
        kept = {name: each for name, each in self.model.items() if each.session is None}
        assert {each.id: each for each in self.store.grants()} == kept
        for grantee in (*APPLICATIONS, "process:7:7"):
            for seal in SEALS:
                for count in (1, 3):
                    use = Use(Operation.DOCUMENT, "key", TOKENS[0], seal=seal, format="ofd", count=count)
                    expected = {
                        each.id
                        for each in self.model.values()
                        if each.grantee == grantee
                        and each.seal in (None, seal)
                        and (each.session is None or each.session[0] == TOKENS[0])
                        and (each.remaining is None or each.remaining >= count)
                        and self.counts(each)
                    }
                    assert {each.id for each in self.book.matching(caller(grantee), use, self.now)} == expected


Grants.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestGrants = Grants.TestCase
