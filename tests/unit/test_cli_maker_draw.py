"""``maker draw`` and ``maker check-picture`` as commands: what they write, print and refuse."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from sealagent.cli.maker_draw import check_picture, draw
from sealagent.errors import FormatError

NAME = "某某市政务服务管理局"
README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def run_draw(*arguments: str | Path) -> Result:
    return CliRunner().invoke(draw, [str(argument) for argument in arguments])


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def run_check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(check_picture, [str(argument) for argument in arguments])


def test_both_files_are_written_when_no_suffix_says_which(tmp_path: Path) -> None:
    done = run_draw("--name", NAME, "--line", "合同专用章", "--code", "1101050012345", "-o", tmp_path / "seal.v1")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [f"{tmp_path}/seal.v1.{kind}  (40 × 40 mm)" for kind in ("svg", "png")]
    assert size_of(tmp_path / "seal.v1.png") == (472, 472)
    for kind in ("svg", "png"):
        checked = run_check(tmp_path / f"seal.v1.{kind}", "--width", "40", "--height", "40", "--transparent")
        assert (checked.exit_code, checked.output) == (0, f"{kind.upper()}, 40 × 40 mm: can be used\n")


@pytest.mark.parametrize(
    ("arguments", "size", "pixels"),
    [
        (["--name", NAME, "--diameter", "45", "--no-star", "--colour", "blue"], (45.0, 45.0), (1063, 1063)),
        (["--kind", "oval", "--name", NAME, "--code", "91110105MA01234567"], (40.0, 30.0), (945, 709)),
        (["--kind", "oval", "--name", NAME, "--width", "30", "--height", "20"], (30.0, 20.0), (709, 472)),
        (["--kind", "personal", "--name", "甲乙丙", "--suffix", "印", "--reversed"], (20.0, 20.0), (472, 472)),
        (["--kind", "personal", "--name", "甲乙丙", "--width", "18", "--height", "18"], (18.0, 18.0), (425, 425)),
    ],
)
def test_kinds_and_sizes(
    tmp_path: Path, arguments: list[str], size: tuple[float, float], pixels: tuple[int, int]
) -> None:
    target = tmp_path / "seal.PNG"
    done = run_draw(*arguments, "--dpi", "600", "--json", "-o", target)
    assert done.exit_code == 0, done.output
    answer = json.loads(done.output)
    assert (answer["files"], answer["width_mm"], answer["height_mm"]) == ([str(target)], *size)
    assert size_of(target) == pixels


def test_nothing_is_overwritten_unless_forced(tmp_path: Path) -> None:
    target = tmp_path / "seal.svg"
    target.write_text("mine")
    done = run_draw("--name", NAME, "-o", tmp_path / "seal")
    assert done.exit_code == 2
    assert "exists; use --force" in done.output
    assert (target.read_text(), list(tmp_path.iterdir())) == ("mine", [target])
    assert run_draw("--name", NAME, "-o", target, "--force").exit_code == 0
    assert target.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind", "personal", "--name", "甲乙", "--line", "章"], "--line does not go with --kind personal"),
        (["--kind", "personal", "--name", "甲乙", "--no-star"], "--no-star does not go with"),
        (["--kind", "oval", "--name", NAME, "--diameter", "40"], "--diameter does not go with"),
        (["--name", NAME, "--width", "40"], "--width does not go with --kind organisation"),
        (["--name", NAME, "--suffix", "印"], "--suffix does not go with"),
        (["--name", NAME, "--reversed"], "--reversed does not go with"),
        (["--name", NAME, "--dpi", "1201"], "--dpi"),
        (["--name", NAME, "-o", "seal.gif"], "as .svg or .png"),
        (["--line", "章"], "--name"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, arguments: list[str], said: str) -> None:
    if "-o" not in arguments:
        arguments = [*arguments, "-o", str(tmp_path / "seal")]
    done = run_draw(*arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_design_that_cannot_be_drawn_leaves_no_file(tmp_path: Path) -> None:
    done = run_draw("--name", "某" * 41, "-o", tmp_path / "seal")
    assert isinstance(done.exception, FormatError)
    assert done.exception.code == "design_invalid"
    assert list(tmp_path.iterdir()) == []


def test_a_font_may_be_named(tmp_path: Path) -> None:
    broken = tmp_path / "font.ttf"
    broken.write_bytes(b"no font")
    done = run_draw("--name", NAME, "--font", broken, "-o", tmp_path / "seal.svg")
    assert isinstance(done.exception, FormatError)
    assert done.exception.code == "font_invalid"


def test_what_the_readme_shows_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^    sealagent maker (draw|check-picture) (.*)$", README, flags=re.M)
    assert {name for name, _ in lines} == {"draw", "check-picture"}
    for name, arguments in lines:
        done = {"draw": run_draw, "check-picture": run_check}[name](*shlex.split(arguments, comments=True))
        assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {"seal.svg", "seal.png", "invoice.png", "name.svg"}


def test_notes_and_refusals_of_the_check(tmp_path: Path) -> None:
    opaque = tmp_path / "seal.jpg"
    picture = Image.new("RGB", (200, 200), "white")
    picture.paste((215, 0, 15), (20, 20, 180, 60))
    picture.save(opaque)
    done = run_check(opaque, "--width", "40", "--height", "40")
    assert done.exit_code == 0
    assert done.output.splitlines()[1:] == [
        "  note picture_opaque: use PNG or SVG with a transparent ground",
        "  note picture_resolution: 127 dpi at 40 × 40 mm",
    ]
    told = json.loads(run_check(opaque, "--width", "40", "--height", "40", "--json").output)
    assert (told["type"], [note["code"] for note in told["notes"]]) == ("JPG", ["picture_opaque", "picture_resolution"])
    strict = run_check(opaque, "--width", "40", "--height", "40", "--transparent")
    assert isinstance(strict.exception, FormatError)
    assert strict.exception.code == "picture_invalid"
    assert run_check(opaque, "--width", "40", "--height", "30").exception.code == "picture_invalid"  # type: ignore[union-attr]
    other = tmp_path / "seal.tiff"
    other.touch()
    assert run_check(other, "--width", "40", "--height", "40").exit_code == 2
