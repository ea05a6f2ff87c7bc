"""The top command; nouns are loaded only when used, so that a short command stays short."""

from __future__ import annotations

import importlib
import io
import os
import sys

import click

from sealagent import __version__
from sealagent.cli.output import clean, report_error

__all__ = ["main"]

NOUNS = {
    "app": "paired applications: who may use seals, for what, and how often",
    "batch": "lists that were agreed to once, and how far they are",
    "browser": "let extensions of a browser reach the agent",
    "daemon": "run the agent",
    "doctor": "look at what there is, and say what is missing",
    "document": "seal and verify documents",
    "driver": "probe a driver library and report what it does",
    "key": "keys on tokens",
    "maker": "make, file and deliver seals (another role, with keys of its own)",
    "policy": "who may use what, and why a request would be refused",
    "record": "the record of every signature and refusal",
    "seal": "seals, and whether they can be used now",
    "status": "how the agent is",
    "testbed": "a complete world for testers, on loopback",
    "token": "plugged-in tokens",
    "trust": "trust lists: whose seals and certificates count",
}


class _Nouns(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(NOUNS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in NOUNS:
            return None
        command = importlib.import_module(f"sealagent.cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        # Listing must not import every noun.
        with formatter.section("Commands"):
            formatter.write_dl(list(NOUNS.items()))


@click.command(
    cls=_Nouns,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Examples: sealagent seal list; sealagent document seal a.ofd --seal NAME --at 1,120,200; "
    "sealagent document verify a.ofd",
)
@click.version_option(__version__, prog_name="sealagent")
@click.option("--socket", metavar="PATH", help="The agent's socket.  [default: the usual place]")
@click.option("--token-file", metavar="PATH", help="Ask as the paired application whose token this private file holds.")
def _root(socket: str | None, token_file: str | None) -> None:
    """SealAgent: seal and sign with keys that never leave a USB key or an HSM."""
    if socket is not None:
        os.environ["SEALAGENT_SOCKET"] = socket
    if token_file is not None:
        os.environ["SEALAGENT_TOKEN_FILE"] = token_file


def main() -> None:
    """Run the command line; every named error ends with its exit status and its next step."""
    try:
        # Outside its standalone mode click returns the status of an Exit; the commands themselves return None.
        sys.exit(_root(prog_name="sealagent", standalone_mode=False))
    except click.Abort:
        click.echo("aborted", err=True)
        sys.exit(1)
    except click.ClickException as error:
        # What it says may quote the name of a file.
        said = io.StringIO()
        error.show(said)
        for line in said.getvalue().expandtabs(4).splitlines():
            click.echo(clean(line), err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep the interpreter from complaining at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        sys.exit(report_error(error))
