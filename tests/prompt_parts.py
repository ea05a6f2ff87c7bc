"""What the tests of graphical prompts share: what is asked, and a person who reads, types and leaves."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from sealagent.callers.peer import Caller
from sealagent.consent.own import PROGRAM, OwnDialog
from sealagent.consent.pinentry import Pinentry, PinentrySettings
from sealagent.consent.prompter import ConsentRequest, Occasion, PinRequest, SealPicture
from sealagent.errors import SealAgentError
from sealagent.uses import Operation
from sealdrivers.contract import PinState
from tmux_parts import required, until
from x11_parts import Screen

OWN = str(Path(sys.executable).with_name(PROGRAM))
PROGRAMS = ["pinentry-gtk-2", "pinentry-qt", OWN]
TITLE = "SealAgent"
READ_SECONDS = 0.9
"""Longer than a yes has to wait until it counts (0.5), even where a busy machine tells the dialog late of it."""
CALLER = Caller(os.getuid(), os.getgid(), os.getpid(), "/opt/office/bin/wps", 1)
RED = (200, 16, 32)


def seal_picture(side: int = 400) -> bytes:
    """Return a PNG of a ring with a bar, transparent elsewhere."""
    made = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(made)
    draw.ellipse((4, 4, side - 5, side - 5), outline=(*RED, 255), width=side // 20)
    draw.rectangle((side // 4, side // 2 - side // 16, 3 * side // 4, side // 2 + side // 16), fill=(*RED, 255))
    out = io.BytesIO()
    made.save(out, "PNG")
    return out.getvalue()


OCCASION = Occasion(
    CALLER, document="采购合同.ofd", seal="合同专用章", operation=Operation.DOCUMENT, kind="OFD", pages=12,
    digest="0123456789abcdef" * 4, picture=SealPicture("png", seal_picture()),
)  # fmt: skip
USE = ConsentRequest("use", OCCASION, "测试钥匙", "0042")
PIN = PinRequest("测试钥匙", "0042", PinState(), "unlock", OCCASION)
BATCH = ConsentRequest("batch", Occasion(CALLER, seal="合同专用章", items=tuple(f"合同-{n}.ofd" for n in range(1, 21))))


def prompter(screen: Screen, program: str, timeout: float = 12.0, **environment: str) -> Pinentry:
    if program == OWN and importlib.util.find_spec("_tkinter") is None:
        message = f"{sys.executable} was built without Tk"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    found = program if os.path.isabs(program) else required(program)
    return Pinentry(PinentrySettings.from_environment(found, screen.environment(**environment), timeout), [OwnDialog()])


def asked(question: Awaitable[Any], *acts: Callable[[], object]) -> Any:
    """Ask, let somebody act meanwhile, and return the answer, or the code of its error."""

    async def run() -> Any:
        task = asyncio.ensure_future(question)
        try:
            for act in acts:
                await asyncio.to_thread(act)
            return await task
        except SealAgentError as error:
            return error.code
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)  # no program outlives its question

    return asyncio.run(run())


def reads(screen: Screen) -> Callable[[], object]:
    """Somebody waits for the window of a program that was not there before, and reads it."""

    def read() -> None:
        until(lambda: bool(screen.windows(TITLE)) and bool(children() - _seen), lambda: "no new window")
        _seen.update(children())
        time.sleep(READ_SECONDS)

    return read


_seen: set[int] = set()
"""Dialogs that were seen; the X server gives the ids of windows again."""


def children() -> set[int]:
    """Return the dialogs that this process has started."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == os.getpid() and b"pinentry" in command:
                found.add(int(entry.name))
    return found


def keys(screen: Screen, *names: str) -> Callable[[], object]:
    return lambda: screen.press(*names)


def closed(screen: Screen) -> Callable[[], object]:
    return lambda: screen.close_window(screen.shown(TITLE))
