"""The state of a seal through time, as its production-management unit states it (the Measures, Art. 17 and 18).

The judge asks a :class:`SealStatusSource`, which is injected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from sealagent.pki.certificates import Certificate
from sealagent.seals.model import Seal

__all__ = ["SealState", "SealStatus", "SealStatusSource", "StateChange"]


class SealState(StrEnum):
    """A state, by its public name."""

    MADE = "made"
    """Made, not filed yet: may not be used."""
    FILED = "filed"
    """Filed, not delivered to its owner yet: may not be used."""
    VALID = "valid"
    SUSPENDED = "suspended"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    """Re-made: another seal took its place."""
    LOST = "lost"
    INVALID = "invalid"
    """Unlawfully made, marked so by the unit: it never was valid."""
    UNKNOWN = "unknown"
    """The service does not know the seal, or could not be asked."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """The seal has been in this state since a moment."""

    state: SealState
    since: datetime
    """Aware, whole seconds."""
    reason: str = ""
    """A reason code, e.g. ``dissolved``."""


@dataclass(frozen=True, slots=True)
class SealStatus:
    """An answer about one seal: all its states until now, so that one answer serves every moment."""

    history: tuple[StateChange, ...] = ()
    """Oldest first; empty when nothing is known."""
    source: str = ""
    """Who said so, e.g. ``http://…`` or ``list NAME``."""
    produced_at: datetime | None = None
    next_update: datetime | None = None
    evidence: bytes = field(default=b"", repr=False)
    """The signed answer as received."""
    detail: str = ""
    """Why nothing is known."""
    stale: bool = False
    """An older answer, used because policy allows it while nobody can be asked."""
    asked: bool = True
    """False: no service is configured for this seal's maker."""

    def at(self, moment: datetime) -> StateChange | None:
        """Return the state in force at a moment; None before the first one, or when nothing is known.

        A seal that was made unlawfully was so from the beginning.
        """
        if self.history and self.history[-1].state is SealState.INVALID:
            return self.history[-1]
        return next((change for change in reversed(self.history) if change.since <= moment), None)


class SealStatusSource(Protocol):
    """Answers for seals; never raises for what the network or an answer may be like."""

    def status(self, seal: Seal, maker: Certificate, now: datetime) -> SealStatus:
        """Return what the maker's production-management unit says of a seal."""
        ...
