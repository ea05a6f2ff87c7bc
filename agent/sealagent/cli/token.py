"""``sealagent token``."""

from __future__ import annotations

from typing import Any

import click

from sealagent.cli.output import clean, json_option, print_json, say, table, usb_key
from sealagent.client import Agent


@click.group("token")
def command() -> None:
    """Plugged-in tokens.

    \b
    sealagent token list
    sealagent token change-pin TOKEN
    sealagent token unblock-pin TOKEN
    """


def _pin(token: dict[str, Any]) -> str:
    pin = token["pin"]
    if pin["locked"]:
        return "locked"
    if not pin["initialized"]:
        return "not set"
    if pin["final_try"]:
        return "LAST TRY"
    if pin["factory_pin"]:
        return "FACTORY PIN: change it"
    if pin["tries_left"] is not None:
        return f"{pin['tries_left']} tries left"
    return "tries low" if pin["count_low"] else "ok"


def factory_pin(token: dict[str, Any]) -> str:
    """Return what to do about a PIN that anybody who knows the product knows."""
    change = f"sealagent token change-pin {clean(token['id'])}"
    return say(f"the PIN is still the factory's; change it: {change}", f"仍在使用出厂 PIN，请修改：{change}")


@command.command("list")
@json_option
def list_tokens(as_json: bool) -> None:
    """List the tokens that are plugged in."""
    with Agent() as agent:
        answer = agent.tokens()
        keys = [] if answer["tokens"] else agent.devices()["devices"]
    if as_json:
        print_json(answer)
        return
    table(
        ("ID", "LABEL", "SERIAL", "MODEL", "PIN", "STATE"),
        [
            (
                token["id"],
                token["label"],
                token["serial"],
                token["model"] + (" (software: test only)" if token["software"] else ""),
                _pin(token),
                "unlocked" if token["unlocked"] else "locked",
            )
            for token in answer["tokens"]
        ],
    )
    for token in answer["tokens"]:
        if token["pin"]["factory_pin"]:
            click.echo(f"{say('warning', '警告')}: {clean(token['label'])}: {factory_pin(token)}", err=True)
    for fault in answer["faults"]:
        click.echo(f"warning: {clean(fault)}", err=True)
    for key in keys:
        click.echo(usb_key(key), err=True)
        click.echo(f"  → {say(clean(key['next_step']), clean(key['next_step_zh']))}", err=True)
    if not answer["tokens"] and not keys:
        click.echo("no token is plugged in; `sealagent doctor` shows what was looked for", err=True)


@command.command("lock")
@click.argument("token")
def lock(token: str) -> None:
    """Log out of TOKEN (id, serial or label): the next use asks for the PIN."""
    with Agent() as agent:
        agent.lock_token(token)


@command.command("change-pin")
@click.argument("token")
def change_pin(token: str) -> None:
    """Change the PIN of TOKEN (id, serial or label); the agent's own prompt asks for it."""
    with Agent() as agent:
        agent.change_pin(token)
    click.echo("the PIN was changed", err=True)


@command.command("unblock-pin")
@click.argument("token")
def unblock_pin(token: str) -> None:
    """Set a new PIN on TOKEN (id, serial or label) with the administrator's; the agent's own prompt asks for both."""
    with Agent() as agent:
        agent.unblock_pin(token)
    click.echo(say("the PIN was unblocked; the new one counts from now on", "PIN 已解锁，请使用新 PIN"), err=True)
