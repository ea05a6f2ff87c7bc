"""The frames between daemon and worker, and the values of the contract as JSON."""

from __future__ import annotations

import dataclasses
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealdrivers.contract import (
    CertificateInfo,
    DataObjectInfo,
    KeyInfo,
    KeyType,
    Mechanism,
    ModuleInfo,
    PinState,
    TokenContents,
    TokenInfo,
)
from sealdrivers.errors import DriverError, PinIncorrect, WorkerProtocolError
from sealdrivers.host.protocol import (
    MAX_ANSWER_HEADER,
    MAX_BODY,
    MAX_MESSAGE,
    Frame,
    FrameBuffer,
    decode_error,
    encode_frame,
    from_json,
    to_json,
)

PREFIX = struct.Struct(">II")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def received(data: bytes, *, chunk: int = 1 << 16) -> list[Frame]:
    """Send octets through a socket pair in pieces and return the frames that come out."""
    ours, theirs = socket.socketpair()
    buffer = FrameBuffer(MAX_ANSWER_HEADER)
    frames = []
    with ours, theirs:
        for start in range(0, len(data), chunk):
            ours.sendall(data[start : start + chunk])
            buffer.fill(theirs)
            while (frame := buffer.take()) is not None:
                frames.append(frame)
    assert not buffer.pending
    return frames


@given(
    st.dictionaries(st.text(max_size=5).filter(lambda name: name != "parts"), st.text(max_size=9), max_size=4),
    st.lists(st.binary(max_size=50), max_size=4),
    st.integers(1, 40),
)
def test_frames_come_out_as_they_went_in(header: dict[str, Any], parts: list[bytes], chunk: int) -> None:
    data = bytes(encode_frame(dict(header), parts)) * 2
    frames = received(data, chunk=chunk)
    assert [frame.header for frame in frames] == [{**header, "parts": [len(part) for part in parts]}] * 2
    assert [frame.parts for frame in frames] == [parts] * 2


def test_a_long_frame_passes_and_its_buffer_is_given_back(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    buffer = FrameBuffer(MAX_ANSWER_HEADER)
    capacity = len(buffer._data)
    data = memoryview(encode_frame({"text": "x" * 300_000}, (b"y" * 300_000,)))
    ours.setblocking(False)
    frame = None
    while frame is None:
        if data:
            data = data[ours.send(data) :]
        buffer.fill(theirs)
        frame = buffer.take()
    assert frame.parts == [b"y" * 300_000]
    assert len(buffer._data) == capacity


def test_a_frame_that_was_taken_leaves_nothing_behind(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    buffer = FrameBuffer(MAX_ANSWER_HEADER)
    ours.sendall(encode_frame({"op": "login"}, (b"secret-pin",)))
    buffer.fill(theirs)
    frame = buffer.take()
    assert frame is not None
    assert frame.parts == [b"secret-pin"]
    assert not any(buffer._data)


@pytest.mark.parametrize(
    "data",
    [
        PREFIX.pack(MAX_ANSWER_HEADER + 1, 0),
        PREFIX.pack(2, MAX_BODY + 1),
        PREFIX.pack(0xFFFFFFFF, 0xFFFFFFFF),
        PREFIX.pack(0, 0),
        PREFIX.pack(2, 0) + b"[]",
        PREFIX.pack(2, 0) + b"{}",
        PREFIX.pack(2, 0) + b"\xff\xfe",
        PREFIX.pack(40_000, 0) + b"[" * 40_000,
        PREFIX.pack(12, 0) + b'{"parts":[1]',
        PREFIX.pack(13, 0) + b'{"parts":[1]}',
        PREFIX.pack(13, 2) + b'{"parts":[1]}xx',
        PREFIX.pack(14, 1) + b'{"parts":[-1]}x',
        PREFIX.pack(16, 1) + b'{"parts":[true]}x',
        PREFIX.pack(16, 1) + b'{"parts":[2,-1]}x',
        PREFIX.pack(21, 0) + b'{"parts":[0,0,0,0,0]}',
        PREFIX.pack(5017, 0) + b'{"parts":[],"n":' + b"9" * 5000 + b"}",
    ],
    ids=range(16),
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(WorkerProtocolError):
        received(data)


TOKEN = TokenInfo(
    uri="pkcs11:token=印",
    label="印",
    serial="1",
    manufacturer="m",
    model="",
    module="/x.so",
    driver="pkcs11",
    login_required=True,
    logged_in=False,
    protected_authentication_path=False,
    write_protected=False,
    pin=PinState(tries_left=3, final_try=True),
)
KEY = KeyInfo(
    uri="pkcs11:id=%01",
    token_uri=TOKEN.uri,
    object_id=b"\x00\xff",
    label="k",
    type=KeyType.EC_P256,
    bits=256,
    mechanisms=(Mechanism.ECDSA_SHA256, Mechanism.ECDSA_SHA384),
    public_key=b"\x30\x00",
)
CONTENTS = TokenContents(
    keys=(KEY, dataclasses.replace(KEY, public_key=None, mechanisms=())),
    certificates=(CertificateInfo("u", TOKEN.uri, b"\x01", "c", b"\x30"),),
    data_objects=(DataObjectInfo("u", TOKEN.uri, "seal", "app", b""),),
)


@pytest.mark.parametrize("value", [TOKEN, KEY, CONTENTS, ModuleInfo("/x.so", "pkcs11")], ids=lambda v: type(v).__name__)
def test_values_of_the_contract_survive(value: Any) -> None:
    wire = encode_frame({"result": to_json(value)})
    [frame] = received(bytes(wire))
    assert from_json(type(value), frame.header["result"]) == value


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (KeyInfo, {"bits": "256"}),
        (KeyInfo, {"bits": True}),
        (KeyInfo, {"type": "dsa"}),
        (KeyInfo, {"type": ["rsa-2048"]}),
        (KeyInfo, {"object_id": "not base64!"}),
        (KeyInfo, {"object_id": "\u5370"}),
        (KeyInfo, {"object_id": 1}),
        (KeyInfo, {"mechanisms": "ecdsa-sha256"}),
        (KeyInfo, {"mechanisms": [None]}),
        (KeyInfo, {"public_key": 5}),
        (KeyInfo, {"label": None}),
        (KeyInfo, {"further": 1}),
    ],
)
def test_a_value_of_another_type_is_refused(kind: type, change: dict[str, Any]) -> None:
    with pytest.raises(WorkerProtocolError):
        from_json(kind, to_json(KEY) | change)


@pytest.mark.parametrize("value", [None, [], {}, "x", {"uri": "x"}])
def test_an_incomplete_value_is_refused(value: Any) -> None:
    with pytest.raises(WorkerProtocolError):
        from_json(KeyInfo, value)


def test_an_error_keeps_its_kind_and_facts() -> None:
    error = PinIncorrect("wrong", native_code=0xA0, native_name="CKR_PIN_INCORRECT", tries_left=2, final_try=False)
    again = decode_error(error.to_wire())
    assert type(again) is PinIncorrect
    assert again.to_wire() == error.to_wire()


@pytest.mark.parametrize("wire", [None, [], "x", 1])
def test_an_error_that_is_none_is_a_protocol_error(wire: Any) -> None:
    assert type(decode_error(wire)) is WorkerProtocolError


def test_strange_facts_of_an_error_are_left_out() -> None:
    wire = {"code": ["x"], "message": "m" * 9000, "tries_left": "many", "locked": 1, "count_low": True, "nonsense": {}}
    error = decode_error(wire)
    assert type(error) is DriverError
    assert error.facts() == {"count_low": True}
    assert len(error.message) == MAX_MESSAGE
