"""``make bench``: measure, print tables, write ``build/bench.json``.

``python -m bench [--quick] [NAME…]``, names being those of :data:`BENCHMARKS`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agent_world import TestAuthority, World
from bench import asking, batches, callers, documents, drivers, judging, presence, prompts, register, signing, status
from bench.tables import show
from softhsm2_fixtures import SoftHsm
from softhsm2_fixtures.library import NOT_FOUND, find_module, find_util

PROJECT = Path(__file__).resolve().parents[2]
OUT = PROJECT / "build" / "bench.json"
BENCHMARKS: dict[str, Any] = {
    "signing": signing,
    "asking": asking,
    "batches": batches,
    "prompts": prompts,
    "callers": callers,
    "documents": documents,
    "judging": judging,
    "status": status,
    "register": register,
    "drivers": drivers,
    "presence": presence,
}


def main() -> None:
    """Run the benchmarks that are named, or all."""
    quick = "--quick" in sys.argv
    wanted = [name for name in sys.argv[1:] if not name.startswith("-")] or list(BENCHMARKS)
    module, util = find_module(), find_util()
    if module is None or util is None:
        sys.exit(NOT_FOUND)
    results: dict[str, object] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    }
    with tempfile.TemporaryDirectory(prefix="bench") as directory:
        hsm = SoftHsm(module, util, Path(directory))
        try:
            for name, benchmark in BENCHMARKS.items():
                if name in wanted:
                    began = time.monotonic()
                    print(f"\n[{name}: measuring]", flush=True)
                    place = Path(directory) / name
                    place.mkdir()
                    world = World(place, hsm.new_token(), TestAuthority(), fresh=True)
                    try:
                        tables = benchmark.measure(world, quick=quick)
                    finally:
                        world.close()
                    results[name] = {table.key: table.rows for table in tables}
                    for table in tables:
                        show(table)
                    _write(results)
                    print(f"[{name}: took {time.monotonic() - began:.0f} s]", flush=True)
        finally:
            hsm.close()
    print(f"\nwritten to {OUT.relative_to(PROJECT)}")


def _write(results: dict[str, object]) -> None:
    """Write what is measured so far: a run that is stopped loses nothing."""
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
