"""Build the test libraries with the machine's C compiler, into a cache folder that their sources name."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["CACHE_VARIABLE", "NOT_BUILDABLE", "PKCS11", "SKF", "BuildError", "build", "cache_folder"]

CACHE_VARIABLE = "SOFTGM_CACHE"
"""Environment variable that names the cache folder; by default a folder of the user's cache."""

NOT_BUILDABLE = "the soft GM libraries need a C compiler, make and the headers of OpenSSL 3 (gcc make libssl-dev)"

SKF = Path(__file__).resolve().parent / "skf"
"""Sources of ``libsoftskf.so`` and ``libsoftskf-plain.so``."""
PKCS11 = SKF.with_name("pkcs11")
"""Sources of ``libsoftgm-pkcs11.so``."""
_COMMON = SKF.with_name("common")
_TIMEOUT = 120  # seconds; a build takes three


class BuildError(Exception):
    """The compiler is missing or refused; the message holds what it said."""


def cache_folder() -> Path:
    """Return the folder that keeps built libraries."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "softgm"


def build(sources: Path = SKF) -> Path:
    """Build all libraries of a folder of sources, unless the cache has them.

    :param sources: :data:`SKF` or :data:`PKCS11`.
    :return: the folder that holds them.
    :raises BuildError: a part is missing, or the compiler refused.
    """
    made = hashlib.sha256()
    for source in sorted([sources / "Makefile", *sources.glob("*.[ch]"), *_COMMON.iterdir()]):
        made.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    made.update(repr([os.environ.get(name) for name in ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS")]).encode())
    folder = cache_folder() / f"{sources.name}-{made.hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    if shutil.which("make") is None:
        raise BuildError(NOT_BUILDABLE)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=folder.parent))
    try:
        done = subprocess.run(
            ["make", "-s", "-C", str(sources), f"OUT={draft}"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            raise BuildError(f"{NOT_BUILDABLE}; the compiler said:\n{done.stderr}")
        try:
            draft.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
