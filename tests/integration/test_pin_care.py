"""PINs and unlock state behind SKF and PKCS#11, as a user of the daemon meets them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agent_world import Daemon, World
from cli_parts import Shell
from sealagent.client import Agent, AgentError
from softgm import SoftSkfToken
from softhsm2_fixtures import SoftToken

CHINESE = {"LANG": "zh_CN.UTF-8"}


@pytest.fixture
def skf_world(world: World, softskf_token: SoftSkfToken) -> World:
    """The usual world with a soft SKF device in place of SoftHSM."""
    return _with(world, softskf_token)


def _with(world: World, device: SoftSkfToken) -> World:
    assert device.library is not None
    world.modules, world.driver = [device.library], "skf"
    world.pin_file.touch(0o600)
    world.pin_file.write_text(device.user_pin + "\n")
    return world


def _use(agent: Agent) -> str | None:
    """Use the PIN for something; return the error's code."""
    (token,) = agent.tokens()["tokens"]
    try:
        agent.generate_key(token["id"], "sm2" if token["driver"] == "skf" else "ec-p256", "key")
    except AgentError as error:
        return error.code
    return None


def _last(agent: Agent) -> tuple[str, str | None]:
    entry = agent.records(limit=1000)["records"][-1]
    return entry["kind"], entry["body"].get("reason")


@pytest.mark.parametrize("stored", ["right", "not-the-pin"])
def test_a_stored_pin_never_spends_the_last_try(skf_world: World, softskf_token: SoftSkfToken, stored: str) -> None:
    skf_world.pin_file.write_text((softskf_token.user_pin if stored == "right" else stored) + "\n")
    softskf_token.set_tries_left(1)
    daemon = skf_world.start()
    with daemon.agent() as agent:
        assert _use(agent) == "pin_last_try"
        assert _last(agent) == ("refused", "pin_last_try")
        (token,) = agent.tokens()["tokens"]
        with pytest.raises(AgentError) as caught:
            agent.change_pin(token["id"])
        assert (caught.value.code, caught.value.problem["tries_left"]) == ("pin_last_try", 1)
        assert softskf_token.tries_left() == 1
        shell = Shell.of(daemon)
        done = shell("token", "change-pin", token["serial"], **CHINESE)
        assert done.status == 5
        assert "只剩最后一次机会" in done.err
        assert softskf_token.tries_left() == 1
        softskf_token.set_tries_left(2)
        assert _use(agent) == (None if stored == "right" else "pin_incorrect")


def test_a_stored_pin_is_never_the_administrators(skf_world: World, softskf_token: SoftSkfToken) -> None:
    softskf_token.lock()
    with skf_world.start().agent() as agent:
        (token,) = agent.tokens()["tokens"]
        assert (token["pin"]["locked"], token["admin_pin"]["tries_left"]) == (True, 6)
        with pytest.raises(AgentError) as caught:
            agent.unblock_pin(token["id"])
        assert caught.value.code == "pin_source_refused"
        assert _last(agent) == ("refused", "pin_source_refused")
        softskf_token.set_tries_left(0, admin=True)
        with pytest.raises(AgentError) as caught:
            agent.unblock_pin(token["id"])
        assert (caught.value.code, caught.value.problem["locked"]) == ("admin_pin_locked", True)
        assert softskf_token.tries_left() == 0


def test_a_factory_pin_is_told_everywhere(
    world: World, softskf_new_token: Callable[..., SoftSkfToken], events: Callable[[Daemon], list[str]]
) -> None:
    device = softskf_new_token(factory_pin=True)
    daemon = _with(world, device).start()
    heard = events(daemon)
    shell = Shell.of(daemon)
    with daemon.agent() as agent:
        (token,) = agent.tokens()["tokens"]
        assert token["pin"]["factory_pin"]
        assert _use(agent) is None
        _until(lambda: "factory_pin" in heard)
    change = f"sealagent token change-pin {token['id']}"
    for command, stream in ((("token", "list"), "err"), (("doctor",), "out")):
        english, chinese = shell(*command), shell(*command, **CHINESE)
        assert "the PIN is still the factory's" in getattr(english, stream)
        assert "仍在使用出厂 PIN" in getattr(chinese, stream)
        for done in (english, chinese):
            assert change in getattr(done, stream)
    assert "FACTORY PIN" in shell("token", "list").out


def test_a_pin_of_ones_own_is_no_factory_pin(skf_world: World) -> None:
    shell = Shell.of(skf_world.start())
    assert "factory" not in shell("token", "list").err + shell("doctor").out


@pytest.fixture(params=["pkcs11", "skf"])
def device(request: pytest.FixtureRequest, world: World) -> SoftToken | SoftSkfToken:
    """The one token of the world, of either driver."""
    if request.param == "pkcs11":
        return world.token
    token: SoftSkfToken = request.getfixturevalue("softskf_token")
    _with(world, token)
    return token


@pytest.fixture
def events() -> Iterator[Callable[[Daemon], list[str]]]:
    """Collect the names of a daemon's events in the background."""
    listening: list[tuple[threading.Thread, Daemon]] = []

    def listen(daemon: Daemon) -> list[str]:
        heard: list[str] = []

        def run() -> None:
            with daemon.agent(60) as agent:
                for name, _ in agent.events():
                    heard.append(name)  # each as it comes

        thread = threading.Thread(target=run)
        thread.start()
        listening.append((thread, daemon))
        with daemon.agent() as agent:  # until it is known to listen
            (token,) = agent.tokens()["tokens"]
            _until(lambda: bool(agent.lock_token(token["id"]) and heard))
        return heard

    yield listen
    for thread, daemon in listening:
        daemon.stop()
        thread.join(30)


def test_a_token_that_was_pulled_asks_for_its_pin_again(
    world: World, device: SoftToken | SoftSkfToken, events: Callable[[Daemon], list[str]]
) -> None:
    daemon = world.start()
    heard = events(daemon)
    with daemon.agent() as agent:
        assert _use(agent) is None
        world.pin_file.write_text("not-the-pin\n")  # shows whether it is asked for
        assert _use(agent) is None
        device.remove()
        _until(lambda: "token_removed" in heard)
        device.insert()
        _until(lambda: "token_inserted" in heard)
        (token,) = agent.tokens()["tokens"]
        assert not token["unlocked"]
        assert _use(agent) == "pin_incorrect"


def test_an_skf_key_pulled_and_back_between_two_looks_is_locked(skf_world: World, softskf_token: SoftSkfToken) -> None:
    skf_world.presence_seconds = 60
    with skf_world.start().agent() as agent:
        assert _use(agent) is None
        skf_world.pin_file.write_text("not-the-pin\n")
        softskf_token.remove()
        softskf_token.insert()
        assert _use(agent) == "pin_incorrect"


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
