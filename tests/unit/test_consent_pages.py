"""Ways through a list, against a simple model: whatever buttons are pressed, only a yes that was asked for agrees."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from sealagent.consent.lists import PINENTRY_PAGE
from sealagent.consent.pinentry import HASTE_SECONDS, MAX_HASTY, PERSON_SECONDS, Pinentry, PinentrySettings
from sealagent.consent.pinentry import _Reply as Reply
from sealagent.consent.pinentry import _Said as Said
from sealagent.consent.prompter import Consent, ConsentRequest, Occasion
from sealagent.consent.texts import PromptText

LINES = PINENTRY_PAGE.lines
PRESSES = st.tuples(st.sampled_from(list(Said)), st.sampled_from([0.0, PERSON_SECONDS, HASTE_SECONDS, 3.0]))


class Holder:
    """Presses what hypothesis says, and knows by the words on the dialog what each button means."""

    def __init__(self, flavor: str, presses: list[tuple[Said, float]]) -> None:
        self.flavor = flavor
        self.presses = presses
        self.seen: list[int] = []
        self.expected: Consent | None = None
        self.hasty = 0

    def press(self, text: PromptText) -> Reply:
        assert self.expected is None, "somebody who has answered is asked again"
        said, seconds = self.presses.pop(0) if self.presses else (Said.NO, 3.0)
        if said is Said.MORE and text.more is None:
            said = Said.NO  # there is no such button
        for line in text.description:
            number, dot, _ = line.partition(". ")
            if dot and number.isdigit():
                self.seen.append(int(number))
        self._expect(said, seconds, text)
        return Reply(said, self.flavor, seconds)

    def _expect(self, said: Said, seconds: float, text: PromptText) -> None:
        agreeing = text.ok.startswith("_Approve")
        if agreeing and said is Said.YES and seconds < HASTE_SECONDS:
            self.hasty += 1
            if self.hasty == MAX_HASTY:
                self.expected = Consent.NO
            return
        self.hasty = 0
        if agreeing and said is Said.YES:
            self.expected = Consent.ONCE
        elif (said is Said.MORE and seconds < PERSON_SECONDS) or (agreeing and said is Said.NO):
            self.expected = Consent.NO


@given(st.sampled_from(["curses", "gnome3", ""]), st.integers(1, 5 * LINES), st.lists(PRESSES, max_size=14))
def test_any_way_through_a_list(flavor: str, count: int, presses: list[tuple[Said, float]]) -> None:
    holder = Holder(flavor, presses)
    request = ConsentRequest("batch", Occasion(None, items=tuple(f"{n}.ofd" for n in range(1, count + 1))))

    async def fitting(self: Pinentry, request: object, compose: object, again: bool) -> Reply:
        return holder.press(compose(flavor, again, 1))  # type: ignore[operator]

    async def ask() -> Consent:
        return await Pinentry(PinentrySettings("/none", environ={"LANG": "en_US.UTF-8"})).confirm(request)

    with patch.object(Pinentry, "_fitting", fitting):
        answer = asyncio.run(ask())
    assert answer is (holder.expected or Consent.NO)
    # A page is turned to the one that follows; none is passed over.
    first_seen = list(dict.fromkeys(holder.seen))
    assert first_seen == list(range(1, len(first_seen) + 1))
