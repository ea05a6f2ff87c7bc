"""Pinentry programs that misbehave, as small scripts; and what exactly is said to a pinentry."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pinentry_parts import assert_ended
from sealagent.callers.peer import Caller
from sealagent.consent import pinentry as module
from sealagent.consent.pinentry import Pinentry, PinentrySettings
from sealagent.consent.prompter import Occasion, PinRequest
from sealagent.errors import SealAgentError
from sealdrivers.contract import PinState

REQUEST = PinRequest("label", "0001", PinState(), "unlock", Occasion(Caller(1, 1, 42, "/bin/app", 1), "a.ofd", "seal"))
ENVIRON = {"PATH": os.environ["PATH"], "LC_ALL": "zh_CN.UTF-8"}
Fake = Callable[..., Pinentry]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """Make a pinentry that behaves up to GETPIN and then does what the test says."""

    def make(getpin: str, *, greeting: str = "echo OK hello", other: str = "echo OK", timeout: float = 10) -> Pinentry:
        program = tmp_path / "pinentry"
        program.write_text(
            "#!/bin/sh\n"
            f"echo $$ > {shlex.quote(str(tmp_path / 'pid'))}\n"
            f"{greeting}\n"
            "while read -r line; do\n"
            f"  printf '%s\\n' \"$line\" >> {shlex.quote(str(tmp_path / 'heard'))}\n"
            f'  case "$line" in\n  GETPIN) {getpin};;\n  *) {other};;\n  esac\n'
            "done\n"
        )
        program.chmod(0o755)
        settings = PinentrySettings(
            str(program),
            ttyname="/dev/nowhere",
            ttytype="xterm",
            lc_ctype="zh_CN.UTF-8",
            timeout=timeout,
            environ=ENVIRON,
        )
        return Pinentry(settings)

    return make


def ask(prompter: Pinentry, request: PinRequest = REQUEST) -> bytes:
    return bytes(asyncio.run(prompter.ask_pin(request)))


def failure(prompter: Pinentry, request: PinRequest = REQUEST) -> SealAgentError:
    with pytest.raises(SealAgentError) as caught:
        ask(prompter, request)
    return caught.value


@pytest.mark.parametrize(
    ("getpin", "pin"),
    [
        ("echo D 1234; echo OK", b"1234"),
        ("echo D 12; echo D 34; echo OK done", b"1234"),
        ("echo D 1%25%0A%0d%e7%AB%A0; echo OK", b"1%\n\r\xe7\xab\xa0"),
        ("echo 'D  1 2 '; echo OK", b" 1 2 "),
        ("echo '# comment'; echo S PIN_REPEATED; echo D 1; echo OK", b"1"),
    ],
)
def test_data_lines(fake: Fake, getpin: str, pin: bytes) -> None:
    assert ask(fake(getpin)) == pin


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (83886179, "pin_cancelled"),  # GPG_ERR_CANCELED from pinentry
        (83886194, "pin_cancelled"),  # GPG_ERR_NOT_CONFIRMED
        (83886278, "pin_cancelled"),  # GPG_ERR_FULLY_CANCELED
        (83886142, "prompt_timeout"),  # GPG_ERR_TIMEOUT
        (83918950, "prompt_failed"),  # ENOTTY
        (0, "prompt_failed"),
    ],
)
def test_error_codes(fake: Fake, code: int, expected: str) -> None:
    assert failure(fake(f"echo ERR {code} Some text")).code == expected


MISBEHAVIOUR = {
    "dies at once": {"greeting": "exit 1"},
    "refuses at once": {"greeting": "echo ERR 67109139 no"},
    "dies when asked": {"getpin": "exit 0"},
    "dies after half a line": {"getpin": "printf 'D 12'; exit 0"},
    "is killed": {"getpin": "kill -9 $$"},
    "is no Assuan server": {"greeting": "echo HTTP/1.1 200"},
    "says nothing readable": {"greeting": "printf X; head -c 500 /dev/urandom | tr -d '\\n'; echo"},
    "sends an endless line": {"greeting": "tr '\\0' x < /dev/zero"},
    "sends endless comments": {"getpin": "yes '# comment'"},
    "sends endless status": {"getpin": "yes 'S status'"},
    "sends endless data": {"getpin": "yes 'D 1234'"},
    "sends data unasked": {"other": "echo D 1234; echo OK"},
    "sends malformed data": {"getpin": "echo D 12%zz; echo OK"},
    "sends cut data": {"getpin": "echo D 12%2; echo OK"},
    "answers OKAY": {"getpin": "echo D 1; echo OKAY"},
    "asks back": {"getpin": "echo INQUIRE PASSPHRASE; echo OK"},
    "errs without number": {"getpin": "echo ERR nothing"},
    "errs with a huge number": {"getpin": "echo ERR 99999999999999999999999999"},
    "offers a stored PIN": {"getpin": "echo S PASSWORD_FROM_CACHE; echo D 1234; echo OK"},
}


@pytest.mark.parametrize("how", MISBEHAVIOUR)
def test_misbehaviour_is_prompt_failed(fake: Fake, how: str, tmp_path: Path) -> None:
    began = time.monotonic()
    error = failure(fake(**{"getpin": "echo D 1; echo OK", **MISBEHAVIOUR[how]}))
    assert error.code == "prompt_failed"
    assert "1234" not in error.message
    assert time.monotonic() - began < 8
    assert_ended(tmp_path)


@pytest.mark.parametrize("where", ["greeting", "getpin", "other"])
def test_hang_is_killed(fake: Fake, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one that ignores SIGTERM and has a child of its own."""
    monkeypatch.setattr(module, "SPARE_SECONDS", 0.2)
    hang = "trap '' TERM; sleep 600 & wait; wait; sleep 600"
    began = time.monotonic()
    behaviour = {"getpin": "echo D 1; echo OK", where: hang}
    assert failure(fake(**behaviour, timeout=0.5)).code == "prompt_timeout"
    assert time.monotonic() - began < 8
    assert_ended(tmp_path)


def test_hang_after_the_answer(fake: Fake, tmp_path: Path) -> None:
    """The PIN is there; a program that will not end is killed and costs no more than its grace."""
    assert ask(fake("trap '' TERM HUP PIPE; echo D 1234; echo OK; sleep 600; sleep 600")) == b"1234"
    assert_ended(tmp_path)


def test_giving_up_ends_the_program(fake: Fake, tmp_path: Path) -> None:
    async def give_up() -> None:
        task = asyncio.create_task(fake("sleep 600").ask_pin(REQUEST))
        for _ in range(500):
            await asyncio.sleep(0.02)
            if (tmp_path / "heard").exists() and "GETPIN" in (tmp_path / "heard").read_text():
                break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert_ended(tmp_path)


def test_too_long_pin_is_asked_again_and_then_refused(fake: Fake, tmp_path: Path) -> None:
    long = "D " + "x" * 600
    assert failure(fake(f"echo '{long}'; echo OK")).code == "pin_length"
    heard = (tmp_path / "heard").read_text()
    assert heard.count("GETPIN") == 3
    assert heard.count("SETERROR PIN 长度须为") == 2
    assert failure(fake("echo OK")).code == "pin_length"


def test_a_terminal_that_is_too_small_for_a_pin_prompt(fake: Fake, tmp_path: Path) -> None:
    small = "case $size in 1) size=2; echo ERR 83886381 window too small;; *) echo D 1234; echo OK;; esac"
    size = f"if test -e {tmp_path}/size; then size=2; else size=1; touch {tmp_path}/size; fi; echo OK hello"
    long = replace(REQUEST, occasion=replace(REQUEST.occasion, document="合同" * 60 + ".ofd"))
    assert ask(fake(small, greeting=size), long) == b"1234"
    first, second = (line for line in (tmp_path / "heard").read_text().splitlines() if line.startswith("SETDESC"))
    assert len(second) < len(first)


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"#!/nowhere/at/all\n"])
def test_program_that_cannot_start(tmp_path: Path, content: bytes) -> None:
    program = tmp_path / "pinentry"
    program.write_bytes(content)
    program.chmod(0o755)
    settings = PinentrySettings(str(program), environ=ENVIRON)
    assert failure(Pinentry(settings)).code == "prompt_unavailable"
    assert failure(Pinentry(replace(settings, program=str(tmp_path / "missing")))).code == "prompt_unavailable"


def test_what_is_said(fake: Fake, tmp_path: Path) -> None:
    hostile = replace(
        REQUEST,
        occasion=replace(REQUEST.occasion, document="100%\nGETPIN\r\u202efdp.exe%0A", seal="印章"),
        previous_wrong=True,
        pin=PinState(final_try=True),
    )
    ask(fake("echo D 1; echo OK"), hostile)
    heard = (tmp_path / "heard").read_text().splitlines()
    assert [line.split()[0] for line in heard] == [
        *["OPTION"] * 4,
        *("GETINFO", "SETTITLE", "SETDESC", "SETPROMPT", "SETOK", "SETCANCEL", "SETERROR", "SETTIMEOUT", "GETPIN"),
    ]
    assert heard[:4] == [
        "OPTION ttyname=/dev/nowhere",
        "OPTION ttytype=xterm",
        "OPTION lc-ctype=zh_CN.UTF-8",
        "OPTION lc-messages=zh_CN.UTF-8",
    ]
    assert "文件：100%25 GETPIN fdp.exe%250A%0A印章：印章%0A" in heard[6]
    assert "SETERROR PIN 错误。" in heard
    assert "SETTIMEOUT 10" in heard
    assert not any(word in line for line in heard for word in ("external", "SETKEYINFO", "cache"))


def test_refused_options_do_not_matter(fake: Fake) -> None:
    refusing = 'case "$line" in OPTION*) echo ERR 83886254 Unknown option;; *) echo OK;; esac'
    assert ask(fake("echo D 1234; echo OK", other=refusing)) == b"1234"


@pytest.mark.parametrize("letter", ["%", "章", "x", "%\n"])
def test_longest_names_fit_an_assuan_line(fake: Fake, tmp_path: Path, letter: str) -> None:
    name = letter * 2000
    caller = Caller(1, 1, 2**22, name, 1)
    request = PinRequest(
        name, name, PinState(tries_left=1), "unlock", Occasion(caller, name, name), previous_wrong=True
    )
    assert ask(fake("echo D 1234; echo OK"), request) == b"1234"
    heard = (tmp_path / "heard").read_bytes().split(b"\n")
    assert max(map(len, heard)) < 1000
    (description,) = (line.decode() for line in heard if line.startswith(b"SETDESC"))
    assert description.count("%0A") == 7
    assert "最后一次机会" in description


@pytest.mark.parametrize("secret", ["7Kg-x", "S651geheim", "S16384geheim"])
def test_secret_is_in_no_error_log_or_repr(fake: Fake, caplog: pytest.LogCaptureFixture, secret: str) -> None:
    """A PIN that came before things went wrong is in no message, no traceback with its locals' reprs, no log.

    Of several lengths: a part of the line that was copied showed only PINs of up to ten octets.
    """
    caplog.set_level(logging.DEBUG)
    texts = []
    for getpin in (
        f"echo D {secret}; echo nonsense",
        f"echo D {secret}; exit 0",
        f"echo D {secret}; echo ERR 99 {secret}",
        f"echo {secret}",
        f"echo ERR {secret}",
        f"echo '# {secret}'; yes '# {secret}'",
    ):
        prompter = fake(getpin)
        error = failure(prompter)
        captured = traceback.TracebackException.from_exception(error, capture_locals=False)
        texts += ["".join(captured.format()), repr(error), str(error.facts), repr(prompter), repr(error.__cause__)]
        walk: BaseException | None = error
        while walk is not None:
            frame = walk.__traceback__
            while frame is not None:
                with suppress(Exception):
                    texts.append(
                        repr(
                            {
                                k: v
                                for k, v in frame.tb_frame.f_locals.items()
                                if k not in ("getpin", "secret", "texts", "captured")
                            }
                        )
                    )
                frame = frame.tb_next
            walk = walk.__cause__ or walk.__context__
    texts.append(caplog.text)
    own = f"echo D {secret}"
    assert not [text for text in texts if secret in text.replace(own, "")]


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("sleep 0.6; echo OK", "yes"),
        ("echo OK", "no"),  # faster than anybody reads, and so each time it is asked
        ("echo ERR 83886179 cancelled", "no"),
        ("echo ERR 83886194 not confirmed", "no"),
        ("echo ERR 83886142 timeout", "prompt_timeout"),
        ("echo ERR 83886340 unknown command", "prompt_failed"),
        ("echo D yes; echo OK", "prompt_failed"),
        ("echo yes", "prompt_failed"),
        ("exit 0", "prompt_failed"),
    ],
)
def test_only_a_plain_ok_confirms(fake: Fake, tmp_path: Path, said: str, outcome: str) -> None:
    prompter = fake("exit 1", other=f'case "$line" in CONFIRM) {said};; *) echo OK;; esac')
    request = replace(REQUEST, pin=PinState(tries_left=1))
    try:
        answer = "yes" if asyncio.run(prompter.confirm_last_try(request)) else "no"
    except SealAgentError as error:
        answer = error.code
    assert answer == outcome
    heard = (tmp_path / "heard").read_text()
    assert "最后一次机会" in heard
    assert "GETPIN" not in heard
