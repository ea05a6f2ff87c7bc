"""``sealagent seal``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import click

from sealagent.cli.output import clean, json_option, print_json, say, table, usable, verdict_mark
from sealagent.client import Agent


@click.group("seal")
def command() -> None:
    """Seals, and whether they can be used now.

    \b
    sealagent seal list
    sealagent seal import my.esl            # into the local store
    sealagent seal import my.esl --token T  # onto the token
    """


@command.command("list")
@json_option
def list_seals(as_json: bool) -> None:
    """List the seals in the store and on plugged-in tokens."""
    with Agent() as agent:
        answer = agent.seals()
    if as_json:
        print_json(answer)
        return
    from sealagent.cli.report import STATES

    table(
        ("ID", "NAME", "CLASS", "VALID UNTIL", "DAYS", "WHERE", "STATUS", "USABLE NOW"),
        [
            (
                seal["id"],
                seal["name"],
                _class(seal),
                seal["valid_until"],
                seal["days_left"],
                seal["source"],
                say(*STATES.get(seal["status"], (seal["status"],) * 2)),
                usable(seal),
            )
            for seal in answer["seals"]
        ],
    )
    for fault in answer["faults"]:
        click.echo(f"warning: {clean(fault)}", err=True)


@command.command("show")
@click.argument("seal")
@json_option
def show(seal: str, as_json: bool) -> None:
    """Show a seal and why it can, or cannot, be used now."""
    with Agent() as agent:
        found = agent.seal(seal)
    if as_json:
        print_json(found)
        return
    from sealagent.cli.report import explain_reason

    click.echo(f"{clean(found['name'])}  ({clean(found['es_id'])}, version {found['version']})")
    click.echo(f"valid {found['valid_from']} to {found['valid_until']} ({found['days_left']} days left)")
    picture = found["picture"]
    click.echo(f"picture {clean(picture['type'])}, {picture['width']} × {picture['height']} mm")
    if found["maker"]:
        click.echo(f"maker {clean(found['maker']['subject'])}")
    _print_standing(found)
    click.echo(f"verdict: {verdict_mark(found['verdict'])}; usable now: {usable(found)}")
    for reason in found["reasons"]:
        click.echo(f"  ✗ {explain_reason(reason)}")
    for note in found["notes"]:
        click.echo(f"  note {note['code']}: {clean(note['detail'])}")


_CLASSES = {
    "e-government": ("e-government", "电子政务"),
    "commercial": ("commercial", "商业"),
    "internal": ("INTERNAL 内部", "内部"),  # for a unit's own use: it must not look like another seal
}


def _class(seal: Mapping[str, Any]) -> str:
    """Return the class of who vouches for the seal's maker, in a word."""
    name = (seal["trust"] or {}).get("class", "")
    return say(*_CLASSES[name]) if name in _CLASSES else clean(name)


def _print_standing(seal: Mapping[str, Any]) -> None:
    """Print who vouches for the maker, and what the status service says."""
    from sealagent.cli.report import STATES, trust_class

    trust = seal["trust"]
    if trust is not None and trust.get("unit"):
        region = f"{trust['region']} {trust['region_name']}".strip()
        mark = f"{_class(seal)}: " if trust["class"] == "internal" else ""
        known = clean(f"{mark}{trust['unit']}, {region}, {trust_class(trust['class'])}")
        click.echo(f"{say('vouched for by', '认可单位')} {known}")
    click.echo(f"{say('seal status', '印章状态')}: {clean(say(*STATES.get(seal['status'], (seal['status'],) * 2)))}")


@command.command("image")
@click.argument("seal")
@click.option("-o", "--out", type=click.File("wb", lazy=True), required=True, help="Where to write the picture.")
def image(seal: str, out: IO[bytes]) -> None:
    """Write a seal's picture to a file."""
    with Agent() as agent:
        out.write(agent.seal_image(seal))


@command.command("export")
@click.argument("seal")
@click.option("-o", "--out", type=click.File("wb", lazy=True), required=True, help="Where to write the seal (.esl).")
def export(seal: str, out: IO[bytes]) -> None:
    """Write the seal itself (.esl) to a file."""
    with Agent() as agent:
        out.write(agent.seal_file(seal))


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--token", help="Write it to this token instead of the local store.")
@json_option
def import_seal(file: Path, token: str | None, as_json: bool) -> None:
    """Import a seal (.esl)."""
    with Agent() as agent:
        seal = agent.import_seal(file.read_bytes(), token)
    if as_json:
        print_json(seal)
    else:
        click.echo(f"{seal['id']}  {clean(seal['name'])}  usable now: {usable(seal)}")


@command.command("remove")
@click.argument("seal")
def remove(seal: str) -> None:
    """Remove a seal from the local store."""
    with Agent() as agent:
        agent.remove_seal(seal)
