"""What it costs to know who asks and whether they may: each part alone, and what it adds to a signature."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent_world import World
from bench.direct import DIGEST
from bench.signing import KINDS
from bench.tables import Table
from sealagent.api.identify import identified
from sealagent.callers.decide import decide
from sealagent.callers.grants import MAX_GRANTS, GrantBook
from sealagent.callers.model import Effect, Grant
from sealagent.callers.pairings import Pairings
from sealagent.callers.peer import Caller, peer_of
from sealagent.callers.policy import Policy
from sealagent.callers.policyfile import parse_policy
from sealagent.callers.programs import Programs
from sealagent.callers.store import CallersStore
from sealagent.uses import Operation, Use

RULES = 1000
"""Rules of a large policy, none of which is to the point."""
USE = Use(Operation.RAW, "pkcs11:id=%01", "pkcs11:token=a")


def measure(world: World, *, quick: bool) -> list[Table]:
    """Measure the parts in this process, then signatures of callers of each kind through the socket."""
    count = 200 if quick else 2000
    parts = asyncio.run(_parts(world.directory, count))
    return [Table("parts", "Who asks, and may they: the parts of a request", parts), _signatures(world, quick)]


def _now() -> datetime:
    return datetime.now(UTC)


async def _parts(directory: Path, count: int) -> list[dict[str, Any]]:
    ours, theirs = socket.socketpair()
    programs = Programs()
    with ours, theirs, contextlib.closing(CallersStore(directory / "parts.sqlite")) as store:
        book = GrantBook(store, _now)
        pairings = Pairings(store, book, _now)
        start = time.perf_counter()
        caller = await identified(programs, peer_of(ours))
        cold = (time.perf_counter() - start) * 1e6
        application, token = _paired(pairings, caller)
        caller = replace(caller, application=pairings.identify(caller, token))
        counted = _fill(store, application.id)
        book = GrantBook(store, _now)
        small, large = Policy(), _large_policy()

        async def again() -> None:
            await identified(programs, caller)

        async def spend() -> None:
            await asyncio.to_thread(book.spend, counted, _now())

        timed: list[tuple[str, float]] = [
            ("the kernel's word for who connected", await _each(lambda: peer_of(ours), count)),
            ("look again before a change, digest known", await _awaited(again, count)),
            ("token to application", await _each(lambda: pairings.identify(caller, token), count)),
            ("decide: no rules, 10,000 grants", await _each(lambda: decide(small, book, caller, USE, _now()), count)),
            (
                "decide: 1,000 rules, 10,000 grants",
                await _each(lambda: decide(large, book, caller, USE, _now()), count),
            ),
            ("take a signature off a counted grant, durably", await _awaited(spend, count // 4)),
        ]
    programs.close()
    size = os.stat("/proc/self/exe").st_size >> 20
    rows: list[dict[str, Any]] = [{"key": name, "p50 µs": value} for name, value in timed]
    rows.append({"key": f"look at a program of {size} MiB for the first time", "p50 µs": cold})
    return rows


def _paired(pairings: Pairings, caller: Caller) -> Any:
    offer = pairings.start(caller, "bench")
    pairings.ask(offer.id, offer.secret, caller)
    return pairings.finish(offer.id, caller)


def _fill(store: CallersStore, application: str) -> str:
    """Give as many grants as there may be, of which this application has a hundred; return one that is counted."""
    from sealagent.callers.store import put_grant

    given = _now() - timedelta(days=1)
    grants = []
    for number in range(MAX_GRANTS):
        grantee = application if number < 100 else f"app-{number // 100:016x}"
        key = USE.key if number == 0 else f"pkcs11:id=%02;token={number}"
        remaining = 1_000_000 if number == 0 else None
        made = Grant(secrets.token_hex(8), grantee, Effect.ALLOW, Operation.RAW, key=key, remaining=remaining)
        grants.append(replace(made, created=given))
    store.write(map(put_grant, grants))
    return grants[0].id


def _large_policy() -> Policy:
    rules = "".join(
        f'[[rules]]\nname = "r{n}"\neffect = "allow"\noperations = ["raw"]\nexecutables = ["/opt/{n}/bin/x"]\n'
        for n in range(RULES)
    )
    return parse_policy(rules.encode(), "bench")


async def _each(work: Callable[[], Any], count: int) -> float:
    async def run() -> None:
        work()

    return await _awaited(run, count)


async def _awaited(work: Callable[[], Awaitable[None]], count: int) -> float:
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - start) * 1e6)
    return statistics.median(taken)


CLIENT = """
import json, statistics, sys, time
from sealagent.client import Agent
asked = json.load(sys.stdin)
taken = []
with Agent(asked["socket"], 60, token=asked["token"]) as agent:
    for turn in range(asked["count"] + 10):
        start = time.perf_counter()
        agent.sign_digests([bytes.fromhex(asked["digest"])], key=asked["key"])
        if turn >= 10:
            taken.append((time.perf_counter() - start) * 1e6)
print(json.dumps(statistics.median(taken)))
"""


def _signatures(world: World, quick: bool) -> Table:
    """Sign with three agents in turn: by a default, by a grant of a paired application, and by one that is counted."""
    rounds, count = (1, 50) if quick else (5, 200)
    world.add_signer("ec-p256", object_id=KINDS["ec-p256"])
    seen: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        asked = []
        for name, remaining, paired in (
            ("allowed by default, not paired", None, False),
            ("paired, by a grant", None, True),
            ("paired, by a counted grant", 1_000_000, True),
        ):
            place = world.directory / str(len(asked))
            place.mkdir()
            own = World(place, world.token, world.authority, fresh=True)
            token = None
            if paired:
                own.policy = ""
                token = _prepared(own.directory / "state", remaining)
            stack.callback(own.close)
            daemon = own.start()
            with daemon.agent() as agent:
                key = agent.keys()[0]["id"]
            question = {
                "socket": str(daemon.socket),
                "token": token,
                "count": count,
                "key": key,
                "digest": DIGEST.hex(),
            }
            asked.append((name, json.dumps(question)))
        for turn in range(rounds):
            for name, question in asked[turn % 3 :] + asked[: turn % 3]:
                done = subprocess.run(
                    [sys.executable, "-c", CLIENT], input=question, capture_output=True, text=True, check=True
                )
                seen.setdefault(name, []).append(json.loads(done.stdout))
    base = seen[asked[0][0]]
    rows = [
        {
            "key": name,
            "p50 µs": statistics.median(taken),
            "ratio": statistics.median(mine / other for mine, other in zip(taken, base, strict=True)),
        }
        for name, taken in seen.items()
    ]
    return Table("signatures", "One P-256 signature through the socket, durably recorded", rows)


def _prepared(state: Path, remaining: int | None) -> str:
    """Pair this interpreter with an agent that does not run yet, and let it sign; return its token."""

    async def run() -> str:
        programs = Programs()
        with _connected() as ours, contextlib.closing(CallersStore(state / "callers.sqlite")) as store:
            book = GrantBook(store, _now)
            caller = await identified(programs, peer_of(ours))
            application, token = _paired(Pairings(store, book, _now), caller)
            made = Grant(
                secrets.token_hex(8), application.id, Effect.ALLOW, Operation.RAW, remaining=remaining, created=_now()
            )
            book.add(made)
        programs.close()
        return str(token)

    state.mkdir(mode=0o700)
    return asyncio.run(run())


@contextlib.contextmanager
def _connected() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours
