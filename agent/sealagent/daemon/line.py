"""Puts the signing line together: who decides, who guards the device, who performs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sealagent.clock import Clock
from sealagent.documents.limits import Limits
from sealagent.events import Publish
from sealagent.records.ledger import Ledger
from sealagent.signing.administration import Management
from sealagent.signing.authorize import Authorizer, Decide, Grants
from sealagent.signing.guard import Guard
from sealagent.signing.inventory import Inventory
from sealagent.signing.line import SigningLine
from sealagent.signing.performing import Performer
from sealagent.signing.recording import Recorder
from sealagent.signing.timestamping import Timestamper
from sealagent.signing.unlock import Unlocker
from sealagent.status.evidence import EvidenceStore
from sealdrivers.contract import TokenService

__all__ = ["Signing", "build_signing"]


@dataclass(frozen=True, slots=True)
class Signing:
    """What signs and changes tokens."""

    line: SigningLine
    management: Management
    authorizer: Authorizer


def build_signing(
    *,
    tokens: TokenService,
    inventory: Inventory,
    unlocker: Unlocker,
    ledger: Ledger,
    recorder: Recorder,
    evidence: EvidenceStore,
    clock: Clock,
    publish: Publish,
    limits: Limits,
    require: str,
    decide: Decide,
    grants: Grants,
    offers: Callable[[], bool] = lambda: True,
    timestamper: Timestamper | None = None,
) -> Signing:
    """Build the line around its collaborators.

    :param require: ``valid`` or ``intact``: the verdict a seal needs to be used.
    :param decide: policy and grants together. :param grants: the grant book, which is charged.
    :param offers: whether policy lets the holder agree for a session of the token.
    """
    authorizer = Authorizer(decide, grants, unlocker, recorder, clock, offers=offers)
    guard = Guard(tokens, authorizer, grants, clock)
    performer = Performer(
        guard=guard,
        authorizer=authorizer,
        inventory=inventory,
        unlocker=unlocker,
        ledger=ledger,
        recorder=recorder,
        publish=publish,
        evidence=evidence,
        timestamper=timestamper,
    )
    line = SigningLine(
        performer=performer,
        authorizer=authorizer,
        inventory=inventory,
        evidence=evidence,
        clock=clock,
        limits=limits,
        require=require,
    )
    return Signing(line, Management(authorizer, guard, recorder), authorizer)
