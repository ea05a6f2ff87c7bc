"""``sealagent maker``: make, file and deliver seals, change their state, and say so to everybody."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import click

__all__ = ["command"]

COMMANDS = {
    # Name: module, what it is for. In the order of a seal's life.
    "init": ("maker_init", "check token, key and certificate, write maker.toml, begin the register"),
    "draw": ("maker_draw", "draw a seal's picture"),
    "check-picture": ("maker_draw", "check a seal's picture"),
    "apply": ("maker_making", "record an application"),
    "reject": ("maker_making", "turn an application down"),
    "make": ("maker_making", "make the seal of an application"),
    "file": ("maker_making", "file a seal (备案)"),
    "deliver": ("maker_making", "hand a seal to its owner: it is valid from then on"),
    "remake": ("maker_making", "make a seal anew in another's place"),
    "suspend": ("maker_states", "suspend a valid seal"),
    "resume": ("maker_states", "resume a suspended seal"),
    "cancel": ("maker_states", "cancel a seal for good"),
    "lost": ("maker_states", "report the carrier of a seal lost"),
    "invalidate": ("maker_states", "mark an unlawfully made seal invalid"),
    "list": ("maker_states", "list seals or applications"),
    "show": ("maker_states", "show a seal or an application"),
    "history": ("maker_states", "show the states of a seal"),
    "export": ("maker_publish", "write the register to a file that anybody can check"),
    "checkpoint": ("maker_publish", "print size and root of the register"),
    "verify": ("maker_publish", "check the register, or an export of it"),
    "status-list": ("maker_publish", "sign the list of all seals' states"),
    "trust-list": ("maker_publish", "sign a trust list"),
    "serve": ("maker_publish", "answer whoever asks for the state of a seal"),
}
"""A command is loaded only when it is used, so that a short one stays short."""


class _Commands(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"sealagent.cli.{COMMANDS[name][0]}")
        found = {each.name: each for each in vars(module).values() if isinstance(each, click.Command)}
        return found[name]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in COMMANDS.items()])


@click.group("maker", cls=_Commands)
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=False, dir_okay=False),
    help="Configuration file.  [default: the usual ones]",
)
def command(config: Path | None) -> None:
    """Make seals: the role of a production-management unit (电子印章制作管理单位).

    It has a configuration, a register and keys of its own, and never runs in the agent. SEAL below is an esID, the
    beginning of the seal's SM3 or of the agent's id, or its name.

    \b
    sealagent maker init --unit 某市印章管理中心 --region 110000 --module /usr/lib/softhsm/libsofthsm2.so
    sealagent maker apply --applicant 某某公司 --credit-code CODE --approval 准字1号 --name 某某公司公章 --request r.pem
    sealagent maker make 2 --picture seal.png --size 40x40 --certificate issued.pem
    sealagent maker file SEAL
    sealagent maker deliver SEAL -o seal.esl
    sealagent maker serve
    """
    if config is not None:
        os.environ["SEALAGENT_MAKER_CONFIG"] = str(config.absolute())
