"""Signed lists of the states of seals: whose they are, which issue counts, and none older than one used before."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sealagent.pki.trust import TrustRole
from sealagent.seals.status import SealState, StateChange
from sealagent.status.lists import ListFloors, SignedLists
from sealagent.status.policy import Unavailable
from sealagent.status.services import HttpService
from status_parts import (
    VALID,
    changes,
    listed_entry,
    trusting,
)
from status_world import HOUR, MINUTE, StatusWorld, gone

# Lists


def listing(asking: StatusWorld, *paths: Path, **settings: Any) -> None:
    floors = ListFloors(asking.state / "status" / "lists.json")
    asking.lists = tuple(SignedLists(path, floors, **settings) for path in paths)
    asking.trust = trusting(
        listed_entry(asking.party.maker, TrustRole.MAKER), listed_entry(asking.unit.signer, TrustRole.STATUS)
    )


@pytest.fixture
def folder(asking: StatusWorld) -> Path:
    path = asking.state / "lists"
    path.mkdir()
    listing(asking, path)
    return path


def test_a_list_answers_where_nobody_can_be_asked(asking: StatusWorld, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(asking.unit.list(3))
    status = asking.ask(asking.client())
    assert (status.source, status.history, status.stale) == ("list unit-seals 3", asking.unit.history, False)
    assert status.evidence == (folder / "unit.p7").read_bytes()
    assert asking.questions == 0


def test_a_single_file_is_a_list_too(asking: StatusWorld, folder: Path) -> None:
    file = folder / "unit.p7"
    listing(asking, file)
    file.write_bytes(asking.unit.list())
    assert asking.state_of(asking.client()) == "valid"


def test_a_newer_list_takes_the_place_of_an_older_one(asking: StatusWorld, folder: Path) -> None:
    client = asking.client(cached=MINUTE)
    (folder / "1.p7").write_bytes(asking.unit.list(1))
    assert asking.state_of(client) == "valid"
    asking.now += 2 * MINUTE
    asking.unit.history = changes(asking.party.start, *VALID, SealState.SUSPENDED)
    (folder / "2.p7").write_bytes(asking.unit.list(2))
    assert asking.state_of(client) == "suspended"


@pytest.mark.parametrize("restart", [False, True])
def test_a_list_rolled_back_is_refused_even_after_the_newer_one_was_removed(
    asking: StatusWorld, folder: Path, restart: bool
) -> None:
    old = asking.unit.list(1)
    (folder / "2.p7").write_bytes(asking.unit.list(2))
    client = asking.client(cached=MINUTE)
    assert asking.state_of(client) == "valid"
    (folder / "2.p7").unlink()
    (folder / "1.p7").write_bytes(old)
    asking.now += 2 * MINUTE
    if restart:
        listing(asking, folder)
        client = asking.client()
    status = asking.ask(client)
    assert (status.history, "status_list_rolled_back" in status.detail) == ((), True)


def test_two_lists_of_one_sequence_are_a_conflict(asking: StatusWorld, folder: Path) -> None:
    (folder / "a.p7").write_bytes(asking.unit.list(2))
    client = asking.client(cached=MINUTE)
    assert asking.state_of(client) == "valid"
    asking.now += 2 * MINUTE
    (folder / "a.p7").write_bytes(asking.unit.list(2))
    assert "status_list_conflict" in asking.ask(client).detail


def test_nobody_outranks_the_list_of_another(asking: StatusWorld, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(asking.unit.list(2))
    honest, asking.unit.signer = asking.unit.signer, asking.party.signer
    (folder / "forged.p7").write_bytes(asking.unit.list(2**53 - 1))
    asking.unit.signer = honest
    client = asking.client()
    assert asking.state_of(client) == "valid"
    assert asking.ask(client).source == "list unit-seals 2"


def test_a_list_out_of_date(asking: StatusWorld, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(asking.unit.list())
    asking.now += HOUR
    assert "out of date since" in asking.ask(asking.client()).detail
    client = asking.client(unavailable=Unavailable.OFFLINE, offline=2 * HOUR)
    assert asking.state_of(client) == "valid (old)"
    asking.now += HOUR + MINUTE
    assert asking.state_of(client) == "unknown"


def test_a_seal_that_no_list_knows(asking: StatusWorld, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(asking.unit.list(seals={}))
    status = asking.ask(asking.client())
    assert (status.history, status.source, "not known there" in status.detail) == ((), "list unit-seals 1", True)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "signed_message_invalid"),
        (b"\x30\x03\x02\x01\x01", "signed_message_invalid"),
        (None, "there is no list"),
    ],
)
def test_files_that_are_no_lists(asking: StatusWorld, folder: Path, octets: bytes | None, why: str) -> None:
    (folder / ".hidden").write_bytes(b"")
    (folder / "sub").mkdir()
    if octets is not None:
        (folder / "bad.p7").write_bytes(octets)
    assert why in asking.ask(asking.client()).detail
    (folder / "good.p7").write_bytes(asking.unit.list())
    assert asking.state_of(asking.client()) == "valid", "a bad file does not keep a good one from being used"


def test_a_folder_that_is_not_there_or_too_full(
    asking: StatusWorld, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing(asking, folder / "absent")
    assert "status_answer_refused" in asking.ask(asking.client()).detail
    monkeypatch.setattr("sealagent.status.lists.MAX_FILES", 2)
    listing(asking, folder)
    for number in range(3):
        (folder / f"{number}.p7").write_bytes(b"")
    assert "3 files" in asking.ask(asking.client()).detail


def test_without_its_memory_no_list_is_used(asking: StatusWorld, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(asking.unit.list())
    memory = asking.state / "status" / "lists.json"
    memory.parent.mkdir()
    memory.write_bytes(b"{}")
    status = asking.ask(asking.client())
    assert (status.history, "status_state_failed" in status.detail) == ((), True)


def test_a_list_is_read_again_only_when_it_was_changed(
    asking: StatusWorld, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    from sealagent.status import lists

    original = lists.read_list
    monkeypatch.setattr(lists, "read_list", lambda content: (read.append("list"), original(content))[1])
    (folder / "unit.p7").write_bytes(asking.unit.list())
    client = asking.client(cached=timedelta(0))
    for _ in range(3):
        asking.ask(client)
    assert len(read) == 1


def test_a_service_comes_before_a_list(asking: StatusWorld, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(asking.unit.list())
    service = HttpService(asking.server.url, lambda *_: b"")
    assert asking.ask(asking.client(services=[service])).source == asking.server.url
    asking.server.answer = gone
    asking.state = asking.state / "other"
    assert asking.ask(asking.client(services=[service])).source == "list unit-seals 1"


def test_a_list_that_is_older_than_what_a_service_said(asking: StatusWorld, folder: Path) -> None:
    (folder / "unit.p7").write_bytes(asking.unit.list())
    asking.now += MINUTE
    asking.unit.history = (*changes(asking.party.start, *VALID), StateChange(SealState.SUSPENDED, asking.now))
    service = HttpService(asking.server.url, lambda *_: b"")
    client = asking.client(services=[service], cached=MINUTE, unavailable=Unavailable.WARN)
    assert asking.state_of(client) == "suspended"
    asking.server.answer = gone
    asking.now += 2 * MINUTE
    assert asking.state_of(client) == "suspended (old)"
