"""The last try of a PIN: nothing spends it but the holder's own yes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from host_parts import hosted, run, spec, unlock
from host_parts import workers as workers_of
from line_parts import CALLER, Holder, Line, opened_line
from sealagent.consent.prompter import Occasion, PinRequest
from sealagent.errors import SealAgentError
from sealdrivers.contract import Mechanism, TokenInfo
from sealdrivers.errors import AdminPinIncorrect, AdminPinLocked, DriverError, PinIncorrect, PinLastTry
from softhsm2_fixtures import SoftToken

OCCASION = Occasion(CALLER)
NEW = "fresh-pin"


@pytest.fixture
def token(softhsm_token: SoftToken) -> SoftToken:
    softhsm_token.add_key("ec-p256")
    return softhsm_token


async def _info(line: Line) -> TokenInfo:
    [info] = await line.tokens.tokens()
    return info


Use = Callable[[Line], Awaitable[object]]


async def _sign(line: Line) -> object:
    return await line.sign()


async def _change(line: Line) -> object:
    return await line.unlocker.change_pin(await _info(line), OCCASION)


async def _unblock(line: Line) -> object:
    return await line.unlocker.unblock_pin(await _info(line), OCCASION)


@pytest.mark.parametrize("use", [_sign, _change, _unblock])
def test_without_a_yes_no_pin_is_even_asked_for(tmp_path: Path, token: SoftToken, use: Use) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin)
        async with opened_line(tmp_path, token, holder) as line:
            token.set_pin_flags(final_try=True, admin=use is _unblock)
            before = token.pin_flags()
            for _ in range(2):
                with pytest.raises(SealAgentError) as refused:
                    await use(line)
                assert refused.value.code == "pin_last_try"
                assert refused.value.facts["final_try"] is True
            assert len(holder.confirmations) == 2
            assert not holder.asked
            assert token.pin_flags() == before

    run(scene)


def test_each_sending_needs_a_yes_of_its_own(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin, confirms=True)
        async with opened_line(tmp_path, token, holder, idle=0) as line:
            token.set_pin_flags(final_try=True)  # SoftHSM 2.6.1 leaves this flag when the PIN is right
            await line.sign()
            await line.sign()
            assert len(holder.confirmations) == 2
            holder.pin = "wrong-pin"
            with pytest.raises(PinIncorrect):
                await line.sign()
            assert all(not any(buffer) for buffer in holder.given)

    run(scene)


def test_the_pin_of_one_signature_is_confirmed_too(tmp_path: Path, softhsm_token: SoftToken) -> None:
    softhsm_token.add_key("ec-p256", always_authenticate=True)

    async def scene() -> None:
        holder = Holder(softhsm_token.user_pin)
        async with opened_line(tmp_path, softhsm_token, holder) as line:
            await line.sign()
            softhsm_token.set_pin_flags(final_try=True)
            before = softhsm_token.pin_flags()
            with pytest.raises(SealAgentError) as refused:
                await line.sign()
            assert refused.value.code == "pin_last_try"
            assert softhsm_token.pin_flags() == before
            holder.confirms = True
            await line.sign()
            assert line.entries()[2:] == [("refused", "pin_last_try"), ("intent", None), ("signed", None)]

    run(scene)


class Raced(Holder):
    """While this holder types, another program spends all tries but one."""

    token: SoftToken

    async def ask_pin(self, request: PinRequest) -> bytearray:
        self.token.set_pin_flags(final_try=True)
        return await super().ask_pin(request)


def test_tries_spent_by_another_program_while_the_holder_types_stop_the_pin(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Raced("wrong-pin")
        holder.token = token
        async with opened_line(tmp_path, token, holder) as line:
            with pytest.raises(PinLastTry):
                await line.sign()
            flags = token.pin_flags()
            assert len(holder.asked) == 1  # asked before, and not confirmed
            assert line.entries() == [("refused", "pin_last_try")]
            assert not (await _info(line)).pin.count_low  # SoftHSM would show a wrong PIN so
            with pytest.raises(SealAgentError) as refused:
                await line.sign()
            assert refused.value.code == "pin_last_try"
            assert len(holder.asked) == 1
            assert token.pin_flags() == flags
            assert all(not any(buffer) for buffer in holder.given)

    run(scene)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_workers_themselves_refuse(token: SoftToken, workers: int) -> None:
    async def scene() -> None:
        async with hosted(spec(token, workers)) as tokens:
            uri, key = await unlock(tokens, token)
            token.set_pin_flags(final_try=True)
            token.set_pin_flags(final_try=True, admin=True)
            before = token.pin_flags()
            pin, new, admin = token.user_pin, "another-pin", token.so_pin
            for attempt in (
                lambda: tokens.login(uri, _buffer(pin)),
                lambda: tokens.login(uri, _buffer("wrong-pin")),
                lambda: tokens.change_pin(uri, _buffer(pin), _buffer(new)),
                lambda: tokens.unblock_pin(uri, _buffer(admin), _buffer(new)),
                lambda: tokens.sign(key, Mechanism.ECDSA_SHA256, bytes(32), _buffer(pin)),
            ):
                with pytest.raises(PinLastTry):
                    await attempt()
            assert token.pin_flags() == before
            await tokens.unblock_pin(uri, _buffer(admin), _buffer(new), confirmed_last_try=True)
            await tokens.login(uri, _buffer(new), confirmed_last_try=True)
            assert tokens.logged_in(uri)
            token.set_pin_flags(final_try=True)
            signed = tokens.sign(key, Mechanism.ECDSA_SHA256, bytes(32), _buffer(new), confirmed_last_try=True)
            with pytest.raises(DriverError, match="C_Login"):  # the key takes no PIN of its own; but it was sent
                await signed

    run(scene)


def test_a_new_pin_is_right_on_every_worker_and_spends_no_try(token: SoftToken) -> None:
    """SoftHSM 2.6.1 in a process that has been there before the change takes the new PIN for wrong."""

    async def scene() -> None:
        async with hosted(spec(token, 3)) as tokens:
            uri, key = await unlock(tokens, token)
            for old, new in ((token.user_pin, "another-pin"), ("another-pin", NEW)):
                await tokens.change_pin(uri, _buffer(old), _buffer(new))
                await tokens.logout(uri)
                await tokens.login(uri, _buffer(new))
                await asyncio.gather(*(tokens.sign(key, Mechanism.ECDSA_SHA256, bytes(32)) for _ in range(6)))
            await tokens.unblock_pin(uri, _buffer(token.so_pin), _buffer("third-pin"))
            await tokens.login(uri, _buffer("third-pin"))
            assert all(uri in worker.logged_in for worker in workers_of(tokens))
            assert len(workers_of(tokens)) == 3
            [health] = tokens.health()
            assert (health["state"], health["last_error"]) == ("ready", None)
            [info] = await tokens.tokens()
            assert not info.pin.count_low

    run(scene)


def test_unblocking_through_the_holder(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Pins({"unblock_admin": token.so_pin, "unblock_new": NEW, "unblock_repeat": NEW, "unlock": NEW})
        async with opened_line(tmp_path, token, holder) as line:
            token.lock()
            info = await _info(line)
            await line.unlocker.unblock_pin(info, OCCASION)
            assert not (await _info(line)).pin.locked
            assert not line.unlocker.is_unlocked(info.uri)
            await line.sign()
            asked = [request.purpose for request in holder.asked]
            assert asked == ["unblock_admin", "unblock_new", "unblock_repeat", "unlock"]
            await line.unlocker.unblock_pin(info, OCCASION)  # an unlocked token is locked by it
            assert not line.unlocker.is_unlocked(info.uri)
            assert not (await _info(line)).logged_in
            assert all(not any(buffer) for buffer in holder.given)

    run(scene)


def test_the_administrators_wrong_pin_is_not_the_users(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        pins = {"unblock_admin": "wrong-admin", "unblock_new": NEW, "unblock_repeat": NEW, "unlock": token.user_pin}
        holder = Pins(pins)
        async with opened_line(tmp_path, token, holder) as line:
            info = await _info(line)
            with pytest.raises(AdminPinIncorrect):
                await line.unlocker.unblock_pin(info, OCCASION)
            await line.sign()
            assert not holder.asked[-1].previous_wrong
            pins["unblock_repeat"] = "something-else"
            with pytest.raises(SealAgentError) as refused:
                await line.unlocker.unblock_pin(info, OCCASION)
            assert refused.value.code == "pin_mismatch"
            assert holder.asked[-3].previous_wrong
            assert holder.asked[-3].pin.count_low
            token.set_pin_flags(locked=True, admin=True)
            count = len(holder.asked)
            with pytest.raises(AdminPinLocked):
                await line.unlocker.unblock_pin(info, OCCASION)
            assert len(holder.asked) == count
            assert line.unlocker.is_unlocked(info.uri)  # refusals change nothing
            assert all(not any(buffer) for buffer in holder.given)

    run(scene)


class Pins(Holder):
    """A holder who answers each purpose with its own PIN."""

    def __init__(self, pins: dict[str, str]) -> None:
        super().__init__("")
        self.pins = pins

    async def ask_pin(self, request: PinRequest) -> bytearray:
        self.pin = self.pins[request.purpose]
        return await super().ask_pin(request)


def _buffer(pin: str) -> bytearray:
    return bytearray(pin.encode())
