"""What a PKCS#11 token says of its PINs, and what is asked of it before one is sent."""

from __future__ import annotations

from sealdrivers.contract import PinState
from sealdrivers.errors import AdminPinIncorrect, AdminPinLocked, PinIncorrect, PinLastTry, PinLocked
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.binding import Session, TokenFacts

__all__ = ["admin_pin", "guard", "log_admin_in", "user_pin"]

_USER, _ADMIN = "the PIN", "the administrator's PIN"


def user_pin(flags: int) -> PinState:
    """Return what CK_TOKEN_INFO.flags says of the user's PIN."""
    return PinState(
        initialized=bool(flags & abi.CKF_USER_PIN_INITIALIZED),
        count_low=bool(flags & abi.CKF_USER_PIN_COUNT_LOW),
        final_try=bool(flags & abi.CKF_USER_PIN_FINAL_TRY),
        locked=bool(flags & abi.CKF_USER_PIN_LOCKED),
        factory_pin=bool(flags & abi.CKF_USER_PIN_TO_BE_CHANGED),
    )


def admin_pin(flags: int) -> PinState:
    """Return what CK_TOKEN_INFO.flags says of the security officer's PIN."""
    return PinState(
        count_low=bool(flags & abi.CKF_SO_PIN_COUNT_LOW),
        final_try=bool(flags & abi.CKF_SO_PIN_FINAL_TRY),
        locked=bool(flags & abi.CKF_SO_PIN_LOCKED),
    )


def guard(pin: PinState, confirmed_last_try: bool, *, admin: bool = False) -> None:
    """Refuse what the flags of now forbid; a PIN goes to the module only after it.

    :raises PinLocked: no try is possible (of the administrator's PIN: :class:`AdminPinLocked`).
    :raises PinLastTry: the next wrong PIN locks it, and the holder has not confirmed that.
    """
    whose, locked = (_ADMIN, AdminPinLocked) if admin else (_USER, PinLocked)
    if pin.locked:
        raise locked(f"{whose} is locked", locked=True)
    if pin.last_try and not confirmed_last_try:
        raise PinLastTry(f"one try is left for {whose}; nobody confirmed it, and nothing was sent", final_try=True)


def log_admin_in(session: Session, facts: TokenFacts, pin: bytearray, confirmed_last_try: bool) -> None:
    """Log the security officer in, in a session that allows it.

    :raises AdminPinIncorrect: one try was spent. :raises AdminPinLocked: none was possible.
    :raises PinLastTry: nothing was sent.
    """
    guard(admin_pin(facts.flags), confirmed_last_try, admin=True)
    try:
        session.login_admin(pin)
    except (PinIncorrect, PinLocked) as error:
        kind = AdminPinIncorrect if isinstance(error, PinIncorrect) else AdminPinLocked
        message = error.message.replace(_USER, _ADMIN)
        raise kind(message, native_code=error.native_code, native_name=error.native_name) from error
