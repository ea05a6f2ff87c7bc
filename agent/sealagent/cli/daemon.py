"""``sealagent daemon``: run the agent, check its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sealagent.cli.output import print_json


@click.group("daemon")
def command() -> None:
    """Run the agent.

    \b
    sealagent daemon run                       # in this terminal, which is asked for PINs if there is no pinentry
    sealagent daemon run --pin-file pin.txt --policy policy.toml    # for servers and tests: nobody is asked then
    """


def _overrides(
    module: tuple[Path, ...],
    pin_file: Path | None,
    pin_fd: int | None,
    trust: tuple[Path, ...],
    policy: Path | None,
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if policy is not None:
        values["policy"] = str(policy.absolute())
    if module:
        values["modules"] = [{"path": str(path.absolute())} for path in module]
    if pin_file is not None:
        values["pin"] = {"source": "file", "file": str(pin_file.absolute())}
    if pin_fd is not None:
        values["pin"] = {"source": "fd", "fd": pin_fd}
    if trust:
        values["trust"] = {"paths": [str(path.absolute()) for path in trust]}
    return values


@command.command("run")
@click.option("--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Configuration file.")
@click.option("--module", type=click.Path(path_type=Path), multiple=True, help="PKCS#11 module to load.")
@click.option("--pin-file", type=click.Path(path_type=Path), help="Read PINs from this file (mode 0600).")
@click.option("--pin-fd", type=int, help="Read a PIN from this file descriptor.")
@click.option("--trust", type=click.Path(path_type=Path), multiple=True, help="Certificates that vouch.")
@click.option("--policy", type=click.Path(path_type=Path), help="Who may use what (policy.toml).")
def run_daemon(
    config: Path | None,
    module: tuple[Path, ...],
    pin_file: Path | None,
    pin_fd: int | None,
    trust: tuple[Path, ...],
    policy: Path | None,
) -> None:
    """Run until SIGTERM or Ctrl-C."""
    from sealagent.daemon.lifecycle import run
    from sealagent.daemon.settings import load_settings

    settings = load_settings([config] if config else None, _overrides(module, pin_file, pin_fd, trust, policy))
    run(settings, lambda: click.echo(f"ready: {settings.socket}", err=True))


@command.command("check")
@click.option("--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Configuration file.")
def check(config: Path | None) -> None:
    """Check the configuration and print what is in force."""
    from sealagent.daemon.settings import load_settings

    print_json(load_settings([config] if config else None).model_dump(mode="json"))
