"""Garbage on the socket between daemon and worker, from either end: an error or an end, in bounded time."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealdrivers.contract import Mechanism
from sealdrivers.errors import DriverError, WorkerProtocolError
from sealdrivers.host.process import PYTHON_WORKER
from sealdrivers.host.protocol import MAX_ANSWER_HEADER, MAX_REQUEST_HEADER, FrameBuffer, encode_frame, to_json
from sealdrivers.host.service import HostedTokens, ModuleSpec, Timeouts
from sealdrivers.host.worker import EXIT_PROTOCOL, Worker
from sealdrivers.vendors import ModuleOptions
from softhsm2_fixtures import SoftToken

OPERATIONS = (
    "open",
    "tokens",
    "contents",
    "login",
    "logout",
    "sign",
    "change_pin",
    "generate_key",
    "import_certificate",
    "import_data",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_HEADER = ("id", "op", "parts", "token", "key", "mechanism", "type", "label", "application")
NAMES = st.sampled_from((*_HEADER, "driver", "path", "protocol", "options"))
HEADERS = st.dictionaries(NAMES | st.text(max_size=6), JSON | st.sampled_from(OPERATIONS), max_size=8)
# Without modules to open: a fuzzer is no one to load libraries from random paths.
REQUESTS = st.builds(
    lambda header, op: header | {"op": op, "driver": "none"}, HEADERS, st.sampled_from(OPERATIONS) | st.text(max_size=9)
)


def framed(header: bytes, body: bytes) -> bytes:
    return struct.pack(">II", len(header), len(body)) + header + body


GARBAGE = (
    st.binary(max_size=200)
    | st.builds(framed, st.binary(max_size=60), st.binary(max_size=60))
    | st.builds(lambda header, body: framed(json.dumps(header).encode(), body), HEADERS, st.binary(max_size=60))
)


def serve(data: bytes) -> tuple[int, list[dict[str, object]]]:
    """Let a worker serve these octets in this process; return its exit status and its answers."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)

    with ours, theirs:
        sender = threading.Thread(target=send)
        sender.start()
        status = Worker(theirs).serve()
        theirs.shutdown(socket.SHUT_WR)
        sender.join()
        buffer = FrameBuffer(MAX_ANSWER_HEADER)
        answers = []
        while buffer.fill(ours):
            while (frame := buffer.take()) is not None:
                answers.append(frame.header)
        assert not buffer.pending
    return status, answers


@given(st.lists(GARBAGE, max_size=4).map(b"".join))
def test_a_worker_ends_or_answers_with_an_error(data: bytes) -> None:
    status, answers = serve(data)
    assert status in (0, EXIT_PROTOCOL)
    assert all("error" in answer for answer in answers)


@given(st.lists(st.tuples(REQUESTS, st.lists(st.binary(max_size=40), max_size=4)), max_size=5))
def test_each_request_gets_its_answer(requests: list[tuple[dict[str, object], list[bytes]]]) -> None:
    data = b"".join(bytes(encode_frame(dict(header), parts)) for header, parts in requests)
    status, answers = serve(data)
    assert status == 0
    assert [answer["id"] for answer in answers] == [header.get("id") for header, _ in requests]
    assert all("error" in answer for answer in answers)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_the_decoder_takes_any_octets_in_any_pieces(data: bytes, size: int) -> None:
    ours, theirs = socket.socketpair()
    buffer = FrameBuffer(MAX_REQUEST_HEADER)
    with ours, theirs:
        try:
            for start in range(0, len(data), size):
                ours.sendall(data[start : start + size])
                buffer.fill(theirs)
                while buffer.take() is not None:
                    pass
        except WorkerProtocolError:
            pass
    assert len(buffer._data) <= 8 + MAX_REQUEST_HEADER + (4 << 20)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(
        st.builds(
            lambda header, op, parts: bytes(encode_frame(header | {"op": op}, parts)),
            HEADERS,
            st.sampled_from(["tokens", "contents", "logout", "sign", "generate_key", "import_data", "login", "x"]),
            st.lists(st.binary(max_size=40), max_size=4),
        ),
        max_size=6,
    ),
    garbage=GARBAGE,
)
def test_a_real_worker_with_a_module_outlives_no_garbage(
    softhsm_token: SoftToken, requests: list[bytes], garbage: bytes
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        opened = {"op": "open", "protocol": 1, "driver": "pkcs11", "path": str(softhsm_token.module.resolve())}
        opened["options"] = to_json(ModuleOptions())
        with subprocess.Popen(
            [*PYTHON_WORKER, "--fd", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as worker:
            theirs.close()
            try:
                ours.sendall(b"".join([bytes(encode_frame(opened)), *requests, garbage]))
                ours.shutdown(socket.SHUT_WR)
            except OSError:  # it ended before it had read all
                pass
            assert worker.wait(20) in (0, EXIT_PROTOCOL)


IMPOSTOR = """
import os, sys, time
fd, data = int(sys.argv[-1]), bytes.fromhex(sys.argv[1])
os.read(fd, 65536)
os.write(fd, data)
if sys.argv[2] == "stay":
    time.sleep(30)
"""


@settings(max_examples=15, deadline=None)
@given(garbage=GARBAGE, stay=st.booleans())
def test_the_daemon_survives_a_worker_that_answers_garbage(garbage: bytes, stay: bool) -> None:
    async def main() -> None:
        command = (sys.executable, "-I", "-S", "-c", IMPOSTOR, garbage.hex(), "stay" if stay else "go")
        tokens = HostedTokens([ModuleSpec(Path("/impostor.so"), command=command)], Timeouts(start=0.5, other=0.5))
        supervisor = tokens._modules[0].supervisor
        try:
            async with asyncio.timeout(10):
                with pytest.raises(DriverError):
                    await supervisor.tokens()
            assert supervisor.health()["state"] == "failed"
            assert await tokens.tokens() == []
        finally:
            await tokens.close()

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    assert len(os.listdir("/proc/self/fd")) == before


HONEST_UNTIL = """
import os, sys, time
from sealdrivers.host import worker
from sealdrivers.host.protocol import encode_frame

garbage = bytes.fromhex(sys.argv[1])

class Liar(worker.Worker):
    def _contents(self, header, parts):
        os.write(self._socket.fileno(), garbage)
        time.sleep(30)

worker.Worker = Liar
worker.main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 64,
        framed(b"{}", b""),
        framed(b'{"id":1,"parts":[]}', b""),
        framed(b'{"id":null,"parts":[],"result":null}', b""),
        framed(b'{"parts":[],"result":' + b"[" * 9000 + b"}", b""),
        bytes(encode_frame({"id": 10**9, "result": {"keys": []}})),
    ],
    ids=range(6),
)
def test_garbage_in_the_middle_is_an_error_and_the_next_worker_serves(softhsm_token: SoftToken, garbage: bytes) -> None:
    async def main() -> None:
        command = (sys.executable, "-c", HONEST_UNTIL, garbage.hex())
        spec = ModuleSpec(softhsm_token.module.resolve(), command=command)
        tokens = HostedTokens([spec], Timeouts(other=5))
        try:
            [token] = await tokens.tokens()
            with pytest.raises(WorkerProtocolError):
                await tokens.contents(token.uri)
            assert [found.uri for found in await tokens.tokens()] == [token.uri]
            assert tokens.health()[0]["restarts"] == 1
        finally:
            await tokens.close()

    asyncio.run(main())


WRONG = """
import sys
from sealdrivers.host import worker
from sealdrivers.host.protocol import encode_frame

class Liar(worker.Worker):
    def _answer(self, frame):
        if frame.header["op"] in sys.argv[2].split():
            return encode_frame({"id": frame.header["id"], **eval(sys.argv[1])})
        return super()._answer(frame)

worker.Worker = Liar
worker.main(sys.argv[3:])
"""


@pytest.mark.parametrize("answer", ["{}", "{'result': None}", "{'result': [1]}", "{'error': None}", "{'error': {}}"])
def test_an_answer_of_another_shape_is_an_error(softhsm_token: SoftToken, answer: str) -> None:
    softhsm_token.add_key()

    async def main() -> None:
        spec = ModuleSpec(
            softhsm_token.module.resolve(), command=(sys.executable, "-c", WRONG, answer, "contents sign")
        )
        tokens = HostedTokens([spec])
        try:
            [token] = await tokens.tokens()
            for _ in range(2):
                with pytest.raises(DriverError):
                    await tokens.contents(token.uri)
                with pytest.raises(DriverError):
                    await tokens.sign(f"{token.uri};id=%01", Mechanism.ECDSA_SHA256, bytes(32))
        finally:
            await tokens.close()

    asyncio.run(main())


@pytest.mark.parametrize("op", ["open", "tokens"])
def test_a_listing_of_another_shape_is_an_error(softhsm_token: SoftToken, op: str) -> None:
    async def main() -> None:
        command = (sys.executable, "-c", WRONG, "{'result': [{'uri': 'x'}]}", op)
        tokens = HostedTokens([ModuleSpec(softhsm_token.module.resolve(), command=command)])
        try:
            async with asyncio.timeout(10):
                assert await tokens.tokens() == []
            assert tokens.health()[0]["last_error"]["code"] == "worker_protocol"
        finally:
            await tokens.close()

    asyncio.run(main())
