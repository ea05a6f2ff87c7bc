"""The drivers the contract suite runs through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract_providers import PROVIDERS, DriverCase


@pytest.fixture(params=PROVIDERS)
def driver_case(request: pytest.FixtureRequest) -> Iterator[DriverCase]:
    """A fresh token of each provider, and the driver opened on its module."""
    provider = PROVIDERS[request.param](request)
    token = provider.new_token()
    driver = provider.open()
    yield DriverCase(provider, token, driver)
    driver.close()
