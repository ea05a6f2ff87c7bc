"""One quirk of OpenSC 0.23: a card that is pulled while it works leaves OpenSC's lock held, and the next call that
wants the card waits for ever (OpenSC issue 2707). Initialised for one thread, and a worker has one, it takes no locks.
"""

from __future__ import annotations

__all__ = ["MANUFACTURER"]

MANUFACTURER = "OpenSC"
"""How the manufacturer of the library begins."""
