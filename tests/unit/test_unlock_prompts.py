"""What prompts, locks, consent and the end of a caller do to each other, on a scripted device."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from line_parts import Holder
from sealagent.callers.peer import Caller
from sealagent.consent.prompter import Consent, ConsentRequest, Occasion, PinRequest
from sealagent.consent.source import FilePinSource
from sealagent.errors import SealAgentError
from sealagent.events import Event
from sealagent.signing.prompts import Patience
from sealagent.signing.unlock import Unlocked
from sealdrivers.contract import TokenInfo
from sealdrivers.errors import LoginRequired, PinIncorrect, WorkerTimeout
from unlock_parts import FREE, IDLE, ON_DEVICE, RIGHT, TOKEN, URI, WRONG, Bench, Device, caller, scene, settle


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


def test_a_pin_that_was_typed_before_a_lock_is_not_sent_after_it() -> None:
    async def work() -> None:
        bench = Bench()
        async with bench.using(caller(0)):
            waiting = asyncio.create_task(bench.use(caller(1)))
            await settle()
            assert len(bench.holder.given) == 2
            await bench.unlocker.lock_all()
        with pytest.raises(SealAgentError) as refused:
            await waiting
        assert refused.value.code == "locked_meanwhile"
        assert bench.device.logins == 1
        assert not any(bench.holder.given[-1])

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


def test_without_a_person_nothing_that_must_be_asked_reads_a_pin(tmp_path: Path) -> None:
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


def test_a_program_that_was_refused_again_and_again_is_not_put_before_the_holder() -> None:
    async def work() -> None:
        bench = Bench()
        bench.holder.agrees = Consent.NO
        pushy, other = caller(1), caller(2, application="a")
        question = ConsentRequest("use", Occasion(pushy))
        for _ in range(5):
            assert await bench.unlocker.confirm(question) is Consent.NO
        for _ in range(3):
            with pytest.raises(SealAgentError) as caught:
                await bench.unlocker.confirm(question)
            assert caught.value.code == "asked_too_often"
            with pytest.raises(SealAgentError) as caught:
                await bench.use(pushy)  # nor for a PIN
            assert caught.value.code == "asked_too_often"
        assert (len(bench.holder.consents), len(bench.holder.asked)) == (5, 0)
        assert [event.data for event in bench.events if event.name == "consent_asked"] == [{"question": "use"}] * 5
        with pytest.raises(SealAgentError) as caught:
            await bench.unlocker.confirm(ConsentRequest("use", Occasion(replace(pushy, pid=99, started=99))))
        assert caught.value.code == "asked_too_often"  # started anew it is the same program
        assert (await bench.use(other)).by == "pin"
        assert await bench.unlocker.confirm(ConsentRequest("use", Occasion(None))) is Consent.NO

    scene(work)


def test_patience_comes_back_with_time_and_not_with_a_yes() -> None:
    now = 0.0
    patience = Patience(lambda: now)
    pushy = caller(1)
    for _ in range(5):
        patience.require(pushy)
        patience.lose(pushy)
        now += 10
    with pytest.raises(SealAgentError):
        patience.require(pushy)
    now = 60.1  # the first of them is over
    patience.require(pushy)
    for number in range(5000):
        patience.lose(replace(pushy, executable=f"/bin/{number}"))
    assert len(patience._refusals) <= 1024
