"""The application behind the listeners: who is calling, limits, errors."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from sealagent.api import answers, applications, batches, documents, grants, keys, openapi, policy, seals, state, trust
from sealagent.api.extensions import with_extension
from sealagent.api.idempotency import IdempotencyCache
from sealagent.api.identify import PROGRAMS, caller_of, handler_of, identified
from sealagent.api.identifying import IDENTIFY, Identifier, with_application
from sealagent.api.problems import problem_response
from sealagent.api.routing import ARRIVED, CALLER, RUNNING, Route, json_response
from sealagent.api.services import SERVICES, Services
from sealagent.callers.peer import Caller
from sealagent.callers.programs import Programs
from sealagent.errors import SealAgentError
from sealdrivers.errors import DriverError

__all__ = ["ROUTES", "application", "openapi_document"]

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def show_openapi(request: web.Request) -> web.StreamResponse:
    """``GET /v1/openapi.json``."""
    return json_response(openapi_document())


ROUTES: tuple[Route, ...] = (
    *state.ROUTES,
    *keys.ROUTES,
    *seals.ROUTES,
    *documents.ROUTES,
    *batches.ROUTES,
    *trust.ROUTES,
    *applications.ROUTES,
    *grants.ROUTES,
    *policy.ROUTES,
    Route("GET", "/v1/openapi.json", show_openapi, "This document", "application/json"),
)


def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document of all routes."""
    return openapi.document(ROUTES)


def _caller(request: web.Request, owner_uid: int) -> Caller:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the caller went away")
    arrived = request.app[ARRIVED].get(transport)
    return arrived if arrived is not None else caller_of(transport, owner_uid)


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Identify the caller first; turn every error into problem details."""
    task = asyncio.current_task()
    assert task is not None
    running = request.app[RUNNING]
    running.add(task)
    try:
        caller = with_extension(request, _caller(request, request.app[SERVICES].owner_uid))
        request[CALLER] = await with_application(request, caller)
        return await handler(request)
    except (SealAgentError, DriverError) as error:
        log.info("%s %s: %s: %r", request.method, request.rel_url.raw_path, error.code, error.message)
        return problem_response(error)
    except web.HTTPNotFound:
        return problem_response(SealAgentError("not_found", f"no resource {request.path[:200]!r}"))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.path} takes {allowed}"
        return problem_response(SealAgentError("method_not_allowed", message), {"Allow": allowed})
    except web.HTTPException:
        raise
    except ConnectionError:
        log.info("%s %s: the client went away", request.method, request.rel_url.raw_path)
        return web.Response(status=400)  # nobody reads it; raised further, aiohttp would log it as a fault
    except Exception:
        # The one place where an unforeseen fault ends: logged with its trace, answered without.
        log.exception("%s %s failed", request.method, request.rel_url.raw_path)
        return problem_response(SealAgentError("internal_error", "an unforeseen fault; the daemon's log has the trace"))
    finally:
        running.discard(task)


def application(services: Services) -> web.Application:
    """Return the application with all routes."""
    app = web.Application(middlewares=[_guard], client_max_size=services.limits.json_bytes)
    app[SERVICES] = services
    app[answers.IDEMPOTENCY] = IdempotencyCache(answers.signed_under(services.ledger))
    app[RUNNING] = set()
    app[ARRIVED] = weakref.WeakKeyDictionary()
    for route in ROUTES:
        app.router.add_route(route.method, route.path, handler_of(route))
    app[PROGRAMS] = programs = Programs()
    app[IDENTIFY] = Identifier(
        lambda caller: identified(programs, caller), services.pairings, services.unlocker.confirm, services.recorder
    )

    async def close(_: web.Application) -> None:
        programs.close()

    app.on_cleanup.append(close)
    return app
