"""Errors on the socket: RFC 9457 problem details with a stable ``code`` and both languages."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

from sealagent.errors import SealAgentError
from sealagent.problem_details import PROBLEM_MEDIA_TYPE, problem_body
from sealdrivers.errors import DriverError

__all__ = ["CHALLENGE", "PROBLEM_MEDIA_TYPE", "problem_body", "problem_octets", "problem_response"]

CHALLENGE = 'Bearer realm="sealagent", error="invalid_token"'
"""``WWW-Authenticate`` of every answer with status 401."""


def problem_octets(error: SealAgentError | DriverError) -> tuple[int, bytes]:
    """Return HTTP status and JSON octets of an error."""
    facts = error.facts if isinstance(error, SealAgentError) else error.facts()
    body = problem_body(error.code, error.message, facts)
    # A path on a file system or in a URL need not be UTF-8.
    return body["status"], json.dumps(body, ensure_ascii=False, default=str).encode(errors="backslashreplace")


def problem_response(error: SealAgentError | DriverError, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the response for an error."""
    status, octets = problem_octets(error)
    if status == 401:  # RFC 9110 §15.5.2 wants the field, RFC 6750 §3 says what is in it
        headers = {**(headers or {}), "WWW-Authenticate": CHALLENGE}
    return web.Response(status=status, body=octets, content_type=PROBLEM_MEDIA_TYPE, headers=headers)
