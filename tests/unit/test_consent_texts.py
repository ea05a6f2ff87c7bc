"""What a prompt says, in which language, and what hostile names may do in it: nothing."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from string import Formatter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealagent.callers.peer import Caller
from sealagent.consent.dialog import dialog_commands
from sealagent.consent.prompter import Occasion, PinRequest, Purpose
from sealagent.consent.texts import YES, Language, confirm_text, language, prompt_text, shown
from sealagent.consent.words import WORDS
from sealdrivers.contract import PinState

REQUEST = PinRequest(
    token_label="单位公章",
    token_serial="0123456789ABCDEF",
    pin=PinState(),
    purpose="unlock",
    occasion=Occasion(Caller(1000, 1000, 4242, "/usr/bin/wps", 1), "采购合同.ofd", "某某公司合同专用章"),
)


LANGUAGES: tuple[Language, ...] = get_args(Language)


def fields(text: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_both_languages_say_the_same_things() -> None:
    assert WORDS["en"].keys() == WORDS["zh_CN"].keys()
    for name, text in WORDS["en"].items():
        assert fields(text) == fields(WORDS["zh_CN"][name])


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh_CN"),
        ({"LANG": "zh"}, "zh_CN"),
        ({"LANG": "en_GB.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "zh_CN.UTF-8", "LC_MESSAGES": "en_US"}, "zh_CN"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh_CN:en"}, "zh_CN"),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en:zh"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": ""}, "zh_CN"),
        ({"LANG": "C", "LANGUAGE": "zh_CN"}, "en"),
        ({"LANGUAGE": "zh_CN"}, "en"),
        ({"LANG": "C.UTF-8", "LANGUAGE": "zh_CN"}, "zh_CN"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
    ],
)
def test_language(environ: dict[str, str], expected: Language) -> None:
    assert language(environ) == expected


@pytest.mark.parametrize("chosen", ["en", "zh_CN"])
def test_everything_the_holder_needs_to_know_is_shown(chosen: Language) -> None:
    text = "\n".join(prompt_text(REQUEST, chosen).description)
    for part in ("/usr/bin/wps", "4242", "采购合同.ofd", "某某公司合同专用章", "单位公章", "0123456789ABCDEF"):
        assert part in text
    assert prompt_text(REQUEST, chosen).error is None


@pytest.mark.parametrize("chosen", ["en", "zh_CN"])
@pytest.mark.parametrize(
    ("pin", "names"),
    [
        (PinState(), []),
        (PinState(count_low=True), ["low"]),
        (PinState(final_try=True, count_low=True), ["final"]),
        (PinState(tries_left=1), ["final", "tries"]),
        (PinState(tries_left=5, count_low=True), ["low", "tries"]),
        (PinState(locked=True), ["locked"]),
        (PinState(factory_pin=True), ["factory"]),
        (PinState(factory_pin=True, tries_left=1, final_try=True), ["final", "tries", "factory"]),
    ],
)
def test_counter(chosen: Language, pin: PinState, names: list[str]) -> None:
    lines = prompt_text(replace(REQUEST, pin=pin), chosen).description
    assert lines[6:] == tuple(WORDS[chosen][name].format(count=pin.tries_left) for name in names)
    new = prompt_text(replace(REQUEST, pin=pin, purpose="change_new"), chosen).description
    assert len(new) == 6  # a new PIN spends no try


def test_wrong_before_and_wrong_length() -> None:
    assert prompt_text(replace(REQUEST, previous_wrong=True), "zh_CN").error == "PIN 错误。"
    assert "64" in (prompt_text(REQUEST, "en", wrong_length=True).error or "")


@pytest.mark.parametrize("purpose", get_args(Purpose))
def test_purposes_differ(purpose: Purpose) -> None:
    for chosen in ("en", "zh_CN"):
        assert prompt_text(replace(REQUEST, purpose=purpose), chosen).description[0] == WORDS[chosen][purpose]


def test_the_administrators_pin_is_called_so() -> None:
    asked = {chosen: prompt_text(replace(REQUEST, purpose="unblock_admin"), chosen) for chosen in LANGUAGES}
    assert "ADMINISTRATOR" in asked["en"].description[0]
    assert "管理员" in asked["zh_CN"].description[0]
    assert (asked["en"].prompt, asked["zh_CN"].prompt) == ("Administrator's PIN:", "管理员 PIN：")
    new = prompt_text(replace(REQUEST, purpose="unblock_new", pin=PinState(tries_left=1)), "en")
    assert new.prompt == "New PIN:"
    assert not any("LAST TRY" in line for line in new.description)  # it spends none


@pytest.mark.parametrize("chosen", LANGUAGES)
def test_the_question_before_the_last_try(chosen: Language) -> None:
    asked = confirm_text(replace(REQUEST, pin=PinState(tries_left=1)), chosen)
    text = "\n".join(asked.description)
    for part in ("/usr/bin/wps", "4242", "采购合同.ofd", "某某公司合同专用章", "单位公章", "0123456789ABCDEF"):
        assert part in text
    assert asked.description[0] == WORDS[chosen]["confirm"]
    assert any(word in asked.prompt for word in YES)
    assert "_Y" in asked.ok  # the key that means yes in a pinentry without a mouse
    assert "_N" in asked.cancel
    admin = confirm_text(replace(REQUEST, purpose="unblock_admin"), chosen)
    assert admin.description[0] == WORDS[chosen]["confirm_admin"]


@pytest.mark.parametrize("chosen", LANGUAGES)
@pytest.mark.parametrize("purpose", get_args(Purpose))
def test_every_text_fits_a_line_of_assuan(chosen: Language, purpose: Purpose) -> None:
    long = "合同" * 400
    request = replace(
        REQUEST,
        token_label=long,
        token_serial=long,
        pin=PinState(tries_left=1, final_try=True, count_low=True, factory_pin=True),
        occasion=Occasion(Caller(1000, 1000, 4_000_000, f"/{long}", 1), long, long),
        purpose=purpose,
        previous_wrong=True,
    )
    for lines in (
        dialog_commands(lambda shorter: prompt_text(request, chosen, wrong_length=True, shorter=shorter)),
        dialog_commands(lambda shorter: confirm_text(request, chosen, shorter=shorter)),
    ):
        assert max(len(line.encode()) for line in lines) < 1000


def test_unknown_program_and_no_document() -> None:
    caller = Caller(1000, 1000, 4242, None, None)
    lines = prompt_text(replace(REQUEST, occasion=Occasion(caller)), "en").description
    assert lines[1:] == (
        "Application: NOT PAIRED",
        "Program: unknown (pid 4242)",
        "Token: 单位公章 (serial 0123456789ABCDEF)",
    )
    assert len(prompt_text(replace(REQUEST, occasion=Occasion(None)), "en").description) == 2


@pytest.mark.parametrize(
    ("hostile", "expected"),
    [
        ("a\nToken: other", "a Token: other"),
        ("a\r\n\tb", "a b"),
        ("a\x1b[2Jb\x00\x07\x7f\x9b", "a[2Jb"),
        ("invoice\u202efdo.exe", "invoicefdo.exe"),
        ("a\u2066b\u2069\u200e\u200f\u061cc", "abc"),
        ("a\u2028b\u2029c\u0085d", "a b c d"),
        ("a\ud800b\ufeffc\u200bd", "abcd"),
        ("　合同　", "合同"),
        ("", ""),
    ],
)
def test_hostile_name(hostile: str, expected: str) -> None:
    assert shown(hostile, 100) == expected


def test_long_name_keeps_both_ends() -> None:
    assert shown("/opt/" + "x" * 500 + "/bin/app", 30) == "/opt/xxxxxxxxx…xxxxx/bin/app"
    assert shown("合" * 1000 + ".ofd", 40) == "合合合合合合…合合合合.ofd"
    assert len(shown("é" * 10**7, 30).encode()) <= 30


@given(st.text(), st.integers(8, 60))
def test_shown_text_is_one_bounded_line_of_printable_characters(text: str, octets: int) -> None:
    result = shown(text, octets)
    assert len(result.encode()) <= octets
    assert all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in result)
