"""Writing a package: entries of another package copied as they are stored, and new files."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from sealagent.documents.ofd import ziprecords as z
from sealagent.documents.ofd.package import Entry, Package

__all__ = ["NewFile", "write_package"]

_NEEDED = 20
"""Version 2.0 of the format: deflate (APPNOTE 4.4.3)."""
_REGULAR_FILE = 0o100644 << 16
_MADE_BY_UNIX = 3 << 8 | _NEEDED


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be compressed into the package."""

    name: str
    data: bytes


def write_package(source: Package, items: Iterable[Entry | NewFile], time: datetime, out: BinaryIO) -> None:
    """Write entries of ``source`` (compressed octets, dates, attributes and order kept) and new files.

    The output depends on nothing but the arguments.

    :param time: date of the new files, written in UTC (zip dates have no zone; two seconds resolution).
    :raises FormatError: ``ofd_entry_damaged`` when the source ends early.
    """
    moment = time.astimezone(UTC)
    dos_date = max(moment.year - 1980, 0) << 9 | moment.month << 5 | moment.day
    dos_time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    directory: list[bytes] = []
    offset = 0
    for item in items:
        if isinstance(item, NewFile):
            record, stored = _compressed(item, dos_date, dos_time)
            local_extra, data = b"", iter([stored])
        else:
            # Sizes are known: the data descriptor after the data, and zip64 sizes, have no use any more.
            record = item.record._replace(
                flags=item.record.flags & ~z.FLAG_DESCRIPTOR,
                extra=z.without_zip64(item.record.extra),
            )
            local_extra, data = z.without_zip64(item.local_extra), source.stored_octets(item)
        record = record._replace(offset=offset)
        header = _local_header(record, local_extra)
        out.write(header)
        for chunk in data:
            out.write(chunk)
        offset += len(header) + record.packed
        directory.append(_central_header(record))
    octets = b"".join(directory)
    out.write(octets)
    out.write(z.END.pack(z.END_SIGNATURE, 0, 0, len(directory), len(directory), len(octets), offset, 0))


def _compressed(file: NewFile, dos_date: int, dos_time: int) -> tuple[z.CentralRecord, bytes]:
    deflater = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = deflater.compress(file.data) + deflater.flush()
    method = z.DEFLATED
    if len(packed) >= len(file.data):
        packed, method = file.data, z.STORED
    record = z.CentralRecord(
        raw_name=file.name.encode(),
        made_by=_MADE_BY_UNIX,
        needed=_NEEDED,
        flags=0 if file.name.isascii() else z.FLAG_UTF8,
        method=method,
        time=dos_time,
        date=dos_date,
        crc=zlib.crc32(file.data),
        packed=len(packed),
        size=len(file.data),
        internal=0,
        external=_REGULAR_FILE,
        offset=0,
        extra=b"",
        comment=b"",
    )
    return record, packed


def _local_header(record: z.CentralRecord, extra: bytes) -> bytes:
    fixed = z.LOCAL.pack(
        z.LOCAL_SIGNATURE, record.needed, record.flags, record.method, record.time, record.date,
        record.crc, record.packed, record.size, len(record.raw_name), len(extra),
    )  # fmt: skip
    return fixed + record.raw_name + extra


def _central_header(record: z.CentralRecord) -> bytes:
    fixed = z.CENTRAL.pack(
        z.CENTRAL_SIGNATURE, record.made_by, record.needed, record.flags, record.method, record.time, record.date,
        record.crc, record.packed, record.size, len(record.raw_name), len(record.extra), len(record.comment),
        0, record.internal, record.external, record.offset,
    )  # fmt: skip
    return fixed + record.raw_name + record.extra + record.comment
