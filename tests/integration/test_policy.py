"""policy.toml from the administrator's side: check it without the agent, and have the agent explain itself."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent_world import World
from caller_parts import PYTHON
from cli_parts import Shell
from ofd_samples import document_files, pack
from sealagent.client import AgentError, invisible

SEAL = "测试单位公章"
POLICY = f"""
[defaults]
document = "deny"
raw = "ask"
[[rules]]
name = "invoices"
effect = "allow"
operations = ["document"]
executables = ["{PYTHON}"]
sha256 = ["{hashlib.sha256(Path(PYTHON).read_bytes()).hexdigest()}"]
seals = ["{SEAL}"]
formats = ["ofd"]
[[rules]]
name = "nights"
effect = "deny"
hours = "22:00-06:00"
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, tmp_path / "nobody-listens")


def test_check_works_without_the_agent(shell: Shell, tmp_path: Path) -> None:
    none = shell("policy", "check")
    assert (none.status, none.err) == (0, "")
    assert "no policy file" in none.out
    good = tmp_path / "good.toml"
    good.write_text(POLICY)
    said = shell("policy", "check", good)
    assert said.status == 0
    assert f"invoices: allows sealing documents; by the program {PYTHON}" in said.out
    assert "nights: denies everything; at 22:00-06:00" in said.out
    assert "规则" in shell("policy", "check", good, LC_ALL="zh_CN.UTF-8").out
    assert [rule["name"] for rule in shell("policy", "check", good, "--json").json["rules"]] == ["invoices", "nights"]

    bad = tmp_path / "bad.toml"
    bad.write_text(POLICY + "hour = 3\n")
    refused = shell("policy", "check", bad)
    assert refused.status == 6
    assert f"{bad}: rules.1.hour: unknown key (rule 'nights')" in refused.err
    assert refused.out == ""


def test_check_takes_what_the_agent_would_take(shell: Shell, tmp_path: Path) -> None:
    user, system = tmp_path / "config" / "sealagent", tmp_path / "system" / "sealagent"
    for folder, name in ((user, "users"), (system, "systems")):
        folder.mkdir(parents=True)
        (folder / "policy.toml").write_text(f"[[rules]]\nname = '{name}'\neffect = 'deny'\n")
    assert "systems: denies everything" in shell("policy", "check").out
    (system / "policy.toml").unlink()
    assert "users: denies everything" in shell("policy", "check").out
    named = tmp_path / "named.toml"
    named.write_text("broken")
    (user / "agent.toml").write_text(f"policy = '{named}'\n")
    refused = shell("policy", "check")
    assert (refused.status, str(named) in refused.err) == (6, True)


def _explained(world: World, operation: str, **use: Any) -> tuple[str, str, str]:
    with world.daemons[-1].agent() as agent:
        decision = agent.explain_policy(operation, **use)["decision"]
    return decision["effect"], decision["source"], decision["name"]


def test_explain(world: World) -> None:
    world.policy = POLICY
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    daemon = world.start()
    day, night = "2026-11-28T12:00:00", "2026-11-28T23:00:00"
    other_file = _explained(world, "document", seal=SEAL, executable=PYTHON, sha256="0" * 64)
    assert other_file in (("deny", "default", "document"), ("deny", "rule", "nights"))  # tests run at any hour
    with daemon.agent() as agent:
        (key,) = (each["id"] for each in agent.keys())
        token = agent.tokens()["tokens"][0]["serial"]
        before = agent.records()["size"]
        own = agent.explain_policy("document", seal=SEAL)
        assert own["caller"]["executable"] == PYTHON
        assert own["caller"]["sha256"] == hashlib.sha256(Path(PYTHON).read_bytes()).hexdigest()
        assert own["caller"]["parent"]
        assert own["use"]["key"].startswith("pkcs11:")
        assert own["policy"] == str(world.directory / "policy.toml")
        assert [step["name"] for step in own["steps"]] == ["nights", "invoices", "document"]
        assert agent.records()["size"] == before  # looking on record would drown what happened
    raw = _explained(world, "raw", key=key, executable="/bin/x")
    assert raw[1:] in (("limit", "blind_needs_pairing"), ("rule", "nights"))
    assert _explained(world, "manage", token=token)[0] in ("ask", "deny")

    for wrong, code in (
        ({"operation": "document"}, "request_invalid"),
        ({"operation": "document", "seal": SEAL, "key": key}, "request_invalid"),
        ({"operation": "raw", "key": key, "format": "ofd"}, "request_invalid"),
        ({"operation": "raw", "key": "none"}, "key_not_found"),
        ({"operation": "document", "seal": "none"}, "seal_not_found"),
        ({"operation": "manage", "token": "none"}, "token_not_found"),
        ({"operation": "document", "seal": SEAL, "application": "none"}, "application_not_found"),
        ({"operation": "document", "seal": SEAL, "at": "2026-11-28T12:00:00"}, "request_invalid"),
        ({"operation": "document", "seal": SEAL, "who": "me"}, "request_invalid"),
    ):
        with daemon.agent() as agent, pytest.raises(AgentError) as refused:
            agent.explain_policy(**wrong)  # type: ignore[arg-type]
        assert refused.value.code == code, wrong

    shell = Shell.of(daemon)
    command = ("policy", "explain", "--operation", "document", "--seal", SEAL)
    allowed = shell(*command, "--executable", PYTHON, "--at", day)
    assert allowed.status == 0
    assert allowed.out.startswith("allowed: rule invoices\n")
    assert "   rule nights (refused): it is outside its hours" in allowed.out
    assert " * rule invoices (allowed): the rule 'invoices' of the policy allows it" in allowed.out
    assert shell(*command, "--executable", PYTHON, "--at", night).out.startswith("refused: rule nights\n")
    chinese = shell(*command, "--executable", PYTHON, "--at", day, LC_ALL="zh_CN.UTF-8").out
    assert chinese.startswith("允许: 规则 invoices\n")
    assert "不在时段内" in chinese
    other = shutil.which("true")
    assert other is not None
    refused_out = shell(*command, "--executable", other, "--at", day, "--json").json
    assert refused_out["decision"] == {
        "effect": "deny",
        "source": "default",
        "name": "document",
        "why": "the policy's default for document denies it",
    }
    assert refused_out["caller"]["executable"] == os.path.realpath(other)


def test_wrong_change_of_the_policy_denies_until_mended(world: World) -> None:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    daemon = world.start()
    file = world.directory / "policy.toml"
    good = file.read_text()
    assert _explained(world, "document", seal=SEAL)[0] == "allow"
    file.write_text("[defaults]\ndocument = 'sometimes'\n")
    with daemon.agent() as agent:
        for work in (
            lambda: agent.explain_policy("document", seal=SEAL),
            lambda: agent.sign_digest_with_seal(bytes(32), seal=SEAL, property_info="x"),
        ):
            with pytest.raises(AgentError) as refused:
                work()
            assert refused.value.code == "policy_invalid"
        assert agent.status()["version"]  # what reads goes on
    file.write_text(good)
    assert _explained(world, "document", seal=SEAL)[0] == "allow"


def test_agent_does_not_start_with_a_wrong_policy(world: World) -> None:
    world.policy = "[defaults]\nunknown = 'ask'\n"
    daemon = world.launch()
    assert daemon.process.wait(30) != 0
    assert "defaults.unknown: unknown key" in daemon.said()
    assert "policy_invalid" in daemon.said()


COUNTED = f"""
[defaults]
document = "deny"
raw = "deny"
manage = "deny"
[[rules]]
name = "two a day"
effect = "allow"
operations = ["digest"]
executables = ["{PYTHON}"]
seals = ["{SEAL}"]
per_day = 2
"""


def test_rules_bind_what_is_signed(world: World) -> None:
    """Headless: nobody can be asked. What a rule allows is counted, also over a restart; the rest is refused."""
    world.policy = COUNTED
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    daemon = world.start()

    def sign() -> str:
        try:
            with world.daemons[-1].agent() as agent:
                receipt = agent.sign_digest_with_seal(os.urandom(32), seal=SEAL, property_info="x").receipt
        except AgentError as error:
            return error.code
        return str(receipt["authorization"]["name"])

    assert sign() == "two a day"
    with daemon.agent() as agent:
        (key,) = (each["id"] for each in agent.keys())
        token = agent.tokens()["tokens"][0]["id"]
        for work in (
            lambda: agent.sign_digests([bytes(32)], key=key),
            lambda: agent.generate_key(token, "ec-p256", "new"),
            lambda: agent.seal_document(pack(document_files()), seal=SEAL, placements=[invisible()]),
        ):
            with pytest.raises(AgentError) as refused:
                work()
            assert refused.value.code == "use_denied"
        last = agent.records()["records"][-1]
        assert (last["kind"], last["body"]["reason"]) == ("refused", "use_denied")
    assert sign() == "two a day"
    assert sign() == "policy_limit_reached"
    daemon.stop()
    world.start()
    assert sign() == "policy_limit_reached"
    (world.directory / "policy.toml").write_text(COUNTED.replace("per_day = 2", "per_day = 3"))
    assert sign() == "two a day"
    assert sign() == "policy_limit_reached"
