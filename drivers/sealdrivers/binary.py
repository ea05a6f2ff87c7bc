"""What a library file is and for which machine, by its own header: ELF (System V ABI) or PE (Microsoft's PE and COFF).

Read before a library is loaded, because the loader's own words help nobody ("wrong ELF class"), and because it trusts
the file: one that was cut short maps well and ends the process later, with SIGBUS. Only headers are read, each of
bounded length; nothing of the file is run.
"""

from __future__ import annotations

import os
import platform
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sealdrivers.errors import ModuleNotLoadable

__all__ = ["Binary", "check_loadable", "own_machine", "read_binary"]

MAX_SEGMENTS: Final = 512
"""Program headers of an ELF file that are read. Real ones have about ten."""

MAX_SECTIONS: Final = 96
"""Sections of a PE file; Windows loads no file with more."""

MAX_DYNAMIC: Final = 64 << 10
"""Octets of the dynamic section. Real ones have below a thousand."""

_ELF_MACHINES: Final = {
    3: "i386",
    8: "MIPS",
    20: "PowerPC",
    21: "PowerPC 64",
    22: "S/390",
    40: "ARM",
    62: "x86-64",
    183: "ARM 64",
    243: "RISC-V",
    258: "LoongArch",
}
_PE_MACHINES: Final = {
    0x014C: "i386",
    0x01C4: "ARM",
    0x8664: "x86-64",
    0xAA64: "ARM 64",
    0x6232: "LoongArch",
    0x6264: "LoongArch",
}
_FORMATS: Final = {"win32": "PE", "darwin": "Mach-O"}
_WIDER: Final = {"i386": "x86-64", "ARM": "ARM 64", "MIPS": "MIPS", "PowerPC": "PowerPC 64", "RISC-V": "RISC-V"}
"""Machines with 32 bits whose programs run on one with 64 bits."""

_ET_DYN, _ET_EXEC, _ET_REL, _ET_CORE = 3, 2, 1, 4
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_FLAGS_1, _DF_1_PIE = 0x6FFFFFFB, 0x08000000
_PN_XNUM = 0xFFFF
_PE_DLL = 0x2000


@dataclass(frozen=True, slots=True)
class Binary:
    """A library or program, as its header has it."""

    format: str
    """``ELF`` or ``PE``."""
    bits: int
    """Size of a pointer: 32 or 64."""
    machine: str
    """E.g. ``x86-64``; ``machine 0xNN`` where it is none of those that are known by name."""
    kind: str
    """``library``, ``program``, ``object file``, ``core dump``."""

    def __str__(self) -> str:
        system = " for Windows" if self.format == "PE" else ""
        return f"{self.bits}-bit {self.kind}{system} ({self.machine})"


def read_binary(path: Path) -> Binary | None:
    """Return what a file is; None where its form is one that is not looked into (Mach-O).

    :raises ModuleNotLoadable: it cannot be read, is neither library nor program, is damaged or was cut short.
    """
    try:
        if not path.is_file():  # opening a pipe would wait
            raise ModuleNotLoadable(f"{path} is no file")
        with path.open("rb", buffering=0) as file:
            return _Reader(path, file.fileno()).binary()
    except OSError as error:
        raise ModuleNotLoadable(f"{path} cannot be read: {error.strerror}") from None


def own_machine() -> tuple[int, str]:
    """Return word size and machine of this process, which are those of the libraries it can load."""
    if sys.platform == "linux":
        # The running image, since platform.machine() tells of the kernel. Where there is no /proc, that has to do.
        with suppress(ModuleNotLoadable):
            own = read_binary(Path("/proc/self/exe"))
            if own is not None:
                return own.bits, own.machine
    bits = struct.calcsize("P") * 8
    names = {"AMD64": "x86-64" if bits == 64 else "i386", "x86": "i386", "ARM64": "ARM 64", "arm64": "ARM 64"}
    return bits, names.get(platform.machine(), platform.machine())


def check_loadable(path: Path) -> None:
    """Look whether this process could load a library; what only the loader can know is left to it.

    :raises ModuleNotLoadable: it could not, and the message says what to do.
    """
    found = read_binary(path)
    if found is None:
        return
    if found.kind != "library":
        raise ModuleNotLoadable(f"{path} is no library: it is a {found}")
    if found.format != _FORMATS.get(sys.platform, "ELF"):
        raise ModuleNotLoadable(f"{path} is a {found}; this system needs the vendor's library for {platform.system()}")
    bits, machine = own_machine()
    if (found.bits, found.machine) != (bits, machine):
        advice = "install the vendor's library for this machine"
        if (found.bits, bits, _WIDER.get(found.machine)) == (32, 64, machine):
            advice = "install the vendor's 64-bit library, or name a 32-bit worker for this one ([[modules]] worker)"
        elif (found.bits, bits, _WIDER.get(machine)) == (64, 32, found.machine):
            advice = "name a 64-bit worker for it, or none at all ([[modules]] worker)"
        raise ModuleNotLoadable(f"{path} is a {found}, and the worker is {bits}-bit ({machine}): {advice}")


class _Reader:
    """Reads the headers of one open file."""

    def __init__(self, path: Path, file: int) -> None:
        self._path = path
        self._file = file
        self._size = os.fstat(file).st_size

    def binary(self) -> Binary | None:
        start = self._octets(0, min(self._size, 64))
        if start[:4] == b"\x7fELF":
            return self._elf()
        if start[:2] == b"MZ":
            return self._pe()
        if start[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"):
            return None
        what = "it is empty" if not start else "it is neither ELF nor PE"
        if start[:2] == b"#!":
            what = "it is a script"
        elif start and all((octet >= 0x20 and octet != 0x7F) or octet in b"\t\r\n" for octet in start):
            what = "it is a text; name the library itself"  # e.g. a linker script, which development packages have
        raise ModuleNotLoadable(f"{self._path} is no library: {what}")

    def _octets(self, offset: int, count: int) -> bytes:
        """Read octets that must be there."""
        data = b""
        if offset + count <= self._size:
            data = os.pread(self._file, count, offset) if hasattr(os, "pread") else self._seek(offset, count)
        if len(data) != count:
            raise self._cut(offset + count)
        return data

    def _seek(self, offset: int, count: int) -> bytes:  # Windows
        os.lseek(self._file, offset, os.SEEK_SET)
        return os.read(self._file, count)

    def _cut(self, end: int) -> ModuleNotLoadable:
        return ModuleNotLoadable(
            f"{self._path} was cut short: it has {self._size} octets, and by its header {end} at least; "
            f"install the library again"
        )

    def _damaged(self, what: str) -> ModuleNotLoadable:
        return ModuleNotLoadable(f"{self._path} is damaged: {what}; install the library again")

    # ELF

    def _elf(self) -> Binary:
        word, order = self._octets(4, 2)
        if word not in (1, 2) or order not in (1, 2):
            raise self._damaged("its ELF header names no word size or no byte order")
        bits, mark = (64, "<>"[order - 1]) if word == 2 else (32, "<>"[order - 1])
        layout = struct.Struct(mark + ("HHIQQQIHHH" if bits == 64 else "HHIIIIIHHH"))
        kind, machine, _, _, table, _, _, _, entry, count = layout.unpack(self._octets(16, layout.size))
        name = _ELF_MACHINES.get(machine, f"machine 0x{machine:02X}")
        if order == 2 and machine not in (20, 21, 22):
            name += ", big-endian"
        if kind != _ET_DYN:
            names = {_ET_EXEC: "program", _ET_REL: "object file", _ET_CORE: "core dump"}
            if kind not in names:
                raise self._damaged(f"its ELF header names the unknown type {kind}")
            return Binary("ELF", bits, name, names[kind])
        program = self._segments(mark, bits, table, entry, count)
        return Binary("ELF", bits, name, "program" if program else "library")

    def _segments(self, mark: str, bits: int, table: int, entry: int, count: int) -> bool:
        """Look at what the loader will map. Return whether it is a program that is built like a library (PIE)."""
        layout = struct.Struct(mark + ("IIQQQQ" if bits == 64 else "IIIII"))
        if entry < layout.size or not 0 < count <= MAX_SEGMENTS:
            many = "more" if count == _PN_XNUM else str(count)
            raise self._damaged(f"its ELF header names {many} segments of {entry} octets")
        octets = self._octets(table, entry * count)
        program = False
        for start in range(0, len(octets), entry):
            fields = layout.unpack_from(octets, start)
            # 64-bit: type, flags, offset, vaddr, paddr, filesz; 32-bit: type, offset, vaddr, paddr, filesz
            kind, offset, length = (fields[0], fields[2], fields[5]) if bits == 64 else (fields[0], *fields[1:5:3])
            if kind in (_PT_LOAD, _PT_DYNAMIC) and offset + length > self._size:
                raise self._cut(offset + length)
            if kind == _PT_DYNAMIC:
                program = self._is_program(mark, bits, offset, min(length, MAX_DYNAMIC))
        return program

    def _is_program(self, mark: str, bits: int, offset: int, length: int) -> bool:
        pair = struct.Struct(mark + ("QQ" if bits == 64 else "II"))
        octets = self._octets(offset, length - length % pair.size)
        return any(tag == _DT_FLAGS_1 and value & _DF_1_PIE for tag, value in pair.iter_unpack(octets))

    # PE

    def _pe(self) -> Binary:
        (header,) = struct.unpack("<I", self._octets(0x3C, 4))
        signature, machine, sections, options, flags = struct.unpack("<4sHH12xHH", self._octets(header, 24))
        if signature != b"PE\0\0":
            raise ModuleNotLoadable(f"{self._path} is no library: it is a program for DOS or 16-bit Windows")
        (magic,) = struct.unpack("<H", self._octets(header + 24, 2))
        if magic not in (0x10B, 0x20B):
            raise self._damaged("its PE header names no word size")
        if sections > MAX_SECTIONS:
            raise self._damaged(f"its PE header names {sections} sections")
        table = self._octets(header + 24 + options, 40 * sections)
        for start in range(0, len(table), 40):
            length, offset = struct.unpack_from("<II", table, start + 16)
            if length and offset + length > self._size:
                raise self._cut(offset + length)
        name = _PE_MACHINES.get(machine, f"machine 0x{machine:04X}")
        kind = "library" if flags & _PE_DLL else "program"
        return Binary("PE", 64 if magic == 0x20B else 32, name, kind)
