"""Revocation lists as a source of answers: fetched and kept, in files, after a restart.

Evidence is signed by openssl; only the wire is replaced: ``Web`` answers where HTTP would.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from revocation_parts import (
    OTHER_ID,
    Revoked,
    Web,
    World,
    at,
    files_in,
    make_world,
)
from sealagent.pki.crl import MAX_CRL_OCTETS
from sealagent.pki.ocsp import MAX_OCSP_OCTETS
from sealagent.pki.revocation import CertificateState
from sealagent.status import kept_files, revocation_lists
from sealagent.status.revocation_lists import REFRESH, RETRY, CrlFiles, CrlUrls

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
GOOD, REVOKED, UNKNOWN = CertificateState
OCSP, OTHER, CRL = "http://ocsp.example/", "http://other.example/", "http://crl.example/ca.crl"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), "sm2", NOW)


# Lists from addresses


def test_a_list_is_fetched_once_for_all_certificates_of_its_issuer(world: World) -> None:
    other = world.certify("Other")
    web = Web({CRL: world.crl(Revoked(other.x509.serial_number, NOW - DAY))})
    source = CrlUrls(at(CRL), web)
    for _ in range(3):
        assert source.status(world.chain, NOW, NOW).state is GOOD
        assert source.status((other.certificate, *world.chain[1:]), NOW, NOW).state is REVOKED
    assert web.asked == [CRL]
    assert web.questions == [(None, None, MAX_CRL_OCTETS)]
    assert source.status(world.chain, NOW, NOW).source == f"crl {CRL}"


def test_when_a_list_is_fetched_anew(world: World) -> None:
    web = Web({CRL: world.crl(times=(NOW, NOW + 3 * HOUR))})
    source = CrlUrls(at(CRL), web)

    def asked_again(now: datetime) -> bool:
        web.asked.clear()
        source.status(world.chain, now, now)
        return bool(web.asked)

    assert asked_again(NOW)
    assert not asked_again(NOW + REFRESH - SECOND)
    assert asked_again(NOW + REFRESH)
    assert not asked_again(NOW + REFRESH + MINUTE)
    assert asked_again(NOW + HOUR / 2)  # the clock was set back
    assert asked_again(NOW + 3 * HOUR + SECOND)  # out of date
    assert not asked_again(NOW + 3 * HOUR + RETRY)
    assert asked_again(NOW + 3 * HOUR + SECOND + RETRY)  # and still is
    del web.answers[CRL]
    assert asked_again(NOW + 4 * HOUR + MINUTE)
    assert not asked_again(NOW + 4 * HOUR + MINUTE + RETRY / 2)
    assert asked_again(NOW + 4 * HOUR + MINUTE + RETRY)


def test_a_list_that_cannot_be_had_is_named(world: World) -> None:
    status = CrlUrls(at(CRL), Web()).status(world.chain, NOW, NOW)
    assert (status.state, status.detail) == (UNKNOWN, f"{CRL}: nobody is there")
    status = CrlUrls(at(CRL), Web({CRL: b"<html>"})).status(world.chain, NOW, NOW)
    assert "not a revocation list" in status.detail
    status = CrlUrls(at(CRL), Web({CRL: world.crl(signer=world.root)})).status(world.chain, NOW, NOW)
    assert status.detail == f"{CRL}: no revocation list of CN=CA,C=CN"
    status = CrlUrls(at(CRL), Web({CRL: world.crl(distid=OTHER_ID)})).status(world.chain, NOW, NOW)
    assert "signature" in status.detail


def test_a_list_that_counts_is_used_while_no_newer_one_can_be_had(world: World) -> None:
    web = Web({CRL: world.crl(times=(NOW, NOW + 3 * HOUR))})
    source = CrlUrls(at(CRL), web)
    assert source.status(world.chain, NOW, NOW).state is GOOD
    web.answers.clear()
    status = source.status(world.chain, NOW, NOW + 2 * HOUR)
    assert (status.state, status.stale, len(web.asked)) == (GOOD, False, 2)
    assert source.status(world.chain, NOW, NOW + 4 * HOUR).state is UNKNOWN


@pytest.mark.parametrize("hours", [0, 24])
def test_a_list_out_of_date_counts_as_long_as_policy_allows(hours: int, world: World) -> None:
    web = Web({CRL: world.crl(times=(NOW, NOW + HOUR))})
    source = CrlUrls(at(CRL), web, offline=timedelta(hours=hours))
    for now, fresh in ((NOW + HOUR, True), (NOW + 2 * HOUR, False), (NOW + 24 * HOUR, False)):
        status = source.status(world.chain, NOW, now)
        assert (status.state, status.stale) == ((GOOD, not fresh) if fresh or hours else (UNKNOWN, False))
    assert source.status(world.chain, NOW, NOW + 24 * HOUR + SECOND).state is UNKNOWN


def test_an_older_list_does_not_take_the_place_of_a_newer_one(world: World) -> None:
    """Somebody between us and the CA may keep yesterday's list, which still counts by its own word."""
    old = world.crl(times=(NOW - DAY, NOW + 6 * DAY))
    new = world.crl(Revoked(world.serial, NOW - HOUR), times=(NOW, NOW + 7 * DAY))
    web = Web({CRL: new})
    source = CrlUrls(at(CRL), web)
    assert source.status(world.chain, NOW, NOW).state is REVOKED
    web.answers[CRL] = old
    later = NOW + REFRESH
    assert source.status(world.chain, NOW, later).evidence == new
    assert source.status(world.chain, NOW, later + REFRESH).state is REVOKED
    assert len(web.asked) == 3


def test_a_hold_that_ended_is_good(world: World) -> None:
    held = world.crl(Revoked(world.serial, NOW - HOUR, "certificate_hold"), times=(NOW, NOW + DAY))
    web = Web({CRL: held})
    source = CrlUrls(at(CRL), web)
    assert source.status(world.chain, NOW, NOW).reason == "certificate_hold"
    web.answers[CRL] = world.crl(times=(NOW + HOUR, NOW + DAY))
    assert source.status(world.chain, NOW, NOW + HOUR).state is GOOD


def test_a_forged_list_does_not_take_the_place_of_a_right_one(world: World) -> None:
    web = Web({CRL: world.crl(Revoked(world.serial, NOW - DAY), times=(NOW, NOW + DAY))})
    source = CrlUrls(at(CRL), web)
    assert source.status(world.chain, NOW, NOW).state is REVOKED
    forged = world.crl(times=(NOW + HOUR, NOW + 300 * DAY), signer=world.certify("CA", world.root, ca=True))
    web.answers[CRL] = forged
    assert source.status(world.chain, NOW, NOW + HOUR).state is REVOKED
    web.answers[CRL] = world.crl(times=(NOW + HOUR, NOW + 3 * HOUR))
    assert source.status(world.chain, NOW, NOW + 2 * HOUR).state is REVOKED  # a final revocation stays


def test_several_addresses(world: World) -> None:
    fresh, revoking = world.crl(), world.crl(Revoked(world.serial, NOW))
    web = Web({CRL: world.crl(signer=world.root), OTHER: fresh})
    assert CrlUrls(at(CRL, OTHER), web).status(world.chain, NOW, NOW).source == f"crl {OTHER}"
    assert CrlUrls(at(OCSP, CRL), web).status(world.chain, NOW, NOW).detail.count(";") == 1
    web.answers[CRL] = revoking
    assert CrlUrls(at(CRL, OTHER), web).status(world.chain, NOW, NOW).state is REVOKED


def test_lists_in_memory_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = world.crl()
    urls = [f"http://h{number}/" for number in range(5)]
    web = Web(dict.fromkeys(urls, listed))
    for name, value in (("MAX_LISTS", 3), ("MAX_LISTS_OCTETS", 3 * len(listed))):
        with monkeypatch.context() as patch:
            patch.setattr(revocation_lists, name, value)
            source = CrlUrls(at(*urls), web)
            for url in urls:
                source._places = at(url)
                source.status(world.chain, NOW, NOW)
            assert list(source._kept) == urls[-3:]


# Lists in files


def test_lists_in_files_and_folders(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "crls"
    folder.mkdir()
    (folder / "root.crl").write_bytes(world.crl(signer=world.root))
    (folder / "broken").write_bytes(b"<html>")
    (folder / "below").mkdir()
    file = tmp_path / "ca.pem"
    source = CrlFiles((folder, file))
    status = source.status(world.chain, NOW, NOW)
    assert (status.state, status.asked) == (UNKNOWN, True)
    assert "broken" in status.detail
    assert "ca.pem" in status.detail
    file.write_bytes(world.crl())
    status = source.status(world.chain, NOW, NOW)
    assert (status.state, status.source) == (GOOD, f"crl {file}")
    assert source.status(world.chain[1:], NOW, NOW).source == f"crl {folder / 'root.crl'}"
    file.write_bytes(world.crl(Revoked(world.serial, NOW), Revoked(1, NOW)))  # noticed at the next question
    assert source.status(world.chain, NOW, NOW).state is REVOKED
    file.unlink()
    assert source.status(world.chain, NOW, NOW).state is UNKNOWN


def test_files_are_read_again_only_when_they_changed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    honest = revocation_lists.read_regular
    monkeypatch.setattr(revocation_lists, "read_regular", lambda path, limit: read.append(path) or honest(path, limit))
    file = tmp_path / "ca.crl"
    file.write_bytes(world.crl())
    source = CrlFiles((file,))
    for _ in range(3):
        assert source.status(world.chain, NOW, NOW).state is GOOD
    assert read == [file]
    os.utime(file, (1, 1))
    source.status(world.chain, NOW, NOW)
    assert read == [file, file]


def test_changes_in_files_are_applied(world: World, tmp_path: Path) -> None:
    for name, octets in (
        ("base", world.crl(number=5, freshest="http://h/")),
        ("delta", world.crl(Revoked(world.serial, NOW), number=6, delta=5)),
        ("foreign", world.crl(number=9, delta=8)),
    ):
        (tmp_path / name).write_bytes(octets)
    source = CrlFiles((tmp_path,))
    assert source.status(world.chain, NOW, NOW).state is REVOKED
    (tmp_path / "delta").unlink()
    assert source.status(world.chain, NOW, NOW).state is GOOD
    (tmp_path / "base").unlink()
    assert source.status(world.chain, NOW, NOW).state is UNKNOWN


@pytest.mark.parametrize("hours", [0, 24])
def test_files_out_of_date_count_as_long_as_policy_allows(hours: int, world: World, tmp_path: Path) -> None:
    (tmp_path / "crl").write_bytes(world.crl(times=(NOW, NOW + HOUR)))
    source = CrlFiles((tmp_path,), offline=timedelta(hours=hours))
    assert source.status(world.chain, NOW, NOW + HOUR).stale is False
    status = source.status(world.chain, NOW, NOW + 3 * HOUR)
    assert (status.state, status.stale) == ((GOOD, True) if hours else (UNKNOWN, False))
    assert source.status(world.chain, NOW, NOW + 25 * HOUR).state is UNKNOWN


def test_files_that_are_none_do_not_stop_us(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "good").write_bytes(world.crl())
    source = CrlFiles((tmp_path / "pipe", tmp_path / "absent", tmp_path))
    assert source.status(world.chain, NOW, NOW).state is GOOD
    monkeypatch.setattr(revocation_lists, "MAX_FILES", 2)
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(b"")
    status = CrlFiles((tmp_path,)).status(world.chain, NOW, NOW)
    assert "more than 2" in status.detail


# After a restart


def test_kept_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_files, "TIDY_EVERY", 2)
    files = files_in(tmp_path, count=3)
    other = files_in(tmp_path, ".crl")
    other.keep("x", b"x", NOW - 9000 * DAY)
    for number in range(7):
        files.keep(str(number), b"%d" % number, NOW + number * DAY)
    assert [files.load(str(number)) for number in range(4)] == [None] * 4
    assert files.load("6") == (b"6", NOW + 6 * DAY)
    assert other.load("x") == (b"x", NOW - 9000 * DAY)
    files.keep("large", bytes(MAX_OCSP_OCTETS + 1), NOW)
    assert files.load("large") is None
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700


def test_lists_survive_a_restart(world: World, tmp_path: Path) -> None:
    listed = world.crl(Revoked(1, NOW), times=(NOW, NOW + HOUR))
    web = Web({CRL: listed})
    CrlUrls(at(CRL), web, files=files_in(tmp_path, ".crl")).status(world.chain, NOW, NOW)
    web.answers.clear()
    for now, state in ((NOW + HOUR, GOOD), (NOW + DAY, GOOD), (NOW + 3 * DAY, UNKNOWN)):
        source = CrlUrls(at(CRL), web, offline=DAY, files=files_in(tmp_path, ".crl"))
        status = source.status(world.chain, NOW, now)
        assert (status.state, status.stale) == (state, now == NOW + DAY)
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(b"changed")
    assert CrlUrls(at(CRL), web, files=files_in(tmp_path, ".crl")).status(world.chain, NOW, NOW).state is UNKNOWN


def test_only_lists_that_were_found_right_are_kept(world: World, tmp_path: Path) -> None:
    web = Web({CRL: world.crl(distid=OTHER_ID)})
    source = CrlUrls(at(CRL), web, files=files_in(tmp_path, ".crl"))
    assert source.status(world.chain, NOW, NOW).state is UNKNOWN
    assert not (tmp_path / "kept").exists()
    web.answers[CRL] = world.crl()
    for later in range(3):
        assert source.status(world.chain, NOW, NOW + RETRY + later * SECOND).state is GOOD
    (file,) = (tmp_path / "kept").iterdir()
    assert file.read_bytes() == web.answers[CRL]
