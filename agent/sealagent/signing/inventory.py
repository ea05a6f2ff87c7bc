"""What can be used now: tokens, keys with their certificates, and seals matched to them.

One snapshot serves every request until something changes; a request that finds nothing looks once more at the devices.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import repeat
from typing import Literal

from sealagent.clock import Clock
from sealagent.errors import FormatError, SealAgentError
from sealagent.pki.certificates import Certificate
from sealagent.pki.keys import load_public_key
from sealagent.pki.revocation import RevocationSource
from sealagent.pki.trust import TrustStore
from sealagent.seals.model import Seal
from sealagent.seals.parse import parse_seal, sniff
from sealagent.seals.status import SealStatusSource
from sealagent.seals.store import SealStore
from sealagent.seals.verify import Findings, Policy, judge_seal, judge_signer, lists_certificate
from sealagent.status.budget import within
from sealagent.status.witness import Answers, Witness
from sealagent.verdict import Note, Reason, SignatureReport, Verdict, decide
from sealdrivers.contract import KeyInfo, TokenContents, TokenInfo, TokenService
from sealdrivers.errors import DriverError, TokenNotFound

__all__ = ["AvailableKey", "AvailableSeal", "FoundSeal", "Inventory", "Snapshot", "is_key_of"]

JUDGED_FOR = timedelta(seconds=60)
"""How long a seal's verdict is used again, as long as whoever was asked answers the same; never beyond a moment at
which a date in it begins or ends."""

LISTING_SECONDS = 8.0
"""Seconds after which a listing asks no further service: the seals that are left have an unknown status."""

LISTING_THREADS = 4
"""Seals of a listing that are judged, and asked about, at once."""

READING_PATIENCE = 4.0
"""Seconds a token may take to show what it holds before a listing goes on without it."""


@dataclass(frozen=True, slots=True)
class AvailableKey:
    """A key on a present token."""

    info: KeyInfo
    token: TokenInfo
    certificate: Certificate | None

    @property
    def spki(self) -> bytes:
        """The public key to verify with (DER SubjectPublicKeyInfo): the certificate's, which others will use.

        :raises SealAgentError: ``public_key_unreadable``.
        """
        spki = self.certificate.spki if self.certificate is not None else self.info.public_key
        if spki is None:
            raise SealAgentError("public_key_unreadable", "the token shows neither certificate nor public key")
        return spki


@dataclass(frozen=True, slots=True)
class FoundSeal:
    """A seal and its key; nothing is said of whether it can be used."""

    seal: Seal
    source: Literal["token", "store"]
    key: AvailableKey | None
    """The key whose certificate the seal lists, if its token is plugged in."""
    renewed: Certificate | None
    """Without a key: a certificate that took the place of one that the seal lists; the seal must be re-made for it."""


@dataclass(frozen=True, slots=True)
class AvailableSeal:
    """A seal and whether it can be used now."""

    found: FoundSeal
    report: SignatureReport
    """The verdict on the seal itself."""
    signer_reasons: tuple[Reason, ...]
    """What is wrong with the signer's certificate now."""
    signer_notes: tuple[Note, ...]
    answers: Answers
    """What the verdict rests on: who was asked, and the answers."""
    trust: TrustStore
    """By what it was judged."""
    judged_until: datetime

    @property
    def seal(self) -> Seal:
        return self.found.seal

    @property
    def key(self) -> AvailableKey | None:
        return self.found.key

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Everything that speaks against using the seal now, token aside."""
        return (*self.report.reasons, *self.signer_reasons)

    @property
    def notes(self) -> tuple[Note, ...]:
        """Everything else worth knowing."""
        return tuple(dict.fromkeys((*self.report.notes, *self.signer_notes)))

    @property
    def verdict(self) -> Verdict:
        return decide(self.reasons)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was there at one look."""

    tokens: dict[str, TokenInfo]
    """By token id."""
    keys: dict[str, AvailableKey]
    """By key id."""
    certificates: tuple[tuple[TokenInfo, Certificate], ...]
    seals: dict[str, FoundSeal]
    """By seal id."""
    faults: tuple[str, ...]
    """What could not be read, a sentence each."""


class Inventory:
    """Looks at tokens and store, and judges the seals.

    :param trust: gives what vouches for makers and signers at the moment: trust lists come and go.
    :param strict: judge by the 2014/2020 rule.
    :param revocation: who says whether certificates are revoked. :param status: who says in what state a seal is.
    :param demand_status: whether a seal may not be used while that cannot be found out.
    """

    def __init__(
        self,
        tokens: TokenService,
        store: SealStore,
        trust: Callable[[], TrustStore],
        clock: Clock,
        *,
        strict: bool,
        revocation: RevocationSource | None = None,
        status: SealStatusSource | None = None,
        demand_status: bool = True,
    ) -> None:
        self._tokens = tokens
        self._store = store
        self._trust = trust
        self._clock = clock
        self._strict = strict
        self._revocation = revocation
        self._status = status
        self._demand_status = demand_status
        self._snapshot: Snapshot | None = None
        self._judged: dict[str, AvailableSeal] = {}
        self._changes = 0
        self._lock = asyncio.Lock()
        self._reading: dict[str, asyncio.Future[TokenContents]] = {}
        self._shown: dict[str, TokenContents] = {}
        """What each token held when it was read last."""

    @property
    def policy(self) -> Policy:
        """How signatures and seals are judged at this moment."""
        return Policy(
            trust=self._trust(),
            now=self._clock(),
            strict=self._strict,
            revocation=self._revocation,
            seals=self._status,
            demand_status=self._demand_status,
        )

    def invalidate(self) -> None:
        """Forget the snapshot; the next request looks anew."""
        self._snapshot = None
        self._judged.clear()
        self._changes += 1

    async def snapshot(self, *, fresh: bool = False) -> Snapshot:
        """Return what is there; ``fresh`` looks at the devices in any case."""
        if fresh:
            self.invalidate()
        async with self._lock:
            if self._snapshot is not None:
                return self._snapshot
            before = self._changes
            found, complete = await self._look()
            if complete and before == self._changes:  # what changed meanwhile may be in it or not
                self._snapshot = found
            return found

    async def token(self, name: str) -> TokenInfo:
        """Return a token by id, serial or label. :raises TokenNotFound: none, or more than one, matches."""
        for fresh in (False, True):
            tokens = (await self.snapshot(fresh=fresh)).tokens
            if found := tokens.get(name):
                return found
            matches = [token for token in tokens.values() if name in (token.serial, token.label)]
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise TokenNotFound(f"{len(matches)} tokens are named {name!r}; use the id")
        raise TokenNotFound(f"no token {name!r} is plugged in")

    async def key(self, key_id: str) -> AvailableKey:
        """Return a key by id. :raises SealAgentError: ``key_not_found``."""
        for fresh in (False, True):
            if found := (await self.snapshot(fresh=fresh)).keys.get(key_id):
                return found
        raise SealAgentError("key_not_found", f"no plugged-in token holds the key {key_id}")

    async def always_authenticates(self, key: AvailableKey) -> bool:
        """Say whether each signature of the key needs the PIN, which a token tells only while it is unlocked."""
        for fresh in (False, True):
            if key.token.logged_in or not key.token.login_required:
                break
            key = (await self.snapshot(fresh=fresh)).keys.get(key.info.id, key)
        return key.info.always_authenticate

    async def seal(self, name: str) -> AvailableSeal:
        """Return a seal by id (or an unambiguous beginning of eight digits or more), esID or name, judged now.

        Whoever is configured for it is asked whether the seal and its certificates are good at this moment.

        :raises SealAgentError: ``seal_not_found``, ``seal_ambiguous``.
        """
        for fresh in (False, True):
            snapshot = await self.snapshot(fresh=fresh)
            found = snapshot.seals.get(name)
            if found is None:
                matches = [item for item in snapshot.seals.values() if _is_named(item.seal, name)]
                if len(matches) > 1:
                    raise SealAgentError("seal_ambiguous", f"{len(matches)} seals are named {name!r}; use the id")
                found = matches[0] if matches else None
            # A seal whose token may just have been plugged in deserves a second look.
            if found is not None and (found.key is not None or fresh):
                return await self._judged_now(found)
        raise SealAgentError("seal_not_found", f"no seal {name!r} on a plugged-in token or in the store")

    async def listing(self) -> tuple[list[AvailableSeal], tuple[str, ...]]:
        """Look at the devices; return every seal there is, judged now, and what could not be read."""
        snapshot = await self.snapshot(fresh=True)
        policy = within(self.policy, LISTING_SECONDS)
        # Judging a seal takes milliseconds of mathematics, and perhaps a service: it must not hold up the loop.
        judged = await asyncio.to_thread(_judge_all, list(snapshot.seals.values()), policy)
        if self._snapshot is snapshot:
            self._judged.update((item.seal.id, item) for item in judged)
        return judged, snapshot.faults

    async def _judged_now(self, found: FoundSeal) -> AvailableSeal:
        policy = within(self.policy)
        known = self._judged.get(found.seal.id)
        if (
            known is not None
            and known.found is found
            and known.trust is policy.trust
            and policy.now < known.judged_until
            and (not known.answers.asked or await asyncio.to_thread(known.answers.hold, policy))
        ):
            return known
        judged = await asyncio.to_thread(_judge, found, policy)
        if self._snapshot is not None and self._snapshot.seals.get(found.seal.id) is found:
            self._judged[found.seal.id] = judged
        return judged

    async def _look(self) -> tuple[Snapshot, bool]:
        """Return what is there, and whether everything was read."""
        tokens = await self._tokens.tokens()
        contents, faults = await self._read(tokens)
        stored = await asyncio.to_thread(self._store.contents)
        faults.extend(f"stored seal {name}: {wrong}; import it again" for name, wrong in stored.damaged)
        complete = not self._reading
        # Reading a seal takes time too; a shelf of them must not hold up the loop.
        return await asyncio.to_thread(self._assemble, tokens, contents, stored.seals, faults), complete

    async def _read(self, tokens: Sequence[TokenInfo]) -> tuple[dict[str, TokenContents], list[str]]:
        """Read all tokens at once; one that takes long counts as it was, and nobody else waits for it meanwhile."""
        self._collect()
        begun = {
            token.uri: asyncio.ensure_future(self._tokens.contents(token.uri))
            for token in tokens
            if token.uri not in self._reading
        }
        self._reading |= begun
        if begun:
            await asyncio.wait(begun.values(), timeout=READING_PATIENCE)
        failed = self._collect()
        found: dict[str, TokenContents] = {}
        faults = []
        for token in tokens:
            if token.uri in self._reading:
                faults.append(f"token {token.label} ({token.serial}): it has not answered yet; ask again")
            if token.uri in failed:
                faults.append(f"token {token.label} ({token.serial}): {failed[token.uri].message}")
            elif token.uri in self._shown:
                found[token.uri] = self._shown[token.uri]
        self._shown = {**found}
        return found, faults

    def _collect(self) -> dict[str, DriverError]:
        """Take over what readings have brought; return the errors of those that failed."""
        failed: dict[str, DriverError] = {}
        for uri in [uri for uri, reading in self._reading.items() if reading.done()]:
            try:
                self._shown[uri] = self._reading.pop(uri).result()
            except DriverError as error:
                failed[uri] = error
        return failed

    def _assemble(
        self,
        tokens: Iterable[TokenInfo],
        contents: Mapping[str, TokenContents],
        stored: Iterable[Seal],
        faults: list[str],
    ) -> Snapshot:
        keys: dict[str, AvailableKey] = {}
        certified: list[AvailableKey] = []
        certificates: list[tuple[TokenInfo, Certificate]] = []
        found: list[tuple[Seal, Literal["token", "store"]]] = []
        now = self._clock()
        for token in tokens:
            holds = contents.get(token.uri, _NOTHING)
            own: list[tuple[bytes, Certificate]] = []
            for info in holds.certificates:
                try:
                    own.append((info.object_id, Certificate.from_der(info.der)))
                except FormatError as error:
                    faults.append(f"certificate {info.label!r} on token {token.label}: {error.message}")
            certificates.extend((token, certificate) for _, certificate in own)
            for key in holds.keys:
                # A renewed certificate often stays beside the old one, under the same CKA_ID.
                paired = [
                    AvailableKey(key, token, certificate)
                    for object_id, certificate in own
                    if object_id == key.object_id and is_key_of(certificate, key)
                ]
                paired.sort(key=lambda pair: _usefulness(pair, now), reverse=True)
                keys[key.id] = paired[0] if paired else AvailableKey(key, token, None)
                certified.extend(paired)
            for data in holds.data_objects:
                if sniff(data.value) != "seal":
                    continue
                try:
                    found.append((parse_seal(data.value), "token"))
                except FormatError as error:
                    faults.append(f"seal {data.label!r} on token {token.label}: {error.message}")
        found.extend((seal, "store") for seal in stored)
        seals: dict[str, FoundSeal] = {}
        for seal, source in found:
            if seal.id not in seals:
                seals[seal.id] = _found(seal, source, certified, now)
        return Snapshot({token.id: token for token in tokens}, keys, tuple(certificates), seals, tuple(faults))


def _found(
    seal: Seal, source: Literal["token", "store"], certified: Sequence[AvailableKey], now: datetime
) -> FoundSeal:
    listed = [key for key in certified if key.certificate and lists_certificate(seal, key.certificate.der)]
    key = max(listed, key=lambda pair: _usefulness(pair, now), default=None)
    return FoundSeal(seal, source, key, None if key else _renewed(seal, certified))


def _judge_all(found: Sequence[FoundSeal], policy: Policy) -> list[AvailableSeal]:
    if policy.seals is None and policy.revocation is None:
        return [_judge(item, policy) for item in found]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        return list(pool.map(_judge, found, repeat(policy)))


def _judge(found: FoundSeal, policy: Policy) -> AvailableSeal:
    witness = Witness(policy)
    report = judge_seal(found.seal.raw, witness.policy)
    certificate = found.key.certificate if found.key else None
    signer = judge_signer(certificate, policy.now, witness.policy) if certificate else Findings()
    moments = [found.seal.valid_from, found.seal.valid_until]
    if certificate:
        moments += [certificate.not_before, certificate.not_after]
    return AvailableSeal(
        found,
        report,
        signer_reasons=tuple(signer.reasons),
        signer_notes=tuple(signer.notes),
        answers=witness.answers(),
        trust=policy.trust,
        judged_until=min([policy.now + JUDGED_FOR, *(moment for moment in moments if moment > policy.now)]),
    )


_NOTHING = TokenContents((), (), ())


def is_key_of(certificate: Certificate, key: KeyInfo) -> bool:
    """Say whether a certificate is of this key, as far as the token shows the key's public half."""
    if key.public_key is None or key.public_key == certificate.spki:
        return True
    try:
        return load_public_key(key.public_key) == load_public_key(certificate.spki)
    except SealAgentError:
        return False


def _usefulness(key: AvailableKey, now: datetime) -> tuple[bool, datetime]:
    assert key.certificate is not None
    return key.certificate.valid_at(now), key.certificate.not_after


def _renewed(seal: Seal, certified: Iterable[AvailableKey]) -> Certificate | None:
    """Return a certificate with the key or the subject of one that the seal lists (by octets: a digest shows neither).

    Standards 3.4 a): the seal must then be re-made.
    """
    listed = []
    for der in seal.certificates:
        with contextlib.suppress(FormatError):
            listed.append(Certificate.from_der(der))
    names = {certificate.subject for certificate in listed} | {certificate.spki for certificate in listed}
    present = (key.certificate for key in certified if key.certificate)
    return next((each for each in present if each.subject in names or each.spki in names), None)


def _is_named(seal: Seal, name: str) -> bool:
    return name in (seal.es_id, seal.name) or (len(name) >= 8 and seal.id.startswith(name))
