"""SM3 (GB/T 32905 examples) and the other digests."""

from __future__ import annotations

import hashlib

import pytest

from sealagent.errors import FormatError
from sealagent.pki import digests, oids
from sealagent.pki.digests import DIGEST_BY_OID, DIGEST_SIZES, WEAK_DIGESTS, digest, new_digest

SM3_EXAMPLES = [
    (b"abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
    (b"abcd" * 16, "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"),
    (b"", "1ab21d8355cfa17f8e61194831e81a8f22bec8c728fefb747ed035eb5082aa2b"),
    (b"a" * 10**6, "c8aaf89429554029e231941a2acc0ad61ff2a5acd8fadd25847a3a732b3b02c3"),
]


@pytest.mark.parametrize(("message", "expected"), SM3_EXAMPLES, ids=["abc", "abcd16", "empty", "million"])
@pytest.mark.parametrize("without_hashlib", [False, True])
def test_sm3_gives_the_published_values(
    message: bytes, expected: str, without_hashlib: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without_hashlib:
        monkeypatch.setattr(digests, "_HASHLIB_HAS_SM3", False)
    assert digest("sm3", message).hex() == expected


@pytest.mark.parametrize("without_hashlib", [False, True])
def test_a_digest_in_pieces_equals_the_digest_of_the_whole(
    without_hashlib: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without_hashlib:
        monkeypatch.setattr(digests, "_HASHLIB_HAS_SM3", False)
    state = new_digest("sm3")
    state.update(b"ab")
    first = state.digest()
    state.update(memoryview(b"c"))
    assert first == digest("sm3", b"ab")
    assert state.digest() == state.digest() == digest("sm3", b"abc")


@pytest.mark.parametrize("name", sorted(set(DIGEST_SIZES) - {"sm3"}))
def test_the_other_digests_are_those_of_hashlib(name: str) -> None:
    assert digest(name, b"abc") == hashlib.new(name, b"abc").digest()
    assert len(digest(name, b"")) == DIGEST_SIZES[name]


def test_every_identifier_names_a_known_digest() -> None:
    assert set(DIGEST_BY_OID.values()) == set(DIGEST_SIZES)
    assert DIGEST_BY_OID[oids.SM3] == "sm3"
    assert {"sha1", "md5"} == WEAK_DIGESTS


@pytest.mark.parametrize("name", ["", "SM3", "sha3_256", "shake_128", "sm3\0"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(FormatError) as caught:
        new_digest(name)
    assert caught.value.code == "algorithm_not_supported"
