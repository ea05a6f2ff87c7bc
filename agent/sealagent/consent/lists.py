"""The list of a batch, page by page: no page is made before it is shown, so 10,000 items cost no more than ten."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sealagent.consent.shown import assuan_length, shown

__all__ = ["PINENTRY_PAGE", "TERMINAL_PAGE", "Page", "PageSize", "list_digest", "page_from"]


@dataclass(frozen=True, slots=True)
class PageSize:
    """What one page may hold. Each page holds one item at least."""

    lines: int
    octets: int
    """Of all items, as they stand in a line of Assuan."""
    item: int
    """Of one item."""

    def shrunk(self, shorter: int) -> PageSize:
        """Return a page of so many times fewer lines."""
        return replace(self, lines=max(1, self.lines // shorter))


PINENTRY_PAGE = PageSize(lines=6, octets=320, item=110)
"""A third of an Assuan line (the rest says who asks), and a curses dialog on a terminal of 24 lines."""
TERMINAL_PAGE = PageSize(lines=15, octets=15 * 300, item=240)
"""A terminal of 24 lines."""


@dataclass(frozen=True, slots=True)
class Page:
    """Items ``first`` to ``last`` (counted from 1) of ``count``."""

    first: int
    last: int
    count: int
    lines: tuple[str, ...]
    """The items, ready to be shown."""
    digest: str
    """Of the whole list, see :func:`list_digest`."""

    @property
    def final(self) -> bool:
        """Whether no page follows."""
        return self.last >= self.count


def list_digest(items: Sequence[str]) -> str:
    """Return SHA-256, hexadecimal, over the items in order: each as the number of its octets (8 octets, big endian) and
    then its UTF-8. The same list shows the same digest on each page, and to whoever computes it elsewhere.
    """
    digest = hashlib.sha256()
    for item in items:
        octets = item.encode("utf-8", "surrogatepass")
        digest.update(len(octets).to_bytes(8, "big"))
        digest.update(octets)
    return digest.hexdigest()


def page_from(items: Sequence[str], start: int, size: PageSize, digest: str) -> Page:
    """Return the page that begins with item ``start`` (counted from 0)."""
    lines: list[str] = []
    used = 0
    for number, item in enumerate(items[start : start + size.lines], start + 1):
        line = f"{number}. {shown(item, size.item)}"
        used += assuan_length(line) + 3  # a line break is written as three octets
        if lines and used > size.octets:
            break
        lines.append(line)
    return Page(min(start + 1, len(items)), start + len(lines), len(items), tuple(lines), digest)
