"""``sealagent maker export``, ``checkpoint``, ``verify``, ``status-list``, ``trust-list`` and ``serve``."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import click

from sealagent.catalog import Exit
from sealagent.cli import maker_parts as parts
from sealagent.cli.output import clean, json_option, print_json, say

__all__ = ["checkpoint", "export", "serve", "status_list", "trust_list", "verify"]


@click.command("export")
@click.option("-o", "--out", type=click.File("wb", lazy=True), required=True, help="Where to write (JSON lines).")
def export(out: IO[bytes]) -> None:
    """Write the whole register to a file that anybody can check: `sealagent record verify FILE`."""
    chosen = parts.settings()

    async def work() -> None:
        async with parts.register(chosen) as register:
            register.ledger.export(out)  # type: ignore[arg-type]

    parts.run(work())


@click.command("checkpoint")
def checkpoint() -> None:
    """Print size and root, to be kept elsewhere: with it a later cut of the register shows."""
    chosen = parts.settings()

    async def work() -> str:
        async with parts.register(chosen) as register:
            return register.ledger.head().checkpoint()

    click.echo(parts.run(work()), nl=False)


@click.command("verify")
@click.argument("file", type=parts.FILE, required=False)
@click.option("--checkpoint", "kept", type=parts.FILE, help="An earlier checkpoint.")
@json_option
@click.pass_context
def verify(context: click.Context, file: Path | None, kept: Path | None, as_json: bool) -> None:
    """Check every entry of the register, and that the index says what the entries say; or check an export (FILE).

    Exit status 3 when something is wrong.
    """
    if file is not None:
        from sealagent.cli.record import verify as verify_export

        context.invoke(verify_export, file=file, kept=kept, as_json=as_json)
        return
    from sealagent.records.tree import MAX_CHECKPOINT, parse_checkpoint

    chosen = parts.settings()
    earlier = None
    if kept is not None:
        earlier = parse_checkpoint(kept.read_bytes()[:MAX_CHECKPOINT].decode("utf-8", "replace"))

    async def work() -> dict[str, Any]:
        async with parts.register(chosen) as register:
            report = register.ledger.verify(earlier)
            fault = None
            if report.fault is not None:
                fault = f"entry {report.fault.number}: {report.fault.code}: {report.fault.detail}"
            elif (table := register.index_matches()) is not None:
                fault = f"index: {table} is not what the entries say"
            return {"ok": fault is None, "entries": report.size, "checkpoint": report.checkpoint, "fault": fault}

    found = parts.run(work())
    if as_json:
        print_json(found)
    elif found["ok"]:
        click.echo(say(f"ok: {found['entries']} entries", f"完好：{found['entries']} 条"))
    else:
        click.echo(f"{say('DAMAGED', '已损坏')}: {clean(found['fault'])}")
    if not found["ok"]:
        raise click.exceptions.Exit(Exit.NOT_VALID)


@click.command("status-list")
@click.option("-o", "--out", type=parts.OUT, required=True, help="Where to write the signed list (DER).")
@parts.text_option
@parts.operator_option
@json_option
def status_list(out: Path, text: str, operator: str | None, as_json: bool) -> None:
    """Sign the list of all seals with their states, for networks where nobody can be asked."""
    from sealagent.maker.publishing import publish_list, published_list

    chosen = parts.settings()

    async def work() -> bytes:
        said = parts.said(chosen, operator, text)
        async with parts.device_and_register(chosen, "status") as (device, key, register):
            return await publish_list(
                register,
                device,
                key,
                said,
                list_id=chosen.list_id,
                unit=chosen.unit,
                seconds=chosen.status.list_seconds,
            )

    out.write_bytes(parts.run(work()))
    latest = published_list(chosen.places)
    sequence = latest[0].sequence if latest else 0
    if as_json:
        print_json({"list": chosen.list_id, "sequence": sequence, "file": str(out)})
    else:
        click.echo(say(f"{chosen.list_id}, sequence {sequence}", f"{chosen.list_id}，序号 {sequence}"))


@click.command("trust-list")
@click.argument("description", type=parts.FILE)
@click.option("-o", "--out", type=parts.OUT, required=True, help="Where to write the signed list (DER).")
@parts.text_option
@parts.operator_option
@json_option
def trust_list(description: Path, out: Path, text: str, operator: str | None, as_json: bool) -> None:
    """Sign the trust list that DESCRIPTION (TOML) describes; each run gives it the next sequence.

    \b
    list = "beijing"
    days = 90
    status_urls = ["https://seals.example.cn"]
    next_signers = ["next-year.pem"]     # may sign the next version beside today's signer
    [[entry]]
    certificate = "maker.pem"            # relative to this file
    roles = ["maker", "status"]          # maker, ca, status, tsa
    class = "e-government"               # e-government, commercial, internal
    [[entry]]
    certificate = "ca.pem"
    roles = ["ca"]
    class = "commercial"
    state = "withdrawn"                  # recognised, unless it says so
    since = 2026-07-01T00:00:00Z
    ocsp = ["http://ocsp.example.cn"]
    crls = ["http://ca.example.cn/ca.crl"]
    """
    from sealagent.maker.trustlists import publish_trust_list, read_description

    chosen = parts.settings()
    described = read_description(description)

    async def work() -> tuple[int, bytes]:
        said = parts.said(chosen, operator, text)
        async with parts.device_and_register(chosen, "trust_list") as (device, key, register):
            return await publish_trust_list(
                register,
                device,
                key,
                said,
                described,
                description.parent,
                unit=chosen.unit,
                region=chosen.region,
                region_name=chosen.region_name,
            )

    sequence, message = parts.run(work())
    out.write_bytes(message)
    if as_json:
        print_json({"list": described.list, "sequence": sequence, "file": str(out)})
    else:
        click.echo(say(f"{described.list}, sequence {sequence}", f"{described.list}，序号 {sequence}"))
        parts.hint(f"sealagent trust add {out}", f"sealagent trust add {out}")


@click.command("serve")
@click.option("--listen", metavar="HOST:PORT", help="[default: maker.toml's; port 0: any that is free]")
def serve(listen: str | None) -> None:
    """Answer whoever asks for the state of a seal, until SIGTERM or Ctrl-C.

    The token of the status key is unlocked once, at the start. Other commands go on changing the register meanwhile.
    """
    from sealagent.maker.service import run
    from sealagent.maker.settings import load_settings

    chosen = load_settings(None, {"status": {"listen": listen}} if listen else None)
    run(chosen, lambda host, port: click.echo(f"ready: http://{host}:{port}", err=True))
