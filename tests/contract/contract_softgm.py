"""Soft GM tokens in the contract suite: the soft SKF library, and the soft SM2 module for PKCS#11."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from contract_providers import Capable, CaseToken, KeyPair, Provider
from contract_softhsm import RSA, SOFTHSM_MECHANISMS, SoftwarePair, software_pair
from cryptography.hazmat.primitives import serialization

import softgm
from sealdrivers.contract import Driver, KeyType, Mechanism
from sealdrivers.pkcs11.driver import open_driver
from sealdrivers.skf.driver import open_driver as open_skf_driver
from sealdrivers.skf.names import container_name, key_names
from sealdrivers.vendors import ModuleOptions, vendor_table
from softgm import SoftSkfToken, SoftSm2Token

__all__ = ["PemPair", "softskf", "softsm2"]


@dataclass(frozen=True)
class PemPair:
    """A key of the OpenSSL command line."""

    pem: bytes

    @property
    def spki(self) -> bytes:
        return softgm.spki(self.pem)

    def certificate(self, common_name: str = "contract test", *, ca: bool = False) -> bytes:
        return softgm.certificate(self.pem, common_name, ca=ca)


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

    def put_sm2_key(self, object_id: bytes) -> KeyPair:
        return self.put_key(KeyType.SM2, object_id)

    def put_always_authenticating_key(self, object_id: bytes) -> KeyPair:
        raise NotImplementedError("SKF has no such keys")

    def protection(self, object_id: bytes) -> dict[str, Any] | None:
        return None

    def delete(self, label: str) -> None:
        (found,) = [name for name in self._containers() if key_names(name)[0] == label]
        shutil.rmtree(self.token.add_container(found))

    @property
    def admin_pin(self) -> str:
        return self.token.so_pin

    def lock(self, *, admin: bool = False) -> None:
        self.token.set_tries_left(0, admin=admin)

    def leave_one_try(self, *, admin: bool = False) -> None:
        self.token.set_tries_left(1, admin=admin)

    def counters(self) -> object:
        return self.token.tries_left(), self.token.tries_left(admin=True)

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
    mechanisms = {KeyType.SM2: (Mechanism.SM2_SM3,), KeyType.RSA_2048: RSA[:3]}  # noqa: RUF012  # read only
    software = True
    pin_lengths = (6, 32)
    signs_sm2 = True
    always_authenticates = False
    unblocks = True
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
class SoftSm2CaseToken:
    """A token of the soft SM2 module."""

    token: SoftSm2Token

    @property
    def label(self) -> str:
        return self.token.label

    @property
    def pin(self) -> str:
        return self.token.user_pin

    def put_key(self, type: KeyType, object_id: bytes, label: str = "key", *, public: bool = True) -> KeyPair:
        pem = softgm.new_key("sm2") if type is KeyType.SM2 else None
        made = self.token.add_key(type.value, object_id=object_id, label=label, pem=pem, public=public)
        return _pem_pair(type, made)

    def put_certificate(self, der: bytes, object_id: bytes, label: str = "certificate") -> None:
        self.token.add_certificate(der, object_id=object_id, label=label)

    def put_rubbish_certificate(self, octets: bytes, object_id: bytes) -> None:
        self.token.add_certificate(octets, object_id=object_id, subject=bytes.fromhex("3000"))

    def put_data(self, value: bytes, label: str, application: str = "", *, private: bool = False) -> None:
        self.token.add_data(value, label=label, application=application, private=private)

    def put_sm2_key(self, object_id: bytes) -> KeyPair:
        return self.put_key(KeyType.SM2, object_id)

    def put_always_authenticating_key(self, object_id: bytes) -> KeyPair:
        return PemPair(self.token.add_key("sm2", object_id=object_id, always_authenticate=True))

    def protection(self, object_id: bytes) -> dict[str, Any] | None:
        return None  # the module shows what the store inside does not have

    def delete(self, label: str) -> None:
        assert self.token.delete(label) > 0

    @property
    def admin_pin(self) -> str:
        return self.token.so_pin

    def lock(self, *, admin: bool = False) -> None:
        self.token.set_tries_left(0, so=admin)

    def leave_one_try(self, *, admin: bool = False) -> None:
        self.token.set_tries_left(1, so=admin)

    def counters(self) -> object:
        return self.token.tries_left(), self.token.tries_left(so=True)

    def remove(self) -> None:
        self.token.remove()

    def insert(self) -> None:
        self.token.insert()


@dataclass
class SoftSm2Provider(Capable):
    """The soft SM2 module, with the numbers of a vendor whose profile is named, through the PKCS#11 driver."""

    make: Callable[..., SoftSm2Token]
    module: Path
    name = "softsm2"
    mechanisms = {KeyType.SM2: (Mechanism.SM2_SM3,), **SOFTHSM_MECHANISMS}  # noqa: RUF012  # read only
    software = True
    pin_lengths = (4, 255)
    signs_sm2 = True
    always_authenticates = True
    unblocks = True
    many_certificates = True

    def data_owner(self, asked: str) -> str:
        return asked

    def key_uris(self, token_uri: str, object_id: bytes, label: str) -> list[str]:
        return [f"{token_uri};id={quote(object_id, safe='')}", f"{token_uri};object={quote(label)}"]

    def pair(self, type: KeyType | None = None, *, new: bool = False) -> KeyPair:
        if type is None or type is KeyType.SM2:
            return PemPair(softgm.new_key("sm2") if new else softgm.session_key("sm2"))
        return software_pair(type, new=new)

    def new_token(self, pin: str | None = None) -> CaseToken:
        return SoftSm2CaseToken(self.make(user_pin=pin))

    def open(self) -> Driver:
        return open_driver(self.module, ModuleOptions(vendor_table().sm2, sm2_profile="xipki placeholders"))


def _pem_pair(type: KeyType, pem: bytes) -> KeyPair:
    if type is KeyType.SM2:
        return PemPair(pem)
    key: Any = serialization.load_pem_private_key(pem, None)
    return SoftwarePair(key)


def _skf_kind(type: KeyType) -> softgm.KeyKind:
    kind: softgm.KeyKind = type.value  # type: ignore[assignment]
    return kind


def softskf(request: pytest.FixtureRequest) -> Provider:
    """Make the soft SKF provider."""
    return SoftSkfProvider(request.getfixturevalue("softskf_new_token"), request.getfixturevalue("softskf").library)


def softsm2(request: pytest.FixtureRequest) -> Provider:
    """Make the provider of the soft SM2 module."""
    return SoftSm2Provider(request.getfixturevalue("softsm2_new_token"), request.getfixturevalue("softsm2").library)
