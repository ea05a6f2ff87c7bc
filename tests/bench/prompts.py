"""How long the holder waits for a prompt: from the agent's call to the program's first octet, and to its dialog."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import statistics
import time
from typing import Any
from unittest.mock import patch

from agent_world import World
from bench.tables import Table
from prompt_parts import OWN, PIN, TITLE, children, prompter
from sealagent.consent.assuan import AssuanClient
from sealagent.errors import SealAgentError
from x11_parts import Screen

PROGRAMS = ("pinentry-gtk-2", "pinentry-qt", OWN)


def measure(world: World, *, quick: bool) -> list[Table]:
    """Ask for a PIN with each graphical program in turn, on an X server of our own without a window manager."""
    rounds = 3 if quick else 9
    seen: dict[str, list[tuple[float, float]]] = {}
    with Screen(world.directory / "screen", manager=False) as screen:
        for _ in range(rounds):
            for program in PROGRAMS:
                if program == OWN or shutil.which(program):
                    seen.setdefault(program, []).append(asyncio.run(_once(screen, program)))
    rows: list[dict[str, Any]] = [
        {
            "key": program.rpartition("/")[2],
            "first octet ms": statistics.median(octet for octet, _ in taken),
            "window ms": statistics.median(window for _, window in taken),
        }
        for program, taken in seen.items()
    ]
    return [
        Table(
            "prompts", "From the agent's call to a prompt for a PIN (the window is looked for every 10 ms or so)", rows
        )
    ]


async def _once(screen: Screen, program: str) -> tuple[float, float]:
    octets: list[float] = []
    greeting = AssuanClient.greeting

    async def noted(client: AssuanClient) -> None:
        await greeting(client)
        octets.append(time.perf_counter())

    before = children()
    with patch.object(AssuanClient, "greeting", noted):
        start = time.perf_counter()
        task = asyncio.ensure_future(prompter(screen, program).ask_pin(PIN))
        while not (children() - before and await asyncio.to_thread(screen.windows, TITLE)):
            await asyncio.sleep(0.002)
            if task.done():
                await task
        shown = time.perf_counter()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, SealAgentError):
            await task
    return (octets[0] - start) * 1000, (shown - start) * 1000
