"""``sealagent maker init``: from nothing to a maker that can make seals, step by step."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sealagent.catalog import Exit
from sealagent.cli import maker_parts as parts
from sealagent.cli.output import clean, json_option, print_json, say

if TYPE_CHECKING:
    from sealagent.maker.device import Device, UnitKey
    from sealagent.maker.settings import Settings

__all__ = ["init"]


@dataclass
class _Steps:
    """What was looked at, and how it is."""

    quiet: bool
    steps: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, ok: bool, detail: str, names: tuple[str, str]) -> None:
        self.steps.append({"step": name, "ok": ok, "detail": detail})
        if not self.quiet:
            mark = "✓" if ok else "✗"
            click.echo(f"{mark} {say(*names)}: {clean(detail)}")


@click.command("init")
@click.option("--unit", help="Name of the production-management unit.")
@click.option("--region", help="Its administrative-division code, six digits.")
@click.option("--region-name", help="The division's name.")
@click.option("--vendor", help="Identifies the maker's software in each seal (header.Vid, ASCII).")
@click.option("--operator", metavar="NAME", help="Who works the maker.")
@click.option("--module", type=click.Path(path_type=Path), help="Driver library to load.")
@click.option("--driver", type=click.Choice(["pkcs11", "skf"]), help="What kind of library it is.  [default: pkcs11]")
@click.option("--sm2-profile", help="SM2 numbers of a PKCS#11 module: an entry of the vendor table.")
@click.option("--pin-file", type=click.Path(path_type=Path), help="Read PINs from this file (mode 0600).")
@click.option("--key", help="The maker's key: pkcs11:… or skf:….  [default: the only one there is]")
@click.option("--certificate", type=parts.FILE, help="Its certificate.  [default: the one on the token]")
@click.option("--status-key", help="The key that signs status answers.  [default: the maker's]")
@click.option("--trust", type=click.Path(path_type=Path, exists=True), multiple=True, help="CAs of makers and signers.")
@click.option("-o", "--out", type=parts.OUT, help="Configuration file to write.  [default: the user's maker.toml]")
@json_option
def init(out: Path | None, as_json: bool, **options: Any) -> None:
    """Check token, key and certificate, write maker.toml if there is none, and begin the register.

    What is missing is asked for on a terminal. Run again, it checks what is configured and changes nothing.
    """
    from sealagent.maker.settings import config_files, load_settings

    there = [file for file in config_files() if file.is_file()]
    target = out or config_files()[-1]
    given = {name: value for name, value in options.items() if value}
    steps = _Steps(quiet=as_json)
    if there and (given or out is not None):
        raise click.UsageError(f"{there[-1]} is there already: edit it, then run `sealagent maker init` alone")
    if there:
        chosen = load_settings()
        steps.add("configuration", True, ", ".join(str(file) for file in there), ("configuration", "配置"))
    else:
        _ask_for_missing(given)
        chosen = load_settings([], _values(given))
    key = parts.run(_look(chosen, steps))
    if not there and key is not None:
        values = _values(given)
        values.setdefault("maker", {})["key"] = key.info.uri
        chosen = load_settings([], values)
        _write(target, values)
        steps.add("configuration", True, f"written to {target}", ("configuration", "配置"))
    if all(step["ok"] for step in steps.steps) and key is not None:
        entries = parts.run(_begin(chosen, key, given.get("operator")))
        steps.add("register", True, f"{chosen.places.record} ({entries})", ("register", "登记簿"))
    good = all(step["ok"] for step in steps.steps)
    if as_json:
        print_json({"ok": good, "steps": steps.steps, "config": str(there[-1] if there else target)})
    elif good:
        command = "sealagent maker apply --applicant … --credit-code … --approval … --name … --request …"
        parts.hint(command, command)
    if not good:
        raise click.exceptions.Exit(Exit.FAILURE)


def _ask_for_missing(given: dict[str, Any]) -> None:
    """Ask on a terminal for what cannot be guessed. :raises click.UsageError: there is none."""
    needed = {"unit": ("Name of the unit", "制作管理单位名称"), "region": ("Division code", "行政区划代码")}
    for name, words in needed.items():
        if given.get(name):
            continue
        if not sys.stdin.isatty():
            raise click.UsageError(f"give --{name}")
        given[name] = click.prompt(say(*words), err=True)


def _values(given: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration that the options stand for, nested as in maker.toml."""
    plain = ("unit", "region", "region_name", "vendor", "operator")
    values: dict[str, Any] = {name: given[name] for name in plain if name in given}
    if "module" in given:
        module = {"path": str(given["module"].absolute())}
        module |= {name: given[name] for name in ("driver", "sm2_profile") if name in given}
        values["modules"] = [module]
    if "pin_file" in given:
        values["pin"] = {"source": "file", "file": str(given["pin_file"].absolute())}
    maker = {"key": given["key"]} if "key" in given else {}
    if "certificate" in given:
        maker["certificate"] = str(given["certificate"].absolute())
    if maker:
        values["maker"] = maker
    if "status_key" in given:
        values["status"] = {"key": given["status_key"]}
    if "trust" in given:
        values["trust"] = {"paths": [str(path.absolute()) for path in given["trust"]]}
    return values


async def _look(chosen: Settings, steps: _Steps) -> UnitKey | None:
    """Look at tokens, key and certificate; return the maker's key if it can be used."""
    from sealagent.clock import system_clock
    from sealagent.maker.device import opened_device

    async with opened_device(chosen, system_clock) as device:
        for fault in device.refused:
            steps.add("module", False, fault, ("module", "驱动"))
        tokens = await device.listing()
        for token, contents in tokens:
            software = say(" (software: test only)", "（软件介质，仅供测试）") if token.software else ""
            readable = not isinstance(contents, Exception)
            detail = f"{token.label} ({token.serial}){software}" + ("" if readable else f": {contents}")
            steps.add("token", readable, detail, ("token", "介质"))
        if not tokens:
            steps.add("token", False, say("none is plugged in", "未插入任何介质"), ("token", "介质"))
            return None
        key = await _usable(chosen, device, "maker", steps)
        if chosen.status.key:
            await _usable(chosen, device, "status", steps)
        return key


async def _usable(chosen: Settings, device: Device, role: str, steps: _Steps) -> UnitKey | None:
    from sealagent.clock import system_clock
    from sealagent.errors import SealAgentError
    from sealagent.maker.making import check_maker
    from sealagent.maker.settings import RoleKey
    from sealdrivers.errors import DriverError

    names = {"maker": ("maker's key", "制章密钥"), "status": ("status key", "状态签名密钥")}[role]
    wanted: RoleKey = chosen.role(role)
    try:
        try:
            key = await device.key(wanted)
        except SealAgentError as error:
            if error.code != "maker_key_ambiguous" or not sys.stdin.isatty() or steps.quiet:
                raise
            uris = [str(uri) for uri in error.facts["keys"]]  # type: ignore[attr-defined]
            for number, uri in enumerate(uris, 1):
                click.echo(f"  {number}  {clean(uri)}", err=True)
            picked = click.prompt(say("Which", "选择"), type=click.IntRange(1, len(uris)), err=True)
            key = await device.key(RoleKey(key=uris[picked - 1], certificate=wanted.certificate))
        steps.add(f"{role}_key", True, f"{key.info.uri}, {key.info.type.value}", names)
        if role == "maker":
            check_maker(key.certificate, system_clock(), parts.trust(chosen))
        until = f"{key.certificate.subject}, {key.certificate.not_after:%Y-%m-%d}"
        steps.add(f"{role}_certificate", True, until, ("certificate", "证书"))
    except (SealAgentError, DriverError) as error:
        steps.add(f"{role}_key", False, f"{error.code}: {error.message}", names)
        return None
    return key


async def _begin(chosen: Settings, key: UnitKey, operator: str | None) -> int:
    """Make the register if there is none, and say in its first entry whose it is; return how many entries it has."""
    from sealagent.clock import system_clock
    from sealagent.maker.register import opened_register

    record = chosen.record
    async with opened_register(
        chosen.places, system_clock, create=True, tree_hash=record.tree_hash, max_bytes=record.max_bytes
    ) as register:
        if not register.ledger.head().size:
            said = parts.said(chosen, operator)
            unit = {"unit": chosen.unit, "region": chosen.region, "region_name": chosen.region_name}
            await register.record({"event": "opened", "unit": unit, **said.as_json(), **key.as_json()})
        return register.ledger.head().size


def _write(file: Path, values: dict[str, Any]) -> None:
    """Write a configuration; a file that is there is never replaced."""
    lines = ["# Written by `sealagent maker init`; config/maker.toml describes every key."]
    lines += [f"{name} = {_toml(value)}" for name, value in values.items() if isinstance(value, str)]
    for module in values.get("modules", ()):
        lines += ["", "[[modules]]", *(f"{name} = {_toml(value)}" for name, value in module.items())]
    for section, entries in values.items():
        if isinstance(entries, dict):
            lines += ["", f"[{section}]", *(f"{name} = {_toml(value)}" for name, value in entries.items())]
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as written:
        written.write("\n".join(lines) + "\n")


def _toml(value: Any) -> str:
    import json

    # A JSON string is a TOML basic string, but for DEL, which no path or name has any use for.
    return json.dumps(value, ensure_ascii=False)
