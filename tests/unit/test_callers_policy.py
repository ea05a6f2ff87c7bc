"""policy.toml: strict, documented, and each condition of a rule."""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sealagent.callers.model import Effect, Paired
from sealagent.callers.peer import Caller
from sealagent.callers.policy import MAX_RULES, MAX_VALUES, Defaults, Policy, PolicyLimits, Rule, local_day
from sealagent.callers.policyfile import parse_policy
from sealagent.errors import SealAgentError
from sealagent.uses import Operation, Use

PROJECT = Path(__file__).resolve().parents[2]
SHA256 = "ab" * 32
CALLER = Caller(
    1000,
    1000,
    42,
    "/usr/bin/app",
    7,
    SHA256,
    "/usr/bin/desktop",
    "https://oa.example.cn",
    application=Paired("app-1", "财务系统"),
)
UNKNOWN = Caller(1000, 1000, 42, None, None)
KEY = "pkcs11:token=UKey;serial=0001;id=%01;type=private"
USE = Use(Operation.DOCUMENT, KEY, "pkcs11:token=UKey;serial=0001", "seal-1", ("1101", "公章"), "ofd")
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)  # a Saturday


def rule(**values: Any) -> Rule:
    return Rule.model_validate({"name": "r", "effect": "deny", **values})


def matches(tested: Rule, caller: Caller = CALLER, use: Use = USE, local: datetime = NOW) -> bool:
    return tested.mismatch(caller, use, local) is None


# The file


def _keys(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


def test_the_example_documents_every_key_with_its_default() -> None:
    text = (PROJECT / "config" / "policy.toml").read_text(encoding="utf-8")
    assert parse_policy(text.encode(), "example") == Policy()
    uncommented = re.sub(r"^# (\[\[\w+\]\]|[a-z0-9_]+ = )", r"\1", text, flags=re.MULTILINE)
    values = tomllib.loads(uncommented)
    assert set(values) == _keys(Policy)
    assert set(values["defaults"]) == _keys(Defaults)
    assert set(values["limits"]) == _keys(PolicyLimits)
    assert set(values["rules"][0]) == _keys(Rule)
    shown = parse_policy(uncommented.encode(), "example")
    assert (shown.defaults, shown.limits) == (Defaults(), PolicyLimits())
    assert [each.effect for each in shown.rules] == [Effect.ALLOW, Effect.ALLOW, Effect.DENY]


RULE = "[[rules]]\nname = 'n'\neffect = 'deny'\n"
ALLOW = "[[rules]]\nname = 'n'\neffect = 'allow'\noperations = ['document']\n"

MALFORMED = [
    ("nothing = 1", "nothing"),
    ("[limit]\n", "limit"),
    ("[defaults]\ndocument = 'maybe'", "defaults.document"),
    ("[defaults]\nsign = 'ask'", "defaults.sign"),
    ("[limits]\nbatch_items = 0", "limits.batch_items"),
    ("[limits]\nbatch_items = true", "limits.batch_items"),
    ("[limits]\npairing_days = '30'", "limits.pairing_days"),
    ("[limits]\nblind_needs_pairing = 'yes'", "limits.blind_needs_pairing"),
    ("[limits]\nsession_grants = 1", "limits.session_grants"),
    ("rules = 3", "rules"),
    ("[[rules]]\neffect = 'deny'", "rules.0.name"),
    ("[[rules]]\nname = 'n'", "rules.0.effect"),
    ("[[rules]]\nname = ''\neffect = 'deny'", "rules.0.name"),
    ('[[rules]]\nname = "a\\nb"\neffect = "deny"', "rules.0.name"),
    (f"[[rules]]\nname = '{'x' * 65}'\neffect = 'deny'", "rules.0.name"),
    (RULE + "executable = '/bin/x'", "rules.0.executable"),
    (RULE + "executables = '/bin/x'", "rules.0.executables"),
    (RULE + "executables = ['bin/x']", "absolute path"),
    (RULE + "executables = ['/bin/../x']", "absolute path"),
    (RULE + "executables = ['//bin/x']", "absolute path"),
    (RULE + "executables = ['/bin/x/']", "absolute path"),
    (RULE + "parents = ['~/x']", "rules.0.parents.0"),
    (RULE + "executables = []", "executables: an empty list"),
    (RULE + "sha256 = ['abc']", "rules.0.sha256.0"),
    (RULE + "operations = ['seal']", "rules.0.operations.0"),
    (RULE + "origins = ['oa.example.cn']", "rules.0.origins.0"),
    (RULE + "origins = ['https://oa.example.cn/path']", "rules.0.origins.0"),
    (RULE + "keys = ['the key']", "rules.0.keys.0"),
    (RULE + "keys = ['pkcs11:serial=1?pin-value=1234']", "rules.0.keys.0"),
    (RULE + "formats = ['OFD']", "rules.0.formats.0"),
    (RULE + "hours = '8-18'", "rules.0.hours"),
    (RULE + "hours = '08:00'", "rules.0.hours"),
    (RULE + "hours = '08:00-25:00'", "rules.0.hours"),
    (RULE + "hours = '08:00-08:60'", "rules.0.hours"),
    (RULE + "hours = '24:00-08:00'", "rules.0.hours"),
    (RULE + "hours = '08:00-08:00'", "these hours are empty"),
    (RULE + "hours = '0８:00-18:00'", "rules.0.hours"),
    (RULE + "hours = 8", "rules.0.hours"),
    (RULE + "days = ['monday']", "rules.0.days.0"),
    (RULE + "not_before = '2026-01-01T00:00:00Z'", "write date and time"),
    (RULE + "not_after = 2026-01-01", "write date and time"),
    (RULE + "not_after = 1700000000", "write date and time"),
    (RULE + "not_before = 2026-01-02T00:00:00Z\nnot_after = 2026-01-01T00:00:00Z", "earlier than not_before"),
    (RULE + "not_before = 2026-01-02T00:00:00\nnot_after = 2026-01-03T00:00:00Z", "give both times with a zone"),
    (RULE + "per_day = 5", "per_day"),
    (ALLOW + "per_day = 0", "rules.0.per_day"),
    (ALLOW + "per_day = 1.5", "rules.0.per_day"),
    ("[[rules]]\nname = 'n'\neffect = 'allow'", "a rule that allows must name what"),
    (RULE + RULE, "two rules are called 'n'"),
    ("= broken", "line 1"),
    ("[defaults", "at end of document"),
    ("a = 1\na = 2\n", "line 2"),
    ("x = " + "[" * 5000, "policy.toml"),
    ("x = " + "9" * 5000, "policy.toml"),
]


@pytest.mark.parametrize(("text", "named"), MALFORMED)
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    with pytest.raises(SealAgentError) as wrong:
        parse_policy(text.encode(), "/etc/policy.toml")
    assert wrong.value.code == "policy_invalid"
    assert wrong.value.message.startswith("/etc/policy.toml: ")
    assert named in wrong.value.message
    assert wrong.value.facts["file"] == "/etc/policy.toml"


def test_wrong_rule_is_called_by_its_name() -> None:
    text = RULE + "[[rules]]\nname = '夜间'\neffect = 'ask'\nhours = 'late'\n[[rules]]\neffect = 'deny'\n"
    with pytest.raises(SealAgentError, match=r"rules\.1\.hours: .* \(rule '夜间'\)") as wrong:
        parse_policy(text.encode(), "f")
    assert wrong.value.facts["key"] == "rules.1.hours"
    with pytest.raises(SealAgentError, match=r"rules\.0\.name: .* \(rule 1\)"):
        parse_policy(b"[[rules]]\nname = 5\n", "f")


def test_octets_that_are_no_utf8() -> None:
    with pytest.raises(SealAgentError) as wrong:
        parse_policy(b"name = '\xff'", "f")
    assert wrong.value.code == "policy_invalid"


def test_bounds() -> None:
    def rules(count: int) -> bytes:
        return "".join(f"[[rules]]\nname = '{number}'\neffect = 'deny'\n" for number in range(count)).encode()

    assert len(parse_policy(rules(MAX_RULES), "f").rules) == MAX_RULES
    with pytest.raises(SealAgentError, match=r"rules: .*10000"):
        parse_policy(rules(MAX_RULES + 1), "f")
    values = ", ".join(f"'s{number}'" for number in range(MAX_VALUES + 1))
    with pytest.raises(SealAgentError, match=r"rules\.0\.seals"):
        parse_policy(f"{RULE}seals = [{values}]".encode(), "f")
    with pytest.raises(SealAgentError, match=r"rules\.0\.seals"):
        parse_policy(f"{RULE}seals = ['{'x' * 4097}']".encode(), "f")


PIECES = [
    "[defaults]", "[limits]", "[[rules]]", "name = 'x'", "effect = 'deny'", "effect = 'allow'", "operations = ['raw']",
    "raw = 'ask'", "hours = '1'", "per_day = 3", "x", "=", "[", "]", "'", '"""', "\\u0000", "1979-05-27", "#", "{a=1}",
    "rules = []", "sha256 = [[]]", "days = {}", "not_after = 00:00:00", "batch_items = 1e400", "name = nan",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("\n".join) | st.text(max_size=60))
def test_whatever_the_file_holds_it_is_a_policy_or_named_wrong(text: str) -> None:
    try:
        found: object = parse_policy(text.encode("utf-8", "surrogatepass"), "f")
    except SealAgentError as error:
        found = error.code
    assert isinstance(found, Policy) or found == "policy_invalid"


# Conditions

CONDITIONS: list[tuple[str, list[str], list[str]]] = [
    ("operations", ["raw", "document"], ["raw"]),
    ("executables", ["/bin/x", "/usr/bin/app"], ["/usr/bin/app2"]),
    ("sha256", [SHA256.upper()], ["00" * 32]),
    ("parents", ["/usr/bin/desktop"], ["/usr/bin/app"]),
    ("applications", ["app-1"], ["app-2"]),
    ("applications", ["财务系统"], ["财务"]),
    ("origins", ["https://oa.example.cn"], ["https://oa.example.cn:8443"]),
    ("seals", ["seal-1"], ["seal-2"]),
    ("seals", ["1101"], ["110"]),
    ("seals", ["公章"], ["公"]),
    ("keys", [KEY], ["pkcs11:token=UKey;serial=0001;id=%02;type=private"]),
    ("keys", ["pkcs11:serial=0001"], ["pkcs11:serial=0002"]),
    ("keys", ["pkcs11:"], ["skf:serial=0001"]),
    ("formats", ["pdf", "ofd"], ["pdf"]),
    ("days", ["sat"], ["mon", "sun"]),
]


@pytest.mark.parametrize(("key", "fits", "fits_not"), CONDITIONS)
@pytest.mark.parametrize("effect", ["allow", "ask", "deny"])
def test_each_condition(effect: str, key: str, fits: list[str], fits_not: list[str]) -> None:
    base = {"effect": effect, "operations": ["document"]}
    assert matches(rule(**{**base, key: fits}))
    why = rule(**{**base, key: fits_not}).mismatch(CALLER, USE, NOW)
    assert why


def test_rule_without_conditions_is_about_everything() -> None:
    for operation in Operation:
        assert matches(rule(), UNKNOWN, Use(operation, KEY, "pkcs11:serial=0001"))


def test_every_condition_must_be_met() -> None:
    both = rule(executables=["/usr/bin/app"], seals=["公章"])
    assert matches(both)
    assert not matches(both, use=Use(Operation.DOCUMENT, KEY, "t", "seal-2", ("2", "合同章"), "ofd"))
    assert not matches(both, caller=Caller(1, 1, 1, "/bin/x", 1))


@pytest.mark.parametrize(("key", "value"), [("executables", ["/bin/x"]), ("sha256", [SHA256]), ("parents", ["/bin/x"])])
def test_unknown_program_meets_prohibitions_only(key: str, value: list[str]) -> None:
    """A program that removes its file to be known by nothing escapes no prohibition, and gains no permission."""
    assert matches(rule(**{key: value}), UNKNOWN)
    for effect in ("allow", "ask"):
        assert not matches(rule(effect=effect, operations=["document"], **{key: value}), UNKNOWN)


def test_unpaired_program_of_its_own_is_known_to_be_that() -> None:
    assert not matches(rule(applications=["app-1"]), UNKNOWN)
    assert not matches(rule(origins=["https://oa.example.cn"]), UNKNOWN)


def test_format_behind_a_digest() -> None:
    """A digest may stand for a document of a forbidden format; a key that is made stands for none."""
    for operation, expected in ((Operation.DIGEST, True), (Operation.RAW, True), (Operation.MANAGE, False)):
        assert matches(rule(formats=["pdf"]), use=Use(operation, KEY, "t")) is expected
        assert not matches(rule(effect="ask", formats=["pdf"]), use=Use(operation, KEY, "t"))


def test_keys_that_are_no_uris() -> None:
    odd = Use(Operation.RAW, "no uri", "t")
    assert matches(rule(keys=[KEY]), use=odd)
    assert not matches(rule(effect="ask", keys=[KEY]), use=odd)


# Time


@pytest.mark.parametrize(
    ("hours", "time", "inside"),
    [
        ("08:00-18:00", "08:00:00", True),
        ("08:00-18:00", "17:59:59", True),
        ("08:00-18:00", "18:00:00", False),
        ("08:00-18:00", "07:59:59", False),
        ("22:00-06:00", "23:00:00", True),
        ("22:00-06:00", "05:59:59", True),
        ("22:00-06:00", "06:00:00", False),
        ("22:00-06:00", "12:00:00", False),
        ("18:00-24:00", "23:59:59", True),
        ("18:00-24:00", "00:00:00", False),
        ("00:00-08:00", "00:00:00", True),
    ],
)
def test_hours(hours: str, time: str, inside: bool) -> None:
    assert matches(rule(hours=hours), local=datetime.fromisoformat(f"2026-11-28T{time}+08:00")) is inside


def test_hours_over_midnight_belong_to_the_day_on_which_they_begin() -> None:
    night = rule(hours="22:00-06:00", days=["fri"])
    for moment, inside in (
        ("2026-11-27T21:59", False),
        ("2026-11-27T22:00", True),  # Friday
        ("2026-11-28T05:59", True),  # Saturday morning: Friday's night
        ("2026-11-28T22:00", False),  # Saturday's own night
        ("2026-11-27T05:00", False),  # Friday morning: Thursday's night
    ):
        assert matches(night, local=datetime.fromisoformat(f"{moment}+08:00")) is inside, moment
    evening = rule(hours="18:00-24:00", days=["fri"])
    assert matches(evening, local=datetime.fromisoformat("2026-11-27T23:59+08:00"))
    assert not matches(evening, local=datetime.fromisoformat("2026-11-28T00:00+08:00"))


def test_first_and_last_moment() -> None:
    zoned = rule(
        not_before=datetime.fromisoformat("2026-11-28T08:00+08:00"),
        not_after=datetime.fromisoformat("2026-11-28T18:00+08:00"),
    )
    local = rule(not_before=datetime(2026, 11, 28, 8), not_after=datetime(2026, 11, 28, 18))
    for text, inside in (("07:59:59", False), ("08:00:00", True), ("18:00:00", True), ("18:00:01", False)):
        moment = datetime.fromisoformat(f"2026-11-28T{text}+08:00")
        assert matches(zoned, local=moment) is inside
        assert matches(zoned, local=moment.astimezone(UTC)) is inside  # the same moment wherever the machine is
        assert matches(local, local=moment) is inside
    assert not matches(local, local=datetime(2026, 11, 28, 18, 30, tzinfo=UTC))


@pytest.fixture
def central_europe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with summer time; the rule is written out (tzset(3)), so that no data base is needed."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("central_europe")
def test_clock_changes_of_summer_time() -> None:
    """Hours are those on the wall: the hour that is left out holds nothing, the one that comes twice counts twice."""
    night = rule(hours="02:00-03:00")
    spring = [datetime(2026, 3, 29, *at, tzinfo=UTC) for at in ((0, 59), (1, 0), (1, 30))]
    assert [moment.astimezone().hour for moment in spring] == [1, 3, 3]
    assert [matches(night, local=moment.astimezone()) for moment in spring] == [False, False, False]
    autumn = [datetime(2026, 10, 24, 23, 59, tzinfo=UTC)]
    autumn += [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1, 2)]
    assert [matches(night, local=moment.astimezone()) for moment in autumn] == [False, True, True, False]
    until = rule(not_after=datetime(2026, 10, 25, 2, 45))
    assert [matches(until, local=moment.astimezone()) for moment in autumn] == [True, True, True, False]
    assert local_day(datetime(2026, 7, 1, 22, 30, tzinfo=UTC)).isoformat() == "2026-07-02"


def test_day_of_a_count_is_local() -> None:
    late = datetime(2026, 11, 28, 17, 0, tzinfo=UTC)
    assert local_day(late, timezone(timedelta(hours=8))).isoformat() == "2026-11-29"
    assert local_day(late, UTC).isoformat() == "2026-11-28"
