"""Requests and answers about paired applications and their grants."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from sealagent.api.messages import Message
from sealagent.uses import Operation

__all__ = [
    "ApplicationOut",
    "ApplicationsOut",
    "GrantIn",
    "GrantOut",
    "GrantsOut",
    "PairedOut",
    "PairingIn",
    "PairingOut",
    "RenameIn",
    "SecretIn",
]

MAX_FORMATS = 16
"""Formats that one grant may name."""

Name = Annotated[str, Field(min_length=1, max_length=256)]
FormatName = Annotated[str, Field(pattern="^[a-z0-9]{1,16}$")]
_HOUR = "([01][0-9]|2[0-3]):[0-5][0-9]"


class PairingIn(Message):
    """An application that asks to be paired."""

    name: Name = Field(description="the name it gives itself; 1 to 64 visible characters are kept")


class PairingOut(Message):
    """What the application shows, and what it completes the pairing with."""

    id: str
    name: str = Field(description="as the holder will see it")
    code: str = Field(description="six digits to show; the holder compares them with those of the agent's prompt")
    secret: str = Field(description="for completing; to be kept by the process that began")
    expires: str


class SecretIn(Message):
    """What completes a pairing."""

    secret: Annotated[str, Field(min_length=1, max_length=256)]


class ApplicationOut(Message):
    """A paired application."""

    id: str
    name: str
    executable: str = Field(description="path of its program file")
    sha256: str = Field(description="digest of that file, hexadecimal")
    origin: str | None = Field(description="web origin or browser extension; null for a program of its own")
    created: str
    expires: str | None
    last_used: str | None = Field(description="to some ten minutes")
    state: Literal["active", "expired", "revoked"]
    grants: int = Field(description="grants it has, prohibitions included")
    record: int | None = Field(description="entry of the record with the intent to pair it")


class PairedOut(Message):
    """A pairing that was completed."""

    application: ApplicationOut
    token: str = Field(description="for Authorization: Bearer; it is shown this once and counts for this program only")


class ApplicationsOut(Message):
    """All applications, oldest first."""

    applications: list[ApplicationOut]


class RenameIn(Message):
    """Another name for an application."""

    name: Name


class GrantIn(Message):
    """What the holder is asked to allow an application, or to forbid it."""

    application: Name | None = Field(None, description="id or name; default: the one that asks")
    operation: Operation
    effect: Literal["allow", "deny"] = "allow"
    seal: Name | None = Field(None, description="id, esID or name of one seal; default: any")
    key: Name | None = Field(None, description="id of one key (for `manage`: of a token); default: any")
    formats: tuple[FormatName, ...] = Field(
        (), max_length=MAX_FORMATS, description="formats of documents, for `document` only; default: any"
    )
    count: int | None = Field(None, ge=1, le=1_000_000_000, description="signatures in all; default: not counted")
    hours: str | None = Field(
        None, pattern=f"^{_HOUR}-({_HOUR}|24:00)$", description="hours of the day, local time: 08:00-18:00"
    )
    not_before: datetime | None = Field(None, description="with a time zone")
    expires: datetime | None = Field(
        None, description="with a time zone; default: as late as the policy allows, and never for a prohibition"
    )


class GrantOut(Message):
    """A grant."""

    id: str
    application: str = Field(description="id of the application; process:PID:START for one of an unpaired process")
    name: str | None = Field(description="name of the application")
    operation: Operation
    effect: Literal["allow", "deny"]
    seal: str | None = Field(description="id of the seal; null: any")
    seal_name: str | None = Field(description="its name, where the seal is in reach")
    key: str | None = Field(description="URI of the key (`manage`: of the token); null: any")
    formats: list[str]
    remaining: int | None = Field(description="signatures left; null: not counted")
    hours: str | None
    not_before: str | None
    expires: str | None
    session: str | None = Field(description="URI of the token whose session it ends with")
    created: str | None
    state: Literal["active", "waiting", "spent", "expired"]
    record: int | None = Field(description="entry of the record with the intent to give it")


class GrantsOut(Message):
    """Grants, oldest first."""

    grants: list[GrantOut]
