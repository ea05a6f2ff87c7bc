"""``sealagent document``: seal and verify."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sealagent.catalog import Exit
from sealagent.cli.output import chinese, clean, json_option, print_json, verdict_mark
from sealagent.client import Agent, at, invisible, riding

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
    "--at", "positions", multiple=True, callback=_position, metavar="PAGE,X,Y", help="Place, mm from top left."
)
@click.option(
    "--riding", "ride", type=click.Choice(["right", "left"]), is_flag=False, flag_value="right", help="骑缝章."
)
@click.option("--invisible", "unseen", is_flag=True, help="No picture.")
@click.option("--close", is_flag=True, help="Forbid later signatures.")
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
    """Seal OFD files; the agent asks for the PIN once."""
    places = positions + ([riding(ride)] if ride else []) + ([invisible()] if unseen else [])
    if not places:
        raise click.UsageError("say where the seal goes: --at PAGE,X,Y, --riding or --invisible")
    if out is not None and len(files) > 1:
        raise click.UsageError("--out goes with one file")
    targets = [out or file.with_name(f"{file.stem}-sealed{file.suffix}") for file in files]
    for target in targets:
        if target.exists() and not force:
            raise click.UsageError(f"{target} exists; use --force or --out")
    receipts = []
    with Agent() as agent:
        for number, (file, target) in enumerate(zip(files, targets, strict=True), 1):
            sealed = agent.seal_document(file, seal=name, placements=places, close=close)
            _write(target, sealed.document)
            receipts.append({"file": str(target), **sealed.receipt})
            if not as_json:
                count = f"[{number}/{len(files)}] " if len(files) > 1 else ""
                click.echo(f"{count}{target}  (record {sealed.receipt['record']})")
    if as_json:
        print_json(receipts)


def _write(target: Path, octets: bytes) -> None:
    """Write whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
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
@click.option("--trust", type=click.Path(path_type=Path, exists=True), multiple=True, help="Certificates that vouch.")
@click.option("--at", "moment", type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"]), help="Judge as of (UTC).")
@click.option("--offline", is_flag=True, help="Ask no service (none is asked in this version).")
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
    """Verify documents, seals (.esl) and bare signatures; exit status 3 when one is not valid."""
    brought = _trust(trust)
    reports = []
    with Agent() as agent:
        for file in files:
            reports.append(
                agent.verify_document(
                    file,
                    at=moment.replace(tzinfo=UTC) if moment else None,
                    trust=brought,
                    strict=True if strict else None,
                )
            )
            if not as_json:
                _print_report(reports[-1])
    if as_json:
        print_json(reports[0] if len(reports) == 1 else reports)
    if any(report["verdict"] != "valid" for report in reports):
        raise click.exceptions.Exit(Exit.NOT_VALID)


def _print_report(report: dict[str, Any]) -> None:
    from sealagent.verdict import REASONS

    def explain(reason: dict[str, str]) -> str:
        spec = REASONS[reason["code"]]
        detail = f": {clean(reason['detail'])}" if reason["detail"] else ""
        return f"{spec.zh if chinese() else spec.en} [{reason['code']}]{detail}"

    click.echo(f"{clean(report['file'])}: {verdict_mark(report['verdict'])}")
    for reason in report["reasons"]:
        click.echo(f"  ✗ {explain(reason)}")
    for item in report["signatures"]:
        named = item["seal"]["name"] if item["seal"] else item["kind"]
        signer = item["signer"]["subject"] if item["signer"] else "unknown signer"
        when = item["signed_at"] or "at an unknown time"
        click.echo(f"  signature {clean(item['id'])}: {verdict_mark(item['verdict'])}  {clean(named)}, {when}")
        click.echo(f"    signer {clean(signer)}")
        for reason in item["reasons"]:
            click.echo(f"    ✗ {explain(reason)}")
        for note in item["notes"]:
            click.echo(f"    note {note['code']}: {clean(note['detail'])}")
