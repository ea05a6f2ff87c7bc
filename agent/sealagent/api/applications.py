"""Pairing, paired applications and their grants over the socket.

What gives rights needs the holder's yes in the agent's own prompt; what takes them away does not. A web page or an
extension sees its own application and grants, and no others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from aiohttp import web

from sealagent.api import messages_applications as m
from sealagent.api.answers import once
from sealagent.api.idempotency import Answer
from sealagent.api.identifying import IDENTIFY, agree
from sealagent.api.routing import CALLER, Route, json_answer, json_response, read_json, services
from sealagent.api.services import Services
from sealagent.callers.peer import Caller
from sealagent.callers.store import Application
from sealagent.consent.prompter import ConsentRequest, Occasion
from sealagent.errors import SealAgentError
from sealagent.signing.administration import administered
from sealagent.verdict import timestamp

__all__ = ["APPLICATION_ERRORS", "CONSENT_ERRORS", "ROUTES", "application_of", "may_see"]


# Pairing


async def start_pairing(request: web.Request) -> web.StreamResponse:
    """``POST /v1/pairings``. It takes no Idempotency-Key: nothing that holds a secret is kept for a retry."""
    asked, _ = await read_json(request, m.PairingIn)
    offer = services(request).pairings.start(request[CALLER], asked.name)
    answer = {
        "id": offer.id,
        "name": offer.name,
        "code": offer.code,
        "secret": offer.secret,
        "expires": timestamp(offer.expires),
    }
    return _not_kept(json_response(answer), 201)


async def complete_pairing(request: web.Request) -> web.StreamResponse:
    """``POST /v1/pairings/{pairing}/complete``: waits for the holder. Whatever goes wrong, the pairing has ended."""
    asked, _ = await read_json(request, m.SecretIn)
    parts, caller = services(request), request[CALLER]
    named = request.match_info["pairing"]
    try:
        pairing = parts.pairings.ask(named, asked.secret, caller)
    except SealAgentError as error:
        if error.code == "pairing_secret_wrong":  # a pairing that is not there is nothing to put on record
            await parts.recorder.refused(caller, {"operation": "pair", "pairing": named}, error)
        raise
    facts = {"name": pairing.name}
    try:
        async with administered(parts.recorder, caller, "pair", pairing=named, application=facts) as act:
            question = ConsentRequest("pair", Occasion(caller), name=pairing.name, code=pairing.code)
            await agree(parts.unlocker.confirm, question)
            caller = await request.app[IDENTIFY](caller, None)  # as it is after the prompt
            await act.begin()
            assert act.intent is not None
            application, token = await asyncio.to_thread(parts.pairings.finish, named, caller, act.intent.number)
            act.facts["application"] = _named(application)
    finally:
        parts.pairings.abandon(named)
    answer = {"application": _application(parts, application), "token": token}
    return _not_kept(json_response(answer), 201)


def _not_kept(response: web.Response, status: int) -> web.Response:
    response.set_status(status)
    response.headers["Cache-Control"] = "no-store"
    return response


# Applications


async def list_applications(request: web.Request) -> web.StreamResponse:
    """``GET /v1/applications``."""
    parts = services(request)
    found = [each for each in parts.pairings.list() if may_see(request[CALLER], each.id)]
    counts = Counter(grant.grantee for grant in parts.grants.list())
    return json_response({"applications": [_application(parts, each, counts[each.id]) for each in found]})


async def show_application(request: web.Request) -> web.StreamResponse:
    """``GET /v1/applications/{application}``."""
    parts = services(request)
    return json_response(_application(parts, application_of(request, parts, request.match_info["application"])))


async def rename_application(request: web.Request) -> web.StreamResponse:
    """``PATCH /v1/applications/{application}``: the holder agrees to the name."""
    asked, octets = await read_json(request, m.RenameIn)
    parts, caller = services(request), request[CALLER]

    async def work() -> Answer:
        found = application_of(request, parts, request.match_info["application"])
        facts = {**_named(found), "new_name": asked.name}
        async with administered(parts.recorder, caller, "rename_application", application=facts) as act:
            name = parts.pairings.check_name(found.id, asked.name)
            act.facts["application"] = {**facts, "new_name": name}
            question = ConsentRequest("rename", Occasion(caller), name=name, application=found.name)
            await agree(parts.unlocker.confirm, question)
            await act.begin()
            renamed = await asyncio.to_thread(parts.pairings.rename, found.id, name)
        return json_answer(_application(parts, renamed))

    return await once(request, octets, work)


async def revoke_application(request: web.Request) -> web.StreamResponse:
    """``DELETE /v1/applications/{application}``: its token and all its grants end."""
    parts, caller = services(request), request[CALLER]

    async def work() -> Answer:
        found = application_of(request, parts, request.match_info["application"])
        async with administered(parts.recorder, caller, "revoke_application", application=_named(found)) as act:
            await act.begin()
            revoked = await asyncio.to_thread(parts.pairings.revoke, found.id)
        return json_answer(_application(parts, revoked))

    return await once(request, b"", work)


def may_see(caller: Caller, application_id: str) -> bool:
    """Say whether an application is any of the caller's business."""
    return caller.origin is None or (caller.application is not None and caller.application.id == application_id)


def application_of(request: web.Request, parts: Services, named: str) -> Application:
    """Return an application by id or name. :raises SealAgentError: ``application_not_found``."""
    found = parts.pairings.find(named)
    if not may_see(request[CALLER], found.id):
        raise SealAgentError("application_not_found", "there is no such application")
    return found


def _named(application: Application) -> dict[str, Any]:
    """Return what the record keeps of an application."""
    named = {
        "id": application.id,
        "name": application.name,
        "executable": application.executable,
        "sha256": application.sha256,
    }
    return named if application.origin is None else {**named, "origin": application.origin}


def _application(parts: Services, application: Application, grants: int | None = None) -> dict[str, Any]:
    return {
        **_named(application),
        "origin": application.origin,
        "created": timestamp(application.created),
        "expires": timestamp(application.expires),
        "last_used": timestamp(application.last_used),
        "state": application.state(parts.clock()),
        "grants": len(parts.grants.list(application.id)) if grants is None else grants,
        "record": application.record,
    }


CONSENT_ERRORS = ("consent_refused", "consent_unavailable", "caller_gone", "record_failed", "callers_failed")
APPLICATION_ERRORS = ("application_not_found",)

ROUTES = (
    Route(
        "POST",
        "/v1/pairings",
        start_pairing,
        "Begin to pair the calling program; show the code",
        m.PairingOut,
        m.PairingIn,
        errors=("name_invalid", "application_name_taken", "too_many_pairings", "caller_unknown"),
    ),
    Route(
        "POST",
        "/v1/pairings/{pairing}/complete",
        complete_pairing,
        "Have the holder compare the code and agree; answers with the token",
        m.PairedOut,
        m.SecretIn,
        errors=(
            *CONSENT_ERRORS,
            *("pairing_not_found", "pairing_secret_wrong", "application_name_taken", "too_many_applications"),
            *("program_changed", "caller_unknown"),
        ),
    ),
    Route("GET", "/v1/applications", list_applications, "The paired applications", m.ApplicationsOut),
    Route(
        "GET",
        "/v1/applications/{application}",
        show_application,
        "One application, by id or name",
        m.ApplicationOut,
        errors=APPLICATION_ERRORS,
    ),
    Route(
        "PATCH",
        "/v1/applications/{application}",
        rename_application,
        "Give an application another name; the holder agrees",
        m.ApplicationOut,
        m.RenameIn,
        changes=True,
        errors=(*CONSENT_ERRORS, *APPLICATION_ERRORS, "name_invalid", "application_name_taken"),
    ),
    Route(
        "DELETE",
        "/v1/applications/{application}",
        revoke_application,
        "Revoke an application: its token and its grants end",
        m.ApplicationOut,
        changes=True,
        errors=(*APPLICATION_ERRORS, "record_failed", "callers_failed"),
    ),
)
