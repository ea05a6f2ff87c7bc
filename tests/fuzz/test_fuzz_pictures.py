"""Hostile pictures: the check for making ends quickly, with notes or with a named error, never otherwise."""

from __future__ import annotations

import io
import time
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from sealagent.errors import FormatError
from sealagent.seals.picture import NAMED_TYPES, check_picture
from sealagent.seals.rasters import read_raster

SECONDS = 5.0
SVG = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" '
    b'xmlns:xlink="http://www.w3.org/1999/xlink" width="40mm" height="40mm" viewBox="-20 -20 40 40">'
    b'<style>.a{fill:#e60012}</style><defs><g id="b"><path class="a" d="M0 0h9v9z"/></g></defs>'
    b'<use xlink:href="#b"/><circle r="19" fill="none" style="stroke:rgb(215,0,15);stroke-width:1"/></svg>'
)
PARTS = [
    *("<svg", "<g>", "</g>", "<use href='#b'/>", "<image href='data:image/png;base64,", "<!DOCTYPE", "<!--", "<?x ?>"),
    *(
        "<![CDATA[",
        "&lt;",
        "&#0;",
        "url(#",
        "url(http:",
        "style='",
        "viewBox='0 0 ",
        "width='",
        "mm'",
        "\x00",
        "\ufeff",
    ),
]


def sample(kind: str, **options: object) -> bytes:
    picture = Image.new("RGBA" if kind == "PNG" else "RGB", (40, 40), (255, 255, 255, 0)[: 4 if kind == "PNG" else 3])
    ImageDraw.Draw(picture).ellipse((2, 2, 37, 37), outline=(215, 0, 15), width=4)
    out = io.BytesIO()
    picture.save(out, {"JPG": "JPEG"}.get(kind, kind), **options)  # type: ignore[arg-type]
    return out.getvalue()


SAMPLES = {
    "PNG": [sample("PNG")],
    "GIF": [sample("GIF"), sample("GIF", interlace=0)],
    "JPG": [sample("JPG"), sample("JPG", progressive=True)],
    "BMP": [sample("BMP")],
    "SVG": [SVG],
}


def survive(kind: str, data: bytes) -> None:
    started = time.monotonic()
    refusal, notes = None, set()
    # Decoders warn of what they doubt; that must not become an error of another name.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            notes = {note.code for note in check_picture(kind, data, 40, 40)}
        except FormatError as error:
            refusal = error
    assert refusal is None or refusal.code in ("picture_invalid", "picture_too_large")
    assert refusal is None or (len(refusal.message) < 200 and refusal.message.isprintable())
    assert notes <= {"picture_opaque", "picture_resolution", "picture_font"}
    assert time.monotonic() - started < SECONDS


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NAMED_TYPES), st.binary(max_size=300))
def test_random_octets_behind_the_right_beginning(kind: str, data: bytes) -> None:
    survive(kind, SAMPLES[kind][0][:8] + data)
    survive(kind, data)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from([(kind, data) for kind, all_ in SAMPLES.items() for data in all_]), st.data())
def test_damaged_files(picture: tuple[str, bytes], data: st.DataObject) -> None:
    kind, octets = picture
    damaged = bytearray(octets)
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(damaged)))
        what = data.draw(st.sampled_from(["change", "cut", "insert", "repeat"]))
        if what == "change" and position < len(damaged):
            damaged[position] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del damaged[position : position + data.draw(st.integers(1, 40))]
        elif what == "insert":
            damaged[position:position] = data.draw(st.binary(max_size=20))
        else:
            damaged[position:position] = damaged[position : position + data.draw(st.integers(1, 200))]
    survive(kind, bytes(damaged))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=6)), max_size=12), st.integers(0, len(SVG)))
def test_svg_with_pieces_of_everything(pieces: list[str], position: int) -> None:
    survive("SVG", SVG[:position] + "".join(pieces).encode("utf-8", "replace") + SVG[position:])


@pytest.mark.parametrize("kind", ["PNG", "GIF", "JPG", "BMP"])
def test_the_worst_a_container_can_hold_is_walked_in_time(kind: str) -> None:
    """Four megabytes of the smallest parts that each container has."""
    parts = {"PNG": b"\0\0\0\0tEXt\0\0\0\0", "GIF": b"\x21\xfe\x01x\0", "JPG": b"\xff\xe0\0\2", "BMP": b"\0"}
    data = SAMPLES[kind][0]
    start = {"PNG": 33, "GIF": 13 + (3 << (data[10] & 7) + 1), "JPG": 2, "BMP": 54}[kind]
    large = data[:start] + parts[kind] * ((4 << 20) // len(parts[kind]) - 1000) + data[start:]
    survive(kind, large)
    started = time.monotonic()
    with pytest.raises(FormatError):
        read_raster(kind, large[:-1])
    assert time.monotonic() - started < SECONDS
