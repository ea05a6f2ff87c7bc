"""Making seals on real devices: SoftHSM (RSA, EC) and a soft SKF token (SM2); what is refused, and what devices do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maker_parts import CREDIT_CODE, NAME, OWNER, PICTURE, SAID, Applicant, Office, Room
from openssl_parts import openssl, parsed, sm3
from sample_seals import DISTID
from sealagent.errors import SealAgentError
from sealagent.maker.index import SealRow
from sealagent.maker.settings import RoleKey, TimestampAuthority
from sealagent.maker.stamping import stamp_by
from sealagent.maker.states import Asker
from sealagent.pki.certificates import Certificate, load_certificates
from sealagent.pki.timestamp import read_token
from sealagent.pki.trust import TrustStore
from sealagent.seals.model import Picture
from sealagent.seals.parse import parse_seal
from sealagent.seals.verify import Policy, judge_seal, lists_certificate
from sealdrivers.errors import DriverError
from softgm import SoftSkf
from softhsm2_fixtures import SoftHsm
from testbed.authorities import hierarchy

TESTS = Path(__file__).resolve().parents[1]
KINDS = ("p-256", "rsa-2048", "sm2")


def new_office(kind: str, folder: Path, request: pytest.FixtureRequest) -> Office:
    if kind == "sm2":
        skf: SoftSkf = request.getfixturevalue("softskf")
        return Office(folder, kind, skf.new_token())
    hsm: SoftHsm = request.getfixturevalue("softhsm")
    return Office(folder, kind, hsm.new_token())


@pytest.fixture(scope="module", params=KINDS)
def office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Office:
    """An office of each kind of key, one for all tests of the module."""
    return new_office(request.param, tmp_path_factory.mktemp(f"office-{request.param}"), request)


@pytest.fixture(scope="module")
def ec_office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Office:
    return new_office("p-256", tmp_path_factory.mktemp("office"), request)


@pytest.fixture(scope="module")
def sm2_office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Office:
    return new_office("sm2", tmp_path_factory.mktemp("office"), request)


_numbers = iter(range(10**6))


def fresh_name() -> str:
    return f"{NAME}{next(_numbers)}"


def applicant(office: Office, **options: Any) -> Applicant:
    return office.applicant(f"applicant-{next(_numbers)}", **options)


def made_by(office: Office, who: Applicant, name: str, **wanted: Any) -> tuple[SealRow, bytes]:
    async def work(room: Room) -> tuple[SealRow, bytes]:
        return await room.make(await room.apply(who, name=name), who, **wanted)

    return office.work(work)


def openssl_accepts(office: Office, esl: bytes, folder: Path) -> None:
    """Let the OpenSSL command line verify the maker's signature over SES_SealInfo, the first element of SESeal."""
    info, maker, _, value = parsed(esl).children[:4]
    (folder / "maker.der").write_bytes(maker.content)
    (folder / "public.pem").write_bytes(
        openssl("x509", "-inform", "DER", "-in", folder / "maker.der", "-pubkey", "-noout")
    )
    (folder / "info").write_bytes(info.whole)
    (folder / "value").write_bytes(value.bits)
    sm2 = ("-pkeyopt", DISTID) if office.kind == "sm2" else ()
    said = openssl(
        *("pkeyutl", "-verify", "-pubin", "-inkey", folder / "public.pem", "-rawin"),
        *("-digest", "sm3" if office.kind == "sm2" else "sha256", *sm2),
        *("-in", folder / "info", "-sigfile", folder / "value"),
    )
    assert b"Signature Verified Successfully" in said


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("list_type", [1, 2])
def test_a_seal_of_every_form(office: Office, version: int, list_type: int, tmp_path: Path) -> None:
    who, other, name = applicant(office), applicant(office), fresh_name()

    async def work(room: Room) -> tuple[SealRow, bytes, dict[str, Any], list[Any]]:
        number = await room.apply(who, other, name=name)
        row, esl = await room.make(number, who, other, version=version, list_type=list_type)
        return row, esl, room.register.made(row), room.kinds()

    row, esl, facts, kinds = office.work(work)
    assert kinds[-3:] == [("admin", "applied"), ("intent", "make"), ("admin", "made")]
    seal = parse_seal(esl)
    assert (seal.version, seal.cert_list_type, seal.name, seal.es_id) == (version, list_type, name, row.es_id)
    certificates = [load_certificates(each.certificate.read_bytes())[0] for each in (who, other)]
    assert all(lists_certificate(seal, each.der) for each in certificates)
    assert seal.es_id.startswith("110000")
    assert len(seal.es_id) == 14
    openssl_accepts(office, esl, tmp_path)
    root = TrustStore(tuple(load_certificates(office.root.read_bytes())))
    report = judge_seal(esl, Policy(root, datetime.now(UTC)))
    assert (report.verdict.value, report.intact) == ("valid", True)
    assert not [note for note in report.notes if note.code.startswith("quirk")]
    # The filing record (standards 7), against the seal itself.
    assert facts["sm3"] == row.sm3 == sm3(esl).hex()
    assert row.agent_id == seal.id
    assert facts["maker_sm3"] == sm3(seal.maker_certificate).hex()
    assert [each["sm3"] for each in facts["signers"]] == [sm3(each.der).hex() for each in certificates]
    assert facts["picture"]["sm3"] == sm3(seal.picture.data).hex()
    assert (facts["owner"], facts["credit_code"]) == (OWNER, CREDIT_CODE)
    moments = (seal.created, seal.valid_from, seal.valid_until)
    assert (facts["created"], facts["valid_from"], facts["valid_until"]) == tuple(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in moments
    )
    assert seal.valid_until <= min(each.not_after for each in certificates)


def test_serials_follow_each_other(ec_office: Office) -> None:
    first, _ = made_by(ec_office, applicant(ec_office), fresh_name())
    given, _ = made_by(ec_office, applicant(ec_office), fresh_name(), es_id=f"110000{int(first.es_id[6:]) + 1:08d}")
    free, _ = made_by(ec_office, applicant(ec_office), fresh_name(), es_id="11-FREE-TEXT")
    third, _ = made_by(ec_office, applicant(ec_office), fresh_name())
    assert [int(row.es_id[6:]) - int(first.es_id[6:]) for row in (given, third)] == [1, 2]
    assert free.es_id == "11-FREE-TEXT"


# What is refused: nothing is signed, and it is on record


def refusal(office: Office, what: Any, *, code: str, recorded: bool = True) -> dict[str, Any]:
    """Let something fail, and check that nothing was made and whether it is on record."""

    async def work(room: Room) -> dict[str, Any]:
        seals = room.register.index.seals(limit=1000)
        with pytest.raises(SealAgentError) as caught:
            await what(room)
        assert caught.value.code == code, caught.value.message
        assert room.register.index.seals(limit=1000) == seals
        last = room.kinds()[-1]
        assert (last == ("refused", code)) is recorded, last
        assert room.register.ledger.open_intents() == []
        return dict(caught.value.facts)

    return office.work(work)


@pytest.mark.parametrize(
    ("days", "reason"),
    [((-20, -10), "expired"), ((10, 20), "not_yet_valid")],
)
def test_a_certificate_that_is_not_valid_now(ec_office: Office, days: tuple[float, float], reason: str) -> None:
    who = applicant(ec_office, days=days)

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=fresh_name()), who)

    assert refusal(ec_office, make, code="signer_certificate_refused")["reason"] == reason


@pytest.mark.parametrize(("profile", "reason"), [("encryption", "usage"), ("ca", "usage")])
def test_a_certificate_for_another_use(ec_office: Office, profile: str, reason: str) -> None:
    who = applicant(ec_office)
    now = datetime.now(UTC)
    der = ec_office.authority.issue(who.request.read_bytes(), now - timedelta(1), now + timedelta(9), profile)
    who.certificate.write_bytes(openssl("x509", "-inform", "DER", data=der))

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=fresh_name()), who)

    assert refusal(ec_office, make, code="signer_certificate_refused")["reason"] == reason


def test_a_certificate_of_another_key(ec_office: Office) -> None:
    who, other = applicant(ec_office), applicant(ec_office)

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=fresh_name()), other)

    assert refusal(ec_office, make, code="signer_certificate_refused")["reason"] == "key"


def test_a_certificate_of_a_stranger(ec_office: Office, tmp_path: Path) -> None:
    who = applicant(ec_office)
    no_ca = ("-addext", "basicConstraints=critical,CA:FALSE")
    who.certificate.write_bytes(
        openssl("req", "-x509", "-key", who.key, "-subj", "/CN=self-made", "-days", "9", *no_ca)
    )

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=fresh_name()), who)

    assert refusal(ec_office, make, code="signer_certificate_refused")["reason"] == "chain"


def test_the_makers_own_key_is_no_signers(ec_office: Office) -> None:
    own = Applicant(ec_office.folder / "unit-maker", "p-256")

    async def make(room: Room) -> None:
        await room.make(await room.apply(own, name=fresh_name()), own)

    assert refusal(ec_office, make, code="signer_certificate_refused")["reason"] == "maker"


def test_a_request_without_its_certificate(ec_office: Office) -> None:
    who, other = applicant(ec_office), applicant(ec_office)

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, other, name=fresh_name()), who)

    refusal(ec_office, make, code="signer_certificate_missing", recorded=False)


def test_an_owner_has_one_seal_of_a_name(ec_office: Office) -> None:
    name = fresh_name()
    row, _ = made_by(ec_office, applicant(ec_office), name)
    who = applicant(ec_office)

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=name), who)

    assert refusal(ec_office, make, code="seal_name_taken")["es_id"] == row.es_id

    async def by_another_owner(room: Room) -> SealRow:
        # A person's name is no unit's own.
        number = await room.apply(who, name=name, credit_code="91110000802100433B")
        return (await room.make(number, who))[0]

    assert ec_office.work(by_another_owner).name == name


def test_es_ids_are_unique(ec_office: Office) -> None:
    row, _ = made_by(ec_office, applicant(ec_office), fresh_name())
    who = applicant(ec_office)

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=fresh_name()), who, es_id=row.es_id)

    refusal(ec_office, make, code="es_id_taken")


def test_a_seal_does_not_outlast_its_certificate(ec_office: Office) -> None:
    who, name = applicant(ec_office, days=(-1, 30)), fresh_name()
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=99)

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=name), who, valid_until=until)

    refusal(ec_office, make, code="seal_outlasts_certificate")

    async def on_purpose(room: Room) -> tuple[SealRow, dict[str, Any]]:
        number = await room.apply(who, name=name)
        row, _ = await room.make(number, who, valid_until=until, beyond_certificate="证书即将续期")
        return row, room.register.made(row)

    row, facts = ec_office.work(on_purpose)
    assert row.valid_until == until.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert facts["notes"] == ["outlasts a signer's certificate: 证书即将续期"]

    async def in_the_past(room: Room) -> None:
        await room.make(await room.apply(who, name=fresh_name()), who, valid_until=until - timedelta(days=100))

    refusal(ec_office, in_the_past, code="seal_field_invalid", recorded=False)


def test_an_application_is_used_once(ec_office: Office) -> None:
    who, name = applicant(ec_office), fresh_name()

    async def twice(room: Room) -> None:
        number = await room.apply(who, name=name)
        await room.make(number, who)
        await room.make(number, who)

    async def work(room: Room) -> str:
        with pytest.raises(SealAgentError) as caught:
            await twice(room)
        return caught.value.code

    assert ec_office.work(work) == "application_closed"

    async def unknown(room: Room) -> None:
        await room.make(10**9, who)

    refusal(ec_office, unknown, code="application_unknown", recorded=False)


@pytest.mark.parametrize(
    ("picture", "code"),
    [
        (Picture("PNG", PICTURE, 40, 40), "picture_invalid"),
        (Picture("SVG", b"<svg><script/></svg>", 40, 40), "picture_invalid"),
        (Picture("SVG", PICTURE, 400, 400), "picture_invalid"),
        (Picture("TIFF", b"II*\0", 40, 40), "picture_invalid"),
    ],
)
def test_pictures_that_no_seal_may_have(ec_office: Office, picture: Picture, code: str) -> None:
    who = applicant(ec_office)

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=fresh_name()), who, picture=picture)

    refusal(ec_office, make, code=code, recorded=False)


# The maker's own certificate


@pytest.mark.parametrize(
    ("profile", "days", "reason"),
    [
        ("signer", (-20, -10), "validity"),
        ("signer", (10, 20), "validity"),
        ("encryption", (-1, 9), "usage"),
        (None, (-1, 9), "chain"),
    ],
)
def test_the_makers_certificate_is_verified_first(
    ec_office: Office, profile: str | None, days: tuple[float, float], reason: str, tmp_path: Path
) -> None:
    own, now = Applicant(ec_office.folder / "unit-maker", "p-256"), datetime.now(UTC)
    begin, end = (now + timedelta(days=each) for each in days)
    file = tmp_path / "maker.pem"
    if profile is None:
        file.write_bytes(openssl("req", "-x509", "-key", own.key, "-subj", "/CN=self-made", "-days", "9"))
    else:
        der = ec_office.authority.issue(own.request.read_bytes(), begin, end, profile)
        file.write_bytes(openssl("x509", "-inform", "DER", data=der))
    who = applicant(ec_office)

    async def make(room: Room) -> None:
        key = await room.device.key(RoleKey(key=room.settings.maker.key, certificate=file))
        await room.make(await room.apply(who, name=fresh_name()), who, key=key)

    assert refusal(ec_office, make, code="maker_certificate_refused")["reason"] == reason


def test_a_certificate_file_of_another_key(ec_office: Office) -> None:
    who = applicant(ec_office)

    async def find(room: Room) -> None:
        await room.device.key(RoleKey(key=room.settings.maker.key, certificate=who.certificate))

    refusal(ec_office, find, code="certificate_mismatch", recorded=False)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("pkcs11:token=absent;id=%01", "maker_key_not_found"),
        ("skf:serial=absent;container=maker", "maker_key_not_found"),
        ("", "maker_key_ambiguous"),
    ],
)
def test_which_key(ec_office: Office, key: str, code: str) -> None:
    async def find(room: Room) -> None:
        await room.device.key(RoleKey(key=key))

    facts = refusal(ec_office, find, code=code, recorded=False)
    if code == "maker_key_ambiguous":
        assert len(facts["keys"]) >= 2


# Re-making


def test_a_seal_is_remade(office: Office) -> None:
    name, who = fresh_name(), applicant(office)
    old, _ = made_by(office, who, name)
    office.certify(who)  # renewed: the same key, another certificate

    async def work(room: Room) -> tuple[SealRow, SealRow, Any]:
        said = replace(SAID, asked_by=Asker.OWNER, reason="certificate_renewed", text="换发")
        new, _ = await room.make(old.application, who, said=said, supersedes=old.es_id)
        history = room.register.index.history(old.sm3)
        return new, room.register.seal(old.sm3), [(str(each.state), each.reason) for each, _ in history]

    new, before, history = office.work(work)
    assert (new.name, new.supersedes, new.state) == (old.name, old.sm3, "made")
    assert (before.state, before.superseded_by) == ("superseded", new.sm3)
    assert history == [("made", ""), ("superseded", "certificate_renewed")]
    assert new.es_id != old.es_id


def test_remaking_has_rules(ec_office: Office) -> None:
    name, who = fresh_name(), applicant(ec_office)
    old, _ = made_by(ec_office, who, name)

    async def with_another_name(room: Room) -> None:
        said = replace(SAID, asked_by=Asker.OWNER, reason="expiry")
        await room.make(await room.apply(who, name=fresh_name()), who, said=said, supersedes=old.es_id)

    refusal(ec_office, with_another_name, code="seal_remake_differs")

    async def without_reason(room: Room) -> None:
        await room.make(old.application, who, supersedes=old.es_id)

    refusal(ec_office, without_reason, code="register_reason_invalid", recorded=False)

    async def twice(room: Room) -> None:
        said = replace(SAID, asked_by=Asker.OWNER, reason="damaged_carrier")
        await room.make(old.application, who, said=said, supersedes=old.es_id)
        await room.make(old.application, who, said=said, supersedes=old.es_id)

    async def work(room: Room) -> tuple[str, Any]:
        with pytest.raises(SealAgentError) as caught:
            await twice(room)
        return caught.value.code, caught.value.facts["allowed"]

    assert ec_office.work(work) == ("register_transition_refused", ["invalidated"])


# Devices


@pytest.mark.parametrize("fault", [("zero",), ("flip",), ("other_key",)])
def test_a_device_that_lies_makes_no_seal(sm2_office: Office, fault: tuple[str]) -> None:
    who, name = applicant(sm2_office), fresh_name()

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
    who = applicant(sm2_office)
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
    who = applicant(office)

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
    who = applicant(office)

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
    who = applicant(ec_office)

    async def work(room: Room) -> tuple[str, list[Any]]:
        number = await room.apply(who, name=fresh_name())
        with pytest.raises(SealAgentError) as caught:
            await room.make(number, who, version=5, stamp=stamp)
        return caught.value.code, room.kinds()[-2:]

    code, kinds = ec_office.work(work)
    assert code in ("service_unreachable", "service_refused")
    assert kinds == [("intent", "make"), ("failed", code)]


def test_a_cancelled_command_leaves_no_intent_open(ec_office: Office) -> None:
    who = applicant(ec_office)

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
