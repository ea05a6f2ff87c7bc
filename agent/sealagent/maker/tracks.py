"""Where the characters of a seal go: along an arc, on a straight line, into a box. Millimetres, y downwards."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sealagent.maker.glyphs import Outline, Point, Polygon

__all__ = ["Track", "Written", "box_of", "in_box", "on_arc", "on_line", "weight_for"]

SAMPLES = 1440
"""Points a track is measured at: a quarter of a degree apart, where the arc is its chord within 0.0001 mm."""
WEIGHT = 0.055
"""Thickening of each stroke, as a part of the character's smaller side: seals are cut bolder than text faces."""


@dataclass(frozen=True, slots=True)
class Written:
    """A character in its place."""

    character: str
    polygons: tuple[Polygon, ...]
    """Outlines in millimetres around the middle of the seal."""
    weight: float
    """Width of the line that is drawn along the outlines, half of it inside; millimetres."""


class Track:
    """The curve at a constant distance inside an ellipse, on which the middles of characters lie."""

    def __init__(self, rx: float, ry: float, inset: float) -> None:
        """
        :param rx, ry: half axes of the ellipse, mm.
        :param inset: distance of the track from it, inwards, mm; smaller than its radius of curvature.
        """
        self._points: list[Point] = []
        self._angles: list[float] = []
        for step in range(SAMPLES + 1):
            t = 2 * math.pi * step / SAMPLES
            x, y = rx * math.sin(t), -ry * math.cos(t)
            normal = math.atan2(x / rx**2, -y / ry**2)
            self._points.append((x - inset * math.sin(normal), y + inset * math.cos(normal)))
            # Continuous from 0 to a full turn, so that there is something between any two of them.
            self._angles.append(normal + (2 * math.pi if step > SAMPLES / 2 and normal <= 0 else 0))
        self._angles[-1] = 2 * math.pi
        steps = (math.dist(a, b) for a, b in itertools.pairwise(self._points))
        self._lengths = [0.0, *itertools.accumulate(steps)]

    @property
    def length(self) -> float:
        """All the way round, mm."""
        return self._lengths[-1]

    def until(self, angle: float) -> float:
        """Return the way from the top, clockwise, to where the track is seen at ``angle`` (radians) from the middle."""
        seen = [math.atan2(x, -y) % (2 * math.pi) for x, y in self._points[: SAMPLES // 2 + 1]]
        seen[-1] = math.pi
        index = min(max(bisect.bisect_left(seen, angle), 1), SAMPLES // 2)
        part = (angle - seen[index - 1]) / (seen[index] - seen[index - 1])
        return self._lengths[index - 1] + part * (self._lengths[index] - self._lengths[index - 1])

    def at(self, way: float) -> tuple[float, float, float]:
        """Return x, y and the direction outwards (radians clockwise from up) at a way from the top, clockwise, mm."""
        way %= self.length
        index = min(max(bisect.bisect_right(self._lengths, way), 1), SAMPLES)
        part = (way - self._lengths[index - 1]) / (self._lengths[index] - self._lengths[index - 1])
        (x0, y0), (x1, y1) = self._points[index - 1], self._points[index]
        a0, a1 = self._angles[index - 1], self._angles[index]
        return x0 + part * (x1 - x0), y0 + part * (y1 - y0), a0 + part * (a1 - a0)

    def narrowest(self, height: float, half: float) -> float:
        """Return how much narrower the track is at the feet of characters than in their middle, at its sharpest bend.

        :param height: of the characters, mm.
        :param half: way of the last character from the top, mm.
        """
        shares = []
        for index in range(1, SAMPLES // 2):
            if self._lengths[index] > half:
                break
            turn = self._angles[index + 1] - self._angles[index]
            radius = (self._lengths[index + 1] - self._lengths[index]) / turn
            shares.append(max(1 - height / 2 / radius, 0.0))
        return min(shares, default=1.0)


def weight_for(width: float, height: float, *, bold: bool) -> float:
    """Return the thickening for characters of this size, mm; a bold face needs a third of it."""
    return WEIGHT * min(width, height) * (0.3 if bold else 1.0)


def _placed(
    outline: Outline, width: float, height: float, place: Callable[[float, float], Point]
) -> tuple[Polygon, ...]:
    return tuple([place(x * width, y * height) for x, y in polygon] for polygon in outline.polygons)


def _turned(x0: float, y0: float, angle: float) -> Callable[[float, float], Point]:
    """Turn about the origin, clockwise, then move."""
    sine, cosine = math.sin(angle), math.cos(angle)
    return lambda x, y: (x * cosine - y * sine + x0, x * sine + y * cosine + y0)


def on_arc(
    text: str,
    outlines: dict[str, Outline],
    track: Track,
    cell: float,
    size: tuple[float, float],
    *,
    weight: float,
    bottom: bool = False,
    rise: float = 0.0,
) -> list[Written]:
    """Write along a track: around the top with the feet inwards, or around the bottom with the feet outwards.

    :param cell: what a whole square takes of the track, mm.
    :param size: width and height of an em, mm.
    :param rise: how far the text's middle is above the middle of an ideograph, ems.
    """
    widths = [outlines[character].width for character in text]
    middle = sum(widths) / 2
    written, done = [], 0.0
    for character, width in zip(text, widths, strict=True):
        way = (done + width / 2 - middle) * cell
        done += width
        x, y, angle = track.at(track.length / 2 - way if bottom else way)
        place = _turned(x, y, angle + (math.pi if bottom else 0.0))
        polygons = _placed(_raised(outlines[character], -rise), *size, place)
        written.append(Written(character, polygons, weight))
    return written


def on_line(
    text: str,
    outlines: dict[str, Outline],
    cell: float,
    size: tuple[float, float],
    y: float,
    *,
    weight: float,
    rise: float = 0.0,
) -> list[Written]:
    """Write from left to right, its middle at x = 0 and ``y``. Parameters as of :func:`on_arc`."""
    widths = [outlines[character].width for character in text]
    written, x = [], -sum(widths) / 2 * cell
    for character, width in zip(text, widths, strict=True):
        place = _turned(x + width / 2 * cell, y, 0.0)
        x += width * cell
        written.append(Written(character, _placed(_raised(outlines[character], -rise), *size, place), weight))
    return written


def in_box(
    character: str, outline: Outline, box: tuple[float, float, float, float], stretch: float, *, weight: float
) -> Written:
    """Write one character into a box (left, top, right, bottom), as large as it fits.

    :param stretch: how many times longer one side of its square may become than the other.
    """
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    width, height = min(width, height * stretch), min(height, width * stretch)
    place = _turned((left + right) / 2, (top + bottom) / 2, 0.0)
    return Written(character, _placed(outline, width, height, place), weight)


def _raised(outline: Outline, by: float) -> Outline:
    """Move an outline down by so many ems."""
    if not by:
        return outline
    return Outline(tuple([(x, y + by) for x, y in polygon] for polygon in outline.polygons), outline.width)


def box_of(characters: Iterable[str], outlines: dict[str, Outline]) -> tuple[float, float]:
    """Return top and bottom of the ink of all the characters, in ems."""
    boxes: Sequence[tuple[float, float, float, float]] = [
        box for box in (outlines[character].box() for character in characters) if box is not None
    ]
    return min((box[1] for box in boxes), default=-0.5), max((box[3] for box in boxes), default=0.5)
