"""The decision: its order, and that a prohibition is final."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caller_parts import PYTHON, connected
from sealagent.callers.decide import decide, decider, explain
from sealagent.callers.grants import mismatch
from sealagent.callers.model import Effect, Grant, Paired
from sealagent.callers.peer import Caller, peer_of
from sealagent.callers.policy import Policy
from sealagent.errors import SealAgentError
from sealagent.uses import Operation, Use

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
PAIRED = Caller(1000, 1000, 42, "/usr/bin/app", 7, "ab" * 32, application=Paired("app-1", "财务系统"))
UNPAIRED = replace(PAIRED, application=None)
KEYS = ["pkcs11:serial=1;id=%01;type=private", "pkcs11:serial=2;id=%01;type=private"]
USE = Use(Operation.DOCUMENT, KEYS[0], "pkcs11:serial=1", "seal-1", ("1", "公章"), "ofd")


class Book:
    """A grant book in memory, by the matching of the real one."""

    def __init__(self, *grants: Grant) -> None:
        self.grants = grants

    def matching(self, caller: Caller, use: Use, now: datetime) -> Sequence[Grant]:
        return [grant for grant in self.considered(caller) if mismatch(grant, use, now) is None]

    def considered(self, caller: Caller) -> Sequence[Grant]:
        return [grant for grant in self.grants if caller.application and grant.grantee == caller.application.id]


def policy(*rules: dict[str, Any], **tables: Any) -> Policy:
    named = [{"name": f"{each['effect']} {number}", **each} for number, each in enumerate(rules)]
    return Policy.model_validate({"rules": named, **tables})


def grant(effect: Effect, **values: Any) -> Grant:
    assert effect is not Effect.ASK
    return Grant(f"grant-{effect.value}", "app-1", effect, **{"operation": Operation.DOCUMENT, **values})


DENY: dict[str, Any] = {"effect": "deny"}
ALLOW: dict[str, Any] = {"effect": "allow", "operations": ["document", "digest", "raw", "manage"]}
ASK: dict[str, Any] = {"effect": "ask"}
NEVER, ALWAYS = grant(Effect.DENY), grant(Effect.ALLOW)


def test_order() -> None:
    """Everything that says something is taken away, one after the other; the next decides."""
    steps: list[tuple[Policy, Book, str, Effect]] = [
        (policy(ASK, ALLOW, DENY), Book(ALWAYS, NEVER), "deny 2", Effect.DENY),
        (policy(ASK, ALLOW), Book(ALWAYS, NEVER), "grant-deny", Effect.DENY),
        (policy(ASK, ALLOW), Book(ALWAYS), "allow 1", Effect.ALLOW),
        (policy(ASK), Book(ALWAYS), "grant-allow", Effect.ALLOW),
        (policy(ASK, defaults={"document": "deny"}), Book(), "ask 0", Effect.ASK),
        (policy(defaults={"document": "deny"}), Book(), "document", Effect.DENY),
        (policy(), Book(), "document", Effect.ASK),
    ]
    for rules, book, name, effect in steps:
        decision = decide(rules, book, PAIRED, USE, NOW)
        assert (decision.name, decision.effect) == (name, effect)
        assert decision.why
    assert decide(policy(ASK, ALLOW), Book(NEVER), PAIRED, USE, NOW).source == "grant"


def test_first_of_several_is_named_and_its_count_goes_along() -> None:
    two = policy({**ALLOW, "per_day": 5}, {**ALLOW, "per_day": 7})
    decision = decide(two, Book(), UNPAIRED, USE, NOW)
    assert (decision.name, decision.per_day, decision.source) == ("allow 0", 5, "rule")
    assert decide(policy(), Book(), UNPAIRED, USE, NOW).per_day is None


@pytest.mark.parametrize("operation", list(Operation))
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("demanded", [True, False])
@pytest.mark.parametrize("default", list(Effect))
def test_blind_needs_pairing(operation: Operation, paired: bool, demanded: bool, default: Effect) -> None:
    use = Use(operation, KEYS[0], "t")
    rules = policy(limits={"blind_needs_pairing": demanded}, defaults={operation.value: default.value})
    decision = decide(rules, Book(), PAIRED if paired else UNPAIRED, use, NOW)
    if operation.blind and demanded and not paired:
        assert (decision.effect, decision.source, decision.name) == (Effect.DENY, "limit", "blind_needs_pairing")
    else:
        assert (decision.effect, decision.source, decision.name) == (default, "default", operation.value)
    allowed = decide(policy(ALLOW), Book(), UNPAIRED, use, NOW)  # the administrator says so by name
    assert allowed.effect is Effect.ALLOW


def test_grant_that_does_not_fit() -> None:
    for other in (
        grant(Effect.ALLOW, operation=Operation.RAW),
        grant(Effect.ALLOW, seal="seal-2"),
        grant(Effect.ALLOW, formats=("pdf",)),
        grant(Effect.ALLOW, expires=NOW),
        grant(Effect.ALLOW, remaining=0),
    ):
        decision = decide(policy(), Book(other), PAIRED, USE, NOW)
        assert decision.source == "default"
        explained = explain(policy(), Book(other), PAIRED, USE, NOW)
        (step,) = [step for step in explained.steps if step.kind == "grant"]
        assert not step.matched
        assert step.why not in ("", "the holder granted it")


def test_explanation_names_everything() -> None:
    rules = policy(DENY | {"seals": ["别的章"]}, ALLOW | {"executables": ["/usr/bin/app"]}, ASK)
    found = explain(rules, Book(NEVER, ALWAYS), UNPAIRED, Use(Operation.RAW, KEYS[0], "t"), NOW)
    assert [(step.kind, step.name, step.matched) for step in found.steps] == [
        ("rule", "deny 0", False),
        ("rule", "allow 1", True),
        ("rule", "ask 2", True),
        ("limit", "blind_needs_pairing", True),
        ("default", "raw", True),
    ]
    assert found.decision == decide(rules, Book(), UNPAIRED, Use(Operation.RAW, KEYS[0], "t"), NOW)
    with_grants = explain(rules, Book(NEVER, ALWAYS), PAIRED, USE, NOW)
    assert [step.name for step in with_grants.steps if step.kind == "grant"] == ["grant-deny", "grant-allow"]


def test_local_time_is_that_of_the_zone() -> None:
    rules = policy(DENY | {"hours": "20:00-21:00", "days": ["sat"]})
    for zone, effect in ((timezone(timedelta(hours=8)), Effect.DENY), (UTC, Effect.ASK)):
        assert decide(rules, Book(), PAIRED, USE, NOW, zone).effect is effect
        assert explain(rules, Book(), PAIRED, USE, NOW, zone).decision.effect is effect


def test_decided_again_beside_the_driver_call(tmp_path: Path) -> None:
    """While the holder reads a prompt the policy may change, and the caller may become another program."""
    code = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
os.set_inheritable(s.fileno(), True)
s.recv(1)
os.execv(sys.argv[2], [sys.argv[2], "-c", f"echo x >&{s.fileno()}; read line <&{s.fileno()}"])
"""
    shell = shutil.which("bash")
    assert shell is not None
    in_force = [policy(ALLOW)]
    with connected(tmp_path, Path(PYTHON), code, [shell]) as (connection, child):
        caller = peer_of(connection)
        decided = decider(lambda: in_force[-1], Book())
        assert decided(caller, USE, NOW).effect is Effect.ALLOW
        in_force.append(policy(ALLOW, DENY))
        assert decided(caller, USE, NOW).effect is Effect.DENY
        in_force.pop()
        connection.sendall(b"x")
        assert connection.recv(2) == b"x\n"
        with pytest.raises(SealAgentError) as changed:
            decided(caller, USE, NOW)
        assert changed.value.code == "caller_changed"
        child.kill()
        child.wait()
        with pytest.raises(SealAgentError) as gone:
            decided(caller, USE, NOW)
        assert gone.value.code == "caller_gone"


# Properties

callers = st.builds(
    Caller,
    st.just(1000),
    st.just(1000),
    st.just(42),
    st.sampled_from([None, "/usr/bin/app", "/usr/bin/other"]),
    st.just(7),
    st.sampled_from([None, "ab" * 32, "cd" * 32]),
    st.sampled_from([None, "/usr/bin/desktop"]),
    st.sampled_from([None, "https://oa.example.cn"]),
    application=st.sampled_from([None, Paired("app-1", "财务系统"), Paired("app-2", "别的")]),
)
uses = st.builds(
    Use,
    st.sampled_from(Operation),
    st.sampled_from([*KEYS, "odd"]),
    st.just("pkcs11:serial=1"),
    st.sampled_from([None, "seal-1", "seal-2"]),
    st.just(("1", "公章")),
    st.sampled_from([None, "ofd", "pdf"]),
)
moments = st.timedeltas(timedelta(days=-10), timedelta(days=10)).map(lambda distance: NOW + distance)


def some(*values: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3)


conditions = st.fixed_dictionaries(
    {},
    optional={
        "operations": some(*Operation),
        "executables": some("/usr/bin/app", "/usr/bin/other"),
        "sha256": some("ab" * 32),
        "parents": some("/usr/bin/desktop"),
        "applications": some("app-1", "别的"),
        "origins": some("https://oa.example.cn"),
        "seals": some("seal-1", "公章"),
        "keys": some(KEYS[0], "pkcs11:serial=2"),
        "formats": some("ofd"),
        "hours": st.sampled_from(["08:00-18:00", "22:00-06:00", "00:00-12:00"]),
        "days": some("mon", "sat", "sun"),
        "not_before": st.just(NOW),
    },
)


def rules_of(*effects: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    one = st.builds(
        lambda effect, found: {"operations": ["document", "raw"], **found, "effect": effect},
        st.sampled_from(effects),
        conditions,
    )
    return st.lists(one, max_size=5)


grants = st.lists(
    st.builds(
        Grant,
        st.uuids().map(str),
        st.sampled_from(["app-1", "app-2"]),
        st.sampled_from([Effect.ALLOW, Effect.DENY]),
        st.sampled_from(Operation),
        seal=st.sampled_from([None, "seal-1"]),
        remaining=st.sampled_from([None, 0, 1]),
    ),
    max_size=5,
).map(lambda found: Book(*found))
tables = st.fixed_dictionaries(
    {
        "defaults": st.dictionaries(st.sampled_from([each.value for each in Operation]), st.sampled_from(Effect)),
        "limits": st.fixed_dictionaries({"blind_needs_pairing": st.booleans()}),
    }
)
ANY = rules_of("allow", "ask", "deny")


@given(ANY, tables, grants, callers, uses, moments)
def test_a_matching_prohibition_always_wins(
    rules: list[dict[str, Any]], others: Any, book: Book, caller: Caller, use: Use, now: datetime
) -> None:
    made = policy(*rules, **others)
    local = now.astimezone()
    forbidden = any(rule.mismatch(caller, use, local) is None for rule in made.of_effect(Effect.DENY)) or any(
        each.effect is Effect.DENY for each in book.matching(caller, use, now)
    )
    decision = decide(made, book, caller, use, now)
    if forbidden:
        assert decision.effect is Effect.DENY


ORDER = {Effect.DENY: 0, Effect.ASK: 1, Effect.ALLOW: 2}


@given(ANY, rules_of("deny"), st.integers(0, 5), tables, grants, callers, uses, moments)
def test_another_prohibition_never_allows_more(
    rules: list[dict[str, Any]],
    added: list[dict[str, Any]],
    where: int,
    others: Any,
    book: Book,
    caller: Caller,
    use: Use,
    now: datetime,
) -> None:
    before = decide(policy(*rules, **others), book, caller, use, now)
    more = policy(*rules[:where], *added, *rules[where:], **others)
    assert ORDER[decide(more, book, caller, use, now).effect] <= ORDER[before.effect]


@given(ANY, tables, grants, callers, uses, moments)
def test_explaining_says_what_is_decided(
    rules: list[dict[str, Any]], others: Any, book: Book, caller: Caller, use: Use, now: datetime
) -> None:
    made = policy(*rules, **others)
    found = explain(made, book, caller, use, now)
    assert found.decision == decide(made, book, caller, use, now)
    first = next(step for step in found.steps if step.matched)
    assert (first.name, first.effect) == (found.decision.name, found.decision.effect)
    assert {step.name for step in found.steps if step.kind == "rule"} == {rule.name for rule in made.rules}
    shown = {step.name for step in found.steps if step.kind == "grant"}
    assert shown == {each.id for each in book.considered(caller)}


@given(ANY, tables, callers, uses, moments)
def test_the_order_of_the_file_does_not_matter(
    rules: list[dict[str, Any]], others: Any, caller: Caller, use: Use, now: datetime
) -> None:
    one, other = policy(*rules, **others), policy(*reversed(rules), **others)
    assert decide(one, Book(), caller, use, now).effect is decide(other, Book(), caller, use, now).effect
