"""The OFD packages of the demo: complete, well-formed, every reference resolved; and the preview of a page."""

from __future__ import annotations

import io
import posixpath
import zipfile
from datetime import date

import pytest
from lxml import etree
from PIL import Image

from demo.ofdmaker import DEMO_TEXT, DEMO_UNIT, NAMESPACE, demo_document, large_document, make_document, noise_png
from demo.render import render_page

DAY = date(2026, 11, 23)
N = {"ofd": NAMESPACE}


class Opened:
    """A package with its parts parsed, and what the standard asks of identifiers checked on the way."""

    def __init__(self, data: bytes) -> None:
        self.zip = zipfile.ZipFile(io.BytesIO(data))
        assert self.zip.testzip() is None
        self.entry = self.xml("OFD.xml")
        self.document = self.xml("Doc_0/Document.xml")
        self.pages = [self.xml(posixpath.join("Doc_0", str(loc))) for loc in self.document.xpath("//@BaseLoc")]
        self.public = self.xml("Doc_0/PublicRes.xml")
        names = self.zip.namelist()
        self.resources = [self.xml(name) for name in names if name.endswith("DocumentRes.xml")]
        roots = [self.document, self.public, *self.pages, *self.resources]
        ids = [int(str(value)) for root in roots for value in root.xpath("//@ID")]
        assert len(ids) == len(set(ids))
        assert max(ids) <= int(self.text(self.document, "//ofd:MaxUnitID"))

    def xml(self, name: str) -> etree._Element:
        return etree.fromstring(self.zip.read(name))

    def text(self, root: etree._Element, path: str) -> str:
        [value] = root.xpath(f"{path}/text()", namespaces=N)
        return str(value)


@pytest.fixture(scope="module")
def sample() -> bytes:
    return demo_document(DAY).data


def test_entry_and_metadata(sample: bytes) -> None:
    opened = Opened(sample)
    assert opened.zip.namelist()[0] == "OFD.xml"
    assert opened.entry.get("DocType") == "OFD"
    assert opened.text(opened.entry, "//ofd:DocRoot") == "Doc_0/Document.xml"
    assert opened.text(opened.entry, "//ofd:CreationDate") == "2026-11-23"
    assert len(bytes.fromhex(opened.text(opened.entry, "//ofd:DocID"))) == 16


def test_two_pages_hold_the_whole_text_and_their_numbers(sample: bytes) -> None:
    opened = Opened(sample)
    assert len(opened.pages) == 2
    lines = [[str(t) for t in page.xpath("//ofd:TextCode/text()", namespaces=N)] for page in opened.pages]
    assert [page[-1] for page in lines] == ["- 1 -", "- 2 -"]
    everything = "".join(line.strip("　") for page in lines for line in page[:-1])
    assert "".join(DEMO_TEXT) in everything
    assert everything.endswith(f"{DEMO_UNIT}2026年11月23日")


def test_each_character_has_its_place_within_the_page(sample: bytes) -> None:
    for page in Opened(sample).pages:
        for item in page.iter(f"{{{NAMESPACE}}}TextObject"):
            x, y, width, height = map(float, item.get("Boundary", "").split())
            assert min(x, y) > 0
            assert x + width < 195
            assert y + height < 297
            [code] = item
            assert len(code.get("DeltaX", "").split()) == len(code.text or "") - 1


def test_texts_use_fonts_that_are_declared(sample: bytes) -> None:
    opened = Opened(sample)
    fonts = {str(value) for value in opened.public.xpath("//ofd:Font/@ID", namespaces=N)}
    used = {str(value) for page in opened.pages for value in page.xpath("//ofd:TextObject/@Font", namespaces=N)}
    assert used <= fonts
    assert "宋体" in opened.public.xpath("//@FontName")


def test_no_line_begins_with_punctuation(sample: bytes) -> None:
    for page in Opened(sample).pages:
        assert not any(str(t)[0] in "，。、；：" for t in page.xpath("//ofd:TextCode/text()", namespaces=N))


def test_same_input_same_octets(sample: bytes) -> None:
    assert demo_document(DAY).data == sample
    assert demo_document(date(2026, 11, 24)).data != sample


def test_markup_in_the_text_stays_text() -> None:
    made = make_document("甲<乙>&", ['"丙" & <丁/>'], "戊&己", DAY)
    opened = Opened(made.data)
    assert opened.text(opened.entry, "//ofd:Title") == "甲<乙>&"
    assert "　　" + '"丙" & <丁/>' in opened.pages[0].xpath("//ofd:TextCode/text()", namespaces=N)


def test_unit_and_date_are_never_parted() -> None:
    for lines in range(14, 24):
        made = make_document("题", ["文" * 10] * lines, "单位", DAY)
        last = Opened(made.data).pages[-1].xpath("//ofd:TextCode/text()", namespaces=N)
        assert last[-3:] == ["单位", "2026年11月23日", f"- {made.pages} -"]
        assert 0 < made.seal_y < 297 - 40


def test_large_package_has_its_size_and_its_pictures() -> None:
    data = large_document(pages=20, octets=400_000)
    assert len(data) == pytest.approx(400_000, rel=0.05)
    opened = Opened(data)
    assert len(opened.pages) == 20
    [resources] = opened.resources
    files = {str(m.get("ID")): f"Doc_0/Res/{m[0].text}" for m in resources.iter(f"{{{NAMESPACE}}}MultiMedia")}
    for page in opened.pages:
        [resource] = page.xpath("//ofd:ImageObject/@ResourceID", namespaces=N)
        Image.open(io.BytesIO(opened.zip.read(files[str(resource)]))).verify()


def test_noise_is_a_picture_that_does_not_compress() -> None:
    png = noise_png(100, seed=1)
    picture = Image.open(io.BytesIO(png))
    picture.load()
    assert picture.size == (100, 100)
    assert len(png) > 100 * 100
    assert png == noise_png(100, seed=1) != noise_png(100, seed=2)


def stamped(data: bytes, boundary: str, clip: str | None) -> bytes:
    """Add the record of a seal on the last page; no signature, since the preview looks at places only."""
    package = zipfile.ZipFile(io.BytesIO(data))
    page_id = Opened(data).document.xpath("//ofd:Page/@ID", namespaces=N)[-1]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as copy:
        for name in package.namelist():
            copy.writestr(name, package.read(name).replace(b"</ofd:DocBody>", LISTED))
        record = f'<Signatures xmlns="{NAMESPACE}"><Signature ID="s1" BaseLoc="Sign_0/Signature.xml"/></Signatures>'
        copy.writestr("Doc_0/Signs/Signatures.xml", record)
        shown = f'<StampAnnot ID="a1" PageRef="{page_id}" Boundary="{boundary}"{f" Clip={clip!r}" if clip else ""}/>'
        signature = f'<Signature xmlns="{NAMESPACE}"><SignedInfo>{shown}</SignedInfo></Signature>'
        copy.writestr("Doc_0/Signs/Sign_0/Signature.xml", signature)
    return out.getvalue()


LISTED = b"<ofd:Signatures>/Doc_0/Signs/Signatures.xml</ofd:Signatures></ofd:DocBody>"


@pytest.mark.parametrize(("clip", "shown"), [(None, (20, 200, 60, 240)), ("30 0 10 40", (50, 200, 60, 240))])
def test_preview_shows_the_seal_in_its_place(sample: bytes, clip: str | None, shown: tuple[int, ...]) -> None:
    square = io.BytesIO()
    Image.new("RGBA", (10, 10), (255, 0, 0, 255)).save(square, "PNG")
    data = stamped(sample, "20 200 40 40", clip)
    sheet = Image.open(io.BytesIO(render_page(data, 2, square.getvalue(), dpi=127)))  # 5 pixels to the millimetre
    assert sheet.size == (1050, 1485)
    red = sheet.convert("RGB").point(lambda value: 255 if value > 200 else 0)
    pixels = red.load()
    assert pixels is not None
    places = [(x, y) for x in range(100, 350) for y in range(900, 1300) if pixels[x, y] == (255, 0, 0)]
    box = (*map(min, zip(*places, strict=True)), *(max(axis) + 1 for axis in zip(*places, strict=True)))
    assert tuple(value / 5 for value in box) == shown
    first = Image.open(io.BytesIO(render_page(data, 1, square.getvalue(), dpi=127)))
    assert first.convert("RGB").getpixel((150, 1100)) == (255, 255, 255)
