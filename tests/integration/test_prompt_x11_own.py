"""Our own dialog with somebody in front of it: what it shows, what counts as an answer, and when it goes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from prompt_parts import (
    CALLER,
    OCCASION,
    OWN,
    PIN,
    RED,
    TITLE,
    USE,
    asked,
    children,
    keys,
    prompter,
    reads,
    seal_picture,
)
from sealagent.consent.pinentry import Pinentry
from sealagent.consent.prompter import Consent, ConsentRequest, Occasion, PinRequest, SealPicture
from sealagent.uses import Operation
from sealdrivers.contract import PinState
from tmux_parts import until
from x11_parts import SIZE, Screen, exactly, other_window, waits


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    with Screen(tmp_path_factory.mktemp("screen")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def nothing_left(screen: Screen) -> Iterator[None]:
    yield
    assert waits(lambda: not screen.windows(TITLE), 5.0), "a window was left"


def own(screen: Screen, timeout: float = 12.0, **environment: str) -> Pinentry:
    return prompter(screen, OWN, timeout, **environment)


def test_it_shows_the_seal_and_who_asks(screen: Screen) -> None:
    """The picture is drawn as large as it should be; in both languages; kept to be looked at."""
    for language in ("zh_CN.UTF-8", "en_US.UTF-8"):
        before = count_red(screen.picture())
        kept = lambda: shots.append(screen.picture(f"own-use-{language[:2]}"))  # noqa: B023, E731
        shots: list[Image.Image] = []
        asked(own(screen, LANG=language).confirm(USE), reads(screen), kept, keys(screen, "Escape"))
        assert before == 0
        assert count_red(shots[0]) > 1500
        left, top, right, bottom = box_of_red(shots[0])
        assert 120 <= right - left <= 220
        assert 120 <= bottom - top <= 220


def count_red(image: Image.Image) -> int:
    return exactly(image, RED).histogram()[255]


def box_of_red(image: Image.Image) -> tuple[int, int, int, int]:
    box = exactly(image, RED).getbbox()
    assert box is not None
    return box


@pytest.mark.parametrize(
    "picture",
    [SealPicture("svg", b"<svg/>"), SealPicture("png", seal_picture()[:-40]), SealPicture("png", b"")],
    ids=["svg", "damaged", "empty"],
)
def test_a_picture_that_cannot_be_shown_is_said_so(screen: Screen, picture: SealPicture) -> None:
    shots: list[Image.Image] = []
    occasion = Occasion(CALLER, seal="合同专用章", operation=Operation.DOCUMENT, picture=picture)
    kept = lambda: shots.append(screen.picture(f"own-no-picture-{picture.type}"))  # noqa: E731
    request = ConsentRequest("use", occasion)
    assert asked(own(screen).confirm(request), reads(screen), kept, keys(screen, "alt+a")) is Consent.ONCE
    assert count_red(shots[0]) == 0


@pytest.mark.parametrize(
    ("pressed", "answer"),
    [
        (["alt+a"], Consent.ONCE),
        (["alt+u"], Consent.SESSION),
        (["alt+d"], Consent.NO),
        (["Return"], Consent.NO),
        (["space"], Consent.NO),
        (["KP_Enter"], Consent.NO),
        (["Tab", "Return"], Consent.ONCE),
        (["shift+Tab", "space"], Consent.SESSION),
        (["Tab", "Tab", "Return"], Consent.SESSION),
        (["Tab", "Escape"], Consent.NO),
    ],
    ids="-".join,
)
def test_keys_alone_answer(screen: Screen, pressed: list[str], answer: Consent) -> None:
    """The default is no, wherever the focus is not on another button."""
    request = ConsentRequest("use", OCCASION, "测试钥匙", "0042", offer_session=True)
    assert asked(own(screen).confirm(request), reads(screen), keys(screen, *pressed)) is answer


def test_keys_that_were_meant_for_another_window(screen: Screen) -> None:
    """Somebody types on while the window comes up: neither an answer nor half a PIN comes of it."""

    def types_on(*names: str) -> Callable[[], object]:
        return lambda: screen.xdotool("key", "--delay", "40", *(names * 20))

    for names in (("alt+a", "Tab"), ("space", "Return")):
        answer = asked(own(screen).confirm(USE), types_on(*names), reads(screen), keys(screen, "alt+d"))
        assert answer is Consent.NO
    pin = asked(
        own(screen).ask_pin(PIN), types_on("1", "2"), reads(screen), lambda: screen.type("34"), keys(screen, "Return")
    )
    assert pin == bytearray(b"34")


def test_a_click_counts_like_a_key(screen: Screen) -> None:
    """The button is found where the picture of the window has it: the yes is the one at the right."""

    def click_yes() -> None:
        x, y, width, height = screen.place(screen.shown(TITLE))
        screen.click(x + width - 60, y + height - 35)

    assert asked(own(screen).confirm(USE), reads(screen), click_yes) is Consent.ONCE


def test_what_another_program_makes_up_does_not_count(screen: Screen) -> None:
    """``XSendEvent`` is how one program fakes keys for the window of another."""

    def fake() -> None:
        window = screen.shown(TITLE)
        for inside in screen.children(window):
            for name in ("alt+a", "Tab", "space", "Return"):
                screen.xdotool("key", "--window", inside, name)
        time.sleep(0.3)
        assert screen.windows(TITLE)

    assert asked(own(screen).confirm(USE), reads(screen), fake, keys(screen, "alt+a")) is Consent.ONCE


def test_other_programs_cannot_run_commands_in_it(screen: Screen) -> None:
    """Tk programs can be sent commands by any other on the screen (send(n)); this one cannot."""
    code = (
        "import tkinter; r = tkinter.Tk(); r.withdraw(); "
        "print(*r.tk.splitlist(r.tk.call('winfo', 'interps')), sep='\\n')"
    )
    said: list[str] = []

    def look() -> None:
        run = [sys.executable, "-c", code]
        said.extend(subprocess.check_output(run, env=screen.environment(), text=True).splitlines())

    with other_window(screen):
        asked(own(screen).confirm(USE), reads(screen), look, keys(screen, "Escape"))
    assert "tk" in said
    assert not [name for name in said if "sealagent" in name]


def test_it_runs_no_start_up_files(screen: Screen, tmp_path: Path) -> None:
    """Tk programs written in Python execute such files of the user's."""
    for name in (".Tk.py", ".sealagent-pinentry.py", ".sealagent-pinentry.tcl", ".Tk.tcl", ".Sealagent-pinentry.py"):
        (tmp_path / name).write_text("exit()\n" if name.endswith("tcl") else "raise SystemExit\n")
    answer = asked(own(screen, HOME=str(tmp_path)).confirm(USE), reads(screen), keys(screen, "alt+a"))
    assert answer is Consent.ONCE


def test_a_pin_is_not_pasted(screen: Screen) -> None:
    code = (
        "import tkinter; r = tkinter.Tk(); r.title('clips'); r.geometry('90x40+5+5'); r.clipboard_append('98765'); "
        "e = tkinter.Entry(r); e.pack(); e.insert(0, '98765'); e.select_range(0, 'end'); r.mainloop()"
    )
    process = screen.start([sys.executable, "-c", code])
    screen.shown("clips")

    def paste() -> None:
        screen.press("ctrl+v", "shift+Insert")
        x, y, width, height = screen.place(screen.windows(TITLE)[0])
        screen.click(x + width // 2, y + height - 140, button=2)
        screen.picture("own-no-paste")
        screen.focus(screen.windows(TITLE)[0])
        screen.type("13")
        screen.press("Return")

    try:
        assert asked(own(screen).ask_pin(PIN), reads(screen), paste) == bytearray(b"13")
    finally:
        process.terminate()
        process.wait(10)


def test_an_empty_pin_is_not_sent(screen: Screen) -> None:
    emptied = keys(screen, "Return", "7", "ctrl+u", "Return", "8", "BackSpace", "alt+o", "Return")
    assert asked(own(screen).ask_pin(PIN), reads(screen), emptied, keys(screen, "9", "Return")) == bytearray(b"9")


def test_a_list_of_ten_thousand_in_one_window(screen: Screen) -> None:
    items = tuple(f"采购合同-{number}.ofd (OFD, 3 pages)" for number in range(1, 10_001))
    request = ConsentRequest("batch", Occasion(CALLER, seal="合同专用章", items=items, picture=OCCASION.picture))
    scrolled = keys(screen, "shift+Tab", "shift+Tab", "ctrl+End", "Next")
    kept = lambda: screen.picture("own-list")  # noqa: E731
    assert asked(own(screen).confirm(request), reads(screen), scrolled, kept, keys(screen, "alt+a")) is Consent.ONCE


def test_the_last_try_and_a_code_stand_out(screen: Screen) -> None:
    request = PinRequest("测试钥匙", "0042", PinState(tries_left=1), "unlock", OCCASION, previous_wrong=True)
    kept = lambda: screen.picture("own-last-try")  # noqa: E731
    assert asked(own(screen).ask_pin(request), reads(screen), kept, keys(screen, "Escape")) == "pin_cancelled"
    answer = asked(own(screen).confirm_last_try(request), reads(screen), keys(screen, "alt+y"))
    assert answer is True
    pair = ConsentRequest("pair", Occasion(CALLER), name="WPS", code="031415")
    kept = lambda: screen.picture("own-code")  # noqa: E731
    assert asked(own(screen).confirm(pair), reads(screen), kept, keys(screen, "alt+s")) is Consent.ONCE


def test_a_window_never_grows_beyond_the_screen(screen: Screen) -> None:
    """What does not fit is scrolled; the buttons are always there."""
    facts = "".join(f"ADDFACT 第{number}%0A{'很长的内容' * 40}\n" for number in range(40))
    process = dialog(screen)
    process.stdin.write(f"SETTITLE {TITLE}\nSETDESC 标题\n{facts}SETOK _Yes\nSETCANCEL _No\nCONFIRM\n".encode())
    process.stdin.flush()
    reads(screen)()
    x, y, width, height = screen.place(screen.windows(TITLE)[0])
    assert x >= 0
    assert x + width <= SIZE[0]
    assert y >= 0
    assert y + height <= SIZE[1]
    screen.press("Next")
    screen.picture("own-scrolled")
    screen.press("alt+y")
    until(lambda: not screen.windows(TITLE), lambda: "it was not answered")
    out, _ = process.communicate(timeout=10)
    assert out.decode().splitlines()[-1] == "OK"


def dialog(screen: Screen) -> subprocess.Popen[bytes]:
    return subprocess.Popen([OWN], env=screen.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_it_goes_with_its_client(screen: Screen) -> None:
    process = dialog(screen)
    process.stdin.write(f"SETTITLE {TITLE}\nGETPIN\n".encode())
    process.stdin.flush()
    reads(screen)()
    out, _ = process.communicate(timeout=10)  # closes its standard input
    assert process.returncode == 0
    assert out.decode().splitlines() == ["OK Pleased to meet you", "OK"]


def test_a_prompt_that_nobody_waits_for_is_taken_away(screen: Screen) -> None:
    async def run() -> None:
        task = asyncio.create_task(own(screen).confirm(USE))
        await asyncio.to_thread(reads(screen))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    screen.gone(TITLE)


def test_without_a_screen_nothing_is_agreed_to(screen: Screen) -> None:
    lost = own(screen, DISPLAY=":4711")
    assert asked(lost.confirm(USE)) == "prompt_failed"
    assert asked(lost.ask_pin(PIN)) == "prompt_failed"


def test_a_pin_is_in_memory_once_and_nowhere_when_it_is_taken_back(screen: Screen) -> None:
    """The whole process is searched. Root may look into it; to everybody else the kernel says no."""
    pin = "Zq7pK93xW"
    found: list[int] = []

    def search() -> None:
        (process,) = children()
        found.append(occurrences(process, pin))

    if os.geteuid() != 0:
        with pytest.raises(PermissionError):
            asked(own(screen).ask_pin(PIN), reads(screen), search, keys(screen, "Escape"))
        return
    acts = (lambda: screen.type(pin), search, keys(screen, "ctrl+u"), search, lambda: screen.type("1"))
    assert asked(own(screen).ask_pin(PIN), reads(screen), *acts, keys(screen, "Return")) == bytearray(b"1")
    assert found == [1, 0]


def occurrences(process: int, text: str) -> int:
    """Count a text in the memory of a process, as octets and as Python and Tcl keep strings."""
    forms = {text.encode(coding) for coding in ("utf-8", "utf-16-le", "utf-32-le")}
    regions = [line.split() for line in Path(f"/proc/{process}/maps").read_text().splitlines()]
    count = 0
    with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        for place, rights, *_ in regions:
            if rights.startswith("rw"):
                start, end = (int(number, 16) for number in place.split("-"))
                memory.seek(start)
                octets = memory.read(end - start) or b""
                count += sum(octets.count(form) for form in forms)
    return count
