"""Pages in a real browser before a real agent: what a paired site can do, and that no other has any effect.

The sites count as the Internet for the browser (``--ip-address-space-overrides``), so it asks for the permission that
pages need to reach this machine (Local Network Access). ``Browser.setPermission`` of the DevTools protocol answers it
for the origins of a test; one test sees what happens without.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent_world import Daemon, World, until
from chromium_parts import Chromium, Page, Pages
from loopback_parts import free_port
from ofd_samples import document_files, pack

SEAL = "测试单位公章"
ALLOWED = "office.example"
FOREIGN = "evil.example"

ASK = """
const [address, method, token, body, headers] = arguments;
const asked = {method, headers: {...headers}, cache: "no-store"};
if (token) asked.headers.Authorization = `Bearer ${token}`;
if (body !== null) {
    asked.body = JSON.stringify(body);
    asked.headers["Content-Type"] ??= "application/json";
}
try {
    const answer = await fetch(address, asked);
    return {status: answer.status, body: await answer.json(), receipt: answer.headers.get("SealAgent-Receipt")};
} catch (error) {
    return {failed: String(error)};
}
"""
"""What a page of the site does, as its programmers would write it."""


@dataclass
class Office:
    """A browser that shows a site, and the agent that the site asks."""

    browser: Chromium
    pages: Pages
    daemon: Daemon
    port: int
    prompts: Path

    def show(self, name: str = ALLOWED, path: str = "/") -> None:
        """Show a page of a site."""
        self.browser.open(self.pages.origin(name) + path)

    @property
    def agent(self) -> str:
        """Where the agent is for pages."""
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Have the page that is shown ask the agent with ``fetch``."""
        return self.browser.run(ASK, self.agent + path, method, token, body, headers or {})

    def pair(self, name: str = "Office of the Web") -> str:
        """Pair the site that is shown; return its token."""
        offer = self.ask("POST", "/v1/pairings", {"name": name})
        assert offer["status"] < 300, offer
        done = self.ask("POST", f"/v1/pairings/{offer['body']['id']}/complete", {"secret": offer["body"]["secret"]})
        assert done["status"] < 300, done
        return str(done["body"]["token"])

    def prompted(self) -> str:
        """Return what the holder was shown, unescaped."""
        return self.prompts.read_text(encoding="utf-8") if self.prompts.exists() else ""

    def recorded(self) -> int:
        """Return how many entries the record has."""
        with self.daemon.agent() as agent:
            return int(agent.records()["size"])


def _pinentry(folder: Path, pin: str) -> tuple[Path, Path]:
    """Write a holder who types the PIN and agrees, after having read; return the program and what it was shown.

    While there is a file ``hesitates`` in the folder, the holder does not answer.
    """
    program, heard = folder / "pinentry", folder / "heard"
    program.write_text(
        "#!/bin/sh\necho OK hello\nwhile read -r line; do\n"
        f"  printf '%s\\n' \"$line\" >> {heard}\n"
        '  case "$line" in\n'
        "    'GETINFO flavor') echo D script; echo OK;;\n"
        f"    GETPIN*) echo D {pin}; echo OK;;\n"
        f"    CONFIRM*) while [ -e {folder / 'hesitates'} ]; do sleep 0.1; done; sleep 0.6; echo OK;;\n"
        "    BYE*) echo OK; exit 0;;\n"
        "    *) echo OK;;\n  esac\ndone\n"
    )
    program.chmod(0o755)
    return program, heard


@pytest.fixture
def office(world: World) -> Iterator[Office]:
    """An agent that lets one site ask, and a browser that shows it."""
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    port = free_port()
    program, heard = _pinentry(world.directory, world.token.user_pin)
    with Pages() as pages:
        world.settings["pin"] = {"source": "pinentry", "pinentry": str(program)}
        world.settings["loopback"] = {"enabled": True, "port": port, "origins": [pages.origin(ALLOWED)]}
        daemon = world.start(environment={"DISPLAY": ":0"})
        with Chromium(public=[pages.place]) as browser:
            for name in (ALLOWED, FOREIGN):
                browser.permit(pages.origin(name), "loopback-network")
            yield Office(browser, pages, daemon, port, heard)


@pytest.fixture
def body() -> str:
    """A request to seal that would be right, were it let in."""
    content = base64.b64encode(pack(document_files())).decode()
    return json.dumps({"seal": SEAL, "placements": [{"type": "invisible"}], "content": content})


def test_a_site_is_paired_seals_and_verifies(office: Office) -> None:
    office.show()
    assert office.ask("GET", "/v1/seals")["body"]["code"] == "pairing_required"
    token = office.pair()
    told = office.prompted()
    assert office.pages.origin(ALLOWED) in told
    assert "Office of the Web" in told
    seals = office.ask("GET", "/v1/seals", token=token)
    assert [seal["name"] for seal in seals["body"]["seals"]] == [SEAL]
    document = base64.b64encode(pack(document_files())).decode()
    asked = {"seal": SEAL, "placements": [{"type": "invisible"}], "name": "合同.ofd", "content": document}
    sealed = office.ask("POST", "/v1/documents/seal", asked, token=token, headers={"Idempotency-Key": "2026-1"})
    assert sealed["status"] == 200, sealed
    report = office.ask("POST", "/v1/documents/verify", {"content": sealed["body"]["document"]}, token=token)
    assert report["body"]["verdict"] == "valid"
    with office.daemon.agent() as agent:
        [entry] = [entry for entry in agent.records()["records"] if entry["kind"] == "signed"]
        intent = agent.record(sealed["body"]["receipt"]["intent"])
    assert entry["number"] == sealed["body"]["receipt"]["record"]
    caller = intent["body"]["caller"]
    assert caller["origin"] == office.pages.origin(ALLOWED)
    assert caller["application"]["name"] == "Office of the Web"
    assert caller["executable"].endswith("/chromium")
    assert token not in office.daemon.said()
    # The same request again is the same signature.
    again = office.ask("POST", "/v1/documents/seal", asked, token=token, headers={"Idempotency-Key": "2026-1"})
    assert again["body"] == sealed["body"]


def test_the_page_of_the_documentation_works(office: Office) -> None:
    """The code that docs/browsers.md shows, as it stands there but for port and seal."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "browsers.md").read_text(encoding="utf-8")
    code = text[text.index("    const agent = ") :]
    code = code[: code.index("\n\nKeep the token")].replace("18543", str(office.port)).replace("某某单位公章", SEAL)
    before = "const [base64] = arguments; let shown; const show = (code) => { shown = code; };\n"
    office.show()
    content = base64.b64encode(pack(document_files())).decode()
    told = office.browser.run(
        f"{before}{code}\nreturn {{verdict: report.verdict, record: receipt.record, shown}};", content
    )
    assert told["verdict"] == "valid"
    assert f"{told['shown'][:3]} {told['shown'][3:]}" in office.prompted() or told["shown"] in office.prompted()
    with office.daemon.agent() as agent:
        assert agent.record(told["record"])["kind"] == "signed"


def test_a_page_reads_events_as_they_come(office: Office, body: str) -> None:
    office.show()
    token = office.pair()
    script = """
    const [agent, token, body] = arguments;
    const headers = {Authorization: `Bearer ${token}`};
    const stream = await fetch(agent + "/v1/events", {headers});
    const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
    const sealing = fetch(agent + "/v1/documents/seal", {
        method: "POST", body, headers: {...headers, "Content-Type": "application/json"},
    });
    let text = "";
    while (!text.includes("event: signed")) text += (await reader.read()).value;
    const {receipt} = await (await sealing).json();
    await reader.cancel();
    return [stream.headers.get("Content-Type"), text, receipt.record];
    """
    media_type, text, record = office.browser.run(script, office.agent, token, body)
    assert media_type.startswith("text/event-stream")
    assert f'"record": {record},' in text


def test_a_token_is_one_sites_and_one_programs(office: Office) -> None:
    office.show()
    token = office.pair()
    before = office.recorded()
    # The agent answers and closes before a large body has come; the page still learns why.
    large = office.ask("POST", "/v1/documents/seal", {"content": "A" * (8 << 20)}, token="A" * 43)
    assert large["body"]["code"] == "token_invalid", large
    office.show(FOREIGN)
    assert "failed" in office.ask("GET", "/v1/seals", token=token)
    assert "origin_not_allowed" in office.daemon.said()
    # A program that says it is the browser's page is none: this one is Python's.
    fields = {"Origin": office.pages.origin(ALLOWED), "Authorization": f"Bearer {token}"}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(office.agent + "/v1/seals", headers=fields), timeout=20)
    with caught.value as answer:
        assert json.load(answer)["code"] == "token_misused"
    with office.daemon.agent() as agent:
        [misuse] = agent.records(after=before)["records"]
    assert (misuse["kind"], misuse["body"]["reason"]) == ("refused", "token_misused")


def test_a_prompt_ends_with_the_browser_that_asked(office: Office) -> None:
    office.show()
    (office.prompts.parent / "hesitates").touch()
    script = """
    const [agent] = arguments;
    const headers = {"Content-Type": "application/json"};
    const post = (path, body) => fetch(agent + path, {method: "POST", headers, body: JSON.stringify(body)});
    const offer = await (await post("/v1/pairings", {name: "Office"})).json();
    post(`/v1/pairings/${offer.id}/complete`, {secret: offer.secret});  // not waited for
    """
    office.browser.run(script, office.agent)
    until(lambda: "CONFIRM" in office.prompted())
    office.browser.close()
    until(lambda: "caller_gone" in office.daemon.said())
    with office.daemon.agent() as agent:
        [entry] = agent.records()["records"]
        assert agent.applications() == []
    assert (entry["kind"], entry["body"]["reason"]) == ("refused", "caller_gone")


def test_without_the_browsers_permission_nothing_leaves_it(office: Office) -> None:
    """What people see who say no to Chrome's question, or whose administrator answered it so."""
    office.browser.permit(office.pages.origin(ALLOWED), "loopback-network", "denied")
    office.show()
    before = office.daemon.said()
    assert "failed" in office.ask("GET", "/v1/seals")
    assert any("Permission was denied" in line and "loopback" in line for line in office.browser.console())
    assert office.daemon.said() == before
    office.browser.permit(office.pages.origin(ALLOWED), "loopback-network", "granted")
    assert office.ask("GET", "/v1/seals")["body"]["code"] == "pairing_required"


CROSS_SITE = """
const [agent, body] = arguments;
const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const outcome = {};
const note = (name, work) => work.then((value) => outcome[name] = value, (error) => outcome[name] = String(error));
const loaded = (element, where) => new Promise((done) => {
    element.onload = () => done("loaded");
    element.onerror = () => done("error");
    where.append(element);
});
const element = (name, members) => Object.assign(document.createElement(name), members);
const seal = agent + "/v1/documents/seal";
const json = {"Content-Type": "application/json"};

await note("fetch", fetch(seal, {method: "POST", headers: json, body}).then((answer) => answer.status));
await note("fetch with token", fetch(seal, {
    method: "POST", headers: {...json, Authorization: "Bearer " + "A".repeat(43)}, body,
}).then((answer) => answer.status));
await note("get", fetch(agent + "/v1/seals").then((answer) => answer.status));
await note("delete", fetch(agent + "/v1/batches/1", {method: "DELETE"}).then((answer) => answer.status));
for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=X"]) {
    const headers = {"Content-Type": type};
    await note("simple " + type, fetch(seal, {method: "POST", headers, body}).then((answer) => answer.status));
    await note("no-cors " + type, fetch(seal, {method: "POST", mode: "no-cors", headers, body})
        .then(async (answer) => [answer.type, answer.status, await answer.text()]));
}
await note("no-cors pairing", fetch(agent + "/v1/pairings", {
    method: "POST", mode: "no-cors", body: JSON.stringify({name: "evil"}),
}).then((answer) => answer.status));
await note("beacon", Promise.resolve(navigator.sendBeacon(seal, new Blob([body], {type: "text/plain"}))));
await note("beacon form", Promise.resolve(navigator.sendBeacon(seal, new URLSearchParams({body}))));
await note("keepalive", fetch(seal, {method: "POST", mode: "no-cors", keepalive: true, body}).then(() => "sent"));
await note("xhr", new Promise((done) => {
    const request = new XMLHttpRequest();
    request.onloadend = () => done(request.status);
    request.open("POST", seal);
    request.send(body);
}));
for (const path of ["/v1/events", "/v1/status"]) {
    await note("websocket " + path, new Promise((done) => {
        const opened = new WebSocket(agent.replace("http", "ws") + path);
        opened.onopen = () => done("open");
        opened.onclose = (event) => done("closed " + event.code);
    }));
}
await note("eventsource", new Promise((done) => {
    const source = new EventSource(agent + "/v1/events");
    source.onopen = () => done("open");
    source.onerror = () => { source.close(); done("error"); };
}));
await note("img", loaded(element("img", {src: agent + "/v1/seals/1/image"}), document.body));
await note("script", loaded(element("script", {src: agent + "/v1/openapi.json"}), document.body));
await note("style", loaded(element("link", {rel: "stylesheet", href: agent + "/v1/status"}), document.head));
await note("audio", new Promise((done) => {
    const player = element("audio", {src: agent + "/v1/status"});
    player.onerror = () => done("error");
    player.onloadeddata = () => done("loaded");
    document.body.append(player);
}));
const frame = element("iframe", {src: agent + "/v1/status"});
document.body.append(frame);
await wait(0.5);
try { outcome.iframe = frame.contentDocument ? frame.contentDocument.body.innerText : "sealed off"; }
catch (error) { outcome.iframe = "sealed off"; }
for (const enctype of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
    const target = element("iframe", {name: "f" + enctype});
    const form = element("form", {action: seal, method: "POST", enctype, target: target.name});
    form.append(element("input", {name: body, value: ""}));
    document.body.append(target, form);
    form.submit();
}
await note("worker", new Promise((done) => {
    const ask = `fetch("${seal}", {method: "POST", body: "{}"})`;
    const code = `${ask}.then((answer) => postMessage(answer.status), () => postMessage("error"))`;
    const worker = new Worker(URL.createObjectURL(new Blob([code])));
    worker.onmessage = (event) => done(event.data);
    worker.onerror = () => done("error");
}));
await wait(0.5);
return outcome;
"""
"""Everything by which a page can make its browser ask another server."""


def _harmless(outcome: dict[str, Any]) -> None:
    """Say that the page learned nothing: no status, no text, nothing opened or loaded."""
    for name in ("beacon", "beacon form"):
        assert outcome.pop(name) in (True, False)  # whether it was queued; no answer is ever told
    for name in [name for name in outcome if name.startswith("no-cors") or name == "keepalive"]:
        # The browser sends it and hides the answer, or hides that there was one.
        told = outcome.pop(name)
        assert told in (0, "sent", ["opaque", 0, ""]) or str(told).startswith("TypeError"), (name, told)
    assert outcome.pop("iframe") in ("sealed off", "")
    for name, told in outcome.items():
        assert str(told).startswith(("TypeError", "error", "closed")) or told == 0, (name, told)


def _unmoved(office: Office, before: int) -> None:
    """Nothing was recorded, nobody was asked, and the agent admitted nothing of it."""
    assert office.recorded() == before
    assert office.prompted() == ""
    said = office.daemon.said()
    assert "Traceback" not in said
    for line in said.splitlines():
        assert " signed" not in line
        if "page" in line and "/v1/" in line:
            assert any(code in line for code in ("origin_not_allowed", "loopback_host_refused")), line


def test_another_site_has_no_effect_whatever_it_tries(office: Office, body: str) -> None:
    office.show(FOREIGN)
    before = office.recorded()
    _harmless(office.browser.run(CROSS_SITE, office.agent, body))
    _unmoved(office, before)
    # All of them reached the gate: it was not the browser alone that kept them away.
    said = office.daemon.said()
    assert said.count("origin_not_allowed") >= 15, said
    for line in ("POST '/v1/documents/seal'", "GET '/v1/events'", "GET '/v1/status'", "POST '/v1/pairings'"):
        assert line in said


def test_an_allowed_site_that_is_not_paired_has_none_either(office: Office, body: str) -> None:
    """What can be sent without asking first: by a site whose pages show what others write, say."""
    office.show()
    before = office.recorded()
    outcome = office.browser.run(CROSS_SITE, office.agent, body)
    assert outcome["fetch"] == 401
    assert outcome["simple text/plain"] in (401, 415)
    assert outcome["websocket /v1/events"].startswith("closed")
    assert outcome["eventsource"] == "error"
    assert office.recorded() == before
    assert office.prompted() == ""


def test_a_frame_of_another_site_in_an_allowed_page_has_none(office: Office, body: str) -> None:
    delegated = 'allow="loopback-network; local-network-access"'
    foreign = f'<!doctype html><iframe id="foreign" src="{office.pages.origin(FOREIGN)}/" {delegated}></iframe>'
    sandboxed = f'<iframe id="nobody" sandbox="allow-scripts" src="/" {delegated}></iframe>'
    office.pages.pages["/framing"] = Page((foreign + sandboxed).encode())
    before = office.recorded()
    office.show(path="/framing")
    _harmless(office.browser.in_frame("#foreign", CROSS_SITE, office.agent, body))
    asked = "try { await fetch(arguments[0]); return 'answered' } catch (error) { return origin + ' ' + error }"
    told = office.browser.in_frame("#nobody", asked, office.agent + "/v1/seals")
    assert told.startswith("null TypeError"), told
    _unmoved(office, before)
    assert "Origin is 'null'" in office.daemon.said()


class Attacker:
    """Who answers at the attacker's address: first with a page, and from then on the agent does, octet by octet.

    For the browser that is a name that leads elsewhere from one moment to the next (DNS rebinding): the page's script
    is of the same origin as what it asks. 127.0.0.2 stands for the attacker's machine, which has the agent's port.
    """

    PAGE = b"<!doctype html><title>attack</title>"

    def __init__(self, port: int) -> None:
        self._port = port
        self.rebound = False
        self._server = socket.create_server(("127.0.0.2", port))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Attacker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        with ThreadPoolExecutor(16) as pool, contextlib.suppress(OSError):
            while True:
                pool.submit(self._answer, self._server.accept()[0])

    def _answer(self, browser: socket.socket) -> None:
        browser.settimeout(20)
        with browser, contextlib.suppress(OSError):
            request = browser.recv(65536)
            if not self.rebound:
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.PAGE)}\r\nConnection: close\r\n"
                browser.sendall(head.encode() + b"Content-Type: text/html\r\n\r\n" + self.PAGE)
                return
            with socket.create_connection(("127.0.0.1", self._port), 20) as agent:
                agent.sendall(request)
                while piece := agent.recv(65536):
                    browser.sendall(piece)


def test_a_name_that_leads_to_this_machine_is_not_this_machine(world: World, body: str) -> None:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    port = free_port()
    program, heard = _pinentry(world.directory, world.token.user_pin)
    world.settings["pin"] = {"source": "pinentry", "pinentry": str(program)}
    world.settings["loopback"] = {"enabled": True, "port": port, "origins": ["https://office.example"]}
    daemon = world.start(environment={"DISPLAY": ":0"})
    names = ["MAP evil.example 127.0.0.2", "MAP direct.example 127.0.0.1"]
    with Pages(secure=False) as pages, Attacker(port) as attacker, Chromium(names=names) as browser:
        office = Office(browser, pages, daemon, port, heard)
        before = office.recorded()
        evil = f"http://evil.example:{port}"
        browser.open(evil)
        attacker.rebound = True
        for method, path, token, sent in (
            ("GET", "/v1/seals", None, None),
            ("GET", "/v1/status", "A" * 43, None),
            ("POST", "/v1/pairings", None, {"name": "evil"}),
            ("POST", "/v1/documents/seal", "A" * 43, json.loads(body)),
        ):
            # It is of the page's own origin, so the page may read what comes: why it was refused, and nothing else.
            outcome = browser.run(ASK, evil + path, method, token, sent, {})
            assert outcome["status"] == 421, outcome
            assert outcome["body"]["code"] == "loopback_host_refused"
        # From another origin by such a name; and the agent's own address shown in a tab.
        browser.open(pages.origin("direct.example"))
        assert "failed" in browser.run(ASK, f"http://direct.example:{port}/v1/seals", "GET", None, None, {})
        browser.open(f"http://direct.example:{port}/v1/seals")
        assert "loopback_host_refused" in browser.run("return document.body.innerText")
        browser.open(f"{office.agent}/v1/seals")
        assert "origin_not_allowed" in browser.run("return document.body.innerText")
        _unmoved(office, before)
        assert daemon.said().count("loopback_host_refused") >= 6
