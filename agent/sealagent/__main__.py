"""``python -m sealagent``."""

from __future__ import annotations

from sealagent.cli import main

main()
