"""An unlocker on a scripted device, so that each step can be held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from line_parts import Holder
from sealagent.callers.model import Paired
from sealagent.callers.peer import Caller
from sealagent.consent.prompter import Occasion
from sealagent.events import Event
from sealagent.signing.unlock import Unlocked, Unlocker
from sealdrivers.contract import PinState, TokenInfo
from sealdrivers.errors import PinIncorrect, WorkerTimeout

URI = "pkcs11:token=scripted"
RIGHT, WRONG = "right-pin", "wrong-pin"
IDLE, ABSOLUTE = 10.0, 35.0
TOKEN = TokenInfo(URI, "Scripted", "1", "", "", "/none", "pkcs11", True, False, False, False, PinState())
FREE = replace(TOKEN, login_required=False)
ON_DEVICE = replace(TOKEN, protected_authentication_path=True)


def caller(number: int, *, started: int | None = 7, application: str | None = None) -> Caller:
    paired = Paired(application, "an application") if application else None
    return Caller(1000, 1000, 10_000 + number, "/usr/bin/test", started, application=paired)


@dataclass
class Device:
    """A token service with one token."""

    info: TokenInfo = TOKEN
    logged: bool = False
    logins: int = 0
    held_up: asyncio.Event | None = None
    """A login waits for it."""
    fails: int = 0
    """Log-outs that go wrong."""

    async def tokens(self) -> list[TokenInfo]:
        return [self.info]

    async def login(self, uri: str, pin: bytearray | None, *, confirmed_last_try: bool = False) -> None:
        assert not self.logged, "a login on top of another tells nothing of the PIN"
        self.logins += 1
        if self.held_up is not None:
            await self.held_up.wait()
        await asyncio.sleep(0)
        if pin is not None and bytes(pin) != RIGHT.encode():
            raise PinIncorrect("the PIN is wrong")
        self.logged = True

    async def logout(self, uri: str) -> None:
        await asyncio.sleep(0)
        self.logged = False
        if self.fails:
            self.fails -= 1
            raise WorkerTimeout("the module did not answer")

    def logged_in(self, uri: str) -> bool:
        return self.logged


@dataclass
class Bench:
    """An unlocker on the scripted device."""

    device: Device = field(default_factory=Device)
    holder: Holder = field(default_factory=lambda: Holder(RIGHT))
    idle: float = IDLE
    gone: Callable[[Caller], Awaitable[None]] | None = None
    now: float = 1_000_000.0
    ended: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.unlocker = Unlocker(
            self.device,
            self.holder,
            lambda: datetime.fromtimestamp(self.now, UTC),
            self.events.append,
            idle_seconds=self.idle,
            absolute_seconds=ABSOLUTE,
            ended=self.ended.append,
            gone=self.gone,
        )

    async def use(self, who: Caller | None, **asked: bool) -> Unlocked:
        async with self.unlocker.unlocked(self.device.info, Occasion(who), **asked) as entered:
            return entered

    @asynccontextmanager
    async def using(self, who: Caller | None) -> AsyncIterator[asyncio.Task[Unlocked]]:
        """Have somebody use the token for as long as the block runs."""
        done, inside = asyncio.Event(), asyncio.Event()

        async def work() -> Unlocked:
            async with self.unlocker.unlocked(self.device.info, Occasion(who)) as entered:
                inside.set()
                await done.wait()
                return entered

        task = asyncio.create_task(work())
        await inside.wait()
        yield task
        done.set()
        await task


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def scene(work: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 20))
