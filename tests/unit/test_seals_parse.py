"""Reading seals and seal signatures: every deviation real products show is survived and noted, ambiguity is refused."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from sample_seals import (
    SHA256_WITH_RSA,
    bits,
    generalized,
    ia5,
    integer,
    oid,
    png,
    raw_info,
    raw_seal,
    raw_signature,
    raw_tbs,
    tlv,
    utc,
)
from sealagent.errors import FormatError, LimitExceeded
from sealagent.seals import parse
from sealagent.seals.model import Extension
from sealagent.seals.parse import parse_seal, parse_signature, sniff

FALSE = tlv(1, b"\0")
TRUE = tlv(1, b"\xff")


def codes(notes: object) -> list[str]:
    return [note.code for note in notes]  # type: ignore[attr-defined]


def extension(number: int, *critical: bytes) -> bytes:
    return tlv(0x30, oid(f"1.2.3.{number}"), *critical, tlv(4, b"value"))


@pytest.mark.parametrize("version", [1, 4, 5])
def test_plain_seal_and_signature_carry_no_note(version: int) -> None:
    der = raw_signature(version)
    signature = parse_signature(der)
    assert signature.raw == der
    assert signature.version == signature.seal.version == version
    assert signature.quirks == ()
    assert signature.seal.raw == raw_seal(version)
    assert signature.seal == parse_seal(raw_seal(version))
    assert signature.tbs == raw_tbs(version)
    assert signature.seal.info == raw_info(version)
    assert signature.time == datetime(2020, 10, 12, 11, 14, 3, tzinfo=UTC)
    assert signature.data_hash == bytes(32)
    assert signature.seal.picture.data == png()
    assert signature.seal.certificates == (b"\x30\x00",)
    assert signature.seal.valid_until == datetime(2022, 4, 22, 2, 9, tzinfo=UTC)


def test_critical_false_written_out_keeps_its_octets() -> None:
    der = raw_seal(extensions=tlv(0x30, extension(4, FALSE), extension(5, TRUE), extension(6)))
    seal = parse_seal(der)
    assert codes(seal.quirks) == ["quirk_critical_false"]
    assert seal.extensions == (
        Extension("1.2.3.4", False, b"value"),
        Extension("1.2.3.5", True, b"value"),
        Extension("1.2.3.6", False, b"value"),
    )
    assert der.find(seal.info) == 4
    assert FALSE in seal.info


def test_seal_extensions_wrapped_in_a_tag() -> None:
    seal = parse_seal(raw_seal(extensions=tlv(0xA0, tlv(0x30, extension(4)))))
    assert [item.oid for item in seal.extensions] == ["1.2.3.4"]
    assert codes(seal.quirks) == ["quirk_ext_wrapped"]


@pytest.mark.parametrize(
    ("octets", "notes"),
    [
        (tlv(0xA0, tlv(0x30, extension(4), extension(5))), []),
        (tlv(0xA0, extension(4), extension(5)), ["quirk_ext_wrapped"]),
        (tlv(0x30, extension(4), extension(5)), ["quirk_ext_wrapped"]),
    ],
    ids=["explicit", "implicit", "untagged"],
)
def test_extensions_of_a_signature(octets: bytes, notes: list[str]) -> None:
    signature = parse_signature(raw_signature(extensions=octets))
    assert [item.oid for item in signature.extensions] == ["1.2.3.4", "1.2.3.5"]
    assert codes(signature.quirks) == notes


@pytest.mark.parametrize(
    ("octets", "notes"),
    [
        (tlv(0xA0, bits(b"token")), []),
        (tlv(0x80, b"\0token"), ["quirk_timestamp_tag"]),
        (bits(b"token"), ["quirk_timestamp_tag"]),
    ],
    ids=["explicit", "implicit", "untagged"],
)
def test_timestamp_tags(octets: bytes, notes: list[str]) -> None:
    signature = parse_signature(raw_signature(timestamp=octets))
    assert (signature.timestamp, codes(signature.quirks)) == (b"token", notes)
    seal = parse_seal(raw_seal(5, timestamp=octets))
    assert (seal.timestamp, codes(seal.quirks)) == (b"token", notes)


def test_raw_signature_value_is_handed_on_as_it_is() -> None:
    assert parse_seal(raw_seal(signature=bits(bytes(range(64))))).signature == bytes(range(64))


def test_long_integers_are_noted() -> None:
    der = raw_seal(header=tlv(0x30, ia5("ES"), tlv(2, b"\0\0\0\4"), ia5("Test")))
    seal = parse_seal(der)
    assert seal.version == 4
    assert codes(seal.quirks) == ["quirk_long_integer"]


def test_needless_length_octets_are_noted_and_kept() -> None:
    es_id = b"\x16\x81\x04" + b"0001"
    seal = parse_seal(raw_seal(es_id=es_id))
    assert seal.es_id == "0001"
    assert codes(seal.quirks) == ["quirk_ber"]
    assert es_id in seal.info


def test_list_of_digests() -> None:
    item = tlv(0x30, tlv(0x13, b"SM3"), tlv(4, bytes(32)))
    seal = parse_seal(raw_seal(cert_list_type=integer(2), cert_list=tlv(0x30, item)))
    assert seal.certificates == ()
    assert seal.certificate_digests == (("SM3", bytes(32)),)
    assert seal.cert_list_type == 2


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_list_that_is_not_of_its_type_is_refused(kind: int) -> None:
    item = tlv(4, b"\x30\x00") if kind == 2 else tlv(0x30, tlv(0x13, b"SM3"), tlv(4, bytes(32)))
    with pytest.raises(FormatError) as error:
        parse_seal(raw_seal(cert_list_type=integer(kind), cert_list=tlv(0x30, item)))
    assert error.value.code == "seal_format"


@pytest.mark.parametrize("armoured", [False, True])
def test_version_1_certificate_list_of_text(armoured: bool) -> None:
    text = base64.b64encode(b"\x30\x03\x02\x01\x05").decode()
    if armoured:
        text = f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
    seal = parse_seal(raw_seal(1, cert_list=tlv(0x30, ia5(text))))
    assert seal.certificates == (b"\x30\x03\x02\x01\x05",)
    assert codes(seal.quirks) == ["quirk_cert_list_text"]


def test_version_1_certificate_list_of_a_name_matches_nothing_and_does_not_fail() -> None:
    assert parse_seal(raw_seal(1, cert_list=tlv(0x30, ia5("some-certificate")))).certificates == (b"some-certificate",)


@pytest.mark.parametrize("number", [10, 11])
def test_version_1_header_numbers(number: int) -> None:
    seal = parse_seal(raw_seal(1, header=tlv(0x30, ia5("ES"), integer(number), ia5("Test"))))
    assert seal.version == 1
    assert codes(seal.quirks) == ["quirk_version"]


@pytest.mark.parametrize(("structure", "number"), [(1, 4), (1, 2), (4, 1), (4, 6), (5, 0)])
def test_version_that_contradicts_the_structure_is_refused(structure: int, number: int) -> None:
    with pytest.raises(FormatError, match=r"header\.version"):
        parse_seal(raw_seal(structure, header=tlv(0x30, ia5("ES"), integer(number), ia5("Test"))))


@pytest.mark.parametrize(
    ("octets", "expected", "notes"),
    [
        (utc("200125073156Z"), datetime(2020, 1, 25, 7, 31, 56, tzinfo=UTC), []),
        (generalized("20200125073156Z"), datetime(2020, 1, 25, 7, 31, 56, tzinfo=UTC), []),
        (b"2020-01-25T07:31:56.377Z", datetime(2020, 1, 25, 7, 31, 56, 377000, tzinfo=UTC), ["quirk_time_text"]),
        (b"2020-01-25 15:31:56", datetime(2020, 1, 25, 7, 31, 56, tzinfo=UTC), ["quirk_time_text"]),
        (b"yesterday", None, []),
        (b"", None, []),
        (b"\x30\x03\x02\x01\x05", None, []),
        (b"0001-01-01 00:00:00", None, ["quirk_time_text"]),
    ],
)
def test_version_1_signing_times(octets: bytes, expected: datetime | None, notes: list[str]) -> None:
    signature = parse_signature(raw_signature(1, time=bits(octets)))
    assert (signature.time, codes(signature.quirks), signature.time_raw) == (expected, notes, octets)


@pytest.mark.parametrize(
    ("octets", "expected", "notes"),
    [
        (generalized("20200125153156+0800"), datetime(2020, 1, 25, 7, 31, 56, tzinfo=UTC), ["quirk_ber"]),
        (generalized("20200125073156.5Z"), datetime(2020, 1, 25, 7, 31, 56, 500000, tzinfo=UTC), ["quirk_ber"]),
        (generalized("202001250731Z"), datetime(2020, 1, 25, 7, 31, tzinfo=UTC), ["quirk_ber"]),
        (utc("500125073156Z"), datetime(1950, 1, 25, 7, 31, 56, tzinfo=UTC), ["quirk_ber"]),
    ],
)
def test_times_not_in_der_form(octets: bytes, expected: datetime, notes: list[str]) -> None:
    signature = parse_signature(raw_signature(time=octets))
    assert (signature.time, codes(signature.quirks)) == (expected, notes)


@pytest.mark.parametrize(
    "value", ["20200125073156", "20201325073156Z", "20200125073160Z", "2020012507Z", "", "９0200125073156Z", "0" * 40]
)
def test_times_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(FormatError, match="timeInfo"):
        parse_signature(raw_signature(time=generalized(value)))


def test_json_property_info_with_chinese_text_and_newline() -> None:
    text = '{"DocName":"合同.ofd","Entry":"/Doc_0/Signs/Sign_0/Signature.xml"}\n'
    signature = parse_signature(raw_signature(property_info=tlv(0x16, text.encode())))
    assert signature.property_info == text
    assert codes(signature.quirks) == ["quirk_text"]


def test_signature_of_version_5_over_a_seal_of_version_4_is_noted() -> None:
    signature = parse_signature(raw_signature(5, seal=raw_seal(4)))
    assert (signature.version, signature.seal.version, codes(signature.quirks)) == (5, 4, ["quirk_version"])


MALFORMED_SEALS = {
    "empty": b"",
    "one octet": b"\x30",
    "truncated": raw_seal()[:-1],
    "trailing octets": raw_seal() + b"\0",
    "indefinite length": b"\x30\x80" + raw_seal()[2:] + b"\0\0",
    "indefinite inside": raw_seal(es_id=b"\x16\x80" + b"1" + b"\0\0"),
    "length beyond the end": b"\x30\x84\x7f\xff\xff\xff" + raw_seal()[4:],
    "absurd length field": b"\x30\xff" + b"\xff" * 127,
    "reserved length": b"\x30\x89" + b"\x00" * 9,
    "string in pieces": raw_seal(picture=tlv(0x30, ia5("PNG"), tlv(0x24, tlv(4, png())), integer(1), integer(1))),
    "high tag number": b"\x3f\x81\x01\x00",
    "no seal": tlv(0x30, integer(1)),
    "three elements": tlv(0x30, raw_info(), tlv(4, b"\x30\x00"), oid("1.2.3")),
    "six elements": tlv(0x30, raw_info(), *[tlv(4, b"")] * 5),
    "other ID": raw_seal(header=tlv(0x30, ia5("SE"), integer(4), ia5("Test"))),
    "element after the info": raw_seal(info=raw_info(extensions=tlv(0x30) + tlv(0x30))),
    "timestamp in version 4": raw_seal(4, timestamp=tlv(0xA0, bits(b"token"))),
    "unused bits": raw_seal(signature=tlv(3, b"\x04\xf0")),
    "empty bit string": raw_seal(signature=tlv(3)),
    "empty integer": raw_seal(header=tlv(0x30, ia5("ES"), tlv(2), ia5("Test"))),
    "large integer": raw_seal(header=tlv(0x30, ia5("ES"), tlv(2, bytes(16) + b"\4"), ia5("Test"))),
    "boolean of two octets": raw_seal(extensions=tlv(0x30, extension(4, tlv(1, b"\0\0")))),
    "truncated OID": raw_seal(extensions=tlv(0x30, tlv(0x30, tlv(6, b"\x2a\x81"), tlv(4)))),
    "padded OID": raw_seal(extensions=tlv(0x30, tlv(0x30, tlv(6, b"\x2a\x80\x01"), tlv(4)))),
    "text that is none": raw_seal(es_id=tlv(0x16, b"\xff\xfe")),
    "no picture size": raw_seal(picture=tlv(0x30, ia5("PNG"), tlv(4, png()), integer(0), integer(40))),
    "negative picture size": raw_seal(picture=tlv(0x30, ia5("PNG"), tlv(4, png()), tlv(2, b"\xff"), integer(40))),
    "maker in the wrong type": tlv(0x30, raw_info(), ia5("x"), oid("1.2.3"), bits(b"x")),
    "local time": raw_seal(times=(generalized("20200422020900"),) * 3),
}


@pytest.mark.parametrize("der", MALFORMED_SEALS.values(), ids=MALFORMED_SEALS.keys())
def test_malformed_seals(der: bytes) -> None:
    with pytest.raises(FormatError) as error:
        parse_seal(der)
    assert error.value.code == "seal_format"
    with pytest.raises(FormatError) as error:
        parse_signature(raw_signature(seal=der))
    assert error.value.code == "sig_format"


MALFORMED_SIGNATURES = {
    "a seal": raw_seal(),
    "trailing octets": raw_signature() + b"\0\0",
    "three elements": tlv(0x30, raw_tbs(), tlv(4), oid("1.2.3")),
    "version 4 over version 1": raw_signature(4, seal=raw_seal(1)),
    "version 1 over version 4": raw_signature(1, seal=raw_seal(4)),
    "time as text": raw_signature(time=ia5("20200125073156Z")),
    "hash in an octet string": raw_signature(tbs=tlv(0x30, integer(4), raw_seal(), generalized("20200125073156Z"))),
    "timestamp of another type": raw_signature(timestamp=tlv(0xA0, tlv(4, b"token"))),
}


@pytest.mark.parametrize("der", MALFORMED_SIGNATURES.values(), ids=MALFORMED_SIGNATURES.keys())
def test_malformed_signatures(der: bytes) -> None:
    with pytest.raises(FormatError) as error:
        parse_signature(der)
    assert error.value.code == "sig_format"


def test_limits_hold() -> None:
    with pytest.raises(LimitExceeded) as error:
        parse_seal(bytes(parse.MAX_SEAL + 1))
    assert error.value.code == "seal_format"
    with pytest.raises(LimitExceeded) as error:
        parse_signature(bytes(parse.MAX_SIGNATURE + 1))
    assert error.value.code == "sig_format"
    picture = tlv(0x30, ia5("PNG"), tlv(4, bytes(parse.MAX_PICTURE + 1)), integer(1), integer(1))
    for der in (
        raw_seal(picture=picture),
        raw_seal(certificates=(b"\x30\x00",) * (parse.MAX_CERTIFICATES + 1)),
        raw_seal(certificates=(bytes(parse.MAX_CERTIFICATE + 1),)),
        raw_seal(extensions=tlv(0x30, *[extension(1)] * (parse.MAX_EXTENSIONS + 1))),
        raw_seal(es_id=ia5("1" * (parse.MAX_TEXT + 1))),
    ):
        with pytest.raises(FormatError, match="more than"):
            parse_seal(der)
    assert len(parse_seal(raw_seal(certificates=(b"\x30\x00",) * parse.MAX_CERTIFICATES)).certificates) == 256


def test_deep_nesting_costs_nothing() -> None:
    nested = b""
    for _ in range(20_000):
        nested = tlv(0x30, nested)
    for der in (nested, raw_seal(info=nested), raw_seal(extensions=nested)):
        assert sniff(der) in (None, "seal")
        with pytest.raises(FormatError):
            parse_seal(der)


@pytest.mark.parametrize("version", [1, 4, 5])
def test_sniff_tells_seals_from_signatures(version: int) -> None:
    assert sniff(raw_seal(version)) == "seal"
    assert sniff(raw_signature(version)) == "ses"
    assert sniff(raw_signature(version) + bytes(100)) == "ses"  # /Contents of a PDF is padded with zeros


@pytest.mark.parametrize(
    ("der", "expected"),
    [
        (tlv(0x30, oid("1.2.156.10197.6.1.4.2.2"), tlv(0xA0)), "cms"),
        (tlv(0x30, integer(5), integer(6)), "sm2"),
        (tlv(0x30, integer(5)), None),
        (tlv(0x30, tlv(0x30, integer(5)), tlv(0x30), bits(b"x")), None),  # looks like a certificate
        (tlv(0x30, tlv(0x30)), None),
        (b"PK\x03\x04", None),
        (b"", None),
        (SHA256_WITH_RSA.encode(), None),
    ],
)
def test_sniff_of_other_blobs(der: bytes, expected: str | None) -> None:
    assert sniff(der) == expected
