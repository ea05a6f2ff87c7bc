"""The second half of the line: unlock → record intent → sign → self-verify → time-stamp → record outcome → release.

What is signed, and why it may be, is settled before (:mod:`sealagent.signing.line`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, NoReturn

from sealagent.callers.peer import Caller
from sealagent.consent.prompter import Occasion
from sealagent.errors import SealAgentError
from sealagent.events import Event, Publish
from sealagent.pki.digests import digest as digest_of
from sealagent.pki.keys import PublicKey, load_public_key
from sealagent.pki.signatures import SignatureAlgorithm, signing_digest, verify_digest
from sealagent.records.ledger import Entry, Head, Kept, Ledger
from sealagent.signing.authorize import Authorizer, Permit
from sealagent.signing.guard import Guard
from sealagent.signing.inventory import AvailableKey, Inventory
from sealagent.signing.keeping import joined, parted
from sealagent.signing.mechanisms import algorithm_of
from sealagent.signing.receipts import Receipt, receipt_of
from sealagent.signing.recording import Recorder
from sealagent.signing.timestamping import Stamp, Timestamper
from sealagent.signing.unlock import EnteredPin, Unlocked, Unlocker
from sealagent.status.evidence import EvidenceStore
from sealdrivers.contract import Mechanism
from sealdrivers.errors import DriverError, LoginRequired

__all__ = ["Finish", "Made", "Once", "Performer", "Work", "key_facts", "work_for"]

Finish = Callable[[bytes, "bytes | None"], bytes]
"""Takes a signature and its time-stamp token, and returns what is released."""


SEALED = frozenset({"document", "seal_digest"})
"""Operations whose signatures hold a seal, which is kept apart."""


@dataclass(frozen=True, slots=True)
class Once:
    """What a signature is made under so that it is made once: a retry by the same name gets the same signature."""

    owner: str
    """User and application."""
    key: str
    """The Idempotency-Key, or the name of a batch."""
    request: bytes
    """SHA-256 of the request; the same name with another request is a conflict."""
    item: int = 0
    new: bool = False
    """Nothing can have been made under this name yet, so nobody looks. (The record takes no second one in any case.)"""

    def keep(self, kind: str, value: bytes) -> Kept:
        """Return what the record keeps.

        :param kind: the operation a signature was made for. :param value: of :mod:`sealagent.signing.keeping`.
        """
        return Kept(self.owner, self.key, self.item, self.request, kind, value)


@dataclass(frozen=True, slots=True)
class Made:
    """A signature that is on record and may be released."""

    value: bytes
    intent: Entry
    outcome: Entry
    head: Head
    """Of the record, with the outcome in it."""

    @property
    def receipt(self) -> Receipt:
        """The receipt, made from the two entries when it is wanted."""
        return receipt_of(self.intent, self.outcome, self.head)


@dataclass(frozen=True, slots=True)
class Work:
    """One thing the device is to sign, with what the record says of it."""

    caller: Caller
    key: AvailableKey
    public_key: PublicKey
    mechanism: Mechanism
    digest: bytes
    occasion: Occasion
    permit: Permit
    facts: dict[str, Any]
    once: Once | None = None
    seal: bytes | None = None
    """The seal (DER SESeal) that the signature will hold."""

    @property
    def algorithm(self) -> SignatureAlgorithm:
        return algorithm_of(self.mechanism)


def work_for(
    permit: Permit,
    key: AvailableKey,
    mechanism: Mechanism,
    message: bytes,
    occasion: Occasion,
    facts: dict[str, Any],
    once: Once | None = None,
    seal: bytes | None = None,
) -> Work:
    """Return the work of signing a message that the agent has itself."""
    public_key = load_public_key(key.spki)
    digest = signing_digest(public_key, algorithm_of(mechanism), message)
    facts = facts | key_facts(key, mechanism)
    return Work(permit.caller, key, public_key, mechanism, digest, occasion, permit, facts, once, seal)


def key_facts(key: AvailableKey, mechanism: Mechanism | None) -> dict[str, Any]:
    """Return what the record says of a key."""
    return {
        "key": key.info.uri,
        "mechanism": mechanism.value if mechanism else None,
        "certificate": {"serial": key.certificate.serial, "sha256": key.certificate.sha256}
        if key.certificate
        else None,
    }


class Performer:
    """Brings work to a released signature, or on record as refused or failed.

    :param timestamper: stamps seal signatures; None: they have no time-stamp.
    """

    def __init__(
        self,
        *,
        guard: Guard,
        authorizer: Authorizer,
        inventory: Inventory,
        unlocker: Unlocker,
        ledger: Ledger,
        recorder: Recorder,
        publish: Publish,
        evidence: EvidenceStore,
        timestamper: Timestamper | None = None,
    ) -> None:
        self._evidence = evidence
        self._guard = guard
        self._authorizer = authorizer
        self._inventory = inventory
        self._unlocker = unlocker
        self._ledger = ledger
        self._recorder = recorder
        self._publish = publish
        self._timestamper = timestamper

    async def perform(self, work: Work, finish: Finish | None = None) -> Made:
        """Unlock, record the intent, sign, verify, time-stamp, finish, record the outcome, release.

        Only what is finished, a seal signature, is time-stamped.
        """
        for last in (False, True):
            try:
                intent, value, stamp, keep = await self._sign(work, finish)
                break
            except LoginRequired:
                # The worker was restarted since the PIN was entered: the holder is asked once more.
                if last:
                    raise
        facts: dict[str, Any] = {"timestamp": stamp.facts()} if stamp else {}
        operation = work.facts["operation"]
        facts = {"signature_sha256": digest_of("sha256", value).hex(), **facts}
        outcome = await self._recorder.signed(intent, facts, keep)
        self._publish(Event("signed", {"record": outcome.number, "operation": operation}))
        return Made(value, intent, outcome, self._ledger.head())

    async def again(self, once: Once | None) -> Made | None:
        """Return the signature that was made under this name before.

        :raises SealAgentError: ``idempotency_conflict``: it was made for another request; ``record_damaged``.
        """
        if once is None or once.new:
            return None
        kept = await asyncio.to_thread(self._ledger.kept, once.owner, once.key, once.item)
        if kept is None:
            return None
        if kept.request != once.request:
            raise SealAgentError("idempotency_conflict", "this Idempotency-Key belongs to another request")
        intent, outcome = [await asyncio.to_thread(self._ledger.read, n) for n in (kept.intent, kept.outcome)]
        value = kept.value
        if kept.kind in SEALED:
            value = await asyncio.to_thread(joined, value, self._evidence)
        return Made(value, intent, outcome, self._ledger.head())

    async def refuse(self, caller: Caller, facts: Mapping[str, Any], error: SealAgentError | DriverError) -> NoReturn:
        """Put a refusal on record, then raise its error."""
        entry = await self._recorder.refused(caller, facts, error)
        self._publish(Event("refused", {"record": entry.number, "reason": error.code}))
        raise error

    async def _sign(self, work: Work, finish: Finish | None) -> tuple[Entry, bytes, Stamp | None, Kept | None]:
        """Bring one intent to a verified and finished signature, or on record as failed."""
        once = work.once
        intent = None
        try:
            async with AsyncExitStack() as stack:
                entered = await self._unlocked(work, stack)
                facts = work.facts | {"authorization": work.permit.facts()}
                intent = await self._recorder.intent(work.caller, facts)
                signature = await self._guard.sign(
                    work.permit,
                    work.key.info.uri,
                    work.mechanism,
                    work.digest,
                    entered.pin,
                    confirmed_last_try=entered.confirmed_last_try,
                )
                if not verify_digest(work.public_key, work.algorithm, signature, work.digest).ok:
                    raise SealAgentError(
                        "device_signature_wrong",
                        "the device's signature does not verify with the certificate's public key",
                    )
            stamp = None
            operation = work.facts["operation"]
            if finish is None:
                return intent, signature, stamp, once.keep(operation, signature) if once else None
            if self._timestamper is not None:
                stamp = await asyncio.to_thread(self._timestamper.stamp, signature)
            value = await asyncio.to_thread(finish, signature, stamp.token if stamp else None)
            if once is None or work.seal is None:
                return intent, value, stamp, None
            octets = await asyncio.to_thread(parted, value, work.seal, self._evidence)
            return intent, value, stamp, once.keep(operation, octets)
        except BaseException as error:
            if intent is None:
                raise  # a refusal is on record already
            # Whatever it was, a cancelled request included, the intent gets its outcome.
            if isinstance(error, DriverError):
                self._inventory.invalidate()
            entry = await self._recorder.failed(intent, error)
            facts = {"reason": entry.body["reason"], "operation": work.facts["operation"]}
            self._publish(Event("failed", {"record": entry.number, **facts}))
            raise

    async def _unlocked(self, work: Work, stack: AsyncExitStack) -> EnteredPin:
        """Unlock the token, and have the holder agree; return a PIN only for a key that wants one each time."""
        token, permit = work.key.token, work.permit
        try:
            asks_itself = work.key.info.always_authenticate  # its own prompt is the question then
            unlocking = self._authorizer.unlocked(permit, token, work.occasion, asks_itself=asks_itself)
            unlocked = await stack.enter_async_context(unlocking)
            if await self._inventory.always_authenticates(work.key):
                entering = self._unlocker.pin_for_signature(
                    token, work.occasion, ask=permit.ask, offer_session=permit.offer_session
                )
                entered = await stack.enter_async_context(entering)
                if permit.ask:
                    await self._authorizer.agreed(permit, Unlocked("pin", entered.consent, unlocked.session))
                return entered
            if permit.ask:  # the token said before its login that the key wants a PIN each time, and it does not
                await stack.enter_async_context(self._authorizer.unlocked(permit, token, work.occasion))
        except (SealAgentError, DriverError) as error:
            await self.refuse(work.caller, work.facts | {"authorization": permit.facts()}, error)
        return EnteredPin(None)
