"""The commands of the README, as they stand there, on a real daemon."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent_world import World
from application_parts import Desk
from cli_parts import Done, Shell
from demo.ofdmaker import demo_document
from sample_seals import identity
from trust_parts import Publisher, listed

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
SEAL = "某某公司合同专用章"


def readme_commands(heading: str) -> list[list[str]]:
    """Return the ``sealagent`` lines of a section, without comments and redirections."""
    section = re.split(rf"^#+ {heading}$", README, flags=re.M)[1].split("\n## ")[0].split("\n### ")[0]
    lines = re.findall(r"^    (sealagent .*)$", section, flags=re.M)
    assert lines
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.fixture
def shell(world: World) -> Shell:
    certificate = world.add_signer()
    world.token.add_data(world.authority.make_seal([certificate], name=SEAL), label="seal")
    daemon = world.start()
    for name in ("a.ofd", "b.ofd", "c.ofd", "d.ofd"):
        (world.directory / name).write_bytes(demo_document(date(2026, 1, 2)).data)
    return Shell.of(daemon)


def run(shell: Shell, words: list[str], **named: str) -> Done:
    done = shell(*(named.get(word, word) for word in words))
    assert done.status == 0, (words, done.err)
    return done


def test_use_it(shell: Shell) -> None:
    said = {}
    for words in readme_commands("Use it"):
        said[" ".join(words[:2])] = run(shell, words, **{"NAME": SEAL, "17": "2"}).out
    assert {"token list", "key list", "doctor"} < set(said)
    assert SEAL in said["seal list"]
    assert said["document verify"].startswith("a-sealed.ofd: valid\n")
    assert "signed" in said["record list"]
    assert SEAL in said["record show"]


def test_a_new_key(shell: Shell, world: World) -> None:
    generate, request, import_certificate, change_pin = readme_commands("A new key")
    key = run(shell, generate, TOKEN=world.token.label).out.strip()
    run(shell, request, KEY=key)
    asked = x509.load_pem_x509_csr((shell.home / "request.pem").read_bytes())
    assert asked.is_signature_valid
    issued = x509.load_der_x509_certificate(world.authority.issue(asked.public_key(), "某某公司"))
    (shell.home / "certificate.pem").write_bytes(issued.public_bytes(Encoding.PEM))
    run(shell, import_certificate, KEY=key)
    assert "某某公司" in shell("key", "list").out
    # The daemon of this test has its PIN from a file, which cannot make up a new one; test_prompt_terminal.py can.
    refused = shell(*(world.token.label if word == "TOKEN" else word for word in change_pin))
    assert refused.status == 5
    assert "pin_source_refused" in refused.err


def test_whom_you_trust(shell: Shell, world: World, tmp_path: Path) -> None:
    asked, *others = readme_commands("Whom you trust")
    who = identity(tmp_path, "sm2", "unit")
    unit = Publisher(who.der, who.sign)
    maker = listed(world.authority.maker.public_bytes(Encoding.DER))
    (shell.home / "beijing.p7m").write_bytes(unit.publish(1, [maker]))
    (shell.home / "beijing-2.p7m").write_bytes(unit.publish(2, [maker]))
    (shell.home / "unit.cer").write_bytes(unit.der)
    assert shell(*asked).status == 2, "nobody is there to be asked"
    said = {" ".join(words[:2]): run(shell, words).out for words in others}
    assert [*said] == ["trust add", "trust list", "trust show", "trust update", "trust remove"]
    assert "Test Maker" in said["trust show"]
    assert "version 2" in said["trust update"]


@pytest.fixture
def asked(world: World) -> tuple[Shell, Desk]:
    """A daemon that asks its holder, who agrees to everything, and nothing in its policy."""
    certificate = world.add_signer()
    world.token.add_data(world.authority.make_seal([certificate], name="合同专用章"), label="seal")
    desk = Desk(world.directory, world.token.user_pin)
    world.policy = ""
    world.settings["pin"] = {"source": "pinentry", "pinentry": str(desk.program)}
    daemon = world.start(environment={"LANG": "en_US.UTF-8", "LC_ALL": ""})
    for name in ("a.ofd", "b.ofd", "c.ofd"):
        (world.directory / name).write_bytes(demo_document(date(2026, 1, 2)).data)
    return Shell.of(daemon), desk


def test_who_may_use_your_seal(asked: tuple[Shell, Desk]) -> None:
    shell, desk = asked
    pair, *others = readme_commands("Who may use your seal")
    named = {"FILE": "token", "合同系统": "合同系统"}
    done = run(shell, pair, **named)
    code = re.search(r"\d{3} \d{3}", done.err)
    assert code
    assert code[0] in desk.shown
    said = {" ".join(words[:2]): run(shell, words, **named).out for words in others if words[1] != "revoke"}
    assert "合同系统" in said["app list"]
    assert "document" in said["app grants"]
    assert "nobody" not in said["policy check"]
    explained = run(shell, others[-1], **named).out  # the last, once everything was granted
    assert "grant" in explained
    sealing = ("document", "seal", "a.ofd", "--seal", "合同专用章", "--invisible")
    before = desk.asked
    assert shell("--token-file", "token", *sealing).status == 0
    assert desk.asked == before  # the grant allows it; only the PIN was asked for
    revoke = next(words for words in others if words[1] == "revoke")
    run(shell, revoke, **named)
    assert shell("--token-file", "token", *sealing, "--force").status != 0


def test_many_documents_one_pin(asked: tuple[Shell, Desk]) -> None:
    shell, desk = asked
    files = ["a.ofd", "b.ofd", "c.ofd"]
    done = run(shell, ["document", "seal", *files, "--seal", "合同专用章", "--riding"])
    assert (desk.asked, desk.pins) == (1, 1)
    (batch,) = run(shell, ["batch", "list", "--json"]).json
    assert "a-sealed.ofd" in done.out
    (resume, listing, show, cancel) = readme_commands("Many documents, one PIN")
    for words in (listing, show):
        run(shell, words, BATCH=batch["id"])
    again = shell(*(batch["id"] if word == "BATCH" else word for word in resume[:-1]), *files, "--force")
    assert again.status == 0, again.err
    assert (desk.asked, desk.pins) == (1, 1)  # everything was signed already, and is given again
    assert "batch_ended" in shell(*(batch["id"] if word == "BATCH" else word for word in cancel)).err
    with_record = run(shell, ["record", "list", "--json"]).json["records"]
    assert sum(entry["kind"] == "signed" for entry in with_record) == 3


def test_for_auditors(shell: Shell, world: World) -> None:
    run(shell, ["document", "seal", "a.ofd", "--seal", SEAL, "--invisible"])
    export, checkpoint, verify = readme_commands("For auditors")
    run(shell, export)
    kept = run(shell, checkpoint[: checkpoint.index(">")]).out
    (shell.home / checkpoint[-1]).write_text(kept)
    world.close()  # "no agent, token or network needed"
    assert run(shell, verify).out.startswith("ok: 2 entries")


def test_the_program(shell: Shell) -> None:
    program, *_ = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=shell.home,
        env=shell.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "valid"
