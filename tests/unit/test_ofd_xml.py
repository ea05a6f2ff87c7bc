"""XML of a package: no DTD in any disguise, no entities, within limits, whatever the prefix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sealagent.documents.limits import DEFAULT_LIMITS
from sealagent.documents.ofd import xml
from sealagent.errors import FormatError, LimitExceeded

SPACE = 'xmlns:ofd="http://www.ofdspec.org/2016"'
LEVELS = ["<!ENTITY x{} '{}'>".format(n, f"&x{n - 1};" * 10) for n in range(1, 9)]
BOMB = "<!DOCTYPE a [<!ENTITY x0 'xxxxxxxxxx'>" + "".join(LEVELS) + "]><a>&x8;</a>"


def code_of(data: bytes) -> str:
    with pytest.raises(FormatError) as caught:
        xml.parse(data, "a.xml", DEFAULT_LIMITS)
    return caught.value.code


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("xml_doctype", BOMB.encode()),
        ("xml_doctype", b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>'),
        ("xml_doctype", b"<!DOCTYPE a><a/>"),
        ("xml_doctype", b'<?xml version="1.0"?>\n<!-- c --><?p i?>\n <!DOCTYPE a><a/>'),
        ("xml_doctype", ('<?xml version="1.0" encoding="UTF-8"?>' + BOMB).encode()),
        ("xml_doctype", ("\ufeff" + BOMB).encode()),
        ("xml_doctype", BOMB.encode("utf-16")),
        ("xml_doctype", ("\ufeff" + BOMB).encode("utf-16-be")),
        ("xml_doctype", ('<?xml version="1.0" encoding="GBK"?>' + BOMB).encode("gbk")),
        ("xml_encoding", BOMB.encode("utf-16-le")),
        ("xml_encoding", BOMB.encode("utf-32")),
        ("xml_encoding", BOMB.encode("utf-32-be")),
        ("xml_encoding", ('<?xml version="1.0" encoding="UTF-7"?>' + BOMB).encode("utf-7")),
        ("xml_encoding", b'<?xml version="1.0" encoding="UTF-16"?><a/>'),
        ("xml_encoding", b'<?xml version="1.0" encoding="gbk"?><a>\xff\xff</a>'),
        ("xml_malformed", ('<?xml version="1.0" encoding="cp037"?>' + BOMB).encode("cp037")),
        ("xml_malformed", (b"+ADw-!DOCTYPE a+AD4-")),
        ("xml_malformed", b"<a>\xff</a>"),
        ("xml_malformed", b"<a>&undefined;</a>"),
        ("xml_malformed", b'<a b="&undefined;"/>'),
        ("xml_malformed", b""),
        ("xml_malformed", b"<a><b></a>"),
        ("xml_malformed", b"<!-- never closed"),
        ("xml_malformed", b"<a>" * 300),
        ("xml_too_deep", b"<a>" * 100 + b"</a>" * 100),
        ("xml_too_large", b"<a>" + b"<b/>" * 500_000 + b"</a>"),
        ("xml_too_large", b"<a>" + b" " * (16 << 20) + b"</a>"),
    ],
)
def test_refused(code: str, data: bytes) -> None:
    assert code_of(data) == code


@pytest.mark.parametrize(
    "data",
    [
        "<a>印章</a>".encode(),
        "\ufeff<a>印章</a>".encode(),
        "<a>印章</a>".encode("utf-16"),
        '<?xml version="1.0" encoding="utf-16"?><a>印章</a>'.encode("utf-16"),
        '<?xml version="1.0" encoding="GB2312"?><a>印章</a>'.encode("gb2312"),
        "<?xml version='1.0' encoding='gb18030' standalone='yes'?><a>印章</a>".encode("gb18030"),
        "<a>印<!-- c -->章</a>".encode(),
        "<a><![CDATA[印]]>章</a>".encode(),
        "<!-- <!DOCTYPE a> --><a>印章</a>".encode(),
    ],
)
def test_read(data: bytes) -> None:
    assert xml.text_of(xml.parse(data, "a.xml", DEFAULT_LIMITS)) == "印章"


def test_limits_are_named_and_count() -> None:
    small = replace(DEFAULT_LIMITS, xml_octets=10)
    with pytest.raises(LimitExceeded):
        xml.parse(b"<a>12345</a>", "a.xml", small)
    at_limit = b"<a>" * 65
    with pytest.raises(LimitExceeded):
        xml.parse(at_limit + b"</a>" * 65, "a.xml", DEFAULT_LIMITS)
    xml.parse(at_limit[3:] + b"</a>" * 64, "a.xml", DEFAULT_LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        b'<ofd:A xmlns:ofd="http://www.ofdspec.org/2016"><ofd:B/></ofd:A>',
        b'<x:A xmlns:x="http://www.ofdspec.org"><x:B/></x:A>',
        b'<A xmlns="http://www.ofdspec.org/2016"><y:B xmlns:y="http://www.ofdspec.org"/></A>',
    ],
)
def test_names_count_and_prefixes_do_not(data: bytes) -> None:
    root = xml.parse(data, "a.xml", DEFAULT_LIMITS)
    assert xml.is_named(root, "A")
    assert xml.child(root, "B") is not None
    assert xml.child(root, "C") is None


def test_elements_of_other_namespaces_are_not_ours() -> None:
    root = xml.parse(b'<A xmlns="urn:other"><B/></A>', "a.xml", DEFAULT_LIMITS)
    assert not xml.is_named(root, "A")
    assert xml.child(root, "B") is None


def _chunks(data: bytes, size: int, taken: list[int]) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        taken.append(at)
        yield data[at : at + size]


def test_a_page_is_read_no_further_than_its_area() -> None:
    page = f"<ofd:Page {SPACE}><ofd:Area><ofd:PhysicalBox>0 0 1 2</ofd:PhysicalBox></ofd:Area><ofd:Content>".encode()
    taken: list[int] = []
    found = xml.text_before(_chunks(page + b"x" * 100_000, 50, taken), "p", "PhysicalBox", "Content", DEFAULT_LIMITS)
    assert found == "0 0 1 2"
    assert len(taken) < 10
    taken.clear()
    page = page.replace(b"<ofd:Area>", b"<ofd:Content/><ofd:Area>")
    assert xml.text_before(_chunks(page, 50, taken), "p", "PhysicalBox", "Content", DEFAULT_LIMITS) is None


def test_reading_ahead_is_as_strict() -> None:
    def read(data: bytes) -> str | None:
        return xml.text_before(iter([data]), "p", "PhysicalBox", "Content", DEFAULT_LIMITS)

    inside = f"<ofd:Page {SPACE}><ofd:Area><ofd:PhysicalBox>盒</ofd:PhysicalBox></ofd:Area></ofd:Page>"
    for data in (
        inside.encode(),
        inside.encode("utf-16"),
        ('<?xml version="1.0" encoding="GBK"?>' + inside).encode("gbk"),
    ):
        assert read(data) == "盒"
    for bad, code in (
        (BOMB.encode(), "xml_doctype"),
        (BOMB.encode("utf-16"), "xml_doctype"),
        (b"<a></b>", "xml_malformed"),
    ):
        with pytest.raises(FormatError) as caught:
            read(bad)
        assert caught.value.code == code


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_doctype_cut_over_two_chunks_is_seen(cut: int) -> None:
    data = b"<!-- c --> <?p i?><!DOCTYPE a [<!ENTITY x 'x'>]><a>&x;</a>"
    with pytest.raises(FormatError) as caught:
        xml.text_before(iter([data[:cut], data[cut:]]), "p", "PhysicalBox", "Content", DEFAULT_LIMITS)
    assert caught.value.code == "xml_doctype"
