"""What asking costs a signature when the answers come from the cache: daemons side by side that sign in turn.

One asks nobody, one about the seal, one about the seal and both certificates. Each signs the same digest with the same
seal and key; the server and the revocation list are asked once, before the measuring.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from agent_world import TestAuthority, World
from bench.tables import Table
from sample_seals import identity
from status_parts import VALID, Unit, changes, serving

WANTED = 1.0
"""Milliseconds that a status answer from the cache may add to a signature."""


def empty_crl(authority: TestAuthority, folder: Path) -> Path:
    """Write a revocation list of the test CA that names nobody."""
    now = datetime.now(UTC).replace(microsecond=0)
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.root.subject)
    listed = builder.last_update(now - timedelta(hours=1)).next_update(now + timedelta(days=1))
    file = folder / "root.crl"
    file.write_bytes(listed.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.DER))
    return file


def measure(world: World, *, quick: bool) -> list[Table]:
    """Sign in turn with each daemon; report medians, and what is added to the one that asks nobody."""
    count = 30 if quick else 300
    seal = world.authority.make_seal([world.add_signer()])
    world.token.add_data(seal, label="seal")
    signer = identity(world.directory, "sm2", "status")
    now = datetime.now(UTC).replace(microsecond=0)
    unit = Unit(signer, lambda: datetime.now(UTC), seal, changes(now - timedelta(hours=9), *VALID), "11010000000001")
    with ExitStack() as stack:
        server = stack.enter_context(serving(unit))
        status = {"services": [{"url": server.url, "signers": [str(signer.pem)]}], "cache_seconds": 3600}
        crls = [str(empty_crl(world.authority, world.directory))]
        asking: dict[str, dict[str, Any]] = {
            "nobody": {},
            "the seal's status": {"status": status},
            "the seal's and the certificates'": {"status": status, "revocation": {"crls": crls}},
        }
        agents = {}
        for number, (name, settings) in enumerate(asking.items()):
            place = world.directory / str(number)
            place.mkdir()
            own = World(place, world.token, world.authority, settings=settings, fresh=True)
            stack.callback(own.close)
            agents[name] = stack.enter_context(own.start().agent())
        times: dict[str, list[float]] = {name: [] for name in asking}
        for turn in range(count + 5):
            first = turn % len(agents)  # each is first, second and last as often
            for name, agent in [*agents.items()][first:] + [*agents.items()][:first]:
                begun = time.perf_counter()
                agent.sign_digest_with_seal(bytes(32), seal="测试单位公章", property_info="/a")
                if turn >= 5:
                    times[name].append((time.perf_counter() - begun) * 1000)
        if len(server.asked) != 2:
            raise RuntimeError(f"the server was asked {len(server.asked)} times: the answers were not from the cache")
    rows = []
    for name, taken in times.items():
        added = [own - base for own, base in zip(taken, times["nobody"], strict=True)]
        rows.append(
            {
                "asked about": name,
                "p50 ms": statistics.median(taken),
                "added ms": None if name == "nobody" else statistics.median(added),
                "wanted": None if name == "nobody" else WANTED,
            }
        )
    return [Table("status", f"A signature with answers from the cache (wanted: < {WANTED:g} ms added)", rows)]
