"""What an extension may say, and what of the agent it reaches."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealagent.api.server import ROUTES
from sealagent.browser.requests import Cancel, Part, Request, ident_of, read_json, read_message
from sealagent.browser.routes import BRIDGED, MAX_PATH, bridged_path
from sealagent.errors import FormatError, SealAgentError

T = TypeVar("T")
PROJECT = Path(__file__).resolve().parents[2]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = ["id", "method", "path", "body", "token", "idempotency_key", "page", "part", "last", "data", "cancel", "x"]


def _found_or_code(call: Callable[[], T]) -> T | str:
    """Return what a call returns, or the code of the named error it raises."""
    try:
        return call()
    except SealAgentError as error:
        return error.code


@given(st.binary(max_size=200))
def test_any_octets_are_an_object_or_a_named_error(octets: bytes) -> None:
    found = _found_or_code(lambda: read_json(octets))
    assert isinstance(found, dict) or found == "message_invalid"


@given(st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=8))
def test_any_object_is_a_message_or_a_named_error(message: dict[str, Any]) -> None:
    found = _found_or_code(lambda: read_message(message))
    if isinstance(found, str):
        assert found in ("message_invalid", "route_not_bridged")
    else:
        assert found.id == message["id"]


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"[]",
        b"null",
        b'{"id": 1',
        b'{"id": 1} {}',
        b"\xef\xbb\xbf{}",
        b'{"id": "\xff"}',
        '{"id": 1}'.encode("utf-16"),
        b'{"id": 1, "id": 2}',
        b'{"body": {"a": 1, "a": 2}}',
        b'{"id": NaN}',
        b'{"id": -Infinity}',
        b'{"id": ' + b"9" * 5000 + b"}",
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b"[" * 1_000_000,
    ],
    ids=range(15),
)
def test_hostile_octets(octets: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        read_json(octets)
    assert caught.value.code == "message_invalid"
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("ident", [None, -1, 2**53, 1.0, "1", True, [], {}])
def test_ids_are_plain_numbers(ident: object) -> None:
    with pytest.raises(FormatError):
        ident_of({"id": ident})
    assert ident_of({"id": 2**53 - 1}) == 2**53 - 1


@pytest.mark.parametrize(
    "change",
    [
        {"method": "TRACE"},
        {"method": 1},
        {"path": None},
        {"path": 5},
        {"body": []},
        {"body": "x"},
        {"method": "GET"},
        {"token": "two words"},
        {"token": "a\r\nHost: b"},
        {"token": ""},
        {"token": "é"},
        {"token": "x" * 257},
        {"idempotency_key": "x" * 129},
        {"idempotency_key": 1},
        {"page": "https://a\n"},
        {"page": "x" * 513},
        {"headers": {}},
        {"x" * 5000: 1},
        {"cancel": True},
        {"part": 0},
    ],
    ids=str,
)
def test_requests_are_strict(change: dict[str, Any]) -> None:
    good = {"id": 1, "method": "POST", "path": "/v1/documents/verify", "body": {}}
    assert isinstance(read_message(good), Request)
    with pytest.raises(FormatError) as caught:
        read_message({**good, **change})
    assert caught.value.code == "message_invalid"
    assert len(caught.value.message) < 300


def test_cancels_and_parts() -> None:
    assert read_message({"id": 3, "cancel": True}) == Cancel(3)
    assert read_message({"id": 3, "part": 0, "last": True, "data": "YQ=="}) == Part(3, 0, True, "YQ==")
    for wrong in ({"cancel": False}, {"cancel": 1}, {"part": True, "last": True, "data": ""}, {"part": 0}):
        with pytest.raises(FormatError):
            read_message({"id": 3, **wrong})
    for nested in ({"cancel": True}, {"part": 0, "last": True, "data": ""}):
        with pytest.raises(FormatError):
            read_message({"id": 3, **nested}, assembled=True)


def test_secrets_and_content_are_in_no_repr() -> None:
    request = read_message(
        {"id": 1, "method": "POST", "path": "/v1/documents/verify", "body": {"a": "content"}, "token": "secret"}
    )
    part = read_message({"id": 1, "part": 0, "last": False, "data": "Y29udGVudA=="})
    assert "content" not in repr(request)
    assert "secret" not in repr(request)
    assert "Y29" not in repr(part)


def test_every_bridged_route_is_reached_and_named() -> None:
    for method, template in sorted(BRIDGED):
        path = template.replace("{}", "a%3Ab%2Fc")
        assert bridged_path(method, path) == (template, path)


def test_what_is_bridged_is_there_and_documented() -> None:
    served = {(route.method, re.sub(r"\{\w+\}", "{}", route.path)) for route in ROUTES}
    assert served >= BRIDGED
    documented = (PROJECT / "docs" / "native-messaging.md").read_text(encoding="utf-8")
    for _, template in BRIDGED:
        named = re.escape(template).replace(r"\{\}", r"\{\w+\}")
        assert re.search(rf"{named}`", documented), template


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/tokens"),
        ("POST", "/v1/tokens/x/pin"),
        ("POST", "/v1/tokens/x/unblock"),
        ("POST", "/v1/tokens/x/lock"),
        ("POST", "/v1/keys"),
        ("PUT", "/v1/keys/x/certificate"),
        ("POST", "/v1/seals"),
        ("DELETE", "/v1/seals/x"),
        ("GET", "/v1/seals/x/file"),
        ("POST", "/v1/trust"),
        ("DELETE", "/v1/trust/x"),
        ("GET", "/v1/records"),
        ("GET", "/v1/ledger/export"),
        ("GET", "/v1/grants"),
        ("POST", "/v1/grants"),
        ("DELETE", "/v1/grants/x"),
        ("GET", "/v1/applications"),
        ("DELETE", "/v1/applications/x"),
        ("POST", "/v1/policy/explain"),
        ("POST", "/v1/status"),
        ("DELETE", "/v1/records/1"),
        ("GET", "/v1/seals/"),
        ("GET", "/v1/seals/../tokens"),
        ("GET", "/v1/seals/%2e%2e"),
        ("GET", "/v1/seals/%2E"),
        ("GET", "/v1//status"),
        ("GET", "//v1/status"),
        ("GET", "/v1/status/"),
        ("GET", "/V1/status"),
        ("GET", "/v1/%73tatus/x"),
    ],
)
def test_nothing_else_is_reached(method: str, path: str) -> None:
    with pytest.raises(SealAgentError) as caught:
        bridged_path(method, path)
    assert caught.value.code == "route_not_bridged"


@pytest.mark.parametrize(
    "path", ["", "v1/status", "http://x/v1/status", "/v1/status\r\n", "/v1/é", "/v1/status#x", "/v1/a b", "/" * 3000]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(SealAgentError):
        bridged_path("GET", path)


@given(st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH"]), st.text(max_size=80))
def test_what_is_sent_is_always_one_of_the_bridged_routes(method: str, tail: str) -> None:
    found = _found_or_code(lambda: bridged_path(method, f"/v1/{tail}"))
    if isinstance(found, str):
        assert found in ("route_not_bridged", "message_invalid")
        return
    template, sent = found
    pattern = re.escape(template).replace(r"\{\}", r"[A-Za-z0-9._~%-]+")
    assert (method, template) in BRIDGED
    assert re.fullmatch(pattern, sent.partition("?")[0])
    assert sent.isascii()
    assert not {".", ".."} & set(sent.split("/"))


def test_segments_are_encoded_anew() -> None:
    assert bridged_path("GET", "/v1/seals/a;b@c:d")[1] == "/v1/seals/a%3Bb%40c%3Ad"
    assert bridged_path("GET", "/v1/seals/%E5%8D%B0?x=1&y=2")[1] == "/v1/seals/%E5%8D%B0?x=1&y=2"
    assert bridged_path("GET", "/v1/seals/%ff")[1] == "/v1/seals/%FF"
    with pytest.raises(FormatError):
        bridged_path("GET", "/v1/seals/" + "a" * MAX_PATH)


def test_a_body_is_kept_as_it_came() -> None:
    body = {"request": {"seal": "公章", "placements": [{"type": "invisible"}]}, "document": "UEs="}
    octets = json.dumps({"id": 1, "method": "POST", "path": "/v1/documents/seal", "body": body}).encode()
    found = read_message(read_json(octets))
    assert isinstance(found, Request)
    assert found.body == body
