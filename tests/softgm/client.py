"""A thin ctypes client of an SKF library, to look at its raw answers. No driver: it trusts what it gets."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_uint32, c_void_p
from pathlib import Path

from .skf_token import SoftSkfToken

__all__ = ["ADMIN_TYPE", "USER_TYPE", "Opened", "Skf", "SkfError"]

ADMIN_TYPE, USER_TYPE = 0, 1


class SkfError(Exception):
    """A call answered with a code other than SAR_OK."""

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function}: 0x{code:08X}")
        self.code = code


class Skf:
    """A loaded library. Arguments are ctypes values, bytes, or int for ULONG."""

    def __init__(self, library: Path) -> None:
        self.native = ctypes.CDLL(str(library))

    def code(self, function: str, *arguments: object) -> int:
        """Call a function and return its code."""
        entry = getattr(self.native, function)
        entry.restype = c_uint32
        return int(entry(*(c_uint32(value) if type(value) is int else value for value in arguments)))

    def call(self, function: str, *arguments: object) -> None:
        """Call a function. :raises SkfError: it did not succeed."""
        if code := self.code(function, *arguments):
            raise SkfError(function, code)

    def handle(self, function: str, *arguments: object) -> c_void_p:
        """Call a function whose last argument receives a handle."""
        out = c_void_p()
        self.call(function, *arguments, byref(out))
        return out

    def number(self, function: str, *arguments: object) -> int:
        """Call a function whose last argument receives a ULONG."""
        out = c_uint32()
        self.call(function, *arguments, byref(out))
        return out.value

    def octets(self, function: str, *arguments: object) -> bytes:
        """Call a function twice: for the size, then for the octets."""
        size = c_uint32()
        self.call(function, *arguments, None, byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(function, *arguments, buffer, byref(size))
        return buffer.raw[: size.value]

    def record(self, function: str, *arguments: object, size: int) -> bytes:
        """Call a function whose last argument receives a record."""
        buffer = ctypes.create_string_buffer(size)
        self.call(function, *arguments, buffer)
        return buffer.raw

    def names(self, function: str, *arguments: object) -> list[bytes]:
        """Call a function that lists names."""
        return [name for name in self.octets(function, *arguments).split(b"\0") if name]

    def open(self, token: SoftSkfToken, container: bytes | None = b"key") -> Opened:
        """Connect a device, open its application and, unless it is None, a container."""
        return Opened(self, token, container)


class Opened:
    """The handles of one device."""

    def __init__(self, skf: Skf, token: SoftSkfToken, container: bytes | None) -> None:
        name = token.application.encode() if isinstance(token.application, str) else token.application
        self.skf = skf
        self.token = token
        self.device = skf.handle("SKF_ConnectDev", token.name.encode(errors="surrogateescape"))
        self.application = skf.handle("SKF_OpenApplication", self.device, name)
        self.container = None if container is None else skf.handle("SKF_OpenContainer", self.application, container)

    def login(self, pin: str | None = None, kind: int = USER_TYPE) -> int:
        """Verify a PIN, by default the right user PIN. :return: the tries left."""
        own = self.token.user_pin if kind == USER_TYPE else self.token.so_pin
        return self.skf.number("SKF_VerifyPIN", self.application, kind, (own if pin is None else pin).encode())

    def sign(self, e: bytes) -> bytes:
        """Sign e. :return: the 128 octets of ECCSIGNATUREBLOB."""
        return self.skf.record("SKF_ECCSignData", self.container, e, len(e), size=128)

    def close(self) -> None:
        """Disconnect, which ends every handle below."""
        self.skf.call("SKF_DisConnectDev", self.device)
