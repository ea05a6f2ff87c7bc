"""What of the agent's interface an extension reaches: a fixed list, and nothing that administers the agent.

Tokens' PINs, keys and seals to be written, trust lists, grants, policy and the whole record are the holder's business,
who has the command line for it.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from sealagent.errors import FormatError, SealAgentError

__all__ = ["BRIDGED", "EVENTS", "RECORD", "bridged_path"]

EVENTS = "/v1/events"
RECORD = "/v1/records/{}"
"""Only entries that are about the extension's own requests are shown."""

BRIDGED = frozenset(
    {
        ("GET", "/v1/status"),
        ("GET", EVENTS),
        ("GET", "/v1/keys"),
        ("GET", "/v1/seals"),
        ("GET", "/v1/seals/{}"),
        ("GET", "/v1/seals/{}/image"),
        ("GET", RECORD),
        ("POST", "/v1/documents/seal"),
        ("POST", "/v1/documents/verify"),
        ("POST", "/v1/seals/{}/signatures"),
        ("POST", "/v1/keys/{}/signatures"),
        ("POST", "/v1/pairings"),
        ("POST", "/v1/pairings/{}/complete"),
        ("POST", "/v1/batches"),
        ("GET", "/v1/batches/{}"),
        ("POST", "/v1/batches/{}/items/{}/document"),
        ("POST", "/v1/batches/{}/run"),
        ("POST", "/v1/batches/{}/resume"),
        ("POST", "/v1/batches/{}/cancel"),
    }
)
"""Method and path; ``{}`` stands for one segment."""

MAX_PATH = 2048
"""Characters of a path with its query: a key's URI is some 300 and may be percent-encoded twice."""

_PATH = re.compile(r"/[A-Za-z0-9._~%:@!$&'()*+,;=/-]*", re.ASCII)
_QUERY = re.compile(r"[A-Za-z0-9._~%:@!$'()*+,;=&/-]*", re.ASCII)
_BY_LENGTH: dict[tuple[str, int], list[tuple[str, list[str]]]] = {}
for _method, _template in sorted(BRIDGED):
    _parts = _template[1:].split("/")
    _BY_LENGTH.setdefault((_method, len(_parts)), []).append((_template, _parts))


def bridged_path(method: str, path: str) -> tuple[str, str]:
    """Return the template that a request's path fits, and the path as it is sent: each segment encoded anew.

    :raises FormatError: ``message_invalid``: no path. :raises SealAgentError: ``route_not_bridged``.
    """
    bare, mark, query = path.partition("?")
    if len(path) > MAX_PATH or not _PATH.fullmatch(bare) or not _QUERY.fullmatch(query):
        raise FormatError("message_invalid", f"path must be that of a URL, of at most {MAX_PATH} characters")
    segments = [unquote(segment, errors="surrogateescape") for segment in bare[1:].split("/")]
    if not {"", ".", ".."} & set(segments):
        for template, parts in _BY_LENGTH.get((method, len(segments)), ()):
            if all(part in ("{}", segment) for part, segment in zip(parts, segments, strict=True)):
                sent = "/".join(quote(segment, safe="", errors="surrogateescape") for segment in segments)
                return template, f"/{sent}{mark}{query}"
    raise SealAgentError("route_not_bridged", f"{method} {bare[:200]} is not among what browser extensions may ask for")
