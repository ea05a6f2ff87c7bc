"""Whose a result is: who may ask for it again."""

from __future__ import annotations

from sealagent.callers.peer import Caller

__all__ = ["owner_of"]


def owner_of(caller: Caller) -> str:
    """Return the name under which the results of a caller are kept: its user, and its application where it is paired.

    Two applications of a user never see each other's, nor do programs that are not paired. One that asks for a web site
    or a browser extension is told from others by that: all bridges of browsers run the same program.
    """
    if caller.application is not None:
        return f"{caller.uid} {caller.application.id}"
    return f"{caller.uid}" if caller.origin is None else f"{caller.uid} {caller.origin}"
