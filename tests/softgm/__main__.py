"""``python -m softgm``: build the library, make a test device, plug it in again."""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

from .build import BuildError, build
from .keys import KEY_KINDS, certificate
from .skf_token import SoftSkfToken
from .softskf import DIR_VARIABLE


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m softgm", description="Soft GM tokens. For tests only.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the library and print its path")
    create = commands.add_parser("create", help="make a device with one application and print how to use it")
    create.add_argument("directory", type=Path, help=f"folder of devices ({DIR_VARIABLE})")
    create.add_argument("--label", required=True)
    create.add_argument("--application", default="SOFTSKF")
    create.add_argument("--pin", required=True, help="user PIN, at least 6 characters")
    create.add_argument("--so-pin", required=True, help="administrator's PIN")
    create.add_argument("--serial", help="by default random")
    create.add_argument("--name", help="name of the device in SKF_EnumDev, by default the serial")
    create.add_argument("--tries", type=int, default=6, help="wrong PINs until it is locked")
    create.add_argument("--factory-pin", action="store_true", help="show the user PIN as never changed")
    create.add_argument("--key", choices=KEY_KINDS, help="put a new key of this kind into the container")
    create.add_argument("--container", default="key")
    create.add_argument("--certificate", type=Path, metavar="DER", help="its certificate, else a self-signed one")
    create.add_argument("--private-key", type=Path, metavar="PEM", help="key to put in instead of a new one")
    create.add_argument("--file", type=Path, action="append", default=[], help="put this file into the application")
    insert = commands.add_parser("insert", help="plug a device in again that was pulled (touch DEVICE/removed)")
    insert.add_argument("device", type=Path)
    return parser


def _create(given: argparse.Namespace) -> SoftSkfToken:
    token = SoftSkfToken.create(
        given.directory,
        label=given.label,
        serial=given.serial or f"SKF{secrets.token_hex(4).upper()}",
        user_pin=given.pin,
        so_pin=given.so_pin,
        application=given.application,
        name=given.name,
        tries=given.tries,
        factory_pin=given.factory_pin,
    )
    if given.key or given.private_key:
        pem = given.private_key.read_bytes() if given.private_key else None
        pem = token.add_key(given.key or "sm2", container=given.container, pem=pem)
        der = given.certificate.read_bytes() if given.certificate else certificate(pem, given.label)
        token.add_certificate(der, container=given.container)
    for path in given.file:
        token.add_file(path.name, path.read_bytes())
    return token


def main() -> int:
    """Run one command. :return: the exit status."""
    given = _arguments().parse_args()
    try:
        if given.command == "insert":
            SoftSkfToken(given.device, "", "", "", "", "").insert()
            return 0
        library = build() / "libsoftskf.so"
        if given.command == "create":
            token = _create(given)
            print(f"device  {token.directory}")
            print(f"export {DIR_VARIABLE}={given.directory.resolve()}")
        print(f"library {library}")
    except (BuildError, OSError) as error:
        print(f"softgm: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
