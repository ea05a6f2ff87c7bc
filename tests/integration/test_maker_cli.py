"""Every command of ``sealagent maker``, each in a process of its own; from an application to a sealed document."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from test_cli_readme import readme_commands

from agent_world import World
from cli_parts import command, has_no_control
from demo.ofdmaker import demo_document
from maker_parts import CREDIT_CODE, NAME, OPERATOR, OWNER, Applicant, Office, until
from sealagent.client import at
from sealagent.pki.certificates import load_certificates
from sealagent.pki.trust import TrustClass, TrustRole
from sealagent.pki.trustlist import read_trust_list
from softgm import SoftSkf, SoftSkfToken
from softhsm2_fixtures import SoftHsm, SoftToken

CHINESE = {"LANG": "zh_CN.UTF-8"}


@pytest.fixture(scope="module")
def office(softhsm: SoftHsm, tmp_path_factory: pytest.TempPathFactory) -> Office:
    made = Office(tmp_path_factory.mktemp("office"), "p-256", softhsm.new_token("制章介质"))
    made.begin()
    return made


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return iter(range(10**6))


@pytest.fixture
def applicant(office: Office, numbers: Iterator[int]) -> Applicant:
    return office.applicant(f"applicant-{next(numbers)}")


@pytest.fixture
def name(numbers: Iterator[int]) -> str:
    return f"{NAME}{next(numbers)}"


def refused(office: Office, *arguments: str | Path, code: str, status: int) -> str:
    """Run a command that must end so; return what it said."""
    done = office(*arguments)
    assert (done.status, done.out) == (status, ""), done
    assert f"({code})" in done.err
    assert "→" in done.err
    assert has_no_control(done.err)
    return done.err


# From an application to a sealed document


@pytest.mark.parametrize(("kind", "key_type"), [("p-256", "ec-p256"), ("rsa-2048", "rsa-2048"), ("sm2", "sm2")])
def test_from_an_application_to_a_sealed_document(
    kind: str, key_type: str, world: World, softhsm: SoftHsm, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The holder's daemon makes key and request; the unit makes, files and delivers; the daemon judges and seals."""
    holder: SoftToken | SoftSkfToken = world.token
    unit: SoftToken | SoftSkfToken = softhsm.new_token()
    if kind == "sm2":
        skf: SoftSkf = request.getfixturevalue("softskf")
        holder, unit = skf.new_token(), skf.new_token()
        world.modules, world.driver = [skf.library], "skf"
        world.pin_file.touch(0o600)
        world.pin_file.write_text(f"{holder.serial}:{holder.user_pin}\n")
    office = Office(tmp_path, kind, unit)
    office.begin()
    world.settings["trust"] = {"paths": [str(office.root)]}
    daemon = world.start()
    with daemon.agent() as agent:
        (token,) = [each["id"] for each in agent.tokens()["tokens"] if each["serial"] == holder.serial]
        key = agent.generate_key(token, key_type, "seal key")["id"]
        owner = Applicant(tmp_path / "owner", kind)
        owner.folder.mkdir()
        owner.request.write_text(agent.certificate_request(key, {"CN": OWNER, "O": OWNER, "C": "CN"}))
        office.certify(owner)
        agent.import_certificate(key, owner.certificate.read_text())

        made = office.make(owner, "--version", "5", "--list-type", "2")
        assert made["state"] == "made"
        assert office.good("file", made["es_id"], "--number", "京公备2026-1")["filing"] == "京公备2026-1"
        delivered = office.good("deliver", made["es_id"], "--token", token, "--socket", daemon.socket)
        assert delivered["state"] == "valid"

        (seal,) = [each for each in agent.seals()["seals"] if each["es_id"] == made["es_id"]]
        assert (seal["id"], seal["source"]) == (made["agent_id"], "token")
        assert (seal["verdict"], seal["usable"]) == ("valid", True), seal
        document = tmp_path / "a.ofd"
        document.write_bytes(demo_document(date(2026, 1, 2)).data)
        sealed = agent.seal_document(document, seal=made["es_id"], placements=[at(1, 100, 100)])
        report = agent.verify_document(sealed.document)
        assert report["verdict"] == "valid", report

        again = office.make(office.applicant("other"), name="另一枚")
        office.good("file", again["es_id"])
        done = office("deliver", again["es_id"], "--token", "no such token", "--socket", daemon.socket)
        assert (done.status, "token_not_found" in done.err) == (4, True)
        done = office("deliver", again["es_id"], "--token", token, "--socket", tmp_path / "nobody.sock")
        assert (done.status, "agent_unreachable" in done.err) == (7, True)
        assert office.good("show", again["es_id"])["state"] == "filed"
        # An interruption came between the key and the register: what is on the key already is no fault.
        (archived,) = (office.state / "archive").rglob(again["sm3"])
        agent.import_seal(archived.read_bytes(), token)
        delivered = office.good("deliver", again["es_id"], "--token", token, "--socket", daemon.socket)
        assert delivered["state"] == "valid"


# Each command


def test_help_names_every_command_and_loads_none() -> None:
    done = subprocess.run(command("maker", "--help"), capture_output=True, text=True, timeout=60, check=True)
    for word in ("apply", "make", "file", "deliver", "cancel", "remake", "serve", "trust-list", "draw"):
        assert word in done.stdout
    for word in ("apply", "cancel", "draw", "check-picture", "init", "serve", "history"):
        shown = subprocess.run(command("maker", word, "--help"), capture_output=True, text=True, timeout=60, check=True)
        assert "Usage: sealagent maker" in shown.stdout


def test_init_writes_a_configuration_once(softhsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office(tmp_path, "p-256", softhsm.new_token())
    office.config.unlink()
    missing = office("init", "--unit", "某中心")
    assert (missing.status, "--region" in missing.err) == (2, True)
    options = ("--unit", "某中心", "--region", "110000", "--operator", OPERATOR, "--pin-file", office.pin_file)
    words = ("init", *options, "--module", softhsm.module, "--trust", office.root)
    environment = {"SEALAGENT_MAKER_STATE_DIR": str(office.state)}
    absent = office(*words, "--key", "pkcs11:token=absent", **environment)
    assert (absent.status, "maker_key_not_found" in absent.out) == (1, True)
    assert not office.config.exists()
    done = office(*words, "--key", office.uri("maker", b"\x01"), **environment)
    assert done.status == 0, done
    steps = {line.partition(":")[0] for line in done.out.splitlines()}
    assert steps == {"✓ token", "✓ maker's key", "✓ certificate", "✓ configuration", "✓ register"}
    assert "software: test only" in done.out
    again = office("init", "--json", **environment)
    assert again.json["ok"] is True
    assert {step["step"] for step in again.json["steps"]} == {
        *("configuration", "token", "maker_key", "maker_certificate", "register"),
    }
    assert "there already" in office("init", "--unit", "x", **environment).err
    monkeypatch.setenv("SEALAGENT_MAKER_STATE_DIR", str(office.state))
    (opened,) = office.work(lambda room: _entries(room), create=False)
    assert (opened["event"], opened["unit"]["unit"]) == ("opened", "某中心")


async def _entries(room: Any) -> list[Any]:
    return [entry.body for entry in room.register.ledger.entries()]


def test_applications(office: Office, applicant: Applicant, name: str) -> None:
    words = ("apply", "--applicant", OWNER, "--approval", "准字1号", "--name", name, "--request", applicant.request)
    wrong = CREDIT_CODE[:-1] + "0"
    refused(office, *words, "--credit-code", wrong, code="credit_code_invalid", status=1)
    good = (*words, "--credit-code", CREDIT_CODE)
    refused(office, *good, "--filed-name", "别的名称", code="application_invalid", status=1)
    refused(office, *good, "--operator", " ", code="operator_missing", status=2)
    refused(office, *good, "--certificate", office.root, code="signer_certificate_refused", status=6)
    refused(office, *good[:-4], "--request", office.picture, *good[-2:], code="certificate_request_invalid", status=1)
    done = office(*good, "--type", "finance", "--category", "business", "--contact", "电话", "--filed-name", name)
    assert done.status == 0
    number = done.out.strip()
    assert f"next: sealagent maker make {number} " in done.err
    shown = office.good("show", number, "--application")
    assert (shown["state"], shown["record"]["type"], shown["record"]["category"]) == ("open", 2, "business")
    assert shown["record"]["contact"] == "电话"
    listed = office.good("list", "--applications", "--state", "open")
    assert int(number) in [row["number"] for row in listed]
    assert name in office("list", "--applications", **CHINESE).out
    assert office("reject", number).status == 2
    assert office("reject", number, "--text", "材料不全").status == 0
    refused(office, "reject", number, "--text", "again", code="application_closed", status=6)
    picture = ("--picture", office.picture, "--size", "40x40", "--certificate", applicant.certificate)
    refused(office, "make", number, *picture, code="application_closed", status=6)
    refused(office, "show", "999999", "--application", code="application_unknown", status=1)


def test_the_life_of_a_seal(office: Office, applicant: Applicant, name: str) -> None:
    row, esl = office.issue(applicant, name=name)
    seal = row["es_id"]
    assert row["state"] == "valid"
    refused(office, "file", seal, code="register_transition_refused", status=6)
    out = office.folder / f"{seal}.esl"
    refused(office, "deliver", seal, "-o", out, code="register_transition_refused", status=6)
    suspended = office("suspend", seal, "--reason", "custody_change", "--text", "保管人离职")
    assert (suspended.status, "suspended" in suspended.out) == (0, True)
    assert "已停用" in office("list", **CHINESE).out
    told = refused(office, "suspend", seal, "--reason", "custody_change", code="register_transition_refused", status=6)
    assert "resumed" in told
    assert office("resume", seal, "--reason", "matter_settled").status == 0
    assert office("lost", seal, "--reason", "stolen_carrier").status == 0
    refused(office, "resume", seal, "--reason", "matter_settled", code="register_transition_refused", status=6)
    assert office("cancel", seal, "--reason", "expiry").status == 2  # no reason of Art. 18
    assert office("cancel", seal, "--reason", "merger").status == 2  # at whose wish?
    assert office("cancel", seal, "--reason", "merger", "--asked-by", "unit").status == 2
    office.good("cancel", seal, "--reason", "merger", "--asked-by", "issuing_department", "--operator", "经办人乙")
    office.good("invalidate", seal, "--reason", "forged_application", "--text", "判决书1号")
    history = office.good("history", seal)
    assert [(each["state"], each["reason"]) for each in history] == [
        ("made", ""),
        ("filed", ""),
        ("valid", ""),
        ("suspended", "custody_change"),
        ("valid", "matter_settled"),
        ("lost", "stolen_carrier"),
        ("cancelled", "merger"),
        ("invalid", "forged_application"),
    ]
    assert [each["operator"] for each in history[-2:]] == ["经办人乙", OPERATOR]
    assert {each["uid"] for each in history} == {os.getuid()}
    assert history[3]["text"] == "保管人离职"
    assert "判决书1号" in office("history", seal).out
    for named in (row["sm3"], row["sm3"][:12], row["agent_id"], name):
        assert office.good("show", named)["es_id"] == seal
    shown = office("show", seal, **CHINESE).out
    assert CREDIT_CODE in shown
    assert "superseded_by" not in shown
    refused(office, "show", "no such seal", code="seal_not_registered", status=1)
    refused(
        office,
        "cancel",
        "no such seal",
        "--reason",
        "merger",
        "--asked-by",
        "owner",
        code="seal_not_registered",
        status=1,
    )
    assert len(esl) > 1000


def test_deliver_to_a_file(office: Office, applicant: Applicant, name: str) -> None:
    made = office.make(applicant, name=name)
    office.good("file", made["es_id"])
    out = office.folder / "to-file.esl"
    out.write_bytes(b"somebody else's")
    assert office("deliver", made["es_id"]).status == 2
    assert office("deliver", made["es_id"], "-o", out, "--token", "x").status == 2
    refused(office, "deliver", made["es_id"], "-o", out, code="seal_file_exists", status=1)
    assert out.read_bytes() == b"somebody else's"
    refused(office, "deliver", made["es_id"], "-o", "/proc/no/such.esl", code="archive_failed", status=1)
    out.unlink()
    office.good("deliver", made["es_id"], "-o", out)
    assert out.stat().st_mode & 0o077 == 0


def test_remake(office: Office, applicant: Applicant, numbers: Iterator[int], name: str) -> None:
    row, _ = office.issue(applicant, name=name)
    new_key = office.applicant(f"new-key-{next(numbers)}")
    remade = office.good("remake", row["es_id"], "--reason", "key_compromise", "--certificate", new_key.certificate)
    assert (remade["name"], remade["supersedes"], remade["state"]) == (name, row["sm3"], "made")
    assert office.good("show", row["sm3"])["state"] == "superseded"
    assert office.good("show", name)["es_id"] == remade["es_id"]  # of seals of one name the one in place
    third = office.applicant(f"third-{next(numbers)}")
    number = office.apply(third, name=name)
    larger = office.folder / "larger.svg"
    larger.write_bytes(office.picture.read_bytes().replace(b"40mm", b"42mm"))
    picture = ("--picture", larger, "--size", "42x42", "--certificate", third.certificate)
    last = office.good("remake", remade["es_id"], "--reason", "damaged_carrier", "--application", str(number), *picture)
    assert office.good("show", last["es_id"])["record"]["picture"]["width"] == 42
    refused(office, "remake", row["es_id"], "--reason", "expiry", code="register_transition_refused", status=6)
    refused(office, "remake", last["es_id"], "--reason", "no_such", code="register_reason_invalid", status=2)
    assert office("remake", last["es_id"], "--reason", "expiry", "--picture", office.picture).status == 2


def test_make_says_what_is_wrong(office: Office, applicant: Applicant, name: str) -> None:
    number = str(office.apply(applicant, name=name))
    picture = ("--picture", office.picture, "--certificate", applicant.certificate)
    for size in ("40", "4cm", "40x", "x"):
        assert office("make", number, *picture, "--size", size).status == 2
    refused(office, "make", number, *picture, "--size", "40x400", code="picture_invalid", status=1)
    refused(
        office,
        "make",
        number,
        *picture,
        "--size",
        "40x40",
        "--until",
        "2099-01-01",
        code="seal_outlasts_certificate",
        status=6,
    )
    assert office("make", number, *picture, "--size", "40x40", "--until", "tomorrow").status == 2
    text = office.folder / "seal.txt"
    text.write_text("x")
    assert office("make", number, "--picture", text, "--size", "40x40").status == 2
    done = office(
        "make", number, *picture, "--size", "40x40", "--until", "2027-12-31", "--es-id", "2026-TEST", "--list-type", "2"
    )
    assert done.status == 0
    assert "software key" in done.err
    assert "next: sealagent maker file 2026-TEST" in done.err
    assert office.good("show", "2026-TEST")["valid_until"] == "2027-12-31T15:59:59Z"  # the end of the day in China


def test_list_pages(office: Office, applicant: Applicant, name: str) -> None:
    office.make(applicant, name=name)
    everything = office.good("list", "--limit", "1000")
    first = office.good("list", "--limit", "1")
    assert first == everything[:1]
    assert f"--after {first[0]['made']}" in office("list", "--limit", "1").err
    assert office.good("list", "--after", str(first[0]["made"]), "--limit", "1000") == everything[1:]
    assert {row["state"] for row in office.good("list", "--state", "made")} == {"made"}


def test_the_register_is_exported_and_checked(office: Office, applicant: Applicant, name: str) -> None:
    office.make(applicant, name=name)
    checkpoint = office.folder / "checkpoint.txt"
    checkpoint.write_text(office("checkpoint").out)
    export = office.folder / "register.jsonl"
    assert office("export", "-o", export).status == 0
    checked = office.shell("record", "verify", export, "--checkpoint", checkpoint)
    assert checked.status == 0, checked
    assert office("verify", export).out.startswith("ok: ")
    assert office.good("verify", "--checkpoint", checkpoint)["ok"] is True
    assert office("verify", **CHINESE).out.startswith("完好")
    text = export.read_text()
    assert office.token.user_pin not in text
    events = [json.loads(line)["body"].get("event") for line in text.splitlines()[1:]]
    assert {"opened", "applied", "make", "made"} <= set(events)
    export.write_text(text.replace(name, name + "x", 1))
    damaged = office("verify", export)
    assert (damaged.status, damaged.out.startswith("DAMAGED")) == (3, True)


def test_a_trust_list(office: Office) -> None:
    described = office.folder / "list.toml"
    described.write_text(
        'list = "beijing"\ndays = 30\nstatus_urls = ["https://seals.example.cn"]\n'
        'next_signers = ["unit-status/certificate.pem"]\n'
        '[[entry]]\ncertificate = "unit-maker/certificate.pem"\nroles = ["maker", "status"]\nclass = "e-government"\n'
        '[[entry]]\ncertificate = "ca/ca.pem"\nroles = ["ca"]\nclass = "commercial"\nstate = "withdrawn"\n'
        "since = 2026-07-01T00:00:00Z\ncrls = ['http://ca.example.cn/ca.crl']\n"
    )
    for sequence in (1, 2):
        out = office.folder / f"list-{sequence}.p7m"
        printed = office.good("trust-list", described, "-o", out)
        assert printed["sequence"] == sequence
        found = read_trust_list(out.read_bytes(), None)
        assert (found.id, found.sequence, found.region, found.region_name) == ("beijing", sequence, "110000", "北京市")
        signer = load_certificates((office.folder / "unit-maker" / "certificate.pem").read_bytes())[0]
        assert found.signer == signer
    maker, ca = found.listed
    assert maker.roles == {TrustRole.MAKER, TrustRole.STATUS}
    assert (ca.trust_class, str(ca.state), ca.since.isoformat()) == (
        TrustClass.COMMERCIAL,
        "withdrawn",
        "2026-07-01T00:00:00+00:00",
    )
    for text in (
        "list = 'x'",
        "list = 'x'\n[[entry]]\ncertificate = 'absent.pem'\nroles = ['ca']\nclass = 'internal'\n",
        "list = 'x'\n[[entry]]\ncertificate = 'ca/ca.pem'\nroles = ['king']\nclass = 'internal'\n",
        "list = 'x'\n[[entry]]\ncertificate = 'ca/ca.pem'\nroles = ['ca']\nclass = 'internal'\nstate = 'withdrawn'\n",
        "list = 'x'\nunknown = 1\n",
        "= broken",
    ):
        described.write_text(text)
        refused(
            office, "trust-list", described, "-o", office.folder / "x.p7m", code="trust_description_invalid", status=2
        )
    assert not (office.folder / "x.p7m").exists()


# Several at once, and interrupted


def test_commands_at_once(office: Office, numbers: Iterator[int]) -> None:
    """Four makers at one register: each gets its turn, its esID and its entries."""
    people = [office.applicant(f"at-once-{next(numbers)}") for _ in range(4)]
    applications = [office.apply(each, name=f"{NAME}{next(numbers)}") for each in people]

    def make(work: tuple[int, Applicant]) -> dict[str, Any]:
        number, who = work
        words = ("--picture", office.picture, "--size", "40x40", "--certificate", who.certificate)
        row = patiently("make", str(number), *words)
        office.good("file", row["es_id"])
        return row

    def patiently(*words: str | Path) -> dict[str, Any]:
        """SoftHSM 2.6.1 was seen to tell a token gone while another process logs in: then a person tries again."""
        for _ in range(5):
            done = office(*words, "--json")
            if "(token_removed)" not in done.err:
                break
        assert done.status == 0, done.err
        row: dict[str, Any] = done.json
        return row

    with ThreadPoolExecutor(4) as pool:
        rows = [*pool.map(make, zip(applications, people, strict=True))]
    assert len({row["es_id"] for row in rows}) == 4
    assert len({office.good("show", row["es_id"])["filing"] for row in rows}) == 4
    assert office.good("verify")["ok"] is True


@pytest.mark.parametrize("moment", ["device", "before"])
def test_killed_while_making(moment: str, softskf: SoftSkf, tmp_path: Path) -> None:
    """SIGKILL while the device works: the seal does not exist, the intent is on record as interrupted."""
    token = softskf.new_token()
    office = Office(tmp_path, "sm2", token)
    office.begin()
    who = office.applicant("owner")
    number = office.apply(who)
    words = ("make", str(number), "--picture", office.picture, "--size", "40x40", "--certificate", who.certificate)
    token.set_fault("delay", "SKF_ECCSignData" if moment == "device" else "SKF_VerifyPIN", 60, times=1)
    process = subprocess.Popen(
        command("maker", *words),
        env=office.shell.environment(**office.environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    faults = token.directory / "faults"
    until(lambda: not faults.read_text().strip(), 30)  # the device is at work
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert office.good("list") == []
    assert office.good("verify")["ok"] is True
    kinds = [each for each in _export(office) if each["body"].get("event") == "make" or each["kind"] == "failed"]
    if moment == "device":
        assert [(each["kind"], each["body"].get("reason")) for each in kinds] == [
            ("intent", ""),
            ("failed", "interrupted"),
        ]
    else:  # the PIN was being entered: nothing had begun
        assert kinds == []
    made = office.good(*words)
    assert made["es_id"] == "11000000000001"


def _export(office: Office) -> list[dict[str, Any]]:
    export = office.folder / "export.jsonl"
    assert office("export", "-o", export).status == 0
    return [json.loads(line) for line in export.read_text().splitlines()[1:]]


def test_a_wrong_pin_and_a_missing_token(softskf: SoftSkf, tmp_path: Path) -> None:
    token = softskf.new_token()
    office = Office(tmp_path, "sm2", token)
    office.begin()
    who = office.applicant("owner")
    words = (
        "make",
        str(office.apply(who)),
        "--picture",
        office.picture,
        "--size",
        "40x40",
        "--certificate",
        who.certificate,
    )
    office.pin_file.write_text("wrong-pin\n")
    assert "5" in refused(office, *words, code="pin_incorrect", status=5)
    assert token.tries_left() == 5
    office.pin_file.write_text(token.user_pin + "\n")
    token.remove()
    refused(office, *words, code="maker_key_not_found", status=4)
    token.insert()
    office.good(*words)


def test_without_a_register_or_a_unit(softhsm: SoftHsm, tmp_path: Path) -> None:
    office = Office(tmp_path, "p-256", softhsm.new_token())
    for words in (("list",), ("history", "x"), ("export", "-o", tmp_path / "e"), ("file", "x"), ("serve",)):
        refused(office, *words, code="register_missing", status=2)
    office.configure(status={"key": ""})
    text = office.config.read_text().replace('unit = "测试印章制作管理中心"\n', "")
    office.config.write_text(text)
    refused(office, "status-list", "-o", tmp_path / "l", code="config_invalid", status=2)


def test_the_agents_daemon_knows_nothing_of_the_maker() -> None:
    """No module of the maker is loaded by the daemon, nor the other way round."""
    loaded = "import sys, sealagent.{0}; print([name for name in sys.modules if name.startswith('sealagent.{1}')])"
    for first, second in (("daemon.lifecycle", "maker"), ("maker.service", "daemon")):
        done = subprocess.run(
            [sys.executable, "-c", loaded.format(first, second)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "[]\n"


def test_the_readme(softhsm: SoftHsm, tmp_path: Path) -> None:
    """The commands of "For those who make seals", as they stand there and in their order."""
    office = Office(tmp_path, "p-256", softhsm.new_token())
    office.config.unlink()
    who = office.applicant("owner")
    described = tmp_path / "list.toml"
    described.write_text(
        "list = 'beijing'\n[[entry]]\ncertificate = 'unit-maker/certificate.pem'\n"
        "roles = ['maker']\nclass = 'internal'\n"
    )
    named = {
        "LIBRARY": str(softhsm.module),
        "URI": office.uri("maker", b"\x01"),
        "CA.pem": str(office.root),
        "CODE": CREDIT_CODE,
        "request.pem": str(who.request),
        "certificate.pem": str(who.certificate),
        "seal.svg": str(office.picture),
        "DESCRIPTION": str(described),
    }
    environment = {"SEALAGENT_MAKER_STATE_DIR": str(office.state)}
    said: dict[str, str] = {}
    for words in readme_commands("For those who make seals"):
        assert words[0] == "maker"
        if words[1] == "serve":
            continue
        given = [named.get(word, word) for word in words[1:]]
        if words[1] == "remake":
            office.certify(who)  # renewed
        given += ["--pin-file", str(office.pin_file)] if words[1] == "init" else []
        done = office(*given, **environment)
        assert done.status == 0, (words, done)
        said[words[1]] = done.out
        if words[1] == "apply":
            assert done.out == "2\n"
        elif words[1] == "remake":
            named["SEAL"] = done.out.split()[0]
    assert set(said) == {
        *("init", "apply", "make", "file", "deliver", "suspend", "resume", "remake", "cancel", "list", "history"),
        *("export", "verify", "status-list", "trust-list"),
    }
    assert "dissolution" in said["history"]
    assert office.shell("record", "verify", "register.jsonl").status == 0


def test_init_asks_for_what_is_missing(softhsm: SoftHsm, tmp_path: Path) -> None:
    """On a terminal: the unit, its region, and which of several keys."""
    office = Office(tmp_path, "p-256", softhsm.new_token())
    office.config.unlink()
    terminal, child = os.openpty()
    environment = office.shell.environment(**office.environment, SEALAGENT_MAKER_STATE_DIR=str(office.state))
    words = ("maker", "init", "--module", softhsm.module, "--pin-file", office.pin_file, "--operator", OPERATOR)
    process = subprocess.Popen(command(*words), stdin=child, stdout=child, stderr=child, env=environment, cwd=tmp_path)
    os.close(child)
    shown = ""

    def read_until(mark: str) -> None:
        nonlocal shown
        deadline = time.monotonic() + 30
        while mark not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([terminal], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # the program has ended
                    shown += os.read(terminal, 65536).decode(errors="replace")

    try:
        for mark, answer in (("Name of the unit", "某中心"), ("Division code", "110000")):
            read_until(mark)
            os.write(terminal, f"{answer}\n".encode())
        read_until("Which")
        (number,) = [line.split()[0] for line in shown.splitlines() if f"serial={office.token.serial};id=%01" in line]
        os.write(terminal, f"{number}\n".encode())
        read_until("register")
        assert process.wait(30) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    written = office.config.read_text()
    assert 'unit = "某中心"' in written
    assert f"serial={office.token.serial};id=%01" in written
