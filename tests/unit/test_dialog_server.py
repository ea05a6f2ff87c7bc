"""Our own dialog as an Assuan server: what a pinentry answers, what it says more, and what it does not take."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealagent.dialog import server as module
from sealagent.dialog.pictures import Picture
from sealagent.dialog.pin import MAX_OCTETS, PinBuffer
from sealagent.dialog.prompt import Answer, Kind, Prompt
from sealagent.dialog.server import Server, lines_of

CANCELLED = "ERR 83886179 Operation cancelled <Pinentry>"
TIMEOUT = "ERR 83886142 Timeout <Pinentry>"
NOT_CONFIRMED = "ERR 83886194 Not confirmed <Pinentry>"


@dataclass
class Talk:
    """A server whose windows answer what they are told to."""

    answers: list[Answer | OSError] = field(default_factory=list)
    typed: str = ""
    said: bytearray = field(default_factory=bytearray)
    shown: list[tuple[Prompt, Kind]] = field(default_factory=list)
    buffers: list[PinBuffer] = field(default_factory=list)
    written: list[bytes | bytearray] = field(default_factory=list)
    displays: list[str] = field(default_factory=list)

    def show(self, prompt: Prompt, kind: Kind, pin: PinBuffer) -> Answer:
        self.shown.append((prompt, kind))
        self.buffers.append(pin)
        for character in self.typed:
            pin.add(character)
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def write(self, octets: bytes | bytearray) -> None:
        self.written.append(octets)
        self.said += octets

    def __call__(self, *lines: str | bytes) -> list[str]:
        """Say lines; return what was answered after the greeting."""
        self.said.clear()
        served = Server(self.write, self.show, version="1.2", display=self.displays.append)
        served.serve(iter([line.encode() if isinstance(line, str) else line for line in lines]))
        greeting, *answers = self.said.decode().splitlines()
        assert greeting == "OK Pleased to meet you"
        return answers


def test_a_pin() -> None:
    talk = Talk([Answer.OK], typed="1%2 中\\")
    assert talk("SETPROMPT PIN:", "GETPIN", "BYE") == ["OK", "D 1%252%20中\\", "OK", "OK closing connection"]
    assert talk.shown[0][1] is Kind.PIN
    assert len(talk.buffers[0]) == 0
    assert bytes(talk.buffers[0]._octets) == bytes(MAX_OCTETS)
    (line,) = [octets for octets in talk.written if isinstance(octets, bytearray)]
    assert bytes(line) == bytes(len(line))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer.CANCEL, [CANCELLED]),
        (Answer.CLOSED, ["S BUTTON_INFO close", CANCELLED]),
        (Answer.TIMEOUT, [TIMEOUT]),
        (Answer.NOT_OK, [NOT_CONFIRMED]),
        (Answer.GONE, []),
    ],
)
@pytest.mark.parametrize("command", ["GETPIN", "CONFIRM"])
def test_every_other_end_is_an_error_and_gives_no_pin(command: str, answer: Answer, said: list[str]) -> None:
    talk = Talk([answer], typed="123456")
    assert talk(command) == said
    assert b"123456" not in talk.said
    assert bytes(talk.buffers[0]._octets) == bytes(MAX_OCTETS)


def test_a_yes() -> None:
    assert Talk([Answer.OK])("CONFIRM") == ["OK"]
    assert Talk([Answer.OK])("SETSESSION for longer", "CONFIRM") == ["OK", "D once", "OK"]
    assert Talk([Answer.SESSION])("SETSESSION for longer", "CONFIRM") == ["OK", "D session", "OK"]
    assert Talk([Answer.CANCEL])("SETSESSION for longer", "CONFIRM") == ["OK", CANCELLED]
    assert Talk([Answer.TIMEOUT])("SETSESSION for longer", "CONFIRM") == ["OK", TIMEOUT]


def test_a_message_is_only_taken_notice_of() -> None:
    for command in ("MESSAGE", "CONFIRM --one-button"):
        talk = Talk([Answer.OK, Answer.CLOSED, Answer.TIMEOUT])
        assert talk(command, command, command) == ["OK", "S BUTTON_INFO close", "OK", TIMEOUT]
        assert {kind for _, kind in talk.shown} == {Kind.MESSAGE}


def test_the_prompt_is_what_was_set() -> None:
    talk = Talk([Answer.OK])
    talk(
        "SETTITLE T", "SETDESC a%0Ab%25", "SETPROMPT P", "SETERROR e", "SETOK _O", "SETNOTOK N", "SETCANCEL C",
        "SETTIMEOUT 7", "ADDFACT who%0Ame", "ADDWARNING w", "ADDITEM 1%0A2", "ADDITEM 3", "SETLARGE 1 2", "CONFIRM",
    )  # fmt: skip
    (prompt, _), = talk.shown  # fmt: skip
    assert (prompt.title, prompt.description, prompt.prompt) == ("T", "a\nb%", "P")
    assert (prompt.ok, prompt.notok, prompt.cancel, prompt.seconds, prompt.large) == ("_O", "N", "C", 7, "1 2")
    assert (prompt.facts, prompt.warnings, prompt.items) == ([("who", "me")], ["w"], ["1", "2", "3"])
    assert prompt.error == ""  # shown once


def test_reset_takes_everything_back() -> None:
    talk = Talk([Answer.OK])
    talk("SETDESC a", "ADDITEM i", "SETSESSION s", "SETPICTURE png 3", "PICTURE AAAA", "RESET", "CONFIRM")
    assert talk.shown[0][0] == Prompt()


def test_characters_that_act_are_not_shown() -> None:
    talk = Talk([Answer.OK])
    talk("SETDESC a\u202eb\x1b[31m%00%0Ac", "CONFIRM")
    assert talk.shown[0][0].description == "ab[31m\nc"


def test_information() -> None:
    talk = Talk()
    assert talk("GETINFO pid", "GETINFO version", "GETINFO flavor") == [
        f"D {os.getpid()}", "OK", "D 1.2", "OK", "D sealagent-tk", "OK",
    ]  # fmt: skip
    assert talk("GETINFO ttyinfo") == ["ERR 83886360 IPC parameter error <Pinentry>"]


def test_options() -> None:
    talk = Talk()
    assert talk("OPTION display=:9", "OPTION --lc-ctype=C", "OPTION no-grab") == ["OK"] * 3
    assert talk.displays == [":9"]
    for refused in ("allow-external-password-cache", "touch-file=/tmp/x", "default-ok=x", ""):
        assert talk(f"OPTION {refused}") == ["ERR 83886254 Unknown option <Pinentry>"], refused


def test_what_is_not_known_or_not_well_formed() -> None:
    talk = Talk()
    assert talk("FLY", "CLEARPASSPHRASE x") == ["ERR 83886355 Unknown IPC command <Pinentry>"] * 2
    parameter = "ERR 83886360 IPC parameter error <Pinentry>"
    for line in (b"SETDESC \xff", b"SETDESC %ff", b"SETTIMEOUT -1", b"SETTIMEOUT x", b"SETTIMEOUT 9999999999",
                 b"SETPICTURE png", b"SETPICTURE png 1e3", b"PICTURE ****", b"PICTURE AA"):  # fmt: skip
        assert talk(line) == [parameter], line
    assert talk("", "  ", "# comment", "nop") == ["OK"]


def test_a_line_that_is_too_long() -> None:
    assert Talk()("SETDESC " + "a" * 992) == ["ERR 83886343 Line too long <Pinentry>"]
    assert Talk()("SETDESC " + "a" * 991) == ["OK"]


def test_nothing_grows_without_bound() -> None:
    talk = Talk()
    too_large = "ERR 83886147 Too large <Pinentry>"
    assert talk(*["ADDFACT a%0Ab"] * 41)[-2:] == ["OK", too_large]
    assert talk(*["ADDWARNING a"] * 11)[-2:] == ["OK", too_large]
    assert talk(*["ADDITEM " + "%0A".join("ab" * 50)] * 101)[-2:] == ["OK", too_large]
    assert talk(*["ADDITEM " + "a" * 991] * 2200)[-1] == too_large
    assert talk("SETTIMEOUT 86401") == [too_large]
    assert talk(f"SETPICTURE png {module.MAX_PICTURE + 1}") == [too_large]


def test_a_picture_comes_in_parts() -> None:
    octets = os.urandom(2000)
    parts = [f"PICTURE {base64.b64encode(octets[at : at + 600]).decode()}" for at in range(0, 2000, 600)]
    talk = Talk([Answer.OK] * 2)
    assert talk("SETPICTURE PNG 2000", *parts, "CONFIRM") == ["OK"] * 6
    assert talk.shown[-1][0].picture == Picture("png", octets)
    assert talk("SETPICTURE svg 0", "CONFIRM") == ["OK"] * 2
    assert talk.shown[-1][0].picture == Picture("svg", b"")


def test_a_picture_that_does_not_come_whole_is_not_passed_over() -> None:
    talk = Talk([Answer.OK])
    assert talk("SETPICTURE png 4", "PICTURE AAAA", "CONFIRM")[-1] == "ERR 83886360 IPC parameter error <Pinentry>"
    assert talk("SETPICTURE png 4", "PICTURE AAAAAAAA")[-1] == "ERR 83886147 Too large <Pinentry>"
    assert talk("PICTURE AAAA") == ["ERR 83886147 Too large <Pinentry>"]
    assert not talk.shown


def test_without_a_display_nothing_is_agreed_to() -> None:
    said = "ERR 83886166 No pinentry: there is no display <Pinentry>"
    talk = Talk([OSError("no display"), OSError("no display")])
    assert talk("GETPIN", "CONFIRM") == [said, said]


def test_the_server_ends_with_its_client() -> None:
    talk = Talk([Answer.GONE, Answer.OK])
    assert talk("CONFIRM", "CONFIRM") == []
    assert len(talk.shown) == 1


@given(st.lists(st.binary(max_size=80).filter(lambda line: b"\n" not in line), max_size=20))
def test_every_line_has_one_answer(lines: list[bytes]) -> None:
    names = [
        b"SETDESC ",
        b"ADDITEM ",
        b"ADDFACT ",
        b"SETPICTURE ",
        b"PICTURE ",
        b"OPTION ",
        b"GETINFO ",
        b"SETTIMEOUT ",
    ]
    asked = [names[index % len(names)] + line for index, line in enumerate(lines)]
    answers = [line for line in Talk()(*asked) if not line.startswith("D ")]
    assert len(answers) == len(asked)
    assert all(line == "OK" or line.startswith("ERR ") for line in answers)


@pytest.fixture
def pipe() -> Iterator[tuple[int, Callable[[bytes], None]]]:
    read, write = os.pipe()

    def say(octets: bytes) -> None:
        os.write(write, octets)
        os.close(write)

    yield read, say
    os.close(read)


def test_lines_from_a_pipe(pipe: tuple[int, Callable[[bytes], None]]) -> None:
    read, say = pipe
    say(b"a\r\n\nbc\n" + b"x" * 5000 + b"y\n" + b"z" * 20_000 + b"\nd\nunfinished")
    lines = list(lines_of(read))
    assert [line[:12] for line in lines] == [b"a", b"", b"bc", b"x" * 12, b"z" * 12, b"d"]
    assert max(map(len, lines)) == module.MAX_LINE  # each of which is refused as too long


def run(*lines: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "sealagent.dialog"], input="".join(f"{line}\n" for line in lines), text=True,
        capture_output=True, timeout=30, env={"PATH": os.environ["PATH"], **environment}, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_program_without_a_display() -> None:
    said = run("GETINFO flavor", "GETPIN", "OPTION display=:4711", "CONFIRM", "BYE")
    no_display = "ERR 83886166 No pinentry: there is no display <Pinentry>"
    assert said[1:] == ["D sealagent-tk", "OK", no_display, "OK", no_display, "OK closing connection"]


def test_the_program_keeps_others_out_of_its_memory() -> None:
    """No core dump, and no other process of the user may look into it."""
    code = (
        "import sys, resource, pathlib, sealagent.dialog.__main__ as m; m.harden();"
        "print(resource.getrlimit(resource.RLIMIT_CORE)); import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == ["(0, 0)", "0"]
