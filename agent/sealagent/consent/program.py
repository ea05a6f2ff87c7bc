"""One run of a pinentry program: started, spoken to, and ended, by force if need be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from sealagent.consent.assuan import AssuanClient, AssuanError, escape
from sealagent.consent.prompter import wipe
from sealagent.consent.terminal import SavedTerminal
from sealagent.errors import SealAgentError

__all__ = ["Running", "running"]

EXIT_SECONDS = 1.0
"""Seconds a pinentry has to end after it was asked to; curses needs them to clean up the terminal."""
MAX_FLAVOR = 40
"""Octets of the name that a pinentry gives itself; more is no name."""


@dataclass(frozen=True, slots=True)
class Running:
    """A pinentry that has greeted us and heard where to show itself."""

    client: AssuanClient
    terminal: SavedTerminal
    flavor: str
    """What kind it is: ``curses`` (also where a graphical one fell back to it), ``tty``, ``gtk2``, ``qt``, ``gnome3``;
    empty where it does not say."""


@contextlib.asynccontextmanager
async def running(
    program: str,
    environ: Mapping[str, str],
    *,
    ttyname: str | None,
    display: str | None,
    options: Mapping[str, str | None],
) -> AsyncIterator[Running]:
    """Run a program; on the way out it is ended, by force if need be, and its terminal put right.

    :param options: of the command OPTION; those without a value are not sent.
    :raises SealAgentError: ``prompt_unavailable``: it cannot be started; ``prompt_failed``.
    """
    arguments = ["--display", display] if display else []
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as stack:
        client = AssuanClient(ours)
        stack.callback(client.close)
        terminal = stack.enter_context(SavedTerminal(ttyname))
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    program,
                    *arguments,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=asyncio.subprocess.DEVNULL,
                    env=dict(environ),
                    start_new_session=True,  # the terminal's Ctrl-C is the dialog's, not a signal to us both
                )
            except (OSError, ValueError) as error:
                raise SealAgentError("prompt_unavailable", f"{program} cannot be started: {error}") from error
        try:
            yield Running(client, terminal, await _introduced(client, options))
        except BaseException as error:
            if not isinstance(error, AssuanError):
                _signal(process, signal.SIGTERM)
                stack.callback(terminal.restore)
            raise
        finally:
            client.close()
            await _end(process)


async def _introduced(client: AssuanClient, options: Mapping[str, str | None]) -> str:
    """Exchange greetings and return the flavor."""
    await client.greeting()
    for name, value in options.items():
        if value:
            with contextlib.suppress(AssuanError):  # an option it does not know changes nothing
                await client.command(f"OPTION {name}={escape(value)}")
    try:
        answer = await client.ask("GETINFO flavor")
    except AssuanError:
        return ""
    flavor = bytes(answer[: MAX_FLAVOR + 1])
    wipe(answer)
    return flavor.decode("ascii", "replace").rpartition(":")[2] if len(flavor) <= MAX_FLAVOR else ""


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
