"""SignedData (RFC 5652, GB/T 35275) for tests, octet by octet, so that each part can be replaced; OpenSSL signs.

By default what comes out is right: a test names the one thing it makes wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache

from openssl_parts import parsed, sm3
from sample_seals import Identity, integer, oid, tlv, utc
from sealagent.pki import oids

SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.12"
SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"

NULL = tlv(5)


def algorithm(dotted: str, parameters: bytes = b"") -> bytes:
    """Return an AlgorithmIdentifier."""
    return tlv(0x30, oid(dotted), parameters)


def attribute(kind: str, *values: bytes) -> bytes:
    return tlv(0x30, oid(kind), tlv(0x31, *values))


@cache
def issuer_serial(certificate: bytes) -> tuple[bytes, bytes]:
    """Return a certificate's issuer and serial number, DER, where OpenSSL says they are."""
    fields = parsed(certificate).children[0].children
    return fields[3].whole, fields[1].whole


def digest_of(who: Identity, octets: bytes) -> bytes:
    return sm3(octets) if who.kind == "sm2" else hashlib.sha256(octets).digest()


def named(certificate: bytes, *, version: int = 2, hash: bytes | None = None, serial: bytes | None = None) -> bytes:
    """Return the attribute signingCertificate, or signingCertificateV2 with the default SHA-256.

    :param hash: certHash, instead of the right one.
    :param serial: issuerSerial of this certificate is put in.
    """
    if hash is None:
        hash = (hashlib.sha256 if version == 2 else hashlib.sha1)(certificate).digest()
    extra = b""
    if serial is not None:
        issuer, number = issuer_serial(serial)
        extra = tlv(0x30, tlv(0x30, tlv(0xA4, issuer)), number)
    kind = SIGNING_CERTIFICATE_V2 if version == 2 else SIGNING_CERTIFICATE
    return attribute(kind, tlv(0x30, tlv(0x30, tlv(0x30, tlv(4, hash), extra))))


def usual_attributes(
    who: Identity, content: bytes, content_type: str, time: datetime | None = None, *, digest: bytes | None = None
) -> list[bytes]:
    """Return contentType, messageDigest, signingTime and signingCertificateV2, as a message of ours has them."""
    moment = time or datetime.now(UTC)
    return sorted(
        [
            attribute(oids.CMS_CONTENT_TYPE, oid(content_type)),
            attribute(oids.CMS_MESSAGE_DIGEST, tlv(4, digest or digest_of(who, content))),
            attribute(oids.CMS_SIGNING_TIME, utc(moment.strftime("%y%m%d%H%M%SZ"))),
            named(who.der),
        ]
    )


def signer_info(
    who: Identity,
    attributes: Sequence[bytes] | None,
    *,
    version: int = 1,
    name: bytes | None = None,
    digest_algorithm: bytes | None = None,
    signature_algorithm: bytes | None = None,
    message: bytes | None = None,
    signature: bytes | None = None,
    unsigned: bytes = b"",
) -> bytes:
    """Return a SignerInfo.

    :param name: the certificate whose issuer and serial number it gives; by default the signer's.
    :param message: what is signed; by default the attributes as a SET.
    """
    sm2 = who.kind == "sm2"
    usual = {"sm2": oids.SM2_SIGN, "rsa": oids.SHA256_RSA, "p256": oids.ECDSA_SHA256}[who.kind]
    if signature is None:
        signature = who.sign(tlv(0x31, *(attributes or ())) if message is None else message)
    return tlv(
        0x30,
        integer(version),
        tlv(0x30, *issuer_serial(name or who.der)),
        digest_algorithm or algorithm(oids.SM3 if sm2 else oids.SHA256),
        b"" if attributes is None else tlv(0xA0, *attributes),
        signature_algorithm or algorithm(usual, NULL if who.kind == "rsa" else b""),
        tlv(4, signature),
        unsigned,
    )


def signed_data(
    who: Identity,
    content: bytes | None,
    signers: Sequence[bytes],
    *,
    version: int = 1,
    kind: str | None = None,
    content_type: str | None = None,
    digest_algorithms: Sequence[bytes] | None = None,
    certificates: Sequence[bytes] | None = None,
    crls: bytes = b"",
) -> bytes:
    """Return a ContentInfo; ``certificates`` None: the signer's."""
    sm2 = who.kind == "sm2"
    if digest_algorithms is None:
        digest_algorithms = [algorithm(oids.SM3 if sm2 else oids.SHA256)]
    carried = (who.der,) if certificates is None else certificates
    inner = content_type or (oids.GM_DATA if sm2 else oids.CMS_DATA)
    signed = tlv(
        0x30,
        integer(version),
        tlv(0x31, *digest_algorithms),
        tlv(0x30, oid(inner), b"" if content is None else tlv(0xA0, tlv(4, content))),
        tlv(0xA0, *carried) if carried else b"",
        crls,
        tlv(0x31, *signers),
    )
    outer = kind or (oids.GM_SIGNED_DATA if sm2 else oids.CMS_SIGNED_DATA)
    return tlv(0x30, oid(outer), tlv(0xA0, signed))
