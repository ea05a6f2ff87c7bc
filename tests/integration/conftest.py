"""The world of the integration tests: a real daemon over its real socket, with a real PKCS#11 library."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_world import TestAuthority, World
from softhsm2_fixtures import SoftToken


@pytest.fixture(scope="session")
def authority() -> TestAuthority:
    """A test CA and maker for the session."""
    return TestAuthority()


@pytest.fixture
def world(softhsm_token: SoftToken, authority: TestAuthority) -> Iterator[World]:
    """A fresh directory and token; the test puts on them what it needs and starts daemons."""
    # pytest's own directories make socket paths too long.
    with tempfile.TemporaryDirectory(prefix="seal") as directory:
        place = World(Path(directory), softhsm_token, authority)
        yield place
        place.close()
