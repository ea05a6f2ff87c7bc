"""The file of pairings and grants: what is written is there again, and damage is never taken for emptiness."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest

from sealagent.callers import store as module
from sealagent.callers.model import DailyHours, Effect, Grant
from sealagent.callers.store import Application, CallersStore, drop_application, drop_grant, put_application, put_grant
from sealagent.errors import SealAgentError
from sealagent.uses import Operation

NOW = datetime(2026, 11, 28, 9, 30, 0, 123456, tzinfo=UTC)
DAY = date(2026, 11, 28)


def application(name: str = "编辑器", **changes: object) -> Application:
    values: dict[str, object] = {
        "id": f"app-{name}",
        "name": name,
        "uid": 1000,
        "executable": "/usr/bin/\\xff编辑",
        "sha256": "ab" * 32,
        "origin": None,
        "token_sha256": name.encode().ljust(32, b"\0"),
        "created": NOW,
        "expires": None,
    }
    return Application(**{**values, **changes})  # type: ignore[arg-type]


GRANTS = [
    Grant("g1", "app-编辑器", Effect.ALLOW, Operation.DOCUMENT, created=NOW),
    Grant(
        "g2",
        "app-编辑器",
        Effect.ALLOW,
        Operation.DIGEST,
        seal="印章",
        key="pkcs11:token=a;id=%01",
        formats=("ofd", "pdf"),
        remaining=7,
        hours=DailyHours(time(22, 30), time(6)),
        not_before=NOW,
        expires=NOW + timedelta(days=1),
        created=NOW + timedelta(seconds=1),
        record=41,
    ),
    Grant("g3", "app-编辑器", Effect.DENY, Operation.RAW, created=NOW + timedelta(seconds=2)),
]


def filled(path: Path) -> CallersStore:
    store = CallersStore(path)
    store.write([put_application(application()), *map(put_grant, GRANTS)])
    assert store.count_rule("夜间", DAY, 5, 2)
    return store


def opening(path: Path) -> str:
    with pytest.raises(SealAgentError) as caught:
        CallersStore(path)
    return caught.value.code


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "callers.sqlite"


def test_what_is_written_is_there_after_a_restart(path: Path) -> None:
    origin = application("网页", origin="https://a.example", expires=NOW, last_used=NOW, revoked=True, record=3)
    with closing(filled(path)) as store:
        store.write([put_application(origin)])
    with closing(CallersStore(path)) as store:
        assert sorted(store.applications(), key=lambda each: each.id) == sorted(
            [application(), origin], key=lambda each: each.id
        )
        assert store.grants() == GRANTS
        assert store.rule_uses("夜间", DAY) == 2
        store.write([put_application(application(sha256="cd" * 32)), drop_grant("g1"), drop_application(origin.id)])
    with closing(CallersStore(path)) as store:
        assert [each.sha256 for each in store.applications()] == ["cd" * 32]
        assert store.grants() == GRANTS[1:]


def test_the_file_is_the_users_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        with closing(filled(path)):
            names = sorted(each.name for each in path.parent.iterdir())
            assert names == ["callers.sqlite", "callers.sqlite-wal"]
            assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(old)
    path.chmod(0o644)
    with closing(CallersStore(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_writes_are_on_the_disk_before_they_return(path: Path) -> None:
    with closing(filled(path)) as store:
        database = store._database
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_nobody_else_changes_the_file_meanwhile(path: Path) -> None:
    with closing(filled(path)):
        assert opening(path) == "callers_failed"
        with closing(sqlite3.connect(path, timeout=0)) as other, pytest.raises(sqlite3.OperationalError):
            other.execute("DELETE FROM permission")
    with closing(CallersStore(path)) as store:
        assert store.grants() == GRANTS


def test_a_killed_process_loses_nothing_that_was_written(path: Path) -> None:
    """It dies by SIGKILL with the file open, right after a write returned."""
    child = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "import test_callers_store as t\n"
        "store = t.filled(Path(sys.argv[1]))\n"
        "store.write([t.drop_grant('g1')])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    places = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run([sys.executable, "-c", child, str(path)], env={**os.environ, "PYTHONPATH": places})
    assert done.returncode == -9
    assert path.with_name("callers.sqlite-wal").stat().st_size > 0
    with closing(CallersStore(path)) as store:
        assert store.grants() == GRANTS[1:]
        assert store.rule_uses("夜间", DAY) == 2


def test_a_write_is_whole_or_not_at_all(path: Path) -> None:
    with closing(filled(path)) as store:
        wrong = ("INSERT INTO permission VALUES (?)", ("x",))
        with pytest.raises(SealAgentError) as caught:
            store.write([drop_grant("g1"), wrong])
        assert caught.value.code == "callers_failed"
        assert store.grants() == GRANTS
        store.write([drop_grant("g1")])
        assert store.grants() == GRANTS[1:]


def test_a_full_disk_is_a_named_error_and_changes_nothing(path: Path) -> None:
    with closing(filled(path)) as store:
        (pages,) = store._database.execute("PRAGMA page_count").fetchone()
        store._database.execute(f"PRAGMA max_page_count = {pages}")
        many = [put_grant(Grant(f"n{n}", "a" * 500, Effect.DENY, Operation.RAW, created=NOW)) for n in range(500)]
        with pytest.raises(SealAgentError) as caught:
            store.write(many)
        assert caught.value.code == "callers_failed"
        assert store.grants() == GRANTS


def test_after_closing_nothing_is_read_or_written(path: Path) -> None:
    store = filled(path)
    store.close()
    store.close()
    for action in (store.grants, lambda: store.write([drop_grant("g1")]), lambda: store.rule_uses("a", DAY)):
        with pytest.raises(SealAgentError) as caught:
            action()
        assert caught.value.code == "callers_failed"


def test_rules_are_counted_by_day_and_up_to_the_limit(path: Path) -> None:
    with closing(CallersStore(path)) as store:
        assert store.count_rule("a", DAY, 3, 2)
        assert not store.count_rule("a", DAY, 3, 2)
        assert store.count_rule("a", DAY, 3, 1)
        assert not store.count_rule("a", DAY, 3, 1)
        assert store.count_rule("b", DAY, 1, 1)
        tomorrow = DAY + timedelta(days=1)
        assert store.count_rule("a", tomorrow, 3, 3)
        assert not store.count_rule("a", DAY, 3, 1), "a clock that was set back starts no new day"
        for days in range(2, 100):
            assert store.count_rule("a", DAY + timedelta(days=days), 3, 1)
        assert store._database.execute("SELECT count(*) FROM rule_use").fetchone()[0] <= 33
    with closing(CallersStore(path)) as store:
        assert store.rule_uses("a", DAY + timedelta(days=99)) == 1


def test_rules_are_counted_once_each_by_many_threads(path: Path) -> None:
    with closing(CallersStore(path)) as store:
        counted: list[bool] = []
        threads = [
            threading.Thread(target=lambda: counted.append(store.count_rule("a", DAY, 10, 1))) for _ in range(25)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counted.count(True) == 10
        assert store.rule_uses("a", DAY) == 10


def test_no_other_file_is_taken_for_one(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    for content in (b"", b"\0" * 4096, b"SQLite format 3\0" + bytes(4080), b"nonsense"):
        path.write_bytes(content)
        assert opening(path) == "callers_damaged"
        assert path.read_bytes() == content
    path.unlink()
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE application (id)")
    assert opening(path) == "callers_damaged"
    path.unlink()
    path.mkdir()
    assert opening(path) == "callers_damaged"
    path.rmdir()
    path.symlink_to(tmp_path / "elsewhere")
    assert opening(path) == "callers_damaged"
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_vanished_beside_its_log_is_not_made_anew(path: Path) -> None:
    filled(path).close()
    path.unlink()
    path.with_name("callers.sqlite-wal").write_bytes(b"something")
    assert opening(path) == "callers_damaged"
    assert not path.exists()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM permission WHERE id = 'g3'",
        "DELETE FROM application",
        "UPDATE permission SET effect = 'allow' WHERE id = 'g3'",
        "UPDATE permission SET remaining = 700 WHERE id = 'g2'",
        "UPDATE permission SET expires = NULL WHERE id = 'g2'",
        "UPDATE permission SET operation = 'anything'",
        "UPDATE permission SET formats = '[' WHERE id = 'g2'",
        "UPDATE application SET revoked = 1",
        "UPDATE application SET executable = '/bin/sh'",
        "UPDATE rule_use SET used = 1",
        "UPDATE rule_use SET digest = x'00'",
        "DELETE FROM total",
        "DROP TABLE permission",
        "DROP TABLE rule_use",
        "PRAGMA user_version = 2",
        "PRAGMA application_id = 1",
    ],
)
def test_changed_rows_are_damage(path: Path, damage: str) -> None:
    filled(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(damage)
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert opening(path) == "callers_damaged"


@pytest.mark.parametrize(
    "changes",
    [
        {3: "anything"},
        {6: "["},
        {6: "7"},
        {8: "25:00", 9: "08:00"},
        {9: None},
        {11: "tomorrow"},
    ],
    ids=str,
)
def test_values_that_nobody_understands_are_damage(path: Path, changes: dict[int, str | None]) -> None:
    """As a later version of this program may write them: with their digests right."""
    with closing(CallersStore(path)) as store:
        _, values = put_grant(GRANTS[1])
        written = [changes.get(column, value) for column, value in enumerate(values[:-1])]
        store.write([module._put("permission", tuple(written))])
    assert opening(path) == "callers_damaged"


def test_a_count_that_is_damaged_while_it_is_open_allows_nothing(path: Path) -> None:
    with closing(filled(path)) as store:
        store._database.execute("UPDATE rule_use SET used = 1")
        with pytest.raises(SealAgentError) as caught:
            store.count_rule("夜间", DAY, 5, 1)
        assert caught.value.code == "callers_damaged"


def test_no_flipped_octet_and_no_cut_changes_what_is_read(path: Path, tmp_path: Path) -> None:
    """Whatever happens to the file, it opens with all that was in it, or not at all."""
    filled(path).close()
    whole = path.read_bytes()
    chance = random.Random(5)
    refused: list[str] = []
    # Every octet that counts in the pages' heads, some of the rest, and cuts.
    places = {page + offset for page in range(0, len(whole), 4096) for offset in range(0, 128, 3)}
    places |= {chance.randrange(len(whole)) for _ in range(150)}
    cases = [whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :] for at in sorted(places)]
    cases += [whole[: chance.randrange(len(whole))] for _ in range(20)]
    for number, content in enumerate(cases):
        place = tmp_path / f"case{number}"
        place.mkdir()
        damaged = place / "callers.sqlite"
        damaged.write_bytes(content)
        try:
            with closing(CallersStore(damaged)) as store:
                assert store.applications() == [application()]
                assert store.grants() == GRANTS
                assert store.rule_uses("夜间", DAY) == 2
        except SealAgentError as error:
            refused.append(error.code)
        shutil.rmtree(place)
    assert set(refused) == {"callers_damaged"}
    assert len(refused) > 50
