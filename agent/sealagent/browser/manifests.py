"""The files that tell a browser of the host: where they lie, what stands in them, and what is wrong with them.

A browser starts the program that such a file names for the extensions that it lists, and for no others.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sealagent.browser import HOST_NAME
from sealagent.errors import FormatError, SealAgentError
from sealagent.files import read_regular, sync_directory, write_whole

__all__ = [
    "BROWSERS",
    "Browser",
    "Installed",
    "allowed_origin",
    "check_extension",
    "host_program",
    "inspect",
    "install",
    "remove",
]

PROGRAM = "sealagent-browser-host"
MAX_MANIFEST = 64 << 10
"""Octets of a manifest; a hundred extensions take 7 KiB."""
MAX_EXTENSIONS = 100
"""Extensions in one manifest; a person knows a handful."""
MAX_ROOTS = 64
"""Further profile folders that are remembered."""

_CHROMIUM_ID = re.compile(r"[a-p]{32}")
_CHROMIUM_ORIGIN = re.compile(r"chrome-extension://([a-p]{32})/?")
_FIREFOX_ID = re.compile(
    r"\{[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\}"
    r"|[A-Za-z0-9._-]{0,64}@[A-Za-z0-9._-]{1,64}"
)

Fault = Literal[
    "manifest_unreadable",
    "manifest_malformed",
    "manifest_not_private",
    "program_missing",
    "program_not_executable",
    "program_not_private",
    "no_extensions",
]
"""What can be wrong with an installed manifest."""


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser that starts hosts."""

    name: str
    folder: str
    """Profile root: below the configuration folder, or for Firefox below the home folder."""
    system: tuple[str, ...]
    """Where an administrator's manifests lie."""
    sandboxes: tuple[str, ...]
    """Folders below the home folder that a sandboxed edition (snap, Flatpak) makes."""
    firefox: bool = False

    @property
    def member(self) -> str:
        """The member of the manifest that lists extensions."""
        return "allowed_extensions" if self.firefox else "allowed_origins"

    def manifest(self, root: Path | None = None) -> Path:
        """Return where the manifest lies. :param root: another profile root (``--user-data-dir``)."""
        if root is None:
            base = Path.home() if self.firefox else _config_home()
            root = base / self.folder
        folder = "native-messaging-hosts" if self.firefox else "NativeMessagingHosts"
        return root / folder / f"{HOST_NAME}.json"

    def sandboxed(self) -> bool:
        """Say whether a sandboxed edition is in use, which starts no programs outside of its sandbox."""
        return any((Path.home() / folder).is_dir() for folder in self.sandboxes)


BROWSERS = {
    browser.name: browser
    for browser in (
        Browser(
            "chromium",
            "chromium",
            ("/etc/chromium/native-messaging-hosts",),
            ("snap/chromium", ".var/app/org.chromium.Chromium"),
        ),
        Browser(
            "chrome", "google-chrome", ("/etc/opt/chrome/native-messaging-hosts",), (".var/app/com.google.Chrome",)
        ),
        Browser("edge", "microsoft-edge", ("/etc/opt/edge/native-messaging-hosts",), (".var/app/com.microsoft.Edge",)),
        Browser("firefox", ".mozilla", (), ("snap/firefox", ".var/app/org.mozilla.firefox"), firefox=True),
    )
}


@dataclass(frozen=True, slots=True)
class Installed:
    """What is there for a browser."""

    browser: str
    path: Path
    there: bool
    program: str | None = None
    extensions: tuple[str, ...] = ()
    """Ids."""
    faults: tuple[Fault, ...] = ()
    sandboxed: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "browser": self.browser,
            "manifest": str(self.path),
            "installed": self.there,
            "program": self.program,
            "extensions": list(self.extensions),
            "faults": list(self.faults),
            "sandboxed": self.sandboxed,
        }


@dataclass(slots=True)
class _Manifest:
    program: str
    extensions: list[str] = field(default_factory=list)


def check_extension(browser: Browser, ident: str) -> str:
    """Return an extension's id. :raises FormatError: ``extension_id_invalid``."""
    if (_FIREFOX_ID if browser.firefox else _CHROMIUM_ID).fullmatch(ident) is None:
        kind = "name@domain or {UUID}" if browser.firefox else "32 letters from a to p"
        raise FormatError("extension_id_invalid", f"the id of an extension for {browser.name} is {kind}")
    return ident


def host_program() -> Path:
    """Return the host's program file. :raises SealAgentError: ``host_program_missing``."""
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)
    if found is None:
        raise SealAgentError("host_program_missing", f"{PROGRAM} is neither beside {sys.executable} nor on the path")
    return Path(os.path.abspath(found))


def install(browser: Browser, extensions: Iterable[str], program: Path, root: Path | None = None) -> Installed:
    """Write the manifest, with these extensions beside those that it lists already.

    :param program: absolute path of the host. :param root: another profile root.
    :raises FormatError: ``extension_id_invalid``, ``too_many_extensions``. :raises OSError: what was there is there.
    """
    path = browser.manifest(root)
    wanted = [check_extension(browser, ident) for ident in extensions]
    there = _read(browser, path)
    kept = [ident for ident in there.extensions if ident not in wanted] if isinstance(there, _Manifest) else []
    _write(browser, path, program, [*kept, *wanted])
    if root is not None:
        _remember(path)
    return inspect(browser, root)


def remove(browser: Browser, extensions: Sequence[str] = (), root: Path | None = None) -> bool:
    """Take extensions out of the manifest; without any named, or with the last, the manifest goes.

    :return: whether anything was there to be removed. :raises OSError:
    """
    path = browser.manifest(root)
    there = _read(browser, path)
    if extensions and isinstance(there, _Manifest):
        kept = [ident for ident in there.extensions if ident not in extensions]
        if len(kept) == len(there.extensions):
            return False
        if kept:
            _write(browser, path, Path(there.program), kept)
            return True
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_directory(path.parent)
    return True


def inspect(browser: Browser, root: Path | None = None) -> Installed:
    """Say what is installed for a browser, and what is wrong with it."""
    path = browser.manifest(root)
    there = _read(browser, path)
    sandboxed = root is None and browser.sandboxed()
    if there is None:
        return Installed(browser.name, path, False, sandboxed=sandboxed)
    if not isinstance(there, _Manifest):
        return Installed(browser.name, path, True, faults=(there,), sandboxed=sandboxed)
    faults: list[Fault] = []
    if _others_may_write(path):
        faults.append("manifest_not_private")
    program = Path(there.program)
    if not program.is_file():
        faults.append("program_missing")
    elif not os.access(program, os.X_OK):
        faults.append("program_not_executable")
    elif _others_may_write(program):
        faults.append("program_not_private")
    if not there.extensions:
        faults.append("no_extensions")
    return Installed(
        browser.name, path, True, there.program, tuple(there.extensions), tuple(faults), sandboxed=sandboxed
    )


def allowed_origin(arguments: Sequence[str], program: str | None = None) -> str:
    """Return for which extension a browser started this program, if a manifest of ours lists it.

    Chromium and its kin give the extension's origin. Firefox gives the manifest's path and the extension's id.

    :param program: path of this program; default: that it was started by.
    :return: ``chrome-extension://ID``, or ``moz-extension://ID`` with the id from the extension's own manifest.
    :raises SealAgentError: ``extension_not_allowed``: no browser started it so, or no manifest lists it.
    """
    own = os.path.realpath(program or sys.argv[0])
    if arguments and (found := _CHROMIUM_ORIGIN.fullmatch(arguments[0])):
        for browser, path in _chromium_manifests():
            if _lists(browser, path, found[1], own):
                return f"chrome-extension://{found[1]}"
        raise SealAgentError("extension_not_allowed", f"no manifest of this program lists the extension {found[1]}")
    if len(arguments) >= 2 and _FIREFOX_ID.fullmatch(arguments[1]):
        if _lists(BROWSERS["firefox"], Path(arguments[0]), arguments[1], own):
            return f"moz-extension://{arguments[1]}"
        raise SealAgentError("extension_not_allowed", f"the manifest does not list the extension {arguments[1]}")
    raise SealAgentError("extension_not_allowed", "a browser starts this program, and says for which extension")


def _chromium_manifests() -> Iterable[tuple[Browser, Path]]:
    chromiums = [browser for browser in BROWSERS.values() if not browser.firefox]
    for browser in chromiums:
        yield browser, browser.manifest()
        for folder in browser.system:
            yield browser, Path(folder) / f"{HOST_NAME}.json"
    for path in _remembered():
        yield chromiums[0], Path(path)


def _lists(browser: Browser, path: Path, ident: str, program: str) -> bool:
    there = _read(browser, path)
    return isinstance(there, _Manifest) and ident in there.extensions and os.path.realpath(there.program) == program


def _read(browser: Browser, path: Path) -> _Manifest | Fault | None:
    """Return a manifest, what is wrong with it, or None where there is none."""
    try:
        value = json.loads(read_regular(path, MAX_MANIFEST))
    except FileNotFoundError:
        return None
    except OSError:
        return "manifest_unreadable"
    except (ValueError, RecursionError):
        return "manifest_malformed"
    if not isinstance(value, dict) or value.get("name") != HOST_NAME or value.get("type") != "stdio":
        return "manifest_malformed"
    program, listed = value.get("path"), value.get(browser.member)
    if not isinstance(program, str) or not os.path.isabs(program) or "\0" in program or not isinstance(listed, list):
        return "manifest_malformed"
    pattern = _FIREFOX_ID if browser.firefox else _CHROMIUM_ORIGIN
    found = [pattern.fullmatch(item) if isinstance(item, str) else None for item in listed]
    idents = [match[match.re.groups] for match in found if match is not None]
    return _Manifest(program, idents) if len(idents) == len(listed) <= MAX_EXTENSIONS else "manifest_malformed"


def _write(browser: Browser, path: Path, program: Path, extensions: Sequence[str]) -> None:
    if len(extensions) > MAX_EXTENSIONS:
        raise FormatError("too_many_extensions", f"a manifest may list {MAX_EXTENSIONS} extensions")
    listed = [ident if browser.firefox else f"chrome-extension://{ident}/" for ident in dict.fromkeys(extensions)]
    value = {
        "name": HOST_NAME,
        "description": "SealAgent: seals and signs with keys on this computer",
        "path": str(program),
        "type": "stdio",
        browser.member: listed,
    }
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def _others_may_write(path: Path) -> bool:
    """Say whether another user could change a file, or put another in its place."""
    for each in (path, path.parent):
        found = each.stat()
        if found.st_uid not in (0, os.getuid()) or found.st_mode & 0o022:
            return True
    return False


def _config_home() -> Path:
    named = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(named) if os.path.isabs(named) else Path.home() / ".config"


def _roots_file() -> Path:
    """Return where manifests in further profile roots are remembered, for the host to find them."""
    return _config_home() / "sealagent" / "browser-manifests.json"


def _remembered() -> list[str]:
    try:
        value = json.loads(read_regular(_roots_file(), MAX_MANIFEST))
    except (OSError, ValueError, RecursionError):
        return []
    return [item for item in value if isinstance(item, str) and os.path.isabs(item)] if isinstance(value, list) else []


def _remember(path: Path) -> None:
    """Remember a manifest; those that are gone are forgotten."""
    kept = [item for item in _remembered() if item != str(path) and Path(item).is_file()]
    write_whole(_roots_file(), json.dumps([*kept, str(path)][-MAX_ROOTS:], indent=2).encode() + b"\n")
