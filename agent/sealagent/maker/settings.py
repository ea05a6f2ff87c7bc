"""The maker's configuration: ``maker.toml``, checked strictly, apart from the agent's.

Order: command line > ``SEALAGENT_MAKER_STATE_DIR`` > user file > system file > the defaults below.
``config/maker.toml`` in the source tree documents every key; a test holds it to this module.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from sealagent.errors import SealAgentError
from sealagent.maker.register import Places
from sealagent.sections import (
    Discovery,
    Location,
    LogLevel,
    Modules,
    PinSource,
    Record,
    Section,
    Timeouts,
    read_settings,
)
from sealdrivers.errors import UriError
from sealdrivers.uri import parse_uri

__all__ = ["Making", "RoleKey", "Settings", "Status", "config_files", "load_settings", "state_dir"]


def config_files() -> list[Path]:
    """Return the files to read, the later overriding the earlier; ``SEALAGENT_MAKER_CONFIG`` names one for both."""
    if named := os.environ.get("SEALAGENT_MAKER_CONFIG"):
        return [Path(named)]
    from platformdirs import site_config_path, user_config_path

    return [
        site_config_path("sealagent", appauthor=False) / "maker.toml",
        user_config_path("sealagent", appauthor=False) / "maker.toml",
    ]


def state_dir() -> Path:
    """Return where the register is kept: never in the agent's own directory."""
    if named := os.environ.get("SEALAGENT_MAKER_STATE_DIR"):
        return Path(named)
    from platformdirs import user_state_path

    return user_state_path("sealagent-maker", appauthor=False)


def _key_uri(text: str) -> str:
    try:
        return str(parse_uri(text)) if text else ""
    except UriError as error:
        raise ValueError(error.message) from error


def _ascii(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise ValueError("printable ASCII only: the field is an IA5String (GB/T 38540 header.Vid)")
    return text


def _listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("give HOST:PORT, e.g. 127.0.0.1:8478 or [::1]:8478")
    return text


KeyUri = Annotated[str, AfterValidator(_key_uri)]


class RoleKey(Section):
    """A key of the unit for one role, and its certificate."""

    key: KeyUri = ""
    """``pkcs11:…`` or ``skf:…``; empty: for the maker the only key there is, for the other roles the maker's."""
    certificate: Location | None = None
    """PEM or DER file; none: the one beside the key on its token."""


class Status(RoleKey):
    """The status service and the static list: their key, address and times."""

    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8478"
    answer_seconds: int = Field(default=3600, ge=10, le=30 * 86400)
    """How long an answer about one seal counts as fresh."""
    list_id: str = Field(default="", max_length=200)
    """Identifier of the static list; empty: ``seals-`` and the region's code."""
    list_seconds: int = Field(default=86400, ge=60, le=366 * 86400)
    connections: int = Field(default=128, ge=1, le=4096)


class Making(Section):
    """What a seal is like unless its operator says otherwise."""

    version: Literal[4, 5] = 4
    """4: GB/T 38540-2020; 5: GM/T 0031-2025."""
    list_type: Literal[1, 2] = 1
    """certListType: 1 the signers' certificates, 2 their SM3 digests."""
    days: int = Field(default=1095, ge=1, le=36500)
    """Validity of a seal, never beyond its signers' certificates."""


class TimestampAuthority(Section):
    """Time-stamps over seals of version 5."""

    url: str = ""
    """RFC 3161 over HTTP; empty: no time-stamp."""
    seconds: float = Field(default=10, gt=0, le=120)


class Trust(Section):
    """Which CAs issue certificates of makers and signers."""

    paths: tuple[Location, ...] = ()
    """Files or folders of certificates; none: chains are not checked."""


class Settings(Section):
    """All settings of the maker."""

    state_dir: Location = Field(default_factory=state_dir)
    log_level: LogLevel = "INFO"
    unit: str = Field(default="", max_length=200)
    """Name of the production-management unit (电子印章制作管理单位)."""
    region: str = Field(default="", pattern=r"^([0-9]{6})?$")
    """Administrative-division code (GB/T 2260)."""
    region_name: str = Field(default="", max_length=100)
    vendor: Annotated[str, AfterValidator(_ascii)] = Field(default="SealAgent", min_length=1, max_length=64)
    operator: str = Field(default="", max_length=100)
    """Who works the maker, unless a command names somebody."""
    modules: Modules = ()
    discovery: Discovery = Discovery()
    timeouts: Timeouts = Timeouts()
    pin: PinSource = PinSource()
    maker: RoleKey = RoleKey()
    status: Status = Status()
    trust_list: RoleKey = RoleKey()
    making: Making = Making()
    timestamp: TimestampAuthority = TimestampAuthority()
    trust: Trust = Trust()
    record: Record = Record()

    @property
    def places(self) -> Places:
        """Where the register is."""
        return Places(self.state_dir)

    @property
    def list_id(self) -> str:
        """Identifier of the static status list."""
        return self.status.list_id or f"seals-{self.region}"

    def role(self, name: str) -> RoleKey:
        """Return the key of a role: ``maker``, ``status`` or ``trust_list``; where none is named, the maker's."""
        chosen: RoleKey = getattr(self, name)
        if chosen.key:
            return RoleKey(key=chosen.key, certificate=chosen.certificate)
        return RoleKey(key=self.maker.key, certificate=chosen.certificate or self.maker.certificate)

    def require_unit(self) -> None:
        """Let only a maker pass that knows whose it is. :raises SealAgentError: ``config_invalid``."""
        for key in ("unit", "region"):
            if not getattr(self, key):
                message = f"{key} is not set; `sealagent maker init` writes a configuration"
                raise SealAgentError("config_invalid", message, key=key)


def load_settings(files: Sequence[Path] | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read and check the configuration.

    :param files: files to read, later over earlier; None: the usual ones, as far as they exist.
    :param overrides: values of the command line, nested as in the file.
    :raises SealAgentError: ``config_invalid``, naming file, key and what is wrong.
    """
    chosen = (
        files
        if files is not None
        else [file for file in config_files() if file.is_file() or os.environ.get("SEALAGENT_MAKER_CONFIG")]
    )
    return read_settings(Settings, chosen, {"SEALAGENT_MAKER_STATE_DIR": "state_dir"}, overrides)
