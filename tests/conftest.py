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

LONGEST_FIRST = (
    *("testbed", "prompt_x11", "prompt_x11_own", "probe_skf", "maker_cli", "probe_pkcs11", "daemon_life"),
    *("status_signing", "maker_serve", "loopback_chromium", "host_workers", "prompt_consent", "demo", "presence_usb"),
    *("browser_host", "maker_making", "applications", "smart_card", "endurance", "pinentry", "daemon_faults"),
    *("browser_extension", "testbed_services", "probe_cli", "prompt_terminal", "maker_devices"),
)
"""Files of integration tests that take longest. They are handed out first: one that is begun last would have the other
processes wait for it at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of long files first; all others keep their order."""
    turn = {f"test_{name}.py": number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: turn.get(item.path.name, len(turn)))


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
