"""Some dozens of rounds of what ``make bench`` does a thousand times: no leak, and no lost or unrecorded signature."""

from __future__ import annotations

import pytest

from agent_world import World
from endurance import Outcome, endure_faults, endure_replugging, faults_of
from softgm import SoftSkfToken

HANG_SECONDS = 1.0


def _nothing_leaked(outcome: Outcome) -> None:
    assert outcome.lost_or_unrecorded == 0, outcome
    assert outcome.after.descriptors <= outcome.before.descriptors + 2, outcome  # a look for tokens may be under way
    assert outcome.after.processes <= outcome.before.processes, outcome
    assert outcome.after.resident < outcome.before.resident + 8, outcome
    assert outcome.released >= outcome.rounds


@pytest.fixture
def skf(world: World, softskf_token: SoftSkfToken) -> SoftSkfToken:
    assert softskf_token.library is not None
    softskf_token.add_key("sm2")
    world.modules, world.driver = [softskf_token.library], "skf"
    world.settings["signing"] = {"allow_raw_digests": True}
    world.settings["timeouts"] = {"sign": HANG_SECONDS, "other": 2 * HANG_SECONDS}
    world.pin_file.touch(0o600)
    world.pin_file.write_text(softskf_token.user_pin + "\n")
    return softskf_token


def test_a_key_that_comes_and_goes(world: World, skf: SoftSkfToken) -> None:
    daemon = world.start()
    with daemon.agent() as agent:
        (key,) = agent.keys()
    outcome = endure_replugging(daemon, key["id"], skf, 60)
    _nothing_leaked(outcome)
    assert skf.tries_left() == 6
    assert set(outcome.refused) <= {"token_removed", "token_not_found", "key_not_found"}, outcome


def test_a_library_that_fails_in_every_way(world: World, skf: SoftSkfToken) -> None:
    daemon = world.start()
    with daemon.agent() as agent:
        (key,) = agent.keys()
    faults = faults_of("skf")
    outcome = endure_faults(daemon, key["id"], skf, 2 * len(faults), faults)
    _nothing_leaked(outcome)
    assert skf.tries_left() == 6, "a fault or a respawn has spent a PIN try"
    assert {"worker_died", "worker_timeout", "device_signature_wrong", "token_removed"} <= set(outcome.refused), outcome
    assert "internal_error" not in outcome.refused
