"""What each question says, in both languages, and that it fits a line of Assuan however long the names are."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealagent.callers.model import Paired
from sealagent.callers.peer import Caller
from sealagent.consent.dialog import dialog_commands
from sealagent.consent.lists import PINENTRY_PAGE, TERMINAL_PAGE, list_digest, page_from
from sealagent.consent.prompter import ConsentRequest, GrantTerms, Occasion, PinRequest, Purpose, Question
from sealagent.consent.shown import assuan_length, grouped
from sealagent.consent.texts import (
    confirm_text,
    consent_text,
    decide_text,
    look_text,
    page_text,
    prompt_text,
    session_text,
)
from sealagent.consent.words import WORDS, Language
from sealagent.uses import Operation
from sealdrivers.contract import PinState

LANGUAGES: tuple[Language, ...] = get_args(Language)
QUESTIONS: tuple[Question, ...] = get_args(Question)
DIGEST = "0123456789ABCDEF" * 4

PAIRED = Caller(1000, 1000, 4242, "/opt/office/oa", 1, parent="/usr/bin/bash", application=Paired("app-1", "办公系统"))
STRANGER = replace(PAIRED, application=None, origin="https://oa.example")
DOCUMENT = Occasion(
    PAIRED, "采购合同.ofd", "合同专用章", operation=Operation.DOCUMENT, kind="OFD", pages=2, digest=DIGEST
)
TERMS = GrantTerms(
    False, Operation.DOCUMENT, "合同专用章", None, ("ofd",), 100, None, "2026-12-31 18:00", "08:00-18:00"
)


def asked(request: ConsentRequest, chosen: Language = "zh_CN") -> str:
    return "\n".join(consent_text(request, chosen).description)


def test_a_use_shows_all_that_is_known() -> None:
    request = ConsentRequest("use", DOCUMENT, token_label="单位公章", token_serial="SN-1")
    assert consent_text(request, "zh_CN").description == (
        "有程序请求使用您的印章。只有确为您本人发起时才允许。",
        "操作：在代理已读取的文件上盖章",
        "文件：采购合同.ofd（OFD，2 页）",
        "摘要：0123 4567 89ab cdef…",
        "印章：合同专用章",
        "应用：办公系统（已配对）",
        "程序：/opt/office/oa（进程 4242）",
        "启动者：/usr/bin/bash",
        "密码钥匙：单位公章（序列号 SN-1）",
    )
    english = asked(request, "en").splitlines()
    assert english[1:4] == [
        "To do: seal a document that the agent has read",
        "Document: 采购合同.ofd (OFD, 2 pages)",
        "Digest: 0123 4567 89ab cdef…",
    ]
    assert english[5] == "Application: 办公系统 (paired)"


def test_a_stranger_is_called_one() -> None:
    for chosen, words in (("zh_CN", "应用：【未配对】"), ("en", "Application: NOT PAIRED")):
        text = asked(ConsentRequest("use", replace(DOCUMENT, caller=STRANGER)), chosen)  # type: ignore[arg-type]
        assert words in text
        assert "https://oa.example" in text
        assert "4242" in text


@pytest.mark.parametrize("operation", [Operation.DIGEST, Operation.RAW])
def test_a_blind_signature_is_marked_in_every_prompt(operation: Operation) -> None:
    occasion = Occasion(STRANGER, seal="公章", key="key-1", operation=operation, digest=DIGEST)
    request = ConsentRequest("use", occasion, offer_session=True)
    pin = PinRequest("label", "1", PinState(), "unlock", occasion)
    for chosen, mark in (("zh_CN", "【盲签】"), ("en", "BLIND SIGNATURE")):
        language: Language = chosen  # type: ignore[assignment]
        for text in (
            consent_text(request, language),
            session_text(request, language),
            prompt_text(pin, language),
            confirm_text(pin, language),
        ):
            assert sum(line.startswith(mark) for line in text.description) == 1, text
    assert not any("BLIND" in line for line in consent_text(ConsentRequest("use", DOCUMENT), "en").description)


@pytest.mark.parametrize(
    ("kind", "pages", "shown"),
    [
        (None, None, "a.ofd"),
        ("OFD", None, "a.ofd (OFD)"),
        ("OFD", 1, "a.ofd (OFD, 1 page)"),
        ("OFD", 2, "a.ofd (OFD, 2 pages)"),
        (None, 1, "a.ofd (1 page)"),
        (None, 10, "a.ofd (10 pages)"),
    ],
)
def test_kind_and_pages(kind: str | None, pages: int | None, shown: str) -> None:
    occasion = Occasion(None, "a.ofd", kind=kind, pages=pages)
    assert f"Document: {shown}" in asked(ConsentRequest("use", occasion), "en").splitlines()


@pytest.mark.parametrize(
    ("digest", "shown"),
    [
        (DIGEST, "0123 4567 89ab cdef…"),
        ("00ff", "00ff"),
        ("", ""),
        ("not\x1b hex", "not hex"),
        ("0" * 16, "0000 " * 3 + "0000"),
    ],
)
def test_digest_prefix(digest: str, shown: str) -> None:
    assert grouped(digest) == shown


def test_pairing_shows_the_code_and_marks_the_name_as_the_programs_own_word() -> None:
    request = ConsentRequest("pair", Occasion(STRANGER), name="微软\n办公", code="123456")
    chinese, english = asked(request), asked(request, "en")
    assert "配对码：123 456" in chinese.splitlines()
    assert "自称：“微软 办公”（未经核实）" in chinese.splitlines()
    assert "Code: 123 456" in english.splitlines()
    assert "It calls itself: “微软 办公” (nobody checked that)" in english.splitlines()
    assert consent_text(request, "en").ok == "_Same code"


def test_renaming_shows_both_names() -> None:
    text = asked(ConsentRequest("rename", Occasion(PAIRED), application="旧名", name="新名"))
    assert "所涉应用：旧名" in text
    assert "新名称：“新名”" in text
    assert "自称" not in text


def test_terms_of_a_grant_in_words() -> None:
    request = ConsentRequest("grant", Occasion(STRANGER), application="办公系统", terms=TERMS)
    assert consent_text(request, "zh_CN").description[:8] == (
        "有程序请求授予应用以下权限。授权范围内的使用不再询问您。",
        "所涉应用：办公系统",
        "允许：在代理读取的文件上盖章",
        "印章：合同专用章",
        "格式：ofd",
        "最多 100 次",
        "截止：2026-12-31 18:00",
        "每日：08:00-18:00",
    )
    anything = GrantTerms(False, Operation.RAW, None, None, (), None, "2026-12-01", None, None)
    assert consent_text(replace(request, terms=anything), "en").description[2:7] == (
        "Allow: BLIND signatures with a key",
        "Key: any",
        "As many signatures as it likes",
        "From: 2026-12-01",
        "Until: it is revoked",
    )


def test_a_prohibition_is_told_from_a_permission() -> None:
    forbidding = replace(TERMS, forbids=True, count=None)
    texts = {
        (question, terms.forbids): asked(ConsentRequest(question, Occasion(PAIRED), terms=terms), "en")
        for question in ("grant", "ungrant")
        for terms in (TERMS, forbidding)
    }
    assert len({text.splitlines()[0] for text in texts.values()}) == 4
    assert "Forbid: sealing" in texts["grant", True]
    assert "TAKE BACK A PROHIBITION" in texts["ungrant", True]
    assert "TAKE BACK A PROHIBITION" in asked(ConsentRequest("ungrant", Occasion(PAIRED)), "en")
    assert "signatures it likes" not in texts["grant", True]


@pytest.mark.parametrize("chosen", LANGUAGES)
def test_administrative_acts_in_words(chosen: Language) -> None:
    acts = {name.removeprefix("act_") for name in WORDS[chosen] if name.startswith("act_")}
    assert {"generate_key", "import_certificate", "import_seal", "certificate_request", "change_pin"} <= acts
    for act in acts - {"other"}:
        text = asked(ConsentRequest("use", Occasion(PAIRED, operation=Operation.MANAGE, act=act)), chosen)
        assert WORDS[chosen][f"act_{act}"] in text
        assert WORDS[chosen]["use_manage"] in text
    unknown = asked(ConsentRequest("use", Occasion(PAIRED, operation=Operation.MANAGE, act="melt\x07")), chosen)
    assert "melt" in unknown
    assert WORDS[chosen]["do_manage"] in asked(
        ConsentRequest("use", Occasion(PAIRED, operation=Operation.MANAGE)), chosen
    )


def test_a_pin_prompt_says_what_it_is_for() -> None:
    for operation, name in ((None, "unlock"), (Operation.RAW, "unlock_key"), (Operation.MANAGE, "unlock_manage")):
        pin = PinRequest("label", "1", PinState(), "unlock", Occasion(PAIRED, operation=operation))
        assert prompt_text(pin, "en").description[0] == WORDS["en"][name]
    batch = PinRequest("l", "1", PinState(), "unlock", replace(DOCUMENT, items=("a.ofd", "b.ofd", "c.ofd", "d.ofd")))
    lines = prompt_text(batch, "en").description
    assert f"Signatures: 4; list {grouped(list_digest(batch.occasion.items))}" in lines
    assert "3. c.ofd" in lines
    assert not any("d.ofd" in line for line in lines)


@pytest.mark.parametrize("chosen", LANGUAGES)
def test_buttons_of_one_dialog_differ(chosen: Language) -> None:
    """A pinentry without a mouse presses the letter after the underscore; curses has room for 23 octets."""
    items = tuple(f"{n}.ofd" for n in range(10_000))
    batch = ConsentRequest("batch", replace(DOCUMENT, items=items))
    page = page_from(items, 0, PINENTRY_PAGE, "00")
    texts = [
        consent_text(batch, chosen, page=page),
        look_text(batch, chosen, page),
        decide_text(batch, chosen, page),
        session_text(batch, chosen),
        *(consent_text(ConsentRequest(question, DOCUMENT), chosen) for question in QUESTIONS),
        confirm_text(PinRequest("label", "1", PinState(tries_left=1), "unlock", DOCUMENT), chosen),
    ]
    for text in texts:
        labels = [text.ok, text.cancel, *([text.more] if text.more else [])]
        assert max(len(label.replace("_", "").encode()) for label in labels) <= 23, labels
        letters = [label[label.index("_") + 1].lower() for label in labels]
        assert len(set(letters)) == len(labels), labels
        assert all(letter.isascii() and letter.isalpha() for letter in letters)


def longest(letter: str) -> Occasion:
    name = letter * 3000
    origin = f"moz-extension://{name}"
    caller = Caller(1, 1, 2**22, name, 1, parent=name, origin=origin, page=name, application=Paired("x", name))
    return Occasion(
        caller,
        name,
        name,
        operation=Operation.DIGEST,
        kind=name,
        pages=10**9,
        digest="f" * 128,
        key=name,
        items=(name,) * 12,
    )


@pytest.mark.parametrize("chosen", LANGUAGES)
@pytest.mark.parametrize("letter", ["%", "章", "x", "%\n", "_", "🀄"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_fits_a_line_of_assuan(question: Question, letter: str, chosen: Language) -> None:
    occasion, name = longest(letter), letter * 3000
    terms = GrantTerms(True, Operation.DIGEST, name, name, (name,) * 9, 10**9, name, name, name)
    request = ConsentRequest(question, occasion, name, name, name, name, name, terms, offer_session=True)
    page = page_from(occasion.items, 0, PINENTRY_PAGE, list_digest(occasion.items))
    for compose in (
        lambda shorter: consent_text(request, chosen, again=True, shorter=shorter),
        lambda shorter: consent_text(replace(request, terms=None), chosen, page=page, again=True, shorter=shorter),
        lambda shorter: look_text(replace(request, terms=None), chosen, page, shorter=shorter),
        lambda shorter: decide_text(request, chosen, page, again=True, shorter=shorter),
        lambda shorter: session_text(request, chosen, again=True, shorter=shorter),
    ):
        assert max(len(line.encode()) for line in dialog_commands(compose)) < 1000


@pytest.mark.parametrize("chosen", LANGUAGES)
@pytest.mark.parametrize("purpose", get_args(Purpose))
@pytest.mark.parametrize("letter", ["%", "章"])
def test_every_pin_prompt_fits_a_line_of_assuan(purpose: Purpose, letter: str, chosen: Language) -> None:
    pin = PinState(tries_left=1, final_try=True, count_low=True, factory_pin=True)
    request = PinRequest(letter * 999, letter * 999, pin, purpose, longest(letter), previous_wrong=True)
    for lines in (
        dialog_commands(lambda shorter: prompt_text(request, chosen, wrong_length=True, shorter=shorter)),
        dialog_commands(lambda shorter: confirm_text(request, chosen, again=True, shorter=shorter)),
    ):
        assert max(len(line.encode()) for line in lines) < 1000


@pytest.mark.parametrize("size", [PINENTRY_PAGE, TERMINAL_PAGE])
def test_the_pages_of_a_list_hold_each_item_once_and_in_order(size: object) -> None:
    items = tuple(f"合同 {n}%.ofd，OFD，{n} 页" for n in range(10_000))
    digest, at, seen = list_digest(items), 0, []
    page_size = PINENTRY_PAGE if size is PINENTRY_PAGE else TERMINAL_PAGE
    while at < len(items):
        page = page_from(items, at, page_size, digest)
        assert (page.first, page.count, page.final) == (at + 1, 10_000, page.last == 10_000)
        assert sum(assuan_length(line) + 3 for line in page.lines) <= page_size.octets or len(page.lines) == 1
        assert 1 <= len(page.lines) <= page_size.lines
        seen += [line.partition(". ") for line in page.lines]
        at = page.last
    assert [int(number) for number, _, _ in seen] == list(range(1, 10_001))
    assert [text for _, _, text in seen] == list(items)


def test_every_page_says_which_it_is_of_how_many_and_of_which_list() -> None:
    items = tuple(f"{n}.ofd" for n in range(1, 31))
    request = ConsentRequest("batch", replace(DOCUMENT, document=None, items=items))
    digest = list_digest(items)
    page = page_from(items, 6, PINENTRY_PAGE, digest)
    line = f"Items 7 to 12 of 30; list {grouped(digest)}"
    for text in (
        consent_text(request, "en", page=page),
        look_text(request, "en", page),
        page_text("en", page),
    ):
        assert line in text.description
        assert text.description[-6:] == tuple(f"{n}. {n}.ofd" for n in range(7, 13))
    text = consent_text(request, "en", page=page)
    assert (text.ok, text.more, text.cancel) == ("_Approve all 30", "Show _more", "_Deny")
    assert text.description[0].startswith("A program asks for 30 signatures at once")
    final = consent_text(request, "en", page=page_from(items, 24, PINENTRY_PAGE, digest))
    assert final.more is None
    assert "You have seen items 1 to 12. Approve all 30?" in decide_text(request, "en", page).description


def test_the_digest_of_a_list() -> None:
    """SHA-256 over length and UTF-8 of each: no two lists run together."""
    assert list_digest(("ab", "c")) != list_digest(("a", "bc")) != list_digest(("abc",))
    assert list_digest(()) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert len(list_digest(("\ud800",))) == 64


@given(st.lists(st.text(max_size=400), min_size=1, max_size=40), st.integers(0, 39))
def test_any_item_makes_a_page(items: list[str], start: int) -> None:
    at = start % len(items)
    page = page_from(items, at, PINENTRY_PAGE, list_digest(items))
    assert at < page.last <= len(items)
    assert not any("\n" in line or "\x1b" in line for line in page.lines)
    request = ConsentRequest("batch", Occasion(STRANGER, items=tuple(items)))
    lines = dialog_commands(lambda shorter: consent_text(request, "zh_CN", page=page, shorter=shorter))
    assert max(len(line.encode()) for line in lines) < 1000
