"""The administrator's ``policy.toml``: defaults, limits and rules about who may use what, when and how often.

A file is checked strictly: an unknown key is an error, and so is a list without values, which could be read as "any" or
as "none". ``config/policy.toml`` in the source tree documents every key; a test holds it to this module.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import fields
from datetime import date, datetime, time, timedelta, tzinfo
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from sealagent.callers.model import DailyHours, Effect
from sealagent.callers.peer import Caller
from sealagent.sections import Section
from sealagent.uses import Operation, Use
from sealdrivers.errors import UriError
from sealdrivers.uri import Pkcs11Uri, SkfUri, parse_uri

__all__ = ["MAX_RULES", "MAX_VALUES", "Defaults", "Policy", "PolicyLimits", "Rule", "Weekday", "local_day"]

MAX_RULES = 10_000
"""Rules in one file. An organisation has tens; every decision may have to look at all."""
MAX_VALUES = 1000
"""Values in one list of a rule."""
MAX_TEXT = 4096
"""Characters of one value: the longest path and the longest URI."""

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_WEEKDAYS: tuple[str, ...] = get_args(Weekday)


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("no control characters, and no blanks around it")
    return text


def _program(path: str) -> str:
    if not path.startswith("/") or os.path.normpath(path) != path or path.startswith("//"):
        raise ValueError("give the absolute path of the program file, as the kernel has it")
    return path


def _uri(text: str) -> str:
    try:
        return str(parse_uri(text))
    except UriError as error:
        raise ValueError(error.message) from None


def _hours(value: Any) -> Any:
    """Read ``08:00-18:00``; the end may be ``24:00``."""
    if not isinstance(value, str):
        return value
    first, dash, last = value.partition("-")
    if not dash:
        raise ValueError("write hours as 08:00-18:00")
    hours = DailyHours(_time(first), time(0) if last == "24:00" else _time(last))
    if hours.start == hours.end:
        raise ValueError("these hours are empty; leave hours out for the whole day")
    return hours


def _time(text: str) -> time:
    hour, colon, minute = text.partition(":")
    if not (colon and len(hour) == len(minute) == 2 and (hour + minute).isascii() and (hour + minute).isdigit()):
        raise ValueError("write hours as 08:00-18:00")
    return time(int(hour), int(minute))  # raises ValueError itself beyond 23:59


def _moment(value: Any) -> Any:
    """Refuse a date alone, of which nobody can say whether the day counts, and numbers."""
    if not isinstance(value, datetime):
        raise ValueError("write date and time, as 2027-01-31T18:00:00 or 2027-01-31T18:00:00+08:00")
    return value


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(_printable)]
ProgramPath = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_printable), AfterValidator(_program)]
Digest = Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)]
Uri = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_uri)]
Origin = Annotated[str, Field(max_length=512, pattern=r"^[a-z][a-z0-9+.-]*://[A-Za-z0-9.@{}_:\[\]-]+$")]
"""As browsers write it: scheme, host, port where it is not the usual one, and nothing after."""
FormatName = Annotated[str, Field(pattern="^[a-z0-9]{1,16}$")]
Hours = Annotated[DailyHours, BeforeValidator(_hours)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Switch = Annotated[bool, Field(strict=True)]
Number = Annotated[int, Field(strict=True)]


class Defaults(Section):
    """What happens where no rule and no grant says anything."""

    document: Effect = Effect.ASK
    digest: Effect = Effect.ASK
    raw: Effect = Effect.ASK
    manage: Effect = Effect.ASK

    def of(self, operation: Operation) -> Effect:
        """Return the default for an operation."""
        return Effect(getattr(self, operation.value))


class PolicyLimits(Section):
    """How far the holder may go with grants and pairings, and callers with batches."""

    blind_needs_pairing: Switch = True
    """Whether digests that the agent cannot look into are signed for paired applications only."""
    pairing_days: Number = Field(default=365, ge=1, le=3650)
    """Days after which an application must be paired again."""
    grant_days: Number = Field(default=365, ge=1, le=3650)
    """Days that a grant may last at most."""
    grant_count: Number = Field(default=10_000, ge=1, le=1_000_000_000)
    """Signatures that a counted grant may allow at most."""
    session_grants: Switch = True
    """Whether the holder may agree to all like it until the token is locked or pulled."""
    batch_items: Number = Field(default=10_000, ge=1, le=100_000)
    """Documents or digests in one batch."""


class Rule(Section):
    """One rule. Every condition that is given must be met; one that is left out is met by anything."""

    name: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
    effect: Effect
    operations: tuple[Operation, ...] = Field(default=(), max_length=4)
    executables: tuple[ProgramPath, ...] = Field(default=(), max_length=MAX_VALUES)
    """Paths of program files. A script's is its interpreter's."""
    sha256: tuple[Digest, ...] = Field(default=(), max_length=MAX_VALUES)
    """Digests of program files, hexadecimal."""
    parents: tuple[ProgramPath, ...] = Field(default=(), max_length=MAX_VALUES)
    """Program files of the process that started the caller."""
    applications: tuple[Text, ...] = Field(default=(), max_length=MAX_VALUES)
    """Paired applications, by id or name."""
    origins: tuple[Origin, ...] = Field(default=(), max_length=MAX_VALUES)
    """Web sites and browser extensions that the caller acts for."""
    seals: tuple[Text, ...] = Field(default=(), max_length=MAX_VALUES)
    """Seals, by id, esID or name."""
    keys: tuple[Uri, ...] = Field(default=(), max_length=MAX_VALUES)
    """URIs of keys; one that only names a token covers what is on it."""
    formats: tuple[FormatName, ...] = Field(default=(), max_length=MAX_VALUES)
    """Formats of documents."""
    hours: Hours | None = None
    """Local time of the machine; the end is outside, and ``22:00-06:00`` goes over midnight."""
    days: tuple[Weekday, ...] = Field(default=(), max_length=7)
    """Days; hours over midnight belong to the day on which they begin."""
    not_before: Moment | None = None
    not_after: Moment | None = None
    """Times with a zone, or local times of the machine; both are inside."""
    per_day: Number | None = Field(default=None, ge=1, le=1_000_000_000)
    """Signatures a day (local time) that the rule allows."""

    @model_validator(mode="before")
    @classmethod
    def _nothing_empty(cls, values: Any) -> Any:
        empty = [key for key, value in values.items() if value == []] if isinstance(values, dict) else []
        if empty:
            raise ValueError(f"{empty[0]}: an empty list; leave the key out where anything will do")
        return values

    @model_validator(mode="after")
    def _sensible(self) -> Rule:
        if self.effect is Effect.ALLOW and not self.operations:
            raise ValueError("operations: a rule that allows must name what")
        if self.per_day is not None and self.effect is not Effect.ALLOW:
            raise ValueError("per_day: only what a rule allows is counted")
        if self.not_before is not None and self.not_after is not None:
            if (self.not_before.tzinfo is None) != (self.not_after.tzinfo is None):
                raise ValueError("not_after: give both times with a zone, or both without")
            if self.not_after < self.not_before:
                raise ValueError("not_after: it is earlier than not_before")
        return self

    def mismatch(self, caller: Caller, use: Use, local: datetime) -> str | None:
        """Say why the rule has nothing to say about a use; None: it has.

        What cannot be known of a caller (its program was removed, its parent has ended) or of a use (the format behind
        a digest) is met by a rule that denies and by no other.

        :param local: the moment in local time, with its zone.
        """
        return self._other_use(use) or self._other_caller(caller) or self._other_time(local)

    def _other_use(self, use: Use) -> str | None:
        if self.operations and use.operation not in self.operations:
            return "it is about other operations"
        if self.seals and (use.seal is None or not {use.seal, *use.seal_names} & self._seals):
            return "it is about other seals"
        if self.keys and not self._has_key(use.key):
            return "it is about other keys"
        hidden = use.format is None and use.operation.blind
        if self.formats and use.format not in self.formats and not (hidden and self.effect is Effect.DENY):
            return "it is about other formats"
        return None

    def _other_caller(self, caller: Caller) -> str | None:
        if self.executables and not self._one_of(caller.executable, self._executables):
            return "it is about other programs"
        if self.sha256 and not self._one_of(caller.sha256, self._digests):
            return "it is about program files with other digests"
        if self.parents and not self._one_of(caller.parent, self.parents):
            return "it is about programs that others started"
        if self.applications and not (
            caller.application and {caller.application.id, caller.application.name} & self._applications
        ):
            return "it is about other applications"
        if self.origins and caller.origin not in self.origins:
            return "it is about other web origins"
        return None

    def _other_time(self, local: datetime) -> str | None:
        if self.not_before is not None and _compared(local, self.not_before) < self.not_before:
            return "it does not count yet"
        if self.not_after is not None and _compared(local, self.not_after) > self.not_after:
            return "it does not count any more"
        begun = local.date()
        if self.hours is not None:
            start, end, now = self.hours.start, self.hours.end, local.time()
            if not (start <= now < end if start < end else now >= start or now < end):
                return "it is outside its hours"
            if end <= start and now < end:
                begun -= timedelta(days=1)
        if self.days and _WEEKDAYS[begun.weekday()] not in self.days:
            return "it is for other days"
        return None

    def _one_of(self, value: str | None, wanted: Iterable[str]) -> bool:
        return self.effect is Effect.DENY if value is None else value in wanted

    def _has_key(self, key: str) -> bool:
        if key in self.keys:
            return True
        asked = _parsed(key)
        if asked is None:
            return self.effect is Effect.DENY
        return any(_covers(wanted, asked) for wanted in map(_parsed, self.keys) if wanted is not None)

    # The lists as sets: a rule may have a thousand values, and is looked at before every signature.

    @cached_property
    def _executables(self) -> frozenset[str]:
        return frozenset(self.executables)

    @cached_property
    def _digests(self) -> frozenset[str]:
        return frozenset(self.sha256)

    @cached_property
    def _applications(self) -> frozenset[str]:
        return frozenset(self.applications)

    @cached_property
    def _seals(self) -> frozenset[str]:
        return frozenset(self.seals)


class Policy(Section):
    """A whole policy; without a file the defaults are in force."""

    defaults: Defaults = Defaults()
    limits: PolicyLimits = PolicyLimits()
    rules: tuple[Rule, ...] = Field(default=(), max_length=MAX_RULES)
    """In the order of the file; of several that match, effects being equal, the first is named."""

    @field_validator("rules")
    @classmethod
    def _each_name_once(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        names: set[str] = set()
        for rule in rules:
            if rule.name in names:
                raise ValueError(f"two rules are called {rule.name!r}")
            names.add(rule.name)
        return rules

    def of_effect(self, effect: Effect) -> tuple[Rule, ...]:
        """Return the rules with an effect."""
        return self._by_effect[effect]

    @cached_property
    def _by_effect(self) -> dict[Effect, tuple[Rule, ...]]:
        return {effect: tuple(rule for rule in self.rules if rule.effect is effect) for effect in Effect}


def local_day(now: datetime, zone: tzinfo | None = None) -> date:
    """Return the day by which ``per_day`` is counted. :param zone: default: the machine's."""
    return now.astimezone(zone).date()


def _compared(local: datetime, limit: datetime) -> datetime:
    """Return a moment as it can be compared with a limit, which is local time if it has no zone."""
    return local.replace(tzinfo=None) if limit.tzinfo is None else local


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Pkcs11Uri | SkfUri | None:
    try:
        return parse_uri(text)
    except UriError:
        return None


def _covers(wanted: Pkcs11Uri | SkfUri, asked: Pkcs11Uri | SkfUri) -> bool:
    """Say whether all that one URI names is as in another; what it does not name may be anything (RFC 7512 §2.3)."""
    if type(wanted) is not type(asked):
        return False
    return all(
        getattr(wanted, field.name) in (None, ()) or getattr(wanted, field.name) == getattr(asked, field.name)
        for field in fields(wanted)
    )
