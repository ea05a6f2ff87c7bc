"""Who is behind a connection: looked at when it is accepted, and again before anything is changed.

What reads only is answered after one look a connection, which takes microseconds. Before a change the program must
still be the one that connected, and the digest of its file is known.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from aiohttp import web

from sealagent.api.routing import CALLER, Route
from sealagent.callers.peer import Caller, peer_of, recheck, require_uid
from sealagent.callers.processes import moment
from sealagent.callers.programs import Programs
from sealagent.errors import SealAgentError

__all__ = ["PROGRAMS", "Accepted", "caller_of", "handler_of", "identified"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PROGRAMS: web.AppKey[Programs] = web.AppKey("programs", Programs)
"""Digests of the programs that ask."""

_accepted: weakref.WeakKeyDictionary[Any, Caller | SealAgentError] = weakref.WeakKeyDictionary()
"""What was seen when a connection was accepted, by its transport."""


class Accepted(asyncio.Protocol):
    """Looks at who connected the moment the connection is there, then steps aside for the server.

    Later it may be late: whoever connects can start another program in its place and let it be looked at.
    """

    def __init__(self, server: asyncio.Protocol) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _look(transport)
        transport.set_protocol(self._server)
        self._server.connection_made(transport)


def _look(transport: asyncio.BaseTransport) -> Caller | SealAgentError:
    found: Caller | SealAgentError
    try:
        found = peer_of(transport.get_extra_info("socket"), moment())
    except SealAgentError as error:
        found = error
    _accepted[transport] = found
    return found


def caller_of(transport: asyncio.BaseTransport, owner_uid: int) -> Caller:
    """Return who connected to the Unix socket.

    :raises SealAgentError: ``caller_unknown``, ``caller_changed``, ``caller_not_allowed``.
    """
    found = _accepted.get(transport)
    if found is None:
        found = _look(transport)
    if isinstance(found, SealAgentError):
        raise SealAgentError(found.code, found.message, **found.facts)
    require_uid(found, owner_uid)
    return found


async def identified(programs: Programs, caller: Caller) -> Caller:
    """Look at a caller again and fill in what is known of its program.

    :raises SealAgentError: ``caller_gone``, ``caller_changed``, ``caller_unknown``.
    """
    known = await programs.described(recheck(caller))
    return replace(caller, sha256=known.sha256, parent=known.parent)


def handler_of(route: Route) -> Handler:
    """Return the handler of a route; of one that may change something it starts once the caller was looked at again."""
    if route.reads or route.method == "GET":
        return route.handler

    async def look_again(request: web.Request) -> web.StreamResponse:
        request[CALLER] = await identified(request.app[PROGRAMS], request[CALLER])
        return await route.handler(request)

    return look_again
