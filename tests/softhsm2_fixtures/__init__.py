"""SoftHSM2 fixtures for pytest: a token directory per session, a fresh token per test. See README.md."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .keys import KEY_KINDS, KeyKind, PrivateKey, certificate, new_key, session_key, spki
from .library import MODULE_VARIABLE, NOT_FOUND, find_module, find_util
from .process import HelperProcess, SoftHsmError
from .softhsm import SM2_CURVE, SoftHsm, SoftToken, configuration, make_token

__all__ = [
    "KEY_KINDS",
    "MODULE_VARIABLE",
    "NOT_FOUND",
    "SM2_CURVE",
    "HelperProcess",
    "KeyKind",
    "PrivateKey",
    "SoftHsm",
    "SoftHsmError",
    "SoftToken",
    "certificate",
    "configuration",
    "find_module",
    "find_util",
    "make_token",
    "new_key",
    "session_key",
    "softhsm",
    "softhsm_new_token",
    "softhsm_token",
    "spki",
]


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """SoftHSM with a token directory for the session.

    Without SoftHSM this is a failure where ``CI`` is set, and a skip with the reason elsewhere.
    """
    module, util = find_module(), find_util()
    if module is None or util is None:
        if os.environ.get("CI"):
            pytest.fail(NOT_FOUND)
        pytest.skip(NOT_FOUND)
    hsm = SoftHsm(module, util, Path(tmp_path_factory.mktemp("softhsm2")))
    _open.append(hsm)
    yield hsm
    _open.remove(hsm)
    hsm.close()


_open: list[SoftHsm] = []


@pytest.fixture(scope="module", autouse=True)
def _no_token_outlives_its_module() -> Iterator[None]:
    """Tokens that tests made by :meth:`SoftHsm.new_token` would be plugged in for every later test of the session."""
    yield
    for hsm in _open:
        hsm.destroy_tokens()


@pytest.fixture
def softhsm_new_token(softhsm: SoftHsm) -> Iterator[Callable[..., SoftToken]]:
    """Return a function that makes tokens (:meth:`SoftHsm.new_token`); they are deleted after the test."""
    made: list[SoftToken] = []

    def new_token(label: str | None = None, *, user_pin: str | None = None, so_pin: str | None = None) -> SoftToken:
        made.append(softhsm.new_token(label, user_pin=user_pin, so_pin=so_pin))
        return made[-1]

    yield new_token
    for token in made:
        token.destroy()


@pytest.fixture
def softhsm_token(softhsm_new_token: Callable[..., SoftToken]) -> SoftToken:
    """Return a fresh token, deleted after the test."""
    return softhsm_new_token()
