"""A preview of a sealed OFD page as PNG, so that people can look at what was sealed.

Draws texts, straight lines and seals, which is what the demo's own document has. It is no viewer: other documents come
out incomplete, and nothing is verified here.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from lxml import etree
from PIL import Image, ImageChops, ImageDraw, ImageFont

from sealagent.maker.fonts import find_face

from .ofdmaker import NAMESPACE

MM = 25.4
INK = (20, 20, 20)
DEFAULT_AREA = (0.0, 0.0, 210.0, 297.0)  # A4, where the document does not say

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Stamp:
    """One appearance of a seal (StampAnnot): x, y, width, height in millimetres of the page; clip within the stamp."""

    page_id: str
    boundary: Box
    clip: Box | None


class Package:
    """The parts of an OFD package that the preview needs."""

    def __init__(self, data: bytes) -> None:
        self._zip = zipfile.ZipFile(io.BytesIO(data))
        body = _one(self._xml("OFD.xml"), "DocBody")
        self._root = _text(body, "DocRoot").lstrip("/")
        self._signatures = body.findtext(_tag("Signatures"))
        self.document = self._xml(self._root)
        self.pages = list(self.document.iterfind(f"{_tag('Pages')}/{_tag('Page')}"))

    def content(self, page: int) -> etree._Element:
        """Return the content of a page counted from 1."""
        return self._xml(_resolve(self._root, self.pages[page - 1].get("BaseLoc", "")))

    def area(self, content: etree._Element) -> Box:
        """Return the physical box: the page's own, else the document's."""
        path = f".//{_tag('PhysicalBox')}"
        box = content.findtext(path) or self.document.findtext(path)
        return _box(box) if box else DEFAULT_AREA

    def stamps(self) -> Iterator[Stamp]:
        """Yield every appearance of a seal, whatever signature it belongs to."""
        if not self._signatures:
            return
        listing = _resolve("OFD.xml", self._signatures)
        for record in self._xml(listing).iterfind(_tag("Signature")):
            signature = self._xml(_resolve(listing, record.get("BaseLoc", "")))
            for stamp in signature.iter(_tag("StampAnnot")):
                clip = stamp.get("Clip")
                yield Stamp(stamp.get("PageRef", ""), _box(stamp.get("Boundary", "")), _box(clip) if clip else None)

    def _xml(self, name: str) -> etree._Element:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        try:
            return etree.fromstring(self._zip.read(name), parser)
        except etree.XMLSyntaxError as error:
            raise ValueError(f"{name}: {error}") from None


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _one(parent: etree._Element, name: str) -> etree._Element:
    found = parent.find(_tag(name))
    if found is None:
        raise ValueError(f"the package has no {name}")
    return found


def _text(parent: etree._Element, name: str) -> str:
    return (_one(parent, name).text or "").strip()


def _box(value: str) -> Box:
    x, y, width, height = (float(number) for number in value.split())
    return x, y, width, height


def _resolve(base: str, location: str) -> str:
    location = location.strip()
    return location.lstrip("/") if location.startswith("/") else posixpath.join(posixpath.dirname(base), location)


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    face = find_face("")
    return ImageFont.truetype(str(face.path), pixels, index=face.number)


def render_page(data: bytes, page: int, picture: bytes, dpi: int = 110) -> bytes:
    """Draw one page of a package with its seals.

    :param page: counted from 1
    :param picture: the seal's picture, as Pillow reads it
    :return: PNG
    :raises ValueError: the package lacks something that every OFD has, or holds it in a form not known here
    :raises KeyError: a part that the package refers to is not in it
    :raises IndexError: there is no such page
    """
    package = Package(data)
    content = package.content(page)
    scale = dpi / MM
    left, top, width, height = package.area(content)
    sheet = Image.new("RGB", (round(width * scale), round(height * scale)), "white")
    draw = ImageDraw.Draw(sheet)
    for item in content.iter(_tag("TextObject"), _tag("PathObject")):
        x, y, *_ = _box(item.get("Boundary", ""))
        if item.tag == _tag("TextObject"):
            _draw_text(draw, item, x - left, y - top, scale)
        else:
            _draw_path(draw, item, x - left, y - top, scale)
    seal = Image.open(io.BytesIO(picture)).convert("RGBA")
    page_id = package.pages[page - 1].get("ID")
    for stamp in package.stamps():
        if stamp.page_id == page_id:
            _press(sheet, seal, stamp, (left, top), scale)
    out = io.BytesIO()
    sheet.save(out, "PNG", dpi=(dpi, dpi), optimize=True)
    return out.getvalue()


def _draw_text(draw: ImageDraw.ImageDraw, item: etree._Element, x0: float, y0: float, scale: float) -> None:
    size = float(item.get("Size", "0"))
    font = _font(max(round(size * scale), 1))
    for code in item.iterfind(_tag("TextCode")):
        x, baseline = x0 + float(code.get("X", "0")), y0 + float(code.get("Y", "0"))
        deltas = iter(code.get("DeltaX", "").split())
        for character in code.text or "":
            draw.text((x * scale, baseline * scale), character, INK, font, anchor="ls")
            x += float(next(deltas, size))


def _draw_path(draw: ImageDraw.ImageDraw, item: etree._Element, x0: float, y0: float, scale: float) -> None:
    colour = item.find(_tag("StrokeColor"))
    red, green, blue = ((colour.get("Value") if colour is not None else None) or "0 0 0").split()
    points: list[tuple[float, float]] = []
    words = iter(_text(item, "AbbreviatedData").split())
    for word in words:
        if word in ("M", "L"):
            points.append(((x0 + float(next(words, 0))) * scale, (y0 + float(next(words, 0))) * scale))
    width = max(round(float(item.get("LineWidth", "0.353")) * scale), 1)
    draw.line(points, fill=(int(red), int(green), int(blue)), width=width)


def _press(sheet: Image.Image, seal: Image.Image, stamp: Stamp, origin: tuple[float, float], scale: float) -> None:
    """Put the seal on the sheet as ink: what is printed below stays readable."""
    x, y, width, height = stamp.boundary
    impression = Image.new("RGB", sheet.size, "white")
    scaled = seal.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    cut = stamp.clip or (0.0, 0.0, width, height)
    corners = tuple(round(value * scale) for value in (cut[0], cut[1], cut[0] + cut[2], cut[1] + cut[3]))
    part = scaled.crop((corners[0], corners[1], corners[2], corners[3]))
    place = (round((x - origin[0]) * scale) + corners[0], round((y - origin[1]) * scale) + corners[1])
    impression.paste(part, place, part)
    sheet.paste(ImageChops.multiply(sheet, impression))
