"""Applications for seals: who applies for what, on whose approval, with which certificate requests or certificates.

The Measures demand true, lawful and complete material with proof of approval. Here it is checked as far as octets can
be: the credit code, the proof that whoever applies has the private key, and later that the certificate which goes into
the seal is of that key, is valid, may sign, and comes from a CA that is trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sealagent.errors import FormatError, SealAgentError
from sealagent.maker.credit import checked_code
from sealagent.maker.register import Register, Said
from sealagent.pki.certificates import Certificate
from sealagent.pki.csr import CertificateRequest, read_request
from sealagent.pki.digests import digest
from sealagent.pki.keys import is_weak
from sealagent.pki.path import PathStatus, validate_path
from sealagent.pki.trust import TrustRole, TrustStore
from sealagent.verdict import timestamp

__all__ = ["MAX_SIGNERS", "SEAL_TYPES", "Application", "Category", "apply", "check_signers", "checked", "reject"]

MAX_SIGNERS = 32
"""Requests or certificates of one application: those who may use one seal. All are named in one entry."""
MAX_NAME = 100
"""Characters of a unit's or a seal's name."""
MAX_REFERENCE = 200
"""Characters of a reference or a contact."""


class Category(StrEnum):
    """What the Measures cover (Art. 3)."""

    STATUTORY_NAME = "statutory-name"
    """法定名称章"""
    INTERNAL_BODY = "internal-body"
    """内设机构章、分支机构章"""
    BUSINESS = "business"
    """业务专用章"""
    PERSONAL_NAME = "personal-name"
    """个人名章, for the affairs of a unit."""


SEAL_TYPES = {
    "statutory": 1,
    "finance": 2,
    "invoice": 3,
    "contract": 4,
    "legal-representative": 5,
    "other": 99,
}
"""property.type by name: the police's registration codes; the standards leave the number free."""


@dataclass(frozen=True, slots=True)
class Application:
    """What is applied for. :func:`checked` says whether it can be taken."""

    applicant: str
    """Full name of the owner-to-be."""
    credit_code: str
    approval: str
    """Reference of the proof of approval."""
    name: str
    """Of the seal: the unit's full name and the kind of seal, or a person's name."""
    type: int
    """property.type."""
    category: Category
    contact: str = ""
    filed_name: str = ""
    """The name filed with the police, where it is; the seal's must be the same (GM/T 0031-2025)."""
    requests: tuple[bytes, ...] = ()
    """Certificate requests, PEM or DER."""
    certificates: tuple[bytes, ...] = ()
    """Certificates that were issued already, DER."""


def checked(asked: Application) -> tuple[Application, list[CertificateRequest]]:
    """Return an application that can be taken, and its requests.

    :raises FormatError: ``application_invalid`` with the fact ``field``; ``credit_code_invalid``;
        ``certificate_request_invalid``, ``certificate_invalid``.
    """
    texts = {
        "applicant": _text(asked.applicant, "applicant", MAX_NAME),
        "approval": _text(asked.approval, "approval", MAX_REFERENCE),
        "name": _text(asked.name, "name", MAX_NAME),
        "contact": _text(asked.contact, "contact", MAX_REFERENCE, empty=True),
        "filed_name": _text(asked.filed_name, "filed_name", MAX_NAME, empty=True),
    }
    if not 0 <= asked.type < 1 << 31:
        raise _invalid("type", "the type is a small number")
    if texts["filed_name"] and texts["filed_name"] != texts["name"]:
        raise _invalid("name", f"the seal's name is not the one that was filed, {texts['filed_name']!r}")
    if not asked.requests and not asked.certificates:
        raise _invalid("requests", "a certificate request or a certificate is needed: nothing says whose key it is")
    if len(asked.requests) + len(asked.certificates) > MAX_SIGNERS:
        raise _invalid("requests", f"one seal lists up to {MAX_SIGNERS} signers")
    requests = [read_request(data) for data in asked.requests]
    certificates = [Certificate.from_der(data) for data in asked.certificates]
    keys = [each.spki for each in requests]
    if len(set(keys)) < len(keys) or len(set(certificates)) < len(certificates):
        raise _invalid("requests", "the same request or certificate is there twice")
    code = checked_code(asked.credit_code)
    taken = Application(
        applicant=texts["applicant"],
        credit_code=code,
        approval=texts["approval"],
        name=texts["name"],
        type=asked.type,
        category=Category(asked.category),
        contact=texts["contact"],
        filed_name=texts["filed_name"],
        requests=tuple(each.der for each in requests),
        certificates=tuple(each.der for each in certificates),
    )
    return taken, requests


async def apply(register: Register, asked: Application, said: Said, *, trust: TrustStore | None) -> int:
    """Put an application on record; return its number.

    :param trust: CAs that issue signers' certificates; None: chains are not checked.
    :raises SealAgentError: as :func:`checked` and :func:`check_signers`; ``archive_failed``, ``record_failed``.
    """
    taken, requests = checked(asked)
    certificates = [Certificate.from_der(each) for each in taken.certificates]
    check_signers(certificates, [request.spki for request in requests], register.now(), trust, complete=False)
    for octets in (*taken.requests, *taken.certificates):
        register.archive.put(octets)
    body = {"event": "applied", "application": _recorded(taken, requests, certificates), **said.as_json()}
    return (await register.record(body)).number


async def reject(register: Register, number: int, said: Said) -> None:
    """Close an application without a seal.

    :raises SealAgentError: ``application_unknown``, ``application_closed``, ``application_invalid`` (no reason given).
    """
    row, facts = register.application(number)
    if row.state != "open":
        raise SealAgentError("application_closed", f"application {number} is {row.state}")
    if not said.text.strip():
        raise _invalid("text", "say why the application is turned down")
    about = {"applicant": facts["applicant"], "name": facts["name"]}
    await register.record({"event": "rejected", "application": number, "about": about, **said.as_json()})


def check_signers(
    certificates: Sequence[Certificate],
    request_keys: Sequence[bytes],
    now: datetime,
    trust: TrustStore | None,
    *,
    complete: bool = True,
) -> None:
    """Let only certificates pass that may be listed in a seal now.

    :param request_keys: SubjectPublicKeyInfo of the application's requests: each needs its certificate, and no
        certificate may be of another key.
    :param trust: None: chains are not checked.
    :param complete: whether each request must have its certificate.
    :raises SealAgentError: ``signer_certificate_refused`` with the fact ``reason``: ``key`` (not of a request),
        ``expired``, ``not_yet_valid``, ``usage``, ``weak``, ``chain``; ``signer_certificate_missing``.
    """
    for certificate in certificates:
        _check_signer(certificate, request_keys, now, trust)
    missing = set(request_keys) - {certificate.spki for certificate in certificates}
    if missing and complete:
        message = f"{len(missing)} of the application's requests have no certificate yet: give what the CA issued"
        raise SealAgentError("signer_certificate_missing", message)


def _check_signer(
    certificate: Certificate, request_keys: Sequence[bytes], now: datetime, trust: TrustStore | None
) -> None:
    who = certificate.subject
    if request_keys and certificate.spki not in request_keys:
        raise _refused("key", f"{who}: it is not of the key of the certificate request")
    if now > certificate.not_after:
        raise _refused("expired", f"{who}: it expired {timestamp(certificate.not_after)}")
    if now < certificate.not_before:
        raise _refused("not_yet_valid", f"{who}: it is valid from {timestamp(certificate.not_before)}")
    if not certificate.may_sign:
        raise _refused("usage", f"{who}: its key usage allows no signatures")
    if certificate.is_ca:
        raise _refused("usage", f"{who}: it is a CA certificate")
    if is_weak(certificate.public_key):
        raise _refused("weak", f"{who}: its key is weak by present standards")
    if trust is None:
        return
    path = validate_path(certificate, (), trust, now, TrustRole.CA)
    if path.status not in (PathStatus.trusted, PathStatus.pinned):
        raise _refused("chain", f"{who}: {path.detail}")


def _recorded(
    taken: Application, requests: Sequence[CertificateRequest], certificates: Sequence[Certificate]
) -> dict[str, Any]:
    """Return what the register keeps; requests and certificates are in its archive under their SM3."""
    return {
        "applicant": taken.applicant,
        "credit_code": taken.credit_code,
        "approval": taken.approval,
        "name": taken.name,
        "type": taken.type,
        "category": str(taken.category),
        "contact": taken.contact,
        "filed_name": taken.filed_name,
        "requests": [digest("sm3", each.der).hex() for each in requests],
        "certificates": [digest("sm3", each.der).hex() for each in certificates],
    }


def _text(value: str, field: str, most: int, *, empty: bool = False) -> str:
    text = value.strip()
    if not text and not empty:
        raise _invalid(field, f"{field} is needed")
    if len(text) > most or not text.isprintable():
        raise _invalid(field, f"{field} has up to {most} printable characters")
    return text


def _invalid(field: str, message: str) -> FormatError:
    return FormatError("application_invalid", message, field=field)


def _refused(reason: str, message: str) -> SealAgentError:
    return SealAgentError("signer_certificate_refused", message, reason=reason)
