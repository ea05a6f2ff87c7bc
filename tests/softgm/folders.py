"""Folders of soft tokens, written from outside while a library reads them: settings and faults."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

__all__ = ["add_fault", "clear_faults", "octets", "set_settings", "settings", "write"]


def octets(name: str | bytes) -> bytes:
    """Return a name as the device keeps it; text is UTF-8, give octets for anything else (GBK)."""
    return name.encode() if isinstance(name, str) else name


def write(path: Path, data: bytes) -> None:
    """Write a file under another name and rename it: a library sees all of it or nothing."""
    handle, draft = tempfile.mkstemp(prefix=".draft.", dir=path.parent)
    with os.fdopen(handle, "wb") as out:
        out.write(data)
    os.replace(draft, path)


def settings(path: Path) -> dict[bytes, bytes]:
    """Return the lines ``key=value`` of a file, which may be missing."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return {key: value for key, _, value in (line.partition(b"=") for line in lines)}


def set_settings(path: Path, changes: Mapping[str, str | bytes | int]) -> None:
    """Set lines of a file and keep the others."""
    lines = settings(path)
    for key, value in changes.items():
        lines[os.fsencode(key)] = str(value).encode() if isinstance(value, int) else octets(value)
    write(path, b"".join(key + b"=" + value + b"\n" for key, value in lines.items()))


def add_fault(
    folder: Path,
    known: Collection[str],
    name: str,
    function: str,
    argument: object = None,
    *,
    times: int | None = None,
    late: bool = False,
) -> None:
    """Add a fault to the file of a device, or of all (README.md lists them). Calls that begin after this meet it.

    :param known: the faults that the library has.
    :raises ValueError: there is no such fault.
    """
    if name not in known:
        raise ValueError(f"there is no fault {name!r}")
    words = [name, function, *([] if argument is None else [str(argument)])]
    words += [] if times is None else [f"times={times}"]
    words += ["late"] if late else []
    path = folder / "faults"
    before = path.read_bytes() if path.exists() else b""
    write(path, before + " ".join(words).encode() + b"\n")


def clear_faults(folder: Path) -> None:
    """Remove every fault from the file of a device, or of all."""
    (folder / "faults").unlink(missing_ok=True)
