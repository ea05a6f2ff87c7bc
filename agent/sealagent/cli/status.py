"""``sealagent status``."""

from __future__ import annotations

import click

from sealagent.cli.output import clean, json_option, print_json
from sealagent.client import Agent


@click.command("status")
@json_option
def command(as_json: bool) -> None:
    """Say how the agent is."""
    with Agent() as agent:
        status = agent.status()
    if as_json:
        print_json(status)
        return
    click.echo(f"SealAgent {status['version']}, running since {status['started']}")
    for module in status["modules"]:
        served = f", served by {clean(module['worker'])}" if module.get("worker") else ""
        path = clean(module.get("path") or "(refused)")
        click.echo(f"module {path}: {module['state']}{served}{_fault(module.get('fault'))}")
    click.echo(f"USB: {status['presence']['usb']}" + _fault(status["presence"]["fault"]))
    lock = status["screen_lock"]
    click.echo(f"locks with the screen: {lock['session']}, before sleep: {lock['system']}" + _fault(lock["fault"]))
    click.echo(f"policy: {clean(status['policy'] or 'none, the defaults ask the holder')}")
    click.echo(f"record: {status['record']['size']} entries, root {status['record']['root'][:16]}…")
    if status["interrupted"]:
        click.echo(f"{status['interrupted']} operations were interrupted by the agent's last end (see the record)")


def _fault(fault: str | None) -> str:
    return f" ({clean(fault)})" if fault else ""
