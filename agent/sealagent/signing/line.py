"""The signing line (design §2): one straight way from a request to a released signature.

identify (the listener) → resolve → check → authorize → unlock → record intent → sign → self-verify → time-stamp →
record outcome → release. A step returns or raises one named error. Nothing after "record intent" happens without a
durable record; a refusal is recorded too. The steps from "unlock" on are in :mod:`sealagent.signing.performing`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from sealagent.callers.peer import Caller
from sealagent.clock import Clock
from sealagent.consent.prompter import Occasion, SealPicture
from sealagent.documents.limits import Limits
from sealagent.documents.ofd.seal import Placement, Prepared, prepare
from sealagent.errors import FormatError, SealAgentError
from sealagent.pki.digests import digest as digest_of
from sealagent.pki.keys import load_public_key
from sealagent.seals.build import assemble_signature, build_tbs
from sealagent.seals.model import Seal
from sealagent.seals.parse import parse_signature
from sealagent.signing.authorize import Approval, Authorizer, Permit
from sealagent.signing.inventory import AvailableKey, AvailableSeal, Inventory
from sealagent.signing.mechanisms import algorithm_of, certified_choice, checked_mechanism
from sealagent.signing.performing import Once, Performer, Work, key_facts, work_for
from sealagent.signing.receipts import Receipt
from sealagent.status.evidence import EvidenceStore
from sealagent.uses import Operation, Use
from sealagent.verdict import Verdict

__all__ = ["DocumentJob", "Receipt", "SealedDigest", "SigningLine", "picture_of"]

# Refusals of a well-formed request. Malformed input is answered with its error and leaves no entry.
_DOCUMENT_REFUSALS = frozenset({"ofd_closed", "ofd_signing_forbidden", "ofd_encrypted", "ofd_integrity_protected"})


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


class SigningLine:
    """Carries requests along the line; every collaborator is injected.

    :param require: ``valid`` or ``intact``: the verdict a seal needs to be used.
    """

    def __init__(
        self,
        *,
        performer: Performer,
        authorizer: Authorizer,
        inventory: Inventory,
        evidence: EvidenceStore,
        clock: Clock,
        limits: Limits,
        require: str,
    ) -> None:
        self._performer = performer
        self._authorizer = authorizer
        self._inventory = inventory
        self._evidence = evidence
        self._clock = clock
        self._limits = limits
        self._require = require

    async def seal_document(
        self,
        caller: Caller,
        job: DocumentJob,
        source: BinaryIO,
        out: BinaryIO,
        *,
        approval: Approval | None = None,
        item: bytes | None = None,
        once: Once | None = None,
    ) -> Receipt:
        """Seal an OFD: hash it here, sign on the device, write the sealed file to ``out``.

        :param source: the document, seekable. :param out: receives the sealed document; nothing useful is in it
            unless this returns.
        :param approval: a batch that the holder agreed to. :param item: SHA-256 of the document as it came in.
        :param once: a signature that was made under this name is put into the document again, and none is made.
        :raises SealAgentError: any named refusal or fault. :raises DriverError: the device's.
        """
        if made := await self._performer.again(once):
            await asyncio.to_thread(self._put_again, job, source, out, made.value)
            return made.receipt
        facts: dict[str, Any] = {"operation": "document", "document": {"name": job.name, "format": "ofd"}}
        seal, key = await self._resolve(caller, job.seal, facts)
        mechanism = certified_choice(key.info)
        use = _use(Operation.DOCUMENT, key, seal.seal, "ofd")
        permit = await self._permit(caller, use, facts | key_facts(key, mechanism), approval, item)
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
                await self._performer.refuse(caller, facts | key_facts(key, mechanism), error)
            raise
        document_sm3 = prepared.document_digest.hex()
        facts["document"] |= {"sm3": document_sm3}
        facts["property_info"] = prepared.property_info
        tbs = build_tbs(seal.seal.raw, seal.seal.version, time, prepared.data_hash, prepared.property_info)
        occasion = _occasion(
            caller, Operation.DOCUMENT, job.name, seal.seal, document_sm3, kind="OFD", pages=prepared.pages
        )
        work = work_for(permit, key, mechanism, tbs, occasion, facts, once, seal.seal.raw)

        def finish(signature: bytes, token: bytes | None) -> bytes:
            assert key.certificate is not None
            value = assemble_signature(tbs, key.certificate.der, algorithm.oid, signature, token)
            _write(prepared, value, out)
            return value

        return (await self._performer.perform(work, finish)).receipt

    async def sign_with_seal(
        self,
        caller: Caller,
        seal_name: str,
        data_hash: bytes,
        property_info: str,
        name: str | None,
        *,
        once: Once | None = None,
    ) -> SealedDigest:
        """Make an SES_Signature over a digest the caller computed (marked as raw in the record).

        :param data_hash: SM3 of the original text, 32 octets. :param property_info: what it covers (GB/T 38540).
        :raises SealAgentError: every refusal of :meth:`seal_document`.
        """
        if len(data_hash) != 32:
            raise FormatError("digest_invalid", f"dataHash has {len(data_hash)} octets; SM3 gives 32")
        if made := await self._performer.again(once):
            return SealedDigest(made.value, made.receipt)
        facts: dict[str, Any] = {
            "operation": "seal_digest",
            "raw_digest": True,
            "document": {"name": name, "digest": data_hash.hex()},
            "property_info": property_info,
        }
        seal, key = await self._resolve(caller, seal_name, facts)
        use = _use(Operation.DIGEST, key, seal.seal)
        permit = await self._permit(caller, use, facts | key_facts(key, None))
        mechanism = certified_choice(key.info)
        time = self._clock().replace(microsecond=0)
        tbs = build_tbs(seal.seal.raw, seal.seal.version, time, data_hash, property_info)
        occasion = _occasion(caller, Operation.DIGEST, name, seal.seal, data_hash.hex())
        work = work_for(permit, key, mechanism, tbs, occasion, facts, once, seal.seal.raw)

        def finish(signature: bytes, token: bytes | None) -> bytes:
            assert key.certificate is not None
            return assemble_signature(tbs, key.certificate.der, work.algorithm.oid, signature, token)

        made = await self._performer.perform(work, finish)
        return SealedDigest(made.value, made.receipt)

    async def sign_digests(
        self,
        caller: Caller,
        key_id: str,
        mechanism_name: str | None,
        digests: Sequence[bytes],
        name: str | None,
        *,
        once: Once | None = None,
    ) -> list[tuple[bytes, Receipt]]:
        """Sign digests the caller computed with a bare key; each has its own two entries in the record.

        The holder, where asked, is asked once for all of them. The first fault ends it: what is signed by then is on
        record but not released.

        :raises SealAgentError: ``use_denied``, ``digest_invalid``, ``key_not_found`` and the refusals of the holder.
        """
        names = [replace(once, item=number) if once else None for number in range(len(digests))]
        if (whole := await self._all_again(names)) is not None:
            return whole
        key = await self._inventory.key(key_id)
        mechanism = checked_mechanism(key.info, mechanism_name)
        for item in digests:
            _check_length(mechanism.value, mechanism.digest_length, item)
        facts: dict[str, Any] = {"operation": "digest", "raw_digest": True, **key_facts(key, mechanism)}
        use = _use(Operation.RAW, key, count=len(digests))
        permit = await self._permit(caller, use, facts | {"document": {"name": name}, "digests": len(digests)})
        public_key = load_public_key(key.spki)
        listed = tuple(item.hex() for item in digests) if len(digests) > 1 else ()
        occasion = _occasion(caller, Operation.RAW, name, None, digests[0].hex(), key=key.info.label, items=listed)
        released = []
        for item, each in zip(digests, names, strict=True):
            if made := await self._performer.again(each):
                released.append((made.value, made.receipt))
                continue
            own = facts | {"document": {"name": name, "digest": item.hex()}}
            work = Work(caller, key, public_key, mechanism, item, occasion, permit, own, each)
            made = await self._performer.perform(work)
            released.append((made.value, made.receipt))
        return released

    async def sign_item(
        self,
        caller: Caller,
        key_id: str,
        mechanism_name: str | None,
        digest: bytes,
        name: str | None,
        *,
        approval: Approval,
        once: Once,
    ) -> int:
        """Sign one digest of a batch that the holder agreed to; return the number of its entry in the record.

        Several may be under way at once. The signature is kept under ``once``.

        :raises SealAgentError: as :meth:`sign_digests`, and ``batch_item_unknown``.
        """
        if made := await self._performer.again(once):
            return made.outcome.number
        key = await self._inventory.key(key_id)
        mechanism = checked_mechanism(key.info, mechanism_name)
        _check_length(mechanism.value, mechanism.digest_length, digest)
        document = {"name": name, "digest": digest.hex()}
        facts = {"operation": "digest", "raw_digest": True, "document": document, "batch": approval.id}
        permit = await self._permit(
            caller, _use(Operation.RAW, key), facts | key_facts(key, mechanism), approval, digest
        )
        occasion = _occasion(caller, Operation.RAW, name, None, digest.hex(), key=key.info.label)
        public_key = load_public_key(key.spki)
        facts |= key_facts(key, mechanism)
        made = await self._performer.perform(
            Work(caller, key, public_key, mechanism, digest, occasion, permit, facts, once)
        )
        return made.outcome.number

    async def sign_request(self, caller: Caller, key: AvailableKey, tbs: bytes) -> bytes:
        """Sign a CertificationRequestInfo (PKCS#10) that the agent itself built; on record like every signature."""
        mechanism = certified_choice(key.info)
        facts: dict[str, Any] = {"operation": "certificate_request"}
        use = _use(Operation.MANAGE, key)
        permit = await self._permit(caller, use, facts | key_facts(key, mechanism))
        occasion = Occasion(caller, operation=Operation.MANAGE, act="certificate_request", key=key.info.label)
        return (await self._performer.perform(work_for(permit, key, mechanism, tbs, occasion, facts))).value

    async def _all_again(self, names: Sequence[Once | None]) -> list[tuple[bytes, Receipt]] | None:
        """Return what was made under these names before, if nothing is missing: then no token is needed."""
        made = []
        for each in names:
            if (found := await self._performer.again(each)) is None:
                return None
            made.append((found.value, found.receipt))
        return made

    def _put_again(self, job: DocumentJob, source: BinaryIO, out: BinaryIO, value: bytes) -> None:
        """Put a signature that was made before into its document. Blocking.

        :raises SealAgentError: ``idempotency_result_gone``: what it was made for cannot be made again.
        """
        made = parse_signature(value)
        if made.time is None:
            raise _gone()
        prepared = prepare(
            source,
            made.seal,
            job.placements,
            algorithm_oid=made.algorithm,
            time=made.time,
            close=job.close,
            doc=job.document,
            limits=self._limits,
        )
        if (prepared.data_hash, prepared.property_info) != (made.data_hash, made.property_info):
            raise _gone()
        _write(prepared, value, out)

    # The steps

    async def _resolve(self, caller: Caller, name: str, facts: dict[str, Any]) -> tuple[AvailableSeal, AvailableKey]:
        """Find seal and key, and check that the seal may be used now (the Measures: only a valid seal)."""
        item = await self._inventory.seal(name)
        seal = item.seal
        sm3 = digest_of("sm3", seal.raw).hex()
        facts["seal"] = {"id": seal.id, "es_id": seal.es_id, "name": seal.name, "sm3": sm3}
        facts["trust"] = item.report.trust
        facts["status"] = item.answers.facts(item.report.status)
        await self._keep_evidence(caller, item, facts)
        if item.key is None or item.key.certificate is None:
            await self._performer.refuse(caller, facts, _unusable(item))
        wrong = [reason for reason in item.reasons if self._require == "valid" or reason.effect is Verdict.INVALID]
        if wrong:
            message = f"the seal {item.seal.name!r} may not be used now: {wrong[0].code}"
            reasons = [reason.as_json() for reason in wrong]
            error = SealAgentError("seal_not_valid", message, seal=item.seal.id, reasons=reasons)
            await self._performer.refuse(caller, facts | key_facts(item.key, None), error)
        return item, item.key

    async def _keep_evidence(self, caller: Caller, item: AvailableSeal, facts: dict[str, Any]) -> None:
        """Keep what the verdict rests on, before anything on record names it."""
        try:
            for sha256, octets in item.answers.evidence().items():
                if not self._evidence.has(sha256):
                    await asyncio.to_thread(self._evidence.keep, octets)
        except SealAgentError as error:
            named = key_facts(item.key, None) if item.key else {}
            await self._performer.refuse(caller, facts | named, error)

    async def _permit(
        self,
        caller: Caller,
        use: Use,
        facts: dict[str, Any],
        approval: Approval | None = None,
        item: bytes | None = None,
    ) -> Permit:
        """Decide whether the caller may; a refusal goes on record with these facts."""
        try:
            return self._authorizer.permit(caller, use, approval=approval, item=item)
        except SealAgentError as error:
            await self._performer.refuse(caller, facts, error)


def _use(
    operation: Operation, key: AvailableKey, seal: Seal | None = None, form: str | None = None, count: int = 1
) -> Use:
    names = (seal.es_id, seal.name) if seal else ()
    return Use(operation, key.info.uri, key.token.uri, seal.id if seal else None, names, form, count)


def _occasion(
    caller: Caller,
    operation: Operation,
    name: str | None,
    seal: Seal | None,
    digest: str,
    **more: Any,
) -> Occasion:
    picture = picture_of(seal) if seal else None
    return Occasion(
        caller, name, seal.name if seal else None, operation=operation, digest=digest, picture=picture, **more
    )


def picture_of(seal: Seal) -> SealPicture:
    """Return a seal's picture for those prompters that can show one."""
    return SealPicture(seal.picture.type.lower(), seal.picture.data)


def _write(prepared: Prepared, value: bytes, out: BinaryIO) -> None:
    try:
        prepared.write(value, out)
        out.flush()
    except OSError as error:
        raise SealAgentError("spool_full", f"the sealed document cannot be kept: {error.strerror}") from error


def _gone() -> SealAgentError:
    return SealAgentError(
        "idempotency_result_gone",
        "it was signed before, and the sealed document cannot be made again from what is kept",
    )


def _check_length(mechanism: str, length: int, digest: bytes) -> None:
    if len(digest) != length:
        raise FormatError("digest_invalid", f"{mechanism} signs {length} octets, not {len(digest)}")


def _unusable(item: AvailableSeal) -> SealAgentError:
    """Say why no key can be used for a seal."""
    renewed = item.found.renewed
    if renewed is None:
        message = "no plugged-in token holds a certificate that the seal lists"
        return SealAgentError("seal_key_absent", message, seal=item.seal.id)
    message = f"the certificate was renewed (serial {renewed.serial}); the seal must be re-made to list it"
    return SealAgentError("seal_outdated", message, seal=item.seal.id)
