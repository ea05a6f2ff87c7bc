"""Heads of requests from anywhere: each ends in a name or in something that is written back as it was understood."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from sealagent.api.heads import END, MAX_HEAD, Head, parse_head, write_head
from sealagent.api.pages import PageRules, preflight_headers
from sealagent.callers.model import Paired
from sealagent.callers.peer import Caller
from sealagent.errors import SealAgentError

ORIGIN = "https://office.example"
HOST = "127.0.0.1:18543"

octets = st.one_of(
    st.binary(max_size=400),
    st.lists(
        st.sampled_from(
            [
                *(
                    b"GET ",
                    b"POST ",
                    b"OPTIONS ",
                    b"/v1/seals",
                    b"/v1/pairings",
                    b"http://x",
                    b" HTTP/1.1",
                    b" HTTP/1.0",
                ),
                *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b"\x00", b"\xff", b"%2e", b"/../"),
                *(b"Host: 127.0.0.1:18543\r\n", b"Origin: https://office.example\r\n", b"Origin: null\r\n"),
                *(b"Authorization: Bearer ttt\r\n", b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n"),
                *(b"Content-Type: application/json\r\n", b"Upgrade: x\r\n", b"Connection: close\r\n"),
                b"Access-Control-Request-Method: POST\r\n",
            ]
        ),
        max_size=24,
    ).map(b"".join),
)


@given(octets)
@example(b"GET / HTTP/1.1" + b"\r\nX: y" * 65)
@example(b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD)
def test_a_head_is_named_or_understood(head: bytes) -> None:
    code, found = "", None
    try:
        found = parse_head(head + END)
    except SealAgentError as error:
        code = error.code
    assert code in ("http_refused", "head_too_large") or found is not None
    if found is None:
        return
    fields = [(name, value) for name, values in found.fields.items() for value in values]
    assert parse_head(write_head(found.method, found.target, fields)) == found
    assert found.target.startswith("/")
    assert not found.target.startswith("//")
    assert not any(mark in value for _, value in fields for mark in "\r\n\0")


async def _identify(caller: Caller, token: str | None) -> Caller:
    return replace(caller, application=Paired("a", "A")) if token is not None else caller


def _rules() -> PageRules:
    return PageRules(
        owner_uid=os.getuid(),
        hosts=frozenset({HOST}),
        origins=frozenset({ORIGIN}),
        identify=_identify,
        body_octets=1000,
        monotonic=lambda: 0.0,
    )


CALLER = Caller(os.getuid(), os.getgid(), os.getpid(), "/usr/bin/browser", 1)


@given(octets)
@example(
    b"POST /v1/documents/seal HTTP/1.1\r\nHost: 127.0.0.1:18543\r\nOrigin: https://office.example\r\n"
    b"Authorization: Bearer ttt\r\nContent-Type: application/json\r\nContent-Length: 2"
)
@example(
    b"OPTIONS /v1/seals HTTP/1.1\r\nHost: 127.0.0.1:18543\r\nOrigin: https://office.example\r\n"
    b"Access-Control-Request-Method: POST"
)
def test_nothing_is_admitted_that_is_not_wholly_right(head: bytes) -> None:
    rules = _rules()
    try:
        found: Head = parse_head(head + END)
        rules.check_host(found)
        origin = rules.check_origin(found)
        if found.values("access-control-request-method"):
            told = dict(preflight_headers(found, origin))
            assert told["Access-Control-Allow-Origin"] == ORIGIN
            return
        admitted = asyncio.run(rules.admit(found, CALLER, origin))
    except SealAgentError:
        return
    assert found.values("host") == (HOST,)
    assert found.values("origin") == (ORIGIN,)
    assert admitted.caller.origin == ORIGIN
    assert admitted.caller.application is not None or found.path.startswith("/v1/pairings")
    assert not found.values("transfer-encoding")
    assert not found.values("upgrade")
    if found.method == "POST":
        assert found.values("content-type") == ("application/json",)
    assert {name.lower() for name, _ in admitted.fields} <= {
        "host",
        "origin",
        "connection",
        "content-length",
        "content-type",
        "idempotency-key",
    }
