"""Unlocking tokens: who asks the holder, for whom and how long it holds, and that no PIN try is ever spent by itself.

Each caller has a window of its own. A caller without one is asked for the PIN although the token is logged in for
another: the token is logged out and in again with what was entered, since a token that is logged in tells nobody
whether a PIN is right. A PIN that was typed for one caller so never serves another.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from sealagent.callers.peer import Caller
from sealagent.clock import Clock
from sealagent.consent.prompter import Consent, ConsentRequest, Occasion, Prompter, RequestingProgram, nobody_to_ask
from sealagent.errors import SealAgentError
from sealagent.events import Event, Publish
from sealagent.signing.pins import Begin, EnteredPin, Pins
from sealagent.signing.prompts import Gone, Prompts
from sealagent.signing.windows import Windows
from sealdrivers.contract import TokenInfo, TokenService
from sealdrivers.errors import LoginRequired

__all__ = ["EnteredPin", "Unlocked", "Unlocker"]


@dataclass(frozen=True, slots=True)
class Unlocked:
    """How a token came to be unlocked for a block."""

    by: Literal["window", "pin", "device", "none"]
    """It was already; by a PIN that was entered here, or on the device; it needs no PIN."""
    consent: Consent | None
    """What the holder agreed to; None: nobody was asked. A PIN that a person typed is consent to what was shown."""
    session: int
    """Number of the token's session. Another one (:meth:`Unlocker.session`) means that it was locked meanwhile."""


@dataclass(slots=True)
class _Known:
    """What is known of one token."""

    windows: Windows
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held from a prompt for the PIN to the end of its login: one at a time."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a login comes or goes; no block begins meanwhile."""
    held: bool = False
    """It was logged in by us and not yet out again."""
    unused: asyncio.Event = field(default_factory=asyncio.Event)
    inside: Counter[object] = field(default_factory=Counter)
    """Tasks that run a block, and how many of them within each other."""

    def __post_init__(self) -> None:
        self.unused.set()


def _unheard(token_uri: str) -> None:
    """Nobody keeps anything for a session."""


class Unlocker:
    """Keeps for whom and how long tokens stay unlocked, and asks for PINs, one at a time for each token.

    The PIN itself is never kept: it goes to the device and is wiped. Whether a token is logged in is the token
    service's to know.

    :param idle_seconds: a caller that does not use a token so long has to enter the PIN again; 0: each time.
    :param absolute_seconds: so it has to this long after it was entered, used or not.
    :param ended: told of a token whose session ends, at that moment.
    :param gone: returns when a caller's process has ended, which withdraws its prompts.
    """

    def __init__(
        self,
        tokens: TokenService,
        prompter: Prompter,
        clock: Clock,
        publish: Publish,
        *,
        idle_seconds: float,
        absolute_seconds: float,
        ended: Callable[[str], None] = _unheard,
        gone: Gone | None = None,
    ) -> None:
        self._tokens = tokens
        self._prompter = prompter
        self._clock = clock
        self._publish = publish
        self._idle = idle_seconds
        self._absolute = absolute_seconds
        self._ended = ended
        self._prompts = Prompts() if gone is None else Prompts(gone)
        self._pins = Pins(tokens, prompter, publish, self._prompts)
        self._tokens_known: dict[str, _Known] = {}
        self._unlocked = asyncio.Event()
        """Set while a token is logged in, as far as nobody has locked it."""

    @property
    def person(self) -> bool:
        """Whether a person answers the prompts."""
        return self._prompter.person

    def session(self, token_uri: str) -> int:
        """Return the number of the token's session; it rises when the token is locked or pulled."""
        return self._known(token_uri).windows.session

    def is_unlocked(self, token_uri: str) -> bool:
        """Say whether a caller may use the token now without being asked for the PIN."""
        known = self._tokens_known.get(token_uri)
        return known is not None and self._tokens.logged_in(token_uri) and known.windows.any_open(self._now())

    async def lock(self, token_uri: str) -> None:
        """Close every window of the token, in use or not, and log out of it."""
        known = self._known(token_uri)
        self._end(token_uri, known)
        await self._log_out(token_uri, known)

    async def lock_all(self) -> None:
        """Lock every token, in use or not, all at once.

        :raises DriverError: of one that could not be; call it again.
        """
        for token_uri, known in self._tokens_known.items():
            self._end(token_uri, known)
        held = [(token_uri, known) for token_uri, known in self._tokens_known.items() if known.held]
        outcomes = await asyncio.gather(*(self._log_out(*each) for each in held), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def lock_expired(self) -> None:
        """Lock every token whose last window ended and that nobody uses; called while one is unlocked."""
        for token_uri, known in list(self._tokens_known.items()):
            unused = not known.windows.users and not known.turn.locked()
            if known.held and unused and not self.is_unlocked(token_uri):
                await self.lock(token_uri)

    async def something_unlocked(self) -> None:
        """Return when a token is unlocked; while none is, nothing has to be watched."""
        await self._unlocked.wait()

    def removed(self, token_uri: str) -> None:
        """Take note that a token was pulled, and is logged out by that."""
        known = self._known(token_uri)
        self._end(token_uri, known)
        if known.held:
            self._let_go(known)
            self._publish(Event("token_locked", {"token": token_uri}))

    def close(self) -> None:
        """End every prompt, and ask no more."""
        self._prompts.close()

    async def confirm(self, request: ConsentRequest) -> Consent:
        """Ask for consent; the end of the agent or of the caller ends the prompt.

        :raises SealAgentError: ``caller_gone``, ``agent_stopping``, and those of :meth:`Prompter.confirm`.
        """
        caller = request.occasion.caller
        async with self._prompts.open(caller):
            self._publish(Event("consent_asked", {"question": request.question}))
            consent = await self._prompter.confirm(request)
        if consent is Consent.NO:
            self._prompts.refused(caller)
        return consent

    @asynccontextmanager
    async def unlocked(
        self, token: TokenInfo, occasion: Occasion, *, ask: bool = False, offer_session: bool = False
    ) -> AsyncIterator[Unlocked]:
        """Keep the token unlocked for the occasion's caller while the block runs, after asking for the PIN if need be.

        Time that runs out meanwhile locks the token after the block. A block within another of the same task finds it
        unlocked.

        :param ask: the holder has to agree. A PIN that is typed below what is shown of the occasion says so; where none
            is, the question is asked.
        :param offer_session: offer to agree to all like it until the token is locked.
        :raises PinIncorrect: one try was spent; the next call asks anew. Whoever else had the token unlocked has to ask
            anew, too. :raises PinLocked: nothing was asked. :raises LoginRequired: it was locked by now.
        :raises SealAgentError: the prompt was cancelled or impossible; ``pin_last_try``: the holder did not confirm
            that the last try may be spent; ``consent_refused``, ``consent_unavailable``, ``caller_gone``,
            ``agent_stopping``.
        """
        known, caller, task = self._known(token.uri), self._window_of(occasion.caller), asyncio.current_task()
        question = _question(token, occasion, offer_session) if ask else None
        entered = await self._entered(known, token, caller, occasion, question)
        known.inside[task] += 1
        try:
            yield entered
        finally:
            known.inside[task] -= 1
            if not known.inside[task]:
                del known.inside[task]
            known.windows.leave(caller, self._now())
            if not known.windows.users:
                known.unused.set()

    @asynccontextmanager
    async def pin_for_signature(
        self, token: TokenInfo, occasion: Occasion, *, ask: bool = False, offer_session: bool = False
    ) -> AsyncIterator[EnteredPin]:
        """Ask for the PIN for one signature of a key that always authenticates; it is wiped when the block ends.

        A block that raises :class:`PinIncorrect` has spent a try, and the same stored PIN is not offered again.

        :param ask: as for :meth:`unlocked`; the answer is in :attr:`EnteredPin.consent`.
        """
        present = await self._pins.present(token.uri)
        consent = None
        if ask and (present.protected_authentication_path or not self.person):
            consent = await self._agreed(_question(present, occasion, offer_session))
        async with self._pins.entered(present, occasion) as entered:
            yield entered if consent is None else EnteredPin(entered.pin, entered.confirmed_last_try, consent)

    async def change_pin(self, token: TokenInfo, occasion: Occasion, begin: Begin | None = None) -> None:
        """Ask for the old PIN and twice for the new one, and change it on the token; see :meth:`Pins.change`."""
        known = self._known(token.uri)
        async with known.asking:
            await self._pins.change(token.uri, occasion, begin, known.turn)

    async def unblock_pin(self, token: TokenInfo, occasion: Occasion, begin: Begin | None = None) -> None:
        """Ask for the administrator's PIN and twice for a new one of the user, which it sets; the token is locked then.

        See :meth:`Pins.unblock`.
        """
        known = self._known(token.uri)
        async with known.asking:
            await self._pins.unblock(token.uri, occasion, begin, self._locked(known, token.uri))

    # Ways in

    async def _entered(
        self, known: _Known, token: TokenInfo, caller: str | None, occasion: Occasion, question: ConsentRequest | None
    ) -> Unlocked:
        """Begin a block: find the token unlocked for the caller, or unlock it."""
        if question is not None and not self.person:
            await self._agreed(question)
        if known.inside[asyncio.current_task()]:
            return await self._entered_within(known, token, caller, question)
        if not token.login_required:
            consent = await self._agreed(question) if question else None
            return self._enter(known, caller, "none", consent)
        while True:
            if self._open(known, token.uri, caller):
                session = known.windows.session
                consent = await self._agreed(question) if question else None
                async with known.turn:  # the window may have ended while the holder thought
                    if self._open(known, token.uri, caller) and known.windows.session == session:
                        return self._enter(known, caller, "window", consent)
            else:
                async with known.asking:
                    # Another request of the caller may have unlocked it meanwhile.
                    if not self._open(known, token.uri, caller):
                        return await self._unlock(known, token.uri, caller, occasion, question)

    async def _entered_within(
        self, known: _Known, token: TokenInfo, caller: str | None, question: ConsentRequest | None
    ) -> Unlocked:
        """Begin a block within another. Waiting for the token to be free would be waiting for oneself."""
        session = known.windows.session
        consent = await self._agreed(question) if question else None
        if token.login_required and not (self._tokens.logged_in(token.uri) and known.windows.session == session):
            raise LoginRequired("the token was locked meanwhile")
        return self._enter(known, caller, "window" if token.login_required else "none", consent)

    async def _unlock(
        self, known: _Known, token_uri: str, caller: str | None, occasion: Occasion, question: ConsentRequest | None
    ) -> Unlocked:
        """Ask for the PIN, then log in with it; other callers go on with theirs meanwhile."""
        if known.held and not self.is_unlocked(token_uri):
            await known.unused.wait()
            await self.lock(token_uri)
        present = await self._pins.present(token_uri)
        on_device = present.protected_authentication_path
        consent = await self._agreed(question) if on_device and question else None
        async with self._pins.entered(present, occasion) as entered:
            session = known.windows.session
            async with known.turn:
                async with self._prompts.open(occasion.caller):
                    await known.unused.wait()
                await self._log_in(known, token_uri, entered, session)
                known.held = True
                self._unlocked.set()
                if not self.person or _lasting(occasion.caller):
                    known.windows.opened(caller, self._now())
                unlocked = self._enter(known, caller, "device" if on_device else "pin", consent or entered.consent)
        self._pins.accepted(token_uri)
        self._publish(Event("token_unlocked", {"token": token_uri}))
        if present.pin.factory_pin:
            self._publish(Event("factory_pin", {"token": token_uri}))
        return unlocked

    async def _log_in(self, known: _Known, token_uri: str, entered: EnteredPin, session: int) -> None:
        """Log in, out of what was there before; whatever goes wrong leaves the token locked for everybody.

        :param session: in which the PIN was entered; should it have ended, the token stays locked.
        """
        try:
            if known.held:
                await self._tokens.logout(token_uri)
            _same(known, session)
            await self._tokens.login(token_uri, entered.pin, confirmed_last_try=entered.confirmed_last_try)
            _same(known, session)
        except BaseException:
            if known.held or known.windows.session != session:
                await self.lock(token_uri)
            raise

    def _enter(
        self,
        known: _Known,
        caller: str | None,
        by: Literal["window", "pin", "device", "none"],
        consent: Consent | None,
    ) -> Unlocked:
        known.windows.enter(caller)
        known.unused.clear()
        return Unlocked(by, consent, known.windows.session)

    async def _agreed(self, question: ConsentRequest) -> Consent:
        """Have the holder agree. :raises SealAgentError: ``consent_refused``, and those of :meth:`confirm`."""
        consent = await self.confirm(question)
        if not self.person:
            raise nobody_to_ask("a program answers for the holder")
        if consent is Consent.NO:
            raise SealAgentError("consent_refused", "the holder did not agree")
        return consent

    # Ways out

    @asynccontextmanager
    async def _locked(self, known: _Known, token_uri: str) -> AsyncIterator[None]:
        """Keep the token locked while the block runs, once nobody uses it."""
        async with known.turn:
            if known.held:
                await known.unused.wait()
                await self.lock(token_uri)
            yield

    def _end(self, token_uri: str, known: _Known) -> None:
        known.windows.end()
        self._ended(token_uri)

    async def _log_out(self, token_uri: str, known: _Known) -> None:
        await self._tokens.logout(token_uri)
        self._let_go(known)
        self._publish(Event("token_locked", {"token": token_uri}))

    def _let_go(self, known: _Known) -> None:
        known.held = False
        if not any(each.held for each in self._tokens_known.values()):
            self._unlocked.clear()

    # What is known

    def _window_of(self, caller: RequestingProgram | None) -> str | None:
        """Return whose window a caller uses. A stored PIN is asked for nobody's sake: one window serves all."""
        return _window_of(caller) if self.person else None

    def _now(self) -> float:
        return self._clock().timestamp()

    def _known(self, token_uri: str) -> _Known:
        known = self._tokens_known.get(token_uri)
        if known is None:
            known = self._tokens_known[token_uri] = _Known(Windows(self._idle, self._absolute))
        return known

    def _open(self, known: _Known, token_uri: str, caller: str | None) -> bool:
        return self._tokens.logged_in(token_uri) and known.windows.is_open(caller, self._now())


def _window_of(caller: RequestingProgram | None) -> str | None:
    """Return whose window a caller uses: its application's, or its process's; None: this program's own."""
    if caller is None:
        return None
    if isinstance(caller, Caller):
        return caller.application.id if caller.application else caller.process
    return f"process:{caller.pid}"


def _lasting(caller: RequestingProgram | None) -> bool:
    """Say whether a caller will be known again. One that cannot be told from a later process is asked each time."""
    if isinstance(caller, Caller):
        return caller.application is not None or caller.started is not None
    return caller is None


def _question(token: TokenInfo, occasion: Occasion, offer_session: bool) -> ConsentRequest:
    return ConsentRequest("use", occasion, token.label, token.serial, offer_session=offer_session)


def _same(known: _Known, session: int) -> None:
    if known.windows.session != session:
        raise SealAgentError("locked_meanwhile", "the token was locked after the PIN was entered; nothing was done")
