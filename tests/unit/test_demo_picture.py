"""The drawn seal: red on nothing, round, complete, the same each time."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import pytest
from lxml import etree
from PIL import Image

from demo.fonts import CANDIDATES, find_font
from demo.picture import RED, SealDesign, draw_seal, star

NAME, LINE = "某某市政务服务管理局", "测试专用章"


@pytest.fixture(scope="module")
def png() -> bytes:
    return draw_seal(SealDesign(NAME, LINE)).png()


def alpha_at(picture: Image.Image, x: float, y: float) -> int:
    """Return the opacity at a place in millimetres from the centre, y downwards."""
    scale = picture.width / 40
    value = picture.getchannel("A").getpixel((round((x + 20) * scale), round((y + 20) * scale)))
    assert isinstance(value, int)
    return value


def test_size_is_40_mm_at_300_dpi(png: bytes) -> None:
    picture = Image.open(io.BytesIO(png))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGBA", (472, 472))
    assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_ink_is_red_and_the_rest_is_transparent(png: bytes) -> None:
    picture = Image.open(io.BytesIO(png))
    red, green, blue, alpha = picture.split()
    assert (red.getextrema(), green.getextrema(), blue.getextrema()) == tuple((value, value) for value in RED)
    assert alpha.getextrema() == (0, 255)
    assert alpha_at(picture, -19.8, -19.8) == 0  # a corner
    assert alpha_at(picture, 0, 0) == 255  # the star
    assert alpha_at(picture, 0, -19.5) == 255  # the ring
    assert alpha_at(picture, 0, 17) == 0  # the gap below the line
    ink = sum(alpha.histogram()[128:]) / (472 * 472)
    assert 0.15 < ink < 0.35


def test_drawing_is_repeatable(png: bytes) -> None:
    again = draw_seal(SealDesign(NAME, LINE))
    assert again.png() == png
    assert again.svg() == draw_seal(SealDesign(NAME, LINE)).svg()


@pytest.mark.parametrize("name", ["公证处", NAME, "华东某某印章技术有限责任公司"])
def test_characters_stay_between_ring_and_star_and_apart(name: str) -> None:
    design = SealDesign(name, LINE)
    drawing = draw_seal(design)
    inside = design.diameter / 2 - design.ring - design.weight
    reach = [[(x * x + y * y) ** 0.5 for polygon in glyph for x, y in polygon] for glyph in drawing.glyphs]
    assert max(map(max, reach)) < inside
    assert min(map(min, reach)) > design.star / 2
    boxes = [
        (min(x for p in glyph for x, _ in p), max(x for p in glyph for x, _ in p))
        for glyph in drawing.glyphs[len(name) :]
    ]
    assert all(left[1] < right[0] for left, right in pairwise(boxes))


def test_svg_is_self_contained() -> None:
    root = etree.fromstring(draw_seal(SealDesign(NAME, LINE)).svg().encode())
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("40mm", "40mm", "-20 -20 40 40")
    svg = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f".//{svg}path")) == len(NAME) + len(LINE) + 1
    assert root.findall(f".//{svg}text") == []
    assert root.findtext(f"{svg}title") == NAME + LINE


def test_star_has_five_points_one_of_them_up() -> None:
    points = star(14)
    radii = [round((x * x + y * y) ** 0.5, 6) for x, y in points]
    assert len(points) == 10
    assert radii == [7.0, round(7 * 0.3819660113, 6)] * 5
    assert points[0] == pytest.approx((0, -7))


def test_a_character_the_font_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="no character 😀"):
        draw_seal(SealDesign("某😀"))


def test_without_a_font_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_font() in CANDIDATES
    monkeypatch.setattr("demo.fonts.CANDIDATES", (tmp_path / "absent.ttf",))
    with pytest.raises(FileNotFoundError, match="make setup"):
        find_font()
