"""What one prompt shows, and how it can be answered: values, without a window."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from sealagent.dialog.pictures import Picture
from sealagent.dialog.pin import PinBuffer

__all__ = ["Answer", "Kind", "Prompt", "Show"]


class Kind(Enum):
    """What is asked."""

    PIN = auto()
    CONFIRM = auto()
    MESSAGE = auto()
    """Only to be taken notice of."""


class Answer(Enum):
    """How a prompt ended."""

    OK = auto()
    SESSION = auto()
    """Yes, for longer; only with :attr:`Prompt.session`."""
    NOT_OK = auto()
    """The button of ``SETNOTOK``."""
    CANCEL = auto()
    CLOSED = auto()
    """Escape, or the window was closed."""
    TIMEOUT = auto()
    GONE = auto()
    """The client is not there any more."""


@dataclass(slots=True)
class Prompt:
    """Filled by the commands of the client; texts are foreign."""

    title: str = ""
    description: str = ""
    """Paragraphs, separated by LF; the first is the heading."""
    prompt: str = ""
    error: str = ""
    ok: str = ""
    """Labels have an underscore before the letter that is pressed with Alt, and two for one that is shown."""
    notok: str = ""
    cancel: str = ""
    session: str = ""
    large: str = ""
    """Value of a row that is shown large."""
    seconds: int = 0
    """Until time has run out; 0: it never does."""
    facts: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    picture: Picture | None = None


class Show(Protocol):
    """Shows a prompt and returns the answer."""

    def __call__(self, prompt: Prompt, kind: Kind, pin: PinBuffer) -> Answer:
        """:param pin: is filled with what is typed. :raises OSError: there is no display, or it ended."""
