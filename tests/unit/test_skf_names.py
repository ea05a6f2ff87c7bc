"""Names on SKF devices: encodings, lists, and how a container stands for a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealdrivers.errors import DeviceFailure, ObjectInvalid
from sealdrivers.skf.names import (
    MAX_CONTAINER_NAME,
    MAX_NAMES,
    MAX_READ_NAME,
    container_name,
    field_text,
    file_name,
    key_names,
    name_list,
    text_of,
)


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"GM3000APP", "GM3000APP"),
        ("财务章".encode(), "财务章"),
        ("财务章".encode("gbk"), "财务章"),
        ("㐀".encode("gb18030"), "㐀"),
        (b"a\xff", "a\\xff"),
        (b"", ""),
    ],
    ids=["ASCII", "UTF-8", "GBK", "GB18030 of four octets", "neither", "empty"],
)
def test_names_are_read_in_whatever_encoding_they_have(octets: bytes, text: str) -> None:
    assert text_of(octets) == text


@pytest.mark.parametrize(
    ("field", "text"),
    [(b"ABC\0rubbish", "ABC"), (b"ABC   ", "ABC"), (b"x" * 32, "x" * 32), (b" A B \0\0", "A B"), (bytes(32), "")],
)
def test_fields_are_trimmed_of_nul_and_spaces(field: bytes, text: str) -> None:
    assert field_text(field) == text


@pytest.mark.parametrize(
    ("octets", "names"),
    [
        (b"a\0bc\0\0", [b"a", b"bc"]),
        (b"a\0bc\0", [b"a", b"bc"]),
        (b"a\0bc", [b"a", b"bc"]),
        (b"a\0\0rubbish\0\0", [b"a"]),
        (b"", []),
        (b"\0", []),
        (b"\0\0", []),
        (b"\0\0a\0", []),
    ],
)
def test_lists_end_at_two_nuls_or_where_the_octets_end(octets: bytes, names: list[bytes]) -> None:
    assert name_list(octets) == names


@pytest.mark.parametrize("octets", [b"x" * (MAX_READ_NAME + 1), b"x\0" * (MAX_NAMES + 1)])
def test_lists_no_device_can_hold(octets: bytes) -> None:
    with pytest.raises(DeviceFailure):
        name_list(octets)


@given(octets=st.binary(max_size=300))
def test_lists_of_any_octets_are_names_or_a_device_failure(octets: bytes) -> None:
    try:
        names = name_list(octets)
    except DeviceFailure:
        return
    for name in names:
        assert name
        assert b"\0" not in name
        label, identifier = key_names(name)
        assert identifier
        assert label


_labels = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(label=_labels, object_id=st.binary(min_size=1, max_size=16))
def test_a_made_name_is_read_back_as_label_and_identifier(label: str, object_id: bytes) -> None:
    name = container_name(label, object_id)
    assert len(name) <= MAX_CONTAINER_NAME
    assert key_names(name) == (label, object_id)


@given(name=st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_a_container_made_elsewhere_has_its_name_for_identifier(name: bytes) -> None:
    label, identifier = key_names(name)
    if b"#" not in name:
        assert identifier == name
        assert label == text_of(name)


def test_the_name_is_the_label_alone_where_the_identifier_says_no_more() -> None:
    assert container_name("RT_SM_CON", b"RT_SM_CON") == b"RT_SM_CON"
    assert container_name("a#AQ", b"a#AQ") != b"a#AQ"  # it would be read as another label and identifier


@pytest.mark.parametrize(
    ("label", "object_id"),
    [("", b"\1"), ("a", b""), ("x" * 65, b"\1"), ("a", b"x" * 60), ("a\0b", b"\1"), ("\ud800", b"\1")],
)
def test_names_no_container_can_have(label: str, object_id: bytes) -> None:
    with pytest.raises(ObjectInvalid):
        container_name(label, object_id)


def test_file_names() -> None:
    assert file_name("印章") == "印章".encode()
    for label in ("", "x" * 33, "a\0", "\udcff"):
        with pytest.raises(ObjectInvalid):
            file_name(label)
