"""PKCS#11: sessions, threads and slot events."""

from __future__ import annotations

import ctypes
import threading
import time
from ctypes import byref, c_ulong
from functools import partial

from pkcs11 import ObjectClass

from sealdrivers.errors import DeviceFailure, DriverError
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.errors import CKR
from sealdrivers.probe.pkcs11_names import value_name
from sealdrivers.probe.pkcs11_native import Native, Slot, opened
from sealdrivers.probe.section import Section

__all__ = ["events", "sessions", "threads"]

MOST_SESSIONS = 64
"""Sessions that are opened at once."""

AT_ONCE = 1.0
"""Seconds after which a call that waits for an event counts as waiting."""

ROUNDS = 20
"""Searches in each thread."""

NO_MECHANISM = 0x7FFFFFFF
"""Below the vendors' range, and in no version of the standard."""


def sessions(section: Section) -> None:
    """Open many sessions, and see what a failed C_SignInit and a closed session leave behind."""
    with opened(section) as native:
        if native is None:
            return
        for slot in native.tokens()[:1]:
            with section.attempt("C_OpenSession"):
                _count(section, native, slot)
            with section.attempt("C_SignInit"):
                _after_failure(section, native, slot)
            with section.attempt("C_CloseSession"):
                handle = native.open(slot)
                native.call("C_CloseSession", handle)
                code = native.status("C_GetSessionInfo", handle, byref(abi.CK_SESSION_INFO()))
                if code == 0:
                    section.finding("p11_closed_session", "C_GetSessionInfo")


def _count(section: Section, native: Native, slot: Slot) -> None:
    handles: list[int] = []
    try:
        while len(handles) < MOST_SESSIONS:
            handles.append(native.open(slot))
    except DriverError as error:
        section.fact("sessions_refused_with", error.native_name)
    section.fact("sessions_at_once", f"{len(handles)}{' or more' if len(handles) == MOST_SESSIONS else ''}")
    if len(handles) < 2:
        section.finding("p11_one_session", "C_OpenSession", f"{len(handles)} at once")
    for handle in handles:
        native.status("C_CloseSession", handle)


def _after_failure(section: Section, native: Native, slot: Slot) -> None:
    with native.session(slot) as session:
        room, length = ctypes.create_string_buffer(1024), c_ulong(1024)
        code = native.status("C_Sign", session, bytes(32), 32, room, byref(length))
        section.fact("sign_without_init", value_name(code))
        if code != CKR["CKR_OPERATION_NOT_INITIALIZED"]:
            section.finding("p11_sign_without_init", "C_Sign", f"answers {value_name(code)}")
        first = native.status("C_SignInit", session, byref(abi.CK_MECHANISM(NO_MECHANISM)), 0)
        second = native.status("C_SignInit", session, byref(abi.CK_MECHANISM(NO_MECHANISM)), 0)
        section.fact("unknown_mechanism", value_name(first))
        if second == CKR["CKR_OPERATION_ACTIVE"]:
            section.finding("p11_session_poisoned", "C_SignInit", f"{value_name(first)}, then {value_name(second)}")
        else:
            section.finding("p11_session_clean", "C_SignInit", f"{value_name(first)}, then {value_name(second)}")


def threads(section: Section) -> None:
    """Let two threads work at the same time, each in a session of its own."""
    with opened(section) as native:
        if native is not None:
            for slot in native.tokens()[:1]:
                _two_threads(section, native, slot)


def _two_threads(section: Section, native: Native, slot: Slot) -> None:
    barrier = threading.Barrier(2, timeout=section.request.patience)
    spans: list[tuple[int, float, float]] = []

    def work(number: int) -> int:
        with native.session(slot) as session:
            barrier.wait()
            counts = set()
            for _ in range(ROUNDS):
                begun = time.monotonic()
                counts.add(len(native.find_class(session, ObjectClass.CERTIFICATE)))
                spans.append((number, begun, time.monotonic()))
            if len(counts) != 1:
                raise DeviceFailure("the number of certificates changed")
            return counts.pop()

    running = [section.in_thread(partial(work, number), wait=False) for number in (1, 2)]
    for thread in running:
        thread.finished(section.request.patience * 4)
    errors = [thread.error for thread in running if thread.error is not None]
    section.fact("threads", 2)
    section.fact("searches", len(spans))
    section.fact("overlapped", _overlap(spans))
    if errors or len({thread.result for thread in running}) != 1:
        said = {getattr(error, "native_name", None) or type(error).__name__ for error in errors}
        section.finding("threads_fail", "C_FindObjects", ", ".join(sorted(said)) or "different answers")
    else:
        section.finding("threads_work", "C_FindObjects")


def _overlap(spans: list[tuple[int, float, float]]) -> bool:
    """Say whether a search of one thread began while one of the other was under way."""
    return any(first[0] != second[0] and first[1] < second[1] < first[2] for first in spans for second in spans)


def events(section: Section) -> None:
    """Ask for slot events, with and without waiting; C_Finalize has to end the waiting."""
    with opened(section) as native:
        if native is None:
            return
        slot = c_ulong()
        with section.attempt("C_WaitForSlotEvent", optional=True):
            code = native.status("C_WaitForSlotEvent", abi.CKF_DONT_BLOCK, byref(slot), None)
            section.fact("without_waiting", value_name(code))
            if code == CKR["CKR_FUNCTION_NOT_SUPPORTED"]:
                section.finding("events_not_offered", "C_WaitForSlotEvent")
                return
            _waiting(section, native)


def _waiting(section: Section, native: Native) -> None:
    patience = section.request.patience
    slot = c_ulong()
    waiting = section.in_thread(
        lambda: native.status("C_WaitForSlotEvent", 0, byref(slot), None, waits=True), wait=False
    )
    if waiting.finished(min(patience, AT_ONCE)):
        name = value_name(waiting.result) if waiting.error is None else "an error"
        section.fact("waiting", name)
        if waiting.result == CKR["CKR_FUNCTION_NOT_SUPPORTED"]:
            section.finding("events_not_offered", "C_WaitForSlotEvent", "not with waiting")
        else:
            section.finding("wait_at_once", "C_WaitForSlotEvent", name)
        return
    section.fact("waiting", "waits")
    # Whether it comes back is judged here, so no limit of the section's process applies.
    count = c_ulong()
    beside = section.in_thread(lambda: native.status("C_GetSlotList", 1, None, byref(count), waits=True))
    if not beside.finished(0):
        section.finding("wait_blocks_others", "C_WaitForSlotEvent", "C_GetSlotList did not return")
        native.keep = True
        return
    native.status("C_Finalize", None)
    if waiting.finished(patience):
        section.fact("after_finalize", value_name(waiting.result))
        section.finding("events_work", "C_WaitForSlotEvent")
    else:
        section.finding("wait_not_ended", "C_WaitForSlotEvent", "it goes on after C_Finalize")
