"""Unlocking tokens: who asks the holder, how long it holds, and that no PIN try is ever spent by itself.

The last try of a PIN is spent only after the holder has said so: the counter is looked at before the prompt, and read
once more by the driver right before the PIN goes to the device.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sealagent.clock import Clock
from sealagent.consent.prompter import (
    Occasion,
    PinRequest,
    Prompter,
    Purpose,
    ask_new_pin,
    report_rejected,
    wipe,
)
from sealagent.errors import SealAgentError
from sealagent.events import Event, Publish
from sealdrivers.contract import TokenInfo, TokenService
from sealdrivers.errors import AdminPinIncorrect, AdminPinLocked, PinIncorrect, PinLocked, PinRejected, TokenNotFound

__all__ = ["EnteredPin", "Unlocker"]


Begin = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class EnteredPin:
    """A PIN for one signature."""

    pin: bytearray | None = field(repr=False)
    """None where it is entered on the device."""
    confirmed_last_try: bool = False
    """The holder allows its last try to be spent."""


@dataclass(slots=True)
class _Known:
    """What is known of one token."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the token is being unlocked: one prompt for all who wait."""
    unlocked: float | None = None
    """When the PIN was entered; None: not since the token was locked."""
    used: float = 0.0
    users: int = 0
    """Requests that need it unlocked at this moment."""
    unused: asyncio.Event = field(default_factory=asyncio.Event)
    wrong: bool = False
    """The PIN entered last was wrong."""
    admin_wrong: bool = False
    """So was the administrator's."""

    def __post_init__(self) -> None:
        self.unused.set()

    def enter(self) -> None:
        self.users += 1
        self.unused.clear()

    def leave(self, now: float) -> None:
        self.users -= 1
        self.used = now
        if not self.users:
            self.unused.set()


class Unlocker:
    """Keeps how long tokens stay unlocked and asks for PINs, one prompt a token at a time.

    The PIN itself is never kept: it goes to the device and is wiped. Whether a token is logged in is the token
    service's to know.

    :param idle_seconds: a token unused this long is locked; 0 asks each time.
    :param absolute_seconds: a token is locked this long after its PIN was entered, used or not.
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
    ) -> None:
        self._tokens = tokens
        self._prompter = prompter
        self._clock = clock
        self._publish = publish
        self._idle = idle_seconds
        self._absolute = absolute_seconds
        self._known: defaultdict[str, _Known] = defaultdict(_Known)
        self._unlocked = asyncio.Event()
        """Set while a token is unlocked, as far as nobody has locked it."""
        self._prompts: set[asyncio.Timeout] = set()
        self._closed = False

    def _now(self) -> float:
        return self._clock().timestamp()

    def is_unlocked(self, token_uri: str) -> bool:
        """Say whether the token may be used now without asking."""
        known = self._known.get(token_uri)
        if known is None or known.unlocked is None or not self._tokens.logged_in(token_uri):
            return False
        now = self._now()
        # A clock that was set back ends it, too.
        return 0 <= now - known.used < self._idle and 0 <= now - known.unlocked < self._absolute

    async def lock(self, token_uri: str) -> None:
        """Log out of the token."""
        self._known[token_uri].unlocked = None
        if all(known.unlocked is None for known in self._known.values()):
            self._unlocked.clear()
        await self._tokens.logout(token_uri)
        self._publish(Event("token_locked", {"token": token_uri}))

    async def something_unlocked(self) -> None:
        """Return when a token is unlocked; while none is, nothing has to be watched."""
        await self._unlocked.wait()

    async def lock_all(self) -> None:
        """Log out of every token, in use or not."""
        for token_uri, known in list(self._known.items()):
            if known.unlocked is not None:
                await self.lock(token_uri)

    async def lock_expired(self) -> None:
        """Log out of every token whose time is over and that nobody uses; called while one is unlocked."""
        for token_uri, known in list(self._known.items()):
            if known.unlocked is not None and not known.users and not self.is_unlocked(token_uri):
                await self.lock(token_uri)

    def close(self) -> None:
        """End every prompt, and ask no more."""
        self._closed = True
        for limit in self._prompts:
            limit.reschedule(0)

    @asynccontextmanager
    async def unlocked(self, token: TokenInfo, occasion: Occasion) -> AsyncIterator[None]:
        """Keep the token unlocked while the block runs, after asking for the PIN if need be.

        Time that runs out meanwhile locks the token after the block.

        :raises PinIncorrect: one try was spent; the next call asks anew.
        :raises PinLocked: nothing was asked. :raises SealAgentError: the prompt was cancelled or impossible, or
            ``pin_last_try``: the holder did not confirm that the last try may be spent.
        """
        known = self._known[token.uri]
        async with known.turn:
            if token.login_required and not self.is_unlocked(token.uri):
                await self._unlock(token.uri, known, occasion)
            known.enter()
        try:
            yield
        finally:
            known.leave(self._now())

    @asynccontextmanager
    async def pin_for_signature(self, token: TokenInfo, occasion: Occasion) -> AsyncIterator[EnteredPin]:
        """Ask for the PIN for one signature of a key that always authenticates; it is wiped when the block ends.

        A block that raises :class:`PinIncorrect` has spent a try, and the same stored PIN is not offered again.
        """
        present = await self._present(token.uri)
        request = self._request(present, occasion, "unlock")
        pin = bytearray()
        try:
            async with self._asked(present, request):
                confirmed = await self._confirmed(request)
                if not present.protected_authentication_path:
                    pin = await self._prompter.ask_pin(request)
            yield EnteredPin(None if present.protected_authentication_path else pin, confirmed)
        except PinIncorrect:
            self._rejected(token.uri, request)
            raise
        finally:
            wipe(pin)

    async def _unlock(self, token_uri: str, known: _Known, occasion: Occasion) -> None:
        if known.unlocked is not None:
            await known.unused.wait()
            await self.lock(token_uri)
        token = await self._present(token_uri)
        request = self._request(token, occasion, "unlock")
        pin = bytearray()
        try:
            async with self._asked(token, request):
                confirmed = await self._confirmed(request)
                if not token.protected_authentication_path:
                    pin = await self._prompter.ask_pin(request)
            offered = None if token.protected_authentication_path else pin
            await self._tokens.login(token_uri, offered, confirmed_last_try=confirmed)
        except PinIncorrect:
            self._rejected(token_uri, request)
            raise
        finally:
            wipe(pin)
        known.wrong = False
        known.unlocked = known.used = self._now()
        self._unlocked.set()
        self._publish(Event("token_unlocked", {"token": token_uri}))
        if token.pin.factory_pin:
            self._publish(Event("factory_pin", {"token": token_uri}))

    async def change_pin(self, token: TokenInfo, occasion: Occasion, begin: Begin | None = None) -> None:
        """Ask for the old PIN and twice for the new one, and change it on the token.

        :param begin: called when everything was entered, right before the token is asked to change.
        :raises PinIncorrect: the old PIN was wrong, nothing changed.
        :raises SealAgentError: ``pin_mismatch``; ``not_supported``: the token has keys of its own for that.
        """
        known = self._known[token.uri]
        async with known.turn:
            present = await self._present(token.uri)
            if present.protected_authentication_path:
                raise SealAgentError(
                    "not_supported", "a PIN that is entered on the device is changed with its own tool"
                )
            request = self._request(present, occasion, "change_old")
            old, new = bytearray(), bytearray()
            try:
                async with self._asked(present, request):
                    confirmed = await self._confirmed(request)
                    old = await self._prompter.ask_pin(request)
                    new = await ask_new_pin(self._prompter, request)
                if begin is not None:
                    await begin()
                await self._tokens.change_pin(present.uri, old, new, confirmed_last_try=confirmed)
            except PinIncorrect:
                self._rejected(token.uri, request)
                raise
            finally:
                wipe(old)
                wipe(new)
            known.wrong = False

    async def unblock_pin(self, token: TokenInfo, occasion: Occasion, begin: Begin | None = None) -> None:
        """Ask for the administrator's PIN and twice for a new one of the user, which it sets; the token is locked then.

        :param begin: as for :meth:`change_pin`.
        :raises AdminPinIncorrect: one try of the administrator's PIN was spent, nothing changed.
        :raises AdminPinLocked: nothing was asked.
        :raises SealAgentError: ``pin_mismatch``, ``pin_last_try``; ``not_supported``: the token takes PINs on itself.
        """
        known = self._known[token.uri]
        async with known.turn:
            present = await self._present(token.uri)
            if present.protected_authentication_path:
                raise SealAgentError(
                    "not_supported", "a PIN that is entered on the device is unblocked with its own tool"
                )
            request = self._request(present, occasion, "unblock_admin")
            admin, new = bytearray(), bytearray()
            try:
                async with self._asked(present, request):
                    confirmed = await self._confirmed(request)
                    admin = await self._prompter.ask_pin(request)
                    new = await ask_new_pin(self._prompter, request, ("unblock_new", "unblock_repeat"))
                if known.unlocked is not None:
                    await known.unused.wait()
                    await self.lock(token.uri)
                if begin is not None:
                    await begin()
                await self._tokens.unblock_pin(present.uri, admin, new, confirmed_last_try=confirmed)
            except AdminPinIncorrect:
                known.admin_wrong = True
                raise
            finally:
                wipe(admin)
                wipe(new)
            known.wrong = known.admin_wrong = False

    async def _confirmed(self, request: PinRequest) -> bool:
        """Have the holder confirm where one try is left; say whether that was so.

        :raises SealAgentError: ``pin_last_try``: the answer was not yes, or there was nobody to ask.
        """
        if not request.pin.last_try:
            return False
        if await self._prompter.confirm_last_try(request):
            return True
        whose = "the administrator's PIN" if request.purpose == "unblock_admin" else "the PIN"
        raise SealAgentError(
            "pin_last_try",
            f"one try is left for {whose}; nobody confirmed that it may be spent, and nothing was sent",
            tries_left=request.pin.tries_left,
            final_try=True,
        )

    async def _present(self, token_uri: str) -> TokenInfo:
        """Look at the token anew: its PIN counter may have moved since it was listed."""
        for token in await self._tokens.tokens():
            if token.uri == token_uri:
                return token
        raise TokenNotFound("the token is not plugged in")

    @asynccontextmanager
    async def _asked(self, token: TokenInfo, request: PinRequest) -> AsyncIterator[None]:
        """Run a prompt, if asking makes sense at all; the end of the agent ends it."""
        if request.pin.locked and request.purpose == "unblock_admin":
            raise AdminPinLocked("the administrator's PIN is locked", locked=True)
        if request.pin.locked:
            raise PinLocked("the token's PIN is locked", locked=True)
        if not request.pin.initialized:
            raise PinRejected("the token has no user PIN yet; set one with the token's own tool")
        if self._closed:
            raise _stopping()
        self._publish(Event("pin_asked", {"token": token.uri, "purpose": request.purpose}))
        try:
            async with asyncio.timeout(None) as limit:
                self._prompts.add(limit)
                try:
                    yield
                finally:
                    self._prompts.discard(limit)
        except TimeoutError:
            raise _stopping() from None

    def _request(self, token: TokenInfo, occasion: Occasion, purpose: Purpose) -> PinRequest:
        admin, known = purpose == "unblock_admin", self._known[token.uri]
        return PinRequest(
            token_label=token.label,
            token_serial=token.serial,
            pin=token.admin_pin if admin else token.pin,
            purpose=purpose,
            occasion=occasion,
            previous_wrong=known.admin_wrong if admin else known.wrong,
        )

    def _rejected(self, token_uri: str, request: PinRequest) -> None:
        self._known[token_uri].wrong = True
        report_rejected(self._prompter, request)


def _stopping() -> SealAgentError:
    return SealAgentError("agent_stopping", "the agent is being stopped")
