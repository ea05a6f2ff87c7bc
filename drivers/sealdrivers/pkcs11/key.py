"""A private key on a token: :class:`sealdrivers.contract.Key`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealdrivers.contract import KeyInfo, KeyType, Mechanism
from sealdrivers.errors import DriverError, KeyNotFound, LoginRequired, MechanismNotSupported, NotSupported
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.binding import Object, Session
from sealdrivers.pkcs11.checks import wipe
from sealdrivers.pkcs11.errors import STALE_HANDLES
from sealdrivers.pkcs11.mechanisms import recipes
from sealdrivers.pkcs11.objects import find_private_keys
from sealdrivers.pkcs11.publickeys import read_spki

if TYPE_CHECKING:
    from sealdrivers.pkcs11.token import Pkcs11Token

__all__ = ["Pkcs11Key"]


class Pkcs11Key:
    """A private key. Before login it may only be assumed, from its public key or certificate."""

    def __init__(self, token: Pkcs11Token, info: KeyInfo) -> None:
        self._token = token
        self._info = info
        able = token.abilities()
        self._recipes = recipes(info.type, info.bits, able.offered) if info.mechanisms else {}
        self._sm2 = able.sm2
        self._handle = 0
        self._handles = -1

    @property
    def info(self) -> KeyInfo:
        return self._info

    def sign(
        self,
        mechanism: Mechanism,
        digest: bytes,
        pin: bytearray | None = None,
        *,
        confirmed_last_try: bool = False,
    ) -> bytes:
        try:
            if len(digest) != mechanism.digest_length:
                length = mechanism.digest_length
                raise MechanismNotSupported(f"{mechanism.value} signs {length} octets, not {len(digest)}")
            if mechanism is Mechanism.SM2_SM3 and self._info.type is KeyType.SM2:
                return self._sign_e(digest, pin, confirmed_last_try)
            recipe = self._recipes.get(mechanism)
            if recipe is None:
                raise MechanismNotSupported(f"a {self._info.type.value} key on this token cannot do {mechanism.value}")
            return recipe.result(self._sign(recipe.native, recipe.input(digest), pin, confirmed_last_try))
        finally:
            wipe(pin)

    def _sign_e(self, e: bytes, pin: bytearray | None, confirmed_last_try: bool) -> bytes:
        """Sign with SM2, by the best mechanism that is not known to sign anything else than e.

        Which one does shows in its first signature, so a module that is new may be asked more than once. A PIN that
        goes with a signature was right by then.
        """
        known = read_spki(self._info.public_key) if self._info.public_key else None
        if known is None:
            raise MechanismNotSupported("the key's public half cannot be read, so its signatures could not be checked")
        refused: DriverError | None = None
        for number in self._sm2.usable:
            try:
                answer = self._sign(abi.CK_MECHANISM(number), e, pin, confirmed_last_try)
            except (MechanismNotSupported, NotSupported) as error:
                refused = refused or error
                continue
            signature = self._sm2.signature(number, known.material, e, answer)
            if signature is not None:
                return signature
        raise (None if self._sm2.refusal else refused) or self._sm2.unsupported()

    def _sign(self, native: abi.CK_MECHANISM, data: bytes, pin: bytearray | None, confirmed_last_try: bool) -> bytes:
        login = pin is not None or self._info.always_authenticate
        if login:
            login = self._token.may_authenticate(pin, confirmed_last_try)
            if not login:  # OpenSC 0.23 ends the login of the token when such a key is used without
                raise LoginRequired("the key wants the PIN with each signature")
        last_try = login  # a PIN is never tried twice; a handle that died is looked up once more
        while True:
            try:
                session = self._token.session()
                if self._handles != self._token.handles:
                    self._handle = self._find(session).handle
                    self._handles = self._token.handles
                return session.sign(native, self._handle, data, login, pin)
            except DriverError as error:
                self._token.recover(error)
                if last_try or error.native_code not in STALE_HANDLES:
                    raise
            last_try = True

    def _find(self, session: Session) -> Object:
        found = find_private_keys(session, self._info)
        if len(found) == 1:
            return found[0]
        if found:
            raise KeyNotFound(f"{len(found)} private keys on the token match")
        self._token.require_login()
        raise KeyNotFound("the token holds no private key of this identifier")
