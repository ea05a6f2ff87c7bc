"""Unlocking tokens: who asks the holder, how long it holds, and that no PIN try is ever spent by itself."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sealagent.callers.peer import Caller
from sealagent.clock import Clock
from sealagent.consent.prompter import PinRequest, Prompter, Purpose, ask_new_pin, report_rejected, wipe
from sealagent.events import Event, Publish
from sealdrivers.contract import TokenInfo, TokenService
from sealdrivers.errors import PinIncorrect, PinLocked, PinRejected, TokenNotFound

__all__ = ["Occasion", "Unlocker"]


@dataclass(frozen=True, slots=True)
class Occasion:
    """What the holder is told when asked for the PIN."""

    caller: Caller | None
    document: str | None = None
    seal: str | None = None


class Unlocker:
    """Keeps which tokens are unlocked and asks for PINs, one prompt a token at a time.

    The PIN itself is never kept: it goes to the device and is wiped.

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
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._since: dict[str, float] = {}
        self._used: dict[str, float] = {}
        self._wrong: set[str] = set()

    def _now(self) -> float:
        return self._clock().timestamp()

    def is_unlocked(self, token_uri: str) -> bool:
        """Say whether the token may be used now without asking."""
        since = self._since.get(token_uri)
        if since is None:
            return False
        now = self._now()
        return now - self._used[token_uri] <= self._idle and now - since <= self._absolute

    def forget(self, token_uri: str) -> None:
        """Take note that the token is locked (removed, worker restarted)."""
        self._since.pop(token_uri, None)
        self._used.pop(token_uri, None)

    async def lock(self, token_uri: str) -> None:
        """Log out of the token."""
        self.forget(token_uri)
        await self._tokens.logout(token_uri)
        self._publish(Event("token_locked", {"token": token_uri}))

    async def lock_expired(self) -> None:
        """Log out of every token whose time is over; the daemon calls this with each look for tokens."""
        for token_uri in [uri for uri in self._since if not self.is_unlocked(uri)]:
            async with self._locks[token_uri]:
                if token_uri in self._since and not self.is_unlocked(token_uri):
                    await self.lock(token_uri)

    async def ensure(self, token: TokenInfo, occasion: Occasion) -> None:
        """Return when the token is unlocked, asking for the PIN if need be.

        :raises PinIncorrect: one try was spent; the next call asks anew.
        :raises PinLocked: nothing was asked. :raises SealAgentError: the prompt was cancelled or impossible.
        """
        if not token.login_required:
            return
        async with self._locks[token.uri]:
            if self.is_unlocked(token.uri):
                self._used[token.uri] = self._now()
                return
            if token.uri in self._since:
                await self.lock(token.uri)
            present = await self._present(token.uri)
            if present.protected_authentication_path:
                await self._tokens.login(present.uri, None)
            else:
                await self._spend(present, self._request(present, occasion, "unlock"))
            self._since[token.uri] = self._used[token.uri] = self._now()
            self._publish(Event("token_unlocked", {"token": token.uri}))

    @asynccontextmanager
    async def pin_for_signature(self, token: TokenInfo, occasion: Occasion) -> AsyncIterator[bytearray]:
        """Ask for the PIN for one signature of a key that always authenticates; it is wiped when the block ends.

        A block that raises :class:`PinIncorrect` has spent a try, and the same stored PIN is not offered again.
        """
        async with self._locks[token.uri]:
            present = await self._present(token.uri)
            request = self._request(present, occasion, "unlock")
            pin = await self._ask(present, request)
        try:
            yield pin
        except PinIncorrect:
            self._refused(token, request)
            raise
        finally:
            wipe(pin)

    async def change_pin(self, token: TokenInfo, occasion: Occasion) -> None:
        """Ask for the old PIN and twice for the new one, and change it on the token.

        :raises PinIncorrect: the old PIN was wrong, nothing changed. :raises SealAgentError: ``pin_mismatch``.
        """
        async with self._locks[token.uri]:
            present = await self._present(token.uri)
            request = self._request(present, occasion, "change_old")
            old = await self._ask(present, request)
            new = bytearray()
            try:
                new = await ask_new_pin(self._prompter, request)
                await self._tokens.change_pin(present.uri, old, new)
            except PinIncorrect:
                self._refused(present, request)
                raise
            finally:
                wipe(old)
                wipe(new)

    async def _present(self, token_uri: str) -> TokenInfo:
        """Look at the token anew: its PIN counter may have moved since it was listed."""
        for token in await self._tokens.tokens():
            if token.uri == token_uri:
                return token
        self.forget(token_uri)
        raise TokenNotFound("the token is not plugged in")

    async def _ask(self, token: TokenInfo, request: PinRequest) -> bytearray:
        if token.pin.locked:
            raise PinLocked("the token's PIN is locked", locked=True)
        if not token.pin.initialized:
            raise PinRejected("the token has no user PIN yet; set one with the token's own tool")
        self._publish(Event("pin_asked", {"token": token.uri, "purpose": request.purpose}))
        return await self._prompter.ask_pin(request)

    def _request(self, token: TokenInfo, occasion: Occasion, purpose: Purpose) -> PinRequest:
        return PinRequest(
            token_label=token.label,
            token_serial=token.serial,
            pin=token.pin,
            purpose=purpose,
            caller=occasion.caller,
            document=occasion.document,
            seal=occasion.seal,
            previous_wrong=token.uri in self._wrong,
        )

    async def _spend(self, token: TokenInfo, request: PinRequest) -> None:
        pin = await self._ask(token, request)
        try:
            await self._tokens.login(token.uri, pin)
        except PinIncorrect:
            self._refused(token, request)
            raise
        finally:
            wipe(pin)
        self._wrong.discard(token.uri)

    def _refused(self, token: TokenInfo, request: PinRequest) -> None:
        self._wrong.add(token.uri)
        report_rejected(self._prompter, request)
