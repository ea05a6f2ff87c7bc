"""What it costs to know who asks: identity, token, grant and policy, step by step and over the socket.

The steps are those of one request, in this process; the grant book is as full as it may be. Over the socket, the same
request is asked in turn with and without a token.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_world import World
from bench.tables import Table
from sealagent.api.identify import identified
from sealagent.callers.decide import decide
from sealagent.callers.grants import MAX_GRANTS, GrantBook
from sealagent.callers.model import Effect, Grant
from sealagent.callers.pairings import Pairings
from sealagent.callers.peer import Caller
from sealagent.callers.policy import Policy
from sealagent.callers.processes import look_at, program_of
from sealagent.callers.programs import Programs
from sealagent.callers.store import CallersStore, put_grant
from sealagent.client import Agent
from sealagent.clock import system_clock
from sealagent.uses import Operation, Use

TOKEN = "pkcs11:token=a;serial=1"


def own_process() -> Caller:
    """Return this process as a caller."""
    pid = os.getpid()
    seen, program = look_at(pid), program_of(pid)
    assert seen is not None
    assert program is not None
    return Caller(os.getuid(), os.getgid(), pid, program.path, seen.started, program=program.file)


async def paired(store: CallersStore, caller: Caller) -> tuple[Pairings, GrantBook, Caller, str]:
    """Pair this process; return it as the application that it is, and its token."""
    book = GrantBook(store, system_clock)
    pairings = Pairings(store, book, system_clock)
    caller = await Programs().described(caller)
    offer = pairings.start(caller, "bench")
    pairings.ask(offer.id, offer.secret, caller)
    _, token = pairings.finish(offer.id, caller)
    return pairings, book, replace(caller, application=pairings.identify(caller, token)), token


def fill(store: CallersStore, application: str) -> GrantBook:
    """Put as many grants into the book as it takes, half of them the application's."""
    now = datetime.now(UTC)
    grants = [
        Grant(
            f"g{number}",
            application if number % 2 else f"app-{number % 200}",
            Effect.ALLOW,
            Operation.RAW,
            key=f"{TOKEN};id=%{number // 2:04x}",
            remaining=1_000_000 if number % 4 == 1 else None,
            created=now,
        )
        for number in range(MAX_GRANTS)
    ]
    store.write(map(put_grant, grants))
    return GrantBook(store, system_clock)


async def _timed(step: Callable[[], Any], count: int) -> list[float]:
    """Return microseconds of each call."""
    took = []
    for _ in range(count):
        began = time.perf_counter_ns()
        done = step()
        if isinstance(done, Awaitable):
            await done
        took.append((time.perf_counter_ns() - began) / 1000)
    return took


async def _steps(folder: Path, count: int) -> list[dict[str, Any]]:
    with closing(CallersStore(folder / "callers.sqlite")) as store:
        pairings, _, caller, token = await paired(store, own_process())
        assert caller.application is not None
        book = fill(store, caller.application.id)
        programs = Programs()
        policy = Policy()
        use = Use(Operation.RAW, f"{TOKEN};id=%0000", TOKEN)
        now = system_clock()
        [grant] = book.matching(caller, use, now)
        decision = decide(policy, book, caller, use, now)
        assert (decision.source, decision.name) == ("grant", grant.id)

        async def everything() -> None:
            known = await identified(programs, caller)
            known = replace(known, application=pairings.identify(known, token))
            decide(policy, book, known, use, system_clock())

        steps: dict[str, tuple[Callable[[], Any], int]] = {
            "the process, its program and digest (kept)": (lambda: identified(programs, caller), count),
            "the token": (lambda: pairings.identify(caller, token), count),
            f"the grant, one of {MAX_GRANTS:,}": (lambda: book.matching(caller, use, now), count),
            "the decision, grant and default policy": (lambda: decide(policy, book, caller, use, now), count),
            "all of it": (everything, count),
            "a counted use, durable": (lambda: book.spend(grant.id, now), max(20, count // 20)),
        }
        await identified(programs, caller)
        rows = []
        for name, (step, times) in steps.items():
            took = await _timed(step, times)
            rows.append(
                {"step": name, "median µs": statistics.median(took), "p99 µs": sorted(took)[len(took) * 99 // 100]}
            )
        programs.close()
        return rows


def measure(world: World, *, quick: bool) -> list[Table]:
    """Measure the steps, and requests with and without a token."""
    count = 400 if quick else 4000
    rows = asyncio.run(_steps(world.directory, count))
    state = world.directory / "state"
    state.mkdir(mode=0o700)
    with closing(CallersStore(state / "callers.sqlite")) as store:
        _, _, _, token = asyncio.run(paired(store, own_process()))
    daemon = world.start()
    took: dict[str, list[float]] = {"without a token": [], "with one": []}
    with Agent(daemon.socket) as stranger, Agent(daemon.socket, token=token) as application:
        for number in range(count):
            both = (("without a token", stranger), ("with one", application))
            for name, agent in both if number % 2 else both[::-1]:
                began = time.perf_counter_ns()
                agent.checkpoint()
                if number > count // 10:
                    took[name].append((time.perf_counter_ns() - began) / 1000)
    medians = {name: statistics.median(values) for name, values in took.items()}
    without = medians["without a token"]
    asked = [{"request": name, "median µs": median, "added µs": median - without} for name, median in medians.items()]
    return [
        Table("callers_steps", "Who asks, and whether it may: steps of one request", rows),
        Table("callers_socket", "GET /v1/ledger/checkpoint over the socket", asked),
    ]
