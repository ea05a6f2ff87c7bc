"""PIN entry on a terminal: the real pinentry programs and our own prompt, under a pseudo-terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
import uvloop

from sealagent.callers.peer import Caller
from sealagent.consent.pinentry import HASTE_SECONDS, Pinentry, PinentrySettings
from sealagent.consent.prompter import Occasion, PinRequest, Prompter
from sealagent.consent.terminal import SavedTerminal, TerminalPrompter, terminal_usable
from sealagent.errors import SealAgentError
from sealdrivers.contract import PinState

REQUEST = PinRequest(
    token_label="单位公章",
    token_serial="SN-7788",
    pin=PinState(count_low=True),
    purpose="unlock",
    occasion=Occasion(Caller(1000, 1000, 4242, "/usr/bin/wps", 1), "采购合同.ofd", "合同专用章"),
)
LAST_TRY = replace(REQUEST, pin=PinState(final_try=True, tries_left=1))
MESSAGES = {"LC_ALL": "zh_CN.UTF-8", "PATH": os.environ["PATH"], "TERM": "xterm"}
WAIT = 20.0


class Terminal:
    """A pseudo-terminal with somebody in front of it."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self.slave)
        self.before = termios.tcgetattr(self.slave)
        self._octets = b""

    @property
    def screen(self) -> str:
        """All that was written, without the control sequences of curses."""
        with suppress(BlockingIOError):
            while octets := os.read(self.master, 65536):
                self._octets += octets
        return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[()].|[=>78])|[\x0e\x0f]", "", self._octets.decode(errors="replace"))

    async def shows(self, text: str) -> None:
        end = time.monotonic() + WAIT
        while text not in self.screen:
            assert time.monotonic() < end, f"{text!r} is not on the screen: {self.screen!r}"
            await asyncio.sleep(0.02)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    @property
    def as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def program_of(kind: str) -> str:
    program = shutil.which(kind)
    if program is None:
        message = f"{kind} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return program


def prompter_of(kind: str, terminal: Terminal, *, timeout: float = WAIT) -> Prompter:
    if kind == "terminal":
        return TerminalPrompter(MESSAGES, path=terminal.path, timeout=timeout)
    program = program_of(kind)
    # Chinese words on a terminal whose locale is there on every machine.
    return Pinentry(
        PinentrySettings(
            program, ttyname=terminal.path, ttytype="xterm", lc_ctype="C.UTF-8", timeout=timeout, environ=MESSAGES
        )
    )


@asynccontextmanager
async def asking(prompter: Prompter, terminal: Terminal, request: PinRequest) -> AsyncIterator[asyncio.Task[bytearray]]:
    """Start a prompt and wait until its last words are there."""
    task = asyncio.create_task(prompter.ask_pin(request))
    try:
        await terminal.shows("PIN：")
        await asyncio.sleep(0.15)  # the words are there a moment before echo is off and the program reads
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, SealAgentError):
            await task


async def answer(prompter: Prompter, terminal: Terminal, keys: bytes, request: PinRequest = REQUEST) -> bytearray:
    async with asking(prompter, terminal, request) as task:
        terminal.type(keys)
        return await asyncio.wait_for(asyncio.shield(task), WAIT)


ALL = ["pinentry-tty", "pinentry-curses", "terminal"]


@pytest.mark.parametrize("kind", ALL)
def test_right_entry_and_what_is_shown(kind: str, terminal: Terminal) -> None:
    pin = asyncio.run(answer(prompter_of(kind, terminal), terminal, "密a%1 2+\r".encode()))
    assert pin == "密a%1 2+".encode()
    screen = terminal.screen
    for words in ("/usr/bin/wps", "4242", "采购合同.ofd", "合同专用章", "单位公章", "SN-7788", "此前输入过错误的 PIN"):
        assert words in screen
    assert "密a%1" not in screen
    assert "最后一次" not in screen
    assert terminal.as_before


@pytest.mark.parametrize("kind", ALL)
def test_on_the_event_loop_of_the_daemon(kind: str, terminal: Terminal) -> None:
    assert uvloop.run(answer(prompter_of(kind, terminal), terminal, b"1234\r")) == b"1234"
    assert terminal.as_before


@pytest.mark.parametrize("kind", ALL)
def test_wrong_before_and_last_try(kind: str, terminal: Terminal) -> None:
    request = replace(REQUEST, pin=PinState(final_try=True, tries_left=1), previous_wrong=True)
    asyncio.run(answer(prompter_of(kind, terminal), terminal, b"1234\r", request))
    assert "PIN 错误" in terminal.screen
    assert "最后一次" in terminal.screen
    assert "剩余次数：1" in terminal.screen


CANCEL_KEYS = [("pinentry-curses", b"\t\t\r"), ("terminal", b"12\x03"), ("terminal", b"\x04"), ("terminal", b"\x1b[A")]


@pytest.mark.parametrize(("kind", "keys"), [("pinentry-tty", b"\x04"), *CANCEL_KEYS])
def test_cancel(kind: str, keys: bytes, terminal: Terminal) -> None:
    with pytest.raises(SealAgentError) as caught:
        asyncio.run(answer(prompter_of(kind, terminal), terminal, keys))
    assert caught.value.code == "pin_cancelled"
    assert terminal.as_before


@pytest.mark.parametrize("kind", ALL)
def test_nobody_there(kind: str, terminal: Terminal) -> None:
    began = time.monotonic()
    with pytest.raises(SealAgentError) as caught:
        asyncio.run(prompter_of(kind, terminal, timeout=1).ask_pin(REQUEST))
    assert caught.value.code == "prompt_timeout"
    assert 0.9 < time.monotonic() - began < 10
    assert terminal.as_before


@pytest.mark.parametrize("kind", ALL)
def test_caller_gives_up(kind: str, terminal: Terminal) -> None:
    """Cancelling the wait ends the program and leaves the terminal as it was, while the loop keeps running."""

    async def give_up() -> int:
        turns = 0
        async with asking(prompter_of(kind, terminal), terminal, REQUEST) as task:
            assert not terminal.as_before
            for _ in range(10):
                await asyncio.sleep(0.001)
                turns += 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return turns

    assert asyncio.run(give_up()) == 10
    assert terminal.as_before


@pytest.mark.parametrize("kind", ["pinentry-curses", "terminal"])
def test_empty_and_long_entries_are_asked_again(kind: str, terminal: Terminal) -> None:
    async def insist() -> bytearray:
        async with asking(prompter_of(kind, terminal), terminal, REQUEST) as task:
            terminal.type(b"\r")
            await terminal.shows("PIN 长度须为")
            await asyncio.sleep(0.2)
            terminal.type(b"x" * 65 + b"\r")
            await asyncio.sleep(0.4)
            terminal.type(b"x" * 64 + b"\r")
            return await asyncio.wait_for(asyncio.shield(task), WAIT)

    assert asyncio.run(insist()) == b"x" * 64


def test_three_unusable_entries_end_it(terminal: Terminal) -> None:
    with pytest.raises(SealAgentError) as caught:
        asyncio.run(answer(prompter_of("terminal", terminal), terminal, b"\r\r\r"))
    assert caught.value.code == "pin_length"
    assert terminal.as_before


@pytest.mark.parametrize(
    ("keys", "pin"),
    [
        (b"12x\x7f34\n", b"1234"),
        ("12章\x7f34\r".encode(), b"1234"),
        (b"\x7f\x08wrong\x151234\r", b"1234"),
        (b"1\x00\x01\x0c234\r", b"1234"),
        (b"x" * 80 + b"\x151234\r", b"1234"),
    ],
)
def test_editing(keys: bytes, pin: bytes, terminal: Terminal) -> None:
    assert asyncio.run(answer(prompter_of("terminal", terminal), terminal, keys)) == pin


@pytest.mark.parametrize("kind", ALL)
def test_typed_ahead_is_no_pin(kind: str, terminal: Terminal) -> None:
    """What was typed before the prompt was there was meant for something else, and must not cost a try."""
    terminal.type(b"rm -rf\n")
    while not struct.unpack("i", fcntl.ioctl(terminal.slave, termios.FIONREAD, bytes(4)))[0]:
        time.sleep(0.01)  # the kernel hands it over in its own time
    assert asyncio.run(answer(prompter_of(kind, terminal), terminal, b"1234\r")) == b"1234"


@pytest.mark.parametrize("kind", ["pinentry-tty", "terminal"])
def test_two_requests_take_turns(kind: str, terminal: Terminal) -> None:
    async def both() -> list[bytearray]:
        prompter = prompter_of(kind, terminal)
        second: asyncio.Task[bytearray]
        async with asking(prompter, terminal, REQUEST) as first:
            second = asyncio.create_task(prompter.ask_pin(replace(REQUEST, occasion=Occasion(None, "第二份.ofd"))))
            await asyncio.sleep(0.2)
            assert "第二份" not in terminal.screen
            terminal.type(b"1111\r")
            pins = [await asyncio.wait_for(asyncio.shield(first), WAIT)]
        await terminal.shows("第二份")
        await asyncio.sleep(0.3)
        terminal.type(b"2222\r")
        return [*pins, await asyncio.wait_for(second, WAIT)]

    assert asyncio.run(both()) == [b"1111", b"2222"]


def test_closed_terminal() -> None:
    terminal = Terminal()

    async def hang_up() -> None:
        async with asking(prompter_of("terminal", terminal), terminal, REQUEST) as task:
            os.close(terminal.slave)
            os.close(terminal.master)
            with pytest.raises(SealAgentError) as caught:
                await asyncio.wait_for(asyncio.shield(task), WAIT)
            assert caught.value.code == "prompt_failed"

    asyncio.run(hang_up())


def test_no_terminal() -> None:
    assert not terminal_usable("/dev/null")
    assert not terminal_usable("/nowhere")
    with pytest.raises(SealAgentError) as caught:
        asyncio.run(TerminalPrompter({}, path="/nowhere").ask_pin(REQUEST))
    assert caught.value.code == "prompt_unavailable"


HOLDER = """
import asyncio, os, sys
from sealagent.consent.pinentry import Pinentry, PinentrySettings
from sealagent.consent.prompter import Occasion, PinRequest, wipe
from sealagent.consent.terminal import TerminalPrompter
from sealdrivers.contract import PinState

async def main():
    request = PinRequest("label", "0001", PinState(), "unlock", Occasion(None))
    if sys.argv[1] == "terminal":
        prompter = TerminalPrompter(os.environ)
    else:
        prompter = Pinentry(PinentrySettings.from_environment(sys.argv[1], {**os.environ, "GPG_TTY": os.ttyname(0)}))
    pin = await prompter.ask_pin(request)
    sys.stderr.write("<held>")
    sys.stderr.flush()
    await asyncio.to_thread(os.read, 0, 1)
    wipe(pin)
    sys.stderr.write("<wiped>")
    sys.stderr.flush()
    await asyncio.to_thread(os.read, 0, 1)

asyncio.run(main())
"""


def occurrences(pid: int, secret: bytes) -> int:
    """Count a secret in the whole writable memory of a process."""
    found = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            with suppress(OSError, ValueError):
                memory.seek(start)
                found += memory.read(end - start).count(secret)
    return found


@pytest.mark.parametrize("kind", ["pinentry-tty", "terminal"])
def test_pin_is_once_in_memory_and_then_gone(kind: str) -> None:
    """The whole memory of a process that asks on its controlling terminal: one copy of the PIN, none once wiped."""
    program = kind if kind == "terminal" else program_of(kind)
    secret = b"pin-%d-geheim" % os.getpid()
    pid, master = pty.fork()
    if pid == 0:
        os.environ["LC_ALL"] = "C.UTF-8"
        os.execv(sys.executable, [sys.executable, "-c", HOLDER, program])
    try:

        def until(text: bytes) -> None:
            seen = b""
            while text not in seen:
                seen += os.read(master, 4096)

        until(b"PIN:")
        time.sleep(0.3)
        os.write(master, secret + b"\r")
        until(b"<held>")
        assert occurrences(pid, secret) == 1
        os.write(master, b"\n")
        until(b"<wiped>")
        assert occurrences(pid, secret) == 0
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(master)


def test_background_process_does_not_ask() -> None:
    """A daemon put into the background of its terminal would be stopped by the terminal; it refuses instead."""
    script = (
        "import os, signal, sys\n"
        "from sealagent.consent.terminal import terminal_usable\n"
        "print('foreground', terminal_usable(), flush=True)\n"
        "if os.fork() == 0:\n"
        "    os.setpgid(0, 0)\n"
        "    print('background', terminal_usable(), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", script])
    seen = b""
    with suppress(OSError):  # EIO: the other side is closed
        while octets := os.read(master, 4096):
            seen += octets
    os.close(master)
    os.waitpid(pid, 0)
    assert b"foreground True" in seen
    assert b"background False" in seen


def test_no_child_is_left(terminal: Terminal) -> None:
    before = subprocess.run(["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout
    asyncio.run(answer(prompter_of("pinentry-tty", terminal), terminal, b"1234\r"))
    after = subprocess.run(["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout
    assert len(after.split()) <= len(before.split())


@pytest.mark.parametrize("path", [None, "/dev/null", "/nowhere"])
def test_saving_what_is_no_terminal(path: str | None) -> None:
    with SavedTerminal(path) as saved:
        saved.restore()


async def confirmed(prompter: Prompter, terminal: Terminal, keys: bytes, request: PinRequest = LAST_TRY) -> bool:
    task = asyncio.create_task(prompter.confirm_last_try(request))
    await terminal.shows("最后一次机会：再输错")
    await asyncio.sleep(HASTE_SECONDS + 0.1)  # as long as reading takes; an answer before that does not count
    terminal.type(keys)
    return await asyncio.wait_for(task, WAIT)


YES_KEYS = [("pinentry-tty", b"y"), ("pinentry-curses", b"\r"), ("terminal", b"yes\r"), ("terminal", "是\r".encode())]
NO_KEYS = [
    ("pinentry-tty", b"n"),
    ("pinentry-curses", b"\t\r"),
    *(("terminal", keys) for keys in (b"\r", b"no\r", b"y\r", b"YES\r", b"yes\x03", b"\x03", b"\x04", b"\x1b[A\r")),
]


@pytest.mark.parametrize(
    ("kind", "keys", "answer"),
    [*((kind, keys, True) for kind, keys in YES_KEYS), *((kind, keys, False) for kind, keys in NO_KEYS)],
)
def test_confirming_the_last_try(kind: str, keys: bytes, answer: bool, terminal: Terminal) -> None:
    assert asyncio.run(confirmed(prompter_of(kind, terminal), terminal, keys)) is answer
    for words in ("/usr/bin/wps", "4242", "采购合同.ofd", "合同专用章", "单位公章", "SN-7788"):
        assert words in terminal.screen
    assert terminal.as_before


@pytest.mark.parametrize("kind", ALL)
def test_nobody_confirms_in_time(kind: str, terminal: Terminal) -> None:
    with pytest.raises(SealAgentError) as caught:
        asyncio.run(prompter_of(kind, terminal, timeout=1).confirm_last_try(LAST_TRY))
    assert caught.value.code == "prompt_timeout"
    assert terminal.as_before


def test_a_yes_typed_ahead_confirms_nothing(terminal: Terminal) -> None:
    terminal.type(b"yes\n")
    while not struct.unpack("i", fcntl.ioctl(terminal.slave, termios.FIONREAD, bytes(4)))[0]:
        time.sleep(0.01)
    assert asyncio.run(confirmed(prompter_of("terminal", terminal), terminal, b"\r")) is False
