"""Time comes from one injected place, so that tests and ``--at`` can say what "now" is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

__all__ = ["Clock", "system_clock"]

Clock = Callable[[], datetime]
"""A function that returns the present time, timezone-aware, in UTC."""


def system_clock() -> datetime:
    """Return the system's time in UTC with microseconds."""
    return datetime.now(UTC)
