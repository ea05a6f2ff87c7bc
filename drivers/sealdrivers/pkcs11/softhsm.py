"""One quirk of SoftHSM 2.6.1: it sees tokens that another process made, or that came back, only after C_Finalize and
C_Initialize. C_GetSlotList with NULL, which the standard makes the moment to look for new tokens (2.40 clause 5.5),
changes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["MANUFACTURER", "token_files"]

MANUFACTURER = "SoftHSM"
"""How the manufacturer of the library and of its tokens begins."""

_CONFIGURATIONS = ("~/.config/softhsm2/softhsm2.conf", "/etc/softhsm2.conf", "/etc/softhsm/softhsm2.conf")
"""Where SoftHSM looks, unless SOFTHSM2_CONF names a file."""


def token_files() -> frozenset[tuple[str, int]] | None:
    """Return the tokens in SoftHSM's directory, by name and time of change; None where it cannot be found."""
    named = os.environ.get("SOFTHSM2_CONF")
    for place in [named] if named else _CONFIGURATIONS:
        try:
            lines = Path(place).expanduser().read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition("=")
            if name.strip() == "directories.tokendir":
                return _changes(Path(value.strip()))
    return None


def _changes(directory: Path) -> frozenset[tuple[str, int]] | None:
    try:
        return frozenset((path.parent.name, path.stat().st_mtime_ns) for path in directory.glob("*/token.object"))
    except OSError:  # a token went away while we looked
        return None
