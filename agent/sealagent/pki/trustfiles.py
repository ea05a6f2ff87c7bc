"""Trust lists as files: one file a list, whole or not at all, readable by its owner only.

The first line is canonical JSON: the newest version that was ever accepted, and by whom it was signed. Behind it stands
that version itself, a signed message in DER; nothing stands there when the list was removed, for what was seen must be
remembered longer than the list is kept.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealagent.errors import LimitExceeded, SealAgentError
from sealagent.files import read_regular, write_whole
from sealagent.pki.trustlist import LIST_ID, MAX_TRUST_LIST, TrustList

__all__ = ["MAX_REMEMBERED", "Floor", "Kept", "TrustFiles", "floor_of"]

MAX_REMEMBERED = 256  # lists of which something is remembered: 34 provinces, some dozens of ministries, tests
MAX_HEADER = 4096  # octets of the first line: eight digests and some numbers have 900

_SUFFIX = ".list"
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MEMBERS = {"format", "list", "sequence", "content_sha256", "signer", "next_signers"}


@dataclass(frozen=True, slots=True)
class Floor:
    """The newest version of a list that was ever accepted: nothing older is taken again."""

    sequence: int
    content_sha256: str
    signer: str
    """SHA-256 of the signer's certificate."""
    next_signers: tuple[str, ...]

    @property
    def successors(self) -> frozenset[str]:
        """Who may sign the next version."""
        return frozenset((self.signer, *self.next_signers))


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file says."""

    floor: Floor
    message: bytes
    """The signed message; empty when the list was removed, or is kept elsewhere."""


def floor_of(version: TrustList) -> Floor:
    """Return what is to be remembered of a version that was accepted."""
    return Floor(version.sequence, version.content_sha256, version.signer.sha256, version.next_signers)


class TrustFiles:
    """The files in one directory.

    :param directory: made with mode 0700 when the first one is written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read_all(self) -> tuple[dict[str, Kept], dict[str, str]]:
        """Read every file; return what can be read by list, and what is wrong with the others by list.

        :raises SealAgentError: ``trust_store_failed`` when the directory cannot be read.
        """
        found: dict[str, Kept] = {}
        wrong: dict[str, str] = {}
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return found, wrong
        except OSError as error:
            raise SealAgentError("trust_store_failed", f"the trust lists cannot be read: {error.strerror}") from error
        for name in sorted(names):
            list_id = name.removesuffix(_SUFFIX)
            if not name.endswith(_SUFFIX) or not LIST_ID.fullmatch(list_id):
                continue  # not ours
            try:
                if len(found) >= MAX_REMEMBERED:
                    raise LimitExceeded("trust_store_full", f"more than {MAX_REMEMBERED} lists")
                found[list_id] = _parse(list_id, self._read(name))
            except OSError as error:
                wrong[list_id] = f"it cannot be read: {error.strerror}"
            except SealAgentError as error:
                wrong[list_id] = error.message
        return found, wrong

    def write(self, list_id: str, kept: Kept) -> None:
        """Write a list's file beside its place, make it durable, then rename: a reader sees the old one or the new.

        :param list_id: of the form that :data:`.trustlist.LIST_ID` allows.
        :raises SealAgentError: ``trust_store_failed``; what was there is still there.
        """
        if not LIST_ID.fullmatch(list_id):
            raise ValueError("an identifier that was not checked is no file name")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o700)
            write_whole(self._directory / (list_id + _SUFFIX), _header(list_id, kept.floor) + kept.message)
        except OSError as error:
            raise SealAgentError("trust_store_failed", f"the trust list could not be kept: {error.strerror}") from error

    def _read(self, name: str) -> bytes:
        return read_regular(self._directory / name, MAX_HEADER + MAX_TRUST_LIST, follow=False)


def _header(list_id: str, floor: Floor) -> bytes:
    value = {
        "format": 1,
        "list": list_id,
        "sequence": floor.sequence,
        "content_sha256": floor.content_sha256,
        "signer": floor.signer,
        "next_signers": [*floor.next_signers],
    }
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def _parse(list_id: str, octets: bytes) -> Kept:
    """Read a file. :raises SealAgentError: ``trust_list_damaged``."""
    head, _, message = octets.partition(b"\n")
    try:
        value = json.loads(head[:MAX_HEADER])
        floor = _floor(value)
        if _header(list_id, floor) != head + b"\n":
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise SealAgentError("trust_list_damaged", "its first line is damaged") from None
    return Kept(floor, message)


def _floor(value: Any) -> Floor:
    """Take the values from a first line; that it is the one way to write them is for the caller."""
    if not isinstance(value, dict) or value.keys() != _MEMBERS or type(value["sequence"]) is not int:
        raise ValueError
    digests: list[Any] = [value["content_sha256"], value["signer"], *value["next_signers"]]
    if value["sequence"] < 1 or not all(isinstance(each, str) and _SHA256.fullmatch(each) for each in digests):
        raise ValueError
    return Floor(value["sequence"], digests[0], digests[1], tuple(digests[2:]))
