"""A register without a device: what its tests and the benchmark put on record."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from sealagent.maker.register import Places, Register, Said, Who, opened_register
from sealagent.maker.states import Asker, Change

T = TypeVar("T")
WHO = Who("经办人甲", 1000)
CODE = "91350100M000100Y43"


class Clock:
    """Time that tests set; each look moves it on by a second."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 27, 8, 0, 0, 500_000, UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def said(reason: str = "", asked_by: Asker = Asker.UNIT, text: str = "") -> Said:
    return Said(WHO, asked_by, reason, text)


def sm3_of(number: int) -> str:
    """Return 64 digits that stand for a seal's SM3."""
    return hashlib.sha256(f"seal {number}".encode()).hexdigest()


def applied_body(name: str = "某某公司公章") -> dict[str, Any]:
    asked = {"applicant": "某某公司", "credit_code": CODE, "name": name, "requests": [], "certificates": []}
    return {"event": "applied", "application": asked, **said(asked_by=Asker.OWNER).as_json()}


def made_body(number: int, application: int, since: str, *, supersedes: str = "", reason: str = "") -> dict[str, Any]:
    """Return the body of an entry ``made`` as the register's index needs it."""
    seal = {
        "sm3": sm3_of(number),
        "agent_id": sm3_of(number)[::-1][:32],
        "es_id": f"110000{number:08d}",
        "name": f"某某公司公章{number}",
        "owner": "某某公司",
        "credit_code": CODE,
        "version": 4,
        "valid_until": "2029-11-27T08:00:00Z",
    }
    body: dict[str, Any] = {
        "event": "made",
        "seal": seal,
        "application": application,
        "since": since,
        **said(reason, Asker.OWNER).as_json(),
        "counters": {"es_id.110000": number},
    }
    return body | ({"supersedes": supersedes} if supersedes else {})


async def add_seal(register: Register, number: int, *, state: str = "made") -> str:
    """Put a seal on record, up to a state; return its SM3."""
    application = (await register.record(applied_body())).number
    await register.record(made_body(number, application, register.since()))
    sm3 = sm3_of(number)
    if state != "made":
        await register.change(sm3, Change.FILED, said(), filing=f"F{number}")
    if state not in ("made", "filed"):
        await register.change(sm3, Change.DELIVERED, said())
    return sm3


@asynccontextmanager
async def register_at(folder: Path, clock: Callable[[], datetime] | None = None) -> AsyncIterator[Register]:
    """Open the register of a folder, made if need be."""
    async with opened_register(Places(folder), clock or Clock(), create=True, wait=5) as register:
        yield register


def with_register(
    folder: Path, work: Callable[[Register], Awaitable[T]], clock: Callable[[], datetime] | None = None
) -> T:
    """Open the register, do some work, close it: what one command does."""

    async def main() -> T:
        async with register_at(folder, clock) as register:
            return await work(register)

    return asyncio.run(main())
