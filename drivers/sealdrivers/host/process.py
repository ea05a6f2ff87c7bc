"""One worker process seen from the daemon: its life, and requests to it one at a time.

Everything here runs in the event loop's thread. The socket is served with ``add_reader`` and direct ``send``: a frame
that holds a PIN is then in one buffer only, wiped once sent, and the hop costs the least (``make bench``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from sealdrivers.errors import DriverError, WorkerDied, WorkerProtocolError, WorkerTimeout
from sealdrivers.host.protocol import MAX_ANSWER_HEADER, Frame, FrameBuffer, decode_error, encode_frame, wipe

__all__ = ["PYTHON_WORKER", "Request", "WorkerProcess"]

log = logging.getLogger(__name__)
output_log = logging.getLogger("sealdrivers.host.output")
"""What modules print. At DEBUG once they serve, since a vendor's trace may show more than a log should."""

PYTHON_WORKER: tuple[str, ...] = (sys.executable, "-I", "-m", "sealdrivers.host.worker")
"""Isolated: neither the working directory nor ``PYTHONPATH`` can put code into the process that gets the PIN."""

MAX_OUTPUT_LINE = 400
"""Octets of one printed line that reach the log."""

MAX_OUTPUT_LINES = 50
"""Printed lines of one worker that reach the log in :data:`OUTPUT_WINDOW` seconds."""

OUTPUT_WINDOW = 60.0

SENT_AHEAD = 2
"""Signatures handed to a worker at once: while it is busy with one, the next waits in its socket, which saves the
way to the daemon and back. It still serves them one by one."""

REAP_INTERVAL = 0.01
"""Seconds between two looks whether a killed process is gone."""

MAX_REAP_LOOKS = 1000
"""Looks before a killed process that does not go (stuck in a device driver) is left to the system."""


class Request:
    """One request on its way.

    :param token_uri: the token it concerns; added to the arguments.
    :param timeout: seconds from the moment it is handed to the worker.
    :param pinned: it is meant for one worker and no other.
    :param future: gets the answer's :class:`Frame` or a ``DriverError``; None where nobody waits.
    """

    __slots__ = ("begun", "frame", "future", "identifier", "op", "pinned", "resent", "timeout", "token_uri")

    _count = 0

    def __init__(
        self,
        op: str,
        arguments: dict[str, Any],
        parts: Sequence[bytes | bytearray] = (),
        *,
        token_uri: str | None = None,
        timeout: float,
        pinned: bool = False,
        future: asyncio.Future[Frame] | None = None,
    ) -> None:
        Request._count += 1
        self.identifier = Request._count
        self.op = op
        self.token_uri = token_uri
        self.timeout = timeout
        self.pinned = pinned
        self.future = future
        self.begun = False
        """Whether it was handed to a worker."""
        self.resent = False
        self.frame = encode_frame({"id": self.identifier, "op": op, "token": token_uri, **arguments}, parts)

    @property
    def abandoned(self) -> bool:
        """Whether the one who asked has gone."""
        return self.future is not None and self.future.cancelled()

    async def answer(self) -> Frame:
        """Wait for the answer. Whoever is cancelled meanwhile leaves it to be dropped, or never to be begun."""
        assert self.future is not None
        try:
            return await self.future
        except asyncio.CancelledError:
            if not self.begun:
                wipe(self.frame)
            raise

    def settle(self, frame: Frame) -> None:
        """End it with its answer."""
        wipe(self.frame)  # it may hold a PIN
        if self.future is not None and not self.future.done():
            self.future.set_result(frame)

    def fail(self, error: DriverError) -> None:
        """End it with an error."""
        wipe(self.frame)
        if self.future is not None and not self.future.done():
            self.future.set_exception(error)


class _Output:
    """Takes what the module prints and gives a bounded part of it to the log."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, name: str) -> None:
        self._loop = loop
        self._fd = fd
        self._name = name
        self._line = bytearray()
        self._window_end = 0.0
        self._lines_left = 0
        self.level = logging.WARNING
        os.set_blocking(fd, False)
        loop.add_reader(fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 16384)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._fd)
        for piece in data.splitlines(keepends=True):
            self._line += piece[: MAX_OUTPUT_LINE - len(self._line)]
            if piece.endswith((b"\n", b"\r")):
                self._flush()

    def _flush(self) -> None:
        text = "".join(c if c.isprintable() else "·" for c in self._line.decode("utf-8", "replace").strip())
        self._line.clear()
        now = self._loop.time()
        if now >= self._window_end:
            self._window_end, self._lines_left = now + OUTPUT_WINDOW, MAX_OUTPUT_LINES
        if text and self._lines_left > 0:
            self._lines_left -= 1
            output_log.log(self.level, "%s: %s", self._name, text)

    def close(self) -> None:
        self._readable()
        if self._line:
            self._flush()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


def _not_started(program: str, error: OSError) -> str:
    """Say why a worker could not be started."""
    why = str(error.strerror)
    if isinstance(error, FileNotFoundError) and os.path.exists(program):
        why = "the loader or interpreter it names is missing (for a 32-bit program: the 32-bit C library)"
    return f"the worker process cannot be started: {program}: {why}"


class WorkerProcess:
    """A worker process from its start to its end.

    :param command: program and arguments; ``--fd N`` is added.
    :param name: what the log calls it.
    :param on_answer: called with each request that was answered, before its future is set.
    :param on_end: called once when the process is dead or given up, with the reason and the requests that were
        never begun, in their order.
    :raises WorkerDied: it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        name: str,
        *,
        on_answer: Callable[[WorkerProcess, Request, Frame, DriverError | None], None],
        on_end: Callable[[WorkerProcess, DriverError, list[Request]], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.name = name
        self._on_answer = on_answer
        self._on_end = on_end
        self._ready = False
        self.served = False
        """Whether it has answered anything since the module was loaded."""
        self.alive = True
        self.logged_in: set[str] = set()
        """URIs of the tokens this process is logged in to."""
        self.outdated: set[str] = set()
        """URIs of the tokens whose PIN another process has changed since this one loaded the module."""
        self._queue: deque[Request] = deque()
        self._sent: deque[Request] = deque()
        """Handed to the worker and not answered; it is busy with the first."""
        self._unsent: memoryview | None = None
        self._writing = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._buffer = FrameBuffer(MAX_ANSWER_HEADER)
        self._gone = asyncio.Event()
        self._socket, self._popen, self._output = self._start(command)
        self._loop.add_reader(self._socket, self._readable)

    def _start(self, command: Sequence[str]) -> tuple[socket.socket, subprocess.Popen[bytes], _Output]:
        with contextlib.ExitStack() as always, contextlib.ExitStack() as on_error:
            try:
                ours, theirs = socket.socketpair()
                on_error.callback(ours.close)
                always.callback(theirs.close)
                reading, writing = os.pipe()
                on_error.callback(os.close, reading)
                always.callback(os.close, writing)
                popen = subprocess.Popen(
                    [*command, "--fd", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=writing,
                    stderr=writing,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # no terminal to ask on, no Ctrl-C meant for the daemon
                )
            except OSError as error:
                raise WorkerDied(_not_started(command[0], error)) from error
            on_error.pop_all()
        ours.setblocking(False)
        return ours, popen, _Output(self._loop, reading, self.name)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    @property
    def ready(self) -> bool:
        """Whether the module is loaded."""
        return self._ready

    def set_ready(self) -> None:
        """Take note that the module is loaded; from now on what it prints is for debugging."""
        self._ready = True
        self._output.level = logging.DEBUG

    @property
    def gone(self) -> bool:
        """Whether the process is gone, and no zombie left of it."""
        return self._gone.is_set()

    @property
    def load(self) -> int:
        """Requests it is busy with or has queued."""
        return len(self._queue) + len(self._sent)

    def submit(self, request: Request) -> None:
        """Hand the request over now, or when its turn comes. Only while the process is alive."""
        if self._queue or not self._takes(request):
            self._queue.append(request)
        else:
            self._send(request)

    def _takes(self, request: Request) -> bool:
        """Say whether the worker is idle, or the request is a signature that may wait in its socket behind another."""
        sent = self._sent
        return not sent or (len(sent) < SENT_AHEAD and request.op == sent[-1].op == "sign" and self._unsent is None)

    def _send(self, request: Request) -> None:
        if not self._sent:
            self._set_deadline(request)
        self._sent.append(request)
        request.begun = True
        self._unsent = memoryview(request.frame)
        self._write()

    def _set_deadline(self, request: Request) -> None:
        """Start the time of the request that the worker is busy with now."""
        self._deadline = self._loop.time() + request.timeout
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)

    def _write(self) -> None:
        """Send what is left of the request; called again by the loop while the socket is full."""
        assert self._unsent is not None
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:  # EPIPE: it is dead, which the reader meets next, behind its last answers
            return
        if sent == len(self._unsent):
            self._unsent = None
            if self._writing:
                self._writing = False
                self._loop.remove_writer(self._socket)
            return
        self._unsent = self._unsent[sent:]
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._socket, self._write)

    def _readable(self) -> None:
        try:
            count = self._buffer.fill(self._socket)
            if count == 0:
                self._end(WorkerDied("the worker process ended"))
                return
            while self.alive and (frame := self._buffer.take()) is not None:
                self._answered(frame)
        except BlockingIOError:
            return
        except ConnectionResetError:
            # Linux says this, and not the end of the stream, when the process died with octets it had not read
            # (af_unix, unix_release_sock), after all that it had written.
            self._end(WorkerDied("the worker process ended"), unread=True)
        except WorkerProtocolError as error:
            self._end(error)

    def _answered(self, frame: Frame) -> None:
        header = frame.header
        if not self._sent or header.get("id") != self._sent[0].identifier:
            raise WorkerProtocolError("the worker answered what was not asked")
        error = decode_error(header["error"]) if "error" in header else None
        request = self._sent.popleft()
        if self._sent:
            self._set_deadline(self._sent[0])
        try:
            self._on_answer(self, request, frame, error)
        except WorkerProtocolError as fault:
            request.fail(fault)
            raise
        if error is None:
            request.settle(frame)
        else:
            request.fail(error)
        while self._queue and self._takes(self._queue[0]):
            waiting = self._queue.popleft()
            if not waiting.abandoned:
                self._send(waiting)

    def _check_deadline(self) -> None:
        self._timer = None
        if self._sent and self._loop.time() >= self._deadline:
            self._readable()  # should this loop have been the slow one
        if not self.alive or not self._sent or self._timer is not None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)
        else:
            op, seconds = self._sent[0].op, self._sent[0].timeout
            self._end(WorkerTimeout(f"the module did not answer {op} within {seconds:g} seconds"))

    def kill(self, reason: DriverError) -> None:
        """End it at once; the request under way and the queue fail or move on as ``on_end`` decides."""
        if self.alive:
            self._end(reason)

    def _end(self, reason: DriverError, *, unread: bool = False) -> None:
        """Give the process up and make sure that it is gone.

        A worker answers a request before it begins the next. So only the first unanswered request can have been begun,
        and not even that if it is the only one and the worker died with octets unread.
        """
        self.alive = False
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        if self._writing:
            self._loop.remove_writer(self._socket)
        self._socket.close()
        self._popen.kill()
        self._output.close()
        if self._sent and not ((unread or self._unsent is not None) and len(self._sent) == 1):
            self._sent.popleft().fail(reason)
        leftover = []
        for request in self._sent:
            if request.resent or request.pinned:
                request.fail(reason)
            else:
                request.resent, request.begun = True, False
                leftover.append(request)
        leftover += self._queue
        self._sent.clear()
        self._queue.clear()
        self._reap(MAX_REAP_LOOKS)
        self._on_end(self, reason, leftover)

    async def close(self, grace: float) -> None:
        """Let it finish what is under way and release the module, for so many seconds; then end it.

        Returns when the process is gone.
        """
        if self.alive:
            while self._queue:
                self._queue.popleft().fail(WorkerDied("the agent is closing"))
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), grace)
            self.kill(WorkerDied("the agent is closing"))
        await self._gone.wait()

    def _reap(self, looks: int) -> None:
        status = self._popen.poll()
        if status is not None:
            self._gone.set()
            ending = f"signal {-status}" if status < 0 else f"status {status}"
            log.info("%s: process %d ended (%s)", self.name, self.pid, ending)
        elif looks > 0:
            self._loop.call_later(REAP_INTERVAL, self._reap, looks - 1)
        else:
            self._gone.set()
            log.error("%s: process %d does not end; it is left to the system", self.name, self.pid)
