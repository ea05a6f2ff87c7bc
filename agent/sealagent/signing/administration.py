"""What changes a token or the store without signing: also on record, also when refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sealagent.callers.peer import Caller
from sealagent.errors import SealAgentError
from sealagent.records.ledger import EntryKind, Ledger
from sealdrivers.errors import DriverError

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
    except (SealAgentError, DriverError) as error:
        more = error.facts() if isinstance(error, DriverError) else {}
        await ledger.append(EntryKind.REFUSED, {**body, "reason": error.code, "detail": error.message, **more})
        raise
    await ledger.append(EntryKind.ADMIN, body)
