"""``sealagent driver``: a report on a driver library, without the agent."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from sealagent import __version__
from sealagent.catalog import Exit
from sealagent.cli.output import clean, json_option, json_text, say
from sealagent.clock import system_clock
from sealagent.errors import SealAgentError
from sealagent.paths import config_files

if TYPE_CHECKING:
    from sealagent.consent.prompter import Prompter
    from sealdrivers.probe.model import Report, SectionReport
    from sealdrivers.probe.process import TokenChoice

_PIN_CODES = ("pin_incorrect", "pin_locked", "pin_last_try", "pin_rejected")
"""Findings of the sections that log in, for which there are no signatures though a PIN was there."""


@click.group("driver")
def command() -> None:
    """Probe a driver library and report what it does.

    \b
    sealagent driver probe /usr/lib/softhsm/libsofthsm2.so
    sealagent driver probe libes_3000gm.so --pin --json -o report.json
    """


@command.command("probe")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--driver", type=click.Choice(["pkcs11", "skf"]), help="The interface.  [default: by what the file exports]"
)
@click.option("--pin", "ask", is_flag=True, help="Ask for the PIN, and try signatures with every key.")
@click.option("--pin-file", type=click.Path(path_type=Path), help="The same, with the PIN from a file of mode 0600.")
@click.option("--pin-fd", type=click.IntRange(0), metavar="N", help="The same, with the PIN from a file descriptor.")
@click.option("--token", default="", metavar="NAME", help="Which token to sign on: label, serial or application.")
@click.option("--profile", default="", metavar="NAME", help="[[sm2]] entry of the vendor table.  [default: by module]")
@click.option("--only", multiple=True, metavar="SECTION", help="Run this section alone; may be given several times.")
@click.option("--serials", is_flag=True, help="Show serial numbers, labels and names. Reports get published: think.")
@click.option(
    "--call-seconds",
    type=click.FloatRange(0.1, 600),
    default=10,
    show_default=True,
    help="Seconds that one native call may take.",
)
@json_option
@click.option("-o", "--out", type=click.File("w", encoding="utf-8", lazy=True), help="Write the report to a file.")
def probe_library(
    path: Path,
    driver: str | None,
    ask: bool,
    pin_file: Path | None,
    pin_fd: int | None,
    token: str,
    profile: str,
    only: tuple[str, ...],
    serials: bool,
    call_seconds: float,
    as_json: bool,
    out: IO[str] | None,
) -> None:
    """Report how a PKCS#11 module or an SKF library behaves: needs no agent.

    Interface, mechanisms, objects, threads, events, the time of each call, and, with a PIN, what its signatures really
    are. Nothing is written to the device. With a PIN every key signs some random values, which nobody else ever sees.
    The PIN is offered once, and not at all while only one try is left. The report holds no PIN, no signature, and
    without --serials nothing that names a device or its holder.

    Exit status 0: usable; 1: a fault makes it unusable; 5: the PIN was wrong, or could not be offered.
    """
    from sealdrivers.discovery import AllowList
    from sealdrivers.errors import DriverError
    from sealdrivers.probe.child import SECTIONS
    from sealdrivers.probe.process import Limits
    from sealdrivers.probe.run import ProbeOptions, probe

    if sum((ask, pin_file is not None, pin_fd is not None)) > 1:
        raise click.UsageError("--pin, --pin-file and --pin-fd exclude each other")
    known = {name for sections in SECTIONS.values() for name in sections}
    if unknown := [name for name in only if name not in known]:
        raise click.BadParameter(f"there is no section {unknown[0]!r} (there are: {', '.join(sorted(known))})")
    tables = tuple(file.with_name("vendors.toml") for file in config_files())
    prompter = _prompter(ask, pin_file, pin_fd)
    try:
        _check_profile(profile, tables)
        named = Path(os.path.abspath(path))
        options = ProbeOptions(
            driver=driver or "",
            profile=profile,
            token=token,
            only=frozenset(only),
            serials=serials,
            vendor_files=tables,
            limits=Limits(call=call_seconds),
        )
        report = probe(
            AllowList(paths=[named]).resolve(named),
            options,
            version=__version__,
            now=system_clock,
            ask_pin=None if prompter is None else _asking(prompter),
            progress=_progress,
        )
    except DriverError as error:
        raise SealAgentError(error.code, error.message, **error.facts()) from error
    finally:
        if prompter is not None and hasattr(prompter, "close"):
            prompter.close()
    _write(report, as_json, out)
    refused = [code for code in _PIN_CODES if prompter is not None and _found(report, code)]
    if refused:
        raise click.exceptions.Exit(Exit.PIN)
    if not report.usable:
        raise click.exceptions.Exit(Exit.FAILURE)


def _prompter(ask: bool, pin_file: Path | None, pin_fd: int | None) -> Prompter | None:
    from sealagent.consent.choose import choose_prompter

    if ask:
        return choose_prompter("auto", os.environ)
    if pin_file is not None:
        return choose_prompter("file", os.environ, path=pin_file)
    if pin_fd is not None:
        return choose_prompter("fd", os.environ, fd=pin_fd)
    return None


def _check_profile(name: str, tables: tuple[Path, ...]) -> None:
    from sealdrivers.vendors import vendor_table

    known = [profile.name for profile in vendor_table(tables).sm2]
    if name and name not in known:
        raise click.BadParameter(f"there is no [[sm2]] entry {name!r} (there are: {', '.join(known)})")


def _asking(prompter: Prompter) -> Callable[[TokenChoice], bytearray]:
    from sealagent.consent.prompter import Occasion, PinRequest
    from sealdrivers.contract import PinState

    def ask_pin(token: TokenChoice) -> bytearray:
        state = PinState(
            tries_left=token.tries_left,
            count_low=token.count_low,
            final_try=token.final_try,
            locked=token.locked,
            factory_pin=token.factory_pin,
        )
        tries = str(token.tries_left) if token.tries_left is not None else say("not told", "未知")
        wanted = say(
            "random values are signed with every key; PIN tries left", "将用每个密钥对随机数签名；剩余 PIN 次数"
        )
        click.echo(f"{wanted}: {tries}", err=True)
        label = f"{token.label} · {token.application}" if token.application else token.label
        request = PinRequest(label, token.serial, state, "unlock", Occasion(None))
        return asyncio.run(prompter.ask_pin(request))

    return ask_pin


def _progress(name: str, section: SectionReport | None) -> None:
    from sealagent.cli.probe_text import outcome_text, section_title

    if not sys.stderr.isatty():
        return
    if section is None:
        click.echo(f"{section_title(name)} … ", err=True, nl=False)
    else:
        click.echo(f"{outcome_text(section)} ({section.seconds:.1f} s)", err=True)


def _found(report: Report, code: str) -> bool:
    """Say whether a section that logs in has a finding."""
    from sealdrivers.probe.child import NEED_PIN

    return any(
        finding.code == code for section in report.sections if section.name in NEED_PIN for finding in section.findings
    )


def _write(report: Report, as_json: bool, out: IO[str] | None) -> None:
    from sealagent.cli.probe_text import report_lines, verdict_line

    text = json_text(report.to_json()) if as_json else "\n".join(report_lines(report))
    if out is None:
        click.echo(text)
        return
    out.write(text + "\n")
    click.echo(clean(verdict_line(report)), err=True)
