"""PIV cards as tokens of the contract suite: pcscd, OpenSC and the PKCS#11 driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from contract_providers import Capable, CaseToken, KeyPair, Provider
from contract_softhsm import SOFTHSM_MECHANISMS, SoftwarePair
from cryptography import x509

import piv_card as piv_kit
from piv_card import PivCard, SmartCards
from sealdrivers.contract import Driver, KeyType, ModuleInfo, Token
from sealdrivers.pkcs11.driver import open_driver

__all__ = ["opensc"]

_PIV_NAMES = {0x9A: (b"\x01", "PIV AUTH pubkey", "Certificate for PIV Authentication"), 0x9E: (b"\x04", "", "")}
"""Identifier that OpenSC gives a slot, and the labels of key and certificate before login."""


@dataclass
class PivCaseToken:
    """A PIV card. OpenSC reads it once: what is put on it later needs it to be pulled and plugged in again."""

    card: PivCard
    provider: OpenScProvider
    slots: dict[bytes, int] = field(default_factory=dict)
    """Where the keys of an identifier went; the latest, where there are several."""
    names: dict[int, str] = field(default_factory=dict)
    """Subjects of the certificates, by slot: OpenSC takes the first one for the label of the token."""

    @property
    def label(self) -> str:
        return next((self.names[slot] for slot in (0x9A, 0x9C, 0x9D, 0x9E) if slot in self.names), "PIV_II")

    @property
    def pin(self) -> str:
        return self.card.pin

    def put_key(self, type: KeyType, object_id: bytes, label: str = "key", *, public: bool = True) -> KeyPair:
        return self._put_key(type, self._free_slot(), object_id)

    def put_certificate(self, der: bytes, object_id: bytes, label: str = "certificate") -> None:
        slot = self.slots.get(object_id) or self._free_slot()
        self._put_certificate(der, slot, object_id)

    def put_rubbish_certificate(self, octets: bytes, object_id: bytes) -> None:
        free = [slot for slot in (0x9C, 0x9D, 0x9E, 0x82) if slot not in self.slots.values()]
        self.slots[object_id] = free[0]
        self.card.put_certificate(octets[:20_000], free[0])  # no card holds more
        self._read_again()

    def put_data(self, value: bytes, label: str, application: str = "", *, private: bool = False) -> None:
        raise NotImplementedError("OpenSC shows PIV's own data objects and no others")

    def put_sm2_key(self, object_id: bytes) -> KeyPair:
        raise NotImplementedError("PIV has no such keys")

    def put_always_authenticating_key(self, object_id: bytes) -> KeyPair:
        return self._put_key(KeyType.EC_P256, 0x9C, object_id)

    def protection(self, object_id: bytes) -> dict[str, Any] | None:
        return None

    def delete(self, label: str) -> None:
        """Take away the only key, with the card in its reader: not even OpenSC sees that."""
        (slot,) = self.slots.values()
        self.card.delete(slot)

    @property
    def admin_pin(self) -> str:
        return self.card.puk

    def lock(self, *, admin: bool = False) -> None:
        assert not admin, "OpenSC does not unblock PIV cards"
        self.card.lock()

    def leave_one_try(self, *, admin: bool = False) -> None:
        assert not admin, "OpenSC does not unblock PIV cards"
        self.card.set_tries(1)

    def counters(self) -> object:
        return self.card.tries

    def remove(self) -> None:
        self.card.remove()

    def insert(self) -> None:
        self.card.insert()

    def _free_slot(self) -> int:
        return next(slot for slot in (0x9A, 0x9E, 0x9C) if slot not in self.names)

    def _put_key(self, type: KeyType, slot: int, object_id: bytes) -> KeyPair:
        kind: piv_kit.KeyKind = type.value  # type: ignore[assignment]
        pair = SoftwarePair(self.card.put_key(slot, kind, certified=False))
        self._put_certificate(pair.certificate(f"card {self.card.number} {slot:X}"), slot, object_id)
        return pair

    def _put_certificate(self, der: bytes, slot: int, object_id: bytes) -> None:
        self.slots[object_id] = slot
        subject = x509.load_der_x509_certificate(der).subject
        self.names[slot] = str(subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
        self.card.put_certificate(der, slot)
        self._read_again()

    def _read_again(self) -> None:
        if self.provider.opened:
            self.card.remove()
            self.card.insert()


class LateDriver:
    """The driver, opened when it is first used: a card that is filled before need not be plugged in twice."""

    def __init__(self, provider: OpenScProvider) -> None:
        self._provider = provider
        self._driver: Driver | None = None

    def _opened(self) -> Driver:
        if self._driver is None:
            self._driver = open_driver(self._provider.module)
            self._provider.opened = True
        return self._driver

    @property
    def info(self) -> ModuleInfo:
        return self._opened().info

    def tokens(self) -> Sequence[Token]:
        return self._opened().tokens()

    def close(self) -> None:
        if self._driver is not None:
            self._driver.close()
            self._provider.opened = False


@dataclass
class OpenScProvider(Capable):
    """PIV cards through pcscd and OpenSC, and the PKCS#11 driver."""

    make: Callable[..., PivCard]
    module: Path
    opened: bool = False
    made: list[PivCaseToken] = field(default_factory=list)
    name = "opensc"
    mechanisms = {  # noqa: RUF012  # read only
        kind: SOFTHSM_MECHANISMS[kind] for kind in (KeyType.EC_P256, KeyType.RSA_2048, KeyType.EC_P384)
    }
    software = False
    pin_lengths = (4, 8)
    signs_sm2 = False
    always_authenticates = True
    unblocks = False
    many_certificates = False
    writable = False
    keys_from_certificates = True
    shows_rubbish = False
    deletes_unnoticed = False
    counts_aloud = False
    counts_while_logged_in = False
    login_survives_wrong_pin = False
    any_pin = False

    def data_owner(self, asked: str) -> str:
        return asked

    def object_id(self, asked: bytes) -> bytes:
        return _PIV_NAMES[self.made[0].slots[asked]][0]

    def labels(self, key: str, certificate: str) -> tuple[str, str]:
        return _PIV_NAMES[0x9A][1:]

    def key_uris(self, token_uri: str, object_id: bytes, label: str) -> list[str]:
        slot = self.made[0].slots.get(object_id)
        known = _PIV_NAMES[slot][0] if slot is not None else b"\x7f"
        return [f"{token_uri};id={quote(known, safe='')}"]

    def pair(self, type: KeyType | None = None, *, new: bool = False) -> KeyPair:
        kind: piv_kit.KeyKind = (type or KeyType.EC_P256).value  # type: ignore[assignment]
        return SoftwarePair(piv_kit.new_key(kind) if new else piv_kit.session_key(kind))

    def new_token(self, pin: str | None = None) -> CaseToken:
        self.made.append(PivCaseToken(self.make(pin=pin or "123456"), self))
        return self.made[-1]

    def open(self) -> Driver:
        return LateDriver(self)


def opensc(request: pytest.FixtureRequest) -> Provider:
    """Make the provider. Its cards are left in their readers for the next test, which spares a second each."""
    cards: SmartCards = request.getfixturevalue("smart_cards")
    made: list[PivCard] = []

    def make(**facts: Any) -> PivCard:
        made.append(cards.new_card(**facts))
        return made[-1]

    def tidy() -> None:
        for card in made:
            card.destroy(park=True)

    request.addfinalizer(tidy)
    return OpenScProvider(make, cards.module)
