"""The ASN.1 of certificates, algorithm identifiers and certification requests.

:mod:`.der` reads: what is handed out is plain Python values and slices of the received octets, so nothing is parsed
later and no signature is checked over re-encoded octets. asn1crypto, which is untyped and lazy, writes; of received
octets it is shown what the path library needs (:mod:`.chain`, :mod:`.revinfo`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from asn1crypto import algos, csr, keys, x509

from sealagent.pki import der, oids
from sealagent.pki.der import DerError, Element

__all__ = [
    "AlgorithmFields",
    "CertificateFields",
    "NameFields",
    "PssFields",
    "certificate_request",
    "certificate_request_info",
    "read_algorithm",
    "read_certificate",
    "read_name",
    "write_algorithm",
]

MAX_NAME_OCTETS = 8192  # of one distinguished name; comparing names is slow per character
MAX_EXTENSIONS = 4096  # of one certificate: what fits into its largest size
MAX_PURPOSES = 64  # of one extended key usage; certificates name one to five


def _register_oids() -> None:
    """Teach asn1crypto the Chinese identifiers. Its tables are global: this module alone changes them, once."""
    for table, names in (
        (algos.DigestAlgorithmId, {oids.SM3: "sm3"}),
        (algos.SignedDigestAlgorithmId, {oids.SM2_WITH_SM3: "sm3_sm2", oids.SM2_SIGN: "sm2"}),
    ):
        # The reverse table is built per class on first use and never again: both are replaced together.
        table._map = {**table._map, **names}
        table._reverse_map = {name: oid for oid, name in table._map.items()} | (table._reverse_map or {})
    keys.NamedCurve.register("sm2p256v1", oids.SM2_CURVE, 32)


_register_oids()


# --- certificates (RFC 5280) ---


@dataclass(frozen=True, slots=True)
class NameFields:
    """A distinguished name: as text by RFC 4514, and as values that are equal for equal names."""

    text: str
    comparable: tuple[tuple[tuple[str, str], ...], ...]


@dataclass(frozen=True, slots=True)
class CertificateFields:
    """What the agent uses of a certificate. Octets are slices of the received certificate."""

    tbs: bytes
    spki: bytes
    issuer: NameFields
    subject: NameFields
    serial: int
    not_before: datetime
    not_after: datetime
    inner_algorithm: bytes
    algorithm: bytes
    """DER AlgorithmIdentifier; :attr:`inner_algorithm` is the one within the signed part."""
    signature: bytes
    is_ca: bool
    key_usage: frozenset[str] | None
    """Names of :data:`_KEY_USAGES`; None where the extension is absent."""
    extended_key_usage: tuple[str, ...] | None
    """Purposes as dotted OIDs; None where the extension is absent."""
    extended_key_usage_critical: bool
    quirks: tuple[str, ...]


def read_certificate(data: bytes) -> CertificateFields:
    """Parse an X.509 certificate.

    :param data: DER; lengths written too long are survived and noted.
    :raises DerError: it is none.
    """
    whole = der.walk(data, "the certificate")
    tbs, algorithm, signature = whole.expect(der.SEQUENCE, "the certificate").children("the certificate", 3, 3)
    fields = tbs.expect(der.SEQUENCE, "tbsCertificate").children("tbsCertificate", 10)
    fields = fields[1:] if fields and fields[0].tag == der.CONTEXT_0 else fields
    if [field.tag for field in fields[:6]] != [der.INTEGER, *[der.SEQUENCE] * 5]:
        raise DerError("not a certificate")
    serial, inner_algorithm, issuer, validity, subject, spki = fields[:6]
    times = validity.children("validity", 2, 2)
    extensions = _extensions(fields[6:])
    usage, purposes = extensions.get(_KEY_USAGE), extensions.get(_EXTENDED_KEY_USAGE)
    return CertificateFields(
        tbs=tbs.raw,
        spki=spki.raw,
        issuer=_name(issuer),
        subject=_name(subject),
        serial=int.from_bytes(serial.contents, "big", signed=True),
        not_before=_time(times[0]),
        not_after=_time(times[1]),
        inner_algorithm=inner_algorithm.raw,
        algorithm=algorithm.expect(der.SEQUENCE, "signatureAlgorithm").raw,
        signature=signature.bits("signatureValue", len(data)),
        is_ca=_is_ca(extensions.get(_BASIC_CONSTRAINTS)),
        key_usage=None if usage is None else _key_usage(usage),
        extended_key_usage=None if purposes is None else _purposes(purposes),
        extended_key_usage_critical=purposes is not None and purposes.critical,
        quirks=tuple(dict.fromkeys(note.code for note in whole.source.notes)),
    )


def _time(element: Element) -> datetime:
    moment = element.time(element.tag, "validity")
    if element.tag == der.GENERALIZED_TIME and moment.year < 2050:
        element.note("quirk_cert_general_time", "")  # RFC 5280 4.1.2.5 wants UTCTime; seal makers' CAs write this
    return moment


_BASIC_CONSTRAINTS: Final = "2.5.29.19"
_KEY_USAGE: Final = "2.5.29.15"
_EXTENDED_KEY_USAGE: Final = "2.5.29.37"
_KEY_USAGES: Final = (
    "digital_signature",
    "non_repudiation",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
"""The bits of keyUsage in their order (RFC 5280 4.2.1.3)."""


@dataclass(frozen=True, slots=True)
class _Extension:
    critical: bool
    value: bytes
    """What extnValue holds, DER."""


def _extensions(optional: list[Element]) -> dict[str, _Extension]:
    """Return the extensions by OID. The agent judges three; the path library reads the others."""
    if optional and optional[0].tag == 0x81:  # issuerUniqueID
        optional = optional[1:]
    if optional and optional[0].tag == 0x82:  # subjectUniqueID
        optional = optional[1:]
    if not optional:
        return {}
    if [each.tag for each in optional] != [0xA3]:
        raise DerError("tbsCertificate: elements beyond its definition")
    (listed,) = optional[0].children("extensions", 1, 1)
    found: dict[str, _Extension] = {}
    for extension in listed.expect(der.SEQUENCE, "extensions").children("extensions", MAX_EXTENSIONS):
        kind, *critical, value = extension.expect(der.SEQUENCE, "Extension").children("Extension", 3, 2)
        oid = kind.oid("extnID")
        if oid in found:
            raise DerError(f"the extension {oid} is there twice")  # RFC 5280 4.2: which one counts would be a guess
        octets = value.expect(der.OCTET_STRING, "extnValue").contents
        found[oid] = _Extension(bool(critical) and critical[0].boolean("critical"), octets)
    return found


def _is_ca(extension: _Extension | None) -> bool:
    if extension is None:
        return False
    fields = der.walk(extension.value, "basicConstraints").expect(der.SEQUENCE, "basicConstraints")
    parts = fields.children("basicConstraints", 2)
    is_ca = bool(parts) and parts[0].tag == der.BOOLEAN and parts.pop(0).boolean("cA")
    if parts:
        parts.pop().integer("pathLenConstraint")
    if parts:
        raise DerError("basicConstraints: elements beyond its definition")
    return is_ca


def _purposes(extension: _Extension) -> tuple[str, ...]:
    listed = der.read(extension.value, "extKeyUsage").expect(der.SEQUENCE, "extKeyUsage")
    return tuple(each.oid("KeyPurposeId") for each in listed.children("extKeyUsage", MAX_PURPOSES))


def _key_usage(extension: _Extension) -> frozenset[str]:
    octets = der.read(extension.value, "keyUsage").expect(der.BIT_STRING, "keyUsage").contents
    count = 8 * (len(octets) - 1) - octets[0] if octets else -1
    if count < 0 or octets[0] > 7:
        raise DerError("keyUsage: not a BIT STRING")
    set_bits = (index for index in range(min(count, len(_KEY_USAGES))) if octets[1 + index // 8] << index % 8 & 0x80)
    return frozenset(_KEY_USAGES[index] for index in set_bits)


# --- names (RFC 4514, RFC 5280 7.1) ---

_NAME_KEYS: Final = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "SERIALNUMBER",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "T",
    "2.5.4.42": "GN",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "E",
}

_ENCODINGS: Final = {
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}


def read_name(data: bytes) -> NameFields:
    """Parse a distinguished name (DER). :raises DerError: it is none."""
    return _name(der.walk(data, "a name").expect(der.SEQUENCE, "a name"))


def _name(element: Element) -> NameFields:
    element.bounded("a name", MAX_NAME_OCTETS)
    shown: list[str] = []
    compared: list[tuple[tuple[str, str], ...]] = []
    for rdn in element.children("a name", MAX_NAME_OCTETS):
        parts = [_attribute(pair) for pair in rdn.expect(der.SET, "a name").children("a name", MAX_NAME_OCTETS, 1)]
        shown.append("+".join(part for part, _ in parts))
        compared.append(tuple(sorted(part for _, part in parts)))
    return NameFields(",".join(reversed(shown)), tuple(compared))


def _attribute(pair: Element) -> tuple[str, tuple[str, str]]:
    """Return one attribute to show, and its kind and value to compare."""
    kind, value = pair.expect(der.SEQUENCE, "an attribute").children("an attribute", 2, 2)
    oid = kind.oid("an attribute's type")
    key, encoding = _NAME_KEYS.get(oid, oid), _ENCODINGS.get(value.tag)
    if encoding is None:
        encoded = "#" + value.raw.hex()
        return f"{key}={encoded}", (f"{key}#", encoded)
    try:
        text = value.contents.decode(encoding)
    except UnicodeDecodeError:
        value.note("quirk_text", "")  # GBK octets in a PrintableString or UTF8String: old Chinese CAs
        text = value.contents.decode("gb18030", "replace")
    return f"{key}={_escaped(text)}", (key, _folded(text))


def _escaped(text: str) -> str:
    """Escape by RFC 4514 2.4; control characters become hexadecimal pairs, so that a name stays on its line."""
    out = []
    for index, char in enumerate(text):
        if unicodedata.category(char)[0] == "C":
            out.append("".join(f"\\{octet:02x}" for octet in char.encode("utf-8", "surrogatepass")))
        elif char in ',+"\\<>;' or (index == 0 and char in " #") or (index == len(text) - 1 and char == " "):
            out.append("\\" + char)
        else:
            out.append(char)
    return "".join(out)


def _folded(text: str) -> str:
    """Case and spaces do not count in names, nor does the string type (RFC 5280 7.1, in the main)."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


# --- algorithm identifiers (RFC 5280 4.1.1.2, RFC 4055) ---


@dataclass(frozen=True, slots=True)
class PssFields:
    """RSASSA-PSS-params by dotted OIDs; ``salt_length`` in octets."""

    digest: str
    mgf: str
    mgf_digest: str
    salt_length: int
    trailer: int


@dataclass(frozen=True, slots=True)
class AlgorithmFields:
    """An AlgorithmIdentifier. ``plain``: the parameters are absent or NULL."""

    oid: str
    plain: bool
    pss: PssFields | None = None


def read_algorithm(data: bytes) -> AlgorithmFields:
    """Parse an AlgorithmIdentifier (DER).

    :raises DerError: it is none, or its RSASSA-PSS-params are malformed.
    """
    oid, parameters = _algorithm(der.walk(data, "AlgorithmIdentifier"))
    if oid != oids.RSA_PSS:
        return AlgorithmFields(oid, parameters is None or parameters.raw == b"\x05\x00")
    if parameters is None:
        raise DerError("RSASSA-PSS without parameters")
    return AlgorithmFields(oid, False, _pss(parameters.expect(der.SEQUENCE, "RSASSA-PSS-params")))


def _algorithm(element: Element) -> tuple[str, Element | None]:
    fields = element.expect(der.SEQUENCE, "AlgorithmIdentifier").children("AlgorithmIdentifier", 2, 1)
    return fields[0].oid("algorithm"), fields[1] if len(fields) == 2 else None


def _pss(element: Element) -> PssFields:
    """RFC 4055 3.1: four fields tagged [0] to [3], each optional."""
    parts = element.children("RSASSA-PSS-params", 4)
    tags = [part.tag for part in parts]
    if tags != sorted(set(tags)) or not set(tags) <= {0xA0, 0xA1, 0xA2, 0xA3}:
        raise DerError("RSASSA-PSS-params: elements beyond its definition")
    given = {part.tag: part.children("RSASSA-PSS-params", 1, 1)[0] for part in parts}
    digest, mgf, mgf_digest, salt_length, trailer = oids.SHA1, oids.MGF1, oids.SHA1, 20, 1
    if 0xA0 in given:
        digest, _ = _algorithm(given[0xA0])
    if 0xA1 in given:
        mgf, parameters = _algorithm(given[0xA1])
        if parameters is None:
            raise DerError("maskGenAlgorithm without parameters")
        mgf_digest, _ = _algorithm(parameters)
    if 0xA2 in given:
        salt_length = given[0xA2].integer("saltLength")
    if 0xA3 in given:
        trailer = given[0xA3].integer("trailerField")
    return PssFields(digest, mgf, mgf_digest, salt_length, trailer)


def write_algorithm(oid: str, *, null: bool = False, pss: tuple[str, int] | None = None) -> bytes:
    """Return a DER AlgorithmIdentifier.

    :param null: whether the parameters are NULL instead of absent.
    :param pss: the digest's OID and the salt's length in octets; written out even where they are the default.
    """
    identifier = algos.SignedDigestAlgorithm({"algorithm": oid})
    if pss is not None:
        digest = algos.DigestAlgorithm({"algorithm": pss[0]})
        identifier["parameters"] = algos.RSASSAPSSParams(
            {
                "hash_algorithm": digest,
                "mask_gen_algorithm": {"algorithm": "mgf1", "parameters": digest},
                "salt_length": pss[1],
            }
        )
    elif null:
        identifier["parameters"] = algos.Null()
    return bytes(identifier.dump())


# --- certification requests (RFC 2986) ---


def certificate_request_info(spki: bytes, subject: Mapping[str, str]) -> bytes:
    """Return a DER CertificationRequestInfo without attributes.

    :param subject: asn1crypto's long attribute names (``common_name``) with their values.
    """
    info = csr.CertificationRequestInfo(
        {
            "version": "v1",
            "subject": x509.Name.build(dict(subject)),
            "subject_pk_info": keys.PublicKeyInfo.load(spki),
            "attributes": [],  # the field is not optional: an empty set is written
        }
    )
    return bytes(info.dump())


def certificate_request(info: bytes, algorithm: bytes, signature: bytes) -> bytes:
    """Return a DER CertificationRequest around ``info``, whose octets stay as they are."""
    request = csr.CertificationRequest(
        {
            "certification_request_info": csr.CertificationRequestInfo.load(info),
            "signature_algorithm": csr.SignedDigestAlgorithm.load(algorithm),
            "signature": signature,
        }
    )
    return bytes(request.dump())
