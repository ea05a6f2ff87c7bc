"""The daemon's side of one module: its worker processes, which request goes where, and what happens when one fails.

- A worker serves one request at a time, in order. A request that a worker may have begun is never sent again by itself:
  a PIN try or a signature must not be doubled. One that it certainly never began goes to the next worker, once.
- A worker that does not answer in time is killed; a dead one is replaced when the next request needs it. The new one
  is not logged in.
- With several workers, signing goes to those that are logged in; other requests go to the least busy, and a further
  worker is started when all are busy or at login.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from sealdrivers.contract import (
    CertificateInfo,
    DataObjectInfo,
    KeyInfo,
    KeyType,
    Mechanism,
    ModuleInfo,
    TokenContents,
    TokenInfo,
)
from sealdrivers.errors import (
    DeviceFailure,
    DriverError,
    LoginRequired,
    ModuleNotLoadable,
    PinIncorrect,
    PinLocked,
    PinRejected,
    TokenNotFound,
    TokenRemoved,
    WorkerDied,
    WorkerProtocolError,
    WorkerTimeout,
)
from sealdrivers.host.process import PYTHON_WORKER, Request, WorkerProcess
from sealdrivers.host.protocol import PROTOCOL_VERSION, Frame, from_json, to_json
from sealdrivers.vendors import ModuleOptions

__all__ = ["ModuleSpec", "ModuleSupervisor", "Timeouts"]

log = logging.getLogger(__name__)

FIRST_DELAY = 0.25
"""Seconds before a worker is started again after the second failure in a row; doubled with each further one."""

LONGEST_DELAY = 30.0

SLOT_EVENT_SECONDS = 5.0
"""A module that takes longer to say whether something happened, though told not to wait, is not asked again."""

CLOSE_GRACE = 5.0
"""Seconds :meth:`ModuleSupervisor.close` leaves a worker to finish."""

# The token's login is gone with these, whatever the cause.
_LOGIN_LOST = (LoginRequired, TokenRemoved, TokenNotFound)
_load = attrgetter("load")


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """Which module to run, and how."""

    path: Path
    """Resolved path; it has passed the allow-list."""
    driver: str = "pkcs11"
    workers: int = 1
    """Worker processes at most."""
    options: ModuleOptions = field(default_factory=ModuleOptions)
    """What the driver is told."""
    command: tuple[str, ...] = PYTHON_WORKER
    """What runs the worker; another one for modules of another word size (docs/worker-protocol.md)."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds a worker may take for one request, counted from the moment it is handed over."""

    start: float = 30.0
    """Starting the process and loading the module."""
    sign: float = 30.0
    login: float = 30.0
    """Also logout and change of PIN; with a PIN pad it includes the holder's typing."""
    generate: float = 300.0
    other: float = 30.0


class ModuleSupervisor:
    """Runs one module in its worker processes. Used from one event loop; every method may raise a ``DriverError``."""

    def __init__(self, spec: ModuleSpec, timeouts: Timeouts) -> None:
        self.spec = spec
        self.info: ModuleInfo | None = None
        """What the module says of itself, once it was loaded."""
        self._timeouts = timeouts
        self._workers: list[WorkerProcess | None] = [None] * spec.workers
        self._login = asyncio.Lock()
        self._closed = False
        self._starts = [0] * spec.workers
        self._ended_workers: list[WorkerProcess] = []
        """Given up, but perhaps not gone yet."""
        self._failures = 0
        """Workers in a row that failed, all but the first without having served anything."""
        self._not_before = 0.0
        self._timed_out = 0
        self._last_error: DriverError | None = None
        self._tells_events = True
        """Whether the module may be asked for slot events."""

    # What the daemon asks for

    async def tokens(self) -> tuple[TokenInfo, ...]:
        """Return the module's present tokens."""
        answer = await self._ask("tokens", {})
        found = from_json(tuple[TokenInfo, ...], answer.header.get("result"))
        logged_in = {uri for worker in self._alive() for uri in worker.logged_in}
        return tuple(replace(token, logged_in=token.uri in logged_in) for token in found)

    async def slot_event(self) -> bool | None:
        """Say whether a token came or went since this was asked last; None: the module cannot tell, and never could.

        A module that failed at it is not asked again: it is an optimisation, not worth a worker.
        """
        if not self._tells_events:
            return None
        try:
            answer = await self._ask("slot_event", {}, seconds=SLOT_EVENT_SECONDS)
            happened = answer.header.get("result")
        except DriverError as error:
            log.info("%s: no slot events: %s", self.spec.path, error.message)
            happened = None
        self._tells_events = isinstance(happened, bool)
        return happened if self._tells_events else None

    async def contents(self, token_uri: str) -> TokenContents:
        """Return what the token holds."""
        answer = await self._ask("contents", {}, token_uri=token_uri)
        return from_json(TokenContents, answer.header.get("result"))

    async def sign(
        self,
        token_uri: str,
        key_uri: str,
        mechanism: Mechanism,
        digest: bytes,
        pin: bytearray | None,
        confirmed_last_try: bool = False,
    ) -> bytes:
        """Sign a digest with a key of the token."""
        parts = (digest,) if pin is None else (digest, pin)
        answer = await self._ask(
            "sign",
            {"key": key_uri, "mechanism": mechanism, **_confirmation(confirmed_last_try)},
            parts,
            token_uri=token_uri,
            seconds=self._timeouts.sign,
        )
        if len(answer.parts) != 1:
            raise WorkerProtocolError("the worker answered without a signature")
        return bytes(answer.parts[0])

    async def login(self, token_uri: str, pin: bytearray | None, confirmed_last_try: bool = False) -> None:
        """Log in on one worker, then, once the PIN is known to be right, on the others.

        A further worker that fails otherwise than by refusing the PIN is left out; signing goes to the rest. After an
        error or a cancellation the token is locked everywhere.
        """
        parts = () if pin is None else (pin,)
        async with self._login:
            self._retire_outdated(token_uri)
            workers = [worker for worker in self._all_workers() if token_uri not in worker.outdated]
            if not workers:
                raise DeviceFailure("every worker of the module is busy, and knows the PIN only as it was; try again")
            ask = partial(
                self._ask, "login", parts=parts, token_uri=token_uri, seconds=self._timeouts.login, pinned=True
            )
            accepted = False
            try:
                for worker in workers:
                    try:
                        await ask(_confirmation(confirmed_last_try), worker=worker)
                    except DriverError as error:
                        if not accepted or isinstance(error, (PinIncorrect, PinLocked, PinRejected)):
                            raise
                        log.warning("%s: a further worker is not logged in: %s", self.spec.path, error.message)
                    else:
                        accepted = True
            except BaseException:
                for worker in workers:
                    if token_uri in worker.logged_in:
                        self._log_out_behind(worker, token_uri)
                raise

    async def logout(self, token_uri: str) -> None:
        """Log out on every worker; one that cannot is ended, so the token is locked in any case."""
        async with self._login:
            for worker in self._alive():
                if token_uri in worker.logged_in:
                    with suppress(DriverError):  # _answered ends the worker
                        await self._ask(
                            "logout",
                            {},
                            token_uri=token_uri,
                            seconds=self._timeouts.login,
                            worker=worker,
                            pinned=True,
                        )

    def logged_in(self, token_uri: str) -> bool:
        """Say whether a worker is logged in to the token, as far as is known without asking it."""
        return any(token_uri in worker.logged_in for worker in self._alive())

    async def change_pin(
        self, token_uri: str, old: bytearray, new: bytearray, confirmed_last_try: bool = False
    ) -> None:
        """Change the user PIN."""
        await self._set_pin("change_pin", token_uri, (old, new), confirmed_last_try)

    async def unblock_pin(
        self, token_uri: str, admin: bytearray, new: bytearray, confirmed_last_try: bool = False
    ) -> None:
        """Set a new user PIN with the administrator's. The worker that does it is logged out of the token after it."""
        await self._set_pin("unblock_pin", token_uri, (admin, new), confirmed_last_try)

    async def _set_pin(
        self, op: str, token_uri: str, pins: tuple[bytearray, bytearray], confirmed_last_try: bool
    ) -> None:
        arguments = _confirmation(confirmed_last_try)
        async with self._login:
            worker = self._choose(token_uri)
            try:
                await self._ask(
                    op,
                    arguments,
                    pins,
                    token_uri=token_uri,
                    seconds=self._timeouts.login,
                    worker=worker,
                    pinned=True,
                )
            finally:
                for other in self._alive():
                    if other is not worker:
                        other.outdated.add(token_uri)

    def _retire_outdated(self, token_uri: str) -> None:
        """End idle workers that know a PIN only as it was before another worker changed it.

        SoftHSM 2.6.1 compares with what it read when it was loaded: the new PIN would be wrong there, and spend a try.
        A worker that is busy is left alone, and not logged in.
        """
        for worker in self._alive():
            if token_uri in worker.outdated and worker.load == 0:
                worker.kill(WorkerDied("another worker of the module has changed the PIN"))

    async def generate_key(self, token_uri: str, type: KeyType, label: str, object_id: bytes) -> KeyInfo:
        """Generate a key pair on the device."""
        arguments = {"type": type, "label": label}
        answer = await self._ask(
            "generate_key", arguments, (object_id,), token_uri=token_uri, seconds=self._timeouts.generate
        )
        return from_json(KeyInfo, answer.header.get("result"))

    async def import_certificate(self, token_uri: str, der: bytes, label: str, object_id: bytes) -> CertificateInfo:
        """Store a certificate on the token."""
        answer = await self._ask("import_certificate", {"label": label}, (der, object_id), token_uri=token_uri)
        return from_json(CertificateInfo, answer.header.get("result"))

    async def import_data(self, token_uri: str, value: bytes, label: str, application: str) -> DataObjectInfo:
        """Store a data object on the token."""
        arguments = {"label": label, "application": application}
        answer = await self._ask("import_data", arguments, (value,), token_uri=token_uri)
        return from_json(DataObjectInfo, answer.header.get("result"))

    def health(self) -> dict[str, Any]:
        """Return how the module does, as JSON values.

        ``state`` is ``ready``, ``starting``, ``idle`` (no worker runs; the next request starts one), ``failed`` (the
        last worker failed, ``fault`` says how) or ``closed``. ``worker`` is the program that serves the module, None
        for the usual one.
        """
        alive = self._alive()
        if self._closed:
            state = "closed"
        elif any(worker.ready for worker in alive):
            state = "ready"
        elif self._failures:
            state = "failed"
        else:
            state = "starting" if alive else "idle"
        error = self._last_error
        return {
            "path": str(self.spec.path),
            "driver": self.spec.driver,
            "worker": None if self.spec.command == PYTHON_WORKER else self.spec.command[0],
            "state": state,
            "fault": error.message if error and state == "failed" else None,
            "workers": len(alive),
            "workers_at_most": self.spec.workers,
            "requests": sum(worker.load for worker in alive),
            "restarts": sum(count - 1 for count in self._starts if count),
            "timeouts": self._timed_out,
            "last_error": {"code": error.code, "message": error.message} if error else None,
        }

    async def close(self, grace: float = CLOSE_GRACE) -> None:
        """End every worker, letting what is under way finish for ``grace`` seconds."""
        self._closed = True
        await asyncio.gather(*(worker.close(grace) for worker in self._alive() + self._ended_workers))

    # Workers and requests

    def _alive(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers if worker is not None]

    def _choose(self, token_uri: str | None) -> WorkerProcess:
        """Return the worker for a request, starting one if there is none or all are busy."""
        alive = self._alive()
        if not alive:
            return self._start(0)
        if token_uri is not None and (logged_in := [worker for worker in alive if token_uri in worker.logged_in]):
            return min(logged_in, key=_load)
        best = min(alive, key=_load)
        if best.load > 0 and len(alive) < self.spec.workers:
            with suppress(DriverError):  # a queue behind a working one is better than an error
                return self._start(self._workers.index(None))
        return best

    def _all_workers(self) -> list[WorkerProcess]:
        """Return every worker, those that run first, starting the missing ones as far as possible."""
        workers = self._alive() or [self._start(0)]
        for place, worker in enumerate(self._workers):
            if worker is None:
                with suppress(DriverError):
                    workers.append(self._start(place))
        return workers

    def _start(self, place: int) -> WorkerProcess:
        """Start a worker and let it load the module; what is asked of it meanwhile waits behind that.

        :raises DriverError: closed, cannot be started, or failed so often that it waits before the next attempt.
        """
        loop = asyncio.get_running_loop()
        if self._closed:
            raise WorkerDied("the agent is closing")
        if self._last_error is not None and loop.time() < self._not_before:
            wait = self._not_before - loop.time()
            raise type(self._last_error)(f"{self._last_error.message}; the next attempt is in {wait:.1f} s")
        name = f"{self.spec.path.name}/{place}"
        try:
            worker = WorkerProcess(self.spec.command, name, on_answer=self._answered, on_end=self._ended)
        except WorkerDied as error:
            self._note_failure(error)
            raise
        self._workers[place] = worker
        self._starts[place] += 1
        arguments = {
            "protocol": PROTOCOL_VERSION,
            "driver": self.spec.driver,
            "path": str(self.spec.path),
            "options": to_json(self.spec.options),
        }
        worker.submit(Request("open", arguments, timeout=self._timeouts.start, pinned=True))
        return worker

    async def _ask(
        self,
        op: str,
        arguments: dict[str, Any],
        parts: Sequence[bytes | bytearray] = (),
        *,
        token_uri: str | None = None,
        seconds: float | None = None,
        worker: WorkerProcess | None = None,
        pinned: bool = False,
    ) -> Frame:
        """Send a request and wait for its answer.

        :param seconds: how long it may take; by default ``Timeouts.other``.
        :param worker: who gets it; by default whoever suits best.
        :param pinned: whether it goes to nobody else, should that worker die before it sees the request.
        """
        if worker is None:
            worker = self._choose(token_uri)
        elif not worker.alive:
            raise WorkerDied("the worker process ended")
        request = Request(
            op,
            arguments,
            parts,
            token_uri=token_uri,
            timeout=self._timeouts.other if seconds is None else seconds,
            pinned=pinned,
            future=asyncio.get_running_loop().create_future(),
        )
        worker.submit(request)
        return await request.answer()

    def _answered(self, worker: WorkerProcess, request: Request, frame: Frame, error: DriverError | None) -> None:
        """Keep track of what an answer changes, whether or not anybody still waits for it."""
        if request.op == "open":
            if error is None:
                self.info = from_json(ModuleInfo, frame.header.get("result"))
                worker.set_ready()
            else:
                worker.kill(error)
            return
        worker.served = True
        self._failures = 0
        token_uri = request.token_uri
        if request.op == "tokens" and error is None:
            found = from_json(tuple[TokenInfo, ...], frame.header.get("result"))
            worker.logged_in &= {token.uri for token in found if token.logged_in}
        if token_uri is None:
            return
        if request.op == "unblock_pin":
            worker.logged_in.discard(token_uri)
        if error is None:
            if request.op == "login":
                if request.abandoned:
                    self._log_out_behind(worker, token_uri)
                else:
                    worker.logged_in.add(token_uri)
            elif request.op == "logout":
                worker.logged_in.discard(token_uri)
        elif isinstance(error, _LOGIN_LOST) or request.op == "login":
            worker.logged_in.discard(token_uri)
        elif request.op == "logout":
            worker.kill(error)  # the only way left to lock the token for certain

    def _log_out_behind(self, worker: WorkerProcess, token_uri: str) -> None:
        """Undo a login that nobody waited for to the end."""
        worker.logged_in.discard(token_uri)
        if worker.alive:
            worker.submit(Request("logout", {}, token_uri=token_uri, timeout=self._timeouts.login, pinned=True))

    def _ended(self, worker: WorkerProcess, reason: DriverError, leftover: list[Request]) -> None:
        """Take note that a worker is dead; what it never began goes to another one."""
        self._workers[self._workers.index(worker)] = None
        self._ended_workers = [ended for ended in self._ended_workers if not ended.gone] + [worker]
        if worker.served:
            self._failures = 0
        if not self._closed and not worker.outdated:
            if not worker.ready and isinstance(reason, WorkerDied):
                reason = ModuleNotLoadable(
                    "the module ended its worker process while it was being loaded"
                    if self.spec.command == PYTHON_WORKER
                    else f"the worker {self.spec.command[0]} ended before it had loaded the module"
                )
            log.warning("%s: %s", worker.name, reason.message)
            self._note_failure(reason)
        for request in leftover:
            if request.pinned or not (worker.ready or self._alive()):
                request.fail(reason)
                continue
            try:
                self._choose(request.token_uri).submit(request)
            except DriverError as error:
                request.fail(error)

    def _note_failure(self, reason: DriverError) -> None:
        self._failures += 1
        self._last_error = reason
        self._timed_out += isinstance(reason, WorkerTimeout)
        delay = min(FIRST_DELAY * 2.0 ** (self._failures - 2), LONGEST_DELAY) if self._failures > 1 else 0.0
        self._not_before = asyncio.get_running_loop().time() + delay


def _confirmation(confirmed_last_try: bool) -> dict[str, Any]:
    return {"confirmed_last_try": True} if confirmed_last_try else {}
