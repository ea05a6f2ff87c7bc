"""Signed messages: what OpenSSL makes of ours, what we make of OpenSSL's, and that nothing but the right one passes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from cms_parts import (
    NULL,
    algorithm,
    attribute,
    digest_of,
    named,
    signed_data,
    signer_info,
    usual_attributes,
)
from openssl_parts import parsed
from sample_seals import DISTID, Identity, Kind, authority, identity, integer, oid, openssl, tlv
from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.pki import oids
from sealagent.pki.certificates import Certificate
from sealagent.pki.signatures import algorithm as algorithm_by
from sealagent.pki.signatures import default_algorithm, rsa_pss, signing_digest
from sealagent.pki.signed import open_signed, prepare_signed

KINDS: tuple[Kind, ...] = ("sm2", "rsa", "p256")
CONTENT = '{"列表":1}'.encode()
TIME = datetime(2026, 11, 27, 1, 2, 3, tzinfo=UTC)
LIMIT = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signed")


@pytest.fixture(scope="module")
def signers(folder: Path) -> dict[Kind, Identity]:
    return {kind: identity(folder, kind, kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def signer(request: pytest.FixtureRequest, signers: dict[Kind, Identity]) -> Identity:
    return signers[request.param]


@pytest.fixture(scope="module")
def sm2(signers: dict[Kind, Identity]) -> Identity:
    return signers["sm2"]


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Identity:
    return identity(folder, "sm2", "stranger")


def certificate(who: Identity) -> Certificate:
    return Certificate.from_der(who.der)


def message(who: Identity, content: bytes = CONTENT, *others: Identity, time: datetime = TIME) -> bytes:
    """Return a signed message of ours."""
    own = certificate(who)
    draft = prepare_signed(
        content, own, default_algorithm(own.public_key), time, [certificate(each) for each in others]
    )
    return draft.finish(who.sign(draft.to_sign))


def refused(data: bytes) -> str:
    """Return why the message is refused."""
    with pytest.raises(FormatError) as caught:
        open_signed(data, limit=LIMIT)
    assert caught.value.code == "signed_message_invalid"
    return caught.value.message


# --- writing and reading ---


def test_a_message_comes_back(signer: Identity, stranger: Identity) -> None:
    data = message(signer, CONTENT, stranger, signer, stranger)
    opened = open_signed(data, limit=len(data))
    assert (opened.raw, opened.content, opened.signing_time) == (data, CONTENT, TIME)
    assert opened.signer == certificate(signer)
    assert sorted(each.der for each in opened.certificates) == sorted([signer.der, stranger.der])
    assert CONTENT.decode() not in repr(opened)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 65_536, 200_000])
def test_content_of_any_size(sm2: Identity, size: int) -> None:
    content = random.Random(size).randbytes(size)
    assert open_signed(message(sm2, content), limit=LIMIT).content == content


def test_structure_by_the_standard_of_the_key(signer: Identity) -> None:
    """GB/T 35275 (GM/T 0010) for SM2, RFC 5652 otherwise, as OpenSSL's parser sees it."""
    whole = parsed(message(signer))
    signed = whole.children[1].children[0]
    version, digests, content, certificates, infos = signed.children
    (info,) = infos.children
    sm2 = signer.kind == "sm2"
    assert whole.children[0].whole == oid(oids.GM_SIGNED_DATA if sm2 else oids.CMS_SIGNED_DATA)
    assert content.children[0].whole == oid(oids.GM_DATA if sm2 else oids.CMS_DATA)
    assert content.children[1].children[0].content == CONTENT
    assert (version.content, info.children[0].content) == (b"\1", b"\1")
    assert [each.children[0].whole for each in digests.children] == [oid(oids.SM3 if sm2 else oids.SHA256)]
    assert [each.whole for each in certificates.children] == [signer.der]
    named_algorithm = {"sm2": oids.SM2_SIGN, "rsa": oids.SHA256_RSA, "p256": oids.ECDSA_SHA256}[signer.kind]
    assert info.children[4].children[0].whole == oid(named_algorithm)
    attributes = [each.whole for each in info.children[3].children]
    assert attributes == sorted(attributes)
    assert sorted(attributes) == sorted(usual_attributes(signer, CONTENT, oids.GM_DATA if sm2 else oids.CMS_DATA, TIME))


def test_the_draft_says_what_the_device_signs(signer: Identity) -> None:
    """A token gets a digest: the signature over it must be the one over the attributes."""
    own = certificate(signer)
    draft = prepare_signed(CONTENT, own, default_algorithm(own.public_key), TIME)
    assert draft.to_sign[0] == 0x31
    digest = signing_digest(own.public_key, draft.algorithm, draft.to_sign)
    place = signer.key.parent / "digest"
    place.write_bytes(digest)
    options = [] if signer.kind == "sm2" else ["-pkeyopt", "digest:sha256"]
    value = openssl("pkeyutl", "-sign", "-inkey", signer.key, *options, "-in", place)
    assert open_signed(draft.finish(value), limit=LIMIT).content == CONTENT


def test_rsa_pss(signers: dict[Kind, Identity]) -> None:
    who = signers["rsa"]
    draft = prepare_signed(CONTENT, certificate(who), rsa_pss("sha256"), TIME)
    options = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32")
    data = draft.finish(openssl("dgst", "-sha256", "-sign", who.key, *options, data=draft.to_sign))
    assert open_signed(data, limit=LIMIT).content == CONTENT
    assert openssl_reads(who, data) == CONTENT


def openssl_reads(who: Identity, data: bytes) -> bytes:
    place = who.key.parent / "message.der"
    place.write_bytes(data)
    trust = ("-CAfile", who.pem, "-purpose", "any")
    return openssl("cms", "-verify", "-inform", "DER", "-binary", "-in", place, *trust)


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_openssl_reads_our_messages(signers: dict[Kind, Identity], kind: Kind) -> None:
    who = signers[kind]
    data = message(who, CONTENT, signers["p256" if kind == "rsa" else "rsa"])
    assert openssl_reads(who, data) == CONTENT
    with pytest.raises(AssertionError, match="CMS_SignerInfo_verify_content"):
        openssl_reads(who, data.replace(CONTENT, CONTENT.replace(b"1", b"2")))


def test_openssl_verifies_the_sm2_value(sm2: Identity) -> None:
    """Its cms command knows no SM2; the value over the attributes with the default ID is what its pkeyutl verifies."""
    signed = parsed(message(sm2)).children[1].children[0]
    info = signed.children[-1].children[0].children
    sm2.verify(b"\x31" + info[3].whole[1:], info[5].content)


@pytest.mark.parametrize("kind", ["rsa", "p256"])
@pytest.mark.parametrize("options", [(), ("-cades",), ("-cades", "-md", "sha384"), ("-nosmimecap",)])
def test_we_read_openssls_messages(signers: dict[Kind, Identity], kind: Kind, options: tuple[str, ...]) -> None:
    who = signers[kind]
    place = who.key.parent / "content"
    place.write_bytes(CONTENT)
    sign = ("cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-signer", who.pem, "-inkey", who.key)
    opened = open_signed(openssl(*sign, *options, "-in", place), limit=LIMIT)
    assert (opened.content, opened.signer) == (CONTENT, certificate(who))
    assert opened.signing_time is not None
    assert abs(opened.signing_time - datetime.now(UTC)) < timedelta(minutes=5)


def test_times(sm2: Identity) -> None:
    for time in (datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)):
        assert open_signed(message(sm2, time=time), limit=LIMIT).signing_time == time
    local = datetime(2026, 11, 27, 9, 2, 3, 999_999, tzinfo=timezone(timedelta(hours=8)))
    assert open_signed(message(sm2, time=local), limit=LIMIT).signing_time == TIME
    assert b"\x18\x0f20500101000000Z" in message(sm2, time=datetime(2050, 1, 1, tzinfo=UTC))


def test_a_wrong_value_is_not_released(signer: Identity, sm2: Identity) -> None:
    own = certificate(signer)
    draft = prepare_signed(CONTENT, own, default_algorithm(own.public_key), TIME)
    values = [signer.sign(draft.to_sign + b"\0"), b"", bytes(64), signer.sign(draft.to_sign)[:-1]]
    if signer.kind == "sm2":
        value = signer.sign(draft.to_sign)
        r, s = (int.from_bytes(each.content, "big").to_bytes(32, "big") for each in parsed(value).children)
        values.append(r + s)  # GM/T 0010: SM2Signature in DER
    else:
        values.append(sm2.sign(draft.to_sign))
    for value in values:
        with pytest.raises(SealAgentError) as caught:
            draft.finish(value)
        assert caught.value.code == "device_signature_wrong"


def test_weak_digests_are_not_written(signers: dict[Kind, Identity]) -> None:
    with pytest.raises(SealAgentError) as caught:
        prepare_signed(CONTENT, certificate(signers["rsa"]), algorithm_by(oids.SHA1_RSA), TIME)
    assert caught.value.code == "algorithm_not_supported"


# --- what is refused ---


def test_each_octet_counts(signer: Identity) -> None:
    """Whatever octet is changed, in whatever way: the message is refused."""
    data = message(signer)
    chance = random.Random(4)
    for offset in range(len(data)):
        changed = bytearray(data)
        changed[offset] ^= 1 << chance.randrange(8)
        refused(bytes(changed))


def test_limits(sm2: Identity) -> None:
    data = message(sm2)
    with pytest.raises(LimitExceeded) as caught:
        open_signed(data, limit=len(data) - 1)
    assert caught.value.code == "signed_message_invalid"
    assert str(len(data)) in caught.value.message
    for wrong in (data + b"\0", data[:-1], b"", b"\0", data[:4], data + data):
        refused(wrong)


def test_ber(sm2: Identity) -> None:
    data = message(sm2)
    body = data[4:]
    assert data[:2] == b"\x30\x82"
    assert "indefinite" in refused(b"\x30\x80" + body + b"\0\0")
    assert "needless length" in refused(b"\x30\x83\0" + data[2:])
    assert "pieces" in refused(built(sm2, inner=lambda content: tlv(0x24, tlv(4, content[:3]), tlv(4, content[3:]))))
    attributes = usual_attributes(sm2, CONTENT, oids.GM_DATA)
    assert "not DER" in refused(built(sm2, attributes=attributes[::-1]))


def built(who: Identity, *, inner: Callable[[bytes], bytes] | None = None, **parts: object) -> bytes:
    """Return a message octet by octet: parts of :func:`cms_parts.signer_info` and :func:`cms_parts.signed_data`.

    :param inner: makes eContent of the content.
    """
    names = ("name", "digest_algorithm", "signature_algorithm", "message", "signature", "unsigned", "info_version")
    of_signer = {name.removeprefix("info_"): parts.pop(name) for name in names if name in parts}
    usual = usual_attributes(who, CONTENT, oids.GM_DATA if who.kind == "sm2" else oids.CMS_DATA)
    info = signer_info(who, parts.pop("attributes", usual), **of_signer)  # type: ignore[arg-type]
    content = parts.pop("content", CONTENT)
    data = signed_data(who, content, parts.pop("signers", [info]), **parts)  # type: ignore[arg-type]
    if inner is None:
        return data
    assert data.count(tlv(4, CONTENT)) == 1
    return _replaced(data, tlv(4, CONTENT), inner(CONTENT))


def _replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replace an element and mend the lengths around it."""
    at, grown = data.index(old), len(new) - len(old)
    out = bytearray(data[:at] + new + data[at + len(old) :])
    offset = 0
    while offset < at:  # every element whose extent holds the place
        length, header = data[offset + 1], 2
        if length & 0x80:
            header += length & 0x7F
            length = int.from_bytes(data[offset + 2 : offset + header], "big")
        if offset + header + length <= at:
            offset += header + length
            continue
        if header == 2:
            out[offset + 1] += grown
        else:
            out[offset + 2 : offset + header] = (length + grown).to_bytes(header - 2, "big")
        offset += header
    return bytes(out)


def test_the_builder_of_this_file_builds_what_is_right(signer: Identity) -> None:
    assert open_signed(built(signer), limit=LIMIT).content == CONTENT
    other = built(signer, inner=lambda content: tlv(4, content))
    assert open_signed(other, limit=LIMIT).content == CONTENT


def with_attributes(who: Identity, **changes: bytes | None) -> list[bytes]:
    """Return the usual attributes with some replaced (``type``, ``digest``, ``cert``) or left out."""
    kinds = {"type": oids.CMS_CONTENT_TYPE, "digest": oids.CMS_MESSAGE_DIGEST, "cert": "1.2.840.113549.1.9.16.2.47"}
    usual = usual_attributes(who, CONTENT, oids.GM_DATA)
    kept = [each for each in usual if not any(each.find(oid(kinds[name])) in range(8) for name in changes)]
    assert len(kept) == len(usual) - len(changes)
    return sorted([*kept, *(each for each in changes.values() if each)])


def test_attributes(sm2: Identity) -> None:
    def attributes(**changes: bytes | None) -> bytes:
        return built(sm2, attributes=with_attributes(sm2, **changes))

    assert "content was changed" in refused(
        attributes(digest=attribute(oids.CMS_MESSAGE_DIGEST, tlv(4, digest_of(sm2, b"other"))))
    )
    assert "no messageDigest" in refused(attributes(digest=None))
    assert "contentType" in refused(attributes(type=None))
    assert "contentType" in refused(attributes(type=attribute(oids.CMS_CONTENT_TYPE, oid(oids.CMS_DATA))))
    both = attribute(oids.CMS_CONTENT_TYPE, oid(oids.GM_DATA), oid(oids.GM_DATA))
    refused(attributes(type=both))
    assert "twice" in refused(built(sm2, attributes=sorted([*usual_attributes(sm2, CONTENT, oids.GM_DATA), both])))
    assert "without attributes" in refused(built(sm2, attributes=None, message=CONTENT))
    assert "without content" in refused(built(sm2, content=None))
    assert open_signed(attributes(cert=None), limit=LIMIT).signer == certificate(sm2), "it is optional"


@pytest.mark.parametrize("version", [1, 2])
def test_the_certificate_named_in_the_attributes(sm2: Identity, stranger: Identity, version: int) -> None:
    def with_name(**options: bytes) -> bytes:
        first = options.pop("certificate", sm2.der)
        name = named(first, version=version, **options)  # type: ignore[arg-type]
        return built(sm2, attributes=with_attributes(sm2, cert=name))

    assert open_signed(with_name(), limit=LIMIT).signer == certificate(sm2)
    assert open_signed(with_name(serial=sm2.der), limit=LIMIT).signer == certificate(sm2)
    assert "another certificate" in refused(with_name(certificate=stranger.der))
    assert "another certificate" in refused(with_name(serial=stranger.der))
    assert "another certificate" in refused(with_name(hash=bytes(32)))
    refused(with_name(hash=bytes(65)))
    for junk in (tlv(0x30), tlv(4), tlv(0x30, tlv(0x30)), tlv(0x30, tlv(0x30, tlv(0x30, algorithm("1.2.3"))))):
        kind = "1.2.840.113549.1.9.16.2.47" if version == 2 else "1.2.840.113549.1.9.16.2.12"
        refused(built(sm2, attributes=with_attributes(sm2, cert=attribute(kind, junk))))


def test_a_certificate_named_with_another_digest(sm2: Identity) -> None:
    def with_digest(dotted: str, hash: bytes) -> bytes:
        value = tlv(0x30, tlv(0x30, tlv(0x30, algorithm(dotted), tlv(4, hash))))
        return built(sm2, attributes=with_attributes(sm2, cert=attribute("1.2.840.113549.1.9.16.2.47", value)))

    assert open_signed(with_digest(oids.SM3, digest_of(sm2, sm2.der)), limit=LIMIT)
    assert "another certificate" in refused(with_digest(oids.SM3, bytes(32)))
    assert "1.2.3" in refused(with_digest("1.2.3", bytes(32)))


def test_whose_certificate(sm2: Identity, stranger: Identity) -> None:
    assert "0 certificates" in refused(built(sm2, certificates=[]))
    assert "0 certificates" in refused(built(sm2, certificates=[stranger.der]))
    assert "2 certificates" in refused(built(sm2, certificates=[sm2.der, sm2.der]))
    assert "signature value" in refused(
        built(stranger, name=sm2.der, certificates=[sm2.der], attributes=with_attributes(sm2))
    )
    refused(built(sm2, certificates=[sm2.der, b"\x30\x00"]))
    refused(built(sm2, certificates=[sm2.der] * 65))


def test_two_certificates_of_one_name_and_number(folder: Path) -> None:
    """The attribute binds the certificate: another one for the same key is not taken in its place."""
    ca = authority(folder, "sm2", "twin ca")
    first = identity(folder, "sm2", "twin", ca=ca)
    place = folder / "twin" / "second.pem"
    openssl(
        *("x509", "-req", "-in", folder / "twin" / "request.pem", "-vfyopt", DISTID, "-CA", ca.pem, "-CAkey", ca.key),
        *("-set_serial", "4711", "-sm3", "-sigopt", DISTID, "-days", "9", "-out", place),
    )
    second = replace(first, pem=place, der=openssl("x509", "-in", place, "-outform", "DER"))
    assert first.der != second.der
    assert open_signed(built(first), limit=LIMIT).signer == certificate(first)
    assert "another certificate" in refused(built(first, certificates=[second.der]))
    assert "2 certificates" in refused(built(first, certificates=[first.der, second.der]))


def test_signers(sm2: Identity, stranger: Identity) -> None:
    usual = usual_attributes(sm2, CONTENT, oids.GM_DATA)
    infos = [signer_info(who, usual) for who in (sm2, stranger)]
    both = [sm2.der, stranger.der]
    assert "signerInfos" in refused(built(sm2, signers=infos, certificates=both))
    assert "signerInfos" in refused(built(sm2, signers=[]))


def test_algorithms(signers: dict[Kind, Identity]) -> None:
    rsa, sm2 = signers["rsa"], signers["sm2"]
    assert open_signed(built(rsa, signature_algorithm=algorithm(oids.RSA_KEY, NULL)), limit=LIMIT)
    assert open_signed(built(sm2, signature_algorithm=algorithm(oids.SM2_WITH_SM3)), limit=LIMIT)
    for parts in (
        {"digest_algorithm": algorithm("1.2.3"), "digest_algorithms": [algorithm("1.2.3")]},
        {"digest_algorithm": algorithm(oids.SM3), "digest_algorithms": [algorithm(oids.SM3)]},
        {"signature_algorithm": algorithm(oids.ECDSA_SHA256)},
        {"signature_algorithm": algorithm("1.2.3")},
        {"digest_algorithms": []},
        {"digest_algorithms": [algorithm(oids.SHA256), algorithm(oids.SM3)]},
        {"digest_algorithm": algorithm(oids.SHA256, tlv(4))},
    ):
        refused(built(rsa, **parts))


def test_weak_signatures(folder: Path, signers: dict[Kind, Identity]) -> None:
    rsa = signers["rsa"]
    sha1 = algorithm(oids.SHA1)
    attributes = usual_attributes(rsa, CONTENT, oids.CMS_DATA, digest=bytes.fromhex(
        openssl("dgst", "-sha1", "-r", data=CONTENT).split()[0].decode()
    ))  # fmt: skip
    value = rsa.sign(tlv(0x31, *attributes), "sha1")
    weak = built(
        rsa,
        attributes=attributes,
        signature=value,
        digest_algorithm=sha1,
        digest_algorithms=[sha1],
        signature_algorithm=algorithm(oids.SHA1_RSA, NULL),
    )
    assert "weak" in refused(weak)
    place = folder / "short"
    place.mkdir()
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", place / "key.pem")
    openssl("req", "-x509", "-key", place / "key.pem", "-subj", "/CN=short", "-out", place / "cert.pem")
    der = openssl("x509", "-in", place / "cert.pem", "-outform", "DER")
    assert "weak" in refused(built(Identity("rsa", place / "key.pem", place / "cert.pem", der)))


def test_what_no_signature_covers(sm2: Identity) -> None:
    token = tlv(0xA1, attribute("1.2.840.113549.1.9.16.2.14", tlv(0x30)))
    for parts in (
        {"unsigned": token},
        {"crls": tlv(0xA1)},
        {"version": 3},
        {"info_version": 3},
        {"crls": tlv(0xA2)},
        {"kind": oids.CMS_SIGNED_DATA},
        {"content_type": oids.CMS_DATA},
        {"kind": "1.2.840.113549.1.7.3"},
        {"inner": lambda content: tlv(0x0C, content)},
    ):
        refused(built(sm2, **parts))  # type: ignore[arg-type]
    both = {"kind": oids.CMS_SIGNED_DATA, "content_type": oids.CMS_DATA}
    attributes = usual_attributes(sm2, CONTENT, oids.CMS_DATA)
    assert open_signed(built(sm2, attributes=attributes, **both), limit=LIMIT), "SM2 by RFC 5652: not mixed"


def test_attributes_are_no_content(sm2: Identity) -> None:
    """A signature over octets that look like attributes is not one over a message with these attributes."""
    raw = built(sm2, content=usual_set(sm2), attributes=None, message=usual_set(sm2))
    assert "without attributes" in refused(raw)


def usual_set(who: Identity) -> bytes:
    return tlv(0x31, *usual_attributes(who, CONTENT, oids.GM_DATA))


def test_many_elements(sm2: Identity) -> None:
    attributes = sorted(attribute(f"1.2.3.{number}", integer(1)) for number in range(61))
    usual = usual_attributes(sm2, CONTENT, oids.GM_DATA)
    assert "more than 64" in refused(built(sm2, attributes=sorted([*attributes, *usual])))
