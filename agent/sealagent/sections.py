"""The parts that configurations of several processes share: the agent's ``agent.toml`` and the maker's ``maker.toml``.

A configuration is TOML, checked strictly: an unknown key is an error. Later files override single keys of earlier ones.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from sealagent.errors import SealAgentError

__all__ = [
    "Discovery",
    "Location",
    "LogLevel",
    "Module",
    "Modules",
    "PinSource",
    "Record",
    "Section",
    "Timeouts",
    "read_settings",
]

MAX_CONFIG_BYTES = 1 << 20
"""A configuration file larger than this is refused unread."""

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def _located(path: Path) -> Path:
    """Expand ``~`` and ``$NAME``; refuse what would depend on the directory the process was started in."""
    try:
        path = Path(os.path.expandvars(path)).expanduser()
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    if not path.is_absolute():
        raise ValueError("give an absolute path; ~ and $NAME are expanded where they are known")
    return path


Location = Annotated[Path, AfterValidator(_located)]
"""An absolute path, which may be written with ``~`` and environment variables."""


class Section(BaseModel):
    """A table of a configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Module(Section):
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


def _each_once(modules: tuple[Module, ...]) -> tuple[Module, ...]:
    named: set[str] = set()
    for module in modules:
        real = os.path.realpath(module.path)
        if real in named:
            raise ValueError(f"{module.path} is named twice")
        named.add(real)
    return modules


Modules = Annotated[tuple[Module, ...], AfterValidator(_each_once)]
"""Modules, each named once."""


class Discovery(Section):
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


class Timeouts(Section):
    """Seconds a module may take before its worker is killed."""

    sign: float = Field(default=30, gt=0, le=600)
    login: float = Field(default=30, gt=0, le=600)
    generate: float = Field(default=300, gt=0, le=3600)
    other: float = Field(default=30, gt=0, le=600)


class PinSource(Section):
    """Where the PIN comes from."""

    source: Literal["auto", "pinentry", "terminal", "file", "fd", "none"] = "auto"
    file: Location | None = None
    fd: int | None = Field(default=None, ge=0)
    pinentry: str = ""
    """Program to ask with; empty: the first pinentry found."""
    prompt_seconds: float = Field(default=120, gt=0, le=3600)


class Record(Section):
    """A record on the ledger."""

    tree_hash: Literal["sm3", "sha256"] = "sm3"
    max_bytes: int | None = Field(default=None, ge=1 << 16)


S = TypeVar("S", bound=Section)


def read_settings(
    model: type[S],
    files: Sequence[Path],
    environment: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
) -> S:
    """Read and check a configuration.

    :param files: later over earlier; each must be there.
    :param environment: environment variables that name a path, with the key of the configuration they override.
    :param overrides: values of the command line, nested as in the file; they override everything.
    :raises SealAgentError: ``config_invalid``, naming file, key and what is wrong.
    """
    values: dict[str, Any] = {}
    for file in files:
        values = _merge(values, _read(file))
    for variable, key in environment.items():
        if named := os.environ.get(variable):
            values[key] = os.path.abspath(named)
    values = _merge(values, overrides or {})
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        names = ", ".join(str(file) for file in files) or "command line"
        raise SealAgentError("config_invalid", f"{names}: {where}: {first['msg']}", key=where) from error


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
