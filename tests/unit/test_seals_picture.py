"""Raster pictures for making: real files of each format pass, what is wrong with others is named in bounded time."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable

import pytest
from PIL import Image, ImageDraw

from sealagent.errors import FormatError, LimitExceeded
from sealagent.seals import rasters
from sealagent.seals.parse import MAX_PICTURE
from sealagent.seals.picture import check_picture

RED = (215, 0, 15)
SIDE = 472  # 40 mm at 300 dpi
SECONDS = 10.0  # for the worst of them, on a machine that has other things to do


def seal(width: int = SIDE, height: int = SIDE, mode: str = "RGBA", ground: object = None) -> Image.Image:
    """Return a ring with a bar in it."""
    clear = {"RGBA": (255, 255, 255, 0), "LA": (255, 0), "L": 255, "1": 1, "CMYK": (0, 0, 0, 0)}.get(mode, "white")
    picture = Image.new(mode, (width, height), ground or clear)  # type: ignore[arg-type]
    ink = {"LA": (60, 255), "L": 60, "1": 0, "CMYK": (0, 255, 255, 30)}.get(mode, RED)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((2, 2, width - 3, height - 3), outline=ink, width=max(width // 40, 1))
    draw.rectangle((width // 4, height // 2, 3 * width // 4, height // 2 + max(height // 20, 1)), fill=ink)
    return picture


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, {"JPG": "JPEG"}.get(kind, kind), **options)  # type: ignore[arg-type]
    return out.getvalue()


def clear_gif(picture: Image.Image | None = None) -> bytes:
    paletted = Image.new("P", (SIDE, SIDE), 0)
    paletted.putpalette([255, 255, 255, *RED])
    ImageDraw.Draw(paletted).ellipse((3, 3, SIDE - 4, SIDE - 4), outline=1, width=12)
    return saved(picture or paletted, "GIF", transparency=0)


def codes(kind: str, data: bytes, width: int = 40, height: int = 40) -> list[str]:
    return [note.code for note in check_picture(kind, data, width, height)]


def refused(kind: str, data: bytes, width: int = 40, height: int = 40, code: str = "picture_invalid") -> str:
    """Return what is said of a picture that must be refused, in bounded time."""
    started = time.monotonic()
    with pytest.raises(FormatError) as caught:
        check_picture(kind, data, width, height)
    assert time.monotonic() - started < SECONDS
    assert caught.value.code == code
    return caught.value.message


PNG = saved(seal(), "PNG")
JPG = saved(seal(mode="RGB"), "JPG")
BMP = saved(seal(mode="RGB"), "BMP")
GIF = clear_gif()


def bmp_with_alpha() -> bytes:
    """Return a BMP with a BITMAPV4HEADER that says which bits are the opacity."""
    pixels = seal().transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGRA")
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, SIDE, SIDE, 1, 32, 3, len(pixels), 11811, 11811, 0, 0) + masks
    header += b"BGRs" + bytes(48)
    offset = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + header + pixels


def bmp_of_os2() -> bytes:
    pixels = seal(mode="RGB").transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGR")
    header = struct.pack("<IHHHH", 12, SIDE, SIDE, 1, 24)
    return b"BM" + struct.pack("<IHHI", 26 + len(pixels), 0, 0, 26) + header + pixels


@pytest.mark.parametrize(
    ("kind", "data", "notes"),
    [
        ("PNG", PNG, []),
        ("PNG", saved(seal(mode="LA"), "PNG"), []),
        ("PNG", saved(seal().quantize(8), "PNG"), []),
        ("PNG", saved(seal(mode="RGB"), "PNG", transparency=(255, 255, 255)), []),
        ("PNG", saved(seal(mode="RGB"), "PNG"), ["picture_opaque"]),
        ("PNG", saved(seal(mode="1"), "PNG"), ["picture_opaque"]),
        ("PNG", saved(seal(mode="L"), "PNG"), ["picture_opaque"]),
        ("PNG", saved(seal(ground=(255, 255, 255, 255)), "PNG"), ["picture_opaque"]),
        ("GIF", GIF, []),
        ("GIF", saved(seal(mode="RGB"), "GIF"), ["picture_opaque"]),
        ("GIF", saved(seal(mode="RGB"), "GIF", interlace=1, comment=b"made by hand"), ["picture_opaque"]),
        ("JPG", JPG, ["picture_opaque"]),
        ("JPG", saved(seal(mode="RGB"), "JPG", progressive=True, dpi=(300, 300)), ["picture_opaque"]),
        ("JPG", saved(seal(mode="L"), "JPG"), ["picture_opaque"]),
        ("JPG", saved(seal(mode="CMYK"), "JPG"), ["picture_opaque"]),
        ("BMP", BMP, ["picture_opaque"]),
        ("BMP", saved(seal(mode="L"), "BMP"), ["picture_opaque"]),
        ("BMP", bmp_of_os2(), ["picture_opaque"]),
        ("BMP", bmp_with_alpha(), []),
        ("PNG", saved(seal(310, 310), "PNG"), ["picture_resolution"]),
        ("JPG", saved(seal(100, 100, "RGB"), "JPG"), ["picture_opaque", "picture_resolution"]),
    ],
)
def test_real_files_pass_with_what_is_to_be_noted(kind: str, data: bytes, notes: list[str]) -> None:
    assert codes(kind, data) == notes


@pytest.mark.parametrize(("kind", "data"), [("JPG", JPG), ("BMP", BMP), ("PNG", saved(seal(mode="RGB"), "PNG"))])
def test_an_opaque_ground_is_refused_where_transparency_is_demanded(kind: str, data: bytes) -> None:
    with pytest.raises(FormatError, match="no transparent ground"):
        check_picture(kind, data, 40, 40, transparent=True)
    assert check_picture("PNG", PNG, 40, 40, transparent=True) == ()


def test_notes_say_how_it_is() -> None:
    [note] = check_picture("PNG", saved(seal(250, 250), "PNG"), 40, 40)
    assert (note.code, note.detail) == ("picture_resolution", "159 dpi at 40 × 40 mm")


@pytest.mark.parametrize(
    ("pixels", "millimetres", "fits"),
    [
        ((472, 354), (40, 30), True),
        ((472, 355), (40, 30), True),
        ((472, 460), (40, 40), True),
        ((472, 440), (40, 40), False),
        ((472, 354), (30, 40), False),
        ((472, 472), (40, 30), False),
    ],
)
def test_proportions(pixels: tuple[int, int], millimetres: tuple[int, int], fits: bool) -> None:
    data = saved(seal(*pixels), "PNG")
    if fits:
        assert codes("PNG", data, *millimetres) == []
    else:
        assert "proportions" in refused("PNG", data, *millimetres)


@pytest.mark.parametrize("sides", [(0, 40), (40, -1), (201, 201)])
def test_sides_beyond_measure(sides: tuple[int, int]) -> None:
    assert "mm" in refused("PNG", PNG, *sides)


@pytest.mark.parametrize(
    ("kind", "data"),
    [("PNG", JPG), ("JPG", PNG), ("GIF", BMP), ("BMP", GIF), ("SVG", PNG), ("PNG", b""), ("JPG", b"\xff")],
)
def test_octets_of_another_type(kind: str, data: bytes) -> None:
    assert refused(kind, data) == f"the octets are not {kind}"


@pytest.mark.parametrize("kind", ["TIFF", "png", "OFD", ""])
def test_types_that_are_not_named(kind: str) -> None:
    assert "type must be one of" in refused(kind, PNG)


def test_too_many_octets() -> None:
    refused("BMP", b"BM" + bytes(MAX_PICTURE), code="picture_too_large")


# --- damaged, cut, followed by something ------------------------------------------------------------------------------

FILES = {"PNG": PNG, "JPG": JPG, "BMP": BMP, "GIF": GIF}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95, 1.0])
def test_a_file_cut_short(kind: str, part: float) -> None:
    data = FILES[kind][: int(len(FILES[kind]) * part)]
    data = data if part < 1 else FILES[kind][:-1]
    assert refused(kind, data)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("more", [b"\x00", b"<script>alert(1)</script>", b"PK\x03\x04"])
def test_what_follows_the_end_is_refused(kind: str, more: bytes) -> None:
    assert "follow the end" in refused(kind, FILES[kind] + more)


@pytest.mark.parametrize("kind", FILES)
def test_a_picture_that_is_an_archive_as_well(kind: str) -> None:
    out = io.BytesIO(FILES[kind])
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("OFD.xml", "<ofd/>")
    assert zipfile.is_zipfile(out)
    assert refused(kind, out.getvalue())


def test_a_changed_octet_of_a_png_is_found() -> None:
    for position in range(40, len(PNG), 97):
        assert refused("PNG", PNG[:position] + bytes([PNG[position] ^ 1]) + PNG[position + 1 :])


def test_a_gif_whose_compressed_data_is_wrong() -> None:
    start = GIF.index(b",", 13 + 768 if GIF[10] & 7 == 7 else 13)
    broken = bytearray(GIF)
    broken[start + 12 : start + 40] = bytes(28)
    assert refused("GIF", bytes(broken))


# --- headers that lie, and bombs --------------------------------------------------------------------------------------


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def gif(width: int, height: int, *, frame: tuple[int, int, int, int]) -> bytes:
    """Return a GIF of one row of LZW data that says it is larger."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes([255, 255, 255, *RED])
    return screen + b"," + struct.pack("<HHHHB", *frame, 0) + b"\x02\x02\x4c\x01\x00" + b";"


def jpg_says(height: int, width: int) -> bytes:
    position = JPG.index(b"\xff\xc0")
    return JPG[: position + 5] + struct.pack(">HH", height, width) + JPG[position + 9 :]


def bmp_says(width: int, height: int) -> bytes:
    return BMP[:18] + struct.pack("<ii", width, height) + BMP[26:]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("PNG", png(60_000, 60_000, bytes(1000))),
        ("PNG", png(2**31 - 1, 1, bytes(1000))),
        ("PNG", png(3001, 3001, bytes(3001 * (3 * 3001 + 1)))),  # a real bomb: 27 MB of nothing in 26 KB
        ("GIF", gif(65535, 65535, frame=(0, 0, 1, 1))),
        ("JPG", jpg_says(65535, 65535)),
        ("JPG", jpg_says(6001, 1)),
        ("BMP", bmp_says(100_000, 100_000)),
        ("BMP", bmp_says(100_000, -(2**31) + 1)),
    ],
)
def test_pictures_of_too_many_pixels_are_refused_before_they_are_decoded(
    kind: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rasters, "_decode", None)
    with pytest.raises(LimitExceeded) as caught:
        check_picture(kind, data, 40, 40)
    assert caught.value.code == "picture_too_large"


def test_the_largest_picture_that_is_allowed_is_decoded_in_bounded_memory() -> None:
    program = (
        "import io, re\n"
        "from PIL import Image\n"
        "picture = Image.new('RGBA', (3000, 3000)); picture.paste((215, 0, 15, 255), (0, 0, 3000, 900))\n"
        "out = io.BytesIO(); picture.save(out, 'PNG'); del picture\n"
        "from sealagent.seals.picture import check_picture\n"
        "print(check_picture('PNG', out.getvalue(), 60, 60))\n"
        # Not ru_maxrss: what a process was forked from counts towards it.
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    result, megabytes = done.stdout.splitlines()
    assert result == "()"
    assert int(megabytes) < 300


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("PNG", png(400, 400, bytes(100 * 1201))),  # rows for a quarter of it
        ("PNG", png(0, 0, b"")),
        ("PNG", png(400, 0, b"")),
        ("PNG", png(400, 400, bytes(400 * 1201), depth=3)),
        ("PNG", png(400, 400, bytes(400 * 1201), colour=5)),
        ("PNG", b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"") + chunk(b"IEND", b"")),
        ("PNG", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(12)) + chunk(b"IEND", b"")),
        (
            "PNG",
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0)) + chunk(b"IEND", b""),
        ),
        ("PNG", b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**32 - 1) + b"IHDR" + bytes(20)),
        ("PNG", png(400, 400, bytes(400 * 801), depth=16, colour=0)),
        ("GIF", gif(400, 400, frame=(0, 0, 400, 400))),
        ("GIF", gif(400, 400, frame=(0, 0, 65535, 65535))),
        ("GIF", gif(400, 400, frame=(399, 399, 2, 2))),
        ("GIF", gif(0, 0, frame=(0, 0, 0, 0))),
        ("GIF", b"GIF89a" + struct.pack("<HHBBB", 40, 40, 0, 0, 0) + b";"),
        ("GIF", b"GIF89a" + struct.pack("<HHBBB", 40, 40, 0, 0, 0) + b"??"),
        ("JPG", jpg_says(0, 472)),
        ("JPG", b"\xff\xd8\xff\xd9"),
        ("JPG", b"\xff\xd8\xff\xe0\x00\x00\xff\xd9"),
        ("JPG", b"\xff\xd8\xff\xff\xff\xff"),
        ("BMP", bmp_says(0, 472)),
        ("BMP", bmp_says(-472, 472)),
        ("BMP", bmp_says(472, 473)),
        ("BMP", BMP[:30] + struct.pack("<I", 1) + BMP[34:]),  # run-length encoded
        ("BMP", BMP[:10] + struct.pack("<I", 2**31) + BMP[14:]),
    ],
)
def test_headers_that_lie(kind: str, data: bytes) -> None:
    assert refused(kind, data)


def test_text_in_a_png_that_expands_is_refused() -> None:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 << 20), 9))
    rows = b"".join(b"\0" + bytes([215, 0, 15] * 200) + b"\xff" * 600 for _ in range(400))
    assert codes("PNG", png(400, 400, rows)) == ["picture_opaque"]
    assert refused("PNG", png(400, 400, rows, extra=bomb))


def test_too_many_chunks_of_nothing() -> None:
    many = chunk(b"tEXt", b"") * (rasters.MAX_CHUNKS + 1)
    assert "too many parts" in refused("PNG", png(400, 400, bytes(400 * 1201), extra=many))


def test_a_jpg_with_scans_without_end_is_refused() -> None:
    progressive = saved(seal(mode="RGB"), "JPG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    scan = progressive[last:-2]
    assert "too many scans" in refused("JPG", progressive[:-2] + scan * rasters.MAX_SCANS + b"\xff\xd9")


def test_comments_without_end_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasters, "_decode", None)
    table = 13 + (3 << (GIF[10] & 7) + 1)
    comment = b"\x21\xfe" + (b"\xff" + b"x" * 255) * 300 + b"\0"
    assert "besides its picture" in refused("GIF", GIF[:table] + comment + GIF[table:])
    many = b"\xff\xfe\x00\x02" * rasters.MAX_SEGMENTS
    assert "too many parts" in refused("JPG", JPG[:2] + many + JPG[2:])


def two_pictures(kind: str) -> bytes:
    out = io.BytesIO()
    seal().save(out, kind, save_all=True, append_images=[seal(ground=(0, 0, 0, 255))], duration=100)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_animations_are_refused(kind: str) -> None:
    assert "animated" in refused(kind, two_pictures(kind))


def test_a_jpg_with_a_second_picture_is_refused() -> None:
    out = io.BytesIO()
    seal(mode="RGB").save(out, "MPO", save_all=True, append_images=[seal(mode="RGB")])
    assert refused("JPG", out.getvalue())
    frame = JPG.index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", JPG, frame + 2)
    assert "more than one" in refused("JPG", JPG[:frame] + JPG[frame : frame + 2 + length] + JPG[frame:])


# --- nothing to be seen -----------------------------------------------------------------------------------------------


def one_dot() -> Image.Image:
    picture = Image.new("RGBA", (SIDE, SIDE))
    picture.putpixel((9, 9), (*RED, 255))
    return picture


@pytest.mark.parametrize(
    "make",
    [
        lambda: Image.new("RGBA", (SIDE, SIDE), (*RED, 0)),
        lambda: Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 255)),
        lambda: Image.new("RGB", (SIDE, SIDE), RED),
        lambda: Image.new("L", (SIDE, SIDE), 0),
        lambda: seal(ground=(255, 255, 255, 0)).point(lambda value: min(value + 250, 255)),
        one_dot,
    ],
)
def test_blank_pictures(make: Callable[[], Image.Image]) -> None:
    assert "blank" in refused("PNG", saved(make(), "PNG"))


def test_a_red_plate_with_the_name_left_out_is_not_blank() -> None:
    plate = Image.new("RGBA", (SIDE, SIDE), (*RED, 255))
    ImageDraw.Draw(plate).rectangle((100, 100, 300, 200), fill=(0, 0, 0, 0))
    assert codes("PNG", saved(plate, "PNG")) == []


# --- without the extra ------------------------------------------------------------------------------------------------


def test_without_pillow_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['PIL'] = None\n"
        "from sealagent.errors import SealAgentError\n"
        "from sealagent.seals.picture import check_picture\n"
        'svg = b\'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><circle r="2"/></svg>\'\n'
        "assert check_picture('SVG', svg, 40, 40) == ()\n"
        "try:\n"
        "    check_picture('PNG', sys.stdin.buffer.read(), 40, 40)\n"
        "except SealAgentError as error:\n"
        "    print(error.code, error.facts['library'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=PNG, capture_output=True, check=True)
    assert done.stdout == b"drawing_unavailable pillow\n"
