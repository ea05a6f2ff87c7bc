"""Several modules, tokens and workers together, on SoftHSM."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.bindings import _rust
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from host_parts import DIGEST, eventually, find, hosted, run, spec, stop, unlock, workers
from sealdrivers.contract import Mechanism
from sealdrivers.errors import (
    DriverError,
    KeyNotFound,
    LoginRequired,
    PinIncorrect,
    TokenNotFound,
)
from sealdrivers.host import service as service_module
from sealdrivers.host.process import Request, WorkerProcess
from sealdrivers.host.service import ModuleSpec, Timeouts
from softhsm2_fixtures import SoftToken

# Modules that are none


def test_one_bad_module_hides_no_other(softhsm_token: SoftToken, tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("root:x:0:0:root:/root:/bin/bash\n")
    cut = tmp_path / "cut.so"
    cut.write_bytes(softhsm_token.module.read_bytes()[:5000])
    no_pkcs11 = Path(_rust.__file__)  # a shared library, but no PKCS#11 module

    async def main() -> None:
        bad = [ModuleSpec(path) for path in (text, cut, no_pkcs11, tmp_path / "absent.so")]
        async with hosted(*bad, spec(softhsm_token)) as tokens:
            assert (await find(tokens, softhsm_token)).label == softhsm_token.label
            assert len(await tokens.modules()) == 1
            *failed, good = tokens.health()
            assert good["state"] == "ready"
            assert {health["state"] for health in failed} == {"failed"}
            assert {health["last_error"]["code"] for health in failed} == {"module_not_loadable"}
            assert all(health["workers"] == 0 for health in failed)
            said = ["it is a text", "was cut short", "is no PKCS#11 module", "is no file"]
            for words, health in zip(said, failed, strict=True):
                assert words in health["fault"]

    run(main)


def test_a_slow_module_holds_up_no_other(softhsm_token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "LISTING_PATIENCE", 0.2)

    async def main() -> None:
        async with hosted(spec(softhsm_token), timeouts=Timeouts(other=1.0)) as tokens:
            while not await tokens.tokens():
                pass
            [worker] = workers(tokens)
            stop(worker)
            started = time.monotonic()
            assert (await find(tokens, softhsm_token)).serial == softhsm_token.serial
            assert time.monotonic() - started < 0.9
            await eventually(lambda: not worker.alive, "the hanging worker is killed")
            while tokens.health()[0]["state"] != "ready" or not await tokens.tokens():
                await tokens.tokens()
            assert tokens.health()[0]["timeouts"] == 1

    run(main)


# Tokens that come and go


def test_a_pulled_token_is_noticed(softhsm_token: SoftToken) -> None:
    softhsm_token.add_key("ec-p256")

    async def main() -> None:
        async with hosted(spec(softhsm_token)) as tokens:
            inserted, removed = await tokens.poll()
            assert [token.serial for token in inserted] == [softhsm_token.serial]
            assert removed == []
            assert await tokens.poll() == ([], [])
            uri, key_uri = await unlock(tokens, softhsm_token)
            softhsm_token.remove()
            with pytest.raises(DriverError) as caught:
                await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)
            assert caught.value.code in ("token_removed", "token_not_found")
            inserted, removed = await tokens.poll()
            assert (inserted, [token.uri for token in removed]) == ([], [uri])
            with pytest.raises(TokenNotFound):
                await tokens.contents(uri)
            softhsm_token.insert()
            inserted, removed = await tokens.poll()
            assert ([token.uri for token in inserted], removed) == ([uri], [])
            assert not inserted[0].logged_in
            with pytest.raises(LoginRequired):
                await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)
            await unlock(tokens, softhsm_token)
            assert await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)

    run(main)


def test_two_tokens_are_told_apart(softhsm_new_token: Callable[..., SoftToken]) -> None:
    first, second = softhsm_new_token(), softhsm_new_token()
    for token in (first, second):
        token.add_key("ec-p256")

    async def main() -> None:
        async with hosted(spec(first), spec(second)) as tokens:  # the same module twice shows each token once
            assert {token.serial for token in await tokens.tokens()} == {first.serial, second.serial}
            _, key_uri = await unlock(tokens, second)
            assert await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)
            assert not (await find(tokens, first)).logged_in
            with pytest.raises(KeyNotFound, match="2 tokens"):
                await tokens.sign("pkcs11:id=%01;type=private", Mechanism.ECDSA_SHA256, DIGEST)
            short = f"pkcs11:serial={second.serial};id=%01;type=private"
            assert await tokens.sign(short, Mechanism.ECDSA_SHA256, DIGEST)

    run(main)


# Several workers


def test_a_pool_signs_on_the_workers_that_are_logged_in(softhsm_token: SoftToken) -> None:
    softhsm_token.add_key("rsa-2048")

    async def main() -> None:
        async with hosted(spec(softhsm_token, workers=3)) as tokens:
            uri, key_uri = await unlock(tokens, softhsm_token)
            pool = workers(tokens)
            assert len(pool) == 3
            assert all(worker.logged_in == {uri} for worker in pool)

            async def sign(count: int) -> None:
                await asyncio.gather(*(tokens.sign(key_uri, Mechanism.RSA_PKCS1_SHA256, DIGEST) for _ in range(count)))

            signing = asyncio.create_task(sign(30))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert all(worker.load >= 9 for worker in pool)
            await signing
            os.kill(pool[0].pid, signal.SIGKILL)
            await eventually(lambda: not pool[0].alive, "its end is noticed")
            await sign(10)
            # A new worker takes what needs no login, and no signature while others are logged in.
            await asyncio.gather(*(tokens.contents(uri) for _ in range(6)))
            await sign(10)
            for worker in pool[1:]:
                os.kill(worker.pid, signal.SIGKILL)
            await eventually(lambda: not any(worker.alive for worker in pool), "their end is noticed")
            with pytest.raises(LoginRequired):
                await sign(1)
            await tokens.login(uri, bytearray(softhsm_token.user_pin.encode()))
            await sign(3)
            await tokens.logout(uri)
            assert not any(worker.logged_in for worker in workers(tokens))
            with pytest.raises(LoginRequired):
                await sign(1)

    run(main)


def test_a_wrong_pin_is_tried_on_one_worker_only(softhsm_token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    logins: list[int] = []
    submit = WorkerProcess.submit

    def counting(self: WorkerProcess, request: Request) -> None:
        if request.op == "login":
            logins.append(self.pid)
        submit(self, request)

    monkeypatch.setattr(WorkerProcess, "submit", counting)

    async def main() -> None:
        async with hosted(spec(softhsm_token, workers=3)) as tokens:
            uri = (await find(tokens, softhsm_token)).uri
            with pytest.raises(PinIncorrect):
                await tokens.login(uri, bytearray(b"wrong-pin"))
            assert len(logins) == 1
            await tokens.login(uri, bytearray(softhsm_token.user_pin.encode()))
            assert len(logins) == 4
            with pytest.raises(PinIncorrect):
                await tokens.login(uri, bytearray(b"wrong-pin"))
            assert len(logins) == 5
            await eventually(lambda: not any(worker.load for worker in workers(tokens)), "the others are locked, too")
            assert not any(worker.logged_in for worker in workers(tokens))

    run(main)


def test_a_login_goes_on_without_a_further_worker_that_fails(softhsm_token: SoftToken) -> None:
    softhsm_token.add_key("ec-p256")

    async def main() -> None:
        async with hosted(spec(softhsm_token, workers=2), timeouts=Timeouts(login=1.0)) as tokens:
            uri, key_uri = await unlock(tokens, softhsm_token)
            await tokens.logout(uri)
            first, second = workers(tokens)
            stop(second)
            await tokens.login(uri, bytearray(softhsm_token.user_pin.encode()))
            assert first.logged_in == {uri}
            assert not second.alive
            assert await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)

    run(main)


# Cancellation


def test_cancelled_requests_leave_the_stream_in_order(softhsm_token: SoftToken) -> None:
    key = softhsm_token.add_key("rsa-2048")
    assert isinstance(key, rsa.RSAPrivateKey)

    async def main() -> None:
        async with hosted(spec(softhsm_token)) as tokens:
            _, key_uri = await unlock(tokens, softhsm_token)
            [worker] = workers(tokens)
            for round_number in range(20):
                digests = [bytes([round_number, number]) * 16 for number in range(6)]
                asked = [
                    asyncio.create_task(tokens.sign(key_uri, Mechanism.RSA_PKCS1_SHA256, digest)) for digest in digests
                ]
                await asyncio.sleep(0.0003 * round_number)
                for task in asked[::2]:
                    task.cancel()
                outcomes = await asyncio.gather(*asked, return_exceptions=True)
                for digest, outcome in zip(digests[1::2], outcomes[1::2], strict=True):
                    assert isinstance(outcome, bytes)
                    key.public_key().verify(outcome, digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
            await eventually(lambda: worker.load == 0, "the dropped answers have come")
            assert worker.alive
            assert tokens.health()[0]["restarts"] == 0

    run(main)


@pytest.mark.parametrize("count", [1, 2])
def test_a_cancelled_login_leaves_the_token_locked(softhsm_token: SoftToken, count: int) -> None:
    softhsm_token.add_key("ec-p256")

    async def main() -> None:
        async with hosted(spec(softhsm_token, workers=count)) as tokens:
            uri, key_uri = await unlock(tokens, softhsm_token)
            await tokens.logout(uri)
            last = workers(tokens)[-1]
            stop(last)
            pin = bytearray(softhsm_token.user_pin.encode())
            login = asyncio.create_task(tokens.login(uri, pin))
            await eventually(lambda: last.load == 1, "the login has reached the last worker")
            login.cancel()
            with pytest.raises(asyncio.CancelledError):
                await login
            assert not any(pin)
            os.kill(last.pid, signal.SIGCONT)
            await eventually(lambda: not any(worker.load for worker in workers(tokens)), "it is undone")
            assert not (await find(tokens, softhsm_token)).logged_in
            for _ in range(2 * count):
                with pytest.raises(LoginRequired):
                    await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)

    run(main)
