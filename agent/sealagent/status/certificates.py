"""Asks whether certificates are revoked: OCSP responders, then revocation lists, and what was said before.

The first that gives a clear answer is believed. A certificate that was revoked stays so, whoever keeps us from asking.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from sealagent.errors import SealAgentError
from sealagent.pki.certificates import Certificate
from sealagent.pki.crl import MAX_CRL_OCTETS, RevocationList
from sealagent.pki.ocsp import MAX_OCSP_OCTETS, build_ocsp_request
from sealagent.pki.revocation import CertificateState, CertificateStatus, RevocationSource
from sealagent.pki.trust import TrustStore
from sealagent.status.kept_files import KeptFiles
from sealagent.status.places import QUESTION_SECONDS, Places, by_issuer, in_certificates, in_trust, together
from sealagent.status.policy import CLOCK_SKEW, AskingPolicy, Unavailable
from sealagent.status.revocation_lists import MAX_LISTS, ON_HOLD, CrlFiles, CrlUrls, best
from sealagent.status.services import Fetch
from sealagent.verdict import timestamp

__all__ = ["FirstAnswer", "KeptStatus", "OcspResponder", "build_revocation"]

NONCE_OCTETS = 16
MAX_KEPT = 1024  # answers kept: one's own certificates and CAs, and those of the documents verified lately
MAX_REVOKED = 4096  # revoked certificates remembered; each takes some 3 KiB with its evidence
LOCKS = 64  # certificates asked about at once; two that share a lock wait for each other
MAX_FAULT = 200  # characters of what one responder did wrong

_OCSP = "ocsp "
"""How the source of an answer by OCSP begins."""


class OcspResponder:
    """A :class:`~sealagent.pki.revocation.RevocationSource` over OCSP responders. It waits for the network.

    :param places: gives the addresses of responders for a chain, in order.
    :param nonce: whether requests carry one, so that no older answer can be played back. Responders that answer from
        stock ignore it (RFC 5019 4); a few refuse the request.
    :param digest_name: by which requests name the issuer.
    :param responders: gives the revocation list of a CA, if one is at hand, to look its responder up in.
    """

    def __init__(
        self,
        places: Places,
        fetch: Fetch,
        *,
        nonce: bool = True,
        digest_name: Literal["sha1", "sha256", "sm3"] = "sha1",
        responders: Callable[[Certificate], RevocationList | None] = lambda issuer: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = places
        self._fetch = fetch
        self._nonce = nonce
        self._digest_name = digest_name
        self._responders = responders
        self._clock = clock

    def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
        """See :class:`~sealagent.pki.revocation.RevocationSource`."""
        urls = tuple(self._places(chain)) if len(chain) > 1 else ()
        unsure: CertificateStatus | None = None
        faults: list[str] = []
        end = self._clock() + QUESTION_SECONDS
        for url in urls:
            if faults and self._clock() > end:
                faults.append("the time for this question was used up")
                break
            status = self._ask(url, chain, now)
            if status.state is not CertificateState.UNKNOWN:
                return status
            faults.append(f"{url}: {status.detail}"[:MAX_FAULT])
            if status.evidence:
                unsure = unsure or status
        found = unsure or CertificateStatus(CertificateState.UNKNOWN, asked=bool(urls))
        return replace(found, detail="; ".join(faults))

    def _ask(self, url: str, chain: Sequence[Certificate], now: datetime) -> CertificateStatus:
        from sealagent.pki.revinfo import judge_ocsp  # slow to load

        nonce = secrets.token_bytes(NONCE_OCTETS) if self._nonce else None
        request = build_ocsp_request(chain[0], chain[1], nonce, self._digest_name)
        try:
            response = self._fetch(url, request, "application/ocsp-request", MAX_OCSP_OCTETS)
        except SealAgentError as error:
            return CertificateStatus(CertificateState.UNKNOWN, detail=error.message)
        status = judge_ocsp(response, chain, now, nonce=nonce, responders=self._responders(chain[1]))
        return replace(status, source=_OCSP + url)


class FirstAnswer:
    """A :class:`~sealagent.pki.revocation.RevocationSource` over others, asked in order until one knows.

    An answer that is out of date counts only if none of the others has one. Of those who do not know, one who said so
    with a signature comes first.
    """

    def __init__(self, *sources: RevocationSource) -> None:
        self._sources = sources

    def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
        """See :class:`~sealagent.pki.revocation.RevocationSource`."""
        found: list[CertificateStatus] = []
        for source in self._sources:
            status = source.status(chain, at, now)
            if status.state is not CertificateState.UNKNOWN and not status.stale:
                return status
            found.append(status)
        asked = [each for each in found if each.asked]
        if not asked:
            whose = chain[1].subject if len(chain) > 1 else chain[0].subject
            detail = f"no responder and no revocation list is known for certificates of {whose}"
            return CertificateStatus(CertificateState.UNKNOWN, detail=detail, asked=False)
        chosen = best(asked)
        if chosen.state is not CertificateState.UNKNOWN:
            return chosen
        return replace(chosen, detail="; ".join(each.detail for each in asked if each.detail))


@dataclass(frozen=True, slots=True)
class _Kept:
    status: CertificateStatus
    asked_at: datetime
    until: datetime
    """Until then nobody is asked."""
    counts_until: datetime
    """Until then it counts by its issuer's word."""


class KeptStatus:
    """A :class:`~sealagent.pki.revocation.RevocationSource` that keeps the answers of another.

    * An answer is used again without asking for :attr:`~.policy.AskingPolicy.cached`, if its issuer does not say less.
    * While nobody can be asked it counts until its nextUpdate, and with :attr:`~.policy.Unavailable.OFFLINE` for some
      hours after it was made, then as ``stale``. A responder that says that it does not know the certificate was asked.
    * A revocation is final (RFC 5280 5.3.1) and never asked about again, but for a certificate on hold: its hold may
      have ended, so it is asked about; while nobody can be asked, it stays on hold.

    :param files: where answers by OCSP are kept for after a restart; None: nowhere.
    """

    def __init__(self, source: RevocationSource, policy: AskingPolicy, files: KeptFiles | None = None) -> None:
        self._source = source
        self._policy = policy
        self._files = files
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[str, ...], _Kept] = OrderedDict()
        self._revoked: OrderedDict[tuple[str, ...], CertificateStatus] = OrderedDict()
        self._asking = tuple(threading.Lock() for _ in range(LOCKS))

    def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
        """See :class:`~sealagent.pki.revocation.RevocationSource`."""
        key = tuple(each.sha256 for each in chain)
        if (known := self._known(key, now)) is not None:
            return known
        with self._asking[hash(key) % LOCKS]:  # the second to ask takes what the first one learns
            known = self._known(key, now) or self._restored(key, chain)
            if known is not None:
                return known
            status = self._source.status(chain, at, now)
            found = self._learned(key, status, now)
            if found is status and found.source.startswith(_OCSP) and found.state is not CertificateState.UNKNOWN:
                self._keep(key, found, now)
            return found

    def _keep(self, key: tuple[str, ...], status: CertificateStatus, now: datetime) -> None:
        if self._files is not None:
            self._files.keep("\n".join(key), status.evidence, now)

    def _restored(self, key: tuple[str, ...], chain: Sequence[Certificate]) -> CertificateStatus | None:
        """Take up what was answered before a restart, verified anew as of then. Returned is a final revocation only."""
        if self._files is None:
            return None
        with self._lock:
            if key in self._answers:
                return None
        kept = self._files.load("\n".join(key))
        if kept is None:
            return None
        from sealagent.pki.revinfo import judge_ocsp  # slow to load

        octets, moment = kept
        status = replace(judge_ocsp(octets, chain, moment), source=f"{_OCSP}of {timestamp(moment)}")
        if status.state is CertificateState.UNKNOWN:
            return None
        with self._lock:
            self._store(key, status, moment, until=moment)
            return self._revoked.get(key)

    def _known(self, key: tuple[str, ...], now: datetime) -> CertificateStatus | None:
        with self._lock:
            if (revoked := self._revoked.get(key)) is not None:
                return self._remembered(key, revoked, now)
            kept = self._answers.get(key)
            # Long before asked_at: somebody set the clock back, or asks about the past.
            if kept is None or not kept.asked_at - CLOCK_SKEW <= now < kept.until:
                return None
            self._answers.move_to_end(key)
            return kept.status

    def _remembered(self, key: tuple[str, ...], revoked: CertificateStatus, now: datetime) -> CertificateStatus:
        """Return a final revocation. Its evidence is let go when it is out of date and large: a whole list."""
        self._revoked.move_to_end(key)
        end = revoked.next_update
        if len(revoked.evidence) > MAX_OCSP_OCTETS and end is not None and end + CLOCK_SKEW < now:
            revoked = self._revoked[key] = replace(revoked, evidence=b"")
        return revoked

    def _learned(self, key: tuple[str, ...], status: CertificateStatus, now: datetime) -> CertificateStatus:
        with self._lock:
            kept = self._answers.get(key)
            if not _is_final(status):
                if status.state is CertificateState.UNKNOWN or status.stale:
                    return self._fall_back(kept, status, now)
                if kept is not None and kept.counts_until >= now and _made(kept.status) > _made(status):
                    return kept.status  # an older answer, played back or from another place
            self._store(key, status, now, until=now + self._policy.cached)
            return status

    def _store(self, key: tuple[str, ...], status: CertificateStatus, now: datetime, until: datetime) -> None:
        if _is_final(status):
            self._answers.pop(key, None)
            self._revoked[key] = status
            if len(self._revoked) > MAX_REVOKED:
                self._revoked.popitem(last=False)
            return
        end = status.next_update or now
        self._answers[key] = _Kept(status, now, min(end, until), end)
        self._answers.move_to_end(key)
        if len(self._answers) > MAX_KEPT:
            self._answers.popitem(last=False)

    def _fall_back(self, kept: _Kept | None, status: CertificateStatus, now: datetime) -> CertificateStatus:
        """Nobody gave a clear, fresh answer: use what is known, as far as that counts."""
        if kept is None or now < kept.asked_at - CLOCK_SKEW:
            return status
        last, why = kept.status, status.detail
        denied = status.state is CertificateState.UNKNOWN and bool(status.evidence)
        if last.state is CertificateState.REVOKED:
            return replace(last, detail=why, stale=now > kept.counts_until)
        if denied:
            return status
        if now <= kept.counts_until:
            return last
        if status.stale and _made(status) >= _made(last):
            return status
        offline = self._policy.offline if self._policy.unavailable is Unavailable.OFFLINE else timedelta(0)
        return replace(last, detail=why, stale=True) if now <= _made(last) + offline else status


def _is_final(status: CertificateStatus) -> bool:
    return status.state is CertificateState.REVOKED and status.reason != ON_HOLD


def _made(status: CertificateStatus) -> datetime:
    assert status.produced_at is not None  # GOOD and REVOKED come from evidence
    return status.produced_at


def build_revocation(
    trust: Callable[[], TrustStore],
    fetch: Fetch,
    policy: AskingPolicy,
    *,
    ocsp: Mapping[str, Sequence[str]] | None = None,
    crls: Sequence[str | Path] = (),
    use_trust_lists: bool = True,
    use_certificate_urls: bool = False,
    directory: Path | None = None,
) -> KeptStatus | None:
    """Put together what the configuration describes; None where it names nobody. Nobody is asked yet.

    :param trust: gives the trust in force.
    :param ocsp: addresses of responders by SHA-256 (lower-case hexadecimal) of the CA certificate they answer for.
    :param crls: revocation lists: files, folders and addresses. Which CA's a list is stands in it.
    :param use_trust_lists: also ask where trust lists say.
    :param use_certificate_urls: also ask where the certificates themselves say.
    :param directory: where answers are kept for after a restart; None: nowhere.
    """
    responders: list[Places] = [by_issuer(ocsp)] if ocsp else []
    urls = tuple(each for each in crls if isinstance(each, str))
    files = tuple(each for each in crls if isinstance(each, Path))
    lists: list[Places] = [lambda chain: urls] if urls else []
    if use_trust_lists:
        responders.append(in_trust(trust, "ocsp"))
        lists.append(in_trust(trust, "crls"))
    if use_certificate_urls:
        responders.append(in_certificates("ocsp"))
        lists.append(in_certificates("crls"))
    if not (responders or lists or files):
        return None
    offline = policy.offline if policy.unavailable is Unavailable.OFFLINE else timedelta(0)
    local = CrlFiles(files, offline=offline)
    kept_lists = kept_answers = None
    if directory is not None:
        kept_lists = KeptFiles(directory, ".crl", limit=MAX_CRL_OCTETS, count=MAX_LISTS)
        kept_answers = KeptFiles(directory, ".ocsp", limit=MAX_OCSP_OCTETS, count=MAX_KEPT)
    fetched = CrlUrls(together(*lists), fetch, offline=offline, files=kept_lists)
    asked = OcspResponder(
        together(*responders),
        fetch,
        responders=lambda issuer: local.known(issuer) or fetched.known(issuer),
    )
    return KeptStatus(FirstAnswer(asked, local, fetched), policy, kept_answers)
