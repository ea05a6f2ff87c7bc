"""Looking whether the administrator's trust lists have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sealagent.pki.trustlists import TrustLists

__all__ = ["watch_trust"]

LOOK_SECONDS = 30.0
"""Between two looks: a withdrawal must be noticed soon, and a look is a few system calls."""

log = logging.getLogger(__name__)


async def watch_trust(lists: TrustLists, changed: Callable[[], None], every: float = LOOK_SECONDS) -> None:
    """Look until cancelled.

    :param changed: called when other entries are in force, or other faults.
    """
    while True:
        await asyncio.sleep(every)
        try:
            if await asyncio.to_thread(lists.refresh):
                changed()
        except Exception:
            log.exception("looking at the trust lists failed")  # the next look may do better
