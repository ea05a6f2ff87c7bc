"""How seals are laid out. Measures are millimetres, y downwards, origin in the middle.

Round seals follow the State Council's rules for the seals of organisations (国发〔1999〕25号: round, 40 to 50 mm for
most, a star in the middle, the name around it from left to right in simplified Song) and what seals in use look like.
The invoice seal follows the tax administration's specimen (国家税务总局公告2011年第7号).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sealagent.maker.designs import Design, OrganisationSeal, OvalSeal, PersonalSeal, check_design, design_invalid
from sealagent.maker.drawing import COLOURS, Drawing, Frame, Ring
from sealagent.maker.fonts import find_face
from sealagent.maker.glyphs import GlyphSet, Polygon, load
from sealagent.maker.tracks import Track, Written, box_of, in_box, on_arc, on_line, weight_for

__all__ = ["draw", "star"]


def draw(design: Design, font: Path | None = None) -> Drawing:
    """Lay out a seal.

    :param font: TrueType or OpenType file; the first of the system's that has all characters when left out.
    :raises FormatError: ``design_invalid`` with the ``field``; ``glyph_missing`` with the ``characters``;
        ``font_invalid``.
    :raises SealAgentError: ``font_not_found``, ``drawing_unavailable``.
    """
    check_design(design)
    if isinstance(design, PersonalSeal):
        return _personal(design, font)
    if isinstance(design, OvalSeal):
        return _oval(design, font)
    return _round(design, font)


def star(diameter: float) -> Polygon:
    """Return the regular five-pointed star, one point up, whose points lie on a circle of ``diameter``."""
    inner = math.sin(math.radians(18)) / math.sin(math.radians(54))
    radii = [diameter / 2 * (inner if step % 2 else 1.0) for step in range(10)]
    return [
        (radius * math.sin(step * math.pi / 5), -radius * math.cos(step * math.pi / 5))
        for step, radius in enumerate(radii)
    ]


def _glyphs(text: str, font: Path | None) -> GlyphSet:
    return load(find_face(text, font), text)


def _units(text: str, glyphs: GlyphSet) -> float:
    """Return the room a text takes, in squares of an ideograph."""
    return sum(glyphs.outlines[character].width for character in text)


# --- names along an arc -----------------------------------------------------------------------------------------------


NARROWEST = 0.5
"""Width over height below which a name is rather set smaller."""
UNREADABLE = 1.0
"""Millimetres: an ideograph of less has strokes closer than a printer's dots."""


@dataclass(frozen=True, slots=True)
class _Arc:
    """A name that was fitted to its arc."""

    written: list[Written]
    height: float
    half: float
    """Way from the top to the end of the last character, mm along the track."""


def _name_on_arc(
    text: str,
    glyphs: GlyphSet,
    axes: tuple[float, float],
    gap: float,
    heights: Iterator[float],
    cell: float,
    reach: float,
) -> _Arc:
    """Set a name as large as it can be read on the arc that there is.

    :param axes: half axes of the border's inner edge.
    :param gap: between that edge and the tops of the characters.
    :param heights: to be tried, from the largest.
    :param cell: the room of one character, at most: short names are not spread over all the arc.
    :param reach: how far from the top the arc may go, radians.
    """
    units = _units(text, glyphs)
    for height in heights:
        track = Track(*axes, gap + height / 2)
        half = min(track.until(reach), units * cell / 2)
        room = 2 * half / units
        width = min(0.86 * height, 0.95 * room * track.narrowest(0.9 * height, half))
        if width >= NARROWEST * height:
            break
    if width < UNREADABLE:
        raise design_invalid("name", "is too long for a seal of this size")
    weight = weight_for(width, 0.8 * height, bold=glyphs.bold)
    return _Arc(on_arc(text, glyphs.outlines, track, room, (width, height), weight=weight), height, half)


def _cell(cells: tuple[float, float, int], units: float) -> float:
    """Return the most room for a character: the usual one, and what each character less than so many adds."""
    usual, more, few = cells
    return usual + more * max(0.0, few - units)


def _down(start: float, stop: float, step: float) -> Iterator[float]:
    count = round((start - stop) / step)
    for number in range(count + 1):
        yield start - number * step


# --- round seals ------------------------------------------------------------------------------------------------------

RING = 1.1  # all of a seal of 40 mm; others in proportion
NAME_GAP = 1.1
NAME_HEIGHTS = (6.2, 2.8)
NAME_CELLS = (6.9, 0.4, 8)  # characters stand 27 degrees apart; the fewer below eight, the further
STAR = 14.0
CODE_HEIGHT = 1.6
CODE_CELL = 2.3  # of a square; a digit takes about half of it
CODE_GAP = 0.6
LINE_HEIGHTS = (3.8, 1.9)
LINE_MIDDLE = 12.2
BARE_LINE_HEIGHTS = (5.2, 1.9)  # where there is no star
AIR = 0.7  # between the line and the ring or the code
NAME_AIR = 1.5  # between the line and the name: nobody shall read on from one to the other
STAR_AIR = 1.2  # between the line and the star


def _round(design: OrganisationSeal, font: Path | None) -> Drawing:
    glyphs = _glyphs(design.name + design.line + design.code, font)
    k = design.diameter / 40
    inner = design.diameter / 2 - RING * k
    code, code_half = _code(design.code, glyphs, inner, k)
    # Long names go further down, where no code is in their way.
    reach = math.radians(134 + max(0.0, min(_units(design.name, glyphs) - 20, 20)) * 0.55)
    if code:
        reach = min(reach, math.pi - code_half - math.radians(13))
    heights = _down(NAME_HEIGHTS[0] * k, NAME_HEIGHTS[1] * k, 0.1 * k)
    cell = _cell(NAME_CELLS, _units(design.name, glyphs)) * k
    name = _name_on_arc(design.name, glyphs, (inner, inner), NAME_GAP * k, heights, cell, reach)
    line = _line(design, glyphs, k, _Room(inner, name, code_half if code else 0.0, k)) if design.line else []
    solids = (star(STAR * k),) if design.star else ()
    title = " ".join(filter(None, (design.name, design.line, design.code)))
    written = (*name.written, *line, *code)
    return Drawing(title, design.diameter, design.diameter, COLOURS[design.colour], Ring(RING * k), written, solids)


def _code(text: str, glyphs: GlyphSet, inner: float, k: float) -> tuple[list[Written], float]:
    """Write the code along the lower edge; return it with half the angle it takes."""
    if not text:
        return [], 0.0
    size, rise = _digits(text, glyphs, CODE_HEIGHT * k, CODE_CELL * k * 0.86)
    track = Track(inner, inner, (CODE_GAP + CODE_HEIGHT / 2) * k)
    weight = weight_for(0.85 * size[0], CODE_HEIGHT * k, bold=glyphs.bold)
    written = on_arc(text, glyphs.outlines, track, CODE_CELL * k, size, weight=weight, bottom=True, rise=rise)
    return written, _units(text, glyphs) * CODE_CELL * k / track.length * math.pi


def _digits(text: str, glyphs: GlyphSet, height: float, width: float) -> tuple[tuple[float, float], float]:
    """Return the em at which the ink of digits is so high, and how far their middle is above an ideograph's, in ems."""
    top, bottom = box_of(text, glyphs.outlines)
    return (width, height / (bottom - top)), -(top + bottom) / 2


@dataclass(frozen=True, slots=True)
class _Room:
    """What is left of a round seal within its ring, its name and its code."""

    inner: float
    name: _Arc
    code_half: float
    k: float

    def takes(self, x: float, y: float) -> bool:
        """Say whether a line may have a corner there."""
        distance, down = math.hypot(x, y), math.atan2(abs(x), y)  # the angle is 0 at the bottom
        air = AIR * self.k
        if self.code_half and distance > self.inner - (CODE_GAP + CODE_HEIGHT) * self.k - air:
            return False
        middle = self.inner - NAME_GAP * self.k - self.name.height / 2
        name_ends = math.pi - self.name.half / middle - NAME_AIR * self.k / middle
        if down > name_ends and distance > middle - self.name.height / 2 - NAME_AIR * self.k:
            return False
        return distance < self.inner - air


def _line(design: OrganisationSeal, glyphs: GlyphSet, k: float, room: _Room) -> list[Written]:
    """Set the line as large as it fits, then as near as it can be to where it usually stands."""
    units = _units(design.line, glyphs)
    largest, smallest = LINE_HEIGHTS if design.star else BARE_LINE_HEIGHTS
    middle = LINE_MIDDLE * k if design.star else 0.0
    highest = (STAR / 2 * math.cos(math.radians(36)) + STAR_AIR) * k if design.star else -room.inner
    found: tuple[float, float, float, float] | None = None
    for height in _down(largest * k, smallest * k, 0.1 * k):
        for narrow in (1.0, 0.9, 0.8, 0.7, 0.6):
            half = units * height * narrow * 1.06 / 2
            places = (y for y in _around(middle, 0.1 * k, 5 * k) if y - height / 2 >= highest)
            for y in places:
                ends = (y - height / 2, y, y + height / 2)
                if all(room.takes(half * part, end) for end in ends for part in (0.0, 0.5, 1.0)):
                    size = height * math.sqrt(narrow) - 0.02 * abs(y - middle)
                    found = max(found or (0.0, 0.0, 0.0, 0.0), (size, height, narrow, y))
                    break
    if found is None:
        raise design_invalid("line", "does not fit below the star; shorten it, or draw the seal without a star")
    _, height, narrow, y = found
    width = height * narrow
    weight = weight_for(0.8 * width, 0.8 * height, bold=glyphs.bold)
    return on_line(design.line, glyphs.outlines, width * 1.06, (width, height), y, weight=weight)


def _around(middle: float, step: float, furthest: float) -> Iterator[float]:
    """Yield places from the middle outwards, up and down in turn."""
    yield middle
    for number in range(1, round(furthest / step) + 1):
        yield middle - number * step
        yield middle + number * step


# --- oval seals -------------------------------------------------------------------------------------------------------

OVAL_LINE = 1.0  # all of an invoice seal of 40 × 30 mm, as its specimen has them; others in proportion
OVAL_GAP = 0.5
OVAL_NAME_HEIGHTS = (4.6, 2.4)  # of the em; the ink is 4.2 mm high, as the specimen has it
OVAL_NAME_CELLS = (5.2, 0.4, 9)
OVAL_REACH = math.radians(118)
OVAL_CODE_HEIGHT = 3.7
OVAL_CODE_WIDTH = 26.0
OVAL_LINE_HEIGHT = 4.6
OVAL_LINE_WIDTH = 3.0
OVAL_LINE_TOP = 4.2


def _oval(design: OvalSeal, font: Path | None) -> Drawing:
    glyphs = _glyphs(design.name + design.line + design.code, font)
    k = min(design.width / 40, design.height / 30)
    axes = (design.width / 2 - OVAL_LINE * k, design.height / 2 - OVAL_LINE * k)
    heights = _down(OVAL_NAME_HEIGHTS[0] * k, OVAL_NAME_HEIGHTS[1] * k, 0.1 * k)
    cell = _cell(OVAL_NAME_CELLS, _units(design.name, glyphs)) * k
    name = _name_on_arc(design.name, glyphs, axes, OVAL_GAP * k, heights, cell, OVAL_REACH)
    written = list(name.written)
    if design.code:
        cell = min(OVAL_CODE_WIDTH * k / _units(design.code, glyphs), 2.6 * k)
        size, rise = _digits(design.code, glyphs, OVAL_CODE_HEIGHT * k, cell)
        weight = weight_for(0.9 * size[0], OVAL_CODE_HEIGHT * k, bold=glyphs.bold)
        written += on_line(design.code, glyphs.outlines, cell, size, 0.0, weight=weight, rise=rise)
    if design.line:
        y = (OVAL_LINE_TOP + OVAL_LINE_HEIGHT / 2) * k
        half = axes[0] * math.sqrt(max(1 - ((y + OVAL_LINE_HEIGHT * k / 2) / axes[1]) ** 2, 0))
        width = min(OVAL_LINE_WIDTH * k / 0.86, 2 * (half - 2.0 * k) / _units(design.line, glyphs) / 1.16)
        height = OVAL_LINE_HEIGHT / 0.92 * k
        weight = weight_for(width, 0.8 * height, bold=glyphs.bold)
        written += on_line(design.line, glyphs.outlines, width * 1.16, (width, height), y, weight=weight)
    title = " ".join(filter(None, (design.name, design.line, design.code)))
    return Drawing(title, design.width, design.height, COLOURS[design.colour], Ring(OVAL_LINE * k), tuple(written))


# --- name seals -------------------------------------------------------------------------------------------------------

FRAME = 1.0  # all of a seal of 20 mm
FRAME_RADIUS = 0.6
FRAME_AIR = 0.7
REVERSED_AIR = 1.5
BETWEEN = 0.5
STRETCH = 1.8
"""How many times higher than wide a character may be, or the other way round: seals stretch them to fill the square."""


def _personal(design: PersonalSeal, font: Path | None) -> Drawing:
    text = design.name + design.suffix
    glyphs = _glyphs(text, font)
    k = min(design.width, design.height) / 20
    air = (REVERSED_AIR if design.reversed else FRAME + FRAME_AIR) * k
    left, top = air - design.width / 2, air - design.height / 2
    columns = _columns(design.name, design.suffix)
    width = (-2 * left - BETWEEN * k * (len(columns) - 1)) / len(columns)
    written: list[Written] = []
    for number, column in enumerate(columns):
        x = -left - width - number * (width + BETWEEN * k)
        height = (-2 * top - BETWEEN * k * (len(column) - 1)) / len(column)
        for row, character in enumerate(column):
            y = top + row * (height + BETWEEN * k)
            weight = weight_for(width, height, bold=glyphs.bold)
            box = (x, y, x + width, y + height)
            written.append(in_box(character, glyphs.outlines[character], box, STRETCH, weight=weight))
    border = Frame(FRAME * k, FRAME_RADIUS * k)
    colour = COLOURS[design.colour]
    return Drawing(text, design.width, design.height, colour, border, tuple(written), reversed=design.reversed)


def _columns(name: str, suffix: str) -> list[str]:
    """Return the columns from the right: a surname alone beside a given name of two, four characters two by two."""
    text = name + suffix
    if len(text) <= 2:
        return list(text)
    if len(text) == 3:
        return [name, suffix] if suffix else [text[0], text[1:]]
    columns = 2 if len(text) <= 6 else 3
    rows = math.ceil(len(text) / columns)
    return [text[start : start + rows] for start in range(0, len(text), rows)]
