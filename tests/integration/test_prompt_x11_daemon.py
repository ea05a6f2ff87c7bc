"""A document is sealed with a PIN typed into our own dialog: a real daemon, a real client, a real X screen."""

from __future__ import annotations

import io
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from agent_world import World
from cli_parts import Done, Shell, command
from prompt_parts import READ_SECONDS
from sealagent.seals.model import Picture
from x11_parts import Screen, contains, exactly

SEAL = "合同专用章"
NAME = "采购合同.ofd"
TITLE = "SealAgent"
RED = (200, 16, 32)


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    with Screen(tmp_path / "screen") as opened:
        yield opened


def picture() -> Picture:
    made = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    draw = ImageDraw.Draw(made)
    draw.ellipse((4, 4, 295, 295), outline=(*RED, 255), width=16)
    draw.rectangle((75, 130, 225, 170), fill=(*RED, 255))
    out = io.BytesIO()
    made.save(out, "PNG")
    return Picture("PNG", out.getvalue(), 40, 40)


def start(world: World, screen: Screen) -> Shell:
    """Start an agent that finds no pinentry: it takes our own dialog by itself."""
    seal = world.authority.make_seal([world.add_signer()], name=SEAL, picture=picture())
    world.token.add_data(seal, label="seal")
    world.settings["pin"] = {"source": "auto", "unlock_idle_seconds": 0}
    nothing = world.directory / "nothing"
    nothing.mkdir()
    return Shell.of(world.start(environment=screen.environment(PATH=str(nothing))))


def seal(shell: Shell, vectors: Path) -> subprocess.Popen[str]:
    document = shell.home / NAME
    document.write_bytes((vectors / "helloworld.ofd").read_bytes())
    return subprocess.Popen(
        command("document", "seal", document, "--seal", SEAL, "--at", "1,120,200", "--force"),
        env=shell.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=30)
    return Done(process.returncode, out, err)


def test_the_holder_sees_what_is_sealed_and_types_the_pin(world: World, screen: Screen, vectors: Path) -> None:
    shell = start(world, screen)
    texts = [f"{NAME}（OFD，1 页）", SEAL, f"{world.token.label}（序列号 {world.token.serial}）"]
    wanted = {text: screen.drawn(text) for text in texts}

    wrong = seal(shell, vectors)
    screen.shown(TITLE)
    time.sleep(READ_SECONDS)
    seen = screen.picture("daemon-seal")
    for text, drawn in wanted.items():
        assert contains(seen, drawn), text
    assert not contains(seen, screen.drawn("别的文件.ofd"))
    assert exactly(seen, RED).histogram()[255] > 1000
    screen.type("not-the-pin")
    screen.press("Return")
    done = end(wrong)
    assert done.status == 5
    assert "pin_incorrect" in done.err

    right = seal(shell, vectors)
    screen.shown(TITLE)
    time.sleep(READ_SECONDS)
    screen.picture("daemon-seal-again")
    screen.type(world.token.user_pin)
    screen.press("Return")
    sealed = end(right)
    assert sealed.status == 0, sealed.err + world.daemons[0].said()
    assert shell("document", "verify", f"{Path(NAME).stem}-sealed.ofd").status == 0
    records = shell("record", "list", "--json")
    assert [entry["kind"] for entry in records.json["records"]] == ["refused", "intent", "signed"]
    for pin in ("not-the-pin", world.token.user_pin):
        assert pin not in world.daemons[0].said() + records.out


def test_leaving_the_dialog_is_a_refusal_on_record(world: World, screen: Screen, vectors: Path) -> None:
    shell = start(world, screen)
    process = seal(shell, vectors)
    window = screen.shown(TITLE)
    time.sleep(READ_SECONDS)
    screen.type(world.token.user_pin)
    screen.close_window(window)
    assert end(process).status == 6
    (entry,) = shell("record", "list", "--json").json["records"]
    assert (entry["kind"], entry["body"]["reason"]) == ("refused", "pin_cancelled")


def test_the_dialog_goes_with_who_asked(world: World, screen: Screen, vectors: Path) -> None:
    shell = start(world, screen)
    process = seal(shell, vectors)
    screen.shown(TITLE)
    process.kill()
    end(process)
    screen.gone(TITLE)
