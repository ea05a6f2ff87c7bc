"""The bridge before an agent that does as the test says: what is answered when the agent breaks off, hangs or lies.

A model test drives it with any order of requests, parts and cancels.
"""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from sealagent.browser import bridge as bridge_module
from sealagent.browser.bridge import MAX_IN_FLIGHT, Bridge, BrowserGone
from sealagent.browser.framing import MAX_MESSAGE_OUT, Oversized
from sealagent.client import AgentUnreachable
from sealagent.client.transport import Transport

ORIGIN = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def _http(body: bytes, media_type: str = "application/json", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {len(body) if length is None else length}"
    return head.encode() + b"\r\n\r\n" + body


class FakeAgent:
    """Listens at a Unix socket and answers every request by a function of its head."""

    def __init__(self, answer: Callable[[str], bytes | None]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="fake")
        self.path = Path(self.folder.name) / "s"
        self.heads: list[str] = []
        self._answer = answer
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            held = b""
            while True:
                while b"\r\n\r\n" not in held:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    held += piece
                head, _, held = held.partition(b"\r\n\r\n")
                self.heads.append(head.decode())
                said = self._answer(head.decode())
                if said is None:  # it hangs, until the other end gives up
                    connection.recv(1)
                    return
                connection.sendall(said)
                if b"Content-Length" not in said or said.endswith(b"BREAK"):
                    return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self.folder.cleanup()


class Browser:
    """What the browser hears."""

    def __init__(self, path: Path) -> None:
        self.heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self.bridge = Bridge(ORIGIN, path, self._hear)
        self.gone = False

    def _hear(self, message: bytes) -> None:
        if self.gone:
            raise BrowserGone
        assert len(message) <= MAX_MESSAGE_OUT
        self.heard.put(json.loads(message))

    def say(self, **message: Any) -> None:
        self.bridge.take(json.dumps(message).encode())

    def next(self) -> dict[str, Any]:
        return self.heard.get(timeout=10)


@contextlib.contextmanager
def _world(answer: Callable[[str], bytes | None]) -> Iterator[tuple[Browser, FakeAgent]]:
    agent = FakeAgent(answer)
    browser = Browser(agent.path)
    try:
        yield browser, agent
    finally:
        browser.bridge.close()
        agent.close()


def test_headers_say_for_whom_is_asked() -> None:
    with _world(lambda head: OK) as (browser, agent):
        browser.say(id=1, path="/v1/status", token="tok", page="https://a.example")
        assert browser.next() == {
            "id": 1,
            "status": 200,
            "headers": {"content-type": "application/json"},
            "body": {},
        }
        lines = agent.heads[0].split("\r\n")
        assert f"SealAgent-Origin: {ORIGIN}" in lines
        assert "SealAgent-Page: https://a.example" in lines
        assert "Authorization: Bearer tok" in lines
        browser.say(id=1, path="/v1/status")
        browser.next()
        assert "Authorization" not in agent.heads[1]
        assert "SealAgent-Page" not in agent.heads[1]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (_http(b"", "application/json"), {"body": None}),
        (_http(b"", "text/plain"), {"body": "", "encoding": "base64"}),
        (_http(b"abcd", "image/png"), {"body": "YWJjZA==", "encoding": "base64"}),
        (_http('{"名": "印"}'.encode(), "application/json; charset=utf-8"), {"body": {"名": "印"}}),
    ],
)
def test_answers_of_every_kind(said: bytes, expected: dict[str, Any]) -> None:
    with _world(lambda head: said) as (browser, _):
        browser.say(id=1, path="/v1/status")
        answer = browser.next()
        assert {name: answer.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    "said",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nBREAK", b"HTTP/9.9 OK\r\n\r\n"],
)
def test_a_broken_answer_is_told_as_one(said: bytes) -> None:
    with _world(lambda head: said) as (browser, _):
        browser.say(id=1, path="/v1/status")
        answer = browser.next()
        assert answer["id"] == 1
        assert answer["body"]["code"] in ("agent_unreachable", "agent_failed")
        assert "BREAK" not in str(answer)
        assert "nonsense" not in str(answer)


def test_an_answer_that_breaks_off_after_parts_ends_with_a_problem() -> None:
    body = b'{"a": "' + b"x" * 2_500_000 + b"BREAK"
    with _world(lambda head: _http(body, length=5_000_000)) as (browser, _):
        browser.say(id=1, path="/v1/status")
        messages = [browser.next()]
        while "part" in messages[-1]:
            assert messages[-1]["last"] is False
            messages.append(browser.next())
        assert len(messages) > 2
        assert messages[-1]["body"]["code"] == "agent_unreachable"
        browser.say(id=1, path="/v1/status")  # its id is free again
        assert browser.next()["id"] == 1


def test_a_large_resource_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    for length, whole in ((5_000_000, False), (7, True)):
        said = _http(b"xxBREAK", length=length)
        with _world(lambda head, said=said: said) as (_, agent), contextlib.closing(Transport(agent.path, 10)) as asked:
            if whole:
                assert list(asked.chunks("/v1/ledger/export")) == [b"xxBREAK"]
            else:
                with pytest.raises(AgentUnreachable):
                    list(asked.chunks("/v1/ledger/export"))


def test_an_agent_that_is_not_there() -> None:
    browser = Browser(Path("/nonexistent/socket"))
    browser.say(id=1, path="/v1/status")
    problem = browser.next()["body"]
    assert (problem["code"], problem["status"]) == ("agent_unreachable", 503)


def test_what_hangs_is_cancelled_and_given_up() -> None:
    with _world(lambda head: None) as (browser, _):
        for ident in range(MAX_IN_FLIGHT):
            browser.say(id=ident, path="/v1/status")
        browser.say(id=99, path="/v1/status")
        assert browser.next()["body"]["code"] == "bridge_busy"
        browser.say(id=3, cancel=True)
        assert browser.next() == {"id": 3, "cancelled": True}
        browser.say(id=3, cancel=True)
        browser.say(id=1000, cancel=True)
        browser.bridge.close()
        time.sleep(0.2)
        assert browser.heard.empty()


def test_a_browser_that_is_gone_ends_what_was_under_way_quietly(recwarn: pytest.WarningsRecorder) -> None:
    with _world(lambda head: OK) as (browser, _):
        browser.gone = True
        browser.say(id=1, path="/v1/status")
        deadline = time.monotonic() + 10
        while browser.bridge._under_way:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(BrowserGone):
            browser.bridge.take(b"{")


def test_an_oversized_message_says_how_large_it_was() -> None:
    browser = Browser(Path("/nonexistent/socket"))
    browser.bridge.take(Oversized(5_000_000))
    answer = browser.next()
    assert (answer["id"], answer["status"], answer["body"]["octets"]) == (None, 413, 5_000_000)


@pytest.mark.parametrize(
    ("bodies", "shown"),
    [
        ([{"caller": {"origin": ORIGIN}}], True),
        ([{"caller": {"origin": "chrome-extension://other"}}], False),
        ([{"caller": {}}], False),
        ([{"caller": "text"}], False),
        ([{}], False),
        ([{"intent": "1"}], False),
        ([{"intent": 1}, {"caller": {"origin": ORIGIN}}], True),
        ([{"intent": 1}, {"caller": {"origin": "https://a.example"}}], False),
        ([{"intent": 1}, {"intent": 1}], False),
    ],
)
def test_only_entries_about_the_extension_are_shown(bodies: list[dict[str, Any]], shown: bool) -> None:
    entries = [{"number": 2, "body": bodies[0]}, {"number": 1, "body": bodies[-1]}]

    def answer(head: str) -> bytes:
        return _http(json.dumps(entries[0 if "/v1/records/2" in head else 1]).encode())

    with _world(answer) as (browser, _):
        browser.say(id=1, path="/v1/records/2")
        found = browser.next()
        assert (found["body"] == entries[0]) == shown
        assert shown or found["body"]["code"] == "record_not_own"


def test_events_are_passed_on_and_nonsense_ends_them() -> None:
    stream = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        b': alive\n\nevent: signed\ndata: {"record": 4, "detail": "other.ofd"}\n\nevent: odd\ndata: secret nonsense\n\n'
    )
    with _world(lambda head: stream) as (browser, _):
        browser.say(id=1, path="/v1/events")
        assert browser.next() == {"id": 1, "status": 200, "event": None}
        assert browser.next() == {"id": 1, "event": "signed", "data": {"record": 4}}
        ended = browser.next()
        assert ended["body"]["code"] == "internal_error"
        assert "secret" not in str(ended)


class Model(RuleBasedStateMachine):
    """Whatever is said in whatever order: one end for each request, no more under way than allowed, nothing kept."""

    begun = Bundle("begun")

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(bridge_module, "MAX_HELD", 4000)
        # Requests for the status hang until they are cancelled; all others are answered at once.
        self.agent = FakeAgent(lambda head: None if "/v1/status" in head else OK)
        self.browser = Browser(self.agent.path)
        self.hanging: set[int] = set()
        self.parts: dict[int, tuple[int, list[bytes]]] = {}
        self.number = 0

    def _fresh(self) -> int:
        self.number += 1
        return self.number

    def _room(self) -> bool:
        return len(self.hanging) + len(self.parts) < MAX_IN_FLIGHT

    @rule()
    def ask_and_be_answered(self) -> None:
        ident, room = self._fresh(), self._room()
        self.browser.say(id=ident, path="/v1/seals")
        answer = self.browser.next()
        assert answer["id"] == ident
        assert answer["status"] == (200 if room else 503)

    @rule(target=begun)
    def ask_what_hangs(self) -> Any:
        ident = self._fresh()
        room = self._room()
        self.browser.say(id=ident, path="/v1/status")
        if not room:
            assert self.browser.next()["body"]["code"] == "bridge_busy"
            return multiple()
        self.hanging.add(ident)
        return ident

    @rule(target=begun, size=st.integers(1, 60))
    def begin_in_parts(self, size: int) -> Any:
        ident = self._fresh()
        room = self._room()
        octets = json.dumps({"id": ident, "path": "/v1/seals", "page": "x" * 100}).encode()
        pieces = [octets[start : start + size] for start in range(0, len(octets), size)]
        self._send_part(ident, 0, pieces[0], False)
        if not room:
            assert self.browser.next()["body"]["code"] == "bridge_busy"
            return multiple()
        self.parts[ident] = (1, pieces)
        return ident

    @rule(ident=begun)
    def go_on(self, ident: int) -> None:
        if ident not in self.parts:
            return
        number, pieces = self.parts[ident]
        last = number == len(pieces) - 1
        self._send_part(ident, number, pieces[number], last)
        self.parts[ident] = (number + 1, pieces)
        if last:
            del self.parts[ident]
            answer = self.browser.next()
            assert (answer["id"], answer["status"]) == (ident, 200)

    @rule(ident=begun)
    def use_an_id_twice(self, ident: int) -> None:
        if ident in self.hanging or ident in self.parts:
            self.browser.say(id=ident, path="/v1/seals")
            answer = self.browser.next()
            assert (answer["id"], answer["body"]["code"], answer["body"]["message_id"]) == (None, "id_in_use", ident)

    @rule(ident=begun)
    def send_a_wrong_part(self, ident: int) -> None:
        if ident in self.parts:
            self._send_part(ident, 77, b"x", False)
            answer = self.browser.next()
            assert (answer["id"], answer["body"]["code"]) == (ident, "message_invalid")
            del self.parts[ident]

    @rule(ident=consumes(begun))
    def cancel(self, ident: int) -> None:
        self.browser.say(id=ident, cancel=True)
        if ident in self.hanging or ident in self.parts:
            assert self.browser.next() == {"id": ident, "cancelled": True}
        self.hanging.discard(ident)
        self.parts.pop(ident, None)

    @rule(octets=st.binary(max_size=30))
    def talk_nonsense(self, octets: bytes) -> None:
        self.browser.bridge.take(octets + b"\xff")
        assert self.browser.next()["id"] is None

    @invariant()
    def nothing_more_is_under_way_or_said(self) -> None:
        assert set(self.browser.bridge._under_way) == self.hanging | set(self.parts)
        assert 0 <= self.browser.bridge._held <= 4000
        assert self.browser.heard.empty()
        if not self.hanging and not self.parts:
            assert self.browser.bridge._held == 0

    def teardown(self) -> None:
        self.browser.bridge.close()
        self.agent.close()
        self.patch.undo()

    def _send_part(self, ident: int, number: int, octets: bytes, last: bool) -> None:
        self.browser.say(id=ident, part=number, last=last, data=base64.b64encode(octets).decode())


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
