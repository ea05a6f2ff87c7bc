"""The client of Assuan over a socket pair: answers in step, the end of a conversation, and texts it can send."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealagent.consent.assuan import MAX_COMMAND, MAX_TRAFFIC, AssuanClient, AssuanError, escape
from sealagent.errors import SealAgentError


def talk(server_says: bytes, talk_: Callable[[AssuanClient], Awaitable[object]], *, ends: bool = True) -> object:
    """Talk to a server that has said everything already. :param ends: it has closed its side, too."""

    async def run() -> object:
        ours, theirs = socket.socketpair()
        client = AssuanClient(ours)
        try:
            theirs.sendall(server_says)
            if ends:
                theirs.shutdown(socket.SHUT_WR)
            return await asyncio.wait_for(talk_(client), 5)
        finally:
            client.close()
            theirs.close()

    return asyncio.run(run())


async def confirmed(client: AssuanClient) -> bool:
    await client.greeting()
    await client.command("CONFIRM")
    return True


@pytest.mark.parametrize("said", [b"OK\nOK\n", b"OK hello\nOK\nOK\n", b"OK\n# more\n", b"OK\nERR 99\n"])
def test_what_comes_before_a_command_is_no_answer_to_it(said: bytes) -> None:
    with pytest.raises(SealAgentError, match="before it was asked"):
        talk(said, confirmed)


def test_a_server_that_has_ended_answers_nothing() -> None:
    with pytest.raises(SealAgentError, match="it ended"):
        talk(b"OK\n", confirmed)


@pytest.mark.parametrize("said", [b"", b"OK\n", b"OK closing\n", b"ERR 1 what\n", b"# bye\nS done\nOK\n", b"OK"])
def test_goodbye(said: bytes) -> None:
    async def leave(client: AssuanClient) -> bool:
        client._readable = lambda: False  # type: ignore[method-assign]  # the answer is there already
        await client.goodbye()
        return True

    assert talk(said, leave)


@pytest.mark.parametrize("said", [b"OK\nOK\n", b"OK\nERR 1\n", b"D yes\nOK\n", b"OK\n" * 30_000])
def test_goodbye_to_one_who_says_more(said: bytes) -> None:
    async def leave(client: AssuanClient) -> None:
        client._readable = lambda: False  # type: ignore[method-assign]
        await client.goodbye()

    with pytest.raises(SealAgentError):
        talk(said, leave)


@pytest.mark.parametrize(
    ("said", "closed"), [(b"S BUTTON_INFO close\nERR 114\n", True), (b"S BUTTON_INFO other\nERR 114\n", False)]
)
def test_a_closed_window(said: bytes, closed: bool) -> None:
    async def asked(client: AssuanClient) -> bool:
        client._readable = lambda: False  # type: ignore[method-assign]
        with pytest.raises(AssuanError) as caught:
            await client.command("CONFIRM")
        assert caught.value.code == 114
        return client.window_closed

    assert talk(said, asked) is closed


def test_traffic_is_bounded() -> None:
    async def listen(client: AssuanClient) -> None:
        await client.greeting()

    with pytest.raises(SealAgentError, match="too much"):
        talk(b"# x\n" * (MAX_TRAFFIC // 4 + 1), listen)


def test_a_command_that_is_too_long_is_not_sent() -> None:
    async def say(client: AssuanClient) -> None:
        await client.command("SETDESC " + "x" * MAX_COMMAND)

    with pytest.raises(ValueError, match="at most"):
        talk(b"", say, ends=False)


@given(st.text())
def test_escaped_text_is_one_line_and_can_be_read_back(text: str) -> None:
    escaped = escape(text)
    assert not {"\r", "\n"} & set(escaped)
    back, at = "", 0
    while at < len(escaped):
        if escaped[at] == "%":
            back += chr(int(escaped[at + 1 : at + 3], 16))
            at += 3
        else:
            back += escaped[at]
            at += 1
    assert back == text


LINES = st.lists(
    st.one_of(
        st.sampled_from([b"OK", b"OK done", b"OKAY", b"ERR 99 no", b"ERR x", b"S BUTTON_INFO close", b"# c", b"D yes"]),
        st.binary(max_size=30).map(lambda octets: octets.replace(b"\n", b"")),
    ),
    max_size=6,
)


@given(LINES, st.booleans())
def test_whatever_is_said_only_ok_is_yes(lines: list[bytes], whole: bool) -> None:
    """The first line that is neither status nor comment decides; all else is a named error."""
    said = b"\n".join(lines) + (b"\n" if whole else b"")

    async def asked(client: AssuanClient) -> str:
        client._readable = lambda: False  # type: ignore[method-assign]
        try:
            await client.command("CONFIRM")
        except (SealAgentError, AssuanError):
            return "no"
        return "closed" if client.window_closed else "yes"

    answer, closed = b"", False
    for line in said.split(b"\n")[:-1]:
        closed = closed or line.startswith(b"S BUTTON_INFO close")
        if not line.startswith((b"S ", b"#")):
            answer = line
            break
    plain = answer == b"OK" or answer.startswith(b"OK ")
    assert talk(said, asked) == (("closed" if closed else "yes") if plain else "no")
