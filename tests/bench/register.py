"""The maker's register with few and with many seals: what a change of state and a look cost, side by side."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_world import World
from bench.tables import Table
from register_parts import add_seal, made_body, said, sm3_of
from sealagent.clock import system_clock
from sealagent.maker.publishing import RegisterView
from sealagent.maker.register import Places, Register, opened_register
from sealagent.maker.states import Change
from sealagent.records.entry import EntryKind
from sealagent.seals.answers import StatusList, encode_list

GROUP = 2000
"""Entries that are filled in together."""
WANTED = 1.3
"""Cost with many seals over cost with few: constant, but for the disk's own noise."""


def measure(world: World, *, quick: bool) -> list[Table]:
    """Compare 1,000 seals with 100,000."""
    few, many = (1000, 10_000) if quick else (1000, 100_000)
    rounds = 40 if quick else 200
    return asyncio.run(_measure(world.directory, few, many, rounds))


async def _measure(folder: Path, few: int, many: int, rounds: int) -> list[Table]:
    places = {count: Places(folder / str(count)) for count in (few, many)}
    filled: list[dict[str, Any]] = []
    for count, place in places.items():
        began = time.perf_counter()
        async with opened_register(place, system_clock, create=True) as register:
            await _fill(register, count, rounds)
            entries = register.ledger.head().size
        filled.append({"seals": count, "entries": entries, "filled in s": time.perf_counter() - began})
    took = {name: {count: [] for count in places} for name in ("change of state", "command", "look")}  # type: ignore[var-annotated]
    registers: dict[int, Any] = {}
    for count, place in places.items():
        registers[count] = opened_register(place, system_clock)
    opened: dict[int, Register] = {count: await manager.__aenter__() for count, manager in registers.items()}
    try:
        for change, number in _rounds(rounds):
            for count, register in opened.items():
                began = time.perf_counter()
                await register.change(
                    sm3_of(number), change, said("investigation" if change is Change.SUSPENDED else "matter_settled")
                )
                took["change of state"][count].append(time.perf_counter() - began)
    finally:
        for manager in registers.values():
            await manager.__aexit__(None, None, None)
    for change, number in _rounds(rounds // 4 * 2):
        for count, place in places.items():
            began = time.perf_counter()
            async with opened_register(place, system_clock) as register:
                await register.change(
                    sm3_of(number), change, said("investigation" if change is Change.SUSPENDED else "matter_settled")
                )
            took["command"][count].append(time.perf_counter() - began)
    views = {count: RegisterView(place, system_clock) for count, place in places.items()}
    for number in range(1, rounds + 1):
        for count, view in views.items():
            began = time.perf_counter()
            await view.known(sm3_of(number))
            took["look"][count].append(time.perf_counter() - began)
    for count, row in zip(places, filled, strict=True):
        began = time.perf_counter()
        histories = views[count].index.histories()
        now = system_clock().replace(microsecond=0)
        octets = len(encode_list(StatusList("bench", "bench", 1, now, now, histories)))
        row |= {"list in s": time.perf_counter() - began, "list MiB": octets / (1 << 20)}
        views[count].close()
    rows = []
    for name, times in took.items():
        low, high = (statistics.median(times[count]) for count in (few, many))
        row = {"what": name, f"{few:,} seals, ms": low * 1000, f"{many:,} seals, ms": high * 1000, "ratio": high / low}
        rows.append(row | {"wanted": WANTED})
    return [
        Table("register", "The maker's register: cost with many seals over cost with few (median)", rows),
        Table("register_size", "Filling it, and the list of all seals", filled),
    ]


def _rounds(count: int) -> Iterator[tuple[Change, int]]:
    """Suspend and resume the same seals, so that each round finds what the one before left."""
    for number in range(1, count // 2 + 1):
        yield Change.SUSPENDED, number
        yield Change.RESUMED, number


async def _fill(register: Register, count: int, valid: int) -> None:
    """Put seals on record, the first of them valid."""
    for number in range(1, valid + 1):
        await add_seal(register, number, state="valid")
    since = register.since()
    for start in range(valid + 1, count + 1, GROUP):
        futures = [
            register.ledger.submit(EntryKind.ADMIN, made_body(number, 1, since))
            for number in range(start, min(start + GROUP, count + 1))
        ]
        await asyncio.gather(*futures)
        register.catch_up()
