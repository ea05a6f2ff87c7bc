"""Telling applications by their tokens: what is asked once, what goes on record, what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from caller_parts import in_loop
from sealagent.api import identifying as module
from sealagent.api.identifying import Identifier, bearer
from sealagent.callers.grants import GrantBook
from sealagent.callers.pairings import Pairings
from sealagent.callers.peer import Caller
from sealagent.callers.store import CallersStore
from sealagent.consent.prompter import Consent, ConsentRequest
from sealagent.errors import SealAgentError
from sealagent.records.ledger import Ledger
from sealagent.signing.recording import Recorder

EDITOR = Caller(1000, 1000, 42, "/usr/bin/editor", 7)
DIGEST, OTHER = "ab" * 32, "cd" * 32


@dataclass
class Gate:
    """An identifier, and who stands around it."""

    store: CallersStore
    ledger: Ledger
    now: datetime = datetime(2026, 11, 28, tzinfo=UTC)
    sha256: str = DIGEST
    answer: Consent | SealAgentError = Consent.ONCE
    asked: list[ConsentRequest] = field(default_factory=list)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    """The holder answers once it is set."""
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the holder is asked."""

    def __post_init__(self) -> None:
        self.opened.set()
        self.pairings = Pairings(self.store, GrantBook(self.store, lambda: self.now), lambda: self.now)
        self.identify = Identifier(self.describe, self.pairings, self.ask, Recorder(self.ledger))
        known = replace(EDITOR, sha256=DIGEST)
        offer = self.pairings.start(known, "编辑器")
        self.pairings.ask(offer.id, offer.secret, known)
        self.application, self.token = self.pairings.finish(offer.id, known)

    async def describe(self, caller: Caller) -> Caller:
        await asyncio.sleep(0)
        return replace(caller, sha256=self.sha256)

    async def ask(self, request: ConsentRequest) -> Consent:
        self.asked.append(request)
        self.reading.set()
        await self.opened.wait()
        if isinstance(self.answer, SealAgentError):
            raise self.answer
        return self.answer

    async def code(self, caller: Caller = EDITOR, token: str | None = None) -> str:
        """Return how it ends: the code of the error, or the name of the application."""
        try:
            done = await self.identify(caller, self.token if token is None else token)
        except SealAgentError as error:
            return error.code
        return str(done.name)

    def entries(self) -> list[tuple[str, Any, Any]]:
        return [
            (each.kind.value, each.body.get("operation"), each.body.get("reason")) for each in self.ledger.entries()
        ]


@asynccontextmanager
async def gate(folder: Path) -> AsyncIterator[Gate]:
    with (
        closing(CallersStore(folder / "callers.sqlite")) as store,
        Ledger.open(folder / "record.sqlite", lambda: datetime(2026, 11, 28, tzinfo=UTC)) as ledger,
    ):
        yield Gate(store, ledger)


@pytest.mark.parametrize(
    ("fields", "token"),
    [
        (["Bearer abc"], "abc"),
        (["bearer abc"], "abc"),
        (["BEARER   a-._~+/b=="], "a-._~+/b=="),
        (["Bearer"], None),
        (["Bearer "], None),
        (["Bearerabc"], None),
        (["Bearer a b"], None),
        (["Bearer a, Bearer b"], None),
        (["Bearer abc\n"], None),
        (["Bearer é"], None),
        (["Bearer " + "a" * 129], None),
        (["Basic abc"], None),
        ([""], None),
        (["Bearer abc", "Bearer abc"], None),
    ],
)
def test_the_field_is_read_strictly(fields: list[str], token: str | None) -> None:
    if token is not None:
        assert bearer(fields) == token
        return
    with pytest.raises(SealAgentError) as caught:
        bearer(fields)
    assert caught.value.code == "token_invalid"
    assert "abc" not in caught.value.message


@in_loop
async def test_a_caller_is_described_with_or_without_a_token(tmp_path: Path) -> None:
    async with gate(tmp_path) as office:
        stranger = await office.identify(EDITOR, None)
        assert (stranger.sha256, stranger.application) == (DIGEST, None)
        caller = await office.identify(EDITOR, office.token)
        assert caller.application is not None
        assert (caller.application.id, caller.name, caller.sha256) == (office.application.id, "编辑器", DIGEST)
        assert not office.pairings.unwritten
        assert [each.last_used for each in office.store.applications()] == [office.now]
        assert office.entries() == []
        assert office.asked == []


@in_loop
async def test_many_requests_of_a_changed_program_ask_once(tmp_path: Path) -> None:
    async with gate(tmp_path) as office:
        office.sha256 = OTHER
        office.opened.clear()
        waiting = [asyncio.create_task(office.code()) for _ in range(20)]
        await office.reading.wait()
        await asyncio.sleep(0.05)
        office.opened.set()
        assert await asyncio.gather(*waiting) == ["编辑器"] * 20
        [question] = office.asked
        assert (question.question, question.application) == ("changed", "编辑器")
        assert office.entries() == [("intent", "accept_program", None), ("admin", "accept_program", None)]
        assert office.pairings.get(office.application.id).sha256 == OTHER


@in_loop
async def test_a_no_holds_for_all_who_wait_and_all_who_come(tmp_path: Path) -> None:
    async with gate(tmp_path) as office:
        office.sha256, office.answer = OTHER, Consent.NO
        codes = await asyncio.gather(*(office.code() for _ in range(5)))
        assert sorted(codes) == ["consent_refused", *["program_changed"] * 4]
        assert await office.code() == "program_changed"
        assert len(office.asked) == 1
        assert office.entries() == [("refused", "accept_program", "consent_refused")]
        office.sha256 = DIGEST
        assert await office.code() == "编辑器"


@in_loop
async def test_a_session_is_no_plain_yes(tmp_path: Path) -> None:
    async with gate(tmp_path) as office:
        office.sha256, office.answer = OTHER, Consent.SESSION
        assert await office.code() == "consent_refused"


@pytest.mark.parametrize("how", ["prompt_timeout", "caller_gone", "consent_unavailable"])
@in_loop
async def test_a_question_that_was_not_answered_may_be_asked_again(tmp_path: Path, how: str) -> None:
    async with gate(tmp_path) as office:
        office.sha256, office.answer = OTHER, SealAgentError(how, "so")
        assert await office.code() == how
        assert office.pairings.get(office.application.id).sha256 == DIGEST
        office.answer = Consent.ONCE
        assert await office.code() == "编辑器"
        assert len(office.asked) == 2


@in_loop
async def test_a_program_that_was_accepted_but_not_kept_is_not_the_application(tmp_path: Path) -> None:
    async with gate(tmp_path) as office:
        office.sha256 = OTHER
        office.store._database.execute("PRAGMA query_only = ON")
        assert await office.code() == "callers_failed"
        assert office.entries() == [("intent", "accept_program", None), ("failed", None, "callers_failed")]
        assert office.pairings.get(office.application.id).sha256 == DIGEST


@in_loop
async def test_misuse_goes_on_record_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NOTED", 3)
    async with gate(tmp_path) as office:
        thief = replace(EDITOR, executable="/tmp/thief")
        assert [await office.code(thief) for _ in range(5)] == ["token_misused"] * 5
        assert office.entries() == [("refused", "identify", "token_misused")]
        [entry] = office.ledger.entries()
        assert office.token not in repr(entry)
        for number in range(10):
            await office.code(replace(thief, started=100 + number))
        assert len(office.entries()) == 11
        assert len(office.identify._noted) == 3
        assert await office.code(token="A" * 43) == "token_invalid"
        assert len(office.entries()) == 11, "what any stranger can send fills no record"


@in_loop
async def test_a_full_disk_keeps_nobody_out_who_may_come_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with gate(tmp_path) as office:
        office.store._database.execute("PRAGMA query_only = ON")
        assert await office.code() == "编辑器"
        assert "not kept" in caplog.text
        office.store._database.execute("PRAGMA query_only = OFF")
        office.now += timedelta(minutes=10)
        assert await office.code() == "编辑器"
        assert [each.last_used for each in office.store.applications()] == [office.now]


@in_loop
async def test_what_the_holder_revoked_while_being_asked_stays_revoked(tmp_path: Path) -> None:
    async with gate(tmp_path) as office:
        office.sha256 = OTHER
        office.opened.clear()
        waiting = asyncio.create_task(office.code())
        await office.reading.wait()
        office.pairings.revoke(office.application.id)
        office.opened.set()
        assert await waiting == "application_not_found"
        assert await office.code() == "pairing_revoked"
