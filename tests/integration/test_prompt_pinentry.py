"""The real pinentry programs, started by a real daemon, on a tmux pane (``GPG_TTY``) while a client seals."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_world import Daemon, World
from cli_parts import Done, Shell, command
from sealagent.consent.pinentry import HASTE_SECONDS
from tmux_parts import Pane, required, until

SEAL = "合同专用章"
PROMPT = "PIN："
PROGRAMS = ["pinentry-tty", "pinentry-curses"]
YES = {"pinentry-tty": "y", "pinentry-curses": "Enter"}
NO = {"pinentry-tty": ["n"], "pinentry-curses": ["Tab", "Enter"]}
LAST = "最后一次机会：再输错"
"""What the question before the last try says."""


@pytest.fixture
def pane(world: World) -> Iterator[Pane]:
    """A terminal in which nothing runs but the dialogs."""
    made = Pane(world.directory, ["sleep", "1000"], Shell(world.directory, world.directory / "none").environment())
    yield made
    made.close()


def start(world: World, pane: Pane, program: str) -> Daemon:
    world.token.add_data(world.authority.make_seal([world.add_signer()], name=SEAL), label="seal")
    world.settings["pin"] = {"source": "pinentry", "pinentry": required(program), "unlock_idle_seconds": 0}
    # Chinese words on a terminal whose locale is there on every machine.
    language = {"LANG": "zh_CN.UTF-8", "LC_CTYPE": "C.UTF-8", "LC_ALL": ""}
    return world.start(environment={**language, "GPG_TTY": pane.tty, "TERM": "screen", "DISPLAY": ""})


def seal(shell: Shell, vectors: Path) -> subprocess.Popen[str]:
    document = shell.home / "采购合同.ofd"
    document.write_bytes((vectors / "helloworld.ofd").read_bytes())
    return subprocess.Popen(
        command("document", "seal", document, "--seal", SEAL, "--at", "1,120,200", "--force"),
        env=shell.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=30)
    return Done(process.returncode, out, err)


def cleared(pane: Pane) -> None:
    """Take away what earlier dialogs left, so that the next one is not mistaken for them."""
    subprocess.run(["sh", "-c", f"printf '\\033[2J\\033[H' > {pane.tty}"], check=True)
    until(lambda: PROMPT not in pane.visible and LAST not in pane.visible, lambda: pane.visible)


def asked_to_confirm(pane: Pane) -> None:
    until(lambda: LAST in pane.visible, lambda: pane.visible)
    time.sleep(HASTE_SECONDS)  # as long as reading takes; a yes before that does not count


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_pin_then_the_last_try_then_the_right_one(
    program: str, world: World, pane: Pane, vectors: Path
) -> None:
    shell = Shell.of(start(world, pane, program))
    wrong = seal(shell, vectors)
    pane.shows(PROMPT)
    for words in ("python", f"（进程 {wrong.pid}）", "采购合同.ofd", SEAL, world.token.label, world.token.serial):
        assert words in pane.screen, words
    pane.type("not-the-pin")
    done = end(wrong)
    assert done.status == 5
    assert "pin_incorrect" in done.err
    cleared(pane)
    world.token.set_pin_flags(count_low=True, final_try=True)
    before = world.token.pin_flags()
    refused = seal(shell, vectors)
    asked_to_confirm(pane)
    for words in (f"（进程 {refused.pid}）", "采购合同.ofd", SEAL, world.token.label, world.token.serial):
        assert words in pane.visible, words
    pane.press(*NO[program])
    done = end(refused)
    assert (done.status, PROMPT in pane.visible) == (5, False)
    assert "pin_last_try" in done.err
    assert "sealagent token unblock-pin" in done.err
    assert world.token.pin_flags() == before
    cleared(pane)
    right = seal(shell, vectors)
    asked_to_confirm(pane)
    pane.press(YES[program])
    until(lambda: PROMPT in pane.visible, lambda: pane.visible)
    pane.shows("最后一次机会：再输错将锁定密码钥匙")
    pane.shows("PIN 错误。")
    pane.type(world.token.user_pin)
    assert end(right).status == 0
    assert shell("document", "verify", "采购合同-sealed.ofd").status == 0
    records = shell("record", "list", "--json").json["records"]
    assert [entry["kind"] for entry in records] == ["refused", "refused", "intent", "signed"]
    assert [entry["body"]["reason"] for entry in records[:2]] == ["pin_incorrect", "pin_last_try"]
    for pin in ("not-the-pin", world.token.user_pin):
        assert pin not in pane.screen + world.daemons[0].said() + shell("record", "list", "--json").out


@pytest.mark.parametrize(("program", "keys"), [("pinentry-tty", ["C-d"]), ("pinentry-curses", ["Tab", "Tab", "Enter"])])
def test_cancelling_is_a_refusal_on_record(
    program: str, keys: list[str], world: World, pane: Pane, vectors: Path
) -> None:
    shell = Shell.of(start(world, pane, program))
    process = seal(shell, vectors)
    pane.shows(PROMPT)
    pane.press(*keys)
    done = end(process)
    assert done.status == 6
    assert "error: The PIN was not entered (pin_cancelled)" in done.err
    (entry,) = shell("record", "list", "--json").json["records"]
    assert (entry["kind"], entry["body"]["reason"]) == ("refused", "pin_cancelled")
    assert entry["body"]["document"]["name"] == "采购合同.ofd"
    assert entry["body"]["seal"]["name"] == SEAL
    assert not (shell.home / "采购合同-sealed.ofd").exists()


def test_the_pin_is_changed_through_the_dialog(world: World, pane: Pane) -> None:
    shell = Shell.of(start(world, pane, "pinentry-curses"))
    change = subprocess.Popen(command("token", "change-pin", world.token.serial), env=shell.environment())
    for pin, words in ((world.token.user_pin, "请输入当前"), ("new-pin-1", "请输入新"), ("new-pin-1", "请再次输入新")):
        pane.shows(words)
        pane.type(pin)
    assert change.wait(30) == 0
    assert shell("record", "list", "--json").json["records"][-1]["body"]["operation"] == "change_pin"
