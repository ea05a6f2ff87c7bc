"""How long a token stays unlocked, who is asked how often, and that buffers with PINs are wiped."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from host_parts import eventually, find, run, stop, workers
from line_parts import CALLER, Holder, Line, opened_line
from sealagent.callers.peer import Caller
from sealagent.callers.processes import look_at
from sealagent.callers.watch import ended
from sealagent.consent.prompter import Consent, Occasion
from sealagent.consent.source import FdPinSource, FilePinSource
from sealagent.daemon.locking import SleepDetector, lock_in_time
from sealagent.errors import SealAgentError
from sealagent.signing.unlock import Unlocked, Unlocker
from sealdrivers.contract import TokenInfo
from sealdrivers.errors import PinIncorrect, PinLocked, WorkerDied
from softhsm2_fixtures import SoftToken

NOBODY = Occasion(CALLER)
OTHER = replace(CALLER, pid=CALLER.pid + 1)
THIRD = replace(CALLER, pid=CALLER.pid + 2)


@pytest.fixture
def token(softhsm_token: SoftToken) -> SoftToken:
    softhsm_token.add_key("ec-p256")
    return softhsm_token


async def _info(line: Line) -> TokenInfo:
    [info] = await line.tokens.tokens()
    return info


def test_many_requests_at_once_ask_once(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin)
        async with opened_line(tmp_path, token, holder, workers=2) as line:
            await asyncio.gather(*(line.sign() for _ in range(20)))
            assert len(holder.asked) == 1
            assert all(not any(buffer) for buffer in holder.given)

    run(scene)


async def _use(line: Line, caller: Caller) -> Unlocked:
    """Have a caller sign."""
    info = await _info(line)
    async with line.unlocker.unlocked(info, Occasion(caller)) as entered:
        [key] = (await line.tokens.contents(info.uri)).keys
        await line.tokens.sign(key.uri, key.mechanisms[0], bytes(key.mechanisms[0].digest_length))
        return entered


@pytest.mark.parametrize("workers_at_most", [1, 2])
def test_each_caller_enters_the_pin_and_then_has_its_own_time(
    tmp_path: Path, token: SoftToken, workers_at_most: int
) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin)
        async with opened_line(tmp_path, token, holder, workers=workers_at_most, idle=100, absolute=150) as line:
            assert (await _use(line, CALLER)).by == "pin"
            line.clock.ahead += timedelta(seconds=80)
            assert (await _use(line, OTHER)).by == "pin"
            assert (await _use(line, CALLER)).by == "window"
            line.clock.ahead += timedelta(seconds=80)
            await line.unlocker.lock_expired()
            assert (await _info(line)).logged_in  # the first one's time is over, and the other's not
            assert (await _use(line, OTHER)).by == "window"
            assert (await _use(line, CALLER)).by == "pin"
            assert [request.occasion.caller for request in holder.asked] == [CALLER, OTHER, CALLER]
            line.clock.ahead += timedelta(seconds=200)
            await line.unlocker.lock_expired()
            assert not (await _info(line)).logged_in
            assert [event.name for event in line.events].count("token_locked") == 1

    run(scene)


def test_the_wrong_pin_of_one_locks_the_token_for_all(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin)
        async with opened_line(tmp_path, token, holder) as line:
            uri = (await _info(line)).uri
            await _use(line, CALLER)
            await _use(line, OTHER)
            session = line.unlocker.session(uri)
            holder.pin = "wrong-pin"
            with pytest.raises(PinIncorrect):
                await _use(line, THIRD)
            assert not (await _info(line)).logged_in
            assert line.unlocker.session(uri) == session + 1
            holder.pin = token.user_pin
            for caller in (CALLER, OTHER):
                assert (await _use(line, caller)).by == "pin"
            assert len(holder.asked) == 5  # the wrong one was not asked for again by itself
            assert all(not any(buffer) for buffer in holder.given)

    run(scene)


def test_a_prompt_that_is_cancelled_disturbs_nobody(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin)
        async with opened_line(tmp_path, token, holder) as line:
            await _use(line, CALLER)
            holder.hesitates = asyncio.Event()
            other = asyncio.create_task(_use(line, OTHER))
            await eventually(lambda: len(holder.asked) == 2, "the prompt")
            assert (await _use(line, CALLER)).by == "window"  # while it is open
            other.cancel()
            await asyncio.wait((other,))
            assert (await _use(line, CALLER)).by == "window"
            names = [event.name for event in line.events]
            assert names == ["pin_asked", "token_unlocked", "pin_asked"]

    run(scene)


def test_another_caller_is_asked_first_and_waits_until_the_token_is_free(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin)
        async with opened_line(tmp_path, token, holder) as line:
            info = await _info(line)
            async with line.unlocker.unlocked(info, NOBODY):
                other = asyncio.create_task(_use(line, OTHER))
                await eventually(lambda: len(holder.given) == 2, "the prompt")
                await asyncio.sleep(0.1)
                assert line.tokens.logged_in(info.uri)
                assert not other.done()
            assert (await other).by == "pin"
            assert (await _use(line, CALLER)).by == "window"

    run(scene)


def test_a_lock_ends_every_window_and_session(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder, told = Holder(token.user_pin), list[str]()
        async with opened_line(tmp_path, token, holder) as line:
            unlocker = Unlocker(
                line.tokens,
                holder,
                line.clock,
                line.events.append,
                idle_seconds=300,
                absolute_seconds=3600,
                ended=told.append,
            )
            info = await _info(line)
            for number in range(3):
                for caller in (CALLER, OTHER):
                    async with unlocker.unlocked(info, Occasion(caller)) as entered:
                        assert (entered.by, entered.session) == ("pin", number)
                await unlocker.lock(info.uri)
                assert told == [info.uri] * (number + 1)
                assert not (await _info(line)).logged_in

    run(scene)


def test_the_end_of_a_process_ends_its_prompt(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin, hesitates=asyncio.Event())
        async with opened_line(tmp_path, token, holder) as line:
            unlocker = Unlocker(
                line.tokens, holder, line.clock, line.events.append, idle_seconds=300, absolute_seconds=3600, gone=ended
            )
            info = await _info(line)
            process = await asyncio.create_subprocess_exec("sleep", "60")
            seen = look_at(process.pid)
            assert seen is not None
            caller = Caller(os.getuid(), os.getgid(), process.pid, None, seen.started)

            async def use() -> None:
                async with unlocker.unlocked(info, Occasion(caller)):
                    pytest.fail("nobody entered a PIN")

            using = asyncio.create_task(use())
            await eventually(lambda: len(holder.asked) == 1, "the prompt")
            await asyncio.sleep(0.05)
            assert not using.done()
            process.kill()
            await process.wait()
            with pytest.raises(SealAgentError) as refused:
                await asyncio.wait_for(using, 5)
            assert refused.value.code == "caller_gone"
            with pytest.raises(SealAgentError) as refused:  # one that is gone already gets no prompt to stay open
                await asyncio.wait_for(use(), 5)
            assert refused.value.code == "caller_gone"
            assert not line.tokens.logged_in(info.uri)

    run(scene)


def test_without_idle_time_each_signature_asks_and_none_disturbs_another(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin)
        async with opened_line(tmp_path, token, holder, idle=0) as line:
            await asyncio.gather(*(line.sign() for _ in range(5)), *(line.unlocker.lock_expired() for _ in range(5)))
            assert len(holder.asked) == 5
            assert line.entries() == [("intent", None), ("signed", None)] * 5
            await line.unlocker.lock_expired()
            assert not (await _info(line)).logged_in

    run(scene)


@pytest.mark.parametrize("back", [False, True])
def test_time_that_runs_out_during_a_signature_locks_the_token_after_it(
    tmp_path: Path, token: SoftToken, back: bool
) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin)
        async with opened_line(tmp_path, token, holder, absolute=100) as line:
            await line.sign()
            uri = (await _info(line)).uri
            info = await _info(line)
            async with line.unlocker.unlocked(info, NOBODY):
                line.clock.ahead += timedelta(seconds=-500 if back else 500)
                await line.unlocker.lock_expired()
                assert line.tokens.logged_in(uri)
                waiting = asyncio.create_task(line.sign())
                await asyncio.sleep(0.1)
                assert len(holder.asked) == 1  # not before the first is done
            await waiting
            assert len(holder.asked) == 2

    run(scene)


def test_the_end_of_the_agent_ends_a_prompt_and_is_recorded(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin, hesitates=asyncio.Event())
        async with opened_line(tmp_path, token, holder) as line:
            signing = asyncio.create_task(line.sign())
            await eventually(lambda: len(holder.asked) == 1, "the prompt")
            line.unlocker.close()
            for refused in (signing, asyncio.create_task(line.sign())):
                with pytest.raises(SealAgentError) as error:
                    await refused
                assert error.value.code == "agent_stopping"
            assert len(holder.asked) == 1
            assert line.entries() == [("refused", "agent_stopping")] * 2

    run(scene)


def test_a_cancelled_request_ends_its_prompt_and_the_next_may_ask(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin, hesitates=asyncio.Event())
        async with opened_line(tmp_path, token, holder) as line:
            signing = asyncio.create_task(line.sign())
            await eventually(lambda: len(holder.asked) == 1, "the prompt")
            signing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await signing
            holder.hesitates = None
            assert await line.sign()

    run(scene)


def test_a_key_that_always_authenticates_gets_its_pin_each_time(tmp_path: Path, softhsm_token: SoftToken) -> None:
    softhsm_token.add_key("ec-p256", always_authenticate=True)

    async def scene() -> None:
        holder = Holder(softhsm_token.user_pin)
        async with opened_line(tmp_path, softhsm_token, holder, idle=0) as line:
            await asyncio.gather(*(line.sign() for _ in range(3)))
            assert all(not any(buffer) for buffer in holder.given)
            holder.pin = "wrong-pin"
            with pytest.raises(PinIncorrect):
                await line.sign()
            assert line.entries() == [("intent", None), ("signed", None)] * 3 + [("refused", "pin_incorrect")]
            holder.pin = softhsm_token.user_pin
            await line.sign()
            assert [request.previous_wrong for request in holder.asked[-3:]] == [False, True, False]
            assert len(holder.asked) == 2 * 3 + 1 + 2
            async with line.unlocker.pin_for_signature(await _info(line), NOBODY, ask=True) as entered:
                assert entered.consent is Consent.ONCE
            assert holder.consents == []

    run(scene)


def test_a_wrong_pin_is_told_at_the_next_prompt_until_a_right_one(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder("wrong-pin")
        async with opened_line(tmp_path, token, holder) as line:
            for _ in range(2):
                with pytest.raises(PinIncorrect):
                    await line.sign()
            holder.pin = token.user_pin
            info = await _info(line)
            holder.pin = "wrong-too"
            with pytest.raises(PinIncorrect):
                await line.unlocker.change_pin(info, NOBODY)
            holder.pin = token.user_pin
            await line.unlocker.change_pin(info, NOBODY)  # to the same
            await line.sign()
            told = [request.previous_wrong for request in holder.asked if request.purpose in ("unlock", "change_old")]
            assert told == [False, True, True, True, False]
            assert all(not any(buffer) for buffer in holder.given)

    run(scene)


def _file(directory: Path, content: str) -> FilePinSource:
    path = directory / "pin"
    path.touch(0o600)
    path.write_text(content)
    return FilePinSource(path)


def _descriptor(directory: Path, content: str) -> FdPinSource:

    reading, writing = os.pipe()
    os.write(writing, content.encode())
    os.close(writing)
    return FdPinSource(reading)


@pytest.mark.parametrize("source", [_file, _descriptor])
def test_the_last_try_is_left_to_the_holder(
    tmp_path: Path, token: SoftToken, source: Callable[[Path, str], FilePinSource | FdPinSource]
) -> None:
    async def scene() -> None:
        async with opened_line(tmp_path, token, source(tmp_path, token.user_pin)) as line:
            token.set_pin_flags(count_low=True, final_try=True)
            before = token.pin_flags()
            with pytest.raises(SealAgentError, match="one try is left") as refused:
                await line.sign()
            assert refused.value.code == "pin_last_try"
            assert token.pin_flags() == before  # not even tried
            assert line.entries() == [("refused", "pin_last_try")]
            token.set_pin_flags(count_low=True)
            await line.sign()

    run(scene)


def test_a_locked_or_final_state_is_looked_up_at_the_last_moment(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin, confirms=True)
        async with opened_line(tmp_path, token, holder) as line:
            await line.inventory.snapshot()
            token.set_pin_flags(final_try=True)
            await line.sign()
            assert holder.asked[0].pin.final_try
            assert len(holder.confirmations) == 1
            await line.unlocker.lock((await _info(line)).uri)
            token.lock()
            with pytest.raises(PinLocked):
                await line.sign()
            assert len(holder.asked) == 1

    run(scene)


def test_a_token_that_hangs_holds_up_no_listing_for_long(
    tmp_path: Path, token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with opened_line(tmp_path, token, Holder(token.user_pin)) as line:
            await line.sign()
            [worker] = workers(line.tokens)
            stop(worker)
            monkeypatch.setattr("sealagent.signing.inventory.READING_PATIENCE", 0.3)
            monkeypatch.setattr("sealdrivers.host.service.LISTING_PATIENCE", 0.3)
            async with asyncio.timeout(1.5):  # two patiences for the first, none for the others
                for _ in range(10):
                    shown = await line.inventory.snapshot(fresh=True)
            assert len(shown.keys) == 1
            assert "has not answered yet" in shown.faults[0]
            worker.kill(WorkerDied("it hangs"))
            monkeypatch.undo()
            shown = await line.inventory.snapshot(fresh=True)
            shown = await line.inventory.snapshot(fresh=True)
            assert not shown.faults
            assert await line.sign()

    run(scene)


def test_what_changes_during_a_look_is_not_lost(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        async with opened_line(tmp_path, token, Holder(token.user_pin)) as line:
            looking = asyncio.create_task(line.inventory.snapshot())
            await asyncio.sleep(0)
            token.add_key("ec-p384", object_id=b"\x02", label="second")
            line.inventory.invalidate()
            await looking
            assert len((await line.inventory.snapshot()).keys) == 2

    run(scene)


def test_a_machine_that_slept_locks_every_token(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin)
        asleep = 0.0
        async with opened_line(tmp_path, token, holder) as line:
            await line.sign()
            uri = (await _info(line)).uri
            detector = SleepDetector(lambda: time.monotonic() + asleep, time.monotonic)
            watching = asyncio.create_task(lock_in_time(line.unlocker, line.events.append, detector, 0.01))
            await asyncio.sleep(0.1)
            assert line.unlocker.is_unlocked(uri)
            asleep = 3.0
            await eventually(lambda: not line.unlocker.is_unlocked(uri), "the token is locked")
            await eventually(lambda: line.events[-1].name == "token_locked", "the event")
            assert [event.name for event in line.events[-2:]] == ["machine_slept", "token_locked"]
            assert not (await _info(line)).logged_in
            await line.sign()
            assert len(holder.asked) == 2
            watching.cancel()
            await asyncio.wait((watching,))

    run(scene)


def test_a_stored_pin_opens_one_window_for_all(tmp_path: Path, token: SoftToken) -> None:
    """Nobody typed it for a program; a server would log out and in again with every process that asks."""

    async def scene() -> None:
        holder = Holder(token.user_pin)
        holder.person = False
        async with opened_line(tmp_path, token, holder) as line:
            info = await find(line.tokens, token)
            for pid in range(3):
                async with line.unlocker.unlocked(info, Occasion(replace(CALLER, pid=pid))):
                    pass
            assert len(holder.asked) == 1

    run(scene)
