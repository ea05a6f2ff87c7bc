"""What a seal status service says, as octets: the answer about one seal, and the list of all for offline networks.

Both are canonical JSON (RFC 8785) and the content of a signed message (:mod:`sealagent.pki.signed`); nothing here
looks at signatures. Times are RFC 3339 in UTC, whole seconds, with ``Z``. Reading is strict: a member too many, another
form of the same value, or a history that contradicts itself is refused. The Measures (Art. 17, 18) name the states.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

from sealagent.errors import FormatError, LimitExceeded
from sealagent.pki.digests import digest
from sealagent.seals.status import SealState, SealStatus, StateChange
from sealagent.verdict import timestamp

__all__ = [
    "MAX_ANSWER",
    "MAX_CHANGES",
    "MAX_LIST",
    "MAX_LISTED",
    "MAX_NONCE",
    "StatusAnswer",
    "StatusList",
    "encode_answer",
    "encode_list",
    "read_answer",
    "read_list",
    "seal_sm3",
    "state_at",
]

ANSWER_TYPE = "sealagent-seal-status"
LIST_TYPE = "sealagent-seal-status-list"
FORMAT = 1

MAX_CHANGES = 64  # states of one seal through its life: four or five are usual
MAX_LISTED = 100_000  # seals in one list: the register of a province
MAX_LISTED_CHANGES = 500_000  # states in one list: what reading it takes in memory depends on them
MAX_ANSWER = 128 << 10  # octets of one answer: 64 changes with reasons of 256 Chinese characters have 55 KiB
MAX_LIST = 64 << 20  # octets of one list: 100,000 seals with five changes have some 45 MiB
MAX_NONCE = 32  # octets of a nonce; ours have 16
MAX_TEXT = 4 << 10  # characters of esID, as in a seal; of a unit's name and of a list's identifier
MAX_REASON = 256  # characters of a reason: it is a code or a short phrase
MAX_SEQUENCE = 2**53 - 1  # RFC 8785 3.2.2.3

_TIME = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ", re.ASCII)
_SM3 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NONCE = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
_ANSWER_MEMBERS = frozenset(
    {"type", "format", "unit", "seal", "status", "at", "history", "produced_at", "next_update", "nonce"}
)
_LIST_MEMBERS = frozenset({"type", "format", "list", "unit", "sequence", "produced_at", "next_update", "seals"})


@dataclass(frozen=True, slots=True)
class StatusAnswer:
    """What a unit says of one seal. All moments are aware and have whole seconds."""

    unit: str
    """The production-management unit (电子印章制作管理单位)."""
    seal_sm3: str
    """SM3 of the whole seal as it is kept (.esl), lower-case hexadecimal."""
    es_id: str
    """esID; empty where the service does not know the seal."""
    history: tuple[StateChange, ...]
    """Oldest first; empty: the service does not know the seal."""
    at: datetime
    """The moment that was asked about; not after :attr:`produced_at`."""
    produced_at: datetime
    next_update: datetime
    """Until when the answer counts as fresh."""
    nonce: bytes = b""
    """As the question had it."""

    @property
    def status(self) -> SealState:
        """The state at :attr:`at`."""
        return state_at(self.history, self.at)


@dataclass(frozen=True, slots=True)
class StatusList:
    """What a unit says of all its seals, for networks where nobody can be asked."""

    list: str
    """Identifier: a list replaces an earlier one of the same identifier and a lower sequence."""
    unit: str
    sequence: int
    """From 1; rises with each issue."""
    produced_at: datetime
    next_update: datetime
    seals: Mapping[str, tuple[StateChange, ...]] = field(repr=False)
    """Histories by SM3 of the whole seal, lower-case hexadecimal."""


def seal_sm3(seal: bytes) -> str:
    """Return the name that status services know a seal by. :param seal: DER SESeal, whole."""
    return digest("sm3", seal).hex()


def state_at(history: Sequence[StateChange], moment: datetime) -> SealState:
    """Return the state at a moment; ``UNKNOWN`` without a history and before its first state."""
    found = SealStatus(history=tuple(history)).at(moment)
    return found.state if found else SealState.UNKNOWN


def encode_answer(answer: StatusAnswer) -> bytes:
    """Return the octets to be signed.

    :raises FormatError: ``status_answer_invalid`` for an answer that :func:`read_answer` would refuse, e.g. with a
        history that is not in order, or about a moment after ``produced_at``.
    :raises LimitExceeded: ``status_answer_invalid``: more than :data:`MAX_CHANGES` states, or too long a text.
    """
    octets = _canonical(
        {
            "type": ANSWER_TYPE,
            "format": FORMAT,
            "unit": answer.unit,
            "seal": {"sm3": answer.seal_sm3, "es_id": answer.es_id},
            "status": str(answer.status),
            "at": timestamp(answer.at),
            "history": _plain_history(answer.history),
            "produced_at": timestamp(answer.produced_at),
            "next_update": timestamp(answer.next_update),
            "nonce": answer.nonce.hex(),
        }
    )
    read_answer(octets)
    return octets


def read_answer(content: bytes) -> StatusAnswer:
    """Read an answer strictly; whether its signer may speak for the seal, and whether it is fresh, is not asked here.

    :param content: of the signed message, UTF-8.
    :raises FormatError: ``status_answer_invalid``, also for a status that contradicts the answer's own history.
    :raises LimitExceeded: ``status_answer_invalid``.
    """
    value = _load(content, ANSWER_TYPE, MAX_ANSWER, _ANSWER_MEMBERS)
    seal = _members(value["seal"], {"sm3", "es_id"}, "seal")
    produced, until = _period(value)
    history = _history(value["history"], produced)
    answer = StatusAnswer(
        unit=_text(value["unit"], "unit"),
        seal_sm3=_matching(_SM3, seal["sm3"], "seal.sm3"),
        es_id=_text(seal["es_id"], "seal.es_id", empty=not history),
        history=history,
        at=_time(value["at"], "at"),
        produced_at=produced,
        next_update=until,
        nonce=bytes.fromhex(_matching(_NONCE, value["nonce"], "nonce")),
    )
    if len(answer.nonce) > MAX_NONCE:
        raise LimitExceeded("status_answer_invalid", f"a nonce of {len(answer.nonce)} octets; {MAX_NONCE} are allowed")
    if answer.at > produced:
        _refuse("it speaks of a moment after it was made")
    if value["status"] != answer.status:
        _refuse(f"its status {str(value['status'])[:20]!r} contradicts its history, which says {answer.status}")
    return answer


def encode_list(status_list: StatusList) -> bytes:
    """Return the octets to be signed.

    :raises FormatError: ``status_answer_invalid`` for a list that :func:`read_list` would refuse.
    :raises LimitExceeded: ``status_answer_invalid``.
    """
    octets = _canonical(
        {
            "type": LIST_TYPE,
            "format": FORMAT,
            "list": status_list.list,
            "unit": status_list.unit,
            "sequence": status_list.sequence,
            "produced_at": timestamp(status_list.produced_at),
            "next_update": timestamp(status_list.next_update),
            "seals": {sm3: _plain_history(history) for sm3, history in status_list.seals.items()},
        }
    )
    read_list(octets)
    return octets


def read_list(content: bytes) -> StatusList:
    """Read a list strictly, every history in it.

    :param content: of the signed message, UTF-8.
    :raises FormatError: ``status_answer_invalid``. :raises LimitExceeded: ``status_answer_invalid``.
    """
    # Before anything is built: empty brackets by the million would take many times their own size.
    for mark, most in ((b"{", MAX_LISTED_CHANGES + 2), (b"[", MAX_LISTED), (b",", 4 * (MAX_LISTED_CHANGES + 2))):
        if content.count(mark) > most:
            raise LimitExceeded("status_answer_invalid", f"a list with more than {most} {mark.decode()!r}")
    value = _load(content, LIST_TYPE, MAX_LIST, _LIST_MEMBERS)
    produced, until = _period(value)
    sequence = value["sequence"]
    if type(sequence) is not int or not 1 <= sequence <= MAX_SEQUENCE:
        _refuse("sequence is not a positive integer")
    seals = value["seals"]
    if not isinstance(seals, dict):
        _refuse("seals is not an object")
    if len(seals) > MAX_LISTED:
        raise LimitExceeded("status_answer_invalid", f"a list of {len(seals)} seals; {MAX_LISTED} are allowed")
    return StatusList(
        list=_text(value["list"], "list"),
        unit=_text(value["unit"], "unit"),
        sequence=sequence,
        produced_at=produced,
        next_update=until,
        seals={_matching(_SM3, sm3, "seals"): _history(changes, produced) for sm3, changes in seals.items()},
    )


# --- parts ---


def _plain_history(history: Iterable[StateChange]) -> list[dict[str, Any]]:
    return [
        {"state": str(change.state), "since": timestamp(change.since), "reason": change.reason} for change in history
    ]


def _canonical(value: Any) -> bytes:
    """Return RFC 8785 octets of what holds no float and only ASCII names: the C encoder gives them, tenfold faster."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    except UnicodeEncodeError:
        _refuse("it holds a lone surrogate")


def _load(content: bytes, kind: str, limit: int, members: frozenset[str]) -> dict[str, Any]:
    if len(content) > limit:
        raise LimitExceeded("status_answer_invalid", f"{len(content)} octets; {limit} are allowed")
    try:
        value = json.loads(content.decode(), parse_float=_no_float, parse_constant=_no_float)
    except (ValueError, RecursionError):
        _refuse("it is not JSON, or holds a float")
    if not isinstance(value, dict) or value.get("type") != kind:
        _refuse(f"it is not of type {kind}")
    if value.get("format") != FORMAT or value["format"] is True:
        _refuse(f"its format is {str(value.get('format'))[:20]!r}; only {FORMAT} is known")
    _members(value, members, "it")
    if _canonical(value) != content:
        _refuse("it is not in canonical form (RFC 8785)")
    return value


def _members(value: Any, names: Iterable[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(names):
        _refuse(f"{what} has not exactly the members {', '.join(sorted(names))}")
    return value


def _history(value: Any, produced: datetime) -> tuple[StateChange, ...]:
    if not isinstance(value, list):
        _refuse("a history is not a list")
    if len(value) > MAX_CHANGES:
        raise LimitExceeded("status_answer_invalid", f"a history of {len(value)} states; {MAX_CHANGES} are allowed")
    history: list[StateChange] = []
    for item in value:
        change = _members(item, ("state", "since", "reason"), "a state")
        since = _time(change["since"], "since")
        if history and since < history[-1].since:
            _refuse("a history is not in order, oldest first")
        if since > produced:
            _refuse("a history tells the future")
        history.append(StateChange(_state(change["state"]), since, _text(change["reason"], "reason", MAX_REASON)))
    return tuple(history)


def _state(value: Any) -> SealState:
    try:
        state = SealState(value)
    except ValueError:
        _refuse(f"there is no state {str(value)[:20]!r}")
    if state is SealState.UNKNOWN:
        _refuse("'unknown' is no state a seal has had")
    return state


def _period(value: dict[str, Any]) -> tuple[datetime, datetime]:
    produced, until = _time(value["produced_at"], "produced_at"), _time(value["next_update"], "next_update")
    if until < produced:
        _refuse("next_update is before produced_at")
    return produced, until


def _time(value: Any, what: str) -> datetime:
    try:
        return datetime.fromisoformat(_matching(_TIME, value, what))
    except ValueError:
        _refuse(f"{what} is no time")


def _text(value: Any, what: str, most: int = MAX_TEXT, *, empty: bool = False) -> str:
    if not isinstance(value, str):
        _refuse(f"{what} is not a text")
    if not value and not empty and what != "reason":
        _refuse(f"{what} is empty")
    if len(value) > most:
        raise LimitExceeded("status_answer_invalid", f"{what} has {len(value)} characters; {most} are allowed")
    return value


def _matching(pattern: re.Pattern[str], value: Any, what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        _refuse(f"{what} is malformed")
    return value


def _no_float(text: str) -> NoReturn:
    raise ValueError("a float")


def _refuse(why: str) -> NoReturn:
    raise FormatError("status_answer_invalid", f"a status answer cannot be used: {why}")
