"""Unified social credit codes (GB 32100-2015)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealagent.errors import FormatError
from sealagent.maker.credit import ALPHABET, check_character, checked_code

CODES = st.text(ALPHABET, min_size=17, max_size=17)


def refused(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        checked_code(text)
    assert caught.value.code == "credit_code_invalid"


@pytest.mark.parametrize("code", ["91350100M000100Y43", "91110000802100433B", "91440300708461136T"])
def test_real_codes(code: str) -> None:
    assert checked_code(f" {code}\n") == code


def test_the_table_of_the_standard() -> None:
    assert len(ALPHABET) == 31
    assert not set("IOSVZ") & set(ALPHABET)
    # GB 32100 5.2 by hand: 1 in the first place has weight 1, so the check is 31 - 1 = 30, which is Y.
    assert check_character("1" + "0" * 16) == "Y"
    assert check_character("0" * 17) == "0"
    assert check_character("0" * 16 + "1") == ALPHABET[31 - pow(3, 16, 31)]


@pytest.mark.parametrize(
    "text",
    ["", "91350100M000100Y4", "91350100M000100Y433", "91350100m000100y43", "91350100I000100Y43", "９1350100M000100Y43"],
)
def test_what_is_no_code(text: str) -> None:
    refused(text)


@given(first=CODES, data=st.data())
def test_one_wrong_character_is_noticed(first: str, data: st.DataObject) -> None:
    code = first + check_character(first)
    assert checked_code(code) == code
    where = data.draw(st.integers(0, 17))
    other = data.draw(st.sampled_from([letter for letter in ALPHABET if letter != code[where]]))
    refused(code[:where] + other + code[where + 1 :])


@given(first=CODES, where=st.integers(0, 15))
def test_two_neighbours_exchanged_are_noticed(first: str, where: int) -> None:
    code = first + check_character(first)
    swapped = code[:where] + code[where + 1] + code[where] + code[where + 2 :]
    if swapped != code:
        refused(swapped)
