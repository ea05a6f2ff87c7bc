"""What judging costs beyond the mathematics: a sealed OFD with full path validation against its digests and public-key
operations alone, side by side, for SM2 chains of three certificates.
"""

from __future__ import annotations

import io
import os
import statistics
import time
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent_world import World
from bench.tables import Table
from demo.ofdmaker import large_document
from sample_seals import Identity, authority, identity, png
from sealagent.documents.ofd.seal import AtPosition, prepare
from sealagent.documents.verify import verify_document
from sealagent.pki.certificates import Certificate
from sealagent.pki.digests import digest
from sealagent.pki.revocation import CertificateState, CertificateStatus
from sealagent.pki.signatures import algorithm, verify
from sealagent.pki.trust import TrustClass, TrustEntry, TrustRole, TrustSource, TrustStore
from sealagent.seals.build import assemble_seal, assemble_signature, build_seal_info, build_tbs
from sealagent.seals.model import Picture, Seal
from sealagent.seals.parse import parse_seal, parse_signature
from sealagent.seals.status import SealState, SealStatus, StateChange
from sealagent.seals.verify import Policy

WANTED = 1.5
"""Verifying, warm, over the digests and public-key operations alone."""


class _Good:
    """Answers at once, so that the judge's own cost is what is measured; what kept answers cost is in ``status``."""

    def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
        return CertificateStatus(CertificateState.GOOD)


class _Valid:
    """Says of every seal that it is valid, and has been for a day."""

    def __init__(self, now: datetime) -> None:
        self._answer = SealStatus((StateChange(SealState.VALID, now - timedelta(days=1)),), "bench", now)

    def status(self, seal: Seal, maker: Certificate, now: datetime) -> SealStatus:
        return self._answer


def measure(world: World, *, quick: bool) -> list[Table]:
    """Measure helloworld.ofd, a package of about 2 MB and one of about 20 MB."""
    count = 5 if quick else 30
    vectors = Path(os.environ.get("SEALAGENT_VECTORS", Path(__file__).resolve().parents[3] / "shared" / "vectors"))
    inputs = {
        "helloworld.ofd": (vectors / "helloworld.ofd").read_bytes(),
        "2 MB": large_document(),
        "20 MB": large_document(20, 20_000_000),
    }
    parties = _Parties(world.directory)
    rows = [parties.row(name, octets, count) for name, octets in inputs.items()]
    title = f"Verifying with full path validation, against digests and public-key operations alone (wanted: ≤ {WANTED})"
    return [Table("judging", title, rows)]


class _Parties:
    """Root, subordinate CA, maker and signer, all SM2, with a seal; keys are the OpenSSL command line's."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=1)
        self.root = authority(folder, "sm2", "root")
        usage = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
        self.ca = identity(folder, "sm2", "ca", ca=self.root, extensions=usage)
        self.maker, self.signer = (identity(folder, "sm2", name, ca=self.ca) for name in ("maker", "signer"))
        info = build_seal_info(
            version=4,
            es_id="11000000000001",
            vendor="Bench",
            type=1,
            name="测试单位公章",
            created=self.now,
            valid_from=self.now,
            valid_until=self.now + timedelta(days=30),
            picture=Picture("PNG", png(400, 400), 40, 40),
            certificates=[self.signer.der],
        )
        self.seal = assemble_seal(info, self.maker.der, self.maker.algorithm, self.maker.sign(info))
        source = TrustSource("bench", 1, "110000", "北京市", "bench", self.now, self.now + timedelta(days=30))
        roles = frozenset({TrustRole.CA, TrustRole.MAKER})
        entry = TrustEntry(self.certificate(self.ca), roles, TrustClass.COMMERCIAL, source)
        trust = TrustStore((), "bench", (entry,))
        moment = self.now + timedelta(minutes=1)
        self.policy = Policy(trust, moment, revocation=_Good(), seals=_Valid(moment))

    def certificate(self, of: Identity) -> Certificate:
        return Certificate.from_der(of.der)

    def sealed(self, document: bytes) -> bytes:
        prepared = prepare(
            io.BytesIO(document),
            parse_seal(self.seal),
            [AtPosition(1, 10, 10)],
            algorithm_oid=self.signer.algorithm,
            time=self.now,
        )
        tbs = build_tbs(self.seal, 4, self.now, prepared.data_hash, prepared.property_info)
        out = io.BytesIO()
        prepared.write(assemble_signature(tbs, self.signer.der, self.signer.algorithm, self.signer.sign(tbs)), out)
        return out.getvalue()

    def row(self, name: str, document: bytes, count: int) -> dict[str, Any]:
        sealed = self.sealed(document)
        report = verify_document(io.BytesIO(sealed), name, self.policy)
        if report.verdict != "valid":
            raise RuntimeError(f"{name} is {report.verdict}: {report.as_json()}")
        with zipfile.ZipFile(io.BytesIO(sealed)) as package:
            files = [package.read(each) for each in package.namelist()]
            value = package.read(next(each for each in package.namelist() if each.endswith("SignedValue.dat")))
        signature, sm2 = parse_signature(value), algorithm(self.signer.algorithm)
        ca, maker, signer = (self.certificate(each) for each in (self.ca, self.maker, self.signer))
        proofs = [
            (signer, signature.signature, signature.tbs),
            (maker, signature.seal.signature, signature.seal.info),
            (ca, signer.fields.signature, signer.fields.tbs),
            (ca, maker.fields.signature, maker.fields.tbs),
        ]

        def alone() -> None:
            for octets in files:
                digest("sm3", octets)
            for certificate, octets, signed in proofs:
                assert verify(certificate.public_key, sm2, octets, signed).ok

        def whole() -> None:
            verify_document(io.BytesIO(sealed), name, self.policy)

        judging, mathematics = _pairs(whole, alone, count)
        ratio = statistics.median(judged / bare for judged, bare in zip(judging, mathematics, strict=True))
        return {
            "document": name,
            "files": len(files),
            "verify ms": statistics.median(judging),
            "alone ms": statistics.median(mathematics),
            "ratio": ratio,
            "wanted": WANTED,
        }


def _pairs(one: Callable[[], None], other: Callable[[], None], count: int) -> tuple[list[float], list[float]]:
    """Time two pieces of work in turn, so that a noisy machine disturbs both alike; milliseconds."""
    one(), other()
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(count):
        for work, times in zip((one, other), found, strict=True):
            start = time.perf_counter()
            work()
            times.append((time.perf_counter() - start) * 1000)
    return found
