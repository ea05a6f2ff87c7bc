"""The life of a seal in the register: which change leads from which state to which, for which reasons, at whose wish.

One table, from which the register, the command line and the tests take everything (the Measures, Art. 17 and 18).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from sealagent.errors import SealAgentError
from sealagent.seals.status import SealState

__all__ = ["RULES", "Asker", "Change", "Rule", "allowed", "check_change"]


class Asker(StrEnum):
    """At whose wish a change is made; Art. 18 tells the first two apart for cancellation."""

    OWNER = "owner"
    ISSUING_DEPARTMENT = "issuing_department"
    """制发部门: proposes what the owner failed to apply for."""
    UNIT = "unit"
    """The production-management unit itself."""


class Change(StrEnum):
    """A kind of change, by the name of its entry in the register."""

    MADE = "made"
    FILED = "filed"
    DELIVERED = "delivered"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    """Never an entry of its own: the entry ``made`` of the seal that takes its place says so."""
    LOST = "lost"
    INVALIDATED = "invalidated"


Texts = Mapping[str, tuple[str, str]]
"""Reason codes with their meaning in English and Chinese."""

_NONE: Texts = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Rule:
    """What a change needs and what it leads to."""

    sources: frozenset[SealState]
    """States it is allowed in; empty for making, before which there is none."""
    target: SealState
    reasons: Texts = field(default_factory=lambda: _NONE)
    """One of these has to be given; empty: none is."""
    askers: frozenset[Asker] = frozenset({Asker.UNIT})


_ALL = frozenset(Asker)
_IN_HAND = frozenset({SealState.MADE, SealState.FILED})
_IN_LIFE = frozenset({SealState.VALID, SealState.SUSPENDED})

RULES: Mapping[Change, Rule] = MappingProxyType(
    {
        Change.MADE: Rule(frozenset(), SealState.MADE),
        Change.FILED: Rule(frozenset({SealState.MADE}), SealState.FILED),
        Change.DELIVERED: Rule(frozenset({SealState.FILED}), SealState.VALID),
        # Art. 17 names suspension, resumption and other changes, and leaves the grounds to the rules of each unit.
        Change.SUSPENDED: Rule(
            frozenset({SealState.VALID}),
            SealState.SUSPENDED,
            MappingProxyType(
                {
                    "owner_request": ("the owner asked for it", "所有者申请"),
                    "custody_change": ("its custodian is changing", "保管人变更"),
                    "suspected_misuse": ("it may have been misused", "疑似被冒用"),
                    "suspected_compromise": ("its key may have become known", "密钥疑似泄露"),
                    "investigation": ("an authority is investigating", "有关部门调查"),
                }
            ),
            _ALL,
        ),
        Change.RESUMED: Rule(
            frozenset({SealState.SUSPENDED}),
            SealState.VALID,
            MappingProxyType(
                {
                    "owner_request": ("the owner asked for it", "所有者申请"),
                    "matter_settled": ("what it was suspended for is settled", "停用事由已消除"),
                }
            ),
            _ALL,
        ),
        Change.CANCELLED: Rule(
            _IN_HAND | _IN_LIFE | {SealState.LOST},
            SealState.CANCELLED,
            MappingProxyType(
                {
                    "rename": ("the owner was renamed", "单位更名"),
                    "dissolution": ("the owner was dissolved", "单位解散"),
                    "revocation": ("the owner's establishment was revoked", "单位被撤销"),
                    "licence_withdrawn": ("the owner's licence was withdrawn", "被吊销营业执照"),
                    "bankruptcy": ("the owner is bankrupt", "单位破产"),
                    "split": ("the owner was split", "单位分立"),
                    "merger": ("the owner was merged", "单位合并"),
                }
            ),
            frozenset({Asker.OWNER, Asker.ISSUING_DEPARTMENT}),
        ),
        Change.SUPERSEDED: Rule(
            _IN_HAND | _IN_LIFE | {SealState.LOST},
            SealState.SUPERSEDED,
            MappingProxyType(
                {
                    "expiry": ("it has expired, or soon will", "有效期届满"),
                    "damaged_carrier": ("its carrier is damaged", "载体损坏"),
                    "lost_carrier": ("its carrier was lost", "载体遗失"),
                    "key_compromise": ("its key became known to others", "签名制作数据泄露"),
                    "certificate_renewed": ("its certificate was renewed", "证书已更新"),
                    "correction": ("it was made with a mistake", "制作有误"),
                }
            ),
            frozenset({Asker.OWNER, Asker.UNIT}),
        ),
        # A carrier that turns up again is not taken back into use: in whose hands it was nobody knows.
        Change.LOST: Rule(
            _IN_LIFE | {SealState.FILED},
            SealState.LOST,
            MappingProxyType(
                {
                    "lost_carrier": ("its carrier was lost", "载体遗失"),
                    "stolen_carrier": ("its carrier was stolen", "载体被盗"),
                }
            ),
            frozenset({Asker.OWNER, Asker.UNIT}),
        ),
        # Also after its end: whoever obtained a seal by fraud could else keep what it signed by having it cancelled.
        Change.INVALIDATED: Rule(
            frozenset(SealState) - {SealState.INVALID, SealState.UNKNOWN},
            SealState.INVALID,
            MappingProxyType(
                {
                    "forged_application": ("it was applied for with false material", "申请材料虚假"),
                    "without_authority": ("it was made without authority", "无权制作"),
                    "not_as_approved": ("it is not what was approved", "与批准内容不符"),
                    "court_decision": ("a court or an authority decided so", "司法或行政决定"),
                }
            ),
            frozenset({Asker.ISSUING_DEPARTMENT, Asker.UNIT}),
        ),
    }
)


def allowed(state: SealState) -> list[Change]:
    """Return the changes that are allowed in a state."""
    return [change for change, rule in RULES.items() if state in rule.sources]


def check_change(
    state: SealState, change: Change, reason: str, asked_by: Asker, *, seal: str = "the seal"
) -> SealState:
    """Return the state that a change leads to.

    :param seal: how to call it in the error.
    :raises SealAgentError: ``register_transition_refused`` with the facts ``state`` and ``allowed``;
        ``register_reason_invalid`` with the fact ``reason_codes``; ``register_asker_invalid`` with the fact ``askers``.
    """
    rule = RULES[change]
    if state not in rule.sources:
        names = [str(each) for each in allowed(state)]
        may = f"may only be {', '.join(names)}" if names else "stays as it is"
        message = f"{seal} is {state} and cannot be {change}: it {may}"
        raise SealAgentError("register_transition_refused", message, state=str(state), allowed=names)
    if rule.reasons and reason not in rule.reasons:
        codes = list(rule.reasons)
        message = f"{reason!r} is no reason for which a seal is {change}; give one of {', '.join(codes)}"
        raise SealAgentError("register_reason_invalid", message, reason_codes=codes)
    if not rule.reasons and reason:
        message = f"a seal that is {change} needs no reason code"
        raise SealAgentError("register_reason_invalid", message, reason_codes=[])
    if asked_by not in rule.askers:
        names = sorted(str(each) for each in rule.askers)
        message = f"a seal is {change} at the wish of {' or '.join(names)}, not of {asked_by}"
        raise SealAgentError("register_asker_invalid", message, askers=names)
    return rule.target
