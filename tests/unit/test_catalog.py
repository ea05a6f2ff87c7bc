"""One table of error codes: every code the source raises is in it, and none that it does not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from sealagent.catalog import CATALOG, Exit
from sealdrivers.errors import DriverError
from sealdrivers.vendors import VendorTableInvalid

PROJECT = Path(__file__).resolve().parents[2]

ERRORS = {"SealAgentError", "FormatError", "LimitExceeded", "AgentError"}
ANSWERED_BY_CLIENT = {"agent_unreachable", "agent_timeout", "agent_failed"}
"""Codes that the SDK gives itself."""


def _raised() -> Iterator[str]:
    for file in (PROJECT / "agent" / "sealagent").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value


def test_every_code_is_in_the_catalog_and_every_entry_is_used() -> None:
    drivers = {*DriverError._registry, DriverError.code, VendorTableInvalid.code}
    raised = set(_raised()) | drivers
    assert raised - set(CATALOG) == set(), "raised but not in the catalog"
    text = "\n".join(file.read_text(encoding="utf-8") for file in (PROJECT / "agent" / "sealagent").rglob("*.py"))
    unused = {code for code in set(CATALOG) - raised if text.count(f'"{code}"') < 2}
    assert unused - ANSWERED_BY_CLIENT == set(), "in the catalog but never raised"


def test_every_problem_speaks_both_languages_and_says_what_to_do() -> None:
    for code, problem in CATALOG.items():
        assert problem.title, code
        assert problem.next_step.endswith("."), code
        assert any("一" <= letter <= "鿿" for letter in problem.title_zh), code
        assert any("一" <= letter <= "鿿" for letter in problem.next_step_zh), code
        assert 400 <= problem.status < 600, code
        assert problem.exit is not Exit.OK
