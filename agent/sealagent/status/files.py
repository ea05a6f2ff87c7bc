"""Small files of the agent's own, whole or not at all, readable by their owner only."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from sealagent.errors import LimitExceeded

__all__ = ["read_file", "write_file"]

_TEMPORARY = ".new-"


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file; a FIFO or a device put there neither blocks nor is read.

    :param limit: octets it may have.
    :raises OSError: it is not there, is no regular file, or cannot be read.
    :raises LimitExceeded: ``status_answer_invalid``.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no regular file")
        octets = file.read(limit + 1)
    if len(octets) > limit:
        raise LimitExceeded("status_answer_invalid", f"the file has more than {limit} octets")
    return octets


def write_file(path: Path, octets: bytes, *, durable: bool) -> None:
    """Put a file in its place at once, mode 0600, in a directory of mode 0700 that is made if need be.

    :param durable: return only when it would survive a loss of power.
    :raises OSError: what was there is still there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(octets)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
