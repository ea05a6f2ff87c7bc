"""What the unit says of its seals to everybody, signed with its status key: answers about one, and the list of all.

Answers are made from the index, which any process may read. Before each, the index is compared with the ledger; while
it lags behind, nothing is answered, so that nobody hears "valid" of a seal whose cancellation is on record. Answers are
not on record themselves: they repeat what is there, and everybody may ask for any number of them.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sealagent.clock import Clock
from sealagent.errors import FormatError, SealAgentError
from sealagent.maker.device import Device, UnitKey
from sealagent.maker.index import Index
from sealagent.maker.register import Places, Register, Said, opened_register
from sealagent.pki.digests import digest
from sealagent.pki.signed import prepare_signed
from sealagent.records.view import RecordView
from sealagent.seals.answers import StatusAnswer, StatusList, encode_answer, encode_list
from sealagent.seals.status import StateChange

__all__ = ["Answers", "Published", "RegisterView", "publish_list", "published_list", "sign_content"]

CATCH_UP_SECONDS = 2.0
"""How long an answer waits for the index while another process is between the ledger and the index."""
_LOOK_SECONDS = 0.02
MAX_CACHED = 10_000
"""Answers kept; one has some 2 KiB."""
MAX_SIGNING = 64
"""Answers that wait for the device at once; a further question is turned away."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the register says of one seal at a moment."""

    es_id: str
    history: tuple[StateChange, ...]
    entry: int
    """Of the ledger, that made it so; 0: no such seal."""


class RegisterView:
    """The register as it is now, read while others change it.

    :raises SealAgentError: ``register_missing``, ``register_index_failed``.
    """

    def __init__(self, places: Places, clock: Clock) -> None:
        self._places = places
        self._clock = clock
        if not places.record.is_file():
            raise SealAgentError("register_missing", f"there is no register in {places.state_dir}")
        self._record = RecordView(places.record)
        try:
            self._index = Index(places.index)
        except BaseException:
            self._record.close()
            raise

    def close(self) -> None:
        """Let go of both files."""
        self._record.close()
        self._index.close()

    @property
    def index(self) -> Index:
        """For listings; it may lag behind the ledger for a moment."""
        return self._index

    @property
    def record(self) -> RecordView:
        """The ledger."""
        return self._record

    def size(self) -> int:
        """Return the number of the last entry."""
        return self._record.size()

    async def known(self, sm3: str) -> Known:
        """Return what the register says of a seal, with every entry up to now taken in.

        :raises SealAgentError: ``register_behind``.
        """
        await self.catch_up()
        row = self._index.seal(sm3)
        if row is None:
            return Known("", (), 0)
        history = tuple(change for change, _ in self._index.history(sm3))
        return Known(row.es_id, history, row.entry)

    async def catch_up(self) -> None:
        """Return once the index has every entry of the ledger.

        A process that is between the two is waited for; where one died there, its work is finished here.

        :raises SealAgentError: ``register_behind``.
        """
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while self._behind():
            if time.monotonic() >= deadline:
                raise SealAgentError("register_behind", "the register is being changed; its index is not up to date")
            try:
                async with opened_register(self._places, self._clock, wait=0):
                    pass
            except SealAgentError as error:
                if error.code != "register_in_use":
                    raise SealAgentError("register_behind", f"the index lags behind: {error.message}") from error
                await asyncio.sleep(_LOOK_SECONDS)
            self._reopen()

    def _behind(self) -> bool:
        size = self._record.size()  # read first: what is in the index by then is at least as new
        position = self._index.position()
        return position.applied < size or (size > 0 and position.origin != self._record.origin)

    def _reopen(self) -> None:
        """The index may have been made anew, in another file."""
        self._index.close()
        self._index = Index(self._places.index)


class Answers:
    """Signs answers about seals, and keeps them until the state changes or half their time is over.

    :param seconds: how long an answer counts as fresh.
    """

    def __init__(
        self, view: RegisterView, device: Device, key: UnitKey, clock: Clock, *, unit: str, seconds: int
    ) -> None:
        self._view = view
        self._device = device
        self._key = key
        self._clock = clock
        self._unit = unit
        self._validity = timedelta(seconds=seconds)
        self._kept: OrderedDict[str, tuple[int, datetime, bytes]] = OrderedDict()
        """By SM3: the entry that was the last, until when it is handed out, and the answer."""
        self._waiting = 0
        self._turn = asyncio.Lock()
        self.signed = 0
        """Answers made so far."""

    async def answer(self, sm3: str, at: datetime | None = None, nonce: bytes = b"") -> tuple[bytes, datetime]:
        """Return the signed answer about a seal (DER ContentInfo), and until when it may be kept.

        :param at: the moment that is asked about; None: now.
        :param nonce: makes the answer one for this question alone; it is not kept.
        :raises FormatError: ``status_question_invalid``: a moment in the future.
        :raises SealAgentError: ``register_behind``, ``status_busy``, and those of the device.
        """
        now = self._now()
        if at is not None and at > now:
            raise FormatError("status_question_invalid", "`at` is in the future", field="at")
        known = await self._view.known(sm3)
        # Only the plain question is kept: moments and nonces can be made up without end, and would push others out.
        plain = at is None and not nonce
        if plain and (kept := self._fresh(sm3, known)) is not None:
            return kept
        if self._waiting >= MAX_SIGNING:
            raise SealAgentError("status_busy", f"{self._waiting} answers wait for the device")
        self._waiting += 1
        try:
            async with self._turn:
                if plain and (kept := self._fresh(sm3, known)) is not None:
                    return kept  # somebody else asked for the same meanwhile
                return await self._made(sm3, at, nonce, known)
        finally:
            self._waiting -= 1

    async def _made(self, sm3: str, at: datetime | None, nonce: bytes, known: Known) -> tuple[bytes, datetime]:
        now = self._now()
        content = encode_answer(
            StatusAnswer(
                unit=self._unit,
                seal_sm3=sm3,
                es_id=known.es_id,
                history=known.history,
                at=now if at is None else at,
                produced_at=now,
                next_update=now + self._validity,
                nonce=nonce,
            )
        )
        message = await sign_content(self._device, self._key, content, now, "status")
        self.signed += 1
        until = now + self._validity / 2
        if at is None and not nonce and known.entry:
            self._kept[sm3] = (known.entry, until, message)
            self._kept.move_to_end(sm3)
            if len(self._kept) > MAX_CACHED:
                self._kept.popitem(last=False)
        return message, until

    def _fresh(self, sm3: str, known: Known) -> tuple[bytes, datetime] | None:
        """Return the kept answer if nothing has changed since and its time is not half over."""
        entry, until, message = self._kept.get(sm3, (-1, datetime.min, b""))
        if entry != known.entry or self._now() >= until:
            return None
        self._kept.move_to_end(sm3)
        return message, until

    def _now(self) -> datetime:
        return self._clock().astimezone(UTC).replace(microsecond=0)


async def sign_content(device: Device, key: UnitKey, content: bytes, time: datetime, purpose: str) -> bytes:
    """Return a signed message around the content (DER ContentInfo, :mod:`sealagent.pki.signed`)."""
    draft = prepare_signed(content, key.certificate, key.algorithm, time)
    return draft.finish(await device.sign(key, draft.to_sign, purpose))


async def publish_list(
    register: Register, device: Device, key: UnitKey, said: Said, *, list_id: str, unit: str, seconds: int
) -> bytes:
    """Make, sign and put on record the list of all seals with their histories; keep it for the status service.

    :return: the signed message, DER ContentInfo.
    """
    now = register.now()
    counter = f"status_list.{list_id}"
    sequence = register.index.counter(counter) + 1
    until = now + timedelta(seconds=seconds)

    def written() -> tuple[int, bytes]:
        histories = register.index.histories()
        return len(histories), encode_list(StatusList(list_id, unit, sequence, now, until, histories))

    # With 100,000 seals this takes seconds, in which the status service answers on.
    count, content = await asyncio.to_thread(written)
    about: dict[str, Any] = {
        "event": "status_list",
        "list": {
            "id": list_id,
            "sequence": sequence,
            "seals": count,
            "content_sm3": digest("sm3", content).hex(),
        },
        **said.as_json(),
        **key.as_json(),
    }
    async with register.intended(about) as intent:
        message = await sign_content(device, key, content, now, list_id)
        entry = await register.record({**about, "counters": {counter: sequence}}, intent)
    _keep(register.places.published, Published(sequence, now, entry.number), message)
    return message


@dataclass(frozen=True, slots=True, order=True)
class Published:
    """A list that was made; the name of its file says this of it."""

    sequence: int
    produced_at: datetime
    entry: int
    """Of the ledger, when it was made."""

    @property
    def name(self) -> str:
        return f"status-list-{self.sequence}-{int(self.produced_at.timestamp())}-{self.entry}.p7m"

    @classmethod
    def of(cls, name: str) -> Published | None:
        found = _LIST_FILE.fullmatch(name)
        if found is None:
            return None
        sequence, produced, entry = map(int, found.groups())
        return cls(sequence, datetime.fromtimestamp(produced, UTC), entry)


_LIST_FILE = re.compile(r"status-list-([1-9][0-9]{0,15})-([1-9][0-9]{0,11})-([1-9][0-9]{0,15})\.p7m", re.ASCII)


def published_list(places: Places) -> tuple[Published, bytes] | None:
    """Return the list that was made last, DER ContentInfo; None: there is none.

    :raises SealAgentError: ``archive_failed``.
    """
    try:
        found = [each for name in os.listdir(places.published) if (each := Published.of(name))]
        if not found:
            return None
        latest = max(found)
        return latest, (places.published / latest.name).read_bytes()
    except FileNotFoundError:  # none yet, or one that was replaced in this moment
        return None
    except OSError as error:
        raise SealAgentError("archive_failed", f"the status list cannot be read: {error.strerror}") from error


def _keep(folder: Path, published: Published, message: bytes) -> None:
    """Write the list, then remove those it replaces."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = folder / f"new-{secrets.token_hex(8)}"
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(message)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / published.name)
        for name in os.listdir(folder):
            if name != published.name:
                (folder / name).unlink()
    except OSError as error:
        raise SealAgentError("archive_failed", f"the status list cannot be kept: {error.strerror}") from error
