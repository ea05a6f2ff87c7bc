"""Puts the daemon together from its settings. Only this module names concrete drivers, stores and prompters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sealagent import paths
from sealagent.api.identifying import IDENTIFY
from sealagent.api.listener import UnixListener
from sealagent.api.loopback import ADDRESS, LoopbackListener
from sealagent.api.server import application
from sealagent.api.services import ApiLimits, Services
from sealagent.callers.browsers import browser_programs
from sealagent.callers.decide import decider
from sealagent.callers.grants import GrantBook
from sealagent.callers.model import Decision
from sealagent.callers.pairings import Pairings
from sealagent.callers.peer import Caller
from sealagent.callers.policyfile import PolicyFile
from sealagent.callers.store import CallersStore
from sealagent.callers.watch import ended
from sealagent.clock import Clock, system_clock
from sealagent.consent.choose import choose_prompter
from sealagent.consent.pinentry import PROGRAMS
from sealagent.consent.prompter import Prompter
from sealagent.consent.source import FdPinSource
from sealagent.daemon.asking import Sources, build_sources
from sealagent.daemon.line import build_signing
from sealagent.daemon.pages import build_loopback
from sealagent.daemon.presence import Presence
from sealagent.daemon.screenlock import ScreenLock
from sealagent.daemon.settings import Settings
from sealagent.daemon.systemd import inherited_socket
from sealagent.documents.limits import Limits
from sealagent.errors import SealAgentError
from sealagent.events import EventHub
from sealagent.hosting import hosted_tokens, operator_table
from sealagent.pki.trust import TrustStore
from sealagent.pki.trustlists import TrustLists
from sealagent.records.ledger import Ledger
from sealagent.seals.store import SealStore
from sealagent.signing.batches.service import Batches
from sealagent.signing.batches.store import BatchStore
from sealagent.signing.inventory import Inventory
from sealagent.signing.recording import NOTHING_RELEASED, Recorder
from sealagent.signing.timestamping import Timestamper
from sealagent.signing.unlock import Unlocker
from sealagent.status.evidence import EvidenceStore
from sealagent.uses import Use
from sealdrivers.contract import TokenService
from sealdrivers.host.service import HostedTokens

__all__ = ["Daemon", "build"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Daemon:
    """A built daemon: start it, wait, stop it."""

    settings: Settings
    services: Services
    tokens: HostedTokens
    listener: UnixListener
    unlocker: Unlocker
    prompter: Prompter
    presence: Presence
    sources: Sources
    callers: CallersStore
    screen_lock: ScreenLock
    loopback: LoopbackListener | None

    async def start(self) -> None:
        """Listen. :raises SealAgentError: ``daemon_running``, ``socket_unusable``, ``loopback_unusable``."""
        await self.listener.start()
        if self.loopback is not None:
            await self.loopback.start(self.listener.served)
            log.info("web pages may ask at %s:%d", ADDRESS, self.settings.loopback.port)

    async def stop(self) -> None:
        """Let requests finish, log out of tokens, end workers, close the record."""
        self.presence.close()
        self.unlocker.close()
        self.services.events.close()
        await asyncio.to_thread(self.sources.fetch.close)  # no request waits for a service any more
        if self.loopback is not None:
            self.loopback.stop()
        await self.listener.stop()
        await self.services.batches.close()
        await self.tokens.close()
        await asyncio.to_thread(self.services.ledger.close)
        with contextlib.suppress(SealAgentError):  # it is of use to people only
            await asyncio.to_thread(self.services.pairings.note_uses)
        await asyncio.to_thread(self.callers.close)
        if isinstance(self.prompter, FdPinSource):
            self.prompter.close()


async def build(settings: Settings, clock: Clock = system_clock) -> Daemon:
    """Build the daemon; nothing listens yet.

    :raises SealAgentError: ``record_in_use``, ``record_damaged``, ``config_invalid`` and others that prevent a start.
    """
    state = settings.state_dir
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        spool = state / "spool"
        spool.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SealAgentError("config_invalid", f"state_dir {state}: {error.strerror}", key="state_dir") from error
    policy = policy_file(settings)
    trust = TrustStore.load(settings.trust.paths)
    ledger = await asyncio.to_thread(
        Ledger.open,
        state / "record.sqlite",
        clock,
        tree_hash=settings.record.tree_hash,
        max_bytes=settings.record.max_bytes,
    )
    async with AsyncExitStack() as stack:
        stack.callback(ledger.close)
        callers = await asyncio.to_thread(CallersStore, state / "callers.sqlite")
        stack.callback(callers.close)
        daemon = await _build(settings, clock, trust, ledger, policy, callers)
        stack.pop_all()
        return daemon


def _timestamper(settings: Settings, sources: Sources, inventory: Inventory) -> Timestamper | None:
    asked = settings.timestamp
    if not asked.url:
        return None
    return Timestamper(sources.fetch, asked.url, lambda: inventory.policy, digest=asked.digest, required=asked.required)


def policy_file(settings: Settings) -> PolicyFile:
    """Return the policy that the configuration names, or the first of the usual places that has one.

    :raises SealAgentError: ``policy_invalid``.
    """
    if settings.policy is not None:
        return PolicyFile([settings.policy], required=True)
    return PolicyFile(paths.policy_files())


async def _build(
    settings: Settings,
    clock: Clock,
    trust: TrustStore,
    ledger: Ledger,
    policy: PolicyFile,
    callers: CallersStore,
) -> Daemon:
    grants = GrantBook(callers, clock)
    pairings = Pairings(callers, grants, clock, days=lambda: policy.current().limits.pairing_days)
    recorder = Recorder(ledger)
    interrupted = await recorder.settle(
        "interrupted", f"the agent ended before the outcome was recorded; {NOTHING_RELEASED}"
    )
    if interrupted:
        log.warning("%d operations were interrupted by the agent's last end; see the record", interrupted)
    events = EventHub()
    table = operator_table()
    tokens, refused = hosted_tokens(
        settings.modules, settings.discovery, settings.timeouts, table.sm2, settings.state_dir
    )
    store = SealStore(settings.state_dir / "seals")
    trust_lists = await asyncio.to_thread(
        TrustLists,
        settings.state_dir / "trust",
        clock,
        configured=settings.trust.lists,
        signers=settings.trust.list_signers,
    )
    sources = build_sources(settings, lambda: trust_lists.beside(trust))
    inventory = Inventory(
        tokens,
        store,
        lambda: trust_lists.beside(trust),
        clock,
        strict=settings.trust.strict,
        revocation=sources.revocation,
        status=sources.seals,
        demand_status=sources.policy.demanded,
    )
    evidence = EvidenceStore(settings.state_dir / "evidence")
    prompter = choose_prompter(
        settings.pin.source,
        os.environ,
        programs=(settings.pin.pinentry,) if settings.pin.pinentry else PROGRAMS,
        path=settings.pin.file,
        fd=settings.pin.fd,
        timeout=settings.pin.prompt_seconds,
    )
    unlocker = Unlocker(
        tokens,
        prompter,
        clock,
        events.publish,
        idle_seconds=settings.pin.unlock_idle_seconds,
        absolute_seconds=settings.pin.unlock_absolute_seconds,
        gone=ended,
        ended=grants.end_session,
    )
    grants.follow_sessions(unlocker.session)
    presence = Presence(
        tokens,
        table if settings.presence.usb else None,
        events.publish,
        every=settings.presence_seconds,
        changed=inventory.invalidate,
        removed=unlocker.removed,
    )
    screen_lock = ScreenLock(unlocker, events.publish, enabled=settings.pin.lock_with_screen)
    limits = Limits(package_octets=settings.limits.document_bytes)
    service: TokenService = tokens
    allowed = decider(policy.current, grants)

    def decide(caller: Caller, use: Use, now: datetime) -> Decision:
        pairings.require_counting(caller)  # it may have been revoked in the middle of a batch
        return allowed(caller, use, now)

    signing = build_signing(
        tokens=service,
        inventory=inventory,
        unlocker=unlocker,
        ledger=ledger,
        recorder=recorder,
        evidence=evidence,
        clock=clock,
        publish=events.publish,
        limits=limits,
        require=settings.seals.require,
        decide=decide,
        grants=grants,
        offers=lambda: policy.current().limits.session_grants,
        timestamper=_timestamper(settings, sources, inventory),
    )

    batches = Batches(
        store=await asyncio.to_thread(BatchStore, settings.state_dir / "batches.sqlite"),
        ledger=ledger,
        recorder=recorder,
        inventory=inventory,
        authorizer=signing.authorizer,
        unlocker=unlocker,
        line=signing.line,
        clock=clock,
        publish=events.publish,
        most=lambda: policy.current().limits.batch_items,
    )
    await batches.start()

    def health() -> dict[str, Any]:
        return {
            "modules": tokens.health() + [{"path": None, "state": "refused", "fault": fault} for fault in refused],
            "interrupted": interrupted,
            "presence": presence.state(),
            "screen_lock": screen_lock.state(),
            "pin_source": settings.pin.source,
            "policy": str(policy.path) if policy.path else None,
        }

    services = Services(
        line=signing.line,
        management=signing.management,
        batches=batches,
        inventory=inventory,
        unlocker=unlocker,
        tokens=service,
        store=store,
        trust_lists=trust_lists,
        ledger=ledger,
        recorder=recorder,
        policy=policy,
        pairings=pairings,
        grants=grants,
        evidence=evidence,
        events=events,
        clock=clock,
        limits=ApiLimits(
            json_bytes=settings.limits.json_bytes,
            digests_per_request=settings.limits.digests_per_request,
            body_seconds=settings.limits.body_seconds,
            documents=limits,
        ),
        spool=settings.state_dir / "spool",
        started=clock(),
        health=health,
        devices=presence.devices,
        document_slots=asyncio.Semaphore(settings.limits.documents_at_once),
        owner_uid=os.getuid(),
        browsers=browser_programs(str(program) for program in settings.browser.programs),
    )
    app = application(services)
    loopback = build_loopback(settings, app, app[IDENTIFY])
    listener = UnixListener(
        app,
        settings.socket,
        connections=settings.limits.connections,
        inherited=inherited_socket(),
    )
    return Daemon(
        settings, services, tokens, listener, unlocker, prompter, presence, sources, callers, screen_lock, loopback
    )
