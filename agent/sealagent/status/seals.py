"""Asks in which state a seal is: services, lists, and what was said before (the Measures, Art. 17).

The first adapter that gives a fresh answer is believed, unless something newer is known already. A seal that was last
known not to be valid stays so until a newer answer says otherwise, whoever keeps us from asking.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sealagent.errors import SealAgentError
from sealagent.pki.certificates import Certificate
from sealagent.pki.path import validate_path
from sealagent.pki.trust import TrustEntry, TrustRole, TrustStore
from sealagent.seals.answers import seal_sm3
from sealagent.seals.model import Seal
from sealagent.seals.status import SealState, SealStatus
from sealagent.status.kept import KeptAnswers
from sealagent.status.policy import CLOCK_SKEW, AskingPolicy, Unavailable
from sealagent.status.services import Fetch, HttpService
from sealagent.status.statements import Adapter, Question, Statement
from sealagent.verdict import timestamp

__all__ = ["SealStatusClient"]

MAX_CACHED = 1024  # answers in the cache: one's own seals, and those of the documents verified lately
MAX_ASKED = 8  # services and lists asked about one seal; two or three are usual
QUESTION_SECONDS = 10.0  # after which no further service is asked about one seal; one may take five
MAX_FAULT = 200  # characters of what one of them did wrong
LOCKS = 64  # seals that are asked about at once; two that share a lock wait for each other


@dataclass(frozen=True, slots=True)
class _Cached:
    status: SealStatus
    trust: TrustStore
    maker: Certificate
    asked_at: datetime
    until: datetime


class SealStatusClient:
    """A :class:`~sealagent.seals.status.SealStatusSource`. It waits for the network: call it in a thread.

    :param trust: gives the trust in force; another object means that it was changed.
    :param services: those of the configuration, in the order in which they are asked.
    :param lists: looked at when no service gave an answer.
    :param fetch: for the services that trust lists name, after those of the configuration; None: these are not asked.
    """

    def __init__(
        self,
        trust: Callable[[], TrustStore],
        kept: KeptAnswers,
        policy: AskingPolicy,
        *,
        services: Sequence[HttpService] = (),
        lists: Sequence[Adapter] = (),
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trust = trust
        self._kept = kept
        self._policy = policy
        self._services = tuple(services)
        self._lists = tuple(lists)
        self._fetch = fetch
        self._clock = clock
        self._signers = frozenset().union(*(service.signers for service in services))
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._locks = tuple(threading.Lock() for _ in range(LOCKS))

    def status(self, seal: Seal, maker: Certificate, now: datetime) -> SealStatus:
        """Return what the maker's production-management unit says of a seal; it never raises.

        :param now: the real time: against which answers are fresh.
        """
        sm3 = seal_sm3(seal.raw)
        if (known := self._cached(sm3, maker, now)) is not None:
            return known
        with self._locks[int(sm3[:4], 16) % LOCKS]:  # the second to ask takes what the first one learns
            if (known := self._cached(sm3, maker, now)) is not None:
                return known
            trust = self._trust()
            entry = validate_path(maker, (), trust, seal.created, TrustRole.MAKER).entry
            return self._ask(Question(seal, sm3, maker, entry, trust, now))

    def _cached(self, sm3: str, maker: Certificate, now: datetime) -> SealStatus | None:
        with self._cache_lock:
            found = self._cache.get(sm3)
            # Long before asked_at: somebody set the clock back.
            if found is None or not found.asked_at - CLOCK_SKEW <= now < found.until:
                return None
            return found.status if found.trust is self._trust() and found.maker == maker else None

    def _ask(self, question: Question) -> SealStatus:
        adapters = self._adapters_for(question.maker, question.entry)
        if not adapters:
            return SealStatus(asked=False, detail="no status service is configured for the maker of this seal")
        self._kept.newest(question, self._signers)  # what is on disk counts before anything older is offered
        end = self._clock() + QUESTION_SECONDS
        faults: list[str] = []
        unknown: Statement | None = None
        for adapter in adapters:
            if self._clock() > end:
                faults.append("the time for this question was used up")
                break
            try:
                statement = adapter.ask(question)
                self._kept.offer(question, statement)
            except SealAgentError as error:
                faults.append(f"{adapter.name}: {error.code}: {error.message}"[:MAX_FAULT])
                continue
            if statement.next_update < question.now:
                faults.append(f"{statement.source}: out of date since {timestamp(statement.next_update)}")
            elif statement.history:
                return self._learned(question, statement)
            else:
                unknown = unknown or statement
                faults.append(f"{statement.source}: the seal is not known there")
        last = self._kept.newest(question, self._signers)
        return self._not_learned(question, last, unknown, "; ".join(faults))

    def _adapters_for(self, maker: Certificate, entry: TrustEntry | None) -> list[Adapter]:
        found: list[Adapter] = [service for service in self._services if service.serves(maker)]
        if self._fetch is not None and entry is not None and entry.source is not None:
            known = {service.name for service in found}
            urls = dict.fromkeys(url.rstrip("/") for url in entry.source.status_urls)
            found += [HttpService(url, self._fetch) for url in urls if url not in known]
        return [*found, *(each for each in self._lists if each.serves(maker))][:MAX_ASKED]

    def _learned(self, question: Question, statement: Statement) -> SealStatus:
        status = SealStatus(
            history=statement.history,
            source=statement.source,
            produced_at=statement.produced_at,
            next_update=statement.next_update,
            evidence=statement.evidence,
        )
        until = min(statement.next_update, question.now + self._policy.cached)
        with self._cache_lock:
            self._cache[question.sm3] = _Cached(status, question.trust, question.maker, question.now, until)
            self._cache.move_to_end(question.sm3)
            if len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        return status

    def _not_learned(
        self, question: Question, last: Statement | None, unknown: Statement | None, detail: str
    ) -> SealStatus:
        """Nobody gave a fresh answer about the seal: fall back on what is known, as far as policy allows."""
        if last is not None:
            offline_until = max(last.next_update, last.produced_at + self._policy.offline)
            bad = last.state(question.now) is not SealState.VALID
            offline = self._policy.unavailable is Unavailable.OFFLINE and question.now <= offline_until
            if bad or (offline and unknown is None):
                return SealStatus(
                    history=last.history,
                    source=last.source,
                    produced_at=last.produced_at,
                    next_update=None if bad else offline_until,
                    evidence=last.evidence,
                    detail=detail,
                    stale=True,
                )
        if unknown is not None:
            return SealStatus(
                source=unknown.source,
                produced_at=unknown.produced_at,
                next_update=unknown.next_update,
                evidence=unknown.evidence,
                detail=detail,
            )
        return SealStatus(detail=detail)
