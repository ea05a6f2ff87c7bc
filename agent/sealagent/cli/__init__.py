"""The command line: ``sealagent NOUN VERB``. It reaches the daemon through the SDK and nothing else."""

from __future__ import annotations

from sealagent.cli.main import main

__all__ = ["main"]
