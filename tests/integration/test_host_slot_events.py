"""Slot events: taken where they work, and never believed where they do not. Real workers, scripted events."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from host_parts import MODULE_TIMEOUTS, hosted, run
from sealdrivers.host import service, supervisor
from sealdrivers.host.service import HostedTokens, ModuleSpec
from softgm import SoftSkfToken
from softhsm2_fixtures import SoftToken

TESTS = Path(__file__).resolve().parents[1]


class Scene:
    """One module, its token, and what its C_WaitForSlotEvent answers."""

    def __init__(self, token: SoftToken, folder: Path) -> None:
        self.token = token
        self.folder = folder
        self.answer("none")
        (folder / "calls").touch()
        module = token.module.resolve()
        command = (sys.executable, "-P", str(TESTS / "slot_event_worker.py"), str(module), str(folder))
        self.spec = ModuleSpec(module, command=command)

    def answer(self, what: str) -> None:
        draft = self.folder / "draft"
        draft.write_text(what)
        draft.replace(self.folder / "answer")

    def calls(self, name: str) -> int:
        return (self.folder / "calls").read_text().splitlines().count(name)

    def play(self, act: Callable[[HostedTokens], Awaitable[None]]) -> None:
        async def scene() -> None:
            async with hosted(self.spec, timeouts=MODULE_TIMEOUTS) as tokens:
                await tokens.poll()
                self.answer("none")
                await act(tokens)

        run(scene)

    async def change(self, tokens: HostedTokens, *, reported: str) -> None:
        """Pull the token, or plug it in, let it be reported as said, and check that a quick look notices."""
        there = self.token.serial in {token.serial for token in await tokens.tokens()}
        (self.token.remove if there else self.token.insert)()
        self.answer(reported)
        inserted, removed = await tokens.poll(quick=True)
        assert [token.serial for token in (removed if there else inserted)] == [self.token.serial]


@pytest.fixture
def scene(softhsm_token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", ""))))
    return Scene(softhsm_token, tmp_path)


def test_a_module_that_proved_its_events_is_only_asked_for_them(scene: Scene) -> None:
    async def act(tokens: HostedTokens) -> None:
        await scene.change(tokens, reported="event")
        lists, asked = scene.calls("C_GetSlotList"), scene.calls("C_WaitForSlotEvent")
        for _ in range(5):
            assert await tokens.poll(quick=True) == ([], [])
        assert scene.calls("C_GetSlotList") == lists
        assert scene.calls("C_WaitForSlotEvent") == asked + 5
        await scene.change(tokens, reported="event")
        await tokens.poll()  # not a quick look
        assert scene.calls("C_GetSlotList") > lists

    scene.play(act)


def test_a_module_that_never_reports_is_listed_as_ever(scene: Scene) -> None:
    """SoftHSM 2.6.1: CKR_NO_EVENT, whatever happens."""

    async def act(tokens: HostedTokens) -> None:
        for _ in range(3):
            await scene.change(tokens, reported="none")
        assert scene.calls("C_WaitForSlotEvent") > 0

    scene.play(act)


def test_events_that_fail_to_come_once_are_noticed_by_the_full_look(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(tokens: HostedTokens) -> None:
        await scene.change(tokens, reported="event")
        scene.token.insert()
        assert await tokens.poll(quick=True) == ([], [])  # it says that nothing happened
        monkeypatch.setattr(service, "FULL_LOOK_SECONDS", 0.0)
        await tokens.tokens()  # somebody else's listing
        inserted, _ = await tokens.poll(quick=True)
        assert [token.serial for token in inserted] == [scene.token.serial]
        await scene.change(tokens, reported="none")  # not believed any more

    scene.play(act)


@pytest.mark.parametrize("answer", ["unsupported", "fail"])
def test_a_module_that_cannot_tell_is_asked_once(scene: Scene, answer: str) -> None:
    async def act(tokens: HostedTokens) -> None:
        before = scene.calls("C_WaitForSlotEvent")
        scene.answer(answer)
        scene.token.remove()
        await tokens.poll(quick=True)
        for _ in range(2):
            await scene.change(tokens, reported=answer)
        assert scene.calls("C_WaitForSlotEvent") - before <= 1
        assert tokens.health()[0]["restarts"] == 0

    (scene.folder / "answer").write_text(answer)
    scene.play(act)
    assert scene.calls("C_WaitForSlotEvent") == 1


def test_a_module_that_waits_although_told_not_to_loses_its_worker_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "SLOT_EVENT_SECONDS", 0.5)

    async def act(tokens: HostedTokens) -> None:
        for _ in range(4):
            await scene.change(tokens, reported="hang")
        assert scene.calls("C_WaitForSlotEvent") == 1
        assert tokens.health()[0]["restarts"] == 1

    scene.answer("hang")
    scene.play(act)


def test_skf_has_no_slot_events_and_is_listed(softskf_token: SoftSkfToken) -> None:
    assert softskf_token.library is not None

    async def act() -> None:
        assert softskf_token.library is not None
        async with hosted(ModuleSpec(softskf_token.library.resolve(), driver="skf")) as tokens:
            for change in (softskf_token.remove, softskf_token.insert):
                await tokens.poll(quick=True)
                change()
                inserted, removed = await tokens.poll(quick=True)
                assert softskf_token.serial in {token.serial for token in (*inserted, *removed)}
            (module,) = tokens._modules
            assert await module.supervisor.slot_event() is None

    run(act)
