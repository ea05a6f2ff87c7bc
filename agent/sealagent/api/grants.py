"""Grants of paired applications over the socket: listing, giving, taking back."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Any

from aiohttp import web

from sealagent.api import messages_applications as m
from sealagent.api.answers import once
from sealagent.api.applications import APPLICATION_ERRORS, CONSENT_ERRORS, application_of, may_see
from sealagent.api.idempotency import Answer
from sealagent.api.identifying import agree
from sealagent.api.routing import CALLER, Route, json_answer, json_response, read_json, services
from sealagent.api.services import Services
from sealagent.callers.grants import is_over, require_sound
from sealagent.callers.model import DailyHours, Effect, Grant
from sealagent.callers.store import Application
from sealagent.consent.prompter import ConsentRequest, GrantTerms, Occasion
from sealagent.errors import FormatError, SealAgentError
from sealagent.signing.administration import administered
from sealagent.uses import Operation
from sealagent.verdict import timestamp

__all__ = ["ROUTES"]


async def list_grants(request: web.Request) -> web.StreamResponse:
    """``GET /v1/grants``."""
    parts, named = services(request), request.query.get("application")
    only = application_of(request, parts, named).id if named is not None else None
    held = [each for each in parts.grants.list(only) if may_see(request[CALLER], each.grantee)]
    names, seals = _names(parts), await _seal_names(parts, held)
    # Ten thousand of them take half a second, in which others want to be served.
    listed = await asyncio.to_thread(lambda: [_grant(parts, each, names, seals) for each in held])
    return json_response({"grants": listed})


async def add_grant(request: web.Request) -> web.StreamResponse:
    """``POST /v1/grants``: the holder sees all of it and agrees."""
    asked, octets = await read_json(request, m.GrantIn)
    return await once(request, octets, lambda: _give(request, asked))


async def _give(request: web.Request, asked: m.GrantIn) -> Answer:
    parts, caller = services(request), request[CALLER]
    facts = asked.model_dump(mode="json", exclude_none=True)
    async with administered(parts.recorder, caller, "grant", grant=facts) as act:
        application = _grantee(request, parts, asked.application)
        grant, terms = await _terms(parts, asked, application)
        act.facts["grant"] = {"id": grant.id, **_on_record(grant, application)}
        question = ConsentRequest("grant", Occasion(caller), application=application.name, terms=terms)
        await agree(parts.unlocker.confirm, question)
        parts.pairings.require_active(application.id)
        await act.begin()
        assert act.intent is not None
        grant = replace(grant, created=parts.clock(), record=act.intent.number)
        await asyncio.to_thread(parts.grants.add, grant)
    return json_answer(_grant(parts, grant, _names(parts), {grant.seal: terms.seal}), 201)


def _grantee(request: web.Request, parts: Services, named: str | None) -> Application:
    if named is not None:
        return parts.pairings.require_active(application_of(request, parts, named).id)
    own = request[CALLER].application
    if own is None:
        raise FormatError("request_invalid", "application: the caller is not paired itself", field="application")
    return parts.pairings.require_active(own.id)


async def _terms(parts: Services, asked: m.GrantIn, application: Application) -> tuple[Grant, GrantTerms]:
    """Return the grant that is asked for, and how it is shown.

    :raises FormatError: ``grant_invalid``. :raises SealAgentError: ``seal_not_found``, ``key_not_found``, …
    """
    allows = asked.effect == "allow"
    _check(parts, asked)
    seal = seal_name = key = key_label = None
    if asked.seal is not None:
        found = (await parts.inventory.seal(asked.seal)).seal
        seal, seal_name = found.id, found.name
    if asked.key is not None and asked.operation is Operation.MANAGE:
        token = await parts.inventory.token(asked.key)
        key, key_label = token.uri, token.label
    elif asked.key is not None:
        info = (await parts.inventory.key(asked.key)).info
        key, key_label = info.uri, info.label
    now, expires = parts.clock(), asked.expires
    if allows:
        latest = now + timedelta(days=parts.policy.current().limits.grant_days)
        expires = latest if expires is None else expires
        if expires > latest:
            raise FormatError(
                "grant_invalid", f"the policy lets grants last until {timestamp(latest)}", field="expires"
            )
    if expires is not None and expires <= now:
        raise FormatError("grant_invalid", "it would have expired already", field="expires")
    hours = None
    if asked.hours is not None:
        start, _, end = asked.hours.partition("-")
        hours = DailyHours(time.fromisoformat(start), time(0) if end == "24:00" else time.fromisoformat(end))
    grant = Grant(
        id=f"grant-{secrets.token_hex(8)}",
        grantee=application.id,
        effect=Effect.ALLOW if allows else Effect.DENY,
        operation=asked.operation,
        seal=seal,
        key=key,
        formats=asked.formats,
        remaining=asked.count,
        hours=hours,
        not_before=asked.not_before,
        expires=expires,
    )
    require_sound(grant)  # before anybody is asked
    return grant, _shown(grant, seal_name, key_label)


def _check(parts: Services, asked: m.GrantIn) -> None:
    """Refuse what would never count, or what only looks as if it were limited.

    :raises FormatError: ``grant_invalid``.
    """
    wrong = None
    if asked.formats and asked.operation is not Operation.DOCUMENT:
        wrong = "formats", "the agent knows formats of documents only"
    elif asked.seal is not None and asked.operation in (Operation.RAW, Operation.MANAGE):
        wrong = "seal", f"{asked.operation.value} uses no seal; name a key"
    elif asked.count is not None and asked.effect == "deny":
        wrong = "count", "a prohibition is not counted"
    elif asked.count is not None and asked.count > (most := parts.policy.current().limits.grant_count):
        wrong = "count", f"the policy lets grants count up to {most}"
    else:
        for field, moment in (("not_before", asked.not_before), ("expires", asked.expires)):
            if moment is not None and moment.tzinfo is None:
                wrong = field, "give the time with its zone"
    if wrong is not None:
        raise FormatError("grant_invalid", f"{wrong[0]}: {wrong[1]}", field=wrong[0])


async def revoke_grant(request: web.Request) -> web.StreamResponse:
    """``DELETE /v1/grants/{grant}``: a prohibition ends only with the holder's consent."""
    parts, caller = services(request), request[CALLER]
    named = request.match_info["grant"]

    async def work() -> Answer:
        async with administered(parts.recorder, caller, "ungrant", grant={"id": named}) as act:
            grant = parts.grants.get(named)
            if not may_see(caller, grant.grantee):
                raise SealAgentError("grant_not_found", "there is no such grant")
            names, seals = _names(parts), await _seal_names(parts, [grant])
            application = parts.pairings.get(grant.grantee) if grant.grantee in names else None
            act.facts["grant"] = {"id": named, **_on_record(grant, application)}
            if grant.effect is Effect.DENY:
                terms = _shown(grant, seals.get(grant.seal) or grant.seal, grant.key)
                question = ConsentRequest(
                    "ungrant", Occasion(caller), application=names.get(grant.grantee), terms=terms
                )
                await agree(parts.unlocker.confirm, question)
            await act.begin()
            await asyncio.to_thread(parts.grants.revoke, named)
        return json_answer(_grant(parts, grant, names, seals))

    return await once(request, b"", work)


def _shown(grant: Grant, seal: str | None, key: str | None) -> GrantTerms:
    return GrantTerms(
        forbids=grant.effect is Effect.DENY,
        operation=grant.operation,
        seal=seal,
        key=key,
        formats=grant.formats,
        count=grant.remaining,
        not_before=_local(grant.not_before),
        expires=_local(grant.expires),
        hours=_hours(grant.hours),
    )


def _local(moment: datetime | None) -> str | None:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}" if moment is not None else None


def _hours(hours: DailyHours | None) -> str | None:
    if hours is None:
        return None
    return f"{hours.start:%H:%M}-{'24:00' if hours.end == time(0) else f'{hours.end:%H:%M}'}"


def _names(parts: Services) -> dict[str, str]:
    return {each.id: each.name for each in parts.pairings.list()}


async def _seal_names(parts: Services, grants: list[Grant]) -> dict[str | None, str | None]:
    """Return names of seals that are in reach, by id; devices are not looked at for nothing."""
    if not any(grant.seal for grant in grants):
        return {}
    return {found.seal.id: found.seal.name for found in (await parts.inventory.snapshot()).seals.values()}


def _on_record(grant: Grant, application: Application | None) -> dict[str, Any]:
    """Return what the record keeps of a grant."""
    facts = {
        "application": application.id if application else grant.grantee,
        "name": application.name if application else None,
        "for": grant.operation.value,
        "effect": grant.effect.value,
        "seal": grant.seal,
        "key": grant.key,
        "formats": list(grant.formats) or None,
        "count": grant.remaining,
        "hours": _hours(grant.hours),
        "not_before": timestamp(grant.not_before),
        "expires": timestamp(grant.expires),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _grant(parts: Services, grant: Grant, names: dict[str, str], seals: dict[str | None, str | None]) -> dict[str, Any]:
    now = parts.clock()
    waiting = grant.not_before is not None and now < grant.not_before
    over = "spent" if grant.remaining == 0 else "expired"
    return {
        "id": grant.id,
        "application": grant.grantee,
        "name": names.get(grant.grantee),
        "operation": grant.operation.value,
        "effect": grant.effect.value,
        "seal": grant.seal,
        "seal_name": seals.get(grant.seal) if grant.seal else None,
        "key": grant.key,
        "formats": list(grant.formats),
        "remaining": grant.remaining,
        "hours": _hours(grant.hours),
        "not_before": timestamp(grant.not_before),
        "expires": timestamp(grant.expires),
        "session": grant.session[0] if grant.session else None,
        "created": timestamp(grant.created),
        "state": over if is_over(grant, now) else "waiting" if waiting else "active",
        "record": grant.record,
    }


ROUTES = (
    Route(
        "GET",
        "/v1/grants",
        list_grants,
        "What applications may do without asking, and what they may not",
        m.GrantsOut,
        errors=APPLICATION_ERRORS,
        query=(("application", "string", "only of this one: id or name"),),
    ),
    Route(
        "POST",
        "/v1/grants",
        add_grant,
        "Allow an application something, or forbid it; the holder agrees",
        m.GrantOut,
        m.GrantIn,
        changes=True,
        errors=(
            *CONSENT_ERRORS,
            *APPLICATION_ERRORS,
            *("grant_invalid", "too_many_grants", "seal_not_found", "seal_ambiguous", "key_not_found"),
            "token_not_found",
        ),
    ),
    Route(
        "DELETE",
        "/v1/grants/{grant}",
        revoke_grant,
        "Take a grant back; a prohibition only with the holder's consent",
        m.GrantOut,
        changes=True,
        errors=(*CONSENT_ERRORS, "grant_not_found"),
    ),
)
