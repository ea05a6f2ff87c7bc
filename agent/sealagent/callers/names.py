"""Names that applications give themselves: how they are kept, and when two are too much alike."""

from __future__ import annotations

import unicodedata

from sealagent.errors import FormatError

__all__ = ["MAX_NAME", "alike", "clean_name"]

MAX_NAME = 64
"""Characters of a name."""
MAX_RAW_NAME = 1024
"""Characters of a name that are looked at before it is cleaned."""
MAX_MARKS = 2
"""Combining marks on one letter; more make a name that covers the lines around it."""

_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Letters, marks and symbols that show nothing (Unicode Default_Ignorable_Code_Point outside Cf, and a blank braille
cell): with them two names can look alike."""


def clean_name(text: str) -> str:
    """Return the name of an application as it is kept and shown: one line, nothing invisible, composed (NFC).

    :raises FormatError: ``name_invalid``: nothing is left, or more than 64 characters.
    """
    spaced = " ".join(text[:MAX_RAW_NAME].split())
    kept: list[str] = []
    marks = 0
    for letter in unicodedata.normalize("NFC", spaced):
        category = unicodedata.category(letter)
        if letter != " " and (category[0] in "CZ" or category == "Me" or letter in _BLANK or _selects(letter)):
            continue
        marks = marks + 1 if category == "Mn" else 0
        if marks <= MAX_MARKS:
            kept.append(letter)
    # What was taken away may have kept parts of one letter apart.
    name = unicodedata.normalize("NFC", " ".join("".join(kept).split()))
    if not name or not any(unicodedata.category(letter)[0] in "LNS" for letter in name):
        raise FormatError("name_invalid", "a name has at least one letter, digit or sign")
    if len(name) > MAX_NAME or len(text) > MAX_RAW_NAME:
        raise FormatError("name_invalid", f"a name has at most {MAX_NAME} characters")
    return name


def _selects(letter: str) -> bool:
    """Say whether it only chooses how the letter before it looks (variation selectors)."""
    return "\ufe00" <= letter <= "\ufe0f" or "\U000e0100" <= letter <= "\U000e01ef"


def alike(name: str) -> str:
    """Return what two names have in common that are told apart by width, case or spaces alone."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
