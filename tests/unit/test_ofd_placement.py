"""Where seals go: positions, riding seals, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealagent.documents.ofd.placement import AtPosition, Invisible, Placement, Riding, plan_stamps
from sealagent.documents.ofd.values import Box
from sealagent.errors import SealAgentError

A4 = Box(0, 0, 210, 297)


def plan(*placements: Placement, pages: int = 5, width: float = 40, height: float = 40):  # type: ignore[no-untyped-def]
    return plan_stamps(placements, width, height, pages, lambda _: A4)


def test_a_position() -> None:
    (stamp,) = plan(AtPosition(3, 10.5, 20))
    assert (stamp.page, stamp.boundary, stamp.clip) == (2, (10.5, 20, 40, 40), None)


def test_several_pages_in_one_signature() -> None:
    stamps = plan(AtPosition(1, 0, 0), AtPosition(5, 170, 257), Riding())
    assert [stamp.page for stamp in stamps] == [0, 4, 0, 1, 2, 3, 4]


def test_a_riding_seal_as_another_product_lays_it() -> None:
    """The numbers of the interoperability vector V4RideRight.ofd."""
    stamps = plan(Riding("right", at=40))
    assert [stamp.boundary for stamp in stamps] == [(x, 40, 40, 40) for x in (202, 194, 186, 178, 170)]
    assert [stamp.clip for stamp in stamps] == [(x, 0, 8, 40) for x in (0, 8, 16, 24, 32)]


def test_a_riding_seal_at_the_left_edge_runs_the_other_way() -> None:
    stamps = plan(Riding("left"), pages=4)
    assert [stamp.boundary for stamp in stamps] == [(x, 128.5, 40, 40) for x in (-30, -20, -10, 0)]
    assert [stamp.clip for stamp in stamps] == [(x, 0, 10, 40) for x in (30, 20, 10, 0)]


def test_a_riding_seal_over_chosen_pages() -> None:
    assert [stamp.page for stamp in plan(Riding(pages=(5, 2)))] == [1, 4]


def test_invisible_has_no_stamp() -> None:
    assert plan(Invisible()) == []


@given(
    edge=st.sampled_from(["right", "left"]),
    pages=st.integers(2, 60),
    width=st.floats(30, 60),
    box=st.floats(60, 500),
)
def test_slices_of_a_riding_seal_meet_and_lie_on_their_pages(edge, pages, width, box) -> None:  # type: ignore[no-untyped-def]
    stamps = plan_stamps([Riding(edge)], width, 40, pages, lambda _: Box(0, 0, box, 297))
    ordered = stamps if edge == "right" else stamps[::-1]
    reached = 0.0
    for stamp in ordered:
        assert stamp.clip is not None
        assert math.isclose(stamp.clip[0], reached, abs_tol=1e-9)
        reached = stamp.clip[0] + stamp.clip[2]
        shown_from = stamp.boundary[0] + stamp.clip[0]
        shown_to = shown_from + stamp.clip[2]
        assert -1e-6 <= shown_from < shown_to <= box + 1e-6
        assert (
            math.isclose(shown_to, box, abs_tol=1e-6) if edge == "right" else math.isclose(shown_from, 0, abs_tol=1e-6)
        )
    assert math.isclose(reached, width, abs_tol=0.001)


@pytest.mark.parametrize(
    ("code", "placements"),
    [
        ("placement_invalid", ()),
        ("placement_invalid", (Invisible(), AtPosition(1, 0, 0))),
        ("page_not_found", (AtPosition(0, 0, 0),)),
        ("page_not_found", (AtPosition(6, 0, 0),)),
        ("page_not_found", (AtPosition(-1, 0, 0),)),
        ("page_not_found", (Riding(pages=(1, 6)),)),
        ("page_position", (AtPosition(1, -1, 0),)),
        ("page_position", (AtPosition(1, 171, 0),)),
        ("page_position", (AtPosition(1, 0, 258),)),
        ("page_position", (AtPosition(1, math.nan, 0),)),
        ("page_position", (AtPosition(1, 0, math.inf),)),
        ("page_position", (Riding(at=260),)),
        ("page_position", (Riding(at=-1),)),
        ("riding_pages", (Riding(pages=()),)),
        ("riding_pages", (Riding(pages=(1,)),)),
        ("riding_pages", (Riding(pages=(1, 1)),)),
    ],
)
def test_refused(code: str, placements: tuple[Placement, ...]) -> None:
    with pytest.raises(SealAgentError) as caught:
        plan(*placements)
    assert caught.value.code == code


def test_a_riding_seal_too_thin_to_see_and_a_picture_without_size() -> None:
    with pytest.raises(SealAgentError) as caught:
        plan(Riding(), pages=81)
    assert caught.value.code == "riding_pages"
    assert len(plan(Riding(), pages=80)) == 80
    with pytest.raises(SealAgentError) as caught:
        plan(AtPosition(1, 0, 0), width=0)
    assert caught.value.code == "placement_invalid"
