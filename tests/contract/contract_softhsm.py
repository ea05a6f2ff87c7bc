"""SoftHSM2 tokens in the contract suite, and keys of the cryptography library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from contract_providers import Capable, CaseToken, KeyPair, Provider
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

import softhsm2_fixtures as softhsm2_kit
from sealdrivers.contract import Driver, KeyType, Mechanism
from sealdrivers.pkcs11.driver import open_driver
from softhsm2_fixtures import SM2_CURVE, KeyKind, SoftToken

__all__ = ["RSA", "SOFTHSM_MECHANISMS", "SoftwarePair", "softhsm2", "software_pair"]


@dataclass(frozen=True)
class SoftwarePair:
    """A key of the cryptography library."""

    key: softhsm2_kit.PrivateKey

    @property
    def spki(self) -> bytes:
        return softhsm2_kit.spki(self.key)

    def certificate(self, common_name: str = "contract test", *, ca: bool = False) -> bytes:
        return _ca_certificate(self.key) if ca else softhsm2_kit.certificate(self.key, common_name)


@dataclass
class SoftHsmCaseToken:
    """A SoftHSM token."""

    token: SoftToken

    @property
    def label(self) -> str:
        return self.token.label

    @property
    def pin(self) -> str:
        return self.token.user_pin

    def put_key(self, type: KeyType, object_id: bytes, label: str = "key", *, public: bool = True) -> KeyPair:
        return SoftwarePair(self.token.add_key(_kind(type), object_id=object_id, label=label, public=public))

    def put_certificate(self, der: bytes, object_id: bytes, label: str = "certificate") -> None:
        self.token.add_certificate(der, object_id=object_id, label=label)

    def put_rubbish_certificate(self, octets: bytes, object_id: bytes) -> None:
        self.token.add_certificate(octets, object_id=object_id, subject=bytes.fromhex("3000"))

    def put_data(self, value: bytes, label: str, application: str = "", *, private: bool = False) -> None:
        self.token.add_data(value, label=label, application=application, private=private)

    def put_sm2_key(self, object_id: bytes) -> KeyPair:
        self.token.generate_curve_key(SM2_CURVE, object_id=object_id)
        return SoftwarePair(softhsm2_kit.session_key("ec-p256"))  # nobody has use for the public half

    def put_always_authenticating_key(self, object_id: bytes) -> KeyPair:
        return SoftwarePair(self.token.add_key("ec-p256", object_id=object_id, always_authenticate=True))

    def protection(self, object_id: bytes) -> dict[str, Any] | None:
        keys = [item for item in self.token.objects() if item["class"] == "PRIVATE_KEY"]
        (found,) = [key for key in keys if key["id"] == object_id.hex()]
        names = ("sensitive", "extractable", "sign", "decrypt", "unwrap", "derive")
        return {name: found[name] for name in names}

    def delete(self, label: str) -> None:
        assert self.token.delete(label) > 0

    @property
    def admin_pin(self) -> str:
        return self.token.so_pin

    def lock(self, *, admin: bool = False) -> None:
        self.token.set_pin_flags(locked=True, admin=admin)

    def leave_one_try(self, *, admin: bool = False) -> None:
        self.token.set_pin_flags(final_try=True, admin=admin)

    def counters(self) -> object:
        return self.token.pin_flags()

    def remove(self) -> None:
        self.token.remove()

    def insert(self) -> None:
        self.token.insert()


RSA = tuple(mechanism for mechanism in Mechanism if mechanism.value.startswith("rsa"))
SOFTHSM_MECHANISMS = {
    KeyType.EC_P256: (Mechanism.ECDSA_SHA256, Mechanism.ECDSA_SHA384, Mechanism.ECDSA_SHA512),
    KeyType.EC_P384: (Mechanism.ECDSA_SHA384, Mechanism.ECDSA_SHA512, Mechanism.ECDSA_SHA256),
    KeyType.RSA_2048: RSA,
    KeyType.RSA_3072: RSA,
    KeyType.RSA_4096: RSA,
}


@dataclass
class SoftHsmProvider(Capable):
    """SoftHSM2 through the PKCS#11 driver."""

    make: Callable[..., SoftToken]
    module: Path
    name = "softhsm2"
    mechanisms = SOFTHSM_MECHANISMS
    software = True
    pin_lengths = (4, 255)
    signs_sm2 = False
    always_authenticates = True
    unblocks = True
    many_certificates = True

    def data_owner(self, asked: str) -> str:
        return asked

    def key_uris(self, token_uri: str, object_id: bytes, label: str) -> list[str]:
        return [f"{token_uri};id={quote(object_id, safe='')}", f"{token_uri};object={quote(label)}"]

    def pair(self, type: KeyType | None = None, *, new: bool = False) -> KeyPair:
        return software_pair(type or KeyType.EC_P256, new=new)

    def new_token(self, pin: str | None = None) -> CaseToken:
        return SoftHsmCaseToken(self.make(user_pin=pin))

    def open(self) -> Driver:
        return open_driver(self.module)


def software_pair(type: KeyType, *, new: bool) -> SoftwarePair:
    """Return a key pair that may be on no token; ``new``: one that is nowhere."""
    kind = _kind(type)
    return SoftwarePair(softhsm2_kit.new_key(kind) if new else softhsm2_kit.session_key(kind))


def _kind(type: KeyType) -> KeyKind:
    kind: KeyKind = type.value  # type: ignore[assignment]
    return kind


def _ca_certificate(key: softhsm2_kit.PrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")])
    leaf = x509.load_der_x509_certificate(softhsm2_kit.certificate(key))
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def softhsm2(request: pytest.FixtureRequest) -> Provider:
    """Make the SoftHSM2 provider."""
    return SoftHsmProvider(request.getfixturevalue("softhsm_new_token"), request.getfixturevalue("softhsm").module)
