"""Time-stamp tokens (GB/T 20520, RFC 3161 2.4.2): what one covers and when, and what it is worth.

The SignedData around a TSTInfo is that of RFC 5652 or of GB/T 35275; everything is read from the octets received.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from re import fullmatch

from sealagent.errors import FormatError
from sealagent.pki import der, oids
from sealagent.pki.certificates import Certificate
from sealagent.pki.cms import SignedData, identifies, issuer_and_serial, parse_signed_data, signature_algorithm
from sealagent.pki.der import DerError, Element
from sealagent.pki.digests import DIGEST_BY_OID, DIGEST_SIZES, WEAK_DIGESTS, digest
from sealagent.pki.keys import is_weak
from sealagent.pki.path import PathResult, PathStatus, validate_path
from sealagent.pki.revocation import CertificateState, CertificateStatus, RevocationSource
from sealagent.pki.signatures import verify
from sealagent.pki.trust import TrustClass, TrustEntry, TrustRole, TrustStore
from sealagent.verdict import Note, timestamp

__all__ = ["CLOCKS_APART", "MAX_TOKEN", "Token", "TokenJudgement", "TokenState", "judge_token", "read_token"]

MAX_TOKEN = 256 << 10  # octets; a token with its certificates has 1 to 8 KiB
MAX_TST_INFO = 64 << 10  # octets
MAX_EXTENSIONS = 64  # of a TSTInfo; one is rare
MAX_DIGEST = 64  # octets
MAX_NUMBER = 64  # octets of a serial number or nonce: RFC 3161 speaks of 20 and 8, some authorities write more

CLOCKS_APART = timedelta(minutes=5)
"""How far an authority's clock may be from ours: an office computer drifts by minutes."""

_TSA = "the time-stamping authority's certificate"


@dataclass(frozen=True, slots=True)
class Token:
    """What an unverified token claims."""

    version: int
    time: datetime
    """genTime in UTC."""
    digest_oid: str
    """The digest of the message imprint, dotted."""
    imprint: bytes
    nonce: int | None
    critical_extension: str | None
    """OID of an extension that must be understood; none is."""
    notes: tuple[Note, ...] = field(compare=False)


class TokenState(StrEnum):
    """What a token is worth."""

    GOOD = "good"
    BAD = "bad"
    UNTRUSTED = "untrusted"
    """Nothing is wrong with it, and nobody we trust vouches for its authority."""
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class TokenJudgement:
    """The outcome of :func:`judge_token`."""

    state: TokenState
    detail: str = ""
    """Why it is not good."""
    time: datetime | None = None
    """genTime in UTC, of a token that can be read."""
    tsa: Certificate | None = None
    """Whose signature it is; None until the signature value was found right."""
    entry: TrustEntry | None = None
    """What vouches for the authority, if something does."""
    notes: tuple[Note, ...] = ()


def judge_token(
    data: bytes, covered: bytes | None, trust: TrustStore, revocation: RevocationSource | None, now: datetime
) -> TokenJudgement:
    """Judge a token at the time it states: RFC 3161 2.2, 2.3, 2.4.2 and 4, RFC 5816.

    :param data: DER.
    :param covered: the octets it should cover; None: what it covers is not looked at, a good token then says only that
        its authority made it at that time.
    :param revocation: who is asked whether certificates are revoked; may wait for the network. None: nobody.
    :param now: the real time, aware: against which trust lists and answers are fresh.
    """
    found = _Findings()
    try:
        signed, token = _parse(data)
        found.time = token.time
        _judge_content(signed, token, covered, found)
        tsa, carried = _judge_signature(signed, trust, found)
        found.tsa = tsa
        _judge_authority(tsa, token.time, found)
        path = validate_path(tsa, carried, trust, token.time, TrustRole.TSA)
        found.entry = path.entry
        _judge_path(path, token.time, now, found)
        _judge_revocation(path.chain, token.time, now, revocation, found)
    except _Stop as stop:
        return found.judgement(stop.state, str(stop))
    except DerError as error:
        return found.judgement(TokenState.BAD, str(error))
    except FormatError as error:
        return found.judgement(TokenState.UNSUPPORTED, error.message)
    return found.judgement(TokenState.GOOD)


def read_token(data: bytes) -> Token:
    """Read a TimeStampToken down to its TSTInfo; nothing is verified.

    :param data: DER.
    :raises DerError: it is no such structure, or larger than :data:`MAX_TOKEN`.
    """
    return _parse(data)[1]


# --- reading ---


def _parse(data: bytes) -> tuple[SignedData, Token]:
    if len(data) > MAX_TOKEN:
        raise DerError(f"the token: {len(data)} octets, more than {MAX_TOKEN}")
    try:
        signed = parse_signed_data(data)
    except FormatError as error:
        raise DerError(f"the token: {error.message}") from error
    if signed.content_type != oids.TST_INFO or signed.content is None:
        raise DerError("the token: its content is not a TSTInfo")
    if len(signed.content) > MAX_TST_INFO:
        raise DerError(f"the token: a TSTInfo of {len(signed.content)} octets, more than {MAX_TST_INFO}")
    return signed, _tst_info(der.read(signed.content, "TSTInfo"))


_ACCURACY, _BOOLEAN, _NONCE, _NAME, _EXTENSIONS = der.SEQUENCE, der.BOOLEAN, der.INTEGER, 0xA0, 0xA1
_OPTIONAL = (_ACCURACY, _BOOLEAN, _NONCE, _NAME, _EXTENSIONS)
"""The tags of what may follow genTime, in their order."""


def _tst_info(element: Element) -> Token:
    parts = element.expect(der.SEQUENCE, "TSTInfo").children("TSTInfo", 10, 5)
    optional = {part.tag: part for part in parts[5:]}
    order = [_OPTIONAL.index(part.tag) if part.tag in _OPTIONAL else -1 for part in parts[5:]]
    if order != sorted(set(order)) or -1 in order:
        raise DerError("TSTInfo: elements beyond its definition")
    parts[1].oid("policy")
    algorithm, imprint = parts[2].expect(der.SEQUENCE, "messageImprint").children("messageImprint", 2, 2)
    named = algorithm.expect(der.SEQUENCE, "hashAlgorithm").children("hashAlgorithm", 2, 1)
    parts[3].integer("serialNumber", MAX_NUMBER)
    if _BOOLEAN in optional:
        optional[_BOOLEAN].boolean("ordering")
    return Token(
        version=parts[0].integer("version"),
        time=_gen_time(parts[4]),
        digest_oid=named[0].oid("hashAlgorithm"),
        imprint=imprint.octets("hashedMessage", MAX_DIGEST),
        nonce=optional[_NONCE].integer("nonce", MAX_NUMBER) if _NONCE in optional else None,
        critical_extension=_critical(optional[_EXTENSIONS]) if _EXTENSIONS in optional else None,
        notes=tuple(dict.fromkeys(element.source.notes)),
    )


def _gen_time(element: Element) -> datetime:
    """Read genTime: unlike the times of certificates it may have fractions of a second (RFC 3161 2.4.2)."""
    text = element.expect(der.GENERALIZED_TIME, "genTime").bounded("genTime", der.MAX_TIME_OCTETS).decode("latin-1")
    moment, _ = der.parse_time(text, century=True, what="genTime")
    if not fullmatch(r"[0-9]{14}(\.[0-9]*[1-9])?Z", text):
        element.note("quirk_ber", f"genTime: {text}")
    return moment


def _critical(extensions: Element) -> str | None:
    for extension in extensions.children("extensions", MAX_EXTENSIONS):
        kind, *rest = extension.expect(der.SEQUENCE, "Extension").children("Extension", 3, 2)
        if len(rest) == 2 and rest[0].boolean("critical"):
            return kind.oid("extnID")
    return None


# --- judging ---


class _Stop(Exception):
    """The judgement is found."""

    def __init__(self, state: TokenState, detail: str) -> None:
        super().__init__(detail)
        self.state = state


def _bad(detail: str) -> _Stop:
    return _Stop(TokenState.BAD, detail)


@dataclass(slots=True)
class _Findings:
    time: datetime | None = None
    tsa: Certificate | None = None
    entry: TrustEntry | None = None
    notes: list[Note] = field(default_factory=list)

    def note(self, code: str, detail: str) -> None:
        self.notes.append(Note(code, detail))

    def judgement(self, state: TokenState, detail: str = "") -> TokenJudgement:
        notes = tuple(dict.fromkeys(self.notes))
        return TokenJudgement(state, detail, self.time, self.tsa, self.entry, notes)


def _judge_content(signed: SignedData, token: Token, covered: bytes | None, found: _Findings) -> None:
    """What the token is about, and that the signed attributes are about it."""
    # A TSTInfo in either kind of SignedData is no mixture: neither standard has a content type of its own for it.
    found.notes += [note for note in (*signed.notes, *token.notes) if note.code != "quirk_cms_oid"]
    if token.version not in (1, 2):
        raise _Stop(TokenState.UNSUPPORTED, f"TSTInfo of version {token.version}")
    if token.version == 2:
        found.note("quirk_tst_version", "2")
    name = DIGEST_BY_OID.get(token.digest_oid)
    if name is None:
        raise _Stop(TokenState.UNSUPPORTED, f"the message imprint's digest {token.digest_oid}")
    if len(token.imprint) != DIGEST_SIZES[name] or (covered is not None and digest(name, covered) != token.imprint):
        raise _bad("the token covers other octets")
    if name in WEAK_DIGESTS:
        found.note("weak_algorithm", f"the time-stamp's message imprint: {name.upper()}")
    if token.critical_extension is not None:
        raise _Stop(TokenState.UNSUPPORTED, f"the critical extension {token.critical_extension}")
    if signed.attributes is None or signed.attribute_type != oids.TST_INFO:
        raise _bad("the token's attributes do not say that a TSTInfo was signed")
    assert signed.content is not None
    if signed.message_digest != digest(signature_algorithm(signed).digest, signed.content):
        raise _bad("the TSTInfo was changed")


def _judge_signature(signed: SignedData, trust: TrustStore, found: _Findings) -> tuple[Certificate, list[Certificate]]:
    """Find whose signature it is, and verify its value. Return the other certificates too."""
    carried = _loaded(signed.certificates)
    tsa = _authority(signed, carried)
    if tsa is None:
        tsa = _authority(signed, [entry.certificate for entry in trust.entries(TrustRole.TSA)], known=True)
        if tsa is None:
            raise _Stop(TokenState.UNTRUSTED, f"{_TSA} is neither in the token nor in the trust settings")
        found.note("signer_certificate_supplied", _TSA)
    algorithm = signature_algorithm(signed)
    assert signed.attributes is not None
    check = verify(tsa.public_key, algorithm, signed.signature, signed.attributes)
    if not check.ok:
        raise _bad("the token's signature value is wrong")
    for quirk in check.quirks:
        found.note(quirk, "the time-stamp's signature")
    if algorithm.weak:
        found.note("weak_algorithm", f"the time-stamp's signature: {algorithm.name}")
    if is_weak(tsa.public_key):
        found.note("weak_algorithm", "the time-stamping authority's key is too short")
    return tsa, [each for each in carried if each != tsa]


def _loaded(certificates: Sequence[bytes]) -> list[Certificate]:
    """Return those that can be read: the others are of no use, and of no harm."""
    loaded = []
    for data in dict.fromkeys(certificates):
        try:
            loaded.append(Certificate.from_der(data))
        except FormatError:
            continue
    return loaded


def _authority(signed: SignedData, certificates: Sequence[Certificate], *, known: bool = False) -> Certificate | None:
    """Return the signer's certificate by issuer and serial number and by the signed attribute (RFC 5816 2.2.1).

    :param known: they are those of the trust settings: that the right one is not among them is nobody's fault.
    """
    named = [each for each in certificates if issuer_and_serial(each.der) == signed.signer]
    answers = [identifies(signed, each) for each in named]
    if True in answers:
        return named[answers.index(True)]
    if None in answers:
        raise _bad("the token's attributes do not name the signer's certificate")
    if named and not known:
        raise _bad("the token's attributes name another certificate than the signer's")
    return None


def _judge_authority(tsa: Certificate, at: datetime, found: _Findings) -> None:
    """The certificate's own statements: what it may be used for (RFC 3161 2.3), and when."""
    for quirk in tsa.quirks:
        found.note(quirk, _TSA)
    purposes = tsa.fields.extended_key_usage
    if purposes is None or oids.KP_TIME_STAMPING not in purposes:
        raise _bad(f"{_TSA} is not for time-stamping (extended key usage)")
    if not tsa.fields.extended_key_usage_critical:
        found.note("quirk_tsa_usage", "the extended key usage is not critical")
    if len(purposes) > 1:
        found.note("quirk_tsa_usage", "for other purposes too: " + ", ".join(sorted({*purposes})))
    if not tsa.valid_at(at):
        period = f"{timestamp(tsa.not_before)} to {timestamp(tsa.not_after)}"
        raise _bad(f"{timestamp(at)} is outside the validity of {_TSA}, {period}")


def _judge_path(path: PathResult, at: datetime, now: datetime, found: _Findings) -> None:
    if path.status is PathStatus.invalid:
        raise _bad(f"{_TSA}: {path.detail}")
    if path.status is PathStatus.no_anchor:
        raise _Stop(TokenState.UNTRUSTED, f"{_TSA}: {path.detail}")
    if path.status is PathStatus.pinned:
        found.note("pinned", _TSA)
    if path.entry is not None and (source := path.entry.source) is not None:
        if source.next_update < now:
            detail = f"the trust list {source.list} was to be updated by {timestamp(source.next_update)}"
            raise _Stop(TokenState.UNTRUSTED, detail)
        if path.entry.trust_class is TrustClass.INTERNAL:
            found.note("internal_trust", f"{_TSA}: {source.unit}")
    if at > now + CLOCKS_APART:
        raise _Stop(TokenState.UNTRUSTED, f"by this computer's clock {timestamp(at)} is yet to come")


_TOKENS_STAY_GOOD = frozenset({"unspecified", "affiliation_changed", "superseded", "cessation_of_operation"})
"""Reasons for which an authority's earlier tokens outlive its revocation; without a reason they do not (RFC 3161 4)."""


def _judge_revocation(
    chain: Sequence[Certificate], at: datetime, now: datetime, revocation: RevocationSource | None, found: _Findings
) -> None:
    """Ask for each certificate below the anchor. A pinned one has nobody above it to ask."""
    for index, certificate in enumerate(chain[:-1]):
        if revocation is None:
            found.note("cert_status_not_checked", _TSA)
            return
        status = revocation.status(chain[index:], at, now)
        if status.stale:
            found.note("status_old", f"{certificate.subject}: {status.source}, of {timestamp(status.produced_at)}")
        if status.state is CertificateState.REVOKED:
            _judge_revoked(certificate, status, at, found)
        elif status.state is CertificateState.UNKNOWN:
            found.note("cert_status_not_checked", f"{certificate.subject}: {status.detail}")


def _judge_revoked(certificate: Certificate, status: CertificateStatus, at: datetime, found: _Findings) -> None:
    since = timestamp(status.revoked_at) or "at an unknown time"
    detail = f"{certificate.subject}: revoked {since} ({status.reason or 'no reason given'})"
    if status.revoked_at is None or status.revoked_at <= at or status.reason not in _TOKENS_STAY_GOOD:
        raise _bad(detail)
    found.note("tsa_cert_revoked_since", detail)
