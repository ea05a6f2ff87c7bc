"""docs/worker-protocol.md: its lists are those of the code, and its example is what workers really say.

The example is replayed by a client that knows the document only: nothing of ``sealdrivers.host`` encodes or reads it.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from i386_parts import Machine32
from sealdrivers import contract, errors
from sealdrivers.host import protocol, worker
from sealdrivers.host.process import PYTHON_WORKER, SENT_AHEAD
from softgm import SoftSkf, SoftSkfToken

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "worker-protocol.md").read_text(encoding="utf-8")
PREFIX = struct.Struct(">II")
PIN = "123456"
SERIAL = "SKF00000001"


def section(heading: str) -> str:
    return re.split(rf"^## {heading}$", DOCUMENT, flags=re.M)[1].split("\n## ")[0]


def rows(heading: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# The lists


def test_the_version_is_that_of_the_code() -> None:
    assert DOCUMENT.startswith(f"# The worker protocol, version {protocol.PROTOCOL_VERSION}\n")
    assert f"`protocol` is {protocol.PROTOCOL_VERSION}," in DOCUMENT


def test_the_operations_are_those_of_the_worker() -> None:
    """With arguments and parts as the worker's own code takes them out of a request."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        operations = worker.Worker(ours)._operations
    described = {row[0].strip("`"): row for row in rows("Operations")}
    assert described.keys() == operations.keys()
    for name, operation in operations.items():
        source = inspect.getsource(operation)
        taken = set(re.findall(r'(?:_text|_member|header\.get)\((?:\w+, )?(?:header, )?"(\w+)"', source)) - {"token"}
        taken |= {"confirmed_last_try"} if "_confirmed(header)" in source else set()
        assert taken == set(re.findall(r"`(\w+)`", described[name][1])), name
        parts = len(set(re.findall(r"_(?:part|optional)\(parts, (\d)\)", source)))
        assert parts == len([part for part in described[name][2].split(",") if part]), name


@pytest.mark.parametrize("row", rows("Values"), ids=lambda row: row[0])
def test_the_values_are_those_of_the_contract(row: list[str]) -> None:
    members = re.findall(r"`(\w+)`", row[1])
    assert members == [field.name for field in dataclasses.fields(getattr(contract, row[0]))]


def test_every_value_of_the_contract_is_described() -> None:
    kinds = {name for name in contract.__all__ if dataclasses.is_dataclass(getattr(contract, name))}
    assert {row[0] for row in rows("Values")} == kinds


def test_the_codes_are_those_a_worker_may_answer_with() -> None:
    codes = set(re.findall(r"`(\w+)`", section("Errors").split("Codes:")[1].split("\n\n")[1]))
    known = {getattr(errors, name).code for name in errors.__all__}
    # The base class, and what only the daemon finds out.
    assert codes == known - {"driver_error", "module_not_allowed", "worker_died", "worker_timeout"}
    facts = set(re.findall(r"`(\w+)`", section("Errors").split("Codes:")[0])) - {"code", "message"}
    assert facts == set(protocol._ERROR_FACTS)


def test_the_limits_are_those_of_the_code() -> None:
    limits = [int(row[1]) for row in rows("Frames")]
    assert limits == [protocol.MAX_REQUEST_HEADER, protocol.MAX_ANSWER_HEADER, protocol.MAX_BODY, protocol.MAX_PARTS]
    assert SENT_AHEAD == 2
    assert f"exits with status {worker.EXIT_PROTOCOL}" in section("Frames").replace("exits\nwith", "exits with")


# The example


class Client:
    """The daemon's side, as far as the document tells it. The program is ended when the connection is closed."""

    def __init__(self, command: Sequence[str]) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(30)
        number = theirs.fileno()
        self.process = subprocess.Popen([*command, "--fd", str(number)], pass_fds=(number,), stdin=subprocess.DEVNULL)
        theirs.close()
        self._last = 0

    def ask(self, header: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        self._last += 1
        text = json.dumps({**header, "id": self._last, "parts": [len(part) for part in parts]}).encode()
        self._ours.sendall(PREFIX.pack(len(text), sum(map(len, parts))) + text + b"".join(parts))
        header_length, body_length = PREFIX.unpack(self._exactly(PREFIX.size))
        answer = json.loads(self._exactly(header_length))
        assert answer.pop("id") == self._last
        got = [self._exactly(length) for length in answer.pop("parts")]
        assert sum(map(len, got)) == body_length
        return answer, got

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._ours.recv(count - len(data))
            assert piece, "the worker ended"
            data += piece
        return data

    def close(self) -> int:
        """Close the connection and return the exit status."""
        self._ours.close()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()


def turns() -> list[tuple[dict[str, Any], list[str], dict[str, Any], list[str]]]:
    """Return the example: request, its body's octets, answer, its body's octets."""
    found: list[tuple[dict[str, Any], list[str], dict[str, Any], list[str]]] = []
    lines = re.findall(r"^    ([<>+]) (.*)$", section("Example"), flags=re.M)
    for sign, text in lines:
        if sign == ">":
            found.append((json.loads(text), [], {}, []))
        elif sign == "<":
            found[-1][2].update(json.loads(text))
        else:
            found[-1][3 if found[-1][2] else 1].append(text)
    assert len(found) == 6
    return found


def same(described: Any, got: Any) -> bool:
    """Say whether an answer is the one described, ``…`` standing for any text."""
    if described == "…":
        return isinstance(got, (str, bytes)) and got != b""
    if isinstance(described, dict):
        return (
            isinstance(got, dict)
            and described.keys() == got.keys()
            and all(same(value, got[name]) for name, value in described.items())
        )
    if isinstance(described, list):
        return isinstance(got, list) and len(described) == len(got) and all(map(same, described, got))
    return type(described) is type(got) and described == got


def replay(command: Sequence[str], library: Path) -> None:
    client = Client(command)
    try:
        for request, sent, answer, expected in turns():
            if request["op"] == "open":
                request["path"] = str(library)
            got, parts = client.ask(request, [bytes.fromhex(part) for part in sent])
            assert same(answer, got), (request["op"], got)
            assert same(expected, parts), (request["op"], parts)
    finally:
        status = client.close()
    assert status == 0


@pytest.fixture
def device(softskf: SoftSkf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftSkfToken:
    """The device of the example, in a folder of its own: the example lists no other."""
    monkeypatch.setenv("SOFTSKF_DIR", str(tmp_path))
    token = SoftSkfToken.create(tmp_path, label="example", serial=SERIAL, user_pin=PIN, so_pin="12345678")
    token.add_key("sm2")
    return token


def test_our_worker_keeps_to_the_example(softskf: SoftSkf, device: SoftSkfToken) -> None:
    replay(PYTHON_WORKER, softskf.library)
    assert device.tries_left() == 6


def test_our_worker_under_a_32_bit_python_keeps_to_the_example(i386: Machine32, device: SoftSkfToken) -> None:
    replay(i386.worker, i386.library)
    assert device.tries_left() == 6


@pytest.mark.parametrize(
    "octets",
    [PREFIX.pack(70000, 0), PREFIX.pack(2, 0) + b"[]", PREFIX.pack(9, 0) + b'{"parts":', PREFIX.pack(2, 1) + b"{}x"],
    ids=["too long", "no object", "no JSON", "no parts"],
)
def test_a_worker_of_either_size_gives_up_on_what_is_no_frame(i386: Machine32, octets: bytes) -> None:
    for command in (PYTHON_WORKER, i386.worker):
        client = Client(command)
        try:
            client._ours.sendall(octets)
            client._ours.shutdown(socket.SHUT_WR)
            assert client._ours.recv(1) == b""
        finally:
            status = client.close()
        assert status == worker.EXIT_PROTOCOL
