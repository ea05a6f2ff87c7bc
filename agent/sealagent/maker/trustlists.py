"""A trust list made from a description in TOML, signed by the unit; its sequence is kept by the register."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from sealagent.errors import SealAgentError
from sealagent.maker.device import Device, UnitKey
from sealagent.maker.publishing import sign_content
from sealagent.maker.register import Register, Said
from sealagent.pki.certificates import MAX_BUNDLE_OCTETS, Certificate, load_certificates
from sealagent.pki.digests import digest
from sealagent.pki.trust import TrustClass, TrustRole
from sealagent.pki.trustlist import ListedCertificate, ListedState, encode_trust_list
from sealagent.sections import Section

__all__ = ["Description", "publish_trust_list", "read_description"]

MAX_DESCRIPTION = 1 << 20
"""Octets of a description."""


class Listed(Section):
    """One certificate of a description."""

    certificate: Path
    """PEM or DER file, beside the description unless absolute."""
    roles: tuple[TrustRole, ...] = Field(min_length=1)
    trust_class: TrustClass = Field(alias="class")
    state: ListedState = ListedState.RECOGNISED
    since: datetime | None = None
    """From when on the state holds; none: from now on, for a recognised one."""
    ocsp: tuple[str, ...] = ()
    crls: tuple[str, ...] = ()


class Description(Section):
    """What a trust list says."""

    list: str
    days: int = Field(default=90, ge=1, le=732)
    """Until the next update is due."""
    unit: str = ""
    """Empty, like the two that follow: what maker.toml says."""
    region: str = ""
    region_name: str = ""
    status_urls: tuple[str, ...] = ()
    next_signers: tuple[Path, ...] = ()
    """Files of certificates that may sign the next version."""
    entry: tuple[Listed, ...] = Field(min_length=1)


def read_description(file: Path) -> Description:
    """Read a description; file names in it are taken relative to its folder.

    :raises SealAgentError: ``trust_description_invalid``, naming the key.
    """
    try:
        with file.open("rb") as stream:
            octets = stream.read(MAX_DESCRIPTION + 1)
        if len(octets) > MAX_DESCRIPTION:
            raise _invalid(file, f"it has more than {MAX_DESCRIPTION} octets")
        values: Mapping[str, Any] = tomllib.loads(octets.decode())
        return Description.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _invalid(file, f"{where}: {first['msg']}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _invalid(file, str(error)) from error
    except OSError as error:
        raise _invalid(file, error.strerror or str(error)) from error


async def publish_trust_list(
    register: Register,
    device: Device,
    key: UnitKey,
    said: Said,
    described: Description,
    folder: Path,
    *,
    unit: str,
    region: str,
    region_name: str,
) -> tuple[int, bytes]:
    """Make, sign and put on record the next version of a trust list; return its sequence and the signed message.

    :param folder: what file names of the description are relative to.
    :param unit: with region and its name: what holds where the description is silent.
    :raises SealAgentError: ``trust_description_invalid``, ``trust_list_invalid``, those of the device and the record.
    """
    now = register.now()
    counter = f"trust_list.{described.list}"
    sequence = register.index.counter(counter) + 1
    content = encode_trust_list(
        id=described.list,
        sequence=sequence,
        region=described.region or region,
        region_name=described.region_name or region_name or region,
        unit=described.unit or unit,
        issued_at=now,
        next_update=now + timedelta(days=described.days),
        entries=[_listed(each, folder, now) for each in described.entry],
        status_urls=described.status_urls,
        next_signers=[_certificate(folder / each).sha256 for each in described.next_signers],
    )
    about: dict[str, Any] = {
        "event": "trust_list",
        "list": {
            "id": described.list,
            "sequence": sequence,
            "entries": len(described.entry),
            "content_sm3": digest("sm3", content).hex(),
        },
        **said.as_json(),
        **key.as_json(),
    }
    async with register.intended(about) as intent:
        message = await sign_content(device, key, content, now, described.list)
        await register.record({**about, "counters": {counter: sequence}}, intent)
    return sequence, message


def _listed(entry: Listed, folder: Path, now: datetime) -> ListedCertificate:
    certificate = _certificate(folder / entry.certificate)
    if entry.since is None and entry.state is ListedState.WITHDRAWN:
        raise SealAgentError(
            "trust_description_invalid", f"{entry.certificate}: say since when it is withdrawn (`since`)"
        )
    since = now if entry.since is None else entry.since
    if since.tzinfo is None:
        raise SealAgentError("trust_description_invalid", f"{entry.certificate}: `since` needs a time zone, e.g. Z")
    return ListedCertificate(
        certificate=certificate,
        roles=frozenset(entry.roles),
        trust_class=entry.trust_class,
        since=since.astimezone(UTC).replace(microsecond=0),
        state=entry.state,
        ocsp=entry.ocsp,
        crls=entry.crls,
    )


def _certificate(file: Path) -> Certificate:
    try:
        with file.open("rb") as stream:
            found = load_certificates(stream.read(MAX_BUNDLE_OCTETS + 1))
    except (OSError, SealAgentError) as error:
        why = error.strerror if isinstance(error, OSError) else error.message
        raise SealAgentError("trust_description_invalid", f"certificate {file}: {why}") from error
    if len(found) != 1:
        raise SealAgentError("trust_description_invalid", f"{file} holds {len(found)} certificates; name a file of one")
    return found[0]


def _invalid(file: Path, why: str) -> SealAgentError:
    return SealAgentError("trust_description_invalid", f"{file}: {why}")
