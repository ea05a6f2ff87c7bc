"""The drivers the contract suite runs through."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from contract_opensc import opensc
from contract_providers import DriverCase, Provider
from contract_softgm import softskf, softsm2
from contract_softhsm import softhsm2

PROVIDERS: dict[str, Callable[[pytest.FixtureRequest], Provider]] = {
    "softhsm2": softhsm2,
    "softskf": softskf,
    "softsm2": softsm2,
    "opensc": opensc,
}


@pytest.fixture(params=PROVIDERS)
def driver_case(request: pytest.FixtureRequest) -> Iterator[DriverCase]:
    """A fresh token of each provider, and the driver opened on its module."""
    provider = PROVIDERS[request.param](request)
    token = provider.new_token()
    driver = provider.open()
    yield DriverCase(provider, token, driver)
    driver.close()
