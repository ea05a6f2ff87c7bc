"""The child process that writes to tokens, seen from the tests' side."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["HelperProcess", "SoftHsmError"]


class SoftHsmError(Exception):
    """SoftHSM or its helper process refused."""


class HelperProcess:
    """Runs :mod:`softhsm2_fixtures.helper` with one library; started by the first request.

    :param module: the PKCS#11 library.
    """

    def __init__(self, module: Path) -> None:
        self._module = module
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: dict[str, Any]) -> Any:
        """Carry out one request. ``conf`` names SoftHSM's configuration. :raises SoftHsmError: it was refused."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).with_name("helper.py")), str(self._module)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        reply = json.loads(line) if line else {"error": "the helper process ended"}
        if "error" in reply:
            raise SoftHsmError(reply["error"])
        return reply["result"]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate(timeout=30)
            self._process = None
