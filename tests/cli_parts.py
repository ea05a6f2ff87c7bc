"""Running the command line in tests as a person or a script does: a process of its own, in a tidy environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_world import Daemon
from forked_commands import run_forked

SECONDS = 60


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """Where commands run: with this home, reaching the agent at this socket."""

    home: Path
    socket: Path

    @classmethod
    def of(cls, daemon: Daemon) -> Shell:
        return cls(daemon.directory, daemon.socket)

    def environment(self, **changes: str) -> dict[str, str]:
        """Nothing of the user who runs the tests shows through."""
        kept = {name: os.environ[name] for name in ("PATH", "SOFTHSM2_CONF", "PYTHONPATH") if name in os.environ}
        return {
            **kept,
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_CONFIG_DIRS": str(self.home / "system"),
            "XDG_STATE_HOME": str(self.home / "xdg-state"),
            "LANG": "C.UTF-8",
            "SEALAGENT_SOCKET": str(self.socket),
            **changes,
        }

    def __call__(self, *arguments: str | Path, **environment: str) -> Done:
        """Run one command in the home.

        :param environment: variables to add or change.
        """
        variables = self.environment(**environment)
        if "LD_PRELOAD" not in variables:  # which is read when a program is loaded
            return Done(*run_forked([str(each) for each in arguments], self.home, variables, SECONDS))
        done = subprocess.run(
            command(*arguments), cwd=self.home, env=variables, capture_output=True, timeout=SECONDS, check=False
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "sealagent", *map(str, arguments)]


def has_no_control(text: str) -> bool:
    """Say whether text may go to a terminal: nothing but printable characters and line ends."""
    return all(line.isprintable() for line in text.split("\n"))
