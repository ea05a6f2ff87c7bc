"""SVG pictures of seals: a still drawing and nothing else, checked before a seal is made of it.

What is not on the lists below is refused by name: scripts, animations, foreign content, and whatever could fetch
something or draw without end. The seal is looked at by programs that trust it.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from sealagent.errors import LimitExceeded
from sealagent.seals.rasters import Raster, invalid, read_raster

__all__ = ["Svg", "read_svg"]

MAX_OCTETS = 2 << 20
"""A drawn seal with forty characters has 140 KB."""
MAX_ELEMENTS = 20_000
"""In the file. A traced seal has some thousand."""
MAX_DRAWN = 100_000
"""Elements that are drawn when every reference is followed: references multiply."""
MAX_DEPTH = 32
"""Nesting of elements."""
MAX_REFERENCE_DEPTH = 200
"""Nesting of elements when every reference is followed."""
MAX_IMAGES = 8
"""Embedded pictures, each of which is decoded."""

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_XML = "http://www.w3.org/XML/1998/namespace"
_INERT = {
    "http://www.inkscape.org/namespaces/inkscape",
    "http://sodipodi.sourceforge.net/DTD/sodipodi-0.dtd",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "http://creativecommons.org/ns#",
    "http://purl.org/dc/elements/1.1/",
}
"""What drawing programs add for themselves; no reader draws it."""
_SHAPES = {"path", "rect", "circle", "ellipse", "line", "polyline", "polygon"}
_TEXT = {"text", "tspan", "textPath"}
_DEFINITIONS = {"defs", "symbol", "clipPath", "mask", "linearGradient", "radialGradient"}
_ALLOWED = _SHAPES | _TEXT | _DEFINITIONS | {"svg", "g", "use", "image", "stop", "style", "title", "desc", "metadata"}
_CSS_FUNCTIONS = {"url", "rgb", "rgba", "hsl", "hsla"} | {
    *("matrix", "translate", "translatex", "translatey", "scale", "scalex", "scaley", "rotate", "skewx", "skewy")
}
_UNSEEN = {"none", "transparent", "white", "#fff", "#ffffff", "#ffff", "#ffffffff", "rgb(255,255,255)"}
_UNITS = {"mm": 1.0, "cm": 10.0, "q": 0.25, "in": 25.4, "pt": 25.4 / 72, "pc": 25.4 / 6}
"""Millimetres in each; px and no unit say nothing about size."""

_DECLARED = re.compile(rb"""^<\?xml[^>]*\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_LENGTH = re.compile(r"\s*\+?([0-9]{0,9}\.?[0-9]{1,20})\s*([a-zA-Z]{0,2}|%)\s*")
_URL = re.compile(r"url\s*\(", re.IGNORECASE)
_LOCAL_URL = re.compile(r"""url\(\s*(["']?)#([\w.:-]+)\1\s*\)""", re.IGNORECASE)
_FUNCTION = re.compile(r"([\w-]+)\s*\(")
_EMBEDDED = re.compile(r"data:image/(png|jpeg|jpg|gif|bmp);base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Svg:
    """What was seen in a drawing."""

    ground: bool
    """A rectangle covers all of it and hides what lies under."""
    text: bool
    """It needs a font of whoever shows it."""
    rasters: tuple[Raster, ...]
    """Embedded pictures."""


def read_svg(data: bytes, size_mm: tuple[int, int], tolerance: float) -> Svg:
    """Check a drawing.

    :param size_mm: width and height that the seal will say.
    :param tolerance: how far proportions may be off, as a part.
    :raises FormatError: ``picture_invalid``.
    :raises LimitExceeded: ``picture_too_large``.
    :raises SealAgentError: ``drawing_unavailable`` for an embedded picture without Pillow.
    """
    root = _parse(data)
    ids: dict[str, etree._Element] = {}
    rasters: list[Raster] = []
    elements = list(root.iter())
    for element in elements:
        if not isinstance(element.tag, str):
            raise invalid("the SVG has a processing instruction")
        name = element.get("id")
        if name is not None and ids.setdefault(name, element) is not element:
            raise invalid("the SVG uses an id twice", id=_shown(name))
    references: dict[etree._Element, list[etree._Element]] = {}
    for element in elements:
        found, embedded = _check_element(element, root)
        targets = [ids[name] for name in found if name in ids]
        if targets:
            references[element] = targets
        for kind, octets in embedded:
            if len(rasters) == MAX_IMAGES:
                raise LimitExceeded("picture_too_large", "the SVG embeds too many pictures", limit=MAX_IMAGES)
            rasters.append(read_raster(kind, octets))
    _follow(root, references)
    box = _check_size(root, size_mm, tolerance)
    styled = any(_local(element) == "style" for element in elements)
    if not styled and not any(_visible(root, _Look("black", "none"))):
        raise invalid("the SVG is blank: it draws nothing that is seen on white paper")
    return Svg(
        ground=any(_covers(element, box) for element in elements),
        text=any(_local(element) in _TEXT for element in elements),
        rasters=tuple(rasters),
    )


def _parse(data: bytes) -> etree._Element:
    if len(data) > MAX_OCTETS:
        raise LimitExceeded("picture_too_large", f"the SVG has more than {MAX_OCTETS} octets", limit=MAX_OCTETS)
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    declared = _DECLARED.match(data)
    if b"\x00" in data or (declared and declared[1].lower() not in (b"utf-8", b"utf8", b"us-ascii", b"ascii")):
        raise invalid("the SVG is not in UTF-8")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise invalid("the SVG has a document type declaration; save it without one")
    if data.count(b"<") > 2 * MAX_ELEMENTS:  # a start and an end each, at most
        raise LimitExceeded("picture_too_large", "the SVG has too many elements", limit=MAX_ELEMENTS)
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as exc:
        raise invalid("the SVG is not well-formed XML") from exc
    if (
        root.getroottree().docinfo.internalDTD is not None
        or root.getprevious() is not None
        or root.getnext() is not None
    ):
        raise invalid("the SVG has a declaration or an instruction around its drawing")
    if root.tag != f"{{{_SVG}}}svg":
        raise invalid("the XML is not an SVG drawing")
    if etree.XPath(f"boolean({'/*' * (MAX_DEPTH + 1)})")(root):
        raise LimitExceeded("picture_too_large", "the SVG is nested too deeply", limit=MAX_DEPTH)
    return root


def _local(element: etree._Element) -> str:
    """Return the name of an SVG element; nothing of others."""
    name = etree.QName(element)
    return name.localname if name.namespace == _SVG else ""


def _shown(name: str) -> str:
    """Return a name out of the file as an error may hold it."""
    return name[:40].encode("ascii", "backslashreplace").decode()


def _check_element(element: etree._Element, root: etree._Element) -> tuple[list[str], list[tuple[str, bytes]]]:
    """Refuse what is not allowed; return the ids an element refers to, and the pictures embedded in it."""
    name = etree.QName(element)
    if name.namespace != _SVG:
        if name.namespace not in _INERT:
            raise invalid(f"the SVG has an element {_shown(name.localname)} of another language")
    elif name.localname not in _ALLOWED or (name.localname == "svg" and element is not root):
        raise invalid(f"the SVG has an element {_shown(name.localname)}, which no seal needs")
    ids: list[str] = []
    embedded: list[tuple[str, bytes]] = []
    for key, value in element.attrib.items():
        attribute = etree.QName(str(key))
        local = attribute.localname.lower()
        if local.startswith("on"):
            raise invalid(f"the SVG has a script in {_shown(attribute.localname)}")
        if attribute.namespace == _XML and local == "base":
            raise invalid("the SVG has an xml:base")
        if attribute.namespace in _INERT or (name.namespace in _INERT and local not in ("href", "src")):
            continue
        if local in ("href", "src"):
            target = str(value).strip()
            if target.startswith("#") and name.localname != "image":
                ids.append(target[1:])
            elif name.localname == "image" and name.namespace == _SVG:
                embedded.append(_embedded(target))
            else:
                raise invalid("the SVG refers to something outside itself")
            continue
        ids += _check_value(str(value), css=local == "style")
    if _local(element) == "style":
        if len(element):
            raise invalid("the SVG has elements in a style sheet")
        if _URL.search(element.text or ""):  # through classes it would multiply uncounted
            raise invalid("the SVG has a style sheet with references; write them at the elements")
        _check_value(element.text or "", css=True)
    return ids, embedded


def _check_value(value: str, *, css: bool) -> list[str]:
    """Refuse references to the outside; return the ids referred to."""
    local = [match[2] for match in _LOCAL_URL.finditer(value)]
    if len(local) != len(_URL.findall(value)) or "javascript:" in re.sub(r"[\s\x00-\x20]", "", value).lower():
        raise invalid("the SVG refers to something outside itself")
    if css:
        if "@" in value or "\\" in value:
            raise invalid("the SVG has a style sheet with rules or escapes that no seal needs")
        for function in _FUNCTION.findall(value):
            if function.lower() not in _CSS_FUNCTIONS:
                raise invalid(f"the SVG has a style sheet with {_shown(function)}()")
    return local


def _embedded(target: str) -> tuple[str, bytes]:
    match = _EMBEDDED.match(target)
    if match is None:
        raise invalid("the SVG refers to a picture outside itself, or of a type that is not accepted")
    try:
        octets = base64.b64decode(re.sub(r"\s", "", target[match.end() :]), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("a picture in the SVG is not Base64") from None
    kind = match[1].upper()
    return ("JPG" if kind == "JPEG" else kind), octets


def _follow(root: etree._Element, references: dict[etree._Element, list[etree._Element]]) -> None:
    """Count what is drawn when all references are followed; refuse circles and multiplication."""
    costs: dict[etree._Element, int] = {}
    open_: set[etree._Element] = set()

    def cost(element: etree._Element, depth: int) -> int:
        if element in costs:
            return costs[element]
        if element in open_:
            raise invalid("the SVG refers to itself in a circle")
        if depth > MAX_REFERENCE_DEPTH:
            raise LimitExceeded("picture_too_large", "the SVG's references are nested too deeply")
        open_.add(element)
        total = 1 + sum(cost(each, depth + 1) for each in itertools.chain(element, references.get(element, ())))
        open_.remove(element)
        if total > MAX_DRAWN:
            raise LimitExceeded("picture_too_large", "the SVG draws too many elements", limit=MAX_DRAWN)
        costs[element] = total
        return total

    cost(root, 0)


def _length(value: str | None) -> tuple[float, str] | None:
    """Return number and unit; None of what is absent or relative."""
    if value is None or not value.strip():
        return None
    match = _LENGTH.fullmatch(value)
    if match is None:
        raise invalid("the SVG's width or height is no length")
    number, unit = float(match[1]), match[2].lower()
    if unit in ("%", "em", "ex"):
        return None
    if unit not in _UNITS and unit not in ("", "px"):
        raise invalid("the SVG's width or height has an unknown unit")
    return number, unit


def _check_size(root: etree._Element, size_mm: tuple[int, int], tolerance: float) -> tuple[float, float, float, float]:
    """Compare width, height and viewBox with the seal; return the box that is drawn in (x, y, width, height)."""
    sides = (_length(root.get("width")), _length(root.get("height")))
    numbers: list[float] = []
    view = root.get("viewBox")
    if view is not None:
        try:
            numbers = [float(number) for number in view.replace(",", " ").split()]
        except ValueError:
            numbers = []
        if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
            raise invalid("the SVG's viewBox is not four numbers")
    elif sides[0] is None or sides[1] is None:
        raise invalid("the SVG says neither its width and height nor a viewBox")
    for side, millimetres in zip(sides, size_mm, strict=True):
        if side is not None and side[1] in _UNITS:
            said = side[0] * _UNITS[side[1]]
            if abs(said - millimetres) > max(0.5, 0.02 * millimetres):
                raise invalid(f"the SVG says {said:g} mm where the seal has {millimetres} mm")
    if len({side is not None and side[1] in _UNITS for side in sides}) > 1:
        raise invalid("the SVG's width and height are in units that do not go together")
    pairs: list[tuple[float, float]] = [(numbers[2], numbers[3])] if numbers else []
    if sides[0] is not None and sides[1] is not None:
        pairs.append((sides[0][0] * _UNITS.get(sides[0][1], 1), sides[1][0] * _UNITS.get(sides[1][1], 1)))
    for width, height in pairs:
        if width <= 0 or height <= 0:
            raise invalid("the SVG has no width or no height")
        if not 1 / (1 + tolerance) <= width / height * size_mm[1] / size_mm[0] <= 1 + tolerance:
            raise invalid(f"the SVG does not have the proportions of {size_mm[0]} × {size_mm[1]} mm")
    if numbers:
        return numbers[0], numbers[1], numbers[2], numbers[3]
    return 0.0, 0.0, *pairs[0]


@dataclass(frozen=True, slots=True)
class _Look:
    fill: str
    stroke: str


def _property(element: etree._Element, name: str) -> str | None:
    """Return a presentation property: the style attribute counts before the attribute of that name."""
    for declaration in reversed((element.get("style") or "").split(";")):
        key, _, value = declaration.partition(":")
        if key.strip().lower() == name:
            return value.replace("!important", "").strip().lower()
    said = element.get(name)
    return None if said is None else str(said).strip().lower()


def _visible(element: etree._Element, inherited: _Look) -> Iterator[bool]:
    """Yield True for each shape that leaves something on white paper; where it lies is not asked."""
    local = _local(element)
    if not local or local in _DEFINITIONS or _property(element, "display") == "none":
        return
    if _number(_property(element, "opacity")) == 0 or _property(element, "visibility") in ("hidden", "collapse"):
        return
    look = _Look(_property(element, "fill") or inherited.fill, _property(element, "stroke") or inherited.stroke)
    filled = _seen(look.fill) and _number(_property(element, "fill-opacity")) != 0
    stroked = _seen(look.stroke) and _number(_property(element, "stroke-width")) != 0
    if local in ("use", "image"):
        yield True  # what it shows was counted, or decoded
    elif local in _TEXT:
        if (filled or stroked) and "".join(map(str, element.itertext())).strip():
            yield True
    elif local in _SHAPES and (filled or stroked) and _has_extent(element, local):
        yield True
    for each in element:
        yield from _visible(each, look)


def _seen(colour: str) -> bool:
    return re.sub(r"\s", "", colour) not in _UNSEEN


def _number(value: str | None, otherwise: float = 1.0) -> float:
    try:
        return otherwise if value is None else float(value.rstrip("%pxm"))
    except ValueError:
        return otherwise


def _has_extent(element: etree._Element, local: str) -> bool:
    if local == "path":
        return bool(re.search(r"[mM].*[a-zA-Z0-9]", element.get("d") or "", re.DOTALL))
    if local in ("polyline", "polygon"):
        return len(re.findall(r"[0-9]+", element.get("points") or "")) >= 4
    wanted = {"rect": ("width", "height"), "circle": ("r",), "ellipse": ("rx", "ry"), "line": ()}[local]
    return all(_number(element.get(name), 0.0) > 0 for name in wanted)


def _covers(element: etree._Element, box: tuple[float, float, float, float]) -> bool:
    """Say whether a rectangle hides what lies under the seal (transformed ones are not followed)."""
    if _local(element) != "rect" or any(_property(element, name) for name in ("mask", "clip-path", "transform")):
        return False
    if any(_local(parent) in _DEFINITIONS for parent in element.iterancestors()):
        return False
    fill = next((found for each in (element, *element.iterancestors()) if (found := _property(each, "fill"))), "black")
    clear = min(_number(_property(element, name)) for name in ("opacity", "fill-opacity"))
    if fill in ("none", "transparent") or clear < 0.5:
        return False
    left, top = _number(element.get("x"), 0.0), _number(element.get("y"), 0.0)
    width, height = (
        box[axis + 2] if (said := element.get(name)) == "100%" else _number(said, 0.0)
        for axis, name in enumerate(("width", "height"))
    )
    slack_x, slack_y = 0.02 * box[2], 0.02 * box[3]
    return (
        left <= box[0] + slack_x
        and top <= box[1] + slack_y
        and left + width >= box[0] + box[2] - slack_x
        and top + height >= box[1] + box[3] - slack_y
    )
