"""Asking the user for a PIN: the request, what every prompter promises, and the care a PIN needs.

A PIN is UTF-8 octets in a ``bytearray`` that whoever holds it wipes; it is never a ``str`` or ``bytes``, which Python
cannot overwrite, and never part of a message, a log line or a ``repr``.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from sealagent.errors import SealAgentError
from sealdrivers.contract import PinState

__all__ = [
    "MAX_PIN",
    "MIN_PIN",
    "SPENDING",
    "NoPrompter",
    "PinRequest",
    "Prompter",
    "Purpose",
    "RequestingProgram",
    "ask_new_pin",
    "length_fits",
    "report_rejected",
    "wipe",
]

MIN_PIN = 1
"""Octets of the shortest PIN passed on; the token itself decides what is too short for it."""
MAX_PIN = 64
"""Octets of the longest PIN passed on; GM/T 0016 devices and SoftHSM take less or as much."""
DEFAULT_TIMEOUT = 120.0
"""Seconds the user has for one entry."""
MAX_ATTEMPTS = 3
"""Times a dialog asks again for an entry that is empty or too long; no try of the token is spent on those."""

Purpose = Literal[
    "unlock", "change_old", "change_new", "change_repeat", "unblock_admin", "unblock_new", "unblock_repeat"
]
SPENDING: frozenset[Purpose] = frozenset({"unlock", "change_old", "unblock_admin"})
"""Purposes whose PIN the device checks, which spends a try; the others set a new PIN."""


class RequestingProgram(Protocol):
    """What a prompt shows of the program that asks; :class:`sealagent.callers.peer.Caller` is one."""

    @property
    def pid(self) -> int: ...

    @property
    def executable(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class PinRequest:
    """What a PIN is asked for. Every text is shown only after :func:`sealagent.consent.texts.shown`."""

    token_label: str
    token_serial: str
    pin: PinState
    """What is known of the PIN that is asked for: the user's, or for ``unblock_admin`` the administrator's."""
    purpose: Purpose
    caller: RequestingProgram | None
    document: str | None
    """Name of the document, as the caller gave it."""
    seal: str | None
    """Name of the seal."""
    previous_wrong: bool = False
    """The PIN entered before was wrong."""


class Prompter(Protocol):
    """A way to get a PIN, and the holder's word that its last try may be spent."""

    async def ask_pin(self, request: PinRequest) -> bytearray:
        """Return the PIN; the caller wipes it.

        :raises SealAgentError: ``pin_cancelled``, ``prompt_unavailable``, ``prompt_failed``, ``prompt_timeout``,
            ``pin_length`` (outside :data:`MIN_PIN` to :data:`MAX_PIN` octets), ``pin_source_refused`` (a stored PIN).
        """

    async def confirm_last_try(self, request: PinRequest) -> bool:
        """Ask whether the last try of the PIN may be spent. Only a person's plain yes is True; where nobody can be
        asked, the answer is no.

        :raises SealAgentError: ``prompt_unavailable``, ``prompt_failed``, ``prompt_timeout``.
        """


@runtime_checkable
class RemembersRejection(Protocol):
    """A prompter that would offer the same PIN again, and therefore has to be told that it was wrong."""

    def rejected(self, request: PinRequest) -> None: ...


def report_rejected(prompter: Prompter, request: PinRequest) -> None:
    """Tell a prompter that the token refused the PIN it gave for this request."""
    if isinstance(prompter, RemembersRejection):
        prompter.rejected(request)


class NoPrompter:
    """Asks nobody: every request is refused with the next step."""

    def __init__(self, next_step: str) -> None:
        self._next_step = next_step

    async def ask_pin(self, request: PinRequest) -> bytearray:
        """:raises SealAgentError: ``prompt_unavailable``, always."""
        raise SealAgentError("prompt_unavailable", f"there is no way to ask for the PIN: {self._next_step}")

    async def confirm_last_try(self, request: PinRequest) -> bool:
        """Nobody is asked, so nobody has confirmed."""
        return False


async def ask_new_pin(
    prompter: Prompter, request: PinRequest, purposes: tuple[Purpose, Purpose] = ("change_new", "change_repeat")
) -> bytearray:
    """Ask for a new PIN twice and return it; the caller wipes it.

    :param purposes: of the first and of the second prompt.
    :raises SealAgentError: ``pin_mismatch``: the two differ; nothing was changed; and those of :class:`Prompter`.
    """
    new = await prompter.ask_pin(replace(request, purpose=purposes[0], previous_wrong=False))
    try:
        repeated = await prompter.ask_pin(replace(request, purpose=purposes[1], previous_wrong=False))
    except BaseException:
        wipe(new)
        raise
    same = hmac.compare_digest(new, repeated)
    wipe(repeated)
    if not same:
        wipe(new)
        raise SealAgentError("pin_mismatch", "the new PIN and its repetition differ; the PIN was not changed")
    return new


def length_fits(pin: bytearray) -> bool:
    return MIN_PIN <= len(pin) <= MAX_PIN


def pin_length_error() -> SealAgentError:
    return SealAgentError("pin_length", f"a PIN has {MIN_PIN} to {MAX_PIN} octets", minimum=MIN_PIN, maximum=MAX_PIN)


def wipe(buffer: bytearray) -> None:
    """Overwrite a buffer in place with zeros; its length stays."""
    buffer[:] = bytes(len(buffer))
