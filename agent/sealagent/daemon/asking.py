"""Puts together whom the judge asks: about the states of seals, and about certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sealagent.daemon.settings import Revocation, Settings
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
    revocation: Callable[[], RevocationSource | None]
    """None: neither the configuration nor a trust list in force names anybody."""


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
    return Sources(fetch, policy, seals, _revocation(settings.revocation, trust, fetch, policy))


def _revocation(
    asked: Revocation, trust: Callable[[], TrustStore], fetch: Fetcher, policy: AskingPolicy
) -> Callable[[], RevocationSource | None]:
    responders: dict[str, list[str]] = {}
    for each in asked.ocsp:
        for issuer in each.issuers:
            responders.setdefault(issuer, []).append(each.url)
    source = build_revocation(
        trust,
        fetch,
        policy,
        ocsp=responders,
        crls=asked.crls,
        use_trust_lists=asked.use_trust_lists,
        use_certificate_urls=asked.use_certificate_urls,
    )
    if asked.ocsp or asked.crls or asked.use_certificate_urls or not asked.use_trust_lists:
        return lambda: source
    return _WhereListsNameAnybody(source, trust)


class _WhereListsNameAnybody:
    """Gives a source while a trust list says where the certificates of some CA can be asked about."""

    def __init__(self, source: RevocationSource | None, trust: Callable[[], TrustStore]) -> None:
        self._source = source
        self._trust = trust
        self._seen: tuple[TrustStore, bool] | None = None

    def __call__(self) -> RevocationSource | None:
        trust = self._trust()
        if self._seen is None or self._seen[0] is not trust:
            self._seen = (trust, any(entry.ocsp or entry.crls for entry in trust.listed))
        return self._source if self._seen[1] else None


def _fingerprints(paths: tuple[Path, ...]) -> frozenset[str]:
    return frozenset(certificate.sha256 for certificate in TrustStore.load(paths).certificates)
