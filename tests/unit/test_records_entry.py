"""Entries: canonical octets (RFC 8785), what a body may hold, strict reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from sealagent.errors import FormatError
from sealagent.records.entry import MAX_BODY, MAX_DEPTH, Entry, EntryKind, encode_body, make_entry, parse_entry

WHEN = datetime(2026, 11, 23, 8, 5, 9, 42, tzinfo=UTC)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


NAMES = st.text(st.characters(max_codepoint=0x7F), max_size=8).filter(lambda name: name != "intent")
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=6,
).filter(lambda value: depth_of(value) < MAX_DEPTH)


def make(kind: EntryKind, body: dict[str, Any], number: int = 1, prev: str = "") -> Entry:
    return make_entry(number, WHEN, kind, prev, encode_body(kind, body)[0])


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.integers(1, 2**40), st.sampled_from(["", "ab" * 32]))
def test_octets_are_those_of_an_independent_canonicaliser(body: dict[str, Any], number: int, prev: str) -> None:
    entry = make(EntryKind.ADMIN, body, number, prev)
    whole = {"body": body, "kind": "admin", "number": number, "prev": prev, "time": "2026-11-23T08:05:09.000042Z"}
    assert entry.octets == rfc8785.dumps(whole)
    assert parse_entry(entry.octets) == entry
    assert entry.body == body


def test_time_is_utc_with_microseconds() -> None:
    local = datetime(2026, 11, 23, 16, 5, 9, tzinfo=timezone(timedelta(hours=8)))
    entry = make_entry(1, local, EntryKind.ADMIN, "", b"{}")
    assert b'"time":"2026-11-23T08:05:09.000000Z"' in entry.octets
    assert entry.time == local


def nested(depth: int) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for _ in range(depth):
        body = {"a": body}
    return body


@pytest.mark.parametrize(
    "body",
    [
        {"a": 1.5},
        {"a": [1, {"b": 1.0}]},
        {"a": float("nan")},
        {"a": 2**53},
        {"a": -(2**53)},
        {"a": "\ud800"},
        {"\ud800": 1},
        {"名": 1},
        {1: 2},
        {"a": b"octets"},
        {"a": {1, 2}},
        {"a": object()},
        nested(MAX_DEPTH),
        nested(5000),
    ],
)
def test_body_that_cannot_be_canonical_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as caught:
        encode_body(EntryKind.INTENT, body)
    assert caught.value.code == "record_body_invalid"


def test_deepest_and_largest_body() -> None:
    encode_body(EntryKind.INTENT, nested(MAX_DEPTH - 1))
    room = MAX_BODY - len(b'{"a":""}')
    encode_body(EntryKind.INTENT, {"a": "x" * room})
    with pytest.raises(FormatError) as caught:
        encode_body(EntryKind.INTENT, {"a": "x" * (room + 1)})
    assert caught.value.code == "record_body_too_large"


@pytest.mark.parametrize("kind", [EntryKind.SIGNED, EntryKind.FAILED])
@pytest.mark.parametrize("body", [{}, {"intent": None}, {"intent": 0}, {"intent": "1"}, {"intent": True}])
def test_outcome_names_its_intent(kind: EntryKind, body: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as caught:
        encode_body(kind, body)
    assert caught.value.code == "record_body_invalid"


def test_an_administrative_entry_may_name_its_intent() -> None:
    assert encode_body(EntryKind.ADMIN, {"intent": 3}) == (b'{"intent":3}', 3)
    assert encode_body(EntryKind.ADMIN, {}) == (b"{}", None)
    assert make(EntryKind.ADMIN, {"intent": 3}, 4, "ab" * 32).intent == 3
    assert make(EntryKind.ADMIN, {}, 4, "ab" * 32).intent is None
    for intent in (None, 0, "1", True):
        with pytest.raises(FormatError) as caught:
            encode_body(EntryKind.ADMIN, {"intent": intent})
        assert caught.value.code == "record_body_invalid"


@pytest.mark.parametrize("kind", [EntryKind.INTENT, EntryKind.REFUSED])
@pytest.mark.parametrize("intent", [1, None])
def test_other_kinds_name_none(kind: EntryKind, intent: int | None) -> None:
    with pytest.raises(FormatError):
        encode_body(kind, {"intent": intent})


GOOD = make(EntryKind.SIGNED, {"intent": 3, "result": "ok"}, 4, "ab" * 32).octets


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"number":4', b'"number":0'),
        (b'"number":4', b'"number":true'),
        (b'"number":4', b'"number":4.0'),
        (b'"number":4', b'"number": 4'),
        (b'"number":4', b'"number":"4"'),
        (b'"number":4', b'"number":4,"number":4'),
        (b'"number":4', b'"number":' + b"9" * 5000),
        (b'"signed"', b'"unknown"'),
        (b'"intent":3', b'"intent":0'),
        (b'"intent":3,', b""),
        (b'{"intent":3,"result":"ok"}', b"[]"),
        (b'{"intent":3,"result":"ok"}', b"[" * 8000 + b"]" * 8000),
        (b"abab", b"ABAB"),
        (b"abab", b"ab"),
        (b"2026-11", b"2026-13"),
        (b"09.000042Z", b"09Z"),
        (b"09.000042Z", b"09.000042+00:00"),
        (b'"result"', b'"r\\u0065sult"'),
        (b'"ok"', b'"\xff"'),
        (b'"ok"', b"NaN"),
        (b'"kind"', b'"kinds"'),
        (b"}", b"}}"),
        (b'"ok"', b'"' + b"x" * 20000 + b'"'),
    ],
)
def test_strict_reading(old: bytes, new: bytes) -> None:
    parse_entry(GOOD)
    assert old in GOOD
    with pytest.raises(FormatError) as caught:
        parse_entry(GOOD.replace(old, new, 1))
    assert caught.value.code == "record_entry_invalid"
