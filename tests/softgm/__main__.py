"""``python -m softgm``: build the libraries, make a test token, plug it in again."""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

from softhsm2_fixtures import NOT_FOUND, HelperProcess, SoftHsmError, find_module, find_util

from .build import PKCS11, SKF, BuildError, build
from .keys import KEY_KINDS, certificate
from .skf_token import SoftSkfToken
from .sm2_token import PROFILES, SM2_KEY_KINDS, SoftSm2Token, choose_profile
from .softskf import DIR_VARIABLE
from .softsm2 import SM2_DIR_VARIABLE, SM2_MODULE_VARIABLE


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m softgm", description="Soft GM tokens. For tests only.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the libraries and print their paths")
    create = commands.add_parser("create", help="make an SKF device with one application and print how to use it")
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
    _add_pkcs11(commands.add_parser("create-pkcs11", help="make a PKCS#11 token with a key and print how to use it"))
    insert = commands.add_parser("insert", help="plug a token in again that was pulled (touch TOKEN/removed)")
    insert.add_argument("device", type=Path, metavar="token", help="its folder")
    return parser


def _add_pkcs11(create: argparse.ArgumentParser) -> None:
    create.add_argument("directory", type=Path, help=f"folder of tokens ({SM2_DIR_VARIABLE})")
    create.add_argument("--label", required=True)
    create.add_argument("--pin", required=True, help="user PIN, at least 4 characters")
    create.add_argument("--so-pin", required=True, help="administrator's PIN")
    create.add_argument("--profile", choices=PROFILES, help="vendor whose numbers all tokens of the folder have")
    create.add_argument("--name", help="name of the token's folder, by default its serial number")
    create.add_argument("--tries", type=int, default=6, help="wrong PINs until it is locked")
    create.add_argument("--key", choices=SM2_KEY_KINDS, default="sm2", help="kind of its key, by default sm2")
    create.add_argument("--id", type=bytes.fromhex, default=b"\x01", metavar="HEX", help="CKA_ID, by default 01")
    create.add_argument("--private-key", type=Path, metavar="PEM", help="key to put in instead of a new one")
    create.add_argument("--certificate", type=Path, metavar="DER", help="its certificate, else a self-signed one")


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


def _create_pkcs11(given: argparse.Namespace) -> None:
    module, util = find_module(), find_util()
    if module is None or util is None:
        raise SoftHsmError(NOT_FOUND)
    helper = HelperProcess(module)
    try:
        token = SoftSm2Token.create(
            given.directory.resolve(),
            label=given.label,
            user_pin=given.pin,
            so_pin=given.so_pin,
            library=build(PKCS11) / "libsoftgm-pkcs11.so",
            softhsm_module=module,
            softhsm_util=util,
            helper=helper,
            name=given.name,
            tries=given.tries,
        )
        pem = given.private_key.read_bytes() if given.private_key else None
        pem = token.add_key(given.key, object_id=given.id, label=given.label, pem=pem)
        der = given.certificate.read_bytes() if given.certificate else certificate(pem, given.label)
        token.add_certificate(der, object_id=given.id, label=given.label)
        if given.profile:
            choose_profile(token.directory.parent, given.profile)
    finally:
        helper.close()
    print(f"token   {token.directory}")
    print(f"serial  {token.serial}")
    print(f"export {SM2_DIR_VARIABLE}={token.directory.parent}")
    print(f"export {SM2_MODULE_VARIABLE}={module}")
    print(f"library {token.library}")
    print(f"try     pkcs11-tool --module {token.library} --login --list-objects")


def main() -> int:
    """Run one command. :return: the exit status."""
    given = _arguments().parse_args()
    try:
        if given.command == "insert":
            SoftSkfToken(given.device, "", "", "", "", "").insert()
            return 0
        if given.command == "create-pkcs11":
            _create_pkcs11(given)
            return 0
        library = build(SKF) / "libsoftskf.so"
        if given.command == "create":
            token = _create(given)
            print(f"device  {token.directory}")
            print(f"export {DIR_VARIABLE}={given.directory.resolve()}")
        print(f"library {library}")
        if given.command == "build":
            print(f"library {build(PKCS11) / 'libsoftgm-pkcs11.so'}")
    except (BuildError, SoftHsmError, OSError, ValueError) as error:
        print(f"softgm: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
