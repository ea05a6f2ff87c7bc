"""The process of one section: ``python -m sealdrivers.probe.child --fd N``.

It gets one request (and the PIN, if the section needs it) over its socket, says there what it finds, and ends. Its
standard output and error belong to the library.
"""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from sealdrivers.errors import DriverError
from sealdrivers.host.protocol import MAX_REQUEST_HEADER, FrameBuffer, encode_frame, from_json, wipe
from sealdrivers.host.worker import harden
from sealdrivers.probe.section import Section, SectionRequest

__all__ = ["SECTIONS", "main"]

SECTIONS: dict[str, dict[str, str]] = {
    # driver: section, and the function that runs it; in the order of the report
    "": {"load": "sealdrivers.probe.loading:load"},
    "pkcs11": {
        "abi": "sealdrivers.probe.pkcs11_abi:interface",
        "tokens": "sealdrivers.probe.pkcs11_tokens:tokens",
        "mechanisms": "sealdrivers.probe.pkcs11_tokens:mechanisms",
        "objects": "sealdrivers.probe.pkcs11_objects:objects",
        "sessions": "sealdrivers.probe.pkcs11_sessions:sessions",
        "threads": "sealdrivers.probe.pkcs11_sessions:threads",
        "events": "sealdrivers.probe.pkcs11_sessions:events",
        "signatures": "sealdrivers.probe.pkcs11_signatures:signatures",
        "sm2": "sealdrivers.probe.pkcs11_sm2:classification",
    },
    "skf": {
        "abi": "sealdrivers.probe.skf_abi:interface",
        "devices": "sealdrivers.probe.skf_devices:devices",
        "containers": "sealdrivers.probe.skf_objects:containers",
        "files": "sealdrivers.probe.skf_objects:files",
        "errors": "sealdrivers.probe.skf_behaviour:errors",
        "threads": "sealdrivers.probe.skf_behaviour:threads",
        "events": "sealdrivers.probe.skf_behaviour:events",
        "signatures": "sealdrivers.probe.skf_signatures:signatures",
    },
}

NEED_PIN = frozenset(("signatures", "sm2"))
"""Sections that log in."""


def _function(request: SectionRequest) -> Callable[[Section], None]:
    module, _, name = SECTIONS[request.driver][request.name].partition(":")
    function: Callable[[Section], None] = getattr(importlib.import_module(module), name)
    return function


def _serve(sock: socket.socket) -> None:
    buffer = FrameBuffer(MAX_REQUEST_HEADER)
    while (frame := buffer.take()) is None:
        if buffer.fill(sock) == 0:
            return
    request = from_json(SectionRequest, {name: value for name, value in frame.header.items() if name != "parts"})
    pin = frame.parts[0] if frame.parts else None

    def send(message: dict[str, Any]) -> None:
        sock.sendall(encode_frame(message))

    section = Section(request, pin, send)
    try:
        _function(request)(section)
        send({"kind": "end"})
    except DriverError as error:
        with section.attempt(request.name):
            raise error
        send({"kind": "end"})
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        # Without the message, which may quote what the library answered.
        at = f"{os.path.basename(place.filename)}:{place.lineno}"
        send({"kind": "failed", "detail": f"{type(error).__name__} at {at}"})
    finally:
        if pin is not None:
            wipe(pin)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one section; the process ends here, without unloading the library."""
    parser = argparse.ArgumentParser(prog="sealdrivers.probe.child", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="inherited end of the socket pair")
    chosen = parser.parse_args(arguments)
    harden()
    with socket.socket(fileno=chosen.fd) as sock:
        sock.set_inheritable(False)
        _serve(sock)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
