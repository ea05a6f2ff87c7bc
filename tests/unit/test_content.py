"""A document inside JSON, in whatever pieces it comes and however its string is written."""

from __future__ import annotations

import base64
import json
import os
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealagent.api.content import MAX_DEPTH, DocumentReader, encoded_length
from sealagent.errors import FormatError, LimitExceeded

ROOM = 1 << 16


def read(body: bytes, size: int | None = None, room: int = ROOM) -> tuple[bytes, bytes]:
    """Return the document and the rest; ``size`` octets at a time."""
    out = bytearray()
    reader = DocumentReader(out.extend, rest_octets=room)
    step = size or max(1, len(body))
    for at in range(0, len(body), step):
        reader.feed(body[at : at + step])
    return bytes(out), reader.close()


def _body(document: bytes, **more: Any) -> bytes:
    return json.dumps({"seal": "甲", "content": base64.b64encode(document).decode(), **more}).encode()


@given(st.binary(max_size=300), st.integers(1, 50), st.dictionaries(st.text(max_size=8), st.text(max_size=8)))
def test_the_document_comes_out_whole_in_any_pieces(document: bytes, size: int, more: dict[str, str]) -> None:
    more.pop("content", None)
    body = _body(document, **more, nested={"content": "AAAA", "list": [{"content": "x"}, "content"]})
    found, rest = read(body, size)
    assert found == document
    assert json.loads(rest) == {**json.loads(body), "content": ""}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, None])
@pytest.mark.parametrize(
    "written",
    [
        rb'{"content":"+/+/"}',
        rb'{"content":"+\/+\/"}',
        rb'{"content":"\u002b\u002F\u002B/"}',
        rb'{ "content" : "\u002B\/+\/" , "x" : "\"content\":\"AAAA\"" }',
        rb'{"x":"\\","content":"+/+/"}',
        rb'{"x":{"content":1},"\u0063ontent":"+/+/"}',
        b'\n\t{"x":["]","}"],"content"\n:\r"+/+/"}\n',
    ],
)
def test_however_the_string_is_written(written: bytes, size: int | None) -> None:
    found, rest = read(written, size)
    assert found == bytes.fromhex("fbffbf")
    assert json.loads(rest) == {**json.loads(written), "content": ""}


@pytest.mark.parametrize("size", [1, 4, None])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"content":1}',
        b'{"content":null}',
        b'{"content":["AAAA"]}',
        b'{"x":{"content":"AAAA"}}',
        b'{"x":"content"}',
        b'["content","AAAA"]',
        b'{"content":"AAAA',
        b'{"content":"AAAA\\',
        b'{"content":"AAAA\\u00',
        b'{"content":"AAA"}',
        b'{"content":"AAAAA"}',
        b'{"content":"AA=A"}',
        b'{"content":"AA==AAAA"}',
        b'{"content":"===="}',
        b'{"content":"A A AA"}',
        b'{"content":"AAAA\\n"}',
        b'{"content":"AA-_"}',
        b'{"content":"AAA\xe4"}',
        b'{"content":"\\uZZZZAAAA"}',
        b'{"content":"\\ud800AAA"}',
        b'{"content":"AAAA","content":"AAAA"}',
        b'{"content":"AAAA","\\u0063ontent":"AAAA"}',
    ],
)
def test_what_is_no_document_is_named(body: bytes, size: int | None) -> None:
    with pytest.raises(FormatError) as caught:
        read(body, size)
    assert caught.value.code == "request_invalid"


@pytest.mark.parametrize(
    "body",
    [b'{"content":"AAAA"', b'{"content":"AAAA"}}', b'{"content":"AAAA" "x"}', b'{"content" "AAAA","content":"AAAA"}'],
)
def test_what_is_no_json_stays_none(body: bytes) -> None:
    try:
        _, rest = read(body)
    except FormatError:
        return
    with pytest.raises(ValueError, match=r"."):
        json.loads(rest)


@given(st.text(alphabet='{}[]",:\\u0063ontetAB= \n', max_size=60), st.integers(1, 9))
def test_anything_else_ends_in_a_name_or_in_the_same_json(text: str, size: int) -> None:
    body = text.encode()
    try:
        _, rest = read(body, size)
    except FormatError:
        return
    try:
        said = json.loads(rest)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            json.loads(body)
    else:
        assert said == {**json.loads(body), "content": ""}


def test_bounds() -> None:
    with pytest.raises(LimitExceeded) as caught:
        read(_body(b"x", pad="y" * ROOM), 1000)
    assert caught.value.code == "body_too_large"
    with pytest.raises(LimitExceeded):
        read(b'{"x":' + b"[" * MAX_DEPTH, 1000)
    assert [encoded_length(octets) for octets in (0, 1, 2, 3, 4)] == [0, 4, 4, 4, 8]


def test_a_large_document_is_not_held_in_text() -> None:
    document = os.urandom(8 << 20)
    body = _body(document)
    pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)]
    taken = 0

    def take(octets: bytes) -> None:
        nonlocal taken
        taken += len(octets)

    tracemalloc.start()
    try:
        reader = DocumentReader(take, rest_octets=ROOM)
        for piece in pieces:
            reader.feed(piece)
        reader.close()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken == len(document)
    assert most < 1 << 20
