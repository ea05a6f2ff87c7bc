"""Hostile evidence that is rightly signed: a responder or CA that writes nonsense never gets more than "unknown" by it.

Damage alone ends at the signature; so structures are changed first and signed then, which leads into asn1crypto and the
path library.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import core, crl, ocsp, x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from revocation_parts import Holder, Revoked, World, make_world
from sample_seals import tlv
from sealagent.pki.revinfo import judge_crl, judge_ocsp
from sealagent.pki.revocation import CertificateState, CertificateStatus

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
BASIC = bytes.fromhex("06092b0601050507300101")
TAGS = (1, 2, 3, 4, 5, 6, 9, 10, 12, 0x13, 0x17, 0x18, 0x30, 0x31, 0x80, 0x81, 0x82, 0xA0, 0xA1, 0xA2)
ROUNDS = 1500


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), "p-256", NOW)


def signer(holder: Holder) -> Callable[[bytes], bytes]:
    key = load_pem_private_key(Path(holder.key).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return lambda message: key.sign(message, ec.ECDSA(hashes.SHA256()))


def elements(data: bytes) -> list[tuple[int, bytes]]:
    found, offset = [], 0
    while offset < len(data):
        tag, size, body = data[offset], data[offset + 1], offset + 2
        if size & 0x80:
            body += size & 0x7F
            size = int.from_bytes(data[offset + 2 : body], "big")
        found.append((tag, data[body : body + size]))
        offset = body + size
    return found


def changed(data: bytes, chance: random.Random) -> bytes:
    """Change one element somewhere: drop, repeat, empty, rename or fill it, or put another beside it."""
    try:
        parts = elements(data)
    except IndexError:  # octets that are no elements
        return bytes(chance.randbytes(len(data)))
    if not parts:
        return data
    place = chance.randrange(len(parts))
    tag, contents = parts[place]
    inside = 0.85 if tag & 0x20 else 0.5 if tag == 4 else 0
    if contents and chance.random() < inside:
        parts[place] = (tag, changed(contents, chance))
    else:
        match chance.randrange(6):
            case 0:
                del parts[place]
            case 1:
                parts.insert(place, parts[place])
            case 2:
                parts[place] = (tag, b"")
            case 3:
                parts[place] = (chance.choice(TAGS), contents)
            case 4:
                parts[place] = (tag, chance.randbytes(chance.randrange(1, 6)))
            case 5:
                parts.insert(place, (chance.choice(TAGS), b""))
    return b"".join(tlv(tag, contents) for tag, contents in parts)


def sound(status: CertificateStatus) -> bool:
    """Say whether an answer is one: with its time and evidence, or with a reason why nothing is known."""
    if status.state is CertificateState.UNKNOWN:
        return bool(status.detail)
    return bool(status.evidence) and status.produced_at is not None and status.next_update is not None


@pytest.mark.parametrize("seed", range(1))
def test_responses(seed: int, world: World) -> None:
    chance, sign = random.Random(seed), signer(world.responder)
    late = {"extn_id": "archive_cutoff", "extn_value": core.GeneralizedTime(NOW)}
    since = {"extn_id": "invalidity_date", "extn_value": core.GeneralizedTime(NOW)}
    revoked = world.answer("revoked", revoked_at=NOW, reason="superseded", extensions=(late, since))
    whole = ocsp.OCSPResponse.load(world.response(revoked, world.good(serial=3), nonce=bytes(16)))
    data, algorithm, _, certificates = (each.dump() for each in (whole.basic_ocsp_response[name] for name in FIELDS))
    states: list[CertificateState] = []
    for _ in range(ROUNDS):
        tbs = changed(data, chance)
        named = changed(algorithm, chance) if chance.random() < 0.1 else algorithm
        brought = tlv(0xA0, changed(certificates[2:], chance)) if chance.random() < 0.2 else certificates
        basic = tlv(0x30, tbs, named, tlv(3, b"\0", sign(tbs)), brought)
        octets = tlv(0x30, tlv(10, b"\0"), tlv(0xA0, tlv(0x30, BASIC, tlv(4, basic))))
        status = judge_ocsp(octets, world.chain, NOW, nonce=bytes(16))
        assert sound(status), octets.hex()
        states.append(status.state)
    assert {CertificateState.UNKNOWN, CertificateState.REVOKED} <= set(states)


FIELDS = ("tbs_response_data", "signature_algorithm", "signature", "certs")


@pytest.mark.parametrize("seed", range(1))
def test_lists(seed: int, world: World) -> None:
    chance, sign = random.Random(seed), signer(world.ca)
    name = [x509.GeneralName("directory_name", world.ca.x509.subject)]
    point = {"indirect_crl": True, "distribution_point": x509.DistributionPointName("full_name", name)}
    since = {"extn_id": "invalidity_date", "extn_value": core.GeneralizedTime(NOW)}
    kept = {"extn_id": "2.5.29.60", "extn_value": core.ParsableOctetString(core.GeneralizedTime(NOW).dump())}
    own = Revoked(world.serial, NOW, "superseded", world.ca.x509.subject, (since,))
    whole = crl.CertificateList.load(
        world.crl(own, Revoked(5, NOW), number=5, freshest="http://h/", point=point, extensions=[kept])
    )
    delta = world.crl(Revoked(world.serial, NOW, "remove_from_crl"), number=6, delta=5, point=point)
    data, algorithm = whole["tbs_cert_list"].dump(), whole["signature_algorithm"].dump()
    states: list[CertificateState] = []
    for number in range(ROUNDS):
        tbs = changed(data, chance)
        octets = tlv(0x30, tbs, algorithm, tlv(3, b"\0", sign(tbs)))
        status = judge_crl(octets, world.chain, NOW + timedelta(hours=1), delta=delta if number % 3 == 0 else None)
        assert sound(status), octets.hex()
        states.append(status.state)
    assert set(states) == set(CertificateState)
