"""ASN.1 of GB/T 38540-2020 and GM/T 0031-2025, for writing. Declarations only.

Reading is done by :mod:`sealagent.seals.parse`, which also knows GM/T 0031-2014; version 1 is never written. What was
received and is embedded or wrapped unchanged is declared ANY, so that its octets stay as they are.
"""

# asn1crypto is untyped; its classes stay inside this module and build.py.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

from asn1crypto.core import (
    Any,
    Boolean,
    Choice,
    GeneralizedTime,
    IA5String,
    Integer,
    ObjectIdentifier,
    OctetBitString,
    OctetString,
    PrintableString,
    Sequence,
    SequenceOf,
    UTF8String,
)

__all__ = ["CertDigestList", "Certs", "ExtensionDatas", "SESSealInfo", "SESSignature", "SESeal", "TBSSign"]


# GB/T 38540-2020 clause 5: the seal


class SESHeader(Sequence):
    _fields = [("ID", IA5String), ("version", Integer), ("Vid", IA5String)]  # noqa: RUF012


class Certs(SequenceOf):
    _child_spec = OctetString


class CertDigestObj(Sequence):
    _fields = [("type", PrintableString), ("value", OctetString)]  # noqa: RUF012


class CertDigestList(SequenceOf):
    _child_spec = CertDigestObj


class SESCertList(Choice):
    """Untagged in the standard: certListType tells the alternatives apart, so this cannot be used for reading."""

    _alternatives = [("certs", Certs), ("certDigestList", CertDigestList)]  # noqa: RUF012


class SESESPropertyInfo(Sequence):
    _fields = [  # noqa: RUF012
        ("type", Integer),
        ("name", UTF8String),
        ("certListType", Integer),
        ("certList", SESCertList),
        ("createDate", GeneralizedTime),
        ("validStart", GeneralizedTime),
        ("validEnd", GeneralizedTime),
    ]


class SESESPictureInfo(Sequence):
    _fields = [("type", IA5String), ("data", OctetString), ("width", Integer), ("height", Integer)]  # noqa: RUF012


class ExtData(Sequence):
    _fields = [  # noqa: RUF012
        ("extnID", ObjectIdentifier),
        ("critical", Boolean, {"default": False}),
        ("extnValue", OctetString),
    ]


class ExtensionDatas(SequenceOf):
    _child_spec = ExtData


class SESSealInfo(Sequence):
    _fields = [  # noqa: RUF012
        ("header", SESHeader),
        ("esID", IA5String),
        ("property", SESESPropertyInfo),
        ("picture", SESESPictureInfo),
        ("extDatas", ExtensionDatas, {"optional": True}),  # untagged, as in every real seal
    ]


class SESeal(Sequence):
    _fields = [  # noqa: RUF012
        ("eSealInfo", Any),
        ("cert", OctetString),
        ("signAlgID", ObjectIdentifier),
        ("signedValue", OctetBitString),
        ("timeStamp", OctetBitString, {"explicit": 0, "optional": True}),  # GM/T 0031-2025
    ]


# GB/T 38540-2020 clause 7: the seal signature


class TBSSign(Sequence):
    _fields = [  # noqa: RUF012
        ("version", Integer),
        ("eseal", Any),
        ("timeInfo", GeneralizedTime),
        ("dataHash", OctetBitString),
        ("propertyInfo", IA5String),
        ("extDatas", ExtensionDatas, {"explicit": 0, "optional": True}),
    ]


class SESSignature(Sequence):
    _fields = [  # noqa: RUF012
        ("toSign", Any),
        ("cert", OctetString),
        ("signatureAlgID", ObjectIdentifier),
        ("signature", OctetBitString),
        ("timeStamp", OctetBitString, {"explicit": 0, "optional": True}),
    ]
