"""Files of the agent's own, read and written with care: whole or not at all, and never what is no regular file."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

__all__ = ["read_regular", "sync_directory", "write_whole"]

_TEMPORARY = ".new-"
"""How the names of files begin that are not in their place yet; a crash may leave one behind."""


def read_regular(path: Path, limit: int, *, follow: bool = True) -> bytes:
    """Read a regular file; a FIFO or a device put there neither blocks nor is read.

    :param limit: octets it may have. :param follow: whether it may be a symbolic link.
    :raises OSError: it cannot be read, is no regular file (``EINVAL``), or is too large (``EFBIG``).
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        octets = file.read(limit + 1)
    if len(octets) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} octets")
    return octets


def write_whole(path: Path, octets: bytes, *, durable: bool = True, aside: Path | None = None) -> None:
    """Put a file in its place at once, mode 0600; a folder that is not there is made, mode 0700.

    :param durable: return only when it would survive a loss of power.
    :param aside: folder to write it in first, on the same file system; beside its place if left out.
    :raises OSError: what was there is still there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = (aside or path.parent) / f"{_TEMPORARY}{secrets.token_hex(8)}"
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
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make names that were added to a folder, or removed from it, survive a loss of power. :raises OSError:"""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
