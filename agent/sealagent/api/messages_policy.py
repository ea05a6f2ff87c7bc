"""Requests and answers about the policy."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from sealagent.api.messages import Message
from sealagent.uses import Operation

__all__ = ["DecisionOut", "ExplainIn", "ExplanationOut", "StepOut"]

Text = Annotated[str, Field(min_length=1, max_length=4096)]
Effect = Literal["allow", "ask", "deny"]


class ExplainIn(Message):
    """A use that somebody might ask for. Nobody named: the caller itself."""

    operation: Operation
    seal: Text | None = Field(default=None, description="id, esID or name; for document and digest")
    key: Text | None = Field(default=None, description="id of a key; for raw")
    token: Text | None = Field(default=None, description="id, serial or label; for manage")
    format: Annotated[str, Field(pattern="^[a-z0-9]{1,16}$")] | None = Field(
        default=None, description="of the document; default: ofd for document"
    )
    count: int = Field(default=1, ge=1, le=100_000, description="signatures asked for at once")
    executable: Text | None = Field(default=None, description="path of the caller's program file")
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(default=None, description="of that file")
    parent: Text | None = Field(default=None, description="path of the program that started it")
    application: Text | None = Field(default=None, description="a paired application, by id or name")
    origin: Text | None = Field(default=None, description="web site or extension that the caller acts for")
    at: AwareDatetime | None = Field(default=None, description="default: now")

    @property
    def names_somebody(self) -> bool:
        """Whether another caller is meant than who asks."""
        return any((self.executable, self.sha256, self.parent, self.application, self.origin))


class DecisionOut(Message):
    """What is decided, and by what."""

    effect: Effect
    source: Literal["rule", "grant", "limit", "default"]
    name: str = Field(description="name of the rule, id of the grant, or key of the limit or default")
    why: str


class StepOut(Message):
    """One rule, grant, limit or default that was looked at."""

    kind: Literal["rule", "grant", "limit", "default"]
    name: str
    effect: Effect
    matched: bool
    why: str
    per_day: int | None = Field(description="signatures a day that a rule allows")


class ExplainedCallerOut(Message):
    """Who would ask; null is not known."""

    executable: str | None
    sha256: str | None
    parent: str | None
    application: str | None
    origin: str | None


class ExplainedUseOut(Message):
    """What would be asked for."""

    operation: Operation
    key: str | None = Field(description="URI of the key, or of the token; null: it is not plugged in")
    seal: str | None = Field(description="id")
    format: str | None
    count: int


class ExplanationOut(Message):
    """Why a request would be allowed or refused."""

    decision: DecisionOut
    steps: list[StepOut] = Field(description="in the order in which they count; the first that matched decides")
    policy: str | None = Field(description="the file in force; null: the defaults are")
    caller: ExplainedCallerOut
    use: ExplainedUseOut
    at: datetime
