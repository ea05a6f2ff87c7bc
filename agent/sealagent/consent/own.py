"""Our own dialog (:mod:`sealagent.dialog`), as far as whoever asks through it has to know it.

Beyond what every pinentry shows it gets the seal's picture, the whole list of a batch, which lines are alarming, and a
third button for a yes that holds until the token is locked or pulled.
"""

from __future__ import annotations

import base64
import importlib.util
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sealagent.consent.assuan import MAX_COMMAND, escape
from sealagent.consent.dialog import dialog_commands
from sealagent.consent.lists import TERMINAL_PAGE, Page, list_digest
from sealagent.consent.prompter import SPENDING, Consent, ConsentRequest, PinRequest, SealPicture
from sealagent.consent.shown import assuan_length, shown
from sealagent.consent.texts import Language, consent_text
from sealagent.consent.words import WORDS

__all__ = ["PROGRAM", "OwnDialog", "find_dialog"]

PROGRAM = "sealagent-pinentry"
"""Name of the program."""
MAX_PICTURE = 1 << 20
"""Octets of a picture that the dialog takes."""
TYPES = frozenset({"png", "gif"})
"""Formats of pictures that Tk can draw."""

_SESSION: Mapping[Language, str] = {"en": "Allow _until locked or pulled out", "zh_CN": "锁定或拔出前均允许(_U)"}


def find_dialog(environ: Mapping[str, str]) -> str | None:
    """Return the path of the dialog; None where it is not installed, Python has no Tk, or there is no X display.

    Tk speaks to X only; a desktop of Wayland sets DISPLAY as long as it takes X programs in.
    """
    if not environ.get("DISPLAY") or importlib.util.find_spec("_tkinter") is None:
        return None
    beside = shutil.which(PROGRAM, path=str(Path(sys.executable).parent))
    return beside or shutil.which(PROGRAM, path=environ.get("PATH"))


class OwnDialog:
    """An :class:`~sealagent.consent.dialog.Extension`."""

    flavor = "sealagent-tk"

    def commands(self, request: PinRequest | ConsentRequest, chosen: Language) -> Iterable[str]:
        occasion = request.occasion
        if isinstance(request, ConsentRequest) and occasion.items:
            yield from _whole_list(request, chosen)
        if isinstance(request, ConsentRequest) and request.code is not None:
            code = shown(request.code, 8)
            yield f"SETLARGE {escape(f'{code[:3]} {code[3:]}' if len(code) == 6 else code)}"
        for key in _alarming(request):
            yield f"ADDWARNING {escape(WORDS[chosen][key])}"
        if occasion.picture is not None:
            yield from _picture(occasion.picture)
        yield from _items(occasion.items)
        if isinstance(request, ConsentRequest) and _offers(request):
            yield f"SETSESSION {escape(_SESSION[chosen])}"

    def consent(self, request: ConsentRequest, data: bytearray) -> Consent:
        """Only what was offered can be agreed to; every other data is no."""
        if not _offers(request):
            return Consent.NO if data else Consent.ONCE
        return {b"once": Consent.ONCE, b"session": Consent.SESSION}.get(bytes(data), Consent.NO)


def _offers(request: ConsentRequest) -> bool:
    return request.question == "use" and request.offer_session


def _alarming(request: PinRequest | ConsentRequest) -> Iterator[str]:
    """Return the keys of the lines that are shown in red."""
    operation = request.occasion.operation
    if operation is not None and operation.blind:
        yield f"do_{operation}"
    if isinstance(request, PinRequest) and request.purpose in SPENDING:
        if request.pin.locked:
            yield "locked"
        elif request.pin.last_try:
            yield "final"


def _whole_list(request: ConsentRequest, chosen: Language) -> Iterator[str]:
    """Return the words for a list of which all items are in one dialog."""
    items = request.occasion.items
    page = Page(1, len(items), len(items), (), list_digest(items))
    lines = dialog_commands(lambda shorter: consent_text(request, chosen, page=page, shorter=shorter))
    return (line for line in lines if line.startswith(("SETDESC ", "SETOK ")))


def _items(items: tuple[str, ...]) -> Iterator[str]:
    """Return the lines of the list, as many in a command as fit."""
    taken: list[str] = []
    room = start = MAX_COMMAND - len("ADDITEM ") - 1
    for number, item in enumerate(items, 1):
        line = f"{number}. {shown(item, TERMINAL_PAGE.item)}"
        length = assuan_length(line) + 3  # a line break is written as three octets
        if taken and length > room:
            yield f"ADDITEM {escape(chr(10).join(taken))}"
            taken, room = [], start
        taken.append(line)
        room -= length
    if taken:
        yield f"ADDITEM {escape(chr(10).join(taken))}"


def _picture(picture: SealPicture) -> Iterator[str]:
    """Return the picture; of one that cannot be shown only its type goes, so that the dialog says so."""
    octets, kind = picture.octets, shown(picture.type, 8).lower().replace(" ", "") or "none"
    if kind not in TYPES or len(octets) > MAX_PICTURE:
        octets = b""
    yield f"SETPICTURE {escape(kind)} {len(octets)}"
    step = (MAX_COMMAND - len("PICTURE ") - 1) // 4 * 3
    for start in range(0, len(octets), step):
        yield f"PICTURE {base64.b64encode(octets[start : start + step]).decode('ascii')}"
