"""Pinentry programs that do as a test says, and whether they have ended."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sealagent.consent.dialog import Extension
from sealagent.consent.pinentry import Pinentry, PinentrySettings

ENVIRON = {"PATH": "/usr/bin:/bin", "LC_ALL": "zh_CN.UTF-8"}


class Script:
    """A pinentry that is a shell script. Each question starts it anew; it notes what it hears.

    :param confirm: what it does at ``CONFIRM``, the first time it is started, the second, and so on; the last of them
        from then on.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pinentry(
        self,
        *confirm: str,
        flavor: str = "script",
        greeting: str = "echo OK hello",
        other: str = "echo OK",
        bye: str = "echo OK; exit 0",
        timeout: float = 10,
        extensions: tuple[Extension, ...] = (),
    ) -> Pinentry:
        runs, heard, pid = (shlex.quote(str(self.folder / name)) for name in ("runs", "heard", "pid"))
        cases = "".join(f"      {number}) {what};;\n" for number, what in enumerate(confirm[:-1], 1))
        program = self.folder / "pinentry"
        program.write_text(
            f"#!/bin/sh\necho $$ > {pid}\necho >> {runs}\nrun=$(wc -l < {runs})\n{greeting}\n"
            "while read -r line; do\n"
            f"  printf '%s\\n' \"$line\" >> {heard}\n"
            '  case "$line" in\n'
            f"    'GETINFO flavor') echo D {flavor}; echo OK;;\n"
            f"    CONFIRM*) case $run in\n{cases}      *) {confirm[-1]};;\n    esac;;\n"
            f"    BYE) {bye};;\n    *) {other};;\n  esac\ndone\n"
        )
        program.chmod(0o755)
        return Pinentry(PinentrySettings(str(program), timeout=timeout, environ=ENVIRON), extensions)

    @property
    def heard(self) -> list[str]:
        """All lines it was sent, of all its runs."""
        path = self.folder / "heard"
        return path.read_text().splitlines() if path.exists() else []

    def told(self, command: str) -> list[str]:
        """The arguments of a command, each time it was sent."""
        return [line.partition(" ")[2] for line in self.heard if line.partition(" ")[0] == command]


def assert_ended(folder: Path) -> None:
    """No process of the program's group runs; zombies that an init of a container never reaps do not count."""
    group = (folder / "pid").read_text().strip()
    end = time.monotonic() + 5
    while running := [fields for fields in processes() if fields[2] == group and fields[0] != "Z"]:
        assert time.monotonic() < end, running
        time.sleep(0.02)


def processes() -> Iterator[list[str]]:
    """Yield state, parent, group and so on of every process (proc(5), from field 3)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            yield stat.read_text(errors="replace").rpartition(")")[2].split()
