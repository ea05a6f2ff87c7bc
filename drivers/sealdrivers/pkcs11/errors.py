"""What each CKR value means to the agent: the one mapping of native errors (PKCS#11 2.40 clause 6.1, and 3.x)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pkcs11

from sealdrivers.errors import (
    AccessRefused,
    DeviceFailure,
    DriverError,
    LoginRequired,
    MechanismNotSupported,
    NotSupported,
    PinIncorrect,
    PinLocked,
    PinRejected,
    TokenFull,
    TokenRemoved,
)

__all__ = ["CKR", "CKR_NAMES", "STALE_HANDLES", "failure", "translated"]

_TABLE: tuple[tuple[int, str, type[DriverError], str], ...] = (
    (0x001, "CANCEL", AccessRefused, "the operation was cancelled on the device"),
    (0x002, "HOST_MEMORY", DeviceFailure, "the module is out of memory"),
    (0x003, "SLOT_ID_INVALID", TokenRemoved, "the token's slot is gone"),
    (0x005, "GENERAL_ERROR", DeviceFailure, "the module reports a general error"),
    (0x006, "FUNCTION_FAILED", DeviceFailure, "the module reports that the function failed"),
    (0x007, "ARGUMENTS_BAD", DeviceFailure, "the module refuses the arguments"),
    (0x008, "NO_EVENT", DeviceFailure, "there is no slot event"),
    (0x009, "NEED_TO_CREATE_THREADS", DeviceFailure, "the module wants to create threads"),
    (0x00A, "CANT_LOCK", DeviceFailure, "the module cannot lock"),
    (0x010, "ATTRIBUTE_READ_ONLY", AccessRefused, "the attribute cannot be changed"),
    (0x011, "ATTRIBUTE_SENSITIVE", AccessRefused, "the attribute is sensitive"),
    (0x012, "ATTRIBUTE_TYPE_INVALID", NotSupported, "the token does not know an attribute"),
    (0x013, "ATTRIBUTE_VALUE_INVALID", NotSupported, "the token does not take the value of an attribute"),
    (0x01B, "ACTION_PROHIBITED", AccessRefused, "the token prohibits the action"),
    (0x020, "DATA_INVALID", MechanismNotSupported, "the device does not sign this input"),
    (0x021, "DATA_LEN_RANGE", MechanismNotSupported, "the device does not sign input of this length"),
    (0x030, "DEVICE_ERROR", DeviceFailure, "the device reports an error"),
    (0x031, "DEVICE_MEMORY", TokenFull, "the token has no memory left"),
    (0x032, "DEVICE_REMOVED", TokenRemoved, "the device was removed"),
    (0x040, "ENCRYPTED_DATA_INVALID", DeviceFailure, "the encrypted data is invalid"),
    (0x041, "ENCRYPTED_DATA_LEN_RANGE", DeviceFailure, "the encrypted data has a bad length"),
    (0x050, "FUNCTION_CANCELED", AccessRefused, "the operation was cancelled on the device"),
    (0x051, "FUNCTION_NOT_PARALLEL", DeviceFailure, "the function does not run in parallel"),
    (0x054, "FUNCTION_NOT_SUPPORTED", NotSupported, "the module does not offer the function"),
    (0x060, "KEY_HANDLE_INVALID", DeviceFailure, "the key handle is not valid any more"),
    (0x062, "KEY_SIZE_RANGE", MechanismNotSupported, "the key's size does not suit the mechanism"),
    (0x063, "KEY_TYPE_INCONSISTENT", MechanismNotSupported, "the key's type does not suit the mechanism"),
    (0x064, "KEY_NOT_NEEDED", DeviceFailure, "the operation takes no key"),
    (0x065, "KEY_CHANGED", DeviceFailure, "the key has changed"),
    (0x066, "KEY_NEEDED", DeviceFailure, "the operation needs a key"),
    (0x067, "KEY_INDIGESTIBLE", DeviceFailure, "the key cannot be digested"),
    (0x068, "KEY_FUNCTION_NOT_PERMITTED", MechanismNotSupported, "the key may not be used for this"),
    (0x069, "KEY_NOT_WRAPPABLE", AccessRefused, "the key cannot be wrapped"),
    (0x06A, "KEY_UNEXTRACTABLE", AccessRefused, "the key cannot be extracted"),
    (0x070, "MECHANISM_INVALID", MechanismNotSupported, "the token does not offer the mechanism"),
    (0x071, "MECHANISM_PARAM_INVALID", MechanismNotSupported, "the token does not take the mechanism's parameters"),
    (0x082, "OBJECT_HANDLE_INVALID", DeviceFailure, "the object handle is not valid any more"),
    (0x090, "OPERATION_ACTIVE", DeviceFailure, "an earlier operation is still active"),
    (0x091, "OPERATION_NOT_INITIALIZED", DeviceFailure, "the operation was not initialised"),
    (0x0A0, "PIN_INCORRECT", PinIncorrect, "the PIN is incorrect"),
    (0x0A1, "PIN_INVALID", PinRejected, "the PIN has a character the token does not allow"),
    (0x0A2, "PIN_LEN_RANGE", PinRejected, "the PIN is too short or too long for the token"),
    (0x0A3, "PIN_EXPIRED", PinRejected, "the PIN has expired; change it first"),
    (0x0A4, "PIN_LOCKED", PinLocked, "the PIN is locked"),
    (0x0B0, "SESSION_CLOSED", DeviceFailure, "the session was closed"),
    (0x0B1, "SESSION_COUNT", DeviceFailure, "the token allows no further session"),
    (0x0B3, "SESSION_HANDLE_INVALID", DeviceFailure, "the session is not valid any more"),
    (0x0B4, "SESSION_PARALLEL_NOT_SUPPORTED", DeviceFailure, "parallel sessions are not supported"),
    (0x0B5, "SESSION_READ_ONLY", AccessRefused, "the session is read-only"),
    (0x0B6, "SESSION_EXISTS", DeviceFailure, "another session is open"),
    (0x0B7, "SESSION_READ_ONLY_EXISTS", DeviceFailure, "a read-only session is open"),
    (0x0B8, "SESSION_READ_WRITE_SO_EXISTS", AccessRefused, "the token's administrator is logged in"),
    (0x0C0, "SIGNATURE_INVALID", DeviceFailure, "the signature is invalid"),
    (0x0C1, "SIGNATURE_LEN_RANGE", DeviceFailure, "the signature has a bad length"),
    (0x0D0, "TEMPLATE_INCOMPLETE", NotSupported, "the token wants further attributes"),
    (0x0D1, "TEMPLATE_INCONSISTENT", NotSupported, "the token does not take these attributes together"),
    (0x0E0, "TOKEN_NOT_PRESENT", TokenRemoved, "the token is not present"),
    (0x0E1, "TOKEN_NOT_RECOGNIZED", DeviceFailure, "the module does not recognise the token"),
    (0x0E2, "TOKEN_WRITE_PROTECTED", AccessRefused, "the token is write-protected"),
    (0x0F0, "UNWRAPPING_KEY_HANDLE_INVALID", DeviceFailure, "the unwrapping key's handle is invalid"),
    (0x0F1, "UNWRAPPING_KEY_SIZE_RANGE", DeviceFailure, "the unwrapping key's size is unsuitable"),
    (0x0F2, "UNWRAPPING_KEY_TYPE_INCONSISTENT", DeviceFailure, "the unwrapping key's type is unsuitable"),
    (0x100, "USER_ALREADY_LOGGED_IN", DeviceFailure, "the user is logged in already"),
    (0x101, "USER_NOT_LOGGED_IN", LoginRequired, "the PIN is needed first"),
    (0x102, "USER_PIN_NOT_INITIALIZED", PinRejected, "the token has no user PIN yet"),
    (0x103, "USER_TYPE_INVALID", NotSupported, "the token has no such user"),
    (0x104, "USER_ANOTHER_ALREADY_LOGGED_IN", AccessRefused, "another user is logged in"),
    (0x105, "USER_TOO_MANY_TYPES", AccessRefused, "too many users are logged in"),
    (0x110, "WRAPPED_KEY_INVALID", DeviceFailure, "the wrapped key is invalid"),
    (0x112, "WRAPPED_KEY_LEN_RANGE", DeviceFailure, "the wrapped key has a bad length"),
    (0x113, "WRAPPING_KEY_HANDLE_INVALID", DeviceFailure, "the wrapping key's handle is invalid"),
    (0x114, "WRAPPING_KEY_SIZE_RANGE", DeviceFailure, "the wrapping key's size is unsuitable"),
    (0x115, "WRAPPING_KEY_TYPE_INCONSISTENT", DeviceFailure, "the wrapping key's type is unsuitable"),
    (0x120, "RANDOM_SEED_NOT_SUPPORTED", NotSupported, "the token takes no seed"),
    (0x121, "RANDOM_NO_RNG", NotSupported, "the token has no random generator"),
    (0x130, "DOMAIN_PARAMS_INVALID", MechanismNotSupported, "the token does not offer the curve"),
    (0x140, "CURVE_NOT_SUPPORTED", MechanismNotSupported, "the token does not offer the curve"),
    (0x150, "BUFFER_TOO_SMALL", DeviceFailure, "the module's answer is larger than any signature"),
    (0x160, "SAVED_STATE_INVALID", DeviceFailure, "the saved state is invalid"),
    (0x170, "INFORMATION_SENSITIVE", AccessRefused, "the information is sensitive"),
    (0x180, "STATE_UNSAVEABLE", DeviceFailure, "the state cannot be saved"),
    (0x190, "CRYPTOKI_NOT_INITIALIZED", DeviceFailure, "the module is not initialised"),
    (0x191, "CRYPTOKI_ALREADY_INITIALIZED", DeviceFailure, "the module is initialised already"),
    (0x1A0, "MUTEX_BAD", DeviceFailure, "the module's lock is bad"),
    (0x1A1, "MUTEX_NOT_LOCKED", DeviceFailure, "the module's lock is not held"),
    (0x1B0, "NEW_PIN_MODE", PinRejected, "the token wants a new PIN"),
    (0x1B1, "NEXT_OTP", AccessRefused, "the token wants the next one-time password"),
    (0x1B5, "EXCEEDED_MAX_ITERATIONS", DeviceFailure, "the device gave up generating"),
    (0x1B6, "FIPS_SELF_TEST_FAILED", DeviceFailure, "the device failed its self-test"),
    (0x1B7, "LIBRARY_LOAD_FAILED", DeviceFailure, "the module misses a library"),
    (0x1B8, "PIN_TOO_WEAK", PinRejected, "the token finds the new PIN too weak"),
    (0x1B9, "PUBLIC_KEY_INVALID", DeviceFailure, "the public key is invalid"),
    (0x200, "FUNCTION_REJECTED", AccessRefused, "the device refused the operation"),
    (0x201, "TOKEN_RESOURCE_EXCEEDED", TokenFull, "the token has no resources left"),
    (0x202, "OPERATION_CANCEL_FAILED", DeviceFailure, "the operation could not be cancelled"),
    (0x203, "KEY_EXHAUSTED", AccessRefused, "the key may sign no more"),
)

CKR: dict[str, int] = {f"CKR_{name}": code for code, name, _, _ in _TABLE}
"""Return values by their name in the standard."""

CKR_NAMES: dict[int, str] = {code: name for name, code in CKR.items()}

_MEANING = {code: (kind, message) for code, _, kind, message in _TABLE}

STALE_HANDLES = frozenset(
    CKR[f"CKR_{name}"]
    for name in (
        "SESSION_HANDLE_INVALID",
        "SESSION_CLOSED",
        "KEY_HANDLE_INVALID",
        "OBJECT_HANDLE_INVALID",
        "OPERATION_ACTIVE",
        "CRYPTOKI_NOT_INITIALIZED",
    )
)
"""Values after which a new session and a fresh search may help. None of them can come from a PIN that was tried."""

# python-pkcs11 turns each value into an exception class and forgets the number. The class names are the standard's
# names without underscores, but for three.
_SPELLED = {
    "functioncancelled": "CKR_FUNCTION_CANCELED",
    "anotheruseralreadyloggedin": "CKR_USER_ANOTHER_ALREADY_LOGGED_IN",
    "tokennotrecognised": "CKR_TOKEN_NOT_RECOGNIZED",
}
_BY_CLASS = {name.removeprefix("CKR_").replace("_", "").lower(): name for name in CKR} | _SPELLED
_UNMAPPED = "Unmapped error code "


def failure(code: int, doing: str) -> DriverError:
    """Return the error a CKR value stands for.

    :param doing: the function that returned it, for the message.
    """
    kind, message = _MEANING.get(code, (DeviceFailure, "the module answers with a value of its own"))
    name = CKR_NAMES.get(code, "CKR_VENDOR_DEFINED" if code & 0x80000000 else f"CKR_0x{code:X}")
    return kind(f"{doing}: {message} ({name})", native_code=code, native_name=name)


def _from_binding(error: pkcs11.PKCS11Error, doing: str) -> DriverError:
    name = _BY_CLASS.get(type(error).__name__.lower())
    if name is not None:
        return failure(CKR[name], doing)
    text = str(error)
    if text.startswith(_UNMAPPED):
        return failure(int(text.removeprefix(_UNMAPPED), 16), doing)
    return DeviceFailure(f"{doing}: {text or type(error).__name__}")


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what python-pkcs11 raises in the block into a driver error.

    Beside its own errors it lets others out where a module answers nonsense: ValueError and struct.error from
    attributes, MemoryError from an absurd length.
    """
    try:
        yield
    except pkcs11.PKCS11Error as error:
        raise _from_binding(error, doing) from error
    except (ValueError, MemoryError, OverflowError) as error:
        raise DeviceFailure(f"{doing}: the module's answer makes no sense ({type(error).__name__})") from error
