"""The error tree of the drivers.

A driver maps each native return value once, at its edge, to one of these; the native value stays in ``native_code``
and ``native_name``. An error crosses the worker's socket as ``to_wire()`` and comes out as the same class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "AccessRefused",
    "AdminPinIncorrect",
    "AdminPinLocked",
    "DeviceFailure",
    "DriverError",
    "KeyNotFound",
    "LoginRequired",
    "MechanismNotSupported",
    "ModuleNotAllowed",
    "ModuleNotLoadable",
    "NotSupported",
    "ObjectExists",
    "ObjectInvalid",
    "PinIncorrect",
    "PinLastTry",
    "PinLocked",
    "PinRejected",
    "TokenFull",
    "TokenNotFound",
    "TokenRemoved",
    "UriError",
    "WorkerDied",
    "WorkerProtocolError",
    "WorkerTimeout",
]


class DriverError(Exception):
    """Base of every driver error.

    :param message: one English sentence, never a secret.
    :param native_code: the library's own return value, where there is one.
    :param native_name: its name in the standard, e.g. ``CKR_PIN_INCORRECT``.
    :param tries_left: PIN tries left, where the device counts them.
    :param count_low: a wrong PIN was entered since the last right one (CKF_USER_PIN_COUNT_LOW).
    :param final_try: the next wrong PIN locks the token (CKF_USER_PIN_FINAL_TRY).
    :param locked: the PIN is locked (CKF_USER_PIN_LOCKED).
    """

    code: ClassVar[str] = "driver_error"
    _registry: ClassVar[dict[str, type[DriverError]]] = {}

    def __init__(
        self,
        message: str,
        *,
        native_code: int | None = None,
        native_name: str | None = None,
        tries_left: int | None = None,
        count_low: bool | None = None,
        final_try: bool | None = None,
        locked: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.native_code = native_code
        self.native_name = native_name
        self.tries_left = tries_left
        self.count_low = count_low
        self.final_try = final_try
        self.locked = locked

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        DriverError._registry[cls.code] = cls

    def facts(self) -> dict[str, Any]:
        """Return the facts that are known, without the message."""
        names = ("native_code", "native_name", "tries_left", "count_low", "final_try", "locked")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def to_wire(self) -> dict[str, Any]:
        """Return the error as JSON values."""
        return {"code": self.code, "message": self.message, **self.facts()}

    @staticmethod
    def from_wire(wire: Mapping[str, Any]) -> DriverError:
        """Build the error again; an unknown code becomes a plain :class:`DriverError`."""
        facts = {name: value for name, value in wire.items() if name not in ("code", "message")}
        known = ("native_code", "native_name", "tries_left", "count_low", "final_try", "locked")
        kind = DriverError._registry.get(str(wire.get("code")), DriverError)
        return kind(str(wire.get("message", "")), **{name: facts[name] for name in known if name in facts})


class ModuleNotAllowed(DriverError):
    """The module's resolved path is not on the allow-list."""

    code = "module_not_allowed"


class ModuleNotLoadable(DriverError):
    """The file is not there, is no library, or refused to initialise."""

    code = "module_not_loadable"


class UriError(DriverError):
    """A PKCS#11 URI (RFC 7512) or its ``skf:`` mirror is malformed."""

    code = "uri_invalid"


class TokenNotFound(DriverError):
    """No present token matches."""

    code = "token_not_found"


class TokenRemoved(DriverError):
    """The token went away while it was in use."""

    code = "token_removed"


class KeyNotFound(DriverError):
    """The token holds no such key."""

    code = "key_not_found"


class ObjectExists(DriverError):
    """The token already holds an object with that identifier; nothing was changed."""

    code = "object_exists"


class ObjectInvalid(DriverError):
    """What is to be stored is malformed, too large, or of another key; nothing was changed."""

    code = "object_invalid"


class PinIncorrect(DriverError):
    """The PIN was wrong. It is never tried again by itself."""

    code = "pin_incorrect"


class PinLocked(DriverError):
    """The PIN is locked; only the token's administrator can unblock it."""

    code = "pin_locked"


class AdminPinIncorrect(PinIncorrect):
    """The administrator's PIN was wrong; the facts are those of its own counter."""

    code = "admin_pin_incorrect"


class AdminPinLocked(PinLocked):
    """The administrator's PIN is locked, and nothing on the token can be unblocked any more."""

    code = "admin_pin_locked"


class PinLastTry(DriverError):
    """One try is left and nobody has confirmed that it may be spent: the PIN was not sent to the device."""

    code = "pin_last_try"


class PinRejected(DriverError):
    """The PIN has a length or a character that the token does not allow, or is not set yet; no try was spent."""

    code = "pin_rejected"


class LoginRequired(DriverError):
    """The operation needs the PIN first."""

    code = "login_required"


class AccessRefused(DriverError):
    """The token forbids the operation (write-protected, not exportable, policy of the device)."""

    code = "access_refused"


class MechanismNotSupported(DriverError):
    """The key or the token cannot do this mechanism."""

    code = "mechanism_not_supported"


class TokenFull(DriverError):
    """The token has no room left."""

    code = "token_full"


class DeviceFailure(DriverError):
    """The device or its library failed in a way that says no more than that."""

    code = "device_failure"


class NotSupported(DriverError):
    """The driver does not offer the operation."""

    code = "not_supported"


class WorkerDied(DriverError):
    """The worker process ended in the middle of a request; a new one is started for the next."""

    code = "worker_died"


class WorkerTimeout(DriverError):
    """The module did not answer in time; its worker was killed and is started anew."""

    code = "worker_timeout"


class WorkerProtocolError(DriverError):
    """What came over the worker's socket is not the protocol."""

    code = "worker_protocol"
