"""What the routes need, handed in by the builder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from sealagent.callers.grants import GrantBook
from sealagent.callers.pairings import Pairings
from sealagent.callers.policyfile import PolicyFile
from sealagent.clock import Clock
from sealagent.documents.limits import Limits
from sealagent.events import EventHub
from sealagent.pki.trustlists import TrustLists
from sealagent.records.ledger import Ledger
from sealagent.seals.store import SealStore
from sealagent.signing.administration import Management
from sealagent.signing.batches.service import Batches
from sealagent.signing.inventory import Inventory
from sealagent.signing.line import SigningLine
from sealagent.signing.recording import Recorder
from sealagent.signing.unlock import Unlocker
from sealagent.status.evidence import EvidenceStore
from sealdrivers.contract import TokenService

__all__ = ["SERVICES", "ApiLimits", "Services"]


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Bounds on what the socket takes."""

    json_bytes: int
    digests_per_request: int
    body_seconds: float
    documents: Limits


@dataclass(frozen=True, slots=True)
class Services:
    """The agent's parts, as far as routes use them."""

    line: SigningLine
    management: Management
    batches: Batches
    inventory: Inventory
    unlocker: Unlocker
    tokens: TokenService
    store: SealStore
    trust_lists: TrustLists
    ledger: Ledger
    recorder: Recorder
    policy: PolicyFile
    pairings: Pairings
    grants: GrantBook
    evidence: EvidenceStore
    events: EventHub
    clock: Clock
    limits: ApiLimits
    spool: Path
    """Directory for documents in passage, on the state's file system, mode 0700."""
    started: datetime
    health: Callable[[], dict[str, Any]]
    """Modules, workers and faults for ``GET /v1/status``."""
    devices: Callable[[], Awaitable[dict[str, Any]]]
    """The known USB keys that are plugged in, for ``GET /v1/devices``."""
    document_slots: asyncio.Semaphore
    owner_uid: int
    browsers: frozenset[str]
    """Program files of browsers, whose children may say for which extension they ask."""


SERVICES: web.AppKey[Services] = web.AppKey("services", Services)
