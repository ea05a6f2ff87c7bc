"""The framing of native messaging: whatever the browser sends, and however it is cut, has one reading."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealagent.browser import framing
from sealagent.browser.framing import (
    MAX_ASSEMBLED,
    MAX_MESSAGE_IN,
    MAX_MESSAGE_OUT,
    Assembly,
    FrameReader,
    Oversized,
    framed,
    in_messages,
)
from sealagent.errors import FormatError, LimitExceeded


def _frame(octets: bytes) -> bytes:
    return struct.pack("=I", len(octets)) + octets


def _cut(stream: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield stream[:size]
        stream = stream[size:]
    yield stream


@given(st.lists(st.binary(max_size=200), max_size=8), st.lists(st.integers(1, 50), max_size=40))
def test_messages_come_out_as_they_went_in_however_the_stream_is_cut(messages: list[bytes], sizes: list[int]) -> None:
    reader = FrameReader()
    stream = b"".join(map(_frame, messages))
    assert [each for piece in _cut(stream, sizes) for each in reader.feed(piece)] == messages
    assert not reader.within


@given(st.binary(max_size=40), st.integers(MAX_MESSAGE_IN + 1, 2**32 - 1), st.binary(min_size=1, max_size=100))
def test_a_hostile_length_is_passed_over_without_being_held(before: bytes, length: int, piece: bytes) -> None:
    reader = FrameReader()
    found = list(reader.feed(_frame(before) + struct.pack("=I", length) + piece))
    assert found == [before, Oversized(length)]
    assert reader.within
    assert len(reader._held) == 0


@given(st.binary(max_size=64), st.lists(st.integers(1, 300_000), max_size=6))
def test_what_follows_an_oversized_message_is_read(after: bytes, sizes: list[int]) -> None:
    reader = FrameReader()
    stream = _frame(b"x" * (MAX_MESSAGE_IN + 1)) + _frame(after)
    found = [each for piece in _cut(stream, sizes) for each in reader.feed(piece)]
    assert found == [Oversized(MAX_MESSAGE_IN + 1), after]
    assert not reader.within


@given(st.binary(min_size=1, max_size=50), st.data())
def test_a_truncated_message_is_none_and_is_noticed(octets: bytes, data: st.DataObject) -> None:
    stream = _frame(octets)
    cut = data.draw(st.integers(1, len(stream) - 1))
    reader = FrameReader()
    assert list(reader.feed(stream[:cut])) == []
    assert reader.within


def test_the_longest_message_passes_and_one_octet_more_does_not() -> None:
    longest = b"x" * MAX_MESSAGE_OUT
    assert framed(longest) == _frame(longest)
    assert list(FrameReader().feed(_frame(b"x" * MAX_MESSAGE_IN))) == [b"x" * MAX_MESSAGE_IN]
    with pytest.raises(LimitExceeded) as caught:
        framed(longest + b"x")
    assert caught.value.code == "message_too_large"


SMALL = 64


@given(st.lists(st.binary(max_size=150), max_size=12))
def test_answers_in_parts_are_whole_again(pieces: list[bytes]) -> None:
    """The same code with small limits, so that many parts are made."""
    patch = pytest.MonkeyPatch()
    with patch.context() as changed:
        changed.setattr(framing, "MAX_MESSAGE_OUT", 200)
        changed.setattr(framing, "PART_OCTETS", SMALL)
        messages = list(in_messages(7, pieces))
    octets = b"".join(pieces)
    if len(octets) <= 200:
        assert messages == [octets]
        return
    parts = [json.loads(message) for message in messages]
    assert [part["part"] for part in parts] == list(range(len(parts)))
    assert [part["last"] for part in parts] == [False] * (len(parts) - 1) + [True]
    assert {part["id"] for part in parts} == {7}
    again = Assembly()
    for part in parts:
        assert 0 < again.add(part["part"], part["data"]) <= SMALL
    assert again.octets() == octets


def test_parts_of_a_large_answer_fit_into_messages() -> None:
    pieces = [b"x" * 300_000] * 12
    messages = list(in_messages(2**53 - 1, iter(pieces)))
    assert len(messages) > 3
    assert all(len(framed(message)) <= MAX_MESSAGE_OUT + 4 for message in messages)


@pytest.mark.parametrize("order", [[1], [0, 0], [0, 2], [0, 1, 1], [-1]])
def test_parts_out_of_order_are_refused(order: list[int]) -> None:
    assembly = Assembly()
    for number in order[:-1]:
        assembly.add(number, "YQ==")
    with pytest.raises(FormatError) as caught:
        assembly.add(order[-1], "YQ==")
    assert caught.value.code == "message_invalid"


@pytest.mark.parametrize("data", ["YQ", "Y Q==", "YQ==\n", "-_-_", "é", "YQ==YQ=="])
def test_parts_that_are_no_base64_are_refused(data: str) -> None:
    with pytest.raises(FormatError) as caught:
        Assembly().add(0, data)
    assert caught.value.code == "message_invalid"


def test_a_request_in_parts_is_bounded() -> None:
    assembly = Assembly()
    piece = base64.b64encode(bytes(MAX_ASSEMBLED // 4)).decode()
    for number in range(4):
        assembly.add(number, piece)
    with pytest.raises(LimitExceeded) as caught:
        assembly.add(4, "YQ==")
    assert caught.value.code == "message_too_large"
    assert len(assembly) == MAX_ASSEMBLED
