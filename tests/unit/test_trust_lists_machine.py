"""Adding, updating, removing and restarting in any order: no older version of a trust list ever comes in."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from trust_store_parts import CENTRE, HEIR, MALLORY, START, Store, version

from sealagent.errors import SealAgentError
from sealagent.pki.trustlist import TrustList, read_trust_list
from trust_parts import Publisher


@functools.cache
def _all_versions() -> list[tuple[Publisher, bytes]]:
    """Versions 1 to 4 by each publisher, each in two forms."""
    return [
        (by, version(sequence, by, next_signers=names))
        for sequence in range(1, 5)
        for by in (CENTRE, HEIR, MALLORY)
        for names in ((), (HEIR.sha256,))
    ]


class Versions(RuleBasedStateMachine):
    """Whatever is brought in and whoever brings it: the version in force never goes back, nor does its memory."""

    data = Bundle("data")

    @initialize(target=data)
    def publish(self) -> object:
        return multiple(*_all_versions())

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory(prefix="trust")
        self.store = Store(Path(self.place.name) / "trust")
        self.highest = 0
        self.content = ""
        self.successors: frozenset[str] = frozenset()
        self.kept: int | None = None

    def teardown(self) -> None:
        self.place.cleanup()

    def _came_in(self, found: TrustList) -> None:
        assert found.sequence >= self.highest
        assert found.sequence > self.highest or found.content_sha256 == self.content
        self.highest, self.content, self.kept = found.sequence, found.content_sha256, found.sequence
        self.successors = frozenset((found.signer.sha256, *found.next_signers))

    @rule(data=data, confirmed=st.sampled_from([CENTRE, HEIR, MALLORY]), open_eyes=st.booleans())
    def add(self, data: tuple[Publisher, bytes], confirmed: Publisher, open_eyes: bool) -> None:
        by, octets = data
        parsed = read_trust_list(octets, START)
        same = self.kept == parsed.sequence and self.content == parsed.content_sha256
        may = (
            by is confirmed
            and (self.kept is None or same)
            and (not self.successors or open_eyes or by.sha256 in self.successors)
            and (parsed.sequence > self.highest or parsed.content_sha256 == self.content)
        )
        try:
            found = self.store.add(octets, confirmed, new_signer=open_eyes)
        except SealAgentError as error:
            # One content signed by another of its signers is no new version: it may be brought in as an update.
            assert not may or (same and error.code == "trust_list_exists")  # noqa: PT017
        else:
            assert may
            self._came_in(found)

    @rule(data=data)
    def update(self, data: tuple[Publisher, bytes]) -> None:
        by, octets = data
        parsed = read_trust_list(octets, START)
        may = (
            self.kept is not None
            and by.sha256 in self.successors
            and (parsed.sequence > self.highest or parsed.content_sha256 == self.content)
        )
        try:
            found = self.store.lists.update(octets)
        except SealAgentError:
            assert not may
        else:
            assert may
            self._came_in(found)

    @rule()
    def remove(self) -> None:
        try:
            self.store.lists.remove("beijing")
        except SealAgentError as error:
            assert (error.code, self.kept) == ("trust_list_not_found", None)  # noqa: PT017
        else:
            assert self.kept is not None
            self.kept = None

    @rule()
    def restart(self) -> None:
        self.store.again()

    @rule(data=data)
    def somebody_puts_an_old_message_into_the_file(self, data: tuple[Publisher, bytes]) -> None:
        if self.kept is None:
            return
        _, octets = data
        if read_trust_list(octets, START).content_sha256 == self.content:
            return
        head = self.store.file().read_bytes().split(b"\n", 1)[0]
        good = self.store.file().read_bytes()
        self.store.file().write_bytes(head + b"\n" + octets)
        assert self.store.again().lists == ()
        self.store.file().write_bytes(good)
        self.store.again()

    @invariant()
    def what_is_in_force_is_the_highest_that_came_in(self) -> None:
        assert self.store.sequences == ({} if self.kept is None else {"beijing": self.highest})
        assert self.store.lists.faults == ()


TestVersions = Versions.TestCase
TestVersions.settings = settings(deadline=None, max_examples=60, stateful_step_count=25)
