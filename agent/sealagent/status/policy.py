"""What counts when nobody can be asked, and for how long an answer is used again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

__all__ = ["CLOCK_SKEW", "AskingPolicy", "Unavailable"]

CLOCK_SKEW = timedelta(minutes=5)
"""By which the clocks of a service and of this computer may differ."""


class Unavailable(StrEnum):
    """What is done when a service that is configured cannot be asked."""

    REFUSE = "refuse"
    """The status is unknown, and the seal may not be used."""
    WARN = "warn"
    """The status is unknown, which is noted; the seal may be used unless it was last known not to be valid."""
    OFFLINE = "offline"
    """The last good answer counts for some hours; then as :attr:`REFUSE`."""


@dataclass(frozen=True, slots=True)
class AskingPolicy:
    """How answers are used."""

    unavailable: Unavailable = Unavailable.REFUSE
    offline: timedelta = timedelta(hours=24)
    """With :attr:`Unavailable.OFFLINE`: for how long after it was made an answer counts."""
    cached: timedelta = timedelta(seconds=300)
    """For how long an answer is used again without asking, if its issuer does not say less."""

    @property
    def demanded(self) -> bool:
        """Whether a status that is unknown keeps a seal from being used."""
        return self.unavailable is not Unavailable.WARN
