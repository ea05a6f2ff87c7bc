"""Which font a seal is written with: one of the system's, or one that the maker names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sealagent.errors import FormatError, SealAgentError
from sealagent.maker.glyphs import Face, characters_of, faces_of

__all__ = ["CANDIDATES", "Candidate", "find_face"]

_FONTS = Path("/usr/share/fonts")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A font of the system, and the Debian package that has it."""

    face: Face
    package: str


CANDIDATES = (
    # Song first: the face that official seals are cut in. The first one is what scripts/bootstrap.sh installs.
    Candidate(Face(_FONTS / "truetype/arphic-gbsn00lp/gbsn00lp.ttf"), "fonts-arphic-gbsn00lp"),
    # Of a collection the face for the mainland: the others have other forms of the same characters.
    Candidate(Face(_FONTS / "opentype/noto/NotoSerifCJK-Bold.ttc", 2), "fonts-noto-cjk"),
    Candidate(Face(_FONTS / "opentype/noto/NotoSerifCJK-Regular.ttc", 2), "fonts-noto-cjk"),
    Candidate(Face(_FONTS / "truetype/arphic/uming.ttc"), "fonts-arphic-uming"),
    Candidate(Face(_FONTS / "truetype/wqy/wqy-zenhei.ttc"), "fonts-wqy-zenhei"),
)
"""Tried in this order. The first has the 6,763 characters of GB 2312, the others the rare ones of names as well."""

_MAINLAND = (" SC", " CN", " GB")
"""How faces for simplified characters are named within a collection."""


def find_face(characters: str, chosen: Path | None = None) -> Face:
    """Return a face that has all the characters: a seal is written with one face.

    :param chosen: font file to use instead of the system's; of a collection, its face for simplified characters.
    :raises SealAgentError: ``font_not_found`` (no such file, or none of :data:`CANDIDATES` is installed),
        ``drawing_unavailable``.
    :raises FormatError: ``glyph_missing`` with the ``characters`` that no face has, ``font_invalid``.
    """
    lacking: set[str] | None = None
    for face in _to_try(chosen):
        missing = set(characters) - {" "} - characters_of(face)
        if not missing:
            return face
        lacking = missing if lacking is None else lacking & missing or lacking
    if lacking is None:
        raise SealAgentError("font_not_found", f"no Chinese font is installed; install one of: {_packages(CANDIDATES)}")
    named = "".join(sorted(lacking))
    where = f"{chosen.name} does not have" if chosen else "no installed font has"
    more = [each for each in CANDIDATES if not each.face.path.is_file()]
    help_ = f"; these packages have more: {_packages(more)}" if more else ""
    raise FormatError("glyph_missing", f"{where} the characters {named}{help_}", characters=named)


def _to_try(chosen: Path | None) -> Iterator[Face]:
    if chosen is None:
        yield from (each.face for each in CANDIDATES if each.face.path.is_file())
        return
    if not chosen.is_file():
        raise SealAgentError("font_not_found", f"there is no font file {chosen}")
    names = faces_of(chosen)
    mainland = (number for number, name in enumerate(names) if any(mark in name for mark in _MAINLAND))
    yield Face(chosen, next(mainland, 0))


def _packages(candidates: Iterable[Candidate]) -> str:
    return ", ".join(dict.fromkeys(each.package for each in candidates))
