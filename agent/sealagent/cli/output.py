"""How the command line talks: data on standard output, talk on standard error, JSON when asked."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from sealagent.catalog import Exit, problem
from sealagent.client.errors import AgentError
from sealagent.errors import SealAgentError

__all__ = ["chinese", "clean", "json_option", "print_json", "report_error", "table", "verdict_mark"]

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def chinese() -> bool:
    """Say whether messages to people are in Chinese (LC_ALL, LC_MESSAGES, LANG)."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(variable):
            return value.startswith("zh")
    return False


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def clean(text: object) -> str:
    """Return text without control characters: names come from files and devices."""
    return "".join(letter if letter.isprintable() else "�" for letter in str(text))


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns; Chinese characters count as two."""
    lines = [[clean(cell) for cell in row] for row in rows]
    lines.insert(0, list(header))
    widths = [max(_width(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        padded = [cell + " " * (widths[column] - _width(cell)) for column, cell in enumerate(line)]
        click.echo("  ".join(padded).rstrip())


def verdict_mark(verdict: str) -> str:
    """Return the verdict in colour where colours are wanted (NO_COLOR, terminal)."""
    if os.environ.get("NO_COLOR"):
        return verdict
    return click.style(verdict, fg={"valid": "green", "invalid": "red"}.get(verdict, "yellow"))


def report_error(error: Exception) -> int:
    """Print an error with its next step on standard error; return the exit status.

    :raises Exception: anything that has no name is a fault of ours and keeps its trace.
    """
    if isinstance(error, AgentError):
        code, detail, facts = error.code, error.detail, error.problem
    elif isinstance(error, SealAgentError):
        code, detail, facts = error.code, error.message, dict(error.facts)
    elif isinstance(error, OSError):
        click.echo(f"error: {clean(error.filename or '')}: {error.strerror}", err=True)
        return Exit.FAILURE
    else:
        raise error
    known = problem(code)
    zh = chinese()
    click.echo(f"{'错误' if zh else 'error'}: {known.title_zh if zh else known.title} ({code})", err=True)
    click.echo(f"  {clean(detail)}", err=True)
    for reason in facts.get("reasons", ()):
        click.echo(f"  - {clean(reason['code'])}: {clean(reason['detail'])}", err=True)
    if facts.get("tries_left") is not None:
        click.echo(f"  {'剩余次数' if zh else 'tries left'}: {facts['tries_left']}", err=True)
    elif facts.get("final_try"):
        click.echo(f"  {'仅剩最后一次尝试' if zh else 'the next wrong PIN locks the token'}", err=True)
    click.echo(f"  → {known.next_step_zh if zh else known.next_step}", err=True)
    return known.exit
