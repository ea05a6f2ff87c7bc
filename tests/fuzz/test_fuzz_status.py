"""Whatever a status service or a list says, it is read or refused with its code, and what is read is written alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from sealagent.errors import FormatError
from sealagent.seals.answers import (
    StatusAnswer,
    StatusList,
    encode_answer,
    encode_list,
    read_answer,
    read_list,
)
from sealagent.seals.status import SealState
from status_parts import VALID, changes

T = datetime(2026, 6, 1, 8, tzinfo=UTC)
HISTORY = changes(T, *VALID, SealState.SUSPENDED)
SM3 = "ab" * 32
LATER = T + timedelta(days=1)
ANSWER = encode_answer(StatusAnswer("单位", SM3, "0001", HISTORY, LATER, LATER, LATER + timedelta(hours=1), bytes(16)))
LIST = encode_list(StatusList("l", "单位", 3, LATER, LATER + timedelta(days=1), {SM3: HISTORY, "cd" * 32: ()}))

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
JSON = st.recursive(
    SCALARS | st.sampled_from(["valid", "unknown", "2026-06-01T08:00:00Z", "2026-06-02T08:00:00Z", SM3, "", 1]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(place for name, item in inner for place in places(item, (*way, name)))]


def refusal(read: Callable[[bytes], Any], content: bytes) -> FormatError | None:
    try:
        read(content)
    except FormatError as error:
        return error
    return None


def read_or_refused(read: Callable[[bytes], Any], write: Callable[[Any], bytes], content: bytes) -> None:
    if (refused := refusal(read, content)) is None:
        assert write(read(content)) == content
    else:
        assert refused.code == "status_answer_invalid"
        assert len(refused.message) < 300


@given(st.data(), JSON, st.booleans())
@settings(max_examples=400)
def test_any_value_in_any_place(data: st.DataObject, value: Any, of_list: bool) -> None:
    content, read, write = (LIST, read_list, encode_list) if of_list else (ANSWER, read_answer, encode_answer)
    whole: Any = json.loads(content)
    way = data.draw(st.sampled_from(places(whole)))
    if way:
        target = whole
        for name in way[:-1]:
            target = target[name]
        target[way[-1]] = value
    else:
        whole = value
    try:
        changed = rfc8785.dumps(whole)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        changed = json.dumps(whole).encode()
    read_or_refused(read, write, changed)


@given(st.binary(max_size=400), st.integers(0, len(ANSWER)), st.integers(0, 20))
@settings(max_examples=300)
def test_any_octets_anywhere(octets: bytes, start: int, cut: int) -> None:
    for content, read, write in ((ANSWER, read_answer, encode_answer), (LIST, read_list, encode_list)):
        read_or_refused(read, write, octets)
        read_or_refused(read, write, content[:start] + octets + content[start + cut :])
