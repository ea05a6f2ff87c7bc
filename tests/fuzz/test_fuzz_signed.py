"""Random, damaged and oddly built SignedData: signed messages, time-stamp tokens and an authority's answers.

Each ends with a value or with its one named error, and what is accepted says what was signed. Half of the octets tried
here carry a right signature: what stands behind the check of the signature value is tried too.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from cms_parts import attribute, named, signed_data, signer_info, usual_attributes
from sample_seals import Identity, integer, oid, tlv
from sealagent.errors import FormatError, SealAgentError
from sealagent.pki import oids
from sealagent.pki.certificates import Certificate
from sealagent.pki.cms import parse_signed_data
from sealagent.pki.der import DerError
from sealagent.pki.signatures import algorithm
from sealagent.pki.signed import Signed, open_signed, prepare_signed
from sealagent.pki.timestamp import TokenJudgement, TokenState, judge_token, read_token
from sealagent.pki.timestamp_request import read_response
from sealagent.pki.trust import TrustStore
from timestamp_parts import tst_info

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CONTENT = '{"内容":1}'.encode()
COVERED = b"a signature value"
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate() -> bytes:
    """Return a certificate for :data:`KEY`, fit to sign messages and time-stamps."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Signer")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(4711)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.TIME_STAMPING]), True)
        .sign(KEY, hashes.SHA256())
    )
    return signed.public_bytes(Encoding.DER)


WHO = Identity("p256", Path(), Path(), certificate())
OWN = Certificate.from_der(WHO.der)
TRUST = TrustStore((OWN,))


def sign(message: bytes) -> bytes:
    return KEY.sign(message, ec.ECDSA(hashes.SHA256()))


def message(content: bytes, time: datetime = NOW) -> bytes:
    draft = prepare_signed(content, OWN, algorithm(oids.ECDSA_SHA256), time)
    return draft.finish(sign(draft.to_sign))


def wrapped(content: bytes, attributes: list[bytes], content_type: str) -> bytes:
    """Return SignedData with a right signature over these attributes."""
    info = signer_info(WHO, attributes, signature=sign(tlv(0x31, *attributes)))
    return signed_data(WHO, content, [info], content_type=content_type)


def token(info: bytes, attributes: list[bytes] | None = None) -> bytes:
    usual = usual_attributes(WHO, info, oids.TST_INFO, NOW)
    return wrapped(info, usual if attributes is None else attributes, oids.TST_INFO)


def opened(data: bytes) -> Signed | None:
    try:
        return open_signed(data, limit=1 << 20)
    except FormatError as error:
        assert error.code == "signed_message_invalid"  # noqa: PT017 - hypothesis shows the octets
        return None


def judged(data: bytes) -> TokenJudgement:
    found = judge_token(data, COVERED, TRUST, None, NOW)
    try:
        claims = read_token(data)
    except DerError:
        assert found.state is TokenState.BAD
        assert found.time is None
    else:
        assert found.time == claims.time
    if found.state is TokenState.GOOD:
        assert found.tsa == OWN
    else:
        assert found.detail
    return found


MESSAGE = message(CONTENT)
INFO = tst_info(COVERED, NOW, digest="sha256", optional=[tlv(0x30, integer(1)), integer(77)])
TOKEN = token(INFO)


def test_undamaged() -> None:
    found = opened(MESSAGE)
    assert found is not None
    assert found.content == CONTENT
    assert judged(TOKEN).state is TokenState.GOOD


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """Change, cut, repeat or insert a few octets."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + draw(st.integers(1, 40))]
            case 2:
                data[at:at] = draw(st.binary(max_size=8))
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case 4:
                data[at : at + 2] = draw(st.sampled_from([b"\x30\x80", b"\x30\x84", b"\xff\xff", b"\x24\x80", b"\0\0"]))
    return bytes(data)


VALUES = st.one_of(
    st.binary(max_size=40),
    st.builds(tlv, st.sampled_from([2, 3, 4, 5, 6, 0x17, 0x18, 0x30, 0x31, 0xA0]), st.binary(max_size=40)),
)
KINDS = st.sampled_from(
    [
        oids.CMS_CONTENT_TYPE,
        oids.CMS_MESSAGE_DIGEST,
        oids.CMS_SIGNING_TIME,
        oids.AA_SIGNING_CERTIFICATE,
        oids.AA_SIGNING_CERTIFICATE_V2,
        "1.2.3",
    ]
)
ATTRIBUTES = st.one_of(
    st.builds(lambda kind, values: attribute(kind, *values), KINDS, st.lists(VALUES, max_size=2)),
    damaged(named(WHO.der)),
    damaged(named(WHO.der, version=1, serial=WHO.der)),
    VALUES,
)


@st.composite
def attribute_sets(draw: st.DrawFn, content: bytes, content_type: str) -> list[bytes]:
    """Leave out, replace, add and shuffle attributes."""
    listed = usual_attributes(WHO, content, content_type, NOW)
    kept = draw(st.lists(st.sampled_from(listed), max_size=4, unique=True))
    chosen = [*(kept if draw(st.booleans()) else listed), *draw(st.lists(ATTRIBUTES, max_size=3))]
    return sorted(chosen) if draw(st.booleans()) else draw(st.permutations(chosen))


@given(st.binary(max_size=600))
def test_random_octets(data: bytes) -> None:
    assert opened(data) is None
    assert judged(data).state is TokenState.BAD
    with pytest.raises(FormatError) as caught:
        parse_signed_data(data)
    assert caught.value.code == "sig_format"


@settings(max_examples=500, deadline=2000)
@given(damaged(MESSAGE))
def test_a_damaged_message(data: bytes) -> None:
    found = opened(data)
    if found is not None:
        assert data == MESSAGE


@settings(max_examples=500, deadline=2000)
@given(damaged(TOKEN))
def test_a_damaged_token(data: bytes) -> None:
    if judged(data).state is TokenState.GOOD:
        assert read_token(data) == read_token(TOKEN)


@settings(max_examples=300, deadline=2000)
@given(damaged(INFO))
def test_a_damaged_tst_info_that_is_signed(info: bytes) -> None:
    data = token(info)
    if judged(data).state is TokenState.GOOD:
        assert read_token(data).imprint == read_token(TOKEN).imprint


@settings(max_examples=300, deadline=2000)
@given(attribute_sets(INFO, oids.TST_INFO))
def test_any_attributes_around_a_token(attributes: list[bytes]) -> None:
    found = judged(token(INFO, attributes))
    if found.state is TokenState.GOOD:
        named_in = (oid(oids.AA_SIGNING_CERTIFICATE), oid(oids.AA_SIGNING_CERTIFICATE_V2))
        assert any(each in one for each in named_in for one in attributes)


@settings(max_examples=300, deadline=2000)
@given(attribute_sets(CONTENT, oids.CMS_DATA))
def test_any_attributes_around_a_message(attributes: list[bytes]) -> None:
    found = opened(wrapped(CONTENT, attributes, oids.CMS_DATA))
    if found is not None:
        assert found.content == CONTENT
        assert b"".join(attributes) == b"".join(sorted(attributes))


@settings(max_examples=300, deadline=2000)
@given(st.one_of(st.binary(max_size=300), damaged(tlv(0x30, tlv(0x30, integer(0), tlv(3, b"\0\1")), TOKEN))))
def test_an_authoritys_answer(data: bytes) -> None:
    try:
        found = read_response(data, COVERED, "sha256", 77, NOW)
    except SealAgentError as error:
        assert error.code in ("timestamp_invalid", "timestamp_refused")  # noqa: PT017
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert read_token(found).imprint == read_token(TOKEN).imprint


@settings(max_examples=100, deadline=1000)
@given(
    st.binary(max_size=2000),
    st.datetimes(datetime(1950, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),
)
def test_what_is_written_is_read(content: bytes, time: datetime) -> None:
    found = opened(message(content, time))
    assert found is not None
    assert (found.content, found.signing_time) == (content, time.replace(microsecond=0))
