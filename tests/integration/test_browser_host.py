"""The native messaging host as a real process before a real agent, spoken to as browsers do."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_world import Daemon, World, until
from browser_parts import ADDON, EXTENSION, ORIGIN, SELF, Holder, Host, install
from cli_parts import Shell
from ofd_samples import document_files, pack
from sealagent.browser.bridge import MAX_IN_FLIGHT
from sealagent.browser.framing import MAX_MESSAGE_IN
from sealagent.browser.manifests import host_program
from sealagent.client import AgentError, invisible
from sealagent.client.transport import Transport

SEAL = "测试单位公章"
OTHER_EXTENSION = "abcdefghijklmnop" * 2


@pytest.fixture
def daemon(world: World) -> Daemon:
    world.settings["browser"] = {"programs": [SELF]}
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    started = world.start()
    install(started)
    return started


def _to_seal(seal: str = SEAL) -> dict[str, Any]:
    document = base64.b64encode(pack(document_files())).decode()
    return {"seal": seal, "placements": [{"type": "invisible"}], "name": "a.ofd", "content": document}


def _caller_of_last_refusal(daemon: Daemon) -> dict[str, Any]:
    with daemon.agent() as agent:
        found = [entry for entry in agent.records()["records"] if entry["kind"] in ("intent", "refused")]
    caller = found[-1]["body"]["caller"]
    assert isinstance(caller, dict)
    return caller


def test_status_seals_and_picture(daemon: Daemon) -> None:
    with Host(daemon) as host:
        status = host.ask("GET", "/v1/status")
        assert (status["status"], status["body"]["record"]["size"]) == (200, 0)
        assert status["headers"]["content-type"].startswith("application/json")
        seals = host.ask("GET", "/v1/seals")["body"]["seals"]
        assert [seal["name"] for seal in seals] == [SEAL]
        picture = host.ask("GET", f"/v1/seals/{seals[0]['id']}/image")
        assert picture["encoding"] == "base64"
        assert base64.b64decode(picture["body"]).startswith(b"\x89PNG")
        assert host.ask("GET", "/v1/seals/none")["body"]["code"] == "seal_not_found"
        assert host.end() == (0, "")


def test_a_document_is_verified(daemon: Daemon) -> None:
    document = base64.b64encode(pack(document_files())).decode()
    with Host(daemon) as host:
        answer = host.ask("POST", "/v1/documents/verify", {"name": "a.ofd", "content": document})
        assert (answer["status"], answer["body"]["verdict"]) == (200, "indeterminate")
        for wrong in ({}, {"name": "a.ofd"}, {"name": 1, "content": ""}, {"name": "a", "content": "*"}):
            assert host.ask("POST", "/v1/documents/verify", wrong)["status"] == 400
        assert host.ask("POST", "/v1/documents/verify")["status"] == 415
        nothing = host.ask("POST", "/v1/documents/verify", {"name": "a", "content": ""})
        assert nothing["body"]["code"] == "format_unknown"


def test_a_document_is_sealed_once(daemon: Daemon) -> None:
    """What comes back is too large for one message, and the same again for the same key."""
    files = {**document_files(), "Doc_0/Res/image.bin": os.urandom(1_500_000)}
    body = {**_to_seal(), "content": base64.b64encode(pack(files)).decode()}
    with Host(daemon) as host:
        sealed = [_seal_in_parts(host, ident, body, "the-same-key") for ident in (1001, 1002)]
        assert sealed[0]["status"] == 200, sealed[0]
        assert sealed[0]["body"] == sealed[1]["body"]
        with daemon.agent() as agent:
            size = agent.records()["size"]
            octets = base64.b64decode(sealed[0]["body"]["document"])
            assert agent.verify_document(octets)["verdict"] == "valid"
        assert sealed[0]["body"]["receipt"]["record"] <= size
        kinds = [host.ask("GET", f"/v1/records/{number}")["body"]["kind"] for number in range(1, size + 1)]
        assert kinds.count("signed") == 1


def _seal_in_parts(host: Host, ident: int, body: dict[str, Any], key: str) -> dict[str, Any]:
    message = {"id": ident, "method": "POST", "path": "/v1/documents/seal", "body": body, "idempotency_key": key}
    for part in _in_parts(message, 700_000):
        host.send(part)
    return host.answer(ident)


def test_the_agent_knows_for_whom_is_asked(daemon: Daemon) -> None:
    """Whatever comes of it, the entry on record names the extension, the page it names, and who started the bridge."""
    with Host(daemon) as host:
        host.ask("POST", "/v1/documents/seal", _to_seal(), page="https://office.example")
    caller = _caller_of_last_refusal(daemon)
    assert (caller["origin"], caller["page"], caller["parent"]) == (ORIGIN, "https://office.example", SELF)


def test_nobody_but_a_child_of_a_browser_asks_for_an_extension(world: World) -> None:
    started = world.start()  # to this agent the program that runs the tests is no browser
    install(started)
    with Host(started) as host:
        answer = host.ask("GET", "/v1/status")
        assert (answer["status"], answer["body"]["code"]) == (403, "origin_not_proven")
        assert "next_step_zh" in answer["body"]
    with started.agent() as agent:
        assert agent.status()["record"]["size"] == 0


def test_a_program_between_browser_and_host_is_no_browser(daemon: Daemon) -> None:
    with Host(daemon, before=("/bin/sh", "-c", '"$@"; exit $?', "sh")) as host:
        assert host.ask("GET", "/v1/status")["body"]["code"] == "origin_not_proven"
        host.end()


def test_firefox_names_the_extension_in_its_own_way(daemon: Daemon) -> None:
    manifest = install(daemon, "firefox", ADDON)
    with Host(daemon, str(manifest), ADDON) as host:
        assert host.ask("GET", "/v1/status")["status"] == 200
    for arguments in ((str(manifest), "other@example.org"), (ADDON,), (f"chrome-extension://{'a' * 32}/",)):
        with Host(daemon, *arguments) as host:
            assert host.process.wait(20) == 2
            _, said = host.end()
            assert "extension_not_allowed" in said
            assert "Traceback" not in said


PAIRED_ONLY = f"""
[defaults]
document = "deny"
[[rules]]
name = "extension"
effect = "allow"
operations = ["document"]
applications = ["办公扩展"]
origins = ["{ORIGIN}"]
"""


def test_a_pairing_is_bound_to_the_extension(world: World) -> None:
    """The token serves the extension that was paired, and neither another one nor a program that stole it."""
    holder = Holder(world.directory, world.token.user_pin)
    world.settings.update(browser={"programs": [SELF]}, pin=holder.settings)
    world.policy = PAIRED_ONLY
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    daemon = world.start(environment={"LC_ALL": "en_US.UTF-8"})
    install(daemon)
    install(daemon, "edge", OTHER_EXTENSION)
    with Host(daemon) as host:
        assert host.ask("POST", "/v1/documents/seal", _to_seal())["body"]["code"] == "use_denied"
        pairing = host.ask("POST", "/v1/pairings", {"name": "办公扩展"})
        assert pairing["status"] == 201
        assert re.fullmatch(r"\d{6}", pairing["body"]["code"])
        secret = {"secret": pairing["body"]["secret"]}
        done = host.ask("POST", f"/v1/pairings/{pairing['body']['id']}/complete", secret)
        assert done["status"] == 201, done
        token = done["body"]["token"]
        sealed = host.ask("POST", "/v1/documents/seal", _to_seal(), token=token, page="https://office.example")
        assert sealed["status"] == 200, sealed
        record = host.ask("GET", f"/v1/records/{sealed['body']['receipt']['record']}", token=token)
        assert record["status"] == 200
        assert host.ask("GET", "/v1/status", token="x" * 43)["body"]["code"] == "token_invalid"
    with Host(daemon, f"chrome-extension://{OTHER_EXTENSION}/") as other:
        stolen = other.ask("POST", "/v1/documents/seal", _to_seal(), token=token)
        assert (stolen["status"], stolen["body"]["code"]) == (401, "token_misused")
        assert (
            other.ask("GET", f"/v1/records/{sealed['body']['receipt']['record']}")["body"]["code"] == "record_not_own"
        )
    thief = Transport(daemon.socket, 30, {"Authorization": f"Bearer {token}"})
    with contextlib.closing(thief), pytest.raises(AgentError) as caught:
        thief.json("GET", "/v1/status")
    assert caught.value.code == "token_misused"
    shown = holder.shown
    assert f"Browser extension: {ORIGIN} (says the bridge started by {SELF})" in shown
    assert "Page: https://office.example (it says)" in shown
    assert token not in daemon.said()


def test_a_holder_who_declines_pairs_nobody(world: World) -> None:
    holder = Holder(world.directory, world.token.user_pin, "ERR 83886179 Operation cancelled")
    world.settings.update(browser={"programs": [SELF]}, pin=holder.settings)
    daemon = world.start()
    install(daemon)
    with Host(daemon) as host:
        pairing = host.ask("POST", "/v1/pairings", {"name": "办公扩展"})["body"]
        path = f"/v1/pairings/{pairing['id']}/complete"
        assert host.ask("POST", path, {"secret": pairing["secret"]})["body"]["code"] == "consent_refused"
        assert host.ask("POST", path, {"secret": pairing["secret"]})["status"] >= 400
    with daemon.agent() as agent:
        entry = agent.records()["records"][0]
    assert (entry["kind"], entry["body"]["reason"]) == ("refused", "consent_refused")


def test_one_consent_and_one_pin_for_many_documents(world: World) -> None:
    """A list is agreed to once; its documents go through the bridge all at once, and each comes back sealed."""
    holder = Holder(world.directory, world.token.user_pin)
    world.settings.update(browser={"programs": [SELF]}, pin=holder.settings)
    world.policy = ""
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    daemon = world.start()
    install(daemon)
    documents = [pack({**document_files(), "Doc_0/Res/number": f"{number}".encode()}) for number in range(12)]
    items = [
        {"name": f"{number}.ofd", "sha256": hashlib.sha256(document).hexdigest()}
        for number, document in enumerate(documents)
    ]
    order = {"seal": SEAL, "placements": [{"type": "invisible"}], "items": items}
    with Host(daemon) as host:
        batch = host.ask("POST", "/v1/batches", order, idempotency_key="order")
        assert batch["status"] == 201, batch
        path = f"/v1/batches/{batch['body']['id']}"
        for number, document in enumerate(documents, 1):
            body = {"content": base64.b64encode(document).decode()}
            host.send({"id": 500 + number, "method": "POST", "path": f"{path}/items/{number}/document", "body": body})
        sealed = [host.answer(500 + number) for number in range(1, 13)]
        assert [answer["status"] for answer in sealed] == [200] * 12, sealed
        assert host.ask("GET", path)["body"]["signed"] == 12
        with daemon.agent() as agent:
            for answer in sealed:
                assert agent.verify_document(base64.b64decode(answer["body"]["document"]))["verdict"] == "valid"
    assert holder.asked_for_pins == 1


def test_administration_is_out_of_reach(daemon: Daemon) -> None:
    with Host(daemon) as host:
        for method, path in (("GET", "/v1/records"), ("POST", "/v1/grants"), ("POST", "/v1/tokens/x/pin")):
            answer = host.ask(method, path, {} if method == "POST" else None)
            assert (answer["status"], answer["body"]["code"]) == (403, "route_not_bridged")


def test_an_extension_sees_what_is_on_record_of_itself_only(daemon: Daemon) -> None:
    with Host(daemon) as host:
        host.ask("POST", "/v1/documents/seal", _to_seal())
        with daemon.agent() as agent:
            first = agent.records()["size"]
            with contextlib.suppress(AgentError):
                agent.seal_document(pack(document_files()), seal=SEAL, placements=[invisible()])
            records = agent.records()["records"]
        assert 0 < first < len(records)
        for entry in records:
            answer = host.ask("GET", f"/v1/records/{entry['number']}")
            if entry["number"] <= first:  # whether it names the caller itself, or its intent does
                assert answer["body"] == entry
            else:
                assert (answer["status"], answer["body"]["code"]) == (403, "record_not_own")
        assert host.ask("GET", "/v1/records/99")["body"]["code"] == "record_not_found"


def test_events_until_they_are_cancelled(daemon: Daemon) -> None:
    with Host(daemon) as host:
        host.send({"id": 70, "path": "/v1/events"})
        assert host.answer(70) == {"id": 70, "status": 200, "event": None}
        host.send({"id": 70, "path": "/v1/status"})
        busy = host.answer(None)
        assert (busy["status"], busy["body"]["code"], busy["body"]["message_id"]) == (409, "id_in_use", 70)
        with daemon.agent() as agent:
            token = agent.tokens()["tokens"][0]["id"]
            agent.lock_token(token)
            with contextlib.suppress(AgentError):
                agent.seal_document(pack(document_files()), seal=SEAL, placements=[invisible()])
        event = host.answer(70)
        assert set(event) == {"id", "event", "data"}
        assert event["event"] in ("refused", "pin_asked", "token_unlocked", "signed", "token_locked")
        host.send({"id": 70, "cancel": True})
        while "event" in (last := host.answer(70)):
            pass  # was on the way
        assert last == {"id": 70, "cancelled": True}
        host.send({"id": 70, "cancel": True})  # nothing of that name is under way any more
        assert host.ask("GET", "/v1/status")["status"] == 200
        host.send({"id": 70, "path": "/v1/status"})
        assert host.answer(70)["status"] == 200


def test_the_agents_end_is_told(daemon: Daemon) -> None:
    with Host(daemon) as host:
        host.send({"id": 70, "path": "/v1/events"})
        host.answer(70)
        daemon.stop()
        ended = host.answer(70)
        assert ended["body"]["code"] == "agent_unreachable"
        assert host.ask("GET", "/v1/status")["body"]["code"] == "agent_unreachable"
        assert host.end()[0] == 0


def test_hostile_messages_harm_no_other(daemon: Daemon) -> None:
    with Host(daemon) as host:
        host.send({"id": 70, "path": "/v1/events"})
        host.answer(70)
        for octets, code in (
            (b"", "message_invalid"),
            (b"{", "message_invalid"),
            (b"\xff\xfe", "message_invalid"),
            (b"[" * 100_000, "message_invalid"),
            (b'{"id": 1, "id": 2}', "message_invalid"),
            (b'{"path": "/v1/status"}', "message_invalid"),
        ):
            host.raw(struct.pack("=I", len(octets)) + octets)
            answer = host.answer(None)
            assert (answer["status"], answer["body"]["code"]) == (400, code), octets[:20]
        host.raw(struct.pack("=I", MAX_MESSAGE_IN + 1) + b"x" * (MAX_MESSAGE_IN + 1))
        assert host.answer(None)["body"]["code"] == "message_too_large"
        host.send({"id": 5, "path": "/v1/status", "headers": {"SealAgent-Origin": "x"}})
        assert host.answer(5)["body"]["code"] == "message_invalid"
        host.send({"id": 6, "part": 1, "last": True, "data": ""})
        assert host.answer(6)["body"]["code"] == "message_invalid"
        assert host.ask("GET", "/v1/status")["status"] == 200
        host.raw(struct.pack("=I", 100) + b"{")
        status, said = host.end()
        assert (status, said) == (1, "")


def _in_parts(message: dict[str, Any], size: int) -> list[dict[str, Any]]:
    octets = json.dumps(message).encode()
    pieces = [octets[start : start + size] for start in range(0, len(octets), size)]
    return [
        {
            "id": message["id"],
            "part": number,
            "last": number == len(pieces) - 1,
            "data": base64.b64encode(piece).decode(),
        }
        for number, piece in enumerate(pieces)
    ]


def test_large_documents_go_and_come_in_parts(daemon: Daemon) -> None:
    """Two at once, their parts mixed; what comes back is the agent's own word on a file of three megabytes."""
    document = base64.b64encode(os.urandom(3_000_000)).decode()
    body = {"name": "大" * 100, "content": document}
    with Host(daemon) as host:
        both = [
            _in_parts({"id": ident, "method": "POST", "path": "/v1/documents/verify", "body": body}, 700_000)
            for ident in (1, 2)
        ]
        for pair in zip(*both, strict=True):
            for part in pair:
                host.send(part)
        for ident in (2, 1):
            assert host.answer(ident)["body"]["code"] == "format_unknown"
        first, *_ = _in_parts({"id": 3, "path": "/v1/status"}, 20)
        host.send(first)
        host.send({"id": 3, "cancel": True})
        assert host.answer(3) == {"id": 3, "cancelled": True}
        host.send(first)
        host.send({**first, "part": 5})
        assert host.answer(3)["body"]["code"] == "message_invalid"
        inner = _in_parts({"id": 8, "path": "/v1/status"}, 1000)[0]
        host.send({**inner, "id": 9})
        assert host.answer(9)["body"]["code"] == "message_invalid"
        host.send(inner)
        assert host.answer(8)["status"] == 200


def test_many_at_once_and_no_more(daemon: Daemon) -> None:
    with Host(daemon) as host:
        streams = range(100, 100 + MAX_IN_FLIGHT)
        for ident in streams:
            host.send({"id": ident, "path": "/v1/events"})
        for ident in streams:
            host.answer(ident)
        host.send({"id": 99, "path": "/v1/status"})
        assert host.answer(99)["body"]["code"] == "bridge_busy"
        host.send({"id": 100, "cancel": True})
        host.answer(100)
        assert host.ask("GET", "/v1/status")["status"] == 200
        assert host.end()[0] == 0


def test_the_host_ends_with_its_input_whatever_is_under_way(daemon: Daemon) -> None:
    with Host(daemon) as host:
        host.send({"id": 1, "path": "/v1/events"})
        host.answer(1)
        assert host.end() == (0, "")


def test_the_host_ends_with_its_browser(daemon: Daemon, tmp_path: Path) -> None:
    """Also where something else holds the other end of its input: here it is this test that does."""
    reading, writing = os.pipe()
    browser = (
        "import os, subprocess, sys, time\n"
        f"host = subprocess.Popen([{str(host_program())!r}, '{ORIGIN}/'], stdin={reading}, pass_fds=[])\n"
        "print(host.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", browser],
        stdout=subprocess.PIPE,
        pass_fds=[reading],
        env=Shell.of(daemon).environment(),
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        octets = b'{"id":1,"path":"/v1/status"}'
        os.write(writing, struct.pack("=I", len(octets)) + octets)
        assert process.stdout.read(4)  # it serves
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        until(lambda: not _runs(pid), 10)
        process.stdout.read()
    os.close(reading)
    os.close(writing)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_that_passes_is_logged(daemon: Daemon) -> None:
    secret = "Zm9yIG5vYm9keSBlbHNl"
    body = {"name": "secret-name.ofd", "content": secret}
    with Host(daemon) as host:
        host.ask("POST", "/v1/documents/verify", body, token="token-of-nobody", page="https://page.example")
        host.send({"id": 50, "secret-member": secret})
        host.answer(50)
        _, said = host.end()
    assert said == ""
    for word in (secret, "token-of-nobody"):
        assert word not in daemon.said()


def test_its_memory_is_bounded(daemon: Daemon) -> None:
    """Requests of several times what may be held are turned away; those that fit are served."""
    with Host(daemon) as host:
        part = base64.b64encode(bytes(700_000)).decode()
        refused = 0
        for ident in range(4):
            for number in range(48):
                host.send({"id": ident, "part": number, "last": False, "data": part})
        for ident in range(4):
            host.send({"id": ident, "cancel": True})
        host.send({"id": 77, "path": "/v1/status"})
        while (message := host.received())["id"] != 77:
            refused += message.get("body", {}).get("code") == "bridge_busy"
        assert message["status"] == 200
        assert refused
        status = Path(f"/proc/{host.process.pid}/status").read_text()
        peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        assert peak < 300_000, f"{peak} KiB"


def test_install_status_and_remove_speak_both_languages(daemon: Daemon) -> None:
    shell = Shell.of(daemon)
    shown = shell("browser", "status")
    assert shown.status == 0
    assert "chromium: installed" in shown.out
    assert EXTENSION in shown.out
    assert "edge: not installed" in shown.out
    chinese = shell("browser", "status", "--browser", "chromium", LANG="zh_CN.UTF-8")
    assert "chromium: 已安装" in chinese.out
    manifest = daemon.directory / ".config"  # the shell's own configuration folder is elsewhere
    assert not manifest.exists()
    path = Path(shell("browser", "status", "--json").json["browsers"][0]["manifest"])
    path.write_text("{")
    broken = shell("browser", "status", "--browser", "chromium")
    assert (broken.status, "manifest_malformed" in broken.out) == (1, True)
    assert "install again" in broken.out
    again = shell("browser", "install", "--browser", "chromium", "--extension", EXTENSION, LANG="zh_CN.UTF-8")
    assert again.status == 0
    assert shell("browser", "remove", "--browser", "chromium").out == "removed\n"
    assert shell("browser", "remove", "--browser", "chromium", LANG="zh_CN.UTF-8").out == "未曾安装\n"
    wrong = shell("browser", "install", "--browser", "firefox", "--extension", EXTENSION)
    assert (wrong.status, "extension_id_invalid" in wrong.err) == (1, True)
    assert shell("browser", "status", "--profile-root", "/x").status == 2
    assert shell("browser", "install", "--browser", "netscape", "--extension", "x").status == 2


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
def test_the_host_ends_though_nobody_takes_its_answers(daemon: Daemon, closed: str) -> None:
    """It is stuck in an answer when the browser hangs up."""
    with Host(daemon) as host:
        assert host.process.stdin is not None
        os.set_blocking(host.process.stdin.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(100_000):  # each is answered with several hundred octets
                host.raw(struct.pack("=I", 1) + b"{")
            pytest.fail("the host takes more and more, though nobody takes its answers")
        assert host.process.poll() is None
        stream = host.process.stdin if closed == "stdin" else host.process.stdout
        assert stream is not None
        with contextlib.suppress(BlockingIOError):
            stream.close()
        host.process.wait(10)
