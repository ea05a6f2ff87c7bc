"""Consent on real terminals: pinentry-tty, pinentry-curses and our own prompt, drawn by tmux, keys pressed there."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from sealagent.callers.model import Paired
from sealagent.callers.peer import Caller
from sealagent.consent import pinentry as module
from sealagent.consent.lists import list_digest
from sealagent.consent.pinentry import Pinentry, PinentrySettings
from sealagent.consent.prompter import Consent, ConsentRequest, GrantTerms, Occasion, PinRequest, Prompter
from sealagent.consent.shown import grouped
from sealagent.consent.terminal import TerminalPrompter
from sealagent.errors import SealAgentError
from sealagent.uses import Operation
from sealdrivers.contract import PinState
from tmux_parts import Pane, required, until

KINDS = ["pinentry-tty", "pinentry-curses", "terminal"]
CALLER = Caller(1, 1, 4242, "/opt/office/oa", 1, parent="/usr/bin/bash", application=Paired("a", "办公系统"))
OCCASION = Occasion(
    CALLER,
    "采购合同.ofd",
    "合同专用章",
    operation=Operation.DOCUMENT,
    kind="OFD",
    pages=2,
    digest="0123456789abcdef" * 4,
)
USE = ConsentRequest("use", OCCASION, token_label="单位公章", token_serial="SN-1")
BATCH = ConsentRequest(
    "batch", replace(OCCASION, document=None, items=tuple(f"第{number}号合同.ofd" for number in range(1, 21)))
)
ENVIRON = {"LC_ALL": "zh_CN.UTF-8", "PATH": os.environ["PATH"], "TERM": "screen"}
READING = 0.05
"""Seconds before keys are pressed, which itself takes 0.2."""

# The keys of a dialog's buttons. On curses those that work wherever the focus is at first (OK until 1.2, Cancel later).
CURSES_OK = ("Left", "Left", "Enter")
CURSES_MORE = ("Left", "Left", "Right", "Enter")
CURSES_CANCEL = ("Right", "Right", "Enter")
YES = {"pinentry-tty": ("a",), "pinentry-curses": CURSES_OK, "terminal": ("是", "Enter")}
NO = {"pinentry-tty": ("d",), "pinentry-curses": CURSES_CANCEL, "terminal": ("Enter",)}
MORE = {"pinentry-tty": ("m",), "pinentry-curses": CURSES_MORE, "terminal": ("Enter",)}

Step = tuple[str, tuple[str, ...]]
"""What is waited for on the screen, and the keys that are pressed then."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to read here before a yes counts, but where a test says so."""
    monkeypatch.setattr(module, "HASTE_SECONDS", 0.0)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="seal") as name:  # pytest's own make socket paths too long
        yield Path(name)


@pytest.fixture
def pane(folder: Path) -> Iterator[Pane]:
    made = Pane(folder, ["sleep", "1000"], {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder)})
    yield made
    with suppress(Exception):  # a test may have closed it
        made.close()


def prompter_of(kind: str, pane: Pane, *, timeout: float = 20) -> Prompter:
    if kind == "terminal":
        return TerminalPrompter(ENVIRON, path=pane.tty, timeout=timeout)
    return Pinentry(
        PinentrySettings(
            required(kind),
            ttyname=pane.tty,
            ttytype="screen",
            lc_ctype="C.UTF-8",
            timeout=timeout,
            environ=ENVIRON,
        )
    )


async def seen(pane: Pane, text: str) -> None:
    await asyncio.to_thread(until, lambda: text in pane.visible, lambda: pane.visible)
    await asyncio.sleep(READING)


async def confirmed(prompter: Prompter, pane: Pane, request: ConsentRequest, *steps: Step) -> str:
    """Ask, go through the steps, and return what was agreed to or the code of the error."""
    task = asyncio.create_task(prompter.confirm(request))
    for text, keys in steps:
        await seen(pane, text)
        await asyncio.to_thread(pane.press, *keys)
    try:
        return (await asyncio.wait_for(task, 30)).value
    except SealAgentError as error:
        print(f"{error!r}")  # pytest shows it when it was not expected
        return error.code


def run(prompter: Prompter, pane: Pane, request: ConsentRequest, *steps: Step) -> str:
    return asyncio.run(confirmed(prompter, pane, request, *steps))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ["once", "no"])
def test_a_use_is_shown_and_answered(kind: str, answer: str, pane: Pane) -> None:
    keys = (YES if answer == "once" else NO)[kind]
    assert run(prompter_of(kind, pane), pane, USE, ("采购合同.ofd", keys)) == answer


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_is_on_the_screen(kind: str, pane: Pane) -> None:
    async def look() -> str:
        task = asyncio.create_task(prompter_of(kind, pane).confirm(USE))
        await seen(pane, "采购合同.ofd")
        shown = await asyncio.to_thread(lambda: pane.visible)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return shown

    shown = asyncio.run(look())
    for words in (
        "（OFD，2 页）",
        "0123 4567 89ab cdef",
        "合同专用章",
        "办公系统（已配对）",
        "/opt/office/oa（进程 4242）",
        "/usr/bin/bash",
        "单位公章（序列号 SN-1）",
        "在代理已读取的文件上盖章",
    ):
        assert words in shown, words
    if kind == "pinentry-curses":  # the dialog of a caller that has gone is gone, too
        until(lambda: "采购合同" not in pane.visible, lambda: pane.visible)


@pytest.mark.parametrize("kind", KINDS)
def test_blind_signatures_pairing_and_grants(kind: str, pane: Pane) -> None:
    stranger = replace(CALLER, application=None)
    prompter = prompter_of(kind, pane)
    blind = ConsentRequest("use", Occasion(stranger, operation=Operation.RAW, key="key-1", digest="ab" * 32))
    assert run(prompter, pane, blind, ("【盲签】", NO[kind])) == "no"
    assert "应用：【未配对】" in pane.screen or kind == "pinentry-curses"
    pair = ConsentRequest("pair", Occasion(stranger), name="办公软件", code="123456")
    same = {**YES, "pinentry-tty": ("s",)}
    assert run(prompter, pane, pair, ("配对码：123 456", same[kind])) == "once"
    terms = GrantTerms(False, Operation.DOCUMENT, "合同专用章", None, ("ofd",), 100, None, None, None)
    grant = ConsentRequest("grant", Occasion(stranger), application="办公软件", terms=terms)
    assert run(prompter, pane, grant, ("最多 100 次", YES[kind])) == "once"


@pytest.mark.parametrize(
    ("kind", "second", "expected"),
    [
        ("pinentry-tty", ("u",), "session"),
        ("pinentry-tty", ("o",), "once"),
        ("pinentry-curses", CURSES_OK, "session"),
        ("pinentry-curses", CURSES_CANCEL, "once"),
    ],
)
def test_a_session_takes_a_second_dialog(kind: str, second: tuple[str, ...], expected: str, pane: Pane) -> None:
    offer = replace(USE, offer_session=True)
    steps = (("采购合同.ofd", YES[kind]), ("锁定或拔出之前", second))
    assert run(prompter_of(kind, pane), pane, offer, *steps) == expected


@pytest.mark.parametrize(
    ("typed", "offered", "expected"),
    [
        ("本次", True, "session"),
        ("session", True, "session"),
        ("yes", True, "once"),
        ("是", True, "once"),
        ("session", False, "no"),
        ("本次", False, "no"),
        ("Session", True, "no"),
        ("yes session", True, "no"),
    ],
)
def test_a_session_takes_its_own_word_on_the_terminal(typed: str, offered: bool, expected: str, pane: Pane) -> None:
    request = replace(USE, offer_session=offered)
    assert run(prompter_of("terminal", pane), pane, request, ("其他任何输入均拒绝", (typed, "Enter"))) == expected


@pytest.mark.parametrize("key", ["C-c", "C-d", "Up", "Escape"])
@pytest.mark.parametrize("request_", [USE, BATCH])
def test_keys_that_end_a_line_on_the_terminal_agree_to_nothing(key: str, request_: ConsentRequest, pane: Pane) -> None:
    keys = (key, "Enter") if key in ("Up", "Escape") else (key,)
    assert run(prompter_of("terminal", pane), pane, request_, ("其他任何输入均拒绝", keys)) == "no"


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_is_read_and_approved(kind: str, pane: Pane) -> None:
    size = 15 if kind == "terminal" else 6
    steps = []
    for first in range(1, 20, size):
        last = min(first + size - 1, 20)
        steps.append((f"第 {first} 至 {last} 项，共 20 项", YES[kind] if last == 20 else MORE[kind]))
    assert run(prompter_of(kind, pane), pane, BATCH, *steps) == "once"
    if kind != "pinentry-curses":  # which leaves nothing behind
        assert pane.screen.count(f"清单 {grouped(list_digest(BATCH.occasion.items))}") == len(steps)
        for item in BATCH.occasion.items:
            assert item in pane.screen, item


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_is_refused_on_its_second_page(kind: str, pane: Pane) -> None:
    last = 15 if kind == "terminal" else 6
    no = {**NO, "terminal": ("no", "Enter")}
    steps = ((f"第 1 至 {last} 项", MORE[kind]), (f"第 {last + 1} 至 ", no[kind]))
    assert run(prompter_of(kind, pane), pane, BATCH, *steps) == "no"


@pytest.mark.parametrize("kind", KINDS)
def test_enter_on_the_last_page_of_the_terminal_is_no(kind: str, pane: Pane) -> None:
    small = replace(BATCH, occasion=replace(BATCH.occasion, items=("a.ofd", "b.ofd")))
    assert run(prompter_of(kind, pane), pane, small, ("第 1 至 2 项，共 2 项", NO[kind])) == "no"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_typed_ahead_agrees_to_nothing(kind: str, pane: Pane) -> None:
    """Neither Enter nor the letter of the button, nor a whole yes, that somebody typed for something else."""
    pane.press("a", "Enter", "是", "Enter", "Enter")
    until(lambda: pane.visible.count("是") == 1, lambda: pane.visible)

    async def ask() -> None:
        prompter = prompter_of(kind, pane)
        task = asyncio.create_task(prompter.confirm(USE))
        await seen(pane, "采购合同.ofd")
        assert not task.done()
        assert "回答过快" not in await asyncio.to_thread(lambda: pane.screen)
        await asyncio.to_thread(pane.press, *NO[kind])
        assert await asyncio.wait_for(task, 30) is Consent.NO

    asyncio.run(ask())


@pytest.mark.parametrize("kind", ["pinentry-tty", "pinentry-curses"])
def test_a_key_pressed_as_the_dialog_comes_up_agrees_to_nothing(
    kind: str, pane: Pane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """curses takes Enter for its OK: the holder is asked again, and is told why."""
    monkeypatch.setattr(module, "HASTE_SECONDS", 4.0)  # a machine with much to do is slow to press keys

    async def ask() -> str:
        task = asyncio.create_task(prompter_of(kind, pane).confirm(USE))
        await seen(pane, "采购合同.ofd")
        await asyncio.to_thread(pane.press, *YES[kind])
        await seen(pane, "回答过快，来不及阅读")
        assert not task.done()
        await asyncio.sleep(4.0)
        await asyncio.to_thread(pane.press, *YES[kind])
        return (await asyncio.wait_for(task, 30)).value

    assert asyncio.run(ask()) == "once"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("request_", [USE, BATCH])
def test_nobody_answers(kind: str, request_: ConsentRequest, pane: Pane) -> None:
    assert run(prompter_of(kind, pane, timeout=1), pane, request_) == "prompt_timeout"
    if kind == "pinentry-curses":
        until(lambda: "合同" not in pane.visible, lambda: pane.visible)


@pytest.mark.parametrize("kind", KINDS)
def test_a_terminal_that_goes_away_agrees_to_nothing(kind: str, pane: Pane) -> None:
    async def ask() -> str:
        task = asyncio.create_task(prompter_of(kind, pane, timeout=3).confirm(USE))
        await seen(pane, "采购合同.ofd")
        await asyncio.to_thread(pane.close)
        try:
            return (await asyncio.wait_for(task, 30)).value
        except SealAgentError as error:
            return error.code

    # pinentry-curses looks for keys until its time is over; pinentry-tty says that its window was closed. What our own
    # read comes to, an end or an error, is the kernel's to choose.
    expected = {"pinentry-tty": {"no"}, "pinentry-curses": {"prompt_timeout"}, "terminal": {"no", "prompt_failed"}}
    assert asyncio.run(ask()) in expected[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_two_at_once_take_turns(kind: str, pane: Pane) -> None:
    async def both() -> list[Consent]:
        prompter = prompter_of(kind, pane)
        first = asyncio.create_task(prompter.confirm(USE))
        await seen(pane, "采购合同.ofd")
        second = asyncio.create_task(prompter.confirm(replace(USE, occasion=replace(OCCASION, document="第二份.ofd"))))
        gone = asyncio.create_task(prompter.confirm(replace(USE, occasion=replace(OCCASION, document="无人等待.ofd"))))
        await asyncio.sleep(0.2)
        gone.cancel()
        assert "第二份" not in await asyncio.to_thread(lambda: pane.screen)
        await asyncio.to_thread(pane.press, *NO[kind])
        await seen(pane, "第二份.ofd")
        await asyncio.to_thread(pane.press, *YES[kind])
        answers = [await asyncio.wait_for(task, 30) for task in (first, second)]
        assert "无人等待" not in await asyncio.to_thread(lambda: pane.screen)
        return answers

    assert asyncio.run(both()) == [Consent.NO, Consent.ONCE]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_a_whole_prompt_fits_a_terminal_of_24_lines(kind: str, language: str, folder: Path) -> None:
    """PIN prompt and list with everything there is to say, of names as long as real ones."""
    occasion = replace(
        OCCASION,
        document="2026年度办公设备采购及售后服务合同（正式稿）.ofd",
        key="signing-key-2026",
        caller=replace(CALLER, executable="/opt/apps/com.example.office/files/bin/office-suite"),
    )
    pin = PinRequest("某某公司", "0123456789ABCDEF", PinState(tries_left=1, factory_pin=True), "unlock", occasion, True)
    request = replace(BATCH, occasion=replace(occasion, document=None, items=BATCH.occasion.items))
    small = Pane(folder, ["sleep", "1000"], {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, (80, 24))

    async def look(question: str) -> str:
        prompter = prompter_of(kind, small)
        if isinstance(prompter, (Pinentry, TerminalPrompter)):
            prompter._language = language  # type: ignore[assignment]
        task = asyncio.create_task(prompter.confirm(request) if question == "batch" else prompter.ask_pin(pin))  # type: ignore[arg-type]
        try:
            await seen(small, "PIN" if question == "pin" else "20")
            assert not task.done(), task.exception()
            return await asyncio.to_thread(lambda: small.screen)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, SealAgentError):
                await task

    try:
        assert "office-suite" in asyncio.run(look("pin"))
        assert "第6号合同.ofd" in asyncio.run(look("batch"))
    finally:
        small.close()
