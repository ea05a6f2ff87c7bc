"""PKCS#11: what is on a token before and after login, and whether it fits together."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass

from pkcs11 import Attribute, ObjectClass
from pkcs11 import KeyType as NativeKeyType

from sealdrivers.contract import KeyType
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.publickeys import (
    CURVE_PARAMETERS,
    CertificateFacts,
    PublicKey,
    ec_public_key,
    read_certificate,
    rsa_public_key,
)
from sealdrivers.probe.pkcs11_abi import chosen_options
from sealdrivers.probe.pkcs11_native import Native, Slot, opened
from sealdrivers.probe.section import Section
from sealdrivers.vendors import Sm2Profile

__all__ = ["FoundKey", "Reader", "objects"]

MAX_COORDINATE = 32
CKC_X_509 = 0


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key object."""

    handle: int
    object_id: bytes
    label: str
    kind: int | None
    """CKA_KEY_TYPE."""
    public: PublicKey | None
    is_sm2: bool
    signs: bool = True
    always_authenticate: bool = False


@dataclass(frozen=True, slots=True)
class FoundCertificate:
    """A certificate object."""

    object_id: bytes
    facts: CertificateFacts | None


class Reader:
    """Reads the objects of a token through one session.

    :param profiles: entries of the vendor table that may be the module's.
    """

    def __init__(self, native: Native, slot: Slot, session: int, profiles: list[Sm2Profile]) -> None:
        self.native = native
        self.slot = slot
        self.session = session
        self._coordinates = profiles[0].coordinates if len(profiles) == 1 else ()
        self._key_types = frozenset(each.key_type for each in profiles if each.key_type is not None)

    def keys(self, kind: ObjectClass) -> list[FoundKey]:
        """Return the public or private keys."""
        return [self._key(handle) for handle in self._find(kind)]

    def certificates(self) -> list[FoundCertificate]:
        """Return the X.509 certificates."""
        found = []
        for handle in self._find(ObjectClass.CERTIFICATE):
            if self._number(handle, Attribute.CERTIFICATE_TYPE) not in (None, CKC_X_509):
                continue
            der = self.native.value(self.session, handle, Attribute.VALUE) or b""
            object_id = self.native.value(self.session, handle, Attribute.ID) or b""
            found.append(FoundCertificate(object_id, read_certificate(der)))
        return found

    def data_objects(self) -> int:
        """Return how many data objects there are."""
        return len(self._find(ObjectClass.DATA))

    def with_public(self, key: FoundKey, public: list[FoundKey], certificates: list[FoundCertificate]) -> FoundKey:
        """Return a private key with its public half, where it can be found by CKA_ID."""
        if key.public is not None:
            return key
        fitting = [other.public for other in public if other.object_id == key.object_id and other.public]
        fitting += [c.facts.public_key for c in certificates if c.object_id == key.object_id and c.facts]
        half = next((item for item in fitting if self._suits(key, item)), None)
        is_sm2 = key.is_sm2 or (half is not None and half.type is KeyType.SM2)
        return FoundKey(
            key.handle, key.object_id, key.label, key.kind, half, is_sm2, key.signs, key.always_authenticate
        )

    def _suits(self, key: FoundKey, public: PublicKey) -> bool:
        if key.kind == NativeKeyType.RSA:
            return public.type not in CURVE_PARAMETERS
        return public.type in CURVE_PARAMETERS and (public.type is KeyType.SM2 or not key.is_sm2)

    def _find(self, kind: ObjectClass) -> list[int]:
        return self.native.find_class(self.session, kind)

    def _number(self, handle: int, attribute: int) -> int | None:
        value = self.native.value(self.session, handle, attribute)
        return int.from_bytes(value, sys.byteorder) if value and len(value) in (4, 8) else None

    def _flag(self, handle: int, attribute: int, default: bool) -> bool:
        value = self.native.value(self.session, handle, attribute)
        return any(value) if value else default

    def _key(self, handle: int) -> FoundKey:
        def octets(attribute: int) -> bytes:
            return self.native.value(self.session, handle, attribute) or b""

        kind = self._number(handle, Attribute.KEY_TYPE)
        parameters = octets(Attribute.EC_PARAMS) if kind != NativeKeyType.RSA else b""
        vendors = kind in self._key_types
        public: PublicKey | None = None
        if kind == NativeKeyType.RSA:
            public = rsa_public_key(octets(Attribute.MODULUS), octets(Attribute.PUBLIC_EXPONENT))
        elif kind == NativeKeyType.EC or vendors:
            point = octets(Attribute.EC_POINT)
            if vendors and not parameters:
                parameters = CURVE_PARAMETERS[KeyType.SM2]
            public = ec_public_key(parameters, point or self._from_coordinates(handle))
            if public is not None and point[:1] == b"\x03":
                self.native.section.finding("p11_point_form", "CKA_EC_POINT", "it is a BIT STRING")
            elif public is not None and point == public.material:
                self.native.section.finding("p11_point_form", "CKA_EC_POINT", "it is the bare point")
        return FoundKey(
            handle=handle,
            object_id=octets(Attribute.ID),
            label=octets(Attribute.LABEL).decode("utf-8", "replace"),
            kind=kind,
            public=public,
            is_sm2=vendors or parameters == CURVE_PARAMETERS[KeyType.SM2],
            signs=self._flag(handle, Attribute.SIGN, default=True),
            always_authenticate=self._flag(handle, Attribute.ALWAYS_AUTHENTICATE, default=False),
        )

    def _from_coordinates(self, handle: int) -> bytes:
        values = [self.native.value(self.session, handle, attribute) for attribute in self._coordinates]
        if not values or not all(values):
            return b""
        return b"\x04" + b"".join((value or b"").rjust(MAX_COORDINATE, b"\0") for value in values)


def profiles_of(section: Section, native: Native) -> list[Sm2Profile]:
    """Return the module's profile alone, or all where none fits."""
    options = chosen_options(section)
    chosen = options.profile_for(native.module_info())
    return [chosen] if chosen else list(options.sm2)


def objects(section: Section) -> None:
    """Look at the objects that anybody sees."""
    with opened(section) as native:
        if native is None:
            return
        profiles = profiles_of(section, native)
        for slot in native.tokens():
            with section.attempt("C_OpenSession"), native.session(slot) as session:
                _objects(section, Reader(native, slot, session, profiles))


def _objects(section: Section, reader: Reader) -> None:
    public = reader.keys(ObjectClass.PUBLIC_KEY)
    private = reader.keys(ObjectClass.PRIVATE_KEY)
    certificates = reader.certificates()
    token = reader.slot.number
    section.row(
        "objects",
        {
            "token": token,
            "public_keys": len(public),
            "private_keys": len(private),
            "certificates": len(certificates),
            "data_objects": reader.data_objects(),
        },
    )
    if private and reader.slot.flags & abi.CKF_LOGIN_REQUIRED:
        section.finding("p11_private_visible", "C_FindObjects", f"token {token}: {len(private)}")
    for number, certificate in enumerate(certificates, 1):
        if certificate.facts is None:
            section.finding("certificate_unreadable", "CKA_VALUE", f"token {token}, certificate {number}")
            continue
        if not certificate.object_id and not certificate.facts.is_ca:
            section.finding("p11_id_empty", "CKA_ID", f"token {token}, certificate {number}")
    for number, key in enumerate(public, 1):
        section.row(
            "public_keys",
            {
                "token": token,
                "key": number,
                **section.named("label", key.label),
                "type": key.public.type.value if key.public else "",
                "key_type": f"0x{key.kind:X}" if key.kind is not None else "",
                "certificates": sum(1 for item in certificates if item.object_id == key.object_id),
            },
        )
        if not key.object_id:
            section.finding("p11_id_empty", "CKA_ID", f"token {token}, public key {number}")
        if key.public is None:
            # Of a kind we sign with, this is a fault; of another, it is none.
            severity = "public_key_unreadable" if key.is_sm2 else "key_not_supported"
            section.finding(severity, "CKA_EC_POINT" if key.is_sm2 else "CKA_KEY_TYPE", f"public key {number}")
            continue
        same = [item.facts for item in certificates if item.object_id == key.object_id and key.object_id and item.facts]
        if any(facts.public_key.material != key.public.material for facts in same):
            section.finding("certificate_mismatch", "CKA_ID", f"token {token}, public key {number}")
    twice = [identifier for identifier, count in Counter(key.object_id for key in public).items() if count > 1]
    if any(twice):
        section.finding("p11_id_twice", "CKA_ID", f"token {token}: {len(twice)}")
