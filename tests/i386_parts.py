"""A 32-bit Python and the soft SKF library built for it: what a vendor's 32-bit library is served with."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import asn1crypto
import pytest

import sealdrivers
from softgm import BuildError, build

PROJECT = Path(__file__).resolve().parent.parent
_NOT_HERE = 3  # scripts/i386.sh: this machine cannot have it
_TIMEOUT = 600  # seconds; the download takes ten

_WORKER = """\
import runpy, sys
sys.path[:0] = {places!r}
runpy.run_module("sealdrivers.host.worker", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Machine32:
    """What there is for 32 bits."""

    python: Path
    system_library: Path
    """The C library: a real 32-bit library that has no interface of ours."""
    library: Path
    """The soft SKF library."""
    worker: tuple[str, ...]
    """Our own worker under this Python. Of everything that is installed it sees sealdrivers and asn1crypto."""
    places: tuple[str, ...]
    """Where it finds them."""


def machine32(folder: Path) -> Machine32:
    """Find or make it all; skip where the machine can have none of it, and fail in CI where something else is missing.

    :param folder: an empty one of the test session.
    """
    script = PROJECT / "scripts" / "i386.sh"
    done = subprocess.run([script], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    said = done.stderr.strip()
    if done.returncode == _NOT_HERE:
        pytest.skip(said.rpartition("\n")[2])
    found = Path(done.stdout.strip())
    try:
        if done.returncode != 0:
            raise BuildError(f"there is no 32-bit Python (scripts/i386.sh):\n{said}")
        libraries = build(compiler=str(found / "bin" / "cc"))
    except BuildError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    only = folder / "packages"
    only.mkdir()
    (only / "asn1crypto").symlink_to(Path(asn1crypto.__file__).parent)
    (only / "sealdrivers").symlink_to(Path(sealdrivers.__file__).parent)
    script = folder / "worker.py"
    script.write_text(_WORKER.format(places=[str(only)]))
    python = found / "bin" / "python"
    return Machine32(
        python,
        found / "tree" / "usr" / "lib" / "i386-linux-gnu" / "libc.so.6",
        libraries / "libsoftskf.so",
        (str(python), "-I", str(script)),
        (str(only),),
    )


def is_32bit(pid: int) -> bool:
    """Say whether a process runs with 32 bits, by the image it was started from."""
    with Path(f"/proc/{pid}/exe").open("rb") as image:
        return image.read(5) == b"\x7fELF\x01"
