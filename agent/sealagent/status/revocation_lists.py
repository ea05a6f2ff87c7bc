"""Asks certificate revocation lists whether a certificate is revoked: files, and lists fetched from addresses."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sealagent.errors import FormatError, SealAgentError
from sealagent.files import read_regular
from sealagent.pki.certificates import Certificate
from sealagent.pki.crl import MAX_CRL_OCTETS, RevocationList, read_crl
from sealagent.pki.revocation import CertificateState, CertificateStatus
from sealagent.status.kept_files import KeptFiles
from sealagent.status.places import QUESTION_SECONDS, Places
from sealagent.status.services import Fetch

__all__ = ["MAX_LISTS", "ON_HOLD", "CrlFiles", "CrlUrls", "best"]

MAX_FILES = 64  # lists of one configuration; each CA has one or two
MAX_LISTS = 64  # addresses whose lists are remembered
MAX_LISTS_OCTETS = 128 << 20  # of all fetched lists in memory; one of 100,000 entries has some 4 MiB
REFRESH = timedelta(hours=1)
"""After this a list is fetched anew although it still counts: many CAs publish daily what is good for a week."""

RETRY = timedelta(seconds=10)
"""Nobody is asked again for a list within this, when it could not be had, or was out of date already."""

LOCKS = 16  # addresses asked at once; two that share a lock wait for each other
MAX_FAULT = 200  # characters of what was wrong with one list

ON_HOLD = "certificate_hold"
"""The one reason of a revocation that may end (RFC 5280 5.3.1)."""


def _judge(
    lists: Iterable[RevocationList], chain: Sequence[Certificate], now: datetime, offline: timedelta, where: str
) -> CertificateStatus:
    """Return the best that some lists of one place say.

    A list that went out of date counts for a while where policy allows it, as of its last good moment.
    """
    from sealagent.pki.revinfo import judge_crl  # slow to load

    ours = [each for each in lists if _is_of(each, chain[1])]
    changes = [each for each in ours if each.is_delta]
    found: list[CertificateStatus] = []
    for complete in (each for each in ours if not each.is_delta):
        status = judge_crl(complete, chain, now)
        for delta in changes if status.state is not CertificateState.UNKNOWN else ():
            both = judge_crl(complete, chain, now, delta=delta)
            if both.state is not CertificateState.UNKNOWN:  # else it belongs to another list
                status = both
        end = complete.next_update
        if status.state is CertificateState.UNKNOWN and end and end < now <= complete.this_update + offline:
            old = judge_crl(complete, chain, end)
            status = status if old.state is CertificateState.UNKNOWN else replace(old, stale=True)
        found.append(replace(status, source=f"crl {where}"))
    if not found:
        detail = f"{where}: no revocation list of {chain[1].subject}"
        return CertificateStatus(CertificateState.UNKNOWN, source=f"crl {where}", detail=detail)
    return best(found)


def best(found: Sequence[CertificateStatus]) -> CertificateStatus:
    """Return the status that counts: a final revocation, else the newest word, fresh before stale.

    Of those who do not know, one who said so with a signature comes first.
    """
    return max(found, key=_worth)


def _worth(status: CertificateStatus) -> tuple[bool, bool, bool, bool, float]:
    known = status.state is not CertificateState.UNKNOWN
    final = status.state is CertificateState.REVOKED and status.reason != ON_HOLD
    made = status.produced_at.timestamp() if status.produced_at else 0.0
    return final, known, known and not status.stale, bool(status.evidence), made


@dataclass(frozen=True, slots=True)
class _File:
    stamp: tuple[int, int, int]
    """Modified (ns), size, inode."""
    list: RevocationList | None
    fault: str


class CrlFiles:
    """A :class:`~sealagent.pki.revocation.RevocationSource` over files, for networks where nobody can be asked.

    Files are looked at with each question and read again when they changed. A list of changes is applied to the
    complete list it belongs to.

    :param paths: files, or folders in which every file is a list; DER or PEM.
    :param offline: for how long after it was made a list counts that went out of date; zero: not at all.
    """

    def __init__(self, paths: Sequence[Path], *, offline: timedelta = timedelta(0)) -> None:
        self._paths = tuple(paths)
        self._offline = offline
        self._lock = threading.Lock()
        self._files: dict[Path, _File] = {}

    def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
        """See :class:`~sealagent.pki.revocation.RevocationSource`."""
        lists, faults = self._read()
        of_issuer = {path: each for path, each in lists.items() if len(chain) > 1 and _is_of(each, chain[1])}
        if not of_issuer:
            return _nobody("; ".join(faults))
        where = ", ".join(str(path) for path in of_issuer)
        status = _judge(of_issuer.values(), chain, now, self._offline, where)
        return replace(status, detail="; ".join([status.detail, *faults])) if status.detail else status

    def known(self, issuer: Certificate) -> RevocationList | None:
        """Return the newest complete list that names this issuer; nothing of it is verified."""
        return _newest(self._read()[0].values(), issuer)

    def _read(self) -> tuple[dict[Path, RevocationList], list[str]]:
        with self._lock:
            known, self._files = self._files, {}
            faults: list[str] = []
            for path in self._paths:
                try:
                    for file in _files(path):
                        if len(self._files) == MAX_FILES:
                            raise OSError(0, f"more than {MAX_FILES} revocation lists")
                        self._files[file] = _load(file, known.get(file))
                except OSError as error:
                    faults.append(f"{path}: {error.strerror or error}")
            faults += [f"{path}: {each.fault}"[:MAX_FAULT] for path, each in self._files.items() if each.fault]
            return {path: each.list for path, each in self._files.items() if each.list is not None}, faults


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]


def _load(path: Path, known: _File | None) -> _File:
    found = os.stat(path)
    stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
    if known is not None and known.stamp == stamp:
        return known
    try:
        return _File(stamp, read_crl(read_regular(path, MAX_CRL_OCTETS)), "")
    except FormatError as error:
        return _File(stamp, None, error.message)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        return _File(stamp, None, str(error.strerror))


@dataclass(slots=True)
class _Place:
    """What is known of one address."""

    latest: RevocationList | None = None
    """What was fetched last; perhaps of another CA, perhaps forged."""
    verified: RevocationList | None = None
    """The newest list that was found right for a chain: an older one in its place would be a replay."""
    asked_at: datetime | None = None
    fault: str = ""
    """Why nothing could be had the last time."""
    doubted: bool = False
    """The list fetched last claims to be of a CA whose it was found not to be."""
    on_disk: RevocationList | None = None

    @property
    def lists(self) -> list[RevocationList]:
        return [each for each in dict.fromkeys((self.verified, self.latest)) if each is not None]

    @property
    def octets(self) -> int:
        return sum(len(each.octets) for each in self.lists)


class CrlUrls:
    """A :class:`~sealagent.pki.revocation.RevocationSource` over lists that are fetched and kept until they change.

    It waits for the network: call it in a thread.

    :param places: gives the addresses to ask about a chain, in order.
    :param offline: for how long after it was made a list counts that went out of date while no newer one can be had;
        zero: not at all.
    :param refresh: after which a list that still counts is fetched anew.
    :param files: where lists are kept for after a restart; None: nowhere.
    """

    def __init__(
        self,
        places: Places,
        fetch: Fetch,
        *,
        offline: timedelta = timedelta(0),
        refresh: timedelta = REFRESH,
        files: KeptFiles | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = places
        self._fetch = fetch
        self._offline = offline
        self._refresh = refresh
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Place] = OrderedDict()
        self._asking = tuple(threading.Lock() for _ in range(LOCKS))

    def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
        """See :class:`~sealagent.pki.revocation.RevocationSource`."""
        urls = tuple(self._places(chain)) if len(chain) > 1 else ()
        if not urls:
            return _nobody("")
        found: list[CertificateStatus] = []
        end = self._clock() + QUESTION_SECONDS
        for url in urls:
            if found and self._clock() > end:
                break
            with self._asking[hash(url) % LOCKS]:
                found.append(self._ask(url, chain, now))
            if found[-1].state is not CertificateState.UNKNOWN and not found[-1].stale:
                return found[-1]
        chosen = best(found)
        if chosen.state is not CertificateState.UNKNOWN:
            return chosen
        return replace(chosen, detail="; ".join(each.detail for each in found if each.detail))

    def known(self, issuer: Certificate) -> RevocationList | None:
        """Return the newest complete list in memory that names this issuer; nothing of it is verified."""
        with self._lock:
            lists = [each for place in self._kept.values() for each in place.lists]
        return _newest(lists, issuer)

    def _ask(self, url: str, chain: Sequence[Certificate], now: datetime) -> CertificateStatus:
        place = self._place(url)
        if self._is_due(place, now):
            place.asked_at = now
            try:
                place.latest, place.fault = read_crl(self._fetch(url, None, None, MAX_CRL_OCTETS)), ""
            except SealAgentError as error:
                place.fault = f"{url}: {error.message}"[:MAX_FAULT]
        status = _judge(place.lists, chain, now, self._offline, url)
        if place.latest is not None and place.latest is not place.verified:
            place.doubted = _is_of(place.latest, chain[1])
        if status.state is CertificateState.UNKNOWN:
            detail = [place.fault] * bool(place.fault) + [status.detail] * bool(place.lists or not place.fault)
            status = replace(status, detail="; ".join(detail))
        elif place.latest is not None and status.evidence == place.latest.octets:
            self._verified(url, place, place.latest, now)
        self._tidy()
        return status

    def _place(self, url: str) -> _Place:
        with self._lock:
            place = self._kept.get(url)
            if place is not None:
                self._kept.move_to_end(url)
                return place
        place = _Place()
        if self._files is not None and (kept := self._files.load(url)) is not None:
            with suppress(FormatError):
                place.latest = place.on_disk = read_crl(kept[0])  # verified by whoever asks
        with self._lock:
            return self._kept.setdefault(url, place)

    def _verified(self, url: str, place: _Place, latest: RevocationList, now: datetime) -> None:
        if place.verified is None or latest.this_update >= place.verified.this_update:
            place.verified, place.doubted = latest, False
            if place.on_disk is not latest and self._files is not None:
                self._files.keep(url, latest.octets, now)
                place.on_disk = latest

    def _is_due(self, place: _Place, now: datetime) -> bool:
        """Say whether a list must be fetched: none was, the clock went back, it is time to, or it went out of date."""
        if place.asked_at is None or now < place.asked_at:
            return True
        if now < place.asked_at + RETRY:
            return False
        end = place.latest.next_update if place.latest is not None else None
        if place.fault or place.doubted or (end is not None and end < now):
            return True
        return now >= place.asked_at + self._refresh

    def _tidy(self) -> None:
        with self._lock:
            while len(self._kept) > 1 and (
                len(self._kept) > MAX_LISTS or sum(each.octets for each in self._kept.values()) > MAX_LISTS_OCTETS
            ):
                self._kept.popitem(last=False)


def _is_of(listed: RevocationList, issuer: Certificate) -> bool:
    return listed.issuer == issuer.fields.subject.comparable


def _newest(lists: Iterable[RevocationList], issuer: Certificate) -> RevocationList | None:
    ours = [each for each in lists if _is_of(each, issuer) and not each.is_delta]
    return max(ours, key=lambda each: each.this_update, default=None)


def _nobody(detail: str) -> CertificateStatus:
    return CertificateStatus(CertificateState.UNKNOWN, detail=detail, asked=bool(detail))
