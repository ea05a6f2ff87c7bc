"""What is on a token, read through a session: keys, certificates, data objects.

Most tokens hide private keys before login. A key is then known by its public key object, or by a certificate that is no
CA certificate; the private key has the same CKA_ID (PKCS#11 2.40 clause 4.7 recommends it, and every tool keeps to it).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pkcs11 import Attribute, ObjectClass
from pkcs11 import KeyType as NativeKeyType

from sealdrivers.contract import CertificateInfo, DataObjectInfo, KeyInfo, KeyType
from sealdrivers.pkcs11.binding import Attributes, Object, Session
from sealdrivers.pkcs11.mechanisms import Abilities
from sealdrivers.pkcs11.publickeys import (
    CURVE_PARAMETERS,
    CertificateFacts,
    PublicKey,
    ec_public_key,
    read_certificate,
    rsa_public_key,
)
from sealdrivers.uri import ObjectType, Pkcs11Uri

__all__ = [
    "MAX_CERTIFICATE",
    "MAX_DATA",
    "MAX_DATA_TOTAL",
    "FoundCertificate",
    "find_private_keys",
    "list_certificates",
    "list_data_objects",
    "list_keys",
]

MAX_CERTIFICATE = 64 << 10
"""Octets of a certificate. Seal certificates have one to four thousand; longer objects are left out of listings."""

MAX_DATA = 1 << 20
"""Octets of a data object. A seal with its picture has tens of thousands; longer objects are left out of listings."""

MAX_DATA_TOTAL = 4 << 20
"""Octets of all data objects in one listing; what comes after them is left out."""

MAX_COORDINATE = 32
"""Octets of a coordinate of the SM2 curve."""

CKC_X_509 = 0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundCertificate:
    """A certificate object."""

    info: CertificateInfo
    facts: CertificateFacts | None
    """None where the octets are no certificate."""
    object: Object


@dataclass(frozen=True, slots=True)
class _FoundKey:
    object_id: bytes
    label: str
    type: KeyType
    bits: int
    public: PublicKey | None
    may_sign: bool
    always_authenticate: bool = False


def object_uri(token: Pkcs11Uri, type: ObjectType, *, object_id: bytes | None = None, label: str | None = None) -> str:
    """Return the URI of an object on a token."""
    return str(replace(token, id=object_id, object=label, type=type))


def list_certificates(session: Session, token: Pkcs11Uri) -> list[FoundCertificate]:
    """Return the X.509 certificates."""
    found = []
    for item in session.find({Attribute.CLASS: ObjectClass.CERTIFICATE}):
        known = item.read(Attribute.CERTIFICATE_TYPE, Attribute.ID, Attribute.LABEL)
        if known.number(Attribute.CERTIFICATE_TYPE) not in (None, CKC_X_509):
            continue
        der = item.value(MAX_CERTIFICATE)
        if not der:
            continue
        object_id, label = known.octets(Attribute.ID), known.text(Attribute.LABEL)
        uri = object_uri(token, "cert", object_id=object_id, label=label)
        info = CertificateInfo(uri=uri, token_uri=str(token), object_id=object_id, label=label, der=der)
        found.append(FoundCertificate(info, read_certificate(der), item))
    return found


def list_data_objects(session: Session, token: Pkcs11Uri) -> list[DataObjectInfo]:
    """Return the public data objects."""
    found: list[DataObjectInfo] = []
    total = 0
    for item in session.find({Attribute.CLASS: ObjectClass.DATA}):
        known = item.read(Attribute.LABEL, Attribute.APPLICATION, Attribute.PRIVATE)
        if known.flag(Attribute.PRIVATE, default=False):
            continue
        value = item.value(min(MAX_DATA, MAX_DATA_TOTAL - total))
        if value is None:
            continue
        total += len(value)
        label = known.text(Attribute.LABEL)
        found.append(
            DataObjectInfo(
                uri=object_uri(token, "data", label=label),
                token_uri=str(token),
                label=label,
                application=known.text(Attribute.APPLICATION),
                value=value,
            )
        )
    return found


def list_keys(
    session: Session,
    token: Pkcs11Uri,
    certificates: Sequence[FoundCertificate],
    abilities: Abilities,
    *,
    private_visible: bool,
) -> list[KeyInfo]:
    """Return the signing keys.

    A key's URI names its CKA_ID alone, because the label of the private key is hidden before login and may differ from
    the one of the public key; the label is part of it only where the CKA_ID is empty or not unique.

    :param abilities: what the token can do.
    :param private_visible: the token hides no private key now: what has none is no key.
    """
    public = [_public(item, abilities) for item in session.find({Attribute.CLASS: ObjectClass.PUBLIC_KEY})]
    known = [
        _FoundKey(c.info.object_id, c.info.label, k.type, k.bits, k, may_sign=True)
        for c in certificates
        if c.facts is not None and not c.facts.is_ca
        for k in [c.facts.public_key]
    ]
    private = session.find({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
    found = [_private(item, [*public, *known], abilities) for item in private]
    if not private_visible:
        for key in (*public, *(key for key in known if key.object_id)):
            if not _has_pair(key, found):
                found.append(key)
    count = Counter(key.object_id for key in found)
    return [_info(key, token, abilities, named=not key.object_id or count[key.object_id] > 1) for key in found]


def find_private_keys(session: Session, key: KeyInfo) -> list[Object]:
    """Return the private key objects that a key may be; several where CKA_ID is not unique and labels do not help."""
    template = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: key.object_id}
    found = session.find(template)
    if len(found) > 1 or not key.object_id:
        found = [item for item in found if item.read(Attribute.LABEL).text(Attribute.LABEL) == key.label]
    return found


def _has_pair(key: _FoundKey, others: Sequence[_FoundKey]) -> bool:
    """Say whether one of the others is the same key: no two keys share CKA_ID and kind, unless both are known."""
    for other in others:
        if other.object_id != key.object_id or (not key.object_id and other.label != key.label):
            continue
        if other.public is None or key.public is None or other.public.material == key.public.material:
            return True
    return False


def _public(item: Object, abilities: Abilities) -> _FoundKey:
    known = item.read(
        Attribute.KEY_TYPE,
        Attribute.ID,
        Attribute.LABEL,
        Attribute.VERIFY,
        Attribute.MODULUS,
        Attribute.PUBLIC_EXPONENT,
        Attribute.EC_PARAMS,
        Attribute.EC_POINT,
    )
    return _found(known, _key_material(item, known, abilities), may_sign=known.flag(Attribute.VERIFY, default=True))


def _private(item: Object, public: Sequence[_FoundKey], abilities: Abilities) -> _FoundKey:
    known = item.read(
        Attribute.KEY_TYPE,
        Attribute.ID,
        Attribute.LABEL,
        Attribute.SIGN,
        Attribute.ALWAYS_AUTHENTICATE,
        Attribute.MODULUS,
        Attribute.PUBLIC_EXPONENT,
        Attribute.EC_PARAMS,
        Attribute.EC_POINT,
    )
    key = _found(
        known,
        _key_material(item, known, abilities),
        may_sign=known.flag(Attribute.SIGN, default=True),
        always_authenticate=known.flag(Attribute.ALWAYS_AUTHENTICATE, default=False),
    )
    if key.public is not None:
        return key
    fitting = [other for other in public if _is_of_kind(other, known, abilities) and _has_pair(key, [other])]
    fitting = [other for other in fitting if other.label == key.label] or fitting
    if len({other.public.material for other in fitting if other.public}) != 1:  # nothing fits, or it is not clear what
        return key
    return replace(key, public=fitting[0].public, type=fitting[0].type, bits=fitting[0].bits)


def _is_of_kind(public: _FoundKey, private: Attributes, abilities: Abilities) -> bool:
    """Say whether a private key, whose own public part is hidden, can belong to a public key."""
    match private.number(Attribute.KEY_TYPE):
        case NativeKeyType.RSA:
            return public.type.value.startswith("rsa")
        case NativeKeyType.EC:
            parameters = private.octets(Attribute.EC_PARAMS)
            return public.type in CURVE_PARAMETERS and parameters in (b"", CURVE_PARAMETERS[public.type])
        case vendors if vendors in abilities.sm2.key_types:
            return public.type is KeyType.SM2
        case _:
            return False


def _found(
    known: Attributes, public: PublicKey | None, *, may_sign: bool, always_authenticate: bool = False
) -> _FoundKey:
    return _FoundKey(
        object_id=known.octets(Attribute.ID),
        label=known.text(Attribute.LABEL),
        type=public.type if public else KeyType.OTHER,
        bits=public.bits if public else 0,
        public=public,
        may_sign=may_sign,
        always_authenticate=always_authenticate,
    )


def _key_material(item: Object, known: Attributes, abilities: Abilities) -> PublicKey | None:
    kind, parameters = known.number(Attribute.KEY_TYPE), known.octets(Attribute.EC_PARAMS)
    if kind == NativeKeyType.RSA:
        return rsa_public_key(known.octets(Attribute.MODULUS), known.octets(Attribute.PUBLIC_EXPONENT))
    if kind in abilities.sm2.key_types:
        if parameters not in (b"", CURVE_PARAMETERS[KeyType.SM2]):
            return None
        parameters = CURVE_PARAMETERS[KeyType.SM2]
    elif kind != NativeKeyType.EC:
        return None
    return ec_public_key(parameters, known.octets(Attribute.EC_POINT) or _coordinates(item, abilities))


def _coordinates(item: Object, abilities: Abilities) -> bytes:
    """Return the point of a public key on a product that keeps X and Y in attributes of its own; empty elsewhere."""
    profile = abilities.sm2.profile
    values = [item.value(MAX_COORDINATE, attribute) for attribute in profile.coordinates] if profile else []
    if not values or not all(values):
        return b""
    return b"\x04" + b"".join((value or b"").rjust(MAX_COORDINATE, b"\0") for value in values)


def _info(key: _FoundKey, token: Pkcs11Uri, abilities: Abilities, *, named: bool) -> KeyInfo:
    able = abilities.of(key.type, key.bits) if key.may_sign else ()
    return KeyInfo(
        uri=object_uri(token, "private", object_id=key.object_id, label=key.label if named else None),
        token_uri=str(token),
        object_id=key.object_id,
        label=key.label,
        type=key.type,
        bits=key.bits,
        mechanisms=able,
        fault=abilities.sm2.refusal if key.type is KeyType.SM2 and key.may_sign else None,
        public_key=key.public.spki if key.public else None,
        always_authenticate=key.always_authenticate,
    )
