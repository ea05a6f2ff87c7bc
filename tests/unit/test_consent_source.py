"""PINs from files and file descriptors."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sealagent.consent import source as module
from sealagent.consent.prompter import Occasion, PinRequest, Purpose
from sealagent.consent.source import FdPinSource, FilePinSource
from sealagent.errors import SealAgentError
from sealdrivers.contract import PinState

REQUEST = PinRequest("公章", "0001", PinState(), "unlock", Occasion(None))
OTHER = replace(REQUEST, token_serial="0002", token_label="other")


def file_source(folder: Path, content: bytes) -> FilePinSource:
    path = folder / "pin"
    path.touch(0o600)
    path.write_bytes(content)
    return FilePinSource(path)


def fd_source(content: bytes) -> FdPinSource:
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    return FdPinSource(read)


def ask(source: FilePinSource | FdPinSource, request: PinRequest = REQUEST) -> bytes:
    return bytes(asyncio.run(source.ask_pin(request)))


def refusal(source: FilePinSource | FdPinSource, request: PinRequest = REQUEST) -> str:
    with pytest.raises(SealAgentError) as caught:
        ask(source, request)
    return caught.value.code


@pytest.mark.parametrize(
    ("content", "pin"),
    [
        (b"1234", b"1234"),
        (b"1234\n", b"1234"),
        (b"1234\r\n\n", b"1234"),
        (b" 12 34 \n", b" 12 34 "),
        ("密码1234\n".encode(), "密码1234".encode()),
        (b"0001:1234\n", b"1234"),
        (b"0002:9999\n0001:12:34\n", b"12:34"),
        ("公章:1111\n0001:2222\n".encode(), b"2222"),  # the serial goes before the label
        ("公章:1111\n0002:2222\n".encode(), b"1111"),
        (b"x" * 64, b"x" * 64),
    ],
)
def test_content(tmp_path: Path, content: bytes, pin: bytes) -> None:
    assert ask(file_source(tmp_path, content)) == pin
    source = fd_source(content)
    assert ask(source) == ask(source) == pin  # read once, offered as often as it is right
    source.close()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "pin_source_refused"),
        (b"\n\n", "pin_source_refused"),
        (b"1234\n5678\n", "pin_source_refused"),
        (b"1234\n0001:5678\n", "pin_source_refused"),
        (b"0002:1234\n", "pin_source_refused"),
        (b"00011234:\n", "pin_source_refused"),
        (b"x" * 5000, "pin_source_refused"),
        (b"0001:\n", "pin_length"),
        (b"x" * 65, "pin_length"),
    ],
)
def test_content_without_a_pin_for_the_token(tmp_path: Path, content: bytes, code: str) -> None:
    assert refusal(file_source(tmp_path, content)) == code
    if len(content) <= module.MAX_CONTENT:
        assert refusal(fd_source(content)) == code
    else:
        with pytest.raises(SealAgentError) as caught:
            fd_source(content)
        assert caught.value.code == code


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_file_that_others_may_touch(tmp_path: Path, mode: int) -> None:
    source = file_source(tmp_path, b"1234\n")
    (tmp_path / "pin").chmod(mode)
    assert refusal(source) == "pin_source_refused"


def test_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = file_source(tmp_path, b"1234\n")
    if os.getuid() == 0:
        os.chown(tmp_path / "pin", 4242, -1)
    else:  # only root may give files away: be another user instead
        monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert refusal(source) == "pin_source_refused"


def test_what_is_no_file(tmp_path: Path) -> None:
    assert refusal(FilePinSource(tmp_path)) == "pin_source_refused"
    assert refusal(FilePinSource(tmp_path / "missing")) == "pin_source_refused"
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert refusal(FilePinSource(tmp_path / "fifo")) == "pin_source_refused"  # and no waiting for a writer


@pytest.mark.parametrize("purpose", ["change_new", "change_repeat"])
def test_stored_pin_is_no_new_pin(tmp_path: Path, purpose: Purpose) -> None:
    source = file_source(tmp_path, b"1234\n")
    assert refusal(source, replace(REQUEST, purpose=purpose)) == "pin_source_refused"
    assert ask(source, replace(REQUEST, purpose="change_old")) == b"1234"


def test_refused_pin_is_never_offered_again(tmp_path: Path) -> None:
    path = tmp_path / "pin"
    source = file_source(tmp_path, b"1234\n")
    assert ask(source) == b"1234"
    source.rejected(REQUEST)
    assert refusal(source) == refusal(source) == "pin_source_refused"
    assert ask(source, OTHER) == b"1234"  # another token has not refused it
    path.write_bytes(b"0001:1234\n")  # the same PIN in another form
    assert refusal(source) == "pin_source_refused"
    path.write_bytes(b"5678\n")
    assert ask(source) == b"5678"
    path.write_bytes(b"1234\n")
    assert refusal(source) == "pin_source_refused"


def test_refused_pin_of_a_descriptor() -> None:
    source = fd_source(b"0001:1234\n0002:5678\n")
    assert ask(source) == b"1234"
    source.rejected(REQUEST)
    source.rejected(REQUEST)
    assert refusal(source) == "pin_source_refused"
    assert ask(source, OTHER) == b"5678"


def test_descriptor_is_closed_after_reading() -> None:
    read, write = os.pipe()
    os.write(write, b"1234")
    os.close(write)
    FdPinSource(read)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(read)


def test_descriptor_that_is_not_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_SECONDS", 0.1)
    read, write = os.pipe()
    os.write(write, b"1234")
    with pytest.raises(SealAgentError) as caught:
        FdPinSource(read)
    assert caught.value.code == "prompt_timeout"
    os.close(write)


def test_descriptor_that_is_none() -> None:
    with pytest.raises(SealAgentError) as caught:
        FdPinSource(12345)
    assert caught.value.code == "pin_source_refused"


def test_secret_is_nowhere_to_be_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not in repr, log, exception, traceback, attribute dump, nor in any object Python still tracks."""
    caplog.set_level(logging.DEBUG)
    secret = f"S{os.getpid()}geheim".encode()
    source = file_source(tmp_path, b"0001:" + secret + b"\n")
    pin = asyncio.run(source.ask_pin(REQUEST))
    assert pin == secret
    source.rejected(REQUEST)
    texts = [repr(source), str(vars(source)), caplog.text]
    for request in (REQUEST, OTHER):
        with pytest.raises(SealAgentError) as caught:
            asyncio.run(source.ask_pin(request))
        texts += [repr(caught.value), str(caught.value.facts), "".join(traceback.format_exception(caught.value))]
    assert not any(secret.decode() in text for text in texts)
    for holder in gc.get_objects():
        if isinstance(holder, dict):
            assert not any(
                isinstance(value, bytearray) and secret in value and value is not pin for value in holder.values()
            )
    kept = fd_source(secret)
    assert secret.decode() not in repr(kept)
    kept.close()
    assert secret not in vars(kept)["_content"]


@pytest.mark.parametrize("source", [lambda folder: file_source(folder, b"1234"), lambda _: fd_source(b"1234")])
def test_a_stored_pin_confirms_nothing(tmp_path: Path, source: Callable[[Path], FilePinSource | FdPinSource]) -> None:
    made = source(tmp_path)
    assert asyncio.run(made.confirm_last_try(replace(REQUEST, pin=PinState(tries_left=1)))) is False
    for purpose in ("unblock_admin", "unblock_new", "unblock_repeat"):
        with pytest.raises(SealAgentError) as caught:
            ask(made, replace(REQUEST, purpose=purpose))
        assert caught.value.code == "pin_source_refused"
