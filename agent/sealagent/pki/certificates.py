"""X.509 certificates (RFC 5280, GM/T 0015), parsed once and wholly."""

from __future__ import annotations

import hashlib
from binascii import a2b_base64
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from sealagent.errors import FormatError, LimitExceeded
from sealagent.pki import asn1, signatures
from sealagent.pki.der import DerError
from sealagent.pki.keys import PublicKey, load_public_key
from sealagent.pki.signatures import SignatureAlgorithm
from sealagent.verdict import CertificateFacts

__all__ = ["MAX_BUNDLE_OCTETS", "MAX_CERTIFICATE_OCTETS", "Certificate", "load_certificates"]

MAX_CERTIFICATE_OCTETS = 64 * 1024  # certificates have 0.5 to 3 KiB; with an embedded logo some tens
MAX_BUNDLE_OCTETS = 4 * 1024 * 1024  # a system's whole list of CAs has a quarter of this
_CACHED = 64  # parsed certificates kept: the same few are met in every signature

_SIGNING = frozenset({"digital_signature", "non_repudiation"})


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate. Two are equal if their octets are."""

    der: bytes = field(repr=False)
    subject: str = field(compare=False)
    """RFC 4514: the most specific part first."""
    issuer: str = field(compare=False)
    serial: str = field(compare=False)
    """Hexadecimal, lower case, without leading zeros."""
    not_before: datetime = field(compare=False)
    not_after: datetime = field(compare=False)
    public_key: PublicKey = field(compare=False, repr=False)
    sha256: str = field(compare=False)
    """Hexadecimal digest of :attr:`der`."""
    quirks: tuple[str, ...] = field(compare=False)
    """Codes of :data:`sealagent.verdict.NOTES`."""
    algorithm: SignatureAlgorithm | None = field(compare=False, repr=False)
    """What the issuer signed with; None if it is unknown, or named otherwise inside the signed part."""
    fields: asn1.CertificateFields = field(compare=False, repr=False)

    @classmethod
    def from_der(cls, der: bytes) -> Certificate:
        """Parse a certificate.

        :raises FormatError: ``certificate_invalid`` for anything that is no certificate within the limits.
        """
        if len(der) > MAX_CERTIFICATE_OCTETS:
            raise LimitExceeded(
                "certificate_invalid", f"a certificate of {len(der)} octets; {MAX_CERTIFICATE_OCTETS} are allowed"
            )
        return _parse(bytes(der))

    @property
    def spki(self) -> bytes:
        """DER SubjectPublicKeyInfo as received."""
        return self.fields.spki

    @property
    def is_ca(self) -> bool:
        """Whether basicConstraints says CA."""
        return self.fields.is_ca

    @property
    def may_sign(self) -> bool:
        """Whether the key usage, if there is one, allows signatures on documents."""
        return self.fields.key_usage is None or bool(self.fields.key_usage & _SIGNING)

    @property
    def may_sign_certificates(self) -> bool:
        """Whether this is a CA certificate whose key usage, if there is one, allows signing certificates."""
        return self.is_ca and (self.fields.key_usage is None or "key_cert_sign" in self.fields.key_usage)

    def facts(self) -> CertificateFacts:
        """Return what a report says of this certificate."""
        return CertificateFacts(self.subject, self.issuer, self.serial, self.sha256, self.not_before, self.not_after)

    def valid_at(self, moment: datetime) -> bool:
        """Return whether a moment (timezone-aware) lies in the validity period, both ends included."""
        return self.not_before <= moment <= self.not_after

    def names_issuer(self, issuer: Certificate) -> bool:
        """Return whether this certificate's issuer name is the other's subject name. Names prove nothing."""
        return self.fields.issuer.comparable == issuer.fields.subject.comparable

    def is_issued_by(self, issuer: Certificate) -> bool:
        """Return whether names match and the signature verifies with the issuer's key (SM2: default ID).

        Whether the issuer *may* issue is a question for :func:`sealagent.pki.path.validate_path`.
        """
        if self.algorithm is None or not self.names_issuer(issuer):
            return False
        return signatures.verify(issuer.public_key, self.algorithm, self.fields.signature, self.fields.tbs).ok


@lru_cache(maxsize=_CACHED)
def _parse(der: bytes) -> Certificate:
    try:
        fields = asn1.read_certificate(der)
        key = load_public_key(fields.spki)
        algorithm = _algorithm(fields)
    except FormatError as error:
        raise FormatError("certificate_invalid", f"the certificate cannot be used: {error.message}") from error
    except DerError as error:
        raise FormatError("certificate_invalid", f"not a certificate: {error}") from error
    return Certificate(
        der=der,
        subject=fields.subject.text,
        issuer=fields.issuer.text,
        serial=f"{fields.serial:x}",
        not_before=fields.not_before,
        not_after=fields.not_after,
        public_key=key,
        sha256=hashlib.sha256(der).hexdigest(),
        quirks=fields.quirks,
        algorithm=algorithm,
        fields=fields,
    )


def _algorithm(fields: asn1.CertificateFields) -> SignatureAlgorithm | None:
    """Return the signature algorithm; an unknown one only matters to whoever wants to check the signature."""
    inner, outer = (asn1.read_algorithm(der) for der in (fields.inner_algorithm, fields.algorithm))
    # RFC 5280 4.1.1.2: both are the same. Only NULL against absent is let pass: both mean "no parameters".
    if (inner.oid, inner.pss) != (outer.oid, outer.pss):
        return None
    try:
        return signatures.parse_algorithm(fields.algorithm)
    except FormatError:
        return None


_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def load_certificates(data: bytes) -> list[Certificate]:
    """Read one DER certificate, or PEM text with one or several; other PEM blocks are passed over.

    :raises FormatError: ``certificate_invalid``, also for PEM text without a certificate.
    """
    if len(data) > MAX_BUNDLE_OCTETS:
        raise LimitExceeded("certificate_invalid", f"a bundle of {len(data)} octets; {MAX_BUNDLE_OCTETS} are allowed")
    if b"-----BEGIN " not in data:
        return [Certificate.from_der(data)]
    found = []
    blocks = data.split(_BEGIN)[1:]
    for block in blocks:
        body, end, _ = block.partition(_END)
        if not end:
            raise FormatError("certificate_invalid", "a PEM block has no end")
        try:
            der = a2b_base64(b"".join(body.split()), strict_mode=True)
        except ValueError as error:
            raise FormatError("certificate_invalid", f"a PEM block is not base64: {error}") from error
        found.append(Certificate.from_der(der))
    if not found:
        raise FormatError("certificate_invalid", "the text holds no certificate")
    return found
