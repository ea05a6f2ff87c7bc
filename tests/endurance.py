"""Keys that come and go, and libraries that fail in every way, over and over: nothing may leak, and nothing be lost.

Used by ``make bench`` with a thousand rounds, and by the tests with some dozens.
"""

from __future__ import annotations

import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agent_world import Daemon, until
from sealagent.client import Agent, AgentError

__all__ = ["Fault", "FaultyToken", "Footprint", "Outcome", "endure_faults", "endure_replugging", "faults_of"]

Fault = tuple[str, str, object]
"""Name, function, argument: as the soft tokens take them."""


class FaultyToken(Protocol):
    """A soft token of either interface."""

    def set_fault(self, name: str, function: str, argument: object = None, *, times: int | None = None) -> None: ...

    def clear_faults(self) -> None: ...

    def remove(self) -> None: ...

    def insert(self) -> None: ...


_SIGNATURES = ("zero", "ones", "flip", "hash", "other_key", "ecdsa")
"""Lies that are seen when the signature is verified."""

_FAULTS: dict[str, tuple[Fault, ...]] = {
    "skf": (
        *(("signature", "SKF_ECCSignData", kind) for kind in (*_SIGNATURES, "der", "left")),
        *(("return", "SKF_ECCSignData", code) for code in ("0x0A000001", "0x0A00000F", "0x0A00002D", "0x0A0000FF")),
        ("return", "SKF_OpenContainer", "0x0A00000E"),
        ("return", "SKF_EnumDev", "0x0A000001"),
        ("return", "SKF_GetDevInfo", "0x0A000001"),
        ("no_output", "SKF_ECCSignData", None),
        ("oversize", "SKF_EnumContainer", None),
        ("overrun", "SKF_EnumContainer", 8),
        ("length", "SKF_ExportCertificate", "0xFFFFFFFF"),
        ("unplug", "SKF_ECCSignData", None),
        ("crash", "SKF_ECCSignData", "segv"),
        ("crash", "SKF_ECCSignData", "abort"),
        ("crash", "SKF_GetDevInfo", "exit"),
        ("hang", "SKF_ECCSignData", None),
    ),
    "pkcs11": (
        *(("signature", "C_Sign", kind) for kind in (*_SIGNATURES, "short_r", "short_s")),
        *(("return", "C_Sign", code) for code in ("0x5", "0x30", "0x90", "0xB3", "0x101", "0x80000001")),
        ("return", "C_SignInit", "0x82"),
        ("return", "C_GetSlotList", "0x5"),
        ("return", "C_OpenSession", "0xB1"),
        ("no_output", "C_Sign", None),
        ("oversize", "C_Sign", 100_000),
        ("overrun", "C_Sign", 400),
        ("length", "C_Sign", "0xFFFFFFFF"),
        ("length", "C_GetAttributeValue", "0x7FFFFFFF"),
        ("unplug", "C_Sign", None),
        ("crash", "C_Sign", "segv"),
        ("crash", "C_Sign", "abort"),
        ("crash", "C_GetTokenInfo", "exit"),
        ("hang", "C_Sign", None),
    ),
}


def faults_of(driver: str, *, hangs: bool = True) -> tuple[Fault, ...]:
    """Return faults that a signature may meet, by interface."""
    return tuple(fault for fault in _FAULTS[driver] if hangs or fault[0] != "hang")


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a daemon and its workers hold."""

    descriptors: int
    """Of the daemon."""
    processes: int
    """Worker processes, dead ones that were not reaped included."""
    resident: float
    """MiB of the daemon."""

    @classmethod
    def of(cls, daemon: Daemon) -> Footprint:
        folder = Path(f"/proc/{daemon.process.pid}")
        resident = int((folder / "statm").read_text().split()[1]) * resource.getpagesize() / 2**20
        return cls(len(list((folder / "fd").iterdir())), len(daemon.workers()), resident)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    rounds: int
    seconds: float
    before: Footprint
    after: Footprint
    released: int
    """Signatures the client got."""
    refused: Counter[str]
    """Errors it got instead, by code."""
    kinds: Counter[str]
    """Entries added to the record."""

    @property
    def lost_or_unrecorded(self) -> int:
        """Signatures released without an entry, entries ``signed`` that nobody got, intents without an outcome."""
        signed, ended = self.kinds["signed"], self.kinds["signed"] + self.kinds["failed"]
        return abs(signed - self.released) + abs(self.kinds["intent"] - ended)


class _Client:
    """Asks for one signature at a time and counts what comes of it."""

    def __init__(self, daemon: Daemon, key: str) -> None:
        self._daemon = daemon
        self._key = key
        self.released = 0
        self.refused: Counter[str] = Counter()

    def sign(self, agent: Agent) -> str | None:
        """Return the code of the error, if it was one."""
        try:
            agent.sign_digests([bytes(range(32))], key=self._key)
        except AgentError as error:
            self.refused[error.code] += 1
            return error.code
        self.released += 1
        return None

    def signs_again(self, agent: Agent) -> None:
        """Wait until the token signs as if nothing had been; a worker may wait before it starts anew."""
        until(lambda: self.sign(agent) is None, 30)


def _entries(agent: Agent, after: int) -> Iterator[dict[str, Any]]:
    while page := agent.records(after=after, limit=1000)["records"]:
        yield from page
        after = page[-1]["number"]


def endure_replugging(daemon: Daemon, key: str, token: FaultyToken, rounds: int) -> Outcome:
    """Pull the token and plug it in again, with a signature asked for in each state."""
    client = _Client(daemon, key)
    with daemon.agent() as agent:

        def once() -> None:
            token.remove()
            assert client.sign(agent) is not None, "a token that is not there has signed"
            token.insert()
            client.signs_again(agent)

        return _measured(daemon, agent, client, once, rounds)


def endure_faults(
    daemon: Daemon, key: str, token: FaultyToken, rounds: int, faults: tuple[Fault, ...], seed: int = 1
) -> Outcome:
    """Let one signature after another meet a fault, and the next one none."""
    client = _Client(daemon, key)
    chosen = random.Random(seed)
    order: list[Fault] = []
    with daemon.agent() as agent:

        def once() -> None:
            if not order:
                order.extend(chosen.sample(faults, len(faults)))
            name, function, argument = order.pop()
            token.set_fault(name, function, argument, times=1)
            client.sign(agent)
            token.clear_faults()
            if name == "unplug":
                token.insert()
            client.signs_again(agent)

        return _measured(daemon, agent, client, once, rounds)


def _measured(daemon: Daemon, agent: Agent, client: _Client, once: Any, rounds: int) -> Outcome:
    for _ in range(max(5, rounds // 10)):  # until caches and pools have their size
        once()
    start = agent.checkpoint()["size"]
    client.released, client.refused = 0, Counter()
    before, begun = Footprint.of(daemon), time.monotonic()
    for _ in range(rounds):
        once()
    seconds = time.monotonic() - begun
    until(lambda: len(daemon.workers()) <= before.processes)  # the last one that was killed is being reaped
    kinds = Counter(entry["kind"] for entry in _entries(agent, start))
    return Outcome(rounds, seconds, before, Footprint.of(daemon), client.released, client.refused, kinds)
