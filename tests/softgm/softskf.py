"""A folder of soft SKF devices for a test session, and the library that serves them."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from .folders import add_fault, clear_faults
from .skf_token import FAULTS, SoftSkfToken

__all__ = ["DIR_VARIABLE", "FAULTS_VARIABLE", "SoftSkf"]

DIR_VARIABLE = "SOFTSKF_DIR"
"""Environment variable that names the folder of devices."""
FAULTS_VARIABLE = "SOFTSKF_FAULTS"
"""Environment variable with faults for every device, separated by ``;``."""


class SoftSkf:
    """The library with a folder of devices, set in ``SOFTSKF_DIR`` for this process and its children.

    :param libraries: the folder that :func:`softgm.build.build` returned.
    :param directory: an empty folder for the devices.
    """

    def __init__(self, libraries: Path, directory: Path) -> None:
        self.library = libraries / "libsoftskf.so"
        self.plain_library = libraries / "libsoftskf-plain.so"
        """The same without the EPS_ functions."""
        self.directory = directory
        self._before = os.environ.get(DIR_VARIABLE)
        os.environ[DIR_VARIABLE] = str(directory)
        self._numbers = itertools.count(1)
        self._made: list[SoftSkfToken] = []

    def new_token(
        self,
        label: str | bytes | None = None,
        *,
        application: str | bytes = "SOFTSKF",
        user_pin: str | None = None,
        so_pin: str | None = None,
        serial: str | None = None,
        name: str | bytes | None = None,
        tries: int = 6,
        factory_pin: bool = False,
        **settings: str | bytes | int,
    ) -> SoftSkfToken:
        """Make a device; label, serial and PINs are unique in the session unless given. See SoftSkfToken.create."""
        number = next(self._numbers)
        token = SoftSkfToken.create(
            self.directory,
            label=label or f"soft skf {number}",
            serial=serial or f"SKF{number:08}",
            user_pin=user_pin or f"user-{number:04}",
            so_pin=so_pin or f"so-pin-{number:04}",
            application=application,
            name=name,
            tries=tries,
            factory_pin=factory_pin,
            library=self.library,
            **settings,
        )
        self._made.append(token)
        return token

    def destroy_tokens(self) -> None:
        """Delete every device that was made here and is still there."""
        while self._made:
            self._made.pop().destroy()

    def set_fault(
        self, name: str, function: str, argument: object = None, *, times: int | None = None, late: bool = False
    ) -> None:
        """Add a fault to every device, and to functions that have no device (SKF_EnumDev). See README.md."""
        add_fault(self.directory, FAULTS, name, function, argument, times=times, late=late)

    def clear_faults(self) -> None:
        """Remove what :meth:`set_fault` added."""
        clear_faults(self.directory)

    def close(self) -> None:
        """Restore ``SOFTSKF_DIR``; the folder is left to pytest."""
        if self._before is None:
            os.environ.pop(DIR_VARIABLE, None)
        else:
            os.environ[DIR_VARIABLE] = self._before
