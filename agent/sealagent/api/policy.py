"""Why a request would be allowed or refused, over the socket. Nothing is spent, asked or put on record by it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from aiohttp import web

from sealagent.api.messages_policy import ExplainedCallerOut, ExplainedUseOut, ExplainIn, ExplanationOut
from sealagent.api.routing import CALLER, Route, json_response, read_json, services
from sealagent.api.services import Services
from sealagent.callers.decide import explain
from sealagent.callers.model import Paired
from sealagent.callers.peer import Caller
from sealagent.callers.store import Application
from sealagent.errors import FormatError
from sealagent.uses import Operation, Use
from sealagent.verdict import timestamp

__all__ = ["ROUTES"]


async def explain_policy(request: web.Request) -> web.StreamResponse:
    """``POST /v1/policy/explain``."""
    asked, _ = await read_json(request, ExplainIn)
    parts = services(request)
    use = await _use(parts, asked)
    caller = _caller(parts, asked) if asked.names_somebody else request[CALLER]
    at = asked.at or parts.clock()
    # With ten thousand rules this takes tens of milliseconds.
    found = await asyncio.to_thread(explain, parts.policy.current(), parts.grants, caller, use, at)
    return json_response(
        {
            "decision": found.decision.as_json(),
            "steps": [asdict(step) for step in found.steps],
            "policy": str(parts.policy.path) if parts.policy.path else None,
            "caller": _shown(caller).model_dump(),
            "use": ExplainedUseOut(
                operation=use.operation, key=use.key or None, seal=use.seal, format=use.format, count=use.count
            ).model_dump(mode="json"),
            "at": timestamp(at),
        }
    )


async def _use(parts: Services, asked: ExplainIn) -> Use:
    """Return the use that is meant.

    :raises FormatError: ``request_invalid``: not what this operation needs.
    :raises SealAgentError: ``seal_not_found``, ``seal_ambiguous``, ``key_not_found``. :raises TokenNotFound:
    """
    needed = {Operation.DOCUMENT: "seal", Operation.DIGEST: "seal", Operation.RAW: "key", Operation.MANAGE: "token"}
    field = needed[asked.operation]
    for name in ("seal", "key", "token"):
        if (getattr(asked, name) is None) is (name == field):
            wrong = "is needed" if name == field else "is not used"
            raise FormatError("request_invalid", f"{name} {wrong} for {asked.operation.value}", field=name)
    if asked.format is not None and asked.operation is not Operation.DOCUMENT:
        raise FormatError("request_invalid", "only documents have a format that the agent knows", field="format")
    if asked.seal is not None:
        found = await parts.inventory.seal(asked.seal)
        key, token = (found.key.info.uri, found.key.token.uri) if found.key else ("", "")
        form = (asked.format or "ofd") if asked.operation is Operation.DOCUMENT else None
        names = (found.seal.es_id, found.seal.name)
        return Use(asked.operation, key, token, found.seal.id, names, form, asked.count)
    if asked.key is not None:
        held = await parts.inventory.key(asked.key)
        return Use(asked.operation, held.info.uri, held.token.uri, count=asked.count)
    uri = (await parts.inventory.token(asked.token or "")).uri
    return Use(asked.operation, uri, uri, count=asked.count)


def _caller(parts: Services, asked: ExplainIn) -> Caller:
    """Return a caller that might be: of an application what was paired, of others no more than was said.

    :raises SealAgentError: ``application_not_found``: there is none, or its pairing counts no more.
    """
    found = _application(parts, asked.application) if asked.application else None
    return Caller(
        parts.owner_uid,
        0,
        0,
        asked.executable or (found.executable if found else None),
        None,
        sha256=asked.sha256 or (found.sha256 if found else None),
        parent=asked.parent,
        origin=asked.origin or (found.origin if found else None),
        application=Paired(found.id, found.name) if found else None,
    )


def _application(parts: Services, named: str) -> Application:
    active = (each for each in parts.pairings.list() if each.name == named and each.state(parts.clock()) == "active")
    return parts.pairings.require_active(next((each.id for each in active), named))


def _shown(caller: Caller) -> ExplainedCallerOut:
    return ExplainedCallerOut(
        executable=caller.executable,
        sha256=caller.sha256,
        parent=caller.parent,
        application=caller.application.id if caller.application else None,
        origin=caller.origin,
    )


ROUTES = (
    Route(
        "POST",
        "/v1/policy/explain",
        explain_policy,
        "Why a request would be allowed or refused; nothing is spent or asked",
        ExplanationOut,
        ExplainIn,
        errors=(
            "policy_invalid",
            "seal_not_found",
            "seal_ambiguous",
            "key_not_found",
            "token_not_found",
            "application_not_found",
        ),
    ),
)
