"""The one reader of DER: what it refuses, what it survives with a note, and that hostile nesting costs it nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_seals import integer, oid, tlv
from sealagent.pki import der
from sealagent.pki.der import DerError


def nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = tlv(0x30, data)
    return data


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x30", b"\x30\x80\0\0", b"\x30\x85\0\0\0\0\0", b"\x30\x81", b"\x30\x02\0", b"\x1f\x20\0", b"\x24\0",
        b"\x23\0", b"\x30\0\0",
    ],
)  # fmt: skip
def test_what_is_no_single_definite_element(data: bytes) -> None:
    for reader in (der.read, der.walk):
        with pytest.raises(DerError):
            reader(data, "it")


@pytest.mark.parametrize(
    "inside",
    [
        b"\x24\x00", b"\x2c\x00", b"\x30\x80", b"\x04\x05", b"\x1f\x20\x00", tlv(0x06, bytes(65)), nested(25),
        b"\x05\0" * 9000,
    ],
    ids=["string in pieces", "text in pieces", "indefinite", "too long", "tag", "long OID", "nesting", "elements"],
)  # fmt: skip
@pytest.mark.parametrize("around", [0x30, 0x31, 0xA0, 0x61])
def test_walking_finds_what_reading_one_level_does_not(inside: bytes, around: int) -> None:
    data = tlv(around, inside)
    der.read(data, "it")
    with pytest.raises(DerError):
        der.walk(data, "it")


def test_walking_leaves_the_octets_of_strings_alone() -> None:
    data = tlv(0x30, tlv(0x04, b"\x30\x80"), tlv(0xA0, nested(20)), tlv(0x80, b"\x24\x80"))
    element = der.walk(data, "it")
    assert (element.raw, len(element.children("it", 3))) == (data, 3)
    assert element.source.notes == []


def test_needless_length_octets_are_noted_wherever_they_are() -> None:
    element = der.walk(tlv(0x30, tlv(0x30, b"\x04\x81\x01x")), "it")
    assert {note.code for note in element.source.notes} == {"quirk_ber"}


def test_deep_nesting_costs_one_level_or_nothing() -> None:
    data = nested(20_000)
    begun = time.perf_counter()
    assert len(der.read(data, "it").children("it", 1)) == 1
    with pytest.raises(DerError, match="nested"):
        der.walk(data, "it")
    assert time.perf_counter() - begun < 1


def test_integers_have_a_limit() -> None:
    value = der.read(integer(1 << 200), "it")
    assert value.integer("it", 32) == 1 << 200
    with pytest.raises(DerError):
        value.integer("it")


@given(st.lists(st.integers(0, 1 << 70), min_size=1, max_size=5), st.integers(0, 2), st.integers(0, 39))
def test_object_identifiers(arcs: list[int], first: int, second: int) -> None:
    dotted = ".".join(map(str, (first, second, *arcs)))
    assert der.read(oid(dotted), "it").oid("it") == dotted


@pytest.mark.parametrize(
    ("text", "century", "expected", "strict"),
    [
        ("20201012111403Z", True, datetime(2020, 10, 12, 11, 14, 3, tzinfo=UTC), True),
        ("201012111403Z", False, datetime(2020, 10, 12, 11, 14, 3, tzinfo=UTC), True),
        ("491231235959Z", False, datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), True),
        ("500101000000Z", False, datetime(1950, 1, 1, tzinfo=UTC), True),
        ("2010121114Z", False, datetime(2020, 10, 12, 11, 14, tzinfo=UTC), False),
        ("20201012191403+0800", True, datetime(2020, 10, 12, 11, 14, 3, tzinfo=UTC), False),
        ("20201012111403.5Z", True, datetime(2020, 10, 12, 11, 14, 3, 500_000, tzinfo=UTC), False),
    ],
)
def test_times(text: str, century: bool, expected: datetime, strict: bool) -> None:
    assert der.parse_time(text, century=century, what="it") == (expected, strict)


@pytest.mark.parametrize(
    "text",
    [
        "20201012111403", "20201012111403.5", "20201312111403Z", "20200230000000Z", "00000101000000Z", "", "Z",
        "20201012111403+9900", "20201012240000Z", "\uff12\uff10201012111403Z", "20201012111403Z ",
        "00010101000000+0100", "99991231235959-0100",
    ],
)  # fmt: skip
def test_times_without_a_zone_or_outside_the_calendar(text: str) -> None:
    """Without a zone the hours would be guessed, and with them whether a certificate was valid."""
    with pytest.raises(DerError):
        der.parse_time(text, century=True, what="it")
