"""``sealagent policy``."""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from sealagent.cli.output import clean, json_option, print_json, say
from sealagent.client import Agent

MAX_PROGRAM = 1 << 30
"""Octets of a program file that are read for its digest, as the agent does."""


@click.group("policy")
def command() -> None:
    """Who may use what: the rules of policy.toml.

    \b
    sealagent policy check policy.toml
    sealagent policy explain --operation document --seal NAME --executable /usr/bin/wps
    """


@command.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
def check_policy(file: Path | None, as_json: bool) -> None:
    """Read a policy without the agent, and say its rules in words.

    Without FILE: the one that the agent would take here.
    """
    from sealagent.callers.policy import Policy
    from sealagent.callers.policyfile import read_policy
    from sealagent.cli.policy_words import hints, limit_lines, rule_line

    found = file.absolute() if file else _usual()
    policy = read_policy(found) if found else Policy()
    if as_json:
        print_json({"file": str(found) if found else None, **policy.model_dump(mode="json")})
        return
    click.echo(clean(found) if found else say("no policy file: the defaults are in force", "没有策略文件：采用默认值"))
    for rule in policy.rules:
        click.echo(f"  {rule_line(rule)}")
    click.echo(say("where no rule and no grant says anything:", "没有规则与授权时："))
    for line in limit_lines(policy):
        click.echo(f"  {line}")
    for hint in hints(policy):
        click.echo(f"{say('note', '提示')}: {hint}", err=True)


def _usual() -> Path | None:
    from sealagent.daemon.settings import load_settings
    from sealagent.paths import policy_files

    settings = load_settings()
    if settings.policy is not None:
        return settings.policy
    return next((path for path in policy_files() if os.path.lexists(path)), None)


@command.command("explain")
@click.option(
    "--operation",
    type=click.Choice(["document", "digest", "raw", "manage"]),
    required=True,
    help="What would be asked for.",
)
@click.option("--seal", help="Id, esID or name of a seal (document, digest).")
@click.option("--key", help="Id of a key (raw).")
@click.option("--token", help="Id, serial or label of a token (manage).")
@click.option("--executable", type=click.Path(path_type=Path), help="Program that would ask.")
@click.option("--app", "application", help="Paired application that would ask: its id or name.")
@click.option("--origin", help="Web site or extension for which it would ask.")
@click.option("--format", "form", help="Format of the document.  [default: ofd]")
@click.option("--count", type=click.IntRange(1, 100_000), default=1, help="Signatures at once.")
@click.option("--at", type=click.DateTime(["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]), help="Local time.  [default: now]")
@json_option
def explain_policy(
    operation: str,
    seal: str | None,
    key: str | None,
    token: str | None,
    executable: Path | None,
    application: str | None,
    origin: str | None,
    form: str | None,
    count: int,
    at: datetime | None,
    as_json: bool,
) -> None:
    """Say why a request would be allowed or refused; nothing is spent or asked by it.

    Without --executable and --app: a request of this command itself.
    """
    program, sha256 = _program(executable) if executable else (None, None)
    with Agent() as agent:
        answer = agent.explain_policy(
            operation,
            seal=seal,
            key=key,
            token=token,
            executable=program,
            sha256=sha256,
            application=application,
            origin=origin,
            format=form,
            count=count,
            at=at.astimezone().isoformat() if at else None,
        )
    if as_json:
        print_json(answer)
        return
    _show(answer)


def _show(answer: dict[str, Any]) -> None:
    from sealagent.cli.policy_words import reason

    words = {
        "allow": say("allowed", "允许"),
        "ask": say("the holder would be asked", "将询问持有人"),
        "deny": say("refused", "拒绝"),
    }
    kinds = {
        "rule": say("rule", "规则"),
        "grant": say("grant", "授权"),
        "limit": say("limit", "限制"),
        "default": say("default", "默认"),
    }
    decision = answer["decision"]
    click.echo(f"{words[decision['effect']]}: {kinds[decision['source']]} {clean(decision['name'])}")
    click.echo(f"{say('policy', '策略')}: {clean(answer['policy'] or say('the defaults', '默认值'))}")
    caller = {name: value for name, value in answer["caller"].items() if value is not None}
    click.echo(f"{say('caller', '调用方')}: " + ", ".join(f"{name} {clean(value)}" for name, value in caller.items()))
    click.echo(say("looked at in this order; the first that applies decides:", "依次检查，首个适用者决定："))
    for step in answer["steps"]:
        mark = "*" if step["matched"] else " "
        named = f"{kinds[step['kind']]} {clean(step['name'])} ({words[step['effect']]})"
        click.echo(f" {mark} {named}: {reason(step['why'], step)}")


def _program(path: Path) -> tuple[str, str | None]:
    """Return path and digest of a program file as the agent would see it running."""
    real = os.path.realpath(path)
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        click.echo(f"{say('note', '提示')}: {clean(real)}: {error.strerror}", err=True)
        return real, None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_PROGRAM:
            raise click.BadParameter(say("it is no program file", "不是程序文件"), param_hint="--executable")
        if file.peek(2)[:2] == b"#!":
            click.echo(
                f"{say('note', '提示')}: "
                + say("a script is known by its interpreter; name that", "脚本以其解释器识别，请指定解释器"),
                err=True,
            )
        return real, hashlib.file_digest(file, "sha256").hexdigest()
