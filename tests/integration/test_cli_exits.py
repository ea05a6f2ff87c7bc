"""Exit statuses 0 to 7, the languages, and what the command line does when its reader goes away."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from agent_world import World
from cli_parts import Done, Shell, command

NAME = "测试单位公章"
CHINESE = {"LANG": "zh_CN.UTF-8"}


@pytest.fixture
def shell(world: World) -> Shell:
    """A daemon with a seal that may be used."""
    world.token.add_data(world.authority.make_seal([world.add_signer()], name=NAME), label="seal")
    return Shell.of(world.start())


def seal(shell: Shell, vectors: Path, **environment: str) -> Done:
    return shell(
        *("document", "seal", vectors / "helloworld.ofd", "--seal", NAME, "--invisible"),
        *("-o", shell.home / "sealed.ofd", "--force"),
        **environment,
    )


def test_0_done_and_valid(shell: Shell, vectors: Path) -> None:
    assert seal(shell, vectors).status == 0
    assert shell("document", "verify", "sealed.ofd").status == 0


def test_1_failure(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a.esl").write_bytes(b"no seal")
    done = shell("seal", "import", tmp_path / "a.esl")
    assert done.status == 1
    assert done.err.startswith("error: The seal is malformed (seal_format)\n")


def test_2_usage(shell: Shell, vectors: Path) -> None:
    assert shell("document", "seal", vectors / "helloworld.ofd", "--seal", NAME).status == 2
    assert shell("document", "verify", "not-there.ofd").status == 2


def test_3_not_valid(shell: Shell, vectors: Path) -> None:
    assert shell("document", "verify", vectors / "v4signed-tampered.ofd").status == 3
    assert shell("document", "verify", vectors / "helloworld.ofd", "--json").status == 3


def test_4_no_token(shell: Shell, vectors: Path, world: World) -> None:
    assert shell("token", "lock", "no such token").status == 4
    world.token.remove()
    world.daemons[0].stop()
    world.start()
    done = seal(shell, vectors)
    assert done.status == 4
    assert "seal_not_found" in done.err
    assert "no token is plugged in" in shell("token", "list").err
    assert "plug in a key" in shell("doctor").out


def test_5_pin(shell: Shell, vectors: Path, world: World) -> None:
    world.pin_file.write_text("wrong-pin\n")
    wrong = seal(shell, vectors)
    assert wrong.status == 5
    assert "error: The PIN was wrong (pin_incorrect)" in wrong.err
    # The same stored PIN is not offered a second time, so no further try is spent.
    again = seal(shell, vectors, **CHINESE)
    assert again.status == 5
    assert "错误: 无法使用所配置的 PIN 来源 (pin_source_refused)" in again.err
    world.token.lock()
    locked = seal(shell, vectors)
    assert locked.status == 5
    assert "error: The PIN is locked (pin_locked)" in locked.err
    assert re.search(r" locked +locked$", shell("token", "list").out, flags=re.M)  # the PIN, and the token
    for done in (wrong, again, locked):
        assert "wrong-pin" not in done.out + done.err
        assert done.out == ""
    assert not (shell.home / "sealed.ofd").exists()


def test_6_refused(world: World, vectors: Path) -> None:
    certificate = world.add_signer()
    world.token.add_data(world.authority.make_seal([certificate], name=NAME, days=(-10, -1)), label="seal")
    shell = Shell.of(world.start())
    done = seal(shell, vectors)
    assert done.status == 6
    assert "error: The seal may not be used now (seal_not_valid)" in done.err
    assert "  - seal_expired: valid until " in done.err
    assert "错误: 印章当前不可用 (seal_not_valid)" in seal(shell, vectors, **CHINESE).err
    assert "seal_not_valid" in shell("record", "list").out


@pytest.mark.parametrize("noun", ["status", "doctor"])
def test_7_no_daemon(noun: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path, tmp_path / "agent.sock")
    english, chinese = shell(noun), shell(noun, **CHINESE)
    assert english.status == chinese.status == 7
    assert "The agent does not answer" in english.out + english.err
    assert "Start it with `sealagent daemon run`." in english.out + english.err
    assert "无法连接代理" in chinese.out + chinese.err
    assert "请运行 sealagent daemon run 启动代理。" in chinese.out + chinese.err


def test_7_several_files_without_a_daemon_say_so_once(tmp_path: Path, vectors: Path) -> None:
    shell = Shell(tmp_path, tmp_path / "agent.sock")
    done = shell("document", "verify", vectors / "helloworld.ofd", vectors / "v4signed.ofd")
    assert (done.status, done.err.count("agent_unreachable")) == (7, 1)


def test_which_language(tmp_path: Path) -> None:
    shell = Shell(tmp_path, tmp_path / "agent.sock")
    for variables, chinese in (
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "C.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh_TW.UTF-8", "LC_ALL": ""}, True),
        ({"LANG": ""}, False),
    ):
        assert shell("status", **variables).err.startswith("错误" if chinese else "error"), variables


def test_socket_option(shell: Shell, tmp_path: Path) -> None:
    elsewhere = Shell(tmp_path, tmp_path / "agent.sock")
    assert elsewhere("status").status == 7
    assert elsewhere("--socket", shell.socket, "status").status == 0


def on_a_terminal(shell: Shell, *words: str | Path, **environment: str) -> str:
    """Run a command with a terminal as its output; return what it wrote there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*words), cwd=shell.home, env=shell.environment(**environment), stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    with suppress(OSError):  # EIO: the other side is closed
        while octets := os.read(ours, 4096):
            seen += octets
    os.close(ours)
    process.wait(30)
    return seen.decode()


def test_colour_only_on_a_terminal_that_wants_it(shell: Shell, vectors: Path) -> None:
    words = ("document", "verify", vectors / "v4signed-tampered.ofd", vectors / "helloworld.ofd")
    coloured = on_a_terminal(shell, *words)
    assert "\x1b[31minvalid\x1b[0m" in coloured
    assert "\x1b[33mindeterminate\x1b[0m" in coloured
    plain = on_a_terminal(shell, *words, NO_COLOR="1")
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain
    assert "\x1b" not in shell(*words).out


@pytest.mark.parametrize("words", [["record", "list", "--json"], ["record", "show", "1"]])
def test_a_reader_that_goes_away_is_no_fault(words: list[str], shell: Shell, vectors: Path) -> None:
    """``sealagent … | head -0``: no trace, no complaint."""
    assert seal(shell, vectors).status == 0
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as pipe:
        done = subprocess.run(
            command(*words), env=shell.environment(), stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=30
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_full_disk_leaves_no_half_document(shell: Shell, vectors: Path) -> None:
    """The output goes to its place whole or not at all."""
    before = {file.name for file in shell.home.iterdir()}
    done = subprocess.run(
        [
            *("prlimit", "--fsize=1000"),
            *command("document", "seal", vectors / "helloworld.ofd", "--seal", NAME, "--invisible", "-o", "cut.ofd"),
        ],
        cwd=shell.home,
        env=shell.environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == "error: cut.ofd: File too large\n"
    assert {file.name for file in shell.home.iterdir()} == before
