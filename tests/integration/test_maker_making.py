"""Making seals on real devices, SoftHSM (RSA, EC) and soft SKF (SM2): every form of seal, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maker_parts import (
    CREDIT_CODE,
    OWNER,
    PICTURE,
    SAID,
    Applicant,
    Office,
    Room,
    fresh_applicant,
    fresh_name,
    made_by,
    new_office,
)
from openssl_parts import openssl, parsed, sm3
from sample_seals import DISTID
from sealagent.errors import SealAgentError
from sealagent.maker.index import SealRow
from sealagent.maker.settings import RoleKey
from sealagent.maker.states import Asker
from sealagent.pki.certificates import load_certificates
from sealagent.pki.trust import TrustStore
from sealagent.seals.model import Picture
from sealagent.seals.parse import parse_seal
from sealagent.seals.verify import Policy, judge_seal, lists_certificate

KINDS = ("p-256", "rsa-2048", "sm2")


@pytest.fixture(scope="module", params=KINDS)
def office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Office:
    """An office of each kind of key, one for all tests of the module."""
    return new_office(request.param, tmp_path_factory.mktemp(f"office-{request.param}"), request)


@pytest.fixture(scope="module")
def ec_office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Office:
    return new_office("p-256", tmp_path_factory.mktemp("office"), request)


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
    who, other, name = fresh_applicant(office), fresh_applicant(office), fresh_name()

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
    first, _ = made_by(ec_office, fresh_applicant(ec_office), fresh_name())
    given, _ = made_by(
        ec_office, fresh_applicant(ec_office), fresh_name(), es_id=f"110000{int(first.es_id[6:]) + 1:08d}"
    )
    free, _ = made_by(ec_office, fresh_applicant(ec_office), fresh_name(), es_id="11-FREE-TEXT")
    third, _ = made_by(ec_office, fresh_applicant(ec_office), fresh_name())
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
    who = fresh_applicant(ec_office, days=days)

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=fresh_name()), who)

    assert refusal(ec_office, make, code="signer_certificate_refused")["reason"] == reason


@pytest.mark.parametrize(("profile", "reason"), [("encryption", "usage"), ("ca", "usage")])
def test_a_certificate_for_another_use(ec_office: Office, profile: str, reason: str) -> None:
    who = fresh_applicant(ec_office)
    now = datetime.now(UTC)
    der = ec_office.authority.issue(who.request.read_bytes(), now - timedelta(1), now + timedelta(9), profile)
    who.certificate.write_bytes(openssl("x509", "-inform", "DER", data=der))

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=fresh_name()), who)

    assert refusal(ec_office, make, code="signer_certificate_refused")["reason"] == reason


def test_a_certificate_of_another_key(ec_office: Office) -> None:
    who, other = fresh_applicant(ec_office), fresh_applicant(ec_office)

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=fresh_name()), other)

    assert refusal(ec_office, make, code="signer_certificate_refused")["reason"] == "key"


def test_a_certificate_of_a_stranger(ec_office: Office, tmp_path: Path) -> None:
    who = fresh_applicant(ec_office)
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
    who, other = fresh_applicant(ec_office), fresh_applicant(ec_office)

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, other, name=fresh_name()), who)

    refusal(ec_office, make, code="signer_certificate_missing", recorded=False)


def test_an_owner_has_one_seal_of_a_name(ec_office: Office) -> None:
    name = fresh_name()
    row, _ = made_by(ec_office, fresh_applicant(ec_office), name)
    who = fresh_applicant(ec_office)

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=name), who)

    assert refusal(ec_office, make, code="seal_name_taken")["es_id"] == row.es_id

    async def by_another_owner(room: Room) -> SealRow:
        # A person's name is no unit's own.
        number = await room.apply(who, name=name, credit_code="91110000802100433B")
        return (await room.make(number, who))[0]

    assert ec_office.work(by_another_owner).name == name


def test_es_ids_are_unique(ec_office: Office) -> None:
    row, _ = made_by(ec_office, fresh_applicant(ec_office), fresh_name())
    who = fresh_applicant(ec_office)

    async def make(room: Room) -> None:
        await room.make(await room.apply(who, name=fresh_name()), who, es_id=row.es_id)

    refusal(ec_office, make, code="es_id_taken")


def test_a_seal_does_not_outlast_its_certificate(ec_office: Office) -> None:
    who, name = fresh_applicant(ec_office, days=(-1, 30)), fresh_name()
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
    who, name = fresh_applicant(ec_office), fresh_name()

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
    who = fresh_applicant(ec_office)

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
    who = fresh_applicant(ec_office)

    async def make(room: Room) -> None:
        key = await room.device.key(RoleKey(key=room.settings.maker.key, certificate=file))
        await room.make(await room.apply(who, name=fresh_name()), who, key=key)

    assert refusal(ec_office, make, code="maker_certificate_refused")["reason"] == reason


def test_a_certificate_file_of_another_key(ec_office: Office) -> None:
    who = fresh_applicant(ec_office)

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
    name, who = fresh_name(), fresh_applicant(office)
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
    name, who = fresh_name(), fresh_applicant(ec_office)
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
