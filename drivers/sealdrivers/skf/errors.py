"""What each SAR value means to the agent: the one mapping of native errors (GM/T 0016-2012 annex A, and vendors')."""

from __future__ import annotations

from typing import Final

from sealdrivers.errors import (
    AccessRefused,
    DeviceFailure,
    DriverError,
    KeyNotFound,
    LoginRequired,
    MechanismNotSupported,
    NotSupported,
    ObjectExists,
    ObjectInvalid,
    PinIncorrect,
    PinLocked,
    PinRejected,
    TokenFull,
    TokenNotFound,
    TokenRemoved,
)

__all__ = ["SAR", "SAR_NAMES", "failure"]

_STANDARD: Final = 0x0A000000
_TABLE: tuple[tuple[int, str, type[DriverError], str], ...] = (
    (0x01, "FAIL", DeviceFailure, "the library reports a failure"),
    (0x02, "UNKNOWNERR", DeviceFailure, "the library reports an unknown error"),
    (0x03, "NOTSUPPORTYETERR", NotSupported, "the library does not offer the function"),
    (0x04, "FILEERR", DeviceFailure, "the device reports a file error"),
    (0x05, "INVALIDHANDLEERR", DeviceFailure, "the handle is not valid any more"),
    (0x06, "INVALIDPARAMERR", DeviceFailure, "the library refuses the arguments"),
    (0x07, "READFILEERR", DeviceFailure, "the file cannot be read"),
    (0x08, "WRITEFILEERR", DeviceFailure, "the file cannot be written"),
    (0x09, "NAMELENERR", ObjectInvalid, "the name is too long for the device"),
    (0x0A, "KEYUSAGEERR", MechanismNotSupported, "the key may not be used for this"),
    (0x0B, "MODULUSLENERR", MechanismNotSupported, "the device does not sign input of this length"),
    (0x0C, "NOTINITIALIZEERR", DeviceFailure, "the library or the device is not initialised"),
    (0x0D, "OBJERR", DeviceFailure, "the device reports an object error"),
    (0x0E, "MEMORYERR", DeviceFailure, "the library is out of memory"),
    (0x0F, "TIMEOUTERR", DeviceFailure, "the device did not answer the library in time"),
    (0x10, "INDATALENERR", MechanismNotSupported, "the device does not take input of this length"),
    (0x11, "INDATAERR", MechanismNotSupported, "the device does not take this input"),
    (0x12, "GENRANDERR", DeviceFailure, "the device cannot make random numbers"),
    (0x13, "HASHOBJERR", DeviceFailure, "the digest object is bad"),
    (0x14, "HASHERR", DeviceFailure, "the device cannot digest"),
    (0x15, "GENRSAKEYERR", DeviceFailure, "the device cannot generate an RSA key"),
    (0x16, "RSAMODULUSLENERR", MechanismNotSupported, "the device does not offer RSA keys of this length"),
    (0x17, "CSPIMPRTPUBKEYERR", DeviceFailure, "the public key cannot be imported"),
    (0x18, "RSAENCERR", DeviceFailure, "the RSA operation failed"),
    (0x19, "RSADECERR", DeviceFailure, "the RSA operation failed"),
    (0x1A, "HASHNOTEQUALERR", DeviceFailure, "the digests differ"),
    (0x1B, "KEYNOTFOUNTERR", KeyNotFound, "the container holds no such key"),
    (0x1C, "CERTNOTFOUNTERR", KeyNotFound, "the container holds no such certificate"),
    (0x1D, "NOTEXPORTERR", AccessRefused, "the object cannot be exported"),
    (0x1E, "DECRYPTPADERR", DeviceFailure, "the padding is bad"),
    (0x1F, "MACLENERR", DeviceFailure, "the MAC has a bad length"),
    (0x20, "BUFFER_TOO_SMALL", DeviceFailure, "the answer is larger than the agent takes"),
    (0x21, "KEYINFOTYPEERR", MechanismNotSupported, "the key's type does not suit"),
    (0x22, "NOT_EVENTERR", DeviceFailure, "there is no event"),
    (0x23, "DEVICE_REMOVED", TokenRemoved, "the device was removed"),
    (0x24, "PIN_INCORRECT", PinIncorrect, "the PIN is incorrect"),
    (0x25, "PIN_LOCKED", PinLocked, "the PIN is locked"),
    (0x26, "PIN_INVALID", PinRejected, "the token does not take this PIN"),
    (0x27, "PIN_LEN_RANGE", PinRejected, "the PIN is too short or too long for the token"),
    (0x28, "USER_ALREADY_LOGGED_IN", AccessRefused, "a user is logged in already"),
    (0x29, "USER_PIN_NOT_INITIALIZED", PinRejected, "the token has no user PIN yet"),
    (0x2A, "USER_TYPE_INVALID", NotSupported, "the token has no such user"),
    (0x2B, "APPLICATION_NAME_INVALID", TokenNotFound, "the application's name is not valid"),
    (0x2C, "APPLICATION_EXISTS", ObjectExists, "the application exists already"),
    (0x2D, "USER_NOT_LOGGED_IN", LoginRequired, "the PIN is needed first"),
    (0x2E, "APPLICATION_NOT_EXISTS", TokenNotFound, "the device does not hold the application"),
    (0x2F, "FILE_ALREADY_EXIST", ObjectExists, "the file exists already"),
    (0x30, "NO_ROOM", TokenFull, "the token has no room left"),
    (0x31, "FILE_NOT_EXIST", KeyNotFound, "the file does not exist"),
    (0x32, "REACH_MAX_CONTAINER_COUNT", TokenFull, "the token takes no further container"),
)

# Beyond 0x32 the same value means different things: what to do is decided by looking at the device, never by these.
_DIVERGENT = {
    0x33: "no device authentication, authentication blocked, or the container exists",
    0x34: "the certificate has no such usage, or the container is absent",
    0x35: "the container is not valid",
    0x36: "the container is absent",
    0x37: "the container exists",
    0x38: "the certificate's usage does not suit",
    0x39: "the key's usage does not suit",
    0x3A: "the file's attributes are bad",
    0x3B: "the device is not authenticated",
}

_LONGMAI: Final = 0x0B000000
_LONGMAI_TABLE: tuple[tuple[int, str, type[DriverError], str], ...] = (
    # Longmai mToken GM3000: its own range, continuing the numbers of the standard's
    (0x33, "SECURITY_STATE", LoginRequired, "the PIN is needed first"),
    (0x34, "OFFSET", DeviceFailure, "the offset is outside the file"),
    (0x35, "CONTAINER_ABSENT", KeyNotFound, "the container is absent"),
    (0x36, "CONTAINER_EXISTS", ObjectExists, "the container exists already"),
    (0x37, "DEVICE_AUTH_LOCKED", AccessRefused, "the device's authentication is locked"),
    (0x38, "ECC_ENCRYPTION", DeviceFailure, "the SM2 encryption failed"),
)

_MEANING = {_STANDARD | code: (f"SAR_{name}", kind, text) for code, name, kind, text in _TABLE}
SAR: dict[str, int] = {name: code for code, (name, _, _) in _MEANING.items()}
"""Return values of the standard by their name."""
_MEANING |= {
    _STANDARD | code: (f"SAR_VENDOR_{_STANDARD | code:08X}", DeviceFailure, f"by vendor: {text}")
    for code, text in _DIVERGENT.items()
}
_MEANING |= {_LONGMAI | code: (f"SAR_LONGMAI_{name}", kind, text) for code, name, kind, text in _LONGMAI_TABLE}

SAR_NAMES: dict[int, str] = {code: name for code, (name, _, _) in _MEANING.items()}


def failure(code: int, doing: str) -> DriverError:
    """Return the error a SAR value stands for.

    :param doing: the function that returned it, for the message.
    """
    unknown = (f"SAR_0x{code:08X}", DeviceFailure, "the library answers with a value of its own")
    name, kind, message = _MEANING.get(code, unknown)
    return kind(f"{doing}: {message} ({name})", native_code=code, native_name=name)
