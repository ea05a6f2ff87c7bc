"""What is checked before anything goes to the token."""

from __future__ import annotations

from sealdrivers.errors import ObjectInvalid, PinRejected
from sealdrivers.pkcs11.binding import TokenFacts

__all__ = ["MAX_NAME", "MAX_PIN", "check_names", "check_pin", "wipe"]

MAX_PIN = 255
"""Octets of a PIN where the token names no limit."""

MAX_NAME = 255
"""Octets of a CKA_ID, a label or an application name that the driver writes."""


def check_pin(pin: bytearray, facts: TokenFacts) -> None:
    """:raises PinRejected: the token cannot take this PIN; no try is spent on it."""
    if not pin:
        raise PinRejected("the PIN is empty")
    if len(pin) > (facts.max_pin or MAX_PIN) or len(pin) < facts.min_pin:
        raise PinRejected(f"the token takes PINs of {facts.min_pin} to {facts.max_pin or MAX_PIN} octets")
    if not pin.isascii():  # only such a PIN is copied, for a moment
        try:
            pin.decode("utf-8")
        except UnicodeDecodeError:
            raise PinRejected("the PIN is not UTF-8") from None


def check_names(label: str, *, object_id: bytes | None = None, application: str = "") -> None:
    """:raises ObjectInvalid: one of them is empty, too long, or cannot be written."""
    if not 0 < _octets(label) <= MAX_NAME:
        raise ObjectInvalid(f"a label has 1 to {MAX_NAME} octets")
    if _octets(application) > MAX_NAME:
        raise ObjectInvalid(f"an application name has at most {MAX_NAME} octets")
    if object_id is not None and not 0 < len(object_id) <= MAX_NAME:
        raise ObjectInvalid(f"an identifier has 1 to {MAX_NAME} octets")


def _octets(text: str) -> int:
    if "\0" in text:  # other programs read it as a C string
        raise ObjectInvalid("a name on a token cannot contain NUL")
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise ObjectInvalid("a name on a token is Unicode text without surrogates") from None


def wipe(buffer: bytearray | None) -> None:
    """Overwrite a PIN."""
    if buffer is not None:
        buffer[:] = bytes(len(buffer))
