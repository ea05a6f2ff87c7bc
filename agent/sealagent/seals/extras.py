"""Libraries that only the making of seals needs: the extra ``maker``. The agent runs without them."""

from __future__ import annotations

from sealagent.errors import SealAgentError

__all__ = ["missing_extra"]


def missing_extra(library: str) -> SealAgentError:
    """Return the error for a library that is not installed: ``drawing_unavailable``."""
    return SealAgentError(
        "drawing_unavailable",
        f"{library} is not installed; it comes with the extra `maker`: pip install 'sealagent[maker]'",
        library=library,
    )
