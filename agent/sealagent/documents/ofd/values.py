"""The basic types of OFD XML (GB/T 33190-2016, 7): locations and boxes."""

from __future__ import annotations

import math
import posixpath
from dataclasses import dataclass

from sealagent.documents.ofd.package import Package
from sealagent.errors import FormatError
from sealagent.verdict import Note

__all__ = ["SHOWN", "Box", "Location", "existing", "parse_box", "resolve"]

SHOWN = 256
"""Characters kept of a text that is only shown."""


@dataclass(frozen=True, slots=True)
class Location:
    """An ST_Loc and what it leads to."""

    text: str
    """As written."""
    name: str | None
    """The package file it means (it may not exist), or None where it leads out of the package or nowhere."""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in mm: left, top, width, height."""

    x: float
    y: float
    width: float
    height: float


def resolve(package: Package, base: str, text: str, *, certain: bool = False) -> Location:
    """Return what an ST_Loc means in the file ``base``.

    A leading slash means the package root; without it the path starts at the folder of ``base``. Some writers leave
    the slash out of root paths, so a path that leads nowhere is tried from the root as well.

    :param certain: give no file where both readings lead to one: somebody may have added the other.
    """
    if text[:1] == "/" and text[1:] in package:  # nearly always; no name of a package has segments to resolve
        return Location(text, text[1:])
    if not text or "\\" in text or len(text) > package.limits.path_octets:
        return Location(text[:SHOWN], None, (Note("unsafe_reference", text[:SHOWN]),))
    if text.startswith("/"):
        name = _normal(text.lstrip("/"))
        notes = () if name is None or text == f"/{name}" else (Note("quirk_path", text),)
    else:
        name, notes = _normal(posixpath.join(posixpath.dirname(base), text)), ()
        from_root = _normal(text)
        if name not in package and from_root in package:
            name, notes = from_root, (Note("quirk_path", text),)
        elif certain and name != from_root and from_root in package:
            name = None
    return Location(text, name, notes) if name else Location(text, None, (Note("unsafe_reference", text),))


def existing(package: Package, location: Location) -> str:
    """Return the name of the file a location means.

    :raises FormatError: ``ofd_entry_missing``.
    """
    if location.name is None or location.name not in package:
        raise FormatError("ofd_entry_missing", f"the package has no file {location.text}", file=location.text)
    return location.name


def parse_box(text: str) -> Box | None:
    """Return an ST_Box (four numbers, mm, width and height positive), or None."""
    try:
        x, y, width, height = (float(part) for part in text.split())
    except ValueError:
        return None
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        return None
    return Box(x, y, width, height)


def _normal(path: str) -> str | None:
    """Return the path without ``.`` and ``..``, or None when it leaves the package or names nothing."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if not kept:
                return None
            kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    return "/".join(kept) or None
