"""Tokens are locked with the screen and before the machine sleeps, as message buses tell; strangers tell nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_world import World
from dbus_parts import Owner, PrivateBus, open_descriptors
from event_parts import Heard
from host_parts import eventually, run
from screen_lock_parts import GNOME, LOGIND, MANAGER, Tokens, environment, watching
from sealagent.client import Agent
from sealagent.daemon.screenlock import SAVERS, ScreenLock
from sealagent.events import Event

SESSION = f"{MANAGER}/session/_31"
QUIET = 0.3
"""Seconds in which nothing must have happened."""


@pytest.fixture
def buses(tmp_path: Path) -> Iterator[dict[str, PrivateBus]]:
    made = {kind: PrivateBus(tmp_path, kind) for kind in ("system", "session")}
    try:
        for each in made.values():
            each.start()
        yield made
    finally:
        for each in made.values():
            each.stop()


def both(buses: dict[str, PrivateBus]) -> dict[str, str]:
    return environment(buses["system"].address, buses["session"].address)


@pytest.mark.parametrize("saver", SAVERS)
def test_each_screen_saver_is_heard(buses: dict[str, PrivateBus], saver: str) -> None:
    async def scene() -> None:
        tokens, owner = Tokens(), buses["session"].owner(saver)
        async with watching(tokens, both(buses), heard="session"):
            owner.emit("/anywhere", saver, "ActiveChanged", "b", False)
            owner.emit("/anywhere", saver, "ActiveChanged", "s", "true")
            owner.emit("/anywhere", saver, "Locked", "b", True)
            await asyncio.sleep(QUIET)
            assert tokens.locked == 0
            owner.emit("/anywhere", saver, "ActiveChanged", "b", True)
            await eventually(lambda: tokens.locked == 1, "the lock")
            assert tokens.events == [Event("screen_locked", {"by": saver})]

    run(scene)


def test_nobody_but_the_owner_of_the_name_is_believed(buses: dict[str, PrivateBus]) -> None:
    async def scene() -> None:
        tokens = Tokens()
        saver, logind = buses["session"].owner(GNOME), buses["system"].owner(LOGIND)
        strangers = {kind: bus.owner(f"org.example.{kind}") for kind, bus in buses.items()}
        before = {kind: set(bus.clients()) for kind, bus in buses.items()}
        async with watching(tokens, both(buses), heard="session system"):
            [agent] = set(buses["session"].clients()) - before["session"]
            [agent_on_system] = set(buses["system"].clients()) - before["system"]
            strangers["session"].emit("/", GNOME, "ActiveChanged", "b", True)
            strangers["system"].emit(MANAGER, f"{LOGIND}.Manager", "PrepareForSleep", "b", True)
            strangers["system"].emit(SESSION, f"{LOGIND}.Session", "Lock")
            for destination in (None, agent):
                buses["session"].send("/", f"{GNOME}.ActiveChanged", "boolean:true", destination=destination)
            for destination in (None, agent_on_system):
                buses["system"].send(
                    MANAGER, f"{LOGIND}.Manager.PrepareForSleep", "boolean:true", destination=destination
                )
                buses["system"].send(SESSION, f"{LOGIND}.Session.Lock", destination=destination)
            # The owner of one name speaks for no other.
            saver.emit("/", "org.cinnamon.ScreenSaver", "ActiveChanged", "b", True)
            await asyncio.sleep(QUIET)
            assert (tokens.locked, tokens.events) == (0, [])
            saver.emit("/", GNOME, "ActiveChanged", "b", True)
            await eventually(lambda: tokens.locked == 1, "the lock by the owner")
            logind.emit(MANAGER, f"{LOGIND}.Manager", "PrepareForSleep", "b", True)
            await eventually(lambda: tokens.locked == 2, "the lock by logind")

    run(scene)


def logind_with_inhibitors(owner: Owner) -> list[socket.socket]:
    """Have logind hand out delay locks; return its ends of them."""
    ends: list[socket.socket] = []

    def inhibit(call: Any) -> tuple[Any, ...]:
        ours, theirs = socket.socketpair()
        ends.append(ours)
        ends.append(theirs)  # a copy is sent; this one is closed by the test
        return (theirs.fileno(),)

    owner.answers["Inhibit"] = ("h", inhibit)
    return ends


def released(end: socket.socket) -> bool:
    """Say whether the other copies of the descriptor's peer are closed."""
    end.setblocking(False)
    try:
        return end.recv(1) == b""
    except BlockingIOError:
        return False


def test_sleep_waits_until_every_token_is_locked(buses: dict[str, PrivateBus]) -> None:
    async def scene() -> None:
        tokens, logind = Tokens(slow=0.2), buses["system"].owner(LOGIND)
        ends = logind_with_inhibitors(logind)
        before = open_descriptors()
        async with watching(tokens, both(buses), heard="system") as screen_lock:
            await eventually(lambda: screen_lock.state()["delays_sleep"], "the delay lock")
            assert logind.calls.get(timeout=5) == ("Inhibit", ("sleep", "SealAgent", "keys are locked first", "delay"))
            ends[1].close()
            assert not released(ends[0])
            logind.emit(MANAGER, f"{LOGIND}.Manager", "PrepareForSleep", "b", True)
            await asyncio.sleep(0.1)
            assert not released(ends[0])
            await eventually(lambda: released(ends[0]), "the release")
            assert tokens.locked == 1
            assert tokens.events == [Event("machine_sleeps")]
            logind.emit(MANAGER, f"{LOGIND}.Manager", "PrepareForSleep", "b", False)
            await eventually(lambda: screen_lock.state()["delays_sleep"], "the next delay lock")
            assert tokens.locked == 1
        ends[3].close()
        assert released(ends[2])  # nothing is delayed by an agent that ended
        for end in ends:
            end.close()
        assert open_descriptors() == before

    run(scene)


def test_with_the_bus_the_delay_of_sleep_goes(buses: dict[str, PrivateBus]) -> None:
    async def scene() -> None:
        logind = buses["system"].owner(LOGIND)
        ends = logind_with_inhibitors(logind)
        async with watching(Tokens(), both(buses), heard="system") as screen_lock:
            await eventually(lambda: screen_lock.state()["delays_sleep"], "the delay lock")
            buses["system"].stop()
            await eventually(lambda: not screen_lock.state()["delays_sleep"], "the end of it")
            for end in ends[1::2]:
                end.close()
            await eventually(lambda: released(ends[0]), "the release")
        for end in ends:
            end.close()

    run(scene)


def test_a_session_that_is_locked_is_asked_whose_it_is(buses: dict[str, PrivateBus]) -> None:
    async def scene() -> None:
        tokens, logind = Tokens(), buses["system"].owner(LOGIND)
        user = [os.getuid() + 1]
        logind.answers["Get"] = ("v", lambda call: (("(uo)", (user[0], f"{MANAGER}/user/_0")),))
        async with watching(tokens, both(buses), heard="system"):
            logind.emit(SESSION, f"{LOGIND}.Session", "Lock")
            await asyncio.sleep(QUIET)
            assert tokens.locked == 0  # another user's
            user[0] = os.getuid()
            logind.emit(SESSION, f"{LOGIND}.Session", "Lock")
            await eventually(lambda: tokens.locked == 1, "the lock")
            assert ("Get", (f"{LOGIND}.Session", "User")) in logind.calls.queue
            logind.answers["Get"] = ("s", lambda call: ("nobody's",))
            logind.emit(SESSION, f"{LOGIND}.Session", "Lock")
            await eventually(lambda: tokens.locked == 2, "the lock without an answer")
            assert tokens.events == [Event("screen_locked", {"by": LOGIND})] * 2

    run(scene)


def test_without_a_bus_nothing_happens_and_the_state_says_so() -> None:
    async def scene() -> None:
        tokens = Tokens()
        async with watching(tokens, environment()) as screen_lock:
            await eventually(lambda: "session bus" in str(screen_lock.state()["fault"]), "the fault")
            state = screen_lock.state()
            assert (state["system"], state["session"]) == ("unreachable", "unreachable")
            assert state["fault"] == "system bus: No such file or directory; session bus: No such file or directory"
            await asyncio.sleep(QUIET)
        assert (tokens.locked, tokens.events) == (0, [])

    run(scene)


@pytest.mark.parametrize("address", ["", "nonsense", "tcp:host=localhost", "unix:", "unix:path=/dev/null"])
def test_an_address_that_is_none(address: str) -> None:
    async def scene() -> None:
        tokens = Tokens()
        async with watching(tokens, environment(session=address or "x")) as screen_lock:
            await eventually(lambda: "session bus" in str(screen_lock.state()["fault"]), "the fault")
        assert tokens.events == []

    run(scene)


def test_switched_off_nothing_is_watched(buses: dict[str, PrivateBus]) -> None:
    async def scene() -> None:
        screen_lock = ScreenLock(Tokens(), lambda event: None, both(buses), enabled=False)
        await screen_lock.run()
        assert screen_lock.state() == {"system": "off", "session": "off", "delays_sleep": False, "fault": None}
        assert buses["session"].clients() == []

    run(scene)


def test_a_bus_that_ended_is_tried_again_and_asked_what_was_missed(buses: dict[str, PrivateBus]) -> None:
    async def scene() -> None:
        tokens, bus = Tokens(), buses["session"]
        async with watching(tokens, both(buses), heard="session") as screen_lock:
            bus.stop()
            await eventually(lambda: screen_lock.state()["session"] == "unreachable", "the end")
            assert "session bus" in screen_lock.state()["fault"]
            await asyncio.sleep(QUIET)
            bus.start()
            saver = bus.owner(GNOME)
            saver.answers["GetActive"] = ("b", lambda call: (True,))
            await eventually(lambda: tokens.locked == 1, "the lock that was missed")
            assert screen_lock.state()["session"] == "listening"
            assert "session" not in str(screen_lock.state()["fault"])
            saver.emit("/", GNOME, "ActiveChanged", "b", True)
            await eventually(lambda: tokens.locked == 2, "the lock")

    run(scene)


def test_a_lock_that_failed_is_tried_again(buses: dict[str, PrivateBus], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealagent.daemon.screenlock.RELOCK_SECONDS", 0.05)

    async def scene() -> None:
        tokens, saver = Tokens(fails=2), buses["session"].owner(GNOME)
        async with watching(tokens, both(buses), heard="session"):
            saver.emit("/", GNOME, "ActiveChanged", "b", True)
            await eventually(lambda: tokens.locked == 1, "the lock")
            assert tokens.events == [Event("screen_locked", {"by": GNOME})]

    run(scene)


def test_a_screen_saver_that_does_not_stop_is_heard_now_and_then(buses: dict[str, PrivateBus]) -> None:
    async def scene() -> None:
        tokens, saver = Tokens(), buses["session"].owner(GNOME)
        async with watching(tokens, both(buses), heard="session"):
            begun = time.monotonic()
            for _ in range(100):
                saver.emit("/", GNOME, "ActiveChanged", "b", True)
                await asyncio.sleep(0.005)
            assert 1 <= tokens.locked <= (time.monotonic() - begun) / 0.1 + 1
            assert len(tokens.events) == tokens.locked

    run(scene)


# The whole agent


def test_the_agent_locks_its_token_with_the_screen(world: World, buses: dict[str, PrivateBus]) -> None:
    world.add_signer()
    saver, logind = buses["session"].owner(GNOME), buses["system"].owner(LOGIND)
    took = []
    daemon = world.start(environment=both(buses))
    with contextlib.closing(Heard(daemon)) as heard, daemon.agent() as agent:
        _wait_listening(agent)
        for name, emit in (
            ("screen_locked", lambda: saver.emit("/", GNOME, "ActiveChanged", "b", True)),
            ("machine_sleeps", lambda: logind.emit(MANAGER, f"{LOGIND}.Manager", "PrepareForSleep", "b", True)),
        ):
            _unlock(agent)
            begun = time.monotonic()
            emit()
            assert heard.until(name) is not None
            when, _ = heard.moment("token_locked")
            took.append(when - begun)
            assert not agent.tokens()["tokens"][0]["unlocked"]
    assert max(took) < 1.0, took
    print("seconds to the lock:", [round(each, 4) for each in took])


def _wait_listening(agent: Agent) -> None:
    deadline = time.monotonic() + 10
    while "unreachable" in (state := agent.status()["screen_lock"]).values():
        assert time.monotonic() < deadline, state
        time.sleep(0.02)
    assert (state["system"], state["session"]) == ("listening", "listening")


def _unlock(agent: Agent) -> None:
    [key] = agent.keys()
    agent.certificate_request(key["id"], {"CN": "测试"})
    assert agent.tokens()["tokens"][0]["unlocked"]
