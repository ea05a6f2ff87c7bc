"""Safe retries: the same key and request signs once and gets the same answer."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable

import pytest

from sealagent.api import idempotency
from sealagent.api.idempotency import Answer, Before, IdempotencyCache, fingerprint
from sealagent.errors import FormatError, SealAgentError


def _counting(body: bytes = b"answer") -> tuple[list[int], Callable[[], Awaitable[Answer]]]:
    calls: list[int] = []

    async def work() -> Answer:
        calls.append(1)
        await asyncio.sleep(0)
        return Answer(body, "text/plain")

    return calls, work


def test_the_same_key_works_once_even_at_the_same_moment() -> None:
    async def scene() -> None:
        cache = IdempotencyCache()
        calls, work = _counting()
        answers = await asyncio.gather(*(cache.run("1", "k", b"r", work) for _ in range(5)))
        assert len(set(answers)) == 1
        assert await cache.run("1", "k", b"r", work) is answers[0]
        assert len(calls) == 1
        await cache.run("2", "k", b"r", work)  # another user's key is another key
        await cache.run("1", None, b"r", work)
        assert len(calls) == 3

    asyncio.run(scene())


def test_another_request_under_the_same_key_conflicts() -> None:
    async def scene() -> None:
        cache = IdempotencyCache()
        _, work = _counting()
        await cache.run("1", "k", b"r", work)
        with pytest.raises(SealAgentError) as conflict:
            await cache.run("1", "k", b"other", work)
        assert conflict.value.code == "idempotency_conflict"

    asyncio.run(scene())


def test_a_failure_is_shared_by_those_who_wait_and_then_forgotten() -> None:
    async def scene() -> None:
        cache = IdempotencyCache()

        async def fail() -> Answer:
            await asyncio.sleep(0.01)
            raise SealAgentError("pin_cancelled", "no")

        results = await asyncio.gather(*(cache.run("1", "k", b"r", fail) for _ in range(3)), return_exceptions=True)
        assert [getattr(result, "code", None) for result in results] == ["pin_cancelled"] * 3
        calls, work = _counting()
        await cache.run("1", "k", b"r", work)
        assert len(calls) == 1

    asyncio.run(scene())


def test_a_stopped_request_does_not_leave_others_waiting() -> None:
    async def scene() -> None:
        cache = IdempotencyCache()

        async def forever() -> Answer:
            await asyncio.sleep(60)
            raise AssertionError

        first = asyncio.create_task(cache.run("1", "k", b"r", forever))
        await asyncio.sleep(0)
        second = asyncio.create_task(cache.run("1", "k", b"r", forever))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(SealAgentError):
            await second

    asyncio.run(scene())


def test_large_and_old_answers_are_dropped_but_never_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MAX_KEPT_OCTETS", 100)

    async def scene() -> None:
        cache = IdempotencyCache()
        _, work = _counting(bytes(60))
        await cache.run("1", "a", b"r", work)
        await cache.run("1", "b", b"r", work)
        assert (await cache.run("1", "b", b"r", work)).body == bytes(60)
        with pytest.raises(SealAgentError) as gone:
            await cache.run("1", "a", b"r", work)
        assert gone.value.code == "idempotency_result_gone"

        async def streamed() -> Answer:
            return Answer(b"", "text/plain", file=io.BytesIO(b"x"))

        await cache.run("1", "c", b"r", streamed)
        with pytest.raises(SealAgentError, match="no longer kept"):
            await cache.run("1", "c", b"r", streamed)

    asyncio.run(scene())


@pytest.mark.parametrize("key", ["", "a" * 129, "ключ", "a\nb"])
def test_malformed_keys_are_refused(key: str) -> None:
    _, work = _counting()
    with pytest.raises(FormatError):
        asyncio.run(IdempotencyCache().run("1", key, b"r", work))


def test_fingerprints_keep_parts_apart() -> None:
    assert fingerprint(b"ab", b"c") != fingerprint(b"a", b"bc")
    assert fingerprint(b"ab") == fingerprint(b"ab")


def test_what_still_runs_is_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MAX_KEPT", 4)

    async def scene() -> None:
        cache = IdempotencyCache()
        prompt = asyncio.Event()
        signed: list[int] = []

        async def wait_for_the_holder() -> Answer:
            signed.append(1)
            await prompt.wait()
            return Answer(b"signed", "text/plain")

        first = asyncio.create_task(cache.run("1", "slow", b"r", wait_for_the_holder))
        await asyncio.sleep(0)
        for number in range(20):
            await cache.run("1", f"k{number}", b"r", _counting()[1])
        second = asyncio.create_task(cache.run("1", "slow", b"r", wait_for_the_holder))
        await asyncio.sleep(0)
        prompt.set()
        assert await first is await second
        assert len(signed) == 1
        assert len(cache._kept) <= 5
        assert cache._octets == sum(kept.answer.size for kept in cache._kept.values() if kept.answer)

    asyncio.run(scene())


def test_what_was_signed_before_a_restart_counts() -> None:
    """Only the record knows of the key: the same request is carried out, on the signatures kept; others are not."""
    asked: list[tuple[str, str]] = []

    def known(owner: str, key: str) -> Before | None:
        asked.append((owner, key))
        return {"k": Before(b"r", 0), "partly gone": Before(b"r", 3)}.get(key)

    async def scene() -> None:
        cache = IdempotencyCache(known)
        calls, work = _counting()
        for key, request, code in (
            ("k", b"other", "idempotency_conflict"),
            ("partly gone", b"r", "idempotency_result_gone"),
            ("partly gone", b"other", "idempotency_conflict"),
        ):
            with pytest.raises(SealAgentError) as refused:
                await cache.run("1", key, request, work)
            assert refused.value.code == code
        assert calls == []
        assert (await cache.run("1", "k", b"r", work)).body == b"answer"
        await cache.run("1", "new", b"r", work)
        assert len(calls) == 2
        assert asked == [("1", "k"), ("1", "partly gone"), ("1", "partly gone"), ("1", "k"), ("1", "new")]
        await cache.run("1", "k", b"r", work)  # from memory
        assert len(asked) == 5

    asyncio.run(scene())


def test_a_large_answer_is_made_again_around_its_signatures() -> None:
    async def scene() -> None:
        cache = IdempotencyCache(lambda owner, key: Before(b"r", 0))
        made: list[int] = []

        async def streamed() -> Answer:
            made.append(1)
            return Answer(b"", "text/plain", file=io.BytesIO(b"x"))

        for _ in range(2):
            answer = await cache.run("1", "k", b"r", streamed)
            assert answer.file is not None
        assert len(made) == 2

    asyncio.run(scene())
