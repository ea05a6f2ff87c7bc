"""Signed status lists: files that a unit hands out for networks where nobody can be asked.

Of several issues of a list the newest counts, and none older than one that was used before: the sequence that was
reached is kept, also when the file is taken away.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from sealagent.errors import LimitExceeded, SealAgentError
from sealagent.files import read_regular, write_whole
from sealagent.pki.certificates import Certificate
from sealagent.pki.signed import Signed, open_signed
from sealagent.seals.answers import MAX_LIST, StatusList, read_list
from sealagent.status.statements import Question, Statement, check_times, signer_authority

__all__ = ["ListFloors", "SignedLists"]

MAX_FILES = 64  # lists in one folder
MAX_MESSAGE = MAX_LIST + (1 << 20)  # octets of a signed list: the content, and the certificates along with it
MAX_FLOORS = 256  # lists of which the sequence is remembered
MAX_FLOOR_FILE = 256 << 10  # octets: 256 entries of some 300 octets

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)

log = logging.getLogger(__name__)


class ListFloors:
    """The highest sequence that was used of each list, in a file.

    A list is known by its identifier and by whose authority it was signed on: nobody can outrank the list of another.

    :param path: the file; made when the first list is used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._floors: dict[str, tuple[int, str]] | None = None

    def check(self, key: str, sequence: int, sha256: str) -> None:
        """Let a list pass that is no older than what was used before, and remember it.

        :param sha256: of the list's content.
        :raises SealAgentError: ``status_list_rolled_back``, ``status_list_conflict``, ``status_state_failed``.
        """
        with self._lock:
            floors = self._read()
            highest, content = floors.get(key, (0, ""))
            if sequence < highest:
                message = f"it has sequence {sequence}, but {highest} was used before"
                raise SealAgentError("status_list_rolled_back", message)
            if sequence == highest:
                if content != sha256:
                    message = f"two lists of sequence {sequence} differ"
                    raise SealAgentError("status_list_conflict", message)
                return
            if key not in floors and len(floors) >= MAX_FLOORS:
                raise SealAgentError("status_state_failed", f"the sequences of {MAX_FLOORS} lists are remembered")
            raised = {**floors, key: (sequence, sha256)}
            try:
                write_whole(self._path, _encode(raised))
            except OSError as error:
                message = f"the sequence of a list cannot be remembered: {error.strerror}"
                raise SealAgentError("status_state_failed", message) from error
            self._floors = raised

    def _read(self) -> dict[str, tuple[int, str]]:
        if self._floors is None:
            try:
                self._floors = _decode(read_regular(self._path, MAX_FLOOR_FILE))
            except FileNotFoundError:
                self._floors = {}
            except (OSError, SealAgentError, ValueError, TypeError) as error:
                # Without it an old list could pass for the newest: no list is used until somebody looked at it.
                why = error.strerror if isinstance(error, OSError) else "it is damaged"
                message = f"{self._path}, which remembers the sequences of lists, cannot be read: {why}"
                raise SealAgentError("status_state_failed", message) from error
        return self._floors


def _encode(floors: dict[str, tuple[int, str]]) -> bytes:
    lists = {key: {"sequence": sequence, "sha256": sha256} for key, (sequence, sha256) in floors.items()}
    return json.dumps({"format": 1, "lists": lists}, sort_keys=True, indent=1).encode() + b"\n"


def _decode(octets: bytes) -> dict[str, tuple[int, str]]:
    value = json.loads(octets)
    if not isinstance(value, dict) or value.keys() != {"format", "lists"} or value["format"] != 1:
        raise ValueError
    floors = {}
    for key, floor in value["lists"].items():
        sequence, sha256 = floor["sequence"], floor["sha256"]
        if type(sequence) is not int or sequence < 1 or not _SHA256.fullmatch(sha256):
            raise ValueError
        floors[key] = (sequence, sha256)
    return floors


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A file as it was read."""

    stamp: tuple[int, int, int]
    """Inode, size, time of change: another stamp is another file."""
    listed: StatusList | None = None
    signed: Signed | None = field(default=None, repr=False)
    sha256: str = ""
    """Of the content."""
    fault: SealAgentError | None = None


class SignedLists:
    """The lists in a file, or in the files of a folder (not of its subfolders).

    :param makers: SHA-256 of the makers whose seals are looked up here; empty: of all.
    :param signers: SHA-256 of certificates that may sign, beside those that a trust list names.
    """

    def __init__(
        self,
        path: Path,
        floors: ListFloors,
        makers: frozenset[str] = frozenset(),
        signers: frozenset[str] = frozenset(),
    ) -> None:
        self._path = path
        self._floors = floors
        self._makers = makers
        self._signers = signers
        self._lock = threading.Lock()
        self._loaded: dict[Path, _Loaded] = {}

    @property
    def name(self) -> str:
        return str(self._path)

    def serves(self, maker: Certificate) -> bool:
        """See :class:`.statements.Adapter`."""
        return not self._makers or maker.sha256 in self._makers

    def ask(self, question: Question) -> Statement:
        """See :class:`.statements.Adapter`. A file is read again only when it was changed.

        :raises SealAgentError: ``status_answer_refused``, ``status_list_rolled_back``, ``status_list_conflict``,
            ``status_state_failed``. :raises FormatError: a file is malformed.
        """
        with self._lock:
            loaded = self._look()
        faults: list[SealAgentError] = [each.fault for each in loaded if each.fault is not None]
        found: list[Statement] = []
        for each in loaded:
            if each.listed is None or each.signed is None:
                continue
            try:
                found.append(self._statement(question, each, each.listed, each.signed))
            except SealAgentError as error:
                faults.append(error)
        if found:
            # An issue that does not know the seal says less than one that does, however new it is.
            return max(found, key=lambda statement: (bool(statement.history), statement.produced_at))
        if faults:
            raise faults[0]
        raise SealAgentError("status_answer_refused", "there is no list")

    def _statement(self, question: Question, each: _Loaded, listed: StatusList, signed: Signed) -> Statement:
        authority = signer_authority(question, signed, self._signers, listed.produced_at)
        check_times(question, listed.produced_at)
        self._floors.check(f"{authority} {listed.list}", listed.sequence, each.sha256)
        history = listed.seals.get(question.sm3, ())
        source = f"list {listed.list} {listed.sequence}"
        return Statement(history, source, listed.produced_at, listed.next_update, signed.raw, alone=False)

    def _look(self) -> list[_Loaded]:
        present = dict(self._files())
        for path in [path for path in self._loaded if path not in present]:
            del self._loaded[path]
        for path, stamp in present.items():
            known = self._loaded.get(path)
            if known is None or known.stamp != stamp:
                self._loaded[path] = self._load(path, stamp)
        # The highest sequence first, so that an older issue beside it is told from a roll-back of both.
        return sorted(self._loaded.values(), key=lambda each: each.listed.sequence if each.listed else 0, reverse=True)

    def _files(self) -> Iterator[tuple[Path, tuple[int, int, int]]]:
        try:
            paths = [self._path]
            if self._path.is_dir():
                paths = sorted(each for each in self._path.iterdir() if not each.name.startswith("."))
                paths = [each for each in paths if each.is_file()]
            if len(paths) > MAX_FILES:
                _refuse(f"{len(paths)} files; {MAX_FILES} are allowed")
            for path in paths:
                found = os.stat(path)
                yield path, (found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError as error:
            _refuse(f"it cannot be read: {error.strerror}")

    def _load(self, path: Path, stamp: tuple[int, int, int]) -> _Loaded:
        try:
            signed = open_signed(read_regular(path, MAX_MESSAGE), limit=MAX_MESSAGE)
            listed = read_list(signed.content)
        except OSError as error:
            fault = SealAgentError("status_answer_refused", f"{path.name} cannot be read: {error.strerror}")
        except SealAgentError as error:
            fault = SealAgentError(error.code, f"{path.name}: {error.message}")
        else:
            log.info("status list %s, sequence %d, %d seals", listed.list, listed.sequence, len(listed.seals))
            return _Loaded(stamp, listed, signed, hashlib.sha256(signed.content).hexdigest())
        log.warning("status list: %s", fault.message)
        return _Loaded(stamp, fault=fault)


def _refuse(why: str) -> NoReturn:
    raise LimitExceeded("status_answer_refused", why)
