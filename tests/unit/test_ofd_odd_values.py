"""Signature values that no real file at hand has, made here with good values: version 1 in a package, BER, trailing
octets, digest lists. The value is right in each, so only the form can decide.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ofd_samples import (
    LIST,
    MAIN,
    SEAL,
    SIGN,
    VALUE,
    Sealer,
    codes,
    document_files,
    foreign,
    list_xml,
    only,
    pack,
    record,
    repack,
    signature_xml,
    unpack,
)
from sample_parties import Party, noted
from sample_seals import (
    SHA256_WITH_RSA,
    SM2_WITH_SM3,
    bits,
    ia5,
    oid,
    raw_info,
    raw_seal,
    raw_signature,
    raw_tbs,
    tlv,
    utc,
)
from sealagent.pki.digests import digest
from sealagent.seals.build import assemble_seal, assemble_signature, build_tbs
from sealagent.verdict import Verdict


def packed(seal: bytes, value_of: object) -> bytes:
    """Return a package with a seal, and the value that a function makes for its Signature.xml."""
    content = {**document_files(), "OFD.xml": MAIN, SEAL: seal}
    xml = signature_xml({f"/{name}": digest("sm3", data) for name, data in content.items()})
    assert callable(value_of)
    return pack({**content, LIST: list_xml(record()), SIGN: xml, VALUE: value_of(xml)})


@pytest.mark.parametrize(
    ("kind", "algorithm", "digest_name"), [("rsa", SHA256_WITH_RSA, "sha256"), ("sm2", SM2_WITH_SM3, "sm3")]
)
def test_version_1_in_a_package(parties: dict[str, Party], kind: str, algorithm: str, digest_name: str) -> None:
    """GM/T 0031-2014: two elements each, the signer's certificate inside what is signed."""
    party = parties[kind]
    start = utc(party.start.strftime("%y%m%d%H%M%SZ"))
    times = (start, start, utc((party.start + timedelta(days=30)).strftime("%y%m%d%H%M%SZ")))
    info = raw_info(1, certificates=(party.signer.der,), times=times)
    made = party.maker.sign(tlv(0x30, info, tlv(4, party.maker.der), oid(algorithm)), digest_name)
    seal = raw_seal(1, info=info, maker=party.maker.der, algorithm=algorithm, signature=bits(made))

    def value(xml: bytes) -> bytes:
        tbs = raw_tbs(
            1,
            seal=seal,
            time=bits(start),
            data_hash=digest("sm3", xml),
            property_info=ia5(f"/{SIGN}"),
            certificate=party.signer.der,
            algorithm=algorithm,
        )
        return raw_signature(1, tbs=tbs, signature=bits(party.signer.sign(tbs, digest_name)))

    package = packed(seal, value)
    report = only(package, party.policy())
    assert (report.version, codes(report), report.intact, report.verdict) == (1, [], True, Verdict.VALID)
    assert set(noted(report)) == {"pinned", "quirk_signing_time_text"}
    changed = repack(package, {"Doc_0/Document.xml": b"<a/>"})
    assert codes(only(changed, party.policy())) == ["reference_digest"]


@pytest.mark.parametrize("kind", ["sm2", "p256"])
def test_a_digest_list_in_a_package(parties: dict[str, Party], kind: str) -> None:
    """certListType 2: the seal names digests of certificates."""
    party = parties[kind]
    for label, listed in (("SM3", party.signer.der), ("1.2.156.10197.1.401", party.signer.der), ("SM3", party.ca.der)):
        info = party.info(4, certificate_digests=[(label, digest("sm3", listed))])
        seal = assemble_seal(info, party.maker.der, party.maker.algorithm, party.maker.sign(info))

        def value(xml: bytes, seal: bytes = seal) -> bytes:
            tbs = build_tbs(seal, 4, party.start, digest("sm3", xml), f"/{SIGN}")
            return assemble_signature(tbs, party.signer.der, party.signer.algorithm, party.signer.sign(tbs))

        report = only(packed(seal, value), party.policy())
        right = listed is party.signer.der
        assert codes(report) == ([] if right else ["signer_not_in_seal"])
        assert report.intact is right


def contents(value: bytes) -> bytes:
    """Return what is inside the outermost SEQUENCE, whose length takes the long form in three octets or four."""
    return value[2 + (value[1] & 0x7F) :]


def test_a_length_written_too_long_is_survived_and_noted(sealer: Sealer) -> None:
    package = foreign(sealer)
    inside = contents(unpack(package)[VALUE])
    long = b"\x30\x84" + len(inside).to_bytes(4, "big") + inside
    report = only(repack(package, {VALUE: long}), sealer.policy)
    assert (report.verdict, report.intact) == (Verdict.VALID, True)
    assert "quirk_ber" in noted(report)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda value: b"\x30\x80" + contents(value) + b"\0\0", id="indefinite length"),
        pytest.param(lambda value: value + b"\0", id="one trailing octet"),
        pytest.param(lambda value: value + bytes(4096), id="zero padding"),
        pytest.param(lambda value: value + value, id="twice"),
        pytest.param(lambda value: b"\0" + value, id="leading octet"),
        pytest.param(lambda value: value[:-1], id="cut off"),
        pytest.param(lambda value: b"", id="empty"),
    ],
)
def test_other_forms_of_a_good_value_are_refused(sealer: Sealer, form: object) -> None:
    assert callable(form)
    package = foreign(sealer)
    report = only(repack(package, {VALUE: form(unpack(package)[VALUE])}), sealer.policy)
    assert codes(report) == ["sig_format"]
    assert (report.verdict, report.intact) == (Verdict.INVALID, False)


@pytest.mark.parametrize("change", [lambda seal: seal + b"\0", lambda seal: b"\x30\x80" + contents(seal) + b"\0\0"])
def test_a_stored_seal_in_another_form_is_not_the_signed_one(sealer: Sealer, change: object) -> None:
    assert callable(change)
    package = foreign(sealer, files={SEAL: change(sealer.seal_der)})
    report = only(package, sealer.policy)
    assert codes(report) == ["seal_mismatch"]
    assert report.intact is False


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 100])
def test_a_seal_file_with_trailing_octets(tmp_path: Path, sealer: Sealer, tail: bytes) -> None:
    from io import BytesIO

    from sealagent.documents.verify import verify_document

    good = verify_document(BytesIO(sealer.seal_der), "a.esl", sealer.policy)
    assert good.verdict is Verdict.VALID
    with_tail = verify_document(BytesIO(sealer.seal_der + tail), "a.esl", sealer.policy)
    assert [reason.code for reason in with_tail.signatures[0].reasons] == ["seal_format"]
