"""docs/applications.md says what is true: its codes, its numbers, its methods."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from sealagent.callers import grants, names, pairings
from sealagent.catalog import CATALOG
from sealagent.client import Agent
from sealagent.client import applications as sdk

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "applications.md").read_text(encoding="utf-8")


def test_codes_and_their_statuses() -> None:
    told = {
        code: int(status) for status, codes in re.findall(r"^\| (\d{3}) (.+?) \|", TEXT, re.M) for code in _code(codes)
    }
    assert len(told) == 5
    assert {code: CATALOG[code].status for code in told} == told
    assert "grant_spent" in CATALOG


def _code(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def test_numbers() -> None:
    assert f"{grants.MAX_GRANTS:,} grants and {pairings.MAX_APPLICATIONS} applications" in TEXT
    assert f"1 to {names.MAX_NAME} visible characters" in TEXT
    assert pairings.OPEN_FOR.total_seconds() == 300
    assert "within five minutes" in TEXT
    assert pairings.MAX_OPEN == 4
    assert "four in all" in TEXT
    assert sdk.TOKEN_FILE in TEXT


def test_methods_and_what_they_take() -> None:
    methods = set(re.findall(r"agent\.(\w+)\(", TEXT))
    assert methods == {"start_pairing", "complete_pairing", "add_grant", "grants", "remove_grant"}
    assert all(callable(getattr(Agent, name)) for name in methods)
    parameters = set(inspect.signature(Agent.add_grant).parameters)
    for call in re.findall(r"agent\.add_grant\((.+)\)", TEXT):
        assert set(re.findall(r"(\w+)=", call)) <= parameters
    assert "token_file" in inspect.signature(Agent.__init__).parameters
