"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from i386_parts import Machine32
    from ofd_samples import Sealer
    from sample_parties import Party

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


@pytest.fixture(scope="session")
def sealer(tmp_path_factory: pytest.TempPathFactory) -> Sealer:
    """Return a maker and a signer with P-256 keys, and their seal."""
    from ofd_samples import Sealer

    return Sealer(tmp_path_factory.mktemp("sealer"))


@pytest.fixture(scope="session")
def sealed(sealer: Sealer) -> bytes:
    """Return the sample document, sealed."""
    from ofd_samples import document_files, pack

    return sealer.seal(pack(document_files()))


@pytest.fixture(scope="session")
def parties(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Party]:
    """Return a CA with a maker and a signer for each kind of key."""
    from sample_parties import make_parties

    return make_parties(tmp_path_factory.mktemp)


@pytest.fixture(scope="session")
def party(parties: dict[str, Party]) -> Party:
    """Return the one with SM2 keys."""
    return parties["sm2"]


@pytest.fixture(scope="session")
def i386(tmp_path_factory: pytest.TempPathFactory) -> Machine32:
    """Return a 32-bit Python, a worker that it runs, and 32-bit libraries."""
    from i386_parts import machine32

    return machine32(tmp_path_factory.mktemp("i386"))
