"""The shapes of who asks and what they may do; the stores and rules that fill them are in the modules beside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time
from enum import StrEnum
from typing import Any, Literal

from sealagent.uses import Operation

__all__ = ["DailyHours", "Decision", "Effect", "Grant", "Paired"]


class Effect(StrEnum):
    """What is decided about a use."""

    ALLOW = "allow"
    ASK = "ask"
    """The holder is asked, each time."""
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Paired:
    """An application that the holder has paired, as a caller that proved to be it carries it along."""

    id: str
    name: str
    """As the holder knows it; declared by the application when it was paired."""


@dataclass(frozen=True, slots=True)
class DailyHours:
    """Hours of the day, local time of the machine; ``start`` after ``end`` goes over midnight."""

    start: time
    end: time


@dataclass(frozen=True, slots=True)
class Grant:
    """What the holder allowed, or forbade, an application. Every limit that is set must be kept."""

    id: str
    grantee: str
    """Id of the paired application; ``process:PID:STARTED`` for an unpaired process (only with ``session``)."""
    effect: Literal[Effect.ALLOW, Effect.DENY]
    operation: Operation
    seal: str | None = None
    """Id of the seal; None: any."""
    key: str | None = None
    """URI of the key; None: any."""
    formats: tuple[str, ...] = ()
    """Formats of documents; empty: any."""
    session: tuple[str, int] | None = None
    """Token URI and number of its session: ends when the token is locked or pulled. Kept in memory only."""
    remaining: int | None = None
    """Signatures left; None: not counted."""
    hours: DailyHours | None = None
    not_before: datetime | None = None
    expires: datetime | None = None
    created: datetime | None = None
    record: int | None = None
    """Number of the entry of the record that says it was given."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a use is allowed, and by what."""

    effect: Effect
    source: Literal["rule", "grant", "default", "limit"]
    """A rule or default or limit of policy.toml, or a grant of the holder's."""
    name: str
    """Name of the rule, id of the grant, or the key of the default or limit."""
    why: str
    """One English sentence for the caller, the record and `policy explain`."""
    per_day: int | None = None
    """Signatures a day that the rule allows; None: not counted."""

    def as_json(self) -> dict[str, Any]:
        """Return what the record keeps."""
        return {"effect": self.effect.value, "source": self.source, "name": self.name, "why": self.why}
