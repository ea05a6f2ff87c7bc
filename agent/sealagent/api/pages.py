"""What web pages may ask: the rules that are checked before a body is read, and the headers that answers have.

A page is a stranger that happens to run on this machine. It is let in by four things together: the connection comes
from a program of this user; the request names this server and not another one that resolves to it (DNS rebinding); the
browser vouches for an origin that the administrator allowed; and the holder paired that origin. None of them can be
had by a form, an image, a script tag or a WebSocket of another site.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from sealagent.api.heads import Head
from sealagent.callers.peer import Caller
from sealagent.errors import FormatError, LimitExceeded, SealAgentError

__all__ = ["Admitted", "Identify", "PageRules", "answer_headers", "preflight_headers"]

Identify = Callable[[Caller, str | None], Awaitable[Caller]]
"""Completes a caller: its program's digest, and, with a token, the paired application that it is. Raises the named
error of a token that does not hold."""

SENDABLE = ("authorization", "content-type", "idempotency-key")
"""Headers that a page may set, beside those that need no leave."""
READABLE = ("SealAgent-Receipt", "Retry-After")
"""Headers of answers that a page may read."""
PREFLIGHT_SECONDS = 600
"""How long a browser may remember the answer to a preflight."""
FAILURES = 10
"""Failed tokens and started pairings of an origin within :data:`WINDOW_SECONDS`; further requests are turned away. No
page gets near it that was paired once."""
WINDOW_SECONDS = 60.0
BEARER = re.compile(r"Bearer ([A-Za-z0-9_-]{1,128})", re.IGNORECASE)
LENGTH = re.compile(r"[0-9]{1,15}")

_PAIR = re.compile(r"/v1/pairings(/[^/]{1,64}/complete)?")
"""The only resources without a token."""
_FOR_PAGES = {
    "GET": re.compile(
        r"/v1/(status|tokens|keys|seals(/[^/]+(/image)?)?|batches(/[^/]+)?|events|openapi\.json"
        r"|applications(/[^/]+)?|grants)"
    ),
    "POST": re.compile(
        r"/v1/(documents/(seal|verify)|(seals|keys)/[^/]+/signatures|pairings(/[^/]+/complete)?|grants"
        r"|batches(/[^/]+/(run|resume|cancel|items/[^/]+/document))?)"
    ),
    "DELETE": re.compile(r"/v1/(applications|grants)/[^/]+"),
}
"""What pages may reach at all: what sealing needs, and their own pairing and grants. Keys and seals to be written, the
record, trust and policy are the holder's business, who has the command line for them."""
METHODS = tuple(_FOR_PAGES)
_ODD_PATH = re.compile(r"/\.|%2[ef]|%5c", re.IGNORECASE)
"""What somebody may take for another path than it is written."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may go on."""

    caller: Caller
    fields: tuple[tuple[str, str], ...]
    """The fields the server behind is told."""
    length: int
    """Octets of its body."""


def answer_headers(origin: str | None) -> list[tuple[str, str]]:
    """Return the headers of every answer to a page.

    :param origin: an allowed one, which may read the answer; None: nobody may.
    """
    headers = [
        ("Vary", "Origin"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        # Keeps answers out of other sites' images, scripts and frames.
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ]
    if origin is not None:
        headers.append(("Access-Control-Allow-Origin", origin))
        headers.append(("Access-Control-Expose-Headers", ", ".join(READABLE)))
    return headers


def preflight_headers(head: Head, origin: str) -> list[tuple[str, str]]:
    """Answer a preflight of an allowed origin.

    :raises SealAgentError: ``preflight_refused``: it asks for more than pages may have.
    """
    method = head.one("access-control-request-method") or ""
    named = (head.one("access-control-request-headers") or "").lower()
    wanted = {name.strip() for name in named.split(",")} - {""}
    if method not in METHODS or not wanted <= set(SENDABLE):
        raise SealAgentError("preflight_refused", f"pages may use {', '.join(METHODS)} and set {', '.join(SENDABLE)}")
    headers = [
        *answer_headers(origin),
        ("Access-Control-Allow-Methods", ", ".join(METHODS)),
        ("Access-Control-Allow-Headers", ", ".join(SENDABLE)),
        ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
    ]
    # Private Network Access, which browsers before Chrome 142 asked for; Local Network Access, its successor, asks the
    # person instead of the server.
    if head.one("access-control-request-private-network") == "true":
        headers.append(("Access-Control-Allow-Private-Network", "true"))
    return headers


class PageRules:
    """The rules, in the order in which they are checked.

    :param owner_uid: the user whose agent this is. :param hosts: exact values of Host. :param origins: those allowed.
    :param identify: completes callers. :param body_octets: octets of the largest body.
    :param monotonic: seconds, for counting failures.
    """

    def __init__(
        self,
        *,
        owner_uid: int,
        hosts: frozenset[str],
        origins: frozenset[str],
        identify: Identify,
        body_octets: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._owner_uid = owner_uid
        self._hosts = hosts
        self._origins = origins
        self._identify = identify
        self._body_octets = body_octets
        self._monotonic = monotonic
        # Of allowed origins only, so there are no more than those.
        self._failures: dict[str, deque[float]] = {}

    def check_peer(self, caller: Caller) -> None:
        """Let only programs of the user pass. :raises SealAgentError: ``caller_not_allowed``."""
        if caller.uid != self._owner_uid:
            raise SealAgentError(
                "caller_not_allowed", f"user {caller.uid} may not use the agent of user {self._owner_uid}"
            )

    def check_host(self, head: Head) -> None:
        """Let only requests pass that name this server. :raises SealAgentError: ``loopback_host_refused``."""
        values = head.values("host")
        if len(values) != 1 or values[0] not in self._hosts:
            raise SealAgentError("loopback_host_refused", f"Host is {', '.join(values)[:200]!r}")

    def origin(self, head: Head) -> str | None:
        """Return the origin where it is an allowed one."""
        values = head.values("origin")
        return values[0] if len(values) == 1 and values[0] in self._origins else None

    def check_origin(self, head: Head) -> str:
        """Return the origin. :raises SealAgentError: ``origin_not_allowed``."""
        origin = self.origin(head)
        if origin is None:
            said = ", ".join(head.values("origin"))[:200]
            raise SealAgentError("origin_not_allowed", f"Origin is {said!r}" if said else "there is no Origin")
        return origin

    async def admit(self, head: Head, caller: Caller, origin: str) -> Admitted:
        """Check all that comes after peer, Host and Origin.

        :raises SealAgentError: ``too_many_attempts``, ``not_for_pages``, ``pairing_required``, those of a token that
            does not hold, ``method_not_allowed``.
        :raises FormatError: ``upgrade_refused``, ``http_refused``, ``media_type_unsupported``.
        :raises LimitExceeded: ``body_too_large``.
        """
        _check_plain(head)
        self._check_attempts(origin)
        caller = replace(caller, origin=origin, application=None)
        if not _FOR_PAGES[head.method].fullmatch(head.path) or _ODD_PATH.search(head.path):
            raise SealAgentError("not_for_pages", f"{head.method} {head.path[:200]} is not for web pages")
        pairing = head.method == "POST" and _PAIR.fullmatch(head.path) is not None
        token = None if pairing else self._token(head, origin)
        length = self._length(head)
        _check_media_type(head, length)
        # Last, since it may ask the holder about an application that changed.
        caller = await self._complete(caller, token, origin)
        if head.path == "/v1/pairings":
            self._attempted(origin)
        fields = [("Host", head.values("host")[0]), ("Origin", origin), ("Connection", "close")]
        if length or head.method not in ("GET", "DELETE"):
            fields.append(("Content-Length", str(length)))
        for name in ("content-type", "idempotency-key"):
            if value := head.one(name):
                fields.append((name.title(), value))
        return Admitted(caller, tuple(fields), length)

    def _token(self, head: Head, origin: str) -> str:
        presented = head.one("authorization")
        found = BEARER.fullmatch(presented) if presented is not None else None
        if found is None:
            if presented is not None:
                self._attempted(origin)
            raise SealAgentError("pairing_required", "there is no Authorization: Bearer TOKEN")
        return found[1]

    async def _complete(self, caller: Caller, token: str | None, origin: str) -> Caller:
        try:
            caller = await self._identify(caller, token)
        except SealAgentError:
            self._attempted(origin)
            raise
        if token is not None and caller.application is None:
            raise SealAgentError("pairing_required", "the token names no application")
        return caller

    def _attempted(self, origin: str) -> None:
        failures = self._failures.setdefault(origin, deque(maxlen=FAILURES))
        failures.append(self._monotonic())

    def _check_attempts(self, origin: str) -> None:
        failures = self._failures.get(origin)
        if failures is None:
            return
        now = self._monotonic()
        while failures and now - failures[0] >= WINDOW_SECONDS:
            failures.popleft()
        if len(failures) >= FAILURES:
            wait = int(WINDOW_SECONDS - (now - failures[0])) + 1
            raise SealAgentError("too_many_attempts", f"{origin} failed {FAILURES} times", retry_after=wait)

    def _length(self, head: Head) -> int:
        said = head.one("content-length")
        if said is None:
            return 0
        if not LENGTH.fullmatch(said):
            raise FormatError("http_refused", "Content-Length is no number")
        length = int(said)
        if length > self._body_octets:
            raise LimitExceeded("body_too_large", f"the body of a page's request may have {self._body_octets} octets")
        return length


def _check_plain(head: Head) -> None:
    """Let only whole, plain requests pass: no other protocol, no framing but Content-Length, nothing twice."""
    if head.values("upgrade") or "upgrade" in ",".join(head.values("connection")).lower():
        raise FormatError("upgrade_refused", "neither WebSocket nor another protocol is spoken here")
    for name, values in head.fields.items():
        if len(values) > 1:
            raise FormatError("http_refused", f"{name} is there {len(values)} times")
    for name in ("transfer-encoding", "expect", "te", "trailer", "content-encoding"):
        if head.values(name):
            raise FormatError("http_refused", f"{name} is not taken here; bodies have a Content-Length")
    if head.method not in METHODS:
        allowed = ", ".join(METHODS)
        raise SealAgentError("method_not_allowed", f"web pages may use {allowed}")


def _check_media_type(head: Head, length: int) -> None:
    """A body must be what no form, image or beacon of another site can send: that makes browsers ask first."""
    if head.method == "GET":
        if length:
            raise FormatError("http_refused", "a GET request has no body")
    elif length or head.method != "DELETE":
        media_type = (head.one("content-type") or "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise FormatError("media_type_unsupported", "requests of web pages must be application/json")
