"""The worker process itself: how it ends, what it inherits, what it may print."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from host_parts import DIGEST, MODULE_TIMEOUTS, eventually, find, hosted, is_gone, run, spec, stop, unlock, workers
from sealdrivers.contract import KeyType, Mechanism
from sealdrivers.errors import (
    DriverError,
    WorkerDied,
)
from sealdrivers.host.process import MAX_OUTPUT_LINES
from sealdrivers.host.service import HostedTokens, ModuleSpec
from softhsm2_fixtures import SoftToken


def test_closing_ends_every_process(softhsm_token: SoftToken) -> None:
    async def main() -> None:
        tokens = HostedTokens([spec(softhsm_token, workers=2)], MODULE_TIMEOUTS)
        uri = (await find(tokens, softhsm_token)).uri
        await tokens.login(uri, bytearray(softhsm_token.user_pin.encode()))
        pids = [worker.pid for worker in workers(tokens)]
        generating = asyncio.create_task(tokens.generate_key(uri, KeyType.RSA_2048, "key", b"\x01"))
        waiting = [asyncio.create_task(tokens.contents(uri)) for _ in range(4)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await tokens.close()
        assert all(map(is_gone, pids))
        assert (await generating).label == "key"  # what was under way may finish
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert not isinstance(outcome, BaseException) or isinstance(outcome, WorkerDied)
        assert await tokens.tokens() == []
        with pytest.raises(DriverError):
            await tokens.contents(uri)
        assert tokens.health()[0]["state"] == "closed"
        await tokens.close()

    run(main)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (None, "worker: No such file or directory"),
        ("#!/not/there\n", "worker: the loader or interpreter it names is missing"),
        ("\x7fELF", "worker: Exec format error"),
    ],
    ids=["absent", "without its interpreter", "not for this machine"],
)
def test_a_worker_that_does_not_start_says_why(tmp_path: Path, program: str | None, said: str) -> None:
    path = tmp_path / "worker"
    if program is not None:
        path.write_text(program)
        path.chmod(0o755)

    async def main() -> None:
        async with hosted(ModuleSpec(tmp_path / "x.so", command=(str(path),))) as tokens:
            assert await tokens.tokens() == []
            (health,) = tokens.health()
            assert health["state"] == "failed"
            assert said in health["fault"]
            assert health["worker"] == str(path)

    run(main)


def test_closing_does_not_wait_for_a_hanging_worker(softhsm_token: SoftToken) -> None:
    async def main() -> None:
        async with hosted(spec(softhsm_token)) as tokens:
            await find(tokens, softhsm_token)
            [worker] = workers(tokens)
            stop(worker)
            started = time.monotonic()
            await tokens._modules[0].supervisor.close(grace=0.2)
            assert time.monotonic() - started < 2
            assert is_gone(worker.pid)

    run(main)


DAEMON = """
import asyncio, sys
from pathlib import Path
from sealdrivers.host.service import HostedTokens, ModuleSpec

async def main():
    tokens = HostedTokens([ModuleSpec(Path(sys.argv[1]))])
    await tokens.tokens()
    [worker] = tokens._modules[0].supervisor._alive()
    print(worker.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["idle", "hanging"])
def test_a_worker_dies_with_the_daemon(softhsm_token: SoftToken, stopped: bool) -> None:
    command = [sys.executable, "-c", DAEMON, str(softhsm_token.module.resolve())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        daemon.kill()

    def is_dead() -> bool:  # its zombie is not ours to reap
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    run(lambda: eventually(is_dead, "the worker is dead"))


def test_a_worker_leaves_no_core_and_cannot_be_traced() -> None:
    code = (
        "import ctypes, resource, signal\n"
        "from sealdrivers.host.worker import harden\n"
        "harden()\n"
        "signalled = ctypes.c_int()\n"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(signalled))\n"
        "print(ctypes.CDLL(None).prctl(3), resource.getrlimit(resource.RLIMIT_CORE), signalled.value)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == f"0 (0, 0) {int(signal.SIGKILL)}"


def test_a_worker_inherits_nothing_else(softhsm_token: SoftToken, tmp_path: Path) -> None:
    async def main() -> None:
        with (tmp_path / "open").open("w") as file:
            os.set_inheritable(file.fileno(), True)
            async with hosted(spec(softhsm_token)) as tokens:
                await find(tokens, softhsm_token)
                [worker] = workers(tokens)
                folder = f"/proc/{worker.pid}/fd"
                opened = [os.readlink(os.path.join(folder, entry)) for entry in os.listdir(folder)]
                assert file.name not in opened
                sockets = [name for name in opened if name.startswith("socket:")]
                assert len(sockets) == 1
                assert os.getsid(worker.pid) == worker.pid

    run(main)


def test_what_a_module_prints_reaches_the_log_in_bounds(
    softhsm_token: SoftToken, caplog: pytest.LogCaptureFixture
) -> None:
    softhsm_token.add_key("ec-p256")
    noise = (
        "import os, sys\n"
        "os.write(1, b'\\x1b[31mhello\\xff\\n' + b'x' * 5000 + b'\\n')\n"
        "os.write(2, b'line\\n' * 20)\n"
        "from sealdrivers.host import worker\n"
        "class Noisy(worker.Worker):\n"
        "    def _sign(self, header, parts):\n"
        "        os.write(2, b'trace\\n' * 500)\n"
        "        return super()._sign(header, parts)\n"
        "worker.Worker = Noisy\n"
        "worker.main(sys.argv[1:])\n"
    )
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        module = ModuleSpec(softhsm_token.module.resolve(), command=(sys.executable, "-c", noise))
        async with hosted(module) as tokens:
            _, key_uri = await unlock(tokens, softhsm_token)
            assert await tokens.sign(key_uri, Mechanism.ECDSA_SHA256, DIGEST)

    run(main)
    records = [record for record in caplog.records if record.name == "sealdrivers.host.output"]
    lines = [record.getMessage() for record in records]
    assert len(lines) == MAX_OUTPUT_LINES
    assert {record.levelno for record in records if "trace" in record.getMessage()} == {logging.DEBUG}
    assert "\x1b" not in lines[0]
    assert "hello" in lines[0]
    assert max(map(len, lines)) < 500
    assert softhsm_token.user_pin not in caplog.text
