"""The field in which a PIN is typed: it shows dots, and knows nothing but their number."""

from __future__ import annotations

import tkinter as tk
from collections.abc import Callable

from sealagent.dialog.pin import PinBuffer

__all__ = ["PinField"]

_SHIFT_LOCK, _CONTROL, _ALT, _SUPER = 0x2, 0x4, 0x8, 0x40
"""Bits of the state of an X event."""


class PinField(tk.Canvas):
    """Takes characters one at a time into a buffer.

    Tk's own entry would keep the whole PIN as a string that nobody can wipe. Here only single characters pass through
    Tcl and Python. Pasting is refused: a clipboard is no place for a PIN, and would bring it as a string, too.

    :param say: shows a hint by its name in :data:`sealagent.dialog.words.WORDS`, or none.
    """

    def __init__(
        self, parent: tk.Misc, pin: PinBuffer, say: Callable[[str | None], None], *, width: int, height: int
    ) -> None:
        super().__init__(
            parent, width=width, height=height, takefocus=1, background="white", cursor="xterm",
            highlightthickness=2, highlightcolor="#1a5fb4", highlightbackground="#9a9996", borderwidth=0,
        )  # fmt: skip
        self._pin = pin
        self._say = say
        self._blink = True
        self.bind("<Key>", self._key)
        for event in ("<<Paste>>", "<<PasteSelection>>", "<Button-2>", "<Shift-Insert>", "<Control-v>", "<Control-V>"):
            self.bind(event, self._refuse_paste)
        for event in ("<FocusIn>", "<FocusOut>", "<Configure>"):
            self.bind(event, lambda event: self._draw())
        self.bind("<Button-1>", lambda event: self.focus_set())
        self._tick()

    def _key(self, event: tk.Event[tk.Misc]) -> str | None:
        state = event.state if isinstance(event.state, int) else 0
        if event.keysym == "BackSpace":
            self._pin.remove()
            self._say(None)
        elif event.keysym.lower() == "u" and state & _CONTROL:  # as in a terminal: take all of it back
            self._pin.clear()
            self._say(None)
        elif state & (_CONTROL | _ALT | _SUPER) or not event.char or not event.char.isprintable():
            return None  # Tab, Return and Alt with a letter belong to the window
        else:
            fits = all([self._pin.add(character) for character in event.char])
            locked = bool(state & _SHIFT_LOCK) and event.char.isalpha()
            self._say(None if fits and not locked else "caps" if fits else "full")
        self._draw()
        return "break"

    def _refuse_paste(self, event: tk.Event[tk.Misc]) -> str:
        self._say("no_paste")
        return "break"

    def _tick(self) -> None:
        self._blink = not self._blink
        self._draw()
        self.after(600, self._tick)

    def _draw(self) -> None:
        """Draw the dots, as far as they fit, and where the next one goes."""
        self.delete("all")
        high, wide = self.winfo_height(), self.winfo_width()
        step = max(10, high // 3)
        room = max(1, (wide - 2 * step) // step)
        shown = min(len(self._pin), room)
        radius, middle = step * 0.3, high / 2
        for index in range(shown):
            x = (index + 1) * step
            self.create_oval(x - radius, middle - radius, x + radius, middle + radius, fill="#241f31", outline="")
        if self._blink and self.focus_get() is self:
            caret = (shown + 0.6) * step
            self.create_line(caret, high * 0.25, caret, high * 0.75, fill="#241f31")
