"""``sealagent batch``: lists that were agreed to once, and how far they are."""

from __future__ import annotations

from typing import Any

import click

from sealagent.cli.many import how_to_go_on
from sealagent.cli.output import clean, json_option, print_json, say, table
from sealagent.client import Agent

STATES = {
    "waiting": "等待同意",
    "approved": "已同意",
    "running": "进行中",
    "paused": "已暂停",
    "stopped": "已停止",
    "done": "完成",
    "cancelled": "已取消",
    "refused": "被拒绝",
    "expired": "已过期",
}


@click.group("batch")
def command() -> None:
    """Batches: a list that the holder agreed to once, sealed with one PIN.

    \b
    sealagent document seal *.ofd --seal NAME --riding         # makes one
    sealagent batch list
    sealagent batch show ID                                    # every document, and what became of it
    sealagent document seal --resume ID *.ofd                  # after the key was unplugged, a crash, a wrong PIN
    """


def _state(batch: dict[str, Any]) -> str:
    word = say(batch["state"], STATES.get(batch["state"], batch["state"]))
    return f"{word} ({batch['reason']})" if batch["reason"] else word


def _who(batch: dict[str, Any]) -> str:
    return str(batch["application"] or batch["program"] or "")


@command.command("list")
@json_option
def list_batches(as_json: bool) -> None:
    """List batches, newest first."""
    with Agent() as agent:
        found = agent.batches()
    if as_json:
        print_json(found)
        return
    table(
        ("ID", "CREATED", "STATE", "SIGNED", "FAILED", "TOTAL", "FOR"),
        [
            (each["id"], each["created"], _state(each), each["signed"], each["failed"], each["total"], _who(each))
            for each in found
        ],
    )


@command.command("show")
@click.argument("batch")
@json_option
def show(batch: str, as_json: bool) -> None:
    """Show a batch and every item of it."""
    with Agent() as agent:
        found = agent.batch(batch, limit=0)
        items = list(agent.batch_items(batch))
    if as_json:
        print_json({**found, "items": items, "next": None})
        return
    signed = say(
        f"{found['signed']} of {found['total']} signed, {found['failed']} failed",
        f"共 {found['total']} 项，已签 {found['signed']} 项，失败 {found['failed']} 项",
    )
    click.echo(f"{clean(found['id'])}: {clean(_state(found))}; {signed}")
    click.echo(f"{say('asked by', '发起')}: {clean(_who(found))}")
    click.echo(f"{say('until', '有效期至')}: {clean(found['expires'])}")
    rows = [
        (item["number"], item["name"], item["digest"][:16], item["state"], item["record"] or item["code"] or "")
        for item in items
    ]
    table(("ITEM", "NAME", "DIGEST", "STATE", "RECORD"), rows)


@command.command("cancel")
@click.argument("batch")
def cancel(batch: str) -> None:
    """Let nothing more of a batch be signed; what is signed stays so."""
    with Agent() as agent:
        ended = agent.cancel_batch(batch)
    click.echo(f"{clean(ended['id'])}: {clean(_state(ended))}")


@command.command("resume")
@click.argument("batch")
def resume(batch: str) -> None:
    """Let a batch go on: one of digests is signed to its end, documents are sealed with `document seal --resume`."""
    with Agent() as agent:
        found = agent.resume_batch(batch)
        if found["kind"] == "digests":
            found = agent.run_batch(batch)
    click.echo(f"{clean(found['id'])}: {clean(_state(found))}, {found['signed']}/{found['total']}")
    if found["kind"] == "documents":
        how_to_go_on(batch)
    elif found["state"] != "done":
        raise click.exceptions.Exit(1)
