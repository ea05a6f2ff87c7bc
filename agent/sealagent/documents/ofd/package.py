"""An OFD package (GB/T 33190-2016, 18): a zip file opened without trusting anything it says of itself."""

from __future__ import annotations

import re
import stat
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from sealagent.documents.limits import DEFAULT_LIMITS, Limits
from sealagent.documents.ofd import ziprecords as z
from sealagent.errors import FormatError, LimitExceeded
from sealagent.pki.digests import new_digest

__all__ = ["Entry", "Package"]

_CHUNK = 256 * 1024
"""Octets read or expanded at a time."""
_LONGEST_DESCRIPTOR = 24
"""Octets: signature, CRC and two zip64 sizes (APPNOTE 4.3.9)."""
_DRIVE = re.compile(r"[A-Za-z]:")
_FOLDS = re.compile(r":|[. ](?:/|$)")
"""A colon, or a segment that ends in a dot or a space."""
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\\ufffe\uffff]")
"""Control characters, the backslash, and what no XML file can name."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder of a package."""

    name: str
    """Without leading slash; a folder ends in a slash."""
    record: z.CentralRecord
    data_offset: int
    """Where its stored octets start in the package."""
    local_extra: bytes

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


class Package:
    """The entries of a package and their contents. Reads on demand; holds no contents.

    The file stays the caller's: it must be seekable and stay open as long as the package is used.
    """

    def __init__(self, file: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> None:
        """Open a package and check every entry.

        :raises FormatError: ``ofd_not_zip``, ``ofd_truncated``, ``ofd_structure`` (records contradict each other or
            overlap), ``ofd_entry_name``, ``ofd_entry_duplicate``, ``ofd_entry_encrypted``, ``ofd_entry_kind`` (neither
            file nor folder), ``ofd_entry_compression``.
        :raises LimitExceeded: ``ofd_too_large``, ``ofd_too_many_entries``, ``ofd_ratio``, ``ofd_entry_name``.
        """
        self._file = file
        self.limits = limits
        self.size = file.seek(0, 2)
        if self.size > limits.package_octets:
            raise LimitExceeded("ofd_too_large", "the package is too large", limit=limits.package_octets)
        file.seek(0)
        if file.read(4) != z.LOCAL_SIGNATURE:
            raise FormatError("ofd_not_zip", "the file is not a zip package")
        records, directory = z.read_directory(file, self.size, limits.entries, limits.path_octets)
        _check_sizes(records, limits)
        self.entries: tuple[Entry, ...] = tuple(self._entry(record) for record in records)
        self._check_spans(directory)
        _check_names(self.entries)
        self.files: Mapping[str, Entry] = {entry.name: entry for entry in self.entries if not entry.is_folder}
        """Files by name, in the order of the directory."""
        self._digests: dict[tuple[str, str], bytes] = {}

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the contents of a file, at most 256 KiB at a time. The last step checks size and CRC.

        :raises FormatError: ``ofd_entry_missing``, ``ofd_entry_damaged``.
        """
        try:
            entry = self.files[name]
        except KeyError:
            raise FormatError("ofd_entry_missing", f"the package has no file /{name}", file=f"/{name}") from None
        if _is_small(entry):
            yield self._small(entry)
            return
        produced, crc = 0, 0
        for chunk in self._inflated(entry) if entry.record.method == z.DEFLATED else self.stored_octets(entry):
            produced += len(chunk)
            if produced > entry.record.size:
                raise _damaged(name, "it expands to more than declared")
            crc = zlib.crc32(chunk, crc)
            yield chunk
        if produced != entry.record.size or crc != entry.record.crc:
            raise _damaged(name, "size or CRC is wrong")

    def read(self, name: str, limit: int) -> bytes:
        """Return the contents of a file.

        :raises FormatError: as :meth:`chunks`.
        :raises LimitExceeded: ``ofd_too_large`` when it is longer than ``limit`` octets.
        """
        entry = self.files.get(name)
        if entry is not None and entry.record.size > limit:
            raise LimitExceeded("ofd_too_large", f"/{name} is too large", file=f"/{name}", limit=limit)
        return b"".join(self.chunks(name))

    def digest(self, name: str, algorithm: str) -> bytes:
        """Return the digest of a file's contents; computed once (several signatures protect the same files).

        :param algorithm: a name of :mod:`sealagent.pki.digests`.
        :raises FormatError: as :meth:`chunks`.
        """
        key = (name, algorithm)
        if key not in self._digests:
            entry = self.files.get(name)
            running = new_digest(algorithm)
            for chunk in (self._small(entry),) if entry and _is_small(entry) else self.chunks(name):
                running.update(chunk)
            self._digests[key] = running.digest()
        return self._digests[key]

    def stored_octets(self, entry: Entry) -> Iterator[bytes]:
        """Yield an entry's octets as stored (compressed)."""
        position, end = entry.data_offset, entry.data_offset + entry.record.packed
        while position < end:
            self._file.seek(position)  # each time: readers may interleave
            chunk = self._file.read(min(_CHUNK, end - position))
            if not chunk:
                raise _damaged(entry.name, "the package ends in it")
            position += len(chunk)
            yield chunk

    def whole_digest(self, algorithm: str) -> bytes:
        """Return the digest of the package file itself."""
        running = new_digest(algorithm)
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            running.update(chunk)
        return running.digest()

    def _small(self, entry: Entry) -> bytes:
        """Return the contents of a file of one chunk: most files are, and opening hundreds should not take long."""
        self._file.seek(entry.data_offset)
        stored = self._file.read(entry.record.packed)
        if len(stored) != entry.record.packed:
            raise _damaged(entry.name, "the package ends in it")
        contents = stored
        if entry.record.method == z.DEFLATED:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                contents = inflater.decompress(stored, entry.record.size + 1)
                if not inflater.eof:  # its end may stand behind the last octet
                    contents += inflater.decompress(inflater.unconsumed_tail, 1)
            except zlib.error as exc:
                raise _damaged(entry.name, "its compression is broken") from exc
            if len(contents) > entry.record.size:
                raise _damaged(entry.name, "it expands to more than declared")
            if not inflater.eof or inflater.unused_data:
                raise _damaged(entry.name, "its compressed contents do not end where declared")
        if len(contents) != entry.record.size or zlib.crc32(contents) != entry.record.crc:
            raise _damaged(entry.name, "size or CRC is wrong")
        return contents

    def _inflated(self, entry: Entry) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for stored in self.stored_octets(entry):
                if inflater.eof:
                    raise _damaged(entry.name, "octets follow its compressed contents")
                pending = stored
                while pending and not inflater.eof:
                    yield inflater.decompress(pending, _CHUNK)
                    pending = inflater.unconsumed_tail
            while not inflater.eof and (rest := inflater.decompress(b"", _CHUNK)):
                yield rest
        except zlib.error as exc:
            raise _damaged(entry.name, "its compression is broken") from exc
        if not inflater.eof or inflater.unused_data:
            raise _damaged(entry.name, "its compressed contents do not end where declared")

    def _entry(self, record: z.CentralRecord) -> Entry:
        name = _decode_name(record)
        if record.flags & z.FLAG_ENCRYPTED:
            raise FormatError("ofd_entry_encrypted", f"/{name} is encrypted by zip", file=f"/{name}")
        newer = record.flags & z.FLAG_PATCH or record.needed & 0xFF > z.MAX_NEEDED
        if record.method not in (z.STORED, z.DEFLATED) or newer:
            raise FormatError("ofd_entry_compression", f"/{name} uses zip method {record.method}", file=f"/{name}")
        kind = stat.S_IFMT(record.external >> 16)
        folder = name.endswith("/")
        if kind not in (0, stat.S_IFDIR if folder else stat.S_IFREG) or (folder and record.size):
            raise FormatError("ofd_entry_kind", f"/{name} is neither a file nor a folder", file=f"/{name}")
        data_offset, local_extra = z.read_local_header(self._file, record)
        extras = [extra for extra in (record.extra, local_extra) if extra]  # most entries have none
        if extras and any(other != name.encode() for extra in extras for other in z.unicode_paths(extra)):
            raise FormatError("ofd_entry_name", f"/{name} has two names", file=f"/{name}")
        return Entry(name, record, data_offset, local_extra)

    def _check_spans(self, directory: int) -> None:
        """No two entries may share octets with each other or with the directory, and none may be hidden between them.

        Readers that go from entry to entry and never look at the directory would show a hidden one.
        """
        free_from = 0
        for entry in sorted(self.entries, key=lambda entry: entry.record.offset):
            if entry.record.offset < free_from:
                raise FormatError("ofd_structure", f"/{entry.name} overlaps another entry", file=f"/{entry.name}")
            self._check_gap(free_from, entry.record.offset)
            free_from = entry.data_offset + entry.record.packed
        if free_from > directory:
            raise FormatError("ofd_structure", "an entry overlaps the directory")
        self._check_gap(free_from, directory)

    def _check_gap(self, start: int, end: int) -> None:
        """A data descriptor may stand there; an entry would stand at once or right behind the descriptor."""
        if start < end:
            self._file.seek(start)
            if z.LOCAL_SIGNATURE in self._file.read(min(end - start, _LONGEST_DESCRIPTOR + len(z.LOCAL_SIGNATURE))):
                raise FormatError("ofd_structure", "the package holds an entry that its directory does not name")


def _is_small(entry: Entry) -> bool:
    return entry.record.packed <= _CHUNK and entry.record.size <= _CHUNK


def _damaged(name: str, why: str) -> FormatError:
    return FormatError("ofd_entry_damaged", f"/{name} is damaged: {why}", file=f"/{name}")


def _decode_name(record: z.CentralRecord) -> str:
    """Return the name of an entry.

    Java and older Chinese tools write UTF-8 or GB 18030 without the UTF-8 flag; code page 437, which the flag's
    absence means, is never what they meant.

    :raises FormatError: ``ofd_entry_name``.
    """
    raw = record.raw_name
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        try:
            if record.flags & z.FLAG_UTF8:
                raise
            name = raw.decode("gb18030")
        except UnicodeDecodeError:
            raise FormatError("ofd_entry_name", "an entry's name is in no known encoding") from None
    segments = _folded(name.removesuffix("/")).split("/")
    if _FORBIDDEN.search(name) or _DRIVE.match(name) or "" in segments:
        raise FormatError("ofd_entry_name", f"an entry has a forbidden name: {name!r}", file=name)
    return name


def _check_sizes(records: list[z.CentralRecord], limits: Limits) -> None:
    total = 0
    for record in records:
        total += record.size
        if record.size > limits.entry_octets or total > limits.total_octets:
            raise LimitExceeded("ofd_too_large", "the package expands to too much", limit=limits.total_octets)
        if record.size > limits.ratio_floor and record.size > limits.ratio * record.packed:
            raise LimitExceeded("ofd_ratio", "a file of the package is compressed too strongly", limit=limits.ratio)
        if record.method == z.STORED and record.packed != record.size:
            raise FormatError("ofd_structure", "a stored file has two sizes")


def _check_names(entries: tuple[Entry, ...]) -> None:
    """No two entries may be one on a file system that ignores case, and no file may be a folder too."""
    seen: dict[str, bool] = {}
    for entry in entries:
        folded = _folded(entry.name.removesuffix("/"))
        if folded in seen:
            raise FormatError("ofd_entry_duplicate", f"/{entry.name} occurs twice", file=f"/{entry.name}")
        seen[folded] = entry.is_folder
    folders: set[str] = set()
    for folded in seen:
        parent = folded.rpartition("/")[0]
        while parent and parent not in folders:
            if seen.get(parent) is False:
                raise FormatError("ofd_entry_duplicate", f"/{parent} is a file and a folder", file=f"/{parent}")
            folders.add(parent)
            parent = parent.rpartition("/")[0]


def _folded(name: str) -> str:
    """Return what a file system makes of a name that ignores case, colons onwards and dots and spaces at the end."""
    folded = name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()
    if not _FOLDS.search(folded):  # nearly every name: not worth taking apart
        return folded
    return "/".join(segment.partition(":")[0].rstrip(". ") for segment in folded.split("/"))
