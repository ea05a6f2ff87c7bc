"""The records of a zip file (PKWARE APPNOTE 6.3): declarations, and reading of the directory. No policy.

The standard library's ``zipfile`` is not used for packages: it builds an object for every entry before a limit can be
asked, silently cuts an entry at its declared size, renames what is not flagged UTF-8, and cannot copy compressed
octets from one package to another without its private attributes. What a package needs of zip is small.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from sealagent.errors import FormatError, LimitExceeded

__all__ = [
    "CENTRAL",
    "CENTRAL_SIGNATURE",
    "DEFLATED",
    "END",
    "END_SIGNATURE",
    "FLAG_DESCRIPTOR",
    "FLAG_ENCRYPTED",
    "FLAG_PATCH",
    "FLAG_UTF8",
    "LOCAL",
    "LOCAL_SIGNATURE",
    "MAX_NEEDED",
    "STORED",
    "CentralRecord",
    "read_directory",
    "read_local_header",
    "unicode_paths",
    "without_zip64",
]

LOCAL_SIGNATURE = b"PK\x03\x04"
CENTRAL_SIGNATURE = b"PK\x01\x02"
END_SIGNATURE = b"PK\x05\x06"
_END64_SIGNATURE = b"PK\x06\x06"
_LOCATOR64_SIGNATURE = b"PK\x06\x07"

LOCAL = struct.Struct("<4s5H3L2H")
"""signature, needed, flags, method, time, date, crc, packed, size, name length, extra length (4.3.7)."""
CENTRAL = struct.Struct("<4s6H3L5H2L")
"""signature, made by, needed, flags, method, time, date, crc, packed, size, three lengths, disk, internal, external,
offset (4.3.12)."""
END = struct.Struct("<4s4H2LH")
"""signature, disk, disk of directory, entries here, entries, directory size, its offset, comment length (4.3.16)."""
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")

STORED, DEFLATED = 0, 8
FLAG_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
"""Traditional, strong, and masked-directory encryption (4.4.4)."""
FLAG_DESCRIPTOR = 0x0008
FLAG_PATCH = 0x0020
FLAG_UTF8 = 0x0800

MAX_NEEDED = 63
"""Version 6.3 of the format: what needs a later one may mean its octets otherwise."""
_MAX_COMMENT = 0xFFFF
_EXTRA_ZIP64 = 0x0001
_EXTRA_UNICODE_PATH = 0x7075
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF


class CentralRecord(NamedTuple):
    """One entry as the central directory states it. A tuple, since packages have thousands: it is made in a third of
    a frozen dataclass's time."""

    raw_name: bytes
    made_by: int
    needed: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    packed: int
    """Octets as stored."""
    size: int
    """Octets expanded."""
    internal: int
    external: int
    offset: int
    """Of the local header."""
    extra: bytes
    comment: bytes


def read_directory(file: BinaryIO, length: int, max_entries: int, max_name: int) -> tuple[list[CentralRecord], int]:
    """Return the central directory and its offset.

    :param length: octets of the file.
    :raises FormatError: ``ofd_truncated`` (no end record that ends the file), ``ofd_structure``.
    :raises LimitExceeded: ``ofd_too_many_entries``, ``ofd_entry_name``.
    """
    entries, size, offset, end = _end_record(file, length)
    if entries > max_entries:
        raise LimitExceeded("ofd_too_many_entries", f"the package has {entries} entries", limit=max_entries)
    if offset + size != end:
        raise _structure("the central directory is not where the end record says")
    if size > entries * (CENTRAL.size + 3 * _MAX_COMMENT):
        raise _structure("the central directory is longer than its entries")
    file.seek(offset)
    data = file.read(size)
    records: list[CentralRecord] = []
    position = 0
    while position < len(data):
        if len(records) == entries or len(data) - position < CENTRAL.size:
            raise _structure("the central directory does not hold the entries it counts")
        record, position = _central_record(data, position)
        if len(record.raw_name) > max_name:
            raise LimitExceeded("ofd_entry_name", "an entry's name is too long", limit=max_name)
        records.append(record)
    if len(data) != size or len(records) != entries:
        raise _structure("the central directory does not hold the entries it counts")
    return records, offset


def read_local_header(file: BinaryIO, record: CentralRecord) -> tuple[int, bytes]:
    """Return where the entry's data starts and the local extra field.

    :raises FormatError: ``ofd_structure`` when the local header says something else than the directory.
    """
    file.seek(record.offset)
    header = file.read(LOCAL.size)
    if len(header) != LOCAL.size or header[:4] != LOCAL_SIGNATURE:
        raise _structure("an entry has no local header")
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = LOCAL.unpack(header)
    variable = file.read(name_length + extra_length)
    sizes_agree = flags & FLAG_DESCRIPTOR or (
        crc == record.crc and packed in (record.packed, _FULL32) and size in (record.size, _FULL32)
    )
    if variable[:name_length] != record.raw_name or method != record.method or not sizes_agree:
        raise _structure("a local header contradicts the directory")
    return record.offset + LOCAL.size + name_length + extra_length, variable[name_length:]


def extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and the octets (with their header) of each whole part of an extra field (4.5.1)."""
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, position)
        yield kind, extra[position : position + 4 + size]
        position += 4 + size


def without_zip64(extra: bytes) -> bytes:
    """Return an extra field without its zip64 part, whose sizes do not hold in a rewritten package."""
    return b"".join(part for kind, part in extra_fields(extra) if kind != _EXTRA_ZIP64)


def unicode_paths(extra: bytes) -> Iterator[bytes]:
    """Yield the names an extra field gives instead of the entry's own (4.6.9), UTF-8."""
    return (part[9:] for kind, part in extra_fields(extra) if kind == _EXTRA_UNICODE_PATH)


def _structure(message: str) -> FormatError:
    return FormatError("ofd_structure", message)


def _end_record(file: BinaryIO, length: int) -> tuple[int, int, int, int]:
    """Return entries, directory size, directory offset and the offset at which the directory must end."""
    tail_length = min(length, END.size + _MAX_COMMENT)
    file.seek(length - tail_length)
    tail = file.read(tail_length)
    at = len(tail) - END.size
    while (at := tail.rfind(END_SIGNATURE, 0, at + 4)) >= 0:
        fields = END.unpack_from(tail, at)
        if at + END.size + fields[7] == len(tail):
            break  # only an end record that really ends the file: no second reading of the same octets
        at -= 1
    else:
        raise FormatError("ofd_truncated", "the package has no end record")
    _, disk, directory_disk, here, entries, size, offset, _ = fields
    end = length - tail_length + at
    if _FULL16 in (here, entries) or _FULL32 in (size, offset):
        disk, directory_disk, here, entries, size, offset, end = _end_record_64(file, end)
    if disk or directory_disk or here != entries:
        raise _structure("the package is split over several disks")
    return entries, size, offset, end


def _end_record_64(file: BinaryIO, end: int) -> tuple[int, int, int, int, int, int, int]:
    if end < _LOCATOR64.size + _END64.size:
        raise _structure("the zip64 end record is missing")
    file.seek(end - _LOCATOR64.size)
    signature, _, record_offset, disks = _LOCATOR64.unpack(file.read(_LOCATOR64.size))
    if signature != _LOCATOR64_SIGNATURE or disks > 1 or record_offset > end - _LOCATOR64.size - _END64.size:
        raise _structure("the zip64 end record is missing")
    file.seek(record_offset)
    signature, record_size, _, _, disk, directory_disk, here, entries, size, offset = _END64.unpack(
        file.read(_END64.size)
    )
    if signature != _END64_SIGNATURE or record_offset + 12 + record_size != end - _LOCATOR64.size:
        raise _structure("the zip64 end record is out of place")
    return disk, directory_disk, here, entries, size, offset, record_offset


def _central_record(data: bytes, position: int) -> tuple[CentralRecord, int]:
    (
        signature, made_by, needed, flags, method, time, date, crc, packed, size,
        name_length, extra_length, comment_length, disk, internal, external, offset,
    ) = CENTRAL.unpack_from(data, position)  # fmt: skip
    name_at = position + CENTRAL.size
    extra_at = name_at + name_length
    comment_at = extra_at + extra_length
    following = comment_at + comment_length
    if signature != CENTRAL_SIGNATURE or following > len(data):
        raise _structure("the central directory does not hold the entries it counts")
    extra = data[extra_at:comment_at]
    if _FULL32 in (packed, size, offset) or disk == _FULL16:
        size, packed, offset, disk = _zip64_values(extra, size, packed, offset, disk)
    if disk:
        raise _structure("the package is split over several disks")
    record = CentralRecord(
        data[name_at:extra_at], made_by, needed, flags, method, time, date, crc, packed, size,
        internal, external, offset, extra, data[comment_at:following],
    )  # fmt: skip
    return record, following


def _zip64_values(extra: bytes, size: int, packed: int, offset: int, disk: int) -> tuple[int, int, int, int]:
    """Replace each full field by its zip64 value, in the order of APPNOTE 4.5.3."""
    values = next((part[4:] for kind, part in extra_fields(extra) if kind == _EXTRA_ZIP64), b"")
    wide = [value == _FULL32 for value in (size, packed, offset)]
    numbers = list(struct.unpack(f"<{len(values) // 8}Q", values[: len(values) // 8 * 8]))
    if not values or len(numbers) < sum(wide):
        raise _structure("a zip64 entry lacks its sizes")
    size, packed, offset = (
        numbers.pop(0) if full else value for full, value in zip(wide, (size, packed, offset), strict=True)
    )
    return size, packed, offset, 0 if disk == _FULL16 else disk
