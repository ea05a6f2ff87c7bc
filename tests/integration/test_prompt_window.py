"""How long one PIN holds, and keys that want one for each signature."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent_world import World
from cli_parts import Done, Shell
from sealagent.client import Agent, AgentError, invisible
from tmux_parts import until

SEAL = "测试单位公章"


def start(world: World, **pin: float) -> Shell:
    world.settings["pin"] = dict(pin)
    return Shell.of(world.start())


def add_seal(world: World) -> None:
    world.token.add_data(world.authority.make_seal([world.add_signer()], name=SEAL), label="seal")


def seal(shell: Shell, vectors: Path) -> Done:
    document = ("document", "seal", vectors / "helloworld.ofd", "--seal", SEAL, "--invisible")
    return shell(*document, "-o", "s.ofd", "--force")


def seal_here(agent: Agent, vectors: Path) -> None:
    """Seal in this process, which the agent knows again."""
    agent.seal_document(vectors / "helloworld.ofd", seal=SEAL, placements=[invisible()])


def unlocked(shell: Shell) -> bool:
    (token,) = shell("token", "list", "--json").json["tokens"]
    assert isinstance(token["unlocked"], bool)
    return token["unlocked"]


def test_an_idle_token_is_locked(world: World, vectors: Path) -> None:
    """A wrong PIN in the source shows whether it was asked: inside the window it is not."""
    world.presence_seconds = 0.1
    add_seal(world)
    shell = start(world, unlock_idle_seconds=3)
    with Agent(shell.socket) as agent:
        for _ in range(2):
            seal_here(agent, vectors)
            world.pin_file.write_text("wrong\n")
        until(lambda: not unlocked(shell), lambda: "the token is still unlocked")
        with pytest.raises(AgentError) as refused:
            seal_here(agent, vectors)
        assert refused.value.code == "pin_incorrect"
        world.pin_file.write_text(f"{world.token.user_pin}\n")
        seal_here(agent, vectors)
        world.pin_file.write_text("wrong too\n")
        assert seal(shell, vectors).status == 0  # another process: a stored PIN is entered for nobody in particular


def test_in_any_case_it_is_locked_after_a_time(world: World, vectors: Path) -> None:
    world.presence_seconds = 0.1
    add_seal(world)
    shell = start(world, unlock_idle_seconds=60, unlock_absolute_seconds=1)
    assert seal(shell, vectors).status == 0
    until(lambda: not unlocked(shell), lambda: "the token is still unlocked")


def test_no_window_at_all(world: World, vectors: Path) -> None:
    add_seal(world)
    shell = start(world, unlock_idle_seconds=0)
    assert seal(shell, vectors).status == 0
    world.pin_file.write_text("wrong\n")
    assert seal(shell, vectors).status == 5


def test_a_key_that_always_authenticates(world: World, vectors: Path) -> None:
    """The PIN is asked for each signature, and a wrong one from a file is offered once only."""
    certificate = world.authority.issue(world.token.add_key("ec-p256", always_authenticate=True))
    world.token.add_certificate(certificate)
    world.token.add_data(world.authority.make_seal([certificate], name=SEAL), label="seal")
    shell = start(world)
    for _ in range(2):  # before the first login the token does not show what the key wants
        sealed = seal(shell, vectors)
        assert sealed.status == 0, sealed.err
    (key,) = shell("key", "list", "--json").json
    assert key["always_authenticate"] is True
    world.pin_file.write_text("wrong\n")
    wrong = seal(shell, vectors)
    assert wrong.status == 5
    assert "pin_incorrect" in wrong.err
    for _ in range(2):
        kept = seal(shell, vectors)
        assert kept.status == 5
        assert "pin_source_refused" in kept.err
    world.pin_file.write_text(f"{world.token.user_pin}\n")
    assert seal(shell, vectors).status == 0
    kinds = [entry["kind"] for entry in shell("record", "list", "--json").json["records"]]
    assert kinds.count("signed") == 3
    assert kinds.count("intent") == kinds.count("signed") + kinds.count("failed")
    assert kinds.count("refused") >= 2


def test_the_end_of_a_program_ends_its_prompt(world: World, vectors: Path) -> None:
    """A prompt that stays open would let its answer serve a program that is gone, or whoever has its number next."""
    add_seal(world)
    program, pid = world.directory / "pinentry", world.directory / "pinentry.pid"
    program.write_text(
        f'#!/bin/sh\necho $$ > {pid}\necho OK\nwhile read -r line; do\n  case "$line" in\n'
        "  GETPIN) exec sleep 60;;\n  *) echo OK;;\n  esac\ndone\n"
    )
    program.chmod(0o755)
    world.settings["pin"] = {"source": "pinentry", "pinentry": str(program)}
    shell = Shell.of(world.start())
    sealing = (
        f"from sealagent.client import Agent, invisible\n"
        f"Agent({str(shell.socket)!r}).seal_document({str(vectors / 'helloworld.ofd')!r}, seal={SEAL!r}, "
        f"placements=[invisible()])"
    )
    with subprocess.Popen([sys.executable, "-c", sealing], stderr=subprocess.DEVNULL) as asking:
        until(pid.exists, lambda: "there is no prompt")
        asking.kill()
    with Agent(shell.socket) as agent:

        def refused() -> bool:
            return any(entry["body"].get("reason") == "caller_gone" for entry in agent.records()["records"])

        until(refused, lambda: f"the records are {agent.records()}")
        until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists(), lambda: "the prompt is still there")
