"""The daemon's configuration: ``agent.toml``, checked strictly.

Order: command line > ``SEALAGENT_*`` environment > user file > system file > the defaults below. An unknown key is an
error. ``config/agent.toml`` in the source tree documents every key; a test holds it to this module.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from sealagent import paths
from sealagent.errors import SealAgentError

__all__ = ["Settings", "load_settings"]

MAX_CONFIG_BYTES = 1 << 20
"""A configuration file larger than this is refused unread."""


def _located(path: Path) -> Path:
    """Expand ``~`` and ``$NAME``; refuse what would depend on the directory the daemon was started in."""
    try:
        path = Path(os.path.expandvars(path)).expanduser()
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    if not path.is_absolute():
        raise ValueError("give an absolute path; ~ and $NAME are expanded where they are known")
    return path


Location = Annotated[Path, AfterValidator(_located)]
"""An absolute path, which may be written with ``~`` and environment variables."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Module(_Section):
    """One driver module that may be loaded."""

    path: Location
    driver: Literal["pkcs11", "skf"] = "pkcs11"
    """The interface the library has: PKCS#11, or SKF (GM/T 0016)."""
    sm2_profile: str = ""
    """Entry ``[[sm2]]`` of the vendor table to use; empty: the one that fits the module, if any."""
    workers: int = Field(default=1, ge=1, le=16)
    """Worker processes. More than one only for network HSMs and SoftHSM: a USB key takes one caller at a time."""
    worker: tuple[str, ...] = ()
    """Program and arguments that serve the module instead of our own worker, e.g. a 32-bit one. Empty: our own."""

    @field_validator("worker")
    @classmethod
    def _program(cls, worker: tuple[str, ...]) -> tuple[str, ...]:
        if any(not word or "\0" in word for word in worker):
            raise ValueError("no word of a command may be empty or hold NUL")
        return (str(_located(Path(worker[0]))), *worker[1:]) if worker else ()


class Discovery(_Section):
    """Where modules are looked for beside ``[[modules]]``."""

    p11_kit: bool = True
    vendor_table: bool = True
    trusted_directories: tuple[Location, ...] = (
        Path("/usr/lib"),
        Path("/usr/lib64"),
        Path("/usr/local/lib"),
        Path("/opt"),
    )
    """Discovered modules are loaded only from below these."""


class Presence(_Section):
    """How keys that come and go are noticed, beside the look every ``presence_seconds``."""

    usb: bool = True
    """Watch USB: known keys and what they lack are shown, and a key that comes or goes is looked at at once."""


class Timeouts(_Section):
    """Seconds a module may take before its worker is killed."""

    sign: float = Field(default=30, gt=0, le=600)
    login: float = Field(default=30, gt=0, le=600)
    generate: float = Field(default=300, gt=0, le=3600)
    other: float = Field(default=30, gt=0, le=600)


class Pin(_Section):
    """Where the PIN comes from and how long a token stays unlocked."""

    source: Literal["auto", "pinentry", "terminal", "file", "fd", "none"] = "auto"
    file: Location | None = None
    fd: int | None = Field(default=None, ge=0)
    pinentry: str = ""
    """Program to ask with; empty: the first pinentry found."""
    prompt_seconds: float = Field(default=120, gt=0, le=3600)
    unlock_idle_seconds: float = Field(default=300, ge=0)
    unlock_absolute_seconds: float = Field(default=3600, ge=0)


class Trust(_Section):
    """Which certificates vouch for makers and signers."""

    paths: tuple[Location, ...] = ()
    """Files or folders of certificates (PEM or DER): trust anchors, or leaf certificates pinned by their octets."""
    strict: bool = False
    """Judge seals by the 2014/2020 rule (any maker certificate fault ends it) instead of the 2025 rule."""


class Seals(_Section):
    """Which seals may be used."""

    require: Literal["valid", "intact"] = "valid"
    """``valid``: trusted and good now (the law). ``intact``: for tests without a trust anchor only."""


class Signing(_Section):
    """What callers may ask for."""

    allow_raw_digests: bool = False
    """Whether a caller may have a digest signed that it computed itself, which the agent cannot look into."""


class Limits(_Section):
    """Bounds on what the socket takes."""

    document_bytes: int = Field(default=256 << 20, ge=1)
    json_bytes: int = Field(default=1 << 20, ge=1024)
    connections: int = Field(default=64, ge=1, le=4096)
    digests_per_request: int = Field(default=1000, ge=1, le=100_000)
    body_seconds: float = Field(default=60, gt=0)
    """Seconds a client may take to send one request's body."""
    documents_at_once: int = Field(default=16, ge=1, le=64)
    """Documents being worked on, PIN prompts included; a further one waits up to ``body_seconds``."""


class Record(_Section):
    """The record of every signature and refusal."""

    tree_hash: Literal["sm3", "sha256"] = "sm3"
    max_bytes: int | None = Field(default=None, ge=1 << 16)


class Settings(_Section):
    """All settings of the daemon."""

    socket: Location = Field(default_factory=paths.socket_path)
    state_dir: Location = Field(default_factory=paths.state_dir)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    presence_seconds: float = Field(default=1.0, gt=0, le=60)
    """Seconds between two looks for inserted and removed tokens."""
    presence: Presence = Presence()
    modules: tuple[Module, ...] = ()
    discovery: Discovery = Discovery()
    timeouts: Timeouts = Timeouts()
    pin: Pin = Pin()
    trust: Trust = Trust()
    seals: Seals = Seals()
    signing: Signing = Signing()
    limits: Limits = Limits()
    record: Record = Record()

    @field_validator("modules")
    @classmethod
    def _each_once(cls, modules: tuple[Module, ...]) -> tuple[Module, ...]:
        named: set[str] = set()
        for module in modules:
            real = os.path.realpath(module.path)
            if real in named:
                raise ValueError(f"{module.path} is named twice")
            named.add(real)
        return modules


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise SealAgentError("config_invalid", f"{file} is larger than {MAX_CONFIG_BYTES} octets")
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SealAgentError("config_invalid", f"{file}: {error}") from error
    except OSError as error:
        raise SealAgentError("config_invalid", f"{file}: {error.strerror}") from error


def load_settings(files: Sequence[Path] | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read and check the configuration.

    :param files: files to read, later over earlier; None: the usual ones, as far as they exist.
    :param overrides: values of the command line, nested as in the file.
    :raises SealAgentError: ``config_invalid``, naming file, key and what is wrong.
    """
    values: dict[str, Any] = {}
    chosen = (
        files
        if files is not None
        else [file for file in paths.config_files() if file.is_file() or os.environ.get("SEALAGENT_CONFIG")]
    )
    for file in chosen:
        values = _merge(values, _read(file))
    for variable, key in (("SEALAGENT_SOCKET", "socket"), ("SEALAGENT_STATE_DIR", "state_dir")):
        if named := os.environ.get(variable):
            values[key] = os.path.abspath(named)
    values = _merge(values, overrides or {})
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        names = ", ".join(str(file) for file in chosen) or "command line"
        raise SealAgentError("config_invalid", f"{names}: {where}: {first['msg']}", key=where) from error
