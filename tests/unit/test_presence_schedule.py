"""When the daemon looks for keys: bouncing contacts, middleware that needs time, slow tokens. The clock is made up."""

from __future__ import annotations

import pytest

from sealagent.daemon.presence import LONGEST_BOUNCE, LOOK_SHARE, LOOKS_AFTER, QUIET_SECONDS, Schedule

EVERY = 60.0


def idle(now: float = 0.0) -> Schedule:
    """Return a schedule whose first regular look is over."""
    schedule = Schedule(EVERY, now)
    assert schedule.next() == now
    assert schedule.regular_due(now)
    schedule.looked(now, now, 0)
    return schedule


def run(schedule: Schedule, stirs: list[float], until: float, came: int = 1, went: int = 0) -> dict[str, list[float]]:
    """Play time forward; return when USB was listed and when tokens were looked for."""
    done: dict[str, list[float]] = {"usb": [], "tokens": []}
    pending = sorted(stirs)
    while True:
        due = schedule.next()
        if pending and pending[0] <= due:
            schedule.stir(pending.pop(0))
            continue
        if due > until:
            return done
        if schedule.usb_due(due):
            done["usb"].append(due)
            schedule.settled(due, came, went)
        if schedule.regular_due(due) or schedule.follow_up_due(due):
            done["tokens"].append(due)
            schedule.looked(due, due, 0)


def test_nothing_happens_between_regular_looks() -> None:
    assert run(idle(), [], 200) == {"usb": [], "tokens": [60, 120, 180]}


def test_an_insertion_is_listed_once_it_settled_and_tokens_are_looked_for_as_middleware_wakes() -> None:
    done = run(idle(), [10], 30)
    assert done["usb"] == [10 + QUIET_SECONDS]
    assert done["tokens"] == [pytest.approx(10 + after) for after in LOOKS_AFTER]
    assert LOOKS_AFTER[:3] == (0.3, 1.0, 2.0)


def test_a_removal_is_looked_at_at_once() -> None:
    done = run(idle(), [10], 30, came=0, went=1)
    assert done["tokens"][0] == done["usb"][0] == 10 + QUIET_SECONDS


@pytest.mark.parametrize("bounces", [2, 10, 50])
def test_a_bouncing_contact_is_listed_once(bounces: int) -> None:
    stirs = [10 + 0.9 * QUIET_SECONDS * number for number in range(bounces) if 0.09 * number < LONGEST_BOUNCE - 0.1]
    assert len(run(idle(), stirs, 30)["usb"]) == 1


def test_an_endless_bounce_does_not_starve_anybody() -> None:
    stirs = [10 + 0.01 * number for number in range(500)]
    listed = run(idle(), stirs, 30)["usb"]
    assert listed[0] == pytest.approx(10 + LONGEST_BOUNCE)
    assert len(listed) <= 6  # five seconds of it


def test_looks_end_when_the_modules_show_what_was_plugged_in() -> None:
    schedule = idle()
    schedule.stir(10)
    assert schedule.usb_due(10.1)
    schedule.settled(10.1, came=1, went=0)
    assert schedule.follow_up_due(10.3)
    schedule.looked(10.3, 10.3, changes=1)
    assert schedule.next() == 10.3 + EVERY


def test_two_keys_at_once_are_both_waited_for() -> None:
    schedule = idle()
    schedule.stir(10)
    assert schedule.usb_due(10.1)
    schedule.settled(10.1, came=2, went=0)
    schedule.looked(10.3, 10.3, changes=1)
    assert schedule.next() == 11.0
    schedule.looked(11.0, 11.0, changes=1)
    assert schedule.next() == 11.0 + EVERY


def test_a_look_that_takes_long_swallows_those_it_overlaps_and_puts_off_the_regular_one() -> None:
    schedule = Schedule(2.0, 0.0)
    schedule.looked(0, 0, 0)
    schedule.stir(1)
    assert schedule.usb_due(1.1)
    schedule.settled(1.1, came=1, went=0)
    schedule.looked(1.3, 2.5, 0)  # a listing of 1.2 s
    assert schedule.next() == 3.0
    schedule.looked(3.0, 4.2, 0)
    assert schedule.next() == 6.0
    schedule.looked(6.0, 7.2, 0)
    assert schedule.next() == pytest.approx(7.2 + LOOK_SHARE * 1.2)


def test_a_change_found_without_events_is_followed_up_too() -> None:
    schedule = idle()
    schedule.settled(60.0, came=1, went=0)  # polling: nothing stirred
    assert schedule.next() == 60.0
    schedule.looked(60.0, 60.0, 0)
    assert schedule.next() == pytest.approx(60.3)
