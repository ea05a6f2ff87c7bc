"""One section as it runs in its process: what it says to the report, and how it calls the library.

Whatever is found is told at once. A native call is announced before it is made, so that the report can name the call
that never came back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sealdrivers.errors import DriverError, NotSupported, TokenRemoved
from sealdrivers.probe.model import Severity

__all__ = ["Section", "SectionRequest"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SectionRequest:
    """What a section is told."""

    name: str
    driver: str
    path: str
    serials: bool = False
    """Show serial numbers, labels and names."""
    patience: float = 5.0
    """Seconds to wait for what should come at once."""
    signatures: int = 5
    """Signatures with each key and mechanism."""
    token: int = 0
    """Number of the token to sign on, counted from 1 in the order the tokens were listed; 0: none."""
    profile: str = ""
    """Name of the ``[[sm2]]`` entry to use; empty: the one that matches."""
    vendor_files: tuple[str, ...] = ()
    """Operator's vendor tables."""
    skip: tuple[str, ...] = ()
    """Steps that another process has begun already."""


class Section:
    """What a section uses to call and to report. Its methods may be called from any thread.

    :param send: takes one message, a JSON object.
    """

    def __init__(self, request: SectionRequest, pin: bytearray | None, send: Callable[[dict[str, Any]], None]) -> None:
        self.request = request
        self.pin = pin
        self._send = send
        self._lock = threading.Lock()

    # What goes into the report

    def fact(self, name: str, value: Any) -> None:
        """Report a fact; a later one of the same name replaces it."""
        self._tell({"kind": "fact", "name": name, "value": value})

    def row(self, table: str, row: Mapping[str, Any]) -> None:
        """Add a row to a table."""
        self._tell({"kind": "row", "name": table, "value": dict(row)})

    def finding(self, code: str, where: str = "", detail: str = "", severity: Severity | None = None) -> None:
        """Report a finding. :param severity: where it is another than that of its kind."""
        message = {"kind": "finding", "code": code, "where": where, "detail": detail}
        if severity is not None:
            message["severity"] = severity.value
        self._tell(message)

    def serial(self, text: str) -> None:
        """Name a serial number, so that it is kept out of the report wherever it turns up."""
        self._tell({"kind": "serial", "text": text})

    def token(self, **facts: Any) -> None:
        """Name a token that could be signed on. This is for the one who asks for the PIN, not for the report."""
        self._tell({"kind": "token", **facts})

    def logged_in(self) -> None:
        """Say that the PIN was right: using it again spends no try."""
        self._tell({"kind": "login"})

    def named(self, name: str, text: str) -> dict[str, str]:
        """Return a name or label for a row, if those are to be shown."""
        return {name: text} if self.request.serials else {}

    # Doing things

    def step(self, name: str) -> bool:
        """Begin a step that may cost the process; False: it was begun before, and the next one is due."""
        if name in self.request.skip:
            return False
        self._tell({"kind": "step", "name": name})
        return True

    def remember(self, name: str) -> None:
        """Keep a fact for the process that goes on after this one, should this one not come back."""
        self._tell({"kind": "remember", "name": name})

    def remembered(self, name: str) -> bool:
        """Say whether an earlier process has kept a fact."""
        return name in self.request.skip

    def call(self, name: str, function: Callable[..., T], *arguments: Any, waits: bool = False) -> T:
        """Make a native call: announced before, timed after.

        :param waits: it is meant to wait for something; only the section's time limits it.
        """
        thread = threading.get_ident()
        self._tell({"kind": "call", "thread": thread, "name": name, "waits": waits})
        begun = time.perf_counter_ns()
        try:
            return function(*arguments)
        finally:
            self._tell({"kind": "done", "thread": thread, "ms": (time.perf_counter_ns() - begun) / 1e6})

    @contextmanager
    def attempt(self, where: str, *, optional: bool = False) -> Iterator[None]:
        """Turn an error of the block into a finding and go on after it.

        :param optional: SealAgent can do without what is done in the block.
        """
        try:
            yield
        except TokenRemoved as error:
            self.finding("device_removed", where, error.message)
        except NotSupported as error:
            self.finding("not_offered", where, error.message, None if optional else Severity.FAULT)
        except DriverError as error:
            code = "answer_invalid" if error.native_code is None else "call_failed"
            self.finding(code, where, error.message, Severity.QUIRK if optional else None)

    def in_thread(self, function: Callable[[], Any], *, wait: bool = True) -> Running:
        """Run something in a thread of its own, for as long as :attr:`SectionRequest.patience` says."""
        running = Running(function)
        if wait:
            running.finished(self.request.patience)
        return running

    def _tell(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._send(message)


@dataclass(slots=True)
class Running:
    """Something that runs in a thread, which the end of the process ends."""

    function: Callable[[], Any]
    result: Any = None
    error: BaseException | None = None
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:  # told by the one who waits
            self.error = error

    def finished(self, seconds: float) -> bool:
        """Wait so many seconds for it, and say whether it has come back."""
        self._thread.join(seconds)
        return not self._thread.is_alive()
