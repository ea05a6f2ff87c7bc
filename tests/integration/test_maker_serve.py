"""``sealagent maker serve``: what it says of seals while others change them, and to whom it does not listen."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli_parts import command
from maker_parts import NAME, UNIT, Office, new_office, until
from openssl_parts import openssl, parsed
from sample_seals import DISTID
from sealagent.pki.certificates import load_certificates
from sealagent.pki.digests import digest
from sealagent.pki.signed import Signed, open_signed
from sealagent.seals.answers import MAX_ANSWER, MAX_LIST, StatusAnswer, read_answer, read_list
from sealagent.seals.status import SealState
from softgm import SoftSkf
from softhsm2_fixtures import SoftHsm

KINDS = ("p-256", "rsa-2048", "sm2")


@dataclass(frozen=True)
class Reply:
    """What came over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        return found


def ask(url: str, method: str = "GET", body: bytes | None = None) -> Reply:
    request = urllib.request.Request(url, data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Reply(answer.status, {key.lower(): value for key, value in answer.headers.items()}, answer.read())
    except urllib.error.HTTPError as error:
        return Reply(error.code, {key.lower(): value for key, value in error.headers.items()}, error.read())


def opened(reply: Reply, office: Office) -> tuple[Signed, StatusAnswer]:
    """Read an answer as an agent does, and see that the status key signed it."""
    assert (reply.status, reply.headers["content-type"]) == (200, "application/pkcs7-mime"), reply
    signed = open_signed(reply.body, limit=MAX_ANSWER + (64 << 10))
    (expected,) = load_certificates((office.folder / "unit-status" / "certificate.pem").read_bytes())
    assert signed.signer == expected
    return signed, read_answer(signed.content)


def state(url: str, sm3: str, office: Office) -> SealState:
    return opened(ask(f"{url}/v1/seals/{sm3}"), office)[1].status


def begun(kind: str, folder: Path, request: pytest.FixtureRequest) -> Office:
    made = new_office(kind, folder, request)
    made.begin()
    return made


@pytest.fixture(scope="module")
def office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Office:
    return begun("p-256", tmp_path_factory.mktemp("office"), request)


@pytest.fixture(scope="module")
def seal(office: Office) -> dict[str, Any]:
    """A valid seal that no test changes."""
    row, _ = office.issue(office.applicant("usual"))
    return row


_numbers = iter(range(10**6))


def another(office: Office) -> dict[str, Any]:
    number = next(_numbers)
    row, _ = office.issue(office.applicant(f"applicant-{number}"), name=f"{NAME}{number}")
    return row


def openssl_accepts(message: bytes, content: bytes, office: Office, folder: Path) -> None:
    """Let OpenSSL verify a signed message; its ``cms`` command knows no SM2, so that is taken apart for ``pkeyutl``."""
    file = folder / "message.der"
    file.write_bytes(message)
    if office.kind != "sm2":
        trust = ("-CAfile", office.root, "-purpose", "any")
        assert openssl("cms", "-verify", "-inform", "DER", "-binary", "-in", file, *trust) == content
        return
    (info,) = parsed(message).children[1].children[0].children[4].children
    attributes, value = info.children[3], info.children[5]
    (folder / "attributes").write_bytes(b"\x31" + attributes.whole[1:])
    (folder / "value").write_bytes(value.content)
    certificate = office.folder / "unit-status" / "certificate.pem"
    said = openssl(
        *("pkeyutl", "-verify", "-certin", "-inkey", certificate, "-rawin", "-digest", "sm3", "-pkeyopt", DISTID),
        *("-in", folder / "attributes", "-sigfile", folder / "value"),
    )
    assert b"Signature Verified Successfully" in said
    assert digest("sm3", content) in attributes.content


@pytest.mark.parametrize("kind", KINDS)
def test_answers_of_every_kind_of_key(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    office = begun(kind, tmp_path, request)
    row, esl = office.issue(office.applicant("owner"))
    office.good("status-list", "-o", tmp_path / "list.p7m")
    with office.serving() as url:
        before = datetime.now(UTC).replace(microsecond=0)
        reply = ask(f"{url}/v1/seals/{row['sm3']}")
        signed, answer = opened(reply, office)
        assert digest("sm3", esl).hex() == row["sm3"]
        assert (answer.unit, answer.seal_sm3, answer.es_id) == (UNIT, row["sm3"], row["es_id"])
        assert [str(change.state) for change in answer.history] == ["made", "filed", "valid"]
        assert answer.status is SealState.VALID
        assert before <= answer.produced_at <= datetime.now(UTC)
        assert answer.at == answer.produced_at == signed.signing_time
        assert answer.next_update - answer.produced_at == timedelta(hours=1)
        assert reply.headers["server"] == "SealAgent"
        openssl_accepts(reply.body, signed.content, office, tmp_path)
        listed = ask(f"{url}/v1/list")
        assert listed.body == (tmp_path / "list.p7m").read_bytes()
        opened_list = open_signed(listed.body, limit=MAX_LIST)
        found = read_list(opened_list.content)
        assert (found.list, found.unit, found.sequence) == ("seals-110000", UNIT, 1)
        assert found.seals == {row["sm3"]: answer.history}
        openssl_accepts(listed.body, opened_list.content, office, tmp_path)


def test_a_change_is_told_at_once(office: Office) -> None:
    row = another(office)
    with office.serving() as url:
        first = ask(f"{url}/v1/seals/{row['sm3']}")
        assert ask(f"{url}/v1/seals/{row['sm3']}").body == first.body  # kept
        assert first.headers["cache-control"].startswith("public, max-age=")
        office.good("suspend", row["es_id"], "--reason", "suspected_misuse")
        assert state(url, row["sm3"], office) is SealState.SUSPENDED
        office.good("resume", row["es_id"], "--reason", "matter_settled")
        assert state(url, row["sm3"], office) is SealState.VALID
        office.good("cancel", row["es_id"], "--reason", "dissolution", "--asked-by", "owner")
        _, answer = opened(ask(f"{url}/v1/seals/{row['sm3']}"), office)
        assert [(str(each.state), each.reason) for each in answer.history[3:]] == [
            ("suspended", "suspected_misuse"),
            ("valid", "matter_settled"),
            ("cancelled", "dissolution"),
        ]


def test_a_moment_in_the_past_and_a_nonce(office: Office, seal: dict[str, Any]) -> None:
    with office.serving() as url:
        _, now = opened(ask(f"{url}/v1/seals/{seal['sm3']}"), office)
        made = now.history[0].since.strftime("%Y-%m-%dT%H:%M:%SZ")
        reply = ask(f"{url}/v1/seals/{seal['sm3']}?at=2020-01-01T00:00:00Z&nonce=00ff")
        _, answer = opened(reply, office)
        assert (answer.status, answer.nonce) == (SealState.UNKNOWN, b"\x00\xff")
        assert answer.history == now.history
        assert reply.headers["cache-control"] == "no-store"
        _, answer = opened(ask(f"{url}/v1/seals/{seal['sm3']}?at={made}"), office)
        assert answer.at == now.history[0].since
        replies = {ask(f"{url}/v1/seals/{seal['sm3']}?nonce={number:032x}").body for number in range(3)}
        assert len(replies) == 3


def test_a_seal_that_nobody_made(office: Office) -> None:
    with office.serving() as url:
        _, answer = opened(ask(f"{url}/v1/seals/{'0' * 64}"), office)
        assert (answer.status, answer.history, answer.es_id) == (SealState.UNKNOWN, (), "")


def test_the_list_is_made_when_somebody_asks(office: Office, seal: dict[str, Any]) -> None:
    shutil.rmtree(office.state / "published", ignore_errors=True)
    with office.serving() as url:
        first = read_list(open_signed(ask(f"{url}/v1/list").body, limit=MAX_LIST).content)
        assert seal["sm3"] in first.seals
        with ThreadPoolExecutor(4) as pool:
            replies = {reply.body for reply in pool.map(lambda _: ask(f"{url}/v1/list"), range(4))}
        assert len(replies) == 1  # the same, until its time is half over or something changed a minute ago
        office.good("status-list", "-o", office.folder / "again.p7m")
        second = read_list(open_signed(ask(f"{url}/v1/list").body, limit=MAX_LIST).content)
        assert second.sequence == first.sequence + 1
    entries = [json.loads(line)["body"] for line in _export(office)]
    made = [body["list"]["sequence"] for body in entries if body.get("event") == "status_list" and "intent" in body]
    assert made == sorted(set(made))


def _export(office: Office) -> list[str]:
    export = office.folder / "export.jsonl"
    assert office("export", "-o", export).status == 0
    return export.read_text().splitlines()[1:]


# Crashes beside it


def test_nothing_is_answered_from_an_index_that_lags_behind(office: Office) -> None:
    """A command died between ledger and index: the next question finishes its work; the old state is never told."""
    row = another(office)
    old = {name: (office.state / name).read_bytes() for name in ("index.sqlite",)}
    with office.serving() as url:
        assert state(url, row["sm3"], office) is SealState.VALID
        office.good("lost", row["es_id"], "--reason", "lost_carrier")
        with sqlite3.connect(office.state / "index.sqlite") as database:
            # As if the change had not reached the index.
            database.execute("UPDATE seal SET state = 'valid', changes = 3 WHERE sm3 = ?", (row["sm3"],))
            database.execute("DELETE FROM change WHERE sm3 = ? AND nth = 4", (row["sm3"],))
            database.execute("UPDATE position SET applied = applied - 1, leaf = 'x'")
        database.close()
        assert state(url, row["sm3"], office) is SealState.LOST
    assert office.good("verify")["ok"] is True
    assert old


def test_while_a_command_has_the_register_open(office: Office, seal: dict[str, Any]) -> None:
    """Somebody is entering a PIN, or a device is slow: questions are answered all the same."""
    holder = subprocess.Popen(
        [
            *(command()[0], "-c"),
            "import asyncio, sys\nfrom pathlib import Path\nfrom sealagent.clock import system_clock\n"
            "from sealagent.maker.register import Places, opened_register\n"
            "async def main():\n"
            "    async with opened_register(Places(Path(sys.argv[1])), system_clock):\n"
            "        print('open', flush=True)\n        await asyncio.sleep(60)\nasyncio.run(main())",
            str(office.state),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with office.serving() as url:
            assert state(url, seal["sm3"], office) is SealState.VALID
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()


def test_the_worker_of_its_module_is_killed(office: Office, seal: dict[str, Any]) -> None:
    with office.serving() as url:
        state(url, seal["sm3"], office)
        for pid in _workers(office.services[-1].pid):
            os.kill(pid, signal.SIGKILL)
        reply = ask(f"{url}/v1/seals/{seal['sm3']}?nonce=01")
        if reply.status != 200:  # the death was noticed by this very question
            assert reply.problem["code"] == "status_unavailable"
        _, answer = opened(ask(f"{url}/v1/seals/{seal['sm3']}?nonce=02"), office)
        assert answer.status is SealState.VALID


def _workers(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(entry.name))
            except OSError:
                continue
    assert found
    return found


def test_a_token_that_is_pulled(softskf: SoftSkf, tmp_path: Path) -> None:
    """Whoever asks hears that there is no answer now, and nothing of tokens and keys; afterwards it goes on."""
    token = softskf.new_token()
    office = Office(tmp_path, "sm2", token)
    office.begin()
    row, _ = office.issue(office.applicant("owner"))
    with office.serving() as url:
        assert state(url, row["sm3"], office) is SealState.VALID
        token.remove()
        reply = ask(f"{url}/v1/seals/{row['sm3']}?nonce=01")
        assert (reply.status, reply.problem["code"]) == (503, "status_unavailable")
        assert token.serial not in reply.body.decode()
        assert ask(f"{url}/v1/seals/{row['sm3']}").status == 200  # kept from before
        token.insert()
        until(lambda: ask(f"{url}/v1/seals/{row['sm3']}?nonce=02").status == 200, 20)


# Whom it does not listen to


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/seals/ABC", 400, "status_question_invalid"),
        (f"/v1/seals/{'A' * 64}", 400, "status_question_invalid"),
        (f"/v1/seals/{'a' * 65}", 400, "status_question_invalid"),
        (f"/v1/seals/{'a' * 64}?at=now", 400, "status_question_invalid"),
        (f"/v1/seals/{'a' * 64}?at=2026-02-30T00:00:00Z", 400, "status_question_invalid"),
        (f"/v1/seals/{'a' * 64}?at=2026-01-01T00:00:00%2B08:00", 400, "status_question_invalid"),
        (f"/v1/seals/{'a' * 64}?at=9999-01-01T00:00:00Z", 400, "status_question_invalid"),
        (f"/v1/seals/{'a' * 64}?at=2026-01-01T00:00:00Z&at=2026-01-01T00:00:00Z", 400, "status_question_invalid"),
        (f"/v1/seals/{'a' * 64}?nonce=0", 400, "status_question_invalid"),
        (f"/v1/seals/{'a' * 64}?nonce={'00' * 33}", 400, "status_question_invalid"),
        (f"/v1/seals/{'a' * 64}?nonce=AA", 400, "status_question_invalid"),
        (f"/v1/seals/{'a' * 64}?other=1", 400, "status_question_invalid"),
        ("/v1/list?x=1", 400, "status_question_invalid"),
        ("/", 404, "not_found"),
        ("/v1/seals", 404, "not_found"),
        ("/v1/seals/../../etc/passwd", 404, "not_found"),
        ("/v1/seals/%2e%2e%2f%2e%2e", 400, "status_question_invalid"),
        ("/v1/seals/%00", 400, "status_question_invalid"),
    ],
)
def test_questions_that_are_none(serving: str, path: str, status: int, code: str) -> None:
    reply = ask(serving + path)
    assert (reply.status, reply.problem["code"]) == (status, code)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_it_only_answers(serving: str, method: str) -> None:
    reply = ask(f"{serving}/v1/seals/{'a' * 64}", method, b"x" * 10_000 if method == "POST" else None)
    assert reply.status == 405
    assert reply.headers["allow"] == "GET"


@pytest.fixture(scope="module")
def serving(office: Office, seal: dict[str, Any]) -> Any:
    with office.serving() as url:
        yield url


def raw(url: str, octets: bytes, *, patience: float = 15) -> bytes:
    """Send octets as they are; return all that comes until the other side closes."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=patience) as connection:
        received = b""
        try:
            connection.sendall(octets)
            while chunk := connection.recv(65536):
                received += chunk
        except (ConnectionError, TimeoutError):
            pass
        return received


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(50_000)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        bytes(2000),
    ],
)
def test_what_is_no_http(serving: str, office: Office, seal: dict[str, Any], octets: bytes) -> None:
    received = raw(serving, octets)
    assert not received.startswith(b"HTTP/1.1 200")
    assert b"Traceback" not in received
    assert state(serving, seal["sm3"], office) is SealState.VALID


def test_a_connection_that_says_nothing_is_closed(serving: str) -> None:
    begun = time.monotonic()
    assert raw(serving, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", patience=30) == b""
    assert time.monotonic() - begun < 20


def test_more_connections_than_there_are_places(softhsm: SoftHsm, tmp_path: Path) -> None:
    office = Office(tmp_path, "p-256", softhsm.new_token())
    office.configure(status={"connections": 3})
    office.begin()
    with office.serving() as url:
        host, _, port = url.removeprefix("http://").rpartition(":")
        kept = [http.client.HTTPConnection(host, int(port), timeout=10) for _ in range(3)]
        for connection in kept:
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
        refused = ask(f"{url}/healthz")
        assert (refused.status, refused.problem["code"]) == (503, "status_busy")
        kept[0].close()
        until(lambda: ask(f"{url}/healthz").status == 200)
        for connection in kept:
            connection.close()


def test_many_questions_at_once(serving: str, office: Office, seal: dict[str, Any]) -> None:
    """Seals that nobody made cost a signature each: their number is bounded, and the service goes on."""

    def unknown(number: int) -> int:
        return ask(f"{serving}/v1/seals/{number:064x}").status

    state(serving, seal["sm3"], office)
    with ThreadPoolExecutor(32) as pool:
        running = [pool.submit(unknown, number) for number in range(200)]
        known = [ask(f"{serving}/v1/seals/{seal['sm3']}").status for _ in range(5)]
        statuses = {each.result() for each in running}
    assert statuses <= {200, 503}
    assert set(known) <= {200, 503}
    assert state(serving, seal["sm3"], office) is SealState.VALID


def test_health(serving: str) -> None:
    reply = ask(f"{serving}/healthz")
    assert reply.status == 200
    found = json.loads(reply.body)
    assert found["status"] == "ok"
    assert found["entries"] > 0


def test_an_address_that_is_taken(office: Office, serving: str) -> None:
    taken = serving.removeprefix("http://")
    done = office("serve", "--listen", taken)
    assert (done.status, "status_address_unusable" in done.err) == (2, True)
    for wrong in ("nonsense", "127.0.0.1:99999"):
        done = office("serve", "--listen", wrong)
        assert (done.status, "config_invalid" in done.err) == (2, True)


def test_its_log_holds_no_pin_and_no_trace(office: Office, serving: str) -> None:
    ask(f"{serving}/v1/seals/xyz")
    for log in office.folder.glob("serve-*.log"):
        text = log.read_text()
        assert office.token.user_pin not in text
        assert "Traceback" not in text
