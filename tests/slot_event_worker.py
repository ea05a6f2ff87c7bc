"""A worker whose module reports slot events as a control file says: SoftHSM itself has none to report.

``python slot_event_worker.py MODULE FOLDER --fd N``. ``FOLDER/answer`` holds ``event`` (reported once), ``none``,
``unsupported``, ``fail`` or ``hang``; ``FOLDER/calls`` gets a line for each call.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sealdrivers.host.worker import main
from softhsm2_fixtures.faults import intercept

MODULE, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
CODES = {"event": 0, "none": 0x8, "unsupported": 0x54, "fail": 0x5}


def note(name: str) -> None:
    with (FOLDER / "calls").open("a") as calls:
        calls.write(name + "\n")


def wait_for_slot_event(_original: object, flags: int, _slot: int, _reserved: int | None) -> int:
    note("C_WaitForSlotEvent")
    assert flags == 1, "CKF_DONT_BLOCK"
    answer = (FOLDER / "answer").read_text()
    if answer == "hang":
        time.sleep(600)
    if answer == "event":
        (FOLDER / "answer").write_text("none")
    return CODES[answer]


def get_slot_list(original: Callable[..., int], *arguments: object) -> int:
    note("C_GetSlotList")
    return original(*arguments)


if __name__ == "__main__":
    with ExitStack() as stack:
        stack.enter_context(intercept(MODULE, "C_WaitForSlotEvent", wait_for_slot_event))
        stack.enter_context(intercept(MODULE, "C_GetSlotList", get_slot_list))
        main(sys.argv[3:])
