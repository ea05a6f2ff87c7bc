"""``sealagent doctor``: what is there, what is missing, what to do."""

from __future__ import annotations

import os
import platform
import shutil
import sys

import click

from sealagent import __version__
from sealagent.catalog import problem
from sealagent.cli.output import clean, say, usable
from sealagent.client import Agent, AgentError
from sealagent.errors import SealAgentError
from sealagent.paths import config_files, socket_path

PINENTRIES = ("pinentry", "pinentry-gnome3", "pinentry-qt", "pinentry-gtk-2", "pinentry-curses", "pinentry-tty")


@click.command("doctor")
def command() -> None:
    """Look at what there is, and say what is missing; the output holds no secret and suits a fault report."""
    click.echo(f"SealAgent {__version__}, Python {platform.python_version()}, {platform.platform()}")
    _configuration()
    found = next((path for name in PINENTRIES if (path := shutil.which(name))), None)
    click.echo(f"pinentry      {found or 'none: install pinentry, or run the daemon in a terminal'}")
    _candidates()
    try:
        with Agent(timeout=30) as agent:
            _agent(agent)
    except AgentError as error:
        known = problem(error.code)
        click.echo(f"agent         {say(known.title, known.title_zh)}: {clean(error.detail)}")
        click.echo(f"              → {say(known.next_step, known.next_step_zh)}")
        sys.exit(known.exit)


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
    from sealdrivers.discovery import find_modules

    for candidate in find_modules(p11_kit=True, vendor_table=True):
        there = "" if os.access(candidate.path, os.R_OK) else " (absent)"
        click.echo(f"module        {candidate.path}{there}, named by {candidate.source}")


def _agent(agent: Agent) -> None:
    tokens, seals = agent.tokens(), agent.seals()  # first: it starts modules that have not been used yet
    status = agent.status()
    click.echo(f"agent         {status['version']}, running since {status['started']}")
    for module in status["modules"]:
        fault = f": {clean(module['fault'])}" if module.get("fault") else ""
        click.echo(f"worker        {clean(module.get('path') or 'refused')}: {module['state']}{fault}")
        if fault and module.get("path"):
            click.echo(f"              → sealagent driver probe {clean(module['path'])}")
    for token in tokens["tokens"]:
        soft = " (software: test only)" if token["software"] else ""
        click.echo(f"token         {clean(token['label'])} {clean(token['serial'])}{soft}")
    for seal in seals["seals"]:
        click.echo(f"seal          {clean(seal['name'])}: usable now: {usable(seal)}")
    for fault in dict.fromkeys([*tokens["faults"], *seals["faults"]]):
        click.echo(f"fault         {clean(fault)}")
    if not tokens["tokens"]:
        click.echo("token         none: plug in a key, and check that its module is listed above")
