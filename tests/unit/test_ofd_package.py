"""Hostile packages: each kind has its own named error, and a good package reads as the standard library reads it."""

from __future__ import annotations

import io
import stat
import struct
import tracemalloc
import zipfile
import zlib
from dataclasses import replace

import pytest

from ofd_samples import Pipe, RawEntry, document_files, pack, raw_zip
from sealagent.documents.limits import DEFAULT_LIMITS, Limits
from sealagent.documents.ofd.package import Package
from sealagent.errors import FormatError, LimitExceeded

A = RawEntry(b"a.xml", b"<a/>")


def opened(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Package:
    return Package(io.BytesIO(data), limits)


def code_of(data: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    """Open and read everything; return the code of the error this must end with."""

    def read_all() -> None:
        package = opened(data, limits)
        for name in package.files:
            for _ in package.chunks(name):
                pass

    with pytest.raises(FormatError) as caught:
        read_all()
    return caught.value.code


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_good_package_reads_as_the_standard_library_reads_it(method: int) -> None:
    files = {"Doc_0/": b"", **document_files(), "empty": b"", "big": bytes(range(256)) * 5000}
    package = opened(pack(files, method=method))
    assert [entry.name for entry in package.entries] == list(files)
    assert {name: package.read(name, 1 << 24) for name in package.files} == {
        name: data for name, data in files.items() if not name.endswith("/")
    }


def test_entries_written_as_a_stream_have_descriptors_and_are_read() -> None:
    target = Pipe()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"alpha" * 100)
        with archive.open("b", "w", force_zip64=True) as entry:
            entry.write(b"beta" * 100)
    package = opened(target.getvalue())
    assert package.entries[0].record.flags & 8, "the sample must have descriptors"
    assert package.read("a", 1000) == b"alpha" * 100
    assert package.read("b", 1000) == b"beta" * 100


@pytest.mark.parametrize(
    ("raw", "flags", "name"),
    [
        ("发票.png".encode(), 0x800, "发票.png"),
        ("发票.png".encode(), 0, "发票.png"),  # Java before 7, several Chinese tools
        ("发票.png".encode("gb18030"), 0, "发票.png"),
    ],
)
def test_names_in_the_encodings_of_the_field_are_read(raw: bytes, flags: int, name: str) -> None:
    assert list(opened(raw_zip([RawEntry(raw, flags=flags)])).files) == [name]


@pytest.mark.parametrize(
    "name",
    [
        b"/a", b"../a", b"a/../../b", b"a/..", b"./a", b"a//b", b"a\\b", b"..\\a", b"C:a", b"c:/a", b"a\x00b",
        b"a\nb", b"", b"/", b"..", b"...", b"a/ /b", b"a/:b", b"a\x7f", b"\xff\xfe", "a\ufffe".encode(),
    ],
)  # fmt: skip
def test_forbidden_names(name: bytes) -> None:
    assert code_of(raw_zip([RawEntry(name)])) == "ofd_entry_name"


def test_a_name_that_is_not_the_utf8_it_claims() -> None:
    assert code_of(raw_zip([RawEntry("发票".encode("gb18030"), flags=0x800)])) == "ofd_entry_name"


@pytest.mark.parametrize(
    "names",
    [
        (b"a.xml", b"a.xml"),
        (b"Doc/a.xml", b"doc/A.XML"),
        ("É".encode(), "é".encode()),
        ("é".encode(), "e\u0301".encode()),
        (b"a", b"a/b"),
        (b"a/b/c", b"A"),
        (b"a", b"a/"),
        (b"OFD.xml", b"OFD.xml."),
        (b"a/b.xml", b"A /b.xml"),
        (b"OFD.xml", b"ofd.xml::$DATA"),
    ],
)
def test_duplicate_names_also_by_case_form_or_as_folder(names: tuple[bytes, ...]) -> None:
    entries = [RawEntry(name, b"" if name.endswith(b"/") else b"x") for name in names]
    assert code_of(raw_zip(entries)) == "ofd_entry_duplicate"


def local(entry: RawEntry) -> bytes:
    """Return an entry without its record in the directory."""
    whole = raw_zip([entry])
    return whole[: whole.index(b"PK\1\2")]


DESCRIPTOR = b"PK\7\x08" + bytes(20)
HIDDEN = local(RawEntry(b"OFD.xml"))


@pytest.mark.parametrize(
    "data",
    [
        raw_zip([A], prefix=HIDDEN),
        raw_zip([RawEntry(b"a", b"x", stored=b"x" + HIDDEN, packed=1)]),
        raw_zip([RawEntry(b"a", b"x", stored=b"x" + HIDDEN, packed=1), A]),
        raw_zip([RawEntry(b"a", b"x", flags=8, stored=b"x" + DESCRIPTOR[:12] + HIDDEN, packed=1), A]),
        raw_zip([RawEntry(b"a", b"x", flags=8, stored=b"x" + DESCRIPTOR + HIDDEN, packed=1), A]),
    ],
)
def test_entries_hidden_from_the_directory(data: bytes) -> None:
    assert code_of(data) == "ofd_structure"


def test_descriptors_and_padding_between_entries_hide_nothing() -> None:
    for between in (DESCRIPTOR, bytes(100)):
        data = raw_zip([RawEntry(b"a", b"x", flags=8, stored=b"x" + between, packed=1), A])
        assert list(opened(data).files) == ["a", "a.xml"]


def test_a_second_name_in_the_extra_field() -> None:
    """Info-ZIP's Unicode Path: readers that know it show another file than those that do not."""
    for name, accepted in ((b"a.xml", True), (b"OFD.xml", False)):
        field = struct.pack("<2HBL", 0x7075, 5 + len(name), 1, zlib.crc32(b"a.xml")) + name
        data = raw_zip([replace(A, central_extra=field)])
        if accepted:
            assert list(opened(data).files) == ["a.xml"]
        else:
            assert code_of(data) == "ofd_entry_name"


DEFLATED = zlib.compress(b"abc" * 9, 9, -15)
ZIP64 = struct.pack("<2HQQ", 1, 16, 1 << 40, 4)

HOSTILE: dict[str, tuple[str, bytes]] = {
    "empty": ("ofd_not_zip", b""),
    "other": ("ofd_not_zip", b"%PDF-1.7\n" * 20),
    "empty zip": ("ofd_not_zip", raw_zip([])),
    "prefix": ("ofd_not_zip", raw_zip([A], prefix=b"MZ")),
    "truncated end": ("ofd_truncated", raw_zip([A])[:-1]),
    "truncated half": ("ofd_truncated", raw_zip([A])[:20]),
    "trailing": ("ofd_truncated", raw_zip([A], trailing=b"\n")),
    "two ends": ("ofd_structure", raw_zip([A], comment=raw_zip([A])[-22:])),
    "count too high": ("ofd_structure", raw_zip([A], count=2)),
    "count too low": ("ofd_structure", raw_zip([A, replace(A, name=b"b")], count=1)),
    "directory elsewhere": ("ofd_structure", raw_zip([A], directory_shift=1)),
    "split": ("ofd_structure", raw_zip([A], end_fields=(1, 0, 1, 1, 51, 39))),
    "encrypted": ("ofd_entry_encrypted", raw_zip([replace(A, flags=1)])),
    "strongly encrypted": ("ofd_entry_encrypted", raw_zip([replace(A, flags=0x41)])),
    "patched": ("ofd_entry_compression", raw_zip([replace(A, flags=0x20)])),
    "needs another zip": ("ofd_entry_compression", raw_zip([replace(A, needed=99)])),
    "bzip2": ("ofd_entry_compression", raw_zip([replace(A, method=12)])),
    "symlink": ("ofd_entry_kind", raw_zip([replace(A, external=(stat.S_IFLNK | 0o777) << 16)])),
    "device": ("ofd_entry_kind", raw_zip([replace(A, external=(stat.S_IFCHR | 0o666) << 16)])),
    "folder with content": ("ofd_entry_kind", raw_zip([RawEntry(b"a/", b"x")])),
    "folder bit without slash": ("ofd_entry_kind", raw_zip([replace(A, external=stat.S_IFDIR << 16)])),
    "same data": ("ofd_structure", raw_zip([A, replace(A, name=b"b.xml", local_name=b"b.xml", offset=0)])),
    "header inside data": ("ofd_structure", raw_zip([replace(A, packed=60, size=60), replace(A, name=b"b")])),
    "no local header": ("ofd_structure", raw_zip([A, replace(A, name=b"b", offset=3)])),
    "offset beyond": ("ofd_structure", raw_zip([A, replace(A, name=b"b", offset=1 << 30)])),
    "local name differs": ("ofd_structure", raw_zip([replace(A, local_name=b"b.xml")])),
    "local size differs": ("ofd_structure", raw_zip([replace(A, local_size=3)])),
    "stored sizes differ": ("ofd_structure", raw_zip([replace(A, size=9)])),
    "data beyond directory": ("ofd_structure", raw_zip([replace(A, packed=4000, size=4000)])),
    "crc": ("ofd_entry_damaged", raw_zip([replace(A, crc=1)])),
    "declared too small": ("ofd_entry_damaged", raw_zip([RawEntry(b"a", b"x" * 500, 8, size=100)])),
    "declared too large": ("ofd_entry_damaged", raw_zip([RawEntry(b"a", b"x" * 500, 8, size=501)])),
    "broken deflate": ("ofd_entry_damaged", raw_zip([RawEntry(b"a", method=8, stored=b"\xff" * 30)])),
    "deflate cut off": ("ofd_entry_damaged", raw_zip([RawEntry(b"a", b"abc" * 9, 8, stored=DEFLATED[:-3])])),
    "octets after deflate": ("ofd_entry_damaged", raw_zip([RawEntry(b"a", b"abc" * 9, 8, stored=DEFLATED + b"x")])),
    "zip64 size that is a lie": (
        "ofd_too_large",
        raw_zip([replace(A, size=0xFFFFFFFF, packed=0xFFFFFFFF, central_extra=ZIP64)]),
    ),
    "zip64 size missing": ("ofd_structure", raw_zip([replace(A, size=0xFFFFFFFF)])),
    "zip64 end missing": ("ofd_structure", raw_zip([A], end_fields=(0, 0, 0xFFFF, 0xFFFF, 51, 39))),
    "zip64 locator astray": (
        "ofd_structure",
        raw_zip(
            [A],
            before_end=b"PK\6\7" + struct.pack("<LQL", 0, 1 << 60, 1),
            end_fields=(0, 0, 0xFFFF, 0xFFFF, 51, 39),
        ),
    ),
    "four thousand million entries": (
        "ofd_too_many_entries",
        raw_zip(
            [A],
            before_end=struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1 << 32, 1 << 32, 51, 39)
            + b"PK\6\7" + struct.pack("<LQL", 0, 90, 1),
            end_fields=(0, 0, 0xFFFF, 0xFFFF, 51, 39),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_packages(kind: str) -> None:
    code, data = HOSTILE[kind]
    assert code_of(data) == code


def test_octets_hidden_after_the_compressed_contents_are_found_in_any_chunk() -> None:
    """Also where the contents end exactly with a chunk of 256 KiB."""
    lengths = (0xFFFF, 0xFFFF, 0xFFFF, 65514)
    blocks = b"".join(b"\0" + struct.pack("<2H", n, n ^ 0xFFFF) + bytes(n) for n in lengths)
    stored = blocks + b"\1\0\0\xff\xff"
    assert len(stored) == 256 * 1024
    entry = RawEntry(b"a", bytes(sum(lengths)), 8, stored=stored)
    assert opened(raw_zip([entry])).read("a", 1 << 20) == entry.data
    assert code_of(raw_zip([replace(entry, stored=stored + b"hidden")])) == "ofd_entry_damaged"


def test_limits_are_asked_before_anything_is_expanded() -> None:
    bomb = raw_zip([RawEntry(f"{n}".encode(), bytes(8 << 20), 8) for n in range(3)])
    assert len(bomb) < 30_000
    assert code_of(bomb) == "ofd_ratio"
    plain = replace(DEFAULT_LIMITS, ratio=10_000)
    assert code_of(bomb, replace(plain, total_octets=20 << 20)) == "ofd_too_large"
    assert code_of(bomb, replace(plain, entry_octets=7 << 20)) == "ofd_too_large"
    assert code_of(bomb, replace(plain, entries=2)) == "ofd_too_many_entries"
    assert code_of(bomb, replace(plain, package_octets=1000)) == "ofd_too_large"
    assert code_of(raw_zip([RawEntry(b"n" * 2000)])) == "ofd_entry_name"


def test_a_bomb_that_hides_its_size_is_stopped_while_reading() -> None:
    data = raw_zip([RawEntry(b"a", bytes(64 << 20), 8, size=1000)])
    tracemalloc.start()
    try:
        assert code_of(data) == "ofd_entry_damaged"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_reading_asks_the_size_first_and_names_what_is_missing() -> None:
    package = opened(raw_zip([RawEntry(b"a", b"x" * 100)]))
    with pytest.raises(LimitExceeded, match="too large"):
        package.read("a", 99)
    with pytest.raises(FormatError) as caught:
        package.read("b", 99)
    assert caught.value.code == "ofd_entry_missing"


def test_readers_may_interleave() -> None:
    files = {"a": bytes(range(256)) * 3000, "b": bytes(range(255, -1, -1)) * 3000}
    package = opened(pack(files, method=zipfile.ZIP_STORED))
    pairs = list(zip(package.chunks("a"), package.chunks("b"), strict=True))
    assert b"".join(a for a, _ in pairs) == files["a"]
    assert b"".join(b for _, b in pairs) == files["b"]
