"""Makers and signers for tests, with seals and signatures that only the OpenSSL command line signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sample_seals import (
    SHA256_WITH_RSA,
    Identity,
    Kind,
    authority,
    bits,
    identity,
    oid,
    png,
    raw_info,
    raw_seal,
    raw_signature,
    raw_tbs,
    tlv,
    utc,
)
from sealagent.pki.certificates import Certificate
from sealagent.pki.digests import digest
from sealagent.pki.trust import TrustStore
from sealagent.seals.build import assemble_seal, assemble_signature, build_seal_info, build_tbs
from sealagent.seals.model import Picture
from sealagent.seals.verify import Policy
from sealagent.verdict import Note, Reason, SignatureReport

PATH = "/Doc_0/Signs/Sign_0/Signature.xml"
DOCUMENT = b"<ofd:Signature/>"
KINDS: tuple[Kind, ...] = ("sm2", "rsa", "p256")


@dataclass(frozen=True)
class Party:
    """A CA with a maker and a signer, and moments inside and outside their validity."""

    ca: Identity
    maker: Identity
    signer: Identity
    start: datetime
    """A moment at which every certificate has begun."""
    end: datetime
    """After every certificate."""

    def trusting(self, *, pins: bool = False) -> TrustStore:
        chosen = (self.maker, self.signer) if pins else (self.ca,)
        return TrustStore(tuple(Certificate.from_der(item.der) for item in chosen), "test list")

    def policy(self, now: datetime | None = None, *, pins: bool = True, strict: bool = False) -> Policy:
        return Policy(self.trusting(pins=pins), now or self.start + timedelta(days=2), strict)

    def info(self, version: int = 4, **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "version": version,
            "es_id": "0001",
            "vendor": "Test",
            "type": 1,
            "name": "测试章",
            "created": self.start,
            "valid_from": self.start,
            "valid_until": self.start + timedelta(days=365),
            "picture": Picture("PNG", png(), 40, 40),
        }
        if "certificate_digests" not in changes:
            fields["certificates"] = (self.signer.der,)
        return build_seal_info(**(fields | changes))

    def seal(self, version: int = 4, token: bytes | None = None, **changes: Any) -> bytes:
        info = self.info(version, **changes)
        return assemble_seal(info, self.maker.der, self.maker.algorithm, self.maker.sign(info), token)

    def signature(
        self, seal: bytes | None = None, time: datetime | None = None, property_info: str = PATH, version: int = 4
    ) -> bytes:
        tbs = build_tbs(seal or self.seal(version), version, time or self.start, digest("sm3", DOCUMENT), property_info)
        return assemble_signature(tbs, self.signer.der, self.signer.algorithm, self.signer.sign(tbs))


def make_parties(folder_of: Callable[[str], Path]) -> dict[str, Party]:
    """Make one party for each kind of key.

    :param folder_of: makes a folder of that name.
    """
    made: dict[str, Party] = {}
    for kind in KINDS:
        folder = folder_of(kind)
        ca = authority(folder, kind, "ca")
        maker, signer = (identity(folder, kind, name, ca=ca) for name in ("maker", "signer"))
        certificate = Certificate.from_der(signer.der)
        day = timedelta(days=1)
        made[kind] = Party(ca, maker, signer, certificate.not_before + day, certificate.not_after + day)
    return made


def version_1(
    party: Party,
    *,
    algorithm: str = SHA256_WITH_RSA,
    digest_name: str = "sha256",
    data_hash: bytes | None = None,
    time: bytes | None = None,
) -> bytes:
    moments = tuple(
        utc(moment.strftime("%y%m%d%H%M%SZ")) for moment in (party.start, party.start, party.start + timedelta(days=30))
    )
    info = raw_info(1, certificates=(party.signer.der,), times=moments)  # type: ignore[arg-type]
    signed = tlv(0x30, info, tlv(4, party.maker.der), oid(algorithm))
    value = bits(party.maker.sign(signed, digest_name))
    seal = raw_seal(1, info=info, maker=party.maker.der, algorithm=algorithm, signature=value)
    tbs = raw_tbs(
        1,
        seal=seal,
        time=time or bits(utc(party.start.strftime("%y%m%d%H%M%SZ"))),
        data_hash=data_hash or hashlib.new(digest_name, DOCUMENT).digest(),
        certificate=party.signer.der,
        algorithm=algorithm,
    )
    return raw_signature(1, tbs=tbs, signature=bits(party.signer.sign(tbs, digest_name)))


def hash_of(content: bytes) -> Callable[[str], bytes]:
    return lambda name: digest(name, content)


def codes(items: Iterable[Reason | Note]) -> list[str]:
    return [item.code for item in items]


UNASKED = ("status_not_checked", "cert_status_not_checked")
"""What every report notes where no status service and no revocation source was given."""


def noted(report: SignatureReport) -> list[str]:
    """Return the codes of a report's notes, but those on questions that nobody was there to answer."""
    return [code for code in codes(report.notes) if code not in UNASKED]


def outcome(report: SignatureReport) -> tuple[list[str], str, bool | None]:
    return codes(report.reasons), report.verdict.value, report.intact
