"""The smart-card stack of the tests: kept apart from others, and gone when it should be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from piv_card import MODULE_VARIABLE, SOCKET_VARIABLE, SmartCardError, SmartCards, missing
from piv_card.readers import PcscView

TESTS = Path(__file__).parent.parent

CHILD = """
import sys, time
from pathlib import Path
from piv_card import SmartCards
cards = SmartCards(Path(sys.argv[1]))
cards.new_card()
print("ready", flush=True)
time.sleep(600)
"""


def _processes(of: str) -> list[int]:
    """Return the processes that have a directory on their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if of.encode() in command:
                found.append(int(entry.name))
    return found


def test_two_stacks_at_once_do_not_meet(smart_cards: SmartCards) -> None:
    ours = os.environ[SOCKET_VARIABLE]
    with tempfile.TemporaryDirectory(prefix="piv") as directory:
        other = SmartCards(Path(directory))
        theirs = os.environ[SOCKET_VARIABLE]
        assert theirs != ours
        cards = [smart_cards.new_card(), other.new_card(), other.new_card()]
        with pytest.raises(SmartCardError, match="have a card"):
            other.new_card()
        for card in cards:
            assert card.inserted
            card.destroy()
        assert _processes(directory)
        other.close()
        assert _processes(directory) == []
        assert os.environ[SOCKET_VARIABLE] == ours
        assert not Path(theirs).exists()
    assert Path(ours).is_socket()


@pytest.mark.parametrize("park", [True, False])
def test_the_next_test_finds_the_readers_empty(smart_cards: SmartCards, park: bool) -> None:
    card = smart_cards.new_card(insert=False)
    reader = card.insert()
    card.destroy(park=park)
    if park:
        PcscView().wait(reader, present=True, seconds=0)
    smart_cards.empty()
    PcscView().wait(reader, present=False, seconds=0)


def test_nothing_outlives_a_test_run_that_is_killed(smart_cards: SmartCards) -> None:
    with tempfile.TemporaryDirectory(prefix="piv") as directory:
        run = subprocess.Popen(
            [sys.executable, "-c", CHILD, directory],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )
        assert run.stdout is not None
        with run.stdout:
            assert run.stdout.readline() == b"ready\n"
        assert len(_processes(directory)) >= 2
        run.send_signal(signal.SIGKILL)
        run.wait()
        deadline = time.monotonic() + 20
        while _processes(directory):
            assert time.monotonic() < deadline, "processes are left behind"
            time.sleep(0.05)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(MODULE_VARIABLE, str(tmp_path / "none.so"))
    assert "opensc-pkcs11" in (missing() or "")
    with pytest.raises(SmartCardError, match="install opensc-pkcs11"):
        SmartCards(tmp_path)
