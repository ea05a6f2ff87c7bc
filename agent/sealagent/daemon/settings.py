"""The daemon's configuration: ``agent.toml``, checked strictly.

Order: command line > ``SEALAGENT_*`` environment > user file > system file > the defaults below. An unknown key is an
error. ``config/agent.toml`` in the source tree documents every key; a test holds it to this module.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from sealagent import paths
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

__all__ = ["Settings", "load_settings"]


Sha256 = Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)]
"""SHA-256 of a certificate, hexadecimal."""

WebAddress = Annotated[
    str,
    Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", max_length=1024),
    AfterValidator(lambda url: url.rstrip("/")),
]
"""An http or https address without a query."""

QueryAddress = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s#]*)?$", max_length=1024)]
"""An http or https address; authorities publish lists behind queries, too."""


class Presence(Section):
    """How keys that come and go are noticed, beside the look every ``presence_seconds``."""

    usb: bool = True
    """Watch USB: known keys and what they lack are shown, and a key that comes or goes is looked at at once."""


class Pin(PinSource):
    """Where the PIN comes from and how long a token stays unlocked."""

    unlock_idle_seconds: float = Field(default=300, ge=0)
    unlock_absolute_seconds: float = Field(default=3600, ge=0)
    lock_with_screen: bool = True
    """Lock every token when the screen is locked, and before the machine sleeps."""


class Trust(Section):
    """Which certificates vouch for makers and signers."""

    paths: tuple[Location, ...] = ()
    """Files or folders of certificates (PEM or DER): trust anchors, or leaf certificates pinned by their octets."""
    lists: tuple[Location, ...] = ()
    """Signed trust lists of the administrator: files, or folders in which every file is one."""
    list_signers: tuple[Sha256, ...] = ()
    """SHA-256 of the certificates that may sign those."""
    strict: bool = False
    """Judge seals by the 2014/2020 rule (any maker certificate fault ends it) instead of the 2025 rule."""

    @model_validator(mode="after")
    def _signed_by_somebody(self) -> Trust:
        if self.lists and not self.list_signers:
            raise ValueError("lists: name in list_signers who may sign them")
        return self


class StatusService(Section):
    """A service that is asked in which state seals are."""

    url: WebAddress
    """Base of its addresses; ``/v1/seals/…`` is asked below it."""
    makers: tuple[Sha256, ...] = ()
    """The makers whose seals it is asked about. Empty: of all."""
    signers: tuple[Location, ...] = ()
    """Certificates (files or folders) that may sign its answers, beside the maker's and those of the trust list."""


class StatusLists(Section):
    """Signed lists of the states of seals, for networks where nobody can be asked."""

    path: Location
    """A file, or a folder in which every file is a list."""
    makers: tuple[Sha256, ...] = ()
    signers: tuple[Location, ...] = ()


class Status(Section):
    """Who is asked in which state a seal is, and what counts when nobody can be asked, also about certificates."""

    services: tuple[StatusService, ...] = ()
    lists: tuple[StatusLists, ...] = ()
    use_trust_lists: bool = True
    """Ask the services that the trust list of a seal's maker names, too."""
    unavailable: Literal["refuse", "warn", "offline"] = "refuse"
    """``refuse``: the seal may not be used; ``warn``: it may, with a note; ``offline``: the last answer counts for
    ``offline_hours``."""
    offline_hours: float = Field(default=24, gt=0, le=24 * 366)
    cache_seconds: float = Field(default=300, ge=0, le=86400)
    """How long an answer is used again without asking, if its issuer does not say less."""
    timeout_seconds: float = Field(default=5, gt=0, le=60)
    """Seconds one question may take."""


class OcspResponder(Section):
    """An OCSP responder (RFC 6960) for certificates of some issuers."""

    url: WebAddress
    issuers: tuple[Sha256, ...] = Field(min_length=1)
    """The CA certificates whose certificates it is asked about."""


class Revocation(Section):
    """Who is asked whether certificates are revoked."""

    ocsp: tuple[OcspResponder, ...] = ()
    crls: tuple[Location | QueryAddress, ...] = ()
    """Certificate revocation lists: files, folders or addresses."""
    use_trust_lists: bool = True
    """Ask the responders and lists that trust lists name, too."""
    use_certificate_urls: bool = False
    """Ask the responders and lists that the certificates themselves name, too."""


class Timestamp(Section):
    """Who time-stamps seal signatures before they are released."""

    url: QueryAddress | Literal[""] = ""
    """Address of a time-stamping authority (RFC 3161 over HTTP). Empty: signatures have no time-stamp."""
    digest: Literal["sm3", "sha256", "sha384", "sha512"] = "sm3"
    required: bool = True
    """Whether a signature that could not be time-stamped is not released; else the record says why it has none."""


class Seals(Section):
    """Which seals may be used."""

    require: Literal["valid", "intact"] = "valid"
    """``valid``: trusted and good now (the law). ``intact``: for tests without a trust anchor only."""


class Limits(Section):
    """Bounds on what the socket takes."""

    document_bytes: int = Field(default=256 << 20, ge=1)
    json_bytes: int = Field(default=1 << 20, ge=1024)
    connections: int = Field(default=64, ge=1, le=4096)
    digests_per_request: int = Field(default=1000, ge=1, le=100_000)
    body_seconds: float = Field(default=60, gt=0)
    """Seconds a client may take to send one request's body."""
    documents_at_once: int = Field(default=16, ge=1, le=64)
    """Documents being worked on, PIN prompts included; a further one waits up to ``body_seconds``."""


_LOOPBACK_NAME = r"(127\.0\.0\.1|localhost|[a-z0-9-]{1,63}\.localhost)"
HostValue = Annotated[str, Field(pattern=rf"^{_LOOPBACK_NAME}(:[1-9][0-9]{{0,4}})?$")]
"""A value of Host: names that no name server can lead elsewhere."""
Origin = Annotated[
    str,
    Field(
        pattern=r"^(https://[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[1-9][0-9]{0,4})?"
        rf"|http://{_LOOPBACK_NAME}(:[1-9][0-9]{{0,4}})?|chrome-extension://[a-p]{{32}})$"
    ),
]
"""An origin as browsers write it; http only for pages of this machine, which nobody on the way can alter."""


class Loopback(Section):
    """The listener for web pages, on 127.0.0.1."""

    enabled: bool = False
    port: int = Field(default=18543, ge=1024, le=65535)
    hosts: tuple[HostValue, ...] = Field(default=(), max_length=16)
    """Exact values of Host. Empty: ``127.0.0.1:PORT`` and ``localhost:PORT``."""
    origins: tuple[Origin, ...] = Field(default=(), max_length=64)
    """Web sites that may ask; each must be paired besides."""
    document_bytes: int = Field(default=32 << 20, ge=1, le=1 << 30)
    """Octets of a document from a page."""

    @model_validator(mode="after")
    def _for_somebody(self) -> Loopback:
        if self.enabled and not self.origins:
            raise ValueError("origins: name the web sites that may ask")
        if any(origin.endswith(":443" if origin.startswith("https") else ":80") for origin in self.origins):
            raise ValueError("origins: leave the usual port out, as browsers do")
        return self

    @property
    def host_values(self) -> frozenset[str]:
        """The values of Host in force."""
        return frozenset(self.hosts or (f"127.0.0.1:{self.port}", f"localhost:{self.port}"))


class Browser(Section):
    """Extensions of browsers, which ask through the native messaging host."""

    programs: tuple[Location, ...] = Field(default=(), max_length=64)
    """Program files of browsers, beside those that the agent knows."""


class Settings(Section):
    """All settings of the daemon."""

    socket: Location = Field(default_factory=paths.socket_path)
    state_dir: Location = Field(default_factory=paths.state_dir)
    policy: Location | None = None
    """The policy (policy.toml). None: the system's, where there is one, else the user's."""
    log_level: LogLevel = "INFO"
    presence_seconds: float = Field(default=1.0, gt=0, le=60)
    """Seconds between two looks for inserted and removed tokens."""
    presence: Presence = Presence()
    modules: Modules = ()
    discovery: Discovery = Discovery()
    timeouts: Timeouts = Timeouts()
    pin: Pin = Pin()
    trust: Trust = Trust()
    status: Status = Status()
    revocation: Revocation = Revocation()
    timestamp: Timestamp = Timestamp()
    seals: Seals = Seals()
    limits: Limits = Limits()
    loopback: Loopback = Loopback()
    browser: Browser = Browser()
    record: Record = Record()


def load_settings(files: Sequence[Path] | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read and check the configuration.

    :param files: files to read, later over earlier; None: the usual ones, as far as they exist.
    :param overrides: values of the command line, nested as in the file.
    :raises SealAgentError: ``config_invalid``, naming file, key and what is wrong.
    """
    chosen = (
        files
        if files is not None
        else [file for file in paths.config_files() if file.is_file() or os.environ.get("SEALAGENT_CONFIG")]
    )
    environment = {"SEALAGENT_SOCKET": "socket", "SEALAGENT_STATE_DIR": "state_dir"}
    return read_settings(Settings, chosen, environment, overrides)
