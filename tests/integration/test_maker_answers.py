"""Answers about seals through time, with a real device and a clock that tests set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import ClientSession

from host_parts import eventually
from maker_parts import SAID, UNIT, Office, Room
from register_parts import add_seal, said, sm3_of
from sealagent.errors import FormatError, SealAgentError
from sealagent.maker import server as server_module
from sealagent.maker.device import Device, UnitKey
from sealagent.maker.publishing import (
    MAX_SIGNING,
    Answers,
    Published,
    RegisterView,
    publish_list,
    published_list,
    sign_content,
)
from sealagent.maker.register import Register
from sealagent.maker.server import StatusServer
from sealagent.maker.states import Change
from sealagent.pki.signed import open_signed
from sealagent.seals.answers import read_answer, read_list
from sealagent.seals.status import SealState
from softhsm2_fixtures import SoftHsm

T = TypeVar("T")
LIMIT = 1 << 20
SM3 = sm3_of(1)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC) + timedelta(seconds=5)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Desk:
    """The status service's parts, in this process."""

    room: Room
    clock: Clock
    view: RegisterView
    answers: Answers

    @property
    def register(self) -> Register:
        return self.room.register

    async def ask(self, sm3: str = SM3, **question: Any) -> bytes:
        return (await self.answers.answer(sm3, **question))[0]


@pytest.fixture(scope="module")
def office(softhsm: SoftHsm, tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office"), "p-256", softhsm.new_token())


def at_desk(
    office: Office, tmp_path: Path, work: Callable[[Desk], Awaitable[T]], device: type[Device] | None = None
) -> T:
    """Do some work at a desk whose register has one valid seal."""
    office.configure()
    text = office.config.read_text().replace(str(office.state), str(tmp_path / "state"))
    office.config.write_text(text)

    async def main(room: Room) -> T:
        await add_seal(room.register, 1, state="valid")
        clock = Clock()
        view = RegisterView(room.settings.places, clock)
        key = await room.device.key(room.settings.role("status"))
        signing = device(room.device._tokens, room.device._unlocker, clock) if device else room.device
        try:
            return await work(Desk(room, clock, view, Answers(view, signing, key, clock, unit=UNIT, seconds=100)))
        finally:
            view.close()

    return office.work(main)


def test_an_answer_is_kept_for_half_its_time(office: Office, tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        first = await desk.ask()
        desk.clock.now += timedelta(seconds=49)
        assert await desk.ask() == first
        desk.clock.now += timedelta(seconds=1)
        second = await desk.ask()
        assert second != first
        assert desk.answers.signed == 2
        answer = read_answer(open_signed(second, limit=LIMIT).content)
        assert answer.next_update - answer.produced_at == timedelta(seconds=100)

    at_desk(office, tmp_path, work)


def test_an_answer_is_kept_until_something_happens(office: Office, tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        first = await desk.ask()
        await add_seal(desk.register, 2)  # another seal
        assert await desk.ask() == first
        await desk.register.change(SM3, Change.SUSPENDED, said("investigation"))
        assert read_answer(open_signed(await desk.ask(), limit=LIMIT).content).status is SealState.SUSPENDED
        assert desk.answers.signed == 2

    at_desk(office, tmp_path, work)


def test_only_the_plain_question_is_kept(office: Office, tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        first = await desk.ask()
        moment = desk.clock.now.replace(microsecond=0)
        for question in ({"nonce": b"1"}, {"at": moment}, {"nonce": b"1"}):
            assert await desk.ask(**question) != first
        assert desk.answers.signed == 4
        assert await desk.ask() == first
        for number in range(3):
            await desk.ask(sm3_of(99 + number))
        assert len(desk.answers._kept) == 1
        with pytest.raises(FormatError) as caught:
            await desk.ask(at=moment + timedelta(seconds=1))
        assert caught.value.code == "status_question_invalid"

    at_desk(office, tmp_path, work)


def test_the_same_question_at_once_is_signed_once(office: Office, tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        replies = await asyncio.gather(*(desk.ask() for _ in range(20)))
        assert (len(set(replies)), desk.answers.signed) == (1, 1)

    at_desk(office, tmp_path, work)


class SlowDevice(Device):
    """A device that signs when it is told to."""

    go = asyncio.Event()

    async def sign(self, key: UnitKey, message: bytes, purpose: str | None = None) -> bytes:
        await self.go.wait()
        return await super().sign(key, message, purpose)


def test_questions_that_wait_for_the_device_are_bounded(office: Office, tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        waiting = [asyncio.create_task(desk.ask(nonce=bytes([number]))) for number in range(MAX_SIGNING)]
        await eventually(lambda: desk.answers._waiting == MAX_SIGNING, "all wait")
        with pytest.raises(SealAgentError) as caught:
            await desk.ask(nonce=b"one more")
        assert caught.value.code == "status_busy"
        waiting[3].cancel()
        SlowDevice.go.set()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(each, bytes) for each in done].count(False) == 1
        assert await desk.ask(nonce=b"one more")

    SlowDevice.go = asyncio.Event()
    at_desk(office, tmp_path, work, SlowDevice)


def test_a_clock_that_was_set_back_answers_nothing(office: Office, tmp_path: Path) -> None:
    """An answer would have to speak of what has not happened yet."""

    async def work(desk: Desk) -> str:
        desk.clock.now -= timedelta(days=1)
        with pytest.raises(SealAgentError) as caught:
            await desk.ask()
        return caught.value.code

    assert at_desk(office, tmp_path, work) == "status_answer_invalid"


def test_the_list_has_every_seal_and_the_next_sequence(office: Office, tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        room, key = desk.room, await desk.room.device.key(desk.room.settings.role("status"))
        names = {"list_id": "seals-110000", "unit": UNIT, "seconds": 3600}
        assert published_list(room.settings.places) is None
        messages = []
        for number in (2, 3):
            await add_seal(desk.register, number)
            messages.append(await publish_list(desk.register, room.device, key, SAID, **names))  # type: ignore[arg-type]
        lists = [read_list(open_signed(each, limit=LIMIT).content) for each in messages]
        assert [each.sequence for each in lists] == [1, 2]
        assert [len(each.seals) for each in lists] == [2, 3]
        latest = published_list(room.settings.places)
        assert latest is not None
        assert latest[1] == messages[1]
        assert (latest[0].sequence, latest[0].produced_at) == (2, lists[1].produced_at)
        assert len([*room.settings.places.published.iterdir()]) == 1
        assert lists[1].seals[SM3][-1].state is SealState.VALID
        assert desk.register.index_matches() is None

    at_desk(office, tmp_path, work)


def test_names_of_lists() -> None:
    made = Published(12, datetime(2026, 11, 27, 8, tzinfo=UTC), 345)
    assert Published.of(made.name) == made
    for name in ("status-list-0-1-1.p7m", "status-list-1-1.p7m", "new-0123", "../status-list-1-1-1.p7m", ""):
        assert Published.of(name) is None


def test_who_signs_the_list_again_and_when(office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is due at half its time, or a minute after a change; while it cannot be made, the old one serves."""

    async def work(desk: Desk) -> None:
        room = desk.room
        key = await room.device.key(room.settings.role("status"))
        server = StatusServer(room.settings, desk.view, room.device, key, desk.clock)
        last = Published(1, desk.clock.now, desk.view.size())
        seconds = room.settings.status.list_seconds
        for age, due in ((0, False), (seconds / 2 - 1, False), (seconds / 2, True)):
            assert server._is_due(last, desk.clock.now + timedelta(seconds=age)) is due
        changed = Published(1, desk.clock.now, desk.view.size() - 1)
        for age, due in ((0, False), (59, False), (60, True)):
            assert server._is_due(changed, desk.clock.now + timedelta(seconds=age)) is due
        monkeypatch.setattr(server_module, "LIST_WAIT_SECONDS", 0.05)
        # This test has the register open: nobody else can make a list now.
        with pytest.raises(SealAgentError) as caught:
            await server._current_list()
        assert caught.value.code == "register_in_use"
        names = {"list_id": room.settings.list_id, "unit": UNIT, "seconds": seconds}
        message = await publish_list(desk.register, room.device, key, SAID, **names)  # type: ignore[arg-type]
        desk.clock.now += timedelta(seconds=seconds - 10)
        assert (await server._current_list())[1] == message
        desk.clock.now += timedelta(seconds=20)
        with pytest.raises(SealAgentError):
            await server._current_list()

    at_desk(office, tmp_path, work)


def test_a_silent_client_is_cut_off(office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "FIRST_REQUEST_SECONDS", 0.3)

    async def work(desk: Desk) -> None:
        room = desk.room
        key = await room.device.key(room.settings.role("status"))
        server = StatusServer(room.settings, desk.view, room.device, key, desk.clock)
        host, port = await server.start()
        try:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
            async with asyncio.timeout(5):
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
            writer.close()
            async with ClientSession() as session:
                async with session.get(f"http://{host}:{port}/healthz") as reply:
                    assert reply.status == 200
                await asyncio.sleep(0.6)  # one that has asked before is not cut off
                async with session.get(f"http://{host}:{port}/healthz") as reply:
                    assert reply.status == 200
        finally:
            await server.stop()

    at_desk(office, tmp_path, work)


def test_one_address_does_not_hold_up_the_others(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "PER_CLIENT", 2)
    SlowDevice.go = asyncio.Event()

    async def work(desk: Desk) -> list[int]:
        room = desk.room
        key = await room.device.key(room.settings.role("status"))
        slow = SlowDevice(room.device._tokens, room.device._unlocker, desk.clock)
        server = StatusServer(room.settings, desk.view, slow, key, desk.clock)
        host, port = await server.start()
        try:
            async with ClientSession() as session:

                async def ask(number: int) -> int:
                    url = f"http://{host}:{port}/v1/seals/{SM3}?nonce={number:02x}"
                    async with session.get(url) as reply:
                        return reply.status

                first = [asyncio.create_task(ask(number)) for number in range(2)]
                await eventually(lambda: server._asking.total() == 2, "both wait")
                refused = await ask(9)
                SlowDevice.go.set()
                return [refused, *await asyncio.gather(*first), await ask(10)]
        finally:
            await server.stop()

    assert at_desk(office, tmp_path, work) == [503, 200, 200, 200]


def test_a_content_signed_with_another_key_is_not_released(office: Office, tmp_path: Path) -> None:
    async def work(desk: Desk) -> str:
        room = desk.room
        mixed = UnitKey(
            (await room.device.key(room.settings.role("status"))).info,
            room.key.token,
            room.key.certificate,
            room.key.mechanism,
        )
        with pytest.raises(SealAgentError) as caught:
            await sign_content(room.device, mixed, b"{}", datetime.now(UTC), "x")
        return caught.value.code

    assert at_desk(office, tmp_path, work) == "device_signature_wrong"
