"""Drawn seals: complete, inside their borders, apart, of the right size, the same each time; and errors with names."""

from __future__ import annotations

import importlib.util
import io
import math
import subprocess
import sys
import unicodedata
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from lxml import etree
from PIL import Image, ImageChops, ImageDraw

from sealagent.errors import FormatError, SealAgentError
from sealagent.maker import fonts, glyphs
from sealagent.maker.designs import Design, OrganisationSeal, OvalSeal, PersonalSeal
from sealagent.maker.drawing import COLOURS, Drawing
from sealagent.maker.fonts import CANDIDATES, Candidate, find_face
from sealagent.maker.glyphs import Face, load
from sealagent.maker.layouts import draw, star
from sealagent.maker.tracks import Track, Written
from sealagent.seals.picture import check_picture

NAME, LINE, CODE = "某某市政务服务管理局", "合同专用章", "1101050012345"
NAME_40 = "中华人民共和国某某自治区某某地区某某县某某镇第一初级中学校办企业技术服务管理有限"
TAX = "91110105MA01234567"
SVG = "{http://www.w3.org/2000/svg}"

ROUND = [
    OrganisationSeal("公证处", LINE),
    OrganisationSeal(NAME, LINE),
    OrganisationSeal(NAME, code=CODE),
    OrganisationSeal(NAME, LINE, CODE, diameter=42),
    OrganisationSeal("北京某某（集团）科技发展有限责任公司第三分公司工会委员会", "财务专用章", CODE, diameter=38),
    OrganisationSeal(NAME_40, LINE, CODE),
    OrganisationSeal(NAME_40, LINE, CODE, diameter=50, star=False),
    OrganisationSeal("某某市", "会计凭证合同财务专用章", CODE, diameter=45),
    OrganisationSeal("ABC International Trading Co., Ltd.", "合同专用章(2)"),
]
OVAL = [
    OvalSeal("某某科技有限责任公司", code=TAX),
    OvalSeal("北京某某（集团）科技发展有限责任公司", code=TAX, width=30, height=20),
    OvalSeal("某某公司", line="", code="", width=45, height=30),
]
SQUARE = [
    PersonalSeal("甲乙"),
    PersonalSeal("甲乙", "印"),
    PersonalSeal("甲乙", "之印"),
    PersonalSeal("甲乙丙", width=18, height=18),
    PersonalSeal("甲乙丙", "印", reversed=True),
    PersonalSeal("欧阳修文"),
    PersonalSeal("买买提江艾力"),
    PersonalSeal("甲乙丙", width=30, height=15),
]


def named(design: Design) -> str:
    return f"{type(design).__name__}-{design.name[:6]}-{len(design.name)}"


def points(written: Written) -> list[tuple[float, float]]:
    return [point for polygon in written.polygons for point in polygon]


def ink(written: Written, scale: int, size: tuple[int, int]) -> Image.Image:
    """Return what a character covers, thickening included, as its outlines alone say (holes filled)."""
    mask = Image.new("1", size)
    draw_on = ImageDraw.Draw(mask)
    for polygon in written.polygons:
        placed = [(x * scale + size[0] / 2, y * scale + size[1] / 2) for x, y in polygon]
        draw_on.polygon(placed, fill=1)
        draw_on.line([*placed, *placed[:2]], fill=1, width=max(round(written.weight * scale), 1))
    return mask


def alpha_of(drawing: Drawing, dpi: int = 300) -> Image.Image:
    return Image.open(io.BytesIO(drawing.png(dpi))).getchannel("A")


def at(alpha: Image.Image, drawing: Drawing, x: float, y: float) -> int:
    """Return the opacity at a place in millimetres from the middle."""
    column = (x / drawing.width + 0.5) * alpha.width
    row = (y / drawing.height + 0.5) * alpha.height
    value = alpha.getpixel((min(int(column), alpha.width - 1), min(int(row), alpha.height - 1)))
    assert isinstance(value, int)
    return value


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("design", ROUND, ids=named)
def test_all_of_a_round_seal_is_inside_its_ring(design: OrganisationSeal) -> None:
    drawing = draw(design)
    inside = design.diameter / 2 - drawing.border.line
    for written in drawing.written:
        for x, y in points(written):
            assert math.hypot(x, y) + written.weight < inside


@pytest.mark.parametrize("design", OVAL, ids=named)
def test_all_of_an_oval_seal_is_inside_its_ring(design: OvalSeal) -> None:
    drawing = draw(design)
    rx, ry = design.width / 2 - drawing.border.line, design.height / 2 - drawing.border.line
    for written in drawing.written:
        assert all((x / rx) ** 2 + (y / ry) ** 2 < 1 for x, y in points(written))


@pytest.mark.parametrize("design", SQUARE, ids=named)
def test_all_of_a_name_seal_is_inside_its_frame(design: PersonalSeal) -> None:
    drawing = draw(design)
    right, bottom = design.width / 2 - drawing.border.line, design.height / 2 - drawing.border.line
    for written in drawing.written:
        for x, y in points(written):
            assert abs(x) + written.weight / 2 < right
            assert abs(y) + written.weight / 2 < bottom


@pytest.mark.parametrize("design", [*ROUND, *OVAL, *SQUARE], ids=named)
def test_no_two_characters_touch(design: Design) -> None:
    drawing = draw(design)
    scale = 16
    size = (round(drawing.width * scale), round(drawing.height * scale))
    solids = [Written("★", (solid,), 0.0) for solid in drawing.solids]
    masks = [ink(written, scale, size) for written in (*drawing.written, *solids) if written.polygons]
    boxes = [mask.getbbox() for mask in masks]
    for (first, box), (second, other) in combinations(zip(masks, boxes, strict=True), 2):
        assert box is not None
        assert other is not None
        if box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]:
            assert ImageChops.logical_and(first, second).getbbox() is None


@pytest.mark.parametrize("design", [*ROUND, *OVAL], ids=named)
def test_the_name_is_centred_at_the_top_and_reads_from_left_to_right(design: OrganisationSeal | OvalSeal) -> None:
    name = [written for written in draw(design).written[: len(design.name)] if written.polygons]
    places = [(sum(x for x, _ in points(each)), sum(y for _, y in points(each)), len(points(each))) for each in name]
    angles = [math.degrees(math.atan2(x / count, -y / count)) for x, y, count in places]
    assert all(left < right for left, right in pairwise(angles))
    # Letters and signs differ in width, and a point is where its outline is: half a character's room at most.
    assert abs(angles[0] + angles[-1]) < (angles[-1] - angles[0]) / len(name)
    assert "".join(each.character for each in name) == design.name.replace(" ", "")


@pytest.mark.parametrize("design", [ROUND[1], ROUND[3], OVAL[0]], ids=named)
def test_lines_and_codes_are_centred(design: OrganisationSeal | OvalSeal) -> None:
    drawing = draw(design)
    rest = drawing.written[len(design.name) :]
    for text in filter(None, (design.line, design.code)):
        group = [each for each in rest if each.character in text]
        xs = [x for each in group for x, _ in points(each)]
        assert abs(min(xs) + max(xs)) / 2 < 0.25


def test_the_code_stands_on_its_foot_at_the_lower_edge() -> None:
    drawing = draw(OrganisationSeal(NAME, code=CODE))
    digits = drawing.written[len(NAME) :]
    assert "".join(each.character for each in digits) == CODE
    xs = [sum(x for x, _ in points(each)) / len(points(each)) for each in digits]
    assert xs == sorted(xs)
    middle = points(digits[len(CODE) // 2])
    assert min(y for _, y in middle) > 15
    # The middle digit is upright: a 0 is higher than wide.
    assert max(y for _, y in middle) - min(y for _, y in middle) == pytest.approx(1.6, abs=0.1)


def test_a_long_name_is_set_smaller_but_can_be_read() -> None:
    def size(design: OrganisationSeal) -> tuple[float, float]:
        top = min(draw(design).written[: len(design.name)], key=lambda each: abs(sum(x for x, _ in points(each))))
        xs, ys = zip(*points(top), strict=True)
        return max(xs) - min(xs), max(ys) - min(ys)

    assert len(NAME_40) == 40
    short, long = size(OrganisationSeal("某" * 9)), size(OrganisationSeal("某" * 39, LINE, CODE))
    assert short > long
    assert long[0] > 1.3  # 31 pixels at 600 dpi
    assert long[1] > 2.4


def test_the_ends_of_a_long_name_do_not_meet_the_line() -> None:
    drawing = draw(OrganisationSeal(NAME_40, LINE))
    name = [point for each in drawing.written[:40] for point in points(each)]
    line = [point for each in drawing.written[40:] for point in points(each)]
    assert min(math.dist(a, b) for a in name for b in line) > 1.0


@pytest.mark.parametrize(
    ("design", "columns"),
    [
        (PersonalSeal("甲乙"), ["甲", "乙"]),
        (PersonalSeal("甲乙", "印"), ["甲乙", "印"]),
        (PersonalSeal("甲乙", "之印"), ["甲乙", "之印"]),
        (PersonalSeal("甲乙丙"), ["甲", "乙丙"]),
        (PersonalSeal("甲乙丙", "印"), ["甲乙", "丙印"]),
        (PersonalSeal("欧阳修文"), ["欧阳", "修文"]),
        (PersonalSeal("买买提江艾力"), ["买买提", "江艾力"]),
        (PersonalSeal("阿卜杜拉买买提江"), ["阿卜杜", "拉买买", "提江"]),
    ],
    ids=lambda value: named(value) if isinstance(value, PersonalSeal) else "",
)
def test_names_are_read_from_the_right_column_down(design: PersonalSeal, columns: list[str]) -> None:
    found: dict[float, list[tuple[float, str]]] = {}
    for written in draw(design).written:
        xs, ys = zip(*points(written), strict=True)
        column = next((x for x in found if abs(x - sum(xs) / len(xs)) < 2.2), sum(xs) / len(xs))
        found.setdefault(column, []).append((min(ys), written.character))
    read = ["".join(each for _, each in sorted(found[column])) for column in sorted(found, reverse=True)]
    assert read == columns


def test_star_has_five_points_one_of_them_up() -> None:
    corners = star(14)
    radii = [round(math.hypot(x, y), 6) for x, y in corners]
    assert len(corners) == 10
    assert radii == [7.0, round(7 * 0.3819660113, 6)] * 5
    assert corners[0] == pytest.approx((0, -7))


def test_a_track_in_a_circle_is_a_circle() -> None:
    track = Track(20, 20, 4)
    assert track.length == pytest.approx(2 * math.pi * 16, rel=1e-5)
    for degrees in (0, 30, 100, 179, 181, 300):
        x, y, angle = track.at(math.radians(degrees) * 16)
        assert (x, y) == pytest.approx((16 * math.sin(angle), -16 * math.cos(angle)), abs=1e-3)
        assert math.degrees(angle) == pytest.approx(degrees, abs=0.01)
    assert track.at(-1)[2] == pytest.approx(2 * math.pi - 1 / 16, abs=1e-4)
    assert track.until(math.radians(90)) == pytest.approx(8 * math.pi, rel=1e-4)
    assert track.narrowest(8, 20) == pytest.approx(0.75, abs=1e-3)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dpi", "pixels"), [(150, 236), (300, 472), (600, 945)])
def test_a_png_has_the_size_in_millimetres_and_says_its_resolution(dpi: int, pixels: int) -> None:
    picture = Image.open(io.BytesIO(draw(OrganisationSeal(NAME, LINE)).png(dpi)))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGBA", (pixels, pixels))
    assert picture.info["dpi"] == pytest.approx((dpi, dpi), abs=0.02)


def test_a_large_png_looks_like_a_small_one() -> None:
    """From a certain size on it is drawn with less oversampling."""
    drawing = draw(PersonalSeal("甲乙丙", "印", width=50, height=50))
    small, large = alpha_of(drawing, 300), alpha_of(drawing, 1200)
    assert large.size == (2362, 2362)
    difference = ImageChops.difference(large.resize(small.size, Image.Resampling.BOX), small)
    assert sum(difference.histogram()[128:]) < 0.001 * small.width * small.height


@pytest.mark.parametrize("colour", COLOURS)
def test_ink_has_its_colour_and_the_rest_is_transparent(colour: str) -> None:
    drawing = draw(OrganisationSeal(NAME, LINE, colour=colour))
    picture = Image.open(io.BytesIO(drawing.png()))
    red, green, blue, alpha = picture.split()
    expected = tuple((value, value) for value in COLOURS[colour])
    assert (red.getextrema(), green.getextrema(), blue.getextrema()) == expected
    assert alpha.getextrema() == (0, 255)
    assert at(alpha, drawing, -19.8, -19.8) == 0  # a corner
    assert at(alpha, drawing, 0, 0) == 255  # the star
    assert at(alpha, drawing, 0, -19.5) == 255  # the ring
    assert at(alpha, drawing, 0, 17.5) == 0  # the gap below the line
    assert 0.15 < sum(alpha.histogram()[128:]) / (472 * 472) < 0.35


def test_without_a_star_the_line_stands_in_the_middle() -> None:
    drawing = draw(OrganisationSeal(NAME, "财务专用章", star=False))
    assert drawing.solids == ()
    ys = [y for each in drawing.written[len(NAME) :] for _, y in points(each)]
    assert abs(min(ys) + max(ys)) / 2 < 0.3


def test_white_on_red_is_the_other_way_round() -> None:
    red, white = (draw(PersonalSeal("甲乙丙", "印", reversed=value)) for value in (False, True))
    assert (at(alpha_of(red), red, -9.8, 0), at(alpha_of(white), white, -9.8, 0)) == (255, 255)
    for drawing, inside, outside in ((red, 255, 0), (white, 0, 255)):
        alpha = alpha_of(drawing)
        assert at(alpha, drawing, 0, 0) == outside  # between the four characters
        stroke = at(alpha, drawing, *place_in_the_ink(drawing))
        assert stroke == inside


def place_in_the_ink(drawing: Drawing) -> tuple[float, float]:
    """Return a place within the ink of 丙."""
    [third] = [each for each in drawing.written if each.character == "丙"]
    largest = max(third.polygons, key=len)
    xs, ys = zip(*largest, strict=True)
    for step in range(1, 40):
        x, y = min(xs) + (max(xs) - min(xs)) * step / 40, (min(ys) + max(ys)) / 2
        mask = Image.new("1", (400, 400))
        ImageDraw.Draw(mask).polygon([(a * 20 + 200, b * 20 + 200) for a, b in largest], fill=1)
        if mask.getpixel((int(x * 20 + 200), int(y * 20 + 200))):
            return x, y
    raise AssertionError


@pytest.mark.parametrize("design", [ROUND[3], OVAL[1], SQUARE[3], SQUARE[4]], ids=named)
def test_svg_is_self_contained(design: Design) -> None:
    drawing = draw(design)
    root = etree.fromstring(drawing.svg().encode())
    assert (root.get("width"), root.get("height")) == (f"{drawing.width:g}mm", f"{drawing.height:g}mm")
    assert root.get("viewBox") == f"{-drawing.width / 2:g} {-drawing.height / 2:g} {drawing.width:g} {drawing.height:g}"
    text = sum(1 for each in drawing.written if each.polygons)
    assert len(root.findall(f".//{SVG}path")) == text + len(drawing.solids)
    assert root.findall(f".//{SVG}text") == []
    assert root.findtext(f"{SVG}title") == drawing.title
    numbers = [
        float(number) for path in root.iter(f"{SVG}path") for number in path.get("d", "").translate(LETTERS).split()
    ]
    assert max(map(abs, numbers)) < drawing.width / 2


LETTERS = str.maketrans({letter: " " for letter in "MLZ"})


@pytest.mark.parametrize("design", [ROUND[5], OVAL[1], SQUARE[2], SQUARE[4]], ids=named)
def test_what_is_drawn_passes_the_check_for_making(design: Design) -> None:
    drawing = draw(design)
    width, height = round(drawing.width), round(drawing.height)
    assert check_picture("PNG", drawing.png(), width, height, transparent=True) == ()
    assert check_picture("SVG", drawing.svg().encode(), width, height, transparent=True) == ()


@pytest.mark.parametrize("design", [ROUND[3], OVAL[0], SQUARE[4]], ids=named)
def test_drawing_is_repeatable(design: Design) -> None:
    first, second = draw(design), draw(design)
    assert first.png() == second.png()
    assert first.svg() == second.svg()


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("design", "field"),
    [
        (OrganisationSeal(""), "name"),
        (OrganisationSeal("某" * 41), "name"),
        (OrganisationSeal(" 某某"), "name"),
        (OrganisationSeal("某\n某"), "name"),
        (OrganisationSeal("某\u202e某"), "name"),
        (OrganisationSeal("某\ud800某"), "name"),
        (OrganisationSeal(unicodedata.normalize("NFD", "Écluse")), "name"),
        (OrganisationSeal(NAME, line="章" * 21), "line"),
        (OrganisationSeal(NAME_40, line="章" * 20, code=CODE), "line"),
        (OrganisationSeal(NAME, code="1" * 25), "code"),
        (OrganisationSeal(NAME_40, code="章" * 24), "name"),
        (OrganisationSeal(NAME, diameter=29), "diameter"),
        (OrganisationSeal(NAME, diameter=math.nan), "diameter"),
        (OrganisationSeal(NAME, diameter=math.inf), "diameter"),
        (OrganisationSeal(NAME, colour="mauve"), "colour"),
        (OvalSeal(NAME, width=30, height=31), "height"),
        (OvalSeal(NAME, width=60, height=20), "height"),
        (OvalSeal(NAME, width=0), "width"),
        (OvalSeal("某" * 40, width=30, height=20), "name"),
        (PersonalSeal(""), "name"),
        (PersonalSeal("某" * 11, "之印"), "name"),
        (PersonalSeal("甲乙", "章"), "suffix"),
        (PersonalSeal("甲乙", width=5), "width"),
        (PersonalSeal("甲乙", height=51), "height"),
    ],
    ids=lambda value: named(value) if not isinstance(value, str) else value,
)
def test_a_design_that_cannot_be_drawn_is_refused_by_field(design: Design, field: str) -> None:
    with pytest.raises(FormatError) as caught:
        draw(design)
    assert (caught.value.code, caught.value.facts["field"]) == ("design_invalid", field)


@pytest.mark.parametrize("dpi", [71, 1201])
def test_a_resolution_out_of_bounds_is_refused(dpi: int) -> None:
    with pytest.raises(FormatError) as caught:
        draw(PersonalSeal("甲乙")).png(dpi)
    assert (caught.value.code, caught.value.facts["field"]) == ("design_invalid", "dpi")


def test_characters_that_no_font_has_are_named_with_packages_that_have_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "CANDIDATES", (CANDIDATES[0], Candidate(Face(Path("absent.ttf")), "fonts-of-others")))
    with pytest.raises(FormatError, match=r"喆😀.*fonts-of-others") as caught:
        draw(OrganisationSeal("某😀喆"))
    assert (caught.value.code, caught.value.facts["characters"]) == ("glyph_missing", "喆😀")


def test_a_font_that_has_all_characters_is_taken_before_one_that_has_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    pen.lineTo((900, 0))
    pen.lineTo((900, 800))
    pen.closePath()
    shape = pen.glyph()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square" for letter in "国園"})
    builder.setupGlyf({".notdef": shape, "square": shape})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 100)})
    builder.setupHorizontalHeader()
    builder.setupPost()
    small = tmp_path / "small.ttf"
    builder.save(small)
    monkeypatch.setattr(fonts, "CANDIDATES", (Candidate(Face(small), "small"), CANDIDATES[0]))
    assert find_face("国").path == small
    assert find_face("国某").path == CANDIDATES[0].face.path
    outlines = load(Face(small), "園 ").outlines
    assert outlines["園"].box() == (-0.4, -0.4, 0.4, 0.4)
    assert outlines[" "].box() is None
    with pytest.raises(FormatError, match=r"small\.ttf does not have the characters 某") as caught:
        find_face("国某", small)
    assert caught.value.code == "glyph_missing"


def test_without_a_font_the_error_names_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_face("").path == CANDIDATES[0].face.path
    absent = tuple(Candidate(Face(tmp_path / each.face.path.name), each.package) for each in CANDIDATES)
    monkeypatch.setattr(fonts, "CANDIDATES", absent)
    packages = r"fonts-arphic-gbsn00lp, fonts-noto-cjk, fonts-arphic-uming, fonts-wqy-zenhei"
    with pytest.raises(SealAgentError, match=packages) as caught:
        find_face("某")
    assert caught.value.code == "font_not_found"
    with pytest.raises(SealAgentError) as caught:
        find_face("某", tmp_path / "absent.ttf")
    assert caught.value.code == "font_not_found"


@pytest.mark.parametrize("octets", [b"", b"no font at all", b"\x00\x01\x00\x00" + bytes(300), b"ttcf" + bytes(60)])
def test_a_file_that_is_no_font_is_refused(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "broken.ttf"
    path.write_bytes(octets)
    with pytest.raises(FormatError) as caught:
        find_face("某", path)
    assert caught.value.code == "font_invalid"


def test_a_damaged_or_endless_font_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = CANDIDATES[0].face.path.read_bytes()
    path = tmp_path / "cut.ttf"
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(FormatError) as caught:
        draw(OrganisationSeal(NAME), path)
    assert caught.value.code == "font_invalid"
    monkeypatch.setattr(glyphs, "MAX_FONT_OCTETS", len(good) - 1)
    with pytest.raises(FormatError, match="too large") as caught:
        draw(OrganisationSeal(NAME))
    assert caught.value.code == "font_invalid"
    monkeypatch.undo()
    monkeypatch.setattr(glyphs, "MAX_POINTS", 10)
    with pytest.raises(FormatError) as caught:
        draw(OrganisationSeal(NAME))
    assert caught.value.code == "font_invalid"


@pytest.mark.parametrize(("hidden", "wanted"), [("fontTools", "fonttools"), ("PIL", "pillow")])
def test_without_the_extra_the_error_says_what_to_install(hidden: str, wanted: str) -> None:
    """In a process of its own, where the library is not to be found; importing our modules needs neither."""
    program = (
        "import sys\n"
        f"sys.modules[{hidden!r}] = None\n"
        "from sealagent.errors import SealAgentError\n"
        "from sealagent.maker.designs import PersonalSeal\n"
        "from sealagent.maker.layouts import draw\n"
        "try:\n"
        "    draw(PersonalSeal('甲乙')).png()\n"
        "except SealAgentError as error:\n"
        "    print(error.code, error.facts['library'], error.message)\n"
    )
    assert importlib.util.find_spec(hidden)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"drawing_unavailable {wanted} ")
    assert "sealagent[maker]" in done.stdout


def test_the_agent_starts_without_the_libraries_of_the_maker() -> None:
    """Its memory at rest is a promise; neither library is loaded by it, nor by our modules before they are used."""
    modules = (
        "sealagent.daemon.builder, sealagent.cli.daemon, sealagent.cli.maker_draw, sealagent.seals.picture, "
        "sealagent.maker.layouts"
    )
    program = f"import sys, {modules}; print([name for name in ('PIL', 'fontTools') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
