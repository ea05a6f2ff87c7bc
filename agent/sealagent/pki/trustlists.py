"""The trust lists that are in force: those that somebody added, and those of the administrator's folders.

A list that is added for the first time is trusted because whoever adds it confirmed its signer's certificate. From then
on each version must be signed by the signer of the one before, or by one it named (``next_signers``), and its sequence
must rise. What was seen is remembered after a list was removed, so that an old version can never come back (roll-back).
The administrator's lists are trusted because the configuration names who may sign them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from sealagent.clock import Clock
from sealagent.errors import LimitExceeded, SealAgentError
from sealagent.files import read_regular
from sealagent.pki.trust import TrustEntry, TrustStore
from sealagent.pki.trustfiles import MAX_REMEMBERED, Floor, Kept, TrustFiles, floor_of
from sealagent.pki.trustlist import CLOCK_SKEW, MAX_TRUST_LIST, TrustList, read_trust_list
from sealagent.verdict import timestamp

__all__ = ["MAX_KEPT", "MAX_LISTS", "HeldList", "Plan", "TrustLists"]

MAX_LISTS = 128  # lists in force: 34 provinces, some dozens of ministries
MAX_KEPT = 64 << 20  # octets of all lists that were added: each is read at start
MAX_FILES = 256  # files in the administrator's folders that are looked at

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HeldList:
    """A list in force, though it may be stale."""

    list: TrustList
    origin: Literal["added", "configured"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A change that was looked at and may be made; nothing has changed yet."""

    act: Literal["add", "update", "remove"]
    list_id: str
    version: TrustList | None
    """What is to be kept; None: removed."""
    check: Callable[[], None]
    """Looks once more, right before the change."""


@dataclass(frozen=True, slots=True)
class _View:
    """What holds at one moment; replaced as a whole, so that readers need no lock."""

    lists: tuple[HeldList, ...] = ()
    entries: tuple[TrustEntry, ...] = ()
    faults: tuple[str, ...] = ()


class TrustLists:
    """All lists in force. Its methods read and write files: call them in a thread, all but the properties.

    :param directory: where added lists are kept; made when the first one is.
    :param configured: the administrator's files and folders.
    :param signers: SHA-256 (hexadecimal) of the certificates that may sign those.
    """

    def __init__(
        self, directory: Path, clock: Clock, *, configured: Sequence[Path] = (), signers: Collection[str] = ()
    ) -> None:
        self._files = TrustFiles(directory)
        self._clock = clock
        self._paths = tuple(configured)
        self._signers = frozenset(each.lower() for each in signers)
        self._lock = threading.RLock()
        self._floors: dict[str, Floor] = {}
        self._added: dict[str, TrustList] = {}
        self._configured: dict[str, TrustList] = {}
        self._damaged: dict[str, str] = {}
        self._store_fault: str | None = None
        self._faults: list[str] = []
        self._seen: object = None
        self._view = _View()
        self._beside: TrustStore | None = None
        with self._lock:
            self._load()
            self._look()

    @property
    def lists(self) -> tuple[HeldList, ...]:
        """The lists in force, by identifier."""
        return self._view.lists

    @property
    def faults(self) -> tuple[str, ...]:
        """Which lists do not count, and why, a sentence each: trust never shrinks without a word."""
        return self._view.faults

    def entries(self) -> tuple[TrustEntry, ...]:
        """Return what all lists vouch for; the same object until something changes. Stale lists are in it."""
        return self._view.entries

    def beside(self, configured: TrustStore) -> TrustStore:
        """Return the certificates of the configuration with the lists; the same object until something changes."""
        entries, known = self._view.entries, self._beside
        if known is None or known.listed is not entries or known.certificates is not configured.certificates:
            known = self._beside = replace(configured, listed=entries)
        return known

    def get(self, list_id: str) -> HeldList:
        """Return one list in force. :raises SealAgentError: ``trust_list_not_found``."""
        for held in self._view.lists:
            if held.list.id == list_id:
                return held
        raise _not_found(list_id)

    def refresh(self) -> bool:
        """Look whether the administrator's files have changed; return whether anything else holds now."""
        with self._lock:
            before = self._view
            self._look()
            return self._view is not before

    # Changes: look first, then make them

    def plan_add(self, data: bytes, signer_sha256: str, *, new_signer: bool = False) -> Plan:
        """Look whether a list may be added.

        :param signer_sha256: of the signer's certificate, hexadecimal, as whoever adds the list confirmed it.
        :param new_signer: whether a list that was removed may come back with a signer unknown to its last version.
        :raises FormatError: ``signed_message_invalid``, ``trust_list_invalid``.
        :raises SealAgentError: ``trust_list_signer``, ``trust_list_stale``, ``trust_list_rolled_back``,
            ``trust_list_conflict``, ``trust_list_exists``, ``trust_list_read_only``, ``trust_list_damaged``.
        :raises LimitExceeded: ``trust_store_full``.
        """
        new = read_trust_list(data, self._clock())

        def check() -> None:
            self._check_free(new.id)
            if new.signer.sha256 != signer_sha256.lower():
                raise SealAgentError(
                    "trust_list_signer",
                    f"{new.id} is signed by {new.signer.subject}, SHA-256 {new.signer.sha256}, not by the certificate "
                    "that was confirmed",
                )
            floor = self._floors.get(new.id)
            if floor is not None:
                # A version that is there already may be added again: it mends a damaged file.
                if self._is_kept(new.id) and floor != floor_of(new):
                    raise SealAgentError("trust_list_exists", f"{new.id} is there already, version {floor.sequence}")
                if not new_signer:
                    _check_signer(new, floor)
                _check_order(new, floor)
            self._check_fresh(new)
            self._check_room(new)

        return self._planned("add", new.id, new, check)

    def plan_update(self, data: bytes) -> Plan:
        """Look whether a list may take the place of its version before.

        :raises FormatError: ``signed_message_invalid``, ``trust_list_invalid``.
        :raises SealAgentError: ``trust_list_not_found``, ``trust_list_signer``, ``trust_list_rolled_back``,
            ``trust_list_conflict``, ``trust_list_stale``, ``trust_list_read_only``, ``trust_list_damaged``.
        :raises LimitExceeded: ``trust_store_full``.
        """
        new = read_trust_list(data, self._clock())

        def check() -> None:
            self._check_free(new.id)
            if not self._is_kept(new.id):
                raise _not_found(new.id)
            floor = self._floors[new.id]
            _check_signer(new, floor)
            _check_order(new, floor)
            self._check_fresh(new)
            self._check_room(new)

        return self._planned("update", new.id, new, check)

    def plan_remove(self, list_id: str) -> Plan:
        """Look whether a list may be removed; its sequence and signer stay known.

        :raises SealAgentError: ``trust_list_not_found``, ``trust_list_read_only``, ``trust_list_damaged``.
        """

        def check() -> None:
            self._check_free(list_id)
            if not self._is_kept(list_id):
                raise _not_found(list_id)

        return self._planned("remove", list_id, None, check)

    def _planned(
        self,
        act: Literal["add", "update", "remove"],
        list_id: str,
        version: TrustList | None,
        check: Callable[[], None],
    ) -> Plan:
        with self._lock:
            check()
        return Plan(act, list_id, version, check)

    def carry_out(self, plan: Plan) -> None:
        """Make a change; from then on it holds.

        :raises SealAgentError: ``trust_store_failed``, and what planning raises if something else came first.
        """
        with self._lock:
            plan.check()
            version = plan.version
            # What is remembered of a removed list is what was there last, not what was there when this was planned.
            floor = self._floors[plan.list_id] if version is None else floor_of(version)
            self._files.write(plan.list_id, Kept(floor, b"" if version is None else version.raw))
            self._floors[plan.list_id] = floor
            self._damaged.pop(plan.list_id, None)
            if version is None:
                self._added.pop(plan.list_id, None)
            else:
                self._added[plan.list_id] = version
            self._compose()

    def add(self, data: bytes, signer_sha256: str, *, new_signer: bool = False) -> TrustList:
        """Add a list; see :meth:`plan_add`."""
        return self._carried_out(self.plan_add(data, signer_sha256, new_signer=new_signer))

    def update(self, data: bytes) -> TrustList:
        """Put a new version of a list in the place of the one before; see :meth:`plan_update`."""
        return self._carried_out(self.plan_update(data))

    def remove(self, list_id: str) -> None:
        """Remove a list; see :meth:`plan_remove`."""
        self.carry_out(self.plan_remove(list_id))

    def _carried_out(self, plan: Plan) -> TrustList:
        self.carry_out(plan)
        assert plan.version is not None
        return plan.version

    # Checks

    def _is_kept(self, list_id: str) -> bool:
        """Say whether a list was added and not removed, damaged or not."""
        return list_id in self._added or (list_id in self._damaged and list_id in self._floors)

    def _check_free(self, list_id: str) -> None:
        if self._store_fault is not None:
            raise SealAgentError("trust_store_failed", self._store_fault)
        if list_id in self._configured:
            raise SealAgentError("trust_list_read_only", f"{list_id} is the administrator's")
        if list_id in self._damaged and list_id not in self._floors:
            raise SealAgentError(
                "trust_list_damaged", f"what is remembered of {list_id} cannot be read: {self._damaged[list_id]}"
            )

    def _check_fresh(self, new: TrustList) -> None:
        if new.is_stale(self._clock()):
            raise SealAgentError(
                "trust_list_stale", f"{new.id}, version {new.sequence}, was due to be renewed {_at(new.next_update)}"
            )

    def _check_room(self, new: TrustList) -> None:
        others = [version for list_id, version in self._added.items() if list_id != new.id]
        octets = sum(len(version.raw) for version in others)
        remembered = {*self._floors, *self._damaged, new.id}
        if len(others) + len(self._configured) >= MAX_LISTS or len(remembered) > MAX_REMEMBERED:
            raise LimitExceeded("trust_store_full", f"{MAX_LISTS} lists, or {MAX_REMEMBERED} with the removed ones")
        if octets + len(new.raw) > MAX_KEPT:
            raise LimitExceeded("trust_store_full", f"all lists together may have {MAX_KEPT} octets")

    # Loading

    def _load(self) -> None:
        """Read what was added, once, at the start."""
        try:
            kept, self._damaged = self._files.read_all()
        except SealAgentError as error:
            self._store_fault = error.message
            kept = {}
        for list_id, each in kept.items():
            self._floors[list_id] = each.floor
            if not each.message:
                continue
            try:
                version = read_trust_list(each.message, None)
            except SealAgentError as error:
                self._damaged[list_id] = error.message
                continue
            if version.id != list_id or floor_of(version) != each.floor:
                self._damaged[list_id] = "it is not the version that was accepted last"
                continue
            self._added[list_id] = version

    def _look(self) -> None:
        """Read the administrator's files if they have changed, or if one of a future time may count by now."""
        faults: list[str] = []
        files = _found(self._paths, faults)
        seen = (tuple(files), tuple(faults))
        if seen == self._seen:
            return
        self._seen = seen
        self._faults = faults
        best: dict[str, list[TrustList]] = {}
        for path, *_ in files:
            version = self._configured_version(path)
            if version is None:
                continue
            known = best.setdefault(version.id, [version])
            if version.sequence > known[0].sequence:
                best[version.id] = [version]
            elif version.sequence == known[0].sequence and version.content_sha256 != known[0].content_sha256:
                known.append(version)
        self._configured = {}
        for list_id, versions in best.items():
            if (chosen := self._chosen(list_id, versions)) is not None:
                self._configured[list_id] = chosen
                self._remember(chosen)
        self._compose()

    def _configured_version(self, path: Path) -> TrustList | None:
        """Return the version in a file if one of the named signers signed it."""
        try:
            version = read_trust_list(read_regular(path, MAX_TRUST_LIST), None)
        except OSError as error:
            self._fault(f"{path}: {error.strerror}")
            return None
        except SealAgentError as error:
            self._fault(f"{path}: {error.message}")
            return None
        if version.signer.sha256 not in self._signers:
            signer = f"{version.signer.subject}, SHA-256 {version.signer.sha256}"
            self._fault(f"{path}: signed by {signer}, whom trust.list_signers does not name")
            return None
        if version.issued_at > self._clock() + CLOCK_SKEW:
            self._seen = None  # look again: its time comes
            self._fault(f"{path}: it was issued in the future, {_at(version.issued_at)}")
            return None
        return version

    def _chosen(self, list_id: str, versions: Sequence[TrustList]) -> TrustList | None:
        """Return the version that counts of those with the highest sequence in the administrator's files."""
        floor = self._floors.get(list_id)
        sequence = versions[0].sequence
        if floor is not None and sequence < floor.sequence:
            self._fault(f"{list_id}: version {sequence} is older than version {floor.sequence}, which was seen before")
            return None
        if floor is not None and sequence == floor.sequence:
            versions = [each for each in versions if each.content_sha256 == floor.content_sha256]
        if len(versions) != 1:
            self._fault(f"{list_id}: there are several lists of version {sequence}, and none of them counts")
            return None
        return versions[0]

    def _remember(self, version: TrustList) -> None:
        """Take note of an administrator's version; it takes the place of one of the same name that was added."""
        if version.id in self._damaged and version.id not in self._floors:
            return  # what is remembered cannot be read: that is told, and left for whoever looks into it
        floor = floor_of(version)
        taken_over = self._is_kept(version.id)
        if self._floors.get(version.id) == floor and not taken_over:
            return
        if taken_over:
            _log.warning("trust list %s was added; from now on it is the administrator's", version.id)
        self._added.pop(version.id, None)
        self._damaged.pop(version.id, None)
        self._floors[version.id] = floor
        try:
            self._files.write(version.id, Kept(floor, b""))
        except SealAgentError as error:
            self._fault(f"{version.id}: an older version will not be noticed after a restart: {error.message}")

    def _fault(self, text: str) -> None:
        self._faults.append(text)

    def _compose(self) -> None:
        """Put together what holds from now on."""
        held = [HeldList(version, "added") for version in self._added.values()]
        held += [HeldList(version, "configured") for version in self._configured.values()]
        held.sort(key=lambda each: each.list.id)
        wrong = [f"{list_id}: {why}" for list_id, why in sorted(self._damaged.items())] + self._faults
        wrong += [f"{each.list.id}: more than {MAX_LISTS} lists" for each in held[MAX_LISTS:]]
        faults = [] if self._store_fault is None else [self._store_fault]
        faults += [f"trust list {text}" for text in wrong]
        for text in faults:
            if text not in self._view.faults:
                _log.warning("%s", text)
        entries = tuple(entry for each in held[:MAX_LISTS] for entry in each.list.entries())
        if entries == self._view.entries:
            entries = self._view.entries  # what was made from it stays good
        view = _View(tuple(held[:MAX_LISTS]), entries, tuple(faults))
        if view != self._view:
            self._view = view


def _found(paths: Iterable[Path], faults: list[str]) -> list[tuple[Path, int, int, int]]:
    """Return the administrator's files with what tells whether they were changed."""
    found: list[tuple[Path, int, int, int]] = []
    for path in paths:
        try:
            files = [path]
            if path.is_dir():
                files = sorted(each for each in path.iterdir() if not each.name.startswith("."))
            for file in files:
                if len(found) >= MAX_FILES:
                    faults.append(f"{file}: more than {MAX_FILES} files")
                    return found
                known = file.stat()
                found.append((file, known.st_mtime_ns, known.st_size, known.st_ino))
        except OSError as error:
            faults.append(f"{error.filename or path}: {error.strerror}")
    return found


def _check_signer(new: TrustList, floor: Floor) -> None:
    if new.signer.sha256 not in floor.successors:
        raise SealAgentError(
            "trust_list_signer",
            f"{new.id}, version {new.sequence}, is signed by {new.signer.subject}, SHA-256 {new.signer.sha256}, which "
            f"neither signed version {floor.sequence} nor is named in it",
        )


def _check_order(new: TrustList, floor: Floor) -> None:
    if new.sequence < floor.sequence:
        raise SealAgentError(
            "trust_list_rolled_back", f"{new.id}: version {new.sequence} is older than {floor.sequence}, seen before"
        )
    if new.sequence == floor.sequence and new.content_sha256 != floor.content_sha256:
        raise SealAgentError("trust_list_conflict", f"{new.id}: another list of version {new.sequence} was seen before")


def _at(moment: datetime) -> str:
    return str(timestamp(moment))


def _not_found(list_id: str) -> SealAgentError:
    return SealAgentError("trust_list_not_found", f"there is no trust list {list_id[:64]!r}")
