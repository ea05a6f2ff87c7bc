"""HTTP as odd clients speak it: chunked, slow, pipelined, gone in the middle, and curl as the README has it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agent_world import Daemon, World
from ofd_samples import document_files, pack
from sealagent.client import AgentError, at, invisible
from sealagent.client.transport import _UnixConnection

SEAL = "测试单位公章"


def _with_seal(world: World) -> None:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")


def _raw(daemon: Daemon, octets: bytes) -> bytes:
    """Send octets on a connection of their own; return what comes until the daemon closes or falls silent."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(1)
        raw.connect(str(daemon.socket))
        raw.sendall(octets)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while piece := raw.recv(65536):
                answer += piece
        return answer


def _head(path: str, media_type: str, length: int) -> bytes:
    fields = f"Host: x\r\nContent-Type: {media_type}\r\nContent-Length: {length}"
    return f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode()


def _ask(
    daemon: Daemon, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = _UnixConnection(daemon.socket, 30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def _multipart(request: dict[str, Any], document: bytes) -> tuple[bytes, str]:
    part = b'--X\r\nContent-Disposition: form-data; name="'
    body = part + b'request"\r\n\r\n' + json.dumps(request).encode() + b"\r\n"
    return body + part + b'document"\r\n\r\n' + document + b"\r\n--X--\r\n", "multipart/form-data; boundary=X"


def _sealing(**more: Any) -> dict[str, Any]:
    return {"seal": SEAL, "placements": [{"type": "invisible"}], **more}


@pytest.mark.skipif(shutil.which("curl") is None and not os.environ.get("CI"), reason="curl is not installed")
@pytest.mark.parametrize("expecting", [[], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"]])
def test_curl_seals_as_the_readme_says(world: World, vectors: Path, tmp_path: Path, expecting: list[str]) -> None:
    _with_seal(world)
    daemon = world.start()
    base = ["curl", "-sS", "--fail-with-body", "--unix-socket", str(daemon.socket), *expecting]
    listed = subprocess.run([*base, "http://localhost/v1/seals"], capture_output=True, check=True, timeout=30)
    assert json.loads(listed.stdout)["seals"][0]["name"] == SEAL
    request = json.dumps(_sealing(placements=[{"type": "position", "page": 1, "x": 120, "y": 200}]), ensure_ascii=False)
    form = ["-F", f"request={request};type=application/json", "-F", f"document=@{vectors / 'helloworld.ofd'}"]
    out = tmp_path / "sealed.ofd"
    subprocess.run(
        [*base, "http://localhost/v1/documents/seal", "-H", "Idempotency-Key: 2026-0001", *form, "-o", str(out)],
        check=True,
        timeout=30,
    )
    with daemon.agent() as agent:
        assert agent.verify_document(out)["verdict"] == "valid"


def test_media_types_with_parameters_and_chunked_bodies(world: World) -> None:
    _with_seal(world)
    daemon = world.start()
    with daemon.agent() as agent:
        key = agent.keys()[0]["id"]
    body = json.dumps({"digests": ["A" * 43 + "="]}).encode()
    for media_type in ("application/json; charset=utf-8", 'APPLICATION/JSON;charset="UTF-8"', "application/json;x=y"):
        for octets in (body, iter([body[:5], body[5:]])):  # the second goes out in chunks, without Content-Length
            status, _, answer = _ask(daemon, "POST", f"/v1/keys/{key}/signatures", octets, {"Content-Type": media_type})
            assert status == 200, answer
    document, media_type = _multipart(_sealing(), pack(document_files()))
    pieces = iter([document[at_ : at_ + 7000] for at_ in range(0, len(document), 7000)])
    assert _ask(daemon, "POST", "/v1/documents/seal", pieces, {"Content-Type": media_type})[0] == 200


def test_odd_methods_and_paths(world: World) -> None:
    daemon = world.start()
    for method, path, status, allow in (
        ("HEAD", "/v1/status", 405, "GET"),
        ("OPTIONS", "/v1/documents/seal", 405, "POST"),
        ("PUT", "/v1/keys", 405, "GET, POST"),
        ("TRACE", "/v1/status", 405, "GET"),
        ("GET", "/v1/tokens/x/lock", 405, "POST"),
        ("GET", "/v1/seals/%ed%a0%80", 404, None),
        ("GET", "/v1/seals/%ff%fe", 404, None),
        ("GET", "/v1/seals/a%2Fb", 404, None),
        ("GET", "/v1/seals/%0d%0aX:%20y", 404, None),
        ("GET", "/v1/%0A2026%20ERROR%20all%20is%20well", 404, None),
    ):
        got, headers, answer = _ask(daemon, method, path)
        assert got == status, path
        assert headers.get("Allow") == allow
        assert headers["Content-Type"].startswith("application/problem+json")
        if method != "HEAD":
            assert json.loads(answer)["code"] in ("method_not_allowed", "seal_not_found", "not_found")
    assert "\n2026 ERROR" not in daemon.said()
    assert "Traceback" not in daemon.said(), daemon.said()


def test_absurd_values_are_named_and_not_recorded(world: World) -> None:
    _with_seal(world)
    daemon = world.start()
    absurd: list[dict[str, Any]] = [
        {"placements": [{"type": "position", "page": 1, "x": "NaN", "y": 1}]},
        {"placements": [{"type": "position", "page": 1, "x": 1e308, "y": -1e308}]},
        {"placements": [{"type": "position", "page": 10**30, "x": 1, "y": 1}]},
        {"placements": [{"type": "riding", "at": 1e999}]},
        {"placements": [{"type": "riding", "pages": [1] * 1000}]},
        {"placements": [{"type": "invisible"}] * 1000},
        {"document": 10**18},
        {"name": ""},
        {"name": "\ud800"},
        {"seal": "\udfff"},
    ]
    for more in absurd:
        body, media_type = _multipart(_sealing(**more), pack(document_files()))
        for octets in {body, body.replace(b'"NaN"', b"NaN")}:
            status, _, answer = _ask(daemon, "POST", "/v1/documents/seal", octets, {"Content-Type": media_type})
            assert 400 <= status < 500, (more, answer)
    with daemon.agent() as agent:
        assert agent.records()["size"] == 0


def test_times_at_the_edge_of_the_calendar(world: World) -> None:
    daemon = world.start()
    for moment in ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00", "1e999", 1e30):
        body, media_type = _multipart({"at": moment}, pack(document_files()))
        status, _, answer = _ask(daemon, "POST", "/v1/documents/verify", body, {"Content-Type": media_type})
        assert status == 400, answer
        assert json.loads(answer)["code"] == "request_invalid"


def test_what_cannot_be_told_apart_is_refused_as_a_request(world: World) -> None:
    daemon = world.start()
    both = (
        b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    twice = b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n{}  "
    folded = b"GET /v1/status HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"
    for octets in (both, twice, folded):
        assert b" 400 Bad Request" in _raw(daemon, octets)[:30]
    wrong = b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nContent-Length: 2\r\n\r\n{}"
    assert b" 417 " in _raw(daemon, wrong)
    pipelined = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n" * 20
    assert _raw(daemon, pipelined).count(b"HTTP/1.1 200") == 20
    assert "Traceback" not in daemon.said(), daemon.said()


def test_slow_bodies_are_cut_off(world: World) -> None:
    world.settings["limits"] = {"body_seconds": 0.5}
    _with_seal(world)
    daemon = world.start()
    for path, media_type in (
        ("/v1/keys", "application/json"),
        ("/v1/documents/seal", "multipart/form-data; boundary=X"),
    ):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(10)
            raw.connect(str(daemon.socket))
            begun = time.monotonic()
            raw.sendall(_head(path, media_type, 1000) + b"--X\r\n")
            assert raw.recv(65536).startswith(b"HTTP/1.1 408")
            assert time.monotonic() - begun < 3


def test_a_client_that_does_not_read_is_cut_off(world: World) -> None:
    world.settings["limits"] = {"body_seconds": 0.5}
    _with_seal(world)
    daemon = world.start()
    body, media_type = _multipart(_sealing(), pack({**document_files(), "Doc_0/Res/a.bin": os.urandom(9 << 20)}))
    head = _head("/v1/documents/seal", media_type, len(body))
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(str(daemon.socket))
        raw.sendall(head + body)
        time.sleep(2)
        read = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := raw.recv(1 << 20):
                read += len(piece)
    assert 0 < read < 9 << 20
    assert list((daemon.state / "spool").iterdir()) == []
    assert "Traceback" not in daemon.said(), daemon.said()


def test_more_documents_than_places_wait_and_are_then_turned_away(world: World) -> None:
    world.settings["limits"] = {"body_seconds": 1.5, "documents_at_once": 2}
    _with_seal(world)
    daemon = world.start()
    held = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    head = b"POST /v1/documents/verify HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=X\r\n"
    for one in held:
        one.connect(str(daemon.socket))
        one.sendall(head + b"Content-Length: 1000\r\n\r\n")
    time.sleep(0.7)
    with daemon.agent() as agent:  # waits for a place until the slow ones are cut off
        assert agent.verify_document(pack(document_files()))["verdict"] == "indeterminate"
    for one in held:
        one.close()


def test_many_clients_at_once_are_all_served(world: World, vectors: Path) -> None:
    _with_seal(world)
    daemon = world.start()
    document = (vectors / "helloworld.ofd").read_bytes()
    outcomes: list[str] = []

    def work() -> None:
        with daemon.agent() as agent:
            sealed = agent.seal_document(document, seal=SEAL, placements=[at(1, 1, 1)])
            outcomes.append(agent.verify_document(sealed.document)["verdict"])

    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == ["valid"] * 40
    with daemon.agent() as agent:
        assert agent.records()["size"] == 80


def test_a_client_that_goes_away_disturbs_nobody(world: World) -> None:
    _with_seal(world)
    daemon = world.start()
    body, media_type = _multipart(_sealing(), pack(document_files()))
    head = _head("/v1/documents/seal", media_type, len(body))
    whole = head + body
    for cut in (10, len(head), len(head) + 300, len(whole) - 1, len(whole)):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(daemon.socket))
            raw.sendall(whole[:cut])
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(10)
    listener.connect(str(daemon.socket))
    listener.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"text/event-stream" in listener.recv(65536)
    listener.close()
    with daemon.agent() as agent:
        for _ in range(3):
            agent.seal_document(pack(document_files()), seal=SEAL, placements=[invisible()])
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.said(), daemon.said()
    assert list((daemon.state / "spool").iterdir()) == []


def test_no_room_for_a_document_is_named_going_in_and_coming_out(world: World) -> None:
    _with_seal(world)
    # Octets any file of the daemon may grow to: documents of over 8 MiB are kept in one.
    most = 4 << 20
    daemon = world.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
    with daemon.agent() as agent:
        big = pack({**document_files(), "Doc_0/Res/noise.bin": os.urandom(9 << 20)})
        just_under = pack({**document_files(), "Doc_0/Res/noise.bin": os.urandom((8 << 20) - 6000)})
        assert len(just_under) < 8 << 20
        for document in (big, just_under):
            with pytest.raises(AgentError) as refused:
                agent.seal_document(document, seal=SEAL, placements=[at(1, 1, 1)])
            assert refused.value.code == "spool_full"
        kinds = [(entry["kind"], entry["body"].get("reason")) for entry in agent.records()["records"]]
        assert kinds == [("intent", None), ("failed", "spool_full")]
    assert "Traceback" not in daemon.said(), daemon.said()


def test_a_seal_in_store_and_token_is_removed_from_the_store_once(world: World) -> None:
    certificate = world.add_signer()
    der = world.authority.make_seal([certificate])
    world.token.add_data(der, label="seal")
    daemon = world.start()
    with daemon.agent() as agent:
        agent.import_seal(der)
        (seal,) = agent.seals()["seals"]
        headers = {"Idempotency-Key": "remove"}
        answers = {_ask(daemon, "DELETE", f"/v1/seals/{seal['id']}", None, headers)[2] for _ in range(2)}
        assert len(answers) == 1
        with pytest.raises(AgentError) as refused:
            agent.remove_seal(seal["id"])
        assert refused.value.code == "not_supported"
        kinds = [(entry["kind"], entry["body"]["operation"]) for entry in agent.records()["records"]]
        assert kinds == [
            *(("intent", "import_seal"), ("admin", "import_seal")),
            *(("intent", "remove_seal"), ("admin", "remove_seal")),
            ("refused", "remove_seal"),
        ]
