"""Administrative acts on record: an intent before, one outcome after, whatever happens between."""

from __future__ import annotations

import asyncio
import io
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent_world import World
from line_parts import CALLER, Clockwork
from sealagent.client import AgentError
from sealagent.errors import SealAgentError
from sealagent.records.check import check_export
from sealagent.records.ledger import Ledger
from sealagent.signing.administration import Act, administered
from sealagent.signing.recording import Recorder
from sealdrivers.errors import TokenRemoved
from softgm import SoftSkfToken

Body = Callable[[Act], Awaitable[None]]


def _acted(directory: Path, body: Body) -> list[tuple[str, str | None, int | None]]:
    """Carry out one act; return kind, reason and intent of the entries, once the export was checked."""

    async def scene(ledger: Ledger) -> None:
        with suppress(SealAgentError, TokenRemoved, asyncio.CancelledError):
            async with administered(Recorder(ledger), CALLER, "change_pin", token="t") as act:
                await body(act)

    with Ledger.open(directory / "record.sqlite", Clockwork()) as ledger:
        asyncio.run(scene(ledger))
        exported = io.BytesIO()
        ledger.export(exported)
        report = check_export(exported.getvalue().splitlines())
        assert report.ok
        assert not report.open_intents
        assert all(
            entry.kind.value == "failed" or entry.body["operation"] == "change_pin" for entry in ledger.entries()
        )
        return [(entry.kind.value, _text(entry.body.get("reason")), entry.intent) for entry in ledger.entries()]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def test_done(tmp_path: Path) -> None:
    async def body(act: Act) -> None:
        await act.begin()
        act.facts["key"] = "made"

    assert _acted(tmp_path, body) == [("intent", None, None), ("admin", None, 1)]


def test_refused_before_it_began(tmp_path: Path) -> None:
    async def body(act: Act) -> None:
        raise SealAgentError("pin_cancelled", "no")

    assert _acted(tmp_path, body) == [("refused", "pin_cancelled", None)]


@pytest.mark.parametrize(
    ("error", "reason"), [(TokenRemoved("gone"), "token_removed"), (asyncio.CancelledError(), "cancelled")]
)
def test_failed_after_it_began(tmp_path: Path, error: BaseException, reason: str) -> None:
    async def body(act: Act) -> None:
        await act.begin()
        raise error

    assert _acted(tmp_path, body) == [("intent", None, None), ("failed", reason, 1)]


def test_cancelled_while_the_intent_is_written(tmp_path: Path) -> None:
    async def body(act: Act) -> None:
        beginning = asyncio.create_task(act.begin())
        await asyncio.sleep(0)
        beginning.cancel()
        await beginning

    assert _acted(tmp_path, body) == [("intent", None, None), ("failed", "cancelled", 1)]


def test_one_recorder_leaves_alone_what_is_under_way(tmp_path: Path) -> None:
    async def scene(ledger: Ledger) -> None:
        recorder = Recorder(ledger)
        async with administered(recorder, CALLER, "change_pin") as act:
            await act.begin()
            assert await recorder.settle("record_failed", "not this one") == 0
        assert [entry.kind.value for entry in ledger.entries()] == ["intent", "admin"]

    with Ledger.open(tmp_path / "record.sqlite", Clockwork()) as ledger:
        asyncio.run(scene(ledger))


def test_a_kill_while_the_device_makes_a_key_shows_in_the_record(world: World, softskf_token: SoftSkfToken) -> None:
    assert softskf_token.library is not None
    world.modules, world.driver = [softskf_token.library], "skf"
    world.pin_file.touch(0o600)
    world.pin_file.write_text(softskf_token.user_pin + "\n")
    daemon = world.start()
    with daemon.agent() as agent:
        (token,) = agent.tokens()["tokens"]
        softskf_token.set_fault("hang", "SKF_GenECCKeyPair")

        def generate() -> None:
            with daemon.agent() as own, suppress(AgentError):
                own.generate_key(token["id"], "sm2", "key")

        waiting = threading.Thread(target=generate)
        waiting.start()
        end = time.monotonic() + 20
        while agent.checkpoint()["size"] < 1:
            assert time.monotonic() < end
            time.sleep(0.02)
    daemon.stop(signal.SIGKILL)
    waiting.join(30)
    softskf_token.clear_faults()
    with world.start().agent() as agent:
        assert agent.status()["interrupted"] == 1
        intent, failed = agent.records()["records"]
        assert (intent["kind"], intent["body"]["operation"]) == ("intent", "generate_key")
        assert (failed["kind"], failed["body"]["intent"], failed["body"]["reason"]) == ("failed", 1, "interrupted")
        assert check_export(b"".join(agent.export_record()).splitlines()).ok
