"""Requests that come for a browser extension, through the native messaging host (docs/native-messaging.md)."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from sealagent.api.services import SERVICES
from sealagent.callers.browsers import ORIGIN_HEADER, PAGE_HEADER, acting_for
from sealagent.callers.peer import Caller
from sealagent.callers.programs import parent_of

__all__ = ["with_extension"]


def with_extension(request: web.Request, caller: Caller) -> Caller:
    """Return the caller with the extension that it asks for, if it says that it asks for one.

    To be done before the caller is told from other applications: a pairing is bound to the extension.

    :param caller: at the Unix socket. Pages come by another way, which passes these headers on to nobody.
    :raises SealAgentError: ``origin_not_proven``, ``caller_gone``, ``caller_changed``, ``caller_unknown``.
    :raises FormatError: ``request_invalid``.
    """
    origins, pages = request.headers.getall(ORIGIN_HEADER, []), request.headers.getall(PAGE_HEADER, [])
    if not origins and not pages:
        return caller
    # Looked up anew each time: a process whose browser has ended has another parent.
    caller = replace(caller, parent=parent_of(caller))
    origin = ", ".join(origins) if origins else None
    page = ", ".join(pages) if pages else None
    return acting_for(caller, origin, page, request.app[SERVICES].browsers)
