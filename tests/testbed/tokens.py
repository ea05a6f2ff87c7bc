"""Software tokens of the test bed. Their keys are files: for tests only."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from softgm.build import SKF, BuildError, build
from softgm.skf_token import SoftSkfToken
from softhsm2_fixtures.library import MODULE_VARIABLE, find_module, find_util
from softhsm2_fixtures.softhsm import CONF_VARIABLE, configuration, make_token
from testbed.errors import TestbedError, Trouble

__all__ = ["SoftwareToken", "require_programs", "soft_skf", "softhsm", "toml"]

SKF_VARIABLE = "SOFTSKF_DIR"


@dataclass(frozen=True, slots=True)
class SoftwareToken:
    """A token in a folder."""

    driver: Literal["pkcs11", "skf"]
    module: Path
    label: str
    pin: str = field(repr=False)
    environment: dict[str, str]
    """Shows the token to its library."""

    def section(self) -> str:
        """Return the ``[[modules]]`` entry of a configuration."""
        return f"[[modules]]\npath = {toml(self.module)}\ndriver = {toml(self.driver)}\n"


def require_programs() -> None:
    """Look for everything that is of the system.

    :raises TestbedError: ``packages``, naming Debian's packages of all that is missing.
    """
    wanted = {
        "openssl": shutil.which("openssl"),
        "softhsm2": find_module() and find_util(),
        "gcc": shutil.which(os.environ.get("CC", "cc")),
        "make": shutil.which("make"),
        "libssl-dev": _headers(),
    }
    missing = [name for name, there in wanted.items() if not there]
    if missing:
        named = f" (a SoftHSM elsewhere is named by {MODULE_VARIABLE})" if "softhsm2" in missing else ""
        message = f"the test bed needs these Debian packages: {' '.join(missing)}{named}"
        raise TestbedError(Trouble.PACKAGES, message)


def _headers() -> bool:
    """Say whether the soft SKF library is built already, or could be."""
    places = (Path("/usr/include"), Path("/usr/local/include"))
    return any((place / "openssl" / "evp.h").is_file() for place in places) or bool(os.environ.get("CPPFLAGS"))


def softhsm(folder: Path, label: str) -> SoftwareToken:
    """Make a token of SoftHSM with a random PIN in ``folder``, which is made here."""
    tokens = folder / "tokens"
    tokens.mkdir(mode=0o700, parents=True)
    conf = folder / "softhsm2.conf"
    conf.write_text(configuration(tokens))
    module, util = find_module(), find_util()
    assert module is not None
    assert util is not None
    pin = _pin()
    make_token(module, util, conf, tokens, label, user_pin=pin, so_pin=pin)
    return SoftwareToken("pkcs11", module, label, pin, {CONF_VARIABLE: str(conf)})


def soft_skf(folder: Path, label: str, serial: str) -> SoftwareToken:
    """Make a device of the soft SKF library with a random PIN in ``folder``, which is made here.

    :raises TestbedError: the compiler refused the library.
    """
    try:
        library = build(SKF) / "libsoftskf.so"
    except BuildError as error:
        raise TestbedError(Trouble.PACKAGES, str(error)) from error
    pin = _pin()
    SoftSkfToken.create(folder / "devices", label=label, serial=serial, user_pin=pin, so_pin=pin, library=library)
    return SoftwareToken("skf", library, label, pin, {SKF_VARIABLE: str(folder / "devices")})


def _pin() -> str:
    return f"{secrets.randbelow(10**8):08}"


def toml(value: str | Path | bool | int | list[str]) -> str:
    """Return a value as TOML writes it: JSON's strings, numbers and lists are TOML's."""
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
