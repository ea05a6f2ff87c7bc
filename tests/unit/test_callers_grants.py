"""The grant book: what matches, what is spent, what ends."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from typing import Any

import pytest

from sealagent.callers import grants as module
from sealagent.callers.grants import GrantBook, grantees, mismatch, within
from sealagent.callers.model import DailyHours, Effect, Grant, Paired
from sealagent.callers.peer import Caller
from sealagent.callers.store import CallersStore
from sealagent.errors import SealAgentError
from sealagent.uses import Operation, Use

NOW = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
APP = Paired("app-1", "编辑器")
CALLER = Caller(1000, 1000, 42, "/usr/bin/editor", 7, application=APP)
UNPAIRED = replace(CALLER, application=None)
TOKEN = "pkcs11:token=a;serial=1"
KEY = f"{TOKEN};id=%01"
USE = Use(Operation.DOCUMENT, KEY, TOKEN, seal="seal-1", format="ofd")
_numbers = itertools.count()


def grant(**changes: Any) -> Grant:
    values = {
        "id": f"g{next(_numbers)}",
        "grantee": APP.id,
        "effect": Effect.ALLOW,
        "operation": Operation.DOCUMENT,
        "created": NOW,
    }
    return Grant(**{**values, **changes})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CallersStore]:
    with closing(CallersStore(tmp_path / "callers.sqlite")) as opened:
        yield opened


@pytest.fixture
def book(store: CallersStore) -> GrantBook:
    return GrantBook(store, lambda: NOW)


def code(action: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(SealAgentError) as caught:
        action(*arguments, **named)
    return caught.value.code


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"seal": "seal-1"}, None),
        ({"seal": "seal-1", "key": KEY, "formats": ("pdf", "ofd"), "remaining": 1}, None),
        ({"seal": "seal-2"}, "another seal"),
        ({"key": KEY + "x"}, "another key"),
        ({"key": TOKEN}, None),
        ({"key": TOKEN + "x"}, "another key"),
        ({"operation": Operation.DIGEST}, "digest"),
        ({"operation": Operation.RAW}, "raw"),
        ({"operation": Operation.MANAGE}, "manage"),
        ({"formats": ("pdf",)}, "pdf only"),
        ({"expires": NOW}, "expired"),
        ({"expires": NOW + timedelta(microseconds=1)}, None),
        ({"not_before": NOW + timedelta(microseconds=1)}, "yet"),
        ({"not_before": NOW}, None),
        ({"created": NOW + timedelta(seconds=1)}, "set back"),
        ({"created": NOW + timedelta(seconds=1), "effect": Effect.DENY}, None),
        ({"session": (TOKEN, 1)}, None),
        ({"session": (TOKEN + "x", 1)}, "another token"),
        ({"grantee": "app-2"}, "grantee"),
        ({"effect": Effect.DENY}, None),
    ],
)
def test_each_limit_is_kept(book: GrantBook, changes: dict[str, Any], why: str | None) -> None:
    made = grant(**changes)
    book.add(made)
    assert book.matching(CALLER, USE, NOW) == ([made] if why is None else [])
    said = mismatch(made, USE, NOW)
    if why != "grantee":
        assert (said is None) is (why is None)
        assert why is None or (said is not None and why in said)


def test_an_unknown_format_or_seal_matches_no_limit_on_it(book: GrantBook) -> None:
    book.add(grant(operation=Operation.RAW, formats=("ofd",)))
    book.add(grant(operation=Operation.RAW, seal="seal-1"))
    assert book.matching(CALLER, Use(Operation.RAW, KEY, TOKEN), NOW) == []
    forbidden = book.add(grant(operation=Operation.RAW, formats=("ofd",), effect=Effect.DENY, id="no"))
    assert book.matching(CALLER, Use(Operation.RAW, KEY, TOKEN), NOW) == [forbidden]


def test_a_counted_grant_serves_no_batch_that_is_larger(book: GrantBook) -> None:
    made = book.add(grant(remaining=10))
    assert book.matching(CALLER, replace(USE, count=10), NOW) == [made]
    assert book.matching(CALLER, replace(USE, count=11), NOW) == []


def test_what_costs_nothing_comes_first(book: GrantBook) -> None:
    counted = book.add(grant(remaining=1))
    ending = book.add(grant(expires=NOW + timedelta(hours=1), seal="seal-1"))
    lasting = book.add(grant())
    assert book.matching(CALLER, USE, NOW) == [ending, lasting, counted]


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        (("08:00", "18:00"), ["08:00", "12:30", "17:59:59.999999"], ["07:59:59", "18:00", "23:00", "00:00"]),
        (("22:00", "06:00"), ["22:00", "23:59", "00:00", "05:59"], ["06:00", "12:00", "21:59:59"]),
        (("00:00", "00:00:01"), ["00:00"], ["00:00:01", "12:00"]),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/St_Johns"])
def test_hours_are_local_and_may_go_over_midnight(
    monkeypatch: pytest.MonkeyPatch, hours: tuple[str, str], inside: list[str], outside: list[str], zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        limit = DailyHours(*map(clock_time.fromisoformat, hours))
        for moment, expected in [(each, True) for each in inside] + [(each, False) for each in outside]:
            local = datetime.combine(date(2026, 11, 28), clock_time.fromisoformat(moment)).astimezone()
            assert within(limit, local.astimezone(UTC)) is expected, moment
    finally:
        monkeypatch.undo()
        time.tzset()


def test_whose_grants_a_caller_may_use() -> None:
    assert grantees(UNPAIRED) == ("process:42:7",)
    assert grantees(CALLER) == ("app-1", "process:42:7")
    assert grantees(replace(CALLER, origin="https://a.example")) == ("app-1",), "a browser acts for many"
    assert grantees(replace(UNPAIRED, started=None)) == (), "its pid may be another's by now"


def test_a_session_grant_of_a_process_is_no_other_processs(book: GrantBook) -> None:
    made = book.add(grant(grantee=UNPAIRED.process, session=(TOKEN, 1)))
    assert book.matching(UNPAIRED, USE, NOW) == [made]
    assert book.matching(replace(UNPAIRED, pid=43), USE, NOW) == []
    assert book.matching(replace(UNPAIRED, started=8), USE, NOW) == [], "the pid was used again"
    assert book.matching(replace(UNPAIRED, program=(1, 2)), USE, NOW) == [], "it runs another program now"


def test_session_grants_are_in_memory_only_and_end_with_the_session(book: GrantBook, store: CallersStore) -> None:
    made = book.add(grant(session=(TOKEN, 1), remaining=2))
    other = book.add(grant(session=("pkcs11:other", 1)))
    lasting = book.add(grant())
    assert store.grants() == [lasting]
    book.spend(made.id, NOW)
    assert store.grants() == [lasting]
    book.end_session(TOKEN)
    assert code(book.spend, made.id, NOW) == "grant_ended"
    assert book.list() == [other, lasting]
    assert book.matching(CALLER, USE, NOW) == [lasting]


def test_a_grant_of_a_session_that_is_over_neither_matches_nor_is_taken(book: GrantBook) -> None:
    """The token was pulled while the holder's yes was on its way."""
    session = {"now": 1}
    book.follow_sessions(lambda token: session["now"] if token == TOKEN else 0)
    made = book.add(grant(session=(TOKEN, 1)))
    assert book.considered(CALLER) == [made]
    session["now"] = 2
    assert book.matching(CALLER, USE, NOW) == []
    assert book.considered(CALLER) == []
    assert code(book.spend, made.id, NOW) == "grant_ended"
    assert code(book.add, grant(session=(TOKEN, 1))) == "grant_ended"
    assert [each.id for each in book.list()] == [made.id]


@pytest.mark.parametrize(
    "changes",
    [
        {"grantee": "process:42:7"},
        {"grantee": "process:42:None", "session": (TOKEN, 1)},
        {"grantee": replace(UNPAIRED, started=None, program=(1, 2)).process, "session": (TOKEN, 1)},
        {"remaining": 0},
        {"remaining": -1},
        {"remaining": 10**9 + 1},
        {"effect": Effect.DENY, "remaining": 1},
        {"effect": Effect.DENY, "session": (TOKEN, 1)},
        {"not_before": NOW, "expires": NOW},
        {"hours": DailyHours(clock_time(8), clock_time(8))},
        {"expires": datetime(2026, 11, 29)},
    ],
)
def test_a_grant_that_makes_no_sense_is_not_taken(
    book: GrantBook, store: CallersStore, changes: dict[str, Any]
) -> None:
    assert code(book.add, grant(**changes)) == "grant_invalid"
    assert book.list() == store.grants() == []


def test_an_id_is_used_once(book: GrantBook) -> None:
    made = book.add(grant(effect=Effect.DENY))
    assert code(book.add, grant(id=made.id)) == "grant_invalid"
    assert book.list() == [made]


def test_spending(book: GrantBook, store: CallersStore) -> None:
    made = book.add(grant(remaining=3))
    book.spend(made.id, NOW, 2)
    assert book.get(made.id).remaining == 1
    assert [each.remaining for each in store.grants()] == [1]
    assert code(book.spend, made.id, NOW, 2) == "grant_spent"
    assert book.get(made.id).remaining == 1
    book.spend(made.id, NOW)
    assert code(book.spend, made.id, NOW) == "grant_spent"
    assert book.matching(CALLER, USE, NOW) == []
    assert [each.remaining for each in store.grants()] == [0]
    assert code(book.spend, made.id, NOW, 0) == "grant_invalid"
    assert code(book.spend, made.id, NOW, -1) == "grant_invalid"


def test_what_ended_meanwhile_is_not_spent(book: GrantBook) -> None:
    """Between the decision and the driver call a grant may end in any way."""
    revoked, expiring = book.add(grant()), book.add(grant(expires=NOW + timedelta(hours=1), remaining=5))
    evening = book.add(grant(hours=DailyHours(clock_time(0), clock_time(23, 59, 59))))
    forbidding = book.add(grant(effect=Effect.DENY))
    book.spend(revoked.id, NOW)
    assert book.revoke(revoked.id) == revoked
    assert code(book.spend, revoked.id, NOW) == "grant_ended"
    assert code(book.revoke, revoked.id) == "grant_not_found"
    book.spend(expiring.id, NOW)
    assert code(book.spend, expiring.id, NOW + timedelta(hours=1)) == "grant_ended"
    assert code(book.spend, expiring.id, NOW - timedelta(days=1)) == "grant_ended"
    assert book.get(expiring.id).remaining == 4
    midnight = datetime.combine(date(2026, 11, 28), clock_time(23, 59, 59, 5)).astimezone()
    assert code(book.spend, evening.id, midnight) == "grant_ended"
    assert code(book.spend, forbidding.id, NOW) == "grant_ended"
    assert code(book.spend, "nothing", NOW) == "grant_ended"


def test_a_spend_that_cannot_be_written_is_none(book: GrantBook, store: CallersStore) -> None:
    made = book.add(grant(remaining=1))
    store._database.execute("PRAGMA query_only = ON")
    assert code(book.spend, made.id, NOW) == "callers_failed"
    assert book.get(made.id).remaining == 1
    assert code(book.add, grant()) == "callers_failed"
    assert code(book.revoke, made.id) == "callers_failed"
    assert book.list() == [made]
    store._database.execute("PRAGMA query_only = OFF")
    book.spend(made.id, NOW)


@pytest.mark.parametrize("session", [None, (TOKEN, 1)], ids=["kept", "session"])
def test_only_one_gets_the_last_use(book: GrantBook, session: tuple[str, int] | None) -> None:
    made = book.add(grant(remaining=3, session=session))
    barrier = threading.Barrier(12)
    outcomes: list[str] = []

    def spend() -> None:
        barrier.wait()
        try:
            book.spend(made.id, NOW)
            outcomes.append("spent")
        except SealAgentError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=spend) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["grant_spent"] * 9 + ["spent"] * 3
    assert book.get(made.id).remaining == 0


def test_revoking_or_spending_at_once_leaves_memory_and_file_alike(book: GrantBook, store: CallersStore) -> None:
    for _ in range(20):
        made = book.add(grant(remaining=5))
        threads = [
            threading.Thread(target=lambda: _quietly(book.spend, made.id, NOW)),  # noqa: B023 (joined below)
            threading.Thread(target=lambda: _quietly(book.revoke, made.id)),  # noqa: B023
            threading.Thread(target=lambda: book.end_session(TOKEN)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert book.list() == store.grants() == []


def _quietly(action: Any, *arguments: Any) -> None:
    try:
        action(*arguments)
    except SealAgentError as error:
        if error.code != "grant_ended":
            raise


def test_ending_a_grantee_ends_all_its_grants_together_with_other_changes(book: GrantBook, store: CallersStore) -> None:
    book.add(grant(remaining=5))
    book.add(grant(effect=Effect.DENY))
    book.add(grant(session=(TOKEN, 1)))
    other = book.add(grant(grantee="app-2"))
    assert code(book.end_grantee, APP.id, [("INSERT INTO nothing VALUES (1)", ())]) == "callers_failed"
    assert len(book.list(APP.id)) == 3
    book.end_grantee(APP.id)
    assert book.list() == store.grants() == [other]
    assert book.matching(CALLER, USE, NOW) == []


def test_rules_are_counted(book: GrantBook) -> None:
    book.count_rule("夜间", NOW.date(), 2)
    book.count_rule("夜间", NOW.date(), 2)
    assert code(book.count_rule, "夜间", NOW.date(), 2) == "policy_limit_reached"
    assert book.rule_uses("夜间", NOW.date()) == 2
    book.count_rule("夜间", NOW.date() + timedelta(days=1), 2)


@pytest.fixture
def crowded(store: CallersStore) -> GrantBook:
    """As many grants as there may be: half of them this application's, for many seals."""
    made = [
        grant(grantee=APP.id if n % 2 else f"app-{n % 100}", seal=f"seal-{n // 2}", remaining=5 if n % 3 else None)
        for n in range(module.MAX_GRANTS)
    ]
    store.write(map(module.put_grant, made))
    return GrantBook(store, lambda: NOW)


def test_ten_thousand_grants_are_the_most_and_are_matched_at_once(crowded: GrantBook, store: CallersStore) -> None:
    assert code(crowded.add, grant()) == "too_many_grants"
    assert code(crowded.add, grant(session=(TOKEN, 1))) == "too_many_grants"
    assert len(store.grants()) == module.MAX_GRANTS
    [found] = crowded.matching(CALLER, USE, NOW)
    assert found.seal == "seal-1"
    runs = 2000
    began = time.perf_counter()
    for _ in range(runs):
        crowded.matching(CALLER, USE, NOW)
    took = (time.perf_counter() - began) / runs
    print(f"matching one of {module.MAX_GRANTS} grants: {took * 1e6:.1f} us")
    assert took < 0.001, "looking through all of them would take longer"


def test_grants_that_are_over_make_room(store: CallersStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_GRANTS", 4)
    book = GrantBook(store, lambda: NOW)
    spent, expired = book.add(grant(remaining=1)), book.add(grant(expires=NOW + timedelta(seconds=1)))
    forbidding, lasting = book.add(grant(effect=Effect.DENY)), book.add(grant())
    book.spend(spent.id, NOW)
    later = GrantBook(store, lambda: NOW + timedelta(seconds=1))
    fresh = later.add(grant())
    assert {each.id for each in later.list()} == {forbidding.id, lasting.id, fresh.id}
    assert {each.id for each in store.grants()} == {forbidding.id, lasting.id, fresh.id}
    assert expired.id not in {each.id for each in later.list()}
    later.add(grant())
    assert code(later.add, grant()) == "too_many_grants"


def test_a_spend_before_a_sudden_end_is_spent_afterwards(book: GrantBook, store: CallersStore, tmp_path: Path) -> None:
    """The files as they are right after the call are what a killed agent finds: the use is gone, used or not."""
    made = book.add(grant(remaining=1))
    book.spend(made.id, NOW)
    left = tmp_path / "left"
    left.mkdir()
    for name in ("callers.sqlite", "callers.sqlite-wal"):
        (left / name).write_bytes((tmp_path / name).read_bytes())
    os.sync()
    with closing(CallersStore(left / "callers.sqlite")) as found:
        again = GrantBook(found, lambda: NOW)
        assert code(again.spend, made.id, NOW) == "grant_spent"
        assert again.matching(CALLER, USE, NOW) == []
