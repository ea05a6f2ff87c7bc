"""SignedData of GB/T 35275 (GM/T 0010), read from the octets received: structure only, no judgement.

Two forms occur in OFD: the signature over an encapsulated 32-octet SM3 of the file, without attributes; and the
signature over attributes whose messageDigest is the SM3 of the file, without content.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sealagent.errors import FormatError
from sealagent.pki import der, oids
from sealagent.pki.der import DerError, Element
from sealagent.verdict import Note

__all__ = ["SignedData", "issuer_and_serial", "parse_signed_data"]

_ID_AA_TIMESTAMP = "1.2.840.113549.1.9.16.2.14"  # RFC 3161, appendix A
_CONTEXT_1 = 0xA1
MAX_CERTIFICATES = 64  # certificates carried along
MAX_ATTRIBUTES = 64
MAX_PARTS = 16  # elements of one structure
MAX_DIGEST = 64  # octets
MAX_SIGNATURE_VALUE = 4096  # octets


@dataclass(frozen=True, slots=True)
class SignedData:
    """A SignedData with one signer."""

    content: bytes | None = field(repr=False)
    """The encapsulated content, or None when detached."""
    certificates: tuple[bytes, ...] = field(repr=False)
    """DER."""
    signer: tuple[bytes, bytes]
    """Issuer (DER name) and serial number (content octets of the INTEGER) of the signer's certificate."""
    digest_algorithm: str
    """Dotted OID."""
    algorithm: str
    """Dotted OID of digestEncryptionAlgorithm."""
    signature: bytes = field(repr=False)
    attributes: bytes | None = field(repr=False)
    """The octets that are signed when there are attributes: as received, under the tag of a SET."""
    message_digest: bytes | None
    signing_time: datetime | None
    has_timestamp: bool
    notes: tuple[Note, ...]


def parse_signed_data(data: bytes) -> SignedData:
    """Read a ContentInfo with SignedData.

    :param data: DER; indefinite lengths are refused.
    :raises FormatError: ``sig_format``.
    """
    try:
        return _content_info(der.read(data, "the CMS"))
    except DerError as error:
        raise FormatError("sig_format", f"malformed CMS: {error}") from error


def issuer_and_serial(certificate: bytes) -> tuple[bytes, bytes] | None:
    """Return a certificate's issuer (DER) and serial (content octets), or None when it is malformed."""
    try:
        parts = der.read(certificate, "certificate").children("certificate", 3, 3)
        fields = parts[0].children("tbsCertificate", MAX_PARTS, 6)
        fields = fields[1:] if fields[0].tag == der.CONTEXT_0 else fields
        return fields[2].raw, fields[0].contents
    except DerError:
        return None


def _content_info(element: Element) -> SignedData:
    content_type, wrapped = element.expect(der.SEQUENCE, "ContentInfo").children("ContentInfo", 2, 2)
    outer = content_type.oid("contentType")
    if outer not in (oids.GM_SIGNED_DATA, oids.CMS_SIGNED_DATA):
        raise DerError(f"contentType {outer} is no SignedData")
    (signed,) = wrapped.expect(der.CONTEXT_0, "content").children("content", 1, 1)
    parts = signed.expect(der.SEQUENCE, "SignedData").children("SignedData", 6, 4)
    encapsulated, optional, signers = parts[2], parts[3:-1], parts[-1].expect(der.SET, "signerInfos")
    inner, content = _encapsulated(encapsulated)
    if outer != oids.GM_SIGNED_DATA or inner != oids.GM_DATA:
        element.note("quirk_cms_oid", f"{outer} with {inner}")
    certificates: tuple[bytes, ...] = ()
    for part in optional:
        if part.tag == der.CONTEXT_0:
            certificates = tuple(each.raw for each in part.children("certificates", MAX_CERTIFICATES))
        elif part.tag != _CONTEXT_1:
            raise DerError(f"tag {part.tag:02x} in SignedData")
    (signer,) = signers.children("signerInfos", 1, 1)
    return _signer_info(signer, content, certificates)


def _encapsulated(element: Element) -> tuple[str, bytes | None]:
    content_type, *content = element.expect(der.SEQUENCE, "contentInfo").children("contentInfo", 2, 1)
    if not content:
        return content_type.oid("contentType"), None
    (value,) = content[0].expect(der.CONTEXT_0, "content").children("content", 1, 1)
    return content_type.oid("contentType"), value.expect(der.OCTET_STRING, "content").contents


def _signer_info(element: Element, content: bytes | None, certificates: tuple[bytes, ...]) -> SignedData:
    parts = element.expect(der.SEQUENCE, "SignerInfo").children("SignerInfo", 7, 5)
    issuer, serial = parts[1].expect(der.SEQUENCE, "issuerAndSerialNumber").children("issuerAndSerialNumber", 2, 2)
    attributes = parts[3] if parts[3].tag == der.CONTEXT_0 else None
    rest = parts[3 if attributes is None else 4 :]
    if len(rest) not in (2, 3):
        raise DerError("SignerInfo has other elements than it may")
    unsigned = rest[2].expect(_CONTEXT_1, "unauthenticatedAttributes") if len(rest) == 3 else None
    found = {} if attributes is None else _attributes(attributes)
    digest = found.get(oids.CMS_MESSAGE_DIGEST)
    time = found.get(oids.CMS_SIGNING_TIME)
    if attributes is not None and digest is None:
        raise DerError("the attributes hold no messageDigest")
    return SignedData(
        content=content,
        certificates=certificates,
        signer=(issuer.raw, serial.expect(der.INTEGER, "serialNumber").contents),
        digest_algorithm=_algorithm(parts[2]),
        algorithm=_algorithm(rest[0]),
        signature=rest[1].octets("encryptedDigest", MAX_SIGNATURE_VALUE),
        attributes=None if attributes is None else bytes([der.SET]) + attributes.raw[1:],
        message_digest=None if digest is None else digest.octets("messageDigest", MAX_DIGEST),
        signing_time=None if time is None else time.time(time.tag, "signingTime"),
        has_timestamp=unsigned is not None and _ID_AA_TIMESTAMP in _attributes(unsigned),
        notes=tuple(dict.fromkeys(element.source.notes)),
    )


def _algorithm(element: Element) -> str:
    return element.expect(der.SEQUENCE, "AlgorithmIdentifier").children("AlgorithmIdentifier", 2, 1)[0].oid("algorithm")


def _attributes(element: Element) -> dict[str, Element]:
    """Return each attribute's single value; one without exactly one value, or given twice, is refused."""
    items = element.children("attributes", MAX_ATTRIBUTES)
    encoded = [item.raw for item in items]
    if encoded != sorted(encoded):
        element.note("quirk_cms_order", "attributes")
    found: dict[str, Element] = {}
    for item in items:
        kind, values = item.expect(der.SEQUENCE, "Attribute").children("Attribute", 2, 2)
        oid = kind.oid("attrType")
        if oid in found:
            raise DerError(f"attribute {oid} twice")
        (found[oid],) = values.expect(der.SET, "attrValues").children("attrValues", 1, 1)
    return found
