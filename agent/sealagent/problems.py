"""What an error code means to people and programs: the form of :mod:`sealagent.catalog`'s entries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["Exit", "Problem", "bad_input"]


class Exit(IntEnum):
    """Exit status of the command line (design §6)."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_VALID = 3
    NO_TOKEN = 4
    PIN = 5
    REFUSED = 6
    UNREACHABLE = 7


@dataclass(frozen=True, slots=True)
class Problem:
    """What a code means to people and programs."""

    status: int
    """HTTP status."""
    title: str
    title_zh: str
    next_step: str
    next_step_zh: str
    exit: Exit = Exit.FAILURE


_FILE = ("Send a file of the named format.", "请提交所述格式的文件。")


def bad_input(title: str, title_zh: str, step: tuple[str, str] = _FILE, status: int = 422) -> Problem:
    """Return what is said of input that is not what it should be.

    :param step: the next step, in English and Chinese.
    """
    return Problem(status, title, title_zh, *step)
