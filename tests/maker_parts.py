"""A production-management unit for tests: a token with the maker's keys, a CA, a register, and its command line."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cli_parts import Done, Shell, command
from sample_seals import openssl
from sealagent.clock import system_clock
from sealagent.maker.applications import Application, Category, apply
from sealagent.maker.device import Device, UnitKey, opened_device
from sealagent.maker.index import SealRow
from sealagent.maker.making import Making, make
from sealagent.maker.register import Register, Said, Who, opened_register
from sealagent.maker.settings import Settings, load_settings
from sealagent.maker.states import Asker
from sealagent.pki.trust import TrustStore
from sealagent.seals.model import Picture
from softgm import SoftSkf, SoftSkfToken
from softhsm2_fixtures import SoftHsm, SoftToken
from testbed.authorities import Authority, create_authority
from testbed.openssl import KEY_TYPES

T = TypeVar("T")

CREDIT_CODE = "91350100M000100Y43"
"""The example of GB 32100-2015."""
UNIT = "测试印章制作管理中心"
OPERATOR = "经办人甲"
OWNER = "某某公司"
NAME = "某某公司公章"
READY_SECONDS = 30.0

PICTURE = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="40mm" height="40mm" viewBox="0 0 40 40">'
    b'<circle cx="20" cy="20" r="18" fill="none" stroke="#e60012" stroke-width="1.2"/></svg>'
)


@dataclass(frozen=True)
class Applicant:
    """Whoever applies for a seal: a key made by the OpenSSL command line, its request and its certificate."""

    folder: Path
    kind: str
    """A name of :data:`testbed.openssl.KEY_TYPES`."""

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    @property
    def request(self) -> Path:
        return self.folder / "request.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"


SAID = Said(Who(OPERATOR, os.getuid()))


@dataclass(frozen=True)
class Room:
    """An open office: what making needs, in this process."""

    office: Office
    settings: Settings
    device: Device
    key: UnitKey
    register: Register

    async def apply(self, *applicants: Applicant, name: str = NAME, **fields: Any) -> int:
        """Record an application with the requests of the applicants."""
        asked = Application(
            applicant=OWNER,
            credit_code=CREDIT_CODE,
            approval="准字〔2026〕1号",
            name=name,
            type=1,
            category=Category.STATUTORY_NAME,
            requests=tuple(each.request.read_bytes() for each in applicants),
        )
        said = replace(SAID, asked_by=Asker.OWNER)
        return await apply(self.register, replace(asked, **fields), said, trust=self.trust)

    async def make(
        self, application: int, *applicants: Applicant, said: Said = SAID, **wanted: Any
    ) -> tuple[SealRow, bytes]:
        """Make the seal of an application, with the certificates of the applicants."""
        asked = Making(
            application=application,
            picture=Picture("SVG", PICTURE, 40, 40),
            certificates=tuple(ssl.PEM_cert_to_DER_cert(each.certificate.read_text()) for each in applicants),
        )
        stamp = wanted.pop("stamp", None)
        key = wanted.pop("key", self.key)
        return await make(
            self.register,
            self.device,
            key,
            replace(asked, **wanted),
            said,
            vendor="Test",
            region="110000",
            usual_days=self.settings.making.days,
            trust=self.trust,
            stamp=stamp,
        )

    @property
    def trust(self) -> TrustStore | None:
        paths = self.settings.trust.paths
        return TrustStore.load(paths) if paths else None

    def kinds(self) -> list[tuple[str, str]]:
        """Return kind and event, or reason, of each entry of the register."""
        found = []
        for entry in self.register.ledger.entries(limit=1000):
            body: Any = entry.body
            what = "reason" if entry.kind.value in ("failed", "refused") else "event"
            found.append((entry.kind.value, body[what]))
        return found


@dataclass
class Office:
    """A unit at work in a folder of its own."""

    folder: Path
    kind: str
    """Key type of CA, maker and applicants."""
    token: SoftToken | SoftSkfToken
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Sections of maker.toml beside the usual ones."""
    services: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        create_authority(
            self.folder / "ca", "Maker Test CA", now - timedelta(days=1), now + timedelta(days=4000), self.kind
        )
        self._install("maker", b"\x01")
        self._install("status", b"\x02")
        self.pin_file.touch(0o600)
        self.pin_file.write_text(self.token.user_pin + "\n")
        self.picture.write_bytes(PICTURE)
        self.configure()

    @property
    def pin_file(self) -> Path:
        return self.folder / "pin"

    @property
    def picture(self) -> Path:
        return self.folder / "seal.svg"

    @property
    def root(self) -> Path:
        return self.folder / "ca" / "ca.pem"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def authority(self) -> Authority:
        return Authority(self.folder / "ca", KEY_TYPES[self.kind])

    @property
    def shell(self) -> Shell:
        return Shell(self.folder, self.folder / "no-agent.sock")

    def configure(self, **sections: dict[str, Any]) -> None:
        """Write maker.toml."""
        self.settings |= sections
        skf = isinstance(self.token, SoftSkfToken)
        module = self.token.library if isinstance(self.token, SoftSkfToken) else self.token.module
        values: dict[str, Any] = {
            "state_dir": str(self.state),
            "unit": UNIT,
            "region": "110000",
            "region_name": "北京市",
            "operator": OPERATOR,
            "modules": [{"path": str(module), "driver": "skf" if skf else "pkcs11"}],
            "discovery": {"p11_kit": False, "vendor_table": False},
            "pin": {"source": "file", "file": str(self.pin_file)},
            "maker": {"key": self.uri("maker", b"\x01")},
            "status": {"key": self.uri("status", b"\x02"), "listen": "127.0.0.1:0"},
            "trust": {"paths": [str(self.root)]},
        }
        for name, section in self.settings.items():
            values[name] = {**values.get(name, {}), **section}
        self.config.write_text(toml(values), encoding="utf-8")

    @property
    def config(self) -> Path:
        return self.folder / "maker.toml"

    def uri(self, name: str, object_id: bytes) -> str:
        if isinstance(self.token, SoftSkfToken):
            return f"skf:serial={self.token.serial};container={name}"
        return f"pkcs11:serial={self.token.serial};id=%{object_id.hex()}"

    def _install(self, name: str, object_id: bytes) -> None:
        """Make a key outside, have it certified, and put both on the token."""
        made = self.applicant(f"unit-{name}", cn=UNIT)
        certificate = ssl.PEM_cert_to_DER_cert(made.certificate.read_text())
        if isinstance(self.token, SoftSkfToken):
            pkcs8 = openssl("pkcs8", "-topk8", "-nocrypt", "-in", made.key)
            self.token.add_key("sm2", container=name, pem=pkcs8)
            self.token.add_certificate(certificate, container=name)
        else:
            from cryptography.hazmat.primitives.serialization import load_pem_private_key

            pair: Any = load_pem_private_key(made.key.read_bytes(), None)
            self.token.add_key(_KINDS[self.kind], label=name, object_id=object_id, key=pair)
            self.token.add_certificate(certificate, label=name, object_id=object_id)

    def applicant(self, name: str, *, cn: str = OWNER, days: tuple[float, float] = (-1, 900)) -> Applicant:
        """Make a key with its request, and its certificate."""
        made = Applicant(self.folder / name, self.kind)
        made.folder.mkdir()
        kind = KEY_TYPES[self.kind]
        openssl("genpkey", *kind.genpkey, "-out", made.key)
        subject = ("-utf8", "-subj", f"/C=CN/O={OWNER}/CN={cn}")
        openssl("req", "-new", "-key", made.key, f"-{kind.digest}", *kind.sign, *subject, "-out", made.request)
        self.certify(made, days)
        return made

    def certify(self, applicant: Applicant, days: tuple[float, float] = (-1, 900)) -> None:
        """Have the CA issue a certificate for the applicant's request."""
        now = datetime.now(UTC).replace(microsecond=0)
        begin, end = (now + timedelta(days=each) for each in days)
        der = self.authority.issue(applicant.request.read_bytes(), begin, end)
        applicant.certificate.write_text(ssl.DER_cert_to_PEM_cert(der))

    # The command line

    def __call__(self, *arguments: str | Path, **environment: str) -> Done:
        """Run one command of ``sealagent maker``."""
        return self.shell("maker", *arguments, **{**self.environment, **environment})

    @property
    def environment(self) -> dict[str, str]:
        variables = ("SOFTHSM2_CONF", "SOFTSKF_DIR")
        kept = {name: os.environ[name] for name in variables if name in os.environ}
        return {**kept, "SEALAGENT_MAKER_CONFIG": str(self.config)}

    def good(self, *arguments: str | Path) -> Any:
        """Run one command that must succeed, with --json; return what it printed."""
        done = self(*arguments, "--json")
        assert done.status == 0, (arguments, done.err)
        return done.json

    def begin(self) -> None:
        """Check what is there and make the register."""
        self.good("init")

    # In the test's own process, where a process for each command would take too long

    def work(self, what: Callable[[Room], Awaitable[T]], *, create: bool = True) -> T:
        """Open device and register as a command does, and do some work with the maker's key."""

        async def main() -> T:
            settings = load_settings([self.config])
            async with opened_device(settings, system_clock) as device:
                key = await device.key(settings.role("maker"))
                async with opened_register(settings.places, system_clock, create=create) as register:
                    return await what(Room(self, settings, device, key, register))

        return asyncio.run(main())

    def apply(self, applicant: Applicant, *, name: str = NAME, code: str = CREDIT_CODE, request: bool = True) -> int:
        """Record an application; return its number."""
        source = ("--request", applicant.request) if request else ("--certificate", applicant.certificate)
        words = ("--applicant", OWNER, "--credit-code", code, "--approval", "准字〔2026〕1号", "--name", name)
        return int(self.good("apply", *words, *source)["application"])

    def make(self, applicant: Applicant, *options: str | Path, **application: Any) -> dict[str, Any]:
        """Bring an application to a made seal; return its row."""
        number = self.apply(applicant, **application)
        words = ("--picture", self.picture, "--size", "40x40", "--certificate", applicant.certificate)
        made: dict[str, Any] = self.good("make", str(number), *words, *options)
        return made

    def issue(self, applicant: Applicant, *options: str | Path, **application: Any) -> tuple[dict[str, Any], bytes]:
        """Bring a seal into its owner's hands; return its row and its octets."""
        made = self.make(applicant, *options, **application)
        self.good("file", made["es_id"])
        out = self.folder / f"{made['es_id']}.esl"
        return self.good("deliver", made["es_id"], "-o", out), out.read_bytes()

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Run the status service; give its base URL."""
        log = self.folder / f"serve-{len(self.services)}.log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                command("maker", "serve"),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                env=self.shell.environment(**self.environment),
            )
        self.services.append(process)
        try:
            until(lambda: "ready: " in log.read_text() or process.poll() is not None, READY_SECONDS)
            assert process.poll() is None, log.read_text()
            yield log.read_text().split("ready: ")[1].split("\n")[0]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, log.read_text()


_KINDS: Mapping[str, Any] = {"rsa-2048": "rsa-2048", "p-256": "ec-p256", "p-384": "ec-p384"}


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for something to happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def toml(values: Mapping[str, Any]) -> str:
    """Write the few forms these settings need."""

    def plain(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list):
            return "[" + ", ".join(plain(item) for item in value) + "]"
        return f'"{value}"' if isinstance(value, str) else str(value)

    def tables(value: Any) -> bool:
        return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))

    lines = [f"{name} = {plain(value)}" for name, value in values.items() if not tables(value)]
    for name, value in values.items():
        for table in value if isinstance(value, list) and tables(value) else ():
            lines += [f"[[{name}]]", *(f"{key} = {plain(item)}" for key, item in table.items())]
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"[{name}]", *(f"{key} = {plain(item)}" for key, item in value.items())]
    return "\n".join(lines) + "\n"


def new_office(kind: str, folder: Path, request: pytest.FixtureRequest) -> Office:
    """Return an office whose keys are of a kind: SM2 on a soft SKF token, the others on SoftHSM."""
    if kind == "sm2":
        skf: SoftSkf = request.getfixturevalue("softskf")
        return Office(folder, kind, skf.new_token())
    hsm: SoftHsm = request.getfixturevalue("softhsm")
    return Office(folder, kind, hsm.new_token())


_numbers = count()


def fresh_name() -> str:
    """Return a name that no seal has yet."""
    return f"{NAME}{next(_numbers)}"


def fresh_applicant(office: Office, **options: Any) -> Applicant:
    """Return somebody with a new key."""
    return office.applicant(f"applicant-{next(_numbers)}", **options)


def made_by(office: Office, who: Applicant, name: str, **wanted: Any) -> tuple[SealRow, bytes]:
    """Bring an application to a made seal, in this process."""

    async def work(room: Room) -> tuple[SealRow, bytes]:
        return await room.make(await room.apply(who, name=name), who, **wanted)

    return office.work(work)
