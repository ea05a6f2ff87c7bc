"""A small world for integration tests: test CA, maker, a seal, tokens, and a real daemon in its own process."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from forked_commands import Forked
from sample_seals import png
from sealagent.client import Agent, AgentError
from sealagent.pki import oids
from sealagent.seals.build import assemble_seal, build_seal_info
from sealagent.seals.model import Picture
from softhsm2_fixtures import PrivateKey, SoftToken, new_key

START_SECONDS = 30.0
"""Patience for the daemon to say that it listens."""

Loader = Callable[[Path], None]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@dataclass
class TestAuthority:
    """A root CA and a maker with software keys: the outside world, which the agent only sees certificates of."""

    __test__ = False

    key: PrivateKey = field(default_factory=lambda: new_key("ec-p256"))
    maker_key: PrivateKey = field(default_factory=lambda: new_key("ec-p256"))
    place: str = "Test"
    """Its certificates are named after it."""

    def __post_init__(self) -> None:
        self.root = self._certificate(self.key, f"{self.place} Root", ca=True)
        self.maker = self._certificate(self.maker_key, f"{self.place} Maker")

    def _certificate(
        self, key: PrivateKey | Any, name: str, *, ca: bool = False, days: tuple[float, float] = (-30, 365)
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        public = key.public_key() if hasattr(key, "public_key") else key
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(f"{self.place} Root"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(not ca, not ca, False, False, False, ca, ca, False, False), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, key: Any, name: str = "测试单位", days: tuple[float, float] = (-30, 365)) -> bytes:
        """Return a signer's certificate (DER) for a key pair or public key."""
        return _der(self._certificate(key, name, days=days))

    def root_pem(self) -> str:
        return self.root.public_bytes(serialization.Encoding.PEM).decode()

    def make_seal(
        self,
        certificates: Sequence[bytes],
        *,
        name: str = "测试单位公章",
        version: int = 4,
        days: tuple[float, float] = (-10, 300),
        es_id: str = "11010000000001",
        picture: Picture | None = None,
    ) -> bytes:
        """Return a DER SESeal that lists these certificates."""
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        start = now + datetime.timedelta(days=days[0])
        info = build_seal_info(
            version=version,
            es_id=es_id,
            vendor="SealAgentTest",
            type=1,
            name=name,
            created=start,
            valid_from=start,
            valid_until=now + datetime.timedelta(days=days[1]),
            picture=picture or Picture("PNG", png(8, 8), 40, 40),
            certificates=certificates,
        )
        if isinstance(self.maker_key, rsa.RSAPrivateKey):
            oid = oids.SHA256_RSA
            value = self.maker_key.sign(info, padding.PKCS1v15(), hashes.SHA256())
        else:
            oid = oids.ECDSA_SHA256
            value = self.maker_key.sign(info, ec.ECDSA(hashes.SHA256()))
        return assemble_seal(info, _der(self.maker), oid, value)


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for something to happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def in_background(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start work in a thread; what it returns, or the code of its error, comes into the list."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except AgentError as error:
            outcome.append(error.code)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


@dataclass
class Daemon:
    """A daemon in its own process."""

    directory: Path
    process: subprocess.Popen[bytes] | Forked
    socket: Path
    log: Path

    def agent(self, timeout: float = 60.0) -> Agent:
        return Agent(self.socket, timeout)

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)

    def workers(self) -> list[int]:
        """Return the process ids of its worker processes."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    stat = (entry / "stat").read_text().rpartition(")")[2].split()
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if int(stat[1]) == self.process.pid and b"sealdrivers.host.worker" in command:
                    found.append(int(entry.name))
        return found

    def said(self) -> str:
        """Return what it logged."""
        return self.log.read_text(encoding="utf-8")


ALLOW_ALL = """
[defaults]
document = "allow"
digest = "allow"
raw = "allow"
manage = "allow"
[limits]
blind_needs_pairing = false
"""
"""The policy of a tester whose PIN comes from a file: nobody is asked, so everything must be allowed."""


@dataclass
class World:
    """Where a test happens."""

    directory: Path
    token: SoftToken
    authority: TestAuthority
    daemons: list[Daemon] = field(default_factory=list)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Sections of agent.toml beside, or instead of, the usual ones."""
    policy: str = ALLOW_ALL
    """The content of policy.toml."""
    presence_seconds: float = 0.5
    modules: list[Path] = field(default_factory=list)
    """Modules instead of SoftHSM."""
    driver: str = "pkcs11"
    """What interface the modules have."""
    module_settings: dict[str, Any] = field(default_factory=dict)
    """Further keys of each ``[[modules]]`` entry."""
    fresh: bool = False
    """Whether daemons load their program themselves, as those of users do: for tests and figures about that."""

    @property
    def pin_file(self) -> Path:
        return self.directory / "pin"

    @property
    def root_file(self) -> Path:
        return self.directory / "root.pem"

    def add_signer(
        self, kind: Any = "ec-p256", *, object_id: bytes = b"\x01", name: str = "测试单位", **certificate: Any
    ) -> bytes:
        """Put a key and its certificate on the token; return the certificate."""
        pair = self.token.add_key(kind, object_id=object_id, label=name)
        der = self.authority.issue(pair, name, **certificate)
        self.token.add_certificate(der, object_id=object_id, label=name)
        return der

    def start(self, *, workers: int = 1, environment: dict[str, str] | None = None, **run: Any) -> Daemon:
        """Start a daemon and wait until it listens.

        :param run: passed to :class:`subprocess.Popen`.
        """
        daemon = self.launch(workers=workers, environment=environment, **run)
        deadline = time.monotonic() + START_SECONDS
        while "ready:" not in daemon.said():
            assert daemon.process.poll() is None, daemon.said()
            assert time.monotonic() < deadline, daemon.said()
            time.sleep(0.02)
        return daemon

    def launch(self, *, workers: int = 1, environment: dict[str, str] | None = None, **run: Any) -> Daemon:
        """Start a daemon without waiting."""
        self.pin_file.touch(0o600)
        if not self.pin_file.stat().st_size:
            self.pin_file.write_text(self.token.user_pin + "\n")
        self.root_file.write_text(self.authority.root_pem())
        socket = self.directory / "run" / "agent.sock"
        (self.directory / "policy.toml").write_text(self.policy)
        config = self.directory / "agent.toml"
        config.write_text(_toml(self._values(socket, workers)))
        log = self.directory / f"daemon-{len(self.daemons)}.log"
        words = ["daemon", "run", "--config", str(config)]
        # Whoever locks the developer's screen must lock no token of a test.
        buses = dict.fromkeys(("DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"), "unix:path=/nonexistent")
        settings = {**os.environ, **buses, "SEALAGENT_SOCKET": str(socket), **(environment or {})}
        process: subprocess.Popen[bytes] | Forked
        with log.open("wb") as written:
            if self.fresh or run or "LD_PRELOAD" in settings:
                process = subprocess.Popen(
                    [sys.executable, "-m", "sealagent", *words],
                    stdin=subprocess.DEVNULL,
                    stdout=written,
                    stderr=written,
                    env=settings,
                    **run,
                )
            else:
                process = Forked(words, Path.cwd(), settings, written.fileno(), written.fileno())
        self.daemons.append(Daemon(self.directory, process, socket, log))
        return self.daemons[-1]

    def _values(self, socket: Path, workers: int) -> dict[str, Any]:
        values: dict[str, Any] = {
            "socket": str(socket),
            "state_dir": str(self.directory / "state"),
            "policy": str(self.directory / "policy.toml"),
            "presence_seconds": self.presence_seconds,
            "discovery": {"p11_kit": False, "vendor_table": False},
            "modules": [
                {"path": str(path), "workers": workers, "driver": self.driver, **self.module_settings}
                for path in self.modules or [self.token.module]
            ],
            "pin": {"source": "file", "file": str(self.pin_file)},
            "trust": {"paths": [str(self.root_file)]},
        }
        for section, entries in self.settings.items():
            values[section] = {**values.get(section, {}), **entries}
        return values

    def close(self) -> None:
        for daemon in self.daemons:
            daemon.stop()


def _toml(values: dict[str, Any]) -> str:
    """Write the few forms these settings need."""

    def plain(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list):
            return "[" + ", ".join(plain(item) for item in value) + "]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{name} = {plain(item)}" for name, item in value.items()) + "}"
        return f'"{value}"' if isinstance(value, str) else str(value)

    lines = [
        f"{key} = {plain(value)}" for key, value in values.items() if not isinstance(value, dict) and key != "modules"
    ]
    for module in values["modules"]:
        lines += ["[[modules]]", *(f"{key} = {plain(value)}" for key, value in module.items())]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{name} = {plain(item)}" for name, item in value.items())]
    return "\n".join(lines) + "\n"
