"""Offline check of an exported record: needs no agent, no token, no network.

The export is lines of canonical JSON (RFC 8785), each ended by one LF. The first is the head line

    {"format":"sealagent-record-1","hash":"sm3","origin":"sealagent/…/sm3","root":"<hex>","size":<n>}

and the n others are the entries in order, exactly the octets that were hashed (:mod:`sealagent.records.entry`).
Each entry names the leaf hash of the one before, and ``root`` is the RFC 9162 root over all of them, so a change
anywhere shows. Somebody who rewrites the whole chain and the head line too is found out only by a checkpoint (or a
head) that was kept elsewhere earlier: give it as ``checkpoint``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import rfc8785

from sealagent.errors import FormatError
from sealagent.records.entry import MAX_LINE, Entry, EntryKind, load_canonical, parse_entry
from sealagent.records.tree import HASH_LENGTH, TREE_HASHES, Frontier, Head, leaf_hash

__all__ = ["CheckReport", "Fault", "check_export", "head_line", "read_lines"]

FORMAT = "sealagent-record-1"
MAX_OPEN = 100_000
"""Intents without an outcome that are kept track of; a real record has a handful."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that is wrong.

    Codes: ``head_invalid`` (the head line), ``malformed`` (no entry, or not canonical), ``edited``, ``removed``,
    ``inserted``, ``reordered``, ``truncated`` (entries from ``number`` on are missing), ``root_mismatch`` (the chain
    holds but the head's root is another: the last entry or the head line was changed, or all was rewritten),
    ``checkpoint_mismatch`` (entries up to ``number`` are not those of the checkpoint), ``outcome_without_intent``,
    ``too_many_open``.
    """

    code: str
    number: int
    """Number of the first bad entry; 0 for the head line."""
    line: int
    """Line of the export, from 1, where it was noticed."""
    detail: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the check found."""

    size: int
    """Entries that were checked before the fault, or all of them."""
    head: Head | None
    """The head line, if it could be read."""
    open_intents: tuple[int, ...]
    """Intents without an outcome, as far as was checked."""
    checkpoint: bool | None
    """Whether the checkpoint was confirmed; None when none was given."""
    fault: Fault | None

    @property
    def ok(self) -> bool:
        return self.fault is None


def head_line(head: Head) -> bytes:
    """Return the first line of an export, without its LF."""
    return rfc8785.dumps(
        {"format": FORMAT, "hash": head.hash, "origin": head.origin, "root": head.root.hex(), "size": head.size}
    )


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines without their LF, reading no more than :data:`~sealagent.records.entry.MAX_LINE` octets at a time."""
    while line := file.readline(MAX_LINE + 2):
        yield line.removesuffix(b"\n")
        if len(line) == MAX_LINE + 2:  # too long to be an entry; what follows is of no more interest
            return


def check_export(lines: Iterable[bytes], checkpoint: Head | None = None) -> CheckReport:
    """Check an export entry by entry, in memory that does not grow with it, and stop at the first bad entry.

    :param lines: with or without LF; :func:`read_lines` bounds what a hostile file can make of them.
    :param checkpoint: an earlier state of the same record; its origin is compared unless it is empty.
    """
    check = _Check(lines, checkpoint)
    try:
        check.run()
    except _Found as found:
        return check.report(found.fault)
    return check.report(None)


class _Found(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault


class _Check:
    def __init__(self, lines: Iterable[bytes], checkpoint: Head | None) -> None:
        self._lines = (line.removesuffix(b"\n") for line in lines)
        self._line = 0
        self._checkpoint = checkpoint
        self._confirmed = False
        self._head: Head | None = None
        self._size = 0
        self._open: set[int] = set()

    def report(self, fault: Fault | None) -> CheckReport:
        confirmed = self._confirmed if self._checkpoint else None
        return CheckReport(self._size, self._head, tuple(sorted(self._open)), confirmed, fault)

    def run(self) -> None:
        head = self._read_head()
        tree = Frontier(head.hash)
        before = tree  # the tree without its last entry: decides which of two neighbours was edited
        leaf = b""
        self._compare_checkpoint(tree)
        for octets in self._following():
            entry = self._read_entry(octets, tree.size + 1)
            if entry.number != tree.size + 1:
                raise self._misnumbered(entry, tree.size + 1, head)
            if entry.prev != leaf.hex():
                raise self._broken_link(entry, before, head)
            if entry.number > head.size:
                raise self._found("inserted", entry.number, f"the head line counts {head.size} entries")
            self._follow_intents(entry)
            before = tree.copy()
            leaf = leaf_hash(head.hash, octets)
            tree.append(leaf)
            self._size = tree.size
            self._compare_checkpoint(tree)
        self._compare_end(tree, head)

    def _following(self) -> Iterator[bytes]:
        for line in self._lines:
            self._line += 1
            yield line

    def _found(self, code: str, number: int, detail: str) -> _Found:
        return _Found(Fault(code, number, self._line, detail))

    def _read_head(self) -> Head:
        octets = next(self._following(), b"")
        try:
            if len(octets) > MAX_LINE:
                raise FormatError("record_entry_invalid", "too long")
            match load_canonical(octets):
                case {"hash": str(name), "origin": str(origin), "root": str(root), "size": int(size)}:
                    head = Head(size, bytes.fromhex(root), name, origin)
                case _:
                    raise FormatError("record_entry_invalid", "the members are not those of a head")
        except (FormatError, ValueError):
            raise self._found("head_invalid", 0, "the first line is no head line") from None
        known = name in TREE_HASHES and len(head.root) == HASH_LENGTH and type(size) is int and size >= 0
        if not known or head_line(head) != octets:
            raise self._found("head_invalid", 0, "the head line has an unknown format, hash, root or size")
        self._head = head
        earlier = self._checkpoint
        if earlier and (earlier.hash != head.hash or earlier.origin not in ("", head.origin)):
            raise self._found("checkpoint_mismatch", 0, "the checkpoint is of another record")
        return head

    def _read_entry(self, octets: bytes, expected: int) -> Entry:
        try:
            return parse_entry(octets)
        except FormatError as error:
            raise self._found("malformed", expected, error.message) from None

    def _misnumbered(self, entry: Entry, expected: int, head: Head) -> _Found:
        line = self._line
        if entry.number < expected:
            return self._found("inserted", entry.number, f"entry {entry.number} comes a second time")
        later = {number for number in self._later_numbers() if number in (expected, entry.number)}
        self._line = line
        if expected not in later:
            return self._found("removed", expected, f"entry {entry.number} stands where entry {expected} belongs")
        if entry.number in later or entry.number > head.size:
            return self._found("inserted", entry.number, f"entry {entry.number} stands before entry {expected}")
        return self._found("reordered", expected, f"entry {expected} comes after entry {entry.number}")

    def _later_numbers(self) -> Iterator[int]:
        for octets in self._following():
            try:
                yield parse_entry(octets).number
            except FormatError:
                continue

    def _broken_link(self, entry: Entry, before: Frontier, head: Head) -> _Found:
        """Decide which end of a broken link was edited: whichever its other neighbour does not vouch for."""
        line = self._line
        leaf = leaf_hash(head.hash, entry.octets)
        if entry.number == 1:
            return self._found("edited", 1, "the first entry names an entry before it")
        following = next(self._following(), None)
        self._line = line
        if following is not None:
            try:
                vouched = parse_entry(following).prev == leaf.hex()
            except FormatError:
                vouched = False
        else:
            vouched = False
            if entry.prev:
                before.append(bytes.fromhex(entry.prev))
                before.append(leaf)
                vouched = before.root() == head.root
        number = entry.number - 1 if vouched else entry.number
        return self._found(
            "edited", number, f"entry {entry.number} does not follow entry {entry.number - 1} as it stands"
        )

    def _follow_intents(self, entry: Entry) -> None:
        if entry.kind is EntryKind.INTENT:
            if len(self._open) >= MAX_OPEN:
                raise self._found("too_many_open", entry.number, f"over {MAX_OPEN} intents have no outcome")
            self._open.add(entry.number)
        elif (intent := entry.intent) is not None:
            if intent not in self._open:
                raise self._found("outcome_without_intent", entry.number, f"{intent} is no open intent")
            self._open.discard(intent)

    def _compare_checkpoint(self, tree: Frontier) -> None:
        earlier = self._checkpoint
        if earlier is None or earlier.size != tree.size:
            return
        if tree.root() != earlier.root:
            raise self._found("checkpoint_mismatch", tree.size, "the entries so far are not those of the checkpoint")
        self._confirmed = True

    def _compare_end(self, tree: Frontier, head: Head) -> None:
        expected = max(head.size, self._checkpoint.size if self._checkpoint else 0)
        if tree.size < expected:
            raise self._found("truncated", tree.size + 1, f"{tree.size} entries of {expected} are there")
        if tree.root() != head.root:
            raise self._found("root_mismatch", tree.size, "the root over all entries is not that of the head line")
