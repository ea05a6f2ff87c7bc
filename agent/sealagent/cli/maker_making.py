"""``sealagent maker apply``, ``reject``, ``make``, ``file``, ``deliver`` and ``remake``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sealagent.cli import maker_parts as parts
from sealagent.cli.output import json_option, print_json, say

if TYPE_CHECKING:
    from sealagent.maker.index import SealRow
    from sealagent.maker.making import Making
    from sealagent.maker.settings import Settings
    from sealagent.seals.model import Picture

__all__ = ["apply", "deliver", "file_command", "make", "reject", "remake"]

TYPES = ("statutory", "finance", "invoice", "contract", "legal-representative", "other")
CATEGORIES = ("statutory-name", "internal-body", "business", "personal-name")
SUFFIXES = {".png": "PNG", ".jpg": "JPG", ".jpeg": "JPG", ".bmp": "BMP", ".gif": "GIF", ".svg": "SVG"}


@click.command("apply")
@click.option("--applicant", required=True, help="Full name of the unit whose seal it will be.")
@click.option("--credit-code", required=True, help="Its unified social credit code, 18 characters.")
@click.option("--approval", required=True, help="Reference of the proof of approval.")
@click.option("--name", required=True, help="Name of the seal, e.g. the unit's full name and 公章.")
@click.option("--type", "kind", default="statutory", show_default=True, help=f"{', '.join(TYPES)}, or a number.")
@click.option("--category", type=click.Choice(CATEGORIES), default="statutory-name", show_default=True)
@click.option("--request", "requests", type=parts.FILE, multiple=True, help="Certificate request (PKCS#10).")
@click.option("--certificate", "issued", type=parts.FILE, multiple=True, help="Certificate that was issued already.")
@click.option("--contact", default="", help="Whom to ask.")
@click.option("--filed-name", default="", help="The name filed with the police, where it is: must be the same.")
@parts.text_option
@parts.operator_option
@json_option
def apply(
    applicant: str,
    credit_code: str,
    approval: str,
    name: str,
    kind: str,
    category: str,
    requests: tuple[Path, ...],
    issued: tuple[Path, ...],
    contact: str,
    filed_name: str,
    text: str,
    operator: str | None,
    as_json: bool,
) -> None:
    """Record an application, after checking the credit code and that the applicant has the key of each request."""
    from sealagent.maker.applications import SEAL_TYPES, Application, Category
    from sealagent.maker.applications import apply as record

    number = SEAL_TYPES.get(kind)
    if number is None:
        if not kind.isdecimal():
            raise click.UsageError(f"--type is one of {', '.join(TYPES)}, or a number")
        number = int(kind)
    asked = Application(
        applicant=applicant,
        credit_code=credit_code,
        approval=approval,
        name=name,
        type=number,
        category=Category(category),
        contact=contact,
        filed_name=filed_name,
        requests=tuple(parts.octets(file) for file in requests),
        certificates=parts.certificates(issued),
    )
    chosen = parts.settings()

    async def work() -> int:
        said = parts.said(chosen, operator, text, asked_by="owner")
        async with parts.register(chosen) as register:
            return await record(register, asked, said, trust=parts.trust(chosen))

    recorded = parts.run(work())
    if as_json:
        print_json({"application": recorded})
        return
    click.echo(recorded)
    given = "" if issued else " --certificate ISSUED.pem"
    command = f"sealagent maker make {recorded} --picture PICTURE --size 40x40{given}"
    parts.hint(command, command)


@click.command("reject")
@click.argument("application", type=int)
@click.option("--text", required=True, help="Why.")
@parts.operator_option
def reject(application: int, text: str, operator: str | None) -> None:
    """Turn APPLICATION down; nothing can be made of it then."""
    from sealagent.maker.applications import reject as record

    chosen = parts.settings()

    async def work() -> None:
        async with parts.register(chosen) as register:
            await record(register, application, parts.said(chosen, operator, text))

    parts.run(work())
    click.echo(say(f"application {application} is rejected", f"申请 {application} 已退回"), err=True)


@click.command("make")
@click.argument("application", type=int)
@click.option("--picture", type=parts.FILE, required=True, help="PNG, JPG, BMP, GIF or SVG.")
@click.option("--size", required=True, metavar="WxH", help="Of the picture, mm: 40x40, 30x20.")
@click.option("--certificate", "issued", type=parts.FILE, multiple=True, help="What the CA issued for the requests.")
@click.option("--version", type=click.Choice(["4", "5"]), help="4: GB/T 38540-2020; 5: GM/T 0031-2025.")
@click.option("--list-type", type=click.Choice(["1", "2"]), help="certListType: certificates, or their digests.")
@click.option("--es-id", default="", help="[default: region's code and the next serial]")
@click.option("--until", help="Last day of validity, 2029-12-31.  [default: as long as usual, within the certificate]")
@click.option("--beyond-certificate", default="", metavar="WHY", help="Let it outlast a signer's certificate.")
@parts.text_option
@parts.operator_option
@json_option
def make(
    application: int,
    picture: Path,
    size: str,
    issued: tuple[Path, ...],
    version: str | None,
    list_type: str | None,
    es_id: str,
    until: str | None,
    beyond_certificate: str,
    text: str,
    operator: str | None,
    as_json: bool,
) -> None:
    """Make the seal of APPLICATION (its number), signed by the maker's key on its token."""
    from sealagent.maker.making import Making

    chosen = parts.settings()
    asked = Making(
        application=application,
        picture=_picture(picture, size),
        version=int(version) if version else chosen.making.version,
        list_type=int(list_type) if list_type else chosen.making.list_type,
        certificates=parts.certificates(issued),
        es_id=es_id,
        valid_until=parts.moment(until) if until else None,
        beyond_certificate=beyond_certificate,
    )
    row = parts.run(_make(chosen, asked, operator, text, asked_by="owner", reason=""))
    parts.show_seal(row, as_json, (f"sealagent maker file {row.es_id}", f"sealagent maker file {row.es_id}"))


@click.command("remake")
@click.argument("seal")
@click.option("--reason", required=True, help="expiry, damaged_carrier, lost_carrier, key_compromise, "
              "certificate_renewed or correction.")  # fmt: skip
@click.option("--asked-by", type=click.Choice(["owner", "unit"]), default="owner", show_default=True)
@click.option("--certificate", "issued", type=parts.FILE, multiple=True, help="Certificate that the new seal lists.")
@click.option("--application", type=int, help="A new application, e.g. with a request for a new key.")
@click.option("--picture", type=parts.FILE, help="[default: the old seal's]")
@click.option("--size", metavar="WxH", help="Of a new picture, mm.")
@click.option("--version", type=click.Choice(["4", "5"]), help="[default: maker.toml's]")
@click.option("--list-type", type=click.Choice(["1", "2"]), help="[default: maker.toml's]")
@click.option("--es-id", default="", help="[default: region's code and the next serial]")
@click.option("--until", help="Last day of validity, 2029-12-31.")
@click.option("--beyond-certificate", default="", metavar="WHY", help="Let it outlast a signer's certificate.")
@parts.text_option
@parts.operator_option
@json_option
def remake(
    seal: str,
    reason: str,
    asked_by: str,
    issued: tuple[Path, ...],
    application: int | None,
    picture: Path | None,
    size: str | None,
    version: str | None,
    list_type: str | None,
    es_id: str,
    until: str | None,
    beyond_certificate: str,
    text: str,
    operator: str | None,
    as_json: bool,
) -> None:
    """Make SEAL anew: the new seal takes its place, and the old one is superseded from that moment on."""
    from sealagent.maker.making import Making
    from sealagent.seals.model import Picture

    chosen = parts.settings()
    if (picture is None) != (size is None):
        raise click.UsageError("--picture and --size go together")
    asked = Making(
        application=application or 0,
        picture=_picture(picture, size) if picture and size else Picture("", b"", 0, 0),
        version=int(version) if version else chosen.making.version,
        list_type=int(list_type) if list_type else chosen.making.list_type,
        certificates=parts.certificates(issued),
        es_id=es_id,
        valid_until=parts.moment(until) if until else None,
        beyond_certificate=beyond_certificate,
        supersedes=seal,
    )
    row = parts.run(_make(chosen, asked, operator, text, asked_by=asked_by, reason=reason))
    parts.show_seal(row, as_json, (f"sealagent maker file {row.es_id}", f"sealagent maker file {row.es_id}"))


async def _make(
    chosen: Settings, asked: Making, operator: str | None, text: str, *, asked_by: str, reason: str
) -> SealRow:
    from sealagent.maker.making import make as made
    from sealagent.maker.stamping import stamp_by
    from sealagent.seals.parse import parse_seal

    said = parts.said(chosen, operator, text, asked_by=asked_by, reason=reason)
    async with parts.device_and_register(chosen, "maker") as (device, key, register):
        if asked.supersedes:
            old = register.seal(asked.supersedes)
            asked = replace(asked, application=asked.application or old.application)
            if not asked.picture.data:
                asked = replace(asked, picture=parse_seal(register.archive.get(old.sm3)).picture)
        row, _ = await made(
            register,
            device,
            key,
            asked,
            said,
            vendor=chosen.vendor,
            region=chosen.region,
            usual_days=chosen.making.days,
            trust=parts.trust(chosen),
            stamp=stamp_by(chosen.timestamp, key.algorithm.digest),
        )
        if key.token.software:
            click.echo(
                say("note: the maker's key is a software key: for tests only", "提示：制章密钥为软件密钥，仅供测试"),
                err=True,
            )
        return row


@click.command("file")
@click.argument("seal")
@click.option("--number", default="", help="Filing number.  [default: the register allocates one]")
@parts.text_option
@parts.operator_option
@json_option
def file_command(seal: str, number: str, text: str, operator: str | None, as_json: bool) -> None:
    """File SEAL (备案): it may then be delivered."""
    from sealagent.maker.delivery import file_seal

    chosen = parts.settings()

    async def work() -> SealRow:
        async with parts.register(chosen) as register:
            return await file_seal(register, seal, parts.said(chosen, operator, text), number=number)

    row = parts.run(work())
    parts.show_seal(row, as_json, (f"sealagent maker deliver {row.es_id} -o {row.es_id}.esl  (or --token TOKEN)",) * 2)


@click.command("deliver")
@click.argument("seal")
@click.option("-o", "--out", type=parts.OUT, help="Write the seal to this file (.esl).")
@click.option("--token", help="Write it onto this key, through the agent that runs here.")
@click.option("--socket", type=click.Path(path_type=Path), help="Of that agent.  [default: the usual place]")
@parts.text_option
@parts.operator_option
@json_option
def deliver(
    seal: str,
    out: Path | None,
    token: str | None,
    socket: Path | None,
    text: str,
    operator: str | None,
    as_json: bool,
) -> None:
    """Hand SEAL to its owner, as a file or onto a key; from then on it is valid."""
    from sealagent.maker.delivery import ToFile, ToKey
    from sealagent.maker.delivery import deliver as hand_over

    if (out is None) == (token is None):
        raise click.UsageError("give either -o FILE or --token TOKEN")
    to: Any = ToFile(out) if out is not None else ToKey(str(token), socket)
    chosen = parts.settings()

    async def work() -> SealRow:
        async with parts.register(chosen) as register:
            return await hand_over(register, seal, to, parts.said(chosen, operator, text))

    parts.show_seal(parts.run(work()), as_json)


def _picture(file: Path, size: str) -> Picture:
    """Read a picture and its size in millimetres. :raises SealAgentError: it is none a seal may have."""
    from sealagent.seals.model import Picture

    width, _, height = size.lower().partition("x")
    kind = SUFFIXES.get(file.suffix.lower())
    if not (width.isdecimal() and height.isdecimal()):
        raise click.UsageError("--size is width and height in whole millimetres, e.g. 40x40")
    if kind is None:
        raise click.UsageError(f"{file}: its name does not end in one of {', '.join(SUFFIXES)}")
    return Picture(kind, parts.octets(file), int(width), int(height))
