"""Sealing and verifying documents: warm through the daemon, cold through the command line, and where the time goes."""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_world import Daemon, World
from bench.tables import Table
from demo.ofdmaker import large_document
from sealagent.client import at
from sealagent.documents.limits import Limits
from sealagent.documents.ofd.seal import AtPosition, prepare
from sealagent.documents.verify import verify_document
from sealagent.pki import oids
from sealagent.pki.certificates import Certificate, load_certificates
from sealagent.pki.signatures import algorithm, signing_digest, verify_digest
from sealagent.pki.trust import TrustStore
from sealagent.seals.build import build_tbs
from sealagent.seals.parse import parse_seal
from sealagent.seals.verify import Policy

TARGETS = {
    ("helloworld.ofd", "seal", "warm"): 5.0,
    ("2 MB", "seal", "warm"): 50.0,
    ("2 MB", "verify", "warm"): 40.0,
    ("helloworld.ofd", "seal", "cold"): 200.0,
    ("helloworld.ofd", "verify", "cold"): 200.0,
    ("2 MB", "seal", "cold"): 200.0,
    ("2 MB", "verify", "cold"): 200.0,
    ("status", "show", "cold"): 60.0,
}
"""Milliseconds we want to stay within; for the warm seal of helloworld.ofd without the device's own time."""


def _times(work: Callable[[], Any], count: int) -> list[float]:
    """Return milliseconds of each run after one that does not count."""
    work()
    found = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        found.append((time.perf_counter() - start) * 1000)
    return found


def _peak(pid: int) -> float:
    """Return the most memory a process has had so far, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def _command(daemon: Daemon, *arguments: str) -> Callable[[], float]:
    """Return a function that runs the command line once and returns its peak memory, MiB."""

    def run() -> float:
        command = [sys.executable, "-m", "sealagent", "--socket", str(daemon.socket), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{arguments} ended with {process.returncode}")
        return usage.ru_maxrss / 1024

    return run


def measure(world: World, *, quick: bool) -> list[Table]:
    """Measure helloworld.ofd and a package of about 2 MB."""
    count = 5 if quick else 30
    vectors = Path(os.environ.get("SEALAGENT_VECTORS", Path(__file__).resolve().parents[3] / "shared" / "vectors"))
    certificate = world.add_signer("rsa-2048")
    seal = world.authority.make_seal([certificate])
    world.token.add_data(seal, label="seal")
    inputs = {"helloworld.ofd": (vectors / "helloworld.ofd").read_bytes(), "2 MB": large_document()}
    daemon = world.start()
    rows: list[dict[str, Any]] = []

    def row(name: str, work: str, how: str, times: list[float], peak: float | None) -> None:
        rows.append(
            {
                "document": name,
                "work": work,
                "how": how,
                "median ms": statistics.median(times),
                "best ms": min(times),
                "worst ms": max(times),
                "peak MiB": peak,
                "wanted ms": TARGETS.get((name, work, how)),
            }
        )

    with daemon.agent() as agent:
        idle = _resident(daemon.process.pid)
        for name, octets in inputs.items():
            made = agent.seal_document(octets, seal="测试单位公章", placements=[at(1, 50, 50)]).document

            def seal_it(octets: bytes = octets) -> None:
                agent.seal_document(octets, seal="测试单位公章", placements=[at(1, 50, 50)])

            def verify_it(made: bytes = made) -> None:
                assert agent.verify_document(made)["verdict"] == "valid"

            row(name, "seal", "warm", _times(seal_it, count), _peak(daemon.process.pid))
            row(name, "verify", "warm", _times(verify_it, count), _peak(daemon.process.pid))
            source, target = world.directory / "in.ofd", world.directory / "out.ofd"
            source.write_bytes(octets)
            arguments = (str(source), "--seal", "测试单位公章", "--at", "1,50,50", "--out", str(target), "--force")
            for work, run in (
                ("seal", _command(daemon, "document", "seal", *arguments)),
                ("verify", _command(daemon, "document", "verify", str(target))),
            ):
                row(name, work, "cold", _times(run, max(3, count // 3)), run())
        status = _command(daemon, "status")
        row("status", "show", "cold", _times(status, max(3, count // 3)), status())
    rows.append(
        {
            "document": "daemon",
            "work": "idle",
            "how": "resident",
            "median ms": None,
            "best ms": None,
            "worst ms": None,
            "peak MiB": idle,
            "wanted ms": None,
        }
    )
    stages = [
        stage for name, octets in inputs.items() for stage in _stages(world, name, octets, seal, certificate, count)
    ]
    return [
        Table("documents", "Documents (RSA-2048; wanted memory of the idle daemon: at most 60 MiB)", rows),
        Table("stages", "Where the time goes (in process, milliseconds)", stages),
    ]


def _stages(
    world: World, name: str, octets: bytes, seal_der: bytes, certificate_der: bytes, count: int
) -> list[dict[str, Any]]:
    """Time each stage of sealing and verifying alone."""
    seal = parse_seal(seal_der)
    now = datetime.now(UTC).replace(microsecond=0)
    rsa = algorithm(oids.SHA256_RSA)
    public = Certificate.from_der(certificate_der).public_key

    def preparing() -> Any:
        source = io.BytesIO(octets)
        return prepare(source, seal, [AtPosition(1, 50, 50)], algorithm_oid=rsa.oid, time=now)

    prepared = preparing()
    tbs = build_tbs(seal.raw, seal.version, now, prepared.data_hash, prepared.property_info)
    digest = signing_digest(public, rsa, tbs)
    policy = Policy(trust=TrustStore(tuple(load_certificates(world.authority.root_pem().encode()))), now=now)
    with world.daemons[0].agent() as agent:
        sealed = agent.seal_document(octets, seal="测试单位公章", placements=[at(1, 50, 50)]).document
    limits = Limits()
    work: dict[str, Callable[[], Any]] = {
        "seal: hash and prepare": preparing,
        "seal: TBS and its digest": lambda: signing_digest(
            public, rsa, build_tbs(seal.raw, seal.version, now, prepared.data_hash, prepared.property_info)
        ),
        "seal: write the package": lambda: prepared.write(bytes(4000), io.BytesIO()),
        "verify: whole": lambda: verify_document(io.BytesIO(sealed), name, policy, limits),
        "verify: one public-key operation": lambda: verify_digest(public, rsa, bytes(256), digest),
    }
    return [
        {"document": name, "stage": stage, "median ms": statistics.median(_times(run, count))}
        for stage, run in work.items()
    ]
