"""The signing line (design §2): one straight way from a request to a released signature.

identify (the listener) → resolve → check → authorize → unlock → record intent → sign → self-verify → time-stamp →
record outcome → release. A step returns or raises one named error. Nothing after "record intent" happens without a
durable record; a refusal is recorded too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from sealagent.callers.peer import Caller
from sealagent.clock import Clock
from sealagent.consent.prompter import Occasion
from sealagent.documents.limits import Limits
from sealagent.documents.ofd.seal import Placement, Prepared, prepare
from sealagent.errors import FormatError, SealAgentError
from sealagent.events import Event, Publish
from sealagent.pki.digests import digest as digest_of
from sealagent.pki.keys import PublicKey, load_public_key
from sealagent.pki.signatures import SignatureAlgorithm, signing_digest, verify_digest
from sealagent.records.ledger import Entry, Ledger
from sealagent.records.tree import leaf_hash
from sealagent.seals.build import assemble_signature, build_tbs
from sealagent.signing.inventory import AvailableKey, AvailableSeal, Inventory
from sealagent.signing.mechanisms import algorithm_of, certified_choice, checked_mechanism
from sealagent.signing.recording import Recorder
from sealagent.signing.timestamping import Stamp, Timestamper
from sealagent.signing.unlock import EnteredPin, Unlocker
from sealagent.status.evidence import EvidenceStore
from sealagent.verdict import Verdict, timestamp
from sealdrivers.contract import Mechanism, TokenService
from sealdrivers.errors import DriverError, LoginRequired

__all__ = ["DocumentJob", "Receipt", "SealedDigest", "SigningLine"]

Finish = Callable[[bytes, "bytes | None"], bytes]
"""Takes a signature and its time-stamp token, and returns what is released."""

# Refusals of a well-formed request. Malformed input is answered with its error and leaves no entry.
_DOCUMENT_REFUSALS = frozenset({"ofd_closed", "ofd_signing_forbidden", "ofd_encrypted", "ofd_integrity_protected"})


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a caller gets with each signature."""

    record: int
    """Number of the outcome's entry in the record."""
    intent: int
    time: str
    entry_hash: str
    """Leaf hash of the outcome's entry, hexadecimal."""
    signature_sha256: str
    key: str
    certificate_sha256: str | None
    mechanism: str
    seal: str | None = None
    document_sm3: str | None = None
    timestamp: str | None = None
    """The time that a time-stamp over the signature proves; None without one."""

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class DocumentJob:
    """A document to be sealed."""

    seal: str
    """Id, esID or name."""
    placements: Sequence[Placement]
    name: str
    """File name as the caller gives it: shown and recorded, never opened."""
    close: bool = False
    document: int = 0
    """Which document of the package (index of DocBody)."""


@dataclass(frozen=True, slots=True)
class SealedDigest:
    """An SES_Signature over a digest that the caller computed."""

    signature: bytes
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class _Work:
    """One thing the device is to sign, with what the record says of it."""

    caller: Caller
    key: AvailableKey
    public_key: PublicKey
    mechanism: Mechanism
    digest: bytes
    occasion: Occasion
    facts: dict[str, Any]

    @property
    def algorithm(self) -> SignatureAlgorithm:
        return algorithm_of(self.mechanism)


class SigningLine:
    """Carries requests along the line; every collaborator is injected.

    :param require: ``valid`` or ``intact``: the verdict a seal needs to be used.
    :param allow_raw_digests: whether digests computed by a caller are signed.
    :param timestamper: stamps seal signatures; None: they have no time-stamp.
    """

    def __init__(
        self,
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
        allow_raw_digests: bool,
        timestamper: Timestamper | None = None,
    ) -> None:
        self._tokens = tokens
        self._inventory = inventory
        self._unlocker = unlocker
        self._ledger = ledger
        self._recorder = recorder
        self._evidence = evidence
        self._clock = clock
        self._publish = publish
        self._limits = limits
        self._require = require
        self._allow_raw_digests = allow_raw_digests
        self._timestamper = timestamper

    async def seal_document(self, caller: Caller, job: DocumentJob, source: BinaryIO, out: BinaryIO) -> Receipt:
        """Seal an OFD: hash it here, sign on the device, write the sealed file to ``out``.

        :param source: the document, seekable. :param out: receives the sealed document; nothing useful is in it
            unless this returns.
        :raises SealAgentError: any named refusal or fault. :raises DriverError: the device's.
        """
        facts: dict[str, Any] = {"operation": "document", "document": {"name": job.name, "format": "ofd"}}
        seal, key = await self._resolve(caller, job.seal, facts)
        mechanism = certified_choice(key.info)
        algorithm = algorithm_of(mechanism)
        time = self._clock().replace(microsecond=0)
        try:
            prepared: Prepared = await asyncio.to_thread(
                prepare,
                source,
                seal.seal,
                job.placements,
                algorithm_oid=algorithm.oid,
                time=time,
                close=job.close,
                doc=job.document,
                limits=self._limits,
            )
        except SealAgentError as error:
            if error.code in _DOCUMENT_REFUSALS:
                await self._refuse(caller, facts | _key_facts(key, mechanism), error)
            raise
        document_sm3 = prepared.document_digest.hex()
        facts["document"] |= {"sm3": document_sm3}
        facts["property_info"] = prepared.property_info
        tbs = build_tbs(seal.seal.raw, seal.seal.version, time, prepared.data_hash, prepared.property_info)
        work = _work(caller, key, mechanism, tbs, Occasion(caller, job.name, seal.seal.name), facts)

        def finish(signature: bytes, token: bytes | None) -> bytes:
            assert key.certificate is not None
            value = assemble_signature(tbs, key.certificate.der, algorithm.oid, signature, token)
            try:
                prepared.write(value, out)
                out.flush()
            except OSError as error:
                raise SealAgentError("spool_full", f"the sealed document cannot be kept: {error.strerror}") from error
            return value

        _, receipt = await self._perform(work, finish, seal=seal.seal.id, document_sm3=document_sm3)
        return receipt

    async def sign_with_seal(
        self, caller: Caller, seal_name: str, data_hash: bytes, property_info: str, name: str | None
    ) -> SealedDigest:
        """Make an SES_Signature over a digest the caller computed (marked as raw in the record).

        :param data_hash: SM3 of the original text, 32 octets. :param property_info: what it covers (GB/T 38540).
        :raises SealAgentError: ``raw_digest_not_allowed`` and every refusal of :meth:`seal_document`.
        """
        if len(data_hash) != 32:
            raise FormatError("digest_invalid", f"dataHash has {len(data_hash)} octets; SM3 gives 32")
        facts: dict[str, Any] = {
            "operation": "seal_digest",
            "raw_digest": True,
            "document": {"name": name, "digest": data_hash.hex()},
            "property_info": property_info,
        }
        seal, key = await self._resolve(caller, seal_name, facts)
        await self._allow_raw(caller, facts | _key_facts(key, None))
        mechanism = certified_choice(key.info)
        time = self._clock().replace(microsecond=0)
        tbs = build_tbs(seal.seal.raw, seal.seal.version, time, data_hash, property_info)
        work = _work(caller, key, mechanism, tbs, Occasion(caller, name, seal.seal.name), facts)

        def finish(signature: bytes, token: bytes | None) -> bytes:
            assert key.certificate is not None
            return assemble_signature(tbs, key.certificate.der, work.algorithm.oid, signature, token)

        return SealedDigest(*await self._perform(work, finish, seal=seal.seal.id))

    async def sign_digests(
        self, caller: Caller, key_id: str, mechanism_name: str | None, digests: Sequence[bytes], name: str | None
    ) -> list[tuple[bytes, Receipt]]:
        """Sign digests the caller computed with a bare key; each has its own two entries in the record.

        The first fault ends it: what is signed by then is on record but not released.

        :raises SealAgentError: ``raw_digest_not_allowed``, ``digest_invalid``, ``key_not_found``.
        """
        key = await self._inventory.key(key_id)
        mechanism = checked_mechanism(key.info, mechanism_name)
        for item in digests:
            if len(item) != mechanism.digest_length:
                raise FormatError(
                    "digest_invalid", f"{mechanism.value} signs {mechanism.digest_length} octets, not {len(item)}"
                )
        facts: dict[str, Any] = {"operation": "digest", "raw_digest": True, **_key_facts(key, mechanism)}
        await self._allow_raw(caller, facts | {"document": {"name": name}, "digests": len(digests)})
        public_key = load_public_key(key.spki)
        released = []
        for item in digests:
            own = facts | {"document": {"name": name, "digest": item.hex()}}
            work = _Work(caller, key, public_key, mechanism, item, Occasion(caller, name), own)
            released.append(await self._perform(work))
        return released

    async def sign_request(self, caller: Caller, key: AvailableKey, tbs: bytes) -> bytes:
        """Sign a CertificationRequestInfo (PKCS#10) that the agent itself built; on record like every signature."""
        mechanism = certified_choice(key.info)
        facts: dict[str, Any] = {"operation": "certificate_request"}
        signature, _ = await self._perform(_work(caller, key, mechanism, tbs, Occasion(caller), facts))
        return signature

    # The steps

    async def _resolve(self, caller: Caller, name: str, facts: dict[str, Any]) -> tuple[AvailableSeal, AvailableKey]:
        """Find seal and key, and check that the seal may be used now (the Measures: only a valid seal)."""
        item = await self._inventory.seal(name)
        facts["seal"] = {"id": item.seal.id, "es_id": item.seal.es_id, "name": item.seal.name}
        facts["trust"] = item.report.trust
        facts["status"] = item.answers.facts(item.report.status)
        await self._keep_evidence(caller, item, facts)
        if item.key is None or item.key.certificate is None:
            await self._refuse(caller, facts, _unusable(item))
        wrong = [reason for reason in item.reasons if self._require == "valid" or reason.effect is Verdict.INVALID]
        if wrong:
            message = f"the seal {item.seal.name!r} may not be used now: {wrong[0].code}"
            reasons = [reason.as_json() for reason in wrong]
            error = SealAgentError("seal_not_valid", message, seal=item.seal.id, reasons=reasons)
            await self._refuse(caller, facts | _key_facts(item.key, None), error)
        return item, item.key

    async def _keep_evidence(self, caller: Caller, item: AvailableSeal, facts: dict[str, Any]) -> None:
        """Keep what the verdict rests on, before anything on record names it."""
        try:
            for sha256, octets in item.answers.evidence().items():
                if not self._evidence.has(sha256):
                    await asyncio.to_thread(self._evidence.keep, octets)
        except SealAgentError as error:
            await self._refuse(caller, facts | (_key_facts(item.key, None) if item.key else {}), error)

    async def _allow_raw(self, caller: Caller, facts: dict[str, Any]) -> None:
        if not self._allow_raw_digests:
            message = "signing digests that the agent cannot look into is switched off"
            await self._refuse(caller, facts, SealAgentError("raw_digest_not_allowed", message))

    async def _perform(
        self,
        work: _Work,
        finish: Finish | None = None,
        *,
        seal: str | None = None,
        document_sm3: str | None = None,
    ) -> tuple[bytes, Receipt]:
        """Unlock, record the intent, sign, verify, time-stamp, finish, record the outcome, release.

        Only what is finished, a seal signature, is time-stamped.
        """
        for last in (False, True):
            try:
                intent, value, stamp = await self._sign(work, finish)
                break
            except LoginRequired:
                # The worker was restarted since the PIN was entered: the holder is asked once more.
                if last:
                    raise
        fingerprint = digest_of("sha256", value).hex()
        facts = {"timestamp": stamp.facts()} if stamp else {}
        outcome = await self._recorder.signed(intent, {"signature_sha256": fingerprint, **facts})
        receipt = Receipt(
            record=outcome.number,
            intent=intent.number,
            time=outcome.time_text,
            entry_hash=leaf_hash(self._ledger.head().hash, outcome.octets).hex(),
            signature_sha256=fingerprint,
            key=work.key.info.uri,
            certificate_sha256=work.key.certificate.sha256 if work.key.certificate else None,
            mechanism=work.mechanism.value,
            seal=seal,
            document_sm3=document_sm3,
            timestamp=timestamp(stamp.time) if stamp else None,
        )
        self._publish(Event("signed", {"record": outcome.number, "operation": work.facts["operation"]}))
        return value, receipt

    async def _sign(self, work: _Work, finish: Finish | None) -> tuple[Entry, bytes, Stamp | None]:
        """Bring one intent to a verified and finished signature, or on record as failed."""
        intent = None
        try:
            async with AsyncExitStack() as stack:
                entered = await self._unlocked(work, stack)
                intent = await self._recorder.intent(work.caller, work.facts)
                signature = await self._tokens.sign(
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
            if finish is None:
                return intent, signature, stamp
            if self._timestamper is not None:
                stamp = await asyncio.to_thread(self._timestamper.stamp, signature)
            return intent, await asyncio.to_thread(finish, signature, stamp.token if stamp else None), stamp
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

    async def _unlocked(self, work: _Work, stack: AsyncExitStack) -> EnteredPin:
        """Unlock the token; return a PIN only for a key that wants one with each signature."""
        token = work.key.token
        try:
            await stack.enter_async_context(self._unlocker.unlocked(token, work.occasion))
            if await self._inventory.always_authenticates(work.key):
                return await stack.enter_async_context(self._unlocker.pin_for_signature(token, work.occasion))
        except (SealAgentError, DriverError) as error:
            await self._refuse(work.caller, work.facts, error)
        return EnteredPin(None)

    async def _refuse(self, caller: Caller, facts: Mapping[str, Any], error: SealAgentError | DriverError) -> NoReturn:
        """Put a refusal on record, then raise its error."""
        entry = await self._recorder.refused(caller, facts, error)
        self._publish(Event("refused", {"record": entry.number, "reason": error.code}))
        raise error


def _unusable(item: AvailableSeal) -> SealAgentError:
    """Say why no key can be used for a seal."""
    renewed = item.found.renewed
    if renewed is None:
        message = "no plugged-in token holds a certificate that the seal lists"
        return SealAgentError("seal_key_absent", message, seal=item.seal.id)
    message = f"the certificate was renewed (serial {renewed.serial}); the seal must be re-made to list it"
    return SealAgentError("seal_outdated", message, seal=item.seal.id)


def _work(
    caller: Caller,
    key: AvailableKey,
    mechanism: Mechanism,
    message: bytes,
    occasion: Occasion,
    facts: dict[str, Any],
) -> _Work:
    """Return the work of signing a message that the agent has itself."""
    public_key = load_public_key(key.spki)
    digest = signing_digest(public_key, algorithm_of(mechanism), message)
    return _Work(caller, key, public_key, mechanism, digest, occasion, facts | _key_facts(key, mechanism))


def _key_facts(key: AvailableKey, mechanism: Mechanism | None) -> dict[str, Any]:
    return {
        "key": key.info.uri,
        "mechanism": mechanism.value if mechanism else None,
        "certificate": {"serial": key.certificate.serial, "sha256": key.certificate.sha256}
        if key.certificate
        else None,
    }
