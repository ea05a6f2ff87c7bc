"""What changes a token or the store without signing: also on record, also when refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sealagent.callers.peer import Caller
from sealagent.records.ledger import EntryKind, Ledger
from sealagent.signing.recording import recordable, what_went_wrong

__all__ = ["administered"]


@asynccontextmanager
async def administered(ledger: Ledger, caller: Caller, operation: str, **facts: Any) -> AsyncIterator[dict[str, Any]]:
    """Put an administrative operation on record: ``admin`` when the block ends well, ``refused`` when it raises.

    The block may add facts to what it is given.

    :raises SealAgentError: ``record_failed``, and whatever the block raises.
    """
    body: dict[str, Any] = {"operation": operation, "caller": caller.as_json(), **facts}
    try:
        yield body
    except (Exception, asyncio.CancelledError) as error:
        await ledger.append(EntryKind.REFUSED, recordable({**body, **what_went_wrong(error)}))
        raise
    await ledger.append(EntryKind.ADMIN, recordable(body))
