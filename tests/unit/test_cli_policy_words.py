"""The policy in words, in both languages."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

from sealagent.callers import decide, policy
from sealagent.callers.policyfile import parse_policy
from sealagent.cli import policy_words
from sealagent.cli.policy_words import hints, limit_lines, reason, rule_line

RULES = """
[[rules]]
name = "invoices"
effect = "allow"
operations = ["document"]
executables = ["/opt/a", "/opt/b"]
seals = ["s1", "s2", "s3", "s4", "s5", "s6", "s7"]
hours = "22:00-06:00"
days = ["mon", "fri"]
not_before = 2027-01-01T08:00:00
per_day = 20
[[rules]]
name = "blind"
effect = "deny"
operations = ["digest", "raw"]
[[rules]]
name = "rest"
effect = "ask"
"""


@pytest.fixture(params=["en_US.UTF-8", "zh_CN.UTF-8"])
def language(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LC_ALL", request.param)
    return str(request.param)[:2]


def test_rules(language: str) -> None:
    lines = [rule_line(rule) for rule in parse_policy(RULES.encode(), "f").rules]
    if language == "en":
        assert lines == [
            "invoices: allows sealing documents; by the program /opt/a or /opt/b; with the seal s1, s2, s3, s4, s5 or "
            "2 more; on mon, fri; at 22:00-06:00; from 2027-01-01 08:00:00; at most 20 signatures a day",
            "blind: denies seal signatures over digests (blind) and bare signatures over digests (blind)",
            "rest: has the holder asked about everything",
        ]
    else:
        assert lines == [
            "invoices：允许为文件盖章；程序 /opt/a、/opt/b；印章 s1、s2、s3、s4、s5、另有 2 个；周一、五；"
            "每日 22:00-06:00；自 2027-01-01 08:00:00；每天至多 20 次签名",
            "blind：禁止对摘要的电子签章（不可见内容）、对摘要的裸签名（不可见内容）",
            "rest：须经持有人确认：一切操作",
        ]


def test_defaults_and_limits(language: str) -> None:
    usual = list(limit_lines(parse_policy(b"", "f")))
    text = "[defaults]\nraw = 'deny'\n[limits]\nblind_needs_pairing = false\nsession_grants = false\nbatch_items = 7\n"
    other = list(limit_lines(parse_policy(text.encode(), "f")))
    assert len(usual) == len(other) == 9
    differing = [line for line in other if line not in usual]
    assert len(differing) == 4
    assert any("7" in line for line in differing)


def test_hints(language: str, tmp_path: Path) -> None:
    script, link, program = tmp_path / "script", tmp_path / "link", Path(sys.executable).resolve()
    script.write_text("#!/bin/sh\n")
    link.symlink_to(program)
    paths = [script, link, program, tmp_path, tmp_path / "none"]
    listed = ", ".join(f"'{path}'" for path in paths)
    text = f"[[rules]]\nname='r'\neffect='allow'\noperations=['raw']\nexecutables=[{listed}]\n"
    found = list(hints(parse_policy(text.encode(), "f")))
    assert [line.split(": ")[1] for line in found] == [
        str(path) for path in (script, link, tmp_path, tmp_path / "none")
    ]
    assert str(program) in found[1]
    (broad,) = hints(parse_policy(b"[[rules]]\nname='r'\neffect='allow'\noperations=['raw']\nseals=['s']\n", "f"))
    assert broad.startswith("r: ")


def _sentences(module: Any, within: set[str]) -> set[str]:
    """Return the constant texts that functions of a module hand out as reasons."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in within]
    texts = {
        node.value
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text for text in texts if text.startswith(("it is", "it does", "the holder", "the caller", "digests"))}


def test_every_reason_has_chinese_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    said = _sentences(policy, {"_other_use", "_other_caller", "_other_time"}) | _sentences(
        decide, {"_steps", "explain"}
    )
    assert len(said) > 12
    assert said == set(policy_words._REASONS)
    for why in said:
        words = reason(why, {"kind": "limit", "effect": "deny", "matched": True})
        assert any("一" <= letter <= "鿿" for letter in words)


@pytest.mark.parametrize("effect", ["allow", "ask", "deny"])
def test_reasons_that_quote(language: str, effect: str) -> None:
    for kind in ("rule", "default"):
        words = reason("the rule 'x' of the policy says so", {"kind": kind, "effect": effect, "matched": True})
        assert (words == "the rule 'x' of the policy says so") is (language == "en")
    words = reason("3 signatures\x1b are left of it", {"kind": "grant", "effect": "allow", "matched": False})
    assert words == "3 signatures� are left of it"
