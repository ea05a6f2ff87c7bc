"""``sealagent document``: seal and verify."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
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
@click.option("--seal", "name", help="The seal: id, esID or name.")
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
@click.option("--resume", "batch", metavar="BATCH", help="Go on with a batch; the files are known by their content.")
@click.option("--stop-on-error", is_flag=True, help="Of several files, none after one that cannot be sealed.")
@json_option
def seal(
    files: tuple[Path, ...],
    name: str | None,
    positions: list[dict[str, Any]],
    ride: str | None,
    unseen: bool,
    close: bool,
    out: Path | None,
    force: bool,
    batch: str | None,
    stop_on_error: bool,
    as_json: bool,
) -> None:
    """Seal OFD files.

    Several files are a batch: you agree to the list once and enter the PIN once. A file that cannot be sealed does not
    keep the others from it (exit status 1 then); the first PIN that fails stops it. What is left, after that, after the
    key was unplugged or the agent ended, is sealed with --resume BATCH and the same files.
    """
    places = positions + ([riding(ride)] if ride else []) + ([invisible()] if unseen else [])
    if batch is not None and (name or places or close or out):
        raise click.UsageError("--resume: seal and places are those of the batch; give the files only")
    if batch is None and not name:
        raise click.UsageError("name the seal: --seal")
    if batch is None and not places:
        raise click.UsageError("say where the seal goes: --at PAGE,X,Y, --riding or --invisible")
    if out is not None and len(files) > 1:
        raise click.UsageError("--out goes with one file")
    targets = [out or file.with_name(f"{file.stem}-sealed{file.suffix}") for file in files]
    _check_targets(targets, force or batch is not None)
    if batch is not None or len(files) > 1:
        _seal_many(files, targets, batch, name or "", places, close, stop_on_error, as_json, force)
        return
    with Agent() as agent:
        sealed = agent.seal_document(files[0], seal=name or "", placements=places, close=close)
    _write(targets[0], sealed.document)
    if as_json:
        print_json([{"file": str(targets[0]), **sealed.receipt}])
        return
    recorded = say(f"record {sealed.receipt['record']}", f"记录 {sealed.receipt['record']}")
    click.echo(f"{clean(targets[0])}  ({recorded})")


def _seal_many(
    files: Sequence[Path],
    targets: Sequence[Path],
    batch: str | None,
    name: str,
    places: list[dict[str, Any]],
    close: bool,
    stop_on_error: bool,
    as_json: bool,
    force: bool,
) -> None:
    from sealagent.cli import many  # of use only here

    outcome = many.Outcome()
    try:
        with Agent() as agent:
            if batch is None:
                pieces = many.listed(files, targets, name)
                batch = str(agent.make_batch(files, seal=name, placements=places, close=close)["id"])
            else:
                pieces = many.resumed(agent, batch, files, targets)
                if not force and (there := [piece for piece in pieces if piece.unexpected]):
                    raise click.UsageError(f"{there[0].target} exists; use --force")
            many.seal_all(agent, batch, pieces, _write, outcome, stop_on_error=stop_on_error, quiet=as_json)
    finally:
        if as_json:  # what was sealed before a fault is on record and in its file
            print_json([*outcome.sealed, *outcome.failed])
    many.conclude(outcome, batch, quiet=as_json)


def _check_targets(targets: Sequence[Path], force: bool) -> None:
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
