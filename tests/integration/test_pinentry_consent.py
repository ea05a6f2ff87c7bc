"""Consent from pinentry programs that are scripts: what counts as yes, and what each misbehaviour comes to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from pinentry_parts import Script, assert_ended
from sealagent.callers.model import Paired
from sealagent.callers.peer import Caller
from sealagent.consent import pinentry as module
from sealagent.consent.dialog import SHORTER
from sealagent.consent.pinentry import MAX_HASTY, Pinentry
from sealagent.consent.prompter import Consent, ConsentRequest, Occasion, PinRequest, Prompter
from sealagent.consent.turn import MAX_WAITING
from sealagent.consent.words import Language
from sealagent.errors import SealAgentError
from sealagent.uses import Operation
from sealdrivers.contract import PinState
from tmux_parts import until

CALLER = Caller(1, 1, 42, "/bin/app", 1, application=Paired("a", "办公系统"))
OCCASION = Occasion(CALLER, "合同.ofd", "公章", operation=Operation.DOCUMENT, kind="OFD", pages=2)
USE = ConsentRequest("use", OCCASION)
OFFER = replace(USE, offer_session=True)
YES = "echo OK"
MORE = "echo ERR 83886194 not confirmed"
CANCEL = "echo ERR 83886179 cancelled"


def batch(count: int) -> ConsentRequest:
    items = tuple(f"第{number}号合同.ofd" for number in range(1, count + 1))
    return ConsentRequest("batch", replace(OCCASION, document=None, items=items))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts answer at once, and here that counts; where it must not, a test says so."""
    monkeypatch.setattr(module, "HASTE_SECONDS", 0.0)
    monkeypatch.setattr(module, "PERSON_SECONDS", 0.0)


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let a yes count after a while only; returns a yes that comes later than that."""
    monkeypatch.setattr(module, "HASTE_SECONDS", 0.5)
    return "sleep 0.7; echo OK"


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def outcome(prompter: Prompter, request: ConsentRequest = USE) -> str:
    """What was agreed to, or the code of the error."""
    try:
        return asyncio.run(prompter.confirm(request)).value
    except SealAgentError as error:
        return error.code


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (YES, "once"),
        (CANCEL, "no"),
        ("echo ERR 83886194 not confirmed", "no"),
        ("echo ERR 83886278 fully cancelled", "no"),
        ("echo S BUTTON_INFO close; echo OK", "no"),
        ("echo S BUTTON_INFO close; echo ERR 83886194 not confirmed", "no"),
        ("echo ERR 83886179; echo OK", "no"),
        ("echo ERR 83886142 timeout", "prompt_timeout"),
        ("echo ERR 83886340 unknown command", "prompt_failed"),
        ("echo D yes; echo OK", "prompt_failed"),
        ("echo OK; echo OK", "prompt_failed"),
        ("echo OK; echo ERR 83886179", "prompt_failed"),
        ("printf OK; exit 0", "prompt_failed"),
        ("echo OKAY", "prompt_failed"),
        ("echo yes", "prompt_failed"),
        ("echo S PASSWORD_FROM_CACHE; echo OK", "prompt_failed"),
        ("exit 0", "prompt_failed"),
        ("kill -9 $$", "prompt_failed"),
        ("yes 'S status'", "prompt_failed"),
        ("yes '# comment'", "prompt_failed"),
        ("tr '\\0' x < /dev/zero", "prompt_failed"),
    ],
)
def test_only_a_plain_ok_agrees(script: Script, said: str, expected: str) -> None:
    assert outcome(script.pinentry(said)) == expected
    assert_ended(script.folder)
    assert "GETPIN" not in script.heard
    assert script.told("SETTIMEOUT") == ["10"]


@pytest.mark.parametrize(
    "behaviour",
    [
        {"greeting": "echo OK hello; echo OK"},
        {"other": "echo OK; echo OK"},
        {"other": "echo D yes; echo OK"},
        {"bye": "echo OK; echo OK; exit 0"},
        {"bye": "echo ERR 1; echo OK"},
        {"bye": "yes OK"},
        {"bye": "trap '' TERM HUP; sleep 600 & wait; sleep 600"},
        {"greeting": "exit 1"},
        {"greeting": "echo ERR 67109139 no"},
    ],
)
def test_who_speaks_out_of_turn_is_not_believed(script: Script, behaviour: dict[str, str]) -> None:
    """An ``OK`` that answers something else, or comes before the question, must never stand for a yes."""
    assert outcome(script.pinentry(YES, **behaviour)) == "prompt_failed"  # type: ignore[arg-type]
    assert_ended(script.folder)


@pytest.mark.parametrize("bye", ["exit 0", "echo OK", "echo ERR 83886355 unknown command", "echo '# done'; echo OK"])
def test_who_says_goodbye_in_its_own_way_is_believed(script: Script, bye: str) -> None:
    assert outcome(script.pinentry(YES, bye=bye)) == "once"


def test_an_answer_after_the_time_is_none(script: Script) -> None:
    assert outcome(script.pinentry("sleep 1; echo OK", timeout=0.7)) == "prompt_timeout"
    assert_ended(script.folder)


@pytest.mark.parametrize("asked", ["use", "last try"])
def test_a_prompt_left_open_ends_in_time(script: Script, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour is a second here. The dialog that ignores its own time-out, and the wish to end, is gone, too."""
    monkeypatch.setattr(module, "SPARE_SECONDS", 0.2)
    prompter = script.pinentry("trap '' TERM HUP; sleep 600 & wait; sleep 600", timeout=1)
    began = time.monotonic()
    pin = PinRequest("label", "1", PinState(tries_left=1), "unlock", OCCASION)
    question = prompter.confirm(OFFER) if asked == "use" else prompter.confirm_last_try(pin)
    with pytest.raises(SealAgentError) as caught:
        asyncio.run(question)  # type: ignore[arg-type]
    assert caught.value.code == "prompt_timeout"
    assert 1 < time.monotonic() - began < 8
    assert_ended(script.folder)


def test_a_yes_faster_than_reading_is_asked_again(script: Script, slowly: str) -> None:
    assert outcome(script.pinentry("echo OK", slowly)) == "once"
    first, second = script.told("SETDESC")
    assert second == f"回答过快，来不及阅读。请再回答一次。%0A{first}"  # curses and GTK show no error there
    assert len(script.told("CONFIRM")) == 2
    assert script.told("SETERROR") == []


@pytest.mark.parametrize("request_", [USE, batch(100)])
def test_one_who_never_reads_does_not_agree(script: Script, slowly: str, request_: ConsentRequest) -> None:
    assert outcome(script.pinentry("echo OK"), request_) == "no"
    assert len(script.told("CONFIRM")) == MAX_HASTY


def test_a_session_is_not_agreed_to_faster_than_reading(script: Script, slowly: str) -> None:
    assert outcome(script.pinentry(slowly, "echo OK"), OFFER) == "once"


def test_a_page_is_not_turned_faster_than_seeing(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that cannot show anything says "not confirmed", too: pinentry-tty without its terminal."""
    monkeypatch.setattr(module, "PERSON_SECONDS", 0.5)
    assert outcome(script.pinentry("sleep 0.7; echo ERR 83886194", "echo ERR 83886194"), batch(100)) == "no"
    assert len(pages(script)) == 2


@pytest.mark.parametrize("flavor", ["curses", "tty", "gtk2", "gtk2:curses", "qt", "efl", "script", "gnome3"])
def test_the_focus_is_asked_to_be_on_no(script: Script, flavor: str) -> None:
    """Of those only that are GnuPG's: who reads commands strictly is sent nothing new."""
    assert outcome(script.pinentry(YES, flavor=flavor)) == "once"
    assert script.told("CONFIRM") == ["" if flavor in ("script", "gnome3") else "--focus=cancel"]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (YES, "session"),
        (CANCEL, "once"),
        (MORE, "once"),
        ("echo S BUTTON_INFO close; echo OK", "once"),
        ("echo ERR 83886142 timeout", "once"),
        ("exit 0", "prompt_failed"),
        ("echo D session; echo OK", "prompt_failed"),
    ],
)
def test_a_session_takes_a_second_yes(script: Script, second: str, expected: str) -> None:
    """A program that misbehaves at the second question is not believed about the first one either."""
    assert outcome(script.pinentry(YES, second), OFFER) == expected
    descriptions = script.told("SETDESC")
    assert "密码钥匙锁定或拔出之前" not in descriptions[0]
    assert "密码钥匙锁定或拔出之前" in descriptions[1]
    assert "办公系统" in descriptions[1]


@pytest.mark.parametrize("request_", [USE, replace(OFFER, question="grant"), replace(OFFER, question="pair")])
def test_no_session_where_none_is_offered(script: Script, request_: ConsentRequest) -> None:
    assert outcome(script.pinentry(YES), request_) == "once"
    assert len(script.told("CONFIRM")) == 1


def test_no_session_is_offered_after_a_no(script: Script) -> None:
    assert outcome(script.pinentry(CANCEL, YES), OFFER) == "no"
    assert len(script.told("CONFIRM")) == 1


def pages(script: Script) -> list[str]:
    """The line of each page that says where in the list it is."""
    return [part for told in script.told("SETDESC") for part in told.split("%0A") if "项；清单" in part]


def test_a_list_is_turned_and_approved(script: Script) -> None:
    assert outcome(script.pinentry(MORE, MORE, YES), batch(100)) == "once"
    shown = pages(script)
    assert [line.partition("，")[0] for line in shown] == ["第 1 至 6 项", "第 7 至 12 项", "第 13 至 18 项"]
    assert all("共 100 项" in line for line in shown)
    assert len({line.partition("清单 ")[2] for line in shown}) == 1
    assert script.told("SETNOTOK") == ["下一页(_M)"] * 3
    assert script.told("SETOK") == ["同意全部100项(_A)"] * 3


def test_the_last_page_shows_no_more_and_its_not_ok_is_no(script: Script) -> None:
    assert outcome(script.pinentry(MORE), batch(15)) == "no"
    assert [line.partition("，")[0] for line in pages(script)] == ["第 1 至 6 项", "第 7 至 12 项", "第 13 至 15 项"]
    assert len(script.told("SETNOTOK")) == 2


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (CANCEL, "no"),
        ("echo S BUTTON_INFO close; echo ERR 83886194 not confirmed", "no"),
        ("echo S BUTTON_INFO close; echo OK", "no"),
        ("echo ERR 83886142 timeout", "prompt_timeout"),
        ("exit 0", "prompt_failed"),
    ],
)
def test_nothing_but_ok_approves_a_list(script: Script, second: str, expected: str) -> None:
    """A closed GTK 4 window says "not confirmed", too."""
    assert outcome(script.pinentry(MORE, second), batch(100)) == expected
    assert len(pages(script)) == 2


def test_a_list_on_two_buttons(script: Script) -> None:
    """GNOME's dialog has no third button: there OK turns the page, and what agrees is asked for itself."""
    assert outcome(script.pinentry("echo OK", CANCEL, YES, flavor="gnome3"), batch(100)) == "once"
    assert script.told("SETOK") == ["下一页(_N)", "下一页(_N)", "同意全部100项(_A)"]
    assert script.told("SETDESC")[2].startswith("您已看过第 1 至 12 项。是否同意全部 100 项？")
    assert script.told("SETNOTOK") == []


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([YES, YES, YES], "once"),
        ([YES, YES, CANCEL], "no"),
        ([CANCEL, CANCEL], "no"),
        (["echo S BUTTON_INFO close; echo ERR 83886179", YES], "no"),
        ([YES, "echo ERR 83886142 timeout"], "prompt_timeout"),
    ],
)
def test_ways_through_a_list_on_two_buttons(script: Script, answers: list[str], expected: str) -> None:
    assert outcome(script.pinentry(*answers, flavor="gnome3"), batch(15)) == expected


def test_on_two_buttons_pages_turn_quickly_and_a_yes_does_not_come_so(script: Script, slowly: str) -> None:
    assert outcome(script.pinentry("echo OK", CANCEL, "echo OK", flavor="gnome3"), batch(15)) == "no"
    assert len(script.told("CONFIRM")) == 2 + MAX_HASTY


def test_ten_thousand_items_cost_one_page_until_it_is_turned(script: Script) -> None:
    began = time.monotonic()
    assert outcome(script.pinentry(YES), batch(10_000)) == "once"
    assert time.monotonic() - began < 5
    assert "第 1 至 6 项，共 10000 项" in pages(script)[0]
    assert len(pages(script)) == 1


SMALL = "echo ERR 83886381 window too small"


def test_a_terminal_that_is_too_small_gets_less_at_once(script: Script) -> None:
    """Fewer items on a page, and none is passed over when it is turned; where nothing fits, that is said."""
    assert outcome(script.pinentry(SMALL, SMALL, MORE, MORE, YES), batch(100)) == "once"
    shown = [line.partition("，")[0] for line in pages(script)]
    assert shown == ["第 1 至 6 项", "第 1 至 3 项", "第 1 至 1 项", "第 2 至 7 项", "第 8 至 13 项"]


def test_a_terminal_that_is_always_too_small(script: Script) -> None:
    assert outcome(script.pinentry(SMALL)) == "prompt_failed"
    assert len(script.told("CONFIRM")) == len(SHORTER)


async def waiting(prompter: Pinentry, count: int) -> list[asyncio.Task[Consent]]:
    tasks = []
    for number in range(count):
        occasion = replace(OCCASION, document=f"{number}.ofd")
        tasks.append(asyncio.create_task(prompter.confirm(replace(USE, occasion=occasion))))
        await asyncio.sleep(0)
    return tasks


def test_prompts_take_turns_and_those_given_up_are_never_shown(script: Script) -> None:
    async def run() -> list[str]:
        prompter = script.pinentry(YES)
        tasks = await waiting(prompter, 3)
        tasks.pop(1).cancel()
        return [(await task).value for task in tasks]

    assert asyncio.run(run()) == ["once", "once"]
    documents = [told.partition("文件：")[2].partition("（")[0] for told in script.told("SETDESC")]
    assert documents == ["0.ofd", "2.ofd"]


def test_too_many_prompts_are_refused_and_no_dialog_outlives_its_caller(script: Script) -> None:
    async def run() -> None:
        prompter = script.pinentry("sleep 600")
        tasks = await waiting(prompter, MAX_WAITING + 1)
        with pytest.raises(SealAgentError) as caught:
            await prompter.confirm(USE)
        assert caught.value.code == "too_many_prompts"
        with pytest.raises(SealAgentError) as caught:
            await prompter.ask_pin(None)  # type: ignore[arg-type]
        assert caught.value.code == "too_many_prompts"
        await asyncio.to_thread(until, lambda: bool(script.told("CONFIRM")), lambda: str(script.heard))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert len(script.told("CONFIRM")) == 1
    assert_ended(script.folder)


class More:
    """A pinentry of our own, as far as the seam is concerned."""

    flavor = "more"

    def commands(self, request: PinRequest | ConsentRequest, chosen: Language) -> Iterable[str]:
        return [f"SETLIST {len(request.occasion.items)}"]

    def consent(self, request: ConsentRequest, data: bytearray) -> Consent:
        return Consent(data.decode() or "no")


@pytest.mark.parametrize("data", ["once", "session", "no", ""])
def test_a_pinentry_that_can_do_more_is_asked_once(script: Script, data: str) -> None:
    said = f"echo D {data}; echo OK" if data else YES
    prompter = script.pinentry(said, flavor="more", extensions=(More(),))
    assert outcome(prompter, replace(batch(100), offer_session=True)) == (data or "no")
    assert script.told("SETLIST") == ["100"]
    assert pages(script) == []
    assert len(script.told("CONFIRM")) == 1


def test_the_extension_of_another_is_not_used(script: Script) -> None:
    assert outcome(script.pinentry(YES, flavor="curses", extensions=(More(),))) == "once"
    assert script.told("SETLIST") == []
