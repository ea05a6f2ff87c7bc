"""SKF: handles of the wrong kind, threads, and device events. Nothing here offers a PIN."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

from sealdrivers.errors import DeviceFailure
from sealdrivers.probe.section import Section
from sealdrivers.probe.skf_native import Native, Token, value_name
from sealdrivers.skf import abi
from sealdrivers.skf.device import PRESENT, Device
from sealdrivers.skf.errors import SAR
from sealdrivers.skf.library import Number
from sealdrivers.skf.pins import Tries, tries

__all__ = ["errors", "events", "threads"]

AT_ONCE = 1.0
"""Seconds after which a call that waits for an event counts as waiting."""

ROUNDS = 20
_NAME_ROOM = 4096


def errors(section: Section) -> None:
    """Give calls that spend nothing a handle of the wrong kind; a crash costs the process, and the next goes on."""
    native = Native(section)
    tokens = native.tokens()  # kept: its end disconnects the device
    token = next(tokens, None)
    if token is None:
        return
    with native.application(token) as application:
        before = _tries(native, application.handle)
        device, opened = token.device.handle, application.handle
        calls: dict[str, Callable[[], int]] = {
            "SKF_EnumContainer with a device's handle": lambda: _list(native, "SKF_EnumContainer", device),
            "SKF_GetPINInfo with a device's handle": lambda: native.status(
                "SKF_GetPINInfo", device, abi.USER, Number(), Number(), Number()
            ),
            "SKF_EnumApplication with an application's handle": lambda: _list(native, "SKF_EnumApplication", opened),
            "SKF_GetDevInfo with an application's handle": lambda: native.status(
                "SKF_GetDevInfo", opened, ctypes.create_string_buffer(_NAME_ROOM)
            ),
            "SKF_ExportCertificate with an application's handle": lambda: (
                native.raw("SKF_ExportCertificate", opened, 1).code
            ),
            "SKF_EnumContainer with a closed handle": lambda: _closed(native, token),
        }
        for doing, call in calls.items():
            if section.step(doing):
                code = call()
                section.row("wrong_handles", {"call": doing, "answer": value_name(code)})
                if code == abi.OK:
                    section.finding("skf_handle_taken", doing.split()[0], doing)
                elif code == SAR["SAR_INVALIDHANDLEERR"]:
                    section.finding("skf_handle_checked", doing.split()[0])
        after = _tries(native, application.handle)
        if before is not None and after is not None and after.left < before.left:
            section.finding("skf_try_spent", "SKF_GetPINInfo", f"{before.left} before, {after.left} after")


def _tries(native: Native, application: int) -> Tries | None:
    with native.section.attempt("SKF_GetPINInfo", optional=True):
        return tries(native, application, abi.USER)
    return None


def _list(native: Native, name: str, handle: int) -> int:
    return native.raw(name, handle).code


def _closed(native: Native, token: Token) -> int:
    handle = native.open("SKF_OpenApplication", token.device.handle, token.name)
    native.call("SKF_CloseApplication", handle)
    return _list(native, "SKF_EnumContainer", handle)


def threads(section: Section) -> None:
    """Let two threads list the devices at the same time, each with a connection of its own where there is one."""
    native = Native(section)
    names = native.names("SKF_EnumDev", PRESENT)
    barrier = threading.Barrier(2, timeout=section.request.patience)

    def work() -> tuple[bytes, ...]:
        device = Device(native, names[0]) if names else None
        try:
            barrier.wait()
            seen = set()
            for _ in range(ROUNDS):
                seen.add(tuple(native.names("SKF_EnumDev", PRESENT)))
                if device is not None:
                    device.facts()
            if len(seen) != 1:
                raise DeviceFailure("the list changed")
            return seen.pop()
        finally:
            if device is not None:
                device.close()

    running = [section.in_thread(work, wait=False) for _ in range(2)]
    for thread in running:
        thread.finished(section.request.patience * 4)
    section.fact("threads", 2)
    section.fact("lists", 2 * ROUNDS)
    errors = [thread.error for thread in running if thread.error is not None]
    if errors or len({thread.result for thread in running}) != 1:
        said = {getattr(error, "native_name", None) or type(error).__name__ for error in errors}
        section.finding("threads_fail", "SKF_EnumDev", ", ".join(sorted(said)) or "different answers")
    else:
        section.finding("threads_work", "SKF_EnumDev")


def events(section: Section) -> None:
    """Wait for an event, see whether other calls go on meanwhile, and cancel the waiting."""
    native = Native(section)
    if not native.offers("SKF_WaitForDevEvent", "SKF_CancelWaitForDevEvent"):
        section.finding("events_not_offered", "SKF_WaitForDevEvent")
        return
    patience = section.request.patience
    name, room, event = ctypes.create_string_buffer(_NAME_ROOM + 64), Number(_NAME_ROOM), Number()
    waiting = section.in_thread(lambda: native.status("SKF_WaitForDevEvent", name, room, event, waits=True), wait=False)
    if waiting.finished(min(patience, AT_ONCE)):
        said = value_name(waiting.result) if waiting.error is None else "an error"
        section.fact("waiting", said)
        if waiting.result == SAR["SAR_NOTSUPPORTYETERR"]:
            section.finding("events_not_offered", "SKF_WaitForDevEvent", said)
        else:
            section.finding("wait_at_once", "SKF_WaitForDevEvent", f"{said}, event {event.known}")
        return
    section.fact("waiting", "waits")
    # Whether these come back is judged here, so no limit of the section's process applies.
    beside = section.in_thread(lambda: native.status("SKF_EnumDev", PRESENT, None, Number(0), waits=True))
    blocks = not beside.finished(0)
    if blocks:
        section.finding("wait_blocks_others", "SKF_WaitForDevEvent", "SKF_EnumDev did not return")
    begun = time.monotonic()
    cancel = section.in_thread(lambda: native.status("SKF_CancelWaitForDevEvent", waits=True))
    if cancel.finished(0) and waiting.finished(patience):
        section.fact("cancelled_after_ms", round((time.monotonic() - begun) * 1000, 1))
        section.fact("cancelled_with", value_name(waiting.result))
        if not blocks:
            section.finding("events_work", "SKF_WaitForDevEvent")
    else:
        section.finding("wait_not_ended", "SKF_CancelWaitForDevEvent")
