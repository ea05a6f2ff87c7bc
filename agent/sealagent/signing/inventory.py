"""What can be used now: tokens, keys with their certificates, and seals matched to them.

One snapshot serves every request until something changes; a request that finds nothing looks once more at the devices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sealagent.clock import Clock
from sealagent.errors import FormatError, SealAgentError
from sealagent.pki.certificates import Certificate
from sealagent.pki.path import TrustStore
from sealagent.seals.model import Seal
from sealagent.seals.parse import parse_seal, sniff
from sealagent.seals.store import SealStore
from sealagent.seals.verify import Policy, judge_seal, judge_signer, lists_certificate
from sealagent.verdict import Reason, SignatureReport, Verdict, decide
from sealdrivers.contract import KeyInfo, TokenInfo, TokenService
from sealdrivers.errors import DriverError, TokenNotFound

__all__ = ["AvailableKey", "AvailableSeal", "Inventory", "Snapshot"]

JUDGED_FOR = timedelta(seconds=60)
"""How long a seal's verdict is used again; never beyond a moment at which a date in it begins or ends."""


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
class AvailableSeal:
    """A seal and whether it can be used now."""

    seal: Seal
    source: Literal["token", "store"]
    key: AvailableKey | None
    """The key whose certificate the seal lists, if its token is plugged in."""
    report: SignatureReport
    """The verdict on the seal itself."""
    signer_reasons: tuple[Reason, ...]
    """What is wrong with the signer's certificate now."""
    judged_until: datetime

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Everything that speaks against using the seal now, token aside."""
        return (*self.report.reasons, *self.signer_reasons)

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
    seals: dict[str, AvailableSeal]
    """By seal id."""
    faults: tuple[str, ...]
    """What could not be read, a sentence each."""


class Inventory:
    """Looks at tokens and store, and judges the seals.

    :param trust: certificates that vouch for makers and signers.
    :param strict: judge by the 2014/2020 rule.
    """

    def __init__(
        self, tokens: TokenService, store: SealStore, trust: TrustStore, clock: Clock, *, strict: bool
    ) -> None:
        self._tokens = tokens
        self._store = store
        self._trust = trust
        self._clock = clock
        self._strict = strict
        self._snapshot: Snapshot | None = None
        self._lock = asyncio.Lock()

    @property
    def policy(self) -> Policy:
        """How signatures and seals are judged at this moment."""
        return Policy(trust=self._trust, now=self._clock(), strict=self._strict)

    def invalidate(self) -> None:
        """Forget the snapshot; the next request looks anew."""
        self._snapshot = None

    async def snapshot(self, *, fresh: bool = False) -> Snapshot:
        """Return what is there; ``fresh`` looks at the devices in any case."""
        if fresh:
            self._snapshot = None
        async with self._lock:
            if self._snapshot is None:
                self._snapshot = await self._look()
            return self._snapshot

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

    async def seal(self, name: str) -> AvailableSeal:
        """Return a seal by id (or an unambiguous beginning of eight digits or more), esID or name, judged now.

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
                if self._clock() < found.judged_until:
                    return found
                judged = self._judge(found)
                snapshot.seals[judged.seal.id] = judged
                return judged
        raise SealAgentError("seal_not_found", f"no seal {name!r} on a plugged-in token or in the store")

    async def _look(self) -> Snapshot:
        tokens: dict[str, TokenInfo] = {}
        keys: dict[str, AvailableKey] = {}
        certificates: list[tuple[TokenInfo, Certificate]] = []
        found: list[tuple[Seal, Literal["token", "store"]]] = []
        faults: list[str] = []
        for token in await self._tokens.tokens():
            tokens[token.id] = token
            try:
                contents = await self._tokens.contents(token.uri)
            except DriverError as error:
                faults.append(f"token {token.label} ({token.serial}): {error.message}")
                continue
            by_object_id: dict[bytes, Certificate] = {}
            for info in contents.certificates:
                try:
                    certificate = Certificate.from_der(info.der)
                except FormatError as error:
                    faults.append(f"certificate {info.label!r} on token {token.label}: {error.message}")
                    continue
                certificates.append((token, certificate))
                by_object_id[info.object_id] = certificate
            for key in contents.keys:
                keys[key.id] = AvailableKey(key, token, by_object_id.get(key.object_id))
            for data in contents.data_objects:
                if sniff(data.value) != "seal":
                    continue
                try:
                    found.append((parse_seal(data.value), "token"))
                except FormatError as error:
                    faults.append(f"seal {data.label!r} on token {token.label}: {error.message}")
        stored = await asyncio.to_thread(self._store.contents)
        found.extend((seal, "store") for seal in stored.seals)
        faults.extend(f"stored seal {name}: {wrong}; import it again" for name, wrong in stored.damaged)
        seals: dict[str, AvailableSeal] = {}
        for seal, source in found:
            if seal.id not in seals:
                seals[seal.id] = self._available(seal, source, keys.values())
        return Snapshot(tokens, keys, tuple(certificates), seals, tuple(faults))

    def _available(self, seal: Seal, source: Literal["token", "store"], keys: Iterable[AvailableKey]) -> AvailableSeal:
        key = next((key for key in keys if key.certificate and lists_certificate(seal, key.certificate.der)), None)
        return self._judge(AvailableSeal(seal, source, key, _UNJUDGED, (), self._clock()))

    def _judge(self, item: AvailableSeal) -> AvailableSeal:
        policy = self.policy
        report = judge_seal(item.seal.raw, policy)
        certificate = item.key.certificate if item.key else None
        signer_reasons: Sequence[Reason] = judge_signer(certificate, policy.now, policy).reasons if certificate else ()
        moments = [item.seal.valid_from, item.seal.valid_until]
        if certificate:
            moments += [certificate.not_before, certificate.not_after]
        until = min([policy.now + JUDGED_FOR, *(moment for moment in moments if moment > policy.now)])
        return replace(item, report=report, signer_reasons=tuple(signer_reasons), judged_until=until)


_UNJUDGED = SignatureReport(id="", kind="seal", version=None, intact=None)


def _is_named(seal: Seal, name: str) -> bool:
    return name in (seal.es_id, seal.name) or (len(name) >= 8 and seal.id.startswith(name))
