"""``sealagent maker suspend``, ``resume``, ``cancel``, ``lost``, ``invalidate``, ``list``, ``show`` and ``history``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sealagent.cli import maker_parts as parts
from sealagent.cli.output import clean, json_option, print_json, say, table
from sealagent.verdict import timestamp

if TYPE_CHECKING:
    from sealagent.maker.index import SealRow

__all__ = ["cancel", "history", "invalidate", "list_command", "lost", "resume", "show", "suspend"]

# By the command: the change, who usually asks, and what the help says.
_CHANGES = {
    "suspend": ("suspended", "owner", "Suspend SEAL: nothing may be sealed with it until it is resumed."),
    "resume": ("resumed", "owner", "Resume SEAL, which was suspended."),
    "cancel": ("cancelled", None, "Cancel SEAL for good (the Measures, Art. 18)."),
    "lost": ("lost", "owner", "Report the carrier of SEAL lost; a seal that was lost is re-made or cancelled."),
    "invalidate": ("invalidated", "unit", "Mark SEAL invalid: it was made unlawfully, and never was valid."),
}


def _change_command(name: str) -> click.Command:
    """Make the command of one change; its reasons and askers come from the register's table."""
    from sealagent.maker.states import RULES, Change

    change_name, usual_asker, purpose = _CHANGES[name]
    change = Change(change_name)
    rule = RULES[change]
    asking: dict[str, Any] = {"default": usual_asker, "show_default": True} if usual_asker else {"required": True}
    askers = sorted(str(each) for each in rule.askers)
    listed = "".join(f"  {code}: {say(*texts)}\n\n" for code, texts in rule.reasons.items())

    @click.command(name, help=f"{purpose}\n\nReasons:\n\n{listed}")
    @click.argument("seal")
    @click.option("--reason", type=click.Choice(list(rule.reasons)), required=True, help="See above.")
    @click.option("--asked-by", type=click.Choice(askers), help="At whose wish.", **asking)
    @parts.text_option
    @parts.operator_option
    @json_option
    def command(seal: str, reason: str, asked_by: str, text: str, operator: str | None, as_json: bool) -> None:
        chosen = parts.settings()

        async def work() -> SealRow:
            said = parts.said(chosen, operator, text, asked_by=asked_by, reason=reason)
            async with parts.register(chosen) as register:
                return await register.change(seal, change, said)

        parts.show_seal(parts.run(work()), as_json)

    return command


suspend, resume, cancel, lost, invalidate = (_change_command(name) for name in _CHANGES)


@click.command("list")
@click.option("--state", type=click.Choice([*parts.STATES, "open", "rejected"]), help="Only those in this state.")
@click.option("--applications", is_flag=True, help="Applications instead of seals.")
@click.option("--after", type=click.IntRange(0), default=0, help="Only entries with a number over this.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@json_option
def list_command(state: str | None, applications: bool, after: int, limit: int, as_json: bool) -> None:
    """List seals, in the order in which they were made, or applications."""
    chosen = parts.settings()

    async def work() -> list[Any]:
        async with parts.index(chosen) as index:
            list_them: Callable[..., list[Any]] = index.applications if applications else index.seals
            return list_them(state=state, after=after, limit=limit)

    rows = parts.run(work())
    if as_json:
        print_json([row.as_json() for row in rows])
    elif applications:
        table(
            ("NUMBER", "STATE", "APPLICANT", "CREDIT CODE", "SEAL"),
            [(row.number, row.state, row.applicant, row.credit_code, row.name) for row in rows],
        )
    else:
        table(
            ("ESID", "STATE", "SINCE", "NAME", "OWNER", "VALID UNTIL", "SM3"),
            [
                (
                    row.es_id,
                    parts.state_word(str(row.state)),
                    timestamp(row.since),
                    row.name,
                    row.owner,
                    row.valid_until,
                    row.sm3[:16],
                )
                for row in rows
            ],
        )
    if len(rows) == limit:
        last = rows[-1].number if applications else rows[-1].made
        parts.hint(f"there may be more: --after {last}", f"可能还有更多：--after {last}")


@click.command("show")
@click.argument("seal")
@click.option("--application", is_flag=True, help="SEAL is the number of an application.")
@json_option
def show(seal: str, application: bool, as_json: bool) -> None:
    """Show SEAL with its filing record, or an application."""
    from sealagent.clock import system_clock
    from sealagent.errors import SealAgentError
    from sealagent.maker.publishing import RegisterView
    from sealagent.maker.register import only_seal

    chosen = parts.settings()

    async def work() -> dict[str, Any]:
        view = RegisterView(chosen.places, system_clock)
        try:
            await view.catch_up()
            if not application:
                row = only_seal(view.index, seal)
                return {**row.as_json(), "record": view.record.entry(row.made).body["seal"]}
            found = view.index.application(int(seal)) if seal.isdecimal() else None
            if found is None:
                raise SealAgentError("application_unknown", f"the register has no application {seal[:40]!r}")
            return {**found.as_json(), "record": view.record.entry(found.number).body["application"]}
        finally:
            view.close()

    shown = parts.run(work())
    if as_json:
        print_json(shown)
        return
    _show(shown)


def _show(value: dict[str, Any], indent: str = "") -> None:
    for name, item in value.items():
        if isinstance(item, dict):
            click.echo(f"{indent}{name}:")
            _show(item, indent + "  ")
        elif isinstance(item, list):
            click.echo(f"{indent}{name}: {clean(', '.join(_plain(each) for each in item))}")
        elif item not in ("", None):
            click.echo(f"{indent}{name}: {clean(item)}")


def _plain(item: object) -> str:
    return " ".join(str(value) for value in item.values()) if isinstance(item, dict) else str(item)


@click.command("history")
@click.argument("seal")
@json_option
def history(seal: str, as_json: bool) -> None:
    """Show the states of SEAL, with who changed them, at whose wish and why."""
    from sealagent.clock import system_clock
    from sealagent.maker.publishing import RegisterView
    from sealagent.maker.register import only_seal

    chosen = parts.settings()

    async def work() -> list[dict[str, Any]]:
        view = RegisterView(chosen.places, system_clock)
        try:
            await view.catch_up()
            found = []
            for change, number in view.index.history(only_seal(view.index, seal).sm3):
                body: Any = view.record.entry(number).body
                found.append(
                    {
                        "state": str(change.state),
                        "since": timestamp(change.since),
                        "reason": change.reason,
                        "asked_by": body["asked_by"],
                        "operator": body["who"]["operator"],
                        "uid": body["who"]["uid"],
                        "text": body["text"],
                        "entry": number,
                    }
                )
            return found
        finally:
            view.close()

    changes = parts.run(work())
    if as_json:
        print_json(changes)
        return
    columns = ("since", "state", "reason", "asked_by", "operator", "text", "entry")
    table(
        ("SINCE", "STATE", "REASON", "ASKED BY", "OPERATOR", "TEXT", "ENTRY"),
        [[parts.state_word(each[name]) if name == "state" else each[name] for name in columns] for each in changes],
    )
