"""Errors as RFC 9457 problem details: the same members on the socket and in what the browser bridge answers."""

from __future__ import annotations

from typing import Any

from sealagent.catalog import problem

__all__ = ["PROBLEM_MEDIA_TYPE", "problem_body"]

PROBLEM_MEDIA_TYPE = "application/problem+json"


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
