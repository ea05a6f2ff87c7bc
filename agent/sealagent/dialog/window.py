"""The window of the dialog: who asks, what for, which seal, and the buttons."""

from __future__ import annotations

import select
import time
import tkinter as tk
from tkinter import font, ttk

from sealagent.dialog.drawing import PictureView
from sealagent.dialog.field import PinField
from sealagent.dialog.guard import Guard
from sealagent.dialog.pin import PinBuffer
from sealagent.dialog.prompt import Answer, Kind, Prompt
from sealagent.dialog.words import WORDS, Language

__all__ = ["Window", "mnemonic", "split_fact"]

GONE_MILLISECONDS = 200
"""How often it is looked whether the client is still there."""
COUNTDOWN_SECONDS = 30
"""The last seconds are counted down in the window."""
MAX_FACT_LABEL = 20
"""Characters before the colon of a fact; what is longer is a sentence."""
MOST_ROWS = 10
"""Rows of the list of a batch that are seen at once."""

_PAPER, _FOOT, _INK, _GREY, _RED, _PALE_RED = "#ffffff", "#f0f0ef", "#241f31", "#5e5c64", "#a51d2d", "#fbe9e7"


def mnemonic(label: str) -> tuple[str, int]:
    """Return a label without its underscores, and the index of the letter that is pressed with Alt; -1: none."""
    text, at = "", -1
    rest = iter(label)
    for character in rest:
        if character == "_":
            character = next(rest, "")
            if character and character != "_" and at < 0:
                at = len(text)
        text += character
    return text, at


def split_fact(line: str) -> tuple[str, str]:
    """Return label and value of a line of the form ``label: value``; of any other an empty label, and the line."""
    for separator in ("：", ": "):
        label, found, value = line.partition(separator)
        if found and value and len(label) <= MAX_FACT_LABEL and label.count(" ") < 3:
            return label, value
    return "", line


class _Root(tk.Tk):
    """A window that runs no start-up files: :class:`tkinter.Tk` would execute ``~/.CLASS.py`` in this process."""

    def readprofile(self, baseName: str, className: str) -> None:
        pass


class Window:
    """One window for one prompt. :meth:`run` shows it and returns the answer.

    :param client: file descriptor on which the client's end is seen; None: it is not looked for.
    :raises OSError: there is no display.
    """

    def __init__(
        self, prompt: Prompt, kind: Kind, pin: PinBuffer, *, language: Language, display: str | None, client: int | None
    ) -> None:
        try:
            self.root: tk.Tk = _Root(screenName=display, className="sealagent-pinentry", useTk=True)
        except tk.TclError as error:
            raise OSError(f"there is no display: {error}") from error
        self._prompt, self._kind, self._pin = prompt, kind, pin
        self._words = WORDS[language]
        self._client = client
        self._answer: Answer | None = None
        self._guard = Guard()
        self._hint = tk.StringVar(self.root)
        self._countdown = tk.StringVar(self.root)
        self._buttons: list[ttk.Button] = []
        self._default: ttk.Button | None = None
        self._field: PinField | None = None
        self._prepare()
        self._build()

    def _prepare(self) -> None:
        root = self.root
        root.withdraw()
        root.report_callback_exception = lambda *error: self._end(Answer.CLOSED)  # whatever goes wrong is no
        # Nobody else may run commands in this process (send(n)), and no PIN goes through an input method.
        root.tk.call("rename", "send", "")
        root.tk.call("tk", "useinputmethods", "-displayof", ".", "0")
        self._unit = max(1.0, root.winfo_fpixels("1i") / 96)
        size = max(11, int(font.nametofont("TkDefaultFont", root).actual("size")))
        for name in ("TkDefaultFont", "TkTextFont"):
            font.nametofont(name, root).configure(size=size)
        self._bold = font.nametofont("TkDefaultFont", root).copy()
        self._bold.configure(weight="bold")
        self._heading = self._bold.copy()
        self._heading.configure(size=size + 2)
        self._large = self._bold.copy()
        self._large.configure(size=size + 12)
        style = ttk.Style(root)
        style.theme_use("clam")
        style.configure("TButton", padding=(self._px(14), self._px(6)), background="#e5e5e4", foreground=_INK)
        style.configure("Default.TButton", background="#1a5fb4", foreground="white", font=self._bold)
        style.map("Default.TButton", background=[("active", "#2b72c8")], foreground=[("disabled", "#dddddd")])
        for name in ("TButton", "Default.TButton"):
            style.map(name, focuscolor=[("focus", "#f6a623"), ("!focus", "#00000000"[:7])])
        style.configure("TScrollbar", arrowsize=self._px(13))
        root.title(self._prompt.title or "SealAgent")
        root.configure(background=_PAPER)
        root.protocol("WM_DELETE_WINDOW", lambda: self._end(Answer.CLOSED))

    def _px(self, pixels: float) -> int:
        """Return pixels of this screen for pixels of one with 96 to an inch."""
        return round(pixels * self._unit)

    # What is in the window

    def _build(self) -> None:
        root = self.root
        foot = tk.Frame(root, background=_FOOT, padx=self._px(16), pady=self._px(12))
        foot.pack(side="bottom", fill="x")
        body = self._scrolled(root)
        text = tk.Frame(body, background=_PAPER)
        if self._prompt.picture is not None:
            view = PictureView(body, self._prompt.picture, self._words["no_picture"], side=self._px(180))
            view.pack(side="left", anchor="n", padx=(0, self._px(20)))
        text.pack(side="left", fill="both", expand=True)
        self._wrap = self._px(480)
        self._texts(text)
        if self._prompt.items:
            self._list(text)
        if self._prompt.error:
            self._red(text, self._prompt.error)
        if self._kind is Kind.PIN:
            self._entry(text)
        self._foot(foot)
        self._fit(body)
        self._bind()

    def _scrolled(self, parent: tk.Misc) -> tk.Frame:
        """Return a frame that is scrolled where the screen is too low for all that is said."""
        self._bar = ttk.Scrollbar(parent, orient="vertical")
        self._view = tk.Canvas(parent, background=_PAPER, highlightthickness=0, yscrollcommand=self._bar.set)
        self._bar.configure(command=self._view.yview)
        self._view.pack(side="left", fill="both", expand=True)
        body = tk.Frame(self._view, background=_PAPER, padx=self._px(24), pady=self._px(20))
        self._view.create_window(0, 0, window=body, anchor="nw")
        return body

    def _texts(self, parent: tk.Misc) -> None:
        """Show the description, its facts in two columns and its alarming lines in red, and what was added to it."""
        heading, *rest = self._prompt.description.split("\n")
        warnings = list(self._prompt.warnings)
        if heading in warnings:
            warnings.remove(heading)
            self._red(parent, heading)
        elif heading:
            self._label(parent, heading, font=self._heading).pack(anchor="w", pady=(0, self._px(10)))
        rows = tk.Frame(parent, background=_PAPER)
        rows.pack(anchor="w", fill="x")
        rows.columnconfigure(1, weight=1)
        for line in rest:
            if line in warnings:
                warnings.remove(line)
                self._row(rows, "", line, alarming=True)
            else:
                self._row(rows, *split_fact(line))
        for name, value in self._prompt.facts:
            self._row(rows, name, value)
        for warning in warnings:
            self._row(rows, "", warning, alarming=True)

    def _row(self, rows: tk.Frame, name: str, value: str, *, alarming: bool = False) -> None:
        """Add a row of two columns, or one over both of them."""
        number = rows.grid_size()[1]
        if not name:
            label = self._alarm(rows, value) if alarming else self._label(rows, value)
            label.grid(row=number, column=0, columnspan=2, sticky="ew", pady=self._px(6 if alarming else 2))
            return
        label = self._label(rows, name, foreground=_GREY)
        label.grid(row=number, column=0, sticky="nw", padx=(0, self._px(14)), pady=self._px(2))
        shown = self._label(rows, value, wraplength=self._px(360))
        if value == self._prompt.large:
            shown.configure(font=self._large)
        shown.grid(row=number, column=1, sticky="nw", pady=self._px(2))

    def _label(self, parent: tk.Misc, text: str, **more: object) -> tk.Label:
        look = {"background": _PAPER, "foreground": _INK, "wraplength": self._wrap, "justify": "left", **more}
        return tk.Label(parent, text=text, anchor="w", **look)  # type: ignore[arg-type]

    def _red(self, parent: tk.Misc, text: str) -> None:
        self._alarm(parent, text).pack(anchor="w", fill="x", pady=self._px(6))

    def _alarm(self, parent: tk.Misc, text: str) -> tk.Label:
        label = self._label(parent, text, background=_PALE_RED, foreground=_RED, font=self._bold)
        label.configure(padx=self._px(10), pady=self._px(6))
        return label

    def _list(self, parent: tk.Misc) -> None:
        items = self._prompt.items
        frame = tk.Frame(parent, background=_PAPER)
        frame.pack(fill="both", expand=True, pady=(self._px(6), 0))
        bar = ttk.Scrollbar(frame, orient="vertical")
        digit = font.nametofont("TkTextFont", self.root).measure("0")
        columns = max(20, min(60, (self.root.winfo_screenwidth() - self._px(340)) // digit))  # beside the picture
        shown = tk.Text(
            frame, height=min(MOST_ROWS, len(items)), width=columns, wrap="char", yscrollcommand=bar.set, takefocus=1,
            font="TkTextFont", foreground=_INK, background="#fafafa", relief="flat", highlightthickness=2,
            highlightcolor="#1a5fb4", highlightbackground="#c0bfbc", padx=self._px(8), pady=self._px(4),
            cursor="arrow", exportselection=False, spacing1=self._px(2), insertwidth=0,
        )  # fmt: skip
        bar.configure(command=shown.yview)
        bar.pack(side="right", fill="y")
        shown.pack(side="left", fill="both", expand=True)
        shown.insert("1.0", "\n".join(items))
        shown.configure(state="disabled")
        shown.bind("<Tab>", lambda event: self._move(shown.tk_focusNext()))
        shown.bind("<Up>", lambda event: shown.yview_scroll(-1, "units"))
        shown.bind("<Down>", lambda event: shown.yview_scroll(1, "units"))

    def _move(self, widget: tk.Misc | None) -> str:
        if widget is not None:
            widget.focus_set()
        return "break"

    def _entry(self, parent: tk.Misc) -> None:
        row = tk.Frame(parent, background=_PAPER)
        row.pack(anchor="w", fill="x", pady=(self._px(14), 0))
        self._label(row, self._prompt.prompt or self._words["prompt"], font=self._bold).pack(side="left")
        self._field = PinField(row, self._pin, self._say, width=self._px(300), height=self._px(34))
        self._field.pack(side="left", padx=(self._px(10), 0))
        hint = self._label(parent, "", foreground=_RED)
        hint.configure(textvariable=self._hint)
        hint.pack(anchor="w", pady=(self._px(4), 0))

    def _say(self, name: str | None) -> None:
        self._hint.set(self._words[name] if name else "")

    def _foot(self, parent: tk.Misc) -> None:
        self._count = tk.Label(parent, textvariable=self._countdown, background=_FOOT, foreground=_GREY)
        prompt, words = self._prompt, self._words
        yes = self._button(parent, prompt.ok or words["ok"], Answer.OK)
        if self._kind is Kind.CONFIRM and prompt.session:
            self._button(parent, prompt.session, Answer.SESSION)
        if self._kind is Kind.CONFIRM and prompt.notok:
            self._button(parent, prompt.notok, Answer.NOT_OK)
        self._default = yes
        if self._kind is not Kind.MESSAGE:
            cancel = self._button(parent, prompt.cancel or words["cancel"], Answer.CANCEL)
            if self._kind is Kind.CONFIRM:
                self._default = cancel
        self._default.configure(style="Default.TButton")  # nothing but the default stands out

    def _button(self, parent: tk.Misc, label: str, answer: Answer) -> ttk.Button:
        text, at = mnemonic(label.replace("\n", " "))
        button = ttk.Button(parent, text=text, underline=at, takefocus=1, command=lambda: self._pressed(answer))
        button.pack(side="right", padx=(self._px(8), 0))
        if at >= 0 and text[at].isascii():
            for letter in {text[at].lower(), text[at].upper()}:
                self.root.bind(f"<Alt-Key-{letter}>", lambda event: button.invoke())
        self._buttons.append(button)
        return button

    def _fit(self, body: tk.Frame) -> None:
        """Make the window as large as what it says; where the screen is smaller, that is scrolled."""
        root = self.root
        root.update_idletasks()
        wide, high = body.winfo_reqwidth(), body.winfo_reqheight()
        room = root.winfo_screenheight() - self._px(160)
        if high > room:
            self._bar.pack(side="right", fill="y", before=self._view)
            for key, amount in (("<Prior>", -1), ("<Next>", 1)):
                root.bind(key, lambda event, amount=amount: self._view.yview_scroll(amount, "pages"))  # type: ignore[misc]
        self._view.configure(width=wide, height=min(high, room), scrollregion=(0, 0, wide, high))

    # What is done to it

    def _bind(self) -> None:
        """Let the guard look at each key and click before anything else does."""
        root = self.root
        for widget in _all_widgets(root):
            widget.bindtags(("Guard", *widget.bindtags()))
        root.bind_class("Guard", "<Key>", self._guard_key)
        for event in ("<Button>", "<ButtonRelease>"):
            root.bind_class("Guard", event, self._guard_click)
        root.bind("<Map>", lambda event: self._guard.shown(time.monotonic()))
        for key in ("<Return>", "<KP_Enter>"):
            root.bind(key, self._entered)

    def _guard_key(self, event: tk.Event[tk.Misc]) -> str | None:
        if event.send_event:
            return "break"
        if event.keysym == "Escape":  # no needs no care
            self._end(Answer.CLOSED)
            return "break"
        if self._guard.key(time.monotonic()):
            return None
        if self._field is not None:
            self._say("early")
        return "break"

    def _guard_click(self, event: tk.Event[tk.Misc]) -> str | None:
        return None if not event.send_event and self._guard.click(time.monotonic()) else "break"

    def _entered(self, event: tk.Event[tk.Misc]) -> str:
        focused = self.root.focus_get()
        button = next((button for button in self._buttons if button is focused), self._default)
        if button is not None:
            button.invoke()
        return "break"

    def _pressed(self, answer: Answer) -> None:
        if answer is Answer.OK and self._kind is Kind.PIN and not len(self._pin):
            return  # nothing was typed yet
        self._end(answer)

    def _end(self, answer: Answer) -> None:
        if self._answer is None:
            self._answer = answer
            self.root.quit()

    def run(self) -> Answer:
        """Show the window until it is answered."""
        root = self.root
        focus: tk.Misc | None = self._field or self._default
        root.resizable(False, False)
        root.attributes("-topmost", True)
        root.eval("tk::PlaceWindow . center")
        root.deiconify()
        root.lift()
        root.update_idletasks()
        if focus is not None:
            focus.focus_force()
        self._watch_client()
        if self._prompt.seconds:
            self._watch_time(time.monotonic() + self._prompt.seconds)
        try:
            root.mainloop()
        finally:
            root.withdraw()
            root.winfo_pointerx()  # a question to the X server sends all that waits to be sent: the window goes now
            root.destroy()
        return self._answer or Answer.CLOSED

    def _watch_client(self) -> None:
        if self._client is not None and _hung_up(self._client):
            self._end(Answer.GONE)
        self.root.after(GONE_MILLISECONDS, self._watch_client)

    def _watch_time(self, end: float) -> None:
        left = end - time.monotonic()
        if left <= 0:
            self._end(Answer.TIMEOUT)
        elif left <= COUNTDOWN_SECONDS:
            self._count.pack(side="bottom", anchor="e", pady=(self._px(6), 0))
            self._countdown.set(self._words["remaining"].format(seconds=int(left + 0.99)))
        self.root.after(max(20, min(500, int(left * 1000))), self._watch_time, end)


def _all_widgets(top: tk.Misc) -> list[tk.Misc]:
    found = [top]
    for widget in found:  # grows while it is walked
        found.extend(widget.winfo_children())
    return found


def _hung_up(descriptor: int) -> bool:
    """Say whether the other end of a pipe or socket was closed."""
    poll = select.poll()
    poll.register(descriptor, getattr(select, "POLLRDHUP", 0))
    return any(event & ~select.POLLIN for _, event in poll.poll(0))
