"""Who makes tokens for the contract suite. A new driver joins by adding a provider to :data:`PROVIDERS`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

import softgm
import softhsm2_fixtures as softhsm2_kit
from sealdrivers.contract import Driver, Key, KeyType, Mechanism, Token
from sealdrivers.pkcs11.driver import open_driver
from sealdrivers.skf.driver import open_driver as open_skf_driver
from sealdrivers.skf.names import container_name, key_names
from softgm import SoftSkfToken
from softhsm2_fixtures import SM2_CURVE, KeyKind, SoftToken

__all__ = ["PROVIDERS", "CaseToken", "DriverCase", "KeyPair", "Provider"]


class KeyPair(Protocol):
    """A key pair whose private half is known to the test."""

    @property
    def spki(self) -> bytes:
        """DER SubjectPublicKeyInfo."""

    def certificate(self, common_name: str = "contract test", *, ca: bool = False) -> bytes:
        """Return a self-signed certificate in DER."""


class CaseToken(Protocol):
    """A token of a provider, changed from outside the driver under test."""

    @property
    def label(self) -> str: ...

    @property
    def pin(self) -> str: ...

    def put_key(self, type: KeyType, object_id: bytes, label: str = "key", *, public: bool = True) -> KeyPair:
        """Put a key pair on the token and return it. ``public``: with a public key object, where there are such."""

    def put_certificate(self, der: bytes, object_id: bytes, label: str = "certificate") -> None: ...

    def put_rubbish_certificate(self, octets: bytes, object_id: bytes) -> None:
        """Store octets that are no certificate as one."""

    def put_data(self, value: bytes, label: str, application: str = "", *, private: bool = False) -> None: ...

    def put_sm2_key(self, object_id: bytes) -> None: ...

    def put_always_authenticating_key(self, object_id: bytes) -> KeyPair: ...

    def protection(self, object_id: bytes) -> dict[str, Any] | None:
        """Return sensitive, extractable, sign, decrypt, unwrap and derive of a private key; None if keys have none."""

    def delete(self, label: str) -> None: ...

    def lock(self) -> None: ...

    def remove(self) -> None: ...

    def insert(self) -> None: ...


class Provider(Protocol):
    """A kind of token."""

    name: str
    software: bool
    pin_lengths: tuple[int, int]
    """Shortest and longest PIN in octets."""
    signs_sm2: bool
    """False: keys on the SM2 curve are listed and refused."""
    always_authenticates: bool
    """Whether there are keys that want the PIN with each signature."""
    many_certificates: bool
    """Whether a key has several certificates, each with a label of its own; else one, which has the key's label."""
    writable: bool
    """Whether a user who is logged in can generate and store; else the token refuses it, and holds no data objects."""
    keys_from_certificates: bool
    """Whether the module makes up a key for each certificate, with a private key on the device or without."""
    shows_rubbish: bool
    """Whether what is stored as a certificate and is none is listed."""
    deletes_unnoticed: bool
    """Whether something beside the driver can delete a key while the driver has the token open."""
    counts_aloud: bool
    """Whether the token says after the first wrong PIN that a try is gone."""
    login_survives_wrong_pin: bool
    """Whether a wrong PIN for one signature leaves the user logged in."""
    any_pin: bool
    """Whether a PIN may be any text."""

    @property
    def mechanisms(self) -> Mapping[KeyType, Sequence[Mechanism]]:
        """What the driver signs with, best first.

        The first type is for tests that take any key, the second for those that take another.
        """

    def data_owner(self, asked: str) -> str:
        """Return the application that a data object has, which was stored with another."""

    def object_id(self, asked: bytes) -> bytes:
        """Return the identifier of a key that was put on the fresh token with another."""

    def labels(self, key: str, certificate: str) -> tuple[str, str]:
        """Return the labels, before login, of a key and its certificate that were stored with others."""

    def key_uris(self, token_uri: str, object_id: bytes, label: str) -> list[str]:
        """Return URIs that mean one key, each on its own."""

    def pair(self, type: KeyType | None = None, *, new: bool = False) -> KeyPair:
        """Return a key pair that may be on no token, by default of the first type; ``new``: one that is nowhere."""

    def new_token(self, pin: str | None = None) -> CaseToken: ...

    def open(self) -> Driver: ...

    @property
    def module(self) -> Path: ...


class Capable:
    """A kind of token that can do everything; a provider says where its own cannot."""

    writable = True
    keys_from_certificates = False
    shows_rubbish = True
    deletes_unnoticed = True
    counts_aloud = True
    login_survives_wrong_pin = True
    any_pin = True

    def object_id(self, asked: bytes) -> bytes:
        return asked

    def labels(self, key: str, certificate: str) -> tuple[str, str]:
        return key, certificate


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

    def put_sm2_key(self, object_id: bytes) -> None:
        self.token.generate_curve_key(SM2_CURVE, object_id=object_id)

    def put_always_authenticating_key(self, object_id: bytes) -> KeyPair:
        return SoftwarePair(self.token.add_key("ec-p256", object_id=object_id, always_authenticate=True))

    def protection(self, object_id: bytes) -> dict[str, Any] | None:
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


_RSA = tuple(mechanism for mechanism in Mechanism if mechanism.value.startswith("rsa"))
SOFTHSM_MECHANISMS = {
    KeyType.EC_P256: (Mechanism.ECDSA_SHA256, Mechanism.ECDSA_SHA384, Mechanism.ECDSA_SHA512),
    KeyType.EC_P384: (Mechanism.ECDSA_SHA384, Mechanism.ECDSA_SHA512, Mechanism.ECDSA_SHA256),
    KeyType.RSA_2048: _RSA,
    KeyType.RSA_3072: _RSA,
    KeyType.RSA_4096: _RSA,
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
    many_certificates = True

    def data_owner(self, asked: str) -> str:
        return asked

    def key_uris(self, token_uri: str, object_id: bytes, label: str) -> list[str]:
        return [f"{token_uri};id={quote(object_id, safe='')}", f"{token_uri};object={quote(label)}"]

    def pair(self, type: KeyType | None = None, *, new: bool = False) -> KeyPair:
        kind = _kind(type or KeyType.EC_P256)
        return SoftwarePair(softhsm2_kit.new_key(kind) if new else softhsm2_kit.session_key(kind))

    def new_token(self, pin: str | None = None) -> CaseToken:
        return SoftHsmCaseToken(self.make(user_pin=pin))

    def open(self) -> Driver:
        return open_driver(self.module)


@dataclass(frozen=True)
class PemPair:
    """A key of the OpenSSL command line."""

    pem: bytes

    @property
    def spki(self) -> bytes:
        return softgm.spki(self.pem)

    def certificate(self, common_name: str = "contract test", *, ca: bool = False) -> bytes:
        return softgm.certificate(self.pem, common_name)


@dataclass
class SoftSkfCaseToken:
    """A device of the soft SKF library with one application."""

    token: SoftSkfToken

    @property
    def label(self) -> str:
        assert isinstance(self.token.label, str)
        return self.token.label

    @property
    def pin(self) -> str:
        return self.token.user_pin

    def put_key(self, type: KeyType, object_id: bytes, label: str = "key", *, public: bool = True) -> KeyPair:
        kind = _skf_kind(type)
        pem = softgm.new_key(kind) if kind == "sm2" else softgm.session_key(kind)
        self.token.add_key(kind, container=container_name(label, object_id), pem=pem)
        return PemPair(pem)

    def put_certificate(self, der: bytes, object_id: bytes, label: str = "certificate") -> None:
        self.token.add_certificate(der, container=self._container(object_id, label))

    def put_rubbish_certificate(self, octets: bytes, object_id: bytes) -> None:
        self.put_certificate(octets, object_id)

    def put_data(self, value: bytes, label: str, application: str = "", *, private: bool = False) -> None:
        self.token.add_file(label, value, read=softgm.USER if private else softgm.ANYONE)

    def put_sm2_key(self, object_id: bytes) -> None:
        self.put_key(KeyType.SM2, object_id)

    def put_always_authenticating_key(self, object_id: bytes) -> KeyPair:
        raise NotImplementedError("SKF has no such keys")

    def protection(self, object_id: bytes) -> dict[str, Any] | None:
        return None

    def delete(self, label: str) -> None:
        (found,) = [name for name in self._containers() if key_names(name)[0] == label]
        shutil.rmtree(self.token.add_container(found))

    def lock(self) -> None:
        self.token.lock()

    def remove(self) -> None:
        self.token.remove()

    def insert(self) -> None:
        self.token.insert()

    def _container(self, object_id: bytes, label: str) -> bytes:
        """Return the container of an identifier, which is made if it is not there."""
        found = [name for name in self._containers() if key_names(name)[1] == object_id]
        name = found[0] if found else container_name(label, object_id)
        self.token.add_container(name)
        return name

    def _containers(self) -> list[bytes]:
        assert isinstance(self.token.application, str)
        folder = self.token.directory / "applications" / self.token.application / "containers"
        return [os.fsencode(path.name) for path in folder.iterdir()]


@dataclass
class SoftSkfProvider(Capable):
    """The soft SKF library through the SKF driver."""

    make: Callable[..., SoftSkfToken]
    module: Path
    name = "softskf"
    mechanisms = {KeyType.SM2: (Mechanism.SM2_SM3,), KeyType.RSA_2048: _RSA[:3]}  # noqa: RUF012  # read only
    software = True
    pin_lengths = (6, 32)
    signs_sm2 = True
    always_authenticates = False
    many_certificates = False

    def data_owner(self, asked: str) -> str:
        return "SOFTSKF"  # that of the token; a file has none of its own

    def labels(self, key: str, certificate: str) -> tuple[str, str]:
        return key, key

    def key_uris(self, token_uri: str, object_id: bytes, label: str) -> list[str]:
        return [f"{token_uri};container={quote(container_name(label, object_id), safe='')}"]

    def pair(self, type: KeyType | None = None, *, new: bool = False) -> KeyPair:
        kind = _skf_kind(type or KeyType.SM2)
        return PemPair(softgm.new_key(kind) if new else softgm.session_key(kind))

    def new_token(self, pin: str | None = None) -> CaseToken:
        return SoftSkfCaseToken(self.make(user_pin=pin, space=8 << 20))

    def open(self) -> Driver:
        return open_skf_driver(self.module)


@dataclass
class DriverCase:
    """A provider, a fresh token of it, and the driver under test."""

    provider: Provider
    token: CaseToken
    driver: Driver

    @property
    def kind(self) -> KeyType:
        """A type of key the driver signs with, whichever."""
        return next(iter(self.provider.mechanisms))

    @property
    def other_kind(self) -> KeyType:
        """Another type."""
        return list(self.provider.mechanisms)[1]

    @property
    def mechanism(self) -> Mechanism:
        """What a key of :attr:`kind` does best."""
        return self.provider.mechanisms[self.kind][0]

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


def _skf_kind(type: KeyType) -> softgm.KeyKind:
    kind: softgm.KeyKind = type.value  # type: ignore[assignment]
    return kind


def softhsm2(request: pytest.FixtureRequest) -> Provider:
    """Make the SoftHSM2 provider."""
    return SoftHsmProvider(request.getfixturevalue("softhsm_new_token"), request.getfixturevalue("softhsm").module)


def softskf(request: pytest.FixtureRequest) -> Provider:
    """Make the soft SKF provider."""
    return SoftSkfProvider(request.getfixturevalue("softskf_new_token"), request.getfixturevalue("softskf").library)


def opensc(request: pytest.FixtureRequest) -> Provider:
    """Make the OpenSC provider."""
    from contract_opensc import opensc_provider

    return opensc_provider(request)


PROVIDERS: dict[str, Callable[[pytest.FixtureRequest], Provider]] = {
    "softhsm2": softhsm2,
    "softskf": softskf,
    "opensc": opensc,
}
