"""Write seals and seal signatures of version 4 (GB/T 38540-2020) and 5 (GM/T 0031-2025) in strict DER.

Making a seal: :func:`build_seal_info`, sign its octets with the maker's key, :func:`assemble_seal`. Making a seal
signature: :func:`build_tbs`, sign its octets with the signer's key, :func:`assemble_signature`. Keys are used
elsewhere; nothing here verifies a signature.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from asn1crypto.core import Any as AnyElement

from sealagent.errors import FormatError
from sealagent.seals import asn1
from sealagent.seals.model import Extension, Picture
from sealagent.seals.parse import MAX_PICTURE, MAX_PICTURE_SIDE, parse_seal, parse_signature
from sealagent.seals.picture import NAMED_TYPES, looks_like

__all__ = ["assemble_seal", "assemble_signature", "build_seal_info", "build_tbs"]

VERSIONS = (4, 5)

_PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]+")  # X.680 PrintableString
_OID = re.compile(r"([01]\.[1-3]?[0-9]|2\.(0|[1-9][0-9]{0,20}))(\.(0|[1-9][0-9]{0,20}))*")


def build_seal_info(
    *,
    version: int,
    es_id: str,
    vendor: str,
    type: int,
    name: str,
    created: datetime,
    valid_from: datetime,
    valid_until: datetime,
    picture: Picture,
    certificates: Sequence[bytes] = (),
    certificate_digests: Sequence[tuple[str, bytes]] = (),
    extensions: Sequence[Extension] = (),
) -> bytes:
    """Write SES_SealInfo: the octets the maker signs.

    :param version: 4 or 5.
    :param certificates: the signers' certificates, DER (list type 1); or else
    :param certificate_digests: (name of the digest, digest of the DER) of each (list type 2).
    :param created: like the other two aware and in whole seconds; within valid_from..valid_until, else no verifier
        that follows the 2025 order would accept the seal.
    :return: DER.
    :raises FormatError: ``seal_field_invalid`` with the fact ``field``.
    """
    _require(version in VERSIONS, "version", "must be 4 or 5")
    _ascii(es_id, "es_id")
    _ascii(vendor, "vendor")
    _require(0 <= type < 1 << 31, "type", "must be a small number")
    _require(bool(name.strip()), "name", "must not be empty")
    _require(name.isprintable(), "name", "must not hold control characters")
    _require(bool(certificates) != bool(certificate_digests), "certificates", "need certificates or digests, not both")
    for label, value in certificate_digests:
        _require(bool(_PRINTABLE.fullmatch(label)), "certificate_digests", "the name must be a PrintableString")
        _require(32 <= len(value) <= 64, "certificate_digests", "must be digests of 32 to 64 octets: none that is weak")
    for moment, field in ((created, "created"), (valid_from, "valid_from"), (valid_until, "valid_until")):
        _time(moment, field)
    _require(valid_from < valid_until, "valid_until", "must be after valid_from")
    _require(valid_from <= created <= valid_until, "created", "must be within the validity")
    _check_picture(picture)
    info = asn1.SESSealInfo(
        {
            "header": {"ID": "ES", "version": version, "Vid": vendor},
            "esID": es_id,
            "property": {
                "type": type,
                "name": name,
                "certListType": 1 if certificates else 2,
                "certList": _cert_list(certificates, certificate_digests),
                "createDate": created,
                "validStart": valid_from,
                "validEnd": valid_until,
            },
            "picture": {
                "type": picture.type,
                "data": picture.data,
                "width": picture.width,
                "height": picture.height,
            },
        }
    )
    if extensions:
        info["extDatas"] = _extension_datas(extensions)
    return _dump(info)


def assemble_seal(
    info: bytes, maker_certificate: bytes, algorithm_oid: str, signature: bytes, timestamp: bytes | None = None
) -> bytes:
    """Put a seal together.

    :param info: from :func:`build_seal_info`, unchanged.
    :param maker_certificate: DER.
    :param signature: the maker's signature over info; for SM2 and ECDSA the DER of r and s.
    :param timestamp: version 5 only: DER token over the signature.
    :return: DER, the content of an ``.esl`` file.
    :raises FormatError: ``seal_field_invalid`` (arguments); ``seal_format`` (the info is not one, a limit).
    """
    der = _assemble(asn1.SESeal(), _received(info, "info"), maker_certificate, algorithm_oid, signature, timestamp)
    parse_seal(der)
    return der


def build_tbs(
    seal_der: bytes,
    version: int,
    time: datetime,
    data_hash: bytes,
    property_info: str,
    extensions: Sequence[Extension] = (),
) -> bytes:
    """Write TBS_Sign: the octets the signer signs.

    :param seal_der: the seal as received; embedded octet for octet, quirks included.
    :param version: that of the seal.
    :param time: signing time, aware, in whole seconds.
    :param data_hash: plain SM3 of the protected octets (for an OFD, of Signature.xml).
    :param property_info: states the protected range, e.g. ``/Doc_0/Signs/Sign_0/Signature.xml``.
    :return: DER.
    :raises FormatError: ``seal_field_invalid`` with the fact ``field``; ``seal_format``.
    """
    seal = parse_seal(seal_der)
    _require(version in VERSIONS and version == seal.version, "version", "must be 4 or 5 and that of the seal")
    _time(time, "time")
    _require(len(data_hash) == 32, "data_hash", "must be an SM3 digest")
    _ascii(property_info, "property_info")
    tbs = asn1.TBSSign(
        {
            "version": version,
            "eseal": _received(seal_der, "seal"),
            "timeInfo": time,
            "dataHash": data_hash,
            "propertyInfo": property_info,
        }
    )
    if extensions:
        tbs["extDatas"] = _extension_datas(extensions)
    return _dump(tbs)


def assemble_signature(
    tbs: bytes, certificate: bytes, algorithm_oid: str, signature: bytes, timestamp: bytes | None = None
) -> bytes:
    """Put a seal signature together.

    :param tbs: from :func:`build_tbs`, unchanged.
    :param certificate: the signer's, DER.
    :param signature: the signer's signature over tbs; for SM2 and ECDSA the DER of r and s.
    :param timestamp: DER token over the signature.
    :return: DER.
    :raises FormatError: ``seal_field_invalid`` (arguments); ``sig_format`` (the tbs is not one, a limit).
    """
    der = _assemble(asn1.SESSignature(), _received(tbs, "tbs"), certificate, algorithm_oid, signature, timestamp)
    parse_signature(der)
    return der


def _assemble(
    whole: Any, signed: Any, certificate: bytes, algorithm_oid: str, signature: bytes, timestamp: bytes | None
) -> bytes:
    """Fill SESeal or SES_Signature, which have the same five elements."""
    _require(certificate[:1] == b"\x30", "certificate", "must be DER")
    _require(bool(_OID.fullmatch(algorithm_oid)), "algorithm_oid", "must be a dotted object identifier")
    _require(bool(signature), "signature", "must not be empty")
    for index, value in enumerate((signed, certificate, algorithm_oid, signature)):
        whole[index] = value
    if timestamp is not None:
        whole["timeStamp"] = timestamp
    return _dump(whole)


def _require(condition: bool, field: str, message: str) -> None:
    if not condition:
        raise FormatError("seal_field_invalid", f"{field} {message}", field=field)


def _ascii(value: str, field: str) -> None:
    _require(bool(value) and value.isascii() and value.isprintable(), field, "must be printable ASCII and not empty")


def _time(moment: datetime, field: str) -> None:
    _require(moment.tzinfo is not None, field, "must say its time zone")
    _require(moment.microsecond == 0, field, "must be in whole seconds")
    _require(1950 <= moment.astimezone(UTC).year <= 9998, field, "must be a year of this era")


def _check_picture(picture: Picture) -> None:
    _require(picture.type in NAMED_TYPES, "picture", f"must be one of {', '.join(NAMED_TYPES)}")
    _require(len(picture.data) <= MAX_PICTURE, "picture", f"must have at most {MAX_PICTURE} octets")
    _require(looks_like(picture.type, picture.data), "picture", f"must hold {picture.type} octets")
    sides = (picture.width, picture.height)
    _require(all(1 <= side <= MAX_PICTURE_SIDE for side in sides), "picture", "must have its sides in millimetres")


def _cert_list(certificates: Sequence[bytes], digests: Sequence[tuple[str, bytes]]) -> tuple[str, Any]:
    """Name the alternative of SES_CertList with its value, as asn1crypto wants a CHOICE."""
    if certificates:
        return ("certs", asn1.Certs(list(certificates)))
    return ("certDigestList", asn1.CertDigestList([{"type": label, "value": value} for label, value in digests]))


def _extension_datas(extensions: Sequence[Extension]) -> Any:
    for extension in extensions:
        _require(bool(_OID.fullmatch(extension.oid)), "extensions", "must have a dotted object identifier")
    return asn1.ExtensionDatas(
        [{"extnID": item.oid, "critical": item.critical, "extnValue": item.value} for item in extensions]
    )


def _received(der: bytes, field: str) -> Any:
    """Wrap octets that must stay as they are."""
    try:
        return AnyElement.load(der, strict=True)
    except ValueError as error:
        raise FormatError("seal_field_invalid", f"{field} must be DER", field=field) from error


def _dump(value: Any) -> bytes:
    der: bytes = value.dump()
    return der
