"""A section seen from the one who makes the report: its process, its time limits, and how it ended.

What comes out of the process is not trusted: the library lives in it. Each message is bounded and checked.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sealdrivers.errors import WorkerProtocolError
from sealdrivers.host.protocol import FrameBuffer, encode_frame, wipe
from sealdrivers.probe.kinds import KINDS
from sealdrivers.probe.model import Finding, Outcome, SectionReport, Severity, Timing
from sealdrivers.probe.section import SectionRequest

__all__ = ["Limits", "TokenChoice", "Told", "run_section"]

PYTHON_CHILD: tuple[str, ...] = (sys.executable, "-I", "-m", "sealdrivers.probe.child")
"""Isolated, as the worker is: nothing of the environment can put code into the process that gets the PIN."""

MAX_MESSAGE = 256 << 10
"""Octets of one message."""

MAX_MESSAGES = 200_000
"""Messages of one section; the largest real ones have some thousands."""

MAX_TEXT = 500
"""Characters of a detail or a name."""

MAX_FINDINGS = 200
"""Different findings of one section."""

MAX_ROWS = 2000
"""Rows of one table: more than any token lists."""

MAX_RUNS = 12
"""Processes for one section: a step that crashes or hangs costs one, and the next goes on after it."""

KILL_SECONDS = 10.0
"""Seconds a killed process has to be gone."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds."""

    call: float = 10.0
    """For one native call."""
    section: float = 300.0
    """For one process of a section."""


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """A token that could be signed on. It names its holder's key and stays out of the report."""

    number: int
    label: str
    serial: str
    application: str = ""
    tries_left: int | None = None
    initialized: bool = True
    count_low: bool = False
    final_try: bool = False
    locked: bool = False
    factory_pin: bool = False
    protected_path: bool = False


@dataclass(slots=True)
class Told:
    """What a section said beside its report."""

    report: SectionReport
    tokens: list[TokenChoice] = field(default_factory=list)
    serials: set[str] = field(default_factory=set)
    pin_proven: bool = False
    """The PIN was taken: using it again spends no try."""


@dataclass(slots=True)
class _Call:
    name: str
    begun: float
    waits: bool


class _Run:
    """One process of a section, from its start to its end."""

    def __init__(self, request: SectionRequest, limits: Limits, told: Told, samples: dict[str, list[float]]) -> None:
        self._limits = limits
        self._told = told
        self._samples = samples
        self._report = told.report
        self._calls: dict[int, _Call] = {}
        self._buffer = FrameBuffer(MAX_MESSAGE, 0)
        self._messages = 0
        self._printed = 0
        self.step: str | None = None
        """The step that was begun last."""
        self.begun: list[str] = []
        self.ended = False
        self._request = request

    def run(self, pin: bytearray | None) -> Outcome:
        begun = time.monotonic()
        ours, theirs = socket.socketpair()
        with ours, contextlib.ExitStack() as stack:
            with theirs:
                reading, writing = os.pipe()
                stack.callback(os.close, reading)
                try:
                    process = subprocess.Popen(
                        [*PYTHON_CHILD, "--fd", str(theirs.fileno())],
                        stdin=subprocess.DEVNULL,
                        stdout=writing,
                        stderr=writing,
                        pass_fds=(theirs.fileno(),),
                        start_new_session=True,  # no terminal to ask on, no Ctrl-C meant for the report
                    )
                finally:
                    os.close(writing)
            try:
                frame = encode_frame(asdict(self._request), [pin] if pin is not None else [])
                try:
                    ours.sendall(frame)
                except BrokenPipeError:  # it is dead, which shows below
                    pass
                finally:
                    wipe(frame)
                outcome = self._follow(ours, reading, begun + self._limits.section)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # and what the library may have started
                try:
                    status = process.wait(KILL_SECONDS)
                except subprocess.TimeoutExpired:  # stuck in a device driver; the system ends it when it can
                    status = 0
                self._drain(reading)
        if outcome is None:
            outcome = self._died(status)
        if self._printed:
            self._add("prints", "", f"{self._printed} octets to its standard output or error")
        self._report.seconds += time.monotonic() - begun
        return outcome

    def _drain(self, output: int) -> None:
        """Count what the library printed last. Something it has started may hold the pipe open."""
        os.set_blocking(output, False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(MAX_MESSAGES):
                octets = len(os.read(output, 65536))
                self._printed += octets
                if not octets:
                    break

    # Following it

    def _follow(self, sock: socket.socket, output: int, deadline: float) -> Outcome | None:
        """Take its messages until it ends. None: it ended by itself and did not say that it was done."""
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            selector.register(output, selectors.EVENT_READ)
            while True:
                now = time.monotonic()
                limit, call = self._next_limit(deadline)
                if now >= limit:
                    return self._hung(call)
                for key, _ in selector.select(limit - now):
                    if key.fileobj is sock:
                        try:
                            going_on = self._take(sock)
                        except WorkerProtocolError as error:
                            self._add("channel_damaged", "", error.message)
                            return Outcome.FAILED
                        if not going_on:
                            return Outcome.DONE if self.ended else None
                    else:
                        octets = len(os.read(output, 65536))
                        self._printed += octets
                        if not octets:
                            selector.unregister(output)

    def _next_limit(self, deadline: float) -> tuple[float, _Call | None]:
        calls = [call for call in self._calls.values() if not call.waits]
        first = min(calls, key=lambda call: call.begun, default=None)
        if first is None or first.begun + self._limits.call >= deadline:
            return deadline, None
        return first.begun + self._limits.call, first

    def _take(self, sock: socket.socket) -> bool:
        try:
            if self._buffer.fill(sock) == 0:
                return False
        except ConnectionResetError:
            return False
        while (frame := self._buffer.take()) is not None:
            self._messages += 1
            if self._messages > MAX_MESSAGES:
                raise WorkerProtocolError(f"the section says more than {MAX_MESSAGES} things")
            try:
                self._heard(frame.header)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise WorkerProtocolError(f"what the section says is malformed ({type(error).__name__})") from None
            if self.ended:
                return False
        return True

    def _heard(self, message: dict[str, Any]) -> None:
        match message["kind"]:
            case "call":
                self._calls[int(message["thread"])] = _Call(
                    _text(message["name"]), time.monotonic(), bool(message["waits"])
                )
            case "done":
                call = self._calls.pop(int(message["thread"]))
                self._samples.setdefault(call.name, []).append(float(message["ms"]))
            case "fact":
                self._report.facts[_text(message["name"])] = message["value"]
            case "row":
                rows = self._report.facts.setdefault(_text(message["name"]), [])
                if len(rows) < MAX_ROWS:
                    rows.append(dict(message["value"]))
            case "finding":
                severity = Severity(message["severity"]) if "severity" in message else None
                self._add(message["code"], _text(message["where"]), _text(message["detail"]), severity)
            case "token":
                facts = {name: value for name, value in message.items() if name not in ("kind", "parts")}
                self._told.tokens.append(TokenChoice(**facts))
            case "serial":
                self._told.serials.add(_text(message["text"]))
            case "step":
                self.step = _text(message["name"])
                self.begun.append(self.step)
            case "remember":
                self.begun.append(_text(message["name"]))
            case "login":
                self._told.pin_proven = True
            case "failed":
                self._add("probe_failed", self._request.name, _text(message["detail"]))
            case "end":
                self.ended = True
            case other:
                raise ValueError(other)

    def _add(self, code: str, where: str, detail: str, severity: Severity | None = None) -> None:
        finding = Finding(code, severity or KINDS[code].severity, where, detail)
        for index, known in enumerate(self._report.findings):
            if replace(known, times=1) == finding:
                self._report.findings[index] = replace(known, times=known.times + 1)
                return
        if len(self._report.findings) < MAX_FINDINGS:
            self._report.findings.append(finding)

    # How it ended

    def _hung(self, call: _Call | None) -> Outcome:
        if call is None:
            where = next(iter(self._calls.values())).name if self._calls else ""
            self._add("hung", where, self._in_step(f"the section was not done within {self._limits.section:g} s"))
        else:
            waiting = [other.name for other in self._calls.values() if other.waits]
            beside = f", while {waiting[0]} was waiting in another thread" if waiting else ""
            said = f"did not return from {call.name} within {self._limits.call:g} s{beside}"
            self._add("hung", call.name, self._in_step(said))
        return Outcome.HUNG

    def _died(self, status: int) -> Outcome:
        if any(finding.code == "probe_failed" for finding in self._report.findings):
            return Outcome.FAILED
        names = list(dict.fromkeys(call.name for call in self._calls.values()))
        place = f"in {' or '.join(names)}" if names else "outside the calls that were made"
        where = names[0] if len(names) == 1 else ""
        if status < 0:
            try:
                name = f" ({signal.Signals(-status).name})"
            except ValueError:
                name = ""
            self._add("crashed", where, self._in_step(f"crashed with signal {-status}{name} {place}"))
            return Outcome.CRASHED
        if names:
            self._add("ended_process", where, self._in_step(f"ended the process with status {status} {place}"))
        else:
            self._add("probe_failed", self._request.name, f"the section's process ended with status {status}")
        return Outcome.FAILED

    def _in_step(self, detail: str) -> str:
        return f"{detail}, at {self.step}" if self.step else detail


def run_section(request: SectionRequest, limits: Limits, pin: bytearray | None = None) -> Told:
    """Run one section and return what it found; a crash or a hang costs the step it came in.

    :param pin: for a section that logs in. After a process that did not say that the PIN was right, it is not used
        again, so that one try is spent at most. The caller wipes it.
    """
    told = Told(SectionReport(request.name))
    samples: dict[str, list[float]] = {}
    skip: list[str] = []
    worst = Outcome.DONE
    for _ in range(MAX_RUNS):
        run = _Run(replace(request, skip=tuple(skip)), limits, told, samples)
        outcome = run.run(pin)
        if outcome is not Outcome.DONE and worst is Outcome.DONE:
            worst = outcome
        if outcome in (Outcome.DONE, Outcome.FAILED) and not (outcome is Outcome.FAILED and run.step):
            break
        if run.step is None or (pin is not None and not told.pin_proven):
            break
        skip += run.begun
    told.report.outcome = worst
    told.report.timings = tuple(
        Timing(name, len(taken), min(taken), statistics.median(taken), max(taken)) for name, taken in samples.items()
    )
    return told


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value[:MAX_TEXT]
