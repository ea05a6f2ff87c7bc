"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Return the folder of interoperability vectors (files made by other software, never copied in here).

    ``SEALAGENT_VECTORS`` may point elsewhere. In CI a missing folder is a failure; a plain checkout skips and says so.
    """
    folder = Path(os.environ.get("SEALAGENT_VECTORS", PROJECT.parent / "shared" / "vectors"))
    if not (folder / "README.md").is_file():
        message = f"the interoperability vectors are not at {folder}; set SEALAGENT_VECTORS"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
