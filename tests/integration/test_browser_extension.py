"""A real extension (Manifest V3) in a real headless Chromium that starts the real host before a real agent."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_world import Daemon, World, until
from browser_parts import EXTENSION, ORIGIN, Holder
from chromium_parts import BROWSER, Chromium, Pages, ScriptError
from cli_parts import Shell
from ofd_samples import document_files, pack
from sealagent.client import AgentError, invisible

SEAL = "测试单位公章"
FOLDER = Path(__file__).resolve().parents[1] / "browser_extension"


class Extension:
    """The extension, asked through a page of its own."""

    def __init__(self, browser: Chromium) -> None:
        self._browser = browser
        browser.open(f"{ORIGIN}/page.html")

    def __call__(self, work: str, **members: Any) -> Any:
        """Have the service worker do something; return what it says, or the problem details of its error."""
        script = "return await chrome.runtime.sendMessage(arguments[0])"
        answer = self._browser.run(script, {"work": work, **members})
        return answer["value"] if "value" in answer else answer.get("error")

    def ask(self, method: str, path: str, body: Any = None, **members: Any) -> Any:
        return self("request", method=method, path=path, body=body, **members)


@pytest.fixture
def daemon(world: World) -> Daemon:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    return world.start()


@pytest.fixture
def browser(daemon: Daemon) -> Iterator[Chromium]:
    """A browser that has the extension; ``[browser] programs`` is empty, so it is one that the agent knows."""
    flags = [f"--load-extension={FOLDER}", "--disable-features=DisableLoadExtensionCommandLineSwitch"]
    with Chromium(*flags, environment=Shell.of(daemon).environment()) as found:
        yield found


def _place(browser: Chromium) -> tuple[str | Path, ...]:
    return ("--browser", "chromium", "--profile-root", browser.folder / "profile")


def _install(daemon: Daemon, browser: Chromium) -> None:
    done = Shell.of(daemon)("browser", "install", *_place(browser), "--extension", EXTENSION)
    assert done.status == 0, done.err


def test_an_extension_seals_in_a_real_browser(daemon: Daemon, browser: Chromium) -> None:
    """Before the host is installed nothing is reached; then everything that an extension needs is."""
    extension = Extension(browser)
    refused = extension.ask("GET", "/v1/status")
    assert refused["code"] == "bridge_unreachable", refused
    _install(daemon, browser)
    assert extension.ask("GET", "/v1/status")["status"] == 200
    seals = extension.ask("GET", "/v1/seals")["body"]["seals"]
    assert [seal["name"] for seal in seals] == [SEAL]
    picture = extension.ask("GET", f"/v1/seals/{seals[0]['id']}/image")
    assert base64.b64decode(picture["body"]).startswith(b"\x89PNG")

    # The document is too large for one message, in both directions.
    document = pack({**document_files(), "Doc_0/Res/image.bin": os.urandom(1_500_000)})
    content = base64.b64encode(document).decode()
    request = {"seal": SEAL, "placements": [{"type": "invisible"}], "name": "a.ofd", "content": content}
    asking = {"key": "once", "page": "https://office.example"}
    sealed = extension.ask("POST", "/v1/documents/seal", request, **asking)
    assert sealed["status"] == 200, sealed
    assert extension.ask("POST", "/v1/documents/seal", request, **asking)["body"] == sealed["body"]
    verdict = extension.ask("POST", "/v1/documents/verify", {"name": "a.ofd", "content": sealed["body"]["document"]})
    assert verdict["body"]["verdict"] == "valid"

    # What is on record: the browser's word on the extension, the extension's on the page, the kernel's on the browser.
    record = extension.ask("GET", f"/v1/records/{sealed['body']['receipt']['record']}")["body"]
    with daemon.agent() as agent:
        assert record == agent.record(record["number"])
        caller = agent.record(record["body"]["intent"])["body"]["caller"]
        kinds = [entry["kind"] for entry in agent.records()["records"]]
    assert (caller["origin"], caller["page"], caller["parent"]) == (ORIGIN, "https://office.example", BROWSER)
    assert kinds.count("signed") == 1


def test_several_at_once_events_and_what_is_refused(daemon: Daemon, browser: Chromium) -> None:
    _install(daemon, browser)
    extension = Extension(browser)
    paths = ["/v1/status", "/v1/tokens", "/v1/seals/none", "/v1/seals", "/v1/records", "/v1/keys"] * 2
    expected = [200, "route_not_bridged", "seal_not_found", 200, "route_not_bridged", 200] * 2
    assert extension("together", paths=paths) == expected
    refused = extension.ask("POST", "/v1/grants", {})
    assert (refused["code"], refused["status"]) == ("route_not_bridged", 403)
    assert refused["title_zh"]
    assert refused["next_step_zh"]
    assert extension("listen") == "listening"
    with daemon.agent() as agent:
        agent.lock_token(agent.tokens()["tokens"][0]["id"])
        with contextlib.suppress(AgentError):
            agent.seal_document(pack(document_files()), seal=SEAL, placements=[invisible()])
    until(lambda: extension("heard"))


def test_an_extension_is_paired_and_keeps_its_token(world: World) -> None:
    """The code is the same here and there; the token stays in the extension's storage and serves another run of it."""
    holder = Holder(world.directory, world.token.user_pin)
    world.settings["pin"] = holder.settings
    world.policy = PAIRED_ONLY
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    daemon = world.start(environment={"LC_ALL": "en_US.UTF-8"})
    flags = [f"--load-extension={FOLDER}", "--disable-features=DisableLoadExtensionCommandLineSwitch"]
    content = base64.b64encode(pack(document_files())).decode()
    request = {"seal": SEAL, "placements": [{"type": "invisible"}], "name": "a.ofd", "content": content}
    with Chromium(*flags, environment=Shell.of(daemon).environment()) as browser:
        _install(daemon, browser)
        extension = Extension(browser)
        assert extension.ask("POST", "/v1/documents/seal", request)["code"] == "use_denied"
        code = extension("pair", name="办公扩展")
        application = extension("complete")
        assert application["name"] == "办公扩展"
        assert application["origin"] == ORIGIN
        assert code in holder.shown.replace(" ", "")
        assert f"Browser extension: {ORIGIN} (says the bridge started by {BROWSER})" in holder.shown
        extension("close")  # and with it the host; the next one is another process
        sealed = extension.ask("POST", "/v1/documents/seal", request)
        assert sealed["status"] == 200, sealed
    with daemon.agent() as agent:
        signed = agent.record(sealed["body"]["receipt"]["record"])
        caller = agent.record(signed["body"]["intent"])["body"]["caller"]
    assert caller["application"] == {"id": application["id"], "name": "办公扩展"}


PAIRED_ONLY = f"""
[defaults]
document = "deny"
[[rules]]
name = "extension"
effect = "allow"
operations = ["document"]
applications = ["办公扩展"]
origins = ["{ORIGIN}"]
parents = ["{BROWSER}"]
"""


def test_the_host_ends_when_extension_or_browser_do(daemon: Daemon, browser: Chromium) -> None:
    _install(daemon, browser)
    extension = Extension(browser)
    extension.ask("GET", "/v1/status")
    assert len(_hosts(daemon)) == 1
    extension("close")
    until(lambda: not _hosts(daemon))
    assert extension.ask("GET", "/v1/status")["status"] == 200
    assert len(_hosts(daemon)) == 1
    browser.close()
    until(lambda: not _hosts(daemon))


def test_an_extension_that_is_not_listed_reaches_nothing(daemon: Daemon, browser: Chromium) -> None:
    """The browser's own check; and the host's, should the browser be mistaken, is tested by protocol."""
    done = Shell.of(daemon)("browser", "install", *_place(browser), "--extension", "a" * 32)
    assert done.status == 0
    extension = Extension(browser)
    refused = extension.ask("GET", "/v1/status")
    assert refused["code"] == "bridge_unreachable"
    assert "forbidden" in refused["detail"]
    assert not _hosts(daemon)
    with daemon.agent() as agent:
        assert agent.status()["record"]["size"] == 0


def test_a_web_page_has_no_way_to_the_host(daemon: Daemon, browser: Chromium) -> None:
    _install(daemon, browser)
    with Pages() as pages:
        browser.open(f"{pages.origin('office.example')}/")
        assert browser.run("return typeof (window.chrome?.runtime?.connectNative)") == "undefined"
        script = f"return await new Promise(r => chrome.runtime.sendMessage('{EXTENSION}', {{work: 'heard'}}, r))"
        with pytest.raises(ScriptError):  # the extension lets no page talk to it
            browser.run(script)
    assert not _hosts(daemon)


def _hosts(daemon: Daemon) -> list[int]:
    """Return the process ids of hosts that belong to this test."""
    mark = f"SEALAGENT_SOCKET={daemon.socket}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")[:2]
                named = any(word.endswith(b"/sealagent-browser-host") for word in words)
                if named and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
