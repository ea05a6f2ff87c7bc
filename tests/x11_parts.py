"""A screen with somebody in front of it: Xvfb with a window manager, keys by XTEST, and what is to be seen.

The window manager is evilwm, one file of 50 KiB without dependencies: without any, no window has the focus of the
keyboard or can be closed by a key, so a dialog would be tested in a way nobody uses it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from PIL import Image, ImageChops

from tmux_parts import required, until

BUILD = Path(__file__).parents[1] / "build"
"""Where screenshots are kept, to be looked at."""
SIZE = (1024, 768)


class Screen:
    """One X server of its own. :param folder: where its picture goes."""

    def __init__(self, folder: Path, *, manager: bool = True) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        read, write = os.pipe()
        screen = f"{SIZE[0]}x{SIZE[1]}x24"
        self._server = subprocess.Popen(
            [required("Xvfb"), "-displayfd", str(write), "-screen", "0", screen, "-fbdir", str(folder),
             "-nolisten", "tcp", "-noreset"],
            pass_fds=[write], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(write)
        with os.fdopen(read) as number:
            self.display = f":{number.readline().strip()}"
        assert self.display != ":", "the X server did not start"
        self._others: list[subprocess.Popen[bytes]] = []
        self._manager: subprocess.Popen[bytes] | None = None
        if manager:
            self._manager = self.start([required("evilwm"), "-fn", "fixed"])  # the font that is in the X server itself

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def environment(self, **more: str) -> dict[str, str]:
        """Return an environment for programs on this screen, in Chinese words on every machine."""
        language = {"LANG": "zh_CN.UTF-8", "LC_CTYPE": "C.UTF-8"}
        kept = {name: value for name, value in os.environ.items() if name not in ("LC_ALL", "LANGUAGE", "GPG_TTY")}
        return {**kept, **language, "DISPLAY": self.display, "WAYLAND_DISPLAY": "", **more}

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a program on this screen; it ends with it."""
        process = subprocess.Popen(
            command, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._others.append(process)
        return process

    def xdotool(self, *words: str) -> str:
        """Run one command of xdotool; a failure is an empty answer."""
        done = subprocess.run(
            [required("xdotool"), *words], env=self.environment(), capture_output=True, text=True, timeout=20
        )
        return done.stdout.strip()

    def windows(self, title: str) -> list[str]:
        """Return the ids of the windows that are shown and have this in their title.

        Xdotool's own search does not read the Chinese titles that GTK writes (WM_NAME as COMPOUND_TEXT).
        """
        found = self.xdotool("search", "--onlyvisible", "--name", ".*").split()
        return [window for window in found if title in self.xdotool("getwindowname", window)]

    def shown(self, title: str) -> str:
        """Wait until a window with this title is there; return its id."""
        until(lambda: bool(self.windows(title)), lambda: f"no window {title!r}")
        return self.windows(title)[0]

    def gone(self, title: str) -> None:
        """Wait until no window has this title."""
        until(lambda: not self.windows(title), lambda: f"the window {title!r} is still there")

    def focus(self, window: str) -> None:
        self.xdotool("windowfocus", "--sync", window)

    def type(self, text: str) -> None:
        self.xdotool("type", "--delay", "15", text)

    def press(self, *keys: str) -> None:
        """Press keys by their names in X (``Return``, ``alt+a``)."""
        for key in keys:
            self.xdotool("key", key)
            time.sleep(0.05)

    def close_window(self, window: str) -> None:
        """Ask a window to go, as a window manager does when its button is pressed (ICCCM, 4.2.8.1).

        A key of the window manager would do, were it not for the dialogs that keep the keyboard to themselves.
        """
        with _display(self.display) as (x11, display):
            message = _ClientMessage(type=_CLIENT_MESSAGE, window=int(window), format=32)
            message.message_type = x11.XInternAtom(display, b"WM_PROTOCOLS", 0)
            message.data[0] = x11.XInternAtom(display, b"WM_DELETE_WINDOW", 0)
            assert x11.XSendEvent(display, int(window), 0, 0, ctypes.byref(message))
            x11.XSync(display, 0)

    def children(self, window: str) -> list[str]:
        """Return the ids of the windows in a window."""
        with _display(self.display) as (x11, display):
            root, parent, count = ctypes.c_ulong(), ctypes.c_ulong(), ctypes.c_uint()
            found = ctypes.POINTER(ctypes.c_ulong)()
            more = (ctypes.byref(root), ctypes.byref(parent), ctypes.byref(found), ctypes.byref(count))
            assert x11.XQueryTree(display, int(window), *more)
            return [str(found[index]) for index in range(count.value)]

    def click(self, x: int, y: int, button: int = 1) -> None:
        self.xdotool("mousemove", str(x), str(y), "click", str(button))

    def place(self, window: str) -> tuple[int, int, int, int]:
        """Return left, top, width and height of a window."""
        lines = self.xdotool("getwindowgeometry", "--shell", window).splitlines()
        said = dict(line.split("=") for line in lines)
        return int(said["X"]), int(said["Y"]), int(said["WIDTH"]), int(said["HEIGHT"])

    def picture(self, name: str | None = None) -> Image.Image:
        """Return what is on the screen. :param name: under which it is kept in ``build/screens``."""
        image = _xwd((self._folder / "Xvfb_screen0").read_bytes())
        if name is not None:
            (BUILD / "screens").mkdir(parents=True, exist_ok=True)
            image.save(BUILD / "screens" / f"{name}.png")
        return image

    def drawn(self, text: str) -> Image.Image:
        """Return what a text of our own dialog looks like, without the white around it."""
        process = subprocess.Popen(
            [sys.executable, "-c", _DRAW, text], env=self.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            width, height = (int(number) for number in process.stdout.readline().split())
            image = self.picture().crop((0, 0, width, height))
        finally:
            process.communicate(timeout=10)
        box = ImageChops.difference(image, Image.new("RGB", image.size, "white")).getbbox()
        assert box is not None, f"{text!r} is not drawn"
        return image.crop(box)

    def close(self) -> None:
        managed = self._manager is None or self._manager.poll() is None
        for process in [*self._others, self._server]:
            process.terminate()
            process.wait(10)
        self._others.clear()
        assert managed, "the window manager ended before its screen"


_CLIENT_MESSAGE = 33


class _ClientMessage(ctypes.Structure):
    """XClientMessageEvent (Xlib.h), as long as an XEvent."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("rest", ctypes.c_long * 24),
    )


@contextmanager
def _display(name: str) -> Iterator[tuple[ctypes.CDLL, int]]:
    """Open a connection of our own to a screen."""
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    x11.XInternAtom.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    x11.XSendEvent.argtypes = [ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
    x11.XQueryTree.argtypes = [ctypes.c_void_p, ctypes.c_ulong, *[ctypes.c_void_p] * 4]
    x11.XSync.argtypes = [ctypes.c_void_p, ctypes.c_int]
    x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    display = x11.XOpenDisplay(name.encode())
    assert display, f"there is no screen {name}"
    try:
        yield x11, display
    finally:
        x11.XCloseDisplay(display)


_DRAW = """
import sys, tkinter
from tkinter import font
root = tkinter.Tk()
root.overrideredirect(True)
root.geometry("+0+0")
name = font.nametofont("TkDefaultFont", root)
name.configure(size=max(11, int(name.actual("size"))))
tkinter.Label(root, text=sys.argv[1], background="white", foreground="#241f31").pack()
root.attributes("-topmost", True)
root.update()
root.lift()
root.update()
print(root.winfo_width(), root.winfo_height(), flush=True)
sys.stdin.read()
"""


def contains(image: Image.Image, part: Image.Image) -> bool:
    """Say whether a picture is in another one, pixel by pixel."""
    width, height = part.size
    rows = [image.crop((0, y, image.width, y + 1)).tobytes() for y in range(image.height)]
    wanted = [part.crop((0, y, width, y + 1)).tobytes() for y in range(height)]
    for y in range(image.height - height + 1):
        at = rows[y].find(wanted[0])
        while at >= 0:
            if at % 3 == 0 and all(rows[y + n][at : at + 3 * width] == wanted[n] for n in range(1, height)):
                return True
            at = rows[y].find(wanted[0], at + 1)
    return False


def exactly(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Return a mask (255 or 0) of where a picture has one colour, and nothing near it."""
    difference = ImageChops.difference(image, Image.new("RGB", image.size, colour)).split()
    most = ImageChops.lighter(ImageChops.lighter(difference[0], difference[1]), difference[2])
    return most.point(lambda value: 255 if value == 0 else 0)


def _xwd(data: bytes) -> Image.Image:
    """Read the picture that Xvfb keeps: XWD (XWDFile.h), 32 bits to a pixel, blue first."""
    header = struct.unpack_from(">25I", data)
    size, width, height, line, colours = header[0], header[4], header[5], header[12], header[19]
    start = size + 12 * colours
    return Image.frombuffer("RGB", (width, height), data[start : start + line * height], "raw", "BGRX", line, 1)


@contextmanager
def other_window(screen: Screen) -> Iterator[str]:
    """Somebody else's window on the screen; gives its id."""
    code = "import tkinter; r = tkinter.Tk(); r.title('elsewhere'); r.geometry('200x100+5+5'); r.mainloop()"
    process = screen.start([sys.executable, "-c", code])
    try:
        yield screen.shown("elsewhere")
    finally:
        process.terminate()
        process.wait(10)


def waits(condition: Callable[[], bool], seconds: float) -> bool:
    """Say whether something becomes true within some time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
