"""For which browser extension a process asks: the word of a process that a browser started.

A native messaging host (docs/native-messaging.md) says for whom it asks. It is believed only where the kernel says that
its parent is a browser: nobody else can be started by one for another extension than the browser says, short of
malware of the same user that tampers with the host's own files. Without that, the request is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from sealagent.callers.peer import Caller
from sealagent.errors import FormatError, SealAgentError

__all__ = ["BROWSER_PROGRAMS", "ORIGIN_HEADER", "PAGE_HEADER", "acting_for", "browser_programs"]

ORIGIN_HEADER = "SealAgent-Origin"
PAGE_HEADER = "SealAgent-Page"

BROWSER_PROGRAMS = frozenset(
    {
        "/usr/lib/chromium/chromium",  # Debian, Arch
        "/usr/lib64/chromium-browser/chromium-browser",  # Fedora
        "/opt/google/chrome/chrome",
        "/opt/google/chrome-beta/chrome",
        "/opt/google/chrome-unstable/chrome",
        "/opt/microsoft/msedge/msedge",
        "/opt/microsoft/msedge-beta/msedge",
        "/opt/microsoft/msedge-dev/msedge",
        "/usr/lib/firefox-esr/firefox-esr",  # Debian
        "/usr/lib/firefox/firefox",  # Arch, Debian, Mozilla's own packages
        "/usr/lib64/firefox/firefox",  # Fedora
        "/opt/firefox/firefox",
    }
)
"""Program files of browsers, as the kernel names what runs (not the scripts that start them)."""

_ORIGIN = re.compile(r"(chrome|moz)-extension://[A-Za-z0-9._@{}-]{1,128}", re.ASCII)
_PAGE = re.compile(r"[\x21-\x7e]{1,512}", re.ASCII)


def browser_programs(more: Iterable[str]) -> frozenset[str]:
    """Return the program files that count as browsers. :param more: those of ``[browser] programs``."""
    return BROWSER_PROGRAMS | frozenset(more)


def acting_for(caller: Caller, origin: str | None, page: str | None, programs: frozenset[str]) -> Caller:
    """Return the caller with the extension it asks for.

    :param caller: at the Unix socket, its parent looked up. :param origin: value of :data:`ORIGIN_HEADER`.
    :param page: value of :data:`PAGE_HEADER`. :param programs: that count as browsers.
    :raises FormatError: ``request_invalid``: the headers are malformed.
    :raises SealAgentError: ``origin_not_proven``: the caller was not started by a browser.
    """
    if origin is None:
        if page is not None:
            raise FormatError("request_invalid", f"{PAGE_HEADER} goes with {ORIGIN_HEADER}")
        return caller
    if not _ORIGIN.fullmatch(origin) or (page is not None and not _PAGE.fullmatch(page)):
        raise FormatError(
            "request_invalid", f"{ORIGIN_HEADER} names a browser extension, {PAGE_HEADER} a page's origin"
        )
    if caller.parent is None or caller.parent not in programs:
        parent = caller.parent or "a program that is not known"
        raise SealAgentError("origin_not_proven", f"process {caller.pid} was started by {parent}, which is no browser")
    return replace(caller, origin=origin, page=page)
