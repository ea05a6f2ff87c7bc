"""What can be drawn: round organisation seals, oval invoice seals, square name seals. Measures are millimetres."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from sealagent.errors import FormatError
from sealagent.maker.drawing import COLOURS

__all__ = ["Design", "OrganisationSeal", "OvalSeal", "PersonalSeal", "check_design", "design_invalid"]

MAX_NAME = 40
"""Characters of an organisation's name: beyond, no seal of the usual sizes can be read."""
MAX_LINE = 20
"""Characters below the star; usual lines have five to eight. Whether so many fit depends on the name and the code."""
MAX_CODE = 24
"""Characters of the code at the edge (13 digits) or in the middle (18 digits)."""
MAX_PERSON = 12
"""Characters of a person's name with its suffix: three columns of four."""
ROUND_MM = (30.0, 60.0)
"""Diameters: 38 mm for departments, 40 for companies, 42, 45, 50 and 60 for authorities."""
OVAL_MM = (20.0, 60.0)
FLATTEST = 1.6
"""Width over height of an oval seal: usual ones are 40 × 30 and 30 × 20."""
SQUARE_MM = (10.0, 50.0)
SUFFIXES = ("", "印", "之印")


@dataclass(frozen=True, slots=True)
class OrganisationSeal:
    """A round seal: ring, name along the upper arc, star, a line below it, a code along the lower edge."""

    name: str
    line: str = ""
    """What the seal is for (财务专用章); below the star, or in the middle if there is none."""
    code: str = ""
    """Usually the 13 digits under which the seal is filed with the police."""
    diameter: float = 40.0
    star: bool = True
    colour: str = "red"


@dataclass(frozen=True, slots=True)
class OvalSeal:
    """An invoice seal: name along the upper arc, the taxpayer's number in the middle, a line below."""

    name: str
    line: str = "发票专用章"
    code: str = ""
    """The taxpayer's number."""
    width: float = 40.0
    height: float = 30.0
    colour: str = "red"


@dataclass(frozen=True, slots=True)
class PersonalSeal:
    """A name seal with a frame: columns from right to left, each from top to bottom."""

    name: str
    suffix: str = ""
    """``印`` or ``之印``, or nothing."""
    width: float = 20.0
    height: float = 20.0
    reversed: bool = False
    """白文: the name is left out of a printed ground; otherwise 朱文."""
    colour: str = "red"


Design = OrganisationSeal | OvalSeal | PersonalSeal


def check_design(design: Design) -> None:
    """Refuse what cannot be drawn.

    :raises FormatError: ``design_invalid`` with the ``field``.
    """
    if design.colour not in COLOURS:
        raise design_invalid("colour", f"must be one of {', '.join(COLOURS)}")
    if isinstance(design, PersonalSeal):
        if design.suffix not in SUFFIXES:
            raise design_invalid("suffix", "must be 印, 之印 or nothing")
        _check_text("name", design.name, MAX_PERSON - len(design.suffix))
        _check_side("width", design.width, SQUARE_MM)
        _check_side("height", design.height, SQUARE_MM)
        return
    _check_text("name", design.name, MAX_NAME)
    _check_text("line", design.line, MAX_LINE, empty=True)
    _check_text("code", design.code, MAX_CODE, empty=True)
    if isinstance(design, OrganisationSeal):
        _check_side("diameter", design.diameter, ROUND_MM)
        return
    _check_side("width", design.width, OVAL_MM)
    _check_side("height", design.height, OVAL_MM)
    if not 1 <= design.width / design.height <= FLATTEST:
        raise design_invalid("height", f"must be from the width down to {1 / FLATTEST:.0%} of it")


def design_invalid(field: str, message: str) -> FormatError:
    """Return the error for a field of a design."""
    return FormatError("design_invalid", f"{field} {message}", field=field)


def _check_text(field: str, text: str, longest: int, *, empty: bool = False) -> None:
    if not text and not empty:
        raise design_invalid(field, "must not be empty")
    if len(text) > longest:
        raise design_invalid(field, f"may have {longest} characters at most")
    if not text.isprintable() or text != text.strip() or text != unicodedata.normalize("NFC", text):
        raise design_invalid(field, "must be printable text in Unicode's composed form (NFC), without space around it")


def _check_side(field: str, value: float, bounds: tuple[float, float]) -> None:
    if not bounds[0] <= value <= bounds[1]:  # NaN is refused too
        raise design_invalid(field, f"must be from {bounds[0]:g} to {bounds[1]:g} mm")
