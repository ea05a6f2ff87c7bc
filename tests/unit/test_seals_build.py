"""Writing seals and seal signatures: strict DER that reads back the same, and arguments that are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sample_seals import SM2_WITH_SM3, oid, openssl, png, raw_info, raw_seal, raw_signature, raw_tbs, tlv
from sealagent.errors import FormatError
from sealagent.seals.build import assemble_seal, assemble_signature, build_seal_info, build_tbs
from sealagent.seals.model import Extension, Picture
from sealagent.seals.parse import MAX_PICTURE, parse_seal, parse_signature

CERTIFICATE = b"\x30\x00"
VALUE = b"\x30\x06\x02\x01\x01\x02\x01\x01"
START = datetime(2020, 4, 22, 2, 9, tzinfo=UTC)

GOOD: dict[str, Any] = {
    "version": 4,
    "es_id": "0001",
    "vendor": "Test",
    "type": 1,
    "name": "测试章",
    "created": START,
    "valid_from": START,
    "valid_until": START.replace(year=2022),
    "picture": Picture("PNG", png(), 40, 40),
    "certificates": (CERTIFICATE,),
}


@pytest.mark.parametrize("version", [4, 5])
def test_the_octets_are_those_written_by_hand(version: int) -> None:
    info = build_seal_info(**(GOOD | {"version": version}))
    assert info == raw_info(version)
    seal = assemble_seal(info, CERTIFICATE, SM2_WITH_SM3, VALUE)
    assert seal == raw_seal(version)
    time = datetime(2020, 10, 12, 11, 14, 3, tzinfo=UTC)
    tbs = build_tbs(seal, version, time, bytes(32), "/Doc_0/Signs/Sign_0/Signature.xml")
    assert tbs == raw_tbs(version)
    assert assemble_signature(tbs, CERTIFICATE, SM2_WITH_SM3, VALUE) == raw_signature(version)


def test_default_false_is_not_written_and_true_is() -> None:
    extensions = (Extension("1.2.3", False, b"a"), Extension("1.2.4", True, b"b"))
    written = tlv(
        0x30,
        tlv(0x30, oid("1.2.3"), tlv(4, b"a")),
        tlv(0x30, oid("1.2.4"), tlv(1, b"\xff"), tlv(4, b"b")),
    )
    assert build_seal_info(**GOOD, extensions=extensions) == raw_info(4, extensions=written)
    tbs = build_tbs(raw_seal(), 4, START, bytes(32), "x", extensions)
    assert parse_signature(assemble_signature(tbs, CERTIFICATE, SM2_WITH_SM3, VALUE)).extensions == extensions
    assert tlv(0xA0, written) in tbs


def test_time_stamps_are_tagged_explicitly() -> None:
    info = build_seal_info(**(GOOD | {"version": 5}))
    token = tlv(0xA0, tlv(3, b"\0token"))
    assert assemble_seal(info, CERTIFICATE, SM2_WITH_SM3, VALUE, b"token") == raw_seal(5, timestamp=token)
    assert assemble_signature(raw_tbs(5), CERTIFICATE, SM2_WITH_SM3, VALUE, b"token") == raw_signature(
        5, timestamp=token
    )


def test_a_seal_with_quirks_is_embedded_as_it_is() -> None:
    quirky = raw_seal(extensions=tlv(0xA0, tlv(0x30, tlv(0x30, oid("1.2.3"), tlv(1, b"\0"), tlv(4)))))
    tbs = build_tbs(quirky, 4, START, bytes(32), "x")
    signature = parse_signature(assemble_signature(tbs, CERTIFICATE, SM2_WITH_SM3, VALUE))
    assert signature.seal.raw == quirky
    assert {note.code for note in signature.quirks} == {"quirk_critical_false", "quirk_ext_wrapped"}


def test_times_are_written_in_utc() -> None:
    china = timezone(timedelta(hours=8))
    info = build_seal_info(**(GOOD | {"created": START.astimezone(china), "valid_from": START.astimezone(china)}))
    assert info == raw_info(4)


ascii_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40)
any_text = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40)
times = st.datetimes(datetime(1950, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)
octets = st.binary(min_size=1, max_size=300)
oids = st.lists(st.integers(0, 1 << 40), min_size=1, max_size=6).map(
    lambda arcs: "1.2." + ".".join(str(arc) for arc in arcs)
)
extension_lists = st.lists(st.builds(Extension, oids, st.booleans(), octets), max_size=4).map(tuple)
digests = st.tuples(st.sampled_from(["SM3", "SHA-256", "1.2.156.10197.1.401"]), st.binary(min_size=32, max_size=32))
lists = st.one_of(
    st.fixed_dictionaries({"certificates": st.lists(octets, min_size=1, max_size=5).map(tuple)}),
    st.fixed_dictionaries({"certificate_digests": st.lists(digests, min_size=1, max_size=5).map(tuple)}),
)


@settings(max_examples=150, deadline=None)
@given(
    version=st.sampled_from([4, 5]),
    es_id=ascii_text,
    vendor=ascii_text,
    type=st.integers(0, 2**31 - 1),
    name=any_text,
    moments=st.lists(times, min_size=3, max_size=3, unique=True).map(sorted),
    picture=st.builds(Picture, st.just("PNG"), octets.map(png().__add__), st.integers(1, 200), st.integers(1, 200)),
    listed=lists,
    extensions=extension_lists,
    timestamp=st.none() | octets,
    data_hash=st.binary(min_size=32, max_size=32),
)
def test_what_is_built_is_what_is_read(
    version: int,
    moments: list[datetime],
    listed: dict[str, Any],
    timestamp: bytes | None,
    data_hash: bytes,
    **fields: Any,
) -> None:
    start, created, end = moments
    info = build_seal_info(version=version, valid_from=start, created=created, valid_until=end, **listed, **fields)
    token = timestamp if version == 5 else None
    der = assemble_seal(info, CERTIFICATE, SM2_WITH_SM3, VALUE, token)
    seal = parse_seal(der)
    assert seal.quirks == ()
    assert (seal.raw, seal.info, seal.version) == (der, info, version)
    assert (seal.valid_from, seal.created, seal.valid_until) == (start, created, end)
    assert {key: getattr(seal, key) for key in fields} == fields
    assert seal.certificates == listed.get("certificates", ())
    assert seal.certificate_digests == listed.get("certificate_digests", ())
    assert (seal.maker_certificate, seal.algorithm, seal.signature) == (CERTIFICATE, SM2_WITH_SM3, VALUE)
    assert seal.timestamp == token

    tbs = build_tbs(der, version, created, data_hash, fields["es_id"], fields["extensions"])
    whole = assemble_signature(tbs, CERTIFICATE, SM2_WITH_SM3, VALUE, timestamp)
    signature = parse_signature(whole)
    assert signature.quirks == ()
    assert (signature.raw, signature.tbs, signature.seal) == (whole, tbs, seal)
    assert (signature.time, signature.data_hash) == (created, data_hash)
    assert (signature.property_info, signature.extensions) == (fields["es_id"], fields["extensions"])
    assert signature.timestamp == timestamp


def test_openssl_reads_what_is_built() -> None:
    info = build_seal_info(**(GOOD | {"certificates": (), "certificate_digests": (("SM3", bytes(32)),)}))
    seal = assemble_seal(info, CERTIFICATE, SM2_WITH_SM3, VALUE)
    tbs = build_tbs(seal, 4, START, bytes(32), "x", (Extension("1.2.3", True, b"a"),))
    listing = openssl(
        "asn1parse", "-inform", "DER", data=assemble_signature(tbs, CERTIFICATE, SM2_WITH_SM3, VALUE, b"token")
    ).decode()
    assert "inf" not in [line.split("l=")[1].split()[0] for line in listing.splitlines()]
    for part in (":测试章", "GENERALIZEDTIME   :20200422020900Z", "PRINTABLESTRING   :SM3", "cont [ 0 ]"):
        assert part in listing


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "version 1": ("version", {"version": 1}),
    "Chinese esID": ("es_id", {"es_id": "章"}),
    "empty esID": ("es_id", {"es_id": ""}),
    "vendor with newline": ("vendor", {"vendor": "a\nb"}),
    "negative type": ("type", {"type": -1}),
    "empty name": ("name", {"name": " "}),
    "name with a control character": ("name", {"name": "章\0"}),
    "no list": ("certificates", {"certificates": ()}),
    "both lists": ("certificates", {"certificate_digests": (("SM3", bytes(32)),)}),
    "digest name": ("certificate_digests", {"certificates": (), "certificate_digests": (("国密", bytes(32)),)}),
    "short digest": ("certificate_digests", {"certificates": (), "certificate_digests": (("SM3", b"1"),)}),
    "weak digest": (
        "certificate_digests",
        {"certificates": (), "certificate_digests": (("SHA-1", bytes(20)),)},
    ),
    "local time": ("created", {"created": START.replace(tzinfo=None)}),
    "microseconds": ("valid_until", {"valid_until": START.replace(year=2022, microsecond=1)}),
    "dates turned round": ("valid_until", {"valid_until": START - timedelta(days=1)}),
    "made before its validity": ("created", {"created": START - timedelta(seconds=1)}),
    "made after its validity": ("created", {"created": START.replace(year=2023)}),
    "picture type": ("picture", {"picture": Picture("ofd", b"PK\x03\x04", 40, 40)}),
    "picture octets": ("picture", {"picture": Picture("JPG", png(), 40, 40)}),
    "picture of no width": ("picture", {"picture": Picture("PNG", png(), 0, 40)}),
    "picture of ten metres": ("picture", {"picture": Picture("PNG", png(), 40, 10_001)}),
    "huge picture": ("picture", {"picture": Picture("PNG", png() + bytes(MAX_PICTURE), 40, 40)}),
    "extension": ("extensions", {"extensions": (Extension("one.two", False, b""),)}),
    "arc out of range": ("extensions", {"extensions": (Extension("1.40.1", False, b""),)}),
}


@pytest.mark.parametrize(("field", "change"), BAD.values(), ids=BAD.keys())
def test_arguments_are_refused_by_name(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as error:
        build_seal_info(**(GOOD | change))
    assert (error.value.code, error.value.facts["field"]) == ("seal_field_invalid", field)


def test_parts_are_refused_by_name() -> None:
    info, tbs = raw_info(4), raw_tbs(4)
    calls: dict[str, Callable[[], bytes]] = {
        "certificate": lambda: assemble_seal(info, b"", SM2_WITH_SM3, VALUE),
        "algorithm_oid": lambda: assemble_seal(info, CERTIFICATE, "sm2", VALUE),
        "signature": lambda: assemble_signature(tbs, CERTIFICATE, SM2_WITH_SM3, b""),
        "info": lambda: assemble_seal(info + b"\0", CERTIFICATE, SM2_WITH_SM3, VALUE),
        "version": lambda: build_tbs(raw_seal(4), 5, START, bytes(32), "x"),
        "data_hash": lambda: build_tbs(raw_seal(4), 4, START, b"", "x"),
        "data_hash ": lambda: build_tbs(raw_seal(4), 4, START, bytes(20), "x"),
        "property_info": lambda: build_tbs(raw_seal(4), 4, START, bytes(32), "合同"),
        "time": lambda: build_tbs(raw_seal(4), 4, START.replace(tzinfo=None), bytes(32), "x"),
    }
    for field, call in calls.items():
        with pytest.raises(FormatError) as error:
            call()
        assert (error.value.code, error.value.facts["field"]) == ("seal_field_invalid", field.strip())
    with pytest.raises(FormatError) as error:
        assemble_seal(tbs, CERTIFICATE, SM2_WITH_SM3, VALUE)
    assert error.value.code == "seal_format"
    with pytest.raises(FormatError) as error:
        assemble_signature(info, CERTIFICATE, SM2_WITH_SM3, VALUE)
    assert error.value.code == "sig_format"
