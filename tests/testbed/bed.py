"""A test bed as a folder: made, found again, told about, removed. What is in it is :mod:`testbed.world`'s business."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from testbed import processes
from testbed.errors import TestbedError, Trouble
from testbed.processes import Launch
from testbed.tokens import require_programs
from testbed.world import Say, World, build

__all__ = ["Bed", "TestbedError", "default_folder"]

FORMAT = 1
STATE_FILE = "testbed.json"
"""Marks a folder as a test bed; nothing else is ever removed."""
MAX_SOCKET_PATH = 100
"""Octets of a Unix socket's path that every system takes, with room for the file's name (unix(7): 108)."""


def default_folder() -> Path:
    """Return where a test bed is unless somebody says otherwise."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "sealagent-testbed"


@dataclass
class Bed:
    """The test bed in a folder, whether it exists or not."""

    folder: Path
    _state: dict[str, Any] = field(default_factory=dict, repr=False)
    _writing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    # --- what there is ---

    @property
    def run(self) -> Path:
        """Where processes are written down, and their logs."""
        return self.folder / "run"

    def exists(self) -> bool:
        """Say whether there is one. :raises TestbedError: ``foreign``: there is something else."""
        if (self.folder / STATE_FILE).is_file():
            return True
        if self.folder.is_dir() and any(each.name != "lock" for each in self.folder.iterdir()):
            raise TestbedError(Trouble.FOREIGN, f"{self.folder} is not empty and no test bed; it is left alone")
        return False

    def status(self) -> dict[str, Any]:
        """Return ``phase`` (``absent``, ``unfinished``, ``down``, ``partly``, ``up``), the processes, and the world."""
        if not self.exists():
            return {"phase": "absent", "folder": str(self.folder), "processes": [], "world": None}
        state = self._read()
        running = {process.name: process for process in processes.found(self.run)}
        listed = [
            {"name": name, "pid": running[name].pid if name in running else None, "alive": alive}
            for name in dict.fromkeys([*state["launches"], *reversed(running)])
            for alive in [name in running and running[name].alive()]
        ]
        alive = [each["alive"] for each in listed]
        phase = "up" if alive and all(alive) else "partly" if any(alive) else "down"
        if state["phase"] != "up":
            phase = "unfinished"
        return {"phase": phase, "folder": str(self.folder), "processes": listed, "world": state.get("world")}

    # --- up and down ---

    def up(self, say: Say) -> dict[str, Any]:
        """Make the test bed, or start what of it does not run. :return: as :meth:`status`.

        :param say: is told each step, in English and Chinese.
        :raises TestbedError: nothing that was started runs on.
        """
        require_programs()
        with self._locked(), _ended_by_signals():
            if not self.exists():
                self._make(say)
            elif self._read()["phase"] != "up":
                raise TestbedError(Trouble.UNFINISHED, f"{self.folder} was left half made")
            else:
                self._resume(say)
        return self.status()

    def down(self) -> list[str]:
        """Stop everything and remove the folder. :return: names of what was stopped.

        :raises TestbedError: ``foreign``, ``busy``.
        """
        if not self.exists():
            shutil.rmtree(self.folder, ignore_errors=True)  # a lock that an interrupted command left
            return []
        with self._locked():
            stopped = [process.name for process in processes.stop_all(self.run)]
            sockets = self._read().get("sockets")
            if sockets and Path(sockets).parent != self.folder:
                shutil.rmtree(sockets, ignore_errors=True)
            # The mark goes last: what an interrupted removal leaves can be removed by the next one.
            for each in self.folder.iterdir():
                if each.name not in (STATE_FILE, "lock"):
                    shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
            shutil.rmtree(self.folder)
        return stopped

    def _make(self, say: Say) -> None:
        self.folder.chmod(0o700)  # it may have been there, empty; PINs come into it
        self.run.mkdir(mode=0o700, exist_ok=True)
        now = datetime.now(UTC).replace(microsecond=0)
        self._state = {"format": FORMAT, "phase": "building", "made_at": now.isoformat(), "launches": {}}
        self._state["sockets"] = str(self._socket_folder())
        self._write()
        guard = processes.Guard(self.run)
        try:
            world = World(self.folder, Path(self._state["sockets"]), self._launch, self._stop, now)
            self._state["world"] = build(world, say)
            self._state["phase"] = "up"
            self._write()
        except BaseException:
            processes.stop_all(self.run)
            raise
        finally:
            guard.release()

    def _resume(self, say: Say) -> None:
        """Start what does not run, in its order."""
        self._state = self._read()
        started = False
        try:
            alive = {process.name for process in processes.found(self.run) if process.alive()}
            for name, launch in self._state["launches"].items():
                if name not in alive:
                    say(f"starting {name} again", f"重新启动 {name}")
                    self._launch(Launch(**launch))
                    started = True
        except BaseException:
            processes.stop_all(self.run)
            raise
        if not started:
            say("the test bed is up already", "测试环境已在运行")

    def _launch(self, launch: Launch) -> None:
        """Start a process and wait until it works; a test bed that is up starts it again by itself."""
        processes.start(self.run, launch, self.folder)
        if launch.lasting:
            with self._writing:  # several are started at once
                self._state["launches"][launch.name] = asdict(launch)
                self._write()

    def _stop(self, name: str) -> None:
        """End a process that belonged to the making only."""
        for process in processes.found(self.run):
            if process.name == name:
                processes.stop(process)
                (self.run / f"{name}.pid").unlink()

    # --- the state file ---

    def _read(self) -> dict[str, Any]:
        try:
            state = json.loads((self.folder / STATE_FILE).read_text(encoding="utf-8"))
        except ValueError:
            state = None
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise TestbedError(Trouble.FOREIGN, f"{self.folder / STATE_FILE} is not of this version; it is left alone")
        return state

    def _write(self) -> None:
        draft = self.folder / f".{STATE_FILE}"
        draft.write_text(json.dumps(self._state, ensure_ascii=False, indent=1), encoding="utf-8")
        draft.replace(self.folder / STATE_FILE)

    def _socket_folder(self) -> Path:
        """Return a folder for sockets, whose paths must be short."""
        own = self.folder / "sockets"
        if len(os.fsencode(own)) <= MAX_SOCKET_PATH - len("/holder/agent.sock"):
            own.mkdir(mode=0o700, exist_ok=True)
            return own
        return Path(tempfile.mkdtemp(prefix="testbed-"))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TestbedError(Trouble.BUSY, f"another command is at work on {self.folder}") from error
            yield
        finally:
            os.close(handle)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let a signal that ends commands end this one in order: what was started is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ended(number: int, _frame: FrameType | None) -> None:
        raise TestbedError(Trouble.STEP, f"ended by {signal.Signals(number).name}")

    before = {number: signal.signal(number, ended) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
