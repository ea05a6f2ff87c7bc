"""A private key on a token: :class:`sealdrivers.contract.Key`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealdrivers.contract import KeyInfo, Mechanism
from sealdrivers.errors import DriverError, KeyNotFound, LoginRequired, MechanismNotSupported
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.binding import MechanismFacts, Object, Session
from sealdrivers.pkcs11.checks import wipe
from sealdrivers.pkcs11.errors import STALE_HANDLES
from sealdrivers.pkcs11.mechanisms import recipes
from sealdrivers.pkcs11.objects import find_private_keys

if TYPE_CHECKING:
    from sealdrivers.pkcs11.token import Pkcs11Token

__all__ = ["Pkcs11Key"]


class Pkcs11Key:
    """A private key. Before login it may only be assumed, from its public key or certificate."""

    def __init__(self, token: Pkcs11Token, info: KeyInfo, offered: dict[int, MechanismFacts]) -> None:
        self._token = token
        self._info = info
        self._recipes = recipes(info.type, info.bits, offered) if info.mechanisms else {}
        self._handle = 0
        self._handles = -1

    @property
    def info(self) -> KeyInfo:
        return self._info

    def sign(self, mechanism: Mechanism, digest: bytes, pin: bytearray | None = None) -> bytes:
        try:
            recipe = self._recipes.get(mechanism)
            if recipe is None:
                raise MechanismNotSupported(f"a {self._info.type.value} key on this token cannot do {mechanism.value}")
            if len(digest) != recipe.digest_length:
                raise MechanismNotSupported(f"{mechanism.value} signs {recipe.digest_length} octets, not {len(digest)}")
            login = pin is not None or self._info.always_authenticate
            if login:
                login = self._token.may_authenticate(pin)
                if not login:  # OpenSC 0.23 ends the login of the token when such a key is used without
                    raise LoginRequired("the key wants the PIN with each signature")
            data = recipe.input(digest)
            last_try = login  # a PIN is never tried twice; a handle that died is looked up once more
            while True:
                try:
                    return recipe.result(self._sign(recipe.native, data, login, pin))
                except DriverError as error:
                    self._token.recover(error)
                    if last_try or error.native_code not in STALE_HANDLES:
                        raise
                last_try = True
        finally:
            wipe(pin)

    def _sign(self, native: abi.CK_MECHANISM, data: bytes, login: bool, pin: bytearray | None) -> bytes:
        session = self._token.session()
        if self._handles != self._token.handles:
            self._handle = self._find(session).handle
            self._handles = self._token.handles
        return session.sign(native, self._handle, data, login, pin)

    def _find(self, session: Session) -> Object:
        found = find_private_keys(session, self._info)
        if len(found) == 1:
            return found[0]
        if found:
            raise KeyNotFound(f"{len(found)} private keys on the token match")
        self._token.require_login()
        raise KeyNotFound("the token holds no private key of this identifier")
