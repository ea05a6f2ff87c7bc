"""Filing a seal, and handing it to its owner: as a file, or onto the owner's key through the owner's own agent."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealagent.client import Agent, AgentError
from sealagent.errors import FormatError, SealAgentError
from sealagent.maker.index import SealRow
from sealagent.maker.register import Register, Said
from sealagent.maker.states import Change

__all__ = ["ToFile", "ToKey", "deliver", "file_seal"]

MAX_FILING = 64
"""Characters of a filing number."""


@dataclass(frozen=True, slots=True)
class ToFile:
    """The ``.esl`` file, for its owner to import."""

    path: Path


@dataclass(frozen=True, slots=True)
class ToKey:
    """A key that is plugged in where the owner's agent runs."""

    token: str
    """Id, serial or label, as that agent knows it."""
    socket: Path | None = None
    """Of that agent; None: the usual place."""


async def file_seal(register: Register, name: str, said: Said, *, number: str = "") -> SealRow:
    """File a seal (备案, the Measures Art. 17).

    :param number: the filing number; empty: the register allocates one.
    :raises SealAgentError: as :meth:`Register.change`. :raises FormatError: ``application_invalid``.
    """
    if not number:
        count = register.index.counter("filing") + 1
        return await register.change(name, Change.FILED, said, filing=f"F{count:08d}", counters={"filing": count})
    if len(number) > MAX_FILING or not number.isprintable() or not number.strip():
        raise FormatError(
            "application_invalid", f"a filing number has up to {MAX_FILING} printable characters", field="number"
        )
    return await register.change(name, Change.FILED, said, filing=number.strip())


async def deliver(register: Register, name: str, to: ToFile | ToKey, said: Said) -> SealRow:
    """Hand a filed seal over; from then on it is valid.

    :raises SealAgentError: as :meth:`Register.change`; ``seal_file_exists``, ``archive_failed``; the agent's errors.
    """
    row = register.seal(name)
    where = {"file": to.path.name} if isinstance(to, ToFile) else {"token": to.token}
    body = register.change_body(row, Change.DELIVERED, said, delivered=where)
    try:
        register.check(row, Change.DELIVERED, said)
    except SealAgentError as error:
        await register.refused(body, error)
        raise
    esl = register.archive.get(row.sm3)
    async with register.intended({**body, "event": "deliver"}) as intent:
        delivered = await asyncio.to_thread(_to_key, to, esl) if isinstance(to, ToKey) else _to_file(to, esl)
        await register.record({**body, "delivered": delivered}, intent)
    found = register.index.seal(row.sm3)
    assert found is not None
    return found


def _to_file(to: ToFile, esl: bytes) -> dict[str, Any]:
    """Write the file; one that is there with the same octets was written before an interruption."""
    try:
        descriptor = os.open(to.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        if to.path.is_file() and to.path.read_bytes() == esl:
            return {"file": to.path.name}
        raise SealAgentError("seal_file_exists", f"{to.path} is there and holds something else") from None
    except OSError as error:
        raise SealAgentError("archive_failed", f"{to.path}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(esl)
        file.flush()
        os.fsync(file.fileno())
    return {"file": to.path.name}


def _to_key(to: ToKey, esl: bytes) -> dict[str, Any]:
    try:
        with Agent(to.socket) as agent:
            try:
                seal = agent.import_seal(esl, to.token)
            except AgentError as error:
                if error.code != "object_exists":
                    raise
                # Written before an interruption, unless another seal has the name it would have there.
                there = [each for each in agent.seals()["seals"] if _is_there(agent, each, esl)]
                if not there:
                    raise
                seal = there[0]
            return {"token": str(seal.get("token") or to.token), "agent_id": str(seal["id"])}
    except AgentError as error:
        raise SealAgentError(error.code, f"the owner's agent: {error.detail}", **_public(error.problem)) from error


def _is_there(agent: Agent, seal: dict[str, Any], esl: bytes) -> bool:
    return seal["source"] == "token" and agent.seal_file(seal["id"]) == esl


def _public(problem: Any) -> dict[str, Any]:
    """Return the facts beside the standard members, which the error here has of its own."""
    known = {"type", "code", "status", "title", "title_zh", "detail", "next_step", "next_step_zh", "message"}
    return {str(key): value for key, value in dict(problem).items() if key not in known}
