"""The local store of seals: one file per seal, named by its id, readable by its owner only.

File names are made here and never come from a caller, so no name can lead elsewhere. A file that was damaged or put
there by something else is reported and skipped; the other seals stay usable.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.files import read_regular, sync_directory, write_whole
from sealagent.seals.model import Seal
from sealagent.seals.parse import MAX_SEAL, parse_seal

__all__ = ["MAX_SEALS", "SealStore", "StoreContents"]

MAX_SEALS = 256  # seals in one store
MAX_STORE = 64 << 20  # octets of all seals of one store: listing reads them all

_log = logging.getLogger(__name__)
_ID = re.compile(r"[0-9a-f]{32}")
_SUFFIX = ".esl"


@dataclass(frozen=True, slots=True)
class StoreContents:
    """What a store holds."""

    seals: tuple[Seal, ...]
    """Ordered by id."""
    damaged: tuple[tuple[str, str], ...]
    """(file name, what is wrong) of each file that was skipped."""


class SealStore:
    """Seals in one directory.

    :param directory: made with mode 0700 when the first seal is added.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, der: bytes) -> Seal:
        """Keep a seal. Adding one that is already there changes nothing, unless its file was damaged: it is replaced.

        The seal is parsed, not judged: whether it is valid is asked when it is used.

        :raises FormatError: ``seal_format``.
        :raises LimitExceeded: ``seal_store_full``.
        :raises SealAgentError: ``seal_store_failed`` when the directory cannot be written; nothing is left behind.
        """
        seal = parse_seal(der)
        target = self.directory / (seal.id + _SUFFIX)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
            others = [name for name in self._names() if name != target.name]
            held = sum((self.directory / name).lstat().st_size for name in others)
            if len(others) >= MAX_SEALS or held + len(der) > MAX_STORE:
                raise LimitExceeded("seal_store_full", f"a store holds {MAX_SEALS} seals or {MAX_STORE} octets")
            if not self._holds(seal):
                write_whole(target, der)
        except OSError as error:
            raise SealAgentError("seal_store_failed", f"the seal could not be stored: {error.strerror}") from error
        return seal

    def contents(self) -> StoreContents:
        """Read every seal.

        :raises SealAgentError: ``seal_store_failed`` when the directory cannot be read.
        """
        seals: list[Seal] = []
        damaged: list[tuple[str, str]] = []
        try:
            names = self._names()
        except OSError as error:
            raise SealAgentError("seal_store_failed", f"the store cannot be read: {error.strerror}") from error
        held = 0
        for index, name in enumerate(names):
            try:
                if index >= MAX_SEALS or held > MAX_STORE:
                    raise LimitExceeded("seal_store_full", "beyond the limits of a store")
                seals.append(self._read(name))
                held += len(seals[-1].raw)
            except SealAgentError as error:
                damaged.append((name, error.message))
                _log.warning("seal file %s skipped: %s", name, error.message)
        return StoreContents(tuple(seals), tuple(damaged))

    def list(self) -> list[Seal]:
        """Return the seals that can be read, ordered by id; see :meth:`contents` for the others."""
        return [*self.contents().seals]

    def get(self, seal_id: str) -> Seal:
        """Return one seal.

        :raises SealAgentError: ``seal_not_found``, ``seal_damaged``.
        """
        return self._read(self._name(seal_id))

    def remove(self, seal_id: str) -> None:
        """Delete one seal, damaged or not.

        :raises SealAgentError: ``seal_not_found``, ``seal_store_failed``.
        """
        try:
            (self.directory / self._name(seal_id)).unlink()
            sync_directory(self.directory)
        except FileNotFoundError as error:
            raise _not_found(seal_id) from error
        except OSError as error:
            raise SealAgentError("seal_store_failed", f"the seal could not be removed: {error.strerror}") from error

    def _names(self) -> tuple[str, ...]:
        """Return the names of the seal files; anything that is not named like one is not ours."""
        try:
            found = os.listdir(self.directory)
        except FileNotFoundError:
            return ()
        ours = (name for name in found if name.endswith(_SUFFIX) and _ID.fullmatch(name.removesuffix(_SUFFIX)))
        return tuple(sorted(ours))

    def _name(self, seal_id: str) -> str:
        if not _ID.fullmatch(seal_id):
            raise _not_found(seal_id)
        return seal_id + _SUFFIX

    def _read(self, name: str) -> Seal:
        seal_id = name.removesuffix(_SUFFIX)
        try:
            seal = parse_seal(read_regular(self.directory / name, MAX_SEAL, follow=False))
        except FileNotFoundError as error:
            raise _not_found(seal_id) from error
        except OSError as error:
            raise SealAgentError("seal_damaged", f"the seal file cannot be read: {error.strerror}") from error
        except FormatError as error:
            raise SealAgentError("seal_damaged", error.message) from error
        if seal.id != seal_id:
            raise SealAgentError("seal_damaged", "the seal file holds another seal than its name says")
        return seal

    def _holds(self, seal: Seal) -> bool:
        try:
            self._read(seal.id + _SUFFIX)
        except SealAgentError:
            return False
        return True


def _not_found(seal_id: str) -> SealAgentError:
    return SealAgentError("seal_not_found", f"there is no seal {seal_id[:64]!r} in the store")
