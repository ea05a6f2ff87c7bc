"""Requests and answers of the socket as types; the OpenAPI document is made from them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from sealdrivers.contract import KeyType

__all__ = [
    "CertificateOut",
    "CertificateRequestIn",
    "CertificateRequestOut",
    "CheckpointOut",
    "DevicesOut",
    "DigestSignature",
    "DigestsIn",
    "DigestsOut",
    "ImportCertificateIn",
    "KeyGenerateIn",
    "KeyOut",
    "KeysOut",
    "Message",
    "ProblemOut",
    "ReceiptOut",
    "RecordOut",
    "RecordsOut",
    "ReportOut",
    "SealDigestIn",
    "SealDigestOut",
    "SealDocumentIn",
    "SealDocumentJsonIn",
    "SealImportIn",
    "SealOut",
    "SealedDocumentOut",
    "SealsOut",
    "StatusOut",
    "TokenOut",
    "TokensOut",
    "VerifyIn",
    "VerifyJsonIn",
]

MAX_PLACEMENTS = 1000
"""Places one signature may put its seal at."""
MAX_TRUST = 256
"""Certificates a verification may bring along."""

Name = Annotated[str, Field(min_length=1, max_length=256)]


class Message(BaseModel):
    """A part of a request or an answer; what it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# Requests


class AtPositionIn(Message):
    """The picture on one page."""

    type: Literal["position"]
    page: int = Field(ge=1)
    x: float = Field(description="left edge of the picture, mm from the page's left")
    y: float = Field(description="top edge of the picture, mm from the page's top")


class RidingIn(Message):
    """A riding seal (骑缝章): one strip of the picture on the edge of each page."""

    type: Literal["riding"]
    edge: Literal["right", "left"] = "right"
    pages: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(None, description="default: all pages")
    at: float | None = Field(None, description="top edge of the picture, mm; default: centred on the page")


class InvisibleIn(Message):
    """A signature without a picture."""

    type: Literal["invisible"]


PlacementIn = Annotated[AtPositionIn | RidingIn | InvisibleIn, Field(discriminator="type")]


class SealDocumentIn(Message):
    """Part ``request`` of ``POST /v1/documents/seal``; part ``document`` is the file."""

    seal: Name = Field(description="id, esID or name of the seal")
    placements: tuple[PlacementIn, ...] = Field(min_length=1, max_length=MAX_PLACEMENTS)
    name: Name = Field("document.ofd", description="file name, shown to the holder and recorded")
    close: bool = Field(False, description="cover the list of signatures, so that none can be added later")
    document: int = Field(0, ge=0, description="which document of the package")


class VerifyIn(Message):
    """Part ``request`` of ``POST /v1/documents/verify``; part ``document`` is the file."""

    name: Name = "document"
    at: datetime | None = Field(None, description="judge as of this moment instead of now")
    trust: tuple[Annotated[str, Field(max_length=65536)], ...] = Field(
        (), max_length=MAX_TRUST, description="certificates (PEM) that vouch beside the configured ones"
    )
    only_these: bool = Field(False, description="leave the configured trust out")
    offline: bool = Field(False, description="ask no status service, OCSP responder or revocation list")
    strict: bool | None = Field(None, description="judge by the 2014/2020 rule; default: as configured")


Document = Annotated[str, Field(description="the file, base64", json_schema_extra={"contentEncoding": "base64"})]
"""Empty where it is checked: the file has been taken out of the body by then (``api/content.py``)."""


class SealDocumentJsonIn(SealDocumentIn):
    """Body of ``POST /v1/documents/seal`` in JSON, e.g. from a web page."""

    content: Document


class VerifyJsonIn(VerifyIn):
    """Body of ``POST /v1/documents/verify`` in JSON, e.g. from a web page."""

    content: Document


class SealDigestIn(Message):
    """An SES_Signature over a digest the caller computed."""

    digest: Base64Bytes = Field(description="SM3 of the original text, 32 octets, base64")
    property_info: str = Field(max_length=4096, description="what it covers (GB/T 38540 propertyInfo), ASCII")
    name: Name | None = Field(None, description="document name, shown and recorded")


class DigestsIn(Message):
    """Bare signatures over digests the caller computed."""

    digests: tuple[Base64Bytes, ...] = Field(min_length=1)
    mechanism: str | None = Field(None, max_length=64, description="default: the key's first")
    name: Name | None = None


class KeyGenerateIn(Message):
    """A new key pair on a token."""

    token: Name = Field(description="id, serial or label of the token")
    type: KeyType
    label: Name
    id: str | None = Field(
        None, pattern="^([0-9a-fA-F]{2}){1,64}$", description="CKA_ID, hexadecimal; default: free one"
    )


class CertificateRequestIn(Message):
    """Subject of a PKCS#10 request."""

    subject: dict[Literal["CN", "O", "OU", "C", "ST", "L"], Annotated[str, Field(min_length=1, max_length=256)]] = (
        Field(min_length=1)
    )


class ImportCertificateIn(Message):
    """A certificate for a key on a token."""

    certificate: str = Field(max_length=65536, description="PEM")
    label: Name | None = None


class SealImportIn(Message):
    """A seal for the local store or a token."""

    seal: Base64Bytes = Field(description="DER SESeal (.esl), base64")
    token: Name | None = Field(None, description="write it to this token as a data object; default: local store")


# Answers


class PinStateOut(Message):
    """What is known of a PIN without spending a try."""

    initialized: bool
    tries_left: int | None
    count_low: bool
    final_try: bool
    locked: bool
    factory_pin: bool = Field(description="the PIN is still the one the key was delivered with: change it")


class TokenOut(Message):
    """A plugged-in token."""

    id: str
    uri: str
    label: str
    serial: str
    manufacturer: str
    model: str
    driver: str
    module: str
    software: bool = Field(description="a software token, for tests only")
    login_required: bool
    unlocked: bool
    protected_authentication_path: bool
    write_protected: bool
    pin: PinStateOut
    admin_pin: PinStateOut = Field(description="of the administrator (SKF), the security officer (PKCS#11)")


class TokensOut(Message):
    """All plugged-in tokens."""

    tokens: list[TokenOut]
    faults: list[str] = Field(description="what could not be read")


class CertificateOut(Message):
    """A certificate."""

    subject: str
    issuer: str
    serial: str
    sha256: str
    not_before: str
    not_after: str


class KeyOut(Message):
    """A signing key on a plugged-in token."""

    id: str
    uri: str
    token: str
    label: str
    object_id: str
    type: KeyType
    bits: int
    mechanisms: list[str]
    always_authenticate: bool
    fault: str | None
    software: bool
    certificate: CertificateOut | None


class KeysOut(Message):
    """All keys on plugged-in tokens."""

    keys: list[KeyOut]


class PictureOut(Message):
    """Form and size of a seal's picture."""

    type: str
    width: int = Field(description="mm")
    height: int = Field(description="mm")


class ReasonOut(Message):
    """A failing step of a verification, or a note."""

    code: str
    detail: str


class SealOut(Message):
    """A seal and whether it can be used now."""

    id: str
    es_id: str
    name: str
    version: int
    vendor: str
    type: int
    source: Literal["token", "store"]
    valid_from: str
    valid_until: str
    days_left: int
    verdict: Literal["valid", "invalid", "indeterminate"]
    reasons: list[ReasonOut]
    notes: list[ReasonOut]
    status: str = Field(
        description="what the status service of the seal's unit says now: valid, made, filed, suspended, cancelled, "
        "superseded, lost, invalid, unknown, or not_checked"
    )
    trust: dict[str, str] | None = Field(
        description="who vouches for the seal's maker: trust list, region, region_name, unit, class (e-government, "
        "commercial or internal); only list and region for a certificate of the configuration"
    )
    usable: bool = Field(description="valid now, and its key is plugged in")
    key: str | None = Field(description="id of the key")
    token: str | None = Field(description="id of the token that holds the key")
    software: bool | None = Field(description="the key is on a software token, for tests only")
    picture: PictureOut
    maker: CertificateOut | None


class SealsOut(Message):
    """All seals in reach."""

    seals: list[SealOut]
    faults: list[str]


class RecordedCheckpointOut(Message):
    """Size and root of the record once the signature was on it."""

    origin: str
    size: int
    root: str
    hash: str


class AuthorizationOut(Message):
    """What allowed a signature."""

    source: Literal["rule", "grant", "default", "limit"]
    name: str = Field(description="name of the rule, id of the grant, or the key of the default")
    agreed: Literal["pin", "confirm", "session", "batch"] | None = Field(
        description="how the holder agreed; null where there was no need"
    )
    batch: str | None = Field(None, description="the batch that it belongs to")


class ReceiptOut(Message):
    """What a signature left in the record."""

    record: int
    intent: int
    time: str
    entry_hash: str
    checkpoint: RecordedCheckpointOut
    signature_sha256: str
    key: str
    certificate_sha256: str | None
    mechanism: str
    operation: str
    authorization: AuthorizationOut
    seal: str | None
    seal_sm3: str | None
    document_sm3: str | None = Field(description="of the document as it came in")
    digest: str | None = Field(description="the digest that the caller computed, where it did")
    timestamp: str | None = Field(description="the time that a time-stamp over the signature proves; null without one")


class SealedDocumentOut(Message):
    """A sealed document, where the request was JSON."""

    receipt: ReceiptOut
    document: str = Field(description="the sealed file, base64", json_schema_extra={"contentEncoding": "base64"})


class SealDigestOut(Message):
    """An SES_Signature."""

    signature: str = Field(description="DER SES_Signature, base64")
    receipt: ReceiptOut


class DigestSignature(Message):
    """One bare signature."""

    signature: str = Field(description="base64; ECDSA and SM2 as DER")
    receipt: ReceiptOut


class DigestsOut(Message):
    """Bare signatures in the order of the digests."""

    signatures: list[DigestSignature]


class CertificateRequestOut(Message):
    """A PKCS#10 request signed on the device."""

    request: str = Field(description="PEM")


class SignatureOut(Message):
    """The verdict on one signature."""

    id: str
    kind: Literal["seal", "signature", "integrity"]
    version: int | None
    intact: bool | None
    verdict: Literal["valid", "invalid", "indeterminate"]
    reasons: list[ReasonOut]
    notes: list[ReasonOut]
    signed_at: str | None
    closed: bool | None
    seal: dict[str, Any] | None
    signer: CertificateOut | None
    maker: CertificateOut | None
    trust: dict[str, str] | None
    status: str


class ReportOut(Message):
    """The verdict on one file."""

    file: str
    format: Literal["ofd", "pdf", "seal", "ses", "cms"]
    verdict: Literal["valid", "invalid", "indeterminate"]
    reasons: list[ReasonOut]
    signatures: list[SignatureOut]


class RecordOut(Message):
    """One entry of the record."""

    number: int
    time: str
    kind: Literal["intent", "signed", "failed", "refused", "admin"]
    hash: str
    prev: str
    body: dict[str, Any]


class RecordsOut(Message):
    """Entries of the record, oldest first."""

    records: list[RecordOut]
    size: int = Field(description="entries in all")


class CheckpointOut(Message):
    """Size and root of the record's Merkle tree (RFC 9162)."""

    size: int
    root: str
    hash: str
    text: str = Field(description="checkpoint body: origin, size, base64 root")


class ServingModuleOut(Message):
    """A library of the vendor table that serves a key."""

    name: str
    driver: str
    path: str | None = Field(description="where it is installed")
    state: str = Field(description="not_installed, not_loaded, or the state of its module as in /v1/status")


class DeviceOut(Message):
    """A known USB key that is plugged in. Its numbers prove no identity."""

    name: str
    vendor_id: str = Field(description="four hexadecimal digits")
    product_id: str = Field(description="four hexadecimal digits")
    serial: str = Field(description="empty where the system does not show it")
    product: str
    port: str = Field(description="where it is plugged in, e.g. 1-1.4")
    modules: list[ServingModuleOut]
    state: Literal["ready", "no_access", "failed", "not_loaded", "middleware_missing"]
    missing_middleware: str | None = Field(description="what to install")
    message: str
    message_zh: str
    next_step: str
    next_step_zh: str


class PresenceOut(Message):
    """How USB is watched."""

    usb: Literal["udev events", "kernel events", "polling", "off"]
    fault: str | None = Field(description="what is missing for more")


class DevicesOut(PresenceOut):
    """The known USB keys."""

    devices: list[DeviceOut]


class ScreenLockOut(Message):
    """Where the agent hears that tokens are to be locked with the screen, and before the machine sleeps."""

    system: Literal["listening", "unreachable", "off"] = Field(description="logind, on the system bus of D-Bus")
    session: Literal["listening", "unreachable", "off"] = Field(description="screen savers, on the session bus")
    delays_sleep: bool = Field(description="whether the machine waits for the lock before it sleeps")
    fault: str | None = Field(description="why a bus is not listened to")


class StatusOut(Message):
    """How the agent is."""

    version: str
    started: str
    uptime_seconds: int
    modules: list[dict[str, Any]]
    record: CheckpointOut
    presence: PresenceOut
    screen_lock: ScreenLockOut
    interrupted: int = Field(description="signatures that a crash interrupted, closed as failed at start")
    pin_source: str
    policy: str | None = Field(description="the policy.toml in force; null: its defaults")


class ProblemOut(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")

    type: str
    code: str
    status: int
    title: str
    title_zh: str
    detail: str
    next_step: str
    next_step_zh: str
    tries_left: int | None = None
