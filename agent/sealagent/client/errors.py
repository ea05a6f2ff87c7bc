"""Errors of the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["AgentError", "AgentUnreachable"]


class AgentError(Exception):
    """The agent refused or failed.

    ``code`` is stable (see :mod:`sealagent.catalog`); ``problem`` holds the whole RFC 9457 body, with ``tries_left``,
    ``locked``, ``reasons`` and other facts where they apply.
    """

    def __init__(self, code: str, detail: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.problem: dict[str, Any] = dict(problem or {})


class AgentUnreachable(AgentError):
    """No agent answers at the socket."""

    def __init__(self, detail: str) -> None:
        super().__init__("agent_unreachable", detail)
