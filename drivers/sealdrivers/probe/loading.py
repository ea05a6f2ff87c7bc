"""The first section: what the file exports. Loading runs code of the library, so even this needs a process."""

from __future__ import annotations

import ctypes
import sys

from sealdrivers.probe.section import Section

__all__ = ["exported", "load", "loaded"]

PKCS11_ENTRY = "C_GetFunctionList"
SKF_ENTRIES = ("SKF_EnumDev", "_SKF_EnumDev", "SKF_EnumDev@12", "_SKF_EnumDev@12")


def loaded(section: Section) -> ctypes.CDLL | None:
    """Load the library, or say why it cannot be."""
    kind: type[ctypes.CDLL] = ctypes.CDLL
    if sys.platform == "win32" and section.request.driver == "skf":
        kind = ctypes.WinDLL
    try:
        return section.call("dlopen", kind, section.request.path)
    except OSError as error:
        said = str(error).replace(section.request.path, "the library")
        wrong = "wrong ELF class" in said or getattr(error, "winerror", 0) == 193
        section.finding("other_architecture" if wrong else "load_failed", "dlopen", said)
        return None


def exported(library: ctypes.CDLL, name: str) -> bool:
    """Say whether the library exports a function of this very name."""
    try:
        library[name]
    except AttributeError:
        return False
    return True


def load(section: Section) -> None:
    """Load the library and see which interfaces it exports."""
    library = loaded(section)
    if library is None:
        return
    pkcs11, skf = exported(library, PKCS11_ENTRY), any(exported(library, name) for name in SKF_ENTRIES)
    section.fact("pkcs11", pkcs11)
    section.fact("skf", skf)
