"""How far work on many things is: a bar on standard error where that is a terminal; nothing otherwise."""

from __future__ import annotations

import shutil
import sys
from types import TracebackType

from sealagent.cli.output import clean, text_width

__all__ = ["Bar"]

MAX_BAR = 30
"""Columns of the bar itself."""


class Bar:
    """A line that is written anew for each thing, and is gone at the end. Its own context manager.

    :param total: how many things there are.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._shown = sys.stderr.isatty()

    @property
    def shown(self) -> bool:
        """Whether there is a terminal to show it."""
        return self._shown

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def show(self, done: int, name: object) -> None:
        """Say that so many are done, and which one is at work."""
        if not self._shown:
            return
        columns = shutil.get_terminal_size().columns
        width = min(MAX_BAR, max(4, columns // 3))
        full = width * done // max(1, self._total)
        head = f"[{'#' * full}{'.' * (width - full)}] {done}/{self._total} "
        sys.stderr.write("\r\x1b[K" + head + _fitting(clean(name), columns - len(head) - 1))
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away, so that something else can be written."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _fitting(text: str, columns: int) -> str:
    """Return the end of a text that is too wide: of a path that is its name."""
    while text and text_width(text) > columns:
        text = text[1:]
    return text
