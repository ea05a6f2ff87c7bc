"""A world for the tests of asking about seals: a unit with its service, trust, and clients."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sample_parties import Party
from sample_seals import Identity
from sealagent.pki.certificates import Certificate
from sealagent.pki.trust import TrustRole, TrustStore
from sealagent.seals.parse import parse_seal
from sealagent.seals.status import SealStatus
from sealagent.status.fetch import Fetcher
from sealagent.status.kept import KeptAnswers
from sealagent.status.lists import SignedLists
from sealagent.status.policy import AskingPolicy
from sealagent.status.seals import SealStatusClient
from status_parts import VALID, Asked, Reply, Server, Unit, changes, listed_entry, serving, trusting

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SHORT = 0.5
"""Seconds that a question may take here."""
BOUND = 4.0
"""Seconds within which every question ends, on a busy machine too."""


def gone(reply: Reply, asked: Asked) -> None:
    """Answer as a service that is out of order."""
    reply.octets(b"", 503)


class StatusWorld:
    """A unit with its service, and clients that ask it. Time stands still until it is moved."""

    lists: tuple[SignedLists, ...] = ()
    """What clients look at beside the service."""

    def __init__(self, party: Party, signer: Identity, state: Path, stack: ExitStack) -> None:
        self.party = party
        self.now = party.start + timedelta(days=2)
        self.unit = Unit(signer, lambda: self.now, party.seal(), changes(party.start, *VALID))
        self.server: Server = stack.enter_context(serving(self.unit))
        self.state = state
        self.stack = stack
        maker = listed_entry(party.maker, TrustRole.MAKER, urls=(self.server.url,))
        self.trust: TrustStore = trusting(maker, listed_entry(signer, TrustRole.STATUS))
        self.seal = parse_seal(self.unit.seal)
        self.maker = Certificate.from_der(party.maker.der)

    def client(self, **policy: Any) -> SealStatusClient:
        """Return a client; it knows what an earlier one left on disk."""
        fetch = Fetcher(SHORT)
        self.stack.callback(fetch.close)
        services = policy.pop("services", ())
        return SealStatusClient(
            lambda: self.trust,
            KeptAnswers(self.state / "status"),
            AskingPolicy(**policy),
            services=[replace(service, fetch=fetch) for service in services],
            lists=self.lists,
            fetch=fetch,
        )

    def ask(self, client: SealStatusClient) -> SealStatus:
        """Ask about the seal; it takes no longer than :data:`BOUND`."""
        begun = time.monotonic()
        status = client.status(self.seal, self.maker, self.now)
        assert time.monotonic() - begun < BOUND
        return status

    def state_of(self, client: SealStatusClient) -> str:
        """Return the state now, and whether the answer is an old one."""
        status = self.ask(client)
        found = status.at(self.now)
        return f"{found.state if found else 'unknown'}{' (old)' if status.stale else ''}"

    @property
    def questions(self) -> int:
        """How often the service was asked."""
        return len(self.server.asked)
