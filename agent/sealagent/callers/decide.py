"""Whether a caller may do what it asks: the policy's rules, the holder's grants, then limits and defaults.

The order is that of :func:`_steps`, and the first step that has something to say decides. Prohibitions come first,
whoever made them, so that nothing which is added elsewhere undoes one. Evaluating never spends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Literal, Protocol

from sealagent.callers.grants import mismatch
from sealagent.callers.model import Decision, Effect, Grant
from sealagent.callers.peer import Caller, recheck
from sealagent.callers.policy import Policy, Rule
from sealagent.uses import Use

__all__ = ["Book", "ExplainedBook", "Explanation", "Step", "decide", "decider", "explain"]


class Book(Protocol):
    """What is needed of the grant book (:class:`sealagent.callers.grants.GrantBook`)."""

    def matching(self, caller: Caller, use: Use, now: datetime) -> Sequence[Grant]:
        """Return the grants that say something about a use, in the order in which they are to be used."""


class ExplainedBook(Book, Protocol):
    """A book that also tells which grants were not to the point."""

    def considered(self, caller: Caller) -> Sequence[Grant]:
        """Return all grants of a caller."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at."""

    kind: Literal["rule", "grant", "limit", "default"]
    name: str
    """Name of the rule, id of the grant, or key of the limit or default."""
    effect: Effect
    matched: bool
    why: str
    """Why it matched or not, one English sentence or clause."""
    per_day: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, and all that was looked at, in the order in which it is."""

    decision: Decision
    steps: tuple[Step, ...]


def decide(
    policy: Policy, grants: Book, caller: Caller, use: Use, now: datetime, zone: tzinfo | None = None
) -> Decision:
    """Decide about a use.

    :param now: with a time zone. :param zone: local time for hours and days; default: the machine's.
    """
    found = [(grant, None) for grant in grants.matching(caller, use, now)]
    steps = _steps(policy, found, caller, use, now.astimezone(zone), matched_only=True)
    return _decision(next(step for step in steps if step.matched))


def decider(policy: Callable[[], Policy], grants: Book) -> Callable[[Caller, Use, datetime], Decision]:
    """Return what decides before the holder is asked, and once more beside the driver call.

    A prompt may have stood open for an hour in between: the policy is that of the moment, and the caller is looked at
    again each time. It raises ``policy_invalid``, ``caller_gone``, ``caller_changed`` and ``caller_unknown``.
    """

    def decide_now(caller: Caller, use: Use, now: datetime) -> Decision:
        return decide(policy(), grants, recheck(caller), use, now)

    return decide_now


def explain(
    policy: Policy, grants: ExplainedBook, caller: Caller, use: Use, now: datetime, zone: tzinfo | None = None
) -> Explanation:
    """Decide as :func:`decide` does, and say of everything else why it matched or not."""
    matching = grants.matching(caller, use, now)
    ids = {grant.id for grant in matching}
    found: list[tuple[Grant, str | None]] = [(grant, None) for grant in matching]
    for grant in grants.considered(caller):
        if grant.id not in ids:
            found.append((grant, mismatch(grant, use, now) or "it is not in force"))
    steps = tuple(_steps(policy, found, caller, use, now.astimezone(zone)))
    return Explanation(_decision(next(step for step in steps if step.matched)), steps)


def _steps(
    policy: Policy,
    grants: Sequence[tuple[Grant, str | None]],
    caller: Caller,
    use: Use,
    local: datetime,
    *,
    matched_only: bool = False,
) -> Iterator[Step]:
    """Yield everything in the order in which it counts; the default, which always matches, comes last.

    :param grants: with the reason why each has nothing to say, None: it has.
    :param matched_only: leave out the rules that have nothing to say.
    """
    for effect in (Effect.DENY, Effect.ALLOW):
        yield from _rules(policy.of_effect(effect), caller, use, local, matched_only)
        for grant, why in grants:
            if grant.effect is effect:
                said = why or ("the holder forbade it" if effect is Effect.DENY else "the holder granted it")
                yield Step("grant", grant.id, grant.effect, why is None, said)
    yield from _rules(policy.of_effect(Effect.ASK), caller, use, local, matched_only)
    if use.operation.blind and policy.limits.blind_needs_pairing:
        unpaired = caller.application is None
        why = "digests that the agent cannot look into are signed for paired applications only"
        yield Step("limit", "blind_needs_pairing", Effect.DENY, unpaired, why if unpaired else "the caller is paired")
    default = policy.defaults.of(use.operation)
    said = {Effect.ALLOW: "allows it", Effect.ASK: "is to ask the holder", Effect.DENY: "denies it"}[default]
    yield Step("default", use.operation.value, default, True, f"the policy's default for {use.operation.value} {said}")


def _rules(rules: Iterable[Rule], caller: Caller, use: Use, local: datetime, matched_only: bool) -> Iterator[Step]:
    for rule in rules:
        why = rule.mismatch(caller, use, local)
        if why is None:
            said = {Effect.ALLOW: "allows it", Effect.ASK: "has the holder asked", Effect.DENY: "denies it"}[
                rule.effect
            ]
            why = f"the rule {rule.name!r} of the policy {said}"
            yield Step("rule", rule.name, rule.effect, True, why, rule.per_day)
        elif not matched_only:
            yield Step("rule", rule.name, rule.effect, False, why, rule.per_day)


def _decision(step: Step) -> Decision:
    return Decision(step.effect, step.kind, step.name, step.why, step.per_day)
