"""The PKCS#11 driver: :class:`sealdrivers.contract.Driver` on :mod:`sealdrivers.pkcs11.binding`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sealdrivers.contract import ModuleInfo
from sealdrivers.errors import DriverError, ModuleNotLoadable
from sealdrivers.pkcs11 import abi, softhsm
from sealdrivers.pkcs11.binding import Module
from sealdrivers.pkcs11.sm2 import Findings, Sm2Support
from sealdrivers.pkcs11.token import Pkcs11Token
from sealdrivers.vendors import ModuleOptions, vendor_table

__all__ = ["Pkcs11Driver", "open_driver"]


def open_driver(path: Path | str, options: ModuleOptions | None = None) -> Pkcs11Driver:
    """Load a PKCS#11 module.

    :param options: by default the profiles that ship, and nothing is kept of what is found out.

    The module stays loaded until the process ends. Whether the path may be loaded at all is for the caller to say.

    :raises ModuleNotLoadable: no file, no library, no PKCS#11 module, or it refused to initialise.
    """
    real = Path(path).resolve()
    if not real.is_file():
        raise ModuleNotLoadable(f"{real} is no file")
    return Pkcs11Driver(real, options or ModuleOptions(sm2=vendor_table().sm2))


class Pkcs11Driver:
    """One loaded module."""

    def __init__(self, path: Path, options: ModuleOptions) -> None:
        self._module = Module(path)
        self._info = ModuleInfo(
            path=str(path),
            driver="pkcs11",
            manufacturer=self._module.manufacturer,
            description=self._module.description,
            version=self._module.version,
        )
        self._tokens: dict[tuple[str, str, str, str], Pkcs11Token] = {}
        self._is_softhsm = self._module.manufacturer.startswith(softhsm.MANUFACTURER)
        self._sm2 = partial(
            Sm2Support,
            options.profile_for(self._info),
            options.sm2,
            findings=Findings(self._info, Path(options.findings) if options.findings else None),
        )
        self._files: frozenset[tuple[str, int]] | None = None

    @property
    def info(self) -> ModuleInfo:
        return self._info

    def tokens(self) -> Sequence[Pkcs11Token]:
        """Return the initialised tokens that are present now, each once.

        SoftHSM 2.6.1: a token made since the module was initialised appears only while nobody is logged in.
        """
        found, damaged = self._present()
        if self._is_softhsm and not any(token.logged_in for token in found.values()):
            files = softhsm.token_files()
            if damaged or files is None or files != self._files:
                self._files = files
                self._module.restart()
                found, _ = self._present()
        for identity in self._tokens.keys() - found.keys():
            self._tokens[identity].drop()
        self._tokens = found
        return tuple(found.values())

    def slot_event(self) -> bool | None:
        """Say whether a token came or went (:class:`sealdrivers.contract.ReportsSlotEvents`)."""
        return self._module.slot_event()

    def close(self) -> None:
        """Finalise the module. It stays loaded; the process is expected to end."""
        for token in self._tokens.values():
            token.drop()
        self._tokens = {}
        self._module.close()

    def _present(self) -> tuple[dict[tuple[str, str, str, str], Pkcs11Token], bool]:
        """Return the tokens by identity, and whether a slot claimed a token that cannot be read."""
        found: dict[tuple[str, str, str, str], Pkcs11Token] = {}
        damaged = False
        for slot in self._module.slots():
            try:
                facts = slot.token()
            except DriverError:  # gone between two calls, or not recognised
                damaged = True
                continue
            if not facts.flags & abi.CKF_TOKEN_INITIALIZED or facts.identity in found:
                continue
            token = self._tokens.get(facts.identity)
            if token is None:
                token = Pkcs11Token(self._module, self._info, slot, facts, self._sm2)
            token.slot = slot
            found[facts.identity] = token
        return found, damaged
