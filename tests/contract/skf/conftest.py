"""Devices of the soft SKF library, and the driver opened on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from skf_parts import pin

import softgm
from sealdrivers.skf.driver import SkfDriver, open_driver
from sealdrivers.skf.token import SkfToken
from softgm import SoftSkf, SoftSkfToken


@pytest.fixture
def device(softskf_new_token: Callable[..., SoftSkfToken]) -> SoftSkfToken:
    """A device with an SM2 key and its certificate in the container ``key``."""
    made = softskf_new_token("fault token")
    made.add_certificate(softgm.certificate(made.add_key("sm2")))
    return made


@pytest.fixture
def driver(softskf: SoftSkf) -> Iterator[SkfDriver]:
    opened = open_driver(softskf.library)
    yield opened
    opened.close()


@pytest.fixture
def token(driver: SkfDriver, device: SoftSkfToken) -> SkfToken:
    """The driver's view of the device."""
    (found,) = driver.tokens()
    return found


@pytest.fixture
def unlocked(token: SkfToken, device: SoftSkfToken) -> SkfToken:
    token.login(pin(device))
    return token
