"""Whose window is open, against a simple model; and what a prompt, a lock and a consent do to each other.

The device here is a scripted one, so that each step can be held up; SoftHSM is in test_signing_unlock.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from line_parts import Holder
from sealagent.callers.model import Paired
from sealagent.callers.peer import Caller
from sealagent.consent.prompter import Consent, Occasion, PinRequest
from sealagent.consent.source import FilePinSource
from sealagent.errors import SealAgentError
from sealagent.events import Event
from sealagent.signing.unlock import Unlocked, Unlocker
from sealagent.signing.windows import MAX_WINDOWS, Windows
from sealdrivers.contract import PinState, TokenInfo
from sealdrivers.errors import LoginRequired, PinIncorrect, WorkerTimeout

URI = "pkcs11:token=scripted"
RIGHT, WRONG = "right-pin", "wrong-pin"
IDLE, ABSOLUTE = 10.0, 35.0
TOKEN = TokenInfo(URI, "Scripted", "1", "", "", "/none", "pkcs11", True, False, False, False, PinState())
FREE = replace(TOKEN, login_required=False)
ON_DEVICE = replace(TOKEN, protected_authentication_path=True)


def caller(number: int, *, started: int | None = 7, application: str | None = None) -> Caller:
    paired = Paired(application, "an application") if application else None
    return Caller(1000, 1000, 10_000 + number, "/usr/bin/test", started, application=paired)


@dataclass
class Device:
    """A token service with one token."""

    info: TokenInfo = TOKEN
    logged: bool = False
    logins: int = 0
    held_up: asyncio.Event | None = None
    """A login waits for it."""
    fails: int = 0
    """Log-outs that go wrong."""

    async def tokens(self) -> list[TokenInfo]:
        return [self.info]

    async def login(self, uri: str, pin: bytearray | None, *, confirmed_last_try: bool = False) -> None:
        assert not self.logged, "a login on top of another tells nothing of the PIN"
        self.logins += 1
        if self.held_up is not None:
            await self.held_up.wait()
        await asyncio.sleep(0)
        if pin is not None and bytes(pin) != RIGHT.encode():
            raise PinIncorrect("the PIN is wrong")
        self.logged = True

    async def logout(self, uri: str) -> None:
        await asyncio.sleep(0)
        self.logged = False
        if self.fails:
            self.fails -= 1
            raise WorkerTimeout("the module did not answer")

    def logged_in(self, uri: str) -> bool:
        return self.logged


@dataclass
class Bench:
    """An unlocker on the scripted device."""

    device: Device = field(default_factory=Device)
    holder: Holder = field(default_factory=lambda: Holder(RIGHT))
    idle: float = IDLE
    gone: Callable[[Caller], Awaitable[None]] | None = None
    now: float = 1_000_000.0
    ended: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.unlocker = Unlocker(
            self.device,
            self.holder,
            lambda: datetime.fromtimestamp(self.now, UTC),
            self.events.append,
            idle_seconds=self.idle,
            absolute_seconds=ABSOLUTE,
            ended=self.ended.append,
            gone=self.gone,
        )

    async def use(self, who: Caller | None, **asked: bool) -> Unlocked:
        async with self.unlocker.unlocked(self.device.info, Occasion(who), **asked) as entered:
            return entered

    @asynccontextmanager
    async def using(self, who: Caller | None) -> AsyncIterator[asyncio.Task[Unlocked]]:
        """Have somebody use the token for as long as the block runs."""
        done, inside = asyncio.Event(), asyncio.Event()

        async def work() -> Unlocked:
            async with self.unlocker.unlocked(self.device.info, Occasion(who)) as entered:
                inside.set()
                await done.wait()
                return entered

        task = asyncio.create_task(work())
        await inside.wait()
        yield task
        done.set()
        await task


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def scene(work: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 20))


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

    @rule(seconds=st.sampled_from([1.0, 4.0, IDLE - 0.5, IDLE, IDLE + 1, ABSOLUTE]))
    def time_goes_on(self, seconds: float) -> None:
        self.bench.now += seconds
        self.tick()

    @rule(seconds=st.sampled_from([0.5, 3.0, IDLE]))
    def the_clock_is_set_back(self, seconds: float) -> None:
        self.bench.now -= seconds
        self.tick()

    @rule()
    def sweep(self) -> None:
        self.run(self.bench.unlocker.lock_expired())
        if self.held and not self.windows and not self.going:
            self.forget()
            self.held = False

    @rule(everything=st.booleans())
    def lock(self, everything: bool) -> None:
        if everything and self.bench.unlocker.session(URI) == 0 and not self.prompts:
            return  # it knows of no token yet
        self.run(self.bench.unlocker.lock_all() if everything else self.bench.unlocker.lock(URI))
        self.forget()
        self.held = False

    @rule()
    def pull(self) -> None:
        self.bench.device.logged = False
        self.bench.unlocker.removed(URI)
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
TestWindowMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_windows_beyond_the_limit_end_the_oldest_first() -> None:
    windows = Windows(IDLE, ABSOLUTE)
    for number in range(MAX_WINDOWS + 2):
        windows.opened(str(number), number / 1000)
    assert not windows.is_open("0", 1.0)
    assert not windows.is_open("1", 1.0)
    assert windows.is_open("2", 1.0)
    assert windows.is_open(str(MAX_WINDOWS + 1), 1.0)


def test_an_applications_processes_share_its_window_and_others_do_not() -> None:
    async def work() -> None:
        bench = Bench()
        assert (await bench.use(caller(1, application="a"))).by == "pin"
        assert (await bench.use(caller(2, application="a"))).by == "window"
        assert (await bench.use(caller(2))).by == "pin"
        assert (await bench.use(caller(2, started=8))).by == "pin"  # a later process with the same number
        assert (await bench.use(None)).by == "pin"
        assert (await bench.use(None)).by == "window"
        assert (await bench.use(caller(1, application="a"))).by == "window"

    scene(work)


def test_a_process_that_cannot_be_told_from_a_later_one_is_asked_each_time() -> None:
    async def work() -> None:
        bench = Bench()
        for _ in range(2):
            assert (await bench.use(caller(1, started=None))).by == "pin"
        assert not bench.unlocker.is_unlocked(URI)
        await bench.unlocker.lock_expired()
        assert not bench.device.logged

    scene(work)


def test_many_requests_of_one_caller_are_asked_once_and_each_caller_is() -> None:
    async def work() -> None:
        bench = Bench()
        entered = await asyncio.gather(*(bench.use(caller(number % 3)) for number in range(30)))
        assert sorted(each.by for each in entered) == ["pin"] * 3 + ["window"] * 27
        assert [request.occasion.caller.pid % 10 for request in bench.holder.asked] == [0, 1, 2]

    scene(work)


def test_a_prompt_for_one_holds_up_nobody_else() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.use(caller(0))
        bench.holder.hesitates = asyncio.Event()
        waiting = asyncio.create_task(bench.use(caller(1)))
        await settle()
        assert len(bench.holder.asked) == 2
        assert (await bench.use(caller(0))).by == "window"
        waiting.cancel()
        await settle()
        assert (await bench.use(caller(0))).by == "window"
        assert bench.unlocker.session(URI) == 0
        assert bench.device.logins == 1

    scene(work)


def test_a_pin_is_checked_on_the_device_for_each_caller() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.use(caller(0))
        bench.holder.pin = WRONG
        async with bench.using(caller(0)):
            waiting = asyncio.create_task(bench.use(caller(1)))
            await settle()
            assert len(bench.holder.asked) == 2  # asked first, and only then it waits
            assert bench.device.logged
            late = asyncio.create_task(bench.use(caller(0)))
            await settle()
            assert not late.done()  # or the one who waits might wait for ever
            bench.holder.pin = RIGHT
        with pytest.raises(PinIncorrect):
            await waiting
        assert (await late).by == "pin"  # everything was locked
        assert bench.unlocker.session(URI) == 1
        assert bench.ended == [URI]
        assert bench.holder.asked[-1].previous_wrong

    scene(work)


def test_a_lock_that_overtakes_a_login_wins() -> None:
    async def work() -> None:
        for lock_all in (False, True):
            bench = Bench()
            bench.device.held_up = asyncio.Event()
            waiting = asyncio.create_task(bench.use(caller(0)))
            await settle()
            assert bench.device.logins == 1
            await (bench.unlocker.lock_all() if lock_all else bench.unlocker.lock(URI))
            bench.device.held_up.set()
            with pytest.raises(SealAgentError) as refused:
                await waiting
            assert refused.value.code == "locked_meanwhile"
            assert not bench.device.logged
            assert not bench.unlocker.is_unlocked(URI)

    scene(work)


def test_a_login_that_fails_otherwise_or_is_cancelled_locks_everybody_out_too() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.use(caller(0))
        bench.device.held_up = asyncio.Event()
        waiting = asyncio.create_task(bench.use(caller(1)))
        await settle()
        assert bench.device.logins == 2
        await bench.unlocker.lock_expired()  # nobody is logged in just now, and it is no time to look
        assert bench.unlocker.session(URI) == 0
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not bench.unlocker.is_unlocked(URI)
        assert bench.unlocker.session(URI) == 1
        bench.device.held_up = None
        await bench.use(caller(0))
        bench.device.fails = 1
        with pytest.raises(WorkerTimeout):
            await bench.use(caller(1))
        assert not bench.unlocker.is_unlocked(URI)

    scene(work)


def test_locking_everything_is_tried_again_where_it_failed() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.use(caller(0))
        bench.device.fails = 1
        with pytest.raises(WorkerTimeout):
            await bench.unlocker.lock_all()
        assert not bench.unlocker.is_unlocked(URI)
        await asyncio.wait_for(bench.unlocker.something_unlocked(), 1)  # still owed
        await bench.unlocker.lock_all()
        assert bench.events[-1] == Event("token_locked", {"token": URI})

    scene(work)


def test_a_block_within_another_asks_for_no_pin_and_waits_for_nobody() -> None:
    async def work() -> None:
        for idle in (0.0, IDLE):
            bench = Bench(idle=idle)
            async with bench.unlocker.unlocked(TOKEN, Occasion(caller(0))):
                waiting = asyncio.create_task(bench.use(caller(1)))
                await settle()
                inner = await bench.use(caller(0), ask=True)
                assert (inner.by, inner.consent) == ("window", Consent.ONCE)
                assert not waiting.done()
                await bench.unlocker.lock(URI)
                with pytest.raises(LoginRequired):
                    await bench.use(caller(0))
            # The other one's PIN had been typed before the lock where it was asked for at once.
            outcome = await asyncio.gather(waiting, return_exceptions=True)
            assert isinstance(outcome[0], SealAgentError if idle else Unlocked)

    scene(work)


# Consent


def test_a_pin_is_consent_and_a_window_is_not() -> None:
    async def work() -> None:
        bench = Bench()
        assert (await bench.use(caller(0), ask=True)) == Unlocked("pin", Consent.ONCE, 0)
        assert bench.holder.consents == []
        bench.holder.agrees = Consent.SESSION
        assert (await bench.use(caller(0), ask=True, offer_session=True)) == Unlocked("window", Consent.SESSION, 0)
        [question] = bench.holder.consents
        assert (question.question, question.offer_session, question.token_serial) == ("use", True, "1")
        bench.holder.agrees = Consent.NO
        with pytest.raises(SealAgentError) as refused:
            await bench.use(caller(0), ask=True)
        assert refused.value.code == "consent_refused"
        assert (await bench.use(caller(0))) == Unlocked("window", None, 0)  # a no costs nobody the window

    scene(work)


@pytest.mark.parametrize(("info", "by"), [(FREE, "none"), (ON_DEVICE, "device")])
def test_where_no_pin_is_typed_the_question_is_asked(info: TokenInfo, by: str) -> None:
    async def work() -> None:
        bench = Bench(Device(info))
        entered = await bench.use(caller(0), ask=True)
        assert (entered.by, entered.consent) == (by, Consent.ONCE)
        bench.holder.agrees = Consent.NO
        with pytest.raises(SealAgentError) as refused:
            await bench.use(caller(1), ask=True)
        assert refused.value.code == "consent_refused"
        assert bench.device.logins == (by == "device")
        assert bench.holder.asked == []
        await bench.unlocker.lock_all()
        assert bench.unlocker.session(URI) == 1  # a session agreed to ends with a token that needs no PIN, too

    scene(work)


def test_without_a_person_nothing_that_must_be_asked_reads_a_pin(tmp_path) -> None:  # type: ignore[no-untyped-def]
    async def work() -> None:
        path = tmp_path / "pin"
        path.touch(0o600)
        path.write_text(RIGHT)
        source = FilePinSource(path)
        for info in (TOKEN, FREE, ON_DEVICE):
            bench = Bench(Device(info), source)  # type: ignore[arg-type]
            for _ in range(2):
                with pytest.raises(SealAgentError) as refused:
                    await bench.use(caller(0), ask=True)
                assert refused.value.code == "consent_unavailable"
                with pytest.raises(SealAgentError) as refused:
                    async with bench.unlocker.pin_for_signature(info, Occasion(caller(0)), ask=True):
                        pytest.fail("it was read")
                assert refused.value.code == "consent_unavailable"
                assert bench.device.logins == 0
        bench = Bench(Device(), source)  # type: ignore[arg-type]
        assert (await bench.use(caller(0))) == Unlocked("pin", None, 0)

    scene(work)


def test_a_program_that_agrees_for_the_holder_is_not_believed() -> None:
    async def work() -> None:
        bench = Bench(holder=Holder(RIGHT, person=False))
        with pytest.raises(SealAgentError) as refused:
            await bench.use(caller(0), ask=True)
        assert refused.value.code == "consent_unavailable"
        assert bench.holder.asked == []

    scene(work)


def test_a_lock_while_the_holder_thinks_asks_for_the_pin() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.use(caller(0))
        bench.holder.hesitates = asyncio.Event()
        asking = asyncio.create_task(bench.use(caller(0), ask=True))
        await settle()
        assert len(bench.holder.consents) == 1
        await bench.unlocker.lock(URI)
        bench.holder.hesitates.set()
        assert await asking == Unlocked("pin", Consent.ONCE, 1)
        assert len(bench.holder.asked) == 2

    scene(work)


def test_a_new_session_while_the_holder_thinks_is_another_question() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.use(caller(0))
        bench.holder.hesitates = hesitates = asyncio.Event()
        asking = asyncio.create_task(bench.use(caller(0), ask=True))
        await settle()
        await bench.unlocker.lock(URI)
        bench.holder.hesitates = None
        await bench.use(caller(0))
        hesitates.set()
        assert await asking == Unlocked("window", Consent.ONCE, 1)
        assert len(bench.holder.consents) == 2

    scene(work)


def test_the_pin_of_one_signature_is_its_consent() -> None:
    async def work() -> None:
        bench = Bench()
        async with bench.unlocker.pin_for_signature(TOKEN, Occasion(caller(0)), ask=True) as entered:
            assert entered.consent is Consent.ONCE
            assert entered.pin == bytearray(RIGHT.encode())
        assert not any(entered.pin)
        assert bench.holder.consents == []
        bench.device.info = ON_DEVICE
        async with bench.unlocker.pin_for_signature(ON_DEVICE, Occasion(caller(0)), ask=True) as entered:
            assert (entered.pin, entered.consent) == (None, Consent.ONCE)
        assert len(bench.holder.consents) == 1

    scene(work)


# The end of who asked


def test_the_end_of_a_caller_withdraws_its_prompts_only() -> None:
    async def work() -> None:
        ends = {number: asyncio.Event() for number in range(2)}

        async def gone(who: Caller) -> None:
            await ends[who.pid % 10].wait()

        bench = Bench(gone=gone)
        await bench.use(caller(0))
        bench.holder.hesitates = asyncio.Event()
        asked = [
            asyncio.create_task(bench.use(caller(0), ask=True)),
            asyncio.create_task(bench.use(caller(1))),
            asyncio.create_task(bench.unlocker.change_pin(TOKEN, Occasion(caller(1)))),
        ]
        await settle()
        ends[1].set()
        await settle()
        for task in asked[1:]:
            with pytest.raises(SealAgentError) as refused:
                await task
            assert refused.value.code == "caller_gone"
        assert not asked[0].done()
        bench.holder.hesitates.set()
        assert (await asked[0]).consent is Consent.ONCE

    scene(work)


def test_a_caller_that_ends_while_it_waits_for_the_token_is_not_logged_in() -> None:
    async def work() -> None:
        ends = asyncio.Event()

        async def gone(who: Caller) -> None:
            await (ends.wait() if who.pid % 10 else asyncio.Event().wait())

        bench = Bench(gone=gone)
        async with bench.using(caller(0)):
            waiting = asyncio.create_task(bench.use(caller(1)))
            await settle()
            assert len(bench.holder.given) == 2
            ends.set()
            with pytest.raises(SealAgentError) as refused:
                await waiting
            assert refused.value.code == "caller_gone"
            assert not any(bench.holder.given[-1])
        assert (await bench.use(caller(0))).by == "window"

    scene(work)


def test_a_watch_that_fails_ends_no_prompt(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async def gone(who: Caller) -> None:
            raise OSError("no descriptor left")

        bench = Bench(gone=gone)
        bench.holder.hesitates = asyncio.Event()
        using = asyncio.create_task(bench.use(caller(0)))
        await settle()
        bench.holder.hesitates.set()
        assert (await using).by == "pin"

    scene(work)
    assert "cannot be watched" in caplog.text


class Slow(Holder):
    """A prompter that runs into a time limit of its own."""

    async def ask_pin(self, request: PinRequest) -> bytearray:
        raise TimeoutError


def test_a_prompters_own_time_limit_is_no_end_of_the_agent() -> None:
    async def work() -> None:
        bench = Bench(holder=Slow(RIGHT))
        with pytest.raises(TimeoutError):
            await bench.use(caller(0))

    scene(work)


def test_a_clock_that_was_set_back_and_forth_opens_nothing_again() -> None:
    windows = Windows(IDLE, ABSOLUTE)
    windows.opened("a", 100.0)
    assert not windows.is_open("a", 99.0)
    assert not windows.is_open("a", 101.0)
