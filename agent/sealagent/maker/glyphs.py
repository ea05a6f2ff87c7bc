"""Outlines of characters from a font file, as polygons. The only module that knows fontTools."""

from __future__ import annotations

import itertools
import logging
import math
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealagent.errors import FormatError
from sealagent.seals.extras import missing_extra

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

__all__ = ["Face", "GlyphSet", "Outline", "Point", "Polygon", "characters_of", "faces_of", "load"]

Point = tuple[float, float]
Polygon = list[Point]

MAX_FONT_OCTETS = 256 << 20
"""A font file larger than this is not read: the largest collection of a distribution has 120 MB."""
MAX_FACES = 64
"""Faces of one collection that are looked at; the largest have ten."""
MAX_POINTS = 20_000
"""Points of one outline, flattened, and outlines of one character. The busiest ideographs have some hundred."""
FLATNESS = 1 / 1500
"""How far a straight piece may be off its curve, in ems: a sixth of a pixel for 10 mm at 600 dpi."""
BOLD_CLASS = 600
"""usWeightClass of faces that need no thickening."""
SQUARE = "国"
"""Fills the square of a character: where its middle is, the middle of all ideographs is. Most faces have it."""
NARROW = 0.45
"""Ink narrower than this, in ems, needs no whole square unless it is an ideograph's: brackets, digits, dots."""
NARROW_AIR = 0.12
"""Air on both sides together of what stands in less than a square, in ems."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a font file."""

    path: Path
    number: int = 0
    """Counted from 0 within a collection."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The closed outlines of a character in ems, y downwards, origin in the middle of its place.

    A hole turns the other way than the outline around it.
    """

    polygons: tuple[Polygon, ...]
    width: float
    """Of its place, in ems: 1 for an ideograph, less for brackets, digits and the like."""

    def box(self) -> tuple[float, float, float, float] | None:
        """Return left, top, right and bottom of the ink, in ems; None of a space."""
        points = [point for polygon in self.polygons for point in polygon]
        if not points:
            return None
        xs, ys = zip(*points, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


@dataclass(frozen=True, slots=True)
class GlyphSet:
    """The characters of one seal."""

    outlines: dict[str, Outline]
    bold: bool
    """Whether the face is bold by itself."""


def characters_of(face: Face) -> frozenset[str]:
    """Return the characters that a face has.

    :raises FormatError: ``font_invalid``.
    :raises SealAgentError: ``drawing_unavailable``.
    """
    with _open(face) as font:
        codes = font.getBestCmap()
        if not codes:
            raise ValueError("a face that says nothing of Unicode")
        return frozenset(map(chr, codes))


def faces_of(path: Path) -> tuple[str, ...]:
    """Return the names of a collection's faces, in their order; a nameless one of a file with a single face.

    :raises FormatError: ``font_invalid``.
    :raises SealAgentError: ``drawing_unavailable``.
    """
    names: list[str] = []
    with _open(Face(path)) as font:
        # fontTools says of a collection's reader how many faces there are; a single face has one.
        count = min(int(getattr(font.reader, "numFonts", 1)), MAX_FACES)
    if count == 1:
        return ("",)  # it need not have a name
    for number in range(count):
        with _open(Face(path, number)) as font:
            names.append(str(font["name"].getDebugName(4) or ""))
    return tuple(names)


def load(face: Face, characters: str) -> GlyphSet:
    """Read the outlines of the characters, which the face must have (:func:`sealagent.maker.fonts.find_face`).

    :raises FormatError: ``font_invalid``.
    :raises SealAgentError: ``drawing_unavailable``.
    """
    with _open(face) as font:
        from fontTools.pens.recordingPen import DecomposingRecordingPen

        glyphs, names, em = font.getGlyphSet(), font.getBestCmap(), float(font["head"].unitsPerEm)
        found: dict[str, tuple[Polygon, ...]] = {}
        for character in sorted({SQUARE, *characters}):
            if ord(character) not in names and character in (SQUARE, " "):
                continue
            pen = DecomposingRecordingPen(glyphs)
            glyphs[names[ord(character)]].draw(pen)
            found[character] = _flattened(pen.value, em * FLATNESS)
        bold = "OS/2" in font and int(font["OS/2"].usWeightClass) >= BOLD_CLASS
        # Ascender and descender differ too much between fonts to tell where the middle is.
        square = Outline(found.get(SQUARE) or tuple(itertools.chain(*found.values())), 1.0).box()
        if square is None:
            raise ValueError("a face without outlines")
    left, top, right, bottom = square
    found.setdefault(" ", ())
    middle = ((left + right) / 2, (top + bottom) / 2)
    return GlyphSet(
        {character: _centred(character, polygons, middle, em) for character, polygons in found.items()}, bold
    )


def _centred(character: str, polygons: tuple[Polygon, ...], middle: Point, em: float) -> Outline:
    box = Outline(polygons, 1.0).box()
    x0, y0 = middle
    width = 1.0
    if box is None:
        width = 0.4  # a space
    elif unicodedata.category(character) != "Lo" and box[2] - box[0] < NARROW * em:
        x0 = (box[0] + box[2]) / 2
        width = (box[2] - box[0]) / em + NARROW_AIR
    elif unicodedata.category(character) != "Lo":
        x0 = (box[0] + box[2]) / 2
        width = min((box[2] - box[0]) / em + NARROW_AIR, 1.0)
    return Outline(tuple([((x - x0) / em, (y0 - y) / em) for x, y in polygon] for polygon in polygons), width)


@contextmanager
def _open(face: Face) -> Iterator[TTFont]:
    """Open a face; whatever fontTools cannot cope with, then or later, is a fault of the file."""
    try:
        from fontTools.ttLib import TTFont
    except ImportError as exc:
        raise missing_extra("fonttools") from exc
    # It warns of harmless faults at each start: the default font's table of glyphs is four octets too long.
    logging.getLogger("fontTools").setLevel(logging.CRITICAL)
    try:
        if face.path.stat().st_size > MAX_FONT_OCTETS:
            raise FormatError("font_invalid", f"{face.path.name} is too large for a font", limit=MAX_FONT_OCTETS)
        # Our own file: fontTools leaves one open when it cannot read what is in it.
        with face.path.open("rb") as file, TTFont(file, fontNumber=face.number, lazy=True) as font:
            yield font
    except (FormatError, OSError):
        raise
    except Exception as exc:  # it parses tables as they come: struct.error, KeyError, AssertionError and more
        raise FormatError("font_invalid", f"{face.path.name} is not a font that can be drawn with") from exc


def _flattened(operations: Iterable[tuple[str, Any]], flatness: float) -> tuple[Polygon, ...]:
    """Turn the operations of a pen into polygons."""
    polygons: list[Polygon] = []
    for operation, points in operations:
        if operation == "moveTo":
            polygons.append([points[0]])
        elif operation == "lineTo":
            polygons[-1].append(points[0])
        elif operation == "qCurveTo":
            if points[-1] is None:  # a closed spline without a point on the curve
                points = _with_point_on_curve(points)
                polygons.append([points[-1]])
            polygons[-1].extend(_quadratics(polygons[-1][-1], points, flatness))
        elif operation == "curveTo":
            polygons[-1].extend(_bezier([polygons[-1][-1], *points], flatness))
        if len(polygons) > MAX_POINTS or (polygons and len(polygons[-1]) > MAX_POINTS):
            raise ValueError("a character with too many points")
    return tuple(polygon for polygon in polygons if len(polygon) > 2)


def _with_point_on_curve(points: tuple[Any, ...]) -> tuple[Point, ...]:
    controls = points[:-1]
    start = ((controls[-1][0] + controls[0][0]) / 2, (controls[-1][1] + controls[0][1]) / 2)
    return (*controls, start)


def _quadratics(start: Point, points: tuple[Point, ...], flatness: float) -> Iterator[Point]:
    """Flatten a TrueType spline: between two control points lies an implied point on the curve, half-way."""
    *controls, end = points
    for index, control in enumerate(controls):
        following = controls[index + 1] if index + 1 < len(controls) else None
        stop = end if following is None else ((control[0] + following[0]) / 2, (control[1] + following[1]) / 2)
        yield from _bezier([start, control, stop], flatness)
        start = stop
    if not controls:
        yield end


def _bezier(points: list[Point], flatness: float) -> Iterator[Point]:
    """Flatten one Bézier curve of the second or third degree, its first point left out (de Casteljau)."""
    degree = len(points) - 1
    bend = max(
        (
            math.hypot(a[0] - 2 * b[0] + c[0], a[1] - 2 * b[1] + c[1])
            for a, b, c in zip(points, points[1:], points[2:], strict=False)
        ),
        default=0.0,
    )
    # The distance of a curve from n chords is at most degree·(degree-1)/8 of its largest second difference, over n².
    steps = max(1, math.ceil(math.sqrt(degree * (degree - 1) / 8 * bend / flatness)))
    if steps > MAX_POINTS:
        raise ValueError("a curve beyond measure")
    for step in range(1, steps + 1):
        t = step / steps
        row = points
        while len(row) > 1:
            row = [(a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t) for a, b in itertools.pairwise(row)]
        yield row[0]
