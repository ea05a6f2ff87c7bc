"""``sealagent record``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import click

from sealagent.catalog import Exit
from sealagent.cli.output import clean, json_option, print_json, say, table, text_width
from sealagent.cli.record_text import explain_entry
from sealagent.client import Agent

OUTCOME_NEAR = 1000
"""Entries after an intent among which its outcome is looked for."""


@click.group("record")
def command() -> None:
    """The record of every signature and refusal.

    \b
    sealagent record list
    sealagent record show 17                 # explains one entry
    sealagent record export -o record.jsonl
    sealagent record verify record.jsonl     # needs no agent, no token, no network
    """


def _what(entry: dict[str, Any]) -> str:
    body = entry["body"]
    named = next((name for part in ("document", "seal", "batch") if (name := _named(body.get(part)))), "")
    parts = [body.get("operation", ""), named, body.get("reason", "")]
    if "intent" in body:
        parts.insert(0, f"of {body['intent']}")
    return " ".join(part for part in parts if part)


def _named(part: Any) -> str:
    """Return the name of a part of an entry, which is it itself or a member of it."""
    return str(part.get("name") or "") if isinstance(part, dict) else part if isinstance(part, str) else ""


@command.command("list")
@click.option("--after", default=0, help="Entries after this number.")
@click.option("--limit", default=100, help="At most this many.", type=click.IntRange(1, 1000))
@json_option
def list_records(after: int, limit: int, as_json: bool) -> None:
    """List entries, oldest first."""
    with Agent() as agent:
        answer = agent.records(after, limit)
    if as_json:
        print_json(answer)
        return
    table(
        ("NUMBER", "TIME", "KIND", "WHAT", "HASH"),
        [
            (entry["number"], entry["time"], entry["kind"], _what(entry), entry["hash"][:16])
            for entry in answer["records"]
        ],
    )


@command.command("show")
@click.argument("number", type=int)
@json_option
def show(number: int, as_json: bool) -> None:
    """Explain one entry: when, who, what, with which seal, why it was allowed, and what came of it."""
    with Agent() as agent:
        entry = agent.record(number)
        other = None if as_json else _other_half(agent, entry)
    if as_json:
        print_json(entry)
        return
    lines = list(explain_entry(entry, other))
    width = max(text_width(label) for label, _ in lines)
    for label, text in lines:
        click.echo(f"{label}{' ' * (width - text_width(label))}  {text}")


def _other_half(agent: Agent, entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return the intent of an outcome, or the outcome of an intent as far as it is near."""
    if "intent" in entry["body"]:
        return agent.record(entry["body"]["intent"])
    if entry["kind"] != "intent":
        return None
    near = agent.records(entry["number"], OUTCOME_NEAR)["records"]
    return next((later for later in near if later["body"].get("intent") == entry["number"]), None)


@command.command("export")
@click.option("-o", "--out", type=click.File("wb", lazy=True), required=True, help="Where to write (JSON lines).")
def export(out: IO[bytes]) -> None:
    """Write the whole record to a file that anybody can check."""
    with Agent() as agent:
        for chunk in agent.export_record():
            out.write(chunk)


@command.command("evidence")
@click.argument("sha256")
@click.option("-o", "--out", type=click.File("wb", lazy=True), required=True, help="Where to write it.")
def evidence(sha256: str, out: IO[bytes]) -> None:
    """Write what a service answered about a seal or certificate, by the SHA-256 that a record names."""
    with Agent() as agent:
        octets = agent.evidence(sha256)
    out.write(octets)


@command.command("checkpoint")
def checkpoint() -> None:
    """Print size and root, to be kept elsewhere: with it a later cut of the record shows."""
    with Agent() as agent:
        click.echo(agent.checkpoint()["text"], nl=False)


@command.command("verify")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--checkpoint", "kept", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="An earlier checkpoint."
)
@json_option
def verify(file: Path, kept: Path | None, as_json: bool) -> None:
    """Check an export: each entry, the chain, the tree; exit status 3 when something is wrong."""
    from sealagent.records.check import check_export, read_lines
    from sealagent.records.tree import MAX_CHECKPOINT, parse_checkpoint

    checkpoint = None
    if kept is not None:
        with kept.open("rb") as text:
            checkpoint = parse_checkpoint(text.read(MAX_CHECKPOINT).decode("utf-8", "replace"))
    with file.open("rb") as export:
        report = check_export(read_lines(export), checkpoint)
    root = report.head.root.hex() if report.head else None
    if as_json:
        fault = report.fault
        print_json(
            {
                "ok": report.ok,
                "size": report.size,
                "root": root,
                "open_intents": list(report.open_intents),
                "checkpoint": report.checkpoint,
                "fault": asdict(fault) if fault else None,
            }
        )
    elif report.fault is None:
        click.echo(say(f"ok: {report.size} entries, root {root}", f"完好：{report.size} 条，根 {root}"))
        for number in report.open_intents:
            note = f"note: intent {number} has no outcome: the agent was working on it, or was interrupted"
            click.echo(say(note, f"提示：意图 {number} 没有结果：当时代理正在处理，或被中断"))
    else:
        where = say(f"DAMAGED at entry {report.fault.number}", f"已损坏，位于第 {report.fault.number} 条")
        click.echo(f"{where}: {report.fault.code}: {clean(report.fault.detail)}")
    if report.fault is not None:
        raise click.exceptions.Exit(Exit.NOT_VALID)
