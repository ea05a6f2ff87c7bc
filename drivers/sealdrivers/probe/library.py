"""The library's file, without loading it: size, digest, architecture, and its entry of the vendor table."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from sealdrivers.vendors import VendorModule

__all__ = ["architecture", "sha256_of", "shown_path", "vendor_entry"]

_ELF_MACHINES = {3: "x86", 8: "MIPS", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V", 258: "LoongArch"}
_PE_MACHINES = {0x14C: "x86", 0x8664: "x86-64", 0xAA64: "AArch64"}
_MACHO_MACHINES = {0x01000007: "x86-64", 0x0100000C: "AArch64"}


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256 in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def architecture(path: Path) -> str:
    """Return format, word size and machine by the file's first octets; empty where they are none that is known."""
    with path.open("rb") as file:
        head = file.read(4096)
    try:
        if head[:4] == b"\x7fELF":
            bits = {1: 32, 2: 64}.get(head[4], 0)
            (machine,) = struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)
            return f"ELF {bits}-bit {_ELF_MACHINES.get(machine, f'machine {machine}')}"
        if head[:2] == b"MZ":
            (offset,) = struct.unpack_from("<I", head, 0x3C)
            (machine,) = struct.unpack_from("<H", head, offset + 4)
            bits = 64 if machine in (0x8664, 0xAA64) else 32
            return f"PE {bits}-bit {_PE_MACHINES.get(machine, f'machine 0x{machine:X}')}"
        if head[:4] == b"\xcf\xfa\xed\xfe":
            (machine,) = struct.unpack_from("<I", head, 4)
            return f"Mach-O 64-bit {_MACHO_MACHINES.get(machine, f'machine 0x{machine:X}')}"
        if head[:4] == b"\xca\xfe\xba\xbe":
            return "Mach-O universal"
    except (struct.error, IndexError):
        pass
    return ""


def shown_path(path: Path) -> str:
    """Return the path as a report shows it: reports are published, and a home directory names its owner."""
    home = os.path.expanduser("~")
    text = str(path)
    return "~" + text[len(home) :] if home != "/" and text.startswith(home.rstrip("/") + "/") else text


def vendor_entry(path: Path, entries: Sequence[VendorModule]) -> VendorModule | None:
    """Return the ``[[module]]`` entry whose file names fit; the last one, which may be an operator's."""
    for entry in reversed(entries):
        if any(fnmatchcase(path.name.lower(), os.path.basename(file).lower()) for file in entry.files):
            return entry
    return None
