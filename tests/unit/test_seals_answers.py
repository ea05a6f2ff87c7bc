"""What a seal status service says, written and read: one form only, and nothing that contradicts itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from sealagent.errors import FormatError, LimitExceeded
from sealagent.seals.answers import (
    MAX_ANSWER,
    MAX_CHANGES,
    MAX_LIST,
    MAX_LISTED,
    StatusAnswer,
    StatusList,
    encode_answer,
    encode_list,
    read_answer,
    read_list,
    seal_sm3,
    state_at,
)
from sealagent.seals.status import SealState, StateChange

T = datetime(2026, 6, 1, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
HISTORY = tuple(
    StateChange(state, T + number * HOUR, reason)
    for number, (state, reason) in enumerate(
        [(SealState.MADE, ""), (SealState.FILED, ""), (SealState.VALID, "交付"), (SealState.SUSPENDED, "owner_request")]
    )
)
ANSWER = StatusAnswer(
    unit="北京市电子印章制作管理单位",
    seal_sm3="ab" * 32,
    es_id="11010000000001",
    history=HISTORY,
    at=T + 4 * HOUR,
    produced_at=T + 4 * HOUR,
    next_update=T + 5 * HOUR,
    nonce=bytes(range(16)),
)
LIST = StatusList(
    list="bj-seals",
    unit=ANSWER.unit,
    sequence=7,
    produced_at=T + 4 * HOUR,
    next_update=T + 28 * HOUR,
    seals={"ab" * 32: HISTORY, "cd" * 32: HISTORY[:1], "ef" * 32: ()},
)
Change = Callable[[dict[str, Any]], object]


def changed(content: bytes, change: Change) -> bytes:
    """Return the content with something done to it, in canonical form as another writer would give it."""
    value = json.loads(content)
    change(value)
    return rfc8785.dumps(value)


def put(path: str, value: Any) -> Change:
    """Return a change that sets a member, e.g. ``seal.sm3`` or ``history.0.since``."""
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]

    def work(whole: dict[str, Any]) -> None:
        target: Any = whole
        for part in way:
            target = target[part]
        target[last] = value

    return work


def refused(read: Callable[[bytes], object], content: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why) as caught:
        read(content)
    assert caught.value.code == "status_answer_invalid"


def test_an_answer_is_written_as_the_format_says() -> None:
    content = encode_answer(ANSWER)
    assert json.loads(content) == {
        "type": "sealagent-seal-status",
        "format": 1,
        "unit": "北京市电子印章制作管理单位",
        "seal": {"sm3": "ab" * 32, "es_id": "11010000000001"},
        "status": "suspended",
        "at": "2026-06-01T12:00:00Z",
        "history": [
            {"state": "made", "since": "2026-06-01T08:00:00Z", "reason": ""},
            {"state": "filed", "since": "2026-06-01T09:00:00Z", "reason": ""},
            {"state": "valid", "since": "2026-06-01T10:00:00Z", "reason": "交付"},
            {"state": "suspended", "since": "2026-06-01T11:00:00Z", "reason": "owner_request"},
        ],
        "produced_at": "2026-06-01T12:00:00Z",
        "next_update": "2026-06-01T13:00:00Z",
        "nonce": "000102030405060708090a0b0c0d0e0f",
    }
    assert content == rfc8785.dumps(json.loads(content))
    assert read_answer(content) == ANSWER


def test_a_list_is_written_as_the_format_says() -> None:
    content = encode_list(LIST)
    value = json.loads(content)
    assert value["seals"].pop("cd" * 32) == [{"state": "made", "since": "2026-06-01T08:00:00Z", "reason": ""}]
    assert value.pop("seals").keys() == {"ab" * 32, "ef" * 32}
    assert value == {
        "type": "sealagent-seal-status-list",
        "format": 1,
        "list": "bj-seals",
        "unit": ANSWER.unit,
        "sequence": 7,
        "produced_at": "2026-06-01T12:00:00Z",
        "next_update": "2026-06-02T12:00:00Z",
    }
    assert content == rfc8785.dumps(json.loads(content))
    assert read_list(content) == LIST


def test_the_status_is_that_of_the_moment_asked_about() -> None:
    for moment, state in ((T - HOUR, "unknown"), (T, "made"), (T + 2.5 * HOUR, "valid"), (T + 4 * HOUR, "suspended")):
        answer = replace(ANSWER, at=moment)
        assert answer.status == state
        assert json.loads(encode_answer(answer))["status"] == state


def test_a_seal_made_unlawfully_never_was_valid() -> None:
    history = (*HISTORY, StateChange(SealState.INVALID, T + 4 * HOUR, "forged"))
    assert state_at(history, T + 2.5 * HOUR) is SealState.INVALID
    assert read_answer(encode_answer(replace(ANSWER, history=history, at=T + 2.5 * HOUR))).status is SealState.INVALID


def test_a_seal_that_the_service_does_not_know() -> None:
    answer = replace(ANSWER, es_id="", history=())
    assert answer.status is SealState.UNKNOWN
    assert read_answer(encode_answer(answer)) == answer


def test_the_name_of_a_seal_is_the_sm3_of_its_octets() -> None:
    # GB/T 32905 A.1
    assert seal_sm3(b"abc") == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (put("type", "sealagent-seal-status-list"), "not of type"),
        (put("format", 2), "format"),
        (put("format", True), "format"),
        (put("further", 1), "exactly the members"),
        (lambda value: value.pop("nonce"), "exactly the members"),
        (put("seal.further", 1), "seal has not exactly"),
        (put("history.0.further", 1), "a state has not exactly"),
        (put("seal", "ab" * 32), "seal has not exactly"),
        (put("seal.sm3", "AB" * 32), "seal.sm3"),
        (put("seal.sm3", "ab" * 31), "seal.sm3"),
        (put("seal.sm3", "ab" * 32 + "\n"), "seal.sm3"),
        (put("seal.es_id", 5), "es_id"),
        (put("seal.es_id", ""), "es_id is empty"),
        (put("unit", ""), "unit is empty"),
        (put("unit", "u" * 5000), "characters"),
        (put("status", "valid"), "contradicts its history"),
        (put("status", "unknown"), "contradicts its history"),
        (put("status", ["suspended"]), "contradicts its history"),
        (put("history", {}), "not a list"),
        (put("history.0.state", "active"), "no state"),
        (put("history.0.state", "unknown"), "no state"),
        (put("history.0.since", "2026-06-01T09:00:01Z"), "not in order"),
        (put("history.3.since", "2026-06-01T12:00:01Z"), "future"),
        (put("history.0.since", "2026-06-01T08:00:00+00:00"), "since"),
        (put("history.0.since", "2026-06-01T08:00:00.5Z"), "since"),
        (put("history.0.since", "2026-06-01t08:00:00Z"), "since"),
        (put("history.0.since", "2026-02-30T08:00:00Z"), "since"),
        (put("history.0.since", "2026-05-31T24:00:00Z"), "since"),
        (put("history.0.since", 5), "since"),
        (put("history.0.reason", None), "reason"),
        (put("history.0.reason", "r" * 257), "characters"),
        (put("at", "2026-06-01T12:00:01Z"), "after it was made"),
        (put("next_update", "2026-06-01T11:59:59Z"), "before produced_at"),
        (put("produced_at", None), "produced_at"),
        (put("nonce", "0"), "nonce"),
        (put("nonce", "AB"), "nonce"),
        (put("nonce", "00" * 33), "nonce of 33"),
        (lambda value: value["history"].extend(value["history"][-1:] * MAX_CHANGES), "68 states"),
    ],
)
def test_an_answer_that_is_wrong_is_refused(change: Change, why: str) -> None:
    refused(read_answer, changed(encode_answer(ANSWER), change), why)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (put("type", "sealagent-seal-status"), "not of type"),
        (put("further", 1), "exactly the members"),
        (put("list", ""), "list is empty"),
        (put("sequence", 0), "sequence"),
        (put("sequence", True), "sequence"),
        (put("sequence", "7"), "sequence"),
        (put("seals", []), "seals"),
        (lambda value: value["seals"].update({"AB" * 32: []}), "seals"),
        (lambda value: value["seals"]["ab" * 32].reverse(), "not in order"),
        (lambda value: value["seals"]["ab" * 32].extend(value["seals"]["ab" * 32][-1:] * 61), "65 states"),
    ],
)
def test_a_list_that_is_wrong_is_refused(change: Change, why: str) -> None:
    refused(read_list, changed(encode_list(LIST), change), why)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b'{"type":"sealagent-seal-status","type":"sealagent-seal-status"}',
        b'{"type":1e999}',
        b'{"type":NaN}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"1" * 100_000,
    ],
)
def test_what_is_no_answer_is_refused(content: bytes) -> None:
    refused(read_answer, content, "cannot be used")
    refused(read_list, content, "cannot be used")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content + b"\n",
        lambda content: content.replace(b'":"', b'": "', 1),
        lambda content: content.replace(b'"reason":"",', b'"reason":"","reason":"",', 1),
        lambda content: content.replace("交".encode(), b"\\u4ea4"),
        lambda content: content.replace(b'"format":1', b'"format":1.0'),
        lambda content: b"\xef\xbb\xbf" + content,
    ],
)
def test_another_form_of_the_same_value_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    for read, content in ((read_answer, encode_answer(ANSWER)), (read_list, encode_list(LIST))):
        assert spoil(content) != content
        refused(read, spoil(content), "cannot be used")


def test_sizes_and_counts_are_bounded_before_anything_is_built() -> None:
    for read, content in (
        (read_answer, b" " * (MAX_ANSWER + 1)),
        (read_list, b" " * (MAX_LIST + 1)),
        (read_list, b"[]" * (MAX_LISTED + 1)),
        (read_list, b"{}" * 600_000),
        (read_list, b"," * 3_000_000),
    ):
        with pytest.raises(LimitExceeded) as caught:
            read(content)
        assert caught.value.code == "status_answer_invalid"


def test_a_list_of_too_many_seals_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="a list with more than 100000"):
        encode_list(replace(LIST, seals={f"{number:064x}": () for number in range(MAX_LISTED + 1)}))


@pytest.mark.parametrize(
    "change",
    [
        {"history": HISTORY[::-1]},
        {"at": T + 5 * HOUR},
        {"next_update": T},
        {"es_id": ""},
        {"unit": ""},
        {"unit": "\ud800"},
        {"seal_sm3": "AB" * 32},
        {"nonce": bytes(33)},
        {"history": HISTORY[-1:] * (MAX_CHANGES + 1)},
        {"history": (StateChange(SealState.UNKNOWN, T),)},
    ],
)
def test_what_would_not_be_read_is_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as caught:
        encode_answer(replace(ANSWER, **change))
    assert caught.value.code == "status_answer_invalid"


MOMENTS = st.integers(0, 4 * 3600).map(lambda seconds: T + timedelta(seconds=seconds))
STATES = st.sampled_from([state for state in SealState if state is not SealState.UNKNOWN])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HISTORIES = st.lists(st.builds(StateChange, STATES, MOMENTS, TEXTS), max_size=8).map(
    lambda changes: tuple(sorted(changes, key=lambda change: change.since))
)


@given(HISTORIES, MOMENTS, TEXTS.filter(bool), TEXTS.filter(bool), st.binary(max_size=32))
def test_what_is_written_is_read_and_is_canonical(
    history: tuple[StateChange, ...], at: datetime, unit: str, es_id: str, nonce: bytes
) -> None:
    answer = replace(ANSWER, history=history, at=at, unit=unit, es_id=es_id, nonce=nonce)
    content = encode_answer(answer)
    assert content == rfc8785.dumps(json.loads(content))
    assert read_answer(content) == answer
    listed = replace(LIST, unit=unit, seals={"ab" * 32: history})
    assert encode_list(listed) == rfc8785.dumps(json.loads(encode_list(listed)))
    assert read_list(encode_list(listed)) == listed
