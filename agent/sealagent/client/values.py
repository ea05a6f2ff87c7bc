"""What the SDK gives and takes: sealed documents, signatures, and documents in any form."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Document", "Json", "Opened", "Sealed", "Signed", "signed"]

Json = dict[str, Any]
Document = str | Path | bytes | BinaryIO
"""A path, the octets, or an open binary file."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed document and its receipt."""

    document: bytes
    receipt: Json

    def save(self, path: str | Path) -> Path:
        """Write the document; return the path."""
        target = Path(path)
        target.write_bytes(self.document)
        return target


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature and its receipt."""

    signature: bytes
    receipt: Json


def signed(item: Mapping[str, Any]) -> Signed:
    """Read a signature of an answer."""
    return Signed(base64.b64decode(item["signature"]), dict(item["receipt"]))


class Opened:
    """Opens a document however it is given; closes only what it opened itself."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._own: BinaryIO | None = None

    def __enter__(self) -> tuple[BinaryIO, str | None]:
        """Return the open file, and its name where it has one."""
        document = self._document
        if isinstance(document, bytes):
            return io.BytesIO(document), None
        if isinstance(document, str | Path):
            self._own = Path(document).open("rb")
            return self._own, Path(document).name
        return document, None

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.close()
