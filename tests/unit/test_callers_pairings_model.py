"""The life of pairings against a simple model: begin, ask, agree, expire, change, rename, revoke, restart."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sealagent.callers.grants import GrantBook
from sealagent.callers.model import Effect, Grant, Paired
from sealagent.callers.pairings import MAX_OPEN, OPEN_FOR, Offer, Pairings
from sealagent.callers.peer import Caller
from sealagent.callers.store import CallersStore
from sealagent.errors import SealAgentError
from sealagent.uses import Operation

START = datetime(2026, 11, 28, tzinfo=UTC)
DAYS = 2
PROGRAMS = ("/usr/bin/a", "/usr/bin/b")
DIGESTS = ("aa" * 32, "bb" * 32)
NAMES = ("编辑器", "viewer", "VIEWER")

callers = st.builds(
    lambda process, program, digest, origin: Caller(
        1000, 1000, os.getpid(), PROGRAMS[program], process, sha256=DIGESTS[digest], origin=origin
    ),
    st.integers(1, 6),
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from([None, None, "https://a.example"]),
)


@dataclass
class Waiting:
    offer: Offer
    caller: Caller
    name: str
    asking: bool = False


@dataclass
class Known:
    id: str
    name: str
    token: str
    program: str
    sha256: str
    origin: str | None
    until: datetime
    revoked: bool = False


class PairingLife(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pairings"))
        self.now = START
        self.waiting: list[Waiting] = []
        self.over: list[Waiting] = []
        self.known: list[Known] = []
        self.open()

    def open(self) -> None:
        self.store = CallersStore(self.folder / "callers.sqlite")
        self.book = GrantBook(self.store, lambda: self.now)
        self.pairings = Pairings(self.store, self.book, lambda: self.now, days=lambda: DAYS)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    def outcome(self, action: Any, *arguments: Any) -> Any:
        """Return the code of the error, or what was returned."""
        try:
            return action(*arguments)
        except SealAgentError as error:
            return error.code

    def active(self, known: Known) -> bool:
        return not known.revoked and self.now < known.until

    def taken(self, name: str, but: str | None = None) -> bool:
        return any(
            self.active(each) and each.id != but and each.name.casefold() == name.casefold() for each in self.known
        )

    def end(self, waiting: Waiting) -> None:
        self.waiting.remove(waiting)
        self.over.append(waiting)

    # Pairing

    @rule(caller=callers, name=st.sampled_from(NAMES))
    def start(self, caller: Caller, name: str) -> None:
        done = self.outcome(self.pairings.start, caller, name)
        if self.taken(name):
            assert done == "application_name_taken"
            return
        for each in [each for each in self.waiting if self.now >= each.offer.expires and not each.asking]:
            self.end(each)
        mine = [
            each
            for each in self.waiting
            if (each.caller.process, each.caller.origin) == (caller.process, caller.origin)
        ]
        if any(each.asking for each in mine):
            assert done == "too_many_pairings"
            return
        for each in mine:
            self.end(each)
        if len(self.waiting) >= MAX_OPEN:
            assert done == "too_many_pairings"
            return
        assert isinstance(done, Offer)
        assert done.expires == self.now + OPEN_FOR
        assert done.code not in {each.offer.code for each in self.waiting}
        self.waiting.append(Waiting(done, caller, name))

    @rule(pick=st.integers(0, 9), right=st.booleans(), same=st.booleans())
    def ask(self, pick: int, right: bool, same: bool) -> None:
        choices = self.waiting + self.over[-3:]
        if not choices:
            return
        chosen = choices[pick % len(choices)]
        caller = chosen.caller if same else replace(chosen.caller, started=77)
        done = self.outcome(self.pairings.ask, chosen.offer.id, chosen.offer.secret if right else "wrong", caller)
        if chosen not in self.waiting or not same:
            assert done == "pairing_not_found"
        elif self.now >= chosen.offer.expires:
            assert done == "pairing_not_found"
            self.end(chosen)
        elif not right:
            assert done == "pairing_secret_wrong"
            self.end(chosen)
        elif chosen.asking:
            assert done == "pairing_not_found"
        else:
            assert (done.name, done.code) == (chosen.name, chosen.offer.code)
            chosen.asking = True

    @rule(pick=st.integers(0, 9))
    def refuse(self, pick: int) -> None:
        asked = [each for each in self.waiting if each.asking]
        if asked:
            self.pairings.abandon(asked[pick % len(asked)].offer.id)
            self.end(asked[pick % len(asked)])

    @rule(pick=st.integers(0, 9), changed=st.booleans())
    def agree(self, pick: int, changed: bool) -> None:
        choices = self.waiting + self.over[-3:]
        if not choices:
            return
        chosen = choices[pick % len(choices)]
        caller = replace(chosen.caller, sha256="ff" * 32) if changed else chosen.caller
        done = self.outcome(self.pairings.finish, chosen.offer.id, caller)
        if chosen not in self.waiting:
            assert done == "pairing_not_found"
            return
        self.end(chosen)
        if not chosen.asking or self.now >= chosen.offer.expires:
            assert done == "pairing_not_found"
        elif changed:
            assert done == "program_changed"
        elif self.taken(chosen.name):
            assert done == "application_name_taken"
        else:
            application, token = done
            until = self.now + timedelta(days=DAYS)
            self.known.append(Known(application.id, chosen.name, token, *_program(caller), caller.origin, until))
            self.book.add(Grant(application.id, application.id, Effect.ALLOW, Operation.DOCUMENT, created=self.now))

    @rule(caller=callers, name=st.sampled_from(NAMES))
    def pair(self, caller: Caller, name: str) -> None:
        """All of it at once, so that there is something to identify, change and revoke."""
        before = len(self.waiting)
        self.start(caller, name)
        if len(self.waiting) > before or (self.waiting and self.waiting[-1].caller == caller):
            self.ask(len(self.waiting) - 1, True, True)
            self.agree(len(self.waiting) - 1, False)

    @rule(pick=st.integers(0, 9))
    def identify_itself(self, pick: int) -> None:
        if self.known:
            chosen = self.known[pick % len(self.known)]
            self.identify(
                pick, Caller(1000, 1000, os.getpid(), chosen.program, 9, sha256=chosen.sha256, origin=chosen.origin)
            )

    # Afterwards

    @rule(pick=st.integers(0, 9), caller=callers)
    def identify(self, pick: int, caller: Caller) -> None:
        assert self.outcome(self.pairings.identify, caller, "A" * 43) == "token_invalid"
        if not self.known:
            return
        chosen = self.known[pick % len(self.known)]
        done = self.outcome(self.pairings.identify, caller, chosen.token)
        if chosen.revoked:
            assert done == "pairing_revoked"
        elif not self.active(chosen):
            assert done == "pairing_expired"
        elif (caller.executable, caller.origin) != (chosen.program, chosen.origin):
            assert done == "token_misused"
        elif caller.sha256 != chosen.sha256:
            assert done == "program_changed"
        else:
            assert done == Paired(chosen.id, chosen.name)

    @rule(pick=st.integers(0, 9), digest=st.sampled_from(DIGESTS))
    def accept(self, pick: int, digest: str) -> None:
        if self.known:
            chosen = self.known[pick % len(self.known)]
            done = self.outcome(self.pairings.accept_program, chosen.id, digest)
            if self.active(chosen):
                chosen.sha256 = digest
            else:
                assert done == "application_not_found"

    @rule(pick=st.integers(0, 9), name=st.sampled_from(NAMES))
    def rename(self, pick: int, name: str) -> None:
        if self.known:
            chosen = self.known[pick % len(self.known)]
            done = self.outcome(self.pairings.rename, chosen.id, name)
            if not self.active(chosen):
                assert done == "application_not_found"
            elif self.taken(name, chosen.id):
                assert done == "application_name_taken"
            else:
                chosen.name = done.name
                assert done.name == name

    @rule(pick=st.integers(0, 9))
    def revoke(self, pick: int) -> None:
        if self.known:
            chosen = self.known[pick % len(self.known)]
            self.pairings.revoke(chosen.id)
            chosen.revoked = True

    @rule(minutes=st.sampled_from([0, 1, 4, 5, 60, 24 * 60]))
    def move_the_clock(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.over += self.waiting
        self.waiting = []
        self.open()

    @invariant()
    def all_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        held = {each.id: each for each in self.pairings.list()}
        assert set(held) == {each.id for each in self.known}
        for each in self.known:
            application = held[each.id]
            assert (application.name, application.executable, application.sha256, application.origin) == (
                each.name,
                each.program,
                each.sha256,
                each.origin,
            )
            assert (application.state(self.now) == "active") is self.active(each)
            # A grant lasts as long as it is not revoked with the application.
            assert bool(self.book.list(each.id)) is not each.revoked
        assert {each.id: replace(each, last_used=None) for each in self.store.applications()} == {
            name: replace(each, last_used=None) for name, each in held.items()
        }
        names = [each.name.casefold() for each in self.known if self.active(each)]
        assert len(names) == len(set(names))
        assert len(self.pairings._open) <= MAX_OPEN


def _program(caller: Caller) -> tuple[str, str]:
    assert caller.executable is not None
    assert caller.sha256 is not None
    return caller.executable, caller.sha256


PairingLife.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPairings = PairingLife.TestCase
