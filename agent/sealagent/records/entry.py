"""One entry of the record: its JSON form, its canonical octets (RFC 8785), and their strict reading.

An entry is the JSON object ``{"body", "kind", "number", "prev", "time"}``. ``number`` counts from 1 without gaps;
``time`` is RFC 3339 in UTC with microseconds; ``prev`` is the leaf hash of the entry before in lower-case hexadecimal
(empty for the first). ``signed`` and ``failed`` name the intent they close as ``body.intent``; so does ``admin`` where
there was one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NoReturn, TypeAlias, cast

import rfc8785

from sealagent.errors import FormatError, LimitExceeded

__all__ = ["JSON", "MAX_BODY", "MAX_LINE", "OUTCOMES", "Entry", "EntryKind", "encode_body", "make_entry", "parse_entry"]

JSON: TypeAlias = "str | int | bool | list[JSON] | tuple[JSON, ...] | Mapping[str, JSON] | None"
"""What a body may hold. Floats are refused: their text differs between writers."""

MAX_BODY = 16 * 1024
"""Octets of one canonical body: names, identifiers and digests, never content."""
MAX_INTEGER = 2**53 - 1
"""Largest magnitude of an integer that every JSON reader keeps (RFC 8785 3.2.2.3)."""
MAX_DEPTH = 8
"""Levels of nesting of a body."""
MAX_LINE = MAX_BODY + 1024
"""Octets of one entry: the body and the envelope, which is under 300 octets."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_PREV = re.compile(r"(?:[0-9a-f]{64})?")
_PLAIN = (str, bool, type(None))
_MEMBERS = {"body", "kind", "number", "prev", "time"}


class EntryKind(StrEnum):
    """What an entry says happened."""

    INTENT = "intent"
    """The device is about to be asked for a signature, or something is about to be changed."""
    SIGNED = "signed"
    """A signature was made and may be released; closes an intent."""
    FAILED = "failed"
    """An intent ended without a signature, or without its change; closes it."""
    REFUSED = "refused"
    """A request was turned down before any intent."""
    ADMIN = "admin"
    """Pairing, grant, revoke, PIN change, import and the like; closes its intent, where there was one."""


OUTCOMES = frozenset({EntryKind.SIGNED, EntryKind.FAILED})
"""Kinds that close an intent and name it as ``body.intent``."""
_CLOSING = OUTCOMES | {EntryKind.ADMIN}
"""Kinds that may name one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, as it was hashed."""

    number: int
    time: datetime
    kind: EntryKind
    prev: str
    """Leaf hash of the entry before, hexadecimal; empty for the first."""
    octets: bytes
    """The canonical octets that are stored, hashed and exported."""

    @property
    def time_text(self) -> str:
        """The time as it stands in the octets (RFC 3339, UTC, microseconds)."""
        return _time_text(self.time)

    @property
    def body(self) -> dict[str, JSON]:
        return cast(dict[str, JSON], json.loads(self.octets)["body"])

    @property
    def intent(self) -> int | None:
        """Number of the intent that a ``signed``, ``failed`` or ``admin`` entry closes."""
        return cast("int | None", self.body.get("intent")) if self.kind in _CLOSING else None

    def as_json(self) -> dict[str, JSON]:
        return cast(dict[str, JSON], json.loads(self.octets))


def encode_body(kind: EntryKind, body: Mapping[str, JSON]) -> tuple[bytes, int | None]:
    """Return the canonical octets of a body and the intent it closes.

    :raises FormatError: ``record_body_invalid`` (a float, an integer beyond 2^53-1, a lone surrogate, a name that
        is not ASCII, deep nesting, an outcome that names no intent, or another kind that does).
    :raises LimitExceeded: ``record_body_too_large`` (over :data:`MAX_BODY`).
    """
    intent = _intent_of(kind, body)
    _check_container(body, MAX_DEPTH)
    try:
        # For values that passed the check this is RFC 8785, at a third of the time of a canonicaliser in Python; the
        # offline check reads it with one (rfc8785), and a property test compares the two.
        octets = json.dumps(body, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    except UnicodeEncodeError:
        raise FormatError("record_body_invalid", "the body of the entry holds a lone surrogate") from None
    if len(octets) > MAX_BODY:
        raise LimitExceeded("record_body_too_large", f"the body of the entry is over {MAX_BODY} octets", limit=MAX_BODY)
    return octets, intent


def _time_text(utc: datetime) -> str:
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")


def make_entry(number: int, time: datetime, kind: EntryKind, prev: str, body: bytes) -> Entry:
    """Put an entry together around a canonical body; the members stand in RFC 8785 order."""
    utc = time.astimezone(UTC)
    text = _time_text(utc)
    octets = b'{"body":%b,"kind":"%b","number":%d,"prev":"%b","time":"%b"}' % (
        body,
        kind.encode(),
        number,
        prev.encode(),
        text.encode(),
    )
    return Entry(number, utc, kind, prev, octets)


def parse_entry(octets: bytes) -> Entry:
    """Read an entry strictly.

    :raises FormatError: ``record_entry_invalid``: not JSON, not canonical, or not an entry.
    """
    if len(octets) > MAX_LINE:
        raise FormatError("record_entry_invalid", f"longer than {MAX_LINE} octets")
    value = load_canonical(octets)
    if not isinstance(value, dict) or value.keys() != _MEMBERS:
        raise FormatError("record_entry_invalid", "the members are not those of an entry")
    number, time, kind, prev, body = (value[name] for name in ("number", "time", "kind", "prev", "body"))
    if type(number) is not int or number < 1:
        raise FormatError("record_entry_invalid", "number is not a positive integer")
    if not isinstance(body, dict) or not isinstance(prev, str) or not _PREV.fullmatch(prev):
        raise FormatError("record_entry_invalid", "body or prev is malformed")
    if not isinstance(kind, str) or not isinstance(time, str) or not _TIME.fullmatch(time):
        raise FormatError("record_entry_invalid", "kind or time is malformed")
    try:
        entry = Entry(number, datetime.fromisoformat(time), EntryKind(kind), prev, octets)
        _intent_of(entry.kind, body)
    except (ValueError, FormatError):
        raise FormatError("record_entry_invalid", "kind, time or body.intent is malformed") from None
    return entry


def load_canonical(octets: bytes) -> object:
    """Read JSON without floats that is exactly its own canonical form.

    :raises FormatError: ``record_entry_invalid``.
    """
    try:
        value: object = json.loads(octets.decode(), parse_float=_no_float, parse_constant=_no_float)
        canonical = rfc8785.dumps(value)  # type: ignore[arg-type]
    except (ValueError, RecursionError):
        raise FormatError("record_entry_invalid", "not JSON, or JSON an entry may not hold") from None
    if canonical != octets:
        raise FormatError("record_entry_invalid", "not in canonical form (RFC 8785)")
    return value


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"{text} is a float")


def _intent_of(kind: EntryKind, body: Mapping[str, object]) -> int | None:
    intent = body.get("intent")
    if "intent" in body and (kind not in _CLOSING or intent is None):
        raise FormatError(
            "record_body_invalid", "body.intent belongs to a signed, failed or admin entry, and only there"
        )
    if intent is not None and (type(intent) is not int or intent < 1):
        raise FormatError("record_body_invalid", "body.intent is the number of an entry")
    if intent is None and kind in OUTCOMES:
        raise FormatError("record_body_invalid", "body.intent is missing")
    return intent


def _check_container(container: object, depth: int) -> None:
    items: Iterable[object]
    if isinstance(container, dict):
        # ASCII names sort alike by code point (Python) and by UTF-16 unit (RFC 8785 3.2.3).
        if not all(isinstance(name, str) and name.isascii() for name in container):
            raise FormatError("record_body_invalid", "the names in the body of an entry are ASCII")
        items = container.values()
    elif isinstance(container, (list, tuple)):
        items = container
    else:
        raise FormatError("record_body_invalid", f"the body of an entry may not hold {type(container).__name__}")
    if depth == 0:
        raise FormatError("record_body_invalid", f"the body of the entry is nested deeper than {MAX_DEPTH} levels")
    for item in items:
        if isinstance(item, _PLAIN):
            continue
        if not isinstance(item, int):
            _check_container(item, depth - 1)
        elif abs(item) > MAX_INTEGER:
            raise FormatError("record_body_invalid", "the body of the entry holds an integer beyond 2^53-1")
