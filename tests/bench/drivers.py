"""What each layer costs: the library alone, our driver, the worker, the socket with everything on record."""

from __future__ import annotations

import base64
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent_world import World
from bench.levels import E
from bench.load import Load, request_octets, run, summed
from bench.tables import Table
from endurance import Outcome, endure_faults, endure_replugging, faults_of
from softgm import SoftSkf, build
from softgm.build import PKCS11
from softgm.softsm2 import SoftSm2
from softhsm2_fixtures.library import find_module, find_util

LEVELS = ("library", "driver", "worker")
NAMES = {"skf": "soft SKF", "pkcs11": "soft SM2 module (PKCS#11)"}


def _child(level: str, kind: str, token: Any, pin_file: Path, seconds: float) -> Load:
    command = [sys.executable, "-m", "bench.levels", level, kind, str(token.library), token.serial, str(pin_file)]
    done = subprocess.run([*command, str(seconds)], capture_output=True, text=True, check=True)
    return summed([json.loads(done.stdout)])


def _rows(name: str, seen: dict[str, list[Load]]) -> list[dict[str, Any]]:
    base = seen["library"]
    rows = []
    for level, loads in seen.items():
        ratios = [load.rate / limit.rate for load, limit in zip(loads, base, strict=True)]
        rows.append(
            {
                "token": name,
                "level": level,
                "signatures/s": statistics.median(load.rate for load in loads),
                "p50 µs": statistics.median(load.p50 for load in loads),
                "p99 µs": statistics.median(load.p99 for load in loads),
                "ratio to library": statistics.median(ratios),
                "over the level before, µs": None,
            }
        )
    for before, row in itertools.pairwise(rows[:3]):
        row["over the level before, µs"] = row["p50 µs"] - before["p50 µs"]
    return rows


def _endured(name: str, what: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "token": name,
        "rounds of": what,
        "n": outcome.rounds,
        "seconds": outcome.seconds,
        "descriptors": f"{outcome.before.descriptors} → {outcome.after.descriptors}",
        "processes": f"{outcome.before.processes} → {outcome.after.processes}",
        "resident MiB": f"{outcome.before.resident:.1f} → {outcome.after.resident:.1f}",
        "released": outcome.released,
        "errors": sum(outcome.refused.values()),
        "lost or unrecorded": outcome.lost_or_unrecorded,
    }


def _measure(world: World, kind: str, token: Any, *, quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rounds, seconds = (1, 0.5) if quick else (5, 1.0)
    world.modules, world.driver = [token.library], kind
    world.module_settings = {"sm2_profile": "xipki placeholders"} if kind == "pkcs11" else {}
    world.settings["timeouts"] = {"sign": 1.0, "other": 2.0}
    world.pin_file.touch(0o600)
    world.pin_file.write_text(token.user_pin + "\n")
    daemon = world.start()
    with daemon.agent() as agent:
        (key,) = agent.keys()
        agent.sign_digests([E], key=key["id"])
    request = request_octets(f"/v1/keys/{key['id']}/signatures", {"digests": [base64.b64encode(E).decode()]})
    seen: dict[str, list[Load]] = {}
    for _ in range(rounds):
        for level in LEVELS:
            seen.setdefault(level, []).append(_child(level, kind, token, world.pin_file, seconds))
        for clients in (1, 8):
            load = run(daemon.socket, clients, seconds, request, world.directory)
            seen.setdefault(f"socket, {clients} clients" if clients > 1 else "socket", []).append(load)
    count = 50 if quick else 1000
    faults = faults_of(kind)
    endured = [
        _endured(NAMES[kind], "pulled and plugged in", endure_replugging(daemon, key["id"], token, count)),
        _endured(NAMES[kind], f"{len(faults)} faults in turn", endure_faults(daemon, key["id"], token, count, faults)),
    ]
    daemon.stop()
    return _rows(NAMES[kind], seen), endured


def measure(world: World, *, quick: bool) -> list[Table]:
    """Measure both soft GM tokens, then let them come and go, and fail."""
    module, util = find_module(), find_util()
    assert module is not None
    assert util is not None
    layers: list[dict[str, Any]] = []
    endured: list[dict[str, Any]] = []
    for kind in NAMES:
        folder = world.directory / kind
        folder.mkdir()
        kit: Any = SoftSkf(build(), folder) if kind == "skf" else SoftSm2(build(PKCS11), (module, util), folder)
        try:
            token = kit.new_token()
            token.add_key("sm2")
            some, more = _measure(world, kind, token, quick=quick)
            layers += some
            endured += more
        finally:
            kit.close()
    return [
        Table("layers", "SM2 signatures by level: what the driver and the worker hop cost, one at a time", layers),
        Table("endurance", "Keys that come and go, libraries that fail: before → after", endured),
    ]
