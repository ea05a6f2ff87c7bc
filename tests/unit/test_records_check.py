"""The offline check names the first bad entry, whatever was done to the export."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sealagent.records.check import CheckReport, Fault, check_export, head_line, read_lines
from sealagent.records.entry import MAX_LINE, EntryKind, encode_body, make_entry
from sealagent.records.tree import Frontier, Head, leaf_hash

SIZE = 13
WHEN = datetime(2026, 11, 23, tzinfo=UTC)


def build(bodies: list[tuple[EntryKind, dict[str, object]]], name: str = "sm3") -> tuple[list[bytes], list[Head]]:
    """Return the entries of a record and its head after 0, 1, 2… of them."""
    tree = Frontier(name)
    origin = f"sealagent/test/{name}"
    lines: list[bytes] = []
    heads = [Head(0, tree.root(), name, origin)]
    leaf = b""
    for number, (kind, body) in enumerate(bodies, 1):
        octets = make_entry(number, WHEN, kind, leaf.hex(), encode_body(kind, body)[0]).octets  # type: ignore[arg-type]
        leaf = leaf_hash(name, octets)
        tree.append(leaf)
        lines.append(octets)
        heads.append(Head(tree.size, tree.root(), name, origin))
    return lines, heads


ENTRIES, HEADS = build([(EntryKind.REFUSED, {"document": f"合同{n}.ofd"}) for n in range(1, SIZE + 1)])
HEAD = HEADS[SIZE]


def check(entries: list[bytes], head: Head = HEAD, checkpoint: Head | None = None) -> CheckReport:
    return check_export([head_line(head), *entries], checkpoint)


def fault(entries: list[bytes], head: Head = HEAD, checkpoint: Head | None = None) -> tuple[str, int]:
    found = check(entries, head, checkpoint).fault
    assert found is not None
    return found.code, found.number


@pytest.mark.parametrize("name", ["sm3", "sha256"])
@pytest.mark.parametrize("size", [0, 1, 2, 7, 8])
def test_good_record(name: str, size: int) -> None:
    lines, heads = build([(EntryKind.ADMIN, {"n": n}) for n in range(size)], name)
    report = check(lines, heads[-1])
    assert report.ok
    assert (report.size, report.head, report.checkpoint) == (size, heads[-1], None)
    for earlier in heads:
        assert check(lines, heads[-1], earlier).checkpoint is True


def edited(line: bytes) -> bytes:
    return line.replace("合同".encode(), "协议".encode())


@pytest.mark.parametrize("number", range(1, SIZE + 1))
def test_edited_entry(number: int) -> None:
    entries = [*ENTRIES]
    entries[number - 1] = edited(entries[number - 1])
    assert fault(entries) == ("edited" if number < SIZE else "root_mismatch", number)


@pytest.mark.parametrize("number", range(1, SIZE + 1))
def test_edited_link(number: int) -> None:
    entries = [*ENTRIES]
    member = json.loads(entries[number - 1])["prev"].encode()
    entries[number - 1] = entries[number - 1].replace(b'"prev":"%b"' % member, b'"prev":"%b"' % (b"cd" * 32))
    assert fault(entries) == ("edited", number)


def test_two_edits_name_the_first() -> None:
    entries = [*ENTRIES]
    entries[3], entries[8] = edited(entries[3]), edited(entries[8])
    assert fault(entries) == ("edited", 4)


@pytest.mark.parametrize("number", range(1, SIZE))
def test_removed_entry(number: int) -> None:
    assert fault(ENTRIES[: number - 1] + ENTRIES[number:]) == ("removed", number)


@pytest.mark.parametrize("number", range(1, SIZE + 1))
def test_truncated_before(number: int) -> None:
    assert fault(ENTRIES[: number - 1]) == ("truncated", number)


@pytest.mark.parametrize(("first", "second"), [(1, 2), (4, 5), (3, 9), (12, 13), (1, 13)])
def test_reordered_entries(first: int, second: int) -> None:
    entries = [*ENTRIES]
    entries[first - 1], entries[second - 1] = entries[second - 1], entries[first - 1]
    assert fault(entries) == ("reordered", first)


@pytest.mark.parametrize("place", range(1, SIZE + 1))
def test_inserted_copy(place: int) -> None:
    """An entry that comes twice, wherever the second stands."""
    entries = [*ENTRIES[:place], ENTRIES[0], *ENTRIES[place:]]
    assert fault(entries) == ("inserted", 1)
    early = [*ENTRIES[: place - 1], ENTRIES[-1], *ENTRIES[place - 1 :]]
    assert fault(early)[0] == "inserted"


def test_inserted_forgery_with_a_right_link() -> None:
    forged = make_entry(5, WHEN, EntryKind.REFUSED, leaf_hash("sm3", ENTRIES[3]).hex(), b'{"forged":true}').octets
    assert fault([*ENTRIES[:4], forged, *ENTRIES[4:]]) == ("inserted", 5)


def test_entry_beyond_the_head() -> None:
    assert fault(ENTRIES, HEADS[SIZE - 1]) == ("inserted", SIZE)
    stranger = make_entry(99, WHEN, EntryKind.REFUSED, "ab" * 32, b"{}").octets
    assert fault([*ENTRIES[:4], stranger, *ENTRIES[4:]]) == ("inserted", 99)


def test_rewritten_chain_needs_a_checkpoint_to_be_found() -> None:
    forged, heads = build([(EntryKind.REFUSED, {"document": f"{n}.ofd"}) for n in range(1, SIZE + 1)])
    assert check(forged, heads[-1]).ok
    assert fault(forged, HEAD) == ("root_mismatch", SIZE)
    assert fault(forged, heads[-1], HEADS[6]) == ("checkpoint_mismatch", 6)
    assert check(forged, heads[-1], HEADS[6]).checkpoint is False


def test_truncation_with_a_fitting_head_needs_a_checkpoint() -> None:
    assert check(ENTRIES[:8], HEADS[8]).ok
    assert fault(ENTRIES[:8], HEADS[8], HEAD) == ("truncated", 9)


def test_checkpoint_of_another_record() -> None:
    assert fault(ENTRIES, HEAD, replace(HEAD, origin="sealagent/other/sm3")) == ("checkpoint_mismatch", 0)
    assert fault(ENTRIES, HEAD, replace(HEAD, hash="sha256")) == ("checkpoint_mismatch", 0)
    assert check(ENTRIES, HEAD, replace(HEAD, origin="")).checkpoint is True


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"{",
        b" " + ENTRIES[4],
        ENTRIES[4] + b" ",
        ENTRIES[4] + b"\r",
        b"[" * 9000,
        b"x" * 10**6,
    ],
)
def test_line_that_is_no_entry(line: bytes) -> None:
    assert fault([*ENTRIES[:4], line, *ENTRIES[5:]]) == ("malformed", 5)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"\x00" * 100,
        ENTRIES[0],
        b"x" * 10**6,
        head_line(replace(HEAD, hash="md5")),
        head_line(replace(HEAD, root=b"short")),
        head_line(HEAD).replace(b"record-1", b"record-2"),
        head_line(HEAD).replace(b'"size":13', b'"size":-1'),
        head_line(HEAD).replace(b'"size":13', b'"size":true'),
        head_line(HEAD).replace(b'"size":13', b'"size":"13"'),
        head_line(HEAD).replace(b'"size":13', b'"size": 13'),
        head_line(HEAD).replace(HEAD.root.hex().encode(), b"zz" * 32),
        head_line(HEAD).replace(HEAD.root.hex().encode(), HEAD.root.hex(" ").encode()),
    ],
)
def test_line_that_is_no_head(line: bytes) -> None:
    report = check_export([line, *ENTRIES])
    assert report.fault == Fault("head_invalid", 0, 1, report.fault.detail if report.fault else "")


def test_empty_export() -> None:
    report = check_export([])
    assert report.fault is not None
    assert report.fault.code == "head_invalid"


def test_outcomes_follow_intents() -> None:
    lines, heads = build(
        [(EntryKind.INTENT, {}), (EntryKind.INTENT, {}), (EntryKind.SIGNED, {"intent": 1}), (EntryKind.INTENT, {})]
    )
    assert check(lines, heads[-1]).open_intents == (2, 4)
    for outcomes in ([3], [1, 1]):
        wrong = [(EntryKind.INTENT, {}), *((EntryKind.FAILED, {"intent": intent}) for intent in outcomes)]
        lines, heads = build(wrong)  # type: ignore[arg-type]
        assert fault(lines, heads[-1]) == ("outcome_without_intent", len(lines))


def test_fault_names_the_line() -> None:
    entries = [*ENTRIES]
    entries[4] = b"{}"
    found = check(entries).fault
    assert found is not None
    assert found.line == 6  # the head line is the first


class Endless(io.RawIOBase):
    """A file that never ends; with or without lines."""

    def __init__(self, piece: bytes) -> None:
        self.piece = piece
        self.read_octets = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        view[:] = (self.piece * (len(view) // len(self.piece) + 1))[: len(view)]
        self.read_octets += len(view)
        return len(view)


@pytest.mark.parametrize("piece", [b"x", b"\n", b"{}\n"])
def test_endless_file_is_left_early(piece: bytes) -> None:
    raw = Endless(piece)
    assert not check_export(read_lines(io.BufferedReader(raw))).ok
    assert raw.read_octets <= 2 * MAX_LINE


def test_memory_does_not_grow_with_the_export() -> None:
    """100,000 lines from a generator are looked at one at a time."""
    alive = peak = 0

    class Line(bytes):
        def __init__(self, _: bytes) -> None:
            nonlocal alive, peak
            alive += 1
            peak = max(peak, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

        def removesuffix(self, suffix: bytes, /) -> bytes:
            return self

    def lines() -> Iterator[bytes]:
        yield head_line(HEAD)
        for _ in range(100_000):
            yield Line(ENTRIES[1])

    assert not check_export(lines()).ok
    assert peak <= 3


def test_reading_lines_back() -> None:
    content = b"".join(line + b"\n" for line in [head_line(HEAD), *ENTRIES])
    assert check_export(read_lines(io.BytesIO(content)), HEAD).checkpoint is True
    assert check_export(read_lines(io.BytesIO(content[:-1]))).ok
    assert check_export(content.splitlines(keepends=True)).ok
