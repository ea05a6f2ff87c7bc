"""Which paired application a caller is: the token it presents, its program, and the holder's word where that changed.

Every listener uses the same :class:`Identifier`; it stands after the caller's process is known and before any route.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from aiohttp import web

from sealagent.callers.model import Paired
from sealagent.callers.pairings import Pairings, ProgramChanged
from sealagent.callers.peer import Caller
from sealagent.callers.store import Application
from sealagent.consent.prompter import Consent, ConsentRequest, Occasion
from sealagent.errors import SealAgentError
from sealagent.signing.administration import administered
from sealagent.signing.recording import Recorder

__all__ = ["IDENTIFY", "Ask", "Identifier", "agree", "bearer", "with_application"]

log = logging.getLogger(__name__)

Ask = Callable[[ConsentRequest], Awaitable[Consent]]
"""Asks the holder; the end of the caller or of the agent ends the prompt."""

MAX_NOTED = 1024
"""Processes whose misuse of a token is on record already; each is put there once."""

_BEARER = re.compile(r"Bearer +([A-Za-z0-9._~+/-]{1,128}=*)", re.IGNORECASE)  # RFC 6750 §2.1


def bearer(values: Sequence[str]) -> str:
    """Return the token of the ``Authorization`` fields of a request.

    :raises SealAgentError: ``token_invalid``: there are several, or it is of another scheme.
    """
    found = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    if found is None:
        raise SealAgentError("token_invalid", "Authorization must be there once, and of the form: Bearer TOKEN")
    return found[1]


async def agree(ask: Ask, request: ConsentRequest) -> None:
    """Have the holder agree. :raises SealAgentError: ``consent_refused``, and those of the prompter."""
    if await ask(request) is not Consent.ONCE:
        raise SealAgentError("consent_refused", "the holder did not agree")


async def with_application(request: web.Request, caller: Caller) -> Caller:
    """Return the caller as the application whose token it presents; without a token it stays unpaired.

    :raises SealAgentError: those of :class:`Identifier`.
    """
    values = request.headers.getall("Authorization", [])
    return await request.app[IDENTIFY](caller, bearer(values)) if values else caller


class Identifier:
    """Completes callers.

    :param describe: fills in what is known of the caller's program.
    """

    def __init__(
        self,
        describe: Callable[[Caller], Awaitable[Caller]],
        pairings: Pairings,
        ask: Ask,
        recorder: Recorder,
    ) -> None:
        self._describe = describe
        self._pairings = pairings
        self._ask = ask
        self._recorder = recorder
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One question an application at a time."""
        self._noted: dict[tuple[str, str], None] = {}

    async def __call__(self, caller: Caller, token: str | None) -> Caller:
        """Return the caller with the digest of its program and, with a token, the application that it is.

        :raises SealAgentError: ``token_invalid``, ``pairing_expired``, ``pairing_revoked``, ``token_misused`` (on
            record), ``caller_unknown``; ``program_changed``, ``consent_refused``, ``consent_unavailable`` and other
            errors of a prompt: its program changed, and the holder did not say that it is still the application's.
        """
        caller = await self._describe(caller)
        if token is None:
            return caller
        paired = await self._paired(caller, token)
        if self._pairings.unwritten:
            await self._note_uses()
        return replace(caller, application=paired)

    async def _paired(self, caller: Caller, token: str) -> Paired:
        try:
            return self._pairings.identify(caller, token)
        except ProgramChanged as changed:
            if changed.known_no:
                raise
            async with self._turns[changed.application.id]:
                return await self._ask_about_program(caller, token)
        except SealAgentError as error:
            if error.code == "token_misused":
                await self._note_misuse(caller, error)
            raise

    async def _ask_about_program(self, caller: Caller, token: str) -> Paired:
        try:
            return self._pairings.identify(caller, token)  # the holder may have been asked while this one waited
        except ProgramChanged as changed:
            if changed.known_no:
                raise
            application = changed.application
        sha256 = caller.sha256
        assert sha256 is not None  # or it would not have been identified
        facts = {"id": application.id, "name": application.name}
        program = {"executable": application.executable, "before": application.sha256, "now": sha256}
        async with (
            administered(self._recorder, caller, "accept_program", application=facts, program=program) as act,
            self._remembering(application, sha256),
        ):
            await agree(self._ask, ConsentRequest("changed", Occasion(caller), application=application.name))
            await act.begin()
            await asyncio.to_thread(self._pairings.accept_program, application.id, sha256)
        return self._pairings.identify(caller, token)

    @asynccontextmanager
    async def _remembering(self, application: Application, sha256: str) -> AsyncIterator[None]:
        """Take note of the holder's no."""
        try:
            yield
        except SealAgentError as error:
            if error.code == "consent_refused":
                self._pairings.refuse_program(application.id, sha256)
            raise

    async def _note_misuse(self, caller: Caller, error: SealAgentError) -> None:
        """Put it on record that a token was presented by another program; once for each process."""
        application = str(error.facts["application"])
        if (application, caller.process) in self._noted:
            return
        while len(self._noted) >= MAX_NOTED:
            self._noted.pop(next(iter(self._noted)))
        self._noted[(application, caller.process)] = None
        await self._recorder.refused(caller, {"operation": "identify", "application": {"id": application}}, error)

    async def _note_uses(self) -> None:
        try:
            await asyncio.to_thread(self._pairings.note_uses)
        except SealAgentError as error:
            log.warning("when applications were here last is not kept: %s", error.message)


IDENTIFY: web.AppKey[Identifier] = web.AppKey("identify", Identifier)
"""The one of the application."""
