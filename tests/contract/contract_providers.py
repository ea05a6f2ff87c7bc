"""Who makes tokens for the contract suite. A new driver joins by adding a provider to :data:`PROVIDERS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sealdrivers.contract import Driver, Key, KeyType, Token
from sealdrivers.pkcs11.driver import open_driver
from softhsm2_fixtures import SM2_CURVE, KeyKind, SoftToken, certificate, new_key, session_key

__all__ = ["PROVIDERS", "CaseToken", "DriverCase", "PrivateKey", "Provider", "certificate", "new_key", "session_key"]

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class CaseToken(Protocol):
    """A token of a provider, changed from outside the driver under test."""

    label: str
    pin: str

    def put_key(self, type: KeyType, object_id: bytes, label: str = "key", *, public: bool = True) -> PrivateKey:
        """Put a key pair on the token and return it."""

    def put_certificate(self, der: bytes, object_id: bytes, label: str = "certificate") -> None: ...

    def put_rubbish_certificate(self, octets: bytes, object_id: bytes) -> None:
        """Store octets that are no certificate as one."""

    def put_data(self, value: bytes, label: str, application: str = "", *, private: bool = False) -> None: ...

    def put_sm2_key(self, object_id: bytes) -> None: ...

    def put_always_authenticating_key(self, object_id: bytes) -> PrivateKey: ...

    def protection(self, object_id: bytes) -> dict[str, Any]:
        """Return sensitive, extractable, sign, decrypt, unwrap and derive of a private key."""

    def delete(self, label: str) -> None: ...

    def lock(self) -> None: ...

    def remove(self) -> None: ...

    def insert(self) -> None: ...


class Provider(Protocol):
    """A kind of token."""

    name: str
    key_types: tuple[KeyType, ...]
    """What the driver signs with."""
    software: bool
    pin_lengths: tuple[int, int]
    """Shortest and longest PIN in octets."""
    signs_sm2: bool
    """False: keys on the SM2 curve are listed and refused."""

    def new_token(self, pin: str | None = None) -> CaseToken: ...

    def open(self) -> Driver: ...

    @property
    def module(self) -> Path: ...


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

    def put_key(self, type: KeyType, object_id: bytes, label: str = "key", *, public: bool = True) -> PrivateKey:
        return self.token.add_key(_kind(type), object_id=object_id, label=label, public=public)

    def put_certificate(self, der: bytes, object_id: bytes, label: str = "certificate") -> None:
        self.token.add_certificate(der, object_id=object_id, label=label)

    def put_rubbish_certificate(self, octets: bytes, object_id: bytes) -> None:
        self.token.add_certificate(octets, object_id=object_id, subject=bytes.fromhex("3000"))

    def put_data(self, value: bytes, label: str, application: str = "", *, private: bool = False) -> None:
        self.token.add_data(value, label=label, application=application, private=private)

    def put_sm2_key(self, object_id: bytes) -> None:
        self.token.generate_curve_key(SM2_CURVE, object_id=object_id)

    def put_always_authenticating_key(self, object_id: bytes) -> PrivateKey:
        return self.token.add_key("ec-p256", object_id=object_id, always_authenticate=True)

    def protection(self, object_id: bytes) -> dict[str, Any]:
        keys = [item for item in self.token.objects() if item["class"] == "PRIVATE_KEY"]
        (found,) = [key for key in keys if key["id"] == object_id.hex()]
        names = ("sensitive", "extractable", "sign", "decrypt", "unwrap", "derive")
        return {name: found[name] for name in names}

    def delete(self, label: str) -> None:
        assert self.token.delete(label) > 0

    def lock(self) -> None:
        self.token.lock()

    def remove(self) -> None:
        self.token.remove()

    def insert(self) -> None:
        self.token.insert()


@dataclass
class SoftHsmProvider:
    """SoftHSM2 through the PKCS#11 driver."""

    make: Callable[..., SoftToken]
    module: Path
    name = "softhsm2"
    key_types = (KeyType.RSA_2048, KeyType.RSA_3072, KeyType.RSA_4096, KeyType.EC_P256, KeyType.EC_P384)
    software = True
    pin_lengths = (4, 255)
    signs_sm2 = False

    def new_token(self, pin: str | None = None) -> CaseToken:
        return SoftHsmCaseToken(self.make(user_pin=pin))

    def open(self) -> Driver:
        return open_driver(self.module)


@dataclass
class DriverCase:
    """A provider, a fresh token of it, and the driver under test."""

    provider: Provider
    token: CaseToken
    driver: Driver

    def present(self, label: str | None = None) -> Token:
        """Return the driver's token with a label, by default the fresh one."""
        (found,) = [token for token in self.driver.tokens() if token.info.label == (label or self.token.label)]
        return found

    def labels(self) -> list[str]:
        return [token.info.label for token in self.driver.tokens()]

    def login(self) -> Token:
        """Log in to the fresh token."""
        token = self.present()
        token.login(self.pin())
        return token

    def pin(self) -> bytearray:
        """Return the right PIN, in a buffer of its own."""
        return bytearray(self.token.pin.encode())

    def only_key(self, kind: KeyType | None = None) -> Key:
        """Return the only key of a kind on the fresh token."""
        token = self.present()
        (info,) = [key for key in token.contents().keys if kind in (None, key.type)]
        return token.key(info.uri)


def _kind(type: KeyType) -> KeyKind:
    kind: KeyKind = type.value  # type: ignore[assignment]
    return kind


def softhsm2(request: pytest.FixtureRequest) -> Provider:
    """Make the SoftHSM2 provider."""
    return SoftHsmProvider(request.getfixturevalue("softhsm_new_token"), request.getfixturevalue("softhsm").module)


PROVIDERS: dict[str, Callable[[pytest.FixtureRequest], Provider]] = {"softhsm2": softhsm2}
