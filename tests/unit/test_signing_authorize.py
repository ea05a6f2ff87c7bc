"""Who is asked, what their answer is worth, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from permit_parts import CALLER, NOON, Scene, scene
from sealagent.callers.model import Effect
from sealagent.callers.peer import Caller
from sealagent.consent.prompter import Consent, Occasion
from sealagent.errors import SealAgentError
from sealagent.signing.authorize import Permit
from sealagent.uses import Operation, Use
from sealdrivers.contract import PinState, TokenInfo

USE = Use(Operation.DOCUMENT, "pkcs11:id=%01", "pkcs11:token=a", "seal1", ("1101", "公章"), "ofd")
STRANGER = Caller(1000, 1000, 77, "/usr/bin/python3", 9)
TOKEN: Any = None


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, None) as opened:
        yield opened


def agreed(place: Scene, caller: Caller = CALLER, use: Use = USE) -> Permit:
    """Have the holder agree, as the line does."""

    async def run() -> Permit:
        permit = place.authorizer.permit(caller, use)
        async with place.authorizer.unlocked(permit, TOKEN, Occasion(caller)):
            return permit

    return asyncio.run(run())


def test_a_denial_names_what_decides(place: Scene) -> None:
    place.default = Effect.DENY
    with pytest.raises(SealAgentError) as caught:
        place.authorizer.permit(CALLER, USE)
    assert caught.value.code == "use_denied"
    assert caught.value.facts["decision"] == {
        "effect": "deny",
        "source": "default",
        "name": "document",
        "why": "the default",
    }


def test_what_is_allowed_asks_nobody(place: Scene) -> None:
    place.default = Effect.ALLOW
    assert agreed(place).facts() == {"source": "default", "name": "document", "agreed": None}
    assert place.holder.asked == [(False, False)]


@pytest.mark.parametrize(
    ("by", "told"), [("pin", "pin"), ("window", "confirm"), ("device", "confirm"), ("none", "confirm")]
)
def test_the_record_says_how_the_holder_agreed(place: Scene, by: str, told: str) -> None:
    place.holder.by = by
    permit = agreed(place)
    assert permit.agreed == told
    assert not permit.ask


@pytest.mark.parametrize("answer", [Consent.NO, None])
def test_whatever_is_no_yes_is_no(place: Scene, answer: Consent | None) -> None:
    place.holder.answers = answer
    with pytest.raises(SealAgentError) as caught:
        agreed(place)
    assert caught.value.code == "consent_refused"


def test_a_session_is_offered_from_the_second_time_on(place: Scene) -> None:
    agreed(place)
    place.holder.answers = Consent.SESSION
    permit = agreed(place)
    assert [offered for _, offered in place.holder.asked] == [False, True]
    assert permit.agreed == "session"
    assert agreed(place).decision.source == "grant"
    assert [offered for asked, offered in place.holder.asked if asked] == [False, True]
    (grant,) = place.book.list()
    assert (grant.grantee, grant.session, grant.seal, grant.formats) == ("app1", (USE.token, 1), "seal1", ("ofd",))
    assert place.ledger.read(grant.record or 0).body["operation"] == "grant"


def test_a_session_that_was_not_offered_is_agreed_to_once(place: Scene) -> None:
    """A prompter that answers more than it was asked gives no more than it could."""
    place.holder.answers = Consent.SESSION
    assert agreed(place).agreed == "pin"
    assert not place.book.list()


@pytest.mark.parametrize(
    "other",
    [
        replace(USE, operation=Operation.DIGEST),
        replace(USE, seal="seal2"),
        replace(USE, format="pdf"),
    ],
)
def test_a_session_is_for_uses_like_it_only(place: Scene, other: Use) -> None:
    agreed(place)
    place.holder.answers = Consent.SESSION
    agreed(place)
    assert place.authorizer.permit(CALLER, other).ask
    assert place.authorizer.permit(STRANGER, USE).ask


def test_a_session_ends_when_the_token_is_locked(place: Scene) -> None:
    agreed(place)
    place.holder.answers = Consent.SESSION
    agreed(place)
    place.holder.number += 1
    permit = place.authorizer.permit(CALLER, USE)
    assert permit.ask
    assert not permit.offer_session  # it starts anew


def test_a_program_that_is_not_paired_has_a_session_of_its_process(place: Scene) -> None:
    agreed(place, STRANGER)
    place.holder.answers = Consent.SESSION
    agreed(place, STRANGER)
    assert not place.authorizer.permit(STRANGER, USE).ask
    reused = replace(STRANGER, started=10)
    assert place.authorizer.permit(reused, USE).ask


def test_nothing_is_offered_where_policy_says_so(tmp_path: Path) -> None:
    with scene(tmp_path, None) as place:
        place.authorizer._offers = lambda: False
        agreed(place)
        agreed(place)
        assert [offered for _, offered in place.holder.asked] == [False, False]


def test_callers_without_number_take_no_room(place: Scene) -> None:
    for number in range(5000):
        agreed(place, replace(STRANGER, pid=number))
    assert len(place.authorizer._asked) == 4096
    assert place.now == NOON


def test_a_list_is_shown_whole_before_the_pin(place: Scene) -> None:
    """A prompt for a PIN has no room for it."""
    token = TokenInfo("pkcs11:token=a", "a", "1", "", "", "", "pkcs11", True, False, False, False, PinState())
    use = replace(USE, operation=Operation.RAW, count=3)
    occasion = Occasion(CALLER, operation=Operation.RAW, items=("01", "02", "03"))

    async def run() -> Permit:
        permit = place.authorizer.permit(CALLER, use)
        async with place.authorizer.unlocked(permit, token, occasion):
            return permit

    permit = asyncio.run(run())
    assert [(request.question, request.occasion.items) for request in place.holder.listed] == [
        ("batch", ("01", "02", "03"))
    ]
    assert permit.agreed == "confirm"
    assert place.holder.asked == [(False, False)]
    place.holder.answers = Consent.NO
    with pytest.raises(SealAgentError) as caught:
        asyncio.run(run())
    assert caught.value.code == "consent_refused"
