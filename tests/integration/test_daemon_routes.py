"""The contract of the socket: OpenAPI, answers as documented, and named errors for bad input on every route."""

from __future__ import annotations

import http.client
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agent_world import Daemon, World
from sealagent.api import messages
from sealagent.api.server import ROUTES, openapi_document
from sealagent.catalog import CATALOG
from sealagent.client import at


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def _ask(daemon: Daemon, method: str, path: str, body: bytes | None, media_type: str | None) -> tuple[int, str, bytes]:
    connection = _Connection(daemon.socket)
    try:
        connection.request(method, path, body, {"Content-Type": media_type} if media_type else {})
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", ""), response.read()
    finally:
        connection.close()


@pytest.fixture
def daemon(world: World) -> Daemon:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    return world.start()


def _multipart(*parts: tuple[str, bytes]) -> tuple[bytes, str]:
    body = b"".join(
        b'--X\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + content + b"\r\n"
        for name, content in parts
    )
    return body + b"--X--\r\n", "multipart/form-data; boundary=X"


def _bad_bodies(document: bool) -> Iterator[tuple[bytes | None, str | None]]:
    noise = random.Random(38540).randbytes(5000)
    deep = b"[" * 100_000
    if not document:
        yield from ((None, None), (b"", "application/json"), (b"{}", "text/plain"), (b"{", "application/json"))
        yield from ((noise, "application/json"), (deep, "application/json"), (b"[1]", "application/json"))
        yield (b'{"unknown": 1}', "application/json")
        yield (b'{"' + b"a" * (2 << 20) + b'": 1}', "application/json")
        return
    yield from ((None, None), (b"", "multipart/form-data"), (b"{}", "application/json"), (noise, "multipart/form-data"))
    yield (noise, "multipart/form-data; boundary=X")
    yield _multipart(("document", b"x"))
    yield _multipart(("request", b"{"), ("document", b"x"))
    yield _multipart(("request", deep), ("document", b"x"))
    yield _multipart(("request", b'{"unknown": 1}'), ("document", b"x"))
    good = b'{"name": "a"}'
    seal = '{"seal": "测试单位公章", "placements": [{"type": "invisible"}]}'.encode()
    for request in (good, seal):
        yield _multipart(("request", request))
        yield _multipart(("request", request), ("document", b""))
        yield _multipart(("request", request), ("document", noise))
        yield _multipart(("request", request), ("document", b"PK\x03\x04" + noise))
        yield _multipart(("request", request), ("document", b"x"), ("more", b"x"))
        body, media_type = _multipart(("request", request), ("document", noise))
        yield body[:-300], media_type


def test_bad_input_to_every_route_ends_in_a_named_error(daemon: Daemon) -> None:
    with daemon.agent() as agent:
        key = agent.keys()[0]["id"]
        seal = agent.seals()["seals"][0]["id"]
    asked = 0
    for route in ROUTES:
        if route.method == "GET":
            continue
        path = route.path.replace("{key}", key).replace("{seal}", seal).replace("{token}", "nothing-like-it")
        if route.request is None and route.method == "DELETE":
            path = path.replace(seal, "%00%ff")
        for body, media_type in _bad_bodies(route.document):
            status, kind, answer = _ask(daemon, route.method, path, body, media_type)
            assert 400 <= status < 500, (route.path, body and body[:60], status, answer[:200])
            assert kind.startswith("application/problem+json")
            problem = messages.ProblemOut.model_validate_json(answer)
            assert problem.code in CATALOG
            assert problem.code != "internal_error"
            asked += 1
    assert asked > 80
    with daemon.agent() as agent:
        assert agent.records()["size"] == 0


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/", "not_found"),
        ("/v1/nothing", "not_found"),
        ("/v1/../../etc/passwd", "not_found"),
        ("/v1/seals/%2e%2e%2f%2e%2e%2fetc", "seal_not_found"),
        ("/v1/seals/" + "a" * 2000, "seal_not_found"),
        ("/v1/records/0", "record_not_found"),
        ("/v1/records/-1", "request_invalid"),
        ("/v1/records/99999999999999999999", "request_invalid"),
        ("/v1/records?after=x", "request_invalid"),
        ("/v1/records?limit=1000000", "request_invalid"),
    ],
)
def test_bad_names_and_numbers(daemon: Daemon, path: str, code: str) -> None:
    _, kind, answer = _ask(daemon, "GET", path, None, None)
    assert kind.startswith("application/problem+json")
    assert json.loads(answer)["code"] == code


def test_a_wrong_method_says_which_are_right(daemon: Daemon) -> None:
    status, _, answer = _ask(daemon, "PATCH", "/v1/tokens", b"", None)
    assert status == 405
    assert "GET" in json.loads(answer)["detail"]


def test_answers_are_as_documented(daemon: Daemon, vectors: Path) -> None:
    with daemon.agent() as agent:
        sealed = agent.seal_document(vectors / "helloworld.ofd", seal="测试单位公章", placements=[at(1, 3, 3)])
        key = agent.keys()[0]["id"]
        answers: list[tuple[type[BaseModel], Any]] = [
            (messages.StatusOut, agent.status()),
            (messages.TokensOut, agent.tokens()),
            (messages.KeysOut, {"keys": agent.keys()}),
            (messages.SealsOut, agent.seals()),
            (messages.SealOut, agent.seal("测试单位公章")),
            (messages.ReceiptOut, sealed.receipt),
            (messages.ReportOut, agent.verify_document(sealed.document)),
            (messages.ReportOut, agent.verify_document(vectors / "hello-integrity.ofd")),
            (messages.RecordsOut, agent.records()),
            (messages.RecordOut, agent.record(1)),
            (messages.CheckpointOut, agent.checkpoint()),
            (messages.ReceiptOut, agent.sign_digests([bytes(32)], key=key)[0].receipt),
        ]
        for model, answer in answers:
            model.model_validate(answer)
        assert agent.openapi() == json.loads(json.dumps(openapi_document()))
        assert agent.seal_image("测试单位公章").startswith(b"\x89PNG")


def test_the_openapi_document_is_whole_and_the_one_in_the_tree() -> None:
    document = openapi_document()
    kept = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
    assert json.loads(kept.read_text(encoding="utf-8")) == json.loads(json.dumps(document)), "run `make openapi`"
    assert document["openapi"] == "3.1.0"
    text = json.dumps(document)
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in document["components"]["schemas"]
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert len(operations) == len(ROUTES)
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert "pin" not in {
        name.lower()
        for model in document["components"]["schemas"].values()
        for name in model.get("required", [])
        if model.get("title", "").endswith("In")
    }
