"""The Merkle tree of the record (RFC 9162 section 2.1), grown leaf by leaf.

Only the frontier is kept: the roots of the perfect subtrees that make up the tree, largest first. A tree of n leaves
has as many of them as n has one bits, so appending and taking the root cost O(log n) hashes and no more memory.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sealagent.errors import FormatError
from sealagent.pki.digests import digest

__all__ = [
    "HASH_LENGTH",
    "MAX_CHECKPOINT",
    "TREE_HASHES",
    "Frontier",
    "Head",
    "leaf_hash",
    "node_hash",
    "parse_checkpoint",
]

TREE_HASHES = ("sm3", "sha256")
HASH_LENGTH = 32
"""Octets; the same for every tree hash."""
MAX_CHECKPOINT = 1024
"""Octets of a checkpoint text that are read."""


def leaf_hash(name: str, octets: bytes) -> bytes:
    """Hash one entry (RFC 9162 2.1.1: prefix 0x00)."""
    return digest(name, b"\x00" + octets)


def node_hash(name: str, left: bytes, right: bytes) -> bytes:
    """Hash two subtrees (RFC 9162 2.1.1: prefix 0x01)."""
    return digest(name, b"\x01" + left + right)


@dataclass(frozen=True, slots=True)
class Head:
    """The state of the record: how many entries, and the root over all of them."""

    size: int
    root: bytes
    hash: str
    """``sm3`` or ``sha256``."""
    origin: str
    """Names the record and its hash: ``sealagent/<random identifier>/<hash>``."""

    def checkpoint(self) -> str:
        """Return the text body of a checkpoint (C2SP tlog-checkpoint: origin, size, base64 root), unsigned."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def parse_checkpoint(text: str) -> Head:
    """Read a checkpoint body back; extension lines and signatures after an empty line are left aside.

    :raises FormatError: ``checkpoint_invalid``.
    """
    lines = text[:MAX_CHECKPOINT].split("\n")
    try:
        origin, size, root = lines[:3]
        name = origin.rsplit("/", 1)[1]
        decoded = base64.b64decode(root, validate=True)
    except (ValueError, IndexError, binascii.Error):
        raise FormatError("checkpoint_invalid", "a checkpoint is three lines: origin, size and base64 root") from None
    if name not in TREE_HASHES or len(decoded) != HASH_LENGTH or not re.fullmatch(r"0|[1-9][0-9]{0,15}", size):
        raise FormatError("checkpoint_invalid", "the checkpoint's hash, size or root is not one a record can have")
    return Head(int(size), decoded, name, origin)


class Frontier:
    """A growing tree. :attr:`size` leaves so far; :meth:`append` adds one."""

    __slots__ = ("_subtrees", "hash", "size")

    def __init__(self, hash: str, size: int = 0, subtrees: Sequence[bytes] = ()) -> None:
        """Start from ``size`` leaves whose perfect subtrees have these roots, largest first."""
        if len(subtrees) != size.bit_count():
            raise ValueError("the number of subtrees does not fit the size")
        self.hash = hash
        self.size = size
        self._subtrees = list(subtrees)

    def copy(self) -> Frontier:
        return Frontier(self.hash, self.size, self._subtrees)

    def append(self, leaf: bytes) -> list[bytes]:
        """Add a leaf hash.

        :return: the nodes this leaf completes, from the leaf itself (level 0) upwards.
        """
        completed = [leaf]
        remaining = self.size
        while remaining & 1:
            completed.append(node_hash(self.hash, self._subtrees.pop(), completed[-1]))
            remaining >>= 1
        self._subtrees.append(completed[-1])
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Return the root; that of the empty tree is the hash of nothing (RFC 9162 2.1.1)."""
        if not self._subtrees:
            return digest(self.hash, b"")
        root = self._subtrees[-1]
        for left in reversed(self._subtrees[:-1]):
            root = node_hash(self.hash, left, root)
        return root
