"""Where a seal appears: StampAnnots from placements (GB/T 33190-2016, 18.2.4). All lengths are mm in page space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from sealagent.documents.ofd.values import Box
from sealagent.errors import SealAgentError

__all__ = ["AtPosition", "Invisible", "Placement", "Riding", "StampPlan", "plan_stamps"]

_TOLERANCE = 0.01
"""How far a seal may pass the page's edge: rounding of writers that think in points or inches."""
_THINNEST = 0.5
"""Narrowest slice of a riding seal that can still be seen; for more pages use several riding seals."""


@dataclass(frozen=True, slots=True)
class AtPosition:
    """The whole seal on one page."""

    page: int
    """From 1."""
    x: float
    """Left edge of the picture."""
    y: float
    """Top edge of the picture."""


@dataclass(frozen=True, slots=True)
class Riding:
    """A riding seal (骑缝章): one slice of the picture on each page, along an outer edge."""

    edge: Literal["right", "left"] = "right"
    pages: tuple[int, ...] | None = None
    """Pages from 1, in reading order; None means all."""
    at: float | None = None
    """Top edge of the picture; None means the middle of each page."""


@dataclass(frozen=True, slots=True)
class Invisible:
    """No appearance."""


Placement = AtPosition | Riding | Invisible


@dataclass(frozen=True, slots=True)
class StampPlan:
    """One StampAnnot to be written."""

    page: int
    """Index from 0."""
    boundary: tuple[float, float, float, float]
    """x, y, width, height of the whole picture, which may pass the page's edge where it is clipped."""
    clip: tuple[float, float, float, float] | None = None
    """x, y, width, height of the visible part, within the picture."""


def plan_stamps(
    placements: Sequence[Placement], width: float, height: float, page_count: int, page_box: Callable[[int], Box]
) -> list[StampPlan]:
    """Return the StampAnnots the placements ask for.

    :param width: of the seal's picture; ``height`` likewise.
    :param page_box: gives the box of a page by its index from 0.
    :raises SealAgentError: ``placement_invalid`` (none at all, or Invisible beside others, a picture without size),
        ``page_not_found``, ``page_position`` (outside the page), ``riding_pages`` (fewer than two, repeated, or so
        many that a slice cannot be seen).
    """
    if not placements or (len(placements) > 1 and any(isinstance(each, Invisible) for each in placements)):
        raise SealAgentError("placement_invalid", "say where the seal goes, or that it is invisible, but not both")
    plans: list[StampPlan] = []
    for placement in placements:
        if isinstance(placement, Invisible):
            continue
        if width <= 0 or height <= 0:
            raise SealAgentError("placement_invalid", "the seal's picture has no size")
        if isinstance(placement, AtPosition):
            index = _page_index(placement.page, page_count)
            box = page_box(index)
            _check_inside(placement.page, placement.x, width, box.width)
            _check_inside(placement.page, placement.y, height, box.height)
            plans.append(StampPlan(index, (placement.x, placement.y, width, height)))
        else:
            plans += _riding(placement, width, height, page_count, page_box)
    return plans


def _riding(
    placement: Riding, width: float, height: float, page_count: int, page_box: Callable[[int], Box]
) -> list[StampPlan]:
    numbers = range(1, page_count + 1) if placement.pages is None else sorted(placement.pages)
    indexes = [_page_index(number, page_count) for number in numbers]
    count = len(indexes)
    if count < 2 or len(set(indexes)) < count or width / count < _THINNEST:
        raise SealAgentError(
            "riding_pages", f"a riding seal {width} mm wide cannot lie over {count} pages", pages=count
        )
    # Whole micrometres, so that the slices as written meet exactly and add up to the picture.
    cuts = [round(width * part / count, 3) for part in range(count + 1)]
    plans = []
    for order, index in enumerate(indexes):
        box = page_box(index)
        top = (box.height - height) / 2 if placement.at is None else placement.at
        _check_inside(index + 1, top, height, box.height)
        # Fanned out, page 1 shows its strip innermost: at the right edge that is the picture's left end, and at the
        # left edge its right end.
        part = order if placement.edge == "right" else count - 1 - order
        start, end = cuts[part], cuts[part + 1]
        left = box.width - end if placement.edge == "right" else -start
        plans.append(StampPlan(index, (left, top, width, height), (start, 0, end - start, height)))
    return plans


def _page_index(number: int, page_count: int) -> int:
    if not 1 <= number <= page_count:
        raise SealAgentError("page_not_found", f"the document has no page {number}", page=number, pages=page_count)
    return number - 1


def _check_inside(page: int, start: float, extent: float, available: float) -> None:
    if not math.isfinite(start) or start < -_TOLERANCE or start + extent > available + _TOLERANCE:
        raise SealAgentError("page_position", f"the seal does not lie within page {page}", page=page)
