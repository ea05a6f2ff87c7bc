"""How foreign text is shown: on one line, of bounded length, without characters that act."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["assuan_length", "grouped", "shown"]

DIGEST_DIGITS = 16
"""Hexadecimal digits of a digest that are shown: 64 bits, which two documents do not share by accident."""
_ELLIPSIS = "…"


def assuan_length(text: str) -> int:
    """Return the octets that a text without line breaks takes in a line of Assuan: a percent sign takes three."""
    return len(text.encode("utf-8", "surrogatepass")) + 2 * text.count("%")


def shown(text: str, octets: int) -> str:
    """Make foreign text safe to show on one line.

    Control and format characters (among them the overrides of writing direction), separators, surrogates and
    unassigned code points go; white space becomes one space; what is longer than ``octets`` (see :func:`assuan_length`)
    loses its middle, so that the end of a path and the suffix of a name stay.
    """
    if len(text) > 8 * octets:  # a name of megabytes costs no more than a long one
        text = text[: 4 * octets] + text[-4 * octets :]
    spaced = " ".join(text.split())
    kept = "".join(c for c in spaced if c == " " or unicodedata.category(c)[0] not in "CZ")
    if assuan_length(kept) <= octets:
        return kept
    room = octets - len(_ELLIPSIS.encode())
    return _fitting(kept, room - room // 2) + _ELLIPSIS + _fitting(reversed(kept), room // 2)[::-1]


def grouped(digest: str) -> str:
    """Return the first digits of a hexadecimal digest in groups of four; what is no digest is shown as text."""
    digits = digest[:DIGEST_DIGITS].lower()
    if not digits or digits.strip("0123456789abcdef"):
        return shown(digest, DIGEST_DIGITS + 4)
    groups = [digits[at : at + 4] for at in range(0, len(digits), 4)]
    return " ".join(groups) + (_ELLIPSIS if len(digest) > DIGEST_DIGITS else "")


def _fitting(letters: Iterable[str], octets: int) -> str:
    taken: list[str] = []
    for letter in letters:
        octets -= assuan_length(letter)
        if octets < 0:
            break
        taken.append(letter)
    return "".join(taken)
