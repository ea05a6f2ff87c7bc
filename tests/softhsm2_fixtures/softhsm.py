"""SoftHSM tokens for tests: made, filled, locked and pulled out of process."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from .keys import KeyKind, PrivateKey, curve_parameters, session_key, spki
from .process import HelperProcess, SoftHsmError

__all__ = ["CONF_VARIABLE", "SM2_CURVE", "SoftHsm", "SoftHsmError", "SoftToken", "configuration", "make_token"]

CONF_VARIABLE = "SOFTHSM2_CONF"
SM2_CURVE = "06082a811ccf5501822d"
"""CKA_EC_PARAMS of the SM2 curve. SoftHSM makes such a key and then signs ECDSA with it, which is no SM2 signature."""

_TOKEN_FLAGS = bytes.fromhex("000000008000534b0000000000000002")
"""How token.object marks the attribute that holds CK_TOKEN_INFO.flags: its type, and the kind "unsigned long"."""
_COUNT_LOW, _FINAL_TRY, _LOCKED = 0x10000, 0x20000, 0x40000
_ADMIN_SHIFT = 4
"""Bits between a flag of the user PIN and the same flag of the security officer's."""


@dataclass(frozen=True)
class SoftToken:
    """One initialised token.

    Its methods act in a child process: a program under test sees a token that something else has written to, and the
    login state of the tests' own process is never touched.
    """

    label: str
    serial: str
    user_pin: str = field(repr=False)
    so_pin: str = field(repr=False)
    directory: Path
    """The token's own directory, inside the session's token directory."""
    hsm: SoftHsm = field(repr=False)

    @property
    def module(self) -> Path:
        """Path of SoftHSM's library."""
        return self.hsm.module

    def add_key(
        self,
        kind: KeyKind = "ec-p256",
        *,
        label: str = "key",
        object_id: bytes = b"\x01",
        key: PrivateKey | None = None,
        public: bool = True,
        always_authenticate: bool = False,
    ) -> PrivateKey:
        """Import a key pair; the private key is sensitive and cannot be extracted.

        :param key: the pair; by default the session's key of ``kind`` (fast, but the same on each token).
        :param public: False leaves the public key object out.
        :return: the pair, to check signatures with.
        """
        pair = session_key(kind) if key is None else key
        self._ask(
            "put_key",
            object_label=label,
            object_id=object_id.hex(),
            pkcs8=_private(pair, serialization.PrivateFormat.PKCS8),
            sec1=_private(pair, serialization.PrivateFormat.TraditionalOpenSSL),
            spki=spki(pair).hex(),
            public=public,
            always_authenticate=always_authenticate,
        )
        return pair

    def generate_key(self, kind: KeyKind, *, label: str = "key", object_id: bytes = b"\x01") -> None:
        """Generate a key pair on the token (RSA-4096 takes seconds)."""
        if kind.startswith("ec-"):
            self.generate_curve_key(curve_parameters(kind), label=label, object_id=object_id)
        else:
            bits = int(kind.removeprefix("rsa-"))
            self._ask("generate", object_label=label, object_id=object_id.hex(), bits=bits)

    def generate_curve_key(self, ec_params: str, *, label: str = "key", object_id: bytes = b"\x01") -> None:
        """Generate a key pair on any curve, e.g. :data:`SM2_CURVE`."""
        self._ask("generate", object_label=label, object_id=object_id.hex(), ec_params=ec_params)

    def add_certificate(
        self, der: bytes, *, label: str = "certificate", object_id: bytes = b"\x01", subject: bytes | None = None
    ) -> None:
        """Store a certificate.

        :param subject: DER Name; by default that of the certificate. Give one to store octets that are no certificate.
        """
        name = x509.load_der_x509_certificate(der).subject.public_bytes() if subject is None else subject
        self._ask("put_certificate", object_label=label, object_id=object_id.hex(), value=der.hex(), subject=name.hex())

    def add_data(self, value: bytes, *, label: str = "data", application: str = "", private: bool = False) -> None:
        """Store a data object, public unless told otherwise."""
        self._ask("put_data", object_label=label, application=application, value=value.hex(), private=private)

    def objects(self) -> list[dict[str, Any]]:
        """List what the logged-in user sees: ``class``, ``label``, ``id``; for private keys also their protection."""
        listed: list[dict[str, Any]] = self._ask("objects")
        return listed

    def delete(self, label: str) -> int:
        """Delete every object of a label and return how many there were."""
        count: int = self._ask("delete", object_label=label)
        return count

    def enter_wrong_pin(self) -> None:
        """Enter a wrong user PIN; SoftHSM then raises CKF_USER_PIN_COUNT_LOW, and never locks by itself."""
        self._ask("wrong_pin", pin=f"{self.user_pin}x")

    def set_pin_flags(
        self, *, count_low: bool = False, final_try: bool = False, locked: bool = False, admin: bool = False
    ) -> None:
        """Write the flags of the user PIN, or of the security officer's, that C_GetTokenInfo shows.

        SoftHSM 2.6.1 counts no tries, so FINAL_TRY and LOCKED are written into its token file. C_Login still
        takes the right PIN: the flags are what a program must heed. For the return value CKR_PIN_LOCKED see
        :mod:`softhsm2_fixtures.faults`.
        """
        shift = _ADMIN_SHIFT * admin
        data, at = self._token_file()
        flags = int.from_bytes(data[at : at + 8], "big") & ~((_COUNT_LOW | _FINAL_TRY | _LOCKED) << shift)
        flags |= (count_low * _COUNT_LOW | final_try * _FINAL_TRY | locked * _LOCKED) << shift
        data[at : at + 8] = flags.to_bytes(8, "big")
        data[:8] = (int.from_bytes(data[:8], "big") + 1).to_bytes(8, "big")  # generation: other processes read again
        (self.directory / "token.object").write_bytes(data)

    def pin_flags(self) -> int:
        """Return CK_TOKEN_INFO.flags as the token file has them."""
        data, at = self._token_file()
        return int.from_bytes(data[at : at + 8], "big")

    def _token_file(self) -> tuple[bytearray, int]:
        data = bytearray((self.directory / "token.object").read_bytes())
        return data, data.index(_TOKEN_FLAGS) + len(_TOKEN_FLAGS)

    def lock(self) -> None:
        """Show the user PIN as locked; see :meth:`set_pin_flags`."""
        self.set_pin_flags(locked=True)

    def remove(self) -> None:
        """Pull the token: its directory leaves the token directory."""
        self.directory.rename(self._drawer)

    def insert(self) -> None:
        """Plug a pulled token in again."""
        self._drawer.rename(self.directory)

    def destroy(self) -> None:
        """Delete the token, plugged in or not."""
        for place in (self.directory, self._drawer):
            shutil.rmtree(place, ignore_errors=True)

    @property
    def _drawer(self) -> Path:
        return self.hsm.drawer / self.directory.name

    def _ask(self, op: str, **facts: Any) -> Any:
        return self.hsm.ask({"op": op, "label": self.label, "user_pin": self.user_pin, **facts})


def configuration(tokens: Path) -> str:
    """Return the text of SoftHSM's configuration for a token directory."""
    return f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"


def make_token(module: Path, util: Path, conf: Path, tokens: Path, label: str, *, user_pin: str, so_pin: str) -> Path:
    """Make a token in a token directory. :return: its own directory. :raises SoftHsmError: SoftHSM refused."""
    before = set(tokens.iterdir())
    command = [str(util), "--module", str(module), "--init-token", "--free", "--label", label]
    done = subprocess.run(
        [*command, "--so-pin", so_pin, "--pin", user_pin],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, CONF_VARIABLE: str(conf)},
    )
    made = set(tokens.iterdir()) - before
    if done.returncode != 0 or len(made) != 1:
        raise SoftHsmError(f"softhsm2-util made no token: {done.stderr or done.stdout}")
    return made.pop()


def _private(key: PrivateKey, form: serialization.PrivateFormat) -> str:
    return key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption()).hex()


class SoftHsm:
    """SoftHSM with a token directory of its own, set in ``SOFTHSM2_CONF`` for this process and its children.

    :param directory: an empty directory to work in.
    """

    def __init__(self, module: Path, util: Path, directory: Path) -> None:
        self.module = module
        self.util = util
        self.tokens = directory / "tokens"
        self.drawer = directory / "drawer"
        self.conf = directory / "softhsm2.conf"
        for folder in (self.tokens, self.drawer):
            folder.mkdir(mode=0o700)
        self.conf.write_text(configuration(self.tokens))
        self._before = os.environ.get(CONF_VARIABLE)
        os.environ[CONF_VARIABLE] = str(self.conf)
        self._helper = HelperProcess(module)
        self._numbers = itertools.count(1)
        self._made: list[SoftToken] = []

    def new_token(
        self, label: str | None = None, *, user_pin: str | None = None, so_pin: str | None = None
    ) -> SoftToken:
        """Make a token; label and PINs are unique in the session unless given."""
        number = next(self._numbers)
        label = label or f"test token {number}"
        user_pin = user_pin or f"user-{number:04}"
        so_pin = so_pin or f"so-pin-{number:04}"
        made = make_token(self.module, self.util, self.conf, self.tokens, label, user_pin=user_pin, so_pin=so_pin)
        serial = self.ask({"op": "serial", "label": label})
        self._made.append(SoftToken(label, serial, user_pin, so_pin, made, self))
        return self._made[-1]

    def destroy_tokens(self) -> None:
        """Delete every token that was made here and is still there."""
        while self._made:
            self._made.pop().destroy()

    def ask(self, request: dict[str, Any]) -> Any:
        """Let the helper process carry out one request. :raises SoftHsmError: it refused."""
        return self._helper.ask(request | {"conf": str(self.conf)})

    def close(self) -> None:
        """End the helper process and restore ``SOFTHSM2_CONF``; the directory is left to pytest."""
        self._helper.close()
        if self._before is None:
            os.environ.pop(CONF_VARIABLE, None)
        else:
            os.environ[CONF_VARIABLE] = self._before
