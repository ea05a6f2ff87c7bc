"""PINs of an application: what is known of their counters, and the calls that spend a try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sealdrivers.contract import PinState
from sealdrivers.errors import (
    AdminPinIncorrect,
    AdminPinLocked,
    DriverError,
    PinIncorrect,
    PinLastTry,
    PinLocked,
    PinRejected,
    TokenRemoved,
)
from sealdrivers.skf import abi
from sealdrivers.skf.errors import SAR, failure
from sealdrivers.skf.library import Library, Number

__all__ = ["MAX_PIN", "Tries", "check_pin", "pin_state", "spend", "tries"]

MAX_PIN = 255
"""Octets of a PIN; how many a device really takes, it says itself."""

MAX_TRIES = 255
"""Tries a counter can hold. A library that names more has not written the number, or does not know it."""


_WORDS: dict[int, tuple[str, type[PinIncorrect], type[PinLocked]]] = {
    abi.USER: ("the PIN", PinIncorrect, PinLocked),
    abi.ADMIN: ("the administrator's PIN", AdminPinIncorrect, AdminPinLocked),
}


@dataclass(frozen=True, slots=True)
class Tries:
    """The counter of a PIN."""

    left: int
    most: int | None
    factory_pin: bool


def check_pin(pin: bytearray) -> None:
    """:raises PinRejected: no device can take this PIN; no try is spent on it."""
    if not pin:
        raise PinRejected("the PIN is empty")
    if len(pin) > MAX_PIN:
        raise PinRejected(f"the PIN is longer than {MAX_PIN} octets")
    if 0 in pin:  # the library would see the part before it, and count it as wrong
        raise PinRejected("the PIN has a NUL character")
    if not pin.isascii():  # only such a PIN is copied, for a moment
        try:
            pin.decode("utf-8")
        except UnicodeDecodeError:
            raise PinRejected("the PIN is not UTF-8") from None


def tries(library: Library, application: int, kind: int) -> Tries | None:
    """Read the counter of a PIN, which spends nothing; None where the library does not tell.

    :raises TokenRemoved: the device is gone. :raises PinRejected: there is no such PIN yet.
    """
    most, left, factory = Number(), Number(), Number(0)
    try:
        library.call("SKF_GetPINInfo", application, kind, most, left, factory)
    except (TokenRemoved, PinRejected):
        raise
    except DriverError:
        return None
    if left.value > MAX_TRIES:
        return None
    return Tries(left.value, most.value if left.value <= most.value <= MAX_TRIES else None, factory.value != 0)


def pin_state(library: Library, application: int, kind: int) -> PinState:
    """Return what is known of the user's or the administrator's PIN. :raises TokenRemoved: the device is gone."""
    try:
        known = tries(library, application, kind)
    except PinRejected:
        return PinState(initialized=False)
    if known is None:
        return PinState()
    return PinState(
        tries_left=known.left,
        count_low=known.most is not None and known.left < known.most,
        final_try=known.left == 1,
        locked=known.left == 0,
        factory_pin=known.factory_pin,
    )


def spend(
    library: Library, application: int, kind: int, name: str, call: Callable[[Number], int], *, confirmed_last_try: bool
) -> None:
    """Do a call that looks at a PIN, unless it is known to be locked, or to have one try left that nobody confirmed.

    A wrong PIN is known by the counter, too, whatever value the library answers with: nobody may take it for a failure
    of the device and offer the same PIN again.

    :param kind: whose PIN it is.
    :param call: gets room for the number of tries left.
    :raises PinIncorrect: with the counter after the try. :raises PinLocked: no try was possible. Of the administrator's
        PIN they are :class:`AdminPinIncorrect` and :class:`AdminPinLocked`.
    :raises PinLastTry: the call was not made.
    """
    whose, incorrect, locked = _WORDS[kind]
    before = tries(library, application, kind)
    if before is not None and before.left == 0:
        raise locked(f"{whose} is locked", tries_left=0, locked=True)
    if before is not None and before.left == 1 and not confirmed_last_try:
        message = f"one try is left for {whose}; nobody confirmed it, and nothing was sent"
        raise PinLastTry(message, tries_left=1, final_try=True)
    told = Number()
    code = call(told)
    if code == abi.OK:
        return
    error = failure(code, name)
    if isinstance(error, TokenRemoved):
        raise error
    try:
        after = tries(library, application, kind)
    except DriverError:
        after = None
    was_tried = isinstance(error, PinIncorrect)
    if not isinstance(error, PinIncorrect | PinLocked) and before is not None and after is not None:
        was_tried = after.left < before.left
    if was_tried:
        known = [number for number in (told.value, after.left if after else MAX_TRIES + 1) if number <= MAX_TRIES]
        left = min(known, default=None)
        raise incorrect(
            f"{name}: {whose} is incorrect ({error.native_name})",
            native_code=error.native_code,
            native_name=error.native_name,
            tries_left=left,
            count_low=True,
            final_try=left == 1 if left is not None else None,
            locked=left == 0 if left is not None else None,
        )
    if code == SAR["SAR_PIN_LOCKED"]:
        message = f"{name}: {whose} is locked ({error.native_name})"
        raise locked(message, native_code=code, native_name=error.native_name, tries_left=0, locked=True)
    raise error
