"""What the commands of ``sealagent maker`` share: settings, the operator, the register, the device, a tidy ending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, time, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sealagent.cli.output import clean, print_json, say

if TYPE_CHECKING:
    from sealagent.maker.device import Device, UnitKey
    from sealagent.maker.index import Index, SealRow
    from sealagent.maker.register import Register, Said
    from sealagent.maker.settings import Settings
    from sealagent.pki.trust import TrustStore

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

MAX_INPUT = 16 << 20
"""Octets of a file that is given to a command: more than any picture, certificate or request may have."""

CHINA = timezone(timedelta(hours=8))

operator_option = click.option("--operator", metavar="NAME", help="Who works the maker.  [default: maker.toml's]")
text_option = click.option("--text", default="", help="In words, for the register.")
asked_by_option = click.option(
    "--asked-by", type=click.Choice(["owner", "issuing_department", "unit"]), help="At whose wish."
)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
OUT = click.Path(path_type=Path, dir_okay=False)


def settings() -> Settings:
    """Return what is configured."""
    from sealagent.maker.settings import load_settings

    return load_settings()


def said(
    chosen: Settings, operator: str | None, text: str = "", *, asked_by: str | None = None, reason: str = ""
) -> Said:
    """Return what stands behind a change."""
    from sealagent.maker.register import Said, Who
    from sealagent.maker.states import Asker

    who = Who.here(operator or chosen.operator)
    return Said(who, Asker(asked_by) if asked_by else Asker.UNIT, reason, text)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's work."""
    return asyncio.run(main)


@asynccontextmanager
async def register(chosen: Settings) -> AsyncIterator[Register]:
    """Open the register for a change."""
    from sealagent.clock import system_clock
    from sealagent.maker.register import opened_register

    record = chosen.record
    async with opened_register(chosen.places, system_clock, tree_hash=None, max_bytes=record.max_bytes) as opened:
        yield opened


@asynccontextmanager
async def index(chosen: Settings) -> AsyncIterator[Index]:
    """Open the index for reading, with all that is on record in it."""
    from sealagent.clock import system_clock
    from sealagent.maker.publishing import RegisterView

    view = RegisterView(chosen.places, system_clock)
    try:
        await view.catch_up()
        yield view.index
    finally:
        view.close()


@asynccontextmanager
async def device_and_register(
    chosen: Settings, role: str, purpose: str | None = None
) -> AsyncIterator[tuple[Device, UnitKey, Register]]:
    """Find and unlock the key of a role, then open the register: nobody else waits while a PIN is entered."""
    from sealagent.clock import system_clock
    from sealagent.maker.device import opened_device

    chosen.require_unit()
    async with AsyncExitStack() as stack:
        device = await stack.enter_async_context(opened_device(chosen, system_clock))
        key = await device.key(chosen.role(role))
        await device.unlock(key, purpose)
        yield device, key, await stack.enter_async_context(register(chosen))


def trust(chosen: Settings) -> TrustStore | None:
    """Return the CAs of makers and signers; None: none are configured, and chains are not checked."""
    from sealagent.pki.trust import TrustStore

    return TrustStore.load(chosen.trust.paths) if chosen.trust.paths else None


def octets(file: Path) -> bytes:
    """Read a file that a command is given. :raises click.UsageError: it is too large."""
    with file.open("rb") as stream:
        data = stream.read(MAX_INPUT + 1)
    if len(data) > MAX_INPUT:
        raise click.UsageError(f"{file} has more than {MAX_INPUT} octets")
    return data


def certificates(files: tuple[Path, ...]) -> tuple[bytes, ...]:
    """Read certificate files, PEM or DER; return the certificates, DER."""
    from sealagent.pki.certificates import load_certificates

    return tuple(found.der for file in files for found in load_certificates(octets(file)))


def moment(text: str) -> datetime:
    """Read ``2029-12-31`` (its end, in China's time) or an RFC 3339 time."""
    try:
        if len(text) == 10:
            return datetime.combine(datetime.fromisoformat(text).date(), time(23, 59, 59), CHINA).astimezone(UTC)
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError
        return found.astimezone(UTC).replace(microsecond=0)
    except ValueError:
        raise click.UsageError(f"{text!r} is no date; give 2029-12-31 or 2029-12-31T23:59:59+08:00") from None


def show_seal(row: SealRow, as_json: bool, *next_steps: tuple[str, str]) -> None:
    """Print what became of a seal, and what comes next."""
    if as_json:
        print_json(row.as_json())
        return
    click.echo(f"{clean(row.es_id)}  {clean(row.name)}  {state_word(str(row.state))}  {row.sm3[:16]}")
    for english, chinese in next_steps:
        hint(english, chinese)


def hint(english: str, chinese: str) -> None:
    """Say on standard error what comes next."""
    click.echo(f"{say('next', '下一步')}: {clean(say(english, chinese))}", err=True)


STATES = {
    "made": "已制作",
    "filed": "已备案",
    "valid": "有效",
    "suspended": "已停用",
    "cancelled": "已注销",
    "superseded": "已被取代",
    "lost": "已挂失",
    "invalid": "已标记无效",
}


def state_word(state: str) -> str:
    """Return a state in the language of messages."""
    return say(state, STATES.get(state, state))
