"""Certificates, revocation lists and OCSP responses for tests, as odd as a test wants them; openssl signs everything.

Structures are written with asn1crypto where openssl's commands cannot say what a test needs. ``test_pki_revocation.py``
has openssl itself check and make some of each kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from asn1crypto import algos, core, crl, keys, ocsp, x509

# Teaches asn1crypto the Chinese identifiers.
import sealagent.pki.asn1  # noqa: F401
from sample_seals import integer, tlv
from sealagent.errors import SealAgentError
from sealagent.pki.certificates import Certificate
from sealagent.pki.ocsp import MAX_OCSP_OCTETS
from sealagent.status.kept_files import KeptFiles
from testbed.openssl import KEY_TYPES, SM2_ID, KeyType, new_key, run

OTHER_ID = "distid:ALICE123@YAHOO.COM"
"""An SM2 user ID that is not the default one: nobody may take what is signed with it."""

CA_USAGE = frozenset({"key_cert_sign", "crl_sign"})
SIGNING = frozenset({"digital_signature"})

_numbers = count(1)


@dataclass(frozen=True)
class Holder:
    """A key that only openssl uses, and its certificate."""

    kind: KeyType
    key: Path
    der: bytes

    @property
    def certificate(self) -> Certificate:
        return Certificate.from_der(self.der)

    @property
    def x509(self) -> x509.Certificate:
        return x509.Certificate.load(self.der)

    def sign(self, message: bytes, distid: str = SM2_ID, digest: str = "") -> bytes:
        """Return the signature over a message: RSA as long as the modulus, SM2 and ECDSA DER."""
        options = ("-sigopt", distid) if self.kind.name == "sm2" else ()
        return run(["dgst", f"-{digest or self.kind.digest}", *options, "-sign", self.key], message)


def certify(
    folder: Path,
    name: str,
    kind: str = "sm2",
    issuer: Holder | None = None,
    *,
    start: datetime,
    end: datetime,
    ca: bool = False,
    length: int | None = None,
    usage: frozenset[str] | None = None,
    purposes: Sequence[str] = (),
    extensions: Sequence[Mapping[str, Any]] = (),
    serial: int | None = None,
    key: Holder | None = None,
    distid: str = SM2_ID,
    subject: x509.Name | None = None,
) -> Holder:
    """Make a key and a certificate with any validity, by an issuer with any kind of key; self-signed without one.

    :param usage: None: what suits ``ca``; empty: no keyUsage.
    :param purposes: extendedKeyUsage, as asn1crypto names it.
    :param extensions: further ones, as asn1crypto takes them.
    :param key: whose key is certified instead of a new one.
    :param distid: the SM2 user ID the issuer signs with.
    """
    chosen = KEY_TYPES[kind] if key is None else key.kind
    path = folder / f"{next(_numbers)}.pem" if key is None else key.key
    if key is None:
        new_key(chosen, path)
    spki = keys.PublicKeyInfo.load(run(["pkey", "-in", path, "-pubout", "-outform", "DER"]))
    named = subject or x509.Name.build({"country_name": "CN", "common_name": name})
    usage = (CA_USAGE if ca else SIGNING) if usage is None else usage
    constraints: dict[str, Any] = {"ca": ca} if length is None else {"ca": ca, "path_len_constraint": length}
    wanted: list[Mapping[str, Any]] = [
        {"extn_id": "basic_constraints", "critical": True, "extn_value": constraints},
        {"extn_id": "key_identifier", "extn_value": spki.sha1},
    ]
    if usage:
        wanted.append({"extn_id": "key_usage", "critical": True, "extn_value": x509.KeyUsage(set(usage))})
    if purposes:
        wanted.append({"extn_id": "extended_key_usage", "extn_value": list(purposes)})
    if issuer is not None:
        identifier = {"key_identifier": issuer.x509.public_key.sha1}
        wanted.append({"extn_id": "authority_key_identifier", "extn_value": identifier})
    signer = issuer.kind if issuer else chosen
    algorithm = {"algorithm": signer.signature}
    tbs = x509.TbsCertificate(
        {
            "version": "v3",
            "serial_number": serial if serial is not None else (1 << 64) + next(_numbers),
            "signature": algorithm,
            "issuer": issuer.x509.subject if issuer else named,
            "validity": {"not_before": _time(start), "not_after": _time(end)},
            "subject": named,
            "subject_public_key_info": spki,
            "extensions": [*wanted, *extensions],
        }
    )
    own = Holder(chosen, path, b"")
    value = (issuer or own).sign(tbs.dump(), distid)
    parts = {"tbs_certificate": tbs, "signature_algorithm": algorithm, "signature_value": value}
    return Holder(chosen, path, bytes(x509.Certificate(parts).dump()))


def _time(moment: datetime) -> x509.Time:
    return x509.Time(name="utc_time" if moment.year < 2050 else "general_time", value=moment)


def access(*urls: str) -> dict[str, Any]:
    """Return the extension authorityInfoAccess with responders."""
    return {
        "extn_id": "authority_information_access",
        "extn_value": [
            {"access_method": "ocsp", "access_location": x509.GeneralName("uniform_resource_identifier", url)}
            for url in urls
        ],
    }


def points(*urls: str, **more: Any) -> dict[str, Any]:
    """Return the extension cRLDistributionPoints, one point for each address."""
    return {"extn_id": "crl_distribution_points", "extn_value": [_point(url) | more for url in urls]}


def _point(url: str) -> dict[str, Any]:
    names = [x509.GeneralName("uniform_resource_identifier", url)]
    return {"distribution_point": x509.DistributionPointName("full_name", names)}


NO_CHECK: dict[str, Any] = {"extn_id": "ocsp_no_check", "extn_value": core.Null()}


# --- revocation lists ---


@dataclass(frozen=True)
class Revoked:
    """An entry of a list."""

    serial: int
    at: datetime
    reason: str | None = None
    """CRLReason as asn1crypto names it."""
    issuer: x509.Name | None = None
    """certificateIssuer (RFC 5280 5.3.3)."""
    extensions: tuple[Mapping[str, Any], ...] = ()

    def encoded(self) -> crl.RevokedCertificate:
        extensions: list[Mapping[str, Any]] = list(self.extensions)
        if self.reason is not None:
            extensions.append({"extn_id": "crl_reason", "extn_value": self.reason})
        if self.issuer is not None:
            names = [x509.GeneralName("directory_name", self.issuer)]
            extensions.append({"extn_id": "certificate_issuer", "critical": True, "extn_value": names})
        fields: dict[str, Any] = {"user_certificate": self.serial, "revocation_date": _time(self.at)}
        return crl.RevokedCertificate(fields | ({"crl_entry_extensions": extensions} if extensions else {}))


def make_crl(
    signer: Holder,
    entries: Sequence[Revoked],
    this_update: datetime,
    next_update: datetime | None,
    *,
    number: int = 1,
    delta: int | None = None,
    freshest: str = "",
    point: Mapping[str, Any] | None = None,
    extensions: Sequence[Mapping[str, Any]] = (),
    issuer: x509.Name | None = None,
    distid: str = SM2_ID,
    algorithm: str = "",
    digest: str = "",
    bulk: bytes = b"",
) -> bytes:
    """Return a revocation list, DER.

    :param bulk: further entries, encoded (:func:`bulk_entries`).
    :param delta: BaseCRLNumber, for a list of changes.
    :param freshest: where changes are, for a list to which there are some.
    :param point: issuingDistributionPoint, as asn1crypto takes it.
    :param issuer: another name than the signer's.
    :param algorithm: another name than the signer's kind has; ``digest`` goes with it.
    """
    wanted: list[Mapping[str, Any]] = [
        {"extn_id": "crl_number", "extn_value": number},
        {"extn_id": "authority_key_identifier", "extn_value": {"key_identifier": signer.x509.public_key.sha1}},
    ]
    if delta is not None:
        wanted.append({"extn_id": "delta_crl_indicator", "critical": True, "extn_value": delta})
    if freshest:
        wanted.append({"extn_id": "freshest_crl", "extn_value": [_point(freshest)]})
    if point is not None:
        wanted.append({"extn_id": "issuing_distribution_point", "critical": True, "extn_value": point})
    named = {"algorithm": algorithm or signer.kind.signature}
    fields: dict[str, Any] = {
        "version": "v2",
        "signature": named,
        "issuer": issuer or signer.x509.subject,
        "this_update": _time(this_update),
        "crl_extensions": [*wanted, *extensions],
    }
    if next_update is not None:
        fields["next_update"] = _time(next_update)
    if entries or bulk:
        encoded = bulk + b"".join(each.encoded().dump() for each in entries)
        fields["revoked_certificates"] = crl.RevokedCertificates.load(tlv(0x30, encoded))
    tbs = crl.TbsCertList(fields)
    value = signer.sign(tbs.dump(), distid, digest)
    whole = crl.CertificateList({"tbs_cert_list": tbs, "signature_algorithm": named, "signature": value})
    return bytes(whole.dump())


def bulk_entries(serials: Iterable[int], at: datetime) -> bytes:
    """Return the encoded entries of many revocations for a compromised key: asn1crypto takes seconds for 100,000."""
    time = tlv(0x17, at.strftime("%y%m%d%H%M%SZ").encode())
    reason = tlv(0x30, tlv(0x30, bytes.fromhex("0603551d15"), tlv(0x04, tlv(0x0A, b"\1"))))
    return b"".join(tlv(0x30, integer(serial), time, reason) for serial in serials)


# --- OCSP responses ---


@dataclass(frozen=True)
class Answer:
    """A SingleResponse."""

    status: str
    """``good``, ``revoked`` or ``unknown``."""
    this_update: datetime
    next_update: datetime | None
    revoked_at: datetime | None = None
    reason: str | None = None
    serial: int | None = None
    """Another than that of the certificate in question."""
    digest: str = "sha1"
    """By which CertID names the issuer."""
    extensions: tuple[Mapping[str, Any], ...] = ()

    def encoded(self, certificate: Holder, issuer: Holder) -> dict[str, Any]:
        match self.status:
            case "good":
                value: Any = ocsp.StatusGood()
            case "unknown":
                value = ocsp.StatusUnknown()
            case _:
                facts: dict[str, Any] = {"revocation_time": self.revoked_at or self.this_update}
                value = ocsp.RevokedInfo(facts | ({"revocation_reason": self.reason} if self.reason else {}))
        fields: dict[str, Any] = {
            "cert_id": {
                "hash_algorithm": algos.DigestAlgorithm({"algorithm": self.digest, "parameters": core.Null()}),
                "issuer_name_hash": _hash(self.digest, certificate.x509.issuer.dump()),
                "issuer_key_hash": _hash(self.digest, bytes(issuer.x509.public_key["public_key"])),
                "serial_number": self.serial if self.serial is not None else certificate.x509.serial_number,
            },
            "cert_status": ocsp.CertStatus(self.status, value),
            "this_update": self.this_update,
        }
        if self.next_update is not None:
            fields["next_update"] = self.next_update
        return fields | ({"single_extensions": list(self.extensions)} if self.extensions else {})


def _hash(name: str, data: bytes) -> bytes:
    return hashlib.new(name, data).digest()


def make_ocsp_response(
    signer: Holder,
    certificate: Holder,
    issuer: Holder,
    *answers: Answer,
    nonce: bytes | None = None,
    by_key: bool = False,
    certificates: Sequence[Holder] | None = None,
    extensions: Sequence[Mapping[str, Any]] = (),
    distid: str = SM2_ID,
    algorithm: str = "",
    digest: str = "",
) -> bytes:
    """Return an OCSPResponse, DER.

    :param certificate: in question; ``issuer`` is its issuer.
    :param by_key: name the responder by its key instead of by its name.
    :param certificates: that come along; by default the signer's, if it is not the issuer itself.
    """
    subject = signer.x509
    wanted = list(extensions)
    if nonce is not None:
        wanted.append({"extn_id": "nonce", "extn_value": core.OctetString(nonce)})
    fields: dict[str, Any] = {
        "responder_id": (
            ocsp.ResponderId("by_key", subject.public_key.sha1)
            if by_key
            else ocsp.ResponderId("by_name", subject.subject)
        ),
        "produced_at": answers[0].this_update,
        "responses": [each.encoded(certificate, issuer) for each in answers],
    }
    data = ocsp.ResponseData(fields | ({"response_extensions": wanted} if wanted else {}))
    if certificates is None:
        certificates = [] if signer.der == issuer.der else [signer]
    parts: dict[str, Any] = {
        "tbs_response_data": data,
        "signature_algorithm": {"algorithm": algorithm or signer.kind.signature},
        "signature": signer.sign(data.dump(), distid, digest),
    }
    if certificates:
        parts["certs"] = [each.x509 for each in certificates]
    basic = ocsp.BasicOCSPResponse(parts)
    wrapped = {"response_type": "basic_ocsp_response", "response": basic}
    return bytes(ocsp.OCSPResponse({"response_status": "successful", "response_bytes": wrapped}).dump())


# --- a small world ---


@dataclass(frozen=True)
class World:
    """A root, a CA below it, and what the CA certified; all of one kind of key, valid around :attr:`now`."""

    folder: Path
    kind: str
    now: datetime
    root: Holder
    ca: Holder
    leaf: Holder
    responder: Holder
    """Named by the CA to answer for it, without id-pkix-ocsp-nocheck."""

    @property
    def chain(self) -> tuple[Certificate, ...]:
        return tuple(each.certificate for each in (self.leaf, self.ca, self.root))

    @property
    def serial(self) -> int:
        return int(self.leaf.x509.serial_number)

    def certify(self, name: str, issuer: Holder | None = None, **options: Any) -> Holder:
        """As :func:`certify`, by the CA and valid for a year around :attr:`now`, unless told otherwise."""
        defaults: dict[str, Any] = {
            "kind": self.kind,
            "issuer": issuer or self.ca,
            "start": self.now - timedelta(days=180),
            "end": self.now + timedelta(days=180),
        }
        return certify(self.folder, name, **(defaults | options))

    def crl(self, *entries: Revoked, signer: Holder | None = None, **options: Any) -> bytes:
        """As :func:`make_crl`, by the CA, of an hour ago and good for a day, unless told otherwise."""
        times = (self.now - timedelta(hours=1), self.now + timedelta(days=1))
        this_update, next_update = options.pop("times", times)
        return make_crl(signer or self.ca, entries, this_update, next_update, **options)

    def good(self, **changes: Any) -> Answer:
        return self.answer("good", **changes)

    def answer(self, status: str, **changes: Any) -> Answer:
        fields: dict[str, Any] = {
            "this_update": self.now - timedelta(minutes=1),
            "next_update": self.now + timedelta(hours=1),
        }
        return Answer(status, **(fields | changes))

    def response(self, *answers: Answer, signer: Holder | None = None, **options: Any) -> bytes:
        """As :func:`make_ocsp_response`, about the leaf by the responder, unless told otherwise."""
        chosen = signer or self.responder
        return make_ocsp_response(chosen, self.leaf, self.ca, *(answers or (self.good(),)), **options)


def make_world(folder: Path, kind: str, now: datetime) -> World:
    """Make a world. :param kind: one of ``testbed.openssl.KEY_TYPES``."""
    long = {"start": now - timedelta(days=1000), "end": now + timedelta(days=1000)}
    year = {"start": now - timedelta(days=180), "end": now + timedelta(days=180)}
    root = certify(folder, "Root", kind, ca=True, **long)
    ca = certify(folder, "CA", kind, root, ca=True, length=0, **long)
    leaf = certify(folder, "Leaf", kind, ca, **year)
    responder = certify(folder, "Responder", kind, ca, purposes=["ocsp_signing"], **year)
    return World(folder, kind, now, root, ca, leaf, responder)


# --- the wire ---


@dataclass
class Web:
    """What is at which address: octets, or a function of the request's body. Addresses without answer do not exist."""

    answers: dict[str, bytes | Callable[[bytes], bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    questions: list[tuple[bytes | None, str | None, int]] = field(default_factory=list)

    def __call__(self, url: str, body: bytes | None, content_type: str | None, limit: int) -> bytes:
        self.asked.append(url)
        self.questions.append((body, content_type, limit))
        answer = self.answers.get(url)
        if answer is None:
            raise SealAgentError("service_unreachable", "nobody is there")
        return answer if isinstance(answer, bytes) else answer(body or b"")


def answering(world: World, status: str = "good", **changes: Any) -> Callable[[bytes], bytes]:
    """Return a responder that repeats the nonce."""

    def answer(request: bytes) -> bytes:
        nonce = ocsp.OCSPRequest.load(request).nonce_value
        return world.response(world.answer(status, **changes), nonce=nonce.native if nonce else None)

    return answer


def at(*urls: str) -> Callable[[Any], tuple[str, ...]]:
    return lambda chain: urls


def files_in(folder: Path, suffix: str = ".ocsp", count: int = 100) -> KeptFiles:
    return KeptFiles(folder / "kept", suffix, limit=MAX_OCSP_OCTETS, count=count)
