"""What the OpenSSL command line says of DER: a second opinion that shares nothing with the code under test."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path


def openssl(*arguments: str | Path, data: bytes = b"", status: int = 0) -> bytes:
    done = subprocess.run(["openssl", *map(str, arguments)], input=data, capture_output=True, check=False, timeout=30)
    assert done.returncode == status, done.stderr.decode()
    return done.stdout


def sm3(octets: bytes) -> bytes:
    return openssl("dgst", "-sm3", "-binary", data=octets)


# One line of `openssl asn1parse`: offset, depth, length of the header, length of the content, type.
LINE = re.compile(
    r" *(\d+):d=(\d+) +hl=(\d+) l= *(\d+) (?:cons|prim): "
    r" ?([A-Z0-9 _]+?|cont \[ \d+ \]) *(?::(.*)|\[HEX DUMP\].*)?$"
)


@dataclass
class Node:
    """One element of a DER file, where OpenSSL says it is."""

    tag: str
    text: str
    whole: bytes
    """The element with its header."""
    content: bytes
    children: list[Node] = field(default_factory=list)

    @property
    def bits(self) -> bytes:
        """The content of a BIT STRING without the octet that counts unused bits."""
        assert self.tag == "BIT STRING"
        assert self.content[0] == 0
        return self.content[1:]

    @property
    def tags(self) -> list[str]:
        return [child.tag for child in self.children]


def parsed(der: bytes) -> Node:
    """Return the tree that ``openssl asn1parse`` shows."""
    path: list[Node] = []
    for line in openssl("asn1parse", "-inform", "DER", data=der).decode().splitlines():
        found = LINE.match(line)
        assert found, line
        offset, depth, header, length = (int(found[number]) for number in range(1, 5))
        end = offset + header + length
        node = Node(found[5], found[6] or "", der[offset:end], der[offset + header : end])
        del path[depth:]
        if path:
            path[-1].children.append(node)
        path.append(node)
    assert path[0].whole == der
    return path[0]
