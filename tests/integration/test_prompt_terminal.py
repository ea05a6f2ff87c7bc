"""A daemon in the foreground of a terminal asks there for the PIN, while a program in another place seals."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from agent_world import World
from cli_parts import Done, Shell, command
from sealagent.client import Agent, AgentError, invisible
from tmux_parts import Pane, until

SEAL = "测试单位公章"
PROMPT = "PIN："


class Desk:
    """A terminal with the daemon in its foreground, and a shell elsewhere."""

    def __init__(self, world: World, vectors: Path) -> None:
        self.world = world
        self.document = vectors / "helloworld.ofd"
        world.token.add_data(world.authority.make_seal([world.add_signer()], name=SEAL), label="seal")
        world.root_file.write_text(world.authority.root_pem())
        (world.directory / "agent.toml").write_text(
            '[pin]\nsource = "terminal"\n[discovery]\np11_kit = false\nvendor_table = false\n'
        )
        self.shell = Shell(world.directory, world.directory / "run" / "agent.sock")
        run = ["daemon", "run", "--config", str(world.directory / "agent.toml")]
        run += ["--module", str(world.token.module), "--trust", str(world.root_file)]
        environment = self.shell.environment(
            LANG="zh_CN.UTF-8", SEALAGENT_STATE_DIR=str(world.directory / "state"), PYTHONUTF8="1"
        )
        self.pane = Pane(world.directory, command(*run), environment)
        self.pane.shows("ready:")

    def begin(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start a command without waiting for its end."""
        return subprocess.Popen(
            command(*words),
            cwd=self.shell.home,
            env=self.shell.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def seal(self) -> subprocess.Popen[str]:
        words = ("document", "seal", self.document, "--seal", SEAL, "--invisible", "-o", "s.ofd", "--force")
        return self.begin(*words)

    def asked(self) -> int:
        """How often a PIN was asked for so far."""
        return self.pane.screen.count(PROMPT)


def end(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=30)
    return Done(process.returncode, out, err)


@pytest.fixture
def desk(world: World, vectors: Path) -> Iterator[Desk]:
    made = Desk(world, vectors)
    yield made
    # Ctrl-C ends a daemon that asks nothing just now.
    try:
        made.pane.press("C-c")
        until(lambda: not made.shell.socket.exists(), lambda: made.pane.screen)
        assert world.token.user_pin not in made.pane.screen
    finally:
        made.pane.close()  # a test that failed at a prompt leaves no daemon behind


def test_one_pin_unlocks_until_the_token_is_locked(desk: Desk) -> None:
    """And one yes, where the holder says so: the second document is asked about, the third one is not."""
    pin = desk.world.token.user_pin
    with Agent(desk.shell.socket) as agent, ThreadPoolExecutor(1) as worker:

        def begin() -> Future[object]:
            return worker.submit(agent.seal_document, desk.document, seal=SEAL, placements=[invisible()])

        first = begin()
        desk.pane.shows(PROMPT)
        for words in (
            "有程序请求使用您的印章",
            "操作：在代理已读取的文件上盖章",
            f"（进程 {os.getpid()}）",
            "应用：【未配对】",
            "文件：helloworld.ofd（OFD，1 页）",
            f"印章：{SEAL}",
            f"密码钥匙：{desk.world.token.label}（序列号 {desk.world.token.serial}）",
        ):
            assert words in desk.pane.screen, words
        desk.pane.type(pin)
        first.result(30)

        second = begin()
        desk.pane.shows("输入“本次”")
        desk.pane.type("")  # Enter alone is no
        with pytest.raises(AgentError) as refused:
            second.result(30)
        assert refused.value.code == "consent_refused"
        third = begin()
        desk.pane.shows("输入“本次”", times=2)
        desk.pane.type("本次")
        third.result(30)
        begin().result(30)
        assert desk.asked() == 1
        assert desk.shell("token", "list", "--json").json["tokens"][0]["unlocked"] is True

        assert desk.shell("token", "lock", desk.world.token.serial).status == 0
        assert desk.shell("token", "list", "--json").json["tokens"][0]["unlocked"] is False
        again = begin()
        desk.pane.shows(PROMPT, times=2)
        desk.pane.press("C-c")  # the prompt's, not a signal to the daemon
        with pytest.raises(AgentError) as cancelled:
            again.result(30)
        assert cancelled.value.code == "pin_cancelled"
    records = desk.shell("record", "list", "--json").json["records"]
    reasons = [entry["body"]["reason"] for entry in records if entry["kind"] == "refused"]
    assert reasons == ["consent_refused", "pin_cancelled"]
    assert records[-1]["body"]["document"]["name"] == "helloworld.ofd"
    assert [entry["kind"] for entry in records].count("signed") == 3
    assert pin not in desk.shell("record", "list", "--json").out


def test_a_wrong_pin_is_said_at_the_next_prompt(desk: Desk) -> None:
    wrong = desk.seal()
    desk.pane.shows(PROMPT)
    assert "此前输入过错误的 PIN" not in desk.pane.screen
    desk.pane.type("not-the-pin")
    done = end(wrong)
    assert done.status == 5
    assert "pin_incorrect" in done.err
    right = desk.seal()
    desk.pane.shows(PROMPT, times=2)
    assert "PIN 错误。" in desk.pane.screen
    assert "此前输入过错误的 PIN" in desk.pane.screen  # SoftHSM's own flag, CKF_USER_PIN_COUNT_LOW
    desk.pane.type(desk.world.token.user_pin)
    assert end(right).status == 0
    assert "not-the-pin" not in desk.pane.screen


def test_the_last_try_takes_a_typed_yes(desk: Desk) -> None:
    question = "其他任何输入均停止"
    desk.world.token.set_pin_flags(final_try=True)
    before = desk.world.token.pin_flags()
    refused = desk.seal()
    desk.pane.shows(question)
    desk.pane.type("")  # Enter alone is no
    done = end(refused)
    assert (done.status, desk.asked()) == (5, 0)
    assert "pin_last_try" in done.err
    assert desk.world.token.pin_flags() == before
    allowed = desk.seal()
    desk.pane.shows(question, times=2)
    desk.pane.type("是")
    desk.pane.shows(PROMPT)
    desk.pane.type(desk.world.token.user_pin)
    assert end(allowed).status == 0
    kinds = [entry["kind"] for entry in desk.shell("record", "list", "--json").json["records"]]
    assert kinds == ["refused", "intent", "signed"]


def test_a_locked_pin_is_unblocked_through_the_prompt(desk: Desk) -> None:
    token = desk.world.token
    token.lock()
    assert end(desk.seal()).status == 5
    for admin, status in (("not-the-admin", 5), (token.so_pin, 0)):
        unblock = desk.begin("token", "unblock-pin", token.serial)
        attempt = 1 if status else 2
        for words, prompt, pin in (
            ("管理员 PIN】", "管理员 PIN：", admin),
            ("请输入新的用户", "新 PIN：", "fresh-pin"),
            ("请再次输入新的用户", "新 PIN：", "fresh-pin"),
        ):
            desk.pane.shows(words, times=attempt)
            expected = 2 * attempt if words.startswith("请再次") else 2 * attempt - 1 if "新" in words else attempt
            desk.pane.shows(prompt, times=expected)
            desk.pane.type(pin)
        done = end(unblock)
        assert done.status == status, done.err
    assert "PIN was unblocked" in done.err
    sealed = desk.seal()
    desk.pane.shows("有程序请求使用您的印章")
    desk.pane.type("fresh-pin")
    assert end(sealed).status == 0
    records = desk.shell("record", "list", "--json")
    told = [(entry["kind"], entry["body"].get("reason")) for entry in records.json["records"]]
    assert told == [
        ("refused", "pin_locked"),
        ("intent", None),
        ("failed", "admin_pin_incorrect"),
        ("intent", None),
        ("admin", None),
        ("intent", None),
        ("signed", None),
    ]
    assert records.json["records"][4]["body"]["operation"] == "unblock_pin"
    for pin in (token.so_pin, "not-the-admin", "fresh-pin"):
        assert pin not in records.out + desk.pane.screen


def test_the_pin_is_changed_through_the_prompt(desk: Desk) -> None:
    token = desk.world.token
    answers = ((token.user_pin, "new-pin-1", "other-pin"), (token.user_pin, "new-pin-1", "new-pin-1"))
    ended = []
    for round_, pins in enumerate(answers):
        change = desk.begin("token", "change-pin", token.serial)
        for number, (pin, words) in enumerate(zip(pins, ("请输入当前", "请输入新", "请再次输入新"), strict=True), 1):
            desk.pane.shows(words, times=round_ + 1)
            desk.pane.shows(PROMPT, times=3 * round_ + number)
            desk.pane.type(pin)
        ended.append(end(change))
    assert [done.status for done in ended] == [5, 0]
    assert "pin_mismatch" in ended[0].err
    assert ended[1].err == "the PIN was changed\n"
    desk.shell("token", "lock", token.serial)
    sealed = desk.seal()
    desk.pane.shows("有程序请求使用您的印章")
    desk.pane.type("new-pin-1")
    assert end(sealed).status == 0
    records = desk.shell("record", "list", "--json").out
    for pin in (token.user_pin, "new-pin-1", "other-pin"):
        assert pin not in records + desk.pane.screen
