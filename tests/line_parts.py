"""The signing line in the test's own process: SoftHSM in a real worker, a real record, a real store."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from agent_world import TestAuthority
from host_parts import hosted, spec
from sealagent.callers.grants import GrantBook
from sealagent.callers.model import Decision, Effect
from sealagent.callers.peer import Caller
from sealagent.callers.store import CallersStore
from sealagent.consent.prompter import Consent, ConsentRequest, PinRequest, Prompter
from sealagent.daemon.line import build_signing
from sealagent.documents.limits import Limits
from sealagent.events import Event
from sealagent.pki.certificates import load_certificates
from sealagent.pki.trust import TrustStore
from sealagent.records.ledger import Ledger
from sealagent.seals.store import SealStore
from sealagent.signing.authorize import Authorizer, Decide
from sealagent.signing.inventory import Inventory
from sealagent.signing.line import SigningLine
from sealagent.signing.recording import Recorder
from sealagent.signing.unlock import Unlocker
from sealagent.status.evidence import EvidenceStore
from sealagent.uses import Use
from sealdrivers.host.service import HostedTokens
from softhsm2_fixtures import SoftToken

CALLER = Caller(os.getuid(), os.getgid(), os.getpid(), "/usr/bin/test", 1)


@dataclass
class Holder:
    """A prompter: the holder of the token, who types what is set here, and counts how often they were asked."""

    pin: str
    asked: list[PinRequest] = field(default_factory=list)
    given: list[bytearray] = field(default_factory=list)
    """The buffers handed out, to see that they were wiped."""
    hesitates: asyncio.Event | None = None
    """Answers once it is set."""
    confirms: bool = False
    """What is answered when asked whether the last try may be spent."""
    confirmations: list[PinRequest] = field(default_factory=list)
    """What was asked so."""
    agrees: Consent = Consent.ONCE
    """What is answered when asked for consent."""
    consents: list[ConsentRequest] = field(default_factory=list)
    """What was asked so."""
    person: bool = True

    async def ask_pin(self, request: PinRequest) -> bytearray:
        self.asked.append(request)
        if self.hesitates is not None:
            await self.hesitates.wait()
        self.given.append(bytearray(self.pin.encode()))
        return self.given[-1]

    async def confirm(self, request: ConsentRequest) -> Consent:
        self.consents.append(request)
        if self.hesitates is not None:
            await self.hesitates.wait()
        return self.agrees

    async def confirm_last_try(self, request: PinRequest) -> bool:
        self.confirmations.append(request)
        return self.confirms


@dataclass
class Clockwork:
    """Time that tests can move on."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Line:
    """A signing line with what it was made of."""

    tokens: HostedTokens
    inventory: Inventory
    unlocker: Unlocker
    ledger: Ledger
    line: SigningLine
    clock: Clockwork
    events: list[Event]
    recorder: Recorder
    authorizer: Authorizer

    def entries(self) -> list[tuple[str, str | None]]:
        """Return kind and reason of each entry."""
        return [(entry.kind.value, _text(entry.body.get("reason"))) for entry in self.ledger.entries()]

    async def only_key(self) -> str:
        """Return the id of the only key."""
        [key] = (await self.inventory.snapshot()).keys
        return key

    async def sign(self, digests: int = 1) -> list[bytes]:
        """Sign with the only key."""
        signed = await self.line.sign_digests(CALLER, await self.only_key(), None, [bytes(32)] * digests, "a.bin")
        return [value for value, _ in signed]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def allow_everything(caller: Caller, use: Use, now: datetime) -> Decision:
    """Decide as the policy of a tester does."""
    return Decision(Effect.ALLOW, "default", use.operation.value, "everything is allowed")


def nothing_blind(caller: Caller, use: Use, now: datetime) -> Decision:
    """Forbid what nobody can look into."""
    if not use.operation.blind:
        return allow_everything(caller, use, now)
    return Decision(Effect.DENY, "default", use.operation.value, "signing digests blindly is switched off")


@contextlib.asynccontextmanager
async def opened_line(
    directory: Path,
    token: SoftToken,
    prompter: Prompter,
    *,
    authority: TestAuthority | None = None,
    workers: int = 1,
    idle: float = 300,
    absolute: float = 3600,
    decide: Decide | None = None,
) -> AsyncIterator[Line]:
    """Open a line on a token; its record is ``directory``/record.sqlite."""
    clock = Clockwork()
    events: list[Event] = []
    roots = load_certificates(authority.root.public_bytes(Encoding.DER)) if authority else []
    with (
        Ledger.open(directory / "record.sqlite", clock) as ledger,
        contextlib.closing(CallersStore(directory / "callers.sqlite")) as callers,
    ):
        async with hosted(spec(token, workers)) as tokens:
            trust = TrustStore(tuple(roots))
            inventory = Inventory(tokens, SealStore(directory / "seals"), lambda: trust, clock, strict=False)
            recorder = Recorder(ledger)
            unlocker = Unlocker(tokens, prompter, clock, events.append, idle_seconds=idle, absolute_seconds=absolute)
            signing = build_signing(
                tokens=tokens,
                inventory=inventory,
                unlocker=unlocker,
                ledger=ledger,
                recorder=recorder,
                evidence=EvidenceStore(directory / "evidence"),
                clock=clock,
                publish=events.append,
                limits=Limits(),
                require="valid",
                decide=decide or allow_everything,
                grants=GrantBook(callers, clock),
            )
            parts = (signing.line, clock, events, recorder, signing.authorizer)
            yield Line(tokens, inventory, unlocker, ledger, *parts)
