"""Tables of figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one benchmark, as they are printed and written."""

    key: str
    title: str
    rows: list[dict[str, Any]]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return "" if value is None else str(value)


def show(table: Table) -> None:
    """Print a table."""
    names = list(table.rows[0])
    lines = [names, *([_cell(row[name]) for name in names] for row in table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    print(f"\n{table.title}")
    for line in lines:
        first, *rest = zip(line, widths, strict=True)
        print("  " + first[0].ljust(first[1]) + "".join("  " + text.rjust(width) for text, width in rest))
