"""Pairing: beginning, comparing, proving who one is; and what is done to get around it."""

from __future__ import annotations

import os
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealagent.callers import pairings as module
from sealagent.callers.grants import GrantBook
from sealagent.callers.model import Effect, Grant, Paired
from sealagent.callers.names import alike, clean_name
from sealagent.callers.pairings import Offer, Pairings, ProgramChanged
from sealagent.callers.peer import Caller
from sealagent.callers.store import Application, CallersStore
from sealagent.consent.shown import shown
from sealagent.errors import FormatError, SealAgentError
from sealagent.uses import Operation

NOW = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
EDITOR = Caller(1000, 1000, os.getpid(), "/usr/bin/editor", 7, sha256="ab" * 32)


@dataclass
class Desk:
    """The pairings of one agent, its clock and its store."""

    store: CallersStore
    now: datetime = NOW
    days: int | None = None

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.book = GrantBook(self.store, lambda: self.now)
        self.pairings = Pairings(self.store, self.book, lambda: self.now, days=lambda: self.days)

    def pair(self, caller: Caller = EDITOR, name: str = "编辑器") -> tuple[Application, str]:
        offer = self.pairings.start(caller, name)
        asked = self.pairings.ask(offer.id, offer.secret, caller)
        assert (asked.code, asked.name) == (offer.code, clean_name(name))
        return self.pairings.finish(offer.id, caller, 12)

    def later(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with closing(CallersStore(tmp_path / "callers.sqlite")) as store:
        yield Desk(store)


def code(action: Any, *arguments: Any) -> str:
    with pytest.raises(SealAgentError) as caught:
        action(*arguments)
    return caught.value.code


def process(number: int) -> Caller:
    """Return a caller of a process that runs (all are told apart by their start)."""
    return replace(EDITOR, started=number)


# Pairing


def test_pairing(desk: Desk) -> None:
    offer = desk.pairings.start(EDITOR, "  编辑\t器 ")
    assert len(offer.code) == 6
    assert offer.code.isdecimal()
    assert offer.expires == NOW + timedelta(minutes=5)
    assert offer.secret not in repr(offer)
    assert desk.pairings.list() == []
    desk.pairings.ask(offer.id, offer.secret, EDITOR)
    assert desk.pairings.list() == []
    application, token = desk.pairings.finish(offer.id, EDITOR, 12)
    assert application == desk.pairings.get(application.id)
    assert (application.name, application.executable, application.sha256) == ("编辑 器", EDITOR.executable, "ab" * 32)
    assert (application.created, application.expires, application.record) == (NOW, None, 12)
    assert desk.pairings.identify(EDITOR, token) == Paired(application.id, "编辑 器")
    assert len(token) == 43


def test_the_token_is_kept_nowhere(desk: Desk, tmp_path: Path) -> None:
    application, token = desk.pair()
    assert token not in repr(application)
    assert token not in repr(vars(desk.pairings))
    assert application.token_sha256.hex() not in repr(application)
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert application.name.encode() in written
    assert token.encode() not in written


def test_codes_tell_those_who_wait_apart(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([7, 7, 7, 999_999])
    monkeypatch.setattr(module.secrets, "randbelow", lambda bound: next(drawn))
    codes = [desk.pairings.start(process(number), f"a{number}").code for number in (1, 2)]
    assert codes == ["000007", "999999"]


@pytest.mark.parametrize(
    "changes", [{"executable": None}, {"sha256": None}, {"started": None}], ids=["path", "digest", "start"]
)
def test_a_program_that_cannot_be_looked_at_is_not_paired(desk: Desk, changes: dict[str, None]) -> None:
    assert code(desk.pairings.start, replace(EDITOR, **changes), "a") == "caller_unknown"


def test_a_wrong_secret_ends_the_pairing(desk: Desk) -> None:
    for wrong in ("", "0" * 64, "é", "\ud800", "0" * 100_000):
        offer = desk.pairings.start(EDITOR, "a")
        assert code(desk.pairings.ask, offer.id, wrong, EDITOR) == "pairing_secret_wrong"
        assert code(desk.pairings.ask, offer.id, offer.secret, EDITOR) == "pairing_not_found"
    offer = desk.pairings.start(EDITOR, "a")
    desk.pairings.ask(offer.id, offer.secret, EDITOR)
    assert code(desk.pairings.ask, offer.id, "0", EDITOR) == "pairing_secret_wrong"
    assert code(desk.pairings.finish, offer.id, EDITOR) == "pairing_not_found", "the holder's yes comes to nothing"


def test_a_pairing_is_completed_once(desk: Desk) -> None:
    offer = desk.pairings.start(EDITOR, "a")
    assert code(desk.pairings.finish, offer.id, EDITOR) == "pairing_not_found", "nobody was asked"
    offer = desk.pairings.start(EDITOR, "a")
    desk.pairings.ask(offer.id, offer.secret, EDITOR)
    assert code(desk.pairings.ask, offer.id, offer.secret, EDITOR) == "pairing_not_found", "asked already"
    desk.pairings.finish(offer.id, EDITOR)
    assert code(desk.pairings.ask, offer.id, offer.secret, EDITOR) == "pairing_not_found", "replayed"
    assert code(desk.pairings.finish, offer.id, EDITOR) == "pairing_not_found"
    assert len(desk.pairings.list()) == 1


def test_a_pairing_is_completed_by_the_process_that_began_it(desk: Desk) -> None:
    offer = desk.pairings.start(EDITOR, "a")
    for other in (
        replace(EDITOR, pid=1),
        replace(EDITOR, started=8),
        replace(EDITOR, uid=1001),
        replace(EDITOR, origin="https://a.example"),
    ):
        assert code(desk.pairings.ask, offer.id, offer.secret, other) == "pairing_not_found"
    desk.pairings.ask(offer.id, offer.secret, EDITOR)


def test_five_minutes_are_the_most(desk: Desk) -> None:
    late = desk.pairings.start(EDITOR, "a")
    desk.later(minutes=5)
    assert code(desk.pairings.ask, late.id, late.secret, EDITOR) == "pairing_not_found"
    left_open = desk.pairings.start(EDITOR, "a")
    desk.pairings.ask(left_open.id, left_open.secret, EDITOR)
    desk.later(minutes=5)
    assert code(desk.pairings.finish, left_open.id, EDITOR) == "pairing_not_found", "a prompt left open for long"


def test_a_program_that_changes_while_the_holder_is_asked_is_not_paired(desk: Desk) -> None:
    for changes in ({"sha256": "cd" * 32}, {"executable": "/tmp/other"}):
        offer = desk.pairings.start(EDITOR, "a")
        desk.pairings.ask(offer.id, offer.secret, EDITOR)
        assert code(desk.pairings.finish, offer.id, replace(EDITOR, **changes)) == "program_changed"
    assert desk.pairings.list() == []


def test_few_wait_at_once(desk: Desk) -> None:
    offers = [desk.pairings.start(process(number), f"a{number}") for number in range(module.MAX_OPEN)]
    assert code(desk.pairings.start, process(9), "b") == "too_many_pairings"
    again = desk.pairings.start(process(0), "b")  # its own earlier attempt ends
    assert code(desk.pairings.ask, offers[0].id, offers[0].secret, process(0)) == "pairing_not_found"
    desk.pairings.ask(again.id, again.secret, process(0))
    assert code(desk.pairings.start, process(0), "c") == "too_many_pairings", "the holder is being asked"
    desk.pairings.abandon(again.id)
    desk.pairings.start(process(9), "b")
    assert code(desk.pairings.start, process(10), "c") == "too_many_pairings"
    desk.later(minutes=5)
    desk.pairings.start(process(10), "c")


def test_processes_that_have_ended_keep_nobody_out(desk: Desk) -> None:
    gone = 2**22 + 1  # beyond any pid
    for number in range(module.MAX_OPEN):
        desk.pairings.start(replace(EDITOR, pid=gone, started=number), f"a{number}")
    desk.pairings.start(EDITOR, "b")


def test_an_abandoned_pairing_is_over(desk: Desk) -> None:
    offer = desk.pairings.start(EDITOR, "a")
    desk.pairings.ask(offer.id, offer.secret, EDITOR)
    desk.pairings.abandon(offer.id)
    desk.pairings.abandon(offer.id)
    assert code(desk.pairings.finish, offer.id, EDITOR) == "pairing_not_found"


def test_a_pairing_that_cannot_be_written_is_none(desk: Desk) -> None:
    offer = desk.pairings.start(EDITOR, "a")
    desk.pairings.ask(offer.id, offer.secret, EDITOR)
    desk.store._database.execute("PRAGMA query_only = ON")
    assert code(desk.pairings.finish, offer.id, EDITOR) == "callers_failed"
    assert desk.pairings.list() == []


def test_completing_in_many_threads_pairs_once(desk: Desk) -> None:
    offer = desk.pairings.start(EDITOR, "a")
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def complete() -> None:
        barrier.wait()
        try:
            desk.pairings.ask(offer.id, offer.secret, EDITOR)
            desk.pairings.finish(offer.id, EDITOR)
            outcomes.append("paired")
        except SealAgentError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=complete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["paired", *["pairing_not_found"] * 7]
    assert len(desk.pairings.list()) == 1


# Names


@pytest.mark.parametrize(
    ("declared", "kept"),
    [
        ("WPS 文字", "WPS 文字"),
        ("  a \n\t b  ", "a b"),
        ("\x1b[31mred\x07", "[31mred"),
        ("gpj\u202egnp.exe", "gpjgnp.exe"),
        ("a\u200b\u2060\ufeffb", "ab"),
        ("a\u2028b\u2029c\x85d", "a b c d"),
        ("pay\u3164pal\u115f\u2800", "paypal"),
        ("x\ufe0fy\U000e0101z", "xyz"),
        ("e\u0301", "é"),
        ("Z\u0353\u0354\u0355\u0351\u0352algo", "Z\u0353\u0354algo"),
        ("e\u034f\u0301", "é"),
        ("a\u20dd", "a"),
        ("\ue000private\U000f0000", "private"),
        ("a\ud800b", "ab"),
        ("x" * 64, "x" * 64),
        ("x" * 64 + "\u200b" * 100, "x" * 64),
        ("印" * 64, "印" * 64),
        ("👩‍💻 app", "👩💻 app"),
    ],
)
def test_names_are_shown_as_they_are(declared: str, kept: str) -> None:
    assert clean_name(declared) == kept
    assert clean_name(kept) == kept
    assert all(unicodedata.category(letter)[0] != "C" for letter in kept)


@pytest.mark.parametrize(
    "declared",
    ["", " ", "\n", "\u200b", "\u3164\u2800", "\u0301", "...", "x" * 65, "印" * 65, "x" * 10**6, "x" + " " * 2000],
)
def test_names_that_cannot_be_kept(desk: Desk, declared: str) -> None:
    assert code(clean_name, declared) == "name_invalid"
    assert code(desk.pairings.start, EDITOR, declared) == "name_invalid"


@pytest.mark.parametrize(
    "other", ["Editor", "EDITOR", "e d i t o r", "Ｅditor", "editor\u200b", "ed\u00adıtor".replace("ı", "i")]
)
def test_two_applications_do_not_bear_one_name(desk: Desk, other: str) -> None:
    application, _ = desk.pair(name="editor")
    other_program = replace(process(8), executable="/usr/bin/other")
    assert alike(clean_name(other)) == alike("editor")
    assert code(desk.pairings.start, other_program, other) == "application_name_taken"
    second, _ = desk.pair(other_program, "Viewer")
    assert code(desk.pairings.rename, second.id, other) == "application_name_taken"
    assert desk.pairings.rename(application.id, other).name == clean_name(other), "its own name may be written anew"


def test_a_name_that_was_taken_meanwhile_is_not_given_twice(desk: Desk) -> None:
    first, second = desk.pairings.start(process(1), "a"), desk.pairings.start(process(2), "A")
    for offer, caller in ((first, process(1)), (second, process(2))):
        desk.pairings.ask(offer.id, offer.secret, caller)
    desk.pairings.finish(first.id, process(1))
    assert code(desk.pairings.finish, second.id, process(2)) == "application_name_taken"


def test_names_of_pairings_that_are_over_are_free(desk: Desk) -> None:
    desk.days = 30
    revoked, _ = desk.pair(name="a")
    desk.pairings.revoke(revoked.id)
    desk.later(seconds=1)
    desk.pair(name="a")
    desk.later(days=30)
    desk.pair(name="a")
    assert [each.state(desk.now) for each in desk.pairings.list()] == ["revoked", "expired", "active"]


@given(st.text(st.characters() | st.characters(categories=["Mn", "Cf", "Zs", "Lo", "Me"]), max_size=80))
def test_a_cleaned_name_stays_as_it_is(declared: str) -> None:
    try:
        name = clean_name(declared)
    except FormatError:
        return
    assert 1 <= len(name) <= 64
    assert clean_name(name) == name
    assert not any(unicodedata.category(letter)[0] == "C" for letter in name)
    assert shown(name, 10_000) == name


# Proving who one is


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "A" * 42,
        "A" * 44,
        "A" * 43,
        "A" * 42 + "B",
        "é" * 43,
        "A" * 42 + "=",
        "A" * 10**6,
        "A+/" * 14 + "A",
        " " * 43,
    ],
)
def test_what_is_no_token_of_ours(desk: Desk, token: str) -> None:
    desk.pair()
    assert code(desk.pairings.identify, EDITOR, token) == "token_invalid"


def test_a_token_is_written_in_one_way_only(desk: Desk) -> None:
    """The last character has two bits to spare: with others in them it would decode to the same octets."""
    _, token = desk.pair()
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = token[:-1] + letters[letters.index(token[-1]) ^ 1]
    assert code(desk.pairings.identify, EDITOR, twin) == "token_invalid"
    assert code(desk.pairings.identify, EDITOR, token + "=") == "token_invalid"


@pytest.mark.parametrize(
    "changes",
    [
        {"executable": "/tmp/thief"},
        {"executable": "/tmp/thief", "sha256": "cd" * 32},
        {"executable": "/usr/bin/editor (deleted)"},
        {"uid": 0},
        {"uid": 1001},
        {"origin": "https://thief.example"},
    ],
    ids=str,
)
def test_a_stolen_token_is_of_no_use(desk: Desk, changes: dict[str, Any]) -> None:
    application, token = desk.pair()
    with pytest.raises(SealAgentError) as caught:
        desk.pairings.identify(replace(EDITOR, **changes), token)
    assert caught.value.code == "token_misused"
    assert caught.value.facts == {"application": application.id}
    assert token not in caught.value.message
    desk.pairings.identify(EDITOR, token)


def test_the_token_of_an_origin_is_of_no_use_to_another_or_to_a_program(desk: Desk) -> None:
    page = replace(EDITOR, origin="https://a.example")
    _, token = desk.pair(page)
    desk.pairings.identify(page, token)
    for other in (EDITOR, replace(page, origin="https://a.example.evil"), replace(page, origin="http://a.example")):
        assert code(desk.pairings.identify, other, token) == "token_misused"


def test_another_process_of_the_same_program_is_the_application_too(desk: Desk) -> None:
    application, token = desk.pair()
    assert desk.pairings.identify(replace(EDITOR, pid=1, started=99, parent="/bin/x"), token).id == application.id


def test_a_program_that_was_replaced_while_it_ran_proves_nothing(desk: Desk) -> None:
    _, token = desk.pair()
    for changes in ({"executable": None}, {"sha256": None}, {"executable": None, "sha256": None}):
        assert code(desk.pairings.identify, replace(EDITOR, **changes), token) == "caller_unknown"


def test_expiry(desk: Desk) -> None:
    desk.days = 30
    application, token = desk.pair()
    assert application.expires == NOW + timedelta(days=30)
    desk.later(days=29, hours=23)
    desk.pairings.identify(EDITOR, token)
    desk.later(hours=1)
    assert code(desk.pairings.identify, EDITOR, token) == "pairing_expired"
    assert code(desk.pairings.rename, application.id, "b") == "application_not_found"


def test_revoking_ends_the_token_and_every_grant(desk: Desk) -> None:
    application, token = desk.pair()
    desk.book.add(Grant("g", application.id, Effect.ALLOW, Operation.DOCUMENT, created=NOW))
    desk.book.add(Grant("s", application.id, Effect.ALLOW, Operation.RAW, session=("t", 1), created=NOW))
    assert desk.pairings.revoke(application.id).revoked
    assert code(desk.pairings.identify, EDITOR, token) == "pairing_revoked"
    assert desk.book.list() == desk.store.grants() == []
    desk.open()
    assert code(desk.pairings.identify, EDITOR, token) == "pairing_revoked"
    caller = replace(EDITOR, application=Paired(application.id, application.name))
    assert code(desk.pairings.require_counting, caller) == "pairing_revoked"
    desk.pairings.require_counting(EDITOR)
    assert code(desk.pairings.revoke, "nobody") == "application_not_found"
    assert code(desk.pairings.require_active, application.id) == "application_not_found"
    desk.pairings.revoke(application.id)


def test_a_revocation_that_cannot_be_written_changes_nothing(desk: Desk) -> None:
    application, token = desk.pair()
    desk.book.add(Grant("g", application.id, Effect.ALLOW, Operation.DOCUMENT, created=NOW))
    desk.store._database.execute("PRAGMA query_only = ON")
    assert code(desk.pairings.revoke, application.id) == "callers_failed"
    desk.pairings.identify(EDITOR, token)
    assert len(desk.book.list()) == 1


def test_a_changed_program_is_told_apart_and_may_be_accepted(desk: Desk) -> None:
    application, token = desk.pair()
    updated = replace(EDITOR, sha256="cd" * 32)
    with pytest.raises(ProgramChanged) as caught:
        desk.pairings.identify(updated, token)
    assert (caught.value.code, caught.value.known_no, caught.value.application.id) == (
        "program_changed",
        False,
        application.id,
    )
    desk.pairings.accept_program(application.id, "cd" * 32)
    assert desk.pairings.identify(updated, token).id == application.id
    assert code(desk.pairings.identify, EDITOR, token) == "program_changed", "the one before is another now"
    desk.open()
    assert desk.pairings.identify(updated, token).id == application.id


def test_a_changed_program_that_the_holder_does_not_know_asks_no_more(desk: Desk) -> None:
    application, token = desk.pair()
    updated = replace(EDITOR, sha256="cd" * 32)
    desk.pairings.refuse_program(application.id, "cd" * 32)
    with pytest.raises(ProgramChanged) as caught:
        desk.pairings.identify(updated, token)
    assert caught.value.known_no
    with pytest.raises(ProgramChanged) as caught:
        desk.pairings.identify(replace(EDITOR, sha256="ef" * 32), token)
    assert not caught.value.known_no, "yet another one is another question"
    desk.pairings.identify(EDITOR, token)
    for number in range(2 * module.MAX_REFUSED):
        desk.pairings.refuse_program(application.id, f"{number:064x}")
    assert len(desk.pairings._refused) == module.MAX_REFUSED


# Keeping


def test_everything_is_there_after_a_restart(desk: Desk) -> None:
    application, token = desk.pair()
    offer: Offer = desk.pairings.start(process(8), "b")
    desk.pairings.rename(application.id, "别名")
    desk.open()
    assert [each.name for each in desk.pairings.list()] == ["别名"]
    assert desk.pairings.identify(EDITOR, token) == Paired(application.id, "别名")
    assert code(desk.pairings.ask, offer.id, offer.secret, process(8)) == "pairing_not_found"


def test_when_it_was_here_last_is_kept_roughly(desk: Desk) -> None:
    application, token = desk.pair()
    assert not desk.pairings.unwritten
    desk.later(minutes=1)
    desk.pairings.identify(EDITOR, token)
    first = desk.now
    assert desk.pairings.unwritten
    desk.pairings.note_uses()
    assert not desk.pairings.unwritten
    desk.later(minutes=9)
    desk.pairings.identify(EDITOR, token)
    assert not desk.pairings.unwritten
    assert desk.pairings.get(application.id).last_used == first
    desk.later(minutes=1)
    desk.pairings.identify(EDITOR, token)
    desk.pairings.rename(application.id, "b")
    desk.pairings.note_uses()
    assert [each.last_used for each in desk.store.applications()] == [desk.now]
    desk.later(days=-1)  # the clock was set back
    desk.pairings.identify(EDITOR, token)
    assert desk.pairings.get(application.id).last_used == desk.now


def test_many_applications(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_APPLICATIONS", 3)
    first, token = desk.pair(name="a1")
    second, _ = desk.pair(name="a2")
    desk.pair(name="a3")
    offer = desk.pairings.start(EDITOR, "a4")
    desk.pairings.ask(offer.id, offer.secret, EDITOR)
    assert code(desk.pairings.finish, offer.id, EDITOR) == "too_many_applications"
    desk.pairings.revoke(second.id)
    desk.later(seconds=1)
    desk.pairings.revoke(first.id)
    desk.pair(name="a4")
    assert len(desk.pairings.list()) == len(desk.store.applications()) == 3
    desk.pair(name="a5")
    assert code(desk.pairings.identify, EDITOR, token) == "token_invalid", "a revoked one made room"
    desk.open()
    assert len(desk.pairings.list()) == 3
