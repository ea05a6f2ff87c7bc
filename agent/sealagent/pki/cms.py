"""SignedData of GB/T 35275 (GM/T 0010) and RFC 5652, read from the octets received: structure only, no judgement.

Two forms occur in OFD: the signature over an encapsulated 32-octet SM3 of the file, without attributes; and the
signature over attributes whose messageDigest is the SM3 of the file, without content. Time-stamp tokens and signed
messages have both, content and attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sealagent.errors import FormatError
from sealagent.pki import der, oids
from sealagent.pki.certificates import Certificate
from sealagent.pki.der import DerError, Element
from sealagent.pki.digests import DIGEST_BY_OID, digest
from sealagent.pki.signatures import SignatureAlgorithm, algorithm, parse_algorithm
from sealagent.verdict import Note

__all__ = ["SignedData", "identifies", "issuer_and_serial", "parse_signed_data", "signature_algorithm"]

_CONTEXT_1 = 0xA1
MAX_CERTIFICATES = 64  # certificates carried along
MAX_ATTRIBUTES = 64
MAX_PARTS = 16  # elements of one structure
MAX_DIGEST = 64  # octets
MAX_SIGNATURE_VALUE = 4096  # octets


@dataclass(frozen=True, slots=True)
class SignedData:
    """A SignedData with one signer."""

    kind: str
    """contentType of the ContentInfo: SignedData by RFC 5652 or by GB/T 35275, dotted."""
    versions: tuple[int, int]
    """Of SignedData and of SignerInfo."""
    digest_algorithms: tuple[str, ...]
    """The announcement in front, dotted OIDs."""
    content_type: str
    """What the content is, dotted."""
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
    algorithm_identifier: bytes
    """digestEncryptionAlgorithm with its parameters, DER."""
    signature: bytes = field(repr=False)
    attributes: bytes | None = field(repr=False)
    """The octets that are signed when there are attributes: as received, under the tag of a SET."""
    attribute_type: str | None
    """The contentType attribute, dotted."""
    message_digest: bytes | None
    signing_time: datetime | None
    timestamp: bytes | None = field(repr=False)
    """Time-stamp token over the signature value (RFC 3161 appendix A), DER."""
    signing_certificates: tuple[bytes | None, bytes | None]
    """The attributes signingCertificate (RFC 2634) and signingCertificateV2 (RFC 5035), DER; see :func:`identifies`."""
    extras: bool
    """Whether there is something that no signature covers: CRLs, or unsigned attributes."""
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


def signature_algorithm(signed: SignedData) -> SignatureAlgorithm:
    """Return what the signer signed with; a bare RSA key's identifier takes the digest algorithm along.

    :raises FormatError: ``algorithm_not_supported``, also where the two algorithms named do not fit each other.
    """
    name = DIGEST_BY_OID.get(signed.digest_algorithm)
    if name is None:
        raise FormatError("algorithm_not_supported", f"the digest {signed.digest_algorithm} is not supported")
    if signed.algorithm == oids.RSA_KEY and name in _RSA_WITH:  # RFC 3370 3.2
        return algorithm(_RSA_WITH[name])
    found = parse_algorithm(signed.algorithm_identifier)
    if found.digest != name:
        raise FormatError("algorithm_not_supported", f"{found.name} with the digest {name}")
    return found


_RSA_WITH = {
    "sm3": oids.RSA_WITH_SM3,
    "sha256": oids.SHA256_RSA,
    "sha384": oids.SHA384_RSA,
    "sha512": oids.SHA512_RSA,
    "sha1": oids.SHA1_RSA,
}


def identifies(signed: SignedData, certificate: Certificate) -> bool | None:
    """Say whether the signed attributes name this certificate as the signer's; None if they name none.

    The first ESSCertID is the signer's (RFC 2634 5.4, RFC 5035 3); of the two attributes, each that is there must fit.

    :raises DerError: an attribute is malformed.
    :raises FormatError: ``algorithm_not_supported``: a digest that is not known.
    """
    answers = [
        _is_named(der.read(value, "signingCertificate"), certificate, second)
        for second, value in enumerate(signed.signing_certificates)
        if value is not None
    ]
    return all(answers) if answers else None


def _is_named(element: Element, certificate: Certificate, second: int) -> bool:
    """Compare the first ESSCertID, or ESSCertIDv2 of the second version of the attribute, with a certificate."""
    what = "signingCertificate"
    listed = element.expect(der.SEQUENCE, what).children(what, 2, 1)[0].expect(der.SEQUENCE, what)
    parts = listed.children(what, MAX_CERTIFICATES, 1)[0].expect(der.SEQUENCE, what).children(what, 3, 1)
    name = "sha256" if second else "sha1"
    if second and parts[0].tag == der.SEQUENCE:
        oid = _algorithm(parts.pop(0))
        if oid not in DIGEST_BY_OID:
            raise FormatError("algorithm_not_supported", f"signingCertificate with the digest {oid}")
        name = DIGEST_BY_OID[oid]
    if not 1 <= len(parts) <= 2:
        raise DerError(f"{what}: not an ESSCertID")
    fits = parts[0].octets("certHash", MAX_DIGEST) == digest(name, certificate.der)
    if len(parts) == 2:
        names, serial = parts[1].expect(der.SEQUENCE, "issuerSerial").children("issuerSerial", 2, 2)
        issuers = names.expect(der.SEQUENCE, "issuer").children("issuer", MAX_PARTS, 1)
        given = {(each.contents, serial.expect(der.INTEGER, "serialNumber").contents) for each in issuers}
        fits = fits and issuer_and_serial(certificate.der) in given
    return fits


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
    digests = parts[1].expect(der.SET, "digestAlgorithms").children("digestAlgorithms", MAX_PARTS)
    tags = [part.tag for part in optional]
    if tags not in ([], [der.CONTEXT_0], [_CONTEXT_1], [der.CONTEXT_0, _CONTEXT_1]):
        raise DerError(f"SignedData with elements {bytes(tags).hex(' ')}")
    certificates: list[Element] = []
    if der.CONTEXT_0 in tags:
        certificates = optional[0].children("certificates", MAX_CERTIFICATES)
    (signer,) = signers.children("signerInfos", 1, 1)
    info = signer.expect(der.SEQUENCE, "SignerInfo").children("SignerInfo", 7, 5)
    issuer, serial = info[1].expect(der.SEQUENCE, "issuerAndSerialNumber").children("issuerAndSerialNumber", 2, 2)
    attributes = info[3] if info[3].tag == der.CONTEXT_0 else None
    rest = info[3 if attributes is None else 4 :]
    if len(rest) not in (2, 3):
        raise DerError("SignerInfo has other elements than it may")
    unsigned = rest[2].expect(_CONTEXT_1, "unauthenticatedAttributes") if len(rest) == 3 else None
    found = {} if attributes is None else _attributes(attributes)
    kind = found.get(oids.CMS_CONTENT_TYPE)
    imprint = found.get(oids.CMS_MESSAGE_DIGEST)
    time = found.get(oids.CMS_SIGNING_TIME)
    token = None if unsigned is None else _attributes(unsigned).get(oids.AA_TIMESTAMP)
    if attributes is not None and imprint is None:
        raise DerError("the attributes hold no messageDigest")
    named = [found.get(each) for each in (oids.AA_SIGNING_CERTIFICATE, oids.AA_SIGNING_CERTIFICATE_V2)]
    first, second = (None if each is None else each.raw for each in named)
    return SignedData(
        kind=outer,
        versions=(parts[0].integer("version"), info[0].integer("version")),
        digest_algorithms=tuple(_algorithm(each) for each in digests),
        content_type=inner,
        content=content,
        certificates=tuple(each.raw for each in certificates),
        signer=(issuer.raw, serial.expect(der.INTEGER, "serialNumber").contents),
        digest_algorithm=_algorithm(info[2]),
        algorithm=_algorithm(rest[0], plain=False),
        algorithm_identifier=rest[0].raw,
        signature=rest[1].octets("encryptedDigest", MAX_SIGNATURE_VALUE),
        attributes=None if attributes is None else bytes([der.SET]) + attributes.raw[1:],
        attribute_type=None if kind is None else kind.oid("contentType"),
        message_digest=None if imprint is None else imprint.octets("messageDigest", MAX_DIGEST),
        signing_time=None if time is None else time.time(time.tag, "signingTime"),
        timestamp=None if token is None else token.raw,
        signing_certificates=(first, second),
        extras=_CONTEXT_1 in tags or unsigned is not None,
        notes=tuple(dict.fromkeys(element.source.notes)),
    )


def _encapsulated(element: Element) -> tuple[str, bytes | None]:
    content_type, *content = element.expect(der.SEQUENCE, "contentInfo").children("contentInfo", 2, 1)
    if not content:
        return content_type.oid("contentType"), None
    (value,) = content[0].expect(der.CONTEXT_0, "content").children("content", 1, 1)
    return content_type.oid("contentType"), value.expect(der.OCTET_STRING, "content").contents


def _algorithm(element: Element, *, plain: bool = True) -> str:
    """Return the OID. :param plain: of a digest: the parameters are absent or NULL (RFC 5754 2)."""
    parts = element.expect(der.SEQUENCE, "AlgorithmIdentifier").children("AlgorithmIdentifier", 2, 1)
    if plain and len(parts) == 2 and parts[1].raw != b"\x05\x00":
        raise DerError("a digest algorithm with parameters")
    return parts[0].oid("algorithm")


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
