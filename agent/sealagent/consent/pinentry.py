"""Asking through a pinentry program, the dialog GnuPG uses: graphical, curses or plain terminal.

No option that would let a pinentry keep the PIN anywhere is ever sent (``allow-external-password-cache``), and no
``SETKEYINFO`` that such a store would need.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sealagent.consent.assuan import MAX_COMMAND, AssuanClient, AssuanError, escape
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
from sealagent.consent.terminal import SavedTerminal
from sealagent.consent.texts import Language, PromptText, confirm_text, consent_text, language, prompt_text
from sealagent.errors import SealAgentError

__all__ = ["PROGRAMS", "Pinentry", "PinentrySettings", "find_pinentry"]

PROGRAMS = ("pinentry", "pinentry-gnome3", "pinentry-qt", "pinentry-gtk-2", "pinentry-curses", "pinentry-tty")
"""Searched on PATH in this order; the first is what the distribution or the user chose."""
SPARE_SECONDS = 5.0
"""Seconds beyond the user's time until a pinentry that does not end by itself is killed."""
EXIT_SECONDS = 1.0
"""Seconds a pinentry has to end after it was asked to; curses needs them to clean up the terminal."""

# Error codes of libgpg-error (gpg-error.h).
_TIMEOUT = 62
_CANCELLED = frozenset({99, 114, 198})  # CANCELED, NOT_CONFIRMED, FULLY_CANCELED


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
    """A :class:`~sealagent.consent.prompter.Prompter` that starts a pinentry for each PIN, one at a time."""

    person = True

    def __init__(self, settings: PinentrySettings) -> None:
        self._settings = settings
        self._language = language(settings.environ)
        self._turn = asyncio.Lock()

    async def ask_pin(self, request: PinRequest) -> bytearray:
        """Show one dialog. Cancelling the wait ends the program."""
        pin = bytearray()
        async with self._turn:
            try:
                async with asyncio.timeout(self._settings.timeout + SPARE_SECONDS), self._program() as client:
                    pin = await self._dialog(client, request)
            except BaseException as error:
                wipe(pin)  # the program misbehaved, or nobody waits any more, after the PIN was there
                if isinstance(error, TimeoutError):
                    raise _timeout() from None
                if isinstance(error, AssuanError):
                    raise _answered(error.code) from None
                raise
        return pin

    async def confirm(self, request: ConsentRequest) -> Consent:
        """Show one question; every way to leave it but its yes is no."""
        agreed = await self._question(lambda shorter: consent_text(request, self._language, shorter=shorter))
        return Consent.ONCE if agreed else Consent.NO

    async def confirm_last_try(self, request: PinRequest) -> bool:
        """Show one question; every way to leave it but its yes is no."""
        return await self._question(lambda shorter: confirm_text(request, self._language, shorter=shorter))

    async def _question(self, text_of: Callable[[int], PromptText]) -> bool:
        async with self._turn:
            try:
                async with asyncio.timeout(self._settings.timeout + SPARE_SECONDS), self._program() as client:
                    await self._prepared(client)
                    for line in _lines(text_of):
                        await client.command(line)
                    await self._limited(client)
                    await client.command("CONFIRM")
            except TimeoutError:
                raise _timeout() from None
            except AssuanError as error:
                if error.code in _CANCELLED:
                    return False
                raise _answered(error.code) from None
        return True

    async def _prepared(self, client: AssuanClient) -> None:
        await client.greeting()
        for option in self._options():
            with contextlib.suppress(AssuanError):  # an option it does not know changes nothing
                await client.command(f"OPTION {option}")

    async def _limited(self, client: AssuanClient) -> None:
        await client.command(f"SETTIMEOUT {math.ceil(self._settings.timeout)}")

    async def _dialog(self, client: AssuanClient, request: PinRequest) -> bytearray:
        await self._prepared(client)
        for attempt in range(MAX_ATTEMPTS):
            for line in _commands(request, self._language, attempt > 0):
                await client.command(line)
            await self._limited(client)
            pin = await client.ask("GETPIN")
            if length_fits(pin):
                return pin
            wipe(pin)
        raise pin_length_error()

    def _options(self) -> list[str]:
        settings = self._settings
        given = {
            "ttyname": settings.ttyname,
            "ttytype": settings.ttytype,
            "lc-ctype": settings.lc_ctype,
            "lc-messages": settings.lc_ctype,
            "display": settings.display,
        }
        return [f"{name}={escape(value)}" for name, value in given.items() if value]

    @contextlib.asynccontextmanager
    async def _program(self) -> AsyncIterator[AssuanClient]:
        """Run the program; on the way out it is ended, by force if need be, and its terminal put right."""
        settings = self._settings
        arguments = ["--display", settings.display] if settings.display else []
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as stack:
            client = AssuanClient(ours)
            stack.callback(client.close)
            terminal = stack.enter_context(SavedTerminal(settings.ttyname))
            with theirs:
                try:
                    process = await asyncio.create_subprocess_exec(
                        settings.program,
                        *arguments,
                        stdin=theirs.fileno(),
                        stdout=theirs.fileno(),
                        stderr=asyncio.subprocess.DEVNULL,
                        env=dict(settings.environ),
                        start_new_session=True,  # the terminal's Ctrl-C is the dialog's, not a signal to us both
                    )
                except (OSError, ValueError) as error:
                    message = f"{settings.program} cannot be started: {error}"
                    raise SealAgentError("prompt_unavailable", message) from error
            try:
                yield client
            except BaseException as error:
                if not isinstance(error, AssuanError):
                    _signal(process, signal.SIGTERM)
                    stack.callback(terminal.restore)
                raise
            finally:
                client.close()
                await _end(process)


def _commands(request: PinRequest, chosen: Language, wrong_length: bool) -> list[str]:
    """Return the commands that fill the dialog."""
    return _lines(lambda shorter: prompt_text(request, chosen, wrong_length=wrong_length, shorter=shorter))


def _lines(text_of: Callable[[int], PromptText]) -> list[str]:
    """Return the commands that show a text, each within the length of an Assuan line.

    :param text_of: gives the text, with foreign names as many times shorter as it is told.
    """
    for shorter in (1, 2, 4):
        text = text_of(shorter)
        commands = {
            "SETTITLE": text.title,
            "SETDESC": "\n".join(text.description),
            "SETPROMPT": text.prompt,
            "SETOK": text.ok,
            "SETCANCEL": text.cancel,
        }
        if text.error:
            commands["SETERROR"] = text.error
        lines = [f"{name} {escape(value)}" for name, value in commands.items()]
        if max(len(line.encode()) for line in lines) < MAX_COMMAND:
            break
    return lines


async def _end(process: asyncio.subprocess.Process) -> None:
    """Wait for the program, which ends when its connection does; then ask, then kill."""
    try:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), EXIT_SECONDS)
                return
            _signal(process, sign)
        await process.wait()
    finally:
        if process.returncode is None:  # the wait itself was cancelled
            _signal(process, signal.SIGKILL)


def _signal(process: asyncio.subprocess.Process, sign: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)


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
