"""The SKF driver in real worker processes: what the daemon sees of it."""

from __future__ import annotations

import asyncio

import pytest
from contract_checks import verify
from skf_parts import SM2, E

from host_parts import MODULE_TIMEOUTS, hosted, run, workers
from sealdrivers.contract import KeyType, TokenInfo
from sealdrivers.errors import (
    DeviceFailure,
    LoginRequired,
    PinIncorrect,
    PinLocked,
    TokenNotFound,
    TokenRemoved,
    WorkerDied,
    WorkerTimeout,
)
from sealdrivers.host.service import HostedTokens, ModuleSpec, Timeouts
from softgm import SoftSkf, SoftSkfToken
from softhsm2_fixtures import SoftToken

FAST = Timeouts(start=20, sign=0.5, login=20, generate=20, other=20)


@pytest.fixture
def spec(softskf: SoftSkf) -> ModuleSpec:
    return ModuleSpec(softskf.library.resolve(), driver="skf")


async def only(tokens: HostedTokens, device: SoftSkfToken) -> TokenInfo:
    (found,) = [token for token in await tokens.tokens() if token.serial == device.serial]
    return found


async def unlock(tokens: HostedTokens, device: SoftSkfToken) -> tuple[str, str]:
    """Log in and return the URIs of the token and of its only key."""
    uri = (await only(tokens, device)).uri
    pin = bytearray(device.user_pin.encode())
    await tokens.login(uri, pin)
    assert not any(pin)
    (key,) = (await tokens.contents(uri)).keys
    return uri, key.uri


def test_from_listing_to_signature(spec: ModuleSpec, device: SoftSkfToken) -> None:
    device.add_file("seal.esl", b"a seal")

    async def main() -> None:
        async with hosted(spec) as tokens:
            (module,) = await tokens.modules()
            assert module.driver == "skf"
            uri, key = await unlock(tokens, device)
            assert uri == f"skf:serial={device.serial};application=SOFTSKF"
            info = await only(tokens, device)
            assert (info.logged_in, info.software, info.pin.tries_left) == (True, True, 6)
            contents = await tokens.contents(uri)
            assert [data.value for data in contents.data_objects] == [b"a seal"]
            public_key = contents.keys[0].public_key
            assert public_key
            for _ in range(20):
                verify(public_key, SM2, await tokens.sign(key, SM2, E), E)
            made = await tokens.generate_key(uri, KeyType.SM2, "新密钥", b"\1\2")
            assert made.public_key
            verify(made.public_key, SM2, await tokens.sign(made.uri, SM2, E), E)
            await tokens.import_data(uri, b"new seal", "印章", "")
            await tokens.change_pin(uri, bytearray(device.user_pin.encode()), bytearray(b"another-pin"))
            await tokens.logout(uri)
            with pytest.raises(LoginRequired):
                await tokens.sign(key, SM2, E)
            with pytest.raises(PinIncorrect) as caught:
                await tokens.login(uri, bytearray(device.user_pin.encode()))
            assert caught.value.tries_left == 5

    run(main)


def test_beside_a_pkcs11_module(spec: ModuleSpec, device: SoftSkfToken, softhsm_token: SoftToken) -> None:
    softhsm_token.add_key("ec-p256")

    async def main() -> None:
        async with hosted(ModuleSpec(softhsm_token.module.resolve()), spec) as tokens:
            drivers = {token.serial: token.driver for token in await tokens.tokens()}
            assert drivers == {softhsm_token.serial: "pkcs11", device.serial: "skf"}
            _, key = await unlock(tokens, device)
            assert await tokens.sign(key, SM2, E)
            with pytest.raises(TokenNotFound):
                await tokens.sign(key.replace(device.serial, "ABSENT"), SM2, E)

    run(main)


def test_pulled_in_the_middle_of_a_signature(spec: ModuleSpec, device: SoftSkfToken) -> None:
    async def main() -> None:
        async with hosted(spec) as tokens:
            await tokens.poll()
            uri, key = await unlock(tokens, device)
            device.set_fault("unplug", "SKF_ECCSignData", times=1)
            with pytest.raises(TokenRemoved):
                await tokens.sign(key, SM2, E)
            inserted, removed = await tokens.poll()
            assert ([token.uri for token in removed], inserted) == ([uri], [])
            device.insert()
            inserted, removed = await tokens.poll()
            assert ([token.uri for token in inserted], removed) == ([uri], [])
            assert not inserted[0].logged_in
            with pytest.raises(LoginRequired):
                await tokens.sign(key, SM2, E)
            await unlock(tokens, device)
            assert await tokens.sign(key, SM2, E)
            assert len(workers(tokens)) == 1

    run(main)


@pytest.mark.parametrize("how", ["exit", "abort", "segfault"])
def test_library_that_crashes(spec: ModuleSpec, device: SoftSkfToken, how: str) -> None:
    async def main() -> None:
        async with hosted(spec) as tokens:
            _, key = await unlock(tokens, device)
            device.set_fault("crash", "SKF_ECCSignData", how, times=1)
            with pytest.raises(WorkerDied):
                await tokens.sign(key, SM2, E)
            with pytest.raises(LoginRequired):
                await tokens.sign(key, SM2, E)
            await unlock(tokens, device)
            assert await tokens.sign(key, SM2, E)

    run(main)


def test_library_that_hangs(spec: ModuleSpec, device: SoftSkfToken) -> None:
    async def main() -> None:
        async with hosted(spec, timeouts=FAST) as tokens:
            _, key = await unlock(tokens, device)
            device.set_fault("hang", "SKF_ECCSignData", times=1)
            with pytest.raises(WorkerTimeout):
                await tokens.sign(key, SM2, E)
            await unlock(tokens, device)
            assert await tokens.sign(key, SM2, E)

    run(main)


def test_a_crash_or_hang_at_login_spends_one_try_at_most(spec: ModuleSpec, device: SoftSkfToken) -> None:
    async def main() -> None:
        async with hosted(spec, timeouts=Timeouts(login=0.5)) as tokens:
            uri = (await only(tokens, device)).uri
            for fault, error, left in (("crash", WorkerDied, 5), ("hang", WorkerTimeout, 4)):
                device.set_fault(fault, "SKF_VerifyPIN", times=1, late=True)
                with pytest.raises(error):
                    await tokens.login(uri, bytearray(b"wrong-pin"))
                assert device.tries_left() == left
                assert not tokens.logged_in(uri)
            for _ in range(100):  # it waits before it starts another worker
                if found := await tokens.tokens():
                    break
                await asyncio.sleep(0.05)
            assert [token.pin.count_low for token in found] == [True]
            assert device.tries_left() == 4

    run(main)


def test_locked_pin_is_told_without_a_try(spec: ModuleSpec, device: SoftSkfToken) -> None:
    device.lock()

    async def main() -> None:
        async with hosted(spec) as tokens:
            token = await only(tokens, device)
            assert token.pin.locked
            with pytest.raises(PinLocked):
                await tokens.login(token.uri, bytearray(device.user_pin.encode()))

    run(main)


def test_answers_that_lie_end_in_errors_and_the_worker_lives(spec: ModuleSpec, device: SoftSkfToken) -> None:
    async def main() -> None:
        async with hosted(spec) as tokens:
            uri, key = await unlock(tokens, device)
            pid = workers(tokens)[0].pid
            for fault in ("zero", "ones", "left"):
                device.set_fault("signature", "SKF_ECCSignData", fault)
                with pytest.raises(DeviceFailure):
                    await tokens.sign(key, SM2, E)
                device.clear_faults()
            for fault in ("oversize", "overrun", "no_output"):
                device.set_fault(fault, "SKF_ExportCertificate")
                with pytest.raises(DeviceFailure):
                    await tokens.contents(uri)
                device.clear_faults()
            assert await tokens.sign(key, SM2, E)
            assert workers(tokens)[0].pid == pid

    run(main)


def test_many_pulls_are_served_by_one_worker(spec: ModuleSpec, device: SoftSkfToken) -> None:
    async def main() -> None:
        async with hosted(spec, timeouts=MODULE_TIMEOUTS) as tokens:

            async def cycle() -> None:
                _, key = await unlock(tokens, device)
                await tokens.sign(key, SM2, E)
                device.remove()
                with pytest.raises((TokenRemoved, TokenNotFound)):
                    await tokens.sign(key, SM2, E)
                await tokens.poll()
                device.insert()

            await cycle()
            (worker,) = workers(tokens)
            for _ in range(30):
                await cycle()
            assert workers(tokens) == [worker]

    run(main)
