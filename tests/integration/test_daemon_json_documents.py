"""Documents inside JSON, on the Unix socket: what web pages send, from a client that takes no pages' way."""

from __future__ import annotations

import base64
import http.client
import json
import zipfile
from typing import Any

import pytest

from agent_world import Daemon, World
from ofd_samples import document_files, pack
from sealagent.client.transport import _UnixConnection

SEAL = "测试单位公章"


@pytest.fixture
def daemon(world: World) -> Daemon:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    return world.start()


def _ask(daemon: Daemon, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, str, Any]:
    """Return status, media type and the JSON that came."""
    connection = _UnixConnection(daemon.socket, 30)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", **(headers or {})})
        response: http.client.HTTPResponse = connection.getresponse()
        return response.status, str(response.headers["Content-Type"]), json.loads(response.read())
    finally:
        connection.close()


def _sealing(document: bytes, **more: Any) -> dict[str, Any]:
    return {
        "seal": SEAL,
        "placements": [{"type": "invisible"}],
        "content": base64.b64encode(document).decode(),
        **more,
    }


def test_a_document_is_sealed_and_verified(daemon: Daemon) -> None:
    original = pack(document_files())
    status, media_type, answer = _ask(
        daemon, "/v1/documents/seal", json.dumps(_sealing(original, name="合同.ofd")), {"Idempotency-Key": "k1"}
    )
    assert (status, media_type) == (200, "application/json"), answer
    assert set(answer) == {"receipt", "document"}
    sealed = base64.b64decode(answer["document"], validate=True)
    assert answer["receipt"]["record"] == 2
    # The same again is the same; in pieces and with the string written otherwise, too; another is a conflict.
    body = json.dumps(_sealing(original, name="合同.ofd")).encode().replace(b"/", rb"\/")
    for octets in (body.replace(rb"\/", b"/"), iter([body[at : at + 1000] for at in range(0, len(body), 1000)])):
        again = _ask(daemon, "/v1/documents/seal", octets, {"Idempotency-Key": "k1"})
        assert again == (200, media_type, answer)
    other = json.dumps(_sealing(original + b"\0", name="合同.ofd"))
    assert _ask(daemon, "/v1/documents/seal", other, {"Idempotency-Key": "k1"})[2]["code"] == "idempotency_conflict"
    asked = {"content": answer["document"], "name": "合同.ofd"}
    status, _, report = _ask(daemon, "/v1/documents/verify", json.dumps(asked))
    assert (status, report["verdict"], report["file"]) == (200, "valid", "合同.ofd")
    with daemon.agent() as agent:
        assert agent.records()["size"] == 2
    assert sealed[:2] == b"PK"


def test_a_large_one_goes_through_files(daemon: Daemon) -> None:
    """More than is kept in memory, of the document and of the answer; and nothing is left where they were."""
    large = pack({**document_files(), "Doc_0/Res/noise.bin": bytes(9 << 20)}, method=zipfile.ZIP_STORED)
    assert len(large) > 8 << 20
    status, _, answer = _ask(daemon, "/v1/documents/seal", json.dumps(_sealing(large)))
    assert status == 200, answer
    status, _, report = _ask(daemon, "/v1/documents/verify", json.dumps({"content": answer["document"]}))
    assert (status, report["verdict"]) == (200, "valid")
    assert list((daemon.state / "spool").iterdir()) == []


def test_what_is_wrong_is_named_and_not_recorded(world: World) -> None:
    world.settings["limits"] = {"document_bytes": 100_000, "json_bytes": 2048}
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    daemon = world.start()
    small = pack(document_files())
    for body, code, field in (
        ({**_sealing(small), "content": 7}, "request_invalid", "content"),
        ({**_sealing(small), "content": "####"}, "request_invalid", "content"),
        ({**_sealing(small), "seal": None}, "request_invalid", "seal"),
        ({**_sealing(small), "odd": 1}, "request_invalid", "odd"),
        ({"content": _sealing(small)["content"]}, "request_invalid", "seal"),
        (_sealing(small, name="n" * 4096), "body_too_large", None),
        (_sealing(bytes(100_001)), "body_too_large", None),
        (_sealing(b"no ofd"), "ofd_not_zip", None),
    ):
        status, media_type, problem = _ask(daemon, "/v1/documents/seal", json.dumps(body))
        assert (problem["code"], problem.get("field")) == (code, field)
        assert media_type.startswith("application/problem+json")
        assert status == problem["status"]
    status, _, problem = _ask(daemon, "/v1/documents/seal", b'{"content": "AAAA"')
    assert problem["code"] == "request_invalid"
    with daemon.agent() as agent:
        assert agent.records()["size"] == 0
