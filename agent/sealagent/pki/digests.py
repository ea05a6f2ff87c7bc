"""Digest algorithms by name: SM3 (GB/T 32905), SHA-2 and, for reading old documents only, SHA-1 and MD5."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes

from sealagent.errors import FormatError
from sealagent.pki import oids

__all__ = ["DIGEST_BY_OID", "DIGEST_SIZES", "WEAK_DIGESTS", "Hash", "digest", "new_digest"]

DIGEST_SIZES: Final[Mapping[str, int]] = MappingProxyType(
    {"sm3": 32, "sha256": 32, "sha384": 48, "sha512": 64, "sha1": 20, "md5": 16}
)
"""Every digest the agent knows, with the length of its value in octets."""

DIGEST_BY_OID: Final[Mapping[str, str]] = MappingProxyType(
    {
        oids.SM3: "sm3",
        oids.SM3_WITHOUT_KEY: "sm3",
        oids.SHA256: "sha256",
        oids.SHA384: "sha384",
        oids.SHA512: "sha512",
        oids.SHA1: "sha1",
        oids.MD5: "md5",
    }
)

WEAK_DIGESTS: Final = frozenset({"sha1", "md5"})
"""Digests for which collisions are known: read with a note, never written."""


class Hash(Protocol):
    """A running digest."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class _CryptographySM3:
    """SM3 where Python's own OpenSSL has none (builds on OpenSSL 1.1 without it, or on another library)."""

    def __init__(self) -> None:
        self._state = hashes.Hash(hashes.SM3())

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._state.update(data)

    def digest(self) -> bytes:
        return self._state.copy().finalize()


def _hashlib_has_sm3() -> bool:
    try:
        hashlib.new("sm3")
    except ValueError:
        return False
    return True


_HASHLIB_HAS_SM3: Final = _hashlib_has_sm3()


@cache
def _fresh(name: str) -> hashlib._Hash:
    """Return a digest to be copied: making one anew looks the algorithm up in OpenSSL, ten times as slow."""
    return hashlib.new(name, usedforsecurity=name not in WEAK_DIGESTS)


def new_digest(name: str) -> Hash:
    """Return a fresh digest.

    :param name: a key of :data:`DIGEST_SIZES`.
    :raises FormatError: ``algorithm_not_supported``.
    """
    if name not in DIGEST_SIZES:
        raise FormatError("algorithm_not_supported", f"the digest {name!r} is not known")
    if name == "sm3" and not _HASHLIB_HAS_SM3:
        return _CryptographySM3()
    return _fresh(name).copy()


def digest(name: str, data: bytes | bytearray | memoryview) -> bytes:
    """Return the digest of ``data``.

    :raises FormatError: ``algorithm_not_supported``.
    """
    state = new_digest(name)
    state.update(data)
    return state.digest()
