"""Builds what a test bed holds, step by step: authorities, tokens, makers, seals, trust lists, an agent."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from demo.ofdmaker import demo_document
from sealagent.client import Agent, AgentError
from sealagent.pki.certificates import Certificate
from testbed.agents import Configuration, KeyOrder, make_keys, pem, pin_file
from testbed.authorities import Authority, Hierarchy, hierarchy
from testbed.errors import TestbedError, Trouble
from testbed.issuing import SealMade, issue
from testbed.makers import Commands, Maker
from testbed.openssl import FAMILIES
from testbed.plan import HOLDERS, UNITS, HolderKey, UnitPlan
from testbed.processes import LOOPBACK, Launch, free_port
from testbed.tokens import SoftwareToken, soft_skf, softhsm, toml

__all__ = ["Say", "World", "build"]

Say = Callable[[str, str], None]
"""Takes a step in English and Chinese."""

TESTS = Path(__file__).resolve().parents[1]
HOLDER = "holder"
TRUST_LIST = "trust-list.p7m"
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "SOFTHSM2_MODULE", "CC", "TMPDIR")
"""Of the environment of whoever makes it: nothing else shows through."""


@dataclass
class World:
    """A world while it is made."""

    folder: Path
    sockets: Path
    """Folder for sockets."""
    launch: Callable[[Launch], None]
    """Starts a process and waits until it works."""
    stop: Callable[[str], None]
    """Ends one that was started, by name."""
    now: datetime
    families: dict[str, Hierarchy] = field(default_factory=dict)
    services_url: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def pki(self) -> Path:
        """Where the authorities are, and files of their certificates."""
        return self.folder / "pki"

    def environment(self, further: Mapping[str, str] = {}) -> dict[str, str]:
        """Return the environment of a process of the test bed: nothing of the user's configuration shows through."""
        home = self.folder / "home"
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        places = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "STATE", "CACHE", "DATA")}
        return {**kept, **places, "HOME": str(home), "XDG_CONFIG_DIRS": str(home / "xdg"), "LANG": "C.UTF-8", **further}

    def run_agent(self, name: str, configuration: Configuration, *, lasting: bool) -> None:
        """Write an agent's configuration and start it."""
        configuration.write()
        command = [sys.executable, "-m", "sealagent", "daemon", "run", "--config", str(configuration.file)]
        environment = self.environment(configuration.environment())
        self.launch(Launch(name, command, environment, str(configuration.socket), lasting))

    def authority(self, family: str, name: str) -> Authority:
        """Return an authority."""
        return self.families[family].authority(name)

    def certify(self, family: str, authority: str) -> Callable[[bytes], bytes]:
        """Return what certifies requests for a year."""
        validity = (self.now - timedelta(days=30), self.now + timedelta(days=335))
        return lambda request: self.authority(family, authority).issue(request, *validity)


def build(world: World, say: Say) -> dict[str, Any]:
    """Make everything. :return: what a tester wants to know, as JSON.

    :raises TestbedError: a step failed.
    """
    try:
        return _build(world, say)
    except AgentError as error:
        raise TestbedError(Trouble.STEP, f"the agent refused: {error} ({error.code})") from error
    except OSError as error:
        raise TestbedError(Trouble.STEP, str(error)) from error


def _build(world: World, say: Say) -> dict[str, Any]:
    (world.folder / "home").mkdir(mode=0o700, exist_ok=True)
    say("TSA, OCSP responder and CRLs", "时间戳、OCSP 与 CRL 服务")
    _services(world)
    say("authorities: SM2, RSA, ECDSA; tokens of makers and holder", "SM2、RSA、ECDSA 证书机构；制章者与持有人的令牌")
    with ThreadPoolExecutor() as pool:
        try:
            return _populated(world, say, pool)
        except BaseException:
            # Threads are waited for; they shall not do the rest of their work meanwhile.
            world.cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _populated(world: World, say: Say, pool: ThreadPoolExecutor) -> dict[str, Any]:
    authorities = pool.map(lambda family: hierarchy(world.pki, family, world.services_url, world.now), FAMILIES)
    tokens = pool.submit(_tokens, world)
    world.families = {made.family: made for made in authorities}
    unit_tokens, holder_tokens = tokens.result()
    _certificates(world)
    say("keys on the tokens, requested and certified", "在令牌上生成密钥、申请并签发证书")
    holding = pool.submit(_holder, world, holder_tokens)
    makers = list(pool.map(lambda plan: _maker(world, plan, unit_tokens[plan.region]), UNITS))
    certificates = holding.result()
    say(
        "seals in every state, trust lists and status services, by `sealagent maker`",
        "由 sealagent maker 制作处于各种状态的印章，签发信任列表，提供状态查询服务",
    )
    socket, token = world.sockets / HOLDER / "agent.sock", holder_tokens["skf"].label
    at_work = pool.map(lambda maker: _unit_at_work(world, maker, certificates, token, socket), makers)
    seals = [seal for made in at_work for seal in made]
    say("the agent, with trust lists and seals", "启动代理，导入信任列表与印章")
    for key in HOLDERS:
        if key.revoked:
            world.authority(key.family, key.authority).revoke(certificates[key.name], world.now - timedelta(hours=1))
    _documents(world)
    _wait_for_expiry(seals)
    configuration = _start_holder(world, holder_tokens)
    lists = [maker.folder / TRUST_LIST for maker in makers]
    _bring_in(configuration.socket, lists, seals)
    return _described(world, makers, holder_tokens, seals, configuration, lists)


def _unit_at_work(
    world: World, maker: Maker, certificates: Mapping[str, bytes], token: str, holder: Path
) -> list[SealMade]:
    """Let a unit make its seals, sign its trust list and answer for what it made."""
    with maker.at_work() as run:
        made = issue(maker, run, certificates, token, holder)
        _trust_list(world, maker, run)
    command = [sys.executable, "-m", "sealagent", "maker", "serve"]
    world.launch(Launch(f"status-{maker.plan.region}", command, dict(maker.environment), str(maker.port)))
    return made


# --- the outside: services, authorities ---


def _services(world: World) -> None:
    port = free_port()
    world.pki.mkdir(mode=0o700)
    world.services_url = f"http://{LOOPBACK}:{port}"
    state = world.folder / "services.json"
    command = [sys.executable, "-m", "testbed.services", "--folder", str(world.pki), "--state", str(state)]
    environment = world.environment({"PYTHONPATH": os.pathsep.join([str(TESTS), *_path_of_python()])})
    world.launch(Launch("services", [*command, "--port", str(port)], environment, str(port)))


def _path_of_python() -> list[str]:
    return [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []


def _certificates(world: World) -> None:
    """Write every authority's certificate where a tester finds it."""
    folder = world.pki / "certificates"
    folder.mkdir(exist_ok=True)
    for family in world.families.values():
        for name in ("root", "signers", "commercial", "makers", "internal"):
            (folder / f"{family.family}-{name}.pem").write_text(pem(family.authority(name).der))
        (folder / f"{family.family}-tsa.pem").write_text(pem(family.tsa.der))


# --- tokens and keys ---


def _tokens(world: World) -> tuple[dict[str, SoftwareToken], dict[str, SoftwareToken]]:
    units = {}
    for plan in UNITS:
        folder, label = world.folder / "makers" / plan.region / "token", f"maker {plan.region}"
        units[plan.region] = (
            soft_skf(folder, label, f"MAKER{plan.region}") if plan.family == "sm2" else softhsm(folder, label)
        )
    place = world.folder / HOLDER
    holder = {
        "skf": soft_skf(place / "skf", "holder SM2", "HOLDER1"),
        "softhsm": softhsm(place / "softhsm", "holder RSA EC"),
    }
    return units, holder


def _maker(world: World, plan: UnitPlan, token: SoftwareToken) -> Maker:
    """Make the keys of a unit on its token, through an agent that lives for this only."""
    folder = world.folder / "makers" / plan.region
    name = f"workshop-{plan.region}"
    workshop = Configuration(folder / "workshop", world.sockets / plan.region / "agent.sock", [token])
    certify = world.certify(plan.family, plan.authority)
    subjects = {
        "maker": {"C": "CN", "O": plan.unit, "CN": f"{plan.region_name}制章者"},
        "status": {"C": "CN", "O": plan.unit, "CN": f"{plan.region_name}印章状态查询服务"},
    }
    world.run_agent(name, workshop, lasting=False)
    try:
        with Agent(workshop.socket) as agent:
            orders = [KeyOrder(token.label, plan.key_type, role, it, certify) for role, it in subjects.items()]
            made = dict(zip(subjects, make_keys(agent, orders), strict=True))
            uris = {key["id"]: key["uri"] for key in agent.keys()}
    finally:
        world.stop(name)
    for role, (_, certificate) in made.items():
        (folder / f"{role}.pem").write_text(pem(certificate))
    environment = world.environment({**token.environment, "SEALAGENT_MAKER_CONFIG": str(folder / "maker.toml")})
    maker = Maker(plan, folder, token, free_port(), environment, world.cancelled)
    certificates = world.pki / "certificates"
    known = [(plan.family, plan.authority), *((family, name) for family, name, _ in plan.signers)]
    if not plan.internal:
        known.append((plan.family, "root"))
    maker.configure(
        pin_file(folder, [token]),
        {role: uris[key] for role, (key, _) in made.items()},
        [certificates / f"{family}-{name}.pem" for family, name in dict.fromkeys(known)],
        f"{world.services_url}/tsa/{plan.family}",
    )
    return maker


def _holder(world: World, tokens: Mapping[str, SoftwareToken]) -> dict[str, bytes]:
    """Make the holder's keys; the agent runs on while seals are made, and takes those that come onto a token."""
    place = Configuration(world.folder / HOLDER, world.sockets / HOLDER / "agent.sock", list(tokens.values()))
    world.run_agent("making", place, lasting=False)
    with Agent(place.socket) as agent:
        orders = [
            KeyOrder(
                tokens[key.token].label, key.type, key.name, _subject(key), world.certify(key.family, key.authority)
            )
            for key in HOLDERS
        ]
        made = make_keys(agent, orders)
    return {key.name: certificate for key, (_, certificate) in zip(HOLDERS, made, strict=True)}


def _subject(key: HolderKey) -> dict[str, str]:
    return {"C": "CN", "O": key.owner, "CN": f"{key.owner} {key.name}"}


# --- trust lists ---


def _trust_list(world: World, maker: Maker, run: Commands) -> None:
    """Let a maker sign its trust list; the description stays for testers to make the next version of."""
    plan = maker.plan
    certificates = world.pki / "certificates"
    own_class = "internal" if plan.internal else "e-government"
    entries = [
        (certificates / f"{plan.family}-{plan.authority}.pem", ["maker"], own_class, (plan.family, plan.authority))
    ]
    if plan.internal:
        entries = [(entries[0][0], ["ca", "maker"], own_class, entries[0][3])]
    else:
        entries += [
            (certificates / f"{family}-{name}.pem", ["ca"], trust_class, (family, name))
            for family, name, trust_class in plan.signers
        ]
    lines = [
        f"list = {toml(f'testbed-{plan.region}')}",
        f"status_urls = {toml([maker.url])}",
        'next_signers = ["maker.pem"]',
    ]
    for certificate, roles, trust_class, (family, name) in entries:
        place = f"{family}/{name}"
        lines += ["[[entry]]", f"certificate = {toml(certificate)}", f"roles = {toml(roles)}"]
        lines += [f"class = {toml(trust_class)}", f"ocsp = {toml([f'{world.services_url}/ocsp/{place}'])}"]
        lines += [f"crls = {toml([f'{world.services_url}/crl/{place}.crl'])}"]
    for certificate, role in (
        (maker.folder / "status.pem", "status"),
        *((certificates / f"{family}-tsa.pem", "tsa") for family in dict.fromkeys(each[3][0] for each in entries)),
    ):
        lines += ["[[entry]]", f"certificate = {toml(certificate)}", f"roles = {toml([role])}"]
        lines += [f"class = {toml(own_class)}"]
    described = maker.folder / "trust-list.toml"
    described.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run("trust-list", described, "--out", maker.folder / TRUST_LIST)


# --- the agent ---


def _start_holder(world: World, tokens: Mapping[str, SoftwareToken]) -> Configuration:
    """Start the agent that stays. Whom it asks, the trust lists say; often, so that changes show soon."""
    world.stop("making")
    further = f"[status]\ncache_seconds = 5\n[timestamp]\nurl = {toml(f'{world.services_url}/tsa/sm2')}\n"
    place = Configuration(world.folder / HOLDER, world.sockets / HOLDER / "agent.sock", list(tokens.values()), further)
    world.run_agent("agent", place, lasting=True)
    return place


def _bring_in(socket: Path, lists: Iterable[Path], seals: Iterable[SealMade]) -> None:
    with Agent(socket) as agent:
        for each in lists:
            signer = Certificate.from_der(_der(each.with_name("maker.pem")))
            agent.add_trust_list(each.read_bytes(), signer.sha256)
        for seal in seals:
            if not seal.plan.on_token:
                agent.import_seal(seal.file.read_bytes())


def _der(file: Path) -> bytes:
    import ssl

    return ssl.PEM_cert_to_DER_cert(file.read_text())


def _documents(world: World) -> None:
    folder = world.folder / "documents"
    folder.mkdir()
    made = demo_document(world.now.date())
    (folder / "notice.ofd").write_bytes(made.data)


def _wait_for_expiry(seals: Iterable[SealMade]) -> None:
    """Let a seal that is to have expired do so."""
    last = max((seal.valid_until for seal in seals if seal.plan.expires), default=None)
    while last is not None and (left := (last - datetime.now(last.tzinfo)).total_seconds()) >= -1:
        time.sleep(max(0.1, left + 1))


def _described(
    world: World,
    makers: list[Maker],
    tokens: Mapping[str, SoftwareToken],
    seals: list[SealMade],
    configuration: Configuration,
    lists: list[Path],
) -> dict[str, Any]:
    shell = world.folder / "env.sh"
    environment = {
        "SEALAGENT_SOCKET": str(configuration.socket),
        "SEALAGENT_CONFIG": str(configuration.file),
        **configuration.environment(),
    }
    shell.write_text("".join(f"export {name}='{value}'\n" for name, value in environment.items()))
    valid = next(seal for seal in seals if not seal.plan.reasons)
    document = world.folder / "documents" / "notice.ofd"
    sealed = document.with_name("notice-sealed.ofd")
    program = Path(sys.executable).with_name("sealagent")
    command = str(program) if program.is_file() else f"{sys.executable} -m sealagent"
    return {
        "made_at": world.now.isoformat(),
        "socket": str(configuration.socket),
        "environment": environment,
        "shell": str(shell),
        "addresses": {
            "services": world.services_url,
            **{f"status {maker.plan.region}": maker.url for maker in makers},
        },
        "files": {
            "certificates": str(world.pki / "certificates"),
            "documents": str(world.folder / "documents"),
            **{f"trust list {each.parent.name}": str(each) for each in lists},
            **{f"maker {maker.plan.region}": str(maker.configuration) for maker in makers},
        },
        "tokens": [
            {"label": token.label, "pin": token.pin, "holder": holder}
            for holder, token in [
                *((HOLDER, token) for token in tokens.values()),
                *((f"maker {maker.plan.region}", maker.token) for maker in makers),
            ]
        ],
        "lists": [f"testbed-{maker.plan.region}" for maker in makers],
        "seals": [seal.as_json() for seal in seals],
        "examples": [
            f"{command} seal list",
            f"{command} document seal {document} --seal {valid.es_id} --at 2,120,150",
            f"{command} document verify {sealed}",
            f"{command} trust list",
            f"SEALAGENT_MAKER_CONFIG={makers[0].configuration} {command} maker list",
        ],
    }
