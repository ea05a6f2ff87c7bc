"""The verdict: one report for every format, and the one table of its reason and note codes.

The steps, and with them the order of the reasons, are those of GM/T 0031-2014 6.1.2 and 6.2.3, GB/T 38540-2020 6.3
and 7.3 and GM/T 0031-2025. Every failing step is reported; the worst effect among them is the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

__all__ = [
    "NOTES",
    "REASONS",
    "CertificateFacts",
    "FileReport",
    "Note",
    "Reason",
    "ReasonSpec",
    "SealFacts",
    "SignatureReport",
    "Verdict",
    "decide",
    "in_order",
    "timestamp",
]


class Verdict(StrEnum):
    """What a verification ends with."""

    VALID = "valid"
    INDETERMINATE = "indeterminate"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class ReasonSpec:
    """What a reason code means."""

    effect: Verdict
    """``INVALID`` when something is wrong, ``INDETERMINATE`` when something needed is missing."""
    breaks_intact: bool
    """Whether the octets themselves are wrong (a digest, a signature value, a mismatch)."""
    en: str
    zh: str


def _wrong(en: str, zh: str, *, intact: bool = False) -> ReasonSpec:
    return ReasonSpec(Verdict.INVALID, not intact, en, zh)


def _missing(en: str, zh: str) -> ReasonSpec:
    return ReasonSpec(Verdict.INDETERMINATE, False, en, zh)


REASONS: dict[str, ReasonSpec] = {
    # The package (GB/T 33190 ch. 18)
    "reference_digest": _wrong("A protected file was changed", "受保护的文件已被改动"),
    "reference_missing": _wrong("A protected file is missing", "受保护的文件缺失"),
    "check_method_unknown": _wrong("Unknown digest method", "未知的摘要算法"),
    "signature_incomplete": _wrong("The signature's own files are missing", "签名自身的文件缺失"),
    "base_signature": _wrong("The signature it builds on is not good", "其所依据的签名无效", intact=True),
    "base_not_verified": _missing("The signature it builds on could not be verified", "其所依据的签名未能验证"),
    "seal_mismatch": _wrong("The stored seal differs from the signed seal", "存放的印章与签名中的印章不一致"),
    "integrity_unlisted_file": _wrong("A file was added to the package", "文件包中被加入了未登记的文件"),
    "integrity_format": _wrong("The integrity list is malformed", "完整性清单格式错误"),
    # The seal (GM/T 0031-2014 6.1.2, GB/T 38540 6.3)
    "seal_format": _wrong("The seal is malformed", "印章格式错误"),
    "seal_signature": _wrong("The maker's signature on the seal is wrong", "制章者对印章的签名错误"),
    "make_time": _wrong("The seal was not valid when it was made", "印章制作时间不在其有效期内", intact=True),
    "maker_cert_expired": _wrong("The maker's certificate had expired", "制章者证书已过期", intact=True),
    "maker_cert_not_yet_valid": _wrong("The maker's certificate was not yet valid", "制章者证书尚未生效", intact=True),
    "maker_cert_chain": _wrong("The maker's certificate chain is not acceptable", "制章者证书链不合格", intact=True),
    "maker_cert_usage": _wrong("The maker's certificate may not sign", "制章者证书密钥用法不符", intact=True),
    "maker_cert_revoked": _wrong("The maker's certificate was revoked", "制章者证书已被吊销", intact=True),
    "maker_trust_withdrawn": _wrong("The maker is no longer recognised", "制章者已不再被认可", intact=True),
    "maker_cert_status_unknown": _missing(
        "Whether the maker's certificate is revoked could not be found out", "未能查询制章者证书的吊销状态"
    ),
    "maker_not_trusted": _missing("The maker's certificate has no trust anchor", "制章者证书没有信任锚"),
    "seal_expired": _wrong("The seal has expired", "印章已过期", intact=True),
    "seal_not_yet_valid": _wrong("The seal is not yet valid", "印章尚未生效", intact=True),
    "seal_suspended": _wrong("The seal is suspended", "印章已停用", intact=True),
    "seal_cancelled": _wrong("The seal was cancelled", "印章已注销", intact=True),
    "seal_superseded": _wrong(
        "The seal was re-made: another took its place", "印章已被重新制作的印章取代", intact=True
    ),
    "seal_lost": _wrong("The seal was reported lost", "印章已挂失", intact=True),
    "seal_invalidated": _wrong(
        "The seal was made unlawfully and declared invalid", "印章系违法制作，已标记无效", intact=True
    ),
    "seal_not_filed": _wrong("The seal is not filed and delivered", "印章尚未备案交付", intact=True),
    "seal_timestamp": _wrong("The seal's time-stamp is wrong", "印章的时间戳错误", intact=True),
    # The seal signature (GM/T 0031-2014 6.2.3, GB/T 38540 7.3)
    "sig_format": _wrong("The signature is malformed", "签章数据格式错误"),
    "sig_value": _wrong("The signature value is wrong", "签名值错误"),
    "signer_not_in_seal": _wrong("The signer is not in the seal's list", "签章者证书不在印章的证书列表中"),
    "signer_cert_chain": _wrong("The signer's certificate chain is not acceptable", "签章者证书链不合格", intact=True),
    "signer_cert_usage": _wrong("The signer's certificate may not sign", "签章者证书密钥用法不符", intact=True),
    "signer_trust_withdrawn": _wrong(
        "The signer's CA is no longer recognised", "签章者证书的颁发机构已不再被认可", intact=True
    ),
    "signer_cert_status_unknown": _missing(
        "Whether the signer's certificate is revoked could not be found out", "未能查询签章者证书的吊销状态"
    ),
    "signer_not_trusted": _missing("The signer's certificate has no trust anchor", "签章者证书没有信任锚"),
    "signer_certificate_missing": _missing("The signer's certificate is not known", "缺少签章者证书，无法验证"),
    "signed_outside_cert_validity": _wrong(
        "Signed outside the validity of the signer's certificate", "签章时间不在签章者证书有效期内", intact=True
    ),
    "cert_revoked_before_signing": _wrong(
        "The signer's certificate was revoked before signing", "签章前签章者证书已被吊销", intact=True
    ),
    "signing_time_unknown": _missing("The signing time cannot be read", "无法读取签章时间"),
    "seal_not_valid_at_signing": _wrong(
        "The seal was not valid at signing time", "签章时印章不在有效期内", intact=True
    ),
    "data_hash": _wrong("The signature belongs to other content", "签章数据中的原文杂凑值不符"),
    "document_not_checked": _missing(
        "No document was given to check the signature against", "没有原文，未核对原文杂凑值"
    ),
    "sig_timestamp": _wrong("The signature's time-stamp is wrong", "签章的时间戳错误", intact=True),
    "timestamp_not_checked": _missing("The time-stamp could not be checked", "时间戳未能核验"),
    "algorithm_not_supported": _missing("The signature algorithm is not supported", "不支持的签名算法"),
    "trust_list_stale": _missing("The trust list is out of date", "信任列表已过期"),
    "status_unknown": _missing("The seal's status could not be asked", "未能查询印章状态"),
    # The file
    "no_signature": _missing("The file carries no signature", "文件没有签名"),
    "document_encrypted": _missing("The package is encrypted", "文件已加密，无法验证"),
}
"""Every reason code with its effect. A code not in this table cannot be reported."""

NOTES: dict[str, str] = {
    "not_covered": "A file of the package is not protected by this signature",
    "unsafe_reference": "A Reference names a path outside the package or in a form the standard does not allow",
    "quirk_critical_false": "ExtData writes critical FALSE although it is the default",
    "quirk_raw_signature": "The BIT STRING holds 64 raw octets instead of a DER signature",
    "quirk_long_integer": "An INTEGER of the signature has needless leading zero octets",
    "quirk_ber": "BER where DER is demanded",
    "quirk_ext_wrapped": "Extensions are tagged otherwise than the standard says",
    "quirk_timestamp_tag": "The time-stamp is not tagged [0] EXPLICIT",
    "quirk_cert_general_time": "A certificate uses GeneralizedTime before 2050",
    "quirk_cert_list_text": "A certificate list entry is an IA5String",
    "quirk_version": "A version field differs from the version of the structure around it",
    "quirk_text": "A string holds characters outside its type",
    "quirk_time_text": "timeInfo is text instead of a DER time",
    "quirk_signing_time_text": "SignatureDateTime is not an ISO 8601 time, or differs from the signed time",
    "quirk_xml": "The XML deviates from the schema",
    "quirk_path": "A location is not written as the standard says",
    "quirk_duplicate_id": "An ID is used more than once",
    "quirk_cms_order": "CMS attributes are not in DER order",
    "quirk_cms_oid": "CMS object identifiers mix standards",
    "quirk_tst_version": "The TSTInfo of a time-stamp is of version 2 (GM/T 0031-2025); RFC 3161 knows version 1 only",
    "quirk_tsa_usage": "A time-stamping authority's extended key usage is not critical, or names other uses too",
    "seal_file_absent": "The package has no separate seal file",
    "weak_algorithm": "A digest or signature algorithm is weak by present standards",
    "maker_cert_expired_since": "The maker's certificate has expired since the seal was made",
    "maker_cert_revoked_since": "The maker's certificate was revoked after the seal was made",
    "signer_cert_revoked_since": "The signer's certificate was revoked after signing",
    "tsa_cert_revoked_since": "The time-stamping authority's certificate was revoked after the time-stamp",
    "seal_state_since": "The seal's state has changed since signing",
    "status_not_checked": "The seal's status was not asked: no service is configured, or it was forbidden",
    "cert_status_not_checked": "Whether a certificate is revoked was not asked",
    "status_old": "An older answer was used because nobody could be asked",
    "signing_time_not_proven": "No trusted time-stamp proves that the signature came before the end of its certificate",
    "time_stamped": "A trusted time-stamp proves when the signature existed",
    "internal_trust": "Internal: vouched for by a unit for its own use only",
    "signer_cert_expired_since": "The signer's certificate has expired since signing",
    "seal_expired_since": "The seal has expired since signing",
    "same_maker_and_signer": "One certificate is maker and signer",
    "create_after_start": "createDate is later than validStart",
    "pinned": "A certificate was accepted because its octets are pinned",
    "property_info": "propertyInfo does not name this signature's file",
    "picture_type": "The picture type is not one the standard names",
    "picture_opaque": "The picture has no transparent ground: it hides what lies under the seal",
    "picture_resolution": "The picture has too few pixels to be sharp in print",
    "picture_font": "The picture's characters are drawn with a font of whoever shows it",
    "integrity_names_only": "The integrity list holds names without digests: a changed file is not noticed",
    "signer_certificate_supplied": "The signer's certificate came from the trust settings, not from the file",
}
"""Every note code. Notes never change a verdict."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A failing step. ``detail`` names the file, certificate or time concerned."""

    code: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.code not in REASONS:
            raise ValueError(f"unknown reason code {self.code}")

    @property
    def effect(self) -> Verdict:
        return REASONS[self.code].effect

    def as_json(self) -> dict[str, str]:
        return {"code": self.code, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth knowing that changes no verdict."""

    code: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.code not in NOTES:
            raise ValueError(f"unknown note code {self.code}")

    def as_json(self) -> dict[str, str]:
        return {"code": self.code, "detail": self.detail}


def decide(reasons: Iterable[Reason]) -> Verdict:
    """Return the worst effect among the reasons; ``VALID`` when there is none."""
    effects = {reason.effect for reason in reasons}
    for verdict in (Verdict.INVALID, Verdict.INDETERMINATE):
        if verdict in effects:
            return verdict
    return Verdict.VALID


def in_order(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """Return the reasons so that the first one decides: what failed, in its order, before what is missing.

    Of the missing, the signer's trust comes first.
    """
    return tuple(
        sorted(reasons, key=lambda reason: (reason.effect is not Verdict.INVALID, reason.code != "signer_not_trusted"))
    )


def timestamp(moment: datetime | None) -> str | None:
    """Return an RFC 3339 time in UTC with a ``Z``, seconds resolution; None stays None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a report says of a certificate."""

    subject: str
    issuer: str
    serial: str
    """Hexadecimal, lower case, without leading zeros."""
    sha256: str
    not_before: datetime
    not_after: datetime

    def as_json(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "serial": self.serial,
            "sha256": self.sha256,
            "not_before": timestamp(self.not_before),
            "not_after": timestamp(self.not_after),
        }


@dataclass(frozen=True, slots=True)
class SealFacts:
    """What a report says of a seal."""

    id: str
    """esID."""
    name: str
    version: int
    vendor: str
    """Vid of the header."""
    type: int
    valid_from: datetime
    valid_until: datetime
    created: datetime

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "version": self.version,
            "vendor": self.vendor,
            "type": self.type,
            "valid_from": timestamp(self.valid_from),
            "valid_until": timestamp(self.valid_until),
            "created": timestamp(self.created),
        }


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """The verdict on one signature, or on a seal alone."""

    id: str
    kind: str
    """``seal`` (an SES_Signature or a seal), ``signature`` (a digital signature) or ``integrity`` (GM/T 0099 list)."""
    version: int | None
    intact: bool | None
    """True: every digest, value and match is right; False: one is wrong; None: it could not be checked."""
    reasons: tuple[Reason, ...] = ()
    notes: tuple[Note, ...] = ()
    signed_at: datetime | None = None
    closed: bool | None = None
    seal: SealFacts | None = None
    signer: CertificateFacts | None = None
    maker: CertificateFacts | None = None
    trust: dict[str, str] | None = None
    """Which trust list and region vouched for the signer, or None."""
    status: str = "not_checked"
    """``valid``, ``suspended``, ``cancelled``, ``unknown`` or ``not_checked``."""

    @property
    def verdict(self) -> Verdict:
        return decide(self.reasons)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind,
            "version": self.version,
            "intact": self.intact,
            "verdict": self.verdict.value,
            "reasons": [reason.as_json() for reason in self.reasons],
            "notes": [note.as_json() for note in self.notes],
            "signed_at": timestamp(self.signed_at),
            "closed": self.closed,
            "seal": self.seal.as_json() if self.seal else None,
            "signer": self.signer.as_json() if self.signer else None,
            "maker": self.maker.as_json() if self.maker else None,
            "trust": self.trust,
            "status": self.status,
        }


@dataclass(frozen=True, slots=True)
class FileReport:
    """The verdict on one file: the worst of its signatures."""

    file: str
    format: str
    """``ofd``, ``pdf``, ``seal``, ``ses`` or ``cms``."""
    signatures: tuple[SignatureReport, ...] = ()
    reasons: tuple[Reason, ...] = field(default=())
    """Reasons that concern the whole file (``no_signature``)."""

    @property
    def verdict(self) -> Verdict:
        return decide([*self.reasons, *(reason for signature in self.signatures for reason in signature.reasons)])

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "format": self.format,
            "verdict": self.verdict.value,
            "reasons": [reason.as_json() for reason in self.reasons],
            "signatures": [signature.as_json() for signature in self.signatures],
        }
