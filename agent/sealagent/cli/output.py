"""How the command line talks: data on standard output, talk on standard error, JSON when asked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

from sealagent.client.errors import AgentError
from sealagent.errors import SealAgentError

__all__ = [
    "chinese",
    "clean",
    "json_option",
    "json_text",
    "print_json",
    "report_error",
    "say",
    "table",
    "table_lines",
    "text_width",
    "usable",
    "usb_key",
    "verdict_mark",
]

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def chinese() -> bool:
    """Say whether messages to people are in Chinese (LC_ALL, LC_MESSAGES, LANG)."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(variable):
            return value.startswith("zh")
    return False


def say(english: str, chinese_text: str) -> str:
    """Return the words in the language of messages."""
    return chinese_text if chinese() else english


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    click.echo(json_text(value))


def json_text(value: Any) -> str:
    """Return a value as JSON, readable, and with what a terminal would obey escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return "\n".join(line if line.isprintable() else _escaped(line) for line in text.split("\n"))


def _escaped(line: str) -> str:
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in line)


def clean(text: object) -> str:
    """Return text without control characters: names come from files and devices."""
    return "".join(letter if letter.isprintable() else "�" for letter in str(text))


def text_width(text: str) -> int:
    """Return the columns a text takes; Chinese characters count as two."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns; Chinese characters count as two."""
    for line in table_lines(header, rows):
        click.echo(line)


def table_lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return aligned columns, the header first."""
    lines = [[clean(cell) for cell in row] for row in rows]
    lines.insert(0, list(header))
    widths = [max(text_width(line[column]) for line in lines) for column in range(len(header))]
    padded = [[cell + " " * (widths[column] - text_width(cell)) for column, cell in enumerate(line)] for line in lines]
    return ["  ".join(line).rstrip() for line in padded]


def verdict_mark(verdict: str) -> str:
    """Return the verdict in words, in colour where colours are wanted (NO_COLOR, terminal)."""
    colour, word = {
        "valid": ("green", "有效"),
        "invalid": ("red", "无效"),
        "indeterminate": ("yellow", "无法确定"),
    }.get(verdict, ("yellow", clean(verdict)))
    text = say(clean(verdict), word)
    return text if os.environ.get("NO_COLOR") else click.style(text, fg=colour)


def usable(seal: Mapping[str, Any]) -> str:
    """Say whether a seal can be used now, and if not, why."""
    if seal["usable"]:
        return say("yes", "可用") + (
            say(" (software key: test only)", "（软件密钥，仅供测试）") if seal["software"] else ""
        )
    if seal["verdict"] == "valid":
        return say("plug in its key", "请插入其钥匙")
    return say("no: ", "不可用：") + ", ".join(reason["code"] for reason in seal["reasons"])


def usb_key(device: Mapping[str, Any]) -> str:
    """Return numbers, serial and state of a plugged-in USB key in one line."""
    numbers = f"{device['vendor_id']}:{device['product_id']}"
    serial = f" {device['serial']}" if device["serial"] else ""
    return clean(f"{numbers}{serial} {say(device['message'], device['message_zh'])}")


def report_error(error: Exception) -> int:
    """Print an error with its next step on standard error; return the exit status.

    :raises Exception: anything that has no name is a fault of ours and keeps its trace.
    """
    from sealagent.catalog import Exit, problem  # a large table, of use only now
    from sealdrivers.errors import DriverError

    if isinstance(error, AgentError):
        code, detail, facts = error.code, error.detail, error.problem
    elif isinstance(error, SealAgentError):
        code, detail, facts = error.code, error.message, dict(error.facts)
    elif isinstance(error, DriverError):  # the maker's commands use its tokens themselves
        code, detail, facts = error.code, error.message, error.facts()
    elif isinstance(error, OSError):
        named = f"{clean(error.filename)}: " if error.filename else ""
        click.echo(f"{say('error', '错误')}: {named}{error.strerror or clean(error)}", err=True)
        return Exit.FAILURE
    else:
        raise error
    known = problem(code)
    click.echo(f"{say('error', '错误')}: {say(known.title, known.title_zh)} ({clean(code)})", err=True)
    click.echo(f"  {clean(detail)}", err=True)
    for reason in facts.get("reasons", ()):
        click.echo(f"  - {clean(reason['code'])}: {clean(reason['detail'])}", err=True)
    if facts.get("tries_left") is not None:
        click.echo(f"  {say('tries left', '剩余次数')}: {facts['tries_left']}", err=True)
    elif facts.get("final_try"):
        click.echo(f"  {say('the next wrong PIN locks the token', '仅剩最后一次尝试')}", err=True)
    click.echo(f"  → {say(known.next_step, known.next_step_zh)}", err=True)
    return known.exit
