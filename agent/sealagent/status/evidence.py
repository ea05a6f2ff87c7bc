"""The answers on which signatures rest: status answers, OCSP responses and revocation lists, as they were received.

A record says under which SHA-256 the answers are kept that a signature was made by. The Measures demand that the
process of signing can be traced; what a service said that day may not be had from it later.
"""

from __future__ import annotations

import errno
import hashlib
import re
import threading
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

from sealagent.errors import LimitExceeded, SealAgentError
from sealagent.files import read_regular, write_whole

__all__ = ["MAX_EVIDENCE", "EvidenceStore", "sha256_of"]

MAX_EVIDENCE = 72 << 20  # octets of one: the largest status list with its signature
REMEMBERED = 1024  # digests known to be on disk; each seal and certificate has a new one every few minutes

_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)


@lru_cache(maxsize=32)  # one answer serves many signatures, and a list may be large
def sha256_of(octets: bytes) -> str:
    """Return the name of evidence, lower-case hexadecimal."""
    return hashlib.sha256(octets).hexdigest()


class EvidenceStore:
    """Octets under their own digest, each once. Nothing is ever removed here: the record names it.

    :param directory: made with mode 0700 when the first evidence is kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, None] = OrderedDict()

    def has(self, sha256: str) -> bool:
        """Say, without looking at the disk, whether evidence was kept lately."""
        with self._lock:
            return sha256 in self._kept

    def keep(self, octets: bytes) -> str:
        """Keep evidence, and return its name once it would survive a loss of power.

        :raises SealAgentError: ``evidence_failed``. :raises LimitExceeded: ``evidence_failed``.
        """
        name = sha256_of(octets)
        if self.has(name):
            return name
        if len(octets) > MAX_EVIDENCE:
            message = f"evidence of {len(octets)} octets; {MAX_EVIDENCE} are allowed"
            raise LimitExceeded("evidence_failed", message)
        path = self._directory / name
        try:
            if self._read(path) != octets:
                write_whole(path, octets)
        except OSError as error:
            raise SealAgentError("evidence_failed", f"evidence cannot be kept: {error.strerror}") from error
        with self._lock:
            self._kept[name] = None
            if len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        return name

    def get(self, sha256: str) -> bytes:
        """Return evidence.

        :raises SealAgentError: ``evidence_not_found``, ``evidence_failed`` (its file was changed or cannot be read).
        """
        if not _NAME.fullmatch(sha256):
            raise SealAgentError("evidence_not_found", "evidence is named by 64 hexadecimal digits, lower case")
        try:
            octets = self._read(self._directory / sha256)
        except OSError as error:
            raise SealAgentError("evidence_failed", f"evidence cannot be read: {error.strerror}") from error
        if octets is None:
            raise SealAgentError("evidence_not_found", f"no evidence {sha256}")
        if hashlib.sha256(octets).hexdigest() != sha256:
            raise SealAgentError("evidence_failed", f"the file of evidence {sha256} was changed")
        return octets

    def _read(self, path: Path) -> bytes | None:
        try:
            return read_regular(path, MAX_EVIDENCE)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.EFBIG:
                return b""  # not what was kept
            raise
