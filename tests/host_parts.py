"""SoftHSM in real worker processes: what the tests of the driver host share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from sealdrivers.contract import TokenInfo
from sealdrivers.host.process import WorkerProcess
from sealdrivers.host.service import HostedTokens, ModuleSpec, Timeouts
from softhsm2_fixtures import SoftToken

DIGEST = bytes(range(32))
MODULE_TIMEOUTS = Timeouts(sign=20, login=20, generate=60, other=20)


@contextlib.asynccontextmanager
async def hosted(*specs: ModuleSpec, timeouts: Timeouts = MODULE_TIMEOUTS) -> AsyncIterator[HostedTokens]:
    tokens = HostedTokens(specs, timeouts)
    try:
        yield tokens
    finally:
        await tokens.close()


def spec(token: SoftToken, workers: int = 1) -> ModuleSpec:
    return ModuleSpec(token.module.resolve(), workers=workers)


def workers(tokens: HostedTokens) -> list[WorkerProcess]:
    return [worker for module in tokens._modules for worker in module.supervisor._alive()]


async def find(tokens: HostedTokens, token: SoftToken) -> TokenInfo:
    [found] = [info for info in await tokens.tokens() if info.serial == token.serial]
    return found


async def unlock(tokens: HostedTokens, token: SoftToken) -> tuple[str, str]:
    """Log in and return the URIs of the token and of its only key."""
    uri = (await find(tokens, token)).uri
    await tokens.login(uri, bytearray(token.user_pin.encode()))
    [key] = (await tokens.contents(uri)).keys
    return uri, key.uri


async def eventually(condition: Callable[[], bool], what: str) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"not within 5 seconds: {what}")


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run on the daemon's event loop, within a minute."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(limited())


def is_gone(pid: int) -> bool:
    """Say whether no process, not even a zombie, has this number."""
    return not Path(f"/proc/{pid}").exists()


def stop(worker: WorkerProcess) -> None:
    """Let a worker hang, and return once it does."""
    os.kill(worker.pid, signal.SIGSTOP)
    while Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        time.sleep(0.001)
