"""Software tokens for the demo, one for each kind of driver. Their keys are files: for tests only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sealagent.pki import oids
from softgm.build import PKCS11, BuildError, build
from softgm.skf_token import SoftSkfToken
from softgm.softsm2 import SoftSm2
from softhsm2_fixtures.library import NOT_FOUND, find_module, find_util

__all__ = ["KINDS", "TokenKind"]


@dataclass(frozen=True, slots=True)
class TokenKind:
    """A kind of token, and which keys the demo makes on it."""

    name: str
    """What people call it."""
    driver: str
    """As in ``[[modules]]`` of agent.toml."""
    prepare: Callable[[], Path]
    """Returns the library; ends the demo where it is missing."""
    make: Callable[[Path, str, str], dict[str, str]]
    """Makes a token in a folder, with a label and a PIN; returns the environment that shows it to the library."""
    key: str
    """Type of the holder's key."""
    maker_key: str
    authority_key: str
    """Type of the authority's key (:data:`demo.testca.KEY_TYPES`)."""
    maker_algorithm: str
    """OID of what the maker's key signs with."""
    sm2_profile: str = ""
    """As in ``[[modules]]``: whose numbers for SM2 the module has."""


def _softhsm() -> Path:
    module = find_module()
    if module is None or find_util() is None:
        sys.exit(NOT_FOUND)
    return module


def _make_softhsm(folder: Path, label: str, pin: str) -> dict[str, str]:
    tokens = folder / "tokens"
    tokens.mkdir(mode=0o700)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\n")
    environment = {"SOFTHSM2_CONF": str(configuration)}
    # softhsm2-util takes its PINs on the command line only. These guard a throw-away token.
    command = [str(find_util()), "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", pin]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    return environment


def _softskf() -> Path:
    try:
        return build() / "libsoftskf.so"
    except BuildError as error:
        sys.exit(str(error))


def _make_softskf(folder: Path, label: str, pin: str) -> dict[str, str]:
    devices = folder / "devices"
    serial = label.upper().replace(" ", "")
    SoftSkfToken.create(devices, label=label, serial=serial, user_pin=pin, so_pin=pin)
    return {"SOFTSKF_DIR": str(devices)}


def _softsm2() -> Path:
    _softhsm()  # which the module keeps its tokens in
    try:
        return build(PKCS11) / "libsoftgm-pkcs11.so"
    except BuildError as error:
        sys.exit(str(error))


def _make_softsm2(folder: Path, label: str, pin: str) -> dict[str, str]:
    tokens = folder / "tokens"
    tokens.mkdir(mode=0o700)
    module, util = find_module(), find_util()
    assert module is not None
    assert util is not None
    kit = SoftSm2(build(PKCS11), (module, util), tokens)
    try:
        kit.profile = "sansec"
        kit.new_token(label, user_pin=pin, so_pin=pin)
    finally:
        kit.close()
    return {"SOFTGM_PKCS11_DIR": str(tokens), "SOFTGM_PKCS11_MODULE": str(module)}


KINDS = {
    "pkcs11": TokenKind(
        "SoftHSM", "pkcs11", _softhsm, _make_softhsm, "rsa-2048", "ec-p256", "p-256", oids.ECDSA_SHA256
    ),
    "skf": TokenKind("soft SKF", "skf", _softskf, _make_softskf, "sm2", "sm2", "sm2", oids.SM2_WITH_SM3),
    "pkcs11-sm2": TokenKind(
        *("soft SM2 (PKCS#11)", "pkcs11", _softsm2, _make_softsm2, "sm2", "sm2", "sm2", oids.SM2_WITH_SM3),
        sm2_profile="Sansec",
    ),
}
"""By the value of ``DRIVER`` in ``make demo``."""
