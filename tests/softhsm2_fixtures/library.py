"""Where SoftHSM2 is on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["MODULE_VARIABLE", "NOT_FOUND", "find_module", "find_util"]

MODULE_VARIABLE = "SOFTHSM2_MODULE"
"""Environment variable that names the library and wins over every known place."""

NOT_FOUND = f"SoftHSM2 (the library or softhsm2-util) was not found; install softhsm2 or set {MODULE_VARIABLE}"

KNOWN_PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",  # Debian, Ubuntu (link kept beside the multiarch path)
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",  # Fedora, RHEL
    "/usr/lib64/softhsm/libsofthsm2.so",  # openSUSE
    "/usr/lib64/libsofthsm2.so",
    "/usr/lib/libsofthsm2.so",  # Arch, Alpine
    "/usr/lib/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",  # built from source, FreeBSD, Homebrew on Intel
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",  # Homebrew on Apple silicon
)


def find_module() -> Path | None:
    """Return the library's path, or None. A set :data:`MODULE_VARIABLE` is the only place looked at."""
    named = os.environ.get(MODULE_VARIABLE)
    for place in (named,) if named else KNOWN_PLACES:
        if Path(place).is_file():
            return Path(place)
    return None


def find_util() -> Path | None:
    """Return the path of ``softhsm2-util``, or None."""
    found = shutil.which("softhsm2-util")
    return Path(found) if found else None
