"""``sealagent key``."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click

from sealagent.cli.output import clean, json_option, print_json, table
from sealagent.client import Agent

TYPES = ("rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384", "sm2")


@click.group("key")
def command() -> None:
    """Keys on plugged-in tokens.

    \b
    sealagent key list                                        # KEY below is its ID
    sealagent key generate TOKEN --type ec-p256 --label seal-2026
    sealagent key request KEY --cn 某某公司 --o 某某公司 -o request.pem
    sealagent key import-certificate KEY certificate.pem
    """


@command.command("list")
@json_option
def list_keys(as_json: bool) -> None:
    """List the keys, with their certificates."""
    with Agent() as agent:
        keys = agent.keys()
    if as_json:
        print_json(keys)
        return
    table(
        ("ID", "LABEL", "TYPE", "TOKEN", "CERTIFICATE", "UNTIL"),
        [
            (
                key["id"],
                key["label"],
                key["type"],
                key["token"],
                key["certificate"]["subject"] if key["certificate"] else "none",
                key["certificate"]["not_after"] if key["certificate"] else "",
            )
            for key in keys
        ],
    )
    for key in keys:
        if key["fault"]:
            click.echo(f"{key['id']}: {clean(key['fault'])}", err=True)


@command.command("generate")
@click.argument("token")
@click.option("--type", "kind", type=click.Choice(TYPES), required=True, help="Kind of key.")
@click.option("--label", required=True, help="Name of the key on the token.")
@click.option("--id", "object_id", metavar="HEX", help="CKA_ID.  [default: a free one]")
@json_option
def generate(token: str, kind: str, label: str, object_id: str | None, as_json: bool) -> None:
    """Generate a key pair on TOKEN (id, serial or label); the private key never leaves it."""
    with Agent() as agent:
        key = agent.generate_key(token, kind, label, object_id)
    if as_json:
        print_json(key)
    else:
        click.echo(key["id"])
        click.echo(f"next: sealagent key request {key['id']} --cn NAME -o request.pem", err=True)


@command.command("request")
@click.argument("key")
@click.option("--cn", required=True, help="Common name.")
@click.option("--o", "organisation", help="Organisation.")
@click.option("--ou", help="Organisational unit.")
@click.option("--c", "country", help="Country, two letters.")
@click.option("--st", "province", help="State or province.")
@click.option("--l", "locality", help="Locality.")
@click.option("-o", "--out", type=click.File("w", lazy=True), default="-", help="Where to write.  [default: output]")
def request(
    key: str,
    cn: str,
    organisation: str | None,
    ou: str | None,
    country: str | None,
    province: str | None,
    locality: str | None,
    out: IO[str],
) -> None:
    """Make a certificate request (PKCS#10) for KEY (its ID), signed on the device."""
    subject = {"CN": cn, "O": organisation, "OU": ou, "C": country, "ST": province, "L": locality}
    with Agent() as agent:
        out.write(agent.certificate_request(key, {name: value for name, value in subject.items() if value}))


@command.command("import-certificate")
@click.argument("key")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--label", help="Its name on the token.  [default: the key's]")
def import_certificate(key: str, file: Path, label: str | None) -> None:
    """Store the certificate (PEM) of KEY (its ID) on its token."""
    with Agent() as agent:
        stored = agent.import_certificate(key, file.read_text(encoding="ascii", errors="replace"), label)
    click.echo(f"stored: {clean(stored['certificate']['subject'])}", err=True)
