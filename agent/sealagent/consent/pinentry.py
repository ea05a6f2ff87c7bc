"""Asking through a pinentry program, the dialog GnuPG uses: graphical, curses or plain terminal.

No option that would let a pinentry keep the PIN anywhere is ever sent (``allow-external-password-cache``), and no
``SETKEYINFO`` that such a store would need.

**What counts as yes.** Only ``OK`` to ``CONFIRM``, in time, from a program that then ends as it should. Cancel, a
closed window (``S BUTTON_INFO close``, whatever follows), time that ran out, an end or nonsense are no. Two things a
pinentry does by itself are met here (looked up in its sources, 1.2.1 and later):

- Enter presses its default button. With curses and Qt that is OK, and a dialog may come up under the fingers of
  somebody who types something else. So what was typed ahead is thrown away first, the focus is asked to be on Cancel
  (releases after 1.2.1 do that), and a yes within :data:`HASTE_SECONDS` is asked again, as browsers do with their own
  questions. The other way round, with OK as refusal and the third button as yes, Enter would be harmless, but then an
  ``ERR`` would agree.
- "Not confirmed" is also what a closed GTK 4 window and a pinentry-tty without its terminal answer. So a third button
  only ever shows more, and shows nothing when the answer came faster than a person can see a dialog.

Each question has a program of its own: a third button cannot be taken back, and answers cannot get out of step.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from sealagent.consent.assuan import AssuanClient, AssuanError
from sealagent.consent.dialog import SHORTER, Extension, dialog_commands
from sealagent.consent.lists import PINENTRY_PAGE, list_digest, page_from
from sealagent.consent.program import EXIT_SECONDS, Running, running
from sealagent.consent.prompter import (
    DEFAULT_TIMEOUT,
    MAX_ATTEMPTS,
    Consent,
    ConsentRequest,
    PinRequest,
    length_fits,
    pin_length_error,
    wipe,
)
from sealagent.consent.texts import (
    Language,
    PromptText,
    confirm_text,
    consent_text,
    decide_text,
    language,
    look_text,
    prompt_text,
    session_text,
)
from sealagent.consent.turn import Turn
from sealagent.errors import SealAgentError

__all__ = ["PROGRAMS", "Pinentry", "PinentrySettings", "find_pinentry"]

PROGRAMS = ("pinentry", "pinentry-gnome3", "pinentry-qt", "pinentry-gtk-2", "pinentry-curses", "pinentry-tty")
"""Searched on PATH in this order; the first is what the distribution or the user chose."""
SPARE_SECONDS = 5.0
"""Seconds beyond the user's time until a pinentry that does not end by itself is killed; no answer counts then."""
HASTE_SECONDS = 0.5
"""A yes that comes sooner was not meant for the question: nobody has read it. Browsers wait as long."""
MAX_HASTY = 3
"""Times a question is asked whose yes comes too soon; then the answer is no."""
PERSON_SECONDS = 0.05
"""No person sees a dialog and presses a button in less."""

# Error codes of libgpg-error (gpg-error.h).
_TIMEOUT = 62
_NOT_CONFIRMED = 114
_TOO_SMALL = 301  # WINDOW_TOO_SMALL: a curses dialog has more lines than its terminal
_CANCELLED = frozenset({99, _NOT_CONFIRMED, 198})  # CANCELED, FULLY_CANCELED

_TAKES_FOCUS = ("curses", "efl", "fltk", "gtk", "qt", "tqt", "tty")
"""GnuPG's own pinentries; releases after 1.2.1 put the focus where they are told, 1.2.1 passes it over."""
_TWO_BUTTONS = frozenset({"gnome3"})
"""Flavors without a third button (GcrPrompt has two)."""

Compose = Callable[[str, bool, int], PromptText]
"""Makes the words from the flavor, whether the question is asked again, and how many times shorter names are to be."""


class _TooSmall(Exception):
    """The terminal is too small for the dialog."""


class _Said(Enum):
    YES = "yes"
    NO = "no"
    MORE = "more"


@dataclass(frozen=True, slots=True)
class _Reply:
    said: _Said
    flavor: str
    seconds: float
    consent: Consent | None = None
    """The whole answer, of a program that has an :class:`Extension`."""
    closed: bool = False
    """The window was closed."""


@dataclass(frozen=True, slots=True)
class PinentrySettings:
    """How pinentry is started and where it shows itself."""

    program: str
    """Path of the program."""
    ttyname: str | None = None
    ttytype: str | None = None
    lc_ctype: str | None = None
    """Locale whose character set the terminal shows, e.g. ``zh_CN.UTF-8``."""
    display: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    """Environment of the program; also chooses the language of the texts."""

    @classmethod
    def from_environment(
        cls, program: str, environ: Mapping[str, str], timeout: float = DEFAULT_TIMEOUT
    ) -> PinentrySettings:
        """Take terminal, locale and display from an environment (``GPG_TTY`` as GnuPG does)."""
        locale = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environ.get(name))), None)
        return cls(
            program,
            ttyname=environ.get("GPG_TTY") or _own_terminal(),
            ttytype=environ.get("TERM"),
            lc_ctype=locale,
            display=environ.get("DISPLAY"),
            timeout=timeout,
            environ=dict(environ),
        )


def find_pinentry(programs: Sequence[str], search_path: str | None) -> str | None:
    """Return the first program that is there and executable; names are looked up on ``search_path``."""
    return next((found for name in programs if (found := shutil.which(name, path=search_path))), None)


class Pinentry:
    """A :class:`~sealagent.consent.prompter.Prompter` that starts a pinentry for each question, one at a time.

    :param extensions: of pinentry programs that can do more.
    """

    person = True

    def __init__(self, settings: PinentrySettings, extensions: Sequence[Extension] = ()) -> None:
        self._settings = settings
        self._language = language(settings.environ)
        self._extensions = {extension.flavor: extension for extension in extensions}
        self._turn = Turn()

    async def ask_pin(self, request: PinRequest) -> bytearray:
        """Show one dialog, shorter where the terminal is too small for it. Cancelling the wait ends the program."""
        async with self._turn:
            for least in SHORTER:
                with contextlib.suppress(_TooSmall):
                    return await self._pin(request, least)
        raise _answered(_TOO_SMALL)

    async def _pin(self, request: PinRequest, least: int) -> bytearray:
        pin = bytearray()
        try:
            async with asyncio.timeout(self._settings.timeout + SPARE_SECONDS), self._program() as program:
                pin = await self._dialog(program, request, least)
        except BaseException as error:
            wipe(pin)  # the program misbehaved, or nobody waits any more, after the PIN was there
            if isinstance(error, TimeoutError):
                raise _timeout() from None
            if isinstance(error, AssuanError):
                raise _TooSmall if error.code == _TOO_SMALL else _answered(error.code) from None
            raise
        return pin

    async def confirm(self, request: ConsentRequest) -> Consent:
        """Show the question, a list page by page; every way to leave it but its yes is no."""
        async with self._turn:
            if request.question == "batch" and request.occasion.items:
                return await self._list(request)

            def compose(flavor: str, again: bool, shorter: int) -> PromptText:
                return consent_text(request, self._language, again=again, shorter=shorter)

            reply = await self._agreed(request, compose)
            if reply.consent is not None or reply.said is not _Said.YES:
                return reply.consent or Consent.NO
            if request.question == "use" and request.offer_session and await self._for_session(request):
                return Consent.SESSION
            return Consent.ONCE

    async def confirm_last_try(self, request: PinRequest) -> bool:
        """Show one question; every way to leave it but its yes is no."""

        def compose(flavor: str, again: bool, shorter: int) -> PromptText:
            return confirm_text(request, self._language, again=again, shorter=shorter)

        async with self._turn:
            return (await self._agreed(request, compose)).said is _Said.YES

    async def _for_session(self, request: ConsentRequest) -> bool:
        """Ask, after a yes, whether it holds on. A program that misbehaves now takes that yes along."""

        def compose(flavor: str, again: bool, shorter: int) -> PromptText:
            return session_text(request, self._language, again=again, shorter=shorter)

        try:
            return (await self._agreed(request, compose)).said is _Said.YES
        except SealAgentError as error:
            if error.code == "prompt_timeout":
                return False
            raise

    async def _list(self, request: ConsentRequest) -> Consent:
        items, chosen = request.occasion.items, self._language
        digest, start = list_digest(items), 0
        page = page_from(items, start, PINENTRY_PAGE, digest)

        def looks(flavor: str) -> bool:
            return flavor in _TWO_BUTTONS and not page.final

        def compose(flavor: str, again: bool, shorter: int) -> PromptText:
            nonlocal page
            page = page_from(items, start, PINENTRY_PAGE.shrunk(shorter), digest)
            if looks(flavor):
                return look_text(request, chosen, page, shorter=shorter)
            return consent_text(request, chosen, page=page, again=again, shorter=shorter)

        def decide(flavor: str, again: bool, shorter: int) -> PromptText:
            return decide_text(request, chosen, page, again=again, shorter=shorter)

        while True:
            reply = await self._agreed(request, compose, harmless=looks)
            if reply.consent is not None:
                return reply.consent
            if reply.closed:
                return Consent.NO
            if looks(reply.flavor) and reply.said is _Said.NO:
                reply = await self._agreed(request, decide)
            elif looks(reply.flavor) or reply.said is _Said.MORE:
                start = page.last
                continue
            return Consent.ONCE if reply.said is _Said.YES else Consent.NO

    async def _agreed(
        self, request: PinRequest | ConsentRequest, compose: Compose, harmless: Callable[[str], bool] = lambda _: False
    ) -> _Reply:
        """Ask, and ask again while the yes comes too soon.

        :param harmless: says for a flavor whether a yes to this agrees to nothing.
        """
        for attempt in range(MAX_HASTY):
            reply = await self._fitting(request, compose, attempt > 0)
            if reply.said is _Said.MORE and reply.seconds < PERSON_SECONDS:
                break
            if reply.said is not _Said.YES or reply.seconds >= HASTE_SECONDS or harmless(reply.flavor):
                return reply
        return _Reply(_Said.NO, reply.flavor, reply.seconds, reply.consent and Consent.NO)

    async def _fitting(self, request: PinRequest | ConsentRequest, compose: Compose, again: bool) -> _Reply:
        """Show one question, made shorter where the terminal is too small for it."""
        for least in SHORTER:

            def at_most(flavor: str, again: bool, shorter: int, least: int = least) -> PromptText:
                return compose(flavor, again, max(shorter, least))

            with contextlib.suppress(_TooSmall):
                return await self._question(request, at_most, again)
        raise _answered(_TOO_SMALL)

    async def _question(self, request: PinRequest | ConsentRequest, compose: Compose, again: bool) -> _Reply:
        """Show one question to one program."""
        loop, data = asyncio.get_running_loop(), bytearray()
        more = False
        try:
            async with asyncio.timeout(self._settings.timeout + SPARE_SECONDS), self._program() as program:
                client, flavor = program.client, program.flavor
                extension = self._extensions.get(flavor)
                text_of = functools.partial(compose, flavor, again)
                if extension is None:
                    text_of = functools.partial(_with_error, text_of)
                lines = self.commands(request, flavor, text_of)
                more = any(line.startswith("SETNOTOK ") for line in lines)
                for line in lines:
                    await client.command(line)
                program.terminal.forget_typed()
                focus = " --focus=cancel" if flavor.startswith(_TAKES_FOCUS) else ""
                began = loop.time()
                try:
                    if extension is not None and isinstance(request, ConsentRequest):
                        data = await client.ask("CONFIRM")
                    else:
                        await client.command(f"CONFIRM{focus}")
                except AssuanError as error:
                    if error.code not in _CANCELLED:
                        raise
                    more = more and error.code == _NOT_CONFIRMED and not client.window_closed
                    said = _Said.MORE if more else _Said.NO
                    return _Reply(said, flavor, loop.time() - began, closed=client.window_closed)
                seconds = loop.time() - began
                if client.window_closed:
                    return _Reply(_Said.NO, flavor, seconds, closed=True)
                if seconds > self._settings.timeout:
                    raise _timeout()
                await self._ended(client)
                consent = (
                    extension.consent(request, data) if extension and isinstance(request, ConsentRequest) else None
                )
                said = _Said.NO if consent is Consent.NO else _Said.YES
                return _Reply(said, flavor, seconds, consent)
        except TimeoutError:
            raise _timeout() from None
        except AssuanError as error:
            raise _TooSmall if error.code == _TOO_SMALL else _answered(error.code) from None

    async def _ended(self, client: AssuanClient) -> None:
        """See to it that a yes was the only thing the program had to say."""
        try:
            async with asyncio.timeout(EXIT_SECONDS):
                await client.goodbye()
        except TimeoutError:
            raise SealAgentError("prompt_failed", "the pinentry program failed: it did not end") from None

    async def _dialog(self, program: Running, request: PinRequest, least: int) -> bytearray:
        client, flavor = program.client, program.flavor
        for attempt in range(MAX_ATTEMPTS):

            def text_of(shorter: int, wrong_length: bool = attempt > 0) -> PromptText:
                shorter = max(shorter, least)
                return prompt_text(request, self._language, wrong_length=wrong_length, shorter=shorter)

            for line in self.commands(request, flavor, text_of):
                await client.command(line)
            program.terminal.forget_typed()
            pin = await client.ask("GETPIN")
            if length_fits(pin):
                return pin
            wipe(pin)
        raise pin_length_error()

    def commands(
        self, request: PinRequest | ConsentRequest, flavor: str, text_of: Callable[[int], PromptText]
    ) -> list[str]:
        """Return all commands that fill a dialog, up to ``GETPIN`` or ``CONFIRM``.

        :param flavor: what the program answered to ``GETINFO flavor``.
        :param text_of: gives the words, with foreign names as many times shorter as it is told.
        """
        extension = self._extensions.get(flavor)
        if extension is None:
            extended: list[str] = []
        else:
            extended = [*extension.commands(request, self._language)]
            if isinstance(request, ConsentRequest):  # one dialog for all of it
                again = text_of(1).error is not None
                text_of = functools.partial(_whole, request, self._language, again)
        return [*dialog_commands(text_of), f"SETTIMEOUT {math.ceil(self._settings.timeout)}", *extended]

    def _program(self) -> contextlib.AbstractAsyncContextManager[Running]:
        settings = self._settings
        options = {
            "ttyname": settings.ttyname,
            "ttytype": settings.ttytype,
            "lc-ctype": settings.lc_ctype,
            "lc-messages": settings.lc_ctype,
            "display": settings.display,
        }
        return running(
            settings.program, settings.environ, ttyname=settings.ttyname, display=settings.display, options=options
        )


def _with_error(text_of: Callable[[int], PromptText], shorter: int) -> PromptText:
    """Say first why the holder is asked again: curses and GTK show no error where no PIN is entered."""
    text = text_of(shorter)
    return text if text.error is None else replace(text, description=(text.error, *text.description), error=None)


def _whole(request: ConsentRequest, chosen: Language, again: bool, shorter: int) -> PromptText:
    return consent_text(request, chosen, again=again, shorter=shorter)


def _answered(code: int) -> SealAgentError:
    if code in _CANCELLED:
        return SealAgentError("pin_cancelled", "the PIN entry was cancelled")
    if code == _TIMEOUT:
        return _timeout()
    message = f"the pinentry program failed with error {code} of libgpg-error"
    return SealAgentError("prompt_failed", message, native_code=code)


def _timeout() -> SealAgentError:
    return SealAgentError("prompt_timeout", "nobody answered the prompt in time")


def _own_terminal() -> str | None:
    try:
        return os.ttyname(0)
    except OSError:
        return None
