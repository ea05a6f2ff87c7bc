"""Message buses that mean harm: what they send is bounded, holds up nobody, and at worst locks the tokens."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jeepney import HeaderFields, Message

from dbus_parts import HostileBus, open_descriptors, signal
from host_parts import eventually, run
from screen_lock_parts import GNOME, LOGIND, MANAGER, Tokens, environment, watching
from sealagent.daemon import bus as bus_module
from sealagent.events import Event

QUIET = 0.3


def huge(size: int) -> bytes:
    """Return the first octets of a message of this size."""
    return b"l\x04\x01\x01" + struct.pack("<II", size, 9) + struct.pack("<I", 0)


def nested(depth: int) -> bytes:
    """Return a signal whose header holds variants within variants."""
    good = signal(GNOME, "ActiveChanged", "b", True)
    value = b"\x01v\x00" * depth + b"\x01y\x00\x01"
    extra = b"\x0a" + value
    fields = struct.unpack("<I", good[12:16])[0]
    head = good[16 : 16 + fields]
    head += b"\0" * (-len(head) % 8) + extra
    body = b"\x01\0\0\0"
    return good[:12] + struct.pack("<I", len(head)) + head + b"\0" * (-len(head) % 8) + body


ACTIVE = signal(GNOME, "ActiveChanged", "b", True)
UNWANTED = signal("org.example.Noise", "Noise", "ay", b"x" * 200)


def flood() -> Iterator[bytes | int]:
    for _ in range(200):
        yield UNWANTED * 50


def stream() -> Iterator[bytes | int]:
    yield huge(100 << 20)
    for _ in range(1600):
        yield bytes(1 << 16)


@pytest.mark.parametrize("pieces", [flood, stream], ids=["messages", "octets"])
def test_a_flood_locks_and_holds_up_nobody(tmp_path: Path, pieces: Callable[[], Iterator[bytes | int]]) -> None:
    async def scene() -> None:
        hostile, tokens = HostileBus(tmp_path / "bus", pieces), Tokens()
        latest, worst = time.thread_time(), 0.0  # the work between two turns, however busy the machine is
        try:
            async with watching(tokens, environment(session=hostile.address)) as screen_lock:
                deadline = time.monotonic() + 5
                while not (tokens.locked and "flooded" in str(screen_lock.state()["fault"])):
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.001)
                    worst = max(worst, time.thread_time() - latest)
                    latest = time.thread_time()
                assert Event("screen_locked", {"by": "flood"}) in tokens.events
                assert worst < 0.2, worst
                print(f"longest hold-up of the loop: {worst * 1000:.1f} ms")
        finally:
            hostile.close()

    run(scene)


@pytest.mark.parametrize(
    ("piece", "fault"),
    [
        (huge(bus_module.MAX_SKIPPED + 1), "longer than there can be"),
        (b"?" * 64, "KeyError"),
        (huge(0)[:12] + struct.pack("<I", 0xFFFFFFFF), "longer than there can be"),
        (nested(1300), "RecursionError"),
        (ACTIVE[:20] + b"\xff" * 40 + ACTIVE[60:], "Error"),
        (UNWANTED[:30] + b"\0" * 300, "Error"),
    ],
    ids=["too long", "no message", "header too long", "nested", "broken header", "zeros"],
)
def test_what_is_no_message_ends_the_connection_only(tmp_path: Path, piece: bytes, fault: str) -> None:
    async def scene() -> None:
        hostile, tokens = HostileBus(tmp_path / "bus", lambda: iter((piece, 5000))), Tokens()
        try:
            async with watching(tokens, environment(session=hostile.address)) as screen_lock:
                await eventually(lambda: fault in str(screen_lock.state()["fault"]), "the fault")
                assert "does not answer" not in screen_lock.state()["fault"]
            assert tokens.locked == 0
        finally:
            hostile.close()

    run(scene)


def test_a_message_that_is_too_long_is_read_past(tmp_path: Path) -> None:
    async def scene() -> None:
        size = 300_000
        pieces = (huge(size), bytes(size), ACTIVE[:50], 50, ACTIVE[50:])
        hostile, tokens = HostileBus(tmp_path / "bus", lambda: iter(pieces)), Tokens()
        try:
            async with watching(tokens, environment(session=hostile.address)):
                await eventually(lambda: tokens.locked == 1, "the signal after it")
                assert tokens.events == [Event("screen_locked", {"by": GNOME})]
        finally:
            hostile.close()

    run(scene)


def test_a_signal_with_a_destination_does_not_count_whatever_it_says(tmp_path: Path) -> None:
    addressed = Message.from_buffer(ACTIVE)
    addressed.header.fields[HeaderFields.destination] = ":1.1"

    async def scene() -> None:
        pieces = (addressed.serialise(3), 300, ACTIVE)
        hostile, tokens = HostileBus(tmp_path / "bus", lambda: iter(pieces)), Tokens()
        try:
            async with watching(tokens, environment(session=hostile.address), heard="session"):
                await asyncio.sleep(0.1)
                assert tokens.locked == 0
                await eventually(lambda: tokens.locked == 1, "the broadcast")
        finally:
            hostile.close()

    run(scene)


def test_descriptors_that_nobody_asked_for_are_closed(tmp_path: Path) -> None:
    async def scene() -> None:
        sleep = signal(f"{LOGIND}.Manager", "PrepareForSleep", "b", True, path=MANAGER)
        many = [[UNWANTED] * 3, [UNWANTED] * 200, [sleep] * 2, [UNWANTED[:40]], UNWANTED[40:], 500, 5000]
        hostile, tokens = HostileBus(tmp_path / "bus", lambda: iter(many)), Tokens()
        before = open_descriptors()
        try:
            async with watching(tokens, environment(system=hostile.address), heard="system"):
                await eventually(lambda: tokens.locked == 1, "the lock")
                await asyncio.sleep(0.1)
                assert open_descriptors() <= before + 2  # both ends of the connection
        finally:
            hostile.close()

    run(scene)


@pytest.mark.parametrize("polite", [0, 1])
def test_a_bus_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polite: int) -> None:
    monkeypatch.setattr(bus_module, "CALL_SECONDS", 0.2)

    async def scene() -> None:
        hostile, tokens = HostileBus(tmp_path / "bus", lambda: iter((5000,)), polite=polite), Tokens()
        before = open_descriptors()
        try:
            async with watching(tokens, environment(session=hostile.address)) as screen_lock:
                await eventually(lambda: "does not answer" in str(screen_lock.state()["fault"]), "the fault")
            assert open_descriptors() <= before + 1  # the hostile end may still be open
        finally:
            hostile.close()

    run(scene)
