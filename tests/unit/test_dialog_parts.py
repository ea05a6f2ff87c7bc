"""The parts of our own dialog that need no window: the PIN's buffer, the guard, pictures, scaling, words."""

from __future__ import annotations

import io
import random
import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from sealagent.consent import texts
from sealagent.dialog import pictures
from sealagent.dialog.guard import Guard
from sealagent.dialog.pictures import Picture, PictureRefused, cleaned
from sealagent.dialog.pin import MAX_OCTETS, PinBuffer
from sealagent.dialog.scaling import shrunk
from sealagent.dialog.words import WORDS, language

# The PIN


@given(st.lists(st.characters(codec="utf-8", exclude_categories=["C"]) | st.sampled_from(["\b", "\x15"]), max_size=200))
def test_a_pin_is_what_was_typed_less_what_was_taken_back(keys: list[str]) -> None:
    pin, model = PinBuffer(), ""
    for key in keys:
        if key == "\b":
            pin.remove()
            model = model[:-1]
        elif key == "\x15":
            pin.clear()
            model = ""
        else:
            fits = len((model + key).encode()) <= MAX_OCTETS
            assert pin.add(key) is fits
            model += key if fits else ""
        assert len(pin) == len(model)
        octets = model.encode()
        assert bytes(pin._octets) == octets + bytes(MAX_OCTETS - len(octets))  # nothing is left of what was taken back
    line = bytes(pin.data_line())
    assert line.startswith(b"D ")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    undone = b"".join(
        bytes([int(part[:2], 16)]) + part[2:] if index else part for index, part in enumerate(line[2:-1].split(b"%"))
    )
    assert undone == model.encode()


def test_a_pin_is_not_in_the_repr_and_its_room_never_moves() -> None:
    pin = PinBuffer()
    room = pin._octets
    for character in "123456":
        pin.add(character)
    assert "123456" not in repr(pin)
    pin.clear()
    assert pin._octets is room
    assert not any(room)


def test_half_a_surrogate_pair_is_no_character() -> None:
    assert PinBuffer().add("\ud83d") is False


# The guard


def test_keys_count_after_a_pause() -> None:
    guard = Guard()
    assert not guard.key(10.0)  # before the window is there
    guard.shown(11.0)
    assert [guard.key(moment) for moment in (11.2, 11.6, 12.0, 12.49, 12.99, 13.0)] == [False] * 4 + [True] * 2
    calm = Guard()
    calm.shown(0.0)
    assert [calm.key(moment) for moment in (0.5, 0.51, 0.52)] == [True] * 3


def test_of_a_pin_typed_too_early_nothing_is_taken() -> None:
    guard = Guard()
    guard.shown(0.0)
    assert not any(guard.key(0.3 + 0.1 * number) for number in range(8))
    assert guard.key(1.6)


def test_clicks_count_after_a_moment() -> None:
    guard = Guard()
    assert not guard.click(99.0)
    guard.shown(100.0)
    guard.shown(200.0)  # raised once more: that changes nothing
    assert [guard.click(moment) for moment in (100.0, 100.49, 100.5, 300.0)] == [False, False, True, True]


# Pictures


def image(mode: str = "RGBA", size: tuple[int, int] = (61, 40)) -> Image.Image:
    made = Image.new("RGBA", size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(made)
    draw.ellipse((2, 2, size[0] - 3, size[1] - 3), outline=(200, 0, 10, 255), width=3)
    draw.rectangle((20, 15, 40, 25), fill=(200, 0, 10, 128))
    return made.convert("RGB").quantize(8) if mode == "P" else made.convert(mode)


def saved(made: Image.Image, kind: str = "PNG", **more: object) -> bytes:
    out = io.BytesIO()
    made.save(out, kind, **more)  # type: ignore[arg-type]
    return out.getvalue()


def chunks(data: bytes) -> list[bytes]:
    at, names = 8, []
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        names.append(data[at + 4 : at + 8])
        at += 12 + length
    return names


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def raw_png(width: int, height: int, rows: bytes, *, depth: int = 8, colours: int = 0, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + body


def pixels(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as opened:
        return opened.convert("RGBA")


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L", "LA", "1", "P", "I;16"])
def test_a_png_stays_the_same_picture_without_its_text(mode: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    words = PngInfo()
    words.add_text("Comment", "x" * 5000)
    data = saved(image("L").convert("I;16") if mode == "I;16" else image(mode), pnginfo=words, dpi=(300, 300))
    clean = cleaned(Picture("png", data))
    assert (clean.type, clean.width, clean.height) == ("png", 61, 40)
    assert set(chunks(clean.octets)) <= {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
    assert pixels(clean.octets).tobytes() == pixels(data).tobytes()


def test_transparency_of_a_palette_stays() -> None:
    data = saved(image("P"), transparency=0)
    assert b"tRNS" in chunks(cleaned(Picture("png", data)).octets)
    assert pixels(cleaned(Picture("png", data)).octets).tobytes() == pixels(data).tobytes()


def test_interlaced_png() -> None:
    """Pillow writes none, so its rows are counted here: 5 × 3 pixels in six passes, for one is empty."""
    rows = b"".join((b"\0" + bytes(wide)) * high for wide, high in ((1, 1), (1, 1), (1, 1), (3, 1), (2, 2), (5, 1)))
    header = struct.pack(">IIBBBBB", 5, 3, 8, 0, 0, 0, 1)
    end = chunk(b"IEND", b"")
    whole = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + end
    assert pixels(cleaned(Picture("png", whole)).octets).size == (5, 3)
    short = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows[:-1])) + end
    with pytest.raises(PictureRefused):
        cleaned(Picture("png", short))


def test_a_gif_keeps_its_first_picture() -> None:
    frames = [image("P"), image("P").rotate(90)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"c" * 3000, transparency=0)
    clean = cleaned(Picture("gif", data))
    assert (clean.type, clean.width, clean.height) == ("gif", 61, 40)
    assert b"ccc" not in clean.octets
    with Image.open(io.BytesIO(clean.octets)) as opened:
        assert getattr(opened, "n_frames", 1) == 1
        assert opened.info["transparency"] == 0
    assert pixels(clean.octets).tobytes() == pixels(data).tobytes()


PNG = saved(image())
GIF = saved(image("P"), "GIF")


def gif(width: int, height: int, **inner: int) -> bytes:
    """Return a GIF whose picture has another size or place than the screen says."""
    left, top = inner.get("left", 0), inner.get("top", 0)
    wide, high, code = inner.get("wide", width), inner.get("high", height), inner.get("code", 2)
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return screen + b"\x2c" + struct.pack("<HHHHB", left, top, wide, high, 0) + bytes([code, 2, 0x4C, 1, 0]) + b"\x3b"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<svg/>", id="svg"),
        pytest.param(saved(image("RGB"), "JPEG"), id="jpg"),
        pytest.param(PNG + bytes(1 << 20), id="too many octets"),
        pytest.param(raw_png(60_000, 60_000, b""), id="a hostile size"),
        pytest.param(raw_png(6_001, 1, bytes(6_002)), id="too wide"),
        pytest.param(raw_png(4_000, 4_000, bytes(4_001 * 4_000)), id="too many pixels"),
        pytest.param(raw_png(0, 5, b""), id="no pixels"),
        pytest.param(raw_png(10, 10, bytes(50_000_000)), id="a bomb"),
        pytest.param(raw_png(10, 10, bytes(109)), id="a pixel missing"),
        pytest.param(raw_png(10, 10, bytes(110), depth=3), id="an impossible depth"),
        pytest.param(raw_png(10, 10, bytes(110), colours=3), id="no palette"),
        pytest.param(raw_png(10, 10, bytes(110), colours=3, extra=chunk(b"PLTE", bytes(4))), id="a broken palette"),
        pytest.param(raw_png(10, 10, bytes(110), extra=chunk(b"tRNS", bytes(300))), id="too much transparency"),
        pytest.param(raw_png(10, 10, bytes(110), extra=chunk(b"tEXt", b"") * 10_001), id="too many chunks"),
        pytest.param(PNG[:40] + b"\xff" + PNG[41:], id="a wrong check sum"),
        pytest.param(PNG[:-13], id="cut short"),
        pytest.param(PNG[:8] + PNG[33:], id="no header"),
        pytest.param(GIF[:-20], id="a gif cut short"),
        pytest.param(gif(60_000, 60_000), id="a hostile gif"),
        pytest.param(gif(10, 10, wide=11), id="a gif wider inside"),
        pytest.param(gif(10, 10, top=5), id="a gif out of place"),
        pytest.param(gif(10, 10, code=13), id="a gif with impossible codes"),
        pytest.param(gif(10, 10, wide=0), id="a gif without pixels"),
        pytest.param(b"GIF89a" + bytes(7) + b"\x21\xfe\x01a\x00" * 20_000, id="a gif of comments"),
    ],
)
def test_what_tk_never_sees(data: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(PictureRefused):
        cleaned(Picture("png", data))
    assert time.monotonic() - started < 5.0


def test_small_gif_is_taken() -> None:
    assert cleaned(Picture("gif", gif(10, 10))).width == 10


@given(st.sampled_from([PNG, GIF]), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6))
def test_damage_is_refused_or_makes_a_picture_of_the_size_it_says(data: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(data)
    for at, octet in changes:
        changed[at % len(changed)] = octet
    try:
        clean = cleaned(Picture("png", bytes(changed)))
    except PictureRefused:
        return
    assert clean.width * clean.height <= pictures.MAX_PIXELS


# Scaling


def test_each_pixel_is_the_mean_of_its_square() -> None:
    generator = random.Random(4)
    width, height, factor = 23, 17, 4
    samples = generator.randbytes(3 * width * height)
    small, wide, high = shrunk(samples, width, height, factor)
    assert (wide, high, len(small)) == (5, 4, 60)
    for y in range(high):
        for x in range(wide):
            for channel in range(3):
                square = [
                    samples[3 * ((y * factor + dy) * width + x * factor + dx) + channel]
                    for dy in range(factor)
                    for dx in range(factor)
                ]
                assert small[3 * (y * wide + x) + channel] == (sum(square) + 8) // 16


def test_white_stays_white() -> None:
    for factor in (1, 2, 8):
        small, wide, high = shrunk(b"\xff" * 3 * 64 * 64, 64, 64, factor)
        assert small == b"\xff" * 3 * wide * high


@pytest.mark.parametrize(("octets", "factor"), [(11, 1), (12, 0), (12, 9), (12, 3)])
def test_what_cannot_be_shrunk(octets: int, factor: int) -> None:
    with pytest.raises(ValueError):
        shrunk(bytes(octets), 2, 2, factor)


# Words


def test_both_languages_have_the_same_words() -> None:
    assert WORDS["en"].keys() == WORDS["zh_CN"].keys()


@pytest.mark.parametrize(
    "environ",
    [{}, {"LANG": "zh_CN.UTF-8"}, {"LANG": "zh_TW"}, {"LANG": "en_US.UTF-8", "LC_ALL": "zh_CN"},
     {"LANG": "C", "LANGUAGE": "zh_CN"}, {"LANG": "de_DE", "LANGUAGE": ":zh:en"}, {"LC_MESSAGES": "zh", "LANG": "en"}],
)  # fmt: skip
def test_the_language_is_that_of_the_client(environ: dict[str, str]) -> None:
    assert language(environ) == texts.language(environ)
