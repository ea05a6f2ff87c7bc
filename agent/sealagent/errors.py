"""The error tree of the agent.

Every error a caller can meet has a stable ``code``; :mod:`sealagent.api.problems` says, once for all of them, which
HTTP status, exit status, title and next step belong to a code.
"""

from __future__ import annotations

__all__ = ["FormatError", "LimitExceeded", "SealAgentError"]


class SealAgentError(Exception):
    """Base of every named error.

    :param code: stable identifier, lower-case words joined by underscores, part of the API.
    :param message: one English sentence for logs and developers; never a secret.
    :param facts: further public facts (JSON values) that go into the problem details.
    """

    def __init__(self, code: str, message: str, **facts: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.facts = facts

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code!r}, {self.message!r})"


class FormatError(SealAgentError):
    """Input that is not what it claims to be (a malformed seal, package, certificate, request)."""


class LimitExceeded(FormatError):
    """Input that goes beyond a named limit (size, count, depth, ratio, time)."""
