"""HTTP for the judge's questions: each way a server can be bad ends in a named error, in bounded time."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sealagent.errors import SealAgentError
from sealagent.status.fetch import HOST_REST_SECONDS, QUESTIONS_AT_ONCE, Fetcher
from status_parts import Answer, Asked, Reply, Seconds, absent, serving, silent

SHORT = 0.4
"""Seconds that the fetcher of these tests waits."""
BOUND = 3.0
"""Seconds within which everything ends, on a busy machine too."""


@pytest.fixture
def fetch() -> Iterator[Fetcher]:
    fetcher = Fetcher(timeout=SHORT)
    yield fetcher
    fetcher.close()


def hello(reply: Reply, asked: Asked) -> None:
    reply.octets(b"hello")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "sealagent-fetch"]


def failing(fetcher: Fetcher, url: str, limit: int = 1000) -> SealAgentError:
    begun = time.monotonic()
    with pytest.raises(SealAgentError) as caught:
        fetcher(url, None, None, limit)
    assert time.monotonic() - begun < BOUND
    return caught.value


def test_it_gets_without_a_body_and_posts_with_one(fetch: Fetcher) -> None:
    with serving(hello) as server:
        assert fetch(f"{server.url}/a%2Fb?x=1", None, None, 5) == b"hello"
        assert fetch(server.url, b"question", "application/ocsp-request", 5) == b"hello"
        get, post = server.asked
    assert (get.method, get.path, get.query, get.body) == ("GET", "/a%2Fb", {"x": "1"}, b"")
    assert (post.method, post.body, post.headers["Content-Type"]) == ("POST", b"question", "application/ocsp-request")
    assert get.headers["Accept-Encoding"] == "identity"


def test_no_thread_before_the_first_question_and_none_after_close() -> None:
    fetcher = Fetcher()
    assert threads() == []
    fetcher.close()  # nothing to end
    fetcher = Fetcher()
    with serving(hello) as server:
        fetcher(server.url, None, None, 5)
        assert threads() == ["sealagent-fetch"]
        fetcher.close()
        assert threads() == []
        fetcher.close()
        assert failing(fetcher, server.url).code == "service_unreachable"


def test_it_refuses_to_hold_up_an_event_loop(fetch: Fetcher) -> None:
    async def wrong() -> None:
        fetch("http://127.0.0.1:1", None, None, 5)

    with pytest.raises(RuntimeError, match="event loop"):
        asyncio.run(wrong())
    assert threads() == []

    async def right(url: str) -> bytes:
        return await asyncio.to_thread(fetch, url, None, None, 5)

    with serving(hello) as server:
        assert asyncio.run(right(server.url)) == b"hello"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/x",
        "http:///nohost",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://[::1/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/a\r\nHost: other",
        "http://例子.cn/",
        "",
        "http://127.0.0.1/" + "a" * 3000,
    ],
)
def test_addresses_that_are_not_asked(fetch: Fetcher, url: str) -> None:
    error = failing(fetch, url)
    assert error.code == "service_unreachable"
    assert len(error.message) < 300
    assert threads() == []


def redirect(reply: Reply, asked: Asked) -> None:
    reply.octets(b"", 302, Location="/elsewhere")


def slow_drip(reply: Reply, asked: Asked) -> None:
    reply.send_response(200)
    reply.end_headers()
    while not reply.server.stopping.wait(0.05):
        reply.wfile.write(b".")
        reply.wfile.flush()


def endless(reply: Reply, asked: Asked) -> None:
    reply.send_response(200)
    reply.end_headers()
    while not reply.server.stopping.is_set():
        reply.wfile.write(bytes(65536))


def endless_headers(reply: Reply, asked: Asked) -> None:
    reply.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not reply.server.stopping.is_set():
        reply.wfile.write(b"X-More: " + b"a" * 1000 + b"\r\n")


def never(reply: Reply, asked: Asked) -> None:
    reply.server.stopping.wait()


def garbage(reply: Reply, asked: Asked) -> None:
    reply.wfile.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    reply.close_connection = True


def nothing(reply: Reply, asked: Asked) -> None:
    reply.close_connection = True


def cut_off(reply: Reply, asked: Asked) -> None:
    reply.send_response(200)
    reply.send_header("Content-Length", "500")
    reply.end_headers()
    reply.wfile.write(b"half")
    reply.close_connection = True


def megabytes(reply: Reply, asked: Asked) -> None:
    reply.octets(bytes(8 << 20))


def chunked_megabytes(reply: Reply, asked: Asked) -> None:
    reply.send_response(200)
    reply.send_header("Transfer-Encoding", "chunked")
    reply.end_headers()
    for _ in range(100):
        reply.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")


def bomb(reply: Reply, asked: Asked) -> None:
    reply.octets(gzip.compress(bytes(8 << 20)), Content_Encoding="gzip")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (redirect, "service_refused"),
        (lambda reply, asked: reply.octets(b"no", 404), "service_refused"),
        (lambda reply, asked: reply.octets(b"no", 500), "service_refused"),
        (lambda reply, asked: reply.octets(b"", 204), "service_refused"),
        (bomb, "service_refused"),
        (slow_drip, "service_timeout"),
        (never, "service_timeout"),
        (garbage, "service_unreachable"),
        (nothing, "service_unreachable"),
        (cut_off, "service_unreachable"),
        (endless_headers, "service_unreachable"),
        (endless, "service_answer_too_large"),
        (megabytes, "service_answer_too_large"),
        (chunked_megabytes, "service_answer_too_large"),
        (lambda reply, asked: reply.octets(bytes(1001)), "service_answer_too_large"),
    ],
)
def test_bad_servers(fetch: Fetcher, answer: Answer, code: str) -> None:
    with serving(answer) as server:
        error = failing(fetch, server.url)
        assert error.code == code
        assert f"127.0.0.1:{server.server_port}" in error.message
        assert {asked.path for asked in server.asked} == {"/"}, "a redirect was followed"
        assert len(server.asked) <= 2, "aiohttp asks once more where a connection ends without a word"


def test_the_status_of_a_refusal_is_a_fact(fetch: Fetcher) -> None:
    with serving(lambda reply, asked: reply.octets(b"", 503)) as server:
        assert failing(fetch, server.url).facts == {"http_status": 503}


def test_an_answer_of_exactly_the_limit_is_taken(fetch: Fetcher) -> None:
    with serving(lambda reply, asked: reply.octets(bytes(1000))) as server:
        assert fetch(server.url, None, None, 1000) == bytes(1000)


def test_nobody_there(fetch: Fetcher) -> None:
    url = absent()
    begun = time.monotonic()
    for _ in range(50):
        assert failing(fetch, url).code == "service_unreachable"
    assert time.monotonic() - begun < BOUND, "a refused connection takes no time"
    assert failing(fetch, "http://no-such-host.invalid/").code in ("service_unreachable", "service_timeout")


def test_cookies_and_proxies_of_the_environment_play_no_part(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, absent())
    with serving(lambda reply, asked: reply.octets(b"x", Set_Cookie="a=b; Path=/")) as server:
        for _ in range(2):
            assert fetch(server.url, None, None, 5) == b"x"
        assert [asked.headers.get("Cookie") for asked in server.asked] == [None, None]


def test_a_host_that_was_waited_for_in_vain_is_left_alone_for_a_while() -> None:
    clock = Seconds()
    fetcher = Fetcher(SHORT, clock)
    try:
        with serving(never) as server:
            assert failing(fetcher, server.url + "/1").code == "service_timeout"
            for number in range(50):
                error = failing(fetcher, f"{server.url}/{number}")
                assert error.code == "service_timeout"
                assert "asked again in 10 s" in error.message
            assert len(server.asked) == 1
            server.answer = hello
            clock.now += HOST_REST_SECONDS - 0.5
            failing(fetcher, server.url)
            clock.now += 0.5
            assert fetcher(server.url, None, None, 5) == b"hello"
            server.answer = never
            assert failing(fetcher, server.url).code == "service_timeout"
    finally:
        fetcher.close()


def test_a_silent_host_does_not_keep_others_from_being_asked() -> None:
    fetcher = Fetcher(SHORT)
    try:
        with silent() as dead, serving(hello) as server, ThreadPoolExecutor(2) as pool:
            waiting = pool.submit(failing, fetcher, dead)
            assert fetcher(server.url, None, None, 5) == b"hello"
            assert waiting.result().code == "service_timeout"
            assert fetcher(server.url, None, None, 5) == b"hello"
    finally:
        fetcher.close()


def test_questions_at_once_are_bounded_and_the_wait_counts() -> None:
    most, now, lock, full = 0, 0, threading.Lock(), threading.Event()

    def count(reply: Reply, asked: Asked) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
            if now == QUESTIONS_AT_ONCE:
                full.set()
        assert full.wait(BOUND), "fewer were asked at once than may be"
        time.sleep(0.1)  # one more would come now
        with lock:
            now -= 1
        reply.octets(b"x")

    fetcher = Fetcher(10.0)
    try:
        with serving(count) as server, ThreadPoolExecutor(3 * QUESTIONS_AT_ONCE) as pool:
            answers = pool.map(lambda _: fetcher(server.url, None, None, 5), range(3 * QUESTIONS_AT_ONCE))
            assert list(answers) == [b"x"] * 3 * QUESTIONS_AT_ONCE
    finally:
        fetcher.close()
    assert most == QUESTIONS_AT_ONCE
    begun = time.monotonic()
    impatient = Fetcher(SHORT)
    try:
        with silent() as url, ThreadPoolExecutor(2 * QUESTIONS_AT_ONCE) as pool:
            errors = list(pool.map(lambda _: failing(impatient, url), range(2 * QUESTIONS_AT_ONCE)))
    finally:
        impatient.close()
    assert {error.code for error in errors} == {"service_timeout"}
    assert time.monotonic() - begun < BOUND, "the wait for a place is not counted in"


def test_closing_ends_a_question_under_way() -> None:
    fetcher = Fetcher(30.0)
    with serving(never) as server, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(failing, fetcher, server.url)
        while not server.asked:
            time.sleep(0.01)
        fetcher.close()
        error = waiting.result(BOUND)
        assert (error.code, "ending" in error.message) == ("service_unreachable", True)
    assert threads() == []


def test_the_memory_of_hosts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealagent.status.fetch.MAX_HOSTS", 2)
    fetcher = Fetcher(0.05)
    try:
        with silent() as first, silent() as second, silent() as third:
            for url in (first, second, third):
                failing(fetcher, url)
            assert "asked again" not in failing(fetcher, first).message
            assert "asked again" in failing(fetcher, third).message
    finally:
        fetcher.close()
