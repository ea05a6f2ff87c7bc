"""The daemon's watch goes on whatever a look does: faults of libusb, of a module, and of our own."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator

import pytest

from host_parts import eventually
from sealagent.daemon import presence
from sealagent.daemon.presence import Presence
from sealagent.events import Event
from sealdrivers.contract import PinState, TokenInfo
from sealdrivers.host.service import HostedTokens, Timeouts
from sealdrivers.presence import UsbKey, UsbList, UsbMonitorUnavailable
from sealdrivers.vendors import vendor_table

TABLE = vendor_table()
ENTRY = TABLE.usb_device(0x096E, 0x0309)
EVERY = 0.02


def there(address: int = 5) -> UsbList:
    assert ENTRY is not None
    key = UsbKey(ENTRY, 0x0309, "1-1", address, "SN", "Key", True)
    return UsbList((key,), frozenset({("1-1", address)}))


NOTHING = UsbList()
FAILED = UsbList(fault="USB cannot be listed", complete=False)


def watch(
    monkeypatch: pytest.MonkeyPatch,
    looks: list[UsbList | Exception],
    tokens: HostedTokens | None = None,
) -> tuple[list[Event], Presence]:
    """Run the watch through a list of looks, without USB events; the last look repeats. Return what was published."""
    monkeypatch.setattr(presence, "UsbMonitor", _no_monitor)
    script: Iterator[UsbList | Exception] = itertools.chain(looks, itertools.repeat(looks[-1]))
    done = itertools.count()
    over = threading.Event()
    events: list[Event] = []

    def list_keys(table: object) -> UsbList:
        if next(done) == len(looks) + 2:  # what the last look led to has been published
            over.set()
        look = next(script)
        if isinstance(look, Exception):
            raise look
        return look

    monkeypatch.setattr(presence, "list_keys", list_keys)

    async def scene() -> Presence:
        service = tokens or HostedTokens([], Timeouts())
        watcher = Presence(service, TABLE, events.append, every=EVERY, changed=lambda: None)
        await watcher.begin()
        task = asyncio.create_task(watcher.run())
        assert await asyncio.to_thread(over.wait, 30)
        assert not task.done()
        task.cancel()
        await asyncio.wait((task,))
        return watcher

    return events, asyncio.run(scene())


def _no_monitor() -> None:
    raise UsbMonitorUnavailable("no events here")


def test_what_is_there_at_the_start_is_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    events, watcher = watch(monkeypatch, [there()])
    assert events == []
    assert watcher.state() == {"usb": "polling", "fault": "no events here"}


def test_a_look_that_fails_removes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    events, _ = watch(monkeypatch, [NOTHING, there(), FAILED, FAILED, there(), NOTHING])
    assert [event.name for event in events] == ["usb_inserted", "usb_removed"]
    assert events[0].data["message_zh"].startswith("Feitian ePass3000GM：此钥匙需要")


def test_a_quick_replug_is_one_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    events, _ = watch(monkeypatch, [there(5), there(6)])
    assert [event.name for event in events] == ["usb_removed", "usb_inserted"]


def test_a_fault_of_ours_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    events, _ = watch(monkeypatch, [NOTHING, RuntimeError("unforeseen"), there()])
    assert [event.name for event in events] == ["usb_inserted"]


def test_who_keeps_windows_hears_of_a_pulled_token_before_everybody_else() -> None:
    token = TokenInfo("pkcs11:x", "x", "1", "", "", "/none", "pkcs11", True, False, False, False, PinState())
    told: list[Event | str] = []

    class Pulled(HostedTokens):
        async def poll(self, *, quick: bool = False) -> tuple[list[TokenInfo], list[TokenInfo]]:
            return [], [] if told else [token]

    async def scene() -> None:
        watcher = Presence(
            Pulled([], Timeouts()), None, told.append, every=EVERY, changed=lambda: None, removed=told.append
        )
        await watcher.begin()
        task = asyncio.create_task(watcher.run())
        await eventually(lambda: len(told) == 2, "the event")
        task.cancel()
        await asyncio.wait((task,))

    asyncio.run(scene())
    assert told == ["pkcs11:x", Event("token_removed", {"token": "pkcs11:x", "label": "x"})]
