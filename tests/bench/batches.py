"""Batches: a thousand digests, each durably recorded, against the same keys used directly; a hundred OFDs."""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
import time
from datetime import date

from agent_world import World
from bench.load import summed
from bench.signing import KINDS, WORKERS
from bench.tables import Table
from demo.ofdmaker import make_document
from sealagent.client import Agent, invisible

DIGESTS, DOCUMENTS = 1000, 100
TARGETS = {"rsa-2048": 0.8, "ec-p256": 0.25}
"""Where we want to stand, as ratios to the limit of one thread."""


def _direct(world: World, kind: str) -> float:
    command = [sys.executable, "-m", "bench.direct", str(world.token.module), world.token.label]
    command += [str(world.pin_file), KINDS[kind].hex(), kind, "1"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return summed([json.loads(answer.stdout)]).rate


def _digests(agent: Agent, key: str, count: int) -> float:
    """Return signatures a second, from the approval to the last result in hand."""
    listed = [(f"{n}.bin", hashlib.sha256(b"%d" % n).digest()) for n in range(count)]
    batch = agent.make_digest_batch(listed, key=key)
    start = time.perf_counter()
    done = agent.run_batch(batch["id"])
    seconds = time.perf_counter() - start
    assert done["signed"] == count, done
    return count / seconds


def _documents(agent: Agent, world: World, count: int) -> float:
    """Return documents a second, hashed, sealed and back in hand; the list included."""
    files = []
    for number in range(count):
        files.append(world.directory / f"{number}.ofd")
        files[-1].write_bytes(make_document(f"合同 {number}", ["甲方", "乙方"] * 20, "单位", date(2026, 1, 1)).data)
    seal = agent.seals()["seals"][0]["id"]
    start = time.perf_counter()
    batch = agent.make_batch(files, seal=seal, placements=[invisible()])
    for number, file in enumerate(files, 1):
        agent.seal_batch_document(batch["id"], number, file)
    return count / (time.perf_counter() - start)


def measure(world: World, *, quick: bool) -> list[Table]:
    """Run direct and batch in turn, several rounds; report medians and ratios."""
    rounds, digests, documents = (1, 200, 20) if quick else (3, DIGESTS, DOCUMENTS)
    certificates = [world.add_signer(kind, object_id=object_id) for kind, object_id in KINDS.items()]
    world.token.add_data(world.authority.make_seal(certificates[1:]), label="seal")
    rows = []
    with world.start(workers=WORKERS).agent(300) as agent:
        keys = {key["type"]: key["id"] for key in agent.keys()}
        for kind in KINDS:
            direct, batch = [], []
            for _ in range(rounds):
                direct.append(_direct(world, kind))
                batch.append(_digests(agent, keys[kind], digests))
            rows.append(
                {
                    "key": kind,
                    "direct/s": statistics.median(direct),
                    "batch/s": statistics.median(batch),
                    "ratio": statistics.median(b / d for b, d in zip(batch, direct, strict=True)),
                    "wanted": TARGETS[kind],
                }
            )
        sealed = statistics.median(_documents(agent, world, documents) for _ in range(rounds))
    return [
        Table("batch_digests", f"{digests} digests of a batch, {WORKERS} workers; each durable and kept", rows),
        Table("batch_documents", "OFDs of a batch, end to end", [{"documents": documents, "documents/s": sealed}]),
    ]
