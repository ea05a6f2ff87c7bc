"""Digests of running programs: real files, kept as long as they are the same."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caller_parts import PYTHON, connected, in_loop, own_python
from sealagent.callers import programs as programs_module
from sealagent.callers.peer import Caller, peer_of
from sealagent.callers.programs import MAX_KEPT, Programs
from sealagent.errors import SealAgentError

SHELL = os.path.realpath("/bin/sh")


def digest_of(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def programs() -> Iterator[Programs]:
    made = Programs()
    yield made
    made.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Files that were really read."""
    done: list[Any] = []
    real = programs_module._read

    def read(descriptor: int, state: Any, deadline: float) -> str | None:
        done.append(state)
        return real(descriptor, state, deadline)

    monkeypatch.setattr(programs_module, "_read", read)
    return done


@in_loop
async def test_digest_and_parent(tmp_path: Path, programs: Programs, reads: list[Any]) -> None:
    with connected(tmp_path, Path(sys.executable)) as (connection, _):
        caller = peer_of(connection)
        assert (caller.sha256, caller.parent) == (None, None)
        known = await programs.described(caller)
        assert known.sha256 == digest_of(sys.executable)
        assert known.parent == PYTHON  # this very process
        assert known == await programs.described(known)
        assert len(reads) == 1
        assert known.as_json()["sha256"] == known.sha256


@in_loop
async def test_parent_between(tmp_path: Path, programs: Programs) -> None:
    with connected(tmp_path, Path(sys.executable), before=["env", "-S", 'sh -c \'"$0" "$@"; true\'']) as (
        connection,
        _,
    ):
        known = await programs.described(peer_of(connection))
        assert known.executable == PYTHON
        assert known.parent == SHELL


@in_loop
async def test_removed_file_is_read_all_the_same(tmp_path: Path, programs: Programs) -> None:
    """What counts is what runs, not what lies at its path by now."""
    python = own_python(tmp_path)
    octets = digest_of(python)
    with connected(tmp_path, python) as (connection, _):
        python.unlink()
        python.write_bytes(b"another program")
        known = await programs.described(peer_of(connection))
        assert (known.executable, known.sha256) == (None, octets)


@in_loop
async def test_changed_file_is_read_again(tmp_path: Path, programs: Programs, reads: list[Any]) -> None:
    """Any change of the inode, be it only of its times, ends what is kept."""
    python = own_python(tmp_path)
    with connected(tmp_path, python) as (connection, _):
        caller = peer_of(connection)
        await programs.described(caller)
        os.utime(python, ns=(1, 1))
        assert (await programs.described(caller)).sha256 == digest_of(python)
        assert len(reads) == 2


@in_loop
async def test_many_at_once_read_once(tmp_path: Path, programs: Programs, reads: list[Any]) -> None:
    with connected(tmp_path, own_python(tmp_path)) as (connection, _):
        caller = peer_of(connection)
        found = await asyncio.gather(*(programs.described(caller) for _ in range(50)))
        assert len({each.sha256 for each in found}) == 1
        assert len(reads) == 1


@in_loop
async def test_too_large_too_slow_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read within bounds has no digest; nothing waits for it."""
    small, slow, full = Programs(limit=1000), Programs(seconds=0), Programs()
    try:
        with connected(tmp_path, Path(sys.executable)) as (connection, _):
            caller = peer_of(connection)
            assert (await small.described(caller)).sha256 is None
            assert (await slow.described(caller)).sha256 is None
            monkeypatch.setattr(programs_module, "MAX_PENDING", 0)
            assert (await full.described(caller)).sha256 is None
            monkeypatch.setattr(programs_module, "MAX_PENDING", 1)
            assert (await full.described(caller)).sha256 == digest_of(sys.executable)
    finally:
        for made in (small, slow, full):
            made.close()


@in_loop
async def test_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "program"
    file.write_bytes(b"x" * 10)
    for state_change in (lambda: file.write_bytes(b"y" * 10), lambda: file.write_bytes(b"z" * 11)):
        descriptor = os.open(file, os.O_RDONLY)
        state = programs_module._state(descriptor)
        state_change()
        os.utime(file, ns=(5, 5))
        assert programs_module._read(descriptor, state, float("inf")) is None
        with pytest.raises(OSError):
            os.fstat(descriptor)  # it was closed


@in_loop
async def test_kept_digests_are_bounded(tmp_path: Path, programs: Programs) -> None:
    with connected(tmp_path, Path(sys.executable)) as (connection, _):
        caller = peer_of(connection)
        for number in range(MAX_KEPT + 10):
            programs._kept[(0, number, 0, 0, 0)] = "x"
        await programs.described(caller)
        assert len(programs._kept) == MAX_KEPT
        assert digest_of(sys.executable) in programs._kept.values()


@in_loop
async def test_caller_that_ended_or_is_another(tmp_path: Path, programs: Programs) -> None:
    with connected(tmp_path, Path(sys.executable)) as (connection, child):
        caller = peer_of(connection)
        assert caller.started is not None
        for other in (
            Caller(caller.uid, caller.gid, caller.pid, caller.executable, caller.started - 1),
            Caller(caller.uid, caller.gid, caller.pid, caller.executable, caller.started, program=(1, 1)),
        ):
            with pytest.raises(SealAgentError) as caught:
                await programs.described(other)
            assert caught.value.code == "caller_changed"
        child.kill()
        child.wait()
        with pytest.raises(SealAgentError) as caught:
            await programs.described(caller)
        assert caught.value.code == "caller_gone"
        gone = peer_of(connection)
        assert await programs.described(gone) == gone  # nothing is known of it, and nothing is claimed


@in_loop
async def test_no_descriptor_is_left_open(tmp_path: Path, programs: Programs) -> None:
    with connected(tmp_path, Path(sys.executable)) as (connection, child):
        caller = peer_of(connection)
        await programs.described(caller)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            await programs.described(caller)
        child.kill()
        child.wait()
        with pytest.raises(SealAgentError):
            await programs.described(caller)
        assert len(os.listdir("/proc/self/fd")) == before
