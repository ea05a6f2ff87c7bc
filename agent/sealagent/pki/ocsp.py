"""Questions about certificates: OCSP requests (RFC 6960 4.1), and where a certificate says that it can be asked about.

Answers are judged in :mod:`.revinfo`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from asn1crypto import algos, core, ocsp, x509

from sealagent.pki.certificates import Certificate
from sealagent.pki.digests import digest

__all__ = ["MAX_OCSP_OCTETS", "MAX_URLS", "MAX_URL_OCTETS", "build_ocsp_request", "crl_urls", "ocsp_urls"]

MAX_OCSP_OCTETS = 256 << 10  # of a response; with its certificates one has 1 to 5 KiB
MAX_URLS = 4  # of one kind in one certificate; one or two are usual, and each may cost a time-out
MAX_URL_OCTETS = 1024
MAX_NONCE: Final = 32  # octets; RFC 8954 2.1

_OCSP_ACCESS: Final = "1.3.6.1.5.5.7.48.1"  # id-ad-ocsp, RFC 5280 4.2.2.1


def build_ocsp_request(
    certificate: Certificate,
    issuer: Certificate,
    nonce: bytes | None = None,
    digest_name: Literal["sha1", "sha256", "sm3"] = "sha1",
) -> bytes:
    """Return an unsigned OCSPRequest (DER) about one certificate.

    :param nonce: 1 to 32 octets (RFC 8954), or None.
    :param digest_name: by which the issuer is named. It only picks the issuer out, so SHA-1, which every responder
        knows and many alone (RFC 5019 2.1.1), is no weakness here.
    """
    if nonce is not None and not 1 <= len(nonce) <= MAX_NONCE:
        raise ValueError(f"a nonce has 1 to {MAX_NONCE} octets")
    name, key = issuer_hashes(x509.Certificate.load(certificate.der), x509.Certificate.load(issuer.der), digest_name)
    identifier = {
        "hash_algorithm": algos.DigestAlgorithm({"algorithm": digest_name, "parameters": core.Null()}),
        "issuer_name_hash": name,
        "issuer_key_hash": key,
        "serial_number": certificate.fields.serial,
    }
    fields: dict[str, Any] = {"request_list": [{"req_cert": identifier}]}
    if nonce is not None:
        fields["request_extensions"] = [{"extn_id": "nonce", "extn_value": core.OctetString(nonce)}]
    return bytes(ocsp.OCSPRequest({"tbs_request": fields}).dump())


def issuer_hashes(certificate: x509.Certificate, issuer: x509.Certificate, name: str) -> tuple[bytes, bytes]:
    """Return issuerNameHash and issuerKeyHash of CertID: over the issuer's name as the certificate has it, and over the
    content of the issuer's public-key BIT STRING (RFC 6960 4.1.1)."""
    return digest(name, certificate.issuer.dump()), digest(name, bytes(issuer.public_key["public_key"]))


def ocsp_urls(certificate: Certificate) -> tuple[str, ...]:
    """Return the http and https addresses of responders that a certificate names (authorityInfoAccess).

    At most :data:`MAX_URLS`; what is no such address is passed over, and an extension that cannot be read holds none.
    """
    try:
        access = x509.Certificate.load(certificate.der).authority_information_access_value or ()
        return _web(each["access_location"] for each in access if each["access_method"].dotted == _OCSP_ACCESS)
    except (ValueError, TypeError, KeyError):
        return ()


def crl_urls(certificate: Certificate) -> tuple[str, ...]:
    """Return the http and https addresses of revocation lists that a certificate names (cRLDistributionPoints).

    Points for some reasons only, and those of another issuer than the certificate's, are passed over: what they list
    does not answer the question. Otherwise as :func:`ocsp_urls`.
    """
    try:
        points = x509.Certificate.load(certificate.der).crl_distribution_points_value or ()
        named = [
            point["distribution_point"]
            for point in points
            if point["reasons"].native is None and point["crl_issuer"].native is None
        ]
        return _web(each for name in named if name and name.name == "full_name" for each in name.chosen)
    except (ValueError, TypeError, KeyError):
        return ()


def _web(locations: Iterable[x509.GeneralName]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for location in locations:
        if location.name == "uniform_resource_identifier" and len(found) < MAX_URLS:
            octets = bytes(location.chosen.contents)  # not .native, which turns escapes into letters
            if (url := _url(octets)) is not None:
                found[url] = None
    return tuple(found)


def _url(octets: bytes) -> str | None:
    if len(octets) > MAX_URL_OCTETS or not octets.isascii():
        return None
    text = octets.decode("ascii")
    if not text.isprintable() or " " in text:
        return None
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return text if usable and "@" not in parts.netloc else None
