"""Making seals: devices that lie or lock, PINs, time-stamps of version 5, and what is cut short."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maker_parts import (
    Office,
    Room,
    fresh_applicant,
    fresh_name,
    made_by,
    new_office,
)
from openssl_parts import openssl, sm3
from sealagent.errors import SealAgentError
from sealagent.maker.index import SealRow
from sealagent.maker.settings import RoleKey, TimestampAuthority
from sealagent.maker.stamping import stamp_by
from sealagent.pki.certificates import Certificate, load_certificates
from sealagent.pki.timestamp import read_token
from sealagent.pki.trust import TrustStore
from sealagent.seals.parse import parse_seal
from sealagent.seals.verify import Policy, judge_seal
from sealdrivers.errors import DriverError
from softhsm2_fixtures import SoftHsm
from testbed.authorities import hierarchy

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def ec_office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Office:
    return new_office("p-256", tmp_path_factory.mktemp("office"), request)


@pytest.fixture(scope="module")
def sm2_office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Office:
    return new_office("sm2", tmp_path_factory.mktemp("office"), request)


@pytest.mark.parametrize("fault", [("zero",), ("flip",), ("other_key",)])
def test_a_device_that_lies_makes_no_seal(sm2_office: Office, fault: tuple[str]) -> None:
    who, name = fresh_applicant(sm2_office), fresh_name()

    async def work(room: Room) -> tuple[str, list[Any], list[Path]]:
        number = await room.apply(who, name=name)
        with pytest.raises((SealAgentError, DriverError)) as caught:
            await room.make(number, who)
        aside = sm2_office.state / "archive" / "aside"
        return caught.value.code, room.kinds(), [*aside.iterdir()] if aside.is_dir() else []

    sm2_office.token.set_fault("signature", "SKF_ECCSignData", fault[0])  # type: ignore[union-attr]
    try:
        code, kinds, aside = sm2_office.work(work)
    finally:
        sm2_office.token.clear_faults()  # type: ignore[union-attr]
    assert code in ("device_signature_wrong", "device_failure")
    assert kinds[-2:] == [("intent", "make"), ("failed", code)]
    assert aside == []
    made_by(sm2_office, who, name)  # the same name and esID are free


def test_a_wrong_pin_is_told_before_anything_is_recorded(sm2_office: Office) -> None:
    who = fresh_applicant(sm2_office)
    sm2_office.pin_file.write_text("not-the-pin\n")

    async def work(room: Room) -> tuple[str, Any, int, int]:
        size = room.register.ledger.head().size
        with pytest.raises(DriverError) as caught:
            await room.device.unlock(room.key)
        return caught.value.code, caught.value.facts()["tries_left"], size, room.register.ledger.head().size

    try:
        code, left, before, after = sm2_office.work(work)
    finally:
        sm2_office.pin_file.write_text(sm2_office.token.user_pin + "\n")
    assert (code, left, before) == ("pin_incorrect", 5, after)
    made_by(sm2_office, who, fresh_name())


def test_a_key_that_wants_its_pin_each_time(softhsm: SoftHsm, tmp_path: Path) -> None:
    office = Office(tmp_path, "p-256", softhsm.new_token())
    office.token.add_key("ec-p256", object_id=b"\x03", label="each", always_authenticate=True)  # type: ignore[union-attr]
    who = fresh_applicant(office)

    async def work(room: Room) -> SealRow:
        keys = [each for _, contents in await room.device.listing() for each in contents.keys]  # type: ignore[union-attr]
        (spki,) = [each.public_key for each in keys if each.object_id == b"\x03"]
        assert spki is not None
        (tmp_path / "spki.der").write_bytes(spki)
        return (
            await room.make(await room.apply(who), who, key=await room.device.key(RoleKey(key=uri, certificate=file)))
        )[0]

    uri = office.uri("each", b"\x03")
    file = tmp_path / "each.pem"
    file.write_bytes(_certificate_for(office, tmp_path))
    assert office.work(work).state == "made"


def _certificate_for(office: Office, folder: Path) -> bytes:
    """Have the CA certify the session's key, which the token has under id 3."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from softhsm2_fixtures.keys import session_key

    key = folder / "each.key"
    key.write_bytes(session_key("ec-p256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    request = openssl("req", "-new", "-key", key, "-subj", "/CN=each")
    now = datetime.now(UTC)
    return openssl(
        "x509", "-inform", "DER", data=office.authority.issue(request, now - timedelta(1), now + timedelta(99))
    )


# Time-stamps (version 5)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The test bed's time-stamp authorities; give their address and folder."""
    folder = tmp_path_factory.mktemp("services")
    state = folder / "services.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "testbed.services", "--folder", folder, "--state", state],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    deadline = time.monotonic() + 30
    while not state.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    url = json.loads(state.read_text())["url"]
    for family in ("ec", "sm2"):
        hierarchy(folder, family, url, datetime.now(UTC).replace(microsecond=0))
    yield url, folder
    process.terminate()
    assert process.wait(10) == 0


@pytest.mark.parametrize(("kind", "family", "digest"), [("p-256", "ec", "sha256"), ("sm2", "sm2", "sm3")])
def test_a_seal_of_version_5_is_time_stamped(
    kind: str, family: str, digest: str, services: tuple[str, Path], request: pytest.FixtureRequest
) -> None:
    office: Office = request.getfixturevalue("ec_office" if kind == "p-256" else "sm2_office")
    stamp = stamp_by(TimestampAuthority(url=f"{services[0]}/tsa/{family}"), digest)
    who = fresh_applicant(office)

    async def work(room: Room) -> tuple[bytes, Any, bytes]:
        row, esl = await room.make(await room.apply(who, name=fresh_name()), who, version=5, stamp=stamp)
        _, plain = await room.make(await room.apply(who, name=fresh_name()), who, version=4, stamp=stamp)
        return esl, room.register.made(row), plain

    esl, facts, plain = office.work(work)
    seal = parse_seal(esl)
    assert seal.timestamp is not None
    assert facts["time_stamped"] is True
    covered = sm3(seal.signature) if digest == "sm3" else openssl("dgst", "-sha256", "-binary", data=seal.signature)
    assert read_token(seal.timestamp).imprint == covered
    assert parse_seal(plain).timestamp is None  # version 4 has no place for it
    root = [*load_certificates(office.root.read_bytes())]
    root += [Certificate.from_der(each.read_bytes()) for each in (services[1] / family).rglob("ca.der")]
    report = judge_seal(esl, Policy(TrustStore(tuple(root)), datetime.now(UTC)))
    assert report.verdict.value == "valid", report
    assert "time_stamped" in [note.code for note in report.notes]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/tsa", "{services}/no/such/authority"])
def test_without_its_time_stamp_no_seal_is_made(ec_office: Office, services: tuple[str, Path], url: str) -> None:
    stamp = stamp_by(TimestampAuthority(url=url.format(services=services[0]), seconds=5), "sha256")
    who = fresh_applicant(ec_office)

    async def work(room: Room) -> tuple[str, list[Any]]:
        number = await room.apply(who, name=fresh_name())
        with pytest.raises(SealAgentError) as caught:
            await room.make(number, who, version=5, stamp=stamp)
        return caught.value.code, room.kinds()[-2:]

    code, kinds = ec_office.work(work)
    assert code in ("service_unreachable", "service_refused")
    assert kinds == [("intent", "make"), ("failed", code)]


def test_a_cancelled_command_leaves_no_intent_open(ec_office: Office) -> None:
    who = fresh_applicant(ec_office)

    asked = asyncio.Event()

    async def never(covered: bytes) -> bytes:
        asked.set()
        await asyncio.sleep(60)
        return covered

    async def work(room: Room) -> list[Any]:
        number = await room.apply(who, name=fresh_name())
        making = asyncio.create_task(room.make(number, who, version=5, stamp=never))
        await asked.wait()
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        return room.kinds()[-2:]

    assert ec_office.work(work) == [("intent", "make"), ("failed", "cancelled")]
