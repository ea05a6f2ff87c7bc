"""Trust lists in a directory, at a time of the test's own, and publishers that sign fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pki_parts import issue

from sealagent.errors import SealAgentError
from sealagent.pki.trustlist import TrustList
from sealagent.pki.trustlists import TrustLists
from trust_parts import Publisher, listed

START = datetime(2026, 6, 1, tzinfo=UTC)
MAKER = issue("maker").certificate


def publisher(name: str, list_id: str = "beijing") -> Publisher:
    issued = issue(name)
    assert isinstance(issued.key, ec.EllipticCurvePrivateKey)
    key = issued.key
    return Publisher(issued.certificate.der, lambda octets: key.sign(octets, ec.ECDSA(hashes.SHA256())), list_id)


CENTRE = publisher("centre")
HEIR = publisher("heir")
MALLORY = publisher("mallory")


def version(sequence: int, by: Publisher = CENTRE, **changes: object) -> bytes:
    return by.publish(sequence, **{"issued_at": START, "entries": [listed(MAKER.der, since=START)], **changes})


@dataclass
class Store:
    """Trust lists in a directory, at a time of the test's own."""

    folder: Path
    now: datetime = START
    configured: tuple[Path, ...] = ()
    signers: tuple[str, ...] = (CENTRE.sha256,)
    lists: TrustLists = field(init=False)

    def __post_init__(self) -> None:
        self.again()

    def again(self) -> TrustLists:
        """Begin anew, as after a restart."""
        self.lists = TrustLists(self.folder, lambda: self.now, configured=self.configured, signers=self.signers)
        return self.lists

    def add(self, data: bytes, by: Publisher = CENTRE, *, new_signer: bool = False) -> TrustList:
        return self.lists.add(data, by.sha256, new_signer=new_signer)

    @property
    def sequences(self) -> dict[str, int]:
        return {held.list.id: held.list.sequence for held in self.lists.lists}

    def file(self, list_id: str = "beijing") -> Path:
        return self.folder / f"{list_id}.list"


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(SealAgentError) as caught:
        act()
    return caught.value.code


def store_of(store: Store) -> Store:
    """Return what a restart finds; nothing may be wrong with it."""
    other = Store(store.folder, store.now, store.configured, store.signers)
    assert other.lists.faults == ()
    return other


def flip(file: Path, place: int) -> None:
    octets = bytearray(file.read_bytes())
    octets[place] ^= 1
    file.write_bytes(octets)
