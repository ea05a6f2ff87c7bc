"""Which key presses and clicks count: none that was meant for another window."""

from __future__ import annotations

__all__ = ["QUIET_SECONDS", "Guard"]

QUIET_SECONDS = 0.5
"""Seconds after the window appeared in which nothing counts as a yes."""


class Guard:
    """A window that comes up under somebody's fingers gets keys that were meant for another one.

    Clicks count from :data:`QUIET_SECONDS` after the window appeared. Keys count after a pause of as many seconds: who
    types on, sees no dots and stops. So of a PIN typed too early all characters are dropped, or none, and no half of a
    PIN costs a try. What another program made up (``XSendEvent``) never counts.
    """

    def __init__(self) -> None:
        self._shown: float | None = None
        self._last_key = 0.0
        self._quiet = False

    def shown(self, now: float) -> None:
        """The window appeared. :param now: seconds of a monotonic clock, as in the other methods."""
        if self._shown is None:
            self._shown = self._last_key = now

    def key(self, now: float) -> bool:
        """A key was pressed: does it count?"""
        if self._shown is None:
            return False
        self._quiet = self._quiet or now - self._last_key >= QUIET_SECONDS
        self._last_key = now
        return self._quiet

    def click(self, now: float) -> bool:
        """A button of the mouse was pressed: does it count?"""
        return self._shown is not None and now - self._shown >= QUIET_SECONDS
