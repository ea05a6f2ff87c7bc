"""Requests and answers about trust lists as types; see :mod:`sealagent.api.messages`."""

from __future__ import annotations

from typing import Literal

from pydantic import Base64Bytes, Field

from sealagent.api.messages import CertificateOut, Message
from sealagent.pki.trust import TrustClass, TrustRole
from sealagent.pki.trustlist import ListedState

__all__ = [
    "TrustEntryOut",
    "TrustListAddIn",
    "TrustListEntriesOut",
    "TrustListOut",
    "TrustListRemovedOut",
    "TrustListUpdateIn",
    "TrustListsOut",
]


class TrustListAddIn(Message):
    """A trust list that is not there yet."""

    list: Base64Bytes = Field(description="the signed message (DER), base64")
    signer: str = Field(
        pattern="^[0-9a-fA-F]{64}$",
        description="SHA-256 of the signer's certificate, compared with what the unit publishes elsewhere",
    )
    new_signer: bool = Field(
        False,
        description="the list was here before and was removed; accept a signer that its last version did not name",
    )


class TrustListUpdateIn(Message):
    """A newer version of a trust list."""

    list: Base64Bytes = Field(description="the signed message (DER), base64")


class TrustListOut(Message):
    """A trust list in force."""

    id: str
    region: str = Field(description="administrative-division code, six digits")
    region_name: str
    unit: str = Field(description="the production-management unit that publishes it")
    sequence: int
    issued_at: str
    next_update: str
    stale: bool = Field(description="its time is over: it vouches for nothing until it is updated")
    origin: Literal["added", "configured"]
    signer: CertificateOut
    next_signers: tuple[str, ...] = Field(description="SHA-256 of further certificates that may sign the next version")
    status_urls: tuple[str, ...] = Field(description="seal status services of the unit")
    size: int = Field(description="entries")
    roles: dict[TrustRole, int] = Field(description="entries by role; one may have several")
    classes: dict[TrustClass, int]
    states: dict[ListedState, int]


class TrustListsOut(Message):
    """All trust lists in force."""

    lists: tuple[TrustListOut, ...]
    faults: tuple[str, ...] = Field(description="which lists do not count, and why")


class TrustEntryOut(Message):
    """What a trust list says of a certificate."""

    certificate: CertificateOut
    roles: tuple[TrustRole, ...]
    trust_class: TrustClass = Field(alias="class")
    state: ListedState
    since: str = Field(description="from when on the state holds")
    ocsp: tuple[str, ...]
    crls: tuple[str, ...]


class TrustListEntriesOut(TrustListOut):
    """A trust list, entry by entry."""

    entries: tuple[TrustEntryOut, ...]


class TrustListRemovedOut(Message):
    """A trust list that was removed."""

    id: str
