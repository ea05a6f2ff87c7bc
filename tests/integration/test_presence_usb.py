"""Keys that come and go, seen by a real daemon on an emulated USB bus (umockdev), with soft SKF tokens behind them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_world import Daemon, TestAuthority, World
from cli_parts import Shell
from event_parts import Heard
from sealagent.client import Agent
from softgm import SoftSkfToken, certificate
from usb_parts import FakeKey, UsbTestbed, usb_testbed

__all__ = ["usb_testbed"]

NEVER = 60.0
"""Seconds between two regular looks, so that nothing here is found by one."""

FEITIAN = FakeKey(0x096E, 0x0309, serial="FT000001")
SOFT = FakeKey(0x1209, 0x0001, serial="SOFT0001", port="1-2")

VENDORS = """
[[module]]
name = "Soft SKF"
driver = "skf"
files = ["libsoftskf.so"]
source = "test"

[[usb]]
name = "Soft key"
vendor_id = 0x1209
product_id = 0x0001
modules = ["Soft SKF"]
middleware = "the soft SKF library"
middleware_zh = "软 SKF 库"
source = "test"
"""


Hear = Callable[[Daemon], Heard]


@pytest.fixture
def hear() -> Iterator[Hear]:
    """Return a function that listens to a daemon's events; the daemon is stopped after the test."""
    with contextlib.ExitStack() as stack:

        def listen(daemon: Daemon) -> Heard:
            heard = Heard(daemon)
            stack.callback(heard.close)
            return heard

        yield listen


@pytest.fixture
def usb_world(world: World, usb_testbed: UsbTestbed, softskf_token: SoftSkfToken) -> World:
    """A world on an emulated USB bus, with a soft SKF device, and nothing found by regular looks."""
    assert softskf_token.library is not None
    world.modules, world.driver = [softskf_token.library], "skf"
    world.presence_seconds = NEVER
    world.pin_file.touch(0o600)
    world.pin_file.write_text(softskf_token.user_pin + "\n")
    (world.directory / "vendors.toml").write_text(VENDORS)
    return world


def start(world: World, testbed: UsbTestbed) -> Daemon:
    daemon = world.start(environment={**testbed.environment, "SEALAGENT_CONFIG": str(world.directory / "agent.toml")})
    with daemon.agent() as agent:
        agent.tokens()  # loads the module, so that its start is not measured
    return daemon


def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_key_without_middleware_is_announced_and_everybody_says_what_it_needs(
    usb_world: World, usb_testbed: UsbTestbed, softskf_token: SoftSkfToken, hear: Hear
) -> None:
    softskf_token.remove()
    daemon = start(usb_world, usb_testbed)
    with daemon.agent() as agent:
        assert agent.devices()["devices"] == []
        heard = hear(daemon)
        usb_testbed.plug(FEITIAN)
        event = heard.until("usb_inserted")
        assert (event["vendor_id"], event["product_id"], event["serial"]) == ("096e", "0309", "FT000001")
        assert event["name"] == "Feitian ePass3000GM"
        assert "this key needs Feitian's ePass3000GM driver" in event["message"]
        assert "此钥匙需要飞天" in event["message_zh"]
        (device,) = agent.devices()["devices"]
        assert (device["state"], device["port"]) == ("middleware_missing", "1-1")
        assert device["missing_middleware"] == event["missing_middleware"]
        assert [module["state"] for module in device["modules"]] == ["not_installed"]
        presence = agent.status()["presence"]
        assert presence["usb"] in ("udev events", "kernel events")
        assert presence["fault"] is None
    shell = Shell.of(daemon)
    bus = {**usb_testbed.environment, "SEALAGENT_CONFIG": str(usb_world.directory / "agent.toml")}
    doctor = shell("doctor", **bus)
    assert doctor.status == 0, doctor.err
    assert "096e:0309 FT000001 Feitian ePass3000GM: this key needs" in doctor.out
    listed = shell("token", "list", LANG="zh_CN.UTF-8")
    assert "此钥匙需要飞天" in listed.err
    assert "请安装后重启代理" in listed.err
    daemon.stop()
    without = shell("doctor", **bus)
    assert without.status == 7
    assert "this key needs Feitian's" in without.out


def test_a_plugged_in_key_is_there_at_once_and_a_pulled_one_gone_at_once(
    usb_world: World, usb_testbed: UsbTestbed, softskf_token: SoftSkfToken, hear: Hear
) -> None:
    softskf_token.remove()
    daemon = start(usb_world, usb_testbed)
    heard = hear(daemon)
    softskf_token.insert()
    usb_testbed.plug(SOFT)
    inserted = heard.until("usb_inserted")
    assert (inserted["state"], inserted["missing_middleware"]) == ("ready", None)
    token = heard.until("token_inserted")
    softskf_token.remove()
    usb_testbed.pull(SOFT)
    assert heard.until("usb_removed")["serial"] == "SOFT0001"
    assert heard.until("token_removed") == token


def test_middleware_that_needs_time_is_waited_for(
    usb_world: World, usb_testbed: UsbTestbed, softskf_token: SoftSkfToken, hear: Hear
) -> None:
    softskf_token.remove()
    daemon = start(usb_world, usb_testbed)
    heard = hear(daemon)
    usb_testbed.plug(SOFT)
    heard.until("usb_inserted")
    time.sleep(0.6)
    softskf_token.insert()
    heard.until("token_inserted")


def test_a_key_of_no_known_vendor_makes_the_daemon_look_too(
    usb_world: World, usb_testbed: UsbTestbed, softskf_token: SoftSkfToken, hear: Hear
) -> None:
    softskf_token.remove()
    daemon = start(usb_world, usb_testbed)
    heard = hear(daemon)
    softskf_token.insert()
    usb_testbed.plug(FakeKey(0x4242, 0x4242))
    heard.until("token_inserted")


def test_a_bouncing_contact_is_one_pair_of_events_at_most(
    usb_world: World, usb_testbed: UsbTestbed, hear: Hear
) -> None:
    usb_testbed.plug(SOFT)
    daemon = start(usb_world, usb_testbed)
    heard = hear(daemon)
    with daemon.agent() as agent:
        assert [device["name"] for device in agent.devices()["devices"]] == ["Soft key"]
    # Held up meanwhile, the daemon gets all of it at once, however busy the machine is; test_presence_schedule.py has
    # the times between. More than ten messages would not fit into the emulated netlink socket.
    os.kill(daemon.process.pid, signal.SIGSTOP)
    usb_testbed.bounce(SOFT, 4)
    os.kill(daemon.process.pid, signal.SIGCONT)
    names = heard.rest(3)
    assert sorted(name for name in names if name.startswith("usb")) == ["usb_inserted", "usb_removed"]
    assert [name for name in names if name.startswith("token")] == []


def _sign(agent: Agent) -> None:
    (key,) = agent.keys()
    (signed,) = agent.sign_digests([bytes(32)], key=key["id"])
    assert signed.signature


def test_after_a_replug_skf_signs_again_without_a_restart(
    usb_world: World, usb_testbed: UsbTestbed, softskf_token: SoftSkfToken, hear: Hear
) -> None:
    softskf_token.add_certificate(certificate(softskf_token.add_key("sm2")))
    usb_testbed.plug(SOFT)
    daemon = start(usb_world, usb_testbed)
    heard = hear(daemon)
    with daemon.agent() as agent:
        _sign(agent)
        before = agent.status()["modules"][0]["restarts"]
        for _ in range(2):
            softskf_token.remove()
            usb_testbed.pull(SOFT)
            heard.until("token_removed")
            assert agent.tokens()["tokens"] == []
            softskf_token.insert()
            usb_testbed.plug(SOFT)
            heard.until("token_inserted")
            (token,) = agent.tokens()["tokens"]
            assert not token["unlocked"]
            _sign(agent)
        assert agent.status()["modules"][0]["restarts"] == before


def test_a_replug_too_quick_for_token_events_still_signs(
    usb_world: World, usb_testbed: UsbTestbed, softskf_token: SoftSkfToken, hear: Hear
) -> None:
    softskf_token.add_certificate(certificate(softskf_token.add_key("sm2")))
    usb_testbed.plug(SOFT)
    daemon = start(usb_world, usb_testbed)
    heard = hear(daemon)
    with daemon.agent() as agent:
        _sign(agent)
        softskf_token.remove()
        softskf_token.insert()
        usb_testbed.bounce(SOFT, 1)
        heard.until("usb_inserted")
        until(lambda: not agent.tokens()["tokens"][0]["unlocked"], "the login went with the device")
        _sign(agent)


def test_after_a_replug_softhsm_signs_again_without_a_restart(
    world: World, usb_testbed: UsbTestbed, authority: TestAuthority, hear: Hear
) -> None:
    world.presence_seconds = NEVER
    world.add_signer()
    usb_testbed.plug(SOFT)
    daemon = start(world, usb_testbed)
    heard = hear(daemon)
    with daemon.agent() as agent:
        _sign(agent)
        world.token.remove()
        usb_testbed.pull(SOFT)
        heard.until("token_removed")
        world.token.insert()
        usb_testbed.plug(SOFT)
        heard.until("token_inserted")
        _sign(agent)


def test_usb_can_be_left_alone(usb_world: World, usb_testbed: UsbTestbed) -> None:
    usb_world.settings["presence"] = {"usb": False}
    usb_testbed.plug(FEITIAN)
    with start(usb_world, usb_testbed).agent() as agent:
        assert agent.devices() == {"usb": "off", "fault": None, "devices": []}


@pytest.fixture
def no_netlink(tmp_path: Path) -> dict[str, str]:
    """An environment in which no udev monitor can be made."""
    (tmp_path / "pyudev.py").write_text("raise ImportError('no libudev here')\n")
    return {"PYTHONPATH": str(tmp_path)}


def test_without_udev_the_daemon_polls(
    usb_world: World, usb_testbed: UsbTestbed, softskf_token: SoftSkfToken, no_netlink: dict[str, str], hear: Hear
) -> None:
    usb_world.presence_seconds = 0.5
    softskf_token.remove()
    environment = {**usb_testbed.environment, **no_netlink, "SEALAGENT_CONFIG": str(usb_world.directory / "agent.toml")}
    daemon = usb_world.start(environment=environment)
    heard = hear(daemon)
    with daemon.agent() as agent:
        presence = agent.status()["presence"]
        assert presence["usb"] == "polling"
        assert "no libudev here" in str(presence["fault"])
    softskf_token.insert()
    usb_testbed.plug(SOFT)
    heard.until("usb_inserted")
    usb_testbed.pull(SOFT)
    heard.until("usb_removed")
