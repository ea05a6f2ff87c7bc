"""The record against the hard facts: a killed process, a full disk, two processes, many submitters."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealagent.clock import system_clock
from sealagent.errors import SealAgentError
from sealagent.records.entry import Entry, EntryKind
from sealagent.records.ledger import Ledger

WORKER = """
import asyncio, sys
from pathlib import Path
from sealagent.clock import system_clock
from sealagent.records.ledger import EntryKind, Ledger

async def submit(ledger, name):
    while True:
        intent = await ledger.append(EntryKind.INTENT, {"name": name})
        print(intent.number, flush=True)
        signed = await ledger.append(EntryKind.SIGNED, {"intent": intent.number})
        print(signed.number, flush=True)

async def main():
    ledger = Ledger.open(Path(sys.argv[1]), system_clock)
    await asyncio.gather(*(submit(ledger, n) for n in range(8)))

asyncio.run(main())
"""


def test_killed_amid_appends(tmp_path: Path) -> None:
    """Whatever an append said was recorded is there after SIGKILL, and the chain holds, five times over."""
    path = tmp_path / "record.db"
    resolved: set[int] = set()
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", WORKER, str(path)], stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            resolved.add(int(worker.stdout.readline()))
            time.sleep(random.uniform(0.01, 0.15))
            worker.send_signal(signal.SIGKILL)
            lines = worker.stdout.read().split(b"\n")
        resolved.update(int(line) for line in lines[:-1])  # the last line may have been cut
        with Ledger.open(path, system_clock) as ledger:
            report = ledger.verify()
            assert report.ok
            assert report.size >= max(resolved)
            assert report.open_intents == tuple(entry.number for entry in ledger.open_intents())
            for intent in report.open_intents:  # what the daemon does after a restart
                failed = asyncio.run(ledger.append(EntryKind.FAILED, {"intent": intent, "reason": "interrupted"}))
                resolved.add(failed.number)
            assert ledger.open_intents() == []
    assert len(resolved) > 50


def test_second_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    with subprocess.Popen([sys.executable, "-c", WORKER, str(path)], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        with pytest.raises(SealAgentError) as caught:
            Ledger.open(path, system_clock)
        assert caught.value.code == "record_in_use"
        worker.kill()
    Ledger.open(path, system_clock).close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB, where mounting one is allowed (root)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system can be mounted by root only; test_file_size_limit shows the same without")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def overfill(ledger: Ledger) -> tuple[int, list[str]]:
    """Append until a whole round of submitters fails; return how many were kept, and the codes of the failures."""
    kept = 0
    while True:
        answers = await asyncio.gather(
            *(ledger.append(EntryKind.REFUSED, {"name": "x" * 3000}) for _ in range(8)), return_exceptions=True
        )
        kept += sum(isinstance(answer, Entry) for answer in answers)
        failures = [answer.code for answer in answers if isinstance(answer, SealAgentError)]
        if len(failures) == 8:
            return kept, failures


def test_full_disk(small_disk: Path) -> None:
    with Ledger.open(small_disk / "record.db", system_clock) as ledger:
        asyncio.run(ledger.append(EntryKind.ADMIN, {}))
        filler = small_disk / "filler"
        filler.write_bytes(bytes(200 * 1024))
        kept, failures = asyncio.run(overfill(ledger))
        assert set(failures) == {"record_failed"}
        assert ledger.head().size == kept + 1
        filler.unlink()
        assert asyncio.run(ledger.append(EntryKind.ADMIN, {"room": True})).number == kept + 2
        assert ledger.verify().ok
    with Ledger.open(small_disk / "record.db", system_clock) as ledger:
        assert ledger.head().size == kept + 2


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from sealagent.clock import system_clock
from sealagent.errors import SealAgentError
from sealagent.records.ledger import EntryKind, Ledger

async def main():
    ledger = Ledger.open(Path(sys.argv[1]), system_clock)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    kept = 0
    try:
        while True:
            await ledger.append(EntryKind.REFUSED, {"name": "x" * 3000})
            kept += 1
    except SealAgentError as error:
        assert error.code == "record_failed", error
    assert 0 < ledger.head().size == kept, (ledger.head(), kept)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert (await ledger.append(EntryKind.ADMIN, {})).number == kept + 1
    assert ledger.verify().ok
    ledger.close()
    print("held")

asyncio.run(main())
"""


def test_file_size_limit(tmp_path: Path) -> None:
    """A write that fails with EFBIG, in a process of its own, and room again afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "record.db")], capture_output=True, timeout=60, text=True
    )
    assert done.stdout == "held\n", done.stderr


def test_database_held_by_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that holds the write lock makes an append fail in time, not wait for ever."""
    monkeypatch.setattr("sealagent.records.store.BUSY_SECONDS", 0.2)
    path = tmp_path / "record.db"
    with Ledger.open(path, system_clock) as ledger:
        shell = sqlite3.connect(path, isolation_level=None)
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(SealAgentError) as caught:
            asyncio.run(ledger.append(EntryKind.ADMIN, {}))
        assert (caught.value.code, caught.value.facts) == ("record_failed", {"sqlite": "SQLITE_BUSY"})
        shell.execute("ROLLBACK")
        shell.close()
        assert asyncio.run(ledger.append(EntryKind.ADMIN, {})).number == 1


def test_damage_under_a_running_ledger(tmp_path: Path) -> None:
    """Octets overwritten while the record is open: an error that says so, and never a false entry."""
    path = tmp_path / "record.db"

    async def fill(ledger: Ledger) -> None:
        await asyncio.gather(*(ledger.append(EntryKind.REFUSED, {"name": "x" * 500}) for _ in range(600)))

    with Ledger.open(path, system_clock) as ledger:
        asyncio.run(fill(ledger))
    with path.open("r+b") as file:  # all pages but the first: the header stays
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    with pytest.raises(SealAgentError) as caught:
        Ledger.open(path, system_clock)
    assert caught.value.code == "record_damaged"
