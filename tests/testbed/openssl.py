"""The openssl command line as the holder of test keys. The product's own code never touches a private key."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FAMILIES", "KEY_TYPES", "SM2_ID", "Credential", "KeyType", "OpensslError", "new_key", "new_request", "run"]

# GM/T 0009 hashes a user ID in with the message; openssl takes an empty one unless it is told the default one.
SM2_ID = "distid:1234567812345678"

SECONDS = 60
"""Patience for one command; an RSA key takes tenths of a second."""


class OpensslError(RuntimeError):
    """openssl is missing, took too long, or refused; the message is its own."""


@dataclass(frozen=True, slots=True)
class KeyType:
    """How openssl makes a key, and what belongs to signing with it."""

    name: str
    genpkey: tuple[str, ...]
    digest: str
    signature: str
    """Signature algorithm as asn1crypto names it (SM2: as :mod:`sealagent.pki.asn1` taught it)."""
    sign: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()


KEY_TYPES = {
    kind.name: kind
    for kind in (
        KeyType("rsa-2048", ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"), "sha256", "sha256_rsa"),
        KeyType("p-256", ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"), "sha256", "sha256_ecdsa"),
        KeyType("p-384", ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"), "sha384", "sha384_ecdsa"),
        KeyType(
            *("sm2", ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2"), "sm3", "sm3_sm2"),
            ("-sigopt", SM2_ID),
            ("-vfyopt", SM2_ID),
        ),
    )
}

FAMILIES = {"sm2": "sm2", "rsa": "rsa-2048", "ec": "p-256"}
"""The algorithm families of the test bed, each with the type of its keys."""


def run(arguments: Sequence[str | Path], data: bytes = b"", *, folder: Path | None = None) -> bytes:
    """Run openssl and return its standard output.

    :param data: its standard input.
    :param folder: where it runs.
    :raises OpensslError: it is missing, took too long or refused.
    """
    try:
        done = subprocess.run(
            ["openssl", *map(str, arguments)], cwd=folder, input=data, capture_output=True, timeout=SECONDS, check=False
        )
    except FileNotFoundError:
        raise OpensslError("openssl is not installed; `make setup` installs it") from None
    except subprocess.TimeoutExpired:
        raise OpensslError(f"openssl {arguments[0]} took longer than {SECONDS} seconds") from None
    if done.returncode:
        raise OpensslError(f"openssl {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def new_key(kind: KeyType, path: Path) -> None:
    """Make a private key: PEM, readable by its owner only."""
    run(["genpkey", *kind.genpkey, "-out", path])


def new_request(kind: KeyType, key: Path, subject: Sequence[tuple[str, str]]) -> bytes:
    """Return a PKCS#10 request (PEM) signed by the key. :param subject: such as ``("CN", "…")``, in their order."""
    named = "".join(f"/{key}={_escaped(value)}" for key, value in subject)
    return run(["req", "-new", "-key", key, "-utf8", "-subj", named, f"-{kind.digest}", *kind.sign])


def _escaped(value: str) -> str:
    return "".join("\\" + letter if letter in "\\/+" else letter for letter in value)


@dataclass(frozen=True, slots=True)
class Credential:
    """A test key and its certificate; only openssl reads the key."""

    key_type: KeyType
    key: Path
    certificate: Path
    """DER."""

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self.certificate.read_bytes()

    def sign(self, message: bytes) -> bytes:
        """Return the signature over a message: RSA as long as the modulus, SM2 and ECDSA DER."""
        kind = self.key_type
        return run(["dgst", f"-{kind.digest}", *kind.sign, "-sign", self.key], message)
