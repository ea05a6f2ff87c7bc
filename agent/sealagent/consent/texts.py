"""What the prompts say: the words of :mod:`sealagent.consent.words`, put together for one request.

Who asks and what is asked stand on lines of their own, each foreign text cleaned and bounded. All of it fits one line
of Assuan (1,000 octets): where it would not, every foreign text is made two, four or eight times shorter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sealagent.consent.lists import Page, list_digest
from sealagent.consent.prompter import MAX_PIN, MIN_PIN, SPENDING, ConsentRequest, GrantTerms, Occasion, PinRequest
from sealagent.consent.shown import grouped, shown
from sealagent.consent.words import ONE_PIN, WORDS, YES, Language
from sealagent.uses import Operation
from sealdrivers.contract import PinState

__all__ = [
    "YES",
    "Language",
    "PromptText",
    "confirm_text",
    "consent_text",
    "decide_text",
    "language",
    "look_text",
    "page_text",
    "prompt_text",
    "session_text",
    "shown",
]

# Octets that each foreign text may take in a line of Assuan.
MAX_DOCUMENT = 150
MAX_PROGRAM = 180
MAX_PARENT = 80
MAX_SEAL = 120
MAX_LABEL = 96
MAX_SERIAL = 48
MAX_NAME = 96
"""Of an application."""
MAX_ORIGIN = 120
MAX_WORD = 32
"""A format, a time, the name of an act."""
FIRST_ITEMS = 3
"""Items of a batch that a PIN prompt shows; whoever needs to see all of them is asked for consent."""
LEAST = 12
"""No foreign text is made shorter than that."""


@dataclass(frozen=True, slots=True)
class PromptText:
    """The words of one prompt."""

    title: str
    description: tuple[str, ...]
    """Lines; none holds a line break or a control character."""
    error: str | None
    """Why the user is asked again."""
    prompt: str
    """Before what is typed."""
    ok: str
    cancel: str
    more: str | None = None
    """A third button, which shows more of a list and agrees to nothing."""


def language(environ: Mapping[str, str]) -> Language:
    """Choose as gettext does: LANGUAGE (a list), then LC_ALL, LC_MESSAGES, LANG; LANGUAGE does not count in "C"."""
    locale = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := environ.get(name))), "C")
    if locale in ("C", "POSIX"):
        return "en"
    for wanted in [*environ.get("LANGUAGE", "").split(":"), locale]:
        if wanted:
            return "zh_CN" if wanted.split(".")[0].split("_")[0] == "zh" else "en"
    return "en"


def prompt_text(request: PinRequest, chosen: Language, *, wrong_length: bool = False, shorter: int = 1) -> PromptText:
    """Return the words for a request.

    :param wrong_length: the entry before was empty or too long.
    :param shorter: divides the octets that foreign texts may take.
    """
    words = _Words(chosen, shorter)
    head = request.purpose if request.purpose != "unlock" else f"unlock{_what_of(request.occasion)}"
    lines = [words(head), *_circumstances(request, words)]
    if request.purpose in SPENDING:
        lines.extend(_tries(request.pin, words))
    error = words("wrong") if request.previous_wrong else None
    if wrong_length:
        error = words("length", minimum=MIN_PIN, maximum=MAX_PIN)
    prompt = words(ONE_PIN.get(request.purpose, "prompt"))
    return PromptText(words("title"), tuple(lines), error, prompt, words("ok"), words("cancel"))


def confirm_text(request: PinRequest, chosen: Language, *, again: bool = False, shorter: int = 1) -> PromptText:
    """Return the words that ask whether the last try may be spent.

    :param again: the answer before came too fast to count. :param shorter: divides the octets of foreign texts.
    """
    words = _Words(chosen, shorter)
    what = words("confirm_admin" if request.purpose == "unblock_admin" else "confirm")
    lines = [what, *_circumstances(request, words), words("confirm_question")]
    return _question(words, lines, "confirm_prompt", "confirm_ok", "confirm_cancel", again=again)


def consent_text(
    request: ConsentRequest, chosen: Language, *, page: Page | None = None, again: bool = False, shorter: int = 1
) -> PromptText:
    """Return the words that ask for consent.

    :param page: of a batch's list; its third button is there while pages follow.
    :param again: the answer before came too fast to count. :param shorter: divides the octets of foreign texts.
    """
    words = _Words(chosen, shorter)
    lines = [*_asked(request, words, page)]
    if page is not None:
        prompt = "confirm_batch" if page.final else "confirm_page"
        more = None if page.final else words("more")
        return _question(words, lines, prompt, "approve", "deny", again=again, more=more, count=page.count)
    ok = {"pair": "pair_ok", "changed": "changed_ok", "rename": "rename_ok", "ungrant": "ungrant_ok"}
    prompt = "confirm_session" if request.offer_session and request.question == "use" else "confirm_consent"
    return _question(words, lines, prompt, ok.get(request.question, "allow"), "deny", again=again)


def session_text(request: ConsentRequest, chosen: Language, *, again: bool = False, shorter: int = 1) -> PromptText:
    """Return the words that ask, after a yes, whether it holds until the token is locked; parameters as above."""
    words = _Words(chosen, shorter)
    occasion = request.occasion
    lines = [words("session"), *_operation(occasion, words), *_application(occasion, words), *_seal(occasion, words)]
    return _question(words, lines, "confirm_consent", "session_ok", "session_cancel", again=again)


def look_text(request: ConsentRequest, chosen: Language, page: Page, *, shorter: int = 1) -> PromptText:
    """Return the words that show a page of a list where there are two buttons only: neither agrees to anything."""
    words = _Words(chosen, shorter)
    return _question(words, [*_asked(request, words, page)], "confirm_page", "look_ok", "look_cancel", count=page.count)


def decide_text(
    request: ConsentRequest, chosen: Language, page: Page, *, again: bool = False, shorter: int = 1
) -> PromptText:
    """Return the words that ask about a list that was shown that way, up to a page."""
    words = _Words(chosen, shorter)
    lines = [
        words("decide", last=page.last, count=page.count),
        words("batch_of", count=page.count, digest=grouped(page.digest)),
        *_occasion(request.occasion, words),
    ]
    return _question(words, lines, "confirm_batch", "approve", "deny", again=again, count=page.count)


def page_text(chosen: Language, page: Page) -> PromptText:
    """Return the words that go on with a list whose first page is still on the screen."""
    words = _Words(chosen, 1)
    prompt = "confirm_batch" if page.final else "confirm_page"
    return _question(words, _page(page, words), prompt, "approve", "deny", count=page.count)


class _Words:
    """The words of one language, with foreign texts cut to their share."""

    def __init__(self, chosen: Language, shorter: int) -> None:
        self._words = WORDS[chosen]
        self._shorter = shorter

    def __call__(self, key: str, /, **facts: object) -> str:
        return self._words[key].format(**facts)

    def __contains__(self, key: str) -> bool:
        return key in self._words

    def cut(self, text: str, octets: int) -> str:
        return shown(text, max(LEAST, octets // self._shorter))


def _question(
    words: _Words,
    lines: list[str],
    prompt: str,
    ok: str,
    cancel: str,
    *,
    again: bool = False,
    more: str | None = None,
    count: int = 0,
) -> PromptText:
    return PromptText(
        words("title"),
        tuple(lines),
        words("again") if again else None,
        words(prompt, count=count),
        words(ok, count=count),
        words(cancel),
        more,
    )


def _asked(request: ConsentRequest, words: _Words, page: Page | None) -> list[str]:
    """Return the question, and all that belongs to it."""
    lines = [*_headline(request, words, page)]
    if request.application is not None:
        lines.append(words("concerned", name=words.cut(request.application, MAX_NAME)))
    if request.terms is not None:
        lines.extend(_terms(request.terms, words))
    lines.extend(_occasion(request.occasion, words, items=page is None))
    if request.token_label is not None:
        lines.append(_token(request.token_label, request.token_serial or "", words))
    return lines if page is None else [*lines, *_page(page, words)]


def _page(page: Page, words: _Words) -> list[str]:
    facts = {"first": page.first, "last": page.last, "count": page.count}
    return [words("items", **facts, digest=grouped(page.digest)), *page.lines]


def _headline(request: ConsentRequest, words: _Words, page: Page | None) -> list[str]:
    question = request.question
    forbids = request.terms is not None and request.terms.forbids
    head = {
        "use": f"use{_what_of(request.occasion)}",
        "grant": "grant_forbid" if forbids else "grant_allow",
        "ungrant": "ungrant_forbid" if request.terms is None or forbids else "ungrant_allow",
    }.get(question, question)
    count = page.count if page is not None else len(request.occasion.items)
    lines = [words(head, count=count)]
    if request.code is not None:
        lines.append(words("code", code=_code(request.code)))
    if request.name is not None:
        claims = "new_name" if question == "rename" else "claims"
        lines.append(words(claims, name=words.cut(request.name, MAX_NAME)))
    return lines


def _what_of(occasion: Occasion) -> str:
    """Return which of the headlines says what is to be used."""
    if occasion.operation is Operation.MANAGE:
        return "_manage"
    return "_key" if occasion.operation is Operation.RAW else ""


def _code(code: str) -> str:
    """Return six digits as two groups of three."""
    clean = shown(code, MAX_WORD)
    return f"{clean[:3]} {clean[3:]}" if len(clean) == 6 else clean


def _terms(terms: GrantTerms, words: _Words) -> list[str]:
    what = words(f"what_{terms.operation}")
    lines = [words("terms_forbid" if terms.forbids else "terms_allow", what=what)]
    if terms.operation is not Operation.MANAGE:
        if terms.seal is not None:
            lines.append(words("seal", name=words.cut(terms.seal, MAX_SEAL)))
        elif terms.key is None and terms.operation is not Operation.RAW:
            lines.append(words("any_seal"))
        if terms.key is not None:
            lines.append(words("key", name=words.cut(terms.key, MAX_LABEL)))
        elif terms.operation is Operation.RAW:
            lines.append(words("any_key"))
    if terms.formats:
        lines.append(words("formats", formats=words.cut(", ".join(terms.formats), 2 * MAX_WORD)))
    elif terms.operation is Operation.DOCUMENT:
        lines.append(words("any_format"))
    if not terms.forbids:
        lines.append(words("any_count") if terms.count is None else words("count", count=terms.count))
    if terms.not_before is not None:
        lines.append(words("not_before", time=words.cut(terms.not_before, MAX_WORD)))
    lines.append(
        words("no_end") if terms.expires is None else words("expires", time=words.cut(terms.expires, MAX_WORD))
    )
    if terms.hours is not None:
        lines.append(words("hours", hours=words.cut(terms.hours, MAX_WORD)))
    return lines


def _circumstances(request: PinRequest, words: _Words) -> list[str]:
    """Return who asks, for what, and of which token."""
    return [*_occasion(request.occasion, words), _token(request.token_label, request.token_serial, words)]


def _token(label: str, serial: str, words: _Words) -> str:
    return words("token", label=words.cut(label, MAX_LABEL), serial=words.cut(serial, MAX_SERIAL))


def _occasion(occasion: Occasion, words: _Words, *, items: bool = True) -> list[str]:
    """Return who asks, and for what."""
    lines = [*_operation(occasion, words)]
    if items and occasion.items:
        lines.append(words("batch_of", count=len(occasion.items), digest=grouped(list_digest(occasion.items))))
        for number, text in enumerate(occasion.items[:FIRST_ITEMS], 1):
            lines.append(words("item", number=number, text=words.cut(text, MAX_SERIAL)))
    if occasion.document is not None:
        lines.append(words("document", name=_document(occasion, words)))
    if occasion.digest is not None:
        lines.append(words("digest", digits=grouped(occasion.digest)))
    lines.extend(_seal(occasion, words))
    lines.extend(_application(occasion, words))
    return lines


def _operation(occasion: Occasion, words: _Words) -> list[str]:
    if occasion.operation is None:
        return []
    if occasion.operation is Operation.MANAGE and occasion.act is not None:
        act = f"act_{occasion.act}"
        return [words(act if act in words else "act_other", name=words.cut(occasion.act, MAX_WORD))]
    return [words(f"do_{occasion.operation}")]


def _seal(occasion: Occasion, words: _Words) -> list[str]:
    lines = []
    if occasion.seal is not None:
        lines.append(words("seal", name=words.cut(occasion.seal, MAX_SEAL)))
    if occasion.key is not None:
        lines.append(words("key", name=words.cut(occasion.key, MAX_LABEL)))
    return lines


def _document(occasion: Occasion, words: _Words) -> str:
    name, kind, pages = words.cut(occasion.document or "", MAX_DOCUMENT), occasion.kind, occasion.pages
    if kind is None and pages is None:
        return name
    if pages is None:
        return words("of_kind", name=name, kind=words.cut(kind or "", MAX_WORD))
    form = "page" if pages == 1 else "pages"
    if kind is None:
        return words(form, name=name, pages=pages)
    return words(f"of_{form}", name=name, kind=words.cut(kind, MAX_WORD), pages=pages)


def _application(occasion: Occasion, words: _Words) -> list[str]:
    """Return who asks, as the holder named it and as the kernel knows it."""
    caller = occasion.caller
    if caller is None:
        return []
    lines = [words("unpaired") if caller.name is None else words("paired", name=words.cut(caller.name, MAX_NAME))]
    if caller.executable:
        lines.append(words("program", path=words.cut(caller.executable, MAX_PROGRAM), pid=caller.pid))
    else:
        lines.append(words("program_unknown", pid=caller.pid))
    parent = words.cut(caller.parent, MAX_PARENT) if caller.parent else None
    origin = words.cut(caller.origin, MAX_ORIGIN) if caller.origin else None
    if parent and origin and "-extension://" in (caller.origin or ""):
        lines.append(words("extension", origin=origin, path=parent))
    else:
        lines.extend([words("parent", path=parent)] if parent else [])
        lines.extend([words("origin", origin=origin)] if origin else [])
    if caller.page:
        lines.append(words("for_page", page=words.cut(caller.page, MAX_ORIGIN)))
    return lines


def _tries(pin: PinState, words: _Words) -> list[str]:
    lines = []
    if pin.locked:
        lines.append(words("locked"))
    elif pin.last_try:
        lines.append(words("final"))
    elif pin.count_low:
        lines.append(words("low"))
    if pin.tries_left is not None:
        lines.append(words("tries", count=pin.tries_left))
    if pin.factory_pin:
        lines.append(words("factory"))
    return lines
