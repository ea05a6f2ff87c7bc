"""The one registry of signature algorithms, and verification by them.

SM2 by GB/T 32918.2 and GM/T 0009, RSA by RFC 8017, ECDSA by FIPS 186.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from sealagent.errors import FormatError
from sealagent.pki import asn1, der, oids
from sealagent.pki.der import DerError
from sealagent.pki.digests import DIGEST_BY_OID, DIGEST_SIZES, WEAK_DIGESTS
from sealagent.pki.digests import digest as digest_of
from sealagent.pki.keys import MAX_RSA_BITS, PublicKey
from sealagent.pki.sm2 import SM2PublicKey

__all__ = [
    "SignatureAlgorithm",
    "SignatureCheck",
    "algorithm",
    "default_algorithm",
    "encode_algorithm",
    "parse_algorithm",
    "rsa_pss",
    "signing_digest",
    "verify",
    "verify_digest",
]

Kind: TypeAlias = Literal["sm2", "rsa-pkcs1", "rsa-pss", "ecdsa"]


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """How a signature is made."""

    oid: str
    name: str
    kind: Kind
    digest: str
    """A name of :data:`sealagent.pki.digests.DIGEST_SIZES`."""
    weak: bool
    salt_length: int | None = None
    """RSA-PSS: octets of the salt; None is the length of the digest."""


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """Whether a signature is right, and what is odd about its form (codes of :data:`sealagent.verdict.NOTES`)."""

    ok: bool
    quirks: tuple[str, ...] = ()


def _registry() -> dict[str, SignatureAlgorithm]:
    rows: tuple[tuple[str, str, Kind, str], ...] = (
        (oids.SM2_WITH_SM3, "SM2-SM3", "sm2", "sm3"),
        (oids.SM2_SIGN, "SM2-SM3", "sm2", "sm3"),  # GM CMS signers and some seal makers
        # SM2 with SHA-1 or SHA-256 (.502, .503) is left out: no text at hand says which digest makes Z, no real file
        # has it and OpenSSL 3.0 refuses it. "Not supported" is true where "wrong signature" might not be.
        (oids.RSA_WITH_SM3, "RSA-SM3", "rsa-pkcs1", "sm3"),
        (oids.RSA_WITH_SHA256_GM, "RSA-SHA256", "rsa-pkcs1", "sha256"),
        (oids.RSA_WITH_SHA1_GM, "RSA-SHA1", "rsa-pkcs1", "sha1"),
        (oids.SHA256_RSA, "RSA-SHA256", "rsa-pkcs1", "sha256"),
        (oids.SHA384_RSA, "RSA-SHA384", "rsa-pkcs1", "sha384"),
        (oids.SHA512_RSA, "RSA-SHA512", "rsa-pkcs1", "sha512"),
        (oids.SHA1_RSA, "RSA-SHA1", "rsa-pkcs1", "sha1"),
        (oids.ECDSA_SHA256, "ECDSA-SHA256", "ecdsa", "sha256"),
        (oids.ECDSA_SHA384, "ECDSA-SHA384", "ecdsa", "sha384"),
        (oids.ECDSA_SHA512, "ECDSA-SHA512", "ecdsa", "sha512"),
        (oids.ECDSA_SHA1, "ECDSA-SHA1", "ecdsa", "sha1"),
    )
    return {row[0]: SignatureAlgorithm(*row, weak=row[3] in WEAK_DIGESTS) for row in rows}


_ALGORITHMS: Final = _registry()

_DIGEST_OIDS: Final = {
    "sm3": oids.SM3,
    "sha256": oids.SHA256,
    "sha384": oids.SHA384,
    "sha512": oids.SHA512,
    "sha1": oids.SHA1,
}

_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sm3": hashes.SM3(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "sha1": hashes.SHA1(),  # noqa: S303 - read with a note, never written
}


def algorithm(oid: str) -> SignatureAlgorithm:
    """Return the algorithm a bare object identifier names.

    RSA-PSS is not among them: its identifier means nothing without parameters (RFC 4055, 3.1); see :func:`rsa_pss`.

    :raises FormatError: ``algorithm_not_supported``.
    """
    try:
        return _ALGORITHMS[oid]
    except KeyError:
        raise FormatError("algorithm_not_supported", f"the signature algorithm {oid} is not supported") from None


def rsa_pss(digest: str, salt_length: int | None = None) -> SignatureAlgorithm:
    """Return RSA-PSS with one digest for the message and for MGF1.

    :param salt_length: octets; None is the length of the digest.
    :raises FormatError: ``algorithm_not_supported``.
    """
    if digest not in _HASHES:
        raise FormatError("algorithm_not_supported", f"RSA-PSS with {digest} is not supported")
    name = f"RSA-PSS-{digest.upper()}"
    return SignatureAlgorithm(oids.RSA_PSS, name, "rsa-pss", digest, digest in WEAK_DIGESTS, salt_length)


def parse_algorithm(der: bytes) -> SignatureAlgorithm:
    """Read a DER AlgorithmIdentifier (parameters absent or NULL; RSA-PSS: by RFC 4055).

    :raises FormatError: ``algorithm_not_supported``, also for octets that are no AlgorithmIdentifier.
    """
    try:
        fields = asn1.read_algorithm(der)
    except DerError as error:
        raise FormatError("algorithm_not_supported", "the algorithm identifier cannot be read") from error
    if (pss := fields.pss) is not None:
        name = DIGEST_BY_OID.get(pss.digest, pss.digest)
        usual = (pss.mgf, pss.mgf_digest, pss.trailer) == (oids.MGF1, pss.digest, 1)
        if not usual or not 0 <= pss.salt_length <= MAX_RSA_BITS // 8:
            raise FormatError("algorithm_not_supported", "unusual RSA-PSS parameters are not supported")
        return rsa_pss(name, pss.salt_length)
    if not fields.plain:
        raise FormatError("algorithm_not_supported", f"parameters of {fields.oid} are not supported")
    return algorithm(fields.oid)


def encode_algorithm(algorithm: SignatureAlgorithm) -> bytes:
    """Return the DER AlgorithmIdentifier: NULL for RSA (RFC 4055), parameters for RSA-PSS, else none."""
    if algorithm.kind != "rsa-pss":
        return asn1.write_algorithm(algorithm.oid, null=algorithm.kind == "rsa-pkcs1")
    size = DIGEST_SIZES[algorithm.digest] if algorithm.salt_length is None else algorithm.salt_length
    return asn1.write_algorithm(algorithm.oid, pss=(_DIGEST_OIDS[algorithm.digest], size))


def default_algorithm(key: PublicKey) -> SignatureAlgorithm:
    """Return what a key signs with where nothing else is asked for: the digest matches the strength of the key."""
    if isinstance(key, SM2PublicKey):
        return _ALGORITHMS[oids.SM2_WITH_SM3]
    if isinstance(key, RSAPublicKey):
        return _ALGORITHMS[oids.SHA256_RSA]
    bits = key.curve.key_size
    return _ALGORITHMS[oids.ECDSA_SHA256 if bits <= 256 else oids.ECDSA_SHA384 if bits <= 384 else oids.ECDSA_SHA512]


def signing_digest(key: PublicKey, algorithm: SignatureAlgorithm, message: bytes) -> bytes:
    """Return what the device must sign: e (with Z and the default ID) for SM2, else the digest of the message."""
    if isinstance(key, SM2PublicKey) and algorithm.kind == "sm2":
        return key.e(message)
    return digest_of(algorithm.digest, message)


def verify(key: PublicKey, algorithm: SignatureAlgorithm, signature: bytes, message: bytes) -> SignatureCheck:
    """Verify a signature over a message; a bad one is ``ok=False``, never an exception."""
    return verify_digest(key, algorithm, signature, signing_digest(key, algorithm, message))


def verify_digest(key: PublicKey, algorithm: SignatureAlgorithm, signature: bytes, digest: bytes) -> SignatureCheck:
    """Verify a signature over a digest; a bad one is ``ok=False``, never an exception.

    :param signature: SM2: DER, or 64 octets r ‖ s; ECDSA: DER; RSA: as long as the modulus.
    :param digest: as :func:`signing_digest` returns it.
    """
    if len(digest) != DIGEST_SIZES[algorithm.digest]:
        return SignatureCheck(False)
    if isinstance(key, SM2PublicKey):
        return _verify_sm2(key, signature, digest) if algorithm.kind == "sm2" else SignatureCheck(False)
    prehashed = Prehashed(_HASHES[algorithm.digest])
    try:
        if isinstance(key, RSAPublicKey) and algorithm.kind in ("rsa-pkcs1", "rsa-pss"):
            key.verify(signature, digest, _padding(algorithm), prehashed)
        elif isinstance(key, EllipticCurvePublicKey) and algorithm.kind == "ecdsa":
            key.verify(signature, digest, ECDSA(prehashed))
        else:
            return SignatureCheck(False)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        # ValueError: a salt that does not fit the key; a digest the installed OpenSSL has switched off.
        return SignatureCheck(False)
    return SignatureCheck(True)


def _padding(algorithm: SignatureAlgorithm) -> AsymmetricPadding:
    if algorithm.kind == "rsa-pkcs1":
        return PKCS1v15()
    chosen = _HASHES[algorithm.digest]
    return PSS(MGF1(chosen), chosen.digest_size if algorithm.salt_length is None else algorithm.salt_length)


def _verify_sm2(key: SM2PublicKey, signature: bytes, e: bytes) -> SignatureCheck:
    quirks: tuple[str, ...] = ()
    for r, s, quirks in _sm2_values(signature):
        if key.verify(e, r, s):
            return SignatureCheck(True, quirks)
    return SignatureCheck(False, quirks)


_RAW_SIZE: Final = 64
_MAX_SM2_OCTETS: Final = 256  # two INTEGERs of 33 octets, with ample room for needless zeros


def _sm2_values(signature: bytes) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yield the readings of an SM2 signature: DER, and 64 raw octets (met in seals of several makers)."""
    if len(signature) <= _MAX_SM2_OCTETS and (found := _sm2_der(signature)):
        yield found
    if len(signature) == _RAW_SIZE:
        half = _RAW_SIZE // 2
        yield (
            int.from_bytes(signature[:half], "big"),
            int.from_bytes(signature[half:], "big"),
            ("quirk_raw_signature",),
        )


def _sm2_der(signature: bytes) -> tuple[int, int, tuple[str, ...]] | None:
    """Read SEQ{INTEGER r, INTEGER s}. INTEGERs with needless zeros are met in real seals; OpenSSL refuses them."""
    try:
        values = der.read(signature, "the signature").expect(der.SEQUENCE, "the signature")
        r, s = (each.integer("r or s", _MAX_SM2_OCTETS) for each in values.children("the signature", 2, 2))
    except DerError:
        return None
    return r, s, tuple(dict.fromkeys(note.code for note in values.source.notes))
