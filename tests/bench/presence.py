"""From plug to event on an emulated USB bus, what many replugs leave behind, and what watching costs an idle daemon."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from agent_world import Daemon, World
from bench.tables import Table
from event_parts import Heard
from softgm import SoftSkf, build
from usb_parts import FakeKey, UsbTestbed

KEY = FakeKey(0x055C, 0xE618)
REGULAR_SECONDS = 60.0
"""So far apart that only the USB event can have shown the token."""


def _row(what: str, times: list[float]) -> dict[str, object]:
    milliseconds = sorted(1e3 * value for value in times)
    return {
        "from plug or pull to": what,
        "n": len(times),
        "p50 ms": statistics.median(milliseconds),
        "max ms": milliseconds[-1],
        "wanted ms": 2000.0,
    }


def _delays(world: World, testbed: UsbTestbed, skf: SoftSkf, rounds: int) -> list[dict[str, object]]:
    token = skf.new_token()
    token.remove()
    daemon = world.start(environment=testbed.environment)
    heard = Heard(daemon)
    with daemon.agent() as agent:
        agent.tokens()
    times: dict[str, list[float]] = {}

    def measured(action: Callable[[], object], *events: str) -> None:
        begun = time.monotonic()
        action()
        for event in events:
            times.setdefault(event, []).append(heard.moment(event, 10)[0] - begun)
        time.sleep(0.3)

    for _ in range(rounds):
        measured(lambda: (token.insert(), testbed.plug(KEY)), "usb_inserted", "token_inserted")
        measured(lambda: (token.remove(), testbed.pull(KEY)), "usb_removed", "token_removed")
    heard.close()
    token.destroy()
    return [_row(event, values) for event, values in times.items()]


def _held(pid: int) -> dict[str, int]:
    """Return what a process holds: file descriptors, threads, kilobytes of its own memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory = int(status.split("RssAnon:")[1].split()[0])
    folder = f"/proc/{pid}"
    return {"fds": len(os.listdir(f"{folder}/fd")), "threads": len(os.listdir(f"{folder}/task")), "anon KiB": memory}


def _replugs(world: World, testbed: UsbTestbed, rounds: int) -> list[dict[str, object]]:
    daemon = world.start(environment=testbed.environment)
    heard = Heard(daemon)
    rows: list[dict[str, object]] = []
    for number in range(rounds + 1):
        if number in (min(20, rounds // 2), rounds):
            time.sleep(6)  # the last looks are over
            rows.append({"after replugs": number, **_held(daemon.process.pid)})
        testbed.plug(KEY)
        heard.until("usb_inserted")
        testbed.pull(KEY)
        heard.until("usb_removed")
    heard.close()
    return rows


def _switches(pid: int) -> int:
    """Return how often the threads of a process went to sleep by themselves."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "status").read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


def _wakeups(daemon: Daemon, seconds: float) -> float:
    time.sleep(8)  # what belongs to the start is over
    before = _switches(daemon.process.pid)
    time.sleep(seconds)
    return (_switches(daemon.process.pid) - before) * 60 / seconds


def _idle(world: World, testbed: UsbTestbed, seconds: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for usb, every in ((False, 2.0), (True, 2.0), (True, 60.0)):
        world.settings["presence"] = {"usb": usb}
        world.presence_seconds = every
        daemon = world.start(environment=testbed.environment)
        rows.append({"USB watched": str(usb), "presence_seconds": every, "wake-ups/min": _wakeups(daemon, seconds)})
        daemon.stop()
    return rows


def measure(world: World, *, quick: bool) -> list[Table]:
    """Measure delays, leftovers and idle cost."""
    testbed = UsbTestbed.start()
    folder = world.directory / "softskf"
    folder.mkdir()
    skf = SoftSkf(build(), folder)
    try:
        idle = _idle(world, testbed, 12 if quick else 60)
        world.settings["presence"] = {"usb": True}
        world.presence_seconds = REGULAR_SECONDS
        world.modules, world.driver = [skf.library], "skf"
        delays = _delays(world, testbed, skf, 3 if quick else 20)
        replugs = _replugs(world, testbed, 10 if quick else 1000)
    finally:
        skf.close()
        testbed.close()
    return [
        Table("delays", f"USB key to event, regular looks {REGULAR_SECONDS:.0f} s apart", delays),
        Table("replugs", "What the daemon holds after replugs", replugs),
        Table("idle", "Wake-ups of an idle daemon with one SoftHSM module", idle),
    ]
