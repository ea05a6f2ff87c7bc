"""Permits beside the driver call: for every driver, what is not allowed at that moment never reaches the device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from contract_checks import digest_for, verify
from contract_providers import DriverCase, KeyPair

from permit_parts import CALLER, NOON, Scene, scene
from sealagent.callers.model import Effect
from sealagent.errors import SealAgentError
from sealagent.signing.authorize import Permit
from sealagent.uses import Operation, Use
from sealdrivers.contract import Key, Mechanism
from sealdrivers.errors import LoginRequired


class Device:
    """The driver's key as the guard sees it, counting what reaches it."""

    def __init__(self, case: DriverCase, pair: KeyPair) -> None:
        self.pair = pair
        self.mechanism = case.mechanism
        self.digest = digest_for(self.mechanism)
        self.token_uri = case.present().info.uri
        self.key: Key = case.only_key()
        self.calls = 0

    @property
    def use(self) -> Use:
        return Use(Operation.RAW, self.key.info.uri, self.token_uri)

    async def sign(self, uri: str, mechanism: Mechanism, digest: bytes, pin: Any = None, **_: Any) -> bytes:
        self.calls += 1
        assert uri == self.key.info.uri
        return self.key.sign(mechanism, digest, pin)


@pytest.fixture
def device(driver_case: DriverCase) -> Device:
    pair = driver_case.token.put_key(driver_case.kind, b"\x01")
    driver_case.login()
    return Device(driver_case, pair)


@pytest.fixture
def place(device: Device, tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, device) as opened:
        yield opened


def sign(place: Scene, device: Device, permit: Permit, digest: bytes | None = None) -> bytes:
    octets = device.digest if digest is None else digest
    return asyncio.run(place.guard.sign(permit, device.key.info.uri, device.mechanism, octets))


def refusal(place: Scene, device: Device, permit: Permit, digest: bytes | None = None) -> str:
    """Return why nothing is signed, having seen that nothing reached the device."""
    before = device.calls
    with pytest.raises(SealAgentError) as caught:
        sign(place, device, permit, digest)
    assert device.calls == before
    return caught.value.code


def test_what_is_allowed_is_signed_once(place: Scene, device: Device) -> None:
    place.grant(remaining=5)
    permit = place.authorizer.permit(CALLER, device.use)
    verify(device.pair.spki, device.mechanism, sign(place, device, permit), device.digest)
    assert place.book.get("g1").remaining == 4
    assert refusal(place, device, permit) == "permit_mismatch"  # it was for one
    assert place.book.get("g1").remaining == 4


def test_a_counted_grant_ends_with_its_last_signature(place: Scene, device: Device) -> None:
    place.grant(remaining=2)
    for _ in range(2):
        sign(place, device, place.authorizer.permit(CALLER, device.use))
    # What was decided while it still had one, by two requests at once, is charged at the device.
    place.grant(id="g2", remaining=1)
    permits = [place.authorizer.permit(CALLER, device.use) for _ in range(2)]
    sign(place, device, permits[0])
    assert refusal(place, device, permits[1]) == "grant_spent"


Change = Callable[[Scene], Any]

CHANGES: dict[str, tuple[Change, str]] = {
    "revoked": (lambda place: place.book.revoke("g1"), "grant_ended"),
    "expired": (lambda place: setattr(place, "now", NOON + timedelta(days=2)), "grant_ended"),
    "forbidden": (lambda place: place.grant(Effect.DENY, id="a0"), "use_denied"),
    "policy": (lambda place: (place.book.revoke("g1"), setattr(place, "default", Effect.DENY)), "use_denied"),
}


@pytest.mark.parametrize(("change", "code"), CHANGES.values(), ids=CHANGES)
def test_what_ends_while_the_holder_reads_a_prompt_counts(
    place: Scene, device: Device, change: Change, code: str
) -> None:
    place.grant(expires=NOON + timedelta(days=1))
    permit = place.authorizer.permit(CALLER, device.use)
    change(place)
    assert refusal(place, device, permit) == code


def test_a_session_grant_ends_with_the_session(place: Scene, device: Device) -> None:
    place.grant(session=(device.token_uri, 1))
    permit = place.authorizer.permit(CALLER, device.use)
    place.holder.number += 1  # the token was pulled, and is back
    assert refusal(place, device, permit) == "grant_ended"


def test_a_rule_with_a_daily_limit(place: Scene, device: Device) -> None:
    place.per_day = 1
    sign(place, device, place.authorizer.permit(CALLER, device.use))
    assert refusal(place, device, place.authorizer.permit(CALLER, device.use)) == "policy_limit_reached"
    place.now += timedelta(days=1)
    sign(place, device, place.authorizer.permit(CALLER, device.use))


def test_nobody_agreed(place: Scene, device: Device) -> None:
    permit = place.authorizer.permit(CALLER, device.use)
    assert permit.ask
    assert refusal(place, device, permit) == "permit_mismatch"


def test_a_permit_for_another_key(place: Scene, device: Device) -> None:
    place.grant()
    permit = place.authorizer.permit(CALLER, replace(device.use, key=device.use.key + "x"))
    assert refusal(place, device, permit) == "permit_mismatch"


def test_a_grant_for_another_seal_key_operation_or_format(place: Scene, device: Device) -> None:
    for number, terms in enumerate(
        ({"seal": "other"}, {"key": "other"}, {"operation": Operation.DOCUMENT}, {"formats": ("ofd",)})
    ):
        place.grant(id=f"g{number}", **terms)
    assert place.authorizer.permit(CALLER, device.use).ask


class Batch:
    """A list of one digest, which can end."""

    id = "b1"

    def __init__(self, digest: bytes) -> None:
        self.digest: bytes | None = digest

    def covers(self, caller: Any, item: bytes) -> bool:
        return item == self.digest


def test_a_batch_covers_its_items_and_no_other(place: Scene, device: Device) -> None:
    batch = Batch(device.digest)
    permit = place.authorizer.permit(CALLER, device.use, approval=batch, item=device.digest)
    other = bytes(len(device.digest))
    assert refusal(place, device, permit, other) == "permit_mismatch"
    sign(place, device, permit)
    with pytest.raises(SealAgentError) as caught:
        place.authorizer.permit(CALLER, device.use, approval=batch, item=other)
    assert caught.value.code == "batch_item_unknown"
    permit = place.authorizer.permit(CALLER, device.use, approval=batch, item=device.digest)
    batch.digest = None  # cancelled meanwhile
    assert refusal(place, device, permit) == "batch_item_unknown"
    place.grant(Effect.DENY)
    with pytest.raises(SealAgentError) as caught:  # a list does not outweigh a prohibition
        place.authorizer.permit(CALLER, device.use, approval=Batch(device.digest), item=device.digest)
    assert caught.value.code == "use_denied"


def test_a_device_that_wants_a_new_login_charges_once(place: Scene, device: Device) -> None:
    place.grant(remaining=3)
    permit = place.authorizer.permit(CALLER, device.use)
    works = device.sign

    async def locked(*_: Any, **__: Any) -> bytes:
        raise LoginRequired("it was restarted")

    device.sign = locked  # type: ignore[method-assign]
    with pytest.raises(LoginRequired):
        sign(place, device, permit)
    device.sign = works  # type: ignore[method-assign]
    sign(place, device, permit)
    assert place.book.get("g1").remaining == 2
