"""The makers of the test bed: each with token, keys, configuration and register of its own, worked by its commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError, Trouble
from testbed.plan import UnitPlan
from testbed.processes import LOOPBACK
from testbed.tokens import SoftwareToken, toml

__all__ = ["Commands", "Maker"]

SECONDS = 240
"""Patience for all commands of one maker."""
OPERATOR = "测试经办人"


@dataclass(frozen=True, slots=True)
class Maker:
    """A production-management unit at work."""

    plan: UnitPlan
    folder: Path
    token: SoftwareToken
    port: int
    """Of its status service."""
    environment: Mapping[str, str]
    """Of its commands."""
    cancelled: threading.Event
    """Set once the world is given up: no further command is run."""

    @property
    def configuration(self) -> Path:
        """``maker.toml``."""
        return self.folder / "maker.toml"

    @property
    def url(self) -> str:
        """Base address of its status service."""
        return f"http://{LOOPBACK}:{self.port}"

    def configure(self, pins: Path, keys: Mapping[str, str], trust: Sequence[Path], tsa: str) -> None:
        """Write ``maker.toml``.

        :param keys: URIs of the keys ``maker`` and ``status``.
        :param trust: certificates of CAs of makers and signers.
        :param tsa: address of a time-stamp authority.
        """
        plan = self.plan
        self.configuration.write_text(
            f"state_dir = {toml(self.folder / 'state')}\nunit = {toml(plan.unit)}\nregion = {toml(plan.region)}\n"
            f"region_name = {toml(plan.region_name)}\nvendor = {toml('SealAgentTestbed')}\n"
            f"operator = {toml(OPERATOR)}\n{self.token.section()}"
            f"[discovery]\np11_kit = false\nvendor_table = false\n"
            f"[pin]\nsource = {toml('file')}\nfile = {toml(pins)}\n"
            f"[maker]\nkey = {toml(keys['maker'])}\n"
            f"[status]\nkey = {toml(keys['status'])}\nlisten = {toml(f'{LOOPBACK}:{self.port}')}\n"
            f"answer_seconds = 600\n"
            f"[timestamp]\nurl = {toml(tsa)}\n"
            f"[trust]\npaths = {toml([str(path) for path in trust])}\n",
            encoding="utf-8",
        )

    @contextmanager
    def at_work(self) -> Iterator[Commands]:
        """Yield what runs commands of this maker, in a process of its own."""
        tests = Path(__file__).resolve().parents[1]
        path = os.pathsep.join(filter(None, [str(tests), self.environment.get("PYTHONPATH", "")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "testbed.shell"],
            env={**self.environment, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        alarm = threading.Timer(SECONDS, process.kill)
        alarm.start()
        try:
            yield Commands(process, self.cancelled)
        finally:
            alarm.cancel()
            process.kill()
            process.communicate()


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs commands of ``sealagent maker``."""

    process: subprocess.Popen[str]
    cancelled: threading.Event

    def __call__(self, *arguments: str | Path) -> Any:
        """Run one command, such as ``("make", "2", …)``; return the JSON that it printed.

        :raises TestbedError: it failed; the message is its own.
        """
        shown = f"sealagent maker {' '.join(map(str, arguments))}"
        if self.cancelled.is_set():
            raise TestbedError(Trouble.STEP, "given up")
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps([*map(str, arguments), "--json"]), file=self.process.stdin, flush=True)
            status, said, complained = json.loads(self.process.stdout.readline())
        except (OSError, ValueError) as error:
            raise TestbedError(Trouble.STEP, f"{shown}: no answer within {SECONDS} seconds") from error
        if status:
            raise TestbedError(Trouble.STEP, f"{shown}: {(complained or said).strip()}")
        return json.loads(said)
