"""The incremental tree against the definition of RFC 9162 2.1.1 and published roots."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealagent.errors import FormatError
from sealagent.pki.digests import digest
from sealagent.records.tree import Frontier, Head, leaf_hash, parse_checkpoint

# Leaves and roots of the certificate transparency test data, in use since RFC 6962.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def defined_root(name: str, leaves: list[bytes]) -> bytes:
    """MTH as RFC 9162 2.1.1 writes it, recursively over the octets."""
    if len(leaves) <= 1:
        return digest(name, b"\x00" + leaves[0]) if leaves else digest(name, b"")
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return digest(name, b"\x01" + defined_root(name, leaves[:split]) + defined_root(name, leaves[split:]))


def test_published_roots() -> None:
    tree = Frontier("sha256")
    roots = [tree.root().hex()]
    for leaf in LEAVES:
        tree.append(leaf_hash("sha256", bytes.fromhex(leaf)))
        roots.append(tree.root().hex())
    assert roots == ROOTS
    assert roots[0] == hashlib.sha256().hexdigest()


@given(st.lists(st.binary(max_size=8), max_size=70), st.sampled_from(["sm3", "sha256"]))
def test_every_root_is_the_defined_one(leaves: list[bytes], name: str) -> None:
    tree = Frontier(name)
    for leaf in leaves:
        tree.append(leaf_hash(name, leaf))
    assert tree.size == len(leaves)
    assert tree.root() == defined_root(name, leaves)


def test_copy_does_not_follow() -> None:
    tree = Frontier("sm3")
    tree.append(b"a" * 32)
    copy = tree.copy()
    tree.append(b"b" * 32)
    assert (copy.size, copy.root()) == (1, b"a" * 32)


def test_subtrees_must_fit_the_size() -> None:
    with pytest.raises(ValueError, match="subtrees"):
        Frontier("sm3", 3, [bytes(32)])


def test_checkpoint_is_c2sp_text_and_reads_back() -> None:
    head = Head(5, bytes(range(32)), "sm3", "sealagent/0123/sm3")
    text = head.checkpoint()
    assert text == "sealagent/0123/sm3\n5\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    assert parse_checkpoint(text) == head
    assert parse_checkpoint(text + "\n— name signature\n") == head


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\nb\nc\n",
        "x/sm3\n05\nAAAA\n",
        "x/sm3\n1\nAAAA\n",
        f"x/md5\n1\n{'A' * 43}=\n",
        f"x/sm3\n-1\n{'A' * 43}=\n",
        "x" * 5000,
    ],
)
def test_malformed_checkpoint(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_checkpoint(text)
    assert caught.value.code == "checkpoint_invalid"
