"""Tokens of the soft SM2 module for PKCS#11 as seen from outside: made, filled, locked and pulled.

Nothing here loads the module into this process; a program under test sees a token that something else has written to.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

import softhsm2_fixtures as softhsm
from softhsm2_fixtures import HelperProcess, SoftToken

from .folders import add_fault, clear_faults, set_settings, settings
from .keys import openssl, session_key, spki

__all__ = ["PROFILES", "SM2_FAULTS", "SM2_KEY_KINDS", "SoftSm2Token", "choose_profile"]

PROFILES = ("neutral", "tass", "sansec", "luna", "koal", "ibm-ep11", "longmai", "weston", "card2009", "mk1")
"""Vendors whose numbers the module takes on; README.md lists them."""

SM2_KEY_KINDS = ("sm2", *softhsm.KEY_KINDS)
"""What a token can hold."""

SM2_FAULTS = frozenset(
    (
        *("delay", "hang", "crash", "unplug", "return", "no_output"),
        *("length", "oversize", "overrun", "substitute"),
        *("text", "unterminated", "raw_point", "endless"),
        *("wrong_pin", "signature", "cant_lock", "single_session", "holds_lock"),
    )
)
"""Names of the module's faults; README.md says what each does."""

_SETTINGS = "token.conf"


def choose_profile(root: Path, name: str) -> None:
    """Write down whose numbers the tokens of a folder have. :raises ValueError: there is no such profile."""
    if name not in PROFILES:
        raise ValueError(f"there is no profile {name!r}")
    set_settings(root / "module.conf", {"profile": name})


class _Helper:
    """What a SoftToken writes through: the session's helper process, with one token's configuration."""

    def __init__(self, process: HelperProcess, module: Path, conf: Path) -> None:
        self.module = module
        self._process = process
        self._conf = conf

    def ask(self, request: dict[str, Any]) -> Any:
        return self._process.ask(request | {"conf": str(self._conf)})


@dataclass(frozen=True)
class SoftSm2Token:
    """One token: a folder with a SoftHSM token of its own in it, served by the module."""

    directory: Path
    """The token's own folder; its name is the description of its slot."""
    label: str
    serial: str
    user_pin: str = field(repr=False)
    so_pin: str = field(repr=False)
    library: Path
    """The module."""
    store: SoftToken = field(repr=False)
    """The token inside, as SoftHSM has it; it knows no faults and counts no tries."""

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        label: str,
        user_pin: str,
        so_pin: str,
        library: Path,
        softhsm_module: Path,
        softhsm_util: Path,
        helper: HelperProcess,
        name: str | None = None,
        tries: int = 6,
        **facts: str | int,
    ) -> SoftSm2Token:
        """Make a token below ``root``.

        :param name: of its folder, by default its serial.
        :param tries: wrong PINs until it is locked.
        :param facts: further lines of ``token.conf``.
        :raises FileExistsError: there is such a token.
        :raises ValueError: the name is no plain file name.
        """
        if name is not None and (Path(name).name != name or name.startswith(".")):
            raise ValueError(f"{name!r} cannot name a folder")
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=".draft.", dir=root))
        try:
            inside = directory / "softhsm"
            inside.mkdir(mode=0o700)
            draft = directory / "softhsm2.conf"
            draft.write_text(softhsm.configuration(inside))
            made = softhsm.make_token(
                softhsm_module, softhsm_util, draft, inside, label, user_pin=user_pin, so_pin=so_pin
            )
            serial = helper.ask({"op": "serial", "label": label, "conf": str(draft)})
            final = root / (name or serial)
            draft.write_text(softhsm.configuration(final / "softhsm"))
            set_settings(directory / _SETTINGS, {"user_max": tries, "so_max": tries, **facts})
            if final.exists():
                raise FileExistsError(f"there is a token {final}")
            directory.rename(final)  # whole at once: a program that lists slots never sees half a token
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        asked = _Helper(helper, softhsm_module, final / "softhsm2.conf")
        store = SoftToken(label, serial, user_pin, so_pin, final / "softhsm" / made.name, asked)  # type: ignore[arg-type]  # all it needs of a SoftHsm
        return cls(final, label, serial, user_pin, so_pin, library, store)

    @property
    def module(self) -> Path:
        """The module, as softhsm2_fixtures calls it."""
        return self.library

    @property
    def name(self) -> str:
        """The description of the token's slot."""
        return self.directory.name

    def configure(self, **facts: str | int) -> None:
        """Set lines of ``token.conf`` (README.md). ``protected=1`` makes it a token with a PIN pad."""
        set_settings(self.directory / _SETTINGS, facts)

    def protect(self, pin: str | None = None) -> None:
        """Give the token a PIN pad, on which somebody enters a PIN at each login, by default the right one."""
        self.configure(protected=1, user_pin=self.user_pin if pin is None else pin)

    def add_key(
        self,
        kind: str = "sm2",
        *,
        object_id: bytes = b"\x01",
        label: str = "key",
        pem: bytes | None = None,
        public: bool = True,
        always_authenticate: bool = False,
    ) -> bytes:
        """Import a key pair.

        :param kind: one of :data:`SM2_KEY_KINDS`.
        :param pem: the private key, PKCS#8; by default the process's key of ``kind`` (fast, but the same everywhere).
        :param public: False leaves the public key object out.
        :return: the private key in PEM, to make certificates and to check signatures with.
        """
        key = _session_pem(kind) if pem is None else pem
        if kind == "sm2":
            pkcs8, sec1, public_key = _sm2_parts(key)
            self.store.hsm.ask(
                {
                    "op": "put_key",
                    "label": self.label,
                    "user_pin": self.user_pin,
                    "object_label": label,
                    "object_id": object_id.hex(),
                    "pkcs8": pkcs8.hex(),
                    "sec1": sec1.hex(),
                    "spki": public_key.hex(),
                    "public": public,
                    "always_authenticate": always_authenticate,
                    "readable": True,  # by the module, which shows it as sensitive
                }
            )
        else:
            loaded: Any = serialization.load_pem_private_key(key, None)
            self.store.add_key(
                label=label, object_id=object_id, key=loaded, public=public, always_authenticate=always_authenticate
            )
        return key

    def add_certificate(
        self, der: bytes, *, object_id: bytes = b"\x01", label: str = "certificate", subject: bytes | None = None
    ) -> None:
        """Store a certificate. ``subject``: DER Name, to store octets that are no certificate."""
        self.store.add_certificate(der, label=label, object_id=object_id, subject=subject)

    def add_data(self, value: bytes, *, label: str = "data", application: str = "", private: bool = False) -> None:
        """Store a data object, public unless told otherwise."""
        self.store.add_data(value, label=label, application=application, private=private)

    def delete(self, label: str) -> int:
        """Delete every object of a label and return how many there were."""
        return self.store.delete(label)

    def objects(self) -> list[dict[str, Any]]:
        """List what is stored, as SoftHSM has it: an SM2 key is readable there. See :meth:`SoftToken.objects`."""
        return self.store.objects()

    def set_fault(
        self, name: str, function: str, argument: object = None, *, times: int | None = None, late: bool = False
    ) -> None:
        """Add a fault to this token, see README.md. ``substitute`` takes a file of :attr:`directory`."""
        add_fault(self.directory, SM2_FAULTS, name, function, argument, times=times, late=late)

    def faults(self) -> list[str]:
        """Return the faults that are left, a line each: one with ``times`` goes when a call has begun to meet it."""
        path = self.directory / "faults"
        return [line for line in path.read_text().splitlines() if line] if path.exists() else []

    def clear_faults(self) -> None:
        """Remove this token's faults."""
        clear_faults(self.directory)

    def tries_left(self, *, so: bool = False) -> int:
        """Return the tries left on a PIN, as the token has them now."""
        kept, who = settings(self.directory / _SETTINGS), b"so" if so else b"user"
        return int(kept.get(who + b"_left", kept.get(who + b"_max", b"6")))

    def set_tries_left(self, left: int, *, so: bool = False) -> None:
        """Set the tries left on a PIN; 0 locks it."""
        set_settings(self.directory / _SETTINGS, {"so_left" if so else "user_left": left})

    def lock(self) -> None:
        """Lock the user PIN."""
        self.set_tries_left(0)

    def remove(self) -> None:
        """Pull the token: its sessions end in CKR_DEVICE_REMOVED, and new lists leave it out."""
        (self.directory / "removed").touch()

    def insert(self) -> None:
        """Plug a pulled token in again: sessions of before stay dead, and nobody is logged in."""
        path = self.directory / "insertions"
        set_settings(path, {"count": int(settings(path).get(b"count", b"0")) + 1})
        (self.directory / "removed").unlink(missing_ok=True)

    def destroy(self) -> None:
        """Delete the token."""
        shutil.rmtree(self.directory, ignore_errors=True)


@cache
def _session_pem(kind: str) -> bytes:
    if kind == "sm2":
        return session_key("sm2")
    key: softhsm.PrivateKey = softhsm.session_key(kind)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@cache
def _sm2_parts(pem: bytes) -> tuple[bytes, bytes, bytes]:
    """Return an SM2 key as PKCS#8, as ECPrivateKey with its curve, and its SubjectPublicKeyInfo, each in DER."""
    pkcs8 = openssl("pkcs8", "-topk8", "-nocrypt", "-outform", "DER", given=pem)
    return pkcs8, openssl("ec", "-outform", "DER", given=pem), spki(pem)
