"""The worker process of one module: ``python -m sealdrivers.host.worker --fd N``.

It loads the module the first request names, then answers one request after the other until the socket ends. Whatever
the module does to it (crash, hang, leak) ends with the process. Its standard output and error belong to the module.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast

from sealdrivers.binary import check_loadable
from sealdrivers.contract import Driver, Key, KeyType, Mechanism, ReportsSlotEvents, Token
from sealdrivers.errors import (
    DeviceFailure,
    DriverError,
    KeyNotFound,
    LoginRequired,
    ModuleNotLoadable,
    TokenNotFound,
    TokenRemoved,
    WorkerProtocolError,
)
from sealdrivers.host.protocol import (
    MAX_ANSWER_HEADER,
    MAX_BODY,
    MAX_REQUEST_HEADER,
    PROTOCOL_VERSION,
    Frame,
    FrameBuffer,
    encode_frame,
    from_json,
    to_json,
    wipe,
)
from sealdrivers.vendors import ModuleOptions

__all__ = ["Worker", "main"]

DRIVERS = {"pkcs11": "sealdrivers.pkcs11.driver", "skf": "sealdrivers.skf.driver"}
"""Kind of driver, and the module whose ``open_driver(path, options)`` loads one."""

CLOSE_SECONDS = 3
"""Seconds the module gets to finish when the daemon is gone; then SIGALRM ends the process."""

EXIT_PROTOCOL = 3
"""Exit status after octets that are no frame: the stream cannot be followed any further."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4

# After these the token, or the handles on it, may be others: everything is looked up anew.
_STALE = (TokenRemoved, TokenNotFound, DeviceFailure, KeyNotFound, LoginRequired)


class Worker:
    """Serves the requests of the daemon on one socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._driver: Driver | None = None
        self._tokens: dict[str, Token] = {}
        self._keys: dict[tuple[str, str], Key] = {}
        self._operations: dict[str, Callable[[dict[str, Any], list[bytearray]], Any]] = {
            "sign": self._sign,
            "open": self._open,
            "tokens": self._list_tokens,
            "slot_event": self._slot_event,
            "contents": self._contents,
            "login": self._login,
            "logout": self._logout,
            "change_pin": self._change_pin,
            "unblock_pin": self._unblock_pin,
            "generate_key": self._generate_key,
            "import_certificate": self._import_certificate,
            "import_data": self._import_data,
        }

    def serve(self) -> int:
        """Answer requests until the socket ends; return the exit status."""
        buffer = FrameBuffer(MAX_REQUEST_HEADER, MAX_BODY)
        try:
            while True:
                frame = buffer.take()
                if frame is not None:
                    self._socket.sendall(self._answer(frame))
                elif buffer.fill(self._socket) == 0:
                    return EXIT_PROTOCOL if buffer.pending else 0
        except WorkerProtocolError as error:
            print(f"worker: {error.message}", file=sys.stderr, flush=True)
            return EXIT_PROTOCOL
        except (BrokenPipeError, ConnectionResetError):
            return 0

    def close(self) -> None:
        """Release the module, within :data:`CLOSE_SECONDS`; the process ends after it, whatever comes of it."""
        if self._driver is None:
            return
        signal.alarm(CLOSE_SECONDS)
        try:
            self._driver.close()
        except Exception as error:
            print(f"worker: the module did not close ({type(error).__name__})", file=sys.stderr)
        signal.alarm(0)

    def _answer(self, frame: Frame) -> bytearray:
        header, parts = frame
        identifier = header.get("id")
        try:
            operation = self._operations.get(_text(header, "op"))
            if operation is None:
                raise WorkerProtocolError("the worker does not know this operation")
            result = operation(header, parts)
            if type(result) is bytes:
                return encode_frame({"id": identifier, "result": None}, (result,))
            answer = encode_frame({"id": identifier, "result": to_json(result)})
            if len(answer) > MAX_ANSWER_HEADER:
                raise DeviceFailure(f"the token holds more than {MAX_ANSWER_HEADER} octets of readable objects")
            return answer
        except DriverError as error:
            if isinstance(error, _STALE):
                self._forget()
            return encode_frame({"id": identifier, "error": error.to_wire()})
        except Exception as error:  # a defect of a driver must not end the worker; only its kind is told
            self._forget()
            # Without the message: it may quote what the driver was given.
            print("".join(traceback.format_tb(error.__traceback__)), type(error).__name__, file=sys.stderr, flush=True)
            failure = DeviceFailure(f"the driver failed unexpectedly ({type(error).__name__})")
            return encode_frame({"id": identifier, "error": failure.to_wire()})
        finally:
            for part in parts:
                wipe(part)

    def _forget(self) -> None:
        self._keys.clear()
        self._tokens.clear()

    # Operations: each takes the request's header and the parts of its body

    def _open(self, header: dict[str, Any], parts: list[bytearray]) -> Any:
        if header.get("protocol") != PROTOCOL_VERSION:
            raise WorkerProtocolError(f"this worker speaks version {PROTOCOL_VERSION} of the protocol")
        if self._driver is not None:
            raise WorkerProtocolError("a module is open already")
        kind, path = _text(header, "driver"), _text(header, "path")
        if kind not in DRIVERS:
            raise ModuleNotLoadable(f"there is no driver of kind {kind}")
        check_loadable(Path(path))  # here and not in the daemon, which may be of another word size
        options = from_json(ModuleOptions, header.get("options"))
        self._driver = cast("Driver", importlib.import_module(DRIVERS[kind]).open_driver(path, options))
        return self._driver.info

    def _list_tokens(self, header: dict[str, Any], parts: list[bytearray]) -> Any:
        if self._driver is None:
            raise WorkerProtocolError("no module is open")
        before, self._tokens = self._tokens, {token.info.uri: token for token in self._driver.tokens()}
        # A key handle lives as long as the token object it came from.
        same = {uri for uri, token in self._tokens.items() if before.get(uri) is token}
        self._keys = {name: key for name, key in self._keys.items() if name[0] in same}
        return [token.info for token in self._tokens.values()]

    def _slot_event(self, header: dict[str, Any], parts: list[bytearray]) -> Any:
        driver: object = self._driver
        return driver.slot_event() if isinstance(driver, ReportsSlotEvents) else None

    def _contents(self, header: dict[str, Any], parts: list[bytearray]) -> Any:
        return self._token(header).contents()

    def _login(self, header: dict[str, Any], parts: list[bytearray]) -> Any:
        self._keys.clear()
        self._token(header).login(_optional(parts, 0), confirmed_last_try=_confirmed(header))

    def _logout(self, header: dict[str, Any], parts: list[bytearray]) -> Any:
        self._keys.clear()
        self._token(header).logout()

    def _sign(self, header: dict[str, Any], parts: list[bytearray]) -> Any:
        name = _text(header, "token"), _text(header, "key")
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = self._token(header).key(name[1])
        mechanism, digest, pin = _member(Mechanism, header, "mechanism"), bytes(_part(parts, 0)), _optional(parts, 1)
        return key.sign(mechanism, digest, pin, confirmed_last_try=_confirmed(header))

    def _change_pin(self, header: dict[str, Any], parts: list[bytearray]) -> Any:
        self._token(header).change_pin(_part(parts, 0), _part(parts, 1), confirmed_last_try=_confirmed(header))

    def _unblock_pin(self, header: dict[str, Any], parts: list[bytearray]) -> Any:
        self._keys.clear()
        self._token(header).unblock_pin(_part(parts, 0), _part(parts, 1), confirmed_last_try=_confirmed(header))

    def _generate_key(self, header: dict[str, Any], parts: list[bytearray]) -> Any:
        kind = _member(KeyType, header, "type")
        return self._token(header).generate_key(kind, _text(header, "label"), bytes(_part(parts, 0)))

    def _import_certificate(self, header: dict[str, Any], parts: list[bytearray]) -> Any:
        der, object_id = bytes(_part(parts, 0)), bytes(_part(parts, 1))
        return self._token(header).import_certificate(der, _text(header, "label"), object_id)

    def _import_data(self, header: dict[str, Any], parts: list[bytearray]) -> Any:
        value, label = bytes(_part(parts, 0)), _text(header, "label")
        return self._token(header).import_data(value, label, _text(header, "application"))

    def _token(self, header: dict[str, Any]) -> Token:
        uri = _text(header, "token")
        if uri not in self._tokens:
            self._list_tokens(header, [])
        if uri not in self._tokens:
            raise TokenNotFound("the token is not plugged in")
        return self._tokens[uri]


def _text(header: dict[str, Any], name: str) -> str:
    value = header.get(name)
    if not isinstance(value, str):
        raise WorkerProtocolError(f"the request has no text {name}")
    return value


def _member(kind: type[Any], header: dict[str, Any], name: str) -> Any:
    try:
        return kind(_text(header, name))
    except ValueError:
        raise WorkerProtocolError(f"the request's {name} is unknown") from None


def _part(parts: list[bytearray], index: int) -> bytearray:
    if index >= len(parts):
        raise WorkerProtocolError("a part of the request's body is missing")
    return parts[index]


def _confirmed(header: dict[str, Any]) -> bool:
    """Say whether the holder allows the last try to be spent; nothing but ``true`` says so."""
    return header.get("confirmed_last_try") is True


def _optional(parts: list[bytearray], index: int) -> bytearray | None:
    return parts[index] if index < len(parts) else None


def harden() -> None:
    """Keep PINs in memory out of core dumps and other processes' reach, and die with the daemon."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_PDEATHSIG, int(signal.SIGKILL))):
            if prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), f"prctl({option})")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the worker; the process ends here, without unloading the module (vendor libraries crash at that)."""
    parser = argparse.ArgumentParser(prog="sealdrivers.host.worker", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="inherited end of the daemon's socket pair")
    chosen = parser.parse_args(arguments)
    harden()
    with socket.socket(fileno=chosen.fd) as sock:
        sock.set_inheritable(False)
        worker = Worker(sock)
        status = worker.serve()
        worker.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
