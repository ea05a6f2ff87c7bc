"""How entries of the record read: every fact a person asks for, in both languages, nothing a terminal would obey."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealagent.cli.record_text import _OPERATIONS, explain_entry, operation_text

PROJECT = Path(__file__).resolve().parents[2]

CALLER = {
    "uid": 1000,
    "gid": 1000,
    "pid": 4242,
    "executable": "/usr/bin/wps",
    "started": 7,
    "sha256": "ab" * 32,
    "parent": "/usr/bin/bash",
    "application": {"id": "0011aabb", "name": "办公软件"},
}
INTENT: dict[str, Any] = {
    "number": 16,
    "time": "2026-11-28T01:02:03.000004Z",
    "kind": "intent",
    "prev": "",
    "hash": "aa" * 32,
    "body": {
        "caller": CALLER,
        "operation": "document",
        "document": {"name": "采购合同.ofd", "format": "ofd", "sm3": "cd" * 32},
        "seal": {"id": "01", "es_id": "1101", "name": "某某公司合同专用章", "sm3": "ef" * 32},
        "key": "pkcs11:token=a;id=%01",
        "certificate": {"serial": "17", "sha256": "00" * 32},
        "authorization": {"source": "default", "name": "document", "agreed": "pin"},
    },
}


def outcome(kind: str, **body: Any) -> dict[str, Any]:
    return {**INTENT, "number": 17, "kind": kind, "body": {"intent": 16, **body}}


def told(entry: dict[str, Any], other: dict[str, Any] | None) -> str:
    return "\n".join(f"{label}: {text}" for label, text in explain_entry(entry, other))


@pytest.fixture(params=["en_GB.UTF-8", "zh_CN.UTF-8"])
def locale(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LC_ALL", request.param)
    return str(request.param)


def test_a_signature_is_explained_from_either_half(locale: str) -> None:
    signed = outcome(
        "signed", signature_sha256="99" * 32, timestamp={"time": "2026-11-28T01:02:04Z", "authority": "TSA"}
    )
    for text in (told(signed, INTENT), told(INTENT, signed)):
        for fact in (
            "办公软件",
            "/usr/bin/wps",
            "4242",
            "/usr/bin/bash",
            "采购合同.ofd",
            "cd" * 32,
            "某某公司合同专用章",
        ):
            assert fact in text
        assert "PIN" in text
        assert "99" * 32 in text
        assert ("签名已产生" in text) is locale.startswith("zh")
        assert ("a signature was made" in text) is locale.startswith("en")


def test_a_failure_says_why_and_what_to_do(locale: str) -> None:
    text = told(outcome("failed", reason="pin_incorrect", detail="the PIN is wrong", tries_left=2), INTENT)
    assert "pin_incorrect" in text
    assert ": 2" in text
    assert "→" in text


def test_a_refusal_stands_alone_and_lists_its_reasons(locale: str) -> None:
    body = {
        **INTENT["body"],
        "reason": "seal_not_valid",
        "detail": "no",
        "reasons": [{"code": "seal_suspended", "detail": "since"}, "… 3 more"],
    }
    text = told({**INTENT, "kind": "refused", "body": body}, None)
    assert "seal_suspended" in text
    assert "… 3 more" in text


def test_an_intent_without_an_outcome_is_no_signature(locale: str) -> None:
    text = told(INTENT, None)
    assert ("尚无" in text) is locale.startswith("zh")
    assert "99" * 32 not in text


def test_old_entries_and_unknown_ones_are_shown_as_they_are(locale: str) -> None:
    """Records outlive releases: what was not kept then, or is not known now, is left out or named plainly."""
    bare = {**INTENT, "kind": "admin", "body": {"operation": "unheard_of"}}
    text = told(bare, None)
    assert "unheard_of" in text
    assert told({**INTENT, "kind": "future", "body": {}}, None)


def test_nothing_a_terminal_would_obey(locale: str) -> None:
    body = {**INTENT["body"], "document": {"name": "\x1b[31mred\u202e.ofd"}}
    text = told({**INTENT, "body": body}, None)
    assert "\x1b" not in text
    assert "\u202e" not in text


def _operations() -> Iterator[str]:
    """Yield what the source puts on record as an operation."""
    for file in (PROJECT / "agent" / "sealagent").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
                "administered",
                "change",
            ):
                yield from (a.value for a in node.args[2:3] if isinstance(a, ast.Constant) and isinstance(a.value, str))
            if isinstance(node, ast.Dict) and "signing" in file.parts:
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "operation" and isinstance(value, ast.Constant):
                        yield str(value.value)


def test_every_operation_has_words() -> None:
    found = set(_operations())
    assert {"document", "digest", "pair", "generate_key", "batch"} <= found
    assert found - set(_OPERATIONS) == set()


def test_acts_name_what_they_are_about(locale: str) -> None:
    body = {
        "caller": CALLER,
        "operation": "rename_application",
        "application": {"id": "app-1", "name": "旧名", "new_name": "新名"},
        "grant": {"id": "g1", "operation": "document", "count": 5, "seal": None},
        "batch": {"id": "b1", "total": 3},
    }
    text = told({**INTENT, "kind": "admin", "body": body}, None)
    for fact in ("旧名 → 新名", "app-1", "count 5", "total 3"):
        assert fact in text
    assert "None" not in text


def test_blind_operations_are_called_so(locale: str) -> None:
    for operation in ("digest", "seal_digest"):
        assert ("blind" in operation_text(operation)) or ("盲签" in operation_text(operation))
    assert "blind" not in operation_text("document")
