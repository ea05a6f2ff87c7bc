"""Each defect of python-pkcs11 0.10.1 that sealdrivers.pkcs11.binding names: shown on the stock binding, met by ours.

Every case runs in a child process with a time limit, since some crash and some hang. When a test that shows a defect
fails, a new release has mended it, and the remedy may go.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softhsm2_fixtures import SoftToken

CHILD = Path(__file__).with_name("pkcs11_defect_children.py")
SECONDS = 30

Run = Callable[[str], Any]


@pytest.fixture
def token(softhsm_token: SoftToken) -> SoftToken:
    """A token with a P-256 key pair and a data object."""
    softhsm_token.add_key("ec-p256", label="key")
    softhsm_token.add_data(b"data", label="key")
    return softhsm_token


@pytest.fixture
def child(token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run one case in a child process; a hang counts as exit status -SIGKILL."""
    monkeypatch.setenv("PYTHONPATH", str(CHILD.parent.parent))

    def start(case: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", str(CHILD), case, str(token.module), token.serial, token.user_pin]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, -signal.SIGKILL, "", "timed out")

    return start


@pytest.fixture
def run(child: Callable[[str], subprocess.CompletedProcess[str]]) -> Run:
    """Run one case that must end well, and return its result."""

    def result(case: str) -> Any:
        done = child(case)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return result


def test_initialisation_promises_one_thread(run: Run) -> None:
    assert run("stock_initialize") == [None]
    assert run("our_initialize") == [2]  # CKF_OS_LOCKING_OK


def test_module_that_cannot_lock_is_initialised_for_one_thread(run: Run) -> None:
    assert run("our_initialize_without_locks") == [2, None]


def test_threads_break_the_stock_binding(child: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    for _ in range(5):  # a crash, a hang or an error, nearly every time
        done = child("stock_threads")
        if done.returncode != 0 or json.loads(done.stdout):
            return
    pytest.fail("the stock binding signed in four threads five times without a failure")


def test_threads_do_not_break_ours(run: Run) -> None:
    for _ in range(3):
        assert run("our_threads") == []


def test_vendor_mechanism(run: Run) -> None:
    assert run("stock_vendor_mechanism") == ["ArgumentsBad", []]
    assert run("our_vendor_mechanism") == ["MechanismNotSupported", [0x80000B21]]  # it is the module that refuses


def test_vendor_key_type(run: Run) -> None:
    assert run("stock_vendor_key_type") == "ValueError"
    assert run("our_vendor_key_type") == ["ok", ["other"]]


def test_calls_per_signature(run: Run) -> None:
    assert run("stock_calls") == {"C_GetAttributeValue": 2, "C_SignInit": 1, "C_Sign": 2}
    assert run("our_calls") == {"C_GetAttributeValue": 0, "C_SignInit": 1, "C_Sign": 1}


def test_pin_that_can_be_wiped(run: Run) -> None:
    assert run("stock_pin") == ["AttributeError", "AttributeError"]
    assert run("our_pin") == ["ok", True]  # the module reads the caller's own buffer


def test_attributes_outside_the_enumerations(run: Run) -> None:
    assert run("stock_odd_attributes") == ["ValueError", "UnicodeDecodeError"]
    assert run("our_odd_attributes") == ["ok", "ok"]


def test_failed_signature_poisons_the_session(run: Run) -> None:
    assert run("stock_failed_signature") == ["DeviceError", "OperationActive"]
    assert run("our_failed_signature") == ["DeviceFailure", "ok", True]


def test_session_whose_logout_fails(run: Run) -> None:
    assert run("stock_close") == ["DeviceError", 0]
    assert run("our_close") == ["ok", 1]


def test_sessions_of_failed_logins(run: Run) -> None:
    assert run("stock_failed_login") == [["PinIncorrect"], 20]
    assert run("our_failed_login") == [["PinIncorrect"], 1]


def test_use_after_unloading(child: Callable[[str], subprocess.CompletedProcess[str]], run: Run) -> None:
    assert child("stock_unload").returncode == -signal.SIGSEGV
    codes = run("our_close_module")
    assert len(codes) == 5
    assert "CKR_CRYPTOKI_NOT_INITIALIZED" in codes


def test_slot_events(run: Run, token: SoftToken) -> None:
    assert run("stock_slot_event") == "TypeError"
    assert run("our_slot_events") == [False, True, None, "DeviceFailure"]
    assert run("our_presence") == [[token.serial], 0, True]


def test_attribute_of_absurd_length(run: Run) -> None:
    assert run("stock_absurd_length") == "MemoryError"
    assert run("our_absurd_length") is None


def test_facts_the_stock_binding_does_not_show(run: Run) -> None:
    assert run("stock_token_facts") == []
    assert run("our_token_facts") == [4, 255, False, True]
