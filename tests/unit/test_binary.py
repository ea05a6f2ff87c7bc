"""What a library file is, by its header: real files, cut and spoilt."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealdrivers.binary import MAX_SECTIONS, MAX_SEGMENTS, Binary, check_loadable, own_machine, read_binary
from sealdrivers.errors import ModuleNotLoadable
from softhsm2_fixtures import find_module

BITS, MACHINE = own_machine()
E_MACHINE, E_PHENTSIZE, E_PHNUM = 18, 54, 56  # offsets in the 64-bit ELF header


def real_library() -> Path:
    found = find_module()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def library() -> bytes:
    return real_library().read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "library.so"


def changed(data: bytes, offset: int, *octets: int) -> bytes:
    return data[:offset] + bytes(octets) + data[offset + len(octets) :]


def dll(machine: int = 0x14C, magic: int = 0x10B, flags: int = 0x2102, sections: int = 1, length: int = 512) -> bytes:
    """Return the headers of a PE file with sections of a length, each at 512, and the octets of one."""
    head = b"MZ" + bytes(58) + struct.pack("<I", 64)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", machine, sections, 0, 0, 0, 224, flags)
    options = struct.pack("<H", magic) + bytes(222)
    section = b".text\0\0\0" + struct.pack("<IIII", length, 4096, length, 512) + bytes(16)
    return (head + coff + options + section * sections).ljust(512, b"\0") + bytes(512)


def refusal(path: Path) -> str | None:
    """Return why a file may not be loaded; None if it may."""
    try:
        check_loadable(path)
    except ModuleNotLoadable as error:
        return error.message
    return None


def load(path: Path) -> int:
    """Load a library in a process of its own and return how that ended."""
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); sys.exit(7)"
    return subprocess.run([sys.executable, "-c", code, path], capture_output=True, timeout=60, check=False).returncode


# Real files


def test_this_process_knows_itself() -> None:
    assert struct.calcsize("P") * 8 == BITS
    assert read_binary(Path(sys.executable).resolve()) == Binary("ELF", BITS, MACHINE, "program")


def test_a_real_library_may_be_loaded() -> None:
    assert read_binary(real_library()) == Binary("ELF", BITS, MACHINE, "library")
    check_loadable(real_library())


@pytest.mark.parametrize("program", ["ls", "openssl"])
def test_a_program_is_no_library(program: str) -> None:
    found = shutil.which(program)
    assert found
    with pytest.raises(ModuleNotLoadable, match=f"is no library: it is a {BITS}-bit program"):
        check_loadable(Path(found).resolve())


@pytest.mark.parametrize(("source", "kind"), [("int x;", "object file"), ("int main(void){return 0;}", "program")])
def test_what_a_compiler_makes_else(file: Path, source: str, kind: str) -> None:
    options = ["-c"] if kind == "object file" else ["-no-pie"]
    subprocess.run(["cc", *options, "-xc", "-", "-o", file], input=source, text=True, check=True, timeout=60)
    assert read_binary(file) == Binary("ELF", BITS, MACHINE, kind)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"root:x:0:0:root:/root:/bin/bash\n", "it is a text"),
        (b"/* GNU ld script */\nGROUP ( libx.so.1 )\n", "it is a text"),
        (b"#!/bin/sh\n", "it is a script"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "neither ELF nor PE"),
        (b"\x7fEL", "neither ELF nor PE"),
    ],
)
def test_what_is_no_library_at_all(file: Path, data: bytes, said: str) -> None:
    file.write_bytes(data)
    with pytest.raises(ModuleNotLoadable, match=said):
        check_loadable(file)


def test_what_cannot_be_read(file: Path) -> None:
    for path in (file, file.parent):
        with pytest.raises(ModuleNotLoadable, match="is no file"):
            read_binary(path)


def test_mach_o_is_left_to_its_loader(file: Path) -> None:
    file.write_bytes(b"\xcf\xfa\xed\xfe" + bytes(60))
    assert read_binary(file) is None


# ELF


def test_a_library_that_was_cut_is_refused_or_loads(file: Path, library: bytes) -> None:
    """What is refused would not load, and what is not refused does: what is missing then is nothing the loader maps."""
    refused, loaded = 0, 0
    for length in (4, 40, 63, 64, 200, 5000, 4096 * 10, len(library) // 2, len(library) - 1, len(library)):
        file.write_bytes(library[:length])
        fault = refusal(file)
        if fault is None:
            loaded += 1
            assert load(file) == 7
        else:
            refused += 1
            assert "was cut short" in fault
            assert load(file) != 7
    assert refused >= 8
    assert loaded >= 1


def test_the_machine_is_named(file: Path, library: bytes) -> None:
    for machine, name in ((3, "i386"), (183, "ARM 64"), (258, "LoongArch"), (0xBEEF, "machine 0xBEEF")):
        file.write_bytes(changed(library, E_MACHINE, *machine.to_bytes(2, sys.byteorder)))
        assert read_binary(file) == Binary("ELF", BITS, name, "library")
        if name != MACHINE:
            with pytest.raises(ModuleNotLoadable, match="install the vendor's library for this machine"):
                check_loadable(file)


@pytest.mark.parametrize(
    ("offset", "octets", "said"),
    [
        (4, [3], "no word size"),
        (5, [0], "no byte order"),
        (16, [9, 0], "unknown type"),
        (E_PHNUM, [0, 0], "names 0 segments"),
        (E_PHNUM, list((MAX_SEGMENTS + 1).to_bytes(2, sys.byteorder)), f"names {MAX_SEGMENTS + 1} segments"),
        (E_PHNUM, [0xFF, 0xFF], "names more segments"),
        (E_PHENTSIZE, [8, 0], "segments of 8 octets"),
        (32, [0xFF] * 8, "was cut short"),
        (32, [0xFF] * 7 + [0x7F], "was cut short"),
    ],
)
def test_a_header_that_makes_no_sense(file: Path, library: bytes, offset: int, octets: list[int], said: str) -> None:
    file.write_bytes(changed(library, offset, *octets))
    with pytest.raises(ModuleNotLoadable, match=said):
        check_loadable(file)


# PE


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (dll(), Binary("PE", 32, "i386", "library")),
        (dll(0x8664, 0x20B), Binary("PE", 64, "x86-64", "library")),
        (dll(0xAA64, 0x20B), Binary("PE", 64, "ARM 64", "library")),
        (dll(0x1234), Binary("PE", 32, "machine 0x1234", "library")),
        (dll(flags=0x0102), Binary("PE", 32, "i386", "program")),
        (dll(sections=0), Binary("PE", 32, "i386", "library")),
    ],
)
def test_a_library_for_windows(file: Path, made: bytes, expected: Binary) -> None:
    file.write_bytes(made)
    assert read_binary(file) == expected
    with pytest.raises(ModuleNotLoadable, match="for Windows"):
        check_loadable(file)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (b"MZ", "was cut short"),
        (dll()[:100], "was cut short"),
        (dll()[:700], "was cut short"),
        (dll(length=513), "was cut short"),
        (dll(length=0xFFFFFFFF), "was cut short"),
        (changed(dll(), 0x3C, 0xFF, 0xFF, 0xFF, 0xFF), "was cut short"),
        (changed(dll(), 64, ord("N")), "DOS or 16-bit Windows"),
        (dll(magic=0), "no word size"),
        (dll(sections=MAX_SECTIONS + 1, length=0), f"names {MAX_SECTIONS + 1} sections"),
    ],
)
def test_a_spoilt_library_for_windows(file: Path, made: bytes, said: str) -> None:
    file.write_bytes(made)
    with pytest.raises(ModuleNotLoadable, match=said):
        read_binary(file)


# Anything


@settings(max_examples=300, deadline=None)
@given(
    start=st.sampled_from(["ELF", "PE", "none"]),
    changes=st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 255)), max_size=12),
    length=st.integers(0, 1024),
)
def test_no_header_does_harm(
    tmp_path_factory: pytest.TempPathFactory,
    library: bytes,
    start: str,
    changes: list[tuple[int, int]],
    length: int,
) -> None:
    data = bytearray({"ELF": library[:1024], "PE": dll(), "none": bytes(1024)}[start])
    for offset, octet in changes:
        data[offset] = octet
    path = tmp_path_factory.getbasetemp() / "header"
    path.write_bytes(data[:length])
    fault = refusal(path)
    assert fault is None or str(path) in fault
