"""Smart cards for pytest: pcscd, a virtual reader, scripted PIV cards, all for OpenSC. TEST ONLY. See README.md."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .applet import GENERAL_AUTHENTICATE, VERIFY
from .keys import KEY_KINDS, KeyKind, PrivateKey, certificate, new_key, session_key, spki
from .stack import MODULE_VARIABLE, SOCKET_VARIABLE, PivCard, SmartCardError, SmartCards, missing

__all__ = [
    "GENERAL_AUTHENTICATE",
    "KEY_KINDS",
    "MODULE_VARIABLE",
    "SOCKET_VARIABLE",
    "VERIFY",
    "KeyKind",
    "PivCard",
    "PrivateKey",
    "SmartCardError",
    "SmartCards",
    "certificate",
    "missing",
    "new_key",
    "piv_card",
    "piv_new_card",
    "session_key",
    "smart_cards",
    "spki",
]


@pytest.fixture(scope="session")
def smart_cards() -> Iterator[SmartCards]:
    """A private pcscd with two readers for the session.

    Where it cannot run this is a failure if ``CI`` is set, and a skip with the reason elsewhere.
    """
    # pytest's own directories make socket paths too long.
    with tempfile.TemporaryDirectory(prefix="piv") as directory:
        try:
            cards = SmartCards(Path(directory))
        except SmartCardError as error:
            if os.environ.get("CI"):
                pytest.fail(str(error))
            pytest.skip(str(error))
        yield cards
        cards.close()


@pytest.fixture
def piv_new_card(smart_cards: SmartCards) -> Iterator[Callable[..., PivCard]]:
    """Return a function that makes cards (:meth:`SmartCards.new_card`); they are destroyed after the test.

    The readers are empty when it is handed over.
    """
    smart_cards.empty()
    made: list[PivCard] = []

    def new_card(**facts: object) -> PivCard:
        made.append(smart_cards.new_card(**facts))  # type: ignore[arg-type]
        return made[-1]

    yield new_card
    for card in made:
        card.destroy()


@pytest.fixture
def piv_card(piv_new_card: Callable[..., PivCard]) -> PivCard:
    """Return a fresh card in a reader."""
    return piv_new_card()
