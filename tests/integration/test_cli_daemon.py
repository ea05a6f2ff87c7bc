"""Starting, checking and diagnosing the daemon from the command line; and what needs no daemon at all."""

from __future__ import annotations

import base64
import signal
import subprocess
from pathlib import Path

import pytest

from agent_world import ALLOW_ALL, World
from cli_parts import Done, Shell, command, has_no_control

NAME = "测试单位公章"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A home without a daemon."""
    return Shell(tmp_path, tmp_path / "run" / "agent.sock")


# The record, without a daemon


def _fill(world: World, vectors: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Seal twice and stop the daemon; return the export's lines and a checkpoint after each."""
    world.token.add_data(world.authority.make_seal([world.add_signer()], name=NAME), label="seal")
    daemon = world.start()
    shell = Shell.of(daemon)
    checkpoints = []
    for number in range(2):
        document = ("document", "seal", vectors / "helloworld.ofd", "--seal", NAME, "--invisible")
        assert shell(*document, "-o", folder / f"{number}.ofd").status == 0
        checkpoints.append(shell("record", "checkpoint").out)
    assert shell("record", "export", "-o", folder / "record.jsonl").status == 0
    assert daemon.stop() == 0
    return (folder / "record.jsonl").read_text(encoding="utf-8").splitlines(keepends=True), checkpoints


def test_record_verify(world: World, vectors: Path, shell: Shell) -> None:
    """A whole, an edited, a cut and a rewound export, with no daemon about."""
    lines, (first, last) = _fill(world, vectors, shell.home)
    assert len(lines) == 5  # the head and four entries

    def check(lines: list[str], checkpoint: str | None = None, **environment: str) -> Done:
        (shell.home / "checked.jsonl").write_text("".join(lines), encoding="utf-8")
        words: list[str] = ["record", "verify", "checked.jsonl"]
        if checkpoint is not None:
            (shell.home / "kept.txt").write_text(checkpoint)
            words += ["--checkpoint", "kept.txt"]
        done, as_json = shell(*words, **environment), shell(*words, "--json", **environment)
        assert done.status == as_json.status
        assert as_json.json["ok"] is (done.status == 0)
        return done

    for checkpoint in (None, first, last):
        assert check(lines, checkpoint).out.startswith("ok: 4 entries, root ")
    assert check(lines, LANG="zh_CN.UTF-8").out.startswith("完好：4 条")
    edited = [lines[0], lines[1].replace("helloworld.ofd", "goodbye001.ofd"), *lines[2:]]
    assert edited != lines
    assert check(edited).out.startswith("DAMAGED at entry ")
    assert check(edited).status == 3
    assert check(edited, LANG="zh_CN.UTF-8").out.startswith("已损坏")
    assert check(lines[:-1]).status == 3
    assert check(lines[:1] + lines[2:]).status == 3
    # A record that was another at the size of a checkpoint kept elsewhere.
    forged = first.splitlines()
    forged[2] = base64.b64encode(bytes(32)).decode()
    assert check(lines, "\n".join([*forged, ""])).status == 3


def test_record_verify_of_what_is_no_export(shell: Shell, vectors: Path) -> None:
    for octets in (b"", b"\x00" * 5000, b"{}\n", b'{"a":' * 5000, (vectors / "helloworld.ofd").read_bytes()):
        (shell.home / "odd").write_bytes(octets)
        done = shell("record", "verify", "odd")
        assert (done.status, done.err) == (3, "")
        assert done.out.startswith("DAMAGED at entry 0: ")
        assert has_no_control(done.out)
    assert shell("record", "verify", "not-there").status == 2
    bad = shell("record", "verify", "odd", "--checkpoint", "odd")
    assert bad.status == 1
    assert "checkpoint_invalid" in bad.err
    assert "`sealagent record checkpoint`" in bad.err


# The configuration


def test_daemon_check_prints_what_is_in_force(shell: Shell) -> None:
    (shell.home / "agent.toml").write_text("[pin]\nunlock_idle_seconds = 7\n")
    settings = shell("daemon", "check", "--config", "agent.toml").json
    assert settings["pin"]["unlock_idle_seconds"] == 7
    assert settings["socket"] == str(shell.socket)
    by_variable = shell("daemon", "check", SEALAGENT_CONFIG=str(shell.home / "agent.toml")).json
    assert by_variable == settings
    (shell.home / "config" / "sealagent").mkdir(parents=True)
    (shell.home / "config" / "sealagent" / "agent.toml").write_text('log_level = "DEBUG"\n')
    assert shell("daemon", "check").json["log_level"] == "DEBUG"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nonsense = 1\n", "nonsense"),
        ("[pin]\nsource = 'telepathy'\n", "pin.source"),
        ("[limits]\nconnections = 0\n", "limits.connections"),
        ("[[modules]]\nworkers = 2\n", "modules.0.path"),
        ("no toml", "line 1"),
        ("x = '\udcff'", "agent.toml"),
    ],
)
def test_a_bad_configuration_is_named(text: str, named: str, shell: Shell) -> None:
    (shell.home / "agent.toml").write_bytes(text.encode(errors="surrogateescape"))
    for verb in ("check", "run"):
        done = shell("daemon", verb, "--config", "agent.toml")
        assert (done.status, done.out) == (2, "")
        assert "error: The configuration is wrong (config_invalid)" in done.err
        assert named in done.err.splitlines()[1]
        assert "agent.toml" in done.err.splitlines()[1]
        assert "Traceback" not in done.err


def test_a_missing_configuration_and_what_the_doctor_says(shell: Shell) -> None:
    assert shell("daemon", "check", "--config", "not-there.toml").status == 2
    assert shell("daemon", "check", SEALAGENT_CONFIG="not-there.toml").status == 2
    assert "configuration wrong: not-there.toml: " in shell("doctor", SEALAGENT_CONFIG="not-there.toml").out


# Starting


def test_a_second_daemon_and_a_damaged_record(world: World) -> None:
    daemon = world.start()
    second = world.launch()
    assert second.process.wait(30) == 1
    assert "An agent is already running" in second.said()
    shell = Shell.of(daemon)
    # The same socket with another record, and another socket with the same record.
    done = shell("daemon", "run", SEALAGENT_STATE_DIR=str(world.directory / "other-state"))
    assert done.status == 1
    assert "The agent is already running (daemon_running)" in done.err
    here = {"SEALAGENT_STATE_DIR": str(daemon.state), "SEALAGENT_SOCKET": str(world.directory / "other" / "agent.sock")}
    done = shell("daemon", "run", **here)
    assert done.status == 1
    assert "Another agent writes this record (record_in_use)" in done.err
    assert shell("status").status == 0
    assert daemon.stop() == 0
    record = daemon.state / "record.sqlite"
    record.write_bytes(b"SQLite format 3\x00" + bytes(4000))
    kept = record.read_bytes()
    damaged = shell("daemon", "run", **here)
    assert damaged.status == 1
    assert "The record is damaged (record_damaged)" in damaged.err
    assert "Keep the file as evidence" in damaged.err
    assert "Traceback" not in damaged.err
    assert record.read_bytes() == kept


def test_options_of_daemon_run(world: World, vectors: Path) -> None:
    """Module, trust and PIN from the command line; the PIN through a descriptor."""
    world.token.add_data(world.authority.make_seal([world.add_signer()], name=NAME), label="seal")
    world.root_file.write_text(world.authority.root_pem())
    pin = world.directory / "by-fd"
    pin.write_text(world.token.user_pin)
    shell = Shell(world.directory, world.directory / "run" / "agent.sock")
    policy = world.directory / "policy.toml"
    policy.write_text(ALLOW_ALL)
    with pin.open("rb") as secret:
        process = subprocess.Popen(
            [
                *command("daemon", "run", "--module", world.token.module, "--trust", world.root_file),
                *("--pin-fd", str(secret.fileno()), "--policy", policy),
            ],
            env=shell.environment(SEALAGENT_STATE_DIR=str(world.directory / "state")),
            pass_fds=[secret.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stderr is not None
    said = ""
    while "ready:" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    try:
        sealed = shell("document", "seal", vectors / "helloworld.ofd", "--seal", NAME, "--invisible", "-o", "s.ofd")
        assert sealed.status == 0, sealed.err
        assert shell("document", "verify", "s.ofd").status == 0
    finally:
        process.send_signal(signal.SIGINT)
        said += process.communicate(timeout=30)[1]
    assert process.returncode == 0
    assert world.token.user_pin not in said


# The doctor


def test_doctor_without_a_daemon_says_what_to_do(shell: Shell) -> None:
    done = shell("doctor")
    assert done.status == 7
    assert done.err == ""
    for words in (
        "SealAgent ",
        f"socket        {shell.socket}",
        f"{shell.home / 'config' / 'sealagent' / 'agent.toml'} (absent)",
        "trust         nobody",
        "pinentry ",
        "module ",
        "agent         The agent does not answer",
        "→ Start it with `sealagent daemon run`.",
    ):
        assert words in done.out, words


def test_doctor_names_what_is_wrong(world: World) -> None:
    """A module that cannot be loaded beside a good one, a seal out of date, a software token."""
    world.token.add_data(world.authority.make_seal([world.add_signer()], name=NAME, days=(-9, -1)), label="seal")
    broken = world.directory / "broken.so"
    broken.write_bytes(b"no library")
    world.modules = [world.token.module, broken]
    done = Shell.of(world.start())("doctor")
    assert done.status == 0
    assert f"token         {world.token.label} {world.token.serial} (software: test only)" in done.out
    assert f"seal          {NAME}: usable now: no: seal_expired" in done.out
    assert f"worker        {broken}: failed: " in done.out
    assert f"worker        {world.token.module.resolve()}: ready\n" in done.out
    assert world.token.user_pin not in done.out
