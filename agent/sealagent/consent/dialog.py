"""What fills the dialog of a pinentry: the commands every one knows, and those of one that can do more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from sealagent.consent.assuan import MAX_COMMAND, escape
from sealagent.consent.prompter import Consent, ConsentRequest, PinRequest
from sealagent.consent.texts import Language, PromptText

__all__ = ["SHORTER", "Extension", "dialog_commands"]

SHORTER = (1, 2, 4, 8, 16)
"""How many times shorter foreign texts are made, in turn, until a dialog fits."""


class Extension(Protocol):
    """What a pinentry of our own understands beyond GnuPG's commands. It shows a whole list and offers a session in one
    dialog, so that it is asked once.
    """

    @property
    def flavor(self) -> str:
        """What it answers to ``GETINFO flavor``."""

    def commands(self, request: PinRequest | ConsentRequest, chosen: Language) -> Iterable[str]:
        """Return what is sent after the usual commands, before ``GETPIN`` or ``CONFIRM``; each is escaped and has at
        most :data:`~sealagent.consent.assuan.MAX_COMMAND` octets with its line feed."""

    def consent(self, request: ConsentRequest, data: bytearray) -> Consent:
        """Say what the data means that came with the ``OK`` to ``CONFIRM``."""


def dialog_commands(text_of: Callable[[int], PromptText]) -> list[str]:
    """Return the commands that show a text, each within the length of an Assuan line.

    :param text_of: gives the text, with foreign names as many times shorter as it is told.
    """
    for shorter in SHORTER:
        text = text_of(shorter)
        commands = {
            "SETTITLE": text.title,
            "SETDESC": "\n".join(text.description),
            "SETPROMPT": text.prompt,
            "SETOK": text.ok,
            "SETCANCEL": text.cancel,
        }
        if text.more:
            commands["SETNOTOK"] = text.more
        if text.error:
            commands["SETERROR"] = text.error
        lines = [f"{name} {escape(value)}" for name, value in commands.items()]
        if max(len(line.encode()) for line in lines) < MAX_COMMAND:
            break
    return lines
