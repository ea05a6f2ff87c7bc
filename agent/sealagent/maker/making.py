"""Making a seal (standards: GM/T 0031-2025 and GB/T 38540: check the maker, build, sign, time-stamp, assemble).

A seal leaves this module only when its entry is on record; what fails before leaves a failed intent and no seal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sealagent.errors import FormatError, SealAgentError
from sealagent.maker.applications import check_signers
from sealagent.maker.device import Device, UnitKey
from sealagent.maker.index import SealRow
from sealagent.maker.register import Register, Said
from sealagent.maker.states import Change
from sealagent.pki.certificates import Certificate
from sealagent.pki.csr import read_request
from sealagent.pki.digests import digest
from sealagent.pki.path import PathStatus, validate_path
from sealagent.pki.trust import TrustRole, TrustStore
from sealagent.seals.build import assemble_seal, build_seal_info
from sealagent.seals.model import Picture, Seal
from sealagent.seals.parse import parse_seal
from sealagent.seals.picture import check_picture
from sealagent.seals.verify import Policy, judge_seal
from sealagent.verdict import Verdict, timestamp

__all__ = ["Making", "Stamp", "check_maker", "make"]

MAX_SERIAL = 10**8 - 1
"""The esID's serial has eight digits."""

_REFUSALS = frozenset(
    {
        *("maker_certificate_refused", "signer_certificate_refused", "application_closed", "seal_name_taken"),
        *("es_id_taken", "es_id_exhausted", "seal_outlasts_certificate", "seal_remake_differs"),
        "register_transition_refused",
    }
)
"""Errors that turn a well-formed wish down; these are on record."""

Stamp = Callable[[bytes], Awaitable[bytes]]
"""Gets a time-stamp token (DER) over a signature value."""


@dataclass(frozen=True, slots=True)
class Making:
    """What is to be made of an application."""

    application: int
    picture: Picture
    version: int = 4
    list_type: int = 1
    """1: the seal lists the signers' certificates; 2: their SM3 digests."""
    certificates: tuple[bytes, ...] = ()
    """Issued since the application, DER; beside those that came with it."""
    es_id: str = ""
    """Empty: the register allocates one."""
    valid_until: datetime | None = None
    """None: as long as usual, and not beyond any signer's certificate."""
    beyond_certificate: str = ""
    """Why the seal may outlast a signer's certificate; empty: it may not."""
    supersedes: str = ""
    """Name of the seal whose place it takes (re-making)."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that was checked before the device is asked."""

    asked: Making
    application: dict[str, Any]
    certificates: tuple[Certificate, ...]
    created: datetime
    valid_until: datetime
    old: SealRow | None
    notes: list[str] = field(default_factory=list)


async def make(
    register: Register,
    device: Device,
    key: UnitKey,
    asked: Making,
    said: Said,
    *,
    vendor: str,
    region: str,
    usual_days: int,
    trust: TrustStore | None,
    stamp: Stamp | None = None,
) -> tuple[SealRow, bytes]:
    """Make a seal and put it on record as made; return it (DER SESeal).

    :param key: the maker's, its token unlocked or not.
    :param said: for re-making, the reason and at whose wish.
    :param trust: CAs of makers and signers; None: chains are not checked.
    :param stamp: for version 5, where the unit has a time-stamp authority.
    :raises SealAgentError: ``application_unknown``, ``application_closed``, ``maker_certificate_refused``,
        ``signer_certificate_refused``, ``signer_certificate_missing``, ``seal_name_taken``, ``es_id_taken``,
        ``es_id_exhausted``, ``seal_outlasts_certificate``, those of a re-made seal's change
        (:func:`~sealagent.maker.states.check_change`), of the picture, the device, the prompt and the time-stamp.
    """
    now = register.now()
    try:
        check_maker(key.certificate, now, trust)
        plan = _plan(register, asked, said, now, usual_days, trust)
        if any(each.spki == key.certificate.spki for each in plan.certificates):
            raise SealAgentError("signer_certificate_refused", "the signer's key is the maker's own", reason="maker")
        es_id, counters = _es_id(register, asked.es_id, region)
    except SealAgentError as error:
        if error.code in _REFUSALS:
            await register.refused({"event": "make", "application": asked.application, **said.as_json()}, error)
        raise
    info = _info(plan, es_id, vendor)
    facts = _facts(plan, es_id, key)
    about = {"seal": facts, "application": asked.application, **said.as_json()}
    async with register.intended({"event": "make", **about, **key.as_json()}) as intent:
        signature = await device.sign(key, info, plan.application["name"])
        token = await stamp(signature) if stamp is not None and asked.version == 5 else None
        esl = assemble_seal(info, key.certificate.der, key.algorithm.oid, signature, token)
        seal = parse_seal(esl)
        await asyncio.to_thread(_check_made, seal, key.certificate, register.now())
        facts |= {"sm3": register.archive.put_aside(esl), "agent_id": seal.id, "time_stamped": token is not None}
        for certificate in plan.certificates:
            register.archive.put(certificate.der)
        body = {"event": str(Change.MADE), **about, "since": register.since(plan.old), **key.as_json()}
        body |= {"counters": counters} if counters else {}
        body |= {"supersedes": plan.old.sm3} if plan.old is not None else {}
        await register.record(body, intent)
    register.archive.keep(facts["sm3"])
    row = register.index.seal(facts["sm3"])
    assert row is not None
    return row, esl


def check_maker(certificate: Certificate, now: datetime, trust: TrustStore | None) -> None:
    """Verify the maker's certificate before anything is made with it (GM/T 0031-2025).

    :raises SealAgentError: ``maker_certificate_refused`` with the fact ``reason``.
    """
    who = certificate.subject
    if not certificate.valid_at(now):
        period = f"{timestamp(certificate.not_before)} to {timestamp(certificate.not_after)}"
        raise _maker_refused("validity", f"{who}: it is valid {period}")
    if not certificate.may_sign:
        raise _maker_refused("usage", f"{who}: its key usage allows no signatures")
    if trust is None:
        return
    path = validate_path(certificate, (), trust, now, TrustRole.MAKER)
    if path.status not in (PathStatus.trusted, PathStatus.pinned):
        raise _maker_refused("chain", f"{who}: {path.detail}")


def _plan(
    register: Register, asked: Making, said: Said, now: datetime, usual_days: int, trust: TrustStore | None
) -> _Plan:
    row, application = register.application(asked.application)
    old = _old_seal(register, asked, said, application)
    if row.state != "open" and old is None:
        raise SealAgentError("application_closed", f"application {row.number} is {row.state}")
    if row.state == "rejected":
        raise SealAgentError("application_closed", f"application {row.number} is rejected")
    certificates = _certificates(register, asked, application, old, now, trust)
    taken = [each for each in register.index.with_name(row.credit_code, row.name) if each.state in _IN_FORCE]
    if taken and (old is None or [each.sm3 for each in taken] != [old.sm3]):
        message = f"{row.applicant} has a seal of this name, esID {taken[0].es_id}; re-make or cancel that one"
        raise SealAgentError("seal_name_taken", message, es_id=taken[0].es_id)
    until, notes = _validity(asked, certificates, now, usual_days)
    picture = asked.picture
    found = check_picture(picture.type, picture.data, picture.width, picture.height)
    notes += [f"{note.code}: {note.detail}" for note in found]
    return _Plan(asked, application, certificates, now, until, old, notes)


_IN_FORCE = ("made", "filed", "valid", "suspended")


def _old_seal(register: Register, asked: Making, said: Said, application: dict[str, Any]) -> SealRow | None:
    if not asked.supersedes:
        return None
    old = register.seal(asked.supersedes)
    register.check(old, Change.SUPERSEDED, said)
    if (old.credit_code, old.name) != (application["credit_code"], application["name"]):
        message = (
            f"seal {old.es_id} is of {old.owner} and named {old.name!r}; a re-made seal has the same owner and name"
        )
        raise SealAgentError("seal_remake_differs", message)
    return old


def _certificates(
    register: Register,
    asked: Making,
    application: dict[str, Any],
    old: SealRow | None,
    now: datetime,
    trust: TrustStore | None,
) -> tuple[Certificate, ...]:
    """Return the certificates the seal will list, in order, each once."""
    chosen, keys = list(asked.certificates), []
    # A seal re-made on its old application with new certificates takes those alone: the old ones may be what expired.
    if old is None or old.application != asked.application or not asked.certificates:
        chosen = [*(register.archive.get(name) for name in application["certificates"]), *asked.certificates]
        keys = [read_request(register.archive.get(name)).spki for name in application["requests"]]
    certificates = tuple(dict.fromkeys(Certificate.from_der(each) for each in chosen))
    if not certificates:
        raise SealAgentError(
            "signer_certificate_missing", "a seal lists at least one certificate: give what the CA issued"
        )
    check_signers(certificates, keys, now, trust)
    return certificates


def _validity(
    asked: Making, certificates: Sequence[Certificate], now: datetime, usual_days: int
) -> tuple[datetime, list[str]]:
    ends = min(certificate.not_after for certificate in certificates).replace(microsecond=0)
    if asked.valid_until is None:
        return min(now + timedelta(days=usual_days), ends), []
    if asked.valid_until <= now:
        raise FormatError("seal_field_invalid", "the seal would end before it is made", field="valid_until")
    if asked.valid_until > ends:
        if not asked.beyond_certificate:
            message = f"a signer's certificate ends {timestamp(ends)}, before the seal would"
            raise SealAgentError("seal_outlasts_certificate", message, not_after=timestamp(ends))
        return asked.valid_until, [f"outlasts a signer's certificate: {asked.beyond_certificate}"]
    return asked.valid_until, []


def _es_id(register: Register, wanted: str, region: str) -> tuple[str, dict[str, int]]:
    """Return an esID nobody has, and the counter that moves with it.

    Seen on government seals: the division's code of six digits and a serial of eight (standards 7).
    """
    if wanted:
        if register.index.has_es_id(wanted):
            raise SealAgentError("es_id_taken", f"esID {wanted[:100]!r} is another seal's")
        return wanted, {}
    counter = f"es_id.{region}"
    serial = register.index.counter(counter) + 1
    while register.index.has_es_id(f"{region}{serial:08d}"):
        serial += 1
    if serial > MAX_SERIAL:
        raise SealAgentError("es_id_exhausted", f"region {region} has given out all its {MAX_SERIAL} serials")
    return f"{region}{serial:08d}", {counter: serial}


def _info(plan: _Plan, es_id: str, vendor: str) -> bytes:
    asked, listed = plan.asked, plan.certificates
    by_digest = asked.list_type == 2
    return build_seal_info(
        version=asked.version,
        es_id=es_id,
        vendor=vendor,
        type=plan.application["type"],
        name=plan.application["name"],
        created=plan.created,
        valid_from=plan.created,
        valid_until=plan.valid_until,
        picture=asked.picture,
        certificates=() if by_digest else tuple(each.der for each in listed),
        certificate_digests=tuple(("SM3", digest("sm3", each.der)) for each in listed) if by_digest else (),
    )


def _facts(plan: _Plan, es_id: str, key: UnitKey) -> dict[str, Any]:
    """Return the filing record (standards 7), as far as it is known before the seal is there."""
    asked, application, picture = plan.asked, plan.application, plan.asked.picture
    return {
        "es_id": es_id,
        "name": application["name"],
        "type": application["type"],
        "category": application["category"],
        "owner": application["applicant"],
        "credit_code": application["credit_code"],
        "approval": application["approval"],
        "version": asked.version,
        "list_type": asked.list_type,
        "signers": [{"serial": each.serial, "sm3": digest("sm3", each.der).hex()} for each in plan.certificates],
        "maker_sm3": digest("sm3", key.certificate.der).hex(),
        "created": timestamp(plan.created),
        "valid_from": timestamp(plan.created),
        "valid_until": timestamp(plan.valid_until),
        "picture": {
            "type": picture.type,
            "width": picture.width,
            "height": picture.height,
            "sm3": digest("sm3", picture.data).hex(),
        },
        "notes": plan.notes,
    }


def _check_made(seal: Seal, maker: Certificate, now: datetime) -> None:
    """Judge the seal as others will, but for trust: the maker's certificate is taken as it is."""
    report = judge_seal(seal.raw, Policy(TrustStore((maker,)), now))
    wrong = [reason for reason in report.reasons if reason.effect is Verdict.INVALID]
    if wrong:
        raise SealAgentError(
            "seal_made_wrong", f"the seal that was made is not valid: {wrong[0].code} {wrong[0].detail}"
        )


def _maker_refused(reason: str, message: str) -> SealAgentError:
    return SealAgentError("maker_certificate_refused", message, reason=reason)
