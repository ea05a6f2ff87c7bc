"""The end of a caller is noticed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from caller_parts import in_loop
from sealagent.callers import watch
from sealagent.callers.peer import Caller
from sealagent.callers.processes import look_at
from sealagent.callers.watch import ended


@contextmanager
def running() -> Iterator[tuple[Caller, subprocess.Popen[bytes]]]:
    child = subprocess.Popen(["sleep", "60"])
    try:
        seen = look_at(child.pid)
        assert seen is not None
        yield Caller(os.getuid(), os.getgid(), child.pid, None, seen.started), child
    finally:
        child.kill()
        child.wait()


async def outcome(caller: Caller, seconds: float = 5.0) -> str:
    try:
        await asyncio.wait_for(ended(caller), seconds)
    except TimeoutError:
        return "runs"
    return "ended"


@pytest.fixture(params=["pidfd", "looking"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With pidfds, and as on a kernel that has none."""
    if request.param == "looking":

        def refused(pid: int, flags: int = 0) -> int:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(os, "pidfd_open", refused)
        monkeypatch.setattr(watch, "LOOK_SECONDS", 0.02)
    return str(request.param)


@in_loop
async def test_end_is_noticed(way: str) -> None:
    with running() as (caller, child):
        watching = asyncio.create_task(ended(caller))
        done, _ = await asyncio.wait({watching}, timeout=0.1)
        assert not done
        child.send_signal(signal.SIGKILL)  # nobody waits for it: a zombie has ended, too
        await asyncio.wait_for(watching, 5)


@in_loop
async def test_ended_before(way: str) -> None:
    with running() as (caller, child):
        child.kill()
        child.wait()
        assert await outcome(caller) == "ended"


@in_loop
async def test_another_process_with_the_pid(way: str) -> None:
    with running() as (caller, _):
        assert caller.started is not None
        earlier = Caller(caller.uid, caller.gid, caller.pid, None, caller.started - 1)
        assert await outcome(earlier) == "ended"
        assert await outcome(Caller(caller.uid, caller.gid, caller.pid, None, None)) == "ended"


@in_loop
async def test_process_that_nobody_can_name() -> None:
    assert await outcome(Caller(0, 0, 0, None, None), 0.1) == "runs"


@in_loop
async def test_given_up_leaves_nothing_open(way: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with running() as (caller, _):
        watching = [asyncio.create_task(ended(caller)) for _ in range(10)]
        await asyncio.sleep(0.05)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        assert all(task.cancelled() for task in watching)
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the pidfd that asyncio's child watcher may keep
