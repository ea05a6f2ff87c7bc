"""Writes docs/openapi.json, the contract of the socket, from the route table (``make openapi``)."""

from __future__ import annotations

import json
from pathlib import Path

from sealagent.api.server import openapi_document

TARGET = Path(__file__).resolve().parents[1] / "docs" / "openapi.json"


def main() -> None:
    """Write the file."""
    TARGET.write_text(json.dumps(openapi_document(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
