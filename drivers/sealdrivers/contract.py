"""What every driver offers: modules, tokens, keys, mechanisms.

Two faces of one contract. :class:`Driver`, :class:`Token` and :class:`Key` are what a driver implements; they are
blocking, single-threaded and live in the module's worker process. :class:`TokenService` is what the daemon sees: all
modules together, asynchronous, addressed by URI alone.

Names are those of PKCS#11 (module, slot, token, object, mechanism). A token is named by serial and label, never by
slot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

__all__ = [
    "CertificateInfo",
    "DataObjectInfo",
    "Driver",
    "Key",
    "KeyInfo",
    "KeyType",
    "Mechanism",
    "ModuleInfo",
    "PinState",
    "ReportsSlotEvents",
    "Token",
    "TokenContents",
    "TokenInfo",
    "TokenService",
    "short_id",
]


class KeyType(StrEnum):
    """Kinds of signing key."""

    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    SM2 = "sm2"
    OTHER = "other"
    """A key the token has but this contract cannot sign with; it is listed with no mechanisms."""


class Mechanism(StrEnum):
    """How a digest is signed. The digest is always computed by the caller, over a document it has itself.

    RSA results are octets of the modulus length. ECDSA and SM2 results are DER ``SEQUENCE{INTEGER r, INTEGER s}``,
    whatever the device answers. The input of ``SM2_SM3`` is e = SM3(Z || M) (GM/T 0009), 32 octets.
    """

    RSA_PKCS1_SHA256 = "rsa-pkcs1-sha256"
    RSA_PKCS1_SHA384 = "rsa-pkcs1-sha384"
    RSA_PKCS1_SHA512 = "rsa-pkcs1-sha512"
    RSA_PSS_SHA256 = "rsa-pss-sha256"
    RSA_PSS_SHA384 = "rsa-pss-sha384"
    RSA_PSS_SHA512 = "rsa-pss-sha512"
    ECDSA_SHA256 = "ecdsa-sha256"
    ECDSA_SHA384 = "ecdsa-sha384"
    ECDSA_SHA512 = "ecdsa-sha512"
    SM2_SM3 = "sm2-sm3"

    @property
    def digest_name(self) -> str:
        """Name of the digest for :func:`hashlib.new`."""
        return self.value.rsplit("-", 1)[1]

    @property
    def digest_length(self) -> int:
        """Octets of the digest to be signed."""
        return {"sha256": 32, "sha384": 48, "sha512": 64, "sm3": 32}[self.digest_name]


@dataclass(frozen=True, slots=True)
class PinState:
    """What is known of a PIN without spending a try."""

    initialized: bool = True
    tries_left: int | None = None
    """None where the device does not count aloud (PKCS#11)."""
    count_low: bool = False
    final_try: bool = False
    locked: bool = False
    factory_pin: bool = False
    """The device says that its PIN is still the one it left the factory with (SKF), or that it has to be changed
    (CKF_USER_PIN_TO_BE_CHANGED)."""

    @property
    def last_try(self) -> bool:
        """Whether another wrong PIN locks it, as far as the device tells."""
        return self.final_try or self.tries_left == 1


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """One loaded module."""

    path: str
    """Resolved path of the library."""
    driver: str
    """``pkcs11`` or ``skf``."""
    manufacturer: str = ""
    description: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """One present token; readable before login."""

    uri: str
    """``pkcs11:token=…;manufacturer=…;model=…;serial=…`` (RFC 7512), or ``skf:serial=…;application=…``."""
    label: str
    serial: str
    manufacturer: str
    model: str
    module: str
    """Resolved path of the library that serves it."""
    driver: str
    login_required: bool
    logged_in: bool
    protected_authentication_path: bool
    """The PIN is entered on the device; none is asked for."""
    write_protected: bool
    pin: PinState
    software: bool = False
    """A software token (SoftHSM): for tests only, and always shown as such."""
    admin_pin: PinState = PinState()
    """What is known of the administrator's PIN (SKF), the security officer's (PKCS#11)."""

    @property
    def id(self) -> str:
        """Short name for paths and command lines."""
        return short_id(self.uri)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One signing key."""

    uri: str
    """``pkcs11:token=…;serial=…;id=%01;object=…;type=private``, or ``skf:serial=…;application=…;container=…``."""
    token_uri: str
    object_id: bytes
    """CKA_ID, which the certificate of the same key shares."""
    label: str
    type: KeyType
    bits: int
    mechanisms: tuple[Mechanism, ...]
    """Best first. Empty for a key this contract cannot use."""
    public_key: bytes | None
    """DER SubjectPublicKeyInfo, or None where neither public key nor certificate is readable."""
    always_authenticate: bool = False
    """Each signature needs the PIN anew (CKA_ALWAYS_AUTHENTICATE)."""
    fault: str | None = None
    """Why a key of a type that could sign has no mechanisms, in a sentence; None where nothing is wrong."""

    @property
    def id(self) -> str:
        return short_id(self.uri)


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """One certificate on a token; readable before login."""

    uri: str
    token_uri: str
    object_id: bytes
    label: str
    der: bytes


@dataclass(frozen=True, slots=True)
class DataObjectInfo:
    """One public data object on a token, read whole up to a named limit; a seal is kept in one."""

    uri: str
    token_uri: str
    label: str
    application: str
    value: bytes


@dataclass(frozen=True, slots=True)
class TokenContents:
    """What a token holds, as far as it may be read now."""

    keys: tuple[KeyInfo, ...]
    certificates: tuple[CertificateInfo, ...]
    data_objects: tuple[DataObjectInfo, ...]


def short_id(uri: str) -> str:
    """Return 16 hexadecimal digits that name a URI in paths and command lines (first 8 octets of its SHA-256)."""
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


class Key(Protocol):
    """A private key on a token, inside the worker."""

    @property
    def info(self) -> KeyInfo: ...

    def sign(
        self,
        mechanism: Mechanism,
        digest: bytes,
        pin: bytearray | None = None,
        *,
        confirmed_last_try: bool = False,
    ) -> bytes:
        """Sign a digest on the device.

        :param pin: UTF-8 PIN for a key that always authenticates, wiped by the callee.
        :param confirmed_last_try: see :meth:`Token.login`.
        :raises MechanismNotSupported: the key cannot do it, or the digest has the wrong length.
        :raises LoginRequired: log in first. :raises TokenRemoved: the token is gone.
        """


class Token(Protocol):
    """A present token, inside the worker."""

    @property
    def info(self) -> TokenInfo: ...

    def contents(self) -> TokenContents:
        """List keys, certificates and public data objects, before login as far as the token shows them."""

    def key(self, uri: str) -> Key:
        """Return the key a URI names. :raises KeyNotFound: none, or more than one, matches."""

    def login(self, pin: bytearray | None, *, confirmed_last_try: bool = False) -> None:
        """Log the user in; one call spends at most one try. None: protected authentication path.

        :param pin: UTF-8, wiped by the callee before it returns.
        :param confirmed_last_try: the holder has said that the last try may be spent. The counter is read right before
            the PIN goes to the device, so that tries spent meanwhile by another program count; where the device does
            not tell its counter, there is no such guard.
        :raises PinIncorrect: with the state of the counter after the try. :raises PinLocked: no try was possible.
        :raises PinLastTry: one try is left and nobody confirmed it; nothing was sent.
        """

    def logout(self) -> None: ...

    def change_pin(self, old: bytearray, new: bytearray, *, confirmed_last_try: bool = False) -> None:
        """Change the user PIN; both buffers are wiped. :raises PinIncorrect: nothing changed, and as :meth:`login`."""

    def unblock_pin(self, admin: bytearray, new: bytearray, *, confirmed_last_try: bool = False) -> None:
        """Set a new user PIN with the administrator's, whose tries it may spend; both buffers are wiped.

        The user is logged out after it, whatever comes of it.

        :raises AdminPinIncorrect: nothing changed. :raises AdminPinLocked: no try was possible.
        :raises PinLastTry: the administrator's PIN has one try left and nobody confirmed it; nothing was sent.
        :raises NotSupported: the module has no such function.
        """

    def generate_key(self, type: KeyType, label: str, object_id: bytes) -> KeyInfo:
        """Generate a key pair on the device, private key sensitive and not extractable.

        :raises ObjectExists: the identifier is taken. :raises LoginRequired: log in first.
        """

    def import_certificate(self, der: bytes, label: str, object_id: bytes) -> CertificateInfo:
        """Store a certificate beside the key of the same identifier, replacing one with the same octets."""

    def import_data(self, value: bytes, label: str, application: str) -> DataObjectInfo:
        """Store a public data object (a seal). :raises ObjectExists: the label is taken."""


class Driver(Protocol):
    """One loaded module, inside its worker process."""

    @property
    def info(self) -> ModuleInfo: ...

    def tokens(self) -> Sequence[Token]:
        """Return the tokens that are present now, each once."""

    def close(self) -> None:
        """Release the module. The process ends after it."""


@runtime_checkable
class ReportsSlotEvents(Protocol):
    """A driver that can be asked whether a token came or went, which costs less than listing the tokens."""

    def slot_event(self) -> bool | None:
        """Say whether something happened since the last call, without waiting; None: the module cannot tell."""


class TokenService(Protocol):
    """All modules together, as the daemon sees them. Every method may raise a ``DriverError``."""

    async def modules(self) -> Sequence[ModuleInfo]: ...

    async def tokens(self) -> Sequence[TokenInfo]:
        """Return the present tokens of all modules; a module that fails is left out and shows up in ``health()``."""

    async def contents(self, token_uri: str) -> TokenContents: ...

    async def login(self, token_uri: str, pin: bytearray | None, *, confirmed_last_try: bool = False) -> None:
        """Log in on every worker of the module. The first worker that refuses the PIN ends it. Wipes ``pin``."""

    async def logout(self, token_uri: str) -> None: ...

    def logged_in(self, token_uri: str) -> bool:
        """Say whether the user is logged in to the token, as far as is known without asking it."""

    async def sign(
        self,
        key_uri: str,
        mechanism: Mechanism,
        digest: bytes,
        pin: bytearray | None = None,
        *,
        confirmed_last_try: bool = False,
    ) -> bytes: ...

    async def change_pin(
        self, token_uri: str, old: bytearray, new: bytearray, *, confirmed_last_try: bool = False
    ) -> None: ...

    async def unblock_pin(
        self, token_uri: str, admin: bytearray, new: bytearray, *, confirmed_last_try: bool = False
    ) -> None: ...

    async def generate_key(self, token_uri: str, type: KeyType, label: str, object_id: bytes) -> KeyInfo: ...

    async def import_certificate(self, token_uri: str, der: bytes, label: str, object_id: bytes) -> CertificateInfo: ...

    async def import_data(self, token_uri: str, value: bytes, label: str, application: str) -> DataObjectInfo: ...

    async def close(self) -> None:
        """End every worker."""
