"""What a browser extension may say to the bridge, checked before anything is done for it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sealagent.browser.framing import Assembly
from sealagent.browser.routes import bridged_path
from sealagent.errors import FormatError

__all__ = ["Cancel", "Part", "Request", "ident_of", "read_json", "read_message"]

MAX_ID = 2**53 - 1
"""The largest integer that JavaScript keeps."""
MAX_TOKEN = 256
"""Characters of a token; the agent's have 43."""
MAX_KEY = 128
"""Characters of an Idempotency-Key, as the agent takes them."""
MAX_PAGE = 512
"""Characters of a page's origin; a host name has 253 at most."""

_VISIBLE = re.compile(r"[\x21-\x7e]+", re.ASCII)
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Request:
    """Something to be asked of the agent."""

    id: int
    method: str
    path: str
    """As it is sent to the agent."""
    template: str
    """The bridged route it belongs to."""
    body: dict[str, Any] | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    idempotency_key: str | None = None
    page: str | None = None
    """Origin of the web page that the extension acts for, as the extension says."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """An end to what was asked for under this id."""

    id: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a request that is too large for one message."""

    id: int
    number: int
    last: bool
    data: str = field(repr=False)

    def into(self, assembly: Assembly) -> int:
        """Add it to the others. :raises FormatError: see :meth:`Assembly.add`."""
        return assembly.add(self.number, self.data)


def read_json(octets: bytes) -> dict[str, Any]:
    """Read the JSON object of a message.

    :raises FormatError: ``message_invalid``: not UTF-8, no JSON, no object, nested too deep, a member twice, or a
        number that JSON does not know.
    """
    try:
        value = json.loads(octets.decode("utf-8"), object_pairs_hook=_members, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else "no JSON in UTF-8, or a member comes twice"
        raise FormatError("message_invalid", f"the message is {what}") from None  # what it says is not repeated
    if not isinstance(value, dict):
        raise FormatError("message_invalid", "a message is a JSON object")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member comes twice")
    return members


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def ident_of(message: Mapping[str, Any]) -> int:
    """Return the id of a message. :raises FormatError: ``message_invalid``."""
    ident = message.get("id")
    if type(ident) is not int or not 0 <= ident <= MAX_ID:
        raise FormatError("message_invalid", "id must be an integer from 0 to 2^53-1")
    return ident


def read_message(message: Mapping[str, Any], *, assembled: bool = False) -> Request | Cancel | Part:
    """Check a message and return what it is.

    :param assembled: it came in parts, and must be a request then.
    :raises FormatError: ``message_invalid``, naming the member. :raises SealAgentError: ``route_not_bridged``.
    """
    ident = ident_of(message)
    if "cancel" in message and not assembled:
        _only(message, "id", "cancel")
        if message["cancel"] is not True:
            raise FormatError("message_invalid", "cancel can only be true")
        return Cancel(ident)
    if "part" in message and not assembled:
        _only(message, "id", "part", "last", "data")
        number, last, data = message["part"], message.get("last"), message.get("data")
        if type(number) is not int or not isinstance(last, bool) or not isinstance(data, str):
            raise FormatError("message_invalid", "a part has the members part (integer), last (boolean), data (text)")
        return Part(ident, number, last, data)
    _only(message, "id", "method", "path", "body", "token", "idempotency_key", "page")
    method, path, body = message.get("method", "GET"), message.get("path"), message.get("body")
    if not isinstance(method, str) or method not in _METHODS:
        raise FormatError("message_invalid", f"method must be one of {', '.join(sorted(_METHODS))}")
    if not isinstance(path, str):
        raise FormatError("message_invalid", "path must be a text")
    if body is not None and not isinstance(body, dict):
        raise FormatError("message_invalid", "body must be an object")
    if body is not None and method == "GET":
        raise FormatError("message_invalid", "GET has no body")
    template, sent = bridged_path(method, path)
    return Request(
        ident,
        method,
        sent,
        template,
        body,
        _text(message, "token", MAX_TOKEN),
        _text(message, "idempotency_key", MAX_KEY),
        _text(message, "page", MAX_PAGE),
    )


def _only(message: Mapping[str, Any], *names: str) -> None:
    if foreign := set(message) - set(names):
        raise FormatError("message_invalid", f"a message of this kind has no member {min(foreign)[:64]!r}")


def _text(message: Mapping[str, Any], name: str, longest: int) -> str | None:
    """Return a member that becomes the value of an HTTP header."""
    value = message.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > longest or not _VISIBLE.fullmatch(value):
        raise FormatError("message_invalid", f"{name} must be 1 to {longest} visible ASCII characters")
    return value
