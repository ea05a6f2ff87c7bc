"""Signed evidence in files, for after a restart without a network. A file that is lost costs a question."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from sealagent.errors import FormatError
from sealagent.files import read_regular, write_whole

__all__ = ["KeptFiles"]

TIDY_EVERY = 64  # files written between two looks whether there are too many

log = logging.getLogger(__name__)


class KeptFiles:
    """Octets by name, each with the moment it was good at, which is the file's time.

    Whoever reads a file verifies it anew, as of that moment; a changed one is refused.

    :param directory: made with mode 0700 when the first file is kept.
    :param suffix: of the files' names.
    :param limit: octets one may have; larger ones are not kept.
    :param count: files kept; those of the earliest moments go first.
    """

    def __init__(self, directory: Path, suffix: str, *, limit: int, count: int) -> None:
        self._directory = directory
        self._suffix = suffix
        self._limit = limit
        self._count = count
        self._lock = threading.Lock()
        self._written = 0

    def load(self, name: str) -> tuple[bytes, datetime] | None:
        """Return what is kept under a name, and the moment it was good at."""
        path = self._path(name)
        try:
            octets = read_regular(path, self._limit)
            return octets, datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
        except FileNotFoundError:
            return None
        except (OSError, FormatError, OverflowError, ValueError) as error:
            log.info("what was kept in %s does not count: %r", path.name, error)
            return None

    def keep(self, name: str, octets: bytes, moment: datetime) -> None:
        """Keep octets under a name in place of others."""
        if len(octets) > self._limit:
            return
        path = self._path(name)
        try:
            write_whole(path, octets, durable=False)
            os.utime(path, (moment.timestamp(), moment.timestamp()))
            with self._lock:
                self._written += 1
                tidy = self._written % TIDY_EVERY == 1
            if tidy:
                self._tidy()
        except OSError as error:
            log.warning("an answer cannot be kept for later: %s", error.strerror)

    def _path(self, name: str) -> Path:
        return self._directory / (hashlib.sha256(name.encode()).hexdigest() + self._suffix)

    def _tidy(self) -> None:
        files = [each for each in os.scandir(self._directory) if each.name.endswith(self._suffix)]
        files.sort(key=lambda each: each.stat().st_mtime_ns)
        for each in files[: max(len(files) - self._count, 0)]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(each.path)
