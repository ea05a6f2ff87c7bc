"""Signatures a second through the socket, each durably recorded, against the same keys used directly."""

from __future__ import annotations

import base64
import json
import statistics
import subprocess
import sys

from agent_world import World
from bench.direct import DIGEST
from bench.load import Load, request_octets, run, summed
from bench.tables import Table

KINDS = {"rsa-2048": b"\x01", "ec-p256": b"\x02"}
TARGETS = {
    ("rsa-2048", 1): 0.70,
    ("rsa-2048", 8): 0.80,
    ("ec-p256", 1): 0.25,
    ("ec-p256", 8): 0.25,
}
"""Where we want to stand, as ratios to the limit of one thread."""
WORKERS = 2


def _direct(world: World, kind: str, seconds: float) -> Load:
    command = [sys.executable, "-m", "bench.direct", str(world.token.module), world.token.label]
    command += [str(world.pin_file), KINDS[kind].hex(), kind, str(seconds)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return summed([json.loads(answer.stdout)])


def measure(world: World, *, quick: bool) -> list[Table]:
    """Run direct, one client and eight clients in turn, several rounds; report medians and ratios."""
    rounds, seconds = (1, 1.0) if quick else (5, 2.0)
    for kind, object_id in KINDS.items():
        world.add_signer(kind, object_id=object_id)
    daemon = world.start(workers=WORKERS)
    seen: dict[tuple[str, str], list[Load]] = {}
    with daemon.agent() as agent:
        keys = {key["type"]: key["id"] for key in agent.keys()}
        agent.sign_digests([DIGEST], key=keys["ec-p256"])
    for _ in range(rounds):
        for kind in KINDS:
            body = {"digests": [base64.b64encode(DIGEST).decode()]}
            request = request_octets(f"/v1/keys/{keys[kind]}/signatures", body)
            seen.setdefault((kind, "direct"), []).append(_direct(world, kind, seconds))
            for clients in (1, 8):
                load = run(daemon.socket, clients, seconds, request, world.directory)
                seen.setdefault((kind, str(clients)), []).append(load)
    with daemon.agent() as agent:
        recorded = agent.checkpoint()["size"]
    rows = []
    for kind in KINDS:
        direct = seen[kind, "direct"]
        for clients in ("direct", "1", "8"):
            loads = seen[kind, clients]
            ratios = [load.rate / base.rate for load, base in zip(loads, direct, strict=True)]
            rows.append(
                {
                    "key": kind,
                    "clients": clients,
                    "signatures/s": statistics.median(load.rate for load in loads),
                    "p50 µs": statistics.median(load.p50 for load in loads),
                    "p99 µs": statistics.median(load.p99 for load in loads),
                    "ratio to direct": statistics.median(ratios),
                    "wanted": TARGETS.get((kind, int(clients))) if clients.isdigit() else None,
                }
            )
    title = (
        f"Signatures through the socket, {WORKERS} workers; intent and outcome durable ({recorded} entries on record)"
    )
    return [Table("socket", title, rows)]
