"""The signing line with a real worker and a real record: every intent gets its outcome, nothing leaves without one."""

from __future__ import annotations

import asyncio
import errno
import io
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from agent_world import TestAuthority
from host_parts import eventually, run, stop, workers
from line_parts import CALLER, Holder, Line, nothing_blind, opened_line
from ofd_samples import document_files, pack
from sealagent.callers.peer import Caller
from sealagent.documents.ofd.seal import Invisible
from sealagent.errors import FormatError, SealAgentError
from sealagent.records.check import check_export
from sealagent.records.entry import MAX_BODY, EntryKind
from sealagent.signing.line import DocumentJob
from sealdrivers.errors import DriverError, WorkerDied
from softhsm2_fixtures import SoftToken


@pytest.fixture
def token(softhsm_token: SoftToken) -> SoftToken:
    softhsm_token.add_key("ec-p256")
    return softhsm_token


def _checked(line: Line) -> list[tuple[str, str | None]]:
    """Return the entries, after a check that the record is whole and every intent has its outcome."""
    exported = io.BytesIO()
    line.ledger.export(exported)
    assert check_export(exported.getvalue().splitlines()).ok
    assert line.ledger.open_intents() == []
    return line.entries()


class _Refusing(io.BytesIO):
    """A file on a full disk."""

    def write(self, data: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_request_cancelled_while_its_intent_is_written_leaves_an_outcome(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        async with opened_line(tmp_path, token, Holder(token.user_pin)) as line:
            await line.sign()
            append = line.ledger.submit

            def submitted(kind: EntryKind, body: Any, **keep: Any) -> Any:
                task = asyncio.current_task()
                assert task is not None
                if kind is EntryKind.INTENT:
                    task.cancel()
                return append(kind, body, **keep)

            line.ledger.submit = submitted  # type: ignore[method-assign]
            with pytest.raises(asyncio.CancelledError):
                await asyncio.create_task(line.sign())
            line.ledger.submit = append  # type: ignore[method-assign]
            assert _checked(line)[2:] == [("intent", None), ("failed", "cancelled")]

    run(scene)


def test_a_request_cancelled_while_the_device_signs_leaves_an_outcome(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        async with opened_line(tmp_path, token, Holder(token.user_pin)) as line:
            await line.sign()
            [worker] = workers(line.tokens)
            stop(worker)
            signing = asyncio.create_task(line.sign())
            await eventually(lambda: len(line.entries()) == 3, "the intent")
            signing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await signing
            assert _checked(line)[2:] == [("intent", None), ("failed", "cancelled")]
            worker.kill(WorkerDied("the test is over"))

    run(scene)


def test_a_record_that_fails_at_the_outcome_releases_nothing_and_is_settled_later(
    tmp_path: Path, token: SoftToken
) -> None:
    async def scene() -> None:
        async with opened_line(tmp_path, token, Holder(token.user_pin)) as line:
            await line.sign()
            store, write = line.ledger._store, line.ledger._store.write

            def full(rows: Any, opened: Any, closed: Any, *rest: Any) -> Any:
                if closed:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return write(rows, opened, closed, *rest)

            store.write = full  # type: ignore[method-assign]
            for _ in range(2):  # the second cannot even begin: what is owed goes first
                with pytest.raises(SealAgentError) as refused:
                    await line.sign()
                assert refused.value.code == "record_failed"
            assert line.entries()[2:] == [("intent", None)]
            store.write = write  # type: ignore[method-assign]
            assert len(await line.sign()) == 1
            settled = [("intent", None), ("failed", "record_failed"), ("intent", None), ("signed", None)]
            assert _checked(line)[2:] == settled

    run(scene)


def test_no_room_for_the_sealed_document_is_said_and_recorded(
    tmp_path: Path, softhsm_token: SoftToken, authority: TestAuthority
) -> None:
    certificate = authority.issue(softhsm_token.add_key("ec-p256"))
    softhsm_token.add_certificate(certificate)
    softhsm_token.add_data(authority.make_seal([certificate]), label="seal")

    async def scene() -> None:
        async with opened_line(tmp_path, softhsm_token, Holder(softhsm_token.user_pin), authority=authority) as line:
            source = io.BytesIO(pack(document_files()))
            job = DocumentJob("测试单位公章", [Invisible()], "合同.ofd")
            with pytest.raises(SealAgentError) as refused:
                await line.line.seal_document(CALLER, job, source, _Refusing())
            assert refused.value.code == "spool_full"
            assert _checked(line) == [("intent", None), ("failed", "spool_full")]

    run(scene)


def test_an_unforeseen_fault_after_the_intent_is_recorded_without_its_words(
    tmp_path: Path, token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: Any) -> NoReturn:
        raise RuntimeError("the words of a document")

    async def scene() -> None:
        async with opened_line(tmp_path, token, Holder(token.user_pin)) as line:
            monkeypatch.setattr("sealagent.signing.performing.verify_digest", explode)
            with pytest.raises(RuntimeError):
                await line.sign()
            assert _checked(line) == [("intent", None), ("failed", "internal_error")]
            assert line.ledger.read(2).body["detail"] == "RuntimeError"

    run(scene)


def test_names_of_any_length_go_on_record_shortened(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        async with opened_line(tmp_path, token, Holder(token.user_pin), decide=nothing_blind) as line:
            caller = Caller(1, 1, 1, "/" + "\\xff" * 4000, 1)
            names = ["章" * 256, "\0" * 256, "‮evil\x1b[2J\n", "名" * 20_000]
            for name in names:
                with pytest.raises(SealAgentError, match="switched off"):
                    await line.line.sign_digests(caller, await line.only_key(), None, [bytes(32)], name)
            assert _checked(line) == [("refused", "use_denied")] * len(names)
            for entry, name in zip(line.ledger.entries(), names, strict=True):
                assert len(entry.octets) < MAX_BODY / 2
                document = entry.body["document"]
                assert isinstance(document, dict)
                shown = str(document["name"])
                assert shown == name or ("…" in shown and name.startswith(shown.partition("…")[0]))

    run(scene)


def test_a_refused_digest_names_key_and_count_and_a_malformed_one_is_not_recorded(
    tmp_path: Path, token: SoftToken
) -> None:
    async def scene() -> None:
        async with opened_line(tmp_path, token, Holder(token.user_pin), decide=nothing_blind) as line:
            key = await line.only_key()
            with pytest.raises(FormatError, match="signs 32 octets"):
                await line.line.sign_digests(CALLER, key, None, [bytes(100_000)], None)
            with pytest.raises(FormatError, match="SM3 gives 32"):
                await line.line.sign_with_seal(CALLER, "whatever", bytes(100_000), "x", None)
            assert line.entries() == []
            with pytest.raises(SealAgentError):
                await line.line.sign_digests(CALLER, key, None, [bytes(32)] * 3, "a")
            [entry] = line.ledger.entries()
            assert str(entry.body["key"]).startswith("pkcs11:")
            assert entry.body["digests"] == 3

    run(scene)


@pytest.mark.parametrize("count", [1, 4])
def test_a_worker_that_died_while_idle_costs_one_more_pin_and_no_failed_entry(
    tmp_path: Path, token: SoftToken, count: int
) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin)
        async with opened_line(tmp_path, token, holder, workers=count) as line:
            await line.sign()
            for worker in workers(line.tokens):
                worker.kill(WorkerDied("it crashed"))
            assert not line.unlocker.is_unlocked((await line.tokens.tokens())[0].uri)
            await line.sign()
            assert len(holder.asked) == 2
            assert _checked(line) == [("intent", None), ("signed", None)] * 2
            assert all(not any(buffer) for buffer in holder.given)

    run(scene)


def test_a_fault_of_one_signature_leaves_the_token_unlocked_and_lockable(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        holder = Holder(token.user_pin)
        async with opened_line(tmp_path, token, holder, idle=60) as line:
            await line.sign()
            [uri] = [info.uri for info in await line.tokens.tokens()]
            sign = line.tokens.sign

            async def broken(*_: Any, **__: Any) -> bytes:
                raise DriverError("one bad day", native_code=2**63)

            line.tokens.sign = broken  # type: ignore[assignment, method-assign]
            with pytest.raises(DriverError):
                await line.sign()
            line.tokens.sign = sign  # type: ignore[method-assign]
            assert line.unlocker.is_unlocked(uri)
            assert (await line.tokens.tokens())[0].logged_in
            line.clock.ahead += timedelta(seconds=61)
            await line.unlocker.lock_expired()
            assert not (await line.tokens.tokens())[0].logged_in
            assert _checked(line)[2:] == [("intent", None), ("failed", "driver_error")]

    run(scene)
