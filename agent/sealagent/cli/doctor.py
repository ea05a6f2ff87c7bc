"""``sealagent doctor``: what is there, what is missing, what to do."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from typing import Any

import click

from sealagent import __version__
from sealagent.catalog import problem
from sealagent.cli.output import clean, say, usable, usb_key
from sealagent.cli.token import factory_pin
from sealagent.client import Agent, AgentError
from sealagent.errors import SealAgentError
from sealagent.paths import config_files, socket_path
from sealdrivers.errors import DriverError

PINENTRIES = ("pinentry", "pinentry-gnome3", "pinentry-qt", "pinentry-gtk-2", "pinentry-curses", "pinentry-tty")


@click.command("doctor")
def command() -> None:
    """Look at what there is, and say what is missing; the output holds no secret and suits a fault report."""
    click.echo(f"SealAgent {__version__}, Python {platform.python_version()}, {platform.platform()}")
    _configuration()
    found = next((path for name in PINENTRIES if (path := shutil.which(name))), None)
    click.echo(f"pinentry      {found or 'none: ' + _without_pinentry()}")
    _candidates()
    try:
        with Agent(timeout=30) as agent:
            _agent(agent)
    except AgentError as error:
        _usb_keys_without_agent()
        known = problem(error.code)
        click.echo(f"agent         {say(known.title, known.title_zh)}: {clean(error.detail)}")
        click.echo(f"              → {say(known.next_step, known.next_step_zh)}")
        sys.exit(known.exit)


def _without_pinentry() -> str:
    """Say how the holder is asked where no pinentry is installed."""
    if importlib.util.find_spec("tkinter") is not None:
        return "the agent's own window is used where there is a display"
    return "install pinentry (or python3-tk for the agent's own window), or run the daemon in a terminal"


def _configuration() -> None:
    """Show what the daemon would start with here."""
    from sealagent.daemon.settings import load_settings

    for file in config_files():
        click.echo(f"configuration {clean(file)}{'' if file.is_file() else ' (absent)'}")
    try:
        settings = load_settings()
    except SealAgentError as error:
        click.echo(f"configuration wrong: {clean(error.message)}")
        click.echo(f"socket        {clean(socket_path())}")
        return
    click.echo(f"socket        {clean(socket_path())}")
    click.echo(f"state         {clean(settings.state_dir)}")
    trusted = ", ".join(clean(path) for path in settings.trust.paths)
    click.echo(f"trust         {trusted or 'nobody: no seal is valid until [trust] paths names certificates'}")


def _candidates() -> None:
    from sealdrivers.binary import read_binary
    from sealdrivers.discovery import find_modules
    from sealdrivers.errors import ModuleNotLoadable

    for candidate in find_modules(p11_kit=True, vendor_table=True):
        try:
            kind = str(read_binary(candidate.path) or "library")
        except ModuleNotLoadable as error:
            kind = error.message
        click.echo(f"module        {clean(candidate.path)}, named by {clean(candidate.source)}: {clean(kind)}")


def _usb_keys_without_agent() -> None:
    """Show the known keys on USB, which is the first question when the agent has not been set up yet."""
    from sealagent.devices import describe
    from sealdrivers.presence import list_keys
    from sealdrivers.vendors import vendor_table

    try:
        table = vendor_table([file.with_name("vendors.toml") for file in config_files()])
    except DriverError as error:
        click.echo(f"vendor table  {clean(error.message)}")
        return
    found = list_keys(table)
    _usb_keys({"devices": [device.as_json() for device in describe(found.keys, table, ())], "fault": found.fault})


def _usb_keys(answer: dict[str, Any]) -> None:
    for device in answer["devices"]:
        click.echo(f"USB key       {usb_key(device)}")
        click.echo(f"              → {say(clean(device['next_step']), clean(device['next_step_zh']))}")
    if answer["fault"]:
        click.echo(f"USB           {clean(answer['fault'])}")


def _agent(agent: Agent) -> None:
    tokens, seals = agent.tokens(), agent.seals()  # first: it starts modules that have not been used yet
    status = agent.status()
    click.echo(f"agent         {status['version']}, running since {status['started']}")
    click.echo(f"policy        {clean(status['policy'] or 'none: the defaults ask the holder')}")
    for module in status["modules"]:
        fault = f": {clean(module['fault'])}" if module.get("fault") else ""
        served = f", served by {clean(module['worker'])}" if module.get("worker") else ""
        click.echo(f"worker        {clean(module.get('path') or 'refused')}: {module['state']}{served}{fault}")
        if fault and module.get("path"):
            click.echo(f"              → sealagent driver probe {clean(module['path'])}")
    _usb_keys(agent.devices())
    for token in tokens["tokens"]:
        soft = " (software: test only)" if token["software"] else ""
        click.echo(f"token         {clean(token['label'])} {clean(token['serial'])}{soft}")
        if token["pin"]["factory_pin"]:
            click.echo(f"              → {factory_pin(token)}")
    for key in agent.keys():  # noqa: SIM118 (no dict's)
        if key["fault"]:
            click.echo(f"key           {clean(key['label'])} ({key['type']}): {clean(key['fault'])}")
    for seal in seals["seals"]:
        click.echo(f"seal          {clean(seal['name'])}: usable now: {usable(seal)}")
    for fault in dict.fromkeys([*tokens["faults"], *seals["faults"]]):
        click.echo(f"fault         {clean(fault)}")
    if not tokens["tokens"]:
        click.echo("token         none: plug in a key, and check that its module is listed above")
