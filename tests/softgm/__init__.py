"""Soft GM tokens for tests: SKF (GM/T 0016) devices in a folder, with faults on demand. TEST ONLY. See README.md."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .build import BuildError, build
from .keys import KEY_KINDS, KeyKind, certificate, new_key, session_key, spki
from .skf_token import ADMIN, ANYONE, FAULTS, NEVER, USER, SoftSkfToken
from .softskf import DIR_VARIABLE, FAULTS_VARIABLE, SoftSkf

__all__ = [
    "ADMIN",
    "ANYONE",
    "DIR_VARIABLE",
    "FAULTS",
    "FAULTS_VARIABLE",
    "KEY_KINDS",
    "NEVER",
    "USER",
    "BuildError",
    "KeyKind",
    "SoftSkf",
    "SoftSkfToken",
    "build",
    "certificate",
    "new_key",
    "session_key",
    "softskf",
    "softskf_new_token",
    "softskf_token",
    "spki",
]


@pytest.fixture(scope="session")
def softskf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftSkf]:
    """The soft SKF library with a folder of devices for the session.

    Where it cannot be built this is a failure if ``CI`` is set, and a skip with the reason elsewhere.
    """
    try:
        libraries = build()
    except BuildError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    skf = SoftSkf(libraries, Path(tmp_path_factory.mktemp("softskf")))
    yield skf
    skf.close()


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
