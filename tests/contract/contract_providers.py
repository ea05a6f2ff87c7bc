"""What a kind of token offers to the contract suite. The ``contract_*`` modules beside this one make the tokens; a new
driver joins by adding a provider to ``PROVIDERS`` in conftest.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sealdrivers.contract import Driver, Key, KeyType, Mechanism, Token

__all__ = ["Capable", "CaseToken", "DriverCase", "KeyPair", "Provider"]


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

    def put_sm2_key(self, object_id: bytes) -> KeyPair:
        """Put a key on the SM2 curve on the token, whether or not it signs with SM2."""

    def put_always_authenticating_key(self, object_id: bytes) -> KeyPair: ...

    def protection(self, object_id: bytes) -> dict[str, Any] | None:
        """Return sensitive, extractable, sign, decrypt, unwrap and derive of a private key; None if keys have none."""

    def delete(self, label: str) -> None: ...

    @property
    def admin_pin(self) -> str:
        """The administrator's PIN (SKF), the security officer's (PKCS#11)."""

    def lock(self, *, admin: bool = False) -> None:
        """Lock the user's PIN, or the administrator's."""

    def leave_one_try(self, *, admin: bool = False) -> None:
        """Leave one try for the user's PIN, or for the administrator's."""

    def counters(self) -> object:
        """Return what the token itself holds of its PIN counters, to compare with later."""

    def remove(self) -> None: ...

    def insert(self) -> None: ...


class Provider(Protocol):
    """A kind of token."""

    name: str
    software: bool
    pin_lengths: tuple[int, int]
    """Shortest and longest PIN in octets."""
    signs_sm2: bool
    """False: keys on the SM2 curve are refused, with the reason, once they have shown what they sign."""
    always_authenticates: bool
    """Whether there are keys that want the PIN with each signature."""
    unblocks: bool
    """Whether the administrator's PIN sets a new one of the user; else ``unblock_pin`` is refused."""
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
    counts_while_logged_in: bool
    """Whether the counter shows while the user is logged in: a PIV card then says no more than that."""
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
    counts_while_logged_in = True
    login_survives_wrong_pin = True
    any_pin = True

    def object_id(self, asked: bytes) -> bytes:
        return asked

    def labels(self, key: str, certificate: str) -> tuple[str, str]:
        return key, certificate


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

    def admin_pin(self) -> bytearray:
        """Return the administrator's PIN, in a buffer of its own."""
        return bytearray(self.token.admin_pin.encode())

    def only_key(self, kind: KeyType | None = None) -> Key:
        """Return the only key of a kind on the fresh token."""
        token = self.present()
        (info,) = [key for key in token.contents().keys if kind in (None, key.type)]
        return token.key(info.uri)
