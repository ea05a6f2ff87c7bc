"""The adapter over asn1crypto, which is untyped, lazy, and accepts BER. Beside it only :mod:`.chain` uses that library.

:mod:`.der` bounds hostile input first. What is handed out is plain Python values and slices of the received octets, so
nothing is parsed later and no signature is checked over re-encoded octets.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from asn1crypto import algos, csr, keys, x509

from sealagent.pki import oids
from sealagent.pki.der import DerError, Span, check, children, first

__all__ = [
    "AlgorithmFields",
    "CertificateFields",
    "NameFields",
    "PssFields",
    "certificate_request",
    "certificate_request_info",
    "read_algorithm",
    "read_certificate",
    "write_algorithm",
]

MAX_NAME_OCTETS = 8192  # of one distinguished name; comparing names is slow per character


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
    """Names of RFC 5280 in asn1crypto's spelling (``digital_signature``); None where the extension is absent."""
    quirks: tuple[str, ...]


def read_certificate(der: bytes) -> CertificateFields:
    """Parse an X.509 certificate.

    :raises Exception: hostile octets can make asn1crypto raise nearly anything; the caller catches ``Exception``.
    """
    quirks = [] if check(der) else ["quirk_ber"]
    outer = children(der, first(der))
    if der[0] != 0x30 or [span.tag for span in outer] != [0x30, 0x30, 0x03]:
        raise DerError("not a certificate")
    inner = children(der, outer[0])
    fields = inner[1:] if inner and inner[0].tag == 0xA0 else inner
    if [span.tag for span in fields[:6]] != [0x02, 0x30, 0x30, 0x30, 0x30, 0x30]:
        raise DerError("not a certificate")
    serial, inner_algorithm, issuer, validity, subject, spki = fields[:6]
    bits = outer[2].value(der)
    if bits[:1] != b"\0":
        raise DerError("the signature is no whole number of octets")
    is_ca, usage = _extensions(x509.Certificate.load(der)["tbs_certificate"]["extensions"])
    not_before, not_after = _validity(der, validity, quirks)
    return CertificateFields(
        tbs=outer[0].octets(der),
        spki=spki.octets(der),
        issuer=_name(der, issuer, quirks),
        subject=_name(der, subject, quirks),
        serial=int.from_bytes(serial.value(der), "big", signed=True),
        not_before=not_before,
        not_after=not_after,
        inner_algorithm=inner_algorithm.octets(der),
        algorithm=outer[1].octets(der),
        signature=bits[1:],
        is_ca=is_ca,
        key_usage=usage,
        quirks=tuple(dict.fromkeys(quirks)),
    )


def _validity(der: bytes, span: Span, quirks: list[str]) -> tuple[datetime, datetime]:
    times = children(der, span)
    if len(times) != 2:
        raise DerError("validity is not two times")
    return _time(der, times[0], quirks), _time(der, times[1], quirks)


def _time(der: bytes, span: Span, quirks: list[str]) -> datetime:
    moment = x509.Time.load(span.octets(der)).native
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise DerError("a time outside the calendar")  # year 0, or a GeneralizedTime without a zone
    moment = moment.astimezone(UTC)
    if span.tag == 0x18 and moment.year < 2050:
        quirks.append("quirk_cert_general_time")  # RFC 5280 4.1.2.5 wants UTCTime; seal makers' CAs write this
    return moment


def _extensions(extensions: Any) -> tuple[bool, frozenset[str] | None]:
    """Read the two extensions the agent judges; the path library reads the others."""
    is_ca, usage, seen = False, None, set()
    for extension in extensions:
        oid = extension["extn_id"].dotted
        if oid in seen:
            raise DerError(f"the extension {oid} is there twice")  # RFC 5280 4.2: which one counts would be a guess
        seen.add(oid)
        if oid in ("2.5.29.19", "2.5.29.15"):
            check(extension["extn_value"].contents)
            value = extension["extn_value"].parsed.native
            if oid == "2.5.29.19":
                is_ca = value["ca"] is True
            else:
                usage = frozenset(value)
    return is_ca, usage


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


def _name(der: bytes, span: Span, quirks: list[str]) -> NameFields:
    if span.end - span.start > MAX_NAME_OCTETS:
        raise DerError(f"a name of more than {MAX_NAME_OCTETS} octets")
    shown: list[str] = []
    compared: list[tuple[tuple[str, str], ...]] = []
    for rdn in children(der, span):
        parts = [_attribute(der, pair, quirks) for pair in children(der, rdn)]
        if rdn.tag != 0x31 or not parts:
            raise DerError("a name is not a sequence of sets")
        shown.append("+".join(part for part, _ in parts))
        compared.append(tuple(sorted(part for _, part in parts)))
    return NameFields(",".join(reversed(shown)), tuple(compared))


def _attribute(der: bytes, span: Span, quirks: list[str]) -> tuple[str, tuple[str, str]]:
    """Return one attribute to show, and its kind and value to compare."""
    pair = children(der, span)
    if [each.tag for each in pair[:1]] != [0x06] or len(pair) != 2:
        raise DerError("a name holds something else than type and value")
    oid = x509.NameType.load(pair[0].octets(der)).dotted
    value = pair[1].value(der)
    key, encoding = _NAME_KEYS.get(oid, oid), _ENCODINGS.get(pair[1].tag)
    if encoding is None:
        encoded = "#" + pair[1].octets(der).hex()
        return f"{key}={encoded}", (f"{key}#", encoded)
    try:
        text = value.decode(encoding)
    except UnicodeDecodeError:
        quirks.append("quirk_text")  # GBK octets in a PrintableString or UTF8String: old Chinese CAs
        text = value.decode("gb18030", "replace")
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


def read_algorithm(der: bytes) -> AlgorithmFields:
    """Parse an AlgorithmIdentifier.

    :raises Exception: see :func:`read_certificate`.
    """
    check(der)
    identifier = algos.AlgorithmIdentifier.load(der, strict=True)
    oid = identifier["algorithm"].dotted
    parameters = identifier["parameters"].dump()
    if oid != oids.RSA_PSS:
        return AlgorithmFields(oid, parameters in (b"", b"\x05\x00"))
    values = algos.RSASSAPSSParams.load(parameters, strict=True)
    mask = values["mask_gen_algorithm"]
    return AlgorithmFields(
        oid,
        False,
        PssFields(
            digest=values["hash_algorithm"]["algorithm"].dotted,
            mgf=mask["algorithm"].dotted,
            mgf_digest=mask["parameters"]["algorithm"].dotted,
            salt_length=values["salt_length"].native,
            trailer=int(values["trailer_field"]),
        ),
    )


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
