"""What asking and being allowed adds: to a signature, and until a prompt is there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_world import World
from bench.callers import own_process, paired
from bench.direct import DIGEST
from bench.signing import KINDS
from bench.tables import Table
from sealagent.callers.model import Effect, Grant
from sealagent.callers.store import CallersStore
from sealagent.uses import Operation

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

CALLERS = (
    ("allowed by default, not paired", None, False),
    ("paired, by a grant", None, True),
    ("paired, by a counted grant", 1_000_000, True),
)
"""Name, signatures that the grant counts, and whether the client is paired."""


def measure(world: World, *, quick: bool) -> list[Table]:
    """Sign with three agents in turn: by a default, by a grant of a paired application, and by one that is counted."""
    rounds, count = (1, 50) if quick else (5, 200)
    world.add_signer("ec-p256", object_id=KINDS["ec-p256"])
    seen: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        asked = []
        for name, remaining, has_token in CALLERS:
            place = world.directory / str(len(asked))
            place.mkdir()
            own = World(place, world.token, world.authority, fresh=True)
            token = None
            if has_token:
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
    base = seen[CALLERS[0][0]]
    rows: list[dict[str, Any]] = [
        {
            "key": name,
            "p50 µs": statistics.median(taken),
            "ratio": statistics.median(mine / other for mine, other in zip(taken, base, strict=True)),
        }
        for name, taken in seen.items()
    ]
    return [Table("allowed", "One P-256 signature through the socket, durably recorded", rows)]


def _prepared(state: Path, remaining: int | None) -> str:
    """Pair this interpreter with an agent that does not run yet, and let it sign; return its token."""

    async def run() -> str:
        with closing(CallersStore(state / "callers.sqlite")) as store:
            _, book, caller, token = await paired(store, own_process())
            assert caller.application is not None
            given = datetime.now(UTC)
            book.add(
                Grant("bench", caller.application.id, Effect.ALLOW, Operation.RAW, remaining=remaining, created=given)
            )
        return token

    state.mkdir(mode=0o700)
    return asyncio.run(run())
