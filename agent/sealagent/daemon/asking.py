"""Puts together whom the judge asks: about the states of seals, and about certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sealagent.daemon.settings import Settings
from sealagent.pki.revocation import RevocationSource
from sealagent.pki.trust import TrustStore
from sealagent.status.certificates import build_revocation
from sealagent.status.fetch import Fetcher
from sealagent.status.kept import KeptAnswers
from sealagent.status.lists import ListFloors, SignedLists
from sealagent.status.policy import AskingPolicy, Unavailable
from sealagent.status.seals import SealStatusClient
from sealagent.status.services import HttpService

__all__ = ["Sources", "build_sources"]


@dataclass(frozen=True, slots=True)
class Sources:
    """Whom the judge asks."""

    fetch: Fetcher
    """Close it at the end."""
    policy: AskingPolicy
    seals: SealStatusClient
    revocation: RevocationSource | None
    """None: the configuration wants nobody asked."""


def build_sources(settings: Settings, trust: Callable[[], TrustStore]) -> Sources:
    """Build what ``[status]`` and ``[revocation]`` describe. Nobody is asked yet, and no thread runs.

    :param trust: gives the trust in force.
    :raises SealAgentError: ``config_invalid``: a file of signers cannot be read.
    """
    asked = settings.status
    fetch = Fetcher(asked.timeout_seconds)
    policy = AskingPolicy(
        unavailable=Unavailable(asked.unavailable),
        offline=timedelta(hours=asked.offline_hours),
        cached=timedelta(seconds=asked.cache_seconds),
    )
    state = settings.state_dir / "status"
    floors = ListFloors(state / "lists.json")
    seals = SealStatusClient(
        trust,
        KeptAnswers(state),
        policy,
        services=[
            HttpService(each.url, fetch, frozenset(each.makers), _fingerprints(each.signers)) for each in asked.services
        ],
        lists=[
            SignedLists(each.path, floors, frozenset(each.makers), _fingerprints(each.signers)) for each in asked.lists
        ],
        fetch=fetch if asked.use_trust_lists else None,
    )
    return Sources(fetch, policy, seals, _revocation(settings, trust, fetch, policy))


def _revocation(
    settings: Settings, trust: Callable[[], TrustStore], fetch: Fetcher, policy: AskingPolicy
) -> RevocationSource | None:
    asked = settings.revocation
    responders: dict[str, list[str]] = {}
    for each in asked.ocsp:
        for issuer in each.issuers:
            responders.setdefault(issuer, []).append(each.url)
    return build_revocation(
        trust,
        fetch,
        policy,
        ocsp=responders,
        crls=asked.crls,
        use_trust_lists=asked.use_trust_lists,
        use_certificate_urls=asked.use_certificate_urls,
        directory=settings.state_dir / "revocation",
    )


def _fingerprints(paths: tuple[Path, ...]) -> frozenset[str]:
    return frozenset(certificate.sha256 for certificate in TrustStore.load(paths).certificates)
