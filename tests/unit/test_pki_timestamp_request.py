"""Asking for time-stamps: OpenSSL reads our requests and answers them, and answers that are none are told apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sample_seals import authority, bits, integer, openssl, tlv
from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.pki.certificates import Certificate
from sealagent.pki.timestamp import TokenJudgement, TokenState, judge_token
from sealagent.pki.timestamp_request import MAX_NONCE, MAX_RESPONSE, prepare_request, read_response
from sealagent.pki.trust import TrustStore
from testbed import tsa
from testbed.authorities import hierarchy
from testbed.faults import Fault
from timestamp_parts import OpensslAuthority, hashed, make_token, time_stamper, tst_info

COVERED = b"a signature value"
NONCE = 0x1234_5678_9ABC_DEF0
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("request")


@pytest.fixture(scope="module", params=["rsa", "p256"])
def server(request: pytest.FixtureRequest, folder: Path) -> OpensslAuthority:
    return OpensslAuthority(time_stamper(folder, request.param, request.param))


@pytest.fixture(scope="module")
def sm2_token(folder: Path) -> bytes:
    """A token over :data:`COVERED` with SM3 and :data:`NONCE`."""
    tsa = time_stamper(folder, "sm2", "sm2", ca=authority(folder, "sm2", "ca"))
    return make_token(tsa, COVERED, NOW, optional=[integer(NONCE)])


def response(token: bytes = b"", *, status: int = 0, rest: bytes = b"") -> bytes:
    return tlv(0x30, tlv(0x30, integer(status), rest), token)


def read(
    data: bytes, covered: bytes = COVERED, digest: str = "sm3", nonce: int | None = NONCE, now: datetime = NOW
) -> bytes:
    return read_response(data, covered, digest, nonce, now)


def invalid(data: bytes, **options: object) -> str:
    with pytest.raises(FormatError) as caught:
        read(data, **options)  # type: ignore[arg-type]
    assert caught.value.code == "timestamp_invalid"
    return caught.value.message


@pytest.mark.parametrize("digest", ["sha256", "sha512"])
@pytest.mark.parametrize("nonce", [NONCE, 0, 127, 128, MAX_NONCE - 1, None])
def test_an_authority_answers(server: OpensslAuthority, digest: str, nonce: int | None) -> None:
    answer = server.reply(prepare_request(COVERED, digest, nonce))
    token = read_response(answer, COVERED, digest, nonce, datetime.now(UTC))
    assert answer.endswith(token)
    trust = TrustStore((Certificate.from_der(server.tsa.der),))
    found = judge_token(token, COVERED, trust, None, datetime.now(UTC))
    assert (found.state, found.tsa) == (TokenState.GOOD, trust.certificates[0])
    assert "signer_certificate_supplied" not in [note.code for note in found.notes], "certReq: it came along"
    assert "covers other octets" in judge_token(token, b"other", trust, None, datetime.now(UTC)).detail


@pytest.mark.parametrize("digest", ["sm3", "sha256", "sha384", "sha512"])
def test_openssl_reads_the_request(folder: Path, digest: str) -> None:
    (folder / "asked").write_bytes(prepare_request(COVERED, digest, NONCE))
    text = openssl("ts", "-query", "-in", folder / "asked", "-text").decode()
    assert f"Hash Algorithm: {digest}" in text
    assert "Nonce: 0x123456789ABCDEF0" in text
    assert "Certificate required: yes" in text
    assert hashed(digest, COVERED)[:8].hex(" ") in text.replace("-", " ")
    without = prepare_request(COVERED, digest, None)
    (folder / "asked").write_bytes(without)
    assert "Nonce: unspecified" in openssl("ts", "-query", "-in", folder / "asked", "-text").decode()


def test_requests_that_are_not_made() -> None:
    for digest in ("sha1", "md5", "crc32"):
        with pytest.raises(FormatError) as caught:
            prepare_request(COVERED, digest, None)
        assert caught.value.code == "algorithm_not_supported"
    for nonce in (-1, MAX_NONCE):
        with pytest.raises(ValueError, match="63 bits"):
            prepare_request(COVERED, "sm3", nonce)


def test_a_token_with_sm3(sm2_token: bytes) -> None:
    for status in (0, 1):
        assert read(response(sm2_token, status=status)) == sm2_token


def test_an_answer_to_another_request(server: OpensslAuthority, sm2_token: bytes) -> None:
    assert "other octets" in invalid(response(sm2_token), covered=b"other")
    assert "other octets" in invalid(response(sm2_token), digest="sha256")
    assert "nonce" in invalid(response(sm2_token), nonce=NONCE + 1)
    assert "nonce" in invalid(response(sm2_token), nonce=None)
    without = server.reply(prepare_request(COVERED, "sha256", None))
    assert "nonce" in invalid(without, digest="sha256", now=datetime.now(UTC))


def test_an_answer_of_another_time(sm2_token: bytes) -> None:
    """Without a nonce it is the time that tells an old token from a fresh one."""
    for minutes in (-5, 5):
        assert read(response(sm2_token), now=NOW + timedelta(minutes=minutes)) == sm2_token
    for minutes in (-6, 6):
        assert "clock" in invalid(response(sm2_token), now=NOW + timedelta(minutes=minutes))
    assert read_response(response(sm2_token), COVERED, "sm3", NONCE) == sm2_token
    with pytest.raises(ValueError, match="without a nonce"):
        read_response(response(sm2_token), COVERED, "sm3", None)


@pytest.mark.parametrize("family", ["sm2", "ec"])
def test_the_authority_of_the_test_bed(folder: Path, family: str) -> None:
    """Its tokens are written by asn1crypto: a third hand besides OpenSSL's and tests/timestamp_parts.py."""
    bed = hierarchy(folder, family, "http://127.0.0.1:1", NOW)
    trust = TrustStore((Certificate.from_der(bed.root.der),))
    request = prepare_request(COVERED, "sm3", NONCE)

    def judged(fault: Fault | None) -> TokenJudgement:
        return judge_token(read(tsa.answer(bed, request, NOW, fault)), COVERED, trust, None, NOW)

    assert (judged(None).state, judged(None).time) == (TokenState.GOOD, NOW)
    for fault, why in ((Fault.WRONG_SIGNER, "not for time-stamping"), (Fault.DAMAGED, "signature value")):
        assert judged(fault).state is TokenState.BAD
        assert why in judged(fault).detail
    for fault in (Fault.OTHER, Fault.NONCE, Fault.STALE):
        invalid(tsa.answer(bed, request, NOW, fault))
    with pytest.raises(SealAgentError) as caught:
        judged(Fault.REFUSED)
    assert caught.value.facts == {"status": "rejection", "failure": "system failure"}


def test_a_refusal_of_openssl(server: OpensslAuthority) -> None:
    with pytest.raises(SealAgentError) as caught:
        read(server.reply(prepare_request(COVERED, "sm3", NONCE)))
    assert caught.value.code == "timestamp_refused"
    assert caught.value.facts == {"status": "rejection", "failure": "unknown or unsupported digest"}
    assert "Message digest algorithm is not supported" in caught.value.message


@pytest.mark.parametrize(
    ("status", "rest", "expected"),
    [
        (2, b"", "rejection"),
        (3, b"", "waiting"),
        (4, b"", "revocation warning"),
        (99, b"", "status 99"),
        (2, tlv(3, b"\1\0\2"), "rejection: the authority's time source is not available"),
        (2, tlv(3, b"\2\x24"), "rejection: request not permitted, data format wrong"),
        (2, tlv(3, b"\0"), "rejection"),
        (2, tlv(3), "rejection"),
        (2, tlv(0x30, tlv(0x0C, "不行\x1b[2J\n".encode())), "rejection: 不行 [2J "),
        (2, tlv(0x30, tlv(0x0C, b"a"), tlv(0x0C, b"b")) + tlv(3, b"\0\x80"), "unknown or unsupported digest; a b"),
    ],
)
def test_refusals(sm2_token: bytes, status: int, rest: bytes, expected: str) -> None:
    for token in (b"", sm2_token):
        with pytest.raises(SealAgentError) as caught:
            read(response(token, status=status, rest=rest))
        assert caught.value.code == "timestamp_refused"
        assert caught.value.message.endswith(expected)


def test_what_an_authority_says_is_cut_short() -> None:
    with pytest.raises(SealAgentError) as caught:
        read(response(status=2, rest=tlv(0x30, tlv(0x0C, b"x" * 100_000))))
    assert caught.value.code == "timestamp_refused"
    assert len(caught.value.message) < 300


def test_malformed_answers(folder: Path, sm2_token: bytes) -> None:
    good = response(sm2_token)
    tsa = time_stamper(folder, "sm2", "malformed")
    other = make_token(tsa, COVERED, NOW, info=tst_info(COVERED, NOW, imprint=bytes(65)))
    broken = [
        b"",
        b"<html>",
        good[:-1],
        good + b"\0",
        b"\x30\x80" + good[4:] + b"\0\0",
        tlv(0x30),
        response(),
        response(b"\x30\x00"),
        response(sm2_token + sm2_token),
        response(other),
        sm2_token,
        tlv(0x30, tlv(0x30)),
        tlv(0x30, integer(0)),
        response(status=2, rest=integer(1)),
        response(status=2, rest=bits(bytes(9))),
        response(status=2, rest=tlv(0x30, integer(1))),
        response(status=2, rest=tlv(0x30, *[tlv(0x0C)] * 17)),
        response(status=2, rest=tlv(0x30, tlv(0x0C, b"\xff"))),
    ]
    for data in broken:
        invalid(data)
    with pytest.raises(LimitExceeded) as caught:
        read(bytes(MAX_RESPONSE + 1))
    assert caught.value.code == "timestamp_invalid"
