"""SM2 verification by the system's OpenSSL 3 through ctypes.

Python's ``cryptography`` has no SM2, and no maintained wheel does. The library is used only after it has passed the
published example of GB/T 32918.5; anything else counts as "not there" and :mod:`sealagent.pki.sm2` does without.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

__all__ = ["Libcrypto", "load"]

_log = logging.getLogger(__name__)

_FIRST_VERSION = 0x30000000  # OpenSSL 3.0: SubjectPublicKeyInfo on the SM2 curve loads as an SM2 key by itself
_CACHED_KEYS = 256  # parsed keys kept; each holds about 1 KiB in the library

# Known by soname first: looking a library up by name runs ldconfig and may find an older one that is also installed.
_SONAMES = {
    "linux": ("libcrypto.so.3", "libcrypto.so.4"),
    "darwin": ("libcrypto.3.dylib", "libcrypto.4.dylib"),
    "win32": ("libcrypto-3-x64.dll", "libcrypto-3-arm64.dll", "libcrypto-3.dll"),
}

# GB/T 32918.5, the signature example on the recommended curve, default ID.
_EXAMPLE_KEY = bytes.fromhex(
    "3059301306072a8648ce3d020106082a811ccf5501822d034200"
    "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)
_EXAMPLE_E = bytes.fromhex("f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640")
_EXAMPLE_SIGNATURE = bytes.fromhex(
    "3046022100f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3"
    "022100b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"
)


class _Key:
    """An EVP_PKEY that is freed with its last reference."""

    def __init__(self, library: Any, handle: int) -> None:
        self._free = library.EVP_PKEY_free
        self.handle = handle

    def __del__(self) -> None:
        self._free(self.handle)


class Libcrypto:
    """The few calls that SM2 verification needs. Safe to share between threads; ctypes releases the GIL in them."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, size, octets = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
        self._library = library
        for name, result, *arguments in (
            ("OpenSSL_version_num", ctypes.c_ulong),
            ("d2i_PUBKEY", pointer, pointer, ctypes.POINTER(octets), ctypes.c_long),
            ("EVP_PKEY_free", None, pointer),
            ("EVP_PKEY_CTX_new", pointer, pointer, pointer),
            ("EVP_PKEY_CTX_free", None, pointer),
            ("EVP_PKEY_verify_init", ctypes.c_int, pointer),
            ("EVP_PKEY_verify", ctypes.c_int, pointer, octets, size, octets, size),
            ("ERR_clear_error", None),
        ):
            function = getattr(library, name)
            function.restype = result
            function.argtypes = arguments
        self._key = lru_cache(maxsize=_CACHED_KEYS)(self._load_key)

    def version(self) -> int:
        """Return the version number, 0xMNN00PP0."""
        return int(self._library.OpenSSL_version_num())

    def verify(self, spki: bytes, e: bytes, signature: bytes) -> bool:
        """Verify an SM2 signature over ``e`` itself: EVP_PKEY_verify hashes nothing and adds no Z.

        :param spki: DER SubjectPublicKeyInfo on the SM2 curve.
        :param signature: minimal DER SEQ{r, s}.
        :raises ValueError: the library refuses the key.
        """
        library, key = self._library, self._key(spki)
        context = library.EVP_PKEY_CTX_new(key.handle, None)
        try:
            if not context or library.EVP_PKEY_verify_init(context) != 1:
                raise ValueError("libcrypto cannot verify with this key")
            return bool(library.EVP_PKEY_verify(context, signature, len(signature), e, len(e)) == 1)
        finally:
            library.EVP_PKEY_CTX_free(context)
            library.ERR_clear_error()  # the queue belongs to the thread: hashlib and ssl would find our errors in it

    def _load_key(self, spki: bytes) -> _Key:
        handle = self._library.d2i_PUBKEY(None, ctypes.byref(ctypes.c_char_p(spki)), len(spki))
        if not handle:
            self._library.ERR_clear_error()
            raise ValueError("libcrypto refuses the public key")
        return _Key(self._library, handle)

    def works(self) -> bool:
        """Return whether the published example verifies and a changed one does not."""
        changed = bytes([_EXAMPLE_E[0] ^ 1]) + _EXAMPLE_E[1:]
        try:
            right = self.verify(_EXAMPLE_KEY, _EXAMPLE_E, _EXAMPLE_SIGNATURE)
            return right and not self.verify(_EXAMPLE_KEY, changed, _EXAMPLE_SIGNATURE)
        except ValueError:
            return False


@cache
def load() -> Libcrypto | None:
    """Return the system's libcrypto if it verifies SM2, else None."""
    for name in _candidates():
        try:
            library = Libcrypto(ctypes.CDLL(name))
        except (OSError, AttributeError):  # not installed; or too old to have these functions
            continue
        if library.version() >= _FIRST_VERSION and library.works():
            return library
        _log.info("%s cannot verify SM2", name)
    _log.info("no libcrypto with SM2 was found; SM2 is verified in Python")
    return None


def _candidates() -> Iterator[str]:
    yield from _SONAMES.get(sys.platform, _SONAMES["linux"])
    found = ctypes.util.find_library("crypto")
    # macOS ends a process that loads the unversioned library of the system.
    if found and not found.startswith("/usr/lib/libcrypto."):
        yield found
