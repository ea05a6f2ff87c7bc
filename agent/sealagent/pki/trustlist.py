"""A trust list: whom a production-management unit recognises as maker, CA, status service or time-stamp authority.

The Measures let each province and ministry run its own area under a unit of its own (电子印章制作管理单位), and name
two kinds of CA (Art. 12). A list is the content of a signed message (:mod:`.signed`): canonical JSON (RFC 8785), times
RFC 3339 in UTC, whole seconds, with ``Z``. Reading is strict: what one reader would take otherwise than another is
refused. Whether the signer may speak for the unit, and whether a newer list is known, is for :mod:`.trustlists`.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from sealagent.errors import FormatError, LimitExceeded
from sealagent.pki.certificates import Certificate
from sealagent.pki.signed import open_signed
from sealagent.pki.trust import TrustClass, TrustEntry, TrustRole, TrustSource
from sealagent.verdict import timestamp

__all__ = [
    "CLOCK_SKEW",
    "LIST_ID",
    "MAX_TRUST_LIST",
    "ListedCertificate",
    "ListedState",
    "TrustList",
    "encode_trust_list",
    "read_trust_list",
]

LIST_TYPE = "sealagent-trust-list"
FORMAT = 1

MAX_TRUST_LIST = 4 << 20  # octets of the signed message: 4096 certificates of some 750 octets, in base64
MAX_ENTRIES = 4096  # certificates in one list; all licensed CAs of the country are some dozens, makers some hundreds
MAX_URLS = 8  # of one kind at one place; two or three are usual
MAX_URL = 1024  # characters of one
MAX_NEXT_SIGNERS = 8  # one successor and one in reserve are usual
MAX_NAME = 256  # characters of a unit's or a region's name
MAX_VALIDITY = timedelta(days=732)  # a network that is visited once a year misses one visit; longer hides withdrawals
MAX_SEQUENCE = 2**53 - 1  # RFC 8785 3.2.2.3
CLOCK_SKEW = timedelta(minutes=5)  # by which the clocks of publisher and reader may differ

LIST_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
"""Form of a list's identifier. It is safe as part of a file name, also where case does not count."""

_REGION = re.compile(r"\d{6}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ", re.ASCII)

_MEMBERS = (
    *("type", "format", "list", "sequence", "region", "unit", "issued_at", "next_update"),
    *("status_urls", "next_signers", "entries"),
)
_ENTRY_MEMBERS = ("certificate", "roles", "class", "state", "since", "ocsp", "crls")

_E = TypeVar("_E", bound=StrEnum)


class ListedState(StrEnum):
    """What the unit says of a certificate."""

    RECOGNISED = "recognised"
    WITHDRAWN = "withdrawn"
    """It vouches for nothing that is newer than ``since``."""


@dataclass(frozen=True, slots=True)
class ListedCertificate:
    """One entry as it stands in a list."""

    certificate: Certificate
    roles: frozenset[TrustRole]
    """At least one."""
    trust_class: TrustClass
    since: datetime
    """From when on :attr:`state` holds, whole seconds. A withdrawal may lie ahead; a recognition may not."""
    state: ListedState = ListedState.RECOGNISED
    ocsp: tuple[str, ...] = ()
    """Where the status of certificates it issued can be asked (RFC 6960)."""
    crls: tuple[str, ...] = ()
    """Where its certificate revocation lists are."""


@dataclass(frozen=True, slots=True)
class TrustList:
    """A list whose signature value is right."""

    id: str
    """Identifier: a list replaces an earlier one of the same identifier and a lower sequence."""
    sequence: int
    """From 1; rises with each version."""
    region: str
    """Administrative-division code, six digits."""
    region_name: str
    unit: str
    """The production-management unit that publishes it."""
    issued_at: datetime
    next_update: datetime
    listed: tuple[ListedCertificate, ...] = field(repr=False)
    signer: Certificate
    """Who signed this version."""
    status_urls: tuple[str, ...] = ()
    """Seal status services of the unit: the base of their addresses, without a slash at the end."""
    next_signers: tuple[str, ...] = ()
    """SHA-256, lower-case hexadecimal, of further certificates that may sign the next version."""
    content_sha256: str = ""
    """Of the content as received; two versions with one sequence are the same only if this is."""
    raw: bytes = field(default=b"", repr=False)
    """The signed message as received."""

    def is_stale(self, now: datetime) -> bool:
        """Say whether its time is over: it vouches for nothing until there is a newer version."""
        return now > self.next_update

    def entries(self) -> tuple[TrustEntry, ...]:
        """Return what the list vouches for, as the judge takes it."""
        source = TrustSource(
            list=self.id,
            sequence=self.sequence,
            region=self.region,
            region_name=self.region_name,
            unit=self.unit,
            issued_at=self.issued_at,
            next_update=self.next_update,
            status_urls=self.status_urls,
        )
        return tuple(
            TrustEntry(
                certificate=each.certificate,
                roles=each.roles,
                trust_class=each.trust_class,
                source=source,
                withdrawn_since=each.since if each.state is ListedState.WITHDRAWN else None,
                ocsp=each.ocsp,
                crls=each.crls,
            )
            for each in self.listed
        )


def encode_trust_list(
    *,
    id: str,
    sequence: int,
    region: str,
    region_name: str,
    unit: str,
    issued_at: datetime,
    next_update: datetime,
    entries: Iterable[ListedCertificate],
    status_urls: Sequence[str] = (),
    next_signers: Sequence[str] = (),
) -> bytes:
    """Return the content of a list: the octets to be signed (:func:`.signed.prepare_signed`).

    :param issued_at: aware, as all times here; whole seconds are kept.
    :param next_signers: SHA-256 of certificates, lower-case hexadecimal.
    :raises FormatError: ``trust_list_invalid`` for a list that :func:`read_trust_list` would refuse.
    :raises LimitExceeded: ``trust_list_invalid``.
    """
    content = _canonical(
        {
            "type": LIST_TYPE,
            "format": FORMAT,
            "list": id,
            "sequence": sequence,
            "region": {"code": region, "name": region_name},
            "unit": unit,
            "issued_at": timestamp(issued_at),
            "next_update": timestamp(next_update),
            "status_urls": [*status_urls],
            "next_signers": [*next_signers],
            "entries": [_plain_entry(each) for each in entries],
        }
    )
    _read_content(content)
    return content


def read_trust_list(data: bytes, now: datetime | None) -> TrustList:
    """Read a list, strictly, and verify its signature value; nothing is said of whether its signer is the right one.

    :param data: the signed message, DER.
    :param now: aware. A list that was issued later is refused; None leaves that out. A stale one is read.
    :raises FormatError: ``signed_message_invalid``, ``trust_list_invalid``.
    :raises LimitExceeded: ``signed_message_invalid``, ``trust_list_invalid``.
    """
    signed = open_signed(data, limit=MAX_TRUST_LIST)
    values = _read_content(signed.content)
    issued = values["issued_at"]
    if now is not None and issued > now + CLOCK_SKEW:
        _refuse(f"it was issued in the future, at {timestamp(issued)}")
    if not signed.signer.may_sign:
        _refuse(f"the key usage of {signed.signer.subject} allows no signatures")
    if not signed.signer.valid_at(issued):
        _refuse(f"the certificate of {signed.signer.subject} was not valid when it was issued, at {timestamp(issued)}")
    digest = hashlib.sha256(signed.content).hexdigest()
    return TrustList(**values, signer=signed.signer, content_sha256=digest, raw=signed.raw)


# --- writing ---


def _plain_entry(entry: ListedCertificate) -> dict[str, Any]:
    return {
        "certificate": b64encode(entry.certificate.der).decode(),
        "roles": sorted(entry.roles),
        "class": entry.trust_class,
        "state": entry.state,
        "since": timestamp(entry.since),
        "ocsp": [*entry.ocsp],
        "crls": [*entry.crls],
    }


def _canonical(value: Any) -> bytes:
    """Return RFC 8785 octets of what holds no float and only ASCII names: the C encoder gives them, tenfold faster."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    except UnicodeEncodeError:
        _refuse("it holds a lone surrogate")


# --- reading ---


def _read_content(content: bytes) -> dict[str, Any]:
    """Return the fields of :class:`TrustList` that stand in the content."""
    value = _members(_load(content), _MEMBERS, "it")
    if type(value["format"]) is not int or value["format"] != FORMAT:
        _refuse(f"its format is {str(value['format'])[:20]!r}; only {FORMAT} is known")
    region = _members(value["region"], ("code", "name"), "region")
    sequence = value["sequence"]
    if type(sequence) is not int or not 1 <= sequence <= MAX_SEQUENCE:
        _refuse("sequence is not a positive integer")
    issued, until = _time(value["issued_at"], "issued_at"), _time(value["next_update"], "next_update")
    if not issued < until <= issued + MAX_VALIDITY:
        _refuse(f"next_update is not after issued_at, or more than {MAX_VALIDITY.days} days after it")
    entries = _items(value["entries"], "entries", MAX_ENTRIES)
    listed = tuple(_entry(each, f"entries[{number}]", issued) for number, each in enumerate(entries))
    _once([each.certificate.sha256 for each in listed], "entries")
    signers = _items(value["next_signers"], "next_signers", MAX_NEXT_SIGNERS)
    return {
        "id": _matching(LIST_ID, value["list"], "list"),
        "sequence": sequence,
        "region": _matching(_REGION, region["code"], "region.code"),
        "region_name": _name(region["name"], "region.name"),
        "unit": _name(value["unit"], "unit"),
        "issued_at": issued,
        "next_update": until,
        "listed": listed,
        "status_urls": _urls(value["status_urls"], "status_urls", base=True),
        "next_signers": _once([_matching(_SHA256, each, "next_signers") for each in signers], "next_signers"),
    }


def _load(content: bytes) -> Any:
    if len(content) > MAX_TRUST_LIST:
        raise LimitExceeded("trust_list_invalid", f"{len(content)} octets; {MAX_TRUST_LIST} are allowed")
    # Before anything is built: empty brackets by the million would take many times their own size in memory.
    texts = MAX_ENTRIES * (len(_ENTRY_MEMBERS) + len(TrustRole) + 2 * MAX_URLS)
    for mark, most in ((b"{", MAX_ENTRIES), (b"[", 3 * MAX_ENTRIES), (b",", texts)):
        if content.count(mark) > most + 256:  # what stands outside the entries is far below that
            raise LimitExceeded("trust_list_invalid", f"a trust list with more than {most} {mark.decode()!r}")
    try:
        value = json.loads(content.decode(), parse_float=_no_float, parse_constant=_no_float)
    except (ValueError, RecursionError):
        _refuse("it is not JSON, or holds a float")
    if not isinstance(value, dict) or value.get("type") != LIST_TYPE:
        _refuse(f"it is not of type {LIST_TYPE}")
    if _canonical(value) != content:
        _refuse("it is not in canonical form (RFC 8785)")
    return value


def _entry(value: Any, where: str, issued: datetime) -> ListedCertificate:
    entry = _members(value, _ENTRY_MEMBERS, where)
    roles = _once(
        [_one_of(TrustRole, each, f"{where}.roles") for each in _items(entry["roles"], f"{where}.roles", 16)],
        f"{where}.roles",
    )
    if not roles:
        _refuse(f"{where}.roles is empty")
    state = _one_of(ListedState, entry["state"], f"{where}.state")
    since = _time(entry["since"], f"{where}.since")
    if state is ListedState.RECOGNISED and since > issued:
        _refuse(f"{where} is recognised from a time on that was still to come")
    return ListedCertificate(
        certificate=_certificate(entry["certificate"], f"{where}.certificate"),
        roles=frozenset(roles),
        trust_class=_one_of(TrustClass, entry["class"], f"{where}.class"),
        since=since,
        state=state,
        ocsp=_urls(entry["ocsp"], f"{where}.ocsp"),
        crls=_urls(entry["crls"], f"{where}.crls"),
    )


def _certificate(value: Any, where: str) -> Certificate:
    text = _text(value, where)
    try:
        der = b64decode(text, validate=True)
    except ValueError:
        _refuse(f"{where} is not base64")
    if b64encode(der).decode() != text:
        _refuse(f"{where} is not base64 in its one form")
    try:
        return Certificate.from_der(der)
    except FormatError as error:
        raise FormatError("trust_list_invalid", f"the trust list: {where}: {error.message}") from error


def _urls(value: Any, where: str, *, base: bool = False) -> tuple[str, ...]:
    return _once([_url(each, where, base) for each in _items(value, where, MAX_URLS)], where)


def _url(value: Any, where: str, base: bool) -> str:
    url = _text(value, where)
    if len(url) > MAX_URL:
        raise LimitExceeded(
            "trust_list_invalid", f"{where}: an address of {len(url)} characters; {MAX_URL} are allowed"
        )
    if not url.isascii() or not url.isprintable() or any(letter in url for letter in ' "<>\\^`{|}#'):
        _refuse(f"{where}: an address with characters that none has")
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        named = False
    if (
        not named
        or parts.scheme not in ("http", "https")
        or parts.username is not None
        or not url.startswith(f"{parts.scheme}://")
    ):
        _refuse(f"{where}: not an http or https address, or one with a user's name")
    if base and ("?" in url or url.endswith("/")):
        _refuse(f"{where}: an address with a query, or with a slash at its end")
    return url


def _members(value: Any, names: Collection[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(names):
        _refuse(f"{where} has not exactly the members {', '.join(names)}")
    return value


def _items(value: Any, where: str, most: int) -> list[Any]:
    if not isinstance(value, list):
        _refuse(f"{where} is not a list")
    if len(value) > most:
        raise LimitExceeded("trust_list_invalid", f"{where} has {len(value)} items; {most} are allowed")
    return value


_T = TypeVar("_T")


def _once(items: Sequence[_T], where: str) -> tuple[_T, ...]:
    if len(set(items)) < len(items):
        _refuse(f"{where} names something twice")
    return tuple(items)


def _one_of(kind: type[_E], value: Any, where: str) -> _E:
    try:
        return kind(_text(value, where))
    except ValueError:
        _refuse(f"{where} is none of {', '.join(kind)}")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        _refuse(f"{where} is not a text")
    return value


def _name(value: Any, where: str) -> str:
    name = _text(value, where)
    if len(name) > MAX_NAME:
        raise LimitExceeded("trust_list_invalid", f"{where} has {len(name)} characters; {MAX_NAME} are allowed")
    if not name.strip() or not name.isprintable():
        _refuse(f"{where} is empty or holds control characters")
    return name


def _matching(pattern: re.Pattern[str], value: Any, where: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        _refuse(f"{where} is malformed")
    return value


def _time(value: Any, where: str) -> datetime:
    try:
        return datetime.fromisoformat(_matching(_TIME, value, where))
    except ValueError:
        _refuse(f"{where} is no time")


def _no_float(text: str) -> NoReturn:
    raise ValueError("a float")


def _refuse(why: str) -> NoReturn:
    raise FormatError("trust_list_invalid", f"the trust list cannot be used: {why}")
