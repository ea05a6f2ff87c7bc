"""``sealagent testbed``: a complete world for testers on loopback, made by what lives with the tests."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import sealagent
from sealagent.cli.output import clean, json_option, print_json, say, table_lines
from sealagent.errors import SealAgentError

SOURCE_VARIABLE = "SEALAGENT_SOURCE"
"""Environment variable that names a source checkout."""

_CODES = {
    "packages": "testbed_packages_missing",
    "busy": "testbed_busy",
    "unfinished": "testbed_unfinished",
    "foreign": "testbed_foreign_folder",
    "port": "testbed_port_busy",
    "step": "testbed_step_failed",
}
"""The code of each trouble that the test bed names (tests/testbed/errors.py)."""

directory_option = click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help="Where it is.  [default: ~/.local/state/sealagent-testbed]"
)


@click.group("testbed")
def command() -> None:
    """A complete world for testers, on loopback: authorities, tokens, makers, seals in every state, services, an agent.

    \b
    sealagent testbed up
    sealagent testbed status
    sealagent testbed down

    Its keys are files and its certificates vouch for nothing: for tests only. It needs a source checkout.
    """


def _source() -> Path:
    """Return the folder of tests of a source checkout: named, or the one this package runs from."""
    named = os.environ.get(SOURCE_VARIABLE)
    checkout = Path(named).absolute() if named else Path(sealagent.__file__).resolve().parents[2]
    if not (checkout / "tests" / "testbed" / "world.py").is_file():
        raise SealAgentError("testbed_needs_source", f"{checkout} is no source checkout with tests/testbed in it")
    return checkout


def _module() -> ModuleType:
    """Load what makes test beds; nothing else in the product imports from the tests."""
    source = _source()
    for folder in ("scripts", "tests"):
        if str(source / folder) not in sys.path:
            sys.path.insert(0, str(source / folder))
    try:
        return importlib.import_module("testbed.bed")
    except ModuleNotFoundError as error:
        message = f"Python's module {error.name} is missing; `make setup` in {source} installs it"
        raise SealAgentError("testbed_needs_source", message) from error


def _bed(folder: Path | None) -> tuple[Any, ModuleType]:
    module = _module()
    return module.Bed((folder or module.default_folder()).absolute()), module


def _named(error: Any) -> SealAgentError:
    return SealAgentError(_CODES[error.trouble], str(error))


def _progress() -> Callable[[str, str], None]:
    """Return what shows each step with the seconds since the start."""
    begun = time.monotonic()
    return lambda english, chinese: click.echo(
        f"[{time.monotonic() - begun:5.1f}] {clean(say(english, chinese))} …", err=True
    )


@command.command("up")
@directory_option
@json_option
def up(folder: Path | None, as_json: bool) -> None:
    """Make the test bed, or start again what of it does not run."""
    bed, module = _bed(folder)
    try:
        status = bed.up(_progress())
    except module.TestbedError as error:
        raise _named(error) from error
    if as_json:
        print_json(status)
    else:
        _explain(status)


@command.command("down")
@directory_option
def down(folder: Path | None) -> None:
    """Stop everything that runs in it, and remove it."""
    bed, module = _bed(folder)
    try:
        stopped = bed.down()
    except module.TestbedError as error:
        raise _named(error) from error
    click.echo(say(f"stopped {len(stopped)} processes; ", f"已停止 {len(stopped)} 个进程；"), err=True, nl=False)
    click.echo(say(f"{clean(bed.folder)} is gone", f"已删除 {clean(bed.folder)}"), err=True)


@command.command("status")
@directory_option
@json_option
def status(folder: Path | None, as_json: bool) -> None:
    """Show what runs. Exit status 1 unless everything does."""
    bed, module = _bed(folder)
    try:
        found = bed.status()
    except module.TestbedError as error:
        raise _named(error) from error
    if as_json:
        print_json(found)
    elif found["phase"] == "up":
        _explain(found)
    else:
        _show_processes(found)
        click.echo(say(*_PHASES[found["phase"]]), err=True)
    if found["phase"] != "up":
        raise click.exceptions.Exit(1)


_PHASES = {
    "absent": ("there is no test bed; `sealagent testbed up` makes one", "没有测试环境；请运行 sealagent testbed up"),
    "unfinished": (
        "it is half made; `sealagent testbed down` removes it",
        "测试环境未建成；请运行 sealagent testbed down 将其删除",
    ),
    "down": ("nothing runs; `sealagent testbed up` starts it", "没有进程在运行；请运行 sealagent testbed up 启动"),
    "partly": (
        "not everything runs; `sealagent testbed up` starts the rest",
        "部分进程未运行；请运行 sealagent testbed up 启动",
    ),
}


def _show_processes(status: dict[str, Any]) -> None:
    click.echo(clean(status["folder"]))
    for process in status["processes"]:
        state = say("runs", "运行中") if process["alive"] else say("does not run", "未运行")
        click.echo(f"  {clean(process['name'])} ({process['pid'] or '-'}): {state}")


def _explain(status: dict[str, Any]) -> None:
    """Print where things are, the PINs, and commands that work when pasted."""
    world = status["world"]
    _show_processes(status)
    sections = (
        (say("Addresses", "地址"), [(name, url) for name, url in world["addresses"].items()]),
        (say("Files", "文件"), [(name, path) for name, path in world["files"].items()]),
        (
            say("Tokens (software: test only) and their PINs", "令牌（软件，仅供测试）及 PIN"),
            [(token["label"], token["pin"], token["holder"]) for token in world["tokens"]],
        ),
        (
            say("Seals, and what the agent should say of each", "印章及其应有状态"),
            [
                (seal["name"], seal["region"], seal["state"], ", ".join(seal["reasons"]) or say("usable", "可用"))
                for seal in world["seals"]
            ],
        ),
    )
    for title, rows in sections:
        click.echo(f"\n{title}")
        for line in table_lines([""] * len(rows[0]), rows)[1:]:
            click.echo(f"  {line}")
    click.echo(f"\n{say('In your shell', '在终端中')}:")
    click.echo(f"  . {clean(world['shell'])}")
    for line in world["examples"]:
        click.echo(f"  {clean(line)}")
