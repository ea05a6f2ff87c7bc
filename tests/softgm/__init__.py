"""Soft GM tokens for tests: SKF (GM/T 0016) and PKCS#11 with SM2, in a folder, with faults on demand. TEST ONLY.

See README.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from softhsm2_fixtures import NOT_FOUND, find_module, find_util

from .build import PKCS11, SKF, BuildError, build
from .keys import KEY_KINDS, KeyKind, certificate, new_key, session_key, spki
from .skf_token import ADMIN, ANYONE, FAULTS, NEVER, USER, SoftSkfToken
from .sm2_token import PROFILES, SM2_FAULTS, SM2_KEY_KINDS, SoftSm2Token
from .softskf import DIR_VARIABLE, FAULTS_VARIABLE, SoftSkf
from .softsm2 import (
    SM2_DIR_VARIABLE,
    SM2_FAULTS_VARIABLE,
    SM2_MODULE_VARIABLE,
    SM2_PROFILE_VARIABLE,
    SoftSm2,
)

__all__ = [
    "ADMIN",
    "ANYONE",
    "DIR_VARIABLE",
    "FAULTS",
    "FAULTS_VARIABLE",
    "KEY_KINDS",
    "NEVER",
    "PKCS11",
    "PROFILES",
    "SKF",
    "SM2_DIR_VARIABLE",
    "SM2_FAULTS",
    "SM2_FAULTS_VARIABLE",
    "SM2_KEY_KINDS",
    "SM2_MODULE_VARIABLE",
    "SM2_PROFILE_VARIABLE",
    "USER",
    "BuildError",
    "KeyKind",
    "SoftSkf",
    "SoftSkfToken",
    "SoftSm2",
    "SoftSm2Token",
    "build",
    "certificate",
    "new_key",
    "session_key",
    "softskf",
    "softskf_new_token",
    "softskf_token",
    "softsm2",
    "softsm2_new_token",
    "softsm2_token",
    "spki",
]


def _missing(reason: str) -> NoReturn:
    """Fail where ``CI`` is set, skip with the reason elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _built(sources: Path) -> Path:
    try:
        return build(sources)
    except BuildError as error:
        _missing(str(error))


@pytest.fixture(scope="session")
def softskf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftSkf]:
    """The soft SKF library with a folder of devices for the session.

    Where it cannot be built this is a failure if ``CI`` is set, and a skip with the reason elsewhere.
    """
    skf = SoftSkf(_built(SKF), Path(tmp_path_factory.mktemp("softskf")))
    _open.append(skf)
    yield skf
    _open.remove(skf)
    skf.close()


_open: list[SoftSkf | SoftSm2] = []


@pytest.fixture(scope="module", autouse=True)
def _no_device_outlives_its_module() -> Iterator[None]:
    """Devices that tests made by ``new_token`` would be plugged in for every later test of the session."""
    yield
    for kit in _open:
        kit.destroy_tokens()


@pytest.fixture
def softskf_new_token(softskf: SoftSkf) -> Iterator[Callable[..., SoftSkfToken]]:
    """Return a function that makes devices (:meth:`SoftSkf.new_token`); they and common faults go after the test."""
    made: list[SoftSkfToken] = []

    def new_token(label: str | bytes | None = None, **facts: str | bytes | int) -> SoftSkfToken:
        made.append(softskf.new_token(label, **facts))  # type: ignore[arg-type]  # passed on as they are
        return made[-1]

    yield new_token
    softskf.clear_faults()
    for token in made:
        token.destroy()


@pytest.fixture
def softskf_token(softskf_new_token: Callable[..., SoftSkfToken]) -> SoftSkfToken:
    """Return a fresh device, deleted after the test."""
    return softskf_new_token()


@pytest.fixture(scope="session")
def softsm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftSm2]:
    """The soft SM2 module for PKCS#11 with a folder of tokens for the session.

    Where it cannot be built, or SoftHSM is missing, this is a failure if ``CI`` is set, and a skip elsewhere.
    """
    module, util = find_module(), find_util()
    if module is None or util is None:
        _missing(NOT_FOUND)
    sm2 = SoftSm2(_built(PKCS11), (module, util), Path(tmp_path_factory.mktemp("softsm2")))
    _open.append(sm2)
    yield sm2
    _open.remove(sm2)
    sm2.close()


@pytest.fixture
def softsm2_new_token(softsm2: SoftSm2) -> Iterator[Callable[..., SoftSm2Token]]:
    """Return a function that makes tokens (:meth:`SoftSm2.new_token`).

    They, common faults and the choice of a profile go after the test.
    """
    made: list[SoftSm2Token] = []

    def new_token(label: str | None = None, **facts: str | int) -> SoftSm2Token:
        made.append(softsm2.new_token(label, **facts))  # type: ignore[arg-type]  # passed on as they are
        return made[-1]

    yield new_token
    softsm2.clear_faults()
    softsm2.profile = "neutral"
    for token in made:
        token.destroy()


@pytest.fixture
def softsm2_token(softsm2_new_token: Callable[..., SoftSm2Token]) -> SoftSm2Token:
    """Return a fresh token, deleted after the test."""
    return softsm2_new_token()
