"""A folder of soft SM2 tokens for a test session, and the PKCS#11 module that serves them."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from softhsm2_fixtures import HelperProcess

from .folders import add_fault, clear_faults, settings
from .sm2_token import SM2_FAULTS, SoftSm2Token, choose_profile

__all__ = ["SM2_DIR_VARIABLE", "SM2_FAULTS_VARIABLE", "SM2_MODULE_VARIABLE", "SM2_PROFILE_VARIABLE", "SoftSm2"]

SM2_DIR_VARIABLE = "SOFTGM_PKCS11_DIR"
"""Environment variable that names the folder of tokens."""
SM2_FAULTS_VARIABLE = "SOFTGM_PKCS11_FAULTS"
"""Environment variable with faults for every token, separated by ``;``."""
SM2_MODULE_VARIABLE = "SOFTGM_PKCS11_MODULE"
"""Environment variable that names SoftHSM's library."""
SM2_PROFILE_VARIABLE = "SOFTGM_PKCS11_PROFILE"
"""Environment variable that names the vendor's profile, for processes that are to differ from the folder."""


class SoftSm2:
    """The module with a folder of tokens, set in the environment for this process and its children.

    :param libraries: the folder that ``softgm.build.build(PKCS11)`` returned.
    :param softhsm: SoftHSM's library, and its command.
    :param directory: an empty folder for the tokens.
    """

    def __init__(self, libraries: Path, softhsm: tuple[Path, Path], directory: Path) -> None:
        self.library = libraries / "libsoftgm-pkcs11.so"
        self.directory = directory
        self._softhsm, self._util = softhsm
        variables = {SM2_DIR_VARIABLE: str(directory), SM2_MODULE_VARIABLE: str(self._softhsm)}
        self._before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        self._helper = HelperProcess(self._softhsm)
        self._through = HelperProcess(self.library)
        self._numbers = itertools.count(1)
        self._made: list[SoftSm2Token] = []

    @property
    def module(self) -> Path:
        """The module, as softhsm2_fixtures calls it."""
        return self.library

    @property
    def profile(self) -> str:
        """The vendor whose numbers the module has, from the next call on; may be set."""
        return settings(self.directory / "module.conf").get(b"profile", b"neutral").decode()

    @profile.setter
    def profile(self, name: str) -> None:
        choose_profile(self.directory, name)

    def new_token(
        self,
        label: str | None = None,
        *,
        user_pin: str | None = None,
        so_pin: str | None = None,
        name: str | None = None,
        tries: int = 6,
        **facts: str | int,
    ) -> SoftSm2Token:
        """Make a token; label and PINs are unique in the session unless given. See SoftSm2Token.create."""
        number = next(self._numbers)
        token = SoftSm2Token.create(
            self.directory,
            label=label or f"soft sm2 {number}",
            user_pin=user_pin or f"user-{number:04}",
            so_pin=so_pin or f"so-pin-{number:04}",
            library=self.library,
            softhsm_module=self._softhsm,
            softhsm_util=self._util,
            helper=self._helper,
            through=self._through,
            name=name,
            tries=tries,
            **facts,
        )
        self._made.append(token)
        return token

    def destroy_tokens(self) -> None:
        """Delete every token that was made here and is still there."""
        while self._made:
            self._made.pop().destroy()

    def set_fault(
        self, name: str, function: str, argument: object = None, *, times: int | None = None, late: bool = False
    ) -> None:
        """Add a fault to every token, and to functions that have none (C_Initialize, C_GetSlotList). See README.md."""
        add_fault(self.directory, SM2_FAULTS, name, function, argument, times=times, late=late)

    def clear_faults(self) -> None:
        """Remove what :meth:`set_fault` added."""
        clear_faults(self.directory)

    def close(self) -> None:
        """End the helper processes and restore the environment; the folder is left to pytest."""
        self._helper.close()
        self._through.close()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
