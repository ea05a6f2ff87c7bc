"""Asking the holder, for a PIN or for consent: the requests, what every prompter promises, and the care a PIN needs.

A PIN is UTF-8 octets in a ``bytearray`` that whoever holds it wipes; it is never a ``str`` or ``bytes``, which Python
cannot overwrite, and never part of a message, a log line or a ``repr``.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, Protocol, runtime_checkable

from sealagent.errors import SealAgentError
from sealagent.uses import Operation
from sealdrivers.contract import PinState

__all__ = [
    "MAX_PIN",
    "MIN_PIN",
    "SPENDING",
    "Consent",
    "ConsentRequest",
    "GrantTerms",
    "NoPrompter",
    "Occasion",
    "PinRequest",
    "Prompter",
    "Purpose",
    "Question",
    "RequestingProgram",
    "SealPicture",
    "ask_new_pin",
    "length_fits",
    "nobody_to_ask",
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

    @property
    def parent(self) -> str | None:
        """Executable of the process that started it."""

    @property
    def name(self) -> str | None:
        """Name of the paired application; None: not paired."""

    @property
    def origin(self) -> str | None:
        """Web origin or browser extension it acts for, as the browser says."""

    @property
    def page(self) -> str | None:
        """Origin of the web page that the extension acts for, as the extension itself says."""


@dataclass(frozen=True, slots=True)
class SealPicture:
    """The picture of a seal, for prompters that can show one."""

    type: str
    """Format as the seal names it, lower case: ``png``, ``svg``, …"""
    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Occasion:
    """What the holder is told of a request, when asked for a PIN or for consent.

    Every text is foreign and is shown only after :func:`sealagent.consent.texts.shown`.
    """

    caller: RequestingProgram | None
    document: str | None = None
    """Name of the document, as the caller gave it."""
    seal: str | None = None
    """Name of the seal."""
    operation: Operation | None = None
    """What is to be signed; blind operations are marked. None: nothing is (a PIN is changed)."""
    kind: str | None = None
    """Format of the document: ``OFD``."""
    pages: int | None = None
    digest: str | None = None
    """Hexadecimal digest of the document (SM3), or the one to be signed; its first digits are shown."""
    key: str | None = None
    """Label of a key that is used without a seal."""
    act: str | None = None
    """Name of an administrative act (``generate_key``, …), with ``Operation.MANAGE``."""
    picture: SealPicture | None = None
    items: tuple[str, ...] = ()
    """A line for each item of a batch."""


@dataclass(frozen=True, slots=True)
class PinRequest:
    """What a PIN is asked for."""

    token_label: str
    token_serial: str
    pin: PinState
    """What is known of the PIN that is asked for: the user's, or for ``unblock_admin`` the administrator's."""
    purpose: Purpose
    occasion: Occasion
    previous_wrong: bool = False
    """The PIN entered before was wrong."""


Question = Literal["use", "batch", "pair", "changed", "rename", "grant", "ungrant"]
"""May this be signed; may all of these be; is this application yours (compare the code); its program was changed, is it
still; may it be called so; may it have this grant; may this prohibition be taken back."""


@dataclass(frozen=True, slots=True)
class GrantTerms:
    """A grant as it is shown before the holder gives it."""

    forbids: bool
    operation: Operation
    seal: str | None
    """Name of the seal; None: any."""
    key: str | None
    """Label of the key; None: any."""
    formats: tuple[str, ...]
    count: int | None
    not_before: str | None
    """Local time, as it is to be shown."""
    expires: str | None
    hours: str | None
    """``08:00-18:00``."""


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """What the holder is asked to agree to."""

    question: Question
    occasion: Occasion
    token_label: str | None = None
    token_serial: str | None = None
    name: str | None = None
    """``pair``, ``rename``: the name that the application gives itself, or is to get; shown as such."""
    application: str | None = None
    """``rename``, ``grant``, ``ungrant``: name, so far, of the application concerned; who asks may be another."""
    code: str | None = None
    """``pair``: six digits that the application shows, too."""
    terms: GrantTerms | None = None
    """``grant``, ``ungrant``."""
    offer_session: bool = False
    """``use``: offer to agree to all like it, until the token is locked or pulled."""


class Consent(StrEnum):
    """What the holder answered. Whatever is no plain yes is NO: time that ran out, a closed window, a lost focus."""

    NO = "no"
    ONCE = "once"
    """Yes, to what was shown."""
    SESSION = "session"
    """Yes, and to all like it until the token is locked or pulled; only where it was offered."""


class Prompter(Protocol):
    """A way to ask the holder: for a PIN, for consent, and whether a PIN's last try may be spent."""

    @property
    def person(self) -> bool:
        """Whether a person answers. Where none does, a PIN that comes is nobody's consent."""

    async def ask_pin(self, request: PinRequest) -> bytearray:
        """Return the PIN; the caller wipes it.

        :raises SealAgentError: ``pin_cancelled``, ``prompt_unavailable``, ``prompt_failed``, ``prompt_timeout``,
            ``pin_length`` (outside :data:`MIN_PIN` to :data:`MAX_PIN` octets), ``pin_source_refused`` (a stored PIN).
        """

    async def confirm(self, request: ConsentRequest) -> Consent:
        """Ask for consent.

        :raises SealAgentError: ``consent_unavailable``: there is nobody to ask; ``prompt_unavailable``,
            ``prompt_failed``, ``prompt_timeout``: it could not be asked, or nobody answered. Nothing is agreed to then.
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

    person = False

    def __init__(self, next_step: str) -> None:
        self._next_step = next_step

    async def ask_pin(self, request: PinRequest) -> bytearray:
        """:raises SealAgentError: ``prompt_unavailable``, always."""
        raise SealAgentError("prompt_unavailable", f"there is no way to ask for the PIN: {self._next_step}")

    async def confirm(self, request: ConsentRequest) -> Consent:
        """:raises SealAgentError: ``consent_unavailable``, always."""
        raise nobody_to_ask(self._next_step)

    async def confirm_last_try(self, request: PinRequest) -> bool:
        """Nobody is asked, so nobody has confirmed."""
        return False


def nobody_to_ask(next_step: str) -> SealAgentError:
    """Return the error of a prompter that has no person to ask for consent."""
    return SealAgentError("consent_unavailable", f"nobody can be asked whether this may be done: {next_step}")


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
