"""``sealagent trust``: whom the agent trusts by signed lists."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sealagent.catalog import Exit
from sealagent.cli.output import clean, json_option, print_json, report_error, say, table
from sealagent.cli.report import trust_class
from sealagent.client import Agent, AgentError
from sealagent.client.errors import AgentUnreachable
from sealagent.errors import SealAgentError

if TYPE_CHECKING:
    from sealagent.pki.trustlist import TrustList

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("trust")
def command() -> None:
    """Trust lists: whose seals and certificates count, by region and production-management unit.

    \b
    sealagent trust list
    sealagent trust add beijing.p7m        # shows who signed it, and asks
    sealagent trust update beijing-2.p7m
    sealagent trust show beijing
    """


@command.command("list")
@json_option
def list_trust(as_json: bool) -> None:
    """List the trust lists in force."""
    with Agent() as agent:
        answer = agent.trust()
    if as_json:
        print_json(answer)
        return
    table(
        ("LIST", "REGION", "UNIT", "VERSION", "NEXT UPDATE", "ENTRIES", "CLASSES", "STATE"),
        [
            (
                item["id"],
                f"{item['region']} {item['region_name']}",
                item["unit"],
                item["sequence"],
                item["next_update"],
                item["size"],
                ", ".join(trust_class(name) for name in item["classes"]),
                _standing(item),
            )
            for item in answer["lists"]
        ],
    )
    for fault in answer["faults"]:
        click.echo(f"{say('warning', '警告')}: {clean(fault)}", err=True)
    if any(item["stale"] for item in answer["lists"]):
        click.echo(
            say(
                "a list that is out of date vouches for nothing; bring in a newer one: sealagent trust update FILE",
                "过期的信任列表不再起作用：请用 sealagent trust update 文件 更新",
            ),
            err=True,
        )


@command.command("show")
@click.argument("list_id", metavar="LIST")
@json_option
def show(list_id: str, as_json: bool) -> None:
    """Show a trust list, entry by entry."""
    with Agent() as agent:
        found = agent.trust_list(list_id)
    if as_json:
        print_json(found)
        return
    for line in _headline(found):
        click.echo(line)
    click.echo(f"{say('state', '状态')}: {_standing(found)}")
    for url in found["status_urls"]:
        click.echo(f"{say('seal status', '印章状态服务')}: {clean(url)}")
    for signer in found["next_signers"]:
        click.echo(f"{say('may sign the next version', '可签署下一版')}: {clean(signer)}")
    table(
        ("SUBJECT", "ROLES", "CLASS", "STATE", "SINCE", "CERTIFICATE UNTIL", "SHA-256"),
        [
            (
                entry["certificate"]["subject"],
                ", ".join(_role(role) for role in entry["roles"]),
                trust_class(entry["class"]),
                _state(entry["state"]),
                entry["since"],
                entry["certificate"]["not_after"],
                entry["certificate"]["sha256"][:16],
            )
            for entry in found["entries"]
        ],
    )


@command.command("add")
@click.argument("file", type=_FILE)
@click.option(
    "--signer",
    metavar="SHA256|FILE",
    help="The signer's certificate, or its SHA-256, as the unit publishes it elsewhere: nothing is asked then.",
)
@click.option(
    "--new-signer", is_flag=True, help="The list was here before: accept a signer that its last version did not name."
)
@json_option
def add(file: Path, signer: str | None, new_signer: bool, as_json: bool) -> None:
    """Add a trust list. Everything rests on its signer: compare the certificate with what the unit publishes elsewhere,
    not beside the list.
    """
    data = _read(file)
    if signer is not None:
        confirmed = _named_signer(signer)
    else:
        if not sys.stdin.isatty() or not sys.stderr.isatty():
            raise click.UsageError("without a terminal nobody can be asked: name the signer with --signer SHA256")
        confirmed = _confirmed_signer(data)
    with Agent() as agent:
        added = agent.add_trust_list(data, confirmed, new_signer=new_signer)
    _done(added, as_json)


@command.command("update")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=_FILE)
@json_option
def update(files: tuple[Path, ...], as_json: bool) -> None:
    """Put newer versions in the place of trust lists; each must be signed by whom the version before names."""
    done: list[dict[str, Any]] = []
    statuses: list[int] = []
    with Agent() as agent:
        for file in files:
            try:
                data = _read(file)
                updated = agent.update_trust_list(_parsed(data).id, data)
            except AgentUnreachable:
                raise
            except (AgentError, SealAgentError) as error:
                # One that is refused does not keep the others out.
                if len(files) == 1:
                    raise
                click.echo(f"{clean(file)}:", err=True)
                statuses.append(report_error(error))
            else:
                done.append(updated)
                if not as_json:
                    _done(updated, as_json)
    if as_json:
        print_json(done[0] if len(files) == 1 else done)
    if statuses:
        raise click.exceptions.Exit(statuses[0])


@command.command("remove")
@click.argument("list_id", metavar="LIST")
def remove(list_id: str) -> None:
    """Remove a trust list: what only it vouches for is no longer valid. An older version can never be added again."""
    with Agent() as agent:
        agent.remove_trust_list(list_id)


def _done(item: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(item)
        return
    region = f"{item['region']} {item['region_name']}"
    version = say(f"version {item['sequence']}", f"第 {item['sequence']} 版")
    until = say(f"next update {item['next_update']}", f"下次更新 {item['next_update']}")
    click.echo(clean(f"{item['id']}  {region}  {item['unit']}  {version}, {until}"))


# Who signed it


def _named_signer(named: str) -> str:
    """Return the SHA-256 that was given, in whatever form tools print it, or that of the certificate in a file."""
    digest = re.sub(r"^sha-?256(?: fingerprint)?[=:]|[:\s]", "", named, flags=re.IGNORECASE).lower()
    if _SHA256.fullmatch(digest):
        return digest
    from sealagent.pki.certificates import MAX_CERTIFICATE_OCTETS, load_certificates

    try:
        with Path(named).open("rb") as stream:
            certificates = load_certificates(stream.read(2 * MAX_CERTIFICATE_OCTETS))
    except (OSError, ValueError, SealAgentError):
        certificates = []
    if len(certificates) != 1:
        raise click.BadParameter("neither 64 hexadecimal digits nor a file with one certificate", param_hint="--signer")
    return certificates[0].sha256


def _confirmed_signer(data: bytes) -> str:
    """Show what the list says and who signed it; return the signer's SHA-256 if it is confirmed."""
    version = _parsed(data)
    facts = {
        "id": version.id,
        "region": version.region,
        "region_name": version.region_name,
        "unit": version.unit,
        "sequence": version.sequence,
        "issued_at": f"{version.issued_at:%Y-%m-%d %H:%MZ}",
        "next_update": f"{version.next_update:%Y-%m-%d %H:%MZ}",
        "signer": {"subject": version.signer.subject, "sha256": version.signer.sha256},
    }
    for line in _headline(facts):
        click.echo(line, err=True)
    click.echo(f"{say('entries', '条目')}: {len(version.listed)}", err=True)
    for entry in version.listed[:_SHOWN]:
        roles = ", ".join(_role(role) for role in sorted(entry.roles))
        words = f"{clean(entry.certificate.subject)}: {roles}; {trust_class(entry.trust_class)}; {_state(entry.state)}"
        click.echo(f"  {words}", err=True)
    if len(version.listed) > _SHOWN:
        left = len(version.listed) - _SHOWN
        click.echo(say(f"  and {left} more", f"  另有 {left} 条"), err=True)
    question = say(
        "Whomever this signer names will be trusted. Does the unit publish the same SHA-256 elsewhere?",
        "该签署者所列的印章与证书都将被信任。发布单位另行公布的 SHA-256 与上述一致吗？",
    )
    if not click.confirm(question, default=False, err=True):
        click.echo(say("nothing was added", "未添加"), err=True)
        raise click.exceptions.Exit(Exit.REFUSED)
    return version.signer.sha256


_SHOWN = 20
"""Entries shown before somebody is asked."""


def _read(file: Path) -> bytes:
    from sealagent.pki.trustlist import MAX_TRUST_LIST

    with file.open("rb") as stream:
        return stream.read(MAX_TRUST_LIST + 1)


def _parsed(data: bytes) -> TrustList:
    from sealagent.pki.trustlist import read_trust_list

    return read_trust_list(data, None)


# Words


def _headline(item: Mapping[str, Any]) -> list[str]:
    signer = item["signer"]
    version = say(f"version {item['sequence']}", f"第 {item['sequence']} 版")
    return [
        f"{clean(item['id'])}, {version}",
        f"{say('region', '区域')}: {clean(item['region'])} {clean(item['region_name'])}",
        f"{say('unit', '制作管理单位')}: {clean(item['unit'])}",
        f"{say('issued', '发布时间')}: {item['issued_at']}; {say('next update', '下次更新')}: {item['next_update']}",
        f"{say('signed by', '签署者')}: {clean(signer['subject'])}",
        f"  SHA-256 {clean(signer['sha256'])}",
    ]


def _standing(item: Mapping[str, Any]) -> str:
    state = say("OUT OF DATE", "已过期") if item["stale"] else say("in force", "有效")
    if item["origin"] == "configured":
        state += say(" (administrator's)", "（管理员维护）")
    return state


def _role(name: str) -> str:
    words = {
        "ca": ("CA", "证书颁发机构"),
        "maker": ("maker", "制章者"),
        "status": ("status service", "状态服务"),
        "tsa": ("time-stamps", "时间戳服务"),
    }
    return say(*words[name]) if name in words else name


def _state(name: str) -> str:
    words = {"recognised": ("recognised", "认可"), "withdrawn": ("WITHDRAWN", "已撤销认可")}
    return say(*words[name]) if name in words else name
