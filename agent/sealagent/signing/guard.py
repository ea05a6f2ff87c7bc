"""The only way from the signing line to a device: a permit is looked at again, and charged, right beside the call.

Whatever stands between a decision and a signature (a prompt, a queue, a worker's restart) may take minutes. A confused
line that asks for another key, or a grant that was taken back meanwhile, must end here, for every driver alike.
"""

from __future__ import annotations

import asyncio

from sealagent.callers.model import Effect
from sealagent.callers.policy import local_day
from sealagent.clock import Clock
from sealagent.errors import SealAgentError
from sealagent.signing.authorize import Authorizer, Grants, Permit, require_covered
from sealagent.uses import Operation
from sealdrivers.contract import Mechanism, TokenService
from sealdrivers.errors import LoginRequired

__all__ = ["Guard"]


class Guard:
    """Signs on behalf of permits.

    :param authorizer: decides once more. :param grants: is charged.
    """

    def __init__(self, tokens: TokenService, authorizer: Authorizer, grants: Grants, clock: Clock) -> None:
        self._tokens = tokens
        self._authorizer = authorizer
        self._grants = grants
        self._clock = clock

    async def sign(
        self,
        permit: Permit,
        key_uri: str,
        mechanism: Mechanism,
        digest: bytes,
        pin: bytearray | None = None,
        *,
        confirmed_last_try: bool = False,
    ) -> bytes:
        """Sign a digest on the device, once for each signature that the permit is good for.

        A signature that the device did not even begin, because it wants a new login, can be tried again at no charge.

        :raises SealAgentError: ``permit_mismatch``: it is for something else, nobody agreed to it, or it is used up;
            ``use_denied``, ``grant_ended``, ``grant_spent``, ``policy_limit_reached``, ``batch_item_unknown``: what it
            rests on is no more. Nothing was sent to the device then.
        :raises DriverError: the device's.
        """
        await self._pay(permit, key_uri, digest)
        try:
            signature = await self._tokens.sign(key_uri, mechanism, digest, pin, confirmed_last_try=confirmed_last_try)
        except LoginRequired:
            raise
        except BaseException:
            permit.used()
            raise
        permit.used()
        return signature

    async def pass_through(self, permit: Permit, key_uri: str) -> None:
        """Let a change of the token pass that is no signature. :raises SealAgentError: as :meth:`sign`."""
        await self._pay(permit, key_uri, None)
        permit.used()

    async def _pay(self, permit: Permit, key_uri: str, digest: bytes | None) -> None:
        self._require(permit, key_uri, digest)
        if permit.unpaid:
            await self._charge(permit)
            permit.unpaid = False

    def _require(self, permit: Permit, key_uri: str, digest: bytes | None) -> None:
        if permit.use.key != key_uri:
            raise _mismatch("it is for another key")
        if permit.left < 1:
            raise _mismatch("it is used up")
        if permit.ask or permit.decision.effect is Effect.DENY:
            raise _mismatch("nobody agreed to it")
        if permit.approval is not None:
            if permit.use.operation is Operation.RAW and permit.item != digest:
                raise _mismatch("it is for another digest")
            require_covered(permit.approval, permit.caller, permit.item)
        self._authorizer.decided(permit.caller, permit.use)

    async def _charge(self, permit: Permit) -> None:
        """Charge what allows the use, durably; what the holder agreed to just now costs nothing."""
        decision = permit.decision
        if permit.agreed is not None:
            return
        now = self._clock()
        if decision.source == "grant":
            await asyncio.to_thread(self._grants.spend, decision.name, now)
        elif decision.source == "rule" and decision.per_day is not None:
            await asyncio.to_thread(self._grants.count_rule, decision.name, local_day(now), decision.per_day)


def _mismatch(why: str) -> SealAgentError:
    return SealAgentError("permit_mismatch", f"the permit does not cover this signature: {why}")
