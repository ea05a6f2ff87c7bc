"""SVG pictures for making: still drawings pass; whatever fetches, runs, multiplies or says another size is refused."""

from __future__ import annotations

import base64
import io
import time

import pytest
from PIL import Image, ImageDraw

from sealagent.errors import FormatError
from sealagent.seals import svg as svg_module
from sealagent.seals.picture import check_picture
from sealagent.seals.svg import MAX_DEPTH, MAX_ELEMENTS, MAX_IMAGES, MAX_OCTETS

NS = 'xmlns="http://www.w3.org/2000/svg"'
XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
RING = '<circle r="19" fill="none" stroke="#D7000F" stroke-width="1.2"/>'
SECONDS = 10.0


def svg(
    content: str = RING, attributes: str = 'width="40mm" height="40mm" viewBox="-20 -20 40 40"', head: str = ""
) -> bytes:
    return f"{head}<svg {NS} {XLINK} {attributes}>{content}</svg>".encode()


def embedded(kind: str = "PNG", ground: tuple[int, int, int, int] = (0, 0, 0, 0), cut: int = 0) -> str:
    picture = Image.new("RGBA" if kind == "PNG" else "RGB", (80, 80), ground if kind == "PNG" else ground[:3])
    ImageDraw.Draw(picture).ellipse((2, 2, 77, 77), outline=(215, 0, 15), width=4)
    out = io.BytesIO()
    picture.save(out, kind)
    text = base64.b64encode(out.getvalue()[: len(out.getvalue()) - cut]).decode()
    return f'<image width="40" height="40" href="data:image/{kind.lower()};base64,{text}"/>'


def codes(data: bytes, width: int = 40, height: int = 40) -> list[str]:
    return [note.code for note in check_picture("SVG", data, width, height)]


def refused(data: bytes, width: int = 40, height: int = 40, code: str = "picture_invalid") -> str:
    started = time.monotonic()
    with pytest.raises(FormatError) as caught:
        check_picture("SVG", data, width, height)
    assert time.monotonic() - started < SECONDS
    assert caught.value.code == code
    return caught.value.message


@pytest.mark.parametrize(
    ("data", "notes"),
    [
        (svg(), []),
        (svg(head='<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n<!-- made by hand -->\n'), []),
        (b"\xef\xbb\xbf" + svg(), []),
        (svg(f"<title>某某章</title><desc>x</desc><g transform='rotate(9)'>{RING}</g>"), []),
        (svg(attributes='viewBox="0 0 100 100"'), []),
        (svg(attributes='width="100%" height="100%" viewBox="0,0,100,100"'), []),
        (svg(attributes='width="151.18" height="151.18"'), []),
        (svg(attributes='width="4cm" height="1.5748in" viewBox="0 0 1 1"'), []),
        (svg(attributes='width="113.39pt" height="160Q"'), []),
        (
            svg(
                '<defs><linearGradient id="g"><stop stop-color="red"/></linearGradient></defs>'
                '<path d="M0 0L9 9" fill="url(#g)"/>'
            ),
            [],
        ),
        (svg('<defs><g id="a"><path d="M0 0h9v9z"/></g></defs><use href="#a"/><use xlink:href="#a" x="9"/>'), []),
        (svg('<style>.a{fill:#e60012;stroke:none}</style><path class="a" d="M0 0h9v9z"/>'), []),
        (svg('<path style="fill:#e60012;fill-opacity:.9;transform:rotate(1deg)" d="M0 0h9v9z"/>'), []),
        (
            svg(
                '<mask id="m"><rect width="9" height="9" fill="#fff"/></mask>'
                '<rect x="-20" y="-20" width="40" height="40" mask="url(#m)"/>'
            ),
            [],
        ),
        (svg(embedded()), []),
        (svg(embedded("JPEG", (255, 255, 255, 0))), ["picture_opaque"]),
        (svg(embedded("BMP", (255, 255, 255, 0))), ["picture_opaque"]),
        (svg('<rect x="-20" y="-20" width="40" height="40" fill="#fff"/>' + RING), ["picture_opaque"]),
        (svg('<g fill="#fff"><rect x="-20" y="-20" width="100%" height="100%"/></g>' + RING), ["picture_opaque"]),
        (svg('<rect x="-20" y="-20" width="40" height="40" fill="none" stroke="red"/>'), []),
        (svg('<rect x="-20" y="-20" width="40" height="40" fill-opacity="0.1" fill="red"/>' + RING), []),
        (svg('<text fill="red">某某章</text>'), ["picture_font"]),
        (
            svg(
                '<sodipodi:namedview inkscape:zoom="2"/>'
                '<metadata><rdf:RDF><cc:Work rdf:about=""><dc:type rdf:resource="x"/></cc:Work></rdf:RDF></metadata>'
                + RING,
                'width="40mm" height="40mm" viewBox="-20 -20 40 40" inkscape:version="1.2 (2023)" '
                'xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape" '
                'xmlns:sodipodi="http://sodipodi.sourceforge.net/DTD/sodipodi-0.dtd" '
                'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:cc="http://creativecommons.org/ns#" '
                'xmlns:dc="http://purl.org/dc/elements/1.1/"',
            ),
            [],
        ),
    ],
)
def test_still_drawings_pass(data: bytes, notes: list[str]) -> None:
    assert codes(data) == notes


def test_an_opaque_ground_is_refused_where_transparency_is_demanded() -> None:
    data = svg('<rect x="-20" y="-20" width="40" height="40" fill="#fff"/>' + RING)
    with pytest.raises(FormatError, match="no transparent ground"):
        check_picture("SVG", data, 40, 40, transparent=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<script>alert(1)</script>", "script"),
        ('<script href="https://example.org/a.js"/>', "script"),
        ('<g onclick="alert(1)"/>', "script in onclick"),
        ('<g OnLoad="alert(1)"/>', "script in OnLoad"),
        ("<foreignObject><p xmlns='http://www.w3.org/1999/xhtml'>x</p></foreignObject>", "foreignObject"),
        ("<x:script xmlns:x='http://www.w3.org/1999/xhtml'>alert(1)</x:script>", "another language"),
        ("<script xmlns=''>alert(1)</script>", "another language"),
        ('<a href="#x"/>', "element a"),
        ('<animate attributeName="href" to="x"/>', "animate"),
        ('<set attributeName="href" to="x"/>', "element set"),
        ('<filter id="f"><feImage href="https://example.org/"/></filter>', "filter"),
        ('<pattern id="p"/>', "pattern"),
        ('<marker id="p"/>', "marker"),
        ("<svg/>", "element svg"),
        ("<iframe/>", "iframe"),
        ("<p\U0002ebe1/>", r"element p\U0002ebe1,"),
        (f"<{'p' * 5000}/>", f"element {'p' * 40},"),
        ('<image href="https://example.org/a.png"/>', "outside"),
        ('<image href="//example.org/a.png"/>', "outside"),
        ('<image xlink:href="file:///etc/passwd"/>', "outside"),
        ('<image href="a.png"/>', "outside"),
        ('<image href="#a"/>', "outside"),
        ('<image href=" data:text/html;base64,AAAA"/>', "outside"),
        ('<image href="data:image/svg+xml;base64,AAAA"/>', "outside"),
        ('<image href="data:image/png,%89PNG"/>', "outside"),
        ('<image href="data:image/png;base64,A*A"/>', "Base64"),
        ('<image href="data:image/png;base64,AAAA"/>', "cut short"),
        ('<image src="https://example.org/a.png"/>', "outside"),
        ('<use href="https://example.org/a.svg#b"/>', "outside"),
        ('<use href="javascript:alert(1)"/>', "outside"),
        ('<use href="data:image/svg+xml;base64,AAAA"/>', "outside"),
        ('<g fill="url(https://example.org/#a)"/>', "outside"),
        ("<g fill=\"URL( 'http://example.org/' )\"/>", "outside"),
        ('<g fill="url(a.svg#b)"/>', "outside"),
        ('<g style="fill:url(//example.org/a)"/>', "outside"),
        ("<g style=\"background:image-set('https://example.org/a.png')\"/>", "image-set"),
        ('<g style="fill:u\\72l(http://example.org)"/>', "escapes"),
        ('<g style="width:expression(alert(1))"/>', "expression"),
        ('<g class="java&#10;script:alert(1)"/>', "outside"),
        ('<g xml:base="https://example.org/"/>', "xml:base"),
        ('<style>@import "https://example.org/a.css";</style>', "rules"),
        ("<style>@font-face{src:url(x)}</style>", "references"),
        ("<style>.a{fill:url(#a)}</style>", "references"),
        ("<style><g/></style>", "style sheet"),
        ("<?xml-stylesheet href='https://example.org/a.css'?>", "processing instruction"),
        ('<g id="a"/><g id="a"/>', "twice"),
    ],
)
def test_what_runs_or_fetches_is_refused(content: str, said: str) -> None:
    assert said in refused(svg(content + RING))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            svg(
                head='<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">'
            ),
            "declaration",
        ),
        (
            svg("<title>&x;</title>" + RING, head='<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
            "declaration",
        ),
        (svg("<title>&x;</title>" + RING), "well-formed"),
        (svg(head="<?xml-stylesheet href='https://example.org/a.css'?>"), "instruction"),
        (svg() + b"<?php phpinfo() ?>", "instruction"),
        (svg() + b"<script/>", "well-formed"),
        (svg() + b"PK\x03\x04", "well-formed"),
        (svg()[:-3], "well-formed"),
        (b"<svg/>", "not an SVG"),
        (svg().replace(b"2000/svg", b"2000/svgs"), "not an SVG"),
        (b"<?xml version='1.0'?><html/>", "not an SVG"),
        (svg(head='<?xml version="1.0" encoding="UTF-16"?>'), "UTF-8"),
        (svg(head='<?xml version="1.0" encoding="UTF-7"?>'), "UTF-8"),
        (svg(head='<?xml version="1.0" encoding="gbk"?>'), "UTF-8"),
        (svg("<title>\xff</title>").replace("\xff".encode(), b"\xff"), "well-formed"),
        (svg("<title>\x00</title>"), "UTF-8"),
        (svg("<g>" * 40 + RING + "</g>" * 39), "well-formed"),
    ],
)
def test_what_is_no_plain_svg_is_refused(data: bytes, said: str) -> None:
    assert said in refused(data)


def test_svg_in_utf_16_is_refused_as_another_type() -> None:
    assert refused(svg().decode().encode("utf-16"))


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ('width="30mm" height="30mm" viewBox="0 0 40 40"', "30 mm where the seal has 40"),
        ('width="40mm" height="30mm" viewBox="0 0 40 40"', "30 mm"),
        ('width="4in" height="4in"', "101.6 mm"),
        ('viewBox="0 0 40 30"', "proportions"),
        ('width="400" height="300"', "proportions"),
        ('width="40mm" height="40mm" viewBox="0 0 40 60"', "proportions"),
        ('width="40mm" height="40" viewBox="0 0 40 40"', "do not go together"),
        ("", "neither"),
        ('width="40mm"', "neither"),
        ('width="100%" height="100%"', "neither"),
        ('viewBox="0 0 0 0"', "no width"),
        ('viewBox="0 0 -4 -4"', "no width"),
        ('width="0" height="0"', "no width"),
        ('viewBox="0 0 40"', "four numbers"),
        ('viewBox="0 0 nan nan"', "four numbers"),
        ('viewBox="0 0 inf inf"', "four numbers"),
        ('viewBox="0 0 1e999 1e999"', "four numbers"),
        ('viewBox="a b c d"', "four numbers"),
        ('width="wide" height="40mm"', "no length"),
        ('width="-40mm" height="-40mm"', "no length"),
        ('width="1e2mm" height="40mm"', "no length"),
        ('width="40ly" height="40ly"', "unknown unit"),
    ],
)
def test_sizes_that_do_not_fit(attributes: str, said: str) -> None:
    assert said in refused(svg(attributes=attributes))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<title>某某章</title>",
        f"<defs>{RING}</defs>",
        f"<mask id='m'>{RING}</mask>",
        f"<g display='none'>{RING}</g>",
        f"<g style='visibility: hidden'>{RING}</g>",
        f"<g opacity='0'>{RING}</g>",
        "<circle r='9' fill='#fff'/>",
        "<circle r='9' style='fill:rgb(255, 255, 255)'/>",
        "<g fill='none'><circle r='9'/></g>",
        "<circle r='9' fill-opacity='0'/>",
        "<circle/>",
        "<rect width='9'/>",
        "<path d=''/>",
        "<path/>",
        "<polygon points='1 1'/>",
        "<circle r='9' fill='none' stroke='red' stroke-width='0'/>",
        "<text> </text>",
    ],
)
def test_drawings_of_nothing(content: str) -> None:
    assert "blank" in refused(svg(content))


@pytest.mark.parametrize(
    "content",
    [
        "<circle r='9'/>",
        "<rect width='9' height='9' fill='white' stroke='red'/>",
        "<line x2='9' stroke='red'/>",
        "<polygon points='0,0 9,0 9,9'/>",
        "<g fill='none'><g fill='red'><ellipse rx='9' ry='4'/></g></g>",
    ],
)
def test_each_shape_counts_as_something(content: str) -> None:
    assert codes(svg(content)) == []


# --- limits -----------------------------------------------------------------------------------------------------------


def test_too_many_octets() -> None:
    assert "octets" in refused(svg(f"<!--{'x' * MAX_OCTETS}-->{RING}"), code="picture_too_large")


def test_too_many_elements() -> None:
    assert codes(svg("<g/>" * (MAX_ELEMENTS - 2) + RING)) == []
    assert "elements" in refused(svg("<g/>" * (2 * MAX_ELEMENTS) + RING), code="picture_too_large")


def test_too_deep() -> None:
    deep = MAX_DEPTH - 2
    assert codes(svg("<g>" * deep + RING + "</g>" * deep)) == []
    assert "deeply" in refused(svg("<g>" * MAX_DEPTH + RING + "</g>" * MAX_DEPTH), code="picture_too_large")
    assert refused(svg("<g>" * 9000 + RING + "</g>" * 9000))  # the parser's own limit


def test_references_that_multiply_are_counted_before_anything_is_drawn() -> None:
    """The billion laughs of SVG: each group uses the one before ten times."""
    groups = [f'<g id="g0">{RING}</g>']
    groups += [f'<g id="g{n}">' + f'<use href="#g{n - 1}"/>' * 10 + "</g>" for n in range(1, 12)]
    assert codes(svg("".join(groups[:4]))) == []
    assert "draws too many" in refused(svg("".join(groups)), code="picture_too_large")
    masks = [f'<mask id="m{n}">' + f'<rect mask="url(#m{n - 1})"/>' * 10 + "</mask>" for n in range(1, 12)]
    assert "draws too many" in refused(svg('<mask id="m0"/>' + "".join(masks) + RING), code="picture_too_large")


@pytest.mark.parametrize(
    "content",
    [
        '<g id="a"><use href="#a"/></g>',
        '<g id="a"><use href="#b"/></g><g id="b"><use href="#a"/></g>',
        '<mask id="m"><rect mask="url(#m)"/></mask>',
        '<linearGradient id="a" href="#b"/><linearGradient id="b" xlink:href="#a"/>',
    ],
)
def test_circles(content: str) -> None:
    assert "circle" in refused(svg(content + RING))


def test_a_long_chain_of_references_ends() -> None:
    chain = "".join(f'<linearGradient id="g{n}" href="#g{n + 1}"/>' for n in range(5000))
    assert "deeply" in refused(svg(chain + RING), code="picture_too_large")


def test_embedded_pictures_are_checked_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert codes(svg(embedded() * MAX_IMAGES)) == []
    assert "embeds too many" in refused(svg(embedded() * (MAX_IMAGES + 1)), code="picture_too_large")
    assert "cut short" in refused(svg(embedded(cut=20)))
    huge = base64.b64encode(
        b"\x89PNG\r\n\x1a\n" + bytes.fromhex("0000000d494844520000ffff0000ffff0806000000f89b0f46")
    ).decode()
    assert refused(svg(f'<image href="data:image/png;base64,{huge}"/>' + RING))
    monkeypatch.setattr(svg_module, "MAX_ELEMENTS", 3)
    assert "elements" in refused(svg(RING * 9), code="picture_too_large")


@pytest.mark.parametrize("value", ["9" * 100_000 + "mm", "mm" * 50_000, "0." + "0" * 100_000, " " * 100_000])
def test_long_values_cost_little(value: str) -> None:
    assert refused(svg(attributes=f'width="{value}" height="40mm"'))
    assert refused(svg(f'<g style="fill:url(#{value}"/>' + RING))
    assert codes(svg(f'<path d="M0 0 {value}"/>' + RING)) == []
