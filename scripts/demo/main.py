"""``make demo``: the main job from nothing, on real parts, with a few words on what happens.

Everything lies in ``build/demo/``: a certificate authority, a maker and a holder, each with a software token of its own
(its keys are files: for tests only), a seal, the daemon's record, sealed documents. By default the keys are SM2 keys
behind SKF, as in a Chinese USB key.
"""

from __future__ import annotations

import base64
import io
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from demo.ofdmaker import DEMO_UNIT, demo_document
from demo.render import Package, render_page
from demo.secondopinion import check_with_openssl
from demo.testca import Authority, create_authority
from demo.tokens import KINDS, TokenKind
from sealagent.client import Agent, AgentError, AgentUnreachable, at, invisible, riding
from sealagent.maker.designs import OrganisationSeal
from sealagent.maker.layouts import draw
from sealagent.pki.certificates import Certificate
from sealagent.pki.signatures import algorithm, signing_digest
from sealagent.seals.build import assemble_seal, build_seal_info
from sealagent.seals.model import Picture

PROJECT = Path(__file__).resolve().parents[2]
PLACE = Path(os.environ.get("SEALAGENT_DEMO_DIR", PROJECT / "build" / "demo"))
VECTORS = Path(os.environ.get("SEALAGENT_VECTORS", PROJECT.parent / "shared" / "vectors"))

SEAL_NAME = f"{DEMO_UNIT}合同专用章"
START_SECONDS = 30.0


def say(text: str = "") -> None:
    print(text, flush=True)


def step(number: int, text: str) -> None:
    say(f"\n{number}. {text}")


def shown(path: Path) -> str:
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)


class Party:
    """Somebody with a token and an agent of their own: the maker, or the holder."""

    def __init__(self, name: str, kind: TokenKind, module: Path, sockets: Path) -> None:
        self.name = name
        self.folder = PLACE / name
        self.folder.mkdir(mode=0o700, parents=True)
        self._kind = kind
        self._module = module
        self._socket = sockets / name / "agent.sock"
        self._pin_file = self.folder / "pin"
        pin = secrets.token_hex(4)
        self._pin_file.touch(0o600)
        self._pin_file.write_text(pin + "\n")
        self._environment = kind.make(self.folder, f"demo {name}", pin)

    @contextmanager
    def agent(self, *, trust: Path, raw_digests: bool = False) -> Iterator[Agent]:
        """Run this party's daemon and yield a connection to it."""
        settings = self.folder / "agent.toml"
        policy = self.folder / "policy.toml"
        operations = ["document", "manage", *(["raw"] if raw_digests else [])]
        policy.write_text(
            "# Nobody is asked in a demo: this one program may do what it is there for, and no other may do anything.\n"
            f'[[rules]]\nname = "demo"\neffect = "allow"\noperations = {operations}\n'
            f'executables = ["{os.path.realpath(sys.executable)}"]\n',
            encoding="utf-8",
        )
        settings.write_text(
            f'socket = "{self._socket}"\nstate_dir = "{self.folder / "state"}"\npolicy = "{policy}"\n'
            f'[[modules]]\npath = "{self._module}"\ndriver = "{self._kind.driver}"\n'
            f'sm2_profile = "{self._kind.sm2_profile}"\n'
            "[discovery]\np11_kit = false\nvendor_table = false\n"
            f'[pin]\nsource = "file"\nfile = "{self._pin_file}"\n'
            f'[trust]\npaths = ["{trust}"]\n',
            encoding="utf-8",
        )
        with (self.folder / "daemon.log").open("w", encoding="utf-8") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "sealagent", "daemon", "run", "--config", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
            )
        try:
            with Agent(self._socket) as agent:
                self._wait(agent, daemon)
                yield agent
        finally:
            daemon.terminate()
            daemon.wait(30)

    def _wait(self, agent: Agent, daemon: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                agent.status()
                return
            except AgentUnreachable:
                if daemon.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "daemon.log").read_text(encoding="utf-8")
                    sys.exit(f"the {self.name}'s agent did not start:\n{log}")
                time.sleep(0.05)


def certified_key(agent: Agent, authority: Authority, kind: str, subject: dict[str, str]) -> tuple[str, bytes]:
    """Make a key on the party's token and have it certified; return its id and certificate (DER)."""
    token = agent.tokens()["tokens"][0]["id"]
    key = agent.generate_key(token, kind, subject["CN"])["id"]
    request = agent.certificate_request(key, subject)
    now = datetime.now(UTC).replace(microsecond=0)
    certificate = authority.issue(request.encode(), now - timedelta(minutes=5), now + timedelta(days=365))
    body = base64.encodebytes(certificate).decode()
    agent.import_certificate(key, f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
    return key, certificate


def make_seal(
    maker: Agent, key: str, algorithm_oid: str, maker_certificate: bytes, signer_certificate: bytes, picture: bytes
) -> bytes:
    """Make a version 4 seal (GB/T 38540); the maker's token signs it."""
    now = datetime.now(UTC).replace(microsecond=0)
    info = build_seal_info(
        version=4,
        es_id="11010500000001",
        vendor="SealAgentDemo",
        type=4,
        name=SEAL_NAME,
        created=now,
        valid_from=now - timedelta(minutes=1),
        valid_until=now + timedelta(days=180),
        picture=Picture("PNG", picture, 40, 40),
        certificates=[signer_certificate],
    )
    public_key = Certificate.from_der(maker_certificate).public_key
    signed = maker.sign_digests([signing_digest(public_key, algorithm(algorithm_oid), info)], key=key, name="seal")[0]
    return assemble_seal(info, maker_certificate, algorithm_oid, signed.signature)


def tampered(package: bytes) -> tuple[bytes, str]:
    """Return a copy with one octet of one page changed, and the name of the changed file."""
    out = io.BytesIO()
    changed = ""
    with zipfile.ZipFile(io.BytesIO(package)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            content = source.read(entry)
            if not changed and "Content.xml" in entry.filename and b"</" in content:
                content, changed = content.replace(b"</", b" </", 1), entry.filename
            target.writestr(entry, content)
    return out.getvalue(), changed


def explain(report: dict[str, Any]) -> None:
    say(f"   verdict: {report['verdict']}")
    for signature in report["signatures"]:
        named = signature["seal"]["name"] if signature["seal"] else signature["kind"]
        signer = signature["signer"]["subject"] if signature["signer"] else "somebody unknown"
        say(f"   {signature['verdict']}: {named}, signed {signature['signed_at'] or 'at an unknown time'} by {signer}")
        for reason in signature["reasons"]:
            say(f"   ✗ {reason['code']}: {reason['detail']}")


def place_on(document: bytes) -> dict[str, Any]:
    """Return a place for a seal of 40 mm at the lower right of the first page; none where it has no room."""
    try:
        package = Package(document)
        _, _, width, height = package.area(package.content(1))
    except (ValueError, KeyError, IndexError, zipfile.BadZipFile):
        return invisible()  # the agent will say what is wrong with it
    if width < 40 or height < 40:
        return invisible()
    return at(1, round(max(0.0, width - 60), 1), round(max(0.0, height - 70), 1))


def documents(chosen: str | None) -> list[tuple[str, bytes, list[dict[str, Any]], int]]:
    """Return name, octets, placements and the page to look at of each document to be sealed."""
    if chosen is not None:
        path = Path(chosen)
        return [(path.stem, path.read_bytes(), [place_on(path.read_bytes())], 1)]
    own = demo_document(date.today())
    (PLACE / "notice.ofd").write_bytes(own.data)
    found = [("notice", own.data, [at(own.seal_page, own.seal_x, own.seal_y), riding()], own.seal_page)]
    given = VECTORS / "helloworld.ofd"
    if given.is_file():
        return [*found, ("helloworld", given.read_bytes(), [at(1, 120, 200)], 1)]
    say(f"   ({given.name} is not at {shown(given.parent)}: sealing our own document only)")
    return found


def run(chosen: str | None, kind: TokenKind, sockets: Path) -> None:
    """Tell the story."""
    step(1, f"A test certificate authority, and two {kind.name} tokens: the seal maker's and the holder's")
    module = kind.prepare()
    now = datetime.now(UTC).replace(microsecond=0)
    authority = create_authority(
        PLACE / "ca", "SealAgent Demo Root", now - timedelta(minutes=10), now + timedelta(days=3650), kind.authority_key
    )
    maker, holder = (Party(name, kind, module, sockets) for name in ("maker", "holder"))
    say(f"   {shown(authority.certificate)}, {shown(maker.folder)}/, {shown(holder.folder)}/")

    with holder.agent(trust=authority.certificate) as agent:
        step(2, "A key on the holder's token; the CA certifies it. The private key cannot leave the token")
        _, certificate = certified_key(agent, authority, kind.key, {"CN": DEMO_UNIT, "O": DEMO_UNIT, "C": "CN"})
        token = agent.tokens()["tokens"][0]
        say(f"   token {token['label']!r}, serial {token['serial']} (software: test only)")

        step(3, f"The maker draws and signs the seal {SEAL_NAME}")
        drawing = draw(OrganisationSeal(DEMO_UNIT, "合同专用章"))
        (PLACE / "seal.svg").write_text(drawing.svg(), encoding="utf-8")
        picture = drawing.png()
        (PLACE / "seal.png").write_bytes(picture)
        with maker.agent(trust=authority.certificate, raw_digests=True) as making:
            key, maker_certificate = certified_key(
                making, authority, kind.maker_key, {"CN": "SealAgent 演示制章中心", "C": "CN"}
            )
            seal = make_seal(making, key, kind.maker_algorithm, maker_certificate, certificate, picture)
        (PLACE / "seal.esl").write_bytes(seal)
        stored = agent.import_seal(seal, token["id"])
        say(f"   {shown(PLACE / 'seal.esl')} (look at seal.png); on the token, usable now: {stored['usable']}")

        for name, octets, placements, page in documents(chosen):
            step(4, f"Seal {name}.ofd: the agent hashes it, the token signs, the record is kept")
            sealed = agent.seal_document(octets, name=f"{name}.ofd", seal=stored["id"], placements=placements)
            path = sealed.save(PLACE / f"{name}-sealed.ofd")
            preview(sealed.document, page, picture, PLACE / f"{name}-preview.png")
            say(f"   {shown(path)}, record {sealed.receipt['record']}; looks like {name}-preview.png")
            step(5, f"Verify {path.name}")
            report = agent.verify_document(path)
            explain(report)
            if report["verdict"] != "valid" and chosen is None:
                sys.exit("the sealed document did not verify")
            folder = PLACE / f"{name}-openssl"
            command, said = check_with_openssl(sealed.document, folder)
            say(f"   OpenSSL alone says the same ({said}): in {shown(folder)}/")
            say(f"   $ {command}")
            step(6, "Change a copy, and verify that")
            octets, changed = tampered(sealed.document)
            copy = PLACE / f"{name}-tampered.ofd"
            copy.write_bytes(octets)
            say(f"   one blank more in {changed}: {shown(copy)}")
            report = agent.verify_document(copy)
            explain(report)
            named = {reason["detail"] for item in report["signatures"] for reason in item["reasons"]}
            if report["verdict"] != "invalid" or f"/{changed}" not in named:
                sys.exit("the change was not noticed")

        step(7, "The record: each signature has its intent and its outcome")
        for entry in agent.records()["records"]:
            body = entry["body"]
            what = body.get("operation") or f"of {body['intent']}"
            say(f"   {entry['number']:>3} {entry['time'][:19]} {entry['kind']:<8} {what}")
        export = PLACE / "record.jsonl"
        export.write_bytes(b"".join(agent.export_record()))
    checked = subprocess.run(
        [sys.executable, "-m", "sealagent", "record", "verify", str(export)], capture_output=True, text=True, check=True
    )
    say(f"   {shown(export)} checked without the agent: {checked.stdout.strip()}")


def preview(document: bytes, page: int, picture: bytes, path: Path) -> None:
    """Draw the sealed page; what our small renderer cannot draw has no preview."""
    try:
        path.write_bytes(render_page(document, page, picture))
    except (ValueError, KeyError, IndexError) as error:
        say(f"   (no preview: {error})")


def main() -> None:
    """Run the demo on the document named on the command line, or on two of our own choice."""
    name = os.environ.get("DRIVER") or "skf"
    if name not in KINDS:
        sys.exit(f"DRIVER={name}: choose one of {', '.join(KINDS)}")
    chosen = sys.argv[1] if len(sys.argv) > 1 else None
    if chosen is not None and not Path(chosen).is_file():
        sys.exit(f"{chosen}: no such file")
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    # A socket's path may have a hundred characters; the checkout's may have more.
    with tempfile.TemporaryDirectory(prefix="sealagent") as sockets:
        try:
            run(chosen, KINDS[name], Path(sockets))
        except AgentError as error:
            sys.exit(f"\nthe agent refused: {error}\n{error.problem.get('next_step', '')}")
    command = shown(Path(sys.executable).parent / "sealagent")
    say(f"\nDone. Everything is in {shown(PLACE)}/. Next: README.md, or `{command} --help`.")


if __name__ == "__main__":
    main()
