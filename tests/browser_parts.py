"""The browser's end of native messaging in tests: the host as a real process, started as a browser starts it.

The process that runs the tests stands for the browser: agents of these tests have it in ``[browser] programs``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from agent_world import Daemon
from cli_parts import Shell
from sealagent.browser.manifests import host_program

__all__ = ["ADDON", "EXTENSION", "ORIGIN", "SELF", "Holder", "Host", "install"]

EXTENSION = "gccmkfbilpdcbiollapjpcnmciacpdgd"
"""Id of an extension for Chromium."""
ORIGIN = f"chrome-extension://{EXTENSION}"
ADDON = "seal@example.org"
"""Id of one for Firefox."""
SELF = os.path.realpath(sys.executable)
"""The program that stands for the browser."""
SECONDS = 30.0


def install(daemon: Daemon, browser: str = "chromium", extension: str = EXTENSION) -> Path:
    """Install the host for a browser as its user does; return the manifest's path."""
    done = Shell.of(daemon)("browser", "install", "--browser", browser, "--extension", extension, "--json")
    assert done.status == 0, done.err
    return Path(done.json["manifest"])


class Holder:
    """A pinentry that answers as a holder who agrees: yes to what is asked, after having read it, and the PIN.

    :param answer: what it says to a question: ``OK``, or ``ERR 83886179 cancelled``.
    """

    def __init__(self, folder: Path, pin: str, answer: str = "OK") -> None:
        self._heard = folder / "holder-heard"
        self.program = folder / "holder"
        self.program.write_text(
            "#!/bin/sh\necho OK hello\nwhile read -r line; do\n"
            f"  printf '%s\\n' \"$line\" >> {self._heard}\n"
            '  case "$line" in\n'
            f"    CONFIRM*) sleep 1.5; echo {answer};;\n"
            f"    GETPIN) echo 'D {pin}'; echo OK;;\n"
            "    BYE) echo OK; exit 0;;\n    *) echo OK;;\n  esac\ndone\n"
        )
        self.program.chmod(0o700)

    @property
    def settings(self) -> dict[str, Any]:
        """Section ``[pin]`` of an agent that asks it."""
        return {"source": "pinentry", "pinentry": str(self.program)}

    @property
    def shown(self) -> str:
        """All that it was told to show."""
        return "\n".join(unquote(line.partition(" ")[2]) for line in self._lines() if line.startswith("SETDESC"))

    @property
    def asked_for_pins(self) -> int:
        """How often it was asked for a PIN."""
        return self._lines().count("GETPIN")

    def _lines(self) -> list[str]:
        return self._heard.read_text().splitlines() if self._heard.exists() else []


class Host:
    """The host, and what a browser says to it. Use it as a context manager.

    :param arguments: default: as Chromium gives them. :param before: a command that starts the host instead of us.
    """

    def __init__(self, daemon: Daemon, *arguments: str, before: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*before, str(host_program()), *(arguments or (f"{ORIGIN}/",))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=Shell.of(daemon).environment(),
        )
        self._number = 0
        self._aside: list[dict[str, Any]] = []

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):  # of what was not sent yet
                stream.close()

    def raw(self, octets: bytes) -> None:
        """Send octets as they are."""
        assert self.process.stdin is not None
        self.process.stdin.write(octets)
        self.process.stdin.flush()

    def send(self, message: Any) -> None:
        """Send one message."""
        octets = json.dumps(message).encode()
        self.raw(struct.pack("=I", len(octets)) + octets)

    def received(self, seconds: float = SECONDS) -> dict[str, Any]:
        """Return the next message."""
        if self._aside:
            return self._aside.pop(0)
        (length,) = struct.unpack("=I", self._read(4, seconds))
        assert length <= 1 << 20
        message = json.loads(self._read(length, seconds))
        assert isinstance(message, dict)
        return message

    def answer(self, ident: int | None, seconds: float = SECONDS) -> dict[str, Any]:
        """Return the next message with an id; others are kept for later. What comes in parts is put together."""
        kept: list[dict[str, Any]] = []
        octets = b""
        while True:
            message = self.received(seconds)
            if message["id"] != ident:
                kept.append(message)
                continue
            if "part" in message:
                octets += base64.b64decode(message["data"])
                if not message["last"]:
                    continue
                message = json.loads(octets)
            self._aside = kept + self._aside
            return message

    def ask(self, method: str, path: str, body: Any = None, **members: Any) -> dict[str, Any]:
        """Ask for something and return the answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "path": path, **members}
        if body is not None:
            message["body"] = body
        self.send(message)
        return self.answer(self._number)

    def end(self) -> tuple[int, str]:
        """Close its input, as a browser does; return its status and what it said on standard error."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        status = self.process.wait(SECONDS)
        return status, self.process.stderr.read().decode()

    def _read(self, count: int, seconds: float) -> bytes:
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        octets = b""
        while len(octets) < count:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no message within {seconds} s"
            piece = os.read(self.process.stdout.fileno(), count - len(octets))
            assert piece, "the host ended"
            octets += piece
        return octets
