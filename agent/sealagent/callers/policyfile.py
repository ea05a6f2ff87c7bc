"""``policy.toml`` on the disk: read whole, looked at again before every use, and never half in force.

A file that is wrong, cannot be read, could be written by anybody or has vanished denies everything until it is mended:
what it forbade before would be allowed otherwise.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from sealagent.callers.policy import Policy
from sealagent.errors import SealAgentError
from sealagent.files import read_regular

__all__ = ["MAX_POLICY_BYTES", "PolicyFile", "parse_policy", "read_policy"]

log = logging.getLogger(__name__)

MAX_POLICY_BYTES = 4 << 20
"""A larger file is refused unread: 10 000 rules of 400 octets."""
SETTLED_NS = 100_000_000
"""A file that changed less than 0.1 s before it was read may change again without its times showing it (they move in
steps of up to 10 ms): it is read once more."""

_State: TypeAlias = tuple[int, int, int, int, int]
"""Device, inode, octets, times of the last change of the content and of the inode in nanoseconds."""


def parse_policy(octets: bytes, named: str) -> Policy:
    """Read the text of a policy.

    :param octets: UTF-8. :param named: what the file is called in errors.
    :raises SealAgentError: ``policy_invalid``, naming file, key and what is wrong.
    """
    try:
        values = tomllib.loads(octets.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # also numbers and nesting beyond what Python takes
        raise _invalid(named, "", str(error) or "it is nested too deeply") from None
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = [str(part) for part in first["loc"]]
        message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        if where[:1] == ["rules"] and len(where) > 1:
            message = f"{message}{_rule_named(values, first['loc'][1])}"
        raise _invalid(named, ".".join(where), message) from None


def read_policy(path: Path) -> Policy:
    """Read a policy from a file. :raises SealAgentError: ``policy_invalid``."""
    try:
        _require_protected(path)
        octets = read_regular(path, MAX_POLICY_BYTES)
    except OSError as error:
        raise _invalid(str(path), "", error.strerror or str(error)) from error
    return parse_policy(octets, str(path))


class PolicyFile:
    """The policy in force.

    :param places: where the file may be; the first that exists counts. None exists: the defaults are in force.
    :param required: whether there must be one.
    :raises SealAgentError: ``policy_invalid``: the agent must not start with it.
    """

    def __init__(self, places: Sequence[Path], *, required: bool = False) -> None:
        self._places = tuple(places)
        self._required = required
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._state: _State | None = None
        """The file as it was when it was read; None: it must be read (again)."""
        self._policy: Policy | SealAgentError = Policy()
        self.current()

    @property
    def path(self) -> Path | None:
        """The file in force; None: the defaults are."""
        return self._path

    def current(self) -> Policy:
        """Return the policy of this moment; reads the file if it changed, else takes microseconds.

        :raises SealAgentError: ``policy_invalid``: nothing may be allowed until the file is mended.
        """
        with self._lock:
            self._refresh()
            if isinstance(self._policy, SealAgentError):
                raise SealAgentError(self._policy.code, self._policy.message, **self._policy.facts)
            return self._policy

    def _refresh(self) -> None:
        try:
            found = self._find()
        except OSError as error:
            self._fail(_invalid(str(error.filename), "", error.strerror or str(error)))
            return
        if found is None:
            if self._path is not None:
                self._fail(_invalid(str(self._path), "", "the policy that was in force is gone"))
            elif self._required:
                self._fail(_invalid(str(self._places[0]), "", "there is no such file"))
            return
        path, state = found
        if (path, state) == (self._path, self._state):
            return
        now = time.time_ns()
        try:
            policy: Policy | SealAgentError = read_policy(path)
            if self._path is not None and policy != self._policy:
                log.info("the policy changed: %s", path)
            self._policy = policy
        except SealAgentError as error:
            self._fail(error)
        self._path = path
        settled = not 0 <= now - state[4] < SETTLED_NS and found == self._found_again()
        self._state = state if settled else None

    def _fail(self, error: SealAgentError) -> None:
        self._state = None
        if not isinstance(self._policy, SealAgentError) or self._policy.message != error.message:
            log.error("nothing is allowed until the policy is mended: %s", error.message)
        self._policy = error

    def _found_again(self) -> tuple[Path, _State] | None:
        try:
            return self._find()
        except OSError:
            return None

    def _find(self) -> tuple[Path, _State] | None:
        """Return the first file there is. :raises OSError: it cannot be told whether there is one."""
        for path in self._places:
            try:
                found = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            return path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        return None


def _require_protected(path: Path) -> None:
    """Refuse a file that other users could have written.

    :raises SealAgentError: ``policy_invalid``. :raises OSError: it cannot be looked at.
    """
    found = os.stat(path)
    if found.st_uid not in (0, os.geteuid()):
        raise _invalid(str(path), "", f"it belongs to user {found.st_uid}, neither root nor you")
    if stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IWOTH:
        raise _invalid(str(path), "", "anybody may write it: chmod o-w")


def _rule_named(values: dict[str, object], index: int | str) -> str:
    """Return the name of a rule for people, who do not count from 0."""
    rules = values.get("rules")
    rule = rules[index] if isinstance(rules, list) and isinstance(index, int) and index < len(rules) else None
    name = rule.get("name") if isinstance(rule, dict) else None
    return (
        f" (rule {name[:64]!r})" if isinstance(name, str) else f" (rule {index + 1})" if isinstance(index, int) else ""
    )


def _invalid(file: str, key: str, what: str) -> SealAgentError:
    where = f"{file}: {key}: " if key else f"{file}: "
    return SealAgentError("policy_invalid", f"{where}{what}", file=file, key=key)
