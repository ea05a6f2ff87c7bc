"""The life of a seal: every change from every state, then at random, with closing, crashing and looking in between."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from register_parts import Clock, applied_body, made_body, register_at, said, sm3_of
from sealagent.errors import SealAgentError
from sealagent.maker.register import Register
from sealagent.maker.states import RULES, Asker, Change, allowed, check_change
from sealagent.seals.status import SealState

STATES = [state for state in SealState if state is not SealState.UNKNOWN]
ENDS = {SealState.CANCELLED, SealState.SUPERSEDED, SealState.INVALID}

# The table once more, as the Measures and the design have it: state, change, what it leads to.
LEGAL = {
    ("made", "filed"): "filed",
    ("filed", "delivered"): "valid",
    ("valid", "suspended"): "suspended",
    ("suspended", "resumed"): "valid",
    **{(state, "cancelled"): "cancelled" for state in ("made", "filed", "valid", "suspended", "lost")},
    **{(state, "superseded"): "superseded" for state in ("made", "filed", "valid", "suspended", "lost")},
    **{(state, "lost"): "lost" for state in ("filed", "valid", "suspended")},
    **{
        (state, "invalidated"): "invalid"
        for state in ("made", "filed", "valid", "suspended", "lost", "cancelled", "superseded")
    },
}


def reason_of(change: Change) -> str:
    return next(iter(RULES[change].reasons), "")


def asker_of(change: Change) -> Asker:
    return min(RULES[change].askers)


@pytest.mark.parametrize(("state", "change"), [*product(STATES, Change)])
def test_every_change_from_every_state(state: SealState, change: Change) -> None:
    leads_to = LEGAL.get((state, change))
    if leads_to is not None:
        assert check_change(state, change, reason_of(change), asker_of(change)) == leads_to
        assert change in allowed(state)
        return
    with pytest.raises(SealAgentError) as caught:
        check_change(state, change, reason_of(change), asker_of(change))
    assert caught.value.code == "register_transition_refused"
    assert caught.value.facts["state"] == state
    assert caught.value.facts["allowed"] == [name for name in Change if (state, name) in LEGAL]
    assert all(name in caught.value.message for name in caught.value.facts["allowed"])


def test_nothing_leads_back_from_an_end() -> None:
    """Cancellation is terminal (Art. 18): no way leads from it to a state in which the seal may be used."""
    for state in ENDS:
        assert set(allowed(state)) <= {Change.INVALIDATED}
    assert allowed(SealState.INVALID) == []
    assert SealState.VALID not in {LEGAL[state, change] for state, change in LEGAL if state == "lost"}


@pytest.mark.parametrize("change", [change for change in Change if change is not Change.MADE])
def test_reasons_and_askers(change: Change) -> None:
    chosen = RULES[change]
    state = min(chosen.sources)
    for reason in chosen.reasons or [""]:
        check_change(state, change, reason, asker_of(change))
    for reason in ("", "no_such") if chosen.reasons else ("owner_request",):
        with pytest.raises(SealAgentError) as caught:
            check_change(state, change, reason, asker_of(change))
        assert caught.value.code == "register_reason_invalid"
        assert caught.value.facts["reason_codes"] == list(chosen.reasons)
    for asker in set(Asker) - chosen.askers:
        with pytest.raises(SealAgentError) as caught:
            check_change(state, change, reason_of(change), asker)
        assert caught.value.code == "register_asker_invalid"


def test_the_reasons_of_the_measures() -> None:
    art_18 = {"rename", "dissolution", "revocation", "licence_withdrawn", "bankruptcy", "split", "merger"}
    assert set(RULES[Change.CANCELLED].reasons) == art_18
    assert RULES[Change.CANCELLED].askers == {Asker.OWNER, Asker.ISSUING_DEPARTMENT}
    assert {"expiry", "damaged_carrier", "lost_carrier", "key_compromise"} <= set(RULES[Change.SUPERSEDED].reasons)
    for chosen in RULES.values():
        for english, chinese in chosen.reasons.values():
            assert english.isascii()
            assert any("一" <= letter <= "鿿" for letter in chinese)


class Lives(RuleBasedStateMachine):
    """Seals in a register on disk, beside a model that is a dictionary."""

    seals = Bundle("seals")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="register"))
        self.clock = Clock()
        self.states: dict[str, list[str]] = {}
        self.runner = asyncio.Runner()
        self.old_index: Path | None = None

    def teardown(self) -> None:
        self.runner.close()
        shutil.rmtree(self.folder)

    def work(self, what: Any) -> Any:
        async def main() -> Any:
            async with register_at(self.folder / "state", self.clock) as register:
                return await what(register)

        return self.runner.run(main())

    @rule(target=seals)
    def make(self) -> str:
        return self._make("")

    @rule(target=seals, old=consumes(seals), reason=st.sampled_from(sorted(RULES[Change.SUPERSEDED].reasons)))
    def remake(self, old: str, reason: str) -> str:
        if (self.states[old][-1], "superseded") not in LEGAL:
            with pytest.raises(SealAgentError) as caught:
                self.work(lambda register: self._check_superseded(register, old, reason))
            assert caught.value.code == "register_transition_refused"
            return old
        made = self._make(old, reason)
        self.states[old].append("superseded")
        return made

    async def _check_superseded(self, register: Register, old: str, reason: str) -> None:
        register.check(register.seal(old), Change.SUPERSEDED, said(reason, Asker.OWNER))

    def _make(self, supersedes: str, reason: str = "") -> str:
        number = len(self.states) + 1

        async def make(register: Register) -> None:
            application = (await register.record(applied_body())).number
            old = register.seal(supersedes) if supersedes else None
            body = made_body(number, application, register.since(old), supersedes=supersedes, reason=reason)
            await register.record(body)

        self.work(make)
        self.states[sm3_of(number)] = ["made"]
        return sm3_of(number)

    @rule(
        seal=seals,
        change=st.sampled_from([change for change in Change if change not in (Change.MADE, Change.SUPERSEDED)]),
        data=st.data(),
    )
    def change(self, seal: str, change: Change, data: st.DataObject) -> None:
        reason = data.draw(st.sampled_from(sorted(RULES[change].reasons) or [""]))
        asker = data.draw(st.sampled_from(sorted(RULES[change].askers)))
        facts = {"filing": "F1"} if change is Change.FILED else {}

        async def apply(register: Register) -> str:
            return str((await register.change(seal, change, said(reason, asker), **facts)).state)

        leads_to = LEGAL.get((self.states[seal][-1], change))
        if leads_to is None:
            with pytest.raises(SealAgentError) as caught:
                self.work(apply)
            assert caught.value.code == "register_transition_refused"
            return
        assert self.work(apply) == leads_to
        self.states[seal].append(leads_to)

    @rule()
    def set_the_clock_back(self) -> None:
        self.clock.now -= self.clock.now - Clock().now

    @rule()
    def keep_a_copy_of_the_index(self) -> None:
        if (self.folder / "state" / "index.sqlite").exists():
            self.old_index = self.folder / "old.sqlite"
            shutil.copy(self.folder / "state" / "index.sqlite", self.old_index)

    @rule(lost=st.booleans())
    def crash_between_ledger_and_index(self, lost: bool) -> None:
        """What a crash leaves: an index that is older than the ledger, or none at all."""
        index = self.folder / "state" / "index.sqlite"
        for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
            (self.folder / "state" / name).unlink(missing_ok=True)
        if self.old_index is not None and not lost:
            shutil.copy(self.old_index, index)

    @invariant()
    def the_register_says_what_happened(self) -> None:
        async def look(register: Register) -> None:
            assert register.index_matches() is None
            histories = register.index.histories()
            assert {sm3: [str(each.state) for each in history] for sm3, history in histories.items()} == self.states
            for sm3, history in histories.items():
                assert list(history) == sorted(history, key=lambda each: each.since)
                row = register.index.seal(sm3)
                assert row is not None
                assert (row.state, row.changes) == (history[-1].state, len(history))
            assert register.ledger.verify().ok
            assert register.ledger.open_intents() == []

        self.work(look)


TestLives = Lives.TestCase
TestLives.settings = settings(deadline=None, max_examples=25, stateful_step_count=20)
