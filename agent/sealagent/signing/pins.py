"""PINs: what is looked at before one is asked for, how it reaches the device, and that it is wiped; changing it.

The last try of a PIN is spent only after the holder has said so: the counter is looked at before the prompt, and read
once more by the driver right before the PIN goes to the device.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from sealagent.consent.prompter import (
    Consent,
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
from sealagent.signing.prompts import Prompts
from sealdrivers.contract import TokenInfo, TokenService
from sealdrivers.errors import AdminPinIncorrect, AdminPinLocked, PinIncorrect, PinLocked, PinRejected, TokenNotFound

__all__ = ["Begin", "EnteredPin", "Pins"]

Begin = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class EnteredPin:
    """A PIN that was entered for one purpose."""

    pin: bytearray | None = field(repr=False)
    """None where it is entered on the device."""
    confirmed_last_try: bool = False
    """The holder allows its last try to be spent."""
    consent: Consent | None = None
    """What the holder agreed to by it; None: nobody was asked."""


class Pins:
    """Asks for PINs and takes them to the device; keeps none, only which was wrong."""

    def __init__(self, tokens: TokenService, prompter: Prompter, publish: Publish, prompts: Prompts) -> None:
        self._tokens = tokens
        self._prompter = prompter
        self._publish = publish
        self._prompts = prompts
        self._wrong: set[str] = set()
        """Tokens whose PIN was wrong when it was entered last."""
        self._admin_wrong: set[str] = set()
        """Likewise the administrator's."""

    async def present(self, token_uri: str) -> TokenInfo:
        """Look at the token anew: its PIN counter may have moved since it was listed.

        :raises TokenNotFound: it is not plugged in.
        """
        for token in await self._tokens.tokens():
            if token.uri == token_uri:
                return token
        raise TokenNotFound("the token is not plugged in")

    @asynccontextmanager
    async def entered(self, token: TokenInfo, occasion: Occasion) -> AsyncIterator[EnteredPin]:
        """Ask for the user's PIN; it is wiped when the block ends, and a :class:`PinIncorrect` in it is remembered.

        :param token: as :meth:`present` shows it.
        """
        request = self._request(token, occasion, "unlock")
        pin = bytearray()
        try:
            async with self._asked(token, request):
                confirmed = await self._confirmed(request)
                if not token.protected_authentication_path:
                    pin = await self._prompter.ask_pin(request)
            if token.protected_authentication_path:
                yield EnteredPin(None, confirmed)
            else:
                yield EnteredPin(pin, confirmed, Consent.ONCE if self._prompter.person else None)
        except PinIncorrect:
            self._rejected(token.uri, request)
            raise
        finally:
            wipe(pin)

    def accepted(self, token_uri: str) -> None:
        """Take note that the PIN was right."""
        self._wrong.discard(token_uri)

    async def change(
        self, token_uri: str, occasion: Occasion, begin: Begin | None, turn: AbstractAsyncContextManager[None]
    ) -> None:
        """Ask for the old PIN and twice for the new one, and change it on the token.

        :param begin: called when everything was entered, right before the token is asked to change.
        :param turn: what the token is changed within.
        :raises PinIncorrect: the old PIN was wrong, nothing changed.
        :raises SealAgentError: ``pin_mismatch``; ``not_supported``: the token has keys of its own for that.
        """
        present = await self.present(token_uri)
        if present.protected_authentication_path:
            raise SealAgentError("not_supported", "a PIN that is entered on the device is changed with its own tool")
        request = self._request(present, occasion, "change_old")
        old, new = bytearray(), bytearray()
        try:
            async with self._asked(present, request):
                confirmed = await self._confirmed(request)
                old = await self._prompter.ask_pin(request)
                new = await ask_new_pin(self._prompter, request)
            async with turn:
                if begin is not None:
                    await begin()
                await self._tokens.change_pin(token_uri, old, new, confirmed_last_try=confirmed)
        except PinIncorrect:
            self._rejected(token_uri, request)
            raise
        finally:
            wipe(old)
            wipe(new)
        self.accepted(token_uri)

    async def unblock(
        self, token_uri: str, occasion: Occasion, begin: Begin | None, turn: AbstractAsyncContextManager[None]
    ) -> None:
        """Ask for the administrator's PIN and twice for a new one of the user, and set that.

        :param begin: as for :meth:`change`. :param turn: likewise; the token is locked within it.
        :raises AdminPinIncorrect: one try of the administrator's PIN was spent, nothing changed.
        :raises AdminPinLocked: nothing was asked.
        :raises SealAgentError: ``pin_mismatch``, ``pin_last_try``; ``not_supported``: the token takes PINs on itself.
        """
        present = await self.present(token_uri)
        if present.protected_authentication_path:
            raise SealAgentError("not_supported", "a PIN that is entered on the device is unblocked with its own tool")
        request = self._request(present, occasion, "unblock_admin")
        admin, new = bytearray(), bytearray()
        try:
            async with self._asked(present, request):
                confirmed = await self._confirmed(request)
                admin = await self._prompter.ask_pin(request)
                new = await ask_new_pin(self._prompter, request, ("unblock_new", "unblock_repeat"))
            async with turn:
                if begin is not None:
                    await begin()
                await self._tokens.unblock_pin(token_uri, admin, new, confirmed_last_try=confirmed)
        except AdminPinIncorrect:
            self._admin_wrong.add(token_uri)
            raise
        finally:
            wipe(admin)
            wipe(new)
        self.accepted(token_uri)
        self._admin_wrong.discard(token_uri)

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

    @asynccontextmanager
    async def _asked(self, token: TokenInfo, request: PinRequest) -> AsyncIterator[None]:
        """Run a prompt, if asking makes sense at all; the end of the agent or of the caller ends it."""
        if request.pin.locked and request.purpose == "unblock_admin":
            raise AdminPinLocked("the administrator's PIN is locked", locked=True)
        if request.pin.locked:
            raise PinLocked("the token's PIN is locked", locked=True)
        if not request.pin.initialized:
            raise PinRejected("the token has no user PIN yet; set one with the token's own tool")
        async with self._prompts.open(request.occasion.caller):
            self._publish(Event("pin_asked", {"token": token.uri, "purpose": request.purpose}))
            yield

    def _request(self, token: TokenInfo, occasion: Occasion, purpose: Purpose) -> PinRequest:
        admin = purpose == "unblock_admin"
        return PinRequest(
            token_label=token.label,
            token_serial=token.serial,
            pin=token.admin_pin if admin else token.pin,
            purpose=purpose,
            occasion=occasion,
            previous_wrong=token.uri in (self._admin_wrong if admin else self._wrong),
        )

    def _rejected(self, token_uri: str, request: PinRequest) -> None:
        self._wrong.add(token_uri)
        report_rejected(self._prompter, request)
