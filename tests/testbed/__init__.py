"""A complete world for testers on loopback: authorities, tokens, seals in every state, services, an agent. TEST ONLY.

A pytest plugin too: the fixture ``testbed`` is a test bed for the session. See README.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sealagent.client import Agent
    from testbed.authorities import Hierarchy

__all__ = ["TestBed", "testbed"]

SECONDS = 400
"""Patience for ``up``: it takes half a minute of one processor, and other tests run meanwhile."""


@dataclass(frozen=True)
class TestBed:
    """A test bed that is up."""

    __test__ = False

    folder: Path

    def command(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the program as somebody does who sourced ``env.sh``.

        :param environment: further variables.
        """
        return subprocess.run(
            [sys.executable, "-m", "sealagent", *map(str, arguments)],
            env={**os.environ, "LANG": "C.UTF-8", **self.world["environment"], **environment},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        """Return what ``sealagent testbed status --json`` prints."""
        status: dict[str, Any] = json.loads(self._run("status", "--json").stdout)
        return status

    @property
    def world(self) -> Mapping[str, Any]:
        """What is in it, as ``sealagent testbed up`` explained it."""
        try:
            state: dict[str, Any] = json.loads((self.folder / "testbed.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            state = {}
        return {"environment": {}, **(state.get("world") or {})}

    def seal(self, region: str, state: str, *, reason: str = "", key: str = "") -> dict[str, Any]:
        """Return the first seal of a region in a state that the agent should (not) take, for a reason.

        :param reason: why ``seal list`` calls it not usable; empty: it is usable.
        :param key: of the signer; empty: any.
        """
        reasons = [reason] if reason else []
        return next(
            seal
            for seal in self.world["seals"]
            if (seal["region"], seal["state"], seal["reasons"]) == (region, state, reasons) and key in ("", seal["key"])
        )

    def document(self) -> Path:
        """Return a document to seal."""
        return Path(self.world["files"]["documents"]) / "notice.ofd"

    def agent(self) -> Agent:
        """Return a connection to its agent."""
        from sealagent.client import Agent

        return Agent(self.world["socket"])

    def family(self, name: str) -> Hierarchy:
        """Return the authorities of an algorithm family: ``sm2``, ``rsa``, ``ec``."""
        from testbed.authorities import load_hierarchy

        return load_hierarchy(self.folder / "pki", name)

    def maker(self, region: str, *arguments: str | Path) -> Any:
        """Run a command of a unit's maker; return its JSON."""
        folder = self.folder / "makers" / region
        tokens = {
            "SOFTSKF_DIR": str(folder / "token" / "devices"),
            "SOFTHSM2_CONF": str(folder / "token/softhsm2.conf"),
        }
        done = self.command("maker", "--config", folder / "maker.toml", *arguments, "--json", **tokens)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def fault(self, path: str, name: str, seconds: float | None = None) -> Iterator[None]:
        """Let what the services answer below a path have a fault while the block runs.

        :param path: such as ``/ocsp/sm2``. :param name: one of :class:`~testbed.faults.Fault`.
        """
        address = f"{self.world['addresses']['services']}/faults{path}"
        body = json.dumps({"fault": name, "seconds": seconds}).encode()
        urllib.request.urlopen(urllib.request.Request(address, data=body, method="PUT")).close()
        try:
            yield
        finally:
            urllib.request.urlopen(urllib.request.Request(address, method="DELETE")).close()

    def up(self) -> None:
        """Make it, or start again what does not run."""
        done = self._run("up", "--json")
        assert done.returncode == 0, done.stderr

    def down(self) -> None:
        """Stop and remove it."""
        done = self._run("down")
        assert done.returncode == 0, done.stderr

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.command("testbed", *arguments, "--dir", self.folder)


@pytest.fixture(scope="session")
def testbed() -> Iterator[TestBed]:
    """A test bed for the session. A test that changes a state changes it back, or takes a seal nobody else uses.

    Without what it needs of the system this is a failure where ``CI`` is set, and a skip with the reason elsewhere.
    """
    from testbed.errors import TestbedError
    from testbed.tokens import require_programs

    try:
        require_programs()
    except TestbedError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    # A path too long for sockets, as somebody's home may have.
    with tempfile.TemporaryDirectory(prefix="bed") as folder:
        bed = TestBed(Path(folder).joinpath(*["a-rather-long-name-of-a-folder"] * 3))
        bed.up()
        yield bed
        bed.down()
