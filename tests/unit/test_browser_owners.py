"""Extensions and web sites share one program, the bridge's or the browser's: they are told apart by their origins."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from batch_parts import APPLICATION, CALLER, Open, Stage, documents, opened_batches
from sealagent.callers.peer import Caller
from sealagent.errors import SealAgentError
from sealagent.signing.owners import owner_of

ONE = replace(CALLER, origin=f"chrome-extension://{'abcdefghijklmnop' * 2}")
OTHER = replace(CALLER, origin=f"chrome-extension://{'ponmlkjihgfedcba' * 2}")


def test_results_belong_to_the_origin_and_to_the_application_once_it_is_paired() -> None:
    callers = (CALLER, ONE, OTHER, APPLICATION, replace(ONE, uid=ONE.uid + 1))
    assert len({owner_of(caller) for caller in callers}) == len(callers)
    assert owner_of(replace(APPLICATION, origin=ONE.origin)) == owner_of(APPLICATION)
    assert owner_of(replace(ONE, page="https://a.example", pid=1)) == owner_of(ONE)


async def _code(opened: Open, caller: Caller, batch: str) -> str:
    with pytest.raises(SealAgentError) as caught:
        await opened.batches.cancel(caller, batch)
    return caught.value.code


def test_an_extension_that_is_not_paired_sees_its_own_batches_only(tmp_path: Path) -> None:
    async def scene() -> None:
        async with opened_batches(Stage(tmp_path)) as opened:
            own = {}
            for caller in (CALLER, ONE, OTHER, APPLICATION):
                own[caller] = (await opened.approved(documents(1), caller)).id
            for caller in (ONE, OTHER):
                assert [batch.id for batch in await opened.batches.list(caller)] == [own[caller]]
                for batch in {*own.values()} - {own[caller]}:
                    assert await _code(opened, caller, batch) == "batch_not_found"
            assert {batch.id for batch in await opened.batches.list(CALLER)} == {*own.values()}
            await opened.batches.cancel(ONE, own[ONE])
            await opened.batches.cancel(CALLER, own[OTHER])  # the holder's own tools end what they see

    asyncio.run(scene())
