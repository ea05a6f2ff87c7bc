"""The scripted PIV card by itself: what it answers to a host, friendly or not (NIST SP 800-73-4 part 2)."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from hypothesis import given
from hypothesis import strategies as st

from piv_card.applet import MAX_COMMAND, Applet
from piv_card.keys import session_key
from piv_card.tlv import TlvError, fields, tlv

SELECT = bytes.fromhex("00a4040009a00000030800001000")
PIN, WRONG = b"123456\xff\xff", b"000000\xff\xff"


def _card() -> Applet:
    card = Applet(b"123456", b"12345678", bytes(16))
    card.keys = {0x9A: session_key("ec-p256"), 0x9C: session_key("ec-p256"), 0x9E: session_key("rsa-2048")}
    assert card.transmit(SELECT)[-2:] == b"\x90\x00"
    return card


def _send(card: Applet, head: str, data: bytes = b"", *, status: str) -> bytes:
    body = bytes([len(data)]) + data + b"\0" if data else b""
    answer = card.transmit(bytes.fromhex(head) + body)
    assert answer[-2:].hex() == status
    return answer[:-2]


def _challenge(octets: bytes) -> bytes:
    return tlv(0x7C, tlv(0x82, b"") + tlv(0x81, octets))


def test_pin_counts_down_and_locks() -> None:
    card = _card()
    _send(card, "00200080", status="63c3")
    _send(card, "00200080", WRONG, status="63c2")
    _send(card, "00200080", PIN, status="9000")
    _send(card, "00200080", status="9000")
    for status in ("63c2", "63c1", "6983", "6983"):
        _send(card, "00200080", WRONG, status=status)
    _send(card, "00200080", PIN, status="6983")
    _send(card, "00240080", PIN + PIN, status="6983")
    assert card.tries == 0
    _send(card, "002c0080", b"12345678" + b"654321\xff\xff", status="9000")
    _send(card, "00200080", b"654321\xff\xff", status="9000")
    assert card.tries == 3


def test_pin_is_forgotten_without_power() -> None:
    card = _card()
    _send(card, "00200080", PIN, status="9000")
    card.reset()
    _send(card, "0087119a", _challenge(bytes(32)), status="6d00")  # nothing is selected
    card.transmit(SELECT)
    _send(card, "0087119a", _challenge(bytes(32)), status="6982")


def test_a_key_signs_after_the_pin_and_one_of_them_right_after_it() -> None:
    card = _card()
    digest = os.urandom(32)
    for slot in ("9a", "9c"):
        _send(card, f"008711{slot}", _challenge(digest), status="6982")
    _send(card, "00200080", PIN, status="9000")
    for _ in range(2):
        answer = _send(card, "0087119a", _challenge(digest), status="9000")
        public = card.keys[0x9A].public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        public.verify(fields(fields(answer)[0x7C])[0x82], digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    _send(card, "0087119c", _challenge(digest), status="6982")
    _send(card, "00200080", PIN, status="9000")
    _send(card, "0087119c", _challenge(digest), status="9000")
    _send(card, "0087119c", _challenge(digest), status="6982")


def test_chained_command_and_answer_in_parts() -> None:
    card = _card()
    key = card.keys[0x9E]
    assert isinstance(key, rsa.RSAPrivateKey)
    info = bytes.fromhex("3031300d060960864801650304020105000420") + bytes(32)
    data = _challenge(b"\0\1" + b"\xff" * (253 - len(info)) + b"\0" + info)
    _send(card, "1087079e", data[:200], status="9000")
    head = _send(card, "0087079e", data[200:], status="6108")
    answer = head + _send(card, "00c00000", status="9000")
    key.public_key().verify(
        fields(fields(answer)[0x7C])[0x82], bytes(32), padding.PKCS1v15(), utils.Prehashed(hashes.SHA256())
    )
    assert card.counts()["87"] == 1


def test_what_needs_the_management_key_is_refused() -> None:
    card = _card()
    _send(card, "00db3fff", b"\x5c\x03\x5f\xc1\x05\x53\x00", status="6982")
    _send(card, "0047009a", b"\xac\x03\x80\x01\x11", status="6982")


@pytest.mark.parametrize(
    ("head", "data", "status"),
    [
        ("0087119b", _challenge(bytes(32)), "6a88"),
        ("0087079a", _challenge(bytes(32)), "6a86"),
        ("00cb3fff", b"\x5c\x03\x5f\xc1\x99", "6a82"),
        ("00cb3fff", b"\x5c\x7f", "6a80"),
        ("00200081", PIN, "6a88"),
        ("00200080", b"123456", "6a80"),
        ("00240080", PIN + b"12345\xff\xff\xff", "6a80"),
        ("80200080", PIN, "6e00"),
        ("00e40000", b"", "6d00"),
    ],
)
def test_requests_that_make_no_sense(head: str, data: bytes, status: str) -> None:
    card = _card()
    _send(card, head, data, status=status)
    assert card.tries == 3


def test_a_chain_without_end_is_cut() -> None:
    card = _card()
    for _ in range(MAX_COMMAND // 200):
        _send(card, "1087079e", bytes(200), status="9000")
    _send(card, "1087079e", bytes(200), status="6700")
    _send(card, "1087079e", bytes(200), status="9000")
    _send(card, "00200080", PIN, status="6883")
    _send(card, "00200080", PIN, status="9000")


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_no_octets_break_it(commands: list[bytes]) -> None:
    card = _card()
    for octets in commands:
        assert 2 <= len(card.transmit(octets)) <= 258
    card.reset()
    assert card.transmit(SELECT)[-2:] == b"\x90\x00"


@given(st.dictionaries(st.sampled_from([0x53, 0x5C, 0x7C, 0x5F2F]), st.binary(max_size=400), max_size=3))
def test_tlv_reads_what_it_wrote(content: dict[int, bytes]) -> None:
    octets = b"".join(tlv(tag, value) for tag, value in content.items())
    assert fields(octets) == content
    for cut in range(1, min(4, len(octets))):
        with pytest.raises(TlvError):
            fields(octets[:-cut] if len(content) == 1 else octets[:1])
