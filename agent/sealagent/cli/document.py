"""``sealagent document``: seal and verify."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sealagent.catalog import Exit, problem
from sealagent.cli.output import clean, json_option, print_json, say, verdict_mark
from sealagent.cli.report import print_report
from sealagent.client import Agent, AgentError, at, invisible, riding

MAX_TRUST_BYTES = 1 << 20
"""A certificate file larger than this is not read."""


@click.group("document")
def command() -> None:
    """Seal and verify documents.

    \b
    sealagent document seal a.ofd --seal NAME --at 1,120,200      # page 1, 120 mm from left, 200 mm from top
    sealagent document seal a.ofd --seal NAME --riding            # 骑缝章 along the right edge of all pages
    sealagent document verify a-sealed.ofd
    """


def _position(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[dict[str, Any]]:
    places = []
    for value in values:
        try:
            page, x, y = value.split(",")
            places.append(at(int(page), float(x), float(y)))
        except ValueError:
            raise click.BadParameter(f"{value!r} is not PAGE,X,Y (mm)") from None
    return places


@command.command("seal")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--seal", "name", required=True, help="The seal: id, esID or name.")
@click.option(
    "--at",
    "positions",
    multiple=True,
    callback=_position,
    metavar="PAGE,X,Y",
    help="Place the picture: page from 1, its top left corner in mm from the page's.",
)
@click.option(
    "--riding",
    "ride",
    type=click.Choice(["right", "left"]),
    is_flag=False,
    flag_value="right",
    help="Spread it over all pages (骑缝章).  [default edge: right]",
)
@click.option("--invisible", "unseen", is_flag=True, help="Seal without a picture.")
@click.option("--close", is_flag=True, help="Close the document: no later signature.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Output file.  [default: NAME-sealed.ofd beside it]")
@click.option("--force", is_flag=True, help="Overwrite the output file.")
@json_option
def seal(
    files: tuple[Path, ...],
    name: str,
    positions: list[dict[str, Any]],
    ride: str | None,
    unseen: bool,
    close: bool,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Seal OFD files; the agent asks for the PIN once. The first fault ends it: no PIN try is spent twice."""
    places = positions + ([riding(ride)] if ride else []) + ([invisible()] if unseen else [])
    if not places:
        raise click.UsageError("say where the seal goes: --at PAGE,X,Y, --riding or --invisible")
    if out is not None and len(files) > 1:
        raise click.UsageError("--out goes with one file")
    targets = [out or file.with_name(f"{file.stem}-sealed{file.suffix}") for file in files]
    _check_targets(targets, force)
    receipts: list[dict[str, Any]] = []
    try:
        with Agent() as agent:
            for number, (file, target) in enumerate(zip(files, targets, strict=True), 1):
                count = f"[{number}/{len(files)}] " if len(files) > 1 else ""
                try:
                    sealed = agent.seal_document(file, seal=name, placements=places, close=close)
                except AgentError:
                    if count:
                        click.echo(f"{count}{clean(file)}: {say('not sealed', '未签章')}", err=True)
                    raise
                _write(target, sealed.document)
                receipts.append({"file": str(target), **sealed.receipt})
                if not as_json:
                    recorded = say(f"record {sealed.receipt['record']}", f"记录 {sealed.receipt['record']}")
                    click.echo(f"{count}{clean(target)}  ({recorded})")
    finally:
        if as_json:  # what was sealed before a fault is on record and in its file
            print_json(receipts)


def _check_targets(targets: list[Path], force: bool) -> None:
    """Find out before anything is signed that a sealed document could not be written."""
    if len(set(targets)) < len(targets):
        raise click.UsageError("a file is named twice")
    for target in targets:
        if target.is_dir() or (target.exists() and not force):
            raise click.UsageError(f"{target} exists; use --force or --out")
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise click.UsageError(f"cannot write to the folder {target.parent}")


def _write(target: Path, octets: bytes) -> None:
    """Write whole or not at all. :raises OSError: naming the target."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".sealagent-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _trust(paths: tuple[Path, ...]) -> list[str]:
    """Read certificates as PEM; DER is wrapped."""
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    texts = []
    for file in files:
        if not file.is_file():
            continue
        octets = file.read_bytes()[: MAX_TRUST_BYTES + 1]
        if len(octets) > MAX_TRUST_BYTES:
            raise click.UsageError(f"{file} is too large for a certificate")
        if b"-----BEGIN" in octets:
            texts.append(octets.decode("ascii", errors="replace"))
        else:
            import ssl

            texts.append(ssl.DER_cert_to_PEM_cert(octets))
    return texts


@command.command("verify")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--trust",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Certificates (file or folder) that vouch beside the agent's own.",
)
@click.option(
    "--at",
    "moment",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"]),
    metavar="TIME",
    help="Judge as of then: 2021-01-31 or 2021-01-31T08:00:00Z.",
)
@click.option("--offline", is_flag=True, help="Ask no service: the seal's status is then not checked.")
@click.option("--strict", is_flag=True, help="The 2014/2020 rule for seals.")
@json_option
def verify(
    files: tuple[Path, ...],
    trust: tuple[Path, ...],
    moment: datetime | None,
    offline: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Verify documents, seals (.esl) and bare signatures.

    Exit status 0 when all are valid, 3 when one is not, 1 when one could not be checked.
    """
    brought = _trust(trust)
    reports: list[dict[str, Any]] = []
    with Agent() as agent:
        for file in files:
            try:
                report = agent.verify_document(
                    file,
                    at=moment.replace(tzinfo=UTC) if moment else None,
                    trust=brought,
                    strict=True if strict else None,
                    offline=offline,
                )
            except AgentError as error:
                # One bad file among several does not keep the others from being judged; a lost agent does.
                if len(files) == 1 or not error.problem:
                    raise
                report = {"file": file.name, "verdict": None, "problem": error.problem}
            reports.append(report)
            if not as_json:
                _print(report)
    if as_json:
        print_json(reports[0] if len(reports) == 1 else reports)
    elif len(reports) > 1:
        counted = Counter(report["verdict"] for report in reports)
        click.echo(", ".join(f"{counted[verdict]} {word}" for verdict, word in _counts() if counted[verdict]))
    if any(report["verdict"] not in ("valid", None) for report in reports):
        raise click.exceptions.Exit(Exit.NOT_VALID)
    if any(report["verdict"] is None for report in reports):
        raise click.exceptions.Exit(Exit.FAILURE)


def _print(report: dict[str, Any]) -> None:
    if report["verdict"] is not None:
        print_report(report)
        return
    known = problem(report["problem"]["code"])
    click.echo(f"{clean(report['file'])}: {say('not checked', '未核验')}")
    code, detail = clean(report["problem"]["code"]), clean(report["problem"]["detail"])
    click.echo(f"  ✗ {say(known.title, known.title_zh)} [{code}]: {detail}")


def _counts() -> list[tuple[str | None, str]]:
    verdicts: tuple[str, ...] = ("valid", "invalid", "indeterminate")
    return [*((verdict, verdict_mark(verdict)) for verdict in verdicts), (None, say("not checked", "未核验"))]
