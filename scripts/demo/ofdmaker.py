"""Writes OFD packages (GB/T 33190) from nothing but text: the document of the demo and a large one for measurements.

Same input, same octets: names, identifiers and times come from the arguments.
"""

from __future__ import annotations

import hashlib
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from xml.sax.saxutils import escape, quoteattr

NAMESPACE = "http://www.ofdspec.org/2016"

# A4 and the type area of official documents, in millimetres: 28 characters a line, 22 lines a page.
PAGE_WIDTH, PAGE_HEIGHT = 210.0, 297.0
LEFT, TOP, RIGHT, BOTTOM = 28.0, 37.0, 26.0, 35.0
TEXT_SIZE, TITLE_SIZE, NUMBER_SIZE = 5.57, 7.8, 4.9
LINE_PITCH = 10.0

TITLE_FONT, TEXT_FONT = 1, 2  # resource IDs; fonts are named, not embedded
FONTS = {TITLE_FONT: "宋体", TEXT_FONT: "仿宋"}

NEVER_FIRST = (
    "，。、；：？！）》」』”’"  # a line does not begin with one of these: it hangs at the end of the one before
)

ZIP_TIME = (1980, 1, 1, 0, 0, 0)

DEMO_UNIT = "某某市政务服务管理局"
DEMO_TITLE = "关于电子印章使用演示的通知"
DEMO_TEXT = (
    "各有关单位：",
    "为说明电子印章在办公软件中的使用方法，现以本文件作为演示。本文件由程序生成，内容为示例，不对应任何真实的单位、人员或事项，不具有任何效力。",
    "一、印章与密钥。演示使用软件密码设备中的密钥，印章的图像、制章人证书和签章人证书均为演示时现场生成。私钥在设备内产生，不离开设备。真实使用时，密钥应当保存在智能密码钥匙或者密码机之中，并由持有人妥善保管。",
    "二、使用前的检查。签章之前，程序检查印章的签名、有效期和所列证书是否与设备中的证书一致。检查不通过的，程序拒绝签章，说明原因，并记录在案。",
    "三、签章。文件的摘要由程序自行计算，不采用调用方提供的数值。口令由持有人在本机的提示窗口中输入，不经过网络或者应用程序。签章结果在交付之前，先用证书中的公钥自行验证。",
    "四、记录。每一次签章和每一次拒绝都写入只能追加的记录。记录先于签章结果保存；没有记录的签章不予交付。记录可以导出，并可在没有本程序的情况下独立核验。",
    "五、验证。任何人都可以验证文件：文件内容、印章和证书中任何一处被改动，验证都会指出被改动的部分。演示的最后一步会改动本文件的一份副本，请留意验证结果。",
    "六、适用范围。本演示仅供开发、测试和学习使用。正式使用电子印章，应当遵守国家有关管理规定，使用由具备资格的机构制作的印章和签发的证书。",
    "请各有关单位按照上述说明自行体验，并将发现的问题反馈给开发者。",
    "特此通知。",
)


@dataclass(frozen=True, slots=True)
class Ofd:
    """A package, and where a seal of 40 mm belongs on it: over the name of the unit that signs."""

    data: bytes
    pages: int
    seal_page: int
    """Counted from 1."""
    seal_x: float
    seal_y: float
    """Top left corner of the seal, in millimetres."""


@dataclass
class _Page:
    """The objects of one page; identifiers are shared by the whole document."""

    ids: Iterator[int]
    objects: list[str] = field(default_factory=list)

    def text(self, x: float, baseline: float, line: str, size: float, font: int) -> None:
        advances = [_advance(character, size) for character in line]
        deltas = f' DeltaX="{" ".join(f"{a:g}" for a in advances[:-1])}"' if len(line) > 1 else ""
        boundary = f"{x:g} {baseline - size:g} {sum(advances):g} {size * 1.3:g}"
        self.objects.append(
            f'<ofd:TextObject ID="{next(self.ids)}" Boundary="{boundary}" Font="{font}" Size="{size:g}">'
            f'<ofd:TextCode X="0" Y="{size:g}"{deltas}>{escape(line)}</ofd:TextCode></ofd:TextObject>'
        )

    def rule(self, y: float) -> None:
        width = PAGE_WIDTH - LEFT - RIGHT
        self.objects.append(
            f'<ofd:PathObject ID="{next(self.ids)}" Boundary="{LEFT:g} {y:g} {width:g} 1" LineWidth="0.5">'
            '<ofd:StrokeColor Value="215 0 15"/>'
            f"<ofd:AbbreviatedData>M 0 0.5 L {width:g} 0.5</ofd:AbbreviatedData></ofd:PathObject>"
        )

    def image(self, resource: int, x: float, y: float, width: float, height: float) -> None:
        self.objects.append(
            f'<ofd:ImageObject ID="{next(self.ids)}" Boundary="{x:g} {y:g} {width:g} {height:g}" '
            f'CTM="{width:g} 0 0 {height:g} 0 0" ResourceID="{resource}"/>'
        )


def _advance(character: str, size: float) -> float:
    return round(size / 2 if character.isascii() else size, 3)


def _lines(paragraph: str, columns: int) -> Iterator[str]:
    """Break a paragraph, indented by two characters unless it is an address; punctuation may hang over the edge."""
    rest = paragraph if paragraph.endswith("：") else "　　" + paragraph
    while rest:
        end = columns
        if rest[end : end + 1] and rest[end] in NEVER_FIRST:
            end += 1
        yield rest[:end]
        rest = rest[end:]


class _Document:
    """Collects pages and resources, then writes the package."""

    def __init__(self, title: str, created: date, author: str) -> None:
        self._title, self._created, self._author = title, created, author
        self._ids = iter(range(max(FONTS) + 1, 1_000_000))
        self.pages: list[_Page] = []
        self._images: dict[int, bytes] = {}

    def new_page(self) -> _Page:
        self.pages.append(_Page(self._ids))
        return self.pages[-1]

    def add_image(self, png: bytes) -> int:
        """Add a picture to the document's resources and return its ID."""
        resource = next(self._ids)
        self._images[resource] = png
        return resource

    def number_pages(self) -> None:
        for number, page in enumerate(self.pages, 1):
            line = f"- {number} -"
            width = sum(_advance(character, NUMBER_SIZE) for character in line)
            page.text((PAGE_WIDTH - width) / 2, PAGE_HEIGHT - BOTTOM + 12, line, NUMBER_SIZE, TITLE_FONT)

    def write(self) -> bytes:
        parts = {f"Doc_0/Pages/Page_{n}/Content.xml": self._content(page) for n, page in enumerate(self.pages)}
        parts |= {f"Doc_0/Res/{name}": png for name, png in self._files()}
        parts["Doc_0/PublicRes.xml"] = _xml("Res", self._fonts(), ' BaseLoc="Res"')
        if self._images:
            parts["Doc_0/DocumentRes.xml"] = _xml("Res", self._media(), ' BaseLoc="Res"')
        parts["Doc_0/Document.xml"] = self._root()
        digest = hashlib.sha256(b"".join(parts.values())).hexdigest()
        parts = {"OFD.xml": self._entry(digest[:32])} | parts
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
            for name, data in parts.items():
                package.writestr(zipfile.ZipInfo(name, ZIP_TIME), data, zipfile.ZIP_DEFLATED)
        return out.getvalue()

    def _files(self) -> Iterator[tuple[str, bytes]]:
        return ((f"image_{resource}.png", png) for resource, png in self._images.items())

    def _entry(self, document_id: str) -> bytes:
        return _xml(
            "OFD",
            f"<ofd:DocBody><ofd:DocInfo><ofd:DocID>{document_id}</ofd:DocID><ofd:Title>{escape(self._title)}</ofd:Title>"
            f"<ofd:Author>{escape(self._author)}</ofd:Author><ofd:CreationDate>{self._created}</ofd:CreationDate>"
            "<ofd:Creator>SealAgent demo</ofd:Creator></ofd:DocInfo>"
            "<ofd:DocRoot>Doc_0/Document.xml</ofd:DocRoot></ofd:DocBody>",
            ' Version="1.1" DocType="OFD"',
        )

    def _root(self) -> bytes:
        pages = "".join(
            f'<ofd:Page ID="{next(self._ids)}" BaseLoc="Pages/Page_{n}/Content.xml"/>' for n in range(len(self.pages))
        )
        resources = "<ofd:DocumentRes>DocumentRes.xml</ofd:DocumentRes>" if self._images else ""
        return _xml(
            "Document",
            f"<ofd:CommonData><ofd:MaxUnitID>{next(self._ids)}</ofd:MaxUnitID><ofd:PageArea>"
            f"<ofd:PhysicalBox>0 0 {PAGE_WIDTH:g} {PAGE_HEIGHT:g}</ofd:PhysicalBox></ofd:PageArea>"
            f"<ofd:PublicRes>PublicRes.xml</ofd:PublicRes>{resources}</ofd:CommonData><ofd:Pages>{pages}</ofd:Pages>",
        )

    def _content(self, page: _Page) -> bytes:
        layer = f'<ofd:Layer ID="{next(self._ids)}" Type="Body">{"".join(page.objects)}</ofd:Layer>'
        return _xml("Page", f"<ofd:Content>{layer}</ofd:Content>")

    def _fonts(self) -> str:
        fonts = "".join(
            f'<ofd:Font ID="{number}" FontName={quoteattr(name)} FamilyName={quoteattr(name)}/>'
            for number, name in FONTS.items()
        )
        return f"<ofd:Fonts>{fonts}</ofd:Fonts>"

    def _media(self) -> str:
        media = "".join(
            f'<ofd:MultiMedia ID="{resource}" Type="Image" Format="PNG">'
            f"<ofd:MediaFile>image_{resource}.png</ofd:MediaFile></ofd:MultiMedia>"
            for resource in self._images
        )
        return f"<ofd:MultiMedias>{media}</ofd:MultiMedias>"


def _xml(root: str, content: str, attributes: str = "") -> bytes:
    element = f'<ofd:{root} xmlns:ofd="{NAMESPACE}"{attributes}>{content}</ofd:{root}>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{element}\n'.encode()


def make_document(title: str, paragraphs: Sequence[str], unit: str, created: date) -> Ofd:
    """Set a notice: title, paragraphs, then the unit and the date at the lower right, pages as many as it takes."""
    document = _Document(title, created, unit)
    columns = int((PAGE_WIDTH - LEFT - RIGHT) / TEXT_SIZE)
    page = document.new_page()
    page.text((PAGE_WIDTH - TITLE_SIZE * len(title)) / 2, TOP + TITLE_SIZE, title, TITLE_SIZE, TITLE_FONT)
    page.rule(TOP + TITLE_SIZE + 6)
    y = TOP + TITLE_SIZE + 20
    for line in (line for paragraph in paragraphs for line in _lines(paragraph, columns)):
        if y > PAGE_HEIGHT - BOTTOM:
            page, y = document.new_page(), TOP + TEXT_SIZE
        page.text(LEFT, y, line, TEXT_SIZE, TEXT_FONT)
        y += LINE_PITCH
    if y + 3 * LINE_PITCH > PAGE_HEIGHT - BOTTOM:  # unit and date stay together, with room for the seal
        page, y = document.new_page(), TOP + TEXT_SIZE
    y += 2 * LINE_PITCH
    middle = PAGE_WIDTH - RIGHT - TEXT_SIZE * (len(unit) / 2 + 2)
    for line in (unit, f"{created.year}年{created.month}月{created.day}日"):
        width = sum(_advance(character, TEXT_SIZE) for character in line)
        page.text(middle - width / 2, y, line, TEXT_SIZE, TEXT_FONT)
        y += LINE_PITCH
    document.number_pages()
    seal_y = y - 1.5 * LINE_PITCH - TEXT_SIZE / 2 - 20
    return Ofd(document.write(), len(document.pages), len(document.pages), round(middle - 20, 1), round(seal_y, 1))


def demo_document(created: date) -> Ofd:
    """Return the two pages that ``make demo`` seals."""
    return make_document(DEMO_TITLE, DEMO_TEXT, DEMO_UNIT, created)


def noise_png(side: int, seed: int) -> bytes:
    """Return a square grey picture of noise, which no compression makes smaller: about ``side`` ** 2 octets.

    The same seed gives the same picture.
    """
    noise = random.Random(seed).randbytes(side * side)
    rows = b"".join(b"\0" + noise[start : start + side] for start in range(0, len(noise), side))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 1)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def large_document(pages: int = 100, octets: int = 2_000_000) -> bytes:
    """Return a package of about ``octets`` with ``pages`` pages, each with a line of text and a picture of noise.

    For measurements: many entries, and most of the octets do not compress.
    """
    document = _Document("测量用文件", date(2026, 1, 1), DEMO_UNIT)
    side = int((max(octets - pages * 900, 0) / pages) ** 0.5)  # 900: what the rest of a page takes in the package
    for number in range(pages):
        page = document.new_page()
        page.text(LEFT, TOP, f"第{number + 1}页：以下为随机图像。", TEXT_SIZE, TEXT_FONT)
        page.image(document.add_image(noise_png(side, number)), LEFT, TOP + 10, 120, 120)
    document.number_pages()
    return document.write()
