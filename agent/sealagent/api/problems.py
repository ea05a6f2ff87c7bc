"""Errors on the socket: RFC 9457 problem details with a stable ``code`` and both languages."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from sealagent.catalog import problem
from sealagent.errors import SealAgentError
from sealdrivers.errors import DriverError

__all__ = ["problem_body", "problem_response"]


def problem_body(code: str, detail: str, facts: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the problem details of an error as JSON values.

    ``facts`` (``tries_left``, ``locked``, ``reasons``, …) never override the standard members.
    """
    known = problem(code)
    return {
        **(facts or {}),
        "type": f"urn:sealagent:error:{code.replace('_', '-')}",
        "code": code,
        "status": known.status,
        "title": known.title,
        "title_zh": known.title_zh,
        "detail": detail,
        "next_step": known.next_step,
        "next_step_zh": known.next_step_zh,
    }


def problem_response(error: SealAgentError | DriverError) -> web.Response:
    """Return the response for an error."""
    facts = error.facts if isinstance(error, SealAgentError) else error.facts()
    body = problem_body(error.code, error.message, facts)
    return web.Response(
        status=body["status"],
        body=json.dumps(body, ensure_ascii=False, default=str).encode(),
        content_type="application/problem+json",
    )
