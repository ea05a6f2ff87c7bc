"""How long one token stays unlocked, and for whom. Knows neither clock nor device: every moment is passed in.

A window belongs to one caller and opens when the PIN was entered for it. It ends when it was unused too long
(``idle``), a time after it was opened (``absolute``), or when the clock goes back behind what it remembers. What ends
does not come back. The *session* of the token is everything between two locks; its number rises with each.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_WINDOWS", "Windows"]

MAX_WINDOWS = 256
"""Windows of one token at once; beyond them the one unused longest ends. A PIN from a file opens one a process."""

_Key = str | None


@dataclass(slots=True)
class _Window:
    opened: float
    used: float
    users: int = 0
    """Requests of its caller that need the token at this moment; meanwhile it is not idle."""


class Windows:
    """The windows of one token. Moments are seconds of any origin.

    :param idle: seconds unused after which a window ends; 0: none ever is open, each request asks.
    :param absolute: seconds after which it ends in any case.
    """

    def __init__(self, idle: float, absolute: float) -> None:
        self._idle = idle
        self._absolute = absolute
        self._open: dict[_Key, _Window] = {}
        self.users = 0
        """Requests that need the token at this moment, of whomever."""
        self.session = 0
        """Number of the session of the token; rises when it is locked or pulled."""

    def opened(self, caller: _Key, now: float) -> None:
        """Take note that the PIN was entered for a caller, while nobody uses the token."""
        self._open[caller] = _Window(now, now)
        if len(self._open) > MAX_WINDOWS:
            del self._open[min(self._open, key=lambda each: (each == caller, self._open[each].used))]

    def is_open(self, caller: _Key, now: float) -> bool:
        """Say whether a caller may use the token now without being asked for the PIN."""
        window = self._open.get(caller)
        if window is not None and not self._holds(window, now):
            del self._open[caller]
            return False
        return window is not None

    def any_open(self, now: float) -> bool:
        """Say whether there is such a caller."""
        return any([self.is_open(caller, now) for caller in list(self._open)])

    def enter(self, caller: _Key) -> None:
        """Take note that a request needs the token from now on."""
        self.users += 1
        if caller in self._open:
            self._open[caller].users += 1

    def leave(self, caller: _Key, now: float) -> None:
        """Take note that it does no more."""
        self.users -= 1
        window = self._open.get(caller)
        if window is not None and window.users:
            window.users -= 1
            window.used = now

    def end(self) -> None:
        """Close all windows, used or not, and with them the session."""
        self._open.clear()
        self.session += 1

    def _holds(self, window: _Window, now: float) -> bool:
        used = window.users or 0 <= now - window.used < self._idle
        return bool(self._idle > 0 and used and 0 <= now - window.opened < self._absolute)
