"""The loopback listener at its socket: what is refused before a body is read, and how it says so.

The whole daemon behind it, asked by a real browser, is in test_loopback_chromium.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from loopback_parts import ORIGIN, OTHER, TOKEN, Behind, dressed, free_port, opened_listener, read_answer, refused
from sealagent.api import loopback
from sealagent.api.loopback import LoopbackListener
from sealagent.api.pages import FAILURES, WINDOW_SECONDS
from sealagent.api.routing import ARRIVED
from sealagent.api.server import ROUTES
from sealagent.callers.model import Paired
from sealagent.errors import SealAgentError


@pytest.fixture
def behind() -> Iterator[Behind]:
    """A listener in a thread of its own."""
    with opened_listener() as place:
        yield place


def test_a_paired_page_of_an_allowed_origin_is_served(behind: Behind) -> None:
    for host in (f"127.0.0.1:{behind.port}", f"localhost:{behind.port}"):
        answer = behind.ask("POST", "/v1/documents/verify?x=1", body=b'{"a": 1}', Host=host, Idempotency_Key="k-1")
        assert answer.status == 200
        assert json.loads(answer.body) == {"got": 8}
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "SealAgent-Receipt" in answer.headers["access-control-expose-headers"]
        assert answer.headers["connection"] == "close"
        dressed(answer)
        method, target, headers, body, caller = behind.reached.pop()
        assert (method, target, body) == ("POST", "/v1/documents/verify?x=1", b'{"a": 1}')
        assert headers["Idempotency-Key"] == "k-1"
        assert (caller.pid, caller.uid, caller.origin) == (os.getpid(), os.getuid(), ORIGIN)
        assert caller.application == Paired("a1", "Office")


def test_nothing_but_what_was_understood_reaches_the_application(behind: Behind) -> None:
    odd = {
        "Cookie": "a=b",
        "X_Forwarded_For": "1.2.3.4",
        "SealAgent_Origin": "chrome-extension://x",
        "Range": "bytes=0-",
    }
    assert behind.ask("POST", "/v1/documents/seal", body=b"{}", **odd).status == 200
    _, _, headers, _, _ = behind.reached.pop()
    assert set(headers) == {"Host", "Origin", "Connection", "Content-Length", "Content-Type"}


def test_an_event_stream_is_read_as_it_comes(behind: Behind) -> None:
    answer = behind.ask(target="/v1/events")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert all(f"data: {number}".encode() in answer.body for number in range(3))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1:{port}.",
        "127.0.0.1.:{port}",
        "localhost.:{port}",
        "LOCALHOST:{port}",
        "Localhost:{port}",
        "127.0.0.2:{port}",
        "127.1:{port}",
        "2130706433:{port}",
        "0.0.0.0:{port}",
        "[::1]:{port}",
        "127.0.0.1:0{port}",
        "127.0.0.1:{port},evil.example",
        "localhost:{port} evil.example",
        "user@127.0.0.1:{port}",
        "x.localhost:{port}",
        "",
        None,
    ],
)
def test_only_the_exact_host_is_answered(behind: Behind, host: str | None) -> None:
    answer = behind.ask(Host=host.format(port=behind.port) if host is not None else None)
    refused(behind, answer, "loopback_host_refused")
    assert behind.identified == []


def test_two_hosts_are_no_host(behind: Behind) -> None:
    for second in (f"127.0.0.1:{behind.port}", "evil.example"):
        head = behind.head().replace(b"\r\nOrigin", f"\r\nhost: {second}\r\nOrigin".encode(), 1)
        refused(behind, behind.send(head), "loopback_host_refused")


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        "https://evil.example",
        "http://office.example",
        "https://office.example:443",
        "https://office.example:8443",
        "https://office.example/",
        "https://office.example.",
        "HTTPS://OFFICE.EXAMPLE",
        "https://office.example.evil.example",
        "https://evil.example/https://office.example",
        "https://office.example https://evil.example",
        "https://office.example, https://bank.example:8443",
        "file://",
        "*",
        "http://127.0.0.1:{port}",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_only_allowed_origins_are_answered(behind: Behind, origin: str | None, method: str) -> None:
    body = b"{}" if method == "POST" else None
    preflight = {"Access_Control_Request_Method": "POST"} if method == "OPTIONS" else {}
    said = origin.format(port=behind.port) if origin is not None else None
    answer = behind.ask(method, "/v1/documents/seal", body=body, Origin=said, **preflight)
    refused(behind, answer, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.headers
    assert behind.identified == []


def test_two_origins_are_none(behind: Behind) -> None:
    head = behind.head().replace(b"\r\nAuth", f"\r\nOrigin: {OTHER}\r\nAuth".encode(), 1)
    answer = behind.send(head)
    refused(behind, answer, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.headers


def test_origins_may_not_read_what_another_may(behind: Behind) -> None:
    answer = behind.ask(Origin=OTHER)
    assert answer.headers["access-control-allow-origin"] == OTHER
    assert behind.reached.pop()[4].origin == OTHER


@pytest.mark.parametrize(
    ("presented", "code"),
    [
        (None, "pairing_required"),
        ("", "pairing_required"),
        ("Basic dDp0", "pairing_required"),
        ("Bearer", "pairing_required"),
        (f"Bearer {'t' * 129}", "pairing_required"),
        (f"Bearer {TOKEN} x", "pairing_required"),
        ("Bearer " + "u" * 43, "token_invalid"),
    ],
)
def test_without_a_token_that_holds_nothing_is_done(behind: Behind, presented: str | None, code: str) -> None:
    for method, target in (("GET", "/v1/seals"), ("POST", "/v1/documents/seal"), ("GET", "/v1/events")):
        body = b"{}" if method == "POST" else None
        answer = behind.ask(method, target, body=body, Authorization=presented)
        refused(behind, answer, code)
        assert answer.headers["access-control-allow-origin"] == ORIGIN, "the page may read why"


def test_pairing_needs_no_token_but_all_the_rest(behind: Behind) -> None:
    for target in ("/v1/pairings", "/v1/pairings/p-1/complete"):
        assert behind.ask("POST", target, body=b"{}", Authorization=None).status == 200
        caller = behind.reached.pop()[4]
        assert caller.origin == ORIGIN
        assert caller.application is None
    # A token that is there all the same makes nobody of it.
    assert behind.ask("POST", "/v1/pairings", body=b"{}").status == 200
    assert behind.reached.pop()[4].application is None
    assert behind.identified == [None, None, None]
    for target in ("/v1/pairings/", "/v1/pairings/p-1", "/v1/pairings/../seals", "/v1/pairings/p/complete/x"):
        refused(behind, behind.ask("POST", target, body=b"{}", Authorization=None), "not_for_pages")
    refused(behind, behind.ask("POST", "/v1/pairings", body=b"{}", Origin="null"), "origin_not_allowed")


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "",
        "text/plain",
        "text/plain; charset=application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=X",
        "text/json",
        "application/json+x",
        "application/json, text/plain",
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_only_json_changes_anything(behind: Behind, media_type: str | None, method: str) -> None:
    target = "/v1/pairings" if method == "POST" else "/v1/grants/1"
    answer = behind.ask(method, target, body=b"{}", Content_Type=media_type)
    refused(behind, answer, "media_type_unsupported")
    assert behind.identified == [], "nobody was asked about a token"


def test_a_post_without_a_body_is_json_all_the_same(behind: Behind) -> None:
    refused(behind, behind.ask("POST", "/v1/batches/1/resume"), "media_type_unsupported")
    assert behind.ask("POST", "/v1/batches/1/resume", Content_Type="application/json").status == 200
    assert behind.ask("DELETE", "/v1/grants/1").status == 200


@pytest.mark.parametrize(
    "line",
    [
        "GET /v1/records",
        "GET /v1/ledger/export",
        "GET /v1/evidence/00",
        "GET /v1/trust",
        "GET /v1/pairings",
        "GET /",
        "GET /v2/seals",
        "GET /v1/",
        "GET /v1/seals/../records",
        "GET /v1/seals/%2e%2E/records",
        "GET /v1/seals/%2Frecords",
        "GET /v1/seals/1/image/x",
        "GET /v1/statuses",
        "GET /v1/seals.json",
        "POST /v1/policy/explain",
        "POST /v1/batches/1/x",
        "POST /v1/keys",
        "POST /v1/seals",
        "POST /v1/keys/1/request",
        "POST /v1/tokens/1/lock",
        "POST /v1/pairings/1",
        "DELETE /v1/seals/1",
        "DELETE /v1/batches/1",
        "DELETE /v1/trust/1",
        "DELETE /v1/grants/",
    ],
)
def test_pages_reach_what_sealing_needs_and_nothing_else(behind: Behind, line: str) -> None:
    method, target = line.split()
    refused(behind, behind.ask(method, target, body=b"{}" if method == "POST" else None), "not_for_pages")


def test_every_route_that_pages_reach_is_there(behind: Behind) -> None:
    """And of all routes of the agent these, no other."""
    reached = set()
    for route in ROUTES:
        target = re.sub(r"{\w+}", "x1", route.path)
        body = b"{}" if route.method == "POST" else None
        fields = {} if body is not None else {"Content_Type": "application/json"}
        if behind.ask(route.method, target, body=body, **fields).status == 200:
            reached.add(f"{route.method} {route.path}")
        behind.ahead += WINDOW_SECONDS
    assert reached == {
        "GET /v1/status",
        "GET /v1/tokens",
        "GET /v1/keys",
        "GET /v1/seals",
        "GET /v1/seals/{seal}",
        "GET /v1/seals/{seal}/image",
        "GET /v1/batches",
        "GET /v1/batches/{batch}",
        "GET /v1/events",
        "GET /v1/applications",
        "GET /v1/applications/{application}",
        "GET /v1/grants",
        "GET /v1/openapi.json",
        "POST /v1/documents/seal",
        "POST /v1/documents/verify",
        "POST /v1/seals/{seal}/signatures",
        "POST /v1/keys/{key}/signatures",
        "POST /v1/batches",
        "POST /v1/batches/{batch}/items/{number}/document",
        "POST /v1/batches/{batch}/run",
        "POST /v1/batches/{batch}/resume",
        "POST /v1/batches/{batch}/cancel",
        "POST /v1/pairings",
        "POST /v1/pairings/{pairing}/complete",
        "POST /v1/grants",
        "DELETE /v1/applications/{application}",
        "DELETE /v1/grants/{grant}",
    }


def test_preflights(behind: Behind) -> None:
    asked = {"Access_Control_Request_Method": "POST", "Authorization": None}
    wanted = "authorization, content-type,Idempotency-Key"
    answer = behind.ask("OPTIONS", "/v1/documents/seal", **asked, Access_Control_Request_Headers=wanted)
    assert answer.status == 204
    assert answer.body == b""
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type, idempotency-key"
    assert "access-control-allow-private-network" not in answer.headers
    dressed(answer)
    private = {"Access_Control_Request_Private_Network": "true"}
    answer = behind.ask("OPTIONS", "/v1/documents/seal", **asked, **private)
    assert answer.headers["access-control-allow-private-network"] == "true"
    for odd in ("cookie", "x-evil", "authorization, sealagent-origin", "*", "content-type\x01"):
        answer = behind.ask("OPTIONS", "/v1/seals", **asked, Access_Control_Request_Headers=odd)
        refused(behind, answer, "http_refused" if "\x01" in odd else "preflight_refused")
        assert "access-control-allow-headers" not in answer.headers
    for method in ("TRACE", "CONNECT", "PUT", "get", "", "POST, GET"):
        answer = behind.ask("OPTIONS", "/v1/seals", **{**asked, "Access_Control_Request_Method": method})
        assert answer.code in ("preflight_refused", "method_not_allowed"), method
    answer = behind.ask("OPTIONS", "/v1/seals", **asked, **private, Host="evil.example")
    refused(behind, answer, "loopback_host_refused")
    assert "access-control-allow-private-network" not in answer.headers
    assert behind.identified == []


def test_an_origin_that_guesses_tokens_is_turned_away_and_others_are_not(behind: Behind) -> None:
    for number in range(FAILURES):
        assert behind.ask(Authorization=f"Bearer {number:043}").code == "token_invalid"
    for token in (TOKEN, "u" * 43):
        answer = behind.ask(Authorization=f"Bearer {token}")
        assert answer.code == "too_many_attempts"
        assert answer.status == 429
        assert 0 < int(answer.headers["retry-after"]) <= WINDOW_SECONDS
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert len(behind.identified) == FAILURES, "the right token was not even looked at"
    assert behind.ask(Origin=OTHER).status == 200
    assert behind.ask("POST", "/v1/pairings", body=b"{}", Authorization=None).code == "too_many_attempts"
    behind.ahead = WINDOW_SECONDS
    assert behind.ask().status == 200


def test_an_origin_that_asks_to_be_paired_again_and_again_is_turned_away(behind: Behind) -> None:
    for _ in range(FAILURES):
        assert behind.ask("POST", "/v1/pairings", body=b"{}", Authorization=None).status == 200
    assert behind.ask("POST", "/v1/pairings", body=b"{}", Authorization=None).code == "too_many_attempts"


def test_another_user_is_refused_before_anything_is_read(behind: Behind) -> None:
    behind.peer_uid = os.getuid() + 1
    with socket.create_connection(("127.0.0.1", behind.port), 15) as raw:
        answer = read_answer(raw)  # nothing was sent at all
    refused(behind, answer, "caller_not_allowed")


def test_a_program_that_is_gone_gets_nothing(behind: Behind) -> None:
    """A child sends a request and ends at once; nobody holds the other end when it is looked for, or nobody reads."""
    octets = behind.head("POST", "/v1/documents/seal", body=b"{}") + b"{}"
    script = f"import socket,sys; s=socket.create_connection(('127.0.0.1',{behind.port})); s.sendall({octets!r})"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)
    deadline = time.monotonic() + 10
    while behind.listener.gates:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert behind.ask().status == 200


def test_a_fault_lets_nobody_in(behind: Behind, caplog: pytest.LogCaptureFixture) -> None:
    behind.fault = RuntimeError("nobody thought of this")
    refused(behind, behind.ask(), "internal_error")
    assert "nobody thought of this" in caplog.text
    assert TOKEN not in caplog.text


def test_connections_are_bounded_and_silent_ones_end(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(loopback, "HEAD_SECONDS", 0.5)
    with contextlib.ExitStack() as open_ones:
        silent = [open_ones.enter_context(socket.create_connection(("127.0.0.1", behind.port), 15)) for _ in range(4)]
        with socket.create_connection(("127.0.0.1", behind.port), 15) as raw:
            assert read_answer(raw).code == "too_many_connections"
        for raw in silent:
            assert read_answer(raw).code == "head_timeout"
    assert behind.ask().status == 200


def test_a_page_cannot_fill_the_log(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sealagent.api.loopback")
    monkeypatch.setattr(loopback, "LOG_SECONDS", 1e9)
    for _ in range(loopback.LOG_LINES + 20):
        assert behind.ask(Origin="null").code == "origin_not_allowed"
    assert caplog.text.count("origin_not_allowed") == loopback.LOG_LINES
    monkeypatch.setattr(loopback, "LOG_SECONDS", 0)
    behind.ask(Origin="null")
    assert "20 further refusals of pages were not logged" in caplog.text
    assert caplog.text.count("origin_not_allowed") == loopback.LOG_LINES + 1


def test_it_listens_on_this_machine_only_and_not_beside_another(behind: Behind) -> None:
    with socket.socket() as beside:
        beside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            beside.bind(("127.0.0.1", behind.port))
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if int(port, 16) == behind.port and line.split()[3] == "0A":
                listening.append((table, address))
    assert listening == [("tcp", "0100007F" if sys.byteorder == "little" else "7F000001")]


async def _cannot_listen(port: int) -> str:
    app = web.Application()
    app[ARRIVED] = weakref.WeakKeyDictionary()
    rules: Any = None
    listener = LoopbackListener(app, port, rules, rules)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        assert runner.server is not None
        with pytest.raises(SealAgentError) as caught:
            await listener.start(runner.server)
        return caught.value.code
    finally:
        await runner.cleanup()


def test_a_port_that_is_taken_is_named(behind: Behind) -> None:
    assert asyncio.run(_cannot_listen(behind.port)) == "loopback_unusable"


def test_a_unit_without_network_sockets_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    here = SimpleNamespace(socket=refuse, AF_INET=socket.AF_INET, SOCK_STREAM=socket.SOCK_STREAM)
    monkeypatch.setattr(loopback, "socket", here)
    assert asyncio.run(_cannot_listen(free_port())) == "loopback_unusable"
