"""The loopback listener and what is no plain request: odd, smuggled, endless and slow ones; no body is read before."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from agent_world import until
from loopback_parts import BODY_OCTETS, Behind, opened_listener, read_answer, refused
from sealagent.api.heads import MAX_HEAD


@pytest.fixture
def behind() -> Iterator[Behind]:
    """A listener in a thread of its own."""
    with opened_listener() as place:
        yield place


@pytest.mark.parametrize(
    "fields",
    [
        {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13", "Sec_WebSocket_Key": "AAAA"},
        {"Upgrade": "h2c"},
        {"Connection": "keep-alive, upgrade"},
        {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAMAAABkAAQAAP__"},
    ],
)
def test_no_other_protocol_is_spoken(behind: Behind, fields: dict[str, str]) -> None:
    refused(behind, behind.ask(target="/v1/events", **fields), "upgrade_refused")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"HTTP/1.1", b"HTTP/2.0"),
        (b" HTTP/1.1", b""),
        (b"GET /v1/status", b"GET http://127.0.0.1/v1/status"),
        (b"GET /v1/status", b"GET //evil.example/v1/status"),
        (b"GET /v1/status", b"GET *"),
        (b"GET /v1/status", b"CONNECT 127.0.0.1:22"),
        (b"GET /v1/status", b"GET /v1/status#x"),
        (b"GET /v1/status", b"GET /v1/st\xe4tus"),
        (b"GET /v1/status", b"GET  /v1/status"),
        (b"GET /v1/status", b"get /v1/status"),
        (b"GET", b"\r\nGET"),
        (b"Host:", b"Host :"),
        (b"\r\nHost:", b"\r\n Host:"),
        (b"\r\nOrigin", b"\nOrigin"),
        (b"\r\nOrigin", b"\rOrigin"),
        (b"Bearer", b"Bearer\r\n\tx"),
        (b"Bearer", b"Bearer\x00"),
        (b"\r\nOrigin", b"\r\nno colon\r\nOrigin"),
        (b"\r\nOrigin", b"\r\n: empty\r\nOrigin"),
        (b"\r\nOrigin", b"\r\nX\xc3\xa4: 1\r\nOrigin"),
    ],
)
def test_what_is_no_plain_request_isrefused(behind: Behind, before: bytes, after: bytes) -> None:
    head = behind.head()
    assert before in head
    refused(behind, behind.send(head.replace(before, after, 1)), "http_refused")
    assert behind.identified == []


@pytest.mark.parametrize(
    "fields",
    [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding:\tchunked",
        "Transfer-encoding: xchunked",
        "Content-Length: 2",
        "Content-Encoding: gzip",
        "Expect: 100-continue",
        "TE: trailers",
        "Trailer: X",
        "Idempotency-Key: a\r\nIdempotency-Key: b",
    ],
)
def test_a_body_has_one_length_and_no_other_framing(behind: Behind, fields: str) -> None:
    """Smuggling: nothing that two parsers could read in two ways comes through."""
    smuggled = b"0\r\n\r\nPOST /v1/documents/seal HTTP/1.1\r\n\r\n"
    head = behind.head("POST", "/v1/documents/seal", body=smuggled)
    head = head.removesuffix(b"\r\n") + fields.encode() + b"\r\n\r\n"
    answer = behind.send(head + smuggled)
    refused(behind, answer, "http_refused")
    assert answer.answers == 1
    assert behind.identified == []


@pytest.mark.parametrize("length", ["-1", "+2", "0x2", "2 2", "2,2", "", "2.0", "٢", "9" * 16])
def test_a_length_is_a_number(behind: Behind, length: str) -> None:
    head = behind.head("POST", "/v1/documents/seal", body=b"{}").replace(
        b"Content-Length: 2", f"Content-Length: {length}".encode()
    )
    refused(behind, behind.send(head + b"{}"), "http_refused")


def test_a_get_request_has_no_body(behind: Behind) -> None:
    refused(behind, behind.ask("GET", "/v1/seals", body=b"{}"), "http_refused")


@pytest.mark.parametrize("method", ["HEAD", "TRACE", "OPTIONS", "PROPFIND", "PUT", "PATCH"])
def test_methods_of_pages(behind: Behind, method: str) -> None:
    answer = behind.ask(method)
    refused(behind, answer, "method_not_allowed")


@pytest.mark.parametrize(
    "octets",
    [b"X-Long: " + b"a" * MAX_HEAD + b"\r\n", b"X: y\r\n" * 65, b"Cookie: " + b"a=b; " * 4000 + b"\r\n"],
)
def test_heads_are_bounded(behind: Behind, octets: bytes) -> None:
    head = behind.head().removesuffix(b"\r\n") + octets + b"\r\n"
    refused(behind, behind.send(head), "head_too_large")
    # Without any end: it is not waited for.
    refused(behind, behind.send(b"GET /v1/status HTTP/1.1\r\nX: " + b"a" * MAX_HEAD), "head_too_large")


def test_no_body_is_read_before_it_isrefused(behind: Behind) -> None:
    """The answer is there though not one octet of the body was sent; and of an endless one next to nothing is taken."""
    refusals = [
        ("loopback_host_refused", {"Host": "evil.example"}),
        ("origin_not_allowed", {"Origin": "https://evil.example"}),
        ("token_invalid", {"Authorization": "Bearer " + "u" * 43}),
        ("pairing_required", {"Authorization": None}),
        ("media_type_unsupported", {"Content_Type": "text/plain"}),
        ("body_too_large", {"Content_Length": str(BODY_OCTETS + 1)}),
        ("http_refused", {"Expect": "100-continue"}),
    ]
    for code, wrong in refusals:
        fields = {"Content_Length": "50000", **wrong}
        with socket.create_connection(("127.0.0.1", behind.port), 15) as raw:
            started = time.monotonic()
            raw.sendall(behind.head("POST", "/v1/documents/seal", body=b"", **fields))
            answer = read_answer(raw)
            took = time.monotonic() - started
        refused(behind, answer, code)
        assert took < 5, "it waited for the body"
        assert b" 100 " not in answer.octets


def test_of_an_endless_body_next_to_nothing_is_taken(behind: Behind) -> None:
    head = behind.head("POST", "/v1/documents/seal", body=b"", Content_Length="90000", Origin="https://evil.example")
    sent = 0
    with socket.create_connection(("127.0.0.1", behind.port), 15) as raw:
        raw.sendall(head)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError, TimeoutError):
            while sent < 512 << 20:
                sent += raw.send(b" " * 65536)
    assert sent < 64 << 20, "what the kernel's buffers hold, no more"
    assert behind.reached == []


def test_while_the_holder_is_asked_no_body_is_taken_in(behind: Behind) -> None:
    behind.hesitates = 2
    head = behind.head("POST", "/v1/documents/seal", body=b"", Content_Length="90000")
    with socket.create_connection(("127.0.0.1", behind.port), 15) as raw:
        raw.sendall(head)
        until(lambda: behind.identified)
        raw.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(1024):
                raw.send(b" " * 65536)
        [gate] = behind.listener.gates
        assert gate.held < 1 << 20
        # More than was announced: it is cut off.
        raw.settimeout(15)
        with contextlib.suppress(ConnectionResetError):
            assert b" 200 " not in raw.recv(65536)
    assert behind.reached == []


def test_a_slow_body_is_refused_at_once(behind: Behind) -> None:
    with socket.create_connection(("127.0.0.1", behind.port), 15) as raw:
        raw.sendall(behind.head("POST", "/v1/documents/seal", body=b"", Content_Length="9", Authorization=None))
        started = time.monotonic()
        for _ in range(3):
            with contextlib.suppress(ConnectionError):
                raw.send(b"{")
                time.sleep(0.05)
        answer = read_answer(raw)
    refused(behind, answer, "pairing_required")
    assert time.monotonic() - started < 5


def test_an_admitted_body_may_come_slowly_and_ends_where_it_was_said_to(behind: Behind) -> None:
    with socket.create_connection(("127.0.0.1", behind.port), 15) as raw:
        for octet in behind.head("POST", "/v1/documents/seal", body=b"{}"):
            raw.send(bytes([octet]))
        raw.send(b"{")
        time.sleep(0.1)
        raw.send(b"}")
        assert read_answer(raw).status == 200
    assert behind.reached.pop()[3] == b"{}"


def test_a_connection_carries_one_request(behind: Behind) -> None:
    """A second one behind the first, or inside what the first says is its body, is never looked at."""
    second = behind.head("POST", "/v1/documents/verify", body=b"{}") + b"{}"
    answer = behind.send(behind.head("POST", "/v1/documents/seal", body=b"{}") + b"{}" + second)
    refused(behind, answer, "http_refused")
    assert answer.answers == 1
    answer = behind.send(behind.head(Origin="null") + second)
    refused(behind, answer, "origin_not_allowed")
    assert answer.answers == 1
    with socket.create_connection(("127.0.0.1", behind.port), 15) as raw:
        raw.sendall(behind.head("POST", "/v1/documents/seal", body=b"{}"))
        until(lambda: behind.identified)
        raw.sendall(b"{}" + second)
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(65536).count(b"HTTP/1.1 200") <= 1
    assert [target for _, target, *_ in behind.reached if target != "/v1/documents/seal"] == []
