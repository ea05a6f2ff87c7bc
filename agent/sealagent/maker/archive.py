"""What the register's entries name by its SM3: seals, certificates and certificate requests, one file each.

A seal is put aside first and kept only when its entry is on record, so that a crash between the two leaves no seal
that the register does not know.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from sealagent.errors import SealAgentError
from sealagent.files import read_regular, sync_directory, write_whole
from sealagent.pki.digests import digest

__all__ = ["Archive"]

MAX_FILE = 8 << 20
"""Octets of one file: what a seal may have."""

_NAME = re.compile(r"[0-9a-f]{64}")


class Archive:
    """Files named by their SM3, readable by their owner only.

    :param directory: made when the first file is put there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._aside = directory / "aside"

    def put(self, data: bytes) -> str:
        """Keep octets, durably; return their SM3. :raises SealAgentError: ``archive_failed``."""
        name = digest("sm3", data).hex()
        with _Named("written"):
            if not self._place(name).exists():
                self._write(self._place(name), data)
        return name

    def put_aside(self, data: bytes) -> str:
        """Write octets where :meth:`keep` finds them; return their SM3. :raises SealAgentError: ``archive_failed``."""
        name = digest("sm3", data).hex()
        with _Named("written"):
            self._write(self._aside / name, data)
        return name

    def keep(self, name: str) -> None:
        """Move what was put aside to its place. :raises SealAgentError: ``archive_failed``."""
        with _Named("written"):
            place = self._place(name)
            _make(place.parent)
            (self._aside / name).replace(place)
            sync_directory(place.parent)

    def tidy(self, known: Callable[[str], bool]) -> None:
        """After an interruption: keep what is known, remove what is not. :raises SealAgentError: ``archive_failed``."""
        with _Named("read"):
            found = os.listdir(self._aside) if self._aside.is_dir() else []
        for name in found:
            if _NAME.fullmatch(name) and known(name):
                self.keep(name)
            else:
                with _Named("written"):
                    (self._aside / name).unlink()

    def get(self, name: str) -> bytes:
        """Return what has this SM3. :raises SealAgentError: ``archive_failed``: it is gone, or not what it was."""
        if not _NAME.fullmatch(name):
            raise SealAgentError("archive_failed", f"{name[:80]!r} is no name of the archive")
        with _Named("read"):
            data = read_regular(self._place(name), MAX_FILE, follow=False)
        if digest("sm3", data).hex() != name:
            raise SealAgentError("archive_failed", f"the archive's file {name} was changed")
        return data

    def _place(self, name: str) -> Path:
        # Two hundred and fifty-six folders: a folder of 100,000 files is slow to list on some file systems.
        return self._directory / name[:2] / name

    def _write(self, target: Path, data: bytes) -> None:
        """Write beside the target, make it durable, then rename: a reader sees the whole file or none."""
        if len(data) > MAX_FILE:
            raise SealAgentError("archive_failed", f"{len(data)} octets are more than the archive takes ({MAX_FILE})")
        _make(self._aside)
        _make(target.parent)
        write_whole(target, data, aside=self._aside)


def _make(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(directory.parent)


class _Named:
    """Turns errors of the file system into ours."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise SealAgentError("archive_failed", f"the archive cannot be {self._what}: {error.strerror}") from error
