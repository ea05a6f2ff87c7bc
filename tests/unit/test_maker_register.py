"""The register between crashes: the ledger is what counts, and the index and the archive follow it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from register_parts import (
    Clock,
    add_seal,
    applied_body,
    made_body,
    register_at,
    said,
    sm3_of,
    with_register,
)
from sealagent.clock import system_clock
from sealagent.errors import SealAgentError
from sealagent.maker.archive import Archive
from sealagent.maker.index import Index
from sealagent.maker.publishing import RegisterView
from sealagent.maker.register import MAX_CHANGES, Places, Register, Who, opened_register
from sealagent.maker.states import Asker, Change
from sealagent.records.entry import EntryKind
from sealagent.seals.status import SealState
from sealagent.verdict import timestamp


def index_files(folder: Path) -> list[Path]:
    return [folder / f"index.sqlite{suffix}" for suffix in ("", "-wal", "-shm")]


def code_of(action: Any) -> str:
    with pytest.raises(SealAgentError) as caught:
        action()
    return caught.value.code


async def state(register: Register, number: int = 1) -> str:
    return str(register.seal(sm3_of(number)).state)


def test_an_entry_says_who_when_why_and_at_whose_wish(tmp_path: Path) -> None:
    async def work(register: Register) -> None:
        sm3 = await add_seal(register, 1, state="valid")
        row = await register.change(sm3, Change.CANCELLED, said("merger", Asker.ISSUING_DEPARTMENT, "并入乙公司"))
        (entry,) = register.ledger.entries(after=row.entry - 1)
        assert entry.kind is EntryKind.ADMIN
        body: Any = entry.body
        assert body == {
            "event": "cancelled",
            "seal": {"sm3": sm3, "es_id": "11000000000001", "name": "某某公司公章1"},
            "since": timestamp(row.since),
            "who": {"operator": "经办人甲", "uid": 1000},
            "asked_by": "issuing_department",
            "reason": "merger",
            "text": "并入乙公司",
        }
        assert timedelta() < entry.time - row.since < timedelta(seconds=5)  # the clock of the test runs
        assert [str(change.state) for change, _ in register.index.history(sm3)] == [
            "made",
            "filed",
            "valid",
            "cancelled",
        ]

    with_register(tmp_path, work)


def test_what_is_refused_is_on_record_and_changes_nothing(tmp_path: Path) -> None:
    async def work(register: Register) -> None:
        sm3 = await add_seal(register, 1)
        with pytest.raises(SealAgentError) as caught:
            await register.change(sm3, Change.DELIVERED, said())
        assert caught.value.code == "register_transition_refused"
        (entry,) = register.ledger.entries(after=register.ledger.head().size - 1)
        body: Any = entry.body
        assert (entry.kind, body["event"], body["reason"]) == (
            EntryKind.REFUSED,
            "delivered",
            "register_transition_refused",
        )
        assert body["who"]["operator"] == "经办人甲"
        assert await state(register) == "made"
        assert register.index_matches() is None

    with_register(tmp_path, work)


def test_files_are_private(tmp_path: Path) -> None:
    with_register(tmp_path / "state", lambda register: add_seal(register, 1))
    for file in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


@pytest.mark.parametrize("harm", ["gone", "old", "empty", "no database", "another format", "cut", "foreign"])
def test_an_index_that_cannot_be_believed_is_made_anew(tmp_path: Path, harm: str) -> None:
    folder, other = tmp_path / "state", tmp_path / "other"
    with_register(folder, lambda register: add_seal(register, 1))
    shutil.copytree(folder, tmp_path / "before")
    with_register(folder, lambda register: add_seal(register, 2, state="valid"))
    with_register(other, lambda register: add_seal(register, 7))
    for file in index_files(folder):
        file.unlink(missing_ok=True)
    index = folder / "index.sqlite"
    if harm == "old":
        shutil.copy(tmp_path / "before" / "index.sqlite", index)
    elif harm == "empty":
        index.touch()
    elif harm == "no database":
        index.write_bytes(b"not a database at all" * 1000)
    elif harm == "another format":
        shutil.copy(tmp_path / "before" / "index.sqlite", index)
        with sqlite3.connect(index) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    elif harm == "cut":
        shutil.copy(tmp_path / "before" / "index.sqlite", index)
        os.truncate(index, 8192)
    elif harm == "foreign":
        shutil.copy(other / "index.sqlite", index)

    async def look(register: Register) -> tuple[str, str, str | None]:
        return await state(register, 1), await state(register, 2), register.index_matches()

    assert with_register(folder, look) == ("made", "valid", None)


def test_an_index_that_is_ahead_of_a_ledger_from_a_backup(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with_register(folder, lambda register: add_seal(register, 1))
    shutil.copytree(folder, tmp_path / "backup")
    with_register(folder, lambda register: add_seal(register, 2, state="valid"))
    for name in ("register.sqlite", "register.sqlite-wal", "register.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup" / "register.sqlite", folder / "register.sqlite")

    async def look(register: Register) -> tuple[list[str], str | None]:
        return [row.sm3 for row in register.index.seals()], register.index_matches()

    assert with_register(folder, look) == ([sm3_of(1)], None)


def test_an_index_takes_entries_in_their_order_only(tmp_path: Path) -> None:
    async def work(register: Register) -> None:
        await add_seal(register, 1, state="valid")
        entries = [(entry, register._view.leaf(entry)) for entry in register._view.entries(0)]
        origin = register._view.origin
        for wrong in (entries[1:], [entries[0], entries[2]], [*entries[:2], entries[1]]):
            index = Index(None)
            with pytest.raises(SealAgentError) as caught:
                index.follow(origin, wrong)
            assert caught.value.code == "register_damaged"
            assert index.position().applied == 0
            index.close()
        index = Index(None)
        index.follow(origin, entries[:2])
        for action in (lambda: index.follow("another", entries[2:]), lambda: index.follow(origin, [(entries[3])])):
            assert code_of(action) == "register_damaged"
        index.follow(origin, entries[2:])
        assert index.difference(register.index) is None
        index.close()

    with_register(tmp_path, work)


def test_an_index_that_was_edited_is_told_by_verify(tmp_path: Path) -> None:
    with_register(tmp_path, lambda register: add_seal(register, 1))
    with sqlite3.connect(tmp_path / "index.sqlite") as database:
        database.execute("UPDATE seal SET state = 'valid'")
    database.close()

    async def look(register: Register) -> str | None:
        return register.index_matches()

    assert with_register(tmp_path, look) == "seal"


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from register_parts import *
from sealagent.maker.register import Register

async def main():
    async with register_at(Path(sys.argv[1])) as register:
        sm3 = await add_seal(register, 1, state="valid")
        keep = register._follow
        register._follow = lambda: os.kill(os.getpid(), signal.SIGKILL)   # durable in the ledger, not in the index
        if sys.argv[2] == "change":
            await register.change(sm3, Change.CANCELLED, said("merger", Asker.OWNER))
        elif sys.argv[2] == "intent":
            async with register.intended({"event": "make", **said().as_json()}):
                pass
        else:
            register._follow = keep
            async with register.intended({"event": "make", **said().as_json()}) as intent:
                application = (await register.record(applied_body())).number
                body = made_body(2, application, register.since())
                body["seal"]["sm3"] = register.archive.put_aside(b"a seal")
                if sys.argv[2] == "kept":
                    await register.record(body, intent)
                os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def killed(folder: Path, where: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, folder, where], capture_output=True, timeout=60, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.returncode == -9, done.stderr.decode()


def test_killed_between_ledger_and_index(tmp_path: Path) -> None:
    """Whoever reads the index meanwhile is told that it lags behind; the next command finishes what was begun."""
    killed(tmp_path, "change")
    index = Index(tmp_path / "index.sqlite")
    found = index.seal(sm3_of(1))
    index.close()
    assert found is not None
    assert found.state is SealState.VALID  # what a reader would say who trusts the index alone

    async def look() -> SealState:
        view = RegisterView(Places(tmp_path), system_clock)
        try:
            return (await view.known(sm3_of(1))).history[-1].state
        finally:
            view.close()

    assert asyncio.run(look()) is SealState.CANCELLED
    assert with_register(tmp_path, state) == "cancelled"


def test_killed_after_an_intent(tmp_path: Path) -> None:
    killed(tmp_path, "intent")

    async def look(register: Register) -> tuple[Any, ...]:
        (last,) = register.ledger.entries(after=register.ledger.head().size - 1)
        return last.kind, last.body["reason"], register.ledger.open_intents(), register.index_matches()

    assert with_register(tmp_path, look) == (EntryKind.FAILED, "interrupted", [], None)


@pytest.mark.parametrize("where", ["lost", "kept"])
def test_killed_before_a_seal_is_in_its_place(tmp_path: Path, where: str) -> None:
    """A seal that is on record is kept; one that is not is removed, so that none exists which the register lacks."""
    killed(tmp_path, where)
    aside = tmp_path / "archive" / "aside"
    (name,) = [file.name for file in aside.iterdir()]
    (aside / "new-0123456789abcdef").write_bytes(b"half a file")

    async def look(register: Register) -> bytes | str:
        assert [*aside.iterdir()] == []
        try:
            return register.archive.get(name)
        except SealAgentError as error:
            return error.code

    assert with_register(tmp_path, look) == (b"a seal" if where == "kept" else "archive_failed")


def test_commands_wait_for_each_other(tmp_path: Path) -> None:
    async def main() -> list[str]:
        order: list[str] = []

        async def command(name: str, seconds: float) -> None:
            async with register_at(tmp_path) as register:
                order.append(f"{name} begins")
                await register.record(applied_body())
                await asyncio.sleep(seconds)
                order.append(f"{name} ends")

        await asyncio.gather(command("first", 0.3), command("second", 0))
        return order

    assert asyncio.run(main()) == ["first begins", "first ends", "second begins", "second ends"]


def test_waiting_has_an_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with register_at(tmp_path), opened_register(Places(tmp_path), system_clock, wait=0.1):
            pass

    assert code_of(lambda: asyncio.run(main())) == "register_in_use"


def test_there_is_no_register_by_accident(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened_register(Places(tmp_path / "state"), system_clock):
            pass

    assert code_of(lambda: asyncio.run(main())) == "register_missing"
    assert not (tmp_path / "state").exists()


def test_a_clock_that_was_set_back_does_not_reorder_history(tmp_path: Path) -> None:
    clock = Clock()

    async def work(register: Register) -> None:
        sm3 = await add_seal(register, 1, state="valid")
        before = register.seal(sm3).since
        clock.now -= timedelta(days=2)
        row = await register.change(sm3, Change.SUSPENDED, said("investigation"))
        assert row.since == before
        clock.now += timedelta(days=9)
        assert (await register.change(sm3, Change.RESUMED, said("matter_settled"))).since > before

    with_register(tmp_path, work, clock)


def test_a_seal_that_was_changed_too_often_may_only_end(tmp_path: Path) -> None:
    """Answers hold 64 states: there has to be room for the last ones."""

    async def work(register: Register) -> None:
        sm3 = await add_seal(register, 1, state="valid")
        for _ in range((MAX_CHANGES - 2) // 2):
            await register.change(sm3, Change.SUSPENDED, said("investigation"))
            await register.change(sm3, Change.RESUMED, said("matter_settled"))
        with pytest.raises(SealAgentError) as caught:
            await register.change(sm3, Change.SUSPENDED, said("investigation"))
        assert caught.value.facts["allowed"] == ["cancelled", "superseded", "lost", "invalidated"]
        await register.change(sm3, Change.LOST, said("stolen_carrier"))
        await register.change(sm3, Change.CANCELLED, said("merger", Asker.OWNER))
        assert (await register.change(sm3, Change.INVALIDATED, said("court_decision"))).changes <= 64

    with_register(tmp_path, work)


def test_seals_by_every_name(tmp_path: Path) -> None:
    async def work(register: Register) -> None:
        for number in (1, 2, 3):
            await add_seal(register, number)
        sm3 = sm3_of(2)
        row = register.seal(sm3)
        for name in (sm3, sm3[:8], row.agent_id, row.agent_id[:8], "11000000000002", "某某公司公章2"):
            assert register.seal(name) == row, name
        for name in (sm3[:7], "某某公司", "", "1100000000000", "%", "g" * 64):
            with pytest.raises(SealAgentError) as caught:
                register.seal(name)
            assert caught.value.code == "seal_not_registered", name

    with_register(tmp_path, work)


def test_a_name_means_the_seal_that_is_in_place(tmp_path: Path) -> None:
    async def work(register: Register) -> None:
        old = await add_seal(register, 1)
        application = register.seal(old).application
        body = made_body(2, application, register.since(), supersedes=old, reason="expiry")
        body["seal"]["name"] = "某某公司公章1"
        await register.record(body)
        new = register.seal("某某公司公章1")
        assert (new.sm3, new.supersedes) == (sm3_of(2), old)
        assert (register.seal(old).state, register.seal(old).superseded_by) == (SealState.SUPERSEDED, new.sm3)
        body = made_body(3, application, register.since())
        body["seal"]["name"] = "某某公司公章1"
        await register.record(body)
        assert_code = pytest.raises(SealAgentError, match="use esID or SM3")
        with assert_code as caught:
            register.seal("某某公司公章1")
        assert caught.value.code == "seal_ambiguous"

    with_register(tmp_path, work)


@pytest.mark.parametrize(
    "body",
    [
        {"event": "unheard of"},
        {"event": "filed", "seal": {"sm3": sm3_of(9)}, "since": "2026-11-27T08:00:00Z", "asked_by": "unit"},
        {"event": "delivered", "seal": {"sm3": sm3_of(1)}, "since": "2027-11-27T08:00:00Z", "asked_by": "unit"},
        {
            "event": "filed",
            "seal": {"sm3": sm3_of(1)},
            "since": "2020-01-01T00:00:00Z",
            "asked_by": "unit",
            "filing": "",
        },
        {"event": "filed", "seal": {"sm3": sm3_of(1)}, "since": "2027-11-27T08:00:00Z", "asked_by": "nobody"},
        {"event": "filed"},
        {"event": "made", "seal": {"sm3": sm3_of(2)}, "since": "2027-11-27T08:00:00Z", "application": 1},
        {},
    ],
)
def test_entries_that_do_not_follow(tmp_path: Path, body: dict[str, Any]) -> None:
    """Such an entry is not recorded; and whoever writes one into the ledger cannot make the index say so."""

    async def work(register: Register) -> None:
        await add_seal(register, 1)
        size = register.ledger.head().size
        with pytest.raises(SealAgentError) as caught:
            await register.record(body)
        assert caught.value.code == "register_damaged"
        assert register.ledger.head().size == size
        assert register.index_matches() is None
        await register.ledger.append(EntryKind.ADMIN, body)

    with_register(tmp_path, work)
    assert code_of(lambda: with_register(tmp_path, state)) == "register_damaged"


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
def test_an_operator_has_a_name(name: str) -> None:
    assert code_of(lambda: Who.here(name)) == "operator_missing"
    assert Who.here(" 经办人乙 ").operator == "经办人乙"


def test_texts_are_bounded() -> None:
    for text in ("x" * 501, "a\nb", "\x1b[31m"):
        assert code_of(lambda text=text: said(text=text).as_json()) == "register_text_invalid"


def test_the_archive_knows_what_it_keeps(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    name = archive.put(b"a request")
    assert archive.put(b"a request") == name
    assert archive.get(name) == b"a request"
    file = tmp_path / "archive" / name[:2] / name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b"another")
    for wrong in (name, "0" * 64, "../../etc/passwd", ""):
        assert code_of(lambda wrong=wrong: archive.get(wrong)) == "archive_failed"
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert code_of(lambda: archive.get(name)) == "archive_failed"
    assert code_of(lambda: archive.put(bytes((8 << 20) + 1))) == "archive_failed"
