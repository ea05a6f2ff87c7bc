"""What the world of the test bed holds: units, keys, and seals in every state, each with what is promised of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["HOLDERS", "SEALS", "UNITS", "HolderKey", "SealPlan", "UnitPlan", "credit_code"]


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """A production-management unit with its maker."""

    region: str
    region_name: str
    unit: str
    family: str
    """Of the maker's keys: one of :data:`~testbed.openssl.FAMILIES`."""
    authority: str
    """Who certifies the maker, by its name in the family."""
    key_type: str
    """As ``sealagent key generate --type`` takes it."""
    signers: tuple[tuple[str, str, str], ...]
    """CAs of signers in its trust list: family, name, class."""

    @property
    def internal(self) -> bool:
        return self.authority == "internal"


UNITS = (
    UnitPlan(
        *("110000", "北京市", "北京市电子印章制作管理中心（测试）", "sm2", "makers", "sm2"),
        (("sm2", "signers", "e-government"), ("sm2", "commercial", "commercial")),
    ),
    UnitPlan(
        *("310000", "上海市", "上海市电子印章制作管理中心（测试）", "rsa", "makers", "rsa-2048"),
        (("rsa", "signers", "e-government"), ("ec", "signers", "e-government"), ("ec", "commercial", "commercial")),
    ),
    UnitPlan(
        *("440300", "深圳市", "某某集团（内部印章，测试）", "ec", "internal", "ec-p256"),
        (("ec", "internal", "internal"),),
    ),
)


BUREAU = "北京测试局"
COMPANY = "北京测试公司"
SHANGHAI = "上海测试局"
GROUP = "某某集团"


@dataclass(frozen=True, slots=True)
class HolderKey:
    """A key of the holder, on one of the holder's two tokens."""

    name: str
    owner: str
    """Whom the certificate names."""
    token: Literal["skf", "softhsm"]
    type: str
    family: str
    authority: str
    revoked: bool = False


HOLDERS = (
    HolderKey("beijing", BUREAU, "skf", "sm2", "sm2", "signers"),
    HolderKey("beijing-company", COMPANY, "skf", "sm2", "sm2", "commercial"),
    HolderKey("beijing-revoked", BUREAU, "skf", "sm2", "sm2", "signers", revoked=True),
    HolderKey("shanghai-rsa", SHANGHAI, "softhsm", "rsa-2048", "rsa", "signers"),
    HolderKey("shanghai-ec", SHANGHAI, "softhsm", "ec-p256", "ec", "signers"),
    HolderKey("shanghai-revoked", SHANGHAI, "softhsm", "ec-p256", "ec", "commercial", revoked=True),
    HolderKey("internal", GROUP, "softhsm", "ec-p256", "ec", "internal"),
)


@dataclass(frozen=True, slots=True)
class SealPlan:
    """A seal, how it comes into its state, and what the agent is to say of it."""

    region: str
    name: str
    owner: str
    key: str
    """Of the signer: a :class:`HolderKey`."""
    state: str
    """In the register (:class:`~sealagent.seals.status.SealState`)."""
    reason: str = ""
    """Code with which the register changed it."""
    reasons: tuple[str, ...] = ()
    """Why ``sealagent seal list`` says that it cannot be used; empty: it can."""
    version: int = 4
    list_type: int = 1
    on_token: bool = False
    """Delivered onto the holder's token instead of as a file."""
    expires: bool = False
    """Ends while the test bed is made."""


SEALS = (
    # Made first: its validity ends before the test bed is up.
    SealPlan(
        "110000", f"{BUREAU}会议专用章（已过期）", BUREAU, "beijing", "valid", "", ("seal_expired",), expires=True
    ),
    SealPlan("110000", f"{BUREAU}公章", BUREAU, "beijing", "valid", on_token=True),
    SealPlan("110000", f"{COMPANY}合同专用章", COMPANY, "beijing-company", "valid", version=5, list_type=2),
    SealPlan("110000", f"{BUREAU}档案专用章（未备案）", BUREAU, "beijing", "made", "", ("seal_not_filed",)),
    SealPlan("110000", f"{BUREAU}信访专用章（未交付）", BUREAU, "beijing", "filed", "", ("seal_not_filed",)),
    SealPlan(
        "110000", f"{BUREAU}财务专用章（停用）", BUREAU, "beijing", "suspended", "custody_change", ("seal_suspended",)
    ),
    SealPlan("110000", f"{BUREAU}业务专用章（注销）", BUREAU, "beijing", "cancelled", "merger", ("seal_cancelled",)),
    SealPlan("110000", f"{BUREAU}许可专用章（挂失）", BUREAU, "beijing", "lost", "stolen_carrier", ("seal_lost",)),
    SealPlan(
        *("110000", f"{BUREAU}登记专用章（违法制作）", BUREAU, "beijing", "invalid", "forged_application"),
        ("seal_invalidated",),
    ),
    SealPlan(
        *("110000", f"{BUREAU}行政专用章（重新制作）", BUREAU, "beijing", "superseded", "damaged_carrier"),
        ("seal_superseded",),
    ),
    SealPlan(
        *("110000", f"{BUREAU}监察专用章（证书已吊销）", BUREAU, "beijing-revoked", "valid", ""),
        ("cert_revoked_before_signing",),
    ),
    SealPlan("310000", f"{SHANGHAI}公章", SHANGHAI, "shanghai-rsa", "valid"),
    SealPlan("310000", f"{SHANGHAI}合同专用章", SHANGHAI, "shanghai-ec", "valid", version=5, list_type=2),
    SealPlan(
        "310000",
        f"{SHANGHAI}财务专用章（停用）",
        SHANGHAI,
        "shanghai-ec",
        "suspended",
        "owner_request",
        ("seal_suspended",),
    ),
    SealPlan(
        *("310000", f"{SHANGHAI}业务专用章（证书已吊销）", SHANGHAI, "shanghai-revoked", "valid", ""),
        ("cert_revoked_before_signing",),
    ),
    SealPlan("440300", f"{GROUP}内部行政章", GROUP, "internal", "valid"),
)
"""A superseded one has a successor of the same name, which is valid."""


def credit_code(region: str, number: int) -> str:
    """Return a unified social credit code of nobody (GB 32100-2015): 12 for a body, region, number, check character."""
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    first = f"12{region}{number:09}"
    total = sum(alphabet.index(letter) * pow(3, place, 31) for place, letter in enumerate(first))
    return first + alphabet[-total % 31]
