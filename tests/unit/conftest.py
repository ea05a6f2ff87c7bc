"""Fixtures of several unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sample_parties import Party
    from sample_seals import Identity
    from status_world import StatusWorld


@pytest.fixture(scope="session")
def status_signer(tmp_path_factory: pytest.TempPathFactory, party: Party) -> Identity:
    """Return a certificate of its own for status answers."""
    from sample_seals import identity

    return identity(tmp_path_factory.mktemp("status"), "sm2", "status", ca=party.ca)


@pytest.fixture
def asking(party: Party, status_signer: Identity, tmp_path: Path) -> Iterator[StatusWorld]:
    """Return a unit with its status service, and clients that ask it."""
    from status_world import StatusWorld

    with ExitStack() as stack:
        yield StatusWorld(party, status_signer, tmp_path, stack)
