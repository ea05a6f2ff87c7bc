"""The unified social credit code (统一社会信用代码, GB 32100-2015): 18 characters, the last one checks the others."""

from __future__ import annotations

from typing import Final

from sealagent.errors import FormatError

__all__ = ["check_character", "checked_code"]

ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""GB 32100 table 1: digits and capital letters without I, O, S, V and Z."""
LENGTH: Final = 18
_WEIGHTS: Final = tuple(pow(3, place, 31) for place in range(LENGTH - 1))  # GB 32100 5.2: 3^(i-1) mod 31


def check_character(first: str) -> str:
    """Return the check character of the first 17 (GB 32100 5.2: 31 minus the weighted sum modulo 31).

    :param first: 17 characters of :data:`ALPHABET`.
    """
    total = sum(ALPHABET.index(letter) * weight for letter, weight in zip(first, _WEIGHTS, strict=True))
    return ALPHABET[-total % 31]


def checked_code(text: str) -> str:
    """Return a code if it is one.

    :raises FormatError: ``credit_code_invalid``.
    """
    code = text.strip()
    if len(code) != LENGTH or any(letter not in ALPHABET for letter in code):
        message = f"a unified social credit code has {LENGTH} characters: digits and capitals without I, O, S, V, Z"
        raise FormatError("credit_code_invalid", message)
    right = check_character(code[:-1])
    if code[-1] != right:
        # Which character was mistyped cannot be known; saying what would fit would only invite to write that down.
        raise FormatError("credit_code_invalid", "the check character (the last) does not fit the other 17")
    return code
