"""``sealagent app``: paired applications and their grants."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from sealagent.cli.output import clean, json_option, print_json, say, table
from sealagent.client import Agent
from sealagent.client.applications import TOKEN_FILE, reserve_token_file, save_token

OPERATIONS = ("document", "digest", "raw", "manage")


@click.group("app")
def command() -> None:
    """Paired applications: who may use seals, for what, and how often.

    \b
    sealagent app list
    sealagent app pair "合同系统" --save ~/.config/contracts/token
    sealagent app grant 合同系统 document --seal 合同专用章 --count 100 --days 30
    sealagent app grant 合同系统 raw --never
    sealagent app grants
    sealagent app revoke 合同系统
    """


@command.command("list")
@json_option
def list_applications(as_json: bool) -> None:
    """List the applications."""
    with Agent() as agent:
        found = agent.applications()
    if as_json:
        print_json({"applications": found})
        return
    table(
        ("ID", "NAME", "STATE", "PROGRAM", "LAST USED", "GRANTS"),
        [
            (each["id"], each["name"], _state(each), _program(each), each["last_used"] or "-", each["grants"])
            for each in found
        ],
    )
    if not found:
        click.echo(say("no application is paired", "尚无已配对的应用"), err=True)


@command.command("show")
@click.argument("application")
@json_option
def show(application: str, as_json: bool) -> None:
    """Show APPLICATION (id or name) and its grants."""
    with Agent() as agent:
        found = agent.application(application)
        grants = agent.grants(found["id"])
    if as_json:
        print_json({**found, "granted": grants})
        return
    facts = [
        (say("name", "名称"), found["name"]),
        (say("state", "状态"), _state(found)),
        (say("program", "程序"), found["executable"]),
        ("SHA-256", found["sha256"]),
        (say("web origin", "来源"), found["origin"]),
        (say("paired", "配对时间"), found["created"]),
        (say("until", "有效至"), found["expires"]),
        (say("last used", "最近使用"), found["last_used"]),
        (say("record", "记录编号"), found["record"]),
    ]
    click.echo(clean(found["id"]))
    for label, value in facts:
        if value is not None:
            click.echo(f"  {label}: {clean(value)}")
    if grants:
        _print_grants(grants)


@command.command("pair")
@click.argument("name")
@click.option(
    "--save",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="Put the token into this new file, which only you may read.",
)
@json_option
def pair(name: str, save: Path, as_json: bool) -> None:
    """Pair this command for scripts, under NAME; give the file to later commands with `sealagent --token-file FILE …`.

    The holder compares six digits in the agent's own prompt. The token counts for this program file only: that of the
    Python that runs `sealagent`. Applications pair themselves (POST /v1/pairings, or the SDK).
    """
    os.environ.pop(TOKEN_FILE, None)  # an older one would be refused
    place = reserve_token_file(save)
    try:
        with Agent() as agent:
            pairing = agent.start_pairing(name)
            code = f"{pairing['code'][:3]} {pairing['code'][3:]}"
            click.echo(
                say(
                    f"The code is {code}. Agree in the agent's prompt only if it shows the same.",
                    f"配对码：{code}。代理的提示窗口显示相同配对码时才同意。",
                ),
                err=True,
            )
            done = agent.complete_pairing(pairing)
        save_token(place, done["token"], reserved=True)
    except BaseException:
        with contextlib.suppress(OSError):
            place.unlink()
        raise
    application = done["application"]
    if as_json:
        print_json({**application, "token_file": str(place)})
        return
    click.echo(f"{clean(application['id'])}  {clean(application['name'])}")
    click.echo(say(f"its token is in {clean(place)}", f"令牌已保存至 {clean(place)}"), err=True)


@command.command("rename")
@click.argument("application")
@click.argument("name")
@json_option
def rename(application: str, name: str, as_json: bool) -> None:
    """Call APPLICATION (id or name) NAME; the holder agrees in the agent's prompt."""
    with Agent() as agent:
        renamed = agent.rename_application(application, name)
    if as_json:
        print_json(renamed)
    else:
        click.echo(f"{clean(renamed['id'])}  {clean(renamed['name'])}")


@command.command("revoke")
@click.argument("application")
@json_option
def revoke(application: str, as_json: bool) -> None:
    """Revoke APPLICATION (id or name): its token and all its grants end at once."""
    with Agent() as agent:
        revoked = agent.revoke_application(application)
    if as_json:
        print_json(revoked)
    else:
        click.echo(f"{clean(revoked['id'])}  {clean(revoked['name'])}  {_state(revoked)}")


@command.command("grant")
@click.argument("application")
@click.argument("operation", type=click.Choice(OPERATIONS))
@click.option("--seal", metavar="SEAL", help="Only this seal (id, esID or name).")
@click.option("--key", metavar="KEY", help="Only this key (id); for manage, this token.")
@click.option("--format", "formats", metavar="FORMAT", multiple=True, help="Only documents of this format, e.g. ofd.")
@click.option("--count", type=click.IntRange(1), help="So many signatures in all.")
@click.option("--hours", metavar="FROM-TO", help="Only at these hours of the day, e.g. 08:00-18:00.")
@click.option("--from", "begins", metavar="TIME", help="Not before this time (2027-01-31T18:00, local).")
@click.option("--until", "ends", metavar="TIME", help="Until this time.")
@click.option("--days", type=click.IntRange(1, 36500), help="For so many days.")
@click.option("--never", "forbids", is_flag=True, help="Forbid it instead, whatever else is granted.")
@json_option
def grant(
    application: str,
    operation: str,
    seal: str | None,
    key: str | None,
    formats: tuple[str, ...],
    count: int | None,
    hours: str | None,
    begins: str | None,
    ends: str | None,
    days: int | None,
    forbids: bool,
    as_json: bool,
) -> None:
    """Allow APPLICATION an OPERATION without asking each time; the holder agrees once, in the agent's prompt.

    \b
    document   seal documents that the agent reads itself
    digest     seal digests that the application computed: the agent cannot look into them
    raw        bare signatures over digests, likewise
    manage     change a token: keys, certificates, seals
    """
    if ends is not None and days is not None:
        raise click.UsageError("give --until or --days, not both")
    expires = _time(ends, "--until") if ends is not None else None
    if days is not None:
        expires = datetime.now().astimezone() + timedelta(days=days)
    with Agent() as agent:
        given = agent.add_grant(
            operation,
            application=application,
            effect="deny" if forbids else "allow",
            seal=seal,
            key=key,
            formats=formats,
            count=count,
            hours=hours,
            not_before=_time(begins, "--from") if begins is not None else None,
            expires=expires,
        )
    if as_json:
        print_json(given)
    else:
        _print_grants([given])


@command.command("grants")
@click.argument("application", required=False)
@json_option
def grants(application: str | None, as_json: bool) -> None:
    """List the grants of APPLICATION (id or name), or all."""
    with Agent() as agent:
        found = agent.grants(application)
    if as_json:
        print_json({"grants": found})
    elif found:
        _print_grants(found)
    else:
        click.echo(say("there are no grants", "尚无授权"), err=True)


@command.command("ungrant")
@click.argument("grant_id", metavar="GRANT")
@json_option
def ungrant(grant_id: str, as_json: bool) -> None:
    """Take GRANT (id) back; where it forbids, the holder must agree in the agent's prompt."""
    with Agent() as agent:
        removed = agent.remove_grant(grant_id)
    if as_json:
        print_json(removed)


def _time(text: str, option: str) -> datetime:
    """Read a time; without a zone it is local."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter("write a time as 2027-01-31T18:00", param_hint=option) from None


def _state(item: Mapping[str, Any]) -> str:
    words = {
        "active": ("active", "有效"),
        "expired": ("EXPIRED", "已过期"),
        "revoked": ("REVOKED", "已撤销"),
        "spent": ("used up", "已用完"),
        "waiting": ("not yet", "尚未生效"),
    }
    state = str(item["state"])
    return say(*words[state]) if state in words else state


def _program(application: Mapping[str, Any]) -> str:
    executable = str(application["executable"])
    return f"{application['origin']} ({executable})" if application["origin"] else executable


def _print_grants(found: list[dict[str, Any]]) -> None:
    table(
        ("ID", "APPLICATION", "EFFECT", "OPERATION", "SEAL OR KEY", "LIMITS", "STATE"),
        [
            (
                each["id"],
                each["name"] or each["application"],
                say("allow", "允许") if each["effect"] == "allow" else say("NEVER", "禁止"),
                _operation(each["operation"]),
                each["seal_name"] or each["seal"] or each["key"] or say("any", "不限"),
                _limits(each),
                _state(each),
            )
            for each in found
        ],
    )


def _operation(name: str) -> str:
    words = {
        "document": ("document", "文件"),
        "digest": ("digest (blind)", "摘要（盲签）"),
        "raw": ("raw (blind)", "裸签名（盲签）"),
        "manage": ("manage", "管理"),
    }
    return say(*words[name]) if name in words else name


def _limits(item: Mapping[str, Any]) -> str:
    limits = [*item["formats"]]
    if item["remaining"] is not None:
        limits.append(say(f"{item['remaining']} left", f"剩余 {item['remaining']} 次"))
    if item["hours"]:
        limits.append(str(item["hours"]))
    if item["not_before"] and item["state"] == "waiting":
        limits.append(say(f"from {item['not_before']}", f"{item['not_before']} 起"))
    if item["expires"]:
        limits.append(say(f"until {item['expires']}", f"至 {item['expires']}"))
    if item["session"]:
        limits.append(say("until the token is locked", "至钥匙锁定"))
    return ", ".join(limits) or "-"
