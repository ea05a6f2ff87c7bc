"""Applications over a real daemon: a second program pairs, is granted things, is stolen from, is changed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_world import Daemon, TestAuthority, World, in_background, until
from application_parts import Desk, Program, Refused
from cli_parts import Done, Shell
from softhsm2_fixtures import SoftHsm

SEAL = "合同专用章"
LANGUAGE = {"LANG": "en_US.UTF-8", "LC_ALL": "", "LC_MESSAGES": "", "DISPLAY": ""}
POLICY = "[limits]\npairing_days = 30\ngrant_days = 60\ngrant_count = 50\n"


@dataclass
class Office:
    """A daemon that asks its holder, and programs beside it."""

    world: World
    daemon: Daemon
    desk: Desk
    programs: list[Program] = field(default_factory=list)

    def program(self, name: str) -> Program:
        """Start a program; the same name is the same file."""
        self.programs.append(Program(self.world.directory / "programs" / name, self.daemon.socket))
        return self.programs[-1]

    @property
    def shell(self) -> Shell:
        return Shell.of(self.daemon)

    @property
    def key(self) -> str:
        with self.daemon.agent() as agent:
            [key] = agent.keys()
            return str(key["id"])

    def records(self, operation: str) -> list[dict[str, Any]]:
        """Return kind and body of the entries about an operation."""
        with self.daemon.agent() as agent:
            found = agent.records(0, 1000)["records"]
        return [each for each in found if each["body"].get("operation") == operation]

    def signed(self) -> int:
        """Return how many signatures are on record."""
        with self.daemon.agent() as agent:
            return sum(each["kind"] == "signed" for each in agent.records(0, 1000)["records"])

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.daemon.stop(number)
        self.daemon = self.world.start(environment=LANGUAGE)

    def raw(self, path: str, *headers: tuple[str, str]) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Send a GET request with these headers as they are; return status, headers and JSON."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.daemon.socket))
        connection.putrequest("GET", path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        body = json.loads(response.read())
        connection.close()
        return response.status, dict(response.getheaders()), body


@pytest.fixture(scope="module")
def shared(softhsm: SoftHsm, authority: TestAuthority) -> Iterator[Office]:
    token = softhsm.new_token("单位公章钥匙")
    with tempfile.TemporaryDirectory(prefix="seal") as directory:
        world = World(Path(directory), token, authority, policy=POLICY)
        token.add_data(authority.make_seal([world.add_signer()], name=SEAL), label="seal")
        desk = Desk(world.directory, token.user_pin)
        # Programs that the tests start count as started by a browser.
        world.settings["browser"] = {"programs": [os.path.realpath(sys.executable)]}
        world.settings["pin"] = {"source": "pinentry", "pinentry": str(desk.program)}
        yield Office(world, world.start(environment=LANGUAGE), desk)
        world.close()
    token.destroy()


@pytest.fixture
def office(shared: Office) -> Iterator[Office]:
    """The office, tidied up afterwards."""
    yield shared
    shared.desk.hesitates(False)
    shared.desk.answers(True)
    for program in shared.programs:
        program.end()
    shared.programs.clear()
    with shared.daemon.agent() as agent:
        for each in agent.applications():
            agent.revoke_application(each["id"])


def good(done: Done) -> Done:
    assert done.status == 0, done.err
    return done


# Pairing


def test_a_program_is_paired_by_comparing_the_code(office: Office) -> None:
    editor = office.program("editor")
    pairing = editor("start_pairing", "  合同\n系统 ")
    assert pairing["name"] == "合同 系统"
    before = office.desk.asked
    done = editor("complete_pairing", pairing)
    assert office.desk.asked == before + 1
    code = pairing["code"]
    assert f"{code[:3]} {code[3:]}" in office.desk.shown
    assert "合同 系统" in office.desk.shown
    assert str(editor.path) in office.desk.shown
    application, token = done["application"], done["token"]
    assert (application["name"], application["executable"], application["state"]) == (
        "合同 系统",
        str(editor.path),
        "active",
    )
    assert application["expires"] > application["created"], "the policy's 30 days"
    assert editor("application", application["id"], token=token)["last_used"] is not None
    [intent, done_entry] = office.records("pair")[-2:]
    assert (intent["kind"], done_entry["kind"], application["record"]) == ("intent", "admin", intent["number"])
    assert done_entry["body"]["application"]["id"] == application["id"]
    whole = json.dumps(office.records("pair"))
    assert token not in whole
    assert pairing["secret"] not in whole
    assert token not in office.daemon.said()
    assert editor.fails("complete_pairing", pairing) == "pairing_not_found", "replayed"


def test_the_holders_no_ends_the_pairing(office: Office) -> None:
    editor = office.program("editor")
    office.desk.answers(False)
    pairing = editor("start_pairing", "a")
    assert editor.fails("complete_pairing", pairing) == "consent_refused"
    office.desk.answers(True)
    asked = office.desk.asked
    assert editor.fails("complete_pairing", pairing) == "pairing_not_found"
    assert office.desk.asked == asked
    refused = office.records("pair")[-1]
    assert (refused["kind"], refused["body"]["reason"]) == ("refused", "consent_refused")


def test_a_wrong_secret_and_another_program_are_turned_away_unasked(office: Office) -> None:
    editor, thief = office.program("editor"), office.program("thief")
    asked = office.desk.asked
    pairing = editor("start_pairing", "a")
    assert thief.fails("complete_pairing", pairing) == "pairing_not_found"
    assert editor.fails("complete_pairing", {**pairing, "secret": "0" * 64}) == "pairing_secret_wrong"
    assert editor.fails("complete_pairing", pairing) == "pairing_not_found"
    assert office.desk.asked == asked
    assert office.records("pair")[-1]["body"]["reason"] == "pairing_secret_wrong"
    assert office.shell("app", "list").out.count("active") == 0


def test_few_programs_ask_to_be_paired_at_once(office: Office) -> None:
    waiting = [office.program("editor") for _ in range(4)]
    for number, program in enumerate(waiting):
        program("start_pairing", f"a{number}")
    late = office.program("editor")
    assert late.fails("start_pairing", "b") == "too_many_pairings"
    waiting[0].end()
    late("start_pairing", "b")


def test_a_program_that_ends_while_the_holder_is_asked_is_not_paired(office: Office) -> None:
    editor = office.program("editor")
    office.desk.hesitates(True)
    asked = office.desk.asked
    pairing = editor("start_pairing", "a")
    thread, outcome = in_background(lambda: _ended(editor, pairing))
    office.desk.wait_until_asked(asked)
    os.kill(editor.process.pid, signal.SIGKILL)
    thread.join(20)
    assert outcome == ["ended"]
    until(lambda: office.records("pair")[-1]["body"].get("reason") == "caller_gone", 20)
    office.desk.hesitates(False)
    with office.daemon.agent() as agent:
        assert [each for each in agent.applications() if each["state"] == "active"] == []


def _ended(program: Program, pairing: dict[str, Any]) -> str:
    return program.fails("complete_pairing", pairing)


# The token


def test_a_stolen_token_is_of_no_use_and_goes_on_record_once(office: Office) -> None:
    editor, thief = office.program("editor"), office.program("thief")
    application, token = editor.pair("编辑器")
    before = len(office.records("identify"))
    for _ in range(3):
        with pytest.raises(Refused) as caught:
            thief("applications", token=token)
        assert caught.value.code == "token_misused"
        assert caught.value.problem["status"] == 401
    assert thief.fails("sign_digests", [], key="any", token=token) == "token_misused"
    [entry] = office.records("identify")[before:]
    assert (entry["kind"], entry["body"]["reason"]) == ("refused", "token_misused")
    assert entry["body"]["caller"]["executable"] == str(thief.path)
    assert entry["body"]["application"] == {"id": application["id"]}
    assert token not in json.dumps(entry)
    assert editor("applications", token=token)


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer " + "A" * 43)],
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer a b")],
        [("Authorization", "Basic dXNlcjpwYXNz")],
        [("Authorization", "")],
        [("Authorization", "Bearer " + "A" * 4000)],
        [("Authorization", "Bearer " + "A" * 43), ("Authorization", "Bearer " + "A" * 43)],
        [("authorization", "bearer é".encode().decode("latin-1"))],
    ],
    ids=lambda headers: headers[0][1][:20] + str(len(headers)),
)
def test_what_is_no_token_is_answered_as_the_standard_says(office: Office, headers: list[tuple[str, str]]) -> None:
    status, answered, problem = office.raw("/v1/status", *headers)
    assert (status, problem["code"]) == (401, "token_invalid")
    assert answered["WWW-Authenticate"].startswith("Bearer ")


def test_a_revoked_application_is_told_so(office: Office) -> None:
    editor = office.program("editor")
    application, token = editor.pair("编辑器")
    asked = office.desk.asked
    assert editor("revoke_application", application["id"], token=token)["state"] == "revoked"
    assert office.desk.asked == asked, "taking rights away needs no consent"
    assert editor.fails("applications", token=token) == "pairing_revoked"
    [*_, entry] = office.records("revoke_application")
    assert entry["body"]["caller"]["application"] == {"id": application["id"], "name": "编辑器"}


def test_an_application_that_is_revoked_while_the_holder_is_asked_signs_nothing(office: Office) -> None:
    editor = office.program("editor")
    application, token = editor.pair("编辑器")
    key = office.key
    editor.sign(key, token)  # the PIN was entered
    asked, signed = office.desk.asked, office.signed()
    office.desk.hesitates(True)
    thread, outcome = in_background(lambda: editor.fails("sign_digests", ["AAAA" * 10 + "AAA="], key=key, token=token))
    office.desk.wait_until_asked(asked)
    good(office.shell("app", "revoke", application["id"]))
    office.desk.hesitates(False)
    thread.join(20)
    assert outcome == ["pairing_revoked"]
    assert office.signed() == signed


def test_a_changed_program_is_asked_about_again(office: Office) -> None:
    editor = office.program("updated")
    application, token = editor.pair("编辑器")
    editor.end()
    with editor.path.open("ab") as file:
        file.write(b"an update")
    updated, asked = office.program("updated"), office.desk.asked
    assert updated("application", application["id"], token=token)["sha256"] != application["sha256"]
    assert office.desk.asked == asked + 1
    assert "编辑器" in office.desk.shown
    assert updated("applications", token=token)
    assert office.desk.asked == asked + 1
    [*_, entry] = office.records("accept_program")
    assert (entry["kind"], entry["body"]["program"]["before"]) == ("admin", application["sha256"])

    updated.end()
    with editor.path.open("ab") as file:
        file.write(b"a virus")
    infected, asked = office.program("updated"), office.desk.asked
    office.desk.answers(False)
    assert infected.fails("applications", token=token) == "consent_refused"
    office.desk.answers(True)
    assert infected.fails("applications", token=token) == "program_changed"
    assert infected.fails("applications", token=token) == "program_changed"
    assert office.desk.asked == asked + 1, "the holder's no is remembered"


def test_a_program_replaced_while_it_runs_proves_nothing(office: Office) -> None:
    editor = office.program("replaced")
    _, token = editor.pair("编辑器")
    fresh = editor.path.with_name("fresh")
    fresh.write_bytes(b"another program")
    fresh.replace(editor.path)
    assert editor.fails("applications", token=token) in ("caller_changed", "caller_unknown")


# Grants


def test_a_grant_is_shown_given_used_up_and_then_asked_again(office: Office) -> None:
    editor = office.program("editor")
    application, token = editor.pair("编辑器")
    key = office.key
    grant = editor("add_grant", "raw", key=key, count=2, token=token)
    shown = office.desk.shown
    assert "编辑器" in shown
    assert "2" in shown
    assert (grant["application"], grant["remaining"], grant["state"]) == (application["id"], 2, "active")
    assert grant["expires"] is not None, "the policy's 60 days"
    asked = office.desk.asked
    with office.daemon.agent() as agent:
        [each] = agent.tokens()["tokens"]
        agent.lock_token(each["id"])
    pins = office.desk.pins
    editor.sign(key, token)
    assert office.desk.pins == pins + 1, "a grant replaces the question, not the PIN"
    office.restart(signal.SIGKILL)
    with office.daemon.agent() as agent:
        assert [each["remaining"] for each in agent.grants(application["id"])] == [1]
    again = office.program("editor")
    again.sign(key, token)
    assert office.desk.asked == asked
    [spent] = again("grants", application["id"], token=token)
    assert (spent["remaining"], spent["state"]) == (0, "spent")
    again.sign(key, token)
    assert office.desk.asked == asked + 1
    office.desk.answers(False)
    assert again.fails("sign_digests", ["AAAA" * 10 + "AAA="], key=key, token=token) == "consent_refused"


def test_a_prohibition_holds_against_every_grant_and_ends_only_with_consent(office: Office) -> None:
    editor = office.program("editor")
    application, token = editor.pair("编辑器")
    editor("add_grant", "raw", token=token)
    never = editor("add_grant", "raw", effect="deny", token=token)
    assert never["expires"] is None
    digest = ["AAAA" * 10 + "AAA="]
    asked = office.desk.asked
    assert editor.fails("sign_digests", digest, key=office.key, token=token) == "use_denied"
    assert office.desk.asked == asked
    office.desk.answers(False)
    assert editor.fails("remove_grant", never["id"], token=token) == "consent_refused"
    assert len(editor("grants", application["id"], token=token)) == 2
    office.restart()
    again = office.program("editor")
    assert again.fails("sign_digests", digest, key=office.key, token=token) == "use_denied"
    office.desk.answers(True)
    again("remove_grant", never["id"], token=token)
    assert again("sign_digests", digest, key=office.key, token=token)


def test_grants_keep_to_the_policy_and_make_sense(office: Office) -> None:
    editor = office.program("editor")
    _, token = editor.pair("编辑器")
    asked = office.desk.asked
    wrong: list[dict[str, Any]] = [
        {"operation": "raw", "count": 51},
        {"operation": "raw", "expires": "2099-01-01T00:00:00Z"},
        {"operation": "raw", "expires": "2020-01-01T00:00:00Z"},
        {"operation": "raw", "not_before": "2026-01-01T00:00:00"},
        {"operation": "raw", "not_before": "2099-01-01T00:00:00Z"},
        {"operation": "raw", "formats": ["ofd"]},
        {"operation": "raw", "seal": SEAL},
        {"operation": "document", "effect": "deny", "count": 1},
        {"operation": "document", "hours": "08:00-08:00"},
    ]
    codes = {editor.fails("_change", "POST", "/v1/grants", {"formats": [], **each}, token=token) for each in wrong}
    assert codes == {"grant_invalid"}
    malformed = [{"operation": "sign"}, {"operation": "raw", "hours": "8-18"}, {"operation": "raw", "extra": 1}, {}]
    for each in malformed:
        assert editor.fails("_change", "POST", "/v1/grants", each, token=token) == "request_invalid"
    assert editor.fails("add_grant", "document", seal="no such", token=token) == "seal_not_found"
    assert editor.fails("add_grant", "raw", key="no such", token=token) == "key_not_found"
    assert editor.fails("add_grant", "raw", application="no such") == "application_not_found"
    assert editor.fails("add_grant", "raw") == "request_invalid", "an unpaired program names the application"
    assert office.desk.asked == asked, "nobody is asked about what makes no sense"
    assert editor("grants", token=token) == []


def test_only_one_of_many_gets_the_last_use_unasked(office: Office) -> None:
    """Two processes of one application, a request in each at the same moment."""
    programs = [office.program("editor") for _ in range(4)]
    _, token = programs[0].pair("编辑器")
    key = office.key
    programs[0]("add_grant", "raw", key=key, count=1, token=token)
    office.desk.answers(False)
    for program in programs:
        program("applications", token=token)
    barrier, outcomes = threading.Barrier(len(programs)), []

    def sign(program: Program) -> None:
        barrier.wait()
        try:
            program.sign(key, token)
            outcomes.append("signed")
        except Refused as refused:
            outcomes.append(refused.code)

    threads = [threading.Thread(target=sign, args=(program,)) for program in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("signed") == 1
    assert set(outcomes) <= {"signed", "grant_spent", "consent_refused"}
    assert [each["remaining"] for each in programs[0]("grants", token=token)] == [0]


def test_a_browser_extension_sees_only_what_is_its_own(office: Office) -> None:
    editor, extension, other = office.program("editor"), office.program("host"), office.program("host")
    application, own = editor.pair("编辑器")
    granted = editor("add_grant", "raw", token=own)
    extension.origin, other.origin = "chrome-extension://" + "a" * 32, "chrome-extension://" + "b" * 32
    _, token = extension.pair("网页签章")
    assert extension.origin in office.desk.shown
    assert [each["name"] for each in extension("applications", token=token)] == ["网页签章"]
    assert extension("grants", token=token) == []
    for action, named in (("application", "编辑器"), ("revoke_application", application["id"]), ("grants", "编辑器")):
        assert extension.fails(action, named, token=token) == "application_not_found"
    assert extension.fails("rename_application", "编辑器", "x", token=token) == "application_not_found"
    assert extension.fails("add_grant", "raw", application="编辑器", token=token) == "application_not_found"
    assert extension.fails("remove_grant", granted["id"], token=token) == "grant_not_found"
    assert other.fails("applications", token=token) == "token_misused", "the same host, for another extension"
    assert other("applications") == []
    extension.origin = None
    assert extension.fails("applications", token=token) == "token_misused", "the same host, for itself"


def test_hours_are_shown_and_kept(office: Office) -> None:
    editor = office.program("editor")
    _, token = editor.pair("编辑器")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    grant = editor("add_grant", "digest", seal=SEAL, hours="18:30-24:00", not_before=tomorrow, token=token)
    assert "18:30-24:00" in office.desk.shown
    assert (grant["hours"], grant["seal_name"], grant["state"]) == ("18:30-24:00", SEAL, "waiting")
    office.restart()
    [kept] = office.program("editor")("grants", token=token)
    assert kept == grant


def test_a_damaged_file_keeps_the_agent_from_starting(office: Office) -> None:
    """Without it, prohibitions would be forgotten and nobody would notice."""
    office.program("editor").pair("编辑器")
    office.daemon.stop()
    file = office.daemon.state / "callers.sqlite"
    whole = file.read_bytes()
    damaged = whole[:4096] + bytes(len(whole) - 4096)
    file.write_bytes(damaged)
    failed = office.world.launch(environment=LANGUAGE)
    assert failed.process.wait(30) == 1
    assert "callers_damaged" in failed.said()
    assert file.read_bytes() == damaged, "it is left as it is"
    file.write_bytes(whole)
    office.daemon = office.world.start(environment=LANGUAGE)


# The command line


def test_the_command_line(office: Office) -> None:
    """The command is paired as the Python that runs it, which in these tests all commands are."""
    shell = office.shell
    assert "no application" in good(shell("app", "list")).err or "REVOKED" in shell("app", "list").out
    done = good(shell("app", "pair", "脚本", "--save", "keys/token"))
    code = office.desk.shown.partition("Code: ")[2][:7]
    assert code in done.err
    file = shell.home / "keys" / "token"
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text().strip()
    assert token not in done.out + done.err
    asked = office.desk.asked
    again = shell("app", "pair", "另一个", "--save", "keys/token")
    assert (again.status, office.desk.asked) == (2, asked)
    assert "token_file_refused" in again.err

    shown = good(shell("--token-file", file, "app", "show", "脚本", "--json")).json
    assert shown["last_used"] is not None
    granted = good(
        shell(
            "app",
            "grant",
            "脚本",
            "document",
            "--seal",
            SEAL,
            "--count",
            "3",
            "--format",
            "ofd",
            "--days",
            "7",
            "--json",
        )
    ).json
    assert (granted["seal_name"], granted["remaining"], granted["formats"]) == (SEAL, 3, ["ofd"])
    assert SEAL in office.desk.shown
    table = good(shell("app", "grants", LANG="zh_CN.UTF-8")).out
    assert "剩余 3 次" in table
    assert "允许" in table
    never = good(shell("app", "grant", "脚本", "raw", "--never", "--json")).json
    assert "NEVER" in good(shell("app", "grants", "脚本")).out
    assert good(shell("app", "rename", "脚本", "夜间脚本")).out.rstrip().endswith("夜间脚本")
    assert "夜间脚本" in office.desk.shown
    assert good(shell("app", "ungrant", granted["id"])).out == ""
    office.desk.answers(False)
    for refused in (
        ("ungrant", never["id"]),
        ("rename", "夜间脚本", "b"),
        ("grant", "夜间脚本", "raw"),
        ("pair", "c", "--save", "c"),
    ):
        done = shell("app", *refused, LANG="zh_CN.UTF-8")
        assert done.status == 6, done.err
        assert "consent_refused" in done.err
    assert not (shell.home / "c").exists()
    assert "REVOKED" in good(shell("app", "revoke", "夜间脚本")).out
    ended = shell("app", "list", SEALAGENT_TOKEN_FILE=str(file))
    assert ended.status == 6
    assert "pairing_revoked" in ended.err


@pytest.mark.parametrize("wrong", ["missing", "open", "link", "folder", "empty", "long"])
def test_a_token_file_must_be_private_and_hold_a_token(office: Office, wrong: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if wrong == "folder":
        file.mkdir()
    elif wrong == "link":
        (tmp_path / "real").write_text("A" * 43)
        (tmp_path / "real").chmod(0o600)
        file.symlink_to(tmp_path / "real")
    elif wrong != "missing":
        file.write_text({"open": "A" * 43, "empty": "", "long": "A" * 10_000}[wrong])
        file.chmod(0o644 if wrong == "open" else 0o600)
    done = office.shell("--token-file", file, "status")
    assert done.status == 2
    assert "token_file_refused" in done.err
