"""Whose window is open, against a simple model. The device is a scripted one; SoftHSM is in test_signing_unlock.py."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sealagent.consent.prompter import Consent, Occasion
from sealagent.signing.unlock import Unlocked
from sealagent.signing.windows import MAX_WINDOWS, Windows
from unlock_parts import ABSOLUTE, IDLE, RIGHT, TOKEN, URI, WRONG, Bench, caller, settle


class WindowMachine(RuleBasedStateMachine):
    """Callers open windows and use the token, time goes on and back, tokens are locked and pulled.

    The model: a window is (opened, used, uses going on), and all there is to a lock is that it forgets them all.
    """

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.bench = Bench()
        self.windows: dict[int, list[float]] = {}
        self.going: list[tuple[int, asyncio.Event, asyncio.Task[None]]] = []
        self.session = 0
        self.held = False
        self.prompts = 0

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for _, done, task in self.going:
                done.set()
                self.run(task)
            self.loop.close()

    def run(self, work):  # type: ignore[no-untyped-def]
        async def limited():  # type: ignore[no-untyped-def]
            return await asyncio.wait_for(work, 10)

        return self.loop.run_until_complete(limited())

    def is_open(self, who: int) -> bool:
        return who in self.windows

    def forget(self) -> None:
        self.windows.clear()
        self.session += 1

    def tick(self) -> None:
        for who, (opened, used, uses) in list(self.windows.items()):
            busy = uses > 0 or 0 <= self.bench.now - used < IDLE
            if not busy or not 0 <= self.bench.now - opened < ABSOLUTE:
                del self.windows[who]

    CALLERS = st.integers(0, 2)

    def _before_prompt(self) -> None:
        """A login that is good for nobody any more is over before anybody is asked."""
        if self.held and not self.windows:
            self.forget()
            self.held = False
        self.prompts += 1

    @precondition(lambda self: not self.going)
    @rule(who=CALLERS, answer=st.sampled_from(["right", "right", "wrong", "cancelled"]))
    def use(self, who: int, answer: str) -> None:
        self.use_token(who, answer)

    def use_token(self, who: int, answer: str) -> None:
        self.bench.holder.pin = RIGHT if answer == "right" else WRONG
        cancelling = asyncio.Event() if answer == "cancelled" else None
        self.bench.holder.hesitates = cancelling

        async def work() -> Unlocked | None:
            task = asyncio.create_task(self.bench.use(caller(who)))
            await settle()
            if cancelling is not None and not task.done():
                task.cancel()
            await asyncio.wait((task,))
            return None if task.cancelled() or task.exception() is not None else task.result()

        entered = self.run(work())
        self.bench.holder.hesitates = None
        if self.is_open(who):
            assert entered is not None
            assert entered.by == "window"
            assert entered.session == self.session
            self.windows[who][1] = self.bench.now
            return
        self._before_prompt()
        if answer == "right":
            assert entered is not None
            assert (entered.by, entered.consent) == ("pin", Consent.ONCE)
            assert entered.session == self.session
            self.held = True
            self.windows[who] = [self.bench.now, self.bench.now, 0]
            return
        assert entered is None
        if answer == "wrong" and self.held:
            self.forget()
            self.held = False

    @precondition(lambda self: not self.going)
    @rule(who=CALLERS)
    def use_rightly(self, who: int) -> None:
        self.use_token(who, "right")

    @precondition(lambda self: self.windows and len(self.going) < 4)
    @rule(data=st.data())
    def begin_use(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(self.windows)))
        done = asyncio.Event()

        async def work() -> None:
            async with self.bench.unlocker.unlocked(TOKEN, Occasion(caller(who))) as entered:
                assert entered.by == "window"
                await done.wait()

        async def start() -> asyncio.Task[None]:
            task = asyncio.ensure_future(work())
            await settle()
            return task

        self.going.append((who, done, self.run(start())))
        self.windows[who][2] += 1

    @precondition(lambda self: self.going)
    @rule(data=st.data())
    def end_use(self, data: st.DataObject) -> None:
        who, done, task = self.going.pop(data.draw(st.integers(0, len(self.going) - 1)))
        done.set()
        self.run(task)
        if who in self.windows and self.windows[who][2]:
            self.windows[who][2] -= 1
            self.windows[who][1] = self.bench.now

    @precondition(lambda self: self.going)
    @rule(who=CALLERS)
    def one_who_must_be_asked_waits_for_the_others(self, who: int) -> None:
        if self.is_open(who):
            return
        others = bool(self.windows)
        self.bench.holder.pin = RIGHT

        async def start() -> asyncio.Task[Unlocked]:
            task = asyncio.ensure_future(self.bench.use(caller(who)))
            await settle()
            return task

        waiting = self.run(start())
        assert not waiting.done()
        # With a token that is open for another the holder is asked at once; else when it is locked.
        assert len(self.bench.holder.asked) == self.prompts + (others or not self.held)
        while self.going:
            left, done, task = self.going.pop()
            done.set()
            self.run(task)
            if left in self.windows:
                self.windows[left][1:] = [self.bench.now, 0]
        assert self.run(waiting).by == "pin"
        self._before_prompt()
        self.held = True
        self.windows[who] = [self.bench.now, self.bench.now, 0]

    @rule(seconds=st.sampled_from([1.0, 4.0, IDLE - 0.5, IDLE, IDLE + 1, ABSOLUTE, -0.5, -3.0, -IDLE]))
    def time_goes_on_or_the_clock_is_set_back(self, seconds: float) -> None:
        self.bench.now += seconds
        self.tick()

    @rule()
    def sweep(self) -> None:
        self.run(self.bench.unlocker.lock_expired())
        if self.held and not self.windows and not self.going:
            self.forget()
            self.held = False

    @rule(how=st.sampled_from(["one", "all", "pulled"]))
    def lock(self, how: str) -> None:
        unlocker = self.bench.unlocker
        unlocker.session(URI)  # so that it knows of the token
        if how == "pulled":
            self.bench.device.logged = False
            unlocker.removed(URI)
        else:
            self.run(unlocker.lock(URI) if how == "one" else unlocker.lock_all())
        self.forget()
        self.held = False

    @invariant()
    def as_the_model_says(self) -> None:
        if not hasattr(self, "loop"):
            return
        assert self.bench.unlocker.is_unlocked(URI) == bool(self.windows)
        assert self.bench.unlocker.session(URI) == self.session == len(self.bench.ended)
        assert self.bench.device.logged == self.held
        assert len(self.bench.holder.asked) == self.prompts
        assert not any(any(buffer) for buffer in self.bench.holder.given)


TestWindowMachine = WindowMachine.TestCase
TestWindowMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


def test_windows_beyond_the_limit_end_the_oldest_first() -> None:
    windows = Windows(IDLE, ABSOLUTE)
    for number in range(MAX_WINDOWS + 2):
        windows.opened(str(number), number / 1000)
    assert not windows.is_open("0", 1.0)
    assert not windows.is_open("1", 1.0)
    assert windows.is_open("2", 1.0)
    assert windows.is_open(str(MAX_WINDOWS + 1), 1.0)


def test_a_clock_that_was_set_back_and_forth_opens_nothing_again() -> None:
    windows = Windows(IDLE, ABSOLUTE)
    windows.opened("a", 100.0)
    assert not windows.is_open("a", 99.0)
    assert not windows.is_open("a", 101.0)


def test_a_clock_that_was_set_back_behind_the_last_use_ends_the_window() -> None:
    windows = Windows(IDLE, ABSOLUTE)
    windows.opened("a", 100.0)
    windows.enter("a")
    windows.leave("a", 105.0)
    assert windows.is_open("a", 105.0)
    assert not windows.is_open("a", 104.0)


def test_a_window_in_use_is_not_idle_and_ends_with_its_time() -> None:
    windows = Windows(IDLE, ABSOLUTE)
    windows.opened("a", 100.0)
    windows.enter("a")
    assert windows.is_open("a", 100.0 + ABSOLUTE - 1)
    assert not windows.is_open("a", 100.0 + ABSOLUTE)
    windows.opened("b", 100.0)
    windows.enter("b")
    assert not windows.is_open("b", 99.0)
    windows.leave("a", 0.0)
    windows.leave("b", 0.0)
    assert windows.users == 0
