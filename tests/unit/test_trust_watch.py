"""The look at the administrator's trust lists goes on whatever happens, and tells only of changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import pytest
from trust_store_parts import CENTRE, START, version

from sealagent.daemon.trustwatch import watch_trust
from sealagent.pki.trustlists import TrustLists


async def _until(true: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await true.wait()


def test_a_file_that_is_laid_into_the_folder_counts_soon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    lists = TrustLists(tmp_path / "trust", lambda: START, configured=[folder], signers=[CENTRE.sha256])
    looked, changed, told = asyncio.Event(), asyncio.Event(), 0
    real = lists.refresh

    def refresh() -> bool:
        if not looked.is_set():
            loop.call_soon_threadsafe(looked.set)
            raise RuntimeError("a fault of ours")
        return real()

    def tell() -> None:
        nonlocal told
        told += 1
        changed.set()

    async def watch() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(watch_trust(lists, tell, every=0.01))
        await _until(looked)
        await asyncio.sleep(0.1)
        assert told == 0, "nothing has changed"
        (folder / "beijing").write_bytes(version(1))
        await _until(changed)
        await asyncio.sleep(0.1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    loop: asyncio.AbstractEventLoop
    lists.refresh = refresh  # type: ignore[method-assign]
    with caplog.at_level(logging.CRITICAL, "sealagent.daemon.trustwatch"):
        asyncio.run(watch())
    assert told == 1
    assert [held.list.id for held in lists.lists] == ["beijing"]
