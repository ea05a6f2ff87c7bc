"""Where driver modules are, and which of them may be loaded.

Modules are found in p11-kit's configuration (pkcs11.conf(5), ``*.module`` files) and in the table of known vendors.
Finding one loads nothing: :class:`AllowList` decides on the resolved path.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path, PurePath

from sealdrivers import vendors
from sealdrivers.errors import ModuleNotAllowed, ModuleNotLoadable

__all__ = [
    "AllowList",
    "ModuleCandidate",
    "check_command",
    "find_modules",
    "installed",
    "is_library_of",
    "p11_kit_directories",
    "survey_modules",
]

PROGRAM = "sealagent"
"""Our name in ``enable-in`` and ``disable-in``."""

MAX_MODULE_FILE_BYTES = 64 << 10
"""A ``*.module`` file larger than this is skipped; real ones have a few lines."""

MAX_LINKS = 40
"""Symbolic links that are followed on the way to a program, as in Linux."""

MAX_MODULE_FILES = 256
"""``*.module`` files read per directory."""

_MULTIARCH = sysconfig.get_config_var("MULTIARCH") or ""
LIBRARY_DIRECTORIES: tuple[Path, ...] = tuple(
    Path(base) for base in (f"/usr/lib/{_MULTIARCH}", "/usr/lib64", "/usr/lib", "/usr/local/lib64", "/usr/local/lib")
)
"""Where a library that is named without its directory is looked for."""


@dataclass(frozen=True, slots=True)
class ModuleCandidate:
    """A module that something names."""

    path: Path
    """As found; not resolved, and perhaps not there."""
    source: str
    """``configuration``, ``vendor table``, or the ``*.module`` file of p11-kit."""
    name: str
    skipped: str | None = None
    """Why it is not to be used; None if it is."""
    driver: str = "pkcs11"


def find_modules(
    *, p11_kit: bool = True, vendor_table: bool = True, vendor_files: Sequence[Path] = ()
) -> list[ModuleCandidate]:
    """Return the modules that are there to be used, best first, each file once.

    :param vendor_files: further vendor tables, as far as they exist; a later entry replaces one of the same name.
    :raises VendorTableInvalid: one of them is malformed.
    """
    candidates = survey_modules(p11_kit=p11_kit, vendor_table=vendor_table, vendor_files=vendor_files)
    return [candidate for candidate in candidates if candidate.skipped is None]


def survey_modules(
    *, p11_kit: bool = True, vendor_table: bool = True, vendor_files: Sequence[Path] = ()
) -> list[ModuleCandidate]:
    """Return every module that something names, also those that are not to be used, with the reason."""
    candidates = _from_p11_kit(p11_kit_directories()) if p11_kit else []
    if vendor_table:
        candidates += _from_table(vendors.vendor_table(vendor_files).modules)
    seen: dict[str, str] = {}
    result = []
    for candidate in candidates:
        real = os.path.realpath(candidate.path)
        skipped = candidate.skipped
        if skipped is None and not os.path.exists(real):
            skipped = "the file does not exist"
        elif skipped is None and real in seen:
            skipped = f"the same file as {seen[real]}"
        elif skipped is None:
            seen[real] = str(candidate.path)
        result.append(replace(candidate, skipped=skipped))
    return result


# p11-kit


def p11_kit_directories() -> tuple[Path, ...]:
    """Return the directories of ``*.module`` files: user, system, packages. An earlier one wins key by key."""
    user = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(user, "pkcs11", "modules"), Path("/etc/pkcs11/modules"), Path("/usr/share/p11-kit/modules")


_P11_KIT_LINE = re.compile(r"([A-Za-z0-9_-]+)\s*:\s*(.*)")


def _from_p11_kit(directories: Iterable[Path]) -> list[ModuleCandidate]:
    settings: dict[str, dict[str, str]] = {}
    source: dict[str, Path] = {}
    for directory in directories:
        for file in sorted(directory.glob("*.module"))[:MAX_MODULE_FILES]:
            source.setdefault(file.name, file)
            settings[file.name] = _read_module_file(file) | settings.get(file.name, {})
    found = []
    for name, values in settings.items():
        path = _p11_kit_path(values.get("module", ""))
        candidate = ModuleCandidate(path, str(source[name]), name.removesuffix(".module"), _unusable(values))
        found.append((-_priority(values), name, candidate))
    return [candidate for _, _, candidate in sorted(found, key=lambda item: item[:2])]


def _read_module_file(file: Path) -> dict[str, str]:
    """Return the keys of a ``*.module`` file; a key ``error`` says why it cannot be read."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_MODULE_FILE_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return {"error": f"the file cannot be read ({type(error).__name__})"}
    if len(data) > MAX_MODULE_FILE_BYTES:
        return {"error": f"the file is longer than {MAX_MODULE_FILE_BYTES} octets"}
    values: dict[str, str] = {}
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = _P11_KIT_LINE.fullmatch(stripped)
        if not found:
            return {"error": "the file has a line without a key and ':'"}
        values[found[1]] = found[2]
    return values


def _unusable(values: Mapping[str, str]) -> str | None:
    programs = {key: re.split(r"[\s,]+", values[key]) for key in ("enable-in", "disable-in") if key in values}
    if "error" in values:
        return values["error"]
    if "remote" in values:
        return "it is a remote module, which is not supported"
    if PROGRAM in programs.get("disable-in", []):
        return f"disable-in names {PROGRAM}"
    if "enable-in" in programs and PROGRAM not in programs["enable-in"]:
        return f"enable-in does not name {PROGRAM}"
    if values.get("trust-policy") == "yes":
        return "it serves a list of trusted certificates and holds no keys"
    return None if values.get("module") else "the file names no module"


def _priority(values: Mapping[str, str]) -> int:
    found = re.fullmatch(r"[+-]?[0-9]{1,6}", values.get("priority", ""))
    return int(found[0]) if found else 0


def _p11_kit_path(module: str) -> Path:
    """Complete a relative name with p11-kit's module directory, which distributions put in different places."""
    places = [directory / "pkcs11" / module for directory in LIBRARY_DIRECTORIES]
    return Path(module) if os.path.isabs(module) else next((path for path in places if path.exists()), places[0])


# The vendor table


def _from_table(entries: Iterable[vendors.VendorModule]) -> list[ModuleCandidate]:
    return [
        ModuleCandidate(found, "vendor table", entry.name, driver=entry.driver)
        for entry in entries
        if (found := installed(entry)) is not None
    ]


def installed(entry: vendors.VendorModule) -> Path | None:
    """Return where a library of the vendor table is installed; the first hit counts. The path is not resolved."""
    patterns = [str(base / file) for file in entry.files for base in LIBRARY_DIRECTORIES]  # base / "/x" is "/x"
    hits = (hit for pattern in patterns for hit in sorted(glob(pattern)))
    return Path(hit) if (hit := next(hits, None)) is not None else None


def is_library_of(path: Path, entry: vendors.VendorModule) -> bool:
    """Say whether a library that somebody named, wherever it lies, has a file name of the entry."""
    names = (PurePath(file).name for file in entry.files)
    return any(fnmatchcase(path.name, name) for name in names)


# What may be loaded


class AllowList:
    """Which modules may be loaded: those the configuration names, and those below trusted directories.

    :param paths: modules that the configuration names, wherever they are.
    :param directories: a module whose resolved path is below one of these may be loaded, too.
    """

    def __init__(self, *, paths: Iterable[Path] = (), directories: Iterable[Path] = ()) -> None:
        self._paths = {os.path.realpath(path) for path in paths}
        self._directories = [Path(os.path.realpath(directory)) for directory in directories]

    def resolve(self, path: Path | str) -> Path:
        """Return the real path of a module that may be loaded.

        It must be a regular file, and neither it nor a directory above it may be replaceable by other users than root
        and the one who runs this.

        :raises ModuleNotAllowed: with what to do about it. :raises ModuleNotLoadable: there is no such file.
        """
        if not os.path.isabs(path):
            raise ModuleNotAllowed(f"{path} is not an absolute path; name the module by its full path")
        try:
            real = Path(os.path.realpath(path, strict=True))
            if str(real) not in self._paths and not any(real.is_relative_to(base) for base in self._directories):
                raise ModuleNotAllowed(
                    f"{real} is not on the allow-list; name it in [[modules]], or its directory in trusted_directories"
                )
            if not real.is_file():
                raise ModuleNotAllowed(f"{real} is no regular file")
            for place in (real, *real.parents):
                _check_owner(place, "the module")
        except FileNotFoundError:
            raise ModuleNotLoadable(
                f"{path} does not exist; install the vendor's library or correct the path"
            ) from None
        except (OSError, ValueError) as error:
            raise ModuleNotLoadable(f"{path} cannot be reached: {getattr(error, 'strerror', error)}") from None
        return real


def _check_owner(place: Path, what: str) -> None:
    """:raises ModuleNotAllowed: others than root and the one who runs this could replace what is in this place."""
    found = place.lstat()
    if found.st_uid not in (0, os.geteuid()):
        raise ModuleNotAllowed(f"{place} belongs to another user, who could replace {what}; change its owner")
    sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & stat.S_IWOTH and not sticky and not stat.S_ISLNK(found.st_mode):
        raise ModuleNotAllowed(f"{place} can be written by everybody, who could replace {what}; chmod o-w it")


def check_command(command: Sequence[str]) -> None:
    """Look whether a worker's command may be run. It gets the PIN, so it is held to what modules are held to.

    Each word that is an absolute path of something that exists is looked at (an interpreter's script is no less the
    program than the interpreter), and so is each link on the way: the program is run by the name it has here, since
    a Python environment knows itself by it.

    :param command: program and arguments; nothing if empty.
    :raises ModuleNotAllowed: it is no executable file, or other users could replace it.
    """
    for number, word in enumerate(command):
        if not os.path.isabs(word):
            if number == 0:
                raise ModuleNotAllowed(f"{word} is not an absolute path; name the worker by its full path")
            continue
        try:
            places = _way(Path(word))
        except (OSError, ValueError) as error:
            if number == 0:
                reason = getattr(error, "strerror", None) or error
                raise ModuleNotAllowed(f"the worker {word} cannot be reached: {reason}") from None
            continue
        for place in places:
            _check_owner(place, "the worker")
        if number == 0 and not (places[-1].is_file() and os.access(places[-1], os.X_OK)):
            raise ModuleNotAllowed(f"the worker {word} is no program that may be executed")


def _way(path: Path) -> list[Path]:
    """Return every directory and link that is passed on the way to a file, the file last.

    :raises OSError: there is no such file, or the links lead nowhere.
    """
    here = Path(path.anchor)  # never a link, and never behind one
    passed = [here]
    ahead = list(reversed(path.parts[1:]))
    links = 0
    while ahead:
        name = ahead.pop()
        step = here.parent if name == ".." else here / name
        passed.append(step)
        if not stat.S_ISLNK(step.lstat().st_mode):
            here = step
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = step.readlink()
        if target.is_absolute():
            here = Path(target.anchor)
        ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    return [*passed, here]
