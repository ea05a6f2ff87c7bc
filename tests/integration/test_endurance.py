"""Some dozens of rounds of what ``make bench`` does a thousand times: no leak, and no lost or unrecorded signature."""

from __future__ import annotations

import pytest

from agent_world import World
from endurance import Outcome, endure_faults, endure_replugging, faults_of
from softgm import SoftSkfToken, SoftSm2Token

HANG_SECONDS = 1.0


def _nothing_leaked(outcome: Outcome) -> None:
    assert outcome.lost_or_unrecorded == 0, outcome
    assert outcome.after.descriptors <= outcome.before.descriptors + 2, outcome  # a look for tokens may be under way
    assert outcome.after.processes <= outcome.before.processes, outcome
    assert outcome.after.resident < outcome.before.resident + 8, outcome
    assert outcome.released >= outcome.rounds


@pytest.fixture(params=["skf", "pkcs11"])
def place(request: pytest.FixtureRequest, world: World) -> tuple[World, SoftSkfToken | SoftSm2Token]:
    """A world with one SM2 key on a soft token of each interface."""
    token = request.getfixturevalue({"skf": "softskf_token", "pkcs11": "softsm2_token"}[request.param])
    token.add_key("sm2")
    world.modules, world.driver = [token.library], request.param
    world.module_settings = {"sm2_profile": "xipki placeholders"} if request.param == "pkcs11" else {}
    world.settings["timeouts"] = {"sign": HANG_SECONDS, "other": 2 * HANG_SECONDS}
    world.pin_file.touch(0o600)
    world.pin_file.write_text(token.user_pin + "\n")
    return world, token


Place = tuple[World, SoftSkfToken | SoftSm2Token]


def test_a_key_that_comes_and_goes(place: Place) -> None:
    world, token = place
    daemon = world.start()
    with daemon.agent() as agent:
        (key,) = agent.keys()
    outcome = endure_replugging(daemon, key["id"], token, 60)
    _nothing_leaked(outcome)
    assert token.tries_left() == 6
    assert set(outcome.refused) <= {"token_removed", "token_not_found", "key_not_found"}, outcome


def test_a_library_that_fails_in_every_way(place: Place) -> None:
    world, token = place
    daemon = world.start()
    with daemon.agent() as agent:
        (key,) = agent.keys()
        agent.sign_digests([bytes(32)], key=key["id"])  # what the mechanism signs is known from now on
    faults = faults_of(world.driver)
    outcome = endure_faults(daemon, key["id"], token, 2 * len(faults), faults)
    _nothing_leaked(outcome)
    assert token.tries_left() == 6, "a fault or a respawn has spent a PIN try"
    assert {"worker_died", "worker_timeout", "device_signature_wrong", "token_removed"} <= set(outcome.refused), outcome
    assert "internal_error" not in outcome.refused
