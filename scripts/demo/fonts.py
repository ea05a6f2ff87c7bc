"""The Chinese font of the demo: a Song face, as official seals and documents are set in."""

from __future__ import annotations

from pathlib import Path

FONTS = Path("/usr/share/fonts")

# The first that exists is taken. The first one is what scripts/bootstrap.sh installs.
CANDIDATES = (
    FONTS / "truetype/arphic-gbsn00lp/gbsn00lp.ttf",
    FONTS / "truetype/arphic/uming.ttc",
    FONTS / "opentype/noto/NotoSerifCJK-Regular.ttc",
    FONTS / "truetype/wqy/wqy-zenhei.ttc",
)


def find_font() -> Path:
    """Return the file of an installed Chinese font.

    :raises FileNotFoundError: none of :data:`CANDIDATES` is installed
    """
    for path in CANDIDATES:
        if path.is_file():
            return path
    raise FileNotFoundError("no Chinese font is installed; `make setup` installs the package fonts-arphic-gbsn00lp")
