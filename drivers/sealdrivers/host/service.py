"""All modules together: the token service that the daemon uses (:class:`sealdrivers.contract.TokenService`).

Nothing of a token's contents is kept here: each ``contents()`` looks at the device. Signing needs no listing, since the
worker keeps the handles of the keys it has used; which module serves a token is remembered from the last listing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from sealdrivers.contract import (
    CertificateInfo,
    DataObjectInfo,
    KeyInfo,
    KeyType,
    Mechanism,
    ModuleInfo,
    TokenContents,
    TokenInfo,
)
from sealdrivers.errors import DriverError, KeyNotFound, TokenNotFound
from sealdrivers.host.protocol import wipe
from sealdrivers.host.supervisor import ModuleSpec, ModuleSupervisor, Timeouts
from sealdrivers.uri import parse_uri

__all__ = ["HostedTokens", "ModuleSpec", "Timeouts"]

log = logging.getLogger(__name__)

LISTING_PATIENCE = 2.0
"""Seconds a module may hold up a listing of all; then what it last showed is used, while it goes on answering."""

FULL_LOOK_SECONDS = 60.0
"""A module whose slot events are believed is listed this often all the same."""

MAX_KEY_ROUTES = 4096
"""Keys whose token is remembered; beyond it the memory starts anew."""


class _Module:
    """A supervisor and what it listed last."""

    def __init__(self, supervisor: ModuleSupervisor) -> None:
        self.supervisor = supervisor
        self.listed: tuple[TokenInfo, ...] = ()
        self._fault: DriverError | None = None
        """Why the last listing failed."""
        self._running: set[asyncio.Task[None]] = set()
        self._slow: asyncio.Task[None] | None = None
        self._events_believed = False
        """The module reported its latest change by a slot event. Many answer "no event" whatever happens."""
        self._list_by = 0.0

    async def list(self, *, quick: bool = False) -> tuple[TokenInfo, ...]:
        """Return the module's tokens; none if it fails, the last known ones if it is slow.

        Patience is had once: while an answer is overdue, nobody else waits for it.

        :param quick: a module that reports its changes need not be listed if it says that there was none.
        """
        if self._slow is not None and not self._slow.done():
            return self.listed
        listing = asyncio.create_task(self._list_if_changed() if quick else self._list())
        self._running.add(listing)
        listing.add_done_callback(self._running.discard)
        done, _ = await asyncio.wait((listing,), timeout=LISTING_PATIENCE)
        self._slow = None if done else listing
        return self.listed

    async def _list_if_changed(self) -> None:
        due = asyncio.get_running_loop().time() >= self._list_by
        if due or not self._events_believed or await self.supervisor.slot_event() is not False:
            await self._list()

    async def _list(self) -> None:
        before = {token.uri for token in self.listed}
        try:
            self.listed = await self.supervisor.tokens()
            self._fault = None
        except DriverError as error:
            self.listed, self._fault = (), error
            self._events_believed = False
            log.info("%s: %s", self.supervisor.spec.path, error.message)
            return
        self._list_by = asyncio.get_running_loop().time() + FULL_LOOK_SECONDS
        if before != {token.uri for token in self.listed}:
            self._events_believed = await self.supervisor.slot_event() is True

    def health(self) -> dict[str, Any]:
        """Return how the module does; a worker that runs and cannot list its tokens is a failed one, too."""
        health = self.supervisor.health()
        if self._fault is not None and health["state"] == "ready":
            health |= {"state": "failed", "fault": self._fault.message}
        return health

    async def close(self) -> None:
        await self.supervisor.close()
        await asyncio.gather(*self._running)


class HostedTokens:
    """The tokens of all modules, each module in its own worker processes.

    Used from one event loop. Workers are started when first needed.

    :param specs: modules in order of preference: a token that two of them show is served by the first.
    """

    def __init__(self, specs: Iterable[ModuleSpec], timeouts: Timeouts | None = None) -> None:
        self._modules = [_Module(ModuleSupervisor(spec, timeouts or Timeouts())) for spec in specs]
        self._present: dict[str, TokenInfo] = {}
        """The tokens of the last listing, by URI."""
        self._routes: dict[str, ModuleSupervisor] = {}
        """Which module serves each of them."""
        self._keys: dict[str, str] = {}
        """Which token holds a key, by both URIs."""
        self._polled: dict[str, TokenInfo] = {}

    async def modules(self) -> Sequence[ModuleInfo]:
        """Return the modules that could be loaded."""
        await self.tokens()
        return [module.supervisor.info for module in self._modules if module.supervisor.info is not None]

    async def tokens(self) -> Sequence[TokenInfo]:
        """Return the present tokens of all modules, each once; a module that fails is left out, see :meth:`health`."""
        return await self._look(quick=False)

    async def _look(self, *, quick: bool) -> Sequence[TokenInfo]:
        listings = await asyncio.gather(*(module.list(quick=quick) for module in self._modules))
        found: dict[str, TokenInfo] = {}
        routes: dict[str, ModuleSupervisor] = {}
        for module, listing in zip(self._modules, listings, strict=True):
            for token in listing:
                if token.uri not in found:
                    found[token.uri] = token
                    routes[token.uri] = module.supervisor
        self._present, self._routes = found, routes
        self._keys = {key: token for key, token in self._keys.items() if token in routes}
        return list(found.values())

    async def poll(self, *, quick: bool = False) -> tuple[list[TokenInfo], list[TokenInfo]]:
        """Look for tokens and return those inserted and those removed since the last call.

        A removed token is locked: should only its module have failed for a moment, no login outlives that.

        :param quick: modules whose slot events work are only asked for these.
        """
        now = {token.uri: token for token in await self._look(quick=quick)}
        before, self._polled = self._polled, now
        inserted = [token for uri, token in now.items() if uri not in before]
        removed = [token for uri, token in before.items() if uri not in now]
        for token in removed:
            await self.logout(token.uri)
        return inserted, removed

    async def contents(self, token_uri: str) -> TokenContents:
        """Return what the token holds now, as far as it may be read."""
        return await (await self._module(token_uri)).contents(token_uri)

    async def login(self, token_uri: str, pin: bytearray | None, *, confirmed_last_try: bool = False) -> None:
        """Log in on every worker of the module; the first that refuses the PIN ends it. Wipes ``pin``.

        Cancelling it leaves the token locked.
        """
        try:
            await (await self._module(token_uri)).login(token_uri, pin, confirmed_last_try)
        finally:
            if pin is not None:
                wipe(pin)

    async def logout(self, token_uri: str) -> None:
        """Lock the token on every worker; a token that is gone is locked."""
        await asyncio.gather(*(module.supervisor.logout(token_uri) for module in self._modules))

    def logged_in(self, token_uri: str) -> bool:
        """Say whether a worker is logged in to the token. None is after it died, or found the login gone."""
        return any(module.supervisor.logged_in(token_uri) for module in self._modules)

    async def sign(
        self,
        key_uri: str,
        mechanism: Mechanism,
        digest: bytes,
        pin: bytearray | None = None,
        *,
        confirmed_last_try: bool = False,
    ) -> bytes:
        """Sign a digest on the device. Wipes ``pin``.

        :raises WorkerDied: or WorkerTimeout: whether the device signed is not known; nothing is tried again.
        """
        try:
            token_uri = self._keys.get(key_uri) or await self._token_of(key_uri)
            return await self._routes[token_uri].sign(token_uri, key_uri, mechanism, digest, pin, confirmed_last_try)
        finally:
            if pin is not None:
                wipe(pin)

    async def change_pin(
        self, token_uri: str, old: bytearray, new: bytearray, *, confirmed_last_try: bool = False
    ) -> None:
        """Change the user PIN. Wipes both."""
        try:
            await (await self._module(token_uri)).change_pin(token_uri, old, new, confirmed_last_try)
        finally:
            wipe(old)
            wipe(new)

    async def unblock_pin(
        self, token_uri: str, admin: bytearray, new: bytearray, *, confirmed_last_try: bool = False
    ) -> None:
        """Set a new user PIN with the administrator's. Wipes both; the token is locked after it."""
        try:
            await (await self._module(token_uri)).unblock_pin(token_uri, admin, new, confirmed_last_try)
        finally:
            wipe(admin)
            wipe(new)

    async def generate_key(self, token_uri: str, type: KeyType, label: str, object_id: bytes) -> KeyInfo:
        """Generate a key pair on the device."""
        return await (await self._module(token_uri)).generate_key(token_uri, type, label, object_id)

    async def import_certificate(self, token_uri: str, der: bytes, label: str, object_id: bytes) -> CertificateInfo:
        """Store a certificate on the token."""
        return await (await self._module(token_uri)).import_certificate(token_uri, der, label, object_id)

    async def import_data(self, token_uri: str, value: bytes, label: str, application: str) -> DataObjectInfo:
        """Store a data object on the token."""
        return await (await self._module(token_uri)).import_data(token_uri, value, label, application)

    def health(self) -> list[dict[str, Any]]:
        """Return how each module does (:meth:`ModuleSupervisor.health`)."""
        return [module.health() for module in self._modules]

    async def close(self) -> None:
        """End every worker, letting what is under way finish for a moment."""
        await asyncio.gather(*(module.close() for module in self._modules))

    async def _module(self, token_uri: str) -> ModuleSupervisor:
        """Return the module that serves a token, looking once more at all if it is not known."""
        if token_uri not in self._routes:
            await self.tokens()
        try:
            return self._routes[token_uri]
        except KeyError:
            raise TokenNotFound("the token is not plugged in") from None

    async def _token_of(self, key_uri: str) -> str:
        """Return the URI of the one present token that a key's URI means."""
        wanted = parse_uri(key_uri)
        tokens = [token for token in self._present.values() if wanted.matches_token(token)]
        if not tokens:
            tokens = [token for token in await self.tokens() if wanted.matches_token(token)]
        if not tokens:
            raise TokenNotFound("the token of this key is not plugged in")
        if len(tokens) > 1:
            raise KeyNotFound(f"{len(tokens)} tokens match the URI of this key; name the serial")
        if len(self._keys) >= MAX_KEY_ROUTES:
            self._keys.clear()
        self._keys[key_uri] = tokens[0].uri
        return tokens[0].uri
