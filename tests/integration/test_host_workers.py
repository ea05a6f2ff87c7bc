"""A module in its worker process, with a real one: SoftHSM, stopped, killed and starved."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from host_parts import DIGEST, eventually, find, hosted, is_gone, run, spec, stop, unlock, workers
from sealdrivers.contract import KeyType, Mechanism
from sealdrivers.errors import (
    KeyNotFound,
    LoginRequired,
    MechanismNotSupported,
    ModuleNotLoadable,
    ObjectExists,
    PinIncorrect,
    TokenNotFound,
    UriError,
    WorkerDied,
    WorkerTimeout,
)
from sealdrivers.host.service import ModuleSpec, Timeouts
from softhsm2_fixtures import SoftToken, certificate


def test_every_operation_through_a_worker(softhsm_token: SoftToken) -> None:
    pair = softhsm_token.add_key("ec-p256", label="key", object_id=b"\x01")
    assert isinstance(pair, ec.EllipticCurvePrivateKey)

    async def main() -> None:
        async with hosted(spec(softhsm_token)) as tokens:
            [module] = await tokens.modules()
            assert module.path == str(softhsm_token.module.resolve())
            uri, key_uri = await unlock(tokens, softhsm_token)
            assert (await find(tokens, softhsm_token)).logged_in

            signature = await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)
            pair.public_key().verify(signature, DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))

            made = await tokens.generate_key(uri, KeyType.RSA_2048, "made", b"\x02")
            assert made.public_key
            with pytest.raises(ObjectExists):
                await tokens.generate_key(uri, KeyType.RSA_2048, "made", b"\x02")
            assert len(await tokens.sign(made.uri, Mechanism.RSA_PSS_SHA256, DIGEST)) == 256

            der = certificate(pair)
            stored = await tokens.import_certificate(uri, der, "certificate", b"\x01")
            seal = await tokens.import_data(uri, b"\x30\x00" * 30_000, "seal", "sealagent")
            contents = await tokens.contents(uri)
            assert stored in contents.certificates
            assert seal in contents.data_objects
            assert {key.object_id for key in contents.keys} == {b"\x01", b"\x02"}

            old, new = bytearray(softhsm_token.user_pin.encode()), bytearray(b"another-pin")
            await tokens.change_pin(uri, old, new)
            assert not any(old)
            assert not any(new)
            await tokens.logout(uri)
            assert not (await find(tokens, softhsm_token)).logged_in
            with pytest.raises(LoginRequired):
                await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)
            await tokens.login(uri, bytearray(b"another-pin"))
            assert await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)

    run(main)


def test_errors_come_out_of_the_worker_as_they_are(softhsm_token: SoftToken) -> None:
    softhsm_token.add_key("ec-p256")

    async def main() -> None:
        async with hosted(spec(softhsm_token)) as tokens:
            uri = (await find(tokens, softhsm_token)).uri
            [key] = (await tokens.contents(uri)).keys
            with pytest.raises(LoginRequired):
                await tokens.sign(key.uri, Mechanism.ECDSA_SHA256, DIGEST)
            wrong = bytearray(b"wrong-pin")
            with pytest.raises(PinIncorrect) as caught:
                await tokens.login(uri, wrong)
            assert not any(wrong)
            assert caught.value.native_name == "CKR_PIN_INCORRECT"
            assert caught.value.count_low is True
            await tokens.login(uri, bytearray(softhsm_token.user_pin.encode()))
            with pytest.raises(MechanismNotSupported):
                await tokens.sign(key.uri, Mechanism.ECDSA_SHA256, DIGEST[:31])
            with pytest.raises(MechanismNotSupported):
                await tokens.sign(key.uri, Mechanism.RSA_PKCS1_SHA256, DIGEST)
            with pytest.raises(KeyNotFound):
                await tokens.sign(key.uri.replace("id=%01", "id=%7F"), Mechanism.ECDSA_SHA256, DIGEST)
            with pytest.raises(TokenNotFound):
                await tokens.sign("pkcs11:serial=none", Mechanism.ECDSA_SHA256, DIGEST)
            with pytest.raises(UriError):
                await tokens.sign("pkcs11:serial", Mechanism.ECDSA_SHA256, DIGEST)
            with pytest.raises(TokenNotFound):
                await tokens.contents("pkcs11:serial=none")
            assert tokens.health()[0]["restarts"] == 0

    run(main)


# Hang and death


def test_a_worker_that_hangs_is_killed_and_replaced(softhsm_token: SoftToken) -> None:
    softhsm_token.add_key("ec-p256")

    async def main() -> None:
        async with hosted(spec(softhsm_token), timeouts=Timeouts(sign=0.3)) as tokens:
            _, key_uri = await unlock(tokens, softhsm_token)
            [worker] = workers(tokens)
            stop(worker)
            started = time.monotonic()
            with pytest.raises(WorkerTimeout, match=r"sign within 0\.3 seconds"):
                await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)
            assert 0.25 < time.monotonic() - started < 3
            await eventually(lambda: is_gone(worker.pid), "the hanging process is gone")
            with pytest.raises(LoginRequired):
                await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)
            await unlock(tokens, softhsm_token)
            assert await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)
            [health] = tokens.health()
            assert (health["state"], health["timeouts"], health["restarts"]) == ("ready", 1, 1)
            assert health["last_error"]["code"] == "worker_timeout"

    run(main)


def test_a_worker_killed_mid_signature_is_an_error_and_nothing_is_signed_again(softhsm_token: SoftToken) -> None:
    key = softhsm_token.add_key("rsa-4096")
    assert isinstance(key, rsa.RSAPrivateKey)

    async def main() -> None:
        async with hosted(spec(softhsm_token)) as tokens:
            for _ in range(20):
                _, key_uri = await unlock(tokens, softhsm_token)
                [worker] = workers(tokens)
                asked = [
                    asyncio.create_task(tokens.sign(key_uri, Mechanism.RSA_PKCS1_SHA256, DIGEST)) for _ in range(6)
                ]
                await asked[0]
                os.kill(worker.pid, signal.SIGKILL)
                outcomes = await asyncio.gather(*asked, return_exceptions=True)
                kinds = [type(outcome) for outcome in outcomes]
                assert set(kinds) <= {bytes, WorkerDied, LoginRequired}
                assert kinds.count(WorkerDied) <= 1
                for outcome in outcomes:
                    if isinstance(outcome, bytes):
                        key.public_key().verify(outcome, DIGEST, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
                if WorkerDied in kinds:
                    # What waited behind it went on to the new worker, which is not logged in.
                    assert kinds.index(WorkerDied) < kinds.index(LoginRequired)
                    return
            pytest.fail("no kill hit a signature")

    run(main)


def test_an_operation_that_was_begun_is_never_begun_again(softhsm_token: SoftToken) -> None:
    async def main() -> None:
        async with hosted(spec(softhsm_token)) as tokens:
            uri = (await find(tokens, softhsm_token)).uri
            await tokens.login(uri, bytearray(softhsm_token.user_pin.encode()))
            [worker] = workers(tokens)
            generating = asyncio.create_task(tokens.generate_key(uri, KeyType.RSA_4096, "key", b"\x01"))
            await asyncio.sleep(0.05)
            assert worker.load == 1
            os.kill(worker.pid, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                await generating
            assert (await tokens.contents(uri)).keys == ()

    run(main)


def test_a_request_that_was_never_read_goes_to_the_next_worker(softhsm_token: SoftToken) -> None:
    softhsm_token.add_key("ec-p256")

    async def main() -> None:
        async with hosted(spec(softhsm_token)) as tokens:
            uri = (await find(tokens, softhsm_token)).uri
            [worker] = workers(tokens)
            stop(worker)
            asked = asyncio.create_task(tokens.contents(uri))
            login = asyncio.create_task(tokens.login(uri, bytearray(softhsm_token.user_pin.encode())))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert worker.load == 2
            os.kill(worker.pid, signal.SIGKILL)
            assert len((await asked).keys) == 1
            # A login is meant for one worker; it is an error, and no PIN goes anywhere by itself.
            with pytest.raises(WorkerDied):
                await login

    run(main)


def test_a_worker_that_died_while_idle_is_replaced_unnoticed(softhsm_token: SoftToken) -> None:
    softhsm_token.add_key("ec-p256")

    async def main() -> None:
        async with hosted(spec(softhsm_token)) as tokens:
            uri, key_uri = await unlock(tokens, softhsm_token)
            [worker] = workers(tokens)
            os.kill(worker.pid, signal.SIGKILL)
            # At once, perhaps before its end is known here:
            assert len((await tokens.contents(uri)).keys) == 1
            assert not (await find(tokens, softhsm_token)).logged_in
            with pytest.raises(LoginRequired):
                await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)
            assert tokens.health()[0]["restarts"] == 1
            assert is_gone(worker.pid)

    run(main)


DEATHS = 30


def test_many_deaths_leave_nothing_behind(softhsm_token: SoftToken) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        async with hosted(spec(softhsm_token)) as tokens:
            pids = []
            before = 0
            for cycle in range(DEATHS):
                assert len(await tokens.modules()) == 1
                [worker] = workers(tokens)
                pids.append(worker.pid)
                if cycle == 0:
                    before = descriptors()
                os.kill(worker.pid, signal.SIGKILL)
                await eventually(lambda worker=worker: not worker.alive, "its end is noticed")  # type: ignore[misc]
            await find(tokens, softhsm_token)
            assert tokens.health()[0]["restarts"] == DEATHS
            assert descriptors() == before
            assert len(set(pids)) == DEATHS
            await eventually(lambda: all(map(is_gone, pids)), "no zombie is left")

    run(main)


def test_a_module_that_keeps_failing_is_tried_at_growing_intervals(tmp_path: Path) -> None:
    async def main() -> None:
        module = ModuleSpec(tmp_path / "x.so", command=("/bin/false",))
        async with hosted(module) as tokens:
            supervisor = tokens._modules[0].supervisor
            for _ in range(2):
                with pytest.raises(ModuleNotLoadable, match="/bin/false ended before it had loaded the module"):
                    await supervisor.tokens()
            with pytest.raises(ModuleNotLoadable, match="next attempt"):
                await supervisor.tokens()
            await asyncio.sleep(0.3)
            with pytest.raises(ModuleNotLoadable) as caught:
                await supervisor.tokens()
            assert "next attempt" not in caught.value.message
            assert await tokens.tokens() == []
            assert tokens.health()[0]["state"] == "failed"

    run(main)


def test_a_worker_program_that_is_missing_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with hosted(ModuleSpec(tmp_path / "x.so", command=(str(tmp_path / "absent"),))) as tokens:
            assert await tokens.tokens() == []
            assert "cannot be started" in tokens.health()[0]["fault"]

    run(main)


def test_without_descriptors_left_the_error_is_named_and_it_recovers(softhsm_token: SoftToken) -> None:
    async def main() -> None:
        async with hosted(spec(softhsm_token)) as tokens:
            before = len(os.listdir("/proc/self/fd"))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            for spare in (0, 1, 2, 3, 5):  # at which step it fails
                with contextlib.ExitStack() as opened:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
                    try:
                        files = []
                        with contextlib.suppress(OSError):
                            while True:
                                files.append(opened.enter_context(open(os.devnull, "rb")))  # noqa: ASYNC230
                        for file in files[:spare]:
                            file.close()
                        with pytest.raises(WorkerDied, match="cannot be started"):
                            await tokens._modules[0].supervisor.tokens()
                    finally:
                        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                tokens._modules[0].supervisor._not_before = 0.0
            assert len(os.listdir("/proc/self/fd")) == before
            assert (await find(tokens, softhsm_token)).serial == softhsm_token.serial

    run(main)
