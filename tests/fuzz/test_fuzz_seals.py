"""Hostile octets: the parsers and judges end quickly with a named error or a report, never otherwise."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sample_seals import bits, integer, oid, raw_seal, raw_signature, raw_tbs, tlv
from sealagent.errors import FormatError
from sealagent.pki.der import DerError
from sealagent.pki.timestamp import read_token
from sealagent.pki.trust import TrustStore
from sealagent.seals.parse import MAX_SEAL, parse_seal, parse_signature, sniff
from sealagent.seals.verify import Policy, judge_seal, judge_signature

EXTENSIONS = tlv(0x30, tlv(0x30, oid("1.2.3"), tlv(1, b"\0"), tlv(4, b"value")))
SAMPLES = [
    raw_seal(1),
    raw_seal(4, extensions=EXTENSIONS),
    raw_seal(5, timestamp=tlv(0xA0, bits(b"token"))),
    raw_signature(1),
    raw_signature(4, extensions=tlv(0xA0, EXTENSIONS), timestamp=tlv(0xA0, bits(b"token"))),
]
POLICY = Policy(TrustStore(()), datetime(2021, 1, 1, tzinfo=UTC))


def survive(der: bytes) -> None:
    """Everything that reads seals reads this, raising nothing but the named error."""
    sniff(der)
    for parser, code in ((parse_seal, "seal_format"), (parse_signature, "sig_format")):
        refusal = None
        try:
            assert parser(der).raw == der
        except FormatError as error:
            refusal = error
        assert refusal is None or (refusal.code == code and len(refusal.message) < 300)
    seal = judge_seal(der, POLICY)
    assert seal.verdict != "valid"
    signature = judge_signature(der, POLICY, lambda name: bytes(32))
    assert signature.verdict != "valid"
    with suppress(DerError):
        read_token(der)


@settings(max_examples=300, deadline=1000)
@given(st.binary(max_size=400))
def test_random_octets(der: bytes) -> None:
    survive(der)


@settings(max_examples=400, deadline=1000)
@given(st.sampled_from(SAMPLES), st.data())
def test_damaged_structures(der: bytes, data: st.DataObject) -> None:
    damaged = bytearray(der)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["set", "cut", "insert", "delete", "repeat"])):
            case "set":
                damaged[at] = data.draw(st.integers(0, 255))
            case "cut":
                del damaged[max(at, 1) :]
            case "insert":
                damaged[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del damaged[at : at + 3]
            case _:
                damaged[at:at] = damaged[at : at + 40]
        if not damaged:
            break
    survive(bytes(damaged))


elements = st.recursive(
    st.builds(tlv, st.sampled_from([1, 2, 3, 4, 5, 6, 0x0C, 0x13, 0x16, 0x17, 0x18, 0x80]), st.binary(max_size=40)),
    lambda inner: st.lists(inner, max_size=7).flatmap(
        lambda parts: st.sampled_from([0x30, 0x31, 0xA0, 0x24]).map(lambda tag: tlv(tag, *parts))
    ),
    max_leaves=30,
)


@settings(max_examples=300, deadline=1000)
@given(elements)
def test_random_structures(der: bytes) -> None:
    survive(der)
    survive(tlv(0x30, der, tlv(4, b"\x30\x00"), oid("1.2.156.10197.1.501"), bits(der)))
    survive(raw_seal(4, property=der))
    survive(raw_signature(4, tbs=tlv(0x30, integer(4), der)))


def test_every_truncation_of_a_seal_is_refused() -> None:
    der = raw_seal(4, extensions=EXTENSIONS)
    for size in range(len(der)):
        with pytest.raises(FormatError):
            parse_seal(der[:size])


@pytest.mark.parametrize("filling", [b"\0\0", b"\x30\0", b"\x30\x80", b"\xff", b"\x30\x84\0\0\0\1\0", b"\x02\x01\0"])
def test_largest_inputs_end_quickly(filling: bytes) -> None:
    body = filling * ((MAX_SEAL - 4000) // len(filling))
    inputs = [
        tlv(0x30, body),
        body,
        raw_seal(4, extensions=tlv(0x30, body)),
        raw_seal(4, cert_list=tlv(0x30, body)),
        raw_signature(4, tbs=raw_tbs(4, property_info=tlv(0x16, body))),
    ]
    began = time.monotonic()
    for der in inputs:
        survive(der)
    assert time.monotonic() - began < 5


def test_largest_numbers_end_quickly() -> None:
    octets = random.Random(1).randbytes(60_000)
    began = time.monotonic()
    for der in (tlv(2, octets), tlv(6, b"\xff" * 60_000 + b"\1"), tlv(0x18, b"9" * 60_000)):
        survive(raw_seal(4, es_id=der))
        survive(raw_seal(4, header=tlv(0x30, tlv(0x16, b"ES"), der, tlv(0x16, b"x"))))
        survive(raw_seal(4, times=(der, der, der)))
        survive(raw_seal(4, extensions=tlv(0x30, tlv(0x30, der, tlv(4)))))
    assert time.monotonic() - began < 5
