"""For whom a process says it asks is believed of a browser's child only."""

from __future__ import annotations

import pytest

from sealagent.browser import bridge
from sealagent.callers.browsers import BROWSER_PROGRAMS, ORIGIN_HEADER, PAGE_HEADER, acting_for, browser_programs
from sealagent.callers.peer import Caller
from sealagent.consent.prompter import ConsentRequest, Occasion
from sealagent.consent.texts import Language, consent_text
from sealagent.errors import SealAgentError
from sealagent.uses import Operation

ORIGIN = f"chrome-extension://{'abcdefghijklmnop' * 2}"
PAGE = "https://office.example"
BROWSER = "/usr/lib/chromium/chromium"


def _caller(parent: str | None) -> Caller:
    return Caller(1000, 1000, 42, "/usr/bin/python3.11", 7, parent=parent)


@pytest.mark.parametrize("browser", sorted(BROWSER_PROGRAMS))
@pytest.mark.parametrize("page", [None, PAGE])
def test_a_child_of_a_browser_is_believed(browser: str, page: str | None) -> None:
    found = acting_for(_caller(browser), ORIGIN, page, browser_programs([]))
    assert (found.origin, found.page) == (ORIGIN, page)
    assert found.as_json()["origin"] == ORIGIN
    assert found.as_json().get("page") == page
    assert found.process == _caller(None).process


@pytest.mark.parametrize(
    "parent", [None, "/bin/bash", "/usr/lib/chromium", "/usr/lib/chromium/chromium2", "usr/lib/chromium/chromium"]
)
def test_nobody_else_is(parent: str | None) -> None:
    with pytest.raises(SealAgentError) as caught:
        acting_for(_caller(parent), ORIGIN, None, browser_programs([]))
    assert caught.value.code == "origin_not_proven"


def test_further_browsers_can_be_named() -> None:
    programs = browser_programs(["/opt/browser/browser"])
    assert acting_for(_caller("/opt/browser/browser"), ORIGIN, None, programs).origin == ORIGIN
    assert programs >= BROWSER_PROGRAMS


def test_who_names_no_extension_stays_who_it_is() -> None:
    for parent in (None, "/bin/bash", "/usr/lib/chromium/chromium"):
        caller = _caller(parent)
        assert acting_for(caller, None, None, BROWSER_PROGRAMS) is caller


@pytest.mark.parametrize(
    ("origin", "page"),
    [
        (None, PAGE),
        ("", None),
        ("https://office.example", None),
        ("chrome-extension://", None),
        ("chrome-extension://a/b", None),
        ("file:///x", None),
        (f"{ORIGIN} ", None),
        (f"{ORIGIN}, {ORIGIN}", None),
        ("chrome-extension://" + "a" * 200, None),
        (ORIGIN, ""),
        (ORIGIN, "two words"),
        (ORIGIN, "x" * 513),
        (ORIGIN, "https://é.example"),
    ],
)
def test_malformed_headers_are_refused(origin: str | None, page: str | None) -> None:
    with pytest.raises(SealAgentError) as caught:
        acting_for(_caller("/usr/lib/chromium/chromium"), origin, page, BROWSER_PROGRAMS)
    assert caught.value.code == "request_invalid"


def test_bridge_and_agent_mean_the_same_headers() -> None:
    assert (bridge.ORIGIN_HEADER, bridge.PAGE_HEADER) == (ORIGIN_HEADER, PAGE_HEADER)


@pytest.mark.parametrize(
    ("chosen", "extension", "page"),
    [
        (
            "en",
            f"Browser extension: {ORIGIN} (says the bridge started by {BROWSER})",
            f"Page: {PAGE} (it says)",
        ),
        ("zh_CN", f"浏览器扩展：{ORIGIN}（{BROWSER} 启动的桥接称）", f"网页：{PAGE}（自称）"),
    ],
)
def test_the_holder_sees_whose_word_it_is(chosen: Language, extension: str, page: str) -> None:
    caller = acting_for(_caller(BROWSER), ORIGIN, PAGE, BROWSER_PROGRAMS)
    occasion = Occasion(caller, "a.ofd", "公章", operation=Operation.DOCUMENT)
    said = consent_text(ConsentRequest("use", occasion), chosen).description
    assert {extension, page} <= set(said)
